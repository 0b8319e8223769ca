"""How much goes through a cycle: over the tops of its books alone, or over as many of their levels as gain most.

**A plan** says how many levels each leg may use. Its size is the largest that these levels and the cap on the start
asset let through. Found forwards: each leg takes as many lots as its input buys or its levels hold. Then backwards:
each earlier leg is cut to the fewest lots that still feed the next (and are legal), so that what is left over in an
intermediate asset is less than a lot's worth.

**The walk** begins with one level a leg. The last leg that takes all its levels hold, and could still pay for a lot at
the last of them, is what limits the plan: one level more for it is the next plan. It ends where no level does: at the
cap, at a symbol's maximum, or at the last level; and with the first legal plan at whose deepest levels a little more
put in does not come back, fees taken off. At most one plan for each level there is.

Why no other plan need be looked at: without rounding each leg turns input into output by a concave function, made of
straight pieces, one a level, so gain over start amount is concave too. It is greatest where a piece of some leg ends
or at the cap, and those amounts, in rising order, are the walk's plans; after a plan that does not pay at the margin
none does. The rounding to lots may make another the better by less than a lot of each leg.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kernels.fixed8 import SCALE
from kernels.leg import Leg

NO_LIMIT = -1


def walk(legs: Sequence[Leg], start_max: int | None) -> Iterator[tuple[list[int], int]]:
    """Yield each plan as (quantity of each leg, -1), or, where leg i has too little, (quantities so far, i).

    In the second case the last of the quantities is leg i's, too small. Each leg must have a level.
    """
    depths = [1] * len(legs)
    while True:
        quantities, limiting, failed = _forward(legs, depths, start_max)
        if failed < 0:
            for at in range(len(legs) - 2, -1, -1):
                needed = legs[at + 1].spends(quantities[at + 1])
                quantities[at] = legs[at].least(needed, depths[at])
        yield quantities, failed
        if limiting == NO_LIMIT:
            return
        leg, depth = legs[limiting], depths[limiting]
        if failed < 0 and not _pays(legs, depths):
            return
        if depth == len(leg.levels) or leg.standing(depth) >= leg.symbol.max_qty:
            return
        depths[limiting] += 1


def _pays(legs: Sequence[Leg], depths: Sequence[int]) -> bool:
    """Say whether a little more at the deepest of these levels would come back as more."""
    received = spent = 1
    for leg, depth in zip(legs, depths, strict=True):
        px = leg.levels[depth - 1][0]
        received *= (SCALE if leg.buy else px) * (SCALE - leg.fee_e8)
        spent *= (px if leg.buy else SCALE) * SCALE
    return received > spent


def _forward(legs: Sequence[Leg], depths: Sequence[int], start_max: int | None) -> tuple[list[int], int, int]:
    """Return the quantities, the leg whose levels limit them (NO_LIMIT: none), and the leg that has too little (or -1).

    Without a cap the first leg begins with what all its levels cost.
    """
    quantities: list[int] = []
    limiting = NO_LIMIT
    have = start_max
    for at, (leg, depth) in enumerate(zip(legs, depths, strict=True)):
        qty = most = leg.available(depth)
        if have is None:
            limiting = at
        else:
            qty = min(most, leg.affords(have, depth))
            if qty == most and have - leg.spends(most) >= leg.lot_cost(depth):
                limiting = at
        quantities.append(qty)
        if qty < leg.qty_min(depth):
            return quantities, limiting, at
        have = leg.receives(qty)[1]
    return quantities, limiting, -1
