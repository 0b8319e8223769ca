"""One step of an attempt: begin it, its next leg, the next order of its way back, or its end.

A function of the attempt alone and of the market as it is now; an attempt is asked only while none of its orders is
in work. Whoever has the attempt can therefore go on with it, after any crash.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from kernels.cycle_execution import (
    Act,
    Attempt,
    CycleOrder,
    Finish,
    Mode,
    Place,
    Policy,
    Top,
    Unwind,
    first_orders,
    next_leg,
)
from kernels.cycle_unwind import choose_route, unwind_order

NOT_FILLED = "leg_not_filled"


def advance(attempt: Attempt, tops: Mapping[str, Top], policy: Policy, blocked: str = "") -> tuple[Attempt, Act]:
    """Return the attempt with the orders that are to go out in it, and what is to be done.

    `blocked`: why nothing may open risk now (a halt, a breaker); an attempt in work is then brought to its end.
    """
    assert all(order.done for order in attempt.orders), "asked while an order is in work"
    if not attempt.orders:
        orders = blocked or first_orders(attempt, tops, policy)
        if isinstance(orders, str):
            return msgspec.structs.replace(attempt, stopped=orders), Finish(reason=orders)
        return _placed(attempt, orders)
    if not attempt.stopped:
        following = _following(attempt, tops, policy, blocked)
        if isinstance(following, CycleOrder):
            return _placed(attempt, (following,))
        attempt = msgspec.structs.replace(attempt, stopped=following)
    return _unwound(attempt, tops, policy)


def record(attempt: Attempt, key: str, cum_qty: int, cum_quote_qty: int, commissions: Mapping[str, int]) -> Attempt:
    """Return the attempt after an order's end, or after a later word about it, which replaces the one before."""
    orders = tuple(
        msgspec.structs.replace(
            order, done=True, cum_qty=cum_qty, cum_quote_qty=cum_quote_qty, commissions=dict(commissions)
        )
        if order.key == key
        else order
        for order in attempt.orders
    )
    return msgspec.structs.replace(attempt, orders=orders)


def completed(attempt: Attempt) -> bool:
    """Whether each leg filled something, and nothing had to be unwound."""
    return len(attempt.orders) == len(attempt.legs) and all(
        order.cum_qty and not order.unwinds for order in attempt.orders
    )


def _following(attempt: Attempt, tops: Mapping[str, Top], policy: Policy, blocked: str) -> CycleOrder | str:
    legs = [order for order in attempt.orders if not order.unwinds]
    if any(order.unwinds for order in attempt.orders):
        return ""
    if not all(order.cum_qty for order in legs):
        return NOT_FILLED
    if policy.mode is Mode.AT_ONCE or len(legs) == len(attempt.legs):
        return ""
    return blocked or next_leg(attempt, tops, policy)


def _unwound(attempt: Attempt, tops: Mapping[str, Top], policy: Policy) -> tuple[Attempt, Act]:
    route = attempt.route or choose_route(attempt, tops, policy)
    order, left = unwind_order(attempt, tops, policy, route)
    if order is None:
        return attempt, Finish(reason=attempt.stopped)
    if policy.unwind is Unwind.HOLD:
        return attempt, Finish(left, attempt.stopped or "short")
    if sum(one.unwinds for one in attempt.orders) >= policy.unwind_orders_max:
        return attempt, Finish(left, "unwind_orders_max")
    return _placed(msgspec.structs.replace(attempt, route=route), (order,))


def _placed(attempt: Attempt, orders: tuple[CycleOrder, ...]) -> tuple[Attempt, Act]:
    return msgspec.structs.replace(attempt, orders=(*attempt.orders, *orders)), Place(orders)
