"""Working orders that the venue took back: in no list of its, after it had acknowledged them.

A complete read that does not list a working order leaves it `unlisted`; any word of the venue's about it, and the end
of the session, takes that back. The reconciler's verdict over one counts only while it is unlisted: what was heard
after the reads that led to it has overtaken it. Then the order is EXPIRED with what it had filled, and told by an
alarm with the evidence, until it surfaces, or a complete read shows that nothing is left of it to do: its bracket
holds nothing, or another stop works for what it holds. Full: as many as there are orders.
"""

from __future__ import annotations

import msgspec

from actors.broker_exits import needs_stop
from actors.broker_intents import bracket_of
from actors.broker_state import Family, Order
from actors.broker_turn import Turn
from actors.effects import ClearAlarm, Severity
from actors.messages import ResolveIntent, VenueRead
from kernels.fixed8 import format_fixed8
from kernels.order_state import WORKING, OrderEvent


def note_unlisted(turn: Turn, read: VenueRead) -> None:
    """After a complete read was folded: which working orders it should have listed and did not."""
    listed = {report.client_order_id for report in (*read.open_orders, *read.completed_orders)}
    perm_ids = {report.perm_id for report in (*read.open_orders, *read.completed_orders)} - {0}
    missing = {
        order.client_order_id: turn.unlisted.get(order.client_order_id, read.taken_ns)
        for family in turn.families.values()
        if not family.closed
        for order in family.orders
        if order.state in WORKING
        and order.since_ns < read.begun_ns
        and order.client_order_id not in listed
        and order.perm_id not in perm_ids
    }
    if missing != turn.unlisted:
        turn.unlisted = missing


def heard_of(turn: Turn, order: Order) -> None:
    """The venue said something of it: it is not gone, and no longer called so."""
    name = order.client_order_id
    if name in turn.unlisted:
        turn.unlisted = {key: since_ns for key, since_ns in turn.unlisted.items() if key != name}
    if name in turn.vanished:
        _forget(turn, name)


def take_back(turn: Turn, verdict: ResolveIntent) -> None:
    """Give up the named orders that still work here and have not been heard of. One of another session does nothing."""
    family = turn.families.get(verdict.intent_id)
    if family is None or turn.session is None or turn.session.session_id != verdict.session_id:
        turn.count("resolve_of_another_session" if family is not None else "resolve_moot")
        return
    orders: list[Order] = []
    taken: list[Order] = []
    for order in family.orders:
        named = order.client_order_id in verdict.client_order_ids and order.state in WORKING
        if named and order.client_order_id in turn.unlisted:
            order = turn.moved(order, OrderEvent.ABSENT)
            taken.append(order)
        elif named:
            turn.count("resolve_overtaken")
        orders.append(order)
    if not taken:
        turn.count("resolve_moot")
        return
    turn.count("vanished", len(taken))
    turn.unlisted = {
        key: since_ns for key, since_ns in turn.unlisted.items() if key not in {one.client_order_id for one in taken}
    }
    turn.put_family(msgspec.structs.replace(family, orders=tuple(orders)))
    for order in taken:
        text = (
            f"{order.leg} of {format_fixed8(order.qty)} {family.intent.symbol}, filled {format_fixed8(order.cum_qty)}, "
            f"permId {order.perm_id}, was acknowledged and is gone: {verdict.evidence}"
        )
        turn.vanished = {**turn.vanished, order.client_order_id: text}
        turn.record("vanished", order.client_order_id, text)
        _alarm(turn, order.client_order_id, text)


def clear_vanished(turn: Turn) -> None:
    """At a complete read: the alarms of those after which nothing is left to do."""
    for name in turn.vanished:
        family = turn.family_of(name, 0)
        if family is None or _is_done_with(turn, family):
            _forget(turn, name)


def alarm_vanished_again(turn: Turn) -> None:
    """Alarms die with the incarnation that raised them; what stands is raised anew."""
    for name, text in turn.vanished.items():
        _alarm(turn, name, text)


def _is_done_with(turn: Turn, family: Family) -> bool:
    bracket = turn.families.get(bracket_of(family.intent))
    return bracket is None or not needs_stop(turn, bracket)


def _forget(turn: Turn, name: str) -> None:
    turn.effects.append(ClearAlarm(f"vanished.{name}"))
    turn.vanished = {key: text for key, text in turn.vanished.items() if key != name}


def _alarm(turn: Turn, name: str, text: str) -> None:
    turn.alarm(f"vanished.{name}", Severity.CRITICAL, text)
