"""Guards of a bracket by its signal alone, once its size is known, before it becomes an intent. Exact integers.

Prices and quantities are Fixed8. The first guard of `GUARDS` that objects gives the refusal, with its figures as text;
what it was compared with stands beside what was asked. A limit of 0 switches its guard off.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from kernels.sizing import BPS, Refused


class Rules(msgspec.Struct, frozen=True):
    """`collar_bps`: how far a limit may lie from the last known price, and `exit_collar_bps` a take-profit or stop.
    `duplicate_ns`: how long the same symbol, side and quantity is refused."""

    collar_bps: int = 0
    exit_collar_bps: int = 0
    duplicate_ns: int = 0


class Wish(msgspec.Struct, frozen=True):
    """A bracket to be opened. `last_px` is the last known price (positive); `limit_px` 0: at the market."""

    symbol: str
    buy: bool
    qty: int
    limit_px: int
    take_profit_px: int
    stop_px: int
    last_px: int


class Recent(msgspec.Struct, frozen=True):
    """A bracket that was let through, and when."""

    symbol: str
    buy: bool
    qty: int
    at_ns: int


def refusal(wish: Wish, rules: Rules, recent: tuple[Recent, ...], now_ns: int) -> Refused | None:
    """Go through the guards in order; None: none objects."""
    return next((found for guard in GUARDS if (found := guard(wish, rules, recent, now_ns)) is not None), None)


def _collar(wish: Wish, rules: Rules, _: tuple[Recent, ...], __: int) -> Refused | None:
    limits = {
        "limit_px": rules.collar_bps,
        "take_profit_px": rules.exit_collar_bps,
        "stop_px": rules.exit_collar_bps,
    }
    for name, bps_max in limits.items():
        px = getattr(wish, name)
        if px and bps_max and abs(px - wish.last_px) * BPS > bps_max * wish.last_px:
            return Refused("collar", {name: str(px), "last_px": str(wish.last_px), "bps_max": str(bps_max)})
    return None


def _duplicate(wish: Wish, rules: Rules, recent: tuple[Recent, ...], now_ns: int) -> Refused | None:
    for one in recent:
        same = (one.symbol, one.buy, one.qty) == (wish.symbol, wish.buy, wish.qty)
        if same and 0 <= now_ns - one.at_ns < rules.duplicate_ns:
            return Refused("duplicate", {"qty": str(wish.qty), "before_ms": str((now_ns - one.at_ns) // 1_000_000)})
    return None


GUARDS: tuple[Callable[[Wish, Rules, tuple[Recent, ...], int], Refused | None], ...] = (_collar, _duplicate)
