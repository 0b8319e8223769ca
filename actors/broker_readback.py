"""Read-back: what the venue says that it holds against what was asked, term by term.

Every openOrder of an order of ours is compared. A difference is an incident and an alarm, once, with both values, and
nothing is corrected: a person decides. The alarm goes when the venue shows what was asked, or the order is over.

No difference: a protective leg that is smaller once its entry has filled in part or whole (a sibling's fill, or the
entry's end, reduces it: the venue's to decide), and a parent or a group that the venue names only later or no more.
"""

from __future__ import annotations

from collections.abc import Iterator

from actors.broker_state import Family, Order
from actors.broker_turn import READ_BACK, Turn
from actors.effects import ClearAlarm, Severity
from actors.messages import Leg, OrderReported, OrderType
from kernels.fixed8 import format_fixed8

OCA_TYPE_REDUCE = "3"
Difference = tuple[str, str, str]
"""Term, what was asked, what the venue has."""


def read_back(turn: Turn, family: Family, order: Order, report: OrderReported) -> None:
    """Compare one openOrder of an open order; raise, change or clear its alarm."""
    name = order.client_order_id
    text = "; ".join(
        f"{term}: asked {asked or 'none'}, the venue has {told or 'none'}"
        for term, asked, told in differences(family, order, report)
    )
    if text == turn.misread.get(name, ""):
        return
    left = {key: other for key, other in turn.misread.items() if key != name}
    if not text:
        turn.misread = left
        turn.effects.append(ClearAlarm(f"read_back.{name}"))
        return
    turn.misread = {**left, name: text}
    turn.record(READ_BACK, name, text)
    _alarm(turn, name, text)


def alarm_again(turn: Turn) -> None:
    """Alarms die with the incarnation that raised them; what stands is raised anew."""
    for name, text in turn.misread.items():
        _alarm(turn, name, text)


def differences(family: Family, order: Order, report: OrderReported) -> tuple[Difference, ...]:
    """Return the terms in which an openOrder differs from what was asked, in the order in which they stand there."""
    asked, told = dict(_asked(family, order)), dict(_told(report))
    found = [(term, value, told[term]) for term, value in asked.items() if told[term] != value]
    found += _qty_difference(family, order, report)
    found += _tie_differences(family, order, report)
    return tuple(found)


def _asked(family: Family, order: Order) -> Iterator[tuple[str, str]]:
    yield "symbol", family.intent.symbol
    yield "side", order.side.value
    yield "order_type", order.order_type.value
    if order.order_type in (OrderType.LIMIT, OrderType.STOP_LIMIT):
        yield "limit_px", format_fixed8(order.limit_px)
    if order.order_type in (OrderType.STOP, OrderType.STOP_LIMIT):
        yield "stop_px", format_fixed8(order.stop_px)
    yield "account", family.account
    if order.asked is not None:
        yield "time_in_force", order.asked.time_in_force
        yield "outside_rth", str(order.asked.outside_rth)
        yield "trigger_method", str(order.asked.trigger_method)


def _told(report: OrderReported) -> Iterator[tuple[str, str]]:
    yield "symbol", report.symbol
    yield "side", report.side
    yield "order_type", report.order_type
    yield "limit_px", format_fixed8(report.limit_px)
    yield "stop_px", format_fixed8(report.stop_px)
    yield "account", report.account
    yield "time_in_force", report.time_in_force
    yield "outside_rth", str(report.outside_rth)
    yield "trigger_method", str(report.trigger_method)


def _qty_difference(family: Family, order: Order, report: OrderReported) -> Iterator[Difference]:
    asked = family.intent.qty
    may_be_less = bool(order.asked and order.asked.oca_group)
    if order.leg in (Leg.TAKE_PROFIT, Leg.STOP_LOSS):
        may_be_less = any(one.cum_qty for one in family.orders)
    if report.qty != asked and not (may_be_less and 0 < report.qty < asked):
        yield "qty", format_fixed8(asked), format_fixed8(report.qty)


def _tie_differences(family: Family, order: Order, report: OrderReported) -> Iterator[Difference]:
    """Parent and group. The venue gives a bracket's exits a group named by their entry's permId."""
    parent, entry = order.parent_order_id, family.orders[0]
    free = not parent or not entry.may_trade or entry.cum_qty > 0
    if report.parent_order_id != parent and not (free and not report.parent_order_id):
        yield "parent_order_id", str(parent), str(report.parent_order_id)
    group = order.asked.oca_group if order.asked is not None else ""
    if parent and entry.perm_id and report.oca_group:
        group = str(entry.perm_id)
    elif parent:
        group = report.oca_group
    if report.oca_group != group:
        yield "oca_group", group, report.oca_group
    elif report.oca_group and str(report.oca_type) != OCA_TYPE_REDUCE:
        yield "oca_type", OCA_TYPE_REDUCE, str(report.oca_type)


def _alarm(turn: Turn, name: str, text: str) -> None:
    turn.alarm(f"read_back.{name}", Severity.CRITICAL, text)
