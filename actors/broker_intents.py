"""Intents on their way out: placed, held, known not sent, resent once, given up.

The one rule of this file: an intent whose bytes may have left is never placed afresh. Only `SubmitNotSent` of the
first write (known for certain) puts it back; only the reconciler's `ResolveIntent` writes it again, once, under the
same ids of the same generation.
"""

from __future__ import annotations

from itertools import islice

import msgspec

from actors.broker_entries import checked_entry
from actors.broker_state import SECOND_NS, Family, Held, Intent, Order, Session, Terms, Transition
from actors.broker_turn import STOP_AGAIN, Turn
from actors.effects import Drive, Severity, StartTimer
from actors.messages import (
    BracketIntent,
    ExitIntent,
    IntentOutcome,
    Leg,
    OrderTicket,
    OrderType,
    Outcome,
    Resolution,
    ResolveIntent,
    Side,
    SubmitNotSent,
    SubmitOrders,
    SubmitRefused,
    SubmitWritten,
)
from kernels import ids
from kernels.order_state import UNRESOLVED, WORKING, OrderEvent, OrderState
from kernels.sizing import Refused

AT_ONCE = frozenset({Leg.ENTRY, Leg.EXIT})
"""Legs that are meant to trade now; the others stand until they are touched."""
HELD_TIMER = "held"
STUCK_TIMER = "stuck"


def place(turn: Turn, intent: Intent, correlation_id: str) -> None:
    """Take an intent for the first time; one that is known in any form is left alone."""
    held = Held(intent, correlation_id=correlation_id)
    intent_id = intent.intent_id
    if intent_id in turn.families or intent_id in turn.held or intent_id in turn.done:
        turn.count("intent_again")
        return
    expected = ids.family_id(turn.settings.fund, intent.signal_id, intent.attempt)
    if intent_id != expected:
        # Not remembered under its own id: that id is not derived from what it is for.
        turn.refuse(held, Outcome.REFUSED, "intent_id", {"expected": expected})
        return
    exits = (intent.take_profit_px, intent.stop_px) if isinstance(intent, BracketIntent) else ()
    if min((intent.qty, *exits)) <= 0 or intent.limit_px < 0 or intent.stop_px < 0:
        turn.refuse(held, Outcome.REFUSED, "figures", {"qty": str(intent.qty), "limit_px": str(intent.limit_px)})
        return
    _submit_or_hold(turn, held)


def release_held(turn: Turn) -> None:
    """Go through the held intents, oldest first: end what is due or halted, submit what may go."""
    waiting, turn.held = turn.held, {}
    for held in waiting.values():
        _submit_or_hold(turn, held)
    wake_for_held(turn)


def wake_for_held(turn: Turn) -> None:
    """Look again in a second while anything is held."""
    if turn.held:
        turn.effects.append(StartTimer(HELD_TIMER, SECOND_NS))


def _submit_or_hold(turn: Turn, held: Held) -> None:
    intent, now_ns = held.intent, turn.now_ns
    opens_risk = isinstance(intent, BracketIntent)
    blocked_by = _blocked_by(turn, opens_risk)
    if turn.halt and opens_risk:
        turn.refuse(held, Outcome.REFUSED, "halt", {"reason": turn.halt})
    elif turn.flatten and isinstance(intent, ExitIntent) and intent.asked_by != turn.settings.risk:
        # One closes positions at a time: two that do not see each other's exits would close twice.
        turn.refuse(held, Outcome.REFUSED, "flatten", {"reason": turn.flatten})
    elif standing := _standing_stop(turn, intent):
        turn.refuse(held, Outcome.SUPERSEDED, "stop_stands", {"stop": standing})
    elif now_ns >= intent.expires_ns:
        late_ms = (now_ns - intent.expires_ns) // 1_000_000
        figures = {"late_ms": str(late_ms), "blocked_by": blocked_by or "contract"}
        turn.refuse(held, Outcome.EXPIRED, "expired", figures)
    elif not blocked_by and turn.session is not None:
        _check_and_submit(turn, held, turn.session)
    else:
        _hold(turn, held, blocked_by)


