"""Cancels of our own orders: asked of the venue until its records show each order done.

A cancel is safe to repeat: order ids are never drawn twice, and an order that is done only answers with an error. What
became of the order is told by the venue's reports alone, a fill that came first among them.
"""

from __future__ import annotations

import msgspec

from actors.broker_state import CancelAsked, Order
from actors.broker_turn import Turn
from actors.effects import CancelTimer, ClearAlarm, Drive, Severity, StartTimer
from actors.messages import CancelOrders, CancelVenueOrder

CANCEL_TIMER = "cancel"
CANCEL_ALARM = "cancel_unconfirmed"


def cancel(turn: Turn, message: CancelOrders, superseded: bool = False) -> None:
    """Take the wish, and pass it on where there is a session. `superseded`: it is the broker's own, see Order."""
    working = {order.client_order_id: order for order in _orders(turn) if order.may_trade}
    for client_order_id in message.client_order_ids:
        if client_order_id not in working:
            turn.count("cancel_moot")
            continue
        order = working[client_order_id]
        _mark(turn, order, superseded)
        if client_order_id not in turn.cancels:
            turn.cancels = {**turn.cancels, client_order_id: CancelAsked(turn.now_ns, message.reason)}
            turn.count("cancel_asked")
            _drive(turn, order)
    _look_again(turn)


def cancel_surfaced(turn: Turn, order: Order) -> None:
    """Take up the wish anew for an order that had been given up, and that is there after all."""
    reason = "it was to be cancelled before it was given up"
    turn.cancels = {**turn.cancels, order.client_order_id: CancelAsked(turn.now_ns, reason)}
    _drive(turn, order)
    _look_again(turn)


def cancel_again(turn: Turn) -> None:
    """Ask for each that is not done: at the timer, and when a session opens."""
    orders = {order.client_order_id: order for order in _orders(turn)}
    turn.cancels = {key: asked for key, asked in turn.cancels.items() if key in orders and orders[key].may_trade}
    late = [key for key, asked in turn.cancels.items() if _is_late(turn, asked)]
    for key in turn.cancels:
        turn.count("cancel_again")
        _drive(turn, orders[key])
    if late:
        first = turn.cancels[late[0]]
        text = f"{len(late)} orders not cancelled since asked, first {late[0]} ({first.reason})"
        turn.alarm(CANCEL_ALARM, Severity.CRITICAL, text)
    else:
        turn.effects.append(ClearAlarm(CANCEL_ALARM))
    _look_again(turn)


def _is_late(turn: Turn, asked: CancelAsked) -> bool:
    return turn.now_ns - asked.since_ns >= turn.settings.cancel_unconfirmed_ns


def _look_again(turn: Turn) -> None:
    timer = StartTimer(CANCEL_TIMER, turn.settings.cancel_again_ns) if turn.cancels else CancelTimer(CANCEL_TIMER)
    turn.effects.append(timer)


def _drive(turn: Turn, order: Order) -> None:
    if turn.session is not None:
        command = CancelVenueOrder(turn.session.session_id, order.client_order_id, order.venue_order_id)
        turn.effects.append(Drive(command))


def _mark(turn: Turn, order: Order, superseded: bool) -> None:
    """Remember on the order whose wish its end was: nothing takes the place of what somebody wanted gone."""
    family = turn.family_of(order.client_order_id, 0)
    assert family is not None, "an order stands in its family"
    marked = msgspec.structs.replace(
        order, cancel_asked=order.cancel_asked or not superseded, superseded=order.superseded or superseded
    )
    orders = tuple(marked if one.client_order_id == order.client_order_id else one for one in family.orders)
    turn.put_family(msgspec.structs.replace(family, orders=orders))


def _orders(turn: Turn) -> tuple[Order, ...]:
    return tuple(order for family in turn.families.values() if not family.closed for order in family.orders)
