"""Settings of what an entry must be before it leaves."""

from __future__ import annotations

from typing import Literal

from config.limits import Bps, Milliseconds, SecondsOrNone
from config.section import Section


class PreTrade(Section, frozen=True):
    """What a signal's bracket must be before it is an order. Exits are never held up by any of it.

    Against the signal itself, 0 switches a guard off: `collar_bps` is how far a limit may lie from its reference
    price, and `exit_collar_bps` its exits; `duplicate_s`: how long the same symbol, side and quantity is refused.

    Against the gateway's contract details: what fits no price step or size step is refused, or by `rounding`
    `favour` rounded in our favour. `hours`: outside the regular hours entries are refused, unless they are sent to
    trade outside them (`entry_outside_rth`) or may wait for the next session (`entry_time_in_force` `GTC`).

    Against the account: by `funds` an entry costs at most what is available (or its buying power), less what others
    have reserved; `off` looks at nothing. An entry at the market is reckoned `slippage_bps` worse than its
    reference, each with `commission_bps` on top. Account values older than `funds_age_ms_max` count for nothing.

    Against the market: `market_collar_bps` (0: off) is how far a limit, or the reference of an entry at the market,
    may lie from the broker's own last price, which is at most `price_age_ms_max` old. Where there is none, `no_price`
    refuses entries at the market and lets limits go by the reference (`refuse_market`), refuses both, or lets both go.
    """

    collar_bps: Bps = 500.0
    exit_collar_bps: Bps = 5_000.0
    duplicate_s: SecondsOrNone = 0.0
    contract: bool = True
    rounding: Literal["refuse", "favour"] = "refuse"
    hours: bool = True
    entry_outside_rth: bool = False
    entry_time_in_force: Literal["DAY", "GTC"] = "DAY"
    funds: Literal["available", "buying_power", "off"] = "available"
    funds_age_ms_max: Milliseconds = 90_000
    slippage_bps: Bps = 100.0
    commission_bps: Bps = 10.0
    market_collar_bps: Bps = 500.0
    price_age_ms_max: Milliseconds = 60_000
    no_price: Literal["refuse_market", "refuse", "reference"] = "refuse_market"
