"""How large an order is: a fixed fraction of equity, under caps. Exact integers; every rounding makes it smaller.

Prices, quantities and amounts of money are Fixed8 (integer counts of 1e-8), so price × quantity is in 1e-16.
"""

from __future__ import annotations

import msgspec

FIXED = 10**8
BPS = 10_000


class Caps(msgspec.Struct, frozen=True):
    """Limits of the first form; amounts are Fixed8. 0 is a cap of nothing, not the absence of one."""

    order_notional_max: int
    symbol_notional_max: int
    gross_notional_max: int
    order_qty_max: int


class Exposure(msgspec.Struct, frozen=True):
    """What already stands or may yet trade, Fixed8 amounts."""

    symbol_notional: int
    gross_notional: int


class Size(msgspec.Struct, frozen=True):
    """A size that passed; `bound_by` names what made it no larger, `notional` is rounded up (what it may cost)."""

    qty: int
    notional: int
    bound_by: str


class Refused(msgspec.Struct, frozen=True):
    """No size: which guard, and its figures as text."""

    guard: str
    figures: dict[str, str]


def size_order(equity: int, fraction_bps: int, px: int, lot: int, caps: Caps, exposure: Exposure) -> Size | Refused:
    """Return the largest whole number of lots whose notional is within the fraction and every cap.

    ``qty = floor(min(budget × 1e8 / px, order_qty_max) / lot) × lot``. Prices, lot and equity must be positive,
    else a refusal names them: a size is never computed from a figure that cannot be right.
    """
    for name, value in (("equity", equity), ("fraction_bps", fraction_bps), ("px", px), ("lot", lot)):
        if value <= 0:
            return Refused("figures", {name: str(value)})
    budgets = {
        "fraction": equity * fraction_bps // BPS,
        "order_notional_max": caps.order_notional_max,
        "symbol_notional_max": caps.symbol_notional_max - exposure.symbol_notional,
        "gross_notional_max": caps.gross_notional_max - exposure.gross_notional,
    }
    bound_by = min(budgets, key=lambda name: (budgets[name], name))
    qty = max(budgets[bound_by], 0) * FIXED // px
    if qty > caps.order_qty_max:
        bound_by, qty = "order_qty_max", caps.order_qty_max
    qty = qty // lot * lot
    if qty <= 0:
        figures = {name: str(value) for name, value in budgets.items()}
        figures |= {"px": str(px), "lot": str(lot), "order_qty_max": str(caps.order_qty_max)}
        return Refused(bound_by, figures)
    return Size(qty, -(-qty * px // FIXED), bound_by)