def _check_and_submit(turn: Turn, held: Held, session: Session) -> None:
    intent, rules = held.intent, turn.settings.entries
    if isinstance(intent, BracketIntent) and rules is not None:
        checked = checked_entry(turn, intent, rules)
        if checked is None:
            _hold(turn, held, "contract")
            return
        if isinstance(checked, Refused):
            turn.refuse(held, Outcome.REFUSED, checked.guard, checked.figures)
            return
        held = msgspec.structs.replace(held, intent=checked)
    _submit(turn, held, session)


def _hold(turn: Turn, held: Held, blocked_by: str) -> None:
    if len(turn.held) >= turn.settings.held_max:
        turn.refuse(held, Outcome.REFUSED, "held_full", {"held": str(len(turn.held)), "blocked_by": blocked_by})
        return
    turn.held[held.intent.intent_id] = held
    turn.count(f"held.{blocked_by}")
    wake_for_held(turn)


def _blocked_by(turn: Turn, opens_risk: bool) -> str:
    """Say what an intent waits for. A way out waits neither for the gate nor for room: it only reduces."""
    session, gate = turn.session, turn.gate
    if session is None:
        return "session"
    if opens_risk and (window := turn.closed_window):
        return f"{window}_window"
    if opens_risk and (gate is None or gate.session_id != session.session_id or turn.now_ns >= gate.expires_ns):
        return "gate"
    if opens_risk and _open_families_full(turn):
        return "families"
    started_ns, count = turn.pace
    within = turn.now_ns - started_ns < SECOND_NS
    return "pace" if within and count >= turn.settings.intents_per_s_max else ""


def _open_families_full(turn: Turn) -> bool:
    """Whether `families_max` are open. Those kept longest are mostly closed, so few are looked at."""
    closed_needed = len(turn.families) - turn.settings.families_max + 1
    if closed_needed <= 0:
        return False
    closed = (True for _, family in turn.families.oldest() if family.closed)
    return sum(islice(closed, closed_needed)) < closed_needed


def _submit(turn: Turn, held: Held, session: Session) -> None:
    intent, generation = held.intent, turn.generation
    assert generation is not None, "a session opens with a generation"
    oca_group = ""
    if isinstance(intent, ExitIntent) and intent.within and not (oca_group := _group_of_exits(turn, intent.within)):
        turn.refuse(held, Outcome.REFUSED, "no_oca_group", {"within": intent.within})
        return
    family = Family(
        intent=intent,
        orders=_orders(turn, intent, turn.next_order_id, oca_group),
        account=session.account,
        client_id=session.client_id,
        session_id=session.session_id,
        generation=generation.text,
        placed_ns=turn.now_ns,
        not_sent=held.not_sent,
        correlation_id=held.correlation_id,
    )
    turn.next_order_id += len(family.orders)
    started_ns, count = turn.pace
    turn.pace = (started_ns, count + 1) if turn.now_ns - started_ns < SECOND_NS else (turn.now_ns, 1)
    turn.put_family(family)
    bracket = turn.families.get(bracket_of(intent))
    if isinstance(intent, ExitIntent) and bracket is not None and intent.intent_id not in bracket.closers:
        turn.put_family(msgspec.structs.replace(bracket, closers=(*bracket.closers, intent.intent_id)))
    _drive(turn, family)


def bracket_of(intent: Intent) -> str:
    """Return the intent of the bracket whose quantity it opens or closes, as far as it says."""
    if isinstance(intent, BracketIntent):
        return intent.intent_id
    return intent.within or intent.signal_id.removeprefix(STOP_AGAIN)


def stands(order: Order) -> bool:
    """Whether it works to close something once it is touched, and nobody has asked for its end."""
    return order.leg not in AT_ONCE and order.state in WORKING and not (order.cancel_asked or order.superseded)


