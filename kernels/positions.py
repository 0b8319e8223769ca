"""Positions folded from executions alone: each counted once, the latest correction of it winning.

Average-cost method. A position's `cost` is the signed sum of price × quantity still open, an exact integer in 1e-16
of the currency (Fixed8 × Fixed8). Closing c of q open takes `cost × c / q` out of it, rounded half to even to that
unit; what is taken out goes to the realized P&L and what is not stays in the cost, so cash is conserved exactly:
``realized − cost = Σ sells − Σ buys``, and a flat position's realized P&L carries no rounding at all.
Commissions are apart, Fixed8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

FIXED = 10**8


class Fill(msgspec.Struct, frozen=True, gc=False):
    """One execution after corrections; `qty` is positive, `buy` says which way; `revision` is its id's last part."""

    exec_base: str
    revision: int
    client_order_id: str
    symbol: str
    buy: bool
    qty: int
    px: int
    ts_event_ns: int
    commission: int = 0
    currency: str = ""
    realized_pnl: int | None = None


class Position(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Signed `qty` Fixed8; `cost` and `realized` in 1e-16; `commission` Fixed8."""

    qty: int = 0
    cost: int = 0
    realized: int = 0
    commission: int = 0


FLAT = Position()


def split_exec_id(exec_id: str) -> tuple[str, int]:
    """Split into what stays the same under corrections and the correction's number (0: none can be read)."""
    base, dot, suffix = exec_id.rpartition(".")
    if dot and suffix.isascii() and suffix.isdigit():
        return base, int(suffix)
    return exec_id, 0


def supersedes(known: Mapping[str, Fill], fill: Fill) -> bool:
    """Whether the fill says something new: a base never seen, or a later correction of one."""
    old = known.get(fill.exec_base)
    return old is None or fill.revision > old.revision


def apply_fill(position: Position, fill: Fill) -> Position:
    """Add one execution; one that crosses zero closes first and opens the rest."""
    signed = fill.qty if fill.buy else -fill.qty
    qty, cost, realized = position.qty, position.cost, position.realized
    closing = min(abs(qty), fill.qty) if qty * signed < 0 else 0
    if closing:
        closed_cost = divide_half_even(cost * closing, abs(qty))
        proceeds = closing * fill.px * (1 if qty > 0 else -1)
        realized += proceeds - closed_cost
        cost -= closed_cost
    opening = fill.qty - closing
    cost += opening * fill.px * (1 if signed > 0 else -1)
    return Position(qty + signed, cost, realized, position.commission + fill.commission)


def fold(start: Position, fills: Iterable[Fill]) -> Position:
    """Apply in the order given: the order of arrival, which is that of the journal."""
    for fill in fills:
        start = apply_fill(start, fill)
    return start


def average_px(position: Position) -> int:
    """Return the average price, Fixed8, half to even; 0 when flat."""
    return divide_half_even(position.cost, position.qty) if position.qty else 0


def cum_and_average(fills: Iterable[Fill]) -> tuple[int, int]:
    """Return an order's filled quantity and average price (Fixed8, half to even; 0 if none)."""
    qty = notional = 0
    for fill in fills:
        qty += fill.qty
        notional += fill.qty * fill.px
    return qty, divide_half_even(notional, qty) if qty else 0


def divide_half_even(numerator: int, denominator: int) -> int:
    """Return the quotient rounded to the nearest integer, ties to even. Raises ZeroDivisionError."""
    if denominator < 0:
        numerator, denominator = -numerator, -denominator
    quotient, rest = divmod(numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and quotient % 2):
        return quotient + 1
    return quotient
