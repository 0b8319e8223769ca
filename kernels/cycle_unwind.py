"""The way back of a cycle that was not completed: one order at a time, until what is left is dust.

Asset k of a cycle (0: the start asset) is what leg k spends. What an attempt has too much of is sold, what it has too
little of (legs at once, of which one before did not fill) is bought, each time to or from a neighbour on the path, so
that it moves towards the start asset by a leg an order:

====== ==================================== ====================================
route  too much of asset k                  too little of asset k
====== ==================================== ====================================
back   the market of leg k - 1, other side  the market of leg k, other side
forward the market of leg k, its own side   the market of leg k - 1, its own side
====== ==================================== ====================================

The price is the market's top as it is now (known but stale where it is not live; the plan's where it is not known at
all), worse by at most the policy's slippage. Derived here.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Final, NamedTuple

from kernels.cycle_execution import (
    BUY,
    SELL,
    Attempt,
    CycleOrder,
    PlannedLeg,
    Policy,
    Top,
    Unwind,
    ceil_div,
    flows_of,
    is_legal,
    round_up,
    size,
)
from kernels.fixed8 import SCALE

BACK: Final = "back"
FORWARD: Final = "forward"
ONE_E4: Final = 10_000


class Hop(NamedTuple):
    """A conversion between two neighbours: the leg whose market it is, the side, and the neighbour's index."""

    leg: int
    side: str
    neighbour: int


def choose_route(attempt: Attempt, tops: Mapping[str, Top], policy: Policy) -> str:
    """Return the way of unwinding; forward only by that policy, and where it is known to lose less."""
    if policy.unwind is not Unwind.FORWARD:
        return BACK
    back, forward = (route_value(attempt, route, tops) for route in (BACK, FORWARD))
    if forward is None or (back is not None and back > forward):
        return BACK
    return FORWARD


def route_value(attempt: Attempt, route: str, tops: Mapping[str, Top]) -> Fraction | None:
    """What all that is not in the start asset would bring by this way, at the tops, fees off; None: a price is missing.

    Negative where something is to be bought back. Lots and minimums are left out.
    """
    value = Fraction(0)
    for k, amount in _amounts(attempt):
        at, rate = k, Fraction(amount)
        while 0 < at < len(attempt.legs):
            hop = _hop(attempt, at, amount, route)
            top = tops.get(attempt.legs[hop.leg].symbol)
            if top is None or min(top.bid_px, top.ask_px) <= 0:
                return None
            one = _rate(attempt.legs[hop.leg], hop.side, top)
            rate = rate * one if amount > 0 else rate / one
            at = hop.neighbour
        value += rate
    return value


def unwind_order(
    attempt: Attempt, tops: Mapping[str, Top], policy: Policy, route: str
) -> tuple[CycleOrder | None, dict[str, int]]:
    """Return the next order of the unwinding, and all that is not dust now; (None, {}) once there is nothing.

    Of several assets the one goes first that lies farthest on its way from the start asset; what is too much before
    what is too little.
    """
    number = 1 + sum(order.unwinds for order in attempt.orders)
    found: list[tuple[tuple[bool, int], CycleOrder]] = []
    left: dict[str, int] = {}
    for k, amount in _amounts(attempt):
        hop = _hop(attempt, k, amount, route)
        leg = attempt.legs[hop.leg]
        expected = _reference(leg, hop.side, tops.get(leg.symbol))
        px = _limit(leg, hop.side, expected, policy.slippage_e4)
        qty = size(leg, hop.side, amount, px) if amount > 0 else _enough(leg, hop.side, -amount, px)
        if qty:
            left[attempt.legs[k].gives] = amount
            distance = k if hop.neighbour < k else len(attempt.legs) - k
            found.append(((amount > 0, distance), CycleOrder(f"u{number}", hop.leg, hop.side, qty, px, expected)))
    return (max(found, key=lambda one: one[0])[1] if found else None), left


def _amounts(attempt: Attempt) -> list[tuple[int, int]]:
    flows = flows_of(attempt)
    return [(k, flows[leg.gives]) for k, leg in enumerate(attempt.legs) if k and flows.get(leg.gives)]


def _hop(attempt: Attempt, k: int, amount: int, route: str) -> Hop:
    if (amount > 0) == (route == BACK):
        leg = k - 1
        neighbour = k - 1
    else:
        leg = k
        neighbour = k + 1
    side = attempt.legs[leg].side
    if route == BACK:
        side = SELL if side == BUY else BUY
    return Hop(leg, side, neighbour)


def _rate(leg: PlannedLeg, side: str, top: Top) -> Fraction:
    kept = Fraction(SCALE - leg.fee_e8, SCALE)
    return kept * (Fraction(SCALE, top.ask_px) if side == BUY else Fraction(top.bid_px, SCALE))


def _reference(leg: PlannedLeg, side: str, top: Top | None) -> int:
    px = 0 if top is None else (top.ask_px if side == BUY else top.bid_px)
    return px or leg.limit_px


def _limit(leg: PlannedLeg, side: str, reference: int, slippage_e4: int) -> int:
    """The worst price: within the slippage, to the tick on the better side, but no better than the top itself."""
    tick = leg.tick_size
    if side == BUY:
        return max(reference * (ONE_E4 + slippage_e4) // ONE_E4 // tick * tick, round_up(reference, tick))
    bounded = round_up(ceil_div(reference * (ONE_E4 - slippage_e4), ONE_E4), tick)
    return max(min(bounded, reference // tick * tick), tick)


def _enough(leg: PlannedLeg, side: str, needed: int, px: int) -> int:
    """The fewest legal lots that receive at least `needed` at `px`, fee off; 0 where that is below the legal least."""
    amount = ceil_div(needed * SCALE, SCALE - leg.taken_e8)
    qty = amount if side == BUY else ceil_div(amount * SCALE, px)
    if not is_legal(leg, qty, px):
        return 0
    return min(round_up(qty, leg.lot_size), leg.max_qty // leg.lot_size * leg.lot_size)