def _standing_stop(turn: Turn, intent: Intent) -> str:
    """Return the stop that stands where this one was to be put back (it surfaced); empty: none does."""
    bracket = turn.families.get(bracket_of(intent))
    if not intent.signal_id.startswith(STOP_AGAIN) or bracket is None:
        return ""
    families = (bracket, *(turn.families[name] for name in bracket.closers if name in turn.families))
    stops = (order for family in families for order in family.orders if order.leg is Leg.STOP_LOSS and stands(order))
    return next((stop.client_order_id for stop in stops), "")


def _drive(turn: Turn, family: Family) -> None:
    intent = family.intent
    # A resend is settled by the reconciler, under a gate that unknown orders keep shut: only its expiry ends it. So
    # does only its expiry end a way out.
    leased = turn.gate is not None and not family.resends and isinstance(intent, BracketIntent)
    lease_ns = turn.gate.expires_ns if leased and turn.gate is not None else intent.expires_ns
    command = SubmitOrders(
        intent_id=intent.intent_id,
        session_id=family.session_id,
        tickets=_tickets(turn, family),
        resend=family.resends > 0,
        not_after_ns=min(lease_ns, intent.expires_ns),
        reference_px=intent.reference_px if isinstance(intent, BracketIntent) else 0,
    )
    turn.effects.append(Drive(command))
    turn.effects.append(StartTimer(STUCK_TIMER, turn.settings.stuck_after_ns))


def _group_of_exits(turn: Turn, intent_id: str) -> str:
    """Return the OCA group, in the venue's word, of a bracket's exit that may still trade; empty: there is none."""
    family = turn.families.get(intent_id)
    closers = [turn.families.get(closer) for closer in family.closers] if family is not None else []
    orders = [order for one in (family, *closers) if one is not None for order in one.orders]
    groups = (order.oca_group for order in orders if order.leg is not Leg.ENTRY and order.may_trade)
    return next(filter(None, groups), "")


def _orders(turn: Turn, intent: Intent, first_id: int, oca_group: str) -> tuple[Order, ...]:
    if isinstance(intent, BracketIntent):
        return _bracket(turn, intent, first_id)
    leg = Leg.STOP_LOSS if intent.stop_px else Leg.EXIT
    at_once = OrderType.LIMIT if intent.limit_px else OrderType.MARKET
    order = Order(
        client_order_id=ids.leg_id(intent.intent_id, leg.value),
        leg=leg,
        side=intent.side,
        order_type=OrderType.STOP if intent.stop_px else at_once,
        qty=intent.qty,
        limit_px=intent.limit_px,
        stop_px=intent.stop_px,
        venue_order_id=first_id,
        parent_order_id=0,
        since_ns=turn.now_ns,
        transitions=(Transition(OrderState.PRE_SENT, turn.now_ns),),
        oca_group=oca_group,
        asked=_terms(turn, leg, oca_group),
    )
    return (order,)


def _bracket(turn: Turn, intent: BracketIntent, first_id: int) -> tuple[Order, ...]:
    exit_side = Side.SELL if intent.side is Side.BUY else Side.BUY
    entry_type = OrderType.LIMIT if intent.limit_px else OrderType.MARKET
    legs = (
        (Leg.ENTRY, intent.side, entry_type, intent.limit_px, 0),
        (Leg.TAKE_PROFIT, exit_side, OrderType.LIMIT, intent.take_profit_px, 0),
        (Leg.STOP_LOSS, exit_side, OrderType.STOP, 0, intent.stop_px),
    )
    return tuple(
        Order(
            client_order_id=ids.leg_id(intent.intent_id, leg.value),
            leg=leg,
            side=side,
            order_type=order_type,
            qty=intent.qty,
            limit_px=limit_px,
            stop_px=stop_px,
            venue_order_id=first_id + k,
            parent_order_id=0 if leg is Leg.ENTRY else first_id,
            since_ns=turn.now_ns,
            transitions=(Transition(OrderState.PRE_SENT, turn.now_ns),),
            asked=_terms(turn, leg),
        )
        for k, (leg, side, order_type, limit_px, stop_px) in enumerate(legs)
    )


