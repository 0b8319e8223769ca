"""An entry's price held against the market's own last price. Pure; prices are Fixed8, times nanoseconds."""

from __future__ import annotations

from typing import Literal

import msgspec

from kernels.sizing import BPS, Refused

BY_REFERENCE = "collar_by_reference"
"""Name of the degraded way: no price that counts, so the signal's own reference was believed."""

NoPrice = Literal["refuse_market", "refuse", "reference"]


class MarketCollar(msgspec.Struct, frozen=True, kw_only=True):
    """How far a price may lie from the last one, how old that may be, and what is done where there is none.

    `refuse_market`: entries at the market are refused and limits go by the signal's reference, `refuse`: both are
    refused, `reference`: both go by the reference.
    """

    bps_max: int
    age_ns_max: int
    no_price: NoPrice = "refuse_market"


def held_against(
    collar: MarketCollar, limit_px: int, reference_px: int, last_px: int, last_ns: int, now_ns: int
) -> Refused | str:
    """Return a refusal, or the name of the degraded way that lets it through (empty: by the market's price).

    An entry at the market (`limit_px` 0) is held by what it was sized at. `last_px` 0: none was ever heard. A price of
    the future counts for no older than now.
    """
    asked = limit_px or reference_px
    age_ns = now_ns - last_ns
    if not last_px or age_ns > collar.age_ns_max:
        refuses = collar.no_price == "refuse" or (collar.no_price == "refuse_market" and not limit_px)
        if not refuses and asked:
            return BY_REFERENCE
        age = str(age_ns // 1_000_000) if last_px else "never"
        remedy = "see whether market data comes in, or set pre_trade.no_price = 'reference'"
        figures = {"last_px": str(last_px), "age_ms": age, "age_ms_max": str(collar.age_ns_max // 1_000_000)}
        return Refused("no_price", {"field": "last_px", **figures, "remedy": remedy})
    if not asked or abs(asked - last_px) * BPS > collar.bps_max * last_px:
        name = "limit_px" if limit_px else "reference_px"
        figures = {"value": str(asked), "last_px": str(last_px), "age_ms": str(max(0, age_ns) // 1_000_000)}
        remedy = "give a price near the market, or raise pre_trade.market_collar_bps"
        return Refused("market_collar", {"field": name, **figures, "bps_max": str(collar.bps_max), "remedy": remedy})
    return ""
