"""A stop that is made a market order, under its own order id: the one way out that cannot close twice.

An order fills at most its own size, whenever it fills: a stop that is elected before the change arrives has closed
what the change was to close. Two orders have no such moment: one that is sized before the other fills closes too much,
in one OCA group too. The stop protects until the venue has changed it.

The change is held as `Modifying.to_market` until an order report shows it, and tried again in any session in which
the venue was read whole. `exit_tries_max` tries that did not show, or an order id that may be another order's now: who
asked is told `StopStands`, once, and has to find another way.
"""

from __future__ import annotations

import msgspec

from actors.broker_intents import ticket_of
from actors.broker_state import SECOND_NS, Family, Modifying, Order, Turning
from actors.broker_turn import Turn
from actors.effects import Drive, StartTimer
from actors.messages import CloseWithStop, ModifyOrder, OrderType, QueryVenue, StopStands, VenueErrorReported
from kernels.order_state import UNRESOLVED, WORKING

AT_MARKET_TIMER = "at_market"
LOOK_NS = SECOND_NS // 2
SHOWN_NS = 2 * SECOND_NS
"""After so long without a report that shows the change, the venue is asked for its list."""


def close_with_stop(turn: Turn, wanted: CloseWithStop) -> None:
    """Take the wish; an order that is over, or on its way to the market already, is left alone."""
    name, found = wanted.client_order_id, _find(turn, wanted.client_order_id)
    if found is None:
        turn.owe(wanted.asked_by, StopStands(name, "no such order is kept"))
        return
    if _is_settled(found[1]):
        turn.count("turn_moot")
        return
    known = turn.turning.get(name, Turning(turn.now_ns, wanted.qty, (), wanted.reason))
    asked_by = tuple(dict.fromkeys((*known.asked_by, wanted.asked_by)))
    turn.turning = {**turn.turning, name: msgspec.structs.replace(known, qty=wanted.qty, asked_by=asked_by)}
    turn.count("turn_asked")
    turn_on(turn)


def look_up_refused(turn: Turn, told: VenueErrorReported) -> None:
    """An error at the change of an order: evidence, no more. The venue's list says what the order is."""
    for name in turn.turning:
        found = _find(turn, name)
        if found is not None and found[1].venue_order_id == told.venue_order_id and _is_awaited(found[1]):
            _look_up(turn, *found)


def turn_on(turn: Turn) -> None:
    """Take a step for each that is not at the market yet: at the timer, and once the venue was read."""
    for name, turning in tuple(turn.turning.items()):
        found = _find(turn, name)
        if found is None or _is_settled(found[1]):
            _forget(turn, name)
        else:
            _step(turn, *found, turning)
    if turn.turning:
        turn.effects.append(StartTimer(AT_MARKET_TIMER, LOOK_NS))


def _is_settled(order: Order) -> bool:
    return not order.may_trade or order.cancel_asked or order.order_type is OrderType.MARKET


def _step(turn: Turn, family: Family, order: Order, turning: Turning) -> None:
    session, change = turn.session, order.modifying
    if session is None or turn.read_session != session.session_id or order.state in UNRESOLVED:
        return
    if order.state not in WORKING:
        _give_up(turn, order, turning, f"it is {order.state}")
    elif turn.generation is None or family.generation != turn.generation.text:
        _give_up(turn, order, turning, f"its order id is of generation {family.generation}")
    elif change is not None and change.to_market:
        if _is_awaited(order) and turn.now_ns - change.since_ns >= SHOWN_NS:
            _look_up(turn, family, order)
    elif turning.tries >= turn.settings.exit_tries_max:
        _give_up(turn, order, turning, f"not at the market after {turning.tries} tries")
    else:
        _drive(turn, family, order, turning, session.session_id)


def _is_awaited(order: Order) -> bool:
    change = order.modifying
    return change is not None and change.to_market and not change.looked_up


def _look_up(turn: Turn, family: Family, order: Order) -> None:
    if turn.session is None or order.modifying is None:
        return
    turn.count("turn_looked_up")
    looked_up = msgspec.structs.replace(order.modifying, looked_up=True)
    _put(turn, family, msgspec.structs.replace(order, modifying=looked_up))
    turn.effects.append(Drive(QueryVenue(turn.session.session_id, f"at_market.{turn.now_ns}")))


def _drive(turn: Turn, family: Family, order: Order, turning: Turning, session_id: str) -> None:
    qty = min(turning.qty, order.qty)
    if qty <= order.cum_qty:
        _give_up(turn, order, turning, "nothing of it is left to close")
        return
    turn.count("stop_to_market")
    tried = msgspec.structs.replace(turning, tries=turning.tries + 1)
    turn.turning = {**turn.turning, order.client_order_id: tried}
    _put(turn, family, msgspec.structs.replace(order, modifying=Modifying(qty, turn.now_ns, to_market=True)))
    ticket = msgspec.structs.replace(
        ticket_of(turn, family, order, transmit=True),
        order_type=OrderType.MARKET,
        qty=qty,
        stop_px=0,
        parent_order_id=0,
        oca_group=order.oca_group,
    )
    turn.effects.append(Drive(ModifyOrder(session_id, ticket)))


def _give_up(turn: Turn, order: Order, turning: Turning, why: str) -> None:
    name = order.client_order_id
    turn.count("stop_stands")
    turn.record("stop_stands", name, f"{turning.reason}: {why}")
    for asker in turning.asked_by:
        turn.owe(asker, StopStands(name, why))
    _forget(turn, name)


def _forget(turn: Turn, name: str) -> None:
    turn.turning = {key: turning for key, turning in turn.turning.items() if key != name}


def _find(turn: Turn, name: str) -> tuple[Family, Order] | None:
    family = turn.family_of(name, 0)
    orders = family.orders if family is not None else ()
    order = next((one for one in orders if one.client_order_id == name), None)
    return (family, order) if family is not None and order is not None else None


def _put(turn: Turn, family: Family, order: Order) -> None:
    orders = tuple(order if one.client_order_id == order.client_order_id else one for one in family.orders)
    turn.put_family(msgspec.structs.replace(family, orders=orders))