def _terms(turn: Turn, leg: Leg, oca_group: str = "") -> Terms:
    settings = turn.settings
    return Terms(
        time_in_force=settings.entry_time_in_force if leg in AT_ONCE else settings.exit_time_in_force,
        oca_group=oca_group,
        outside_rth=settings.entry_outside_rth if leg is Leg.ENTRY else settings.exits_outside_rth,
        trigger_method=settings.stop_trigger_method if leg is Leg.STOP_LOSS else 0,
    )


def _tickets(turn: Turn, family: Family) -> tuple[OrderTicket, ...]:
    """Only the last leg transmits: the venue holds the family back until it has all of it."""
    last = len(family.orders) - 1
    return tuple(ticket_of(turn, family, order, transmit=k == last) for k, order in enumerate(family.orders))


def ticket_of(turn: Turn, family: Family, order: Order, transmit: bool) -> OrderTicket:
    """Return an order as it goes to the venue."""
    asked = order.asked or _terms(turn, order.leg, order.oca_group if order.leg is Leg.EXIT else "")
    return OrderTicket(
        client_order_id=order.client_order_id,
        venue_order_id=order.venue_order_id,
        parent_order_id=order.parent_order_id,
        symbol=family.intent.symbol,
        side=order.side,
        order_type=order.order_type,
        qty=order.qty,
        limit_px=order.limit_px,
        stop_px=order.stop_px,
        account=family.account,
        transmit=transmit,
        time_in_force=asked.time_in_force,
        oca_group=asked.oca_group,
        outside_rth=asked.outside_rth,
        trigger_method=asked.trigger_method,
    )


# ---- what became of the write


def written(turn: Turn, report: SubmitWritten) -> None:
    """The bytes left: the intent's outcome is given, its orders are pending."""
    family = turn.families.get(report.intent_id)
    if family is None or family.session_id != report.session_id:
        turn.count("written_of_another_session")
        return
    family = turn.gone_out(family, report.degraded)
    turn.put_family(_moved(turn, family, OrderEvent.WRITTEN, frozenset(report.client_order_ids)))


def not_sent(turn: Turn, report: SubmitNotSent) -> None:
    """Not a byte of the first write left: as if never submitted, and tried again."""
    family = _never_written(turn, report)
    if family is not None:
        _put_back(turn, family, report.reason)


def refused_unsent(turn: Turn, report: SubmitRefused) -> None:
    """Not a byte of the first write left, because a guard objected: that is the intent's end."""
    family = _never_written(turn, report)
    if family is not None:
        turn.drop_family(family)
        held = Held(family.intent, family.not_sent, family.correlation_id)
        turn.refuse(held, Outcome.REFUSED, report.guard, report.figures)


def _never_written(turn: Turn, report: SubmitNotSent | SubmitRefused) -> Family | None:
    """Return the family if it is certain that none of it left. Of a resend or of some legs only: UNKNOWN stays."""
    family = turn.families.get(report.intent_id)
    if family is None or family.session_id != report.session_id:
        turn.count("not_sent_of_another_session")
        return None
    named = frozenset(report.client_order_ids)
    all_legs = all(order.client_order_id in named for order in family.orders)
    untouched = all(order.state in (OrderState.PRE_SENT, OrderState.UNKNOWN) for order in family.orders)
    if family.resends or family.outcome_given or not all_legs or not untouched:
        turn.count("not_sent_unproven")
        turn.put_family(_moved(turn, family, OrderEvent.LOST, named))
        return None
    return family


def _put_back(turn: Turn, family: Family, reason: str) -> None:
    intent = family.intent
    turn.count("not_sent")
    tries = family.not_sent + 1
    held = Held(intent, tries, family.correlation_id)
    turn.drop_family(family)
    if tries >= turn.settings.not_sent_max:
        turn.refuse(held, Outcome.REFUSED, "not_sent", {"tries": str(tries), "reason": reason})
    elif turn.halt and isinstance(intent, BracketIntent):
        turn.refuse(held, Outcome.REFUSED, "halt", {"reason": turn.halt})
    elif turn.now_ns >= intent.expires_ns:
        turn.refuse(held, Outcome.EXPIRED, "expired", {"reason": reason})
    else:
        turn.held[intent.intent_id] = held
        wake_for_held(turn)


def lose_session(turn: Turn) -> None:
    """The session, or our own process, ended: what was not yet reported is UNKNOWN, and the gate is shut."""
    turn.session = None
    turn.gate = None
    turn.unlisted = {}
    for family in tuple(turn.families.values()):
        if any(order.state in (OrderState.PRE_SENT, OrderState.PENDING) for order in family.orders):
            turn.put_family(_moved(turn, family, OrderEvent.LOST))


# ---- what the reconciler settled


def resolve(turn: Turn, message: ResolveIntent) -> None:
    """Resend once or give up. A resolution of another session, or one that facts have overtaken, does nothing."""
    session, family = turn.session, turn.families.get(message.intent_id)
    if session is None or session.session_id != message.session_id:
        turn.count("resolve_of_another_session")
        return
    unresolved = [order for order in family.orders if order.state in UNRESOLVED] if family else []
    if family is None or not unresolved:
        turn.count("resolve_moot")
        return
    if message.resolution is Resolution.RESEND_SAME_ID:
        if family.resends:
            turn.count("resend_again_refused")
            return
        obstacle = _resend_obstacle(turn, family, len(unresolved))
        if not obstacle:
            _resend(turn, family, session)
            return
        turn.count(f"resend_impossible.{obstacle}")
    _give_up(turn, family, message.evidence)


def _resend_obstacle(turn: Turn, family: Family, unresolved: int) -> str:
    if turn.halt and isinstance(family.intent, BracketIntent):
        return "halt"
    if turn.now_ns >= family.intent.expires_ns:
        return "expired"
    if _standing_stop(turn, family.intent):
        return "stop_stands"
    if turn.generation is None or family.generation != turn.generation.text:
        return "generation"
    return "partly_there" if unresolved < len(family.orders) else ""


def _resend(turn: Turn, family: Family, session: Session) -> None:
    turn.count("resent")
    family = _moved(turn, family, OrderEvent.RESENT)
    family = msgspec.structs.replace(family, resends=1, session_id=session.session_id)
    turn.put_family(family)
    _drive(turn, family)


def _give_up(turn: Turn, family: Family, evidence: str) -> None:
    intent = family.intent
    turn.count("expired_unresolved")
    text = f"{intent.intent_id} {intent.symbol} given up: {evidence}"
    turn.alarm("intent_expired", Severity.CRITICAL, text, for_a_person=True)
    family = _moved(turn, family, OrderEvent.ABSENT, _named(family, UNRESOLVED))
    if not family.outcome_given:
        figures = {"evidence": evidence}
        outcome = IntentOutcome(intent.intent_id, intent.signal_id, Outcome.EXPIRED, "unresolved", figures)
        turn.owe(turn.asker(intent), outcome, family.correlation_id)
        family = msgspec.structs.replace(family, outcome_given=True)
    turn.put_family(family)


def stuck(turn: Turn) -> tuple[str, ...]:
    """Client order ids that have been without the venue's word for longer than the limit."""
    limit_ns = turn.now_ns - turn.settings.stuck_after_ns
    return tuple(
        order.client_order_id
        for family in turn.families.values()
        for order in family.orders
        if order.state in UNRESOLVED and order.since_ns <= limit_ns
    )


def _named(family: Family, states: frozenset[OrderState]) -> frozenset[str]:
    return frozenset(order.client_order_id for order in family.orders if order.state in states)


def _moved(turn: Turn, family: Family, event: OrderEvent, named: frozenset[str] | None = None) -> Family:
    orders = tuple(
        turn.moved(order, event) if named is None or order.client_order_id in named else order
        for order in family.orders
    )
    return msgspec.structs.replace(family, orders=orders)
