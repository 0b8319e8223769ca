"""A bracket's exits against what its entry has filled: resized, cancelled, or a missing stop put back.

Looked at once its entry can trade no more. What the venue does by itself (children of an entry that ended, the OCA
group) gets `exits_after_ns` to show; after that the venue is read whole, and what is still wrong by a read that was
begun after it was noticed is mended, in the same session: a report that is late or lost must not make an exit too many.

- an exit of another size than what is left to close is changed (`ModifyOrder`), one change at a time for an order,
  held as `modifying` until an openOrder shows it; a change that does not show is looked up before it is tried again;
- an exit of which nothing is left to close is cancelled;
- where no stop is left and nobody asked for its cancel, a new one is placed, in the exits' OCA group where one is left;
- where two stops work (one that was given up surfaced after another was put back), the bracket's own stays, else the
  one that was put back first, and the other is cancelled;
- what closed more than was opened (both filled) is recorded, and nothing is traded to undo it.

Full: `exit_tries_max` for a bracket; then, or where it cannot be done, an alarm, until the exits are right again.
"""

from __future__ import annotations

import msgspec

from actors.broker_cancels import cancel
from actors.broker_intents import bracket_of, place, stands, ticket_of
from actors.broker_state import SECOND_NS, Defect, Family, Modifying, Order
from actors.broker_turn import STOP_AGAIN, Turn
from actors.effects import ClearAlarm, Drive, Severity, StartTimer
from actors.messages import (
    BracketIntent,
    CancelOrders,
    ExitIntent,
    Leg,
    ModifyOrder,
    OrderReported,
    OrderType,
    QueryVenue,
    Side,
)
from kernels import ids
from kernels.fixed8 import format_fixed8
from kernels.order_state import WORKING
from kernels.positions import FLAT

EXITS_TIMER = "exits"
LIFETIME_NS = 60 * SECOND_NS
Placed = tuple[Family, Order]


class Wrong(msgspec.Struct, frozen=True):
    """What is wrong with a bracket's exits: of which order (None: the stop that is not there), and the right size.

    Below zero: by so much more was closed than was opened. `stands`: the order is a second stop beside this one.
    """

    placed: Placed | None
    qty: int
    stands: str = ""

    @property
    def text(self) -> str:
        """For people."""
        if self.qty < 0:
            return f"exits have closed {format_fixed8(-self.qty)} more than was opened"
        if self.placed is None:
            return f"no stop is left for {format_fixed8(self.qty)}"
        order = self.placed[1]
        if self.stands:
            return f"{order.client_order_id} is a second stop beside {self.stands}"
        wanted = format_fixed8(self.qty) if self.qty > order.cum_qty else "none, all is closed"
        return f"{order.client_order_id} is of {format_fixed8(order.qty)}, should be of {wanted}"


def watch_exits(turn: Turn) -> None:
    """At the end of every input: note which of the brackets that it touched are wrong now, and which are right."""
    brackets = {bracket_of(family.intent): None for family in turn.touched()}
    for intent_id in brackets:
        family = turn.families.get(intent_id)
        is_wrong = family is not None and _first_wrong(turn, family) is not None
        if is_wrong and intent_id not in turn.defects:
            turn.defects = {**turn.defects, intent_id: Defect(turn.now_ns)}
            turn.effects.append(StartTimer(EXITS_TIMER, turn.settings.exits_after_ns))
        elif not is_wrong and intent_id in turn.defects:
            _forget(turn, intent_id)


def mend_exits(turn: Turn) -> None:
    """At the timer: take one step for each bracket that has been wrong for long enough."""
    for intent_id, defect in tuple(turn.defects.items()):
        family = turn.families.get(intent_id)
        wrong = _first_wrong(turn, family) if family is not None else None
        if family is None or wrong is None:
            _forget(turn, intent_id)
        elif turn.now_ns - defect.since_ns >= turn.settings.exits_after_ns:
            _mend(turn, family, wrong, defect)
    if turn.defects:
        turn.effects.append(StartTimer(EXITS_TIMER, turn.settings.exits_after_ns))


def alarm_exits_again(turn: Turn) -> None:
    """The next incarnation: raise what stands, and go on."""
    for intent_id, defect in turn.defects.items():
        if defect.alarmed:
            _alarm(turn, intent_id, defect.alarmed)
    if turn.defects:
        turn.effects.append(StartTimer(EXITS_TIMER, turn.settings.exits_after_ns))


def shown(turn: Turn, order: Order, report: OrderReported, listed: bool) -> Order:
    """Settle a change by an openOrder: it is there; or, where the venue was asked for its list, it is not."""
    change = order.modifying
    if change is not None and change.to_market and report.order_type == OrderType.MARKET:
        turn.count("change_shown")
        return msgspec.structs.replace(order, qty=change.qty, order_type=OrderType.MARKET, stop_px=0, modifying=None)
    if change is None or not report.whole:
        return order
    if report.qty == change.qty and not change.to_market:
        turn.count("change_shown")
        return msgspec.structs.replace(order, qty=report.qty, modifying=None)
    if listed:
        turn.count("change_absent")
        return msgspec.structs.replace(order, modifying=None)
    return order


# ---- what is wrong


def needs_stop(turn: Turn, family: Family) -> bool:
    """Whether a bracket holds something that no stop of its works for. False where that is not known any more."""
    exits = _exits(turn, family)
    if exits is None:
        return False
    stops = (order for _, order in exits if order.leg is Leg.STOP_LOSS)
    return _left(family, exits) > 0 and not any(order.state in WORKING for order in stops)


def _exits(turn: Turn, family: Family) -> list[Placed] | None:
    """Return a bracket's own exits and all that were placed to close its quantity; None: not known, or no bracket."""
    if not isinstance(family.intent, BracketIntent):
        return None
    exits = [(family, order) for order in family.orders[1:]]
    for intent_id in family.closers:
        closer = turn.families.get(intent_id)
        if closer is None:
            return None  # pruned: how much it closed is not known any more
        exits += [(closer, order) for order in closer.orders]
    return exits


def _left(family: Family, exits: list[Placed]) -> int:
    """Return what is left to close; negative: more was closed than was opened."""
    return family.orders[0].cum_qty - sum(order.cum_qty for _, order in exits)


def _first_wrong(turn: Turn, family: Family) -> Wrong | None:
    exits = _exits(turn, family)
    if exits is None or family.orders[0].may_trade:
        return None
    left = _left(family, exits)
    if left > 0 and not _is_protected(turn, family, exits):
        return Wrong(None, left)
    standing = [(owner, order) for owner, order in exits if stands(order)]
    stops = [(owner, order) for owner, order in standing if order.leg is Leg.STOP_LOSS]
    if left > 0 and len(stops) > 1:
        return Wrong(stops[1], stops[1][1].cum_qty, stops[0][1].client_order_id)
    for owner, order in standing:
        if order.qty != order.cum_qty + max(0, left):
            return Wrong((owner, order), order.cum_qty + max(0, left))
    return Wrong(None, left) if left < -family.closed_beyond else None


def _is_protected(turn: Turn, family: Family, exits: list[Placed]) -> bool:
    """Whether a stop stands or is on its way, or somebody wanted it gone or at the market: what follows is theirs."""
    stops = [order for _, order in exits if order.leg is Leg.STOP_LOSS]
    if any(order.cancel_asked or (order.may_trade and not order.inactive) for order in stops):
        return True
    if any(order.order_type is OrderType.MARKET for order in stops):
        return True
    return any(_again_id(turn, family, attempt) in turn.held for attempt in _attempts(turn))


def _attempts(turn: Turn) -> range:
    return range(1, turn.settings.exit_tries_max + 1)


def _again_id(turn: Turn, family: Family, attempt: int) -> str:
    return ids.family_id(turn.settings.fund, STOP_AGAIN + family.intent.intent_id, attempt)


def _next_attempt(turn: Turn, family: Family) -> int:
    """Return the number of the next stop to put back; 0: there were enough."""
    for attempt in _attempts(turn):
        intent_id = _again_id(turn, family, attempt)
        if intent_id not in turn.families and intent_id not in turn.done:
            return attempt
    return 0


# ---- mending


def _mend(turn: Turn, family: Family, wrong: Wrong, defect: Defect) -> None:
    session, intent_id = turn.session, family.intent.intent_id
    if session is None or turn.flatten:
        return  # what is being closed is not mended
    if wrong.placed is not None and wrong.placed[1].modifying is not None:
        _look_up(turn, wrong.placed, wrong.placed[1].modifying)
        return
    if turn.read_session != session.session_id or turn.read_begun_ns <= defect.since_ns:
        _ask(turn, intent_id, defect, session.session_id)
        return
    if wrong.qty < 0:
        turn.incident("closed_twice", intent_id, wrong.text)
        turn.put_family(msgspec.structs.replace(family, closed_beyond=-wrong.qty))
        return
    if obstacle := _obstacle(turn, family, wrong, defect):
        text = f"{wrong.text}; {obstacle}"
        if text != defect.alarmed:
            turn.defects = {**turn.defects, intent_id: msgspec.structs.replace(defect, alarmed=text)}
            turn.record("exits_wrong", intent_id, text)
            _alarm(turn, intent_id, text)
            turn.effects.append(Drive(QueryVenue(session.session_id, f"exits.{turn.now_ns}")))
        return
    tries = defect.tries + 1
    turn.defects = {**turn.defects, intent_id: Defect(turn.now_ns, tries, defect.alarmed)}
    turn.record("exits_mended", intent_id, f"{wrong.text}; try {tries}")
    if wrong.placed is None:
        place(turn, _stop_again(turn, family, wrong.qty), family.correlation_id)
    elif wrong.qty <= wrong.placed[1].cum_qty:
        why = f"{wrong.stands} stands" if wrong.stands else "nothing is left that it would close"
        cancel(turn, CancelOrders((wrong.placed[1].client_order_id,), why), superseded=True)
    else:
        _modify(turn, wrong.placed, wrong.qty, session.session_id)


def _ask(turn: Turn, intent_id: str, defect: Defect, session_id: str) -> None:
    """Have the venue read whole; not again before that had long to be answered."""
    if defect.asked_ns and turn.now_ns - defect.asked_ns < turn.settings.modify_shown_ns:
        return
    turn.count("exits_looked_up")
    turn.defects = {**turn.defects, intent_id: msgspec.structs.replace(defect, asked_ns=turn.now_ns)}
    turn.effects.append(Drive(QueryVenue(session_id, f"exits.{turn.now_ns}")))


def _obstacle(turn: Turn, family: Family, wrong: Wrong, defect: Defect) -> str:
    """Say why a person has to do it; empty: it can be done."""
    if defect.tries >= turn.settings.exit_tries_max:
        return f"not mended by {defect.tries} tries"
    if wrong.placed is not None:
        owner = wrong.placed[0]
        known = turn.generation is not None and owner.generation == turn.generation.text
        return "" if known else f"its order id is of generation {owner.generation}, and may be another order's now"
    if not turn.settings.replace_missing_stop:
        return "the settings say to put none back"
    if any(order.inactive for order in family.orders if order.leg is Leg.STOP_LOSS):
        return "its stop is inactive at the venue and may be revived"
    if not _next_attempt(turn, family):
        return f"put back {turn.settings.exit_tries_max} times"
    position = turn.positions.get(family.intent.symbol, FLAT).qty
    held = position if family.intent.side is Side.BUY else -position
    return "" if held >= wrong.qty else f"only {format_fixed8(held)} of {family.intent.symbol} is held that way"


def _modify(turn: Turn, placed: Placed, qty: int, session_id: str) -> None:
    owner, order = placed
    turn.count("exit_resized")
    changing = msgspec.structs.replace(order, modifying=Modifying(qty, turn.now_ns))
    _put(turn, owner, changing)
    ticket = msgspec.structs.replace(
        ticket_of(turn, owner, order, transmit=True), qty=qty, parent_order_id=0, oca_group=order.oca_group
    )
    turn.effects.append(Drive(ModifyOrder(session_id, ticket)))


def _look_up(turn: Turn, placed: Placed, change: Modifying) -> None:
    """A change that did not show in time: ask the venue for its list, once; the answer settles it."""
    assert turn.session is not None
    if turn.now_ns - change.since_ns < turn.settings.modify_shown_ns or change.looked_up:
        return
    turn.count("change_looked_up")
    owner, order = placed
    _put(turn, owner, msgspec.structs.replace(order, modifying=msgspec.structs.replace(change, looked_up=True)))
    turn.effects.append(Drive(QueryVenue(turn.session.session_id, f"exits.{turn.now_ns}")))


def _put(turn: Turn, family: Family, order: Order) -> None:
    orders = tuple(order if one.client_order_id == order.client_order_id else one for one in family.orders)
    turn.put_family(msgspec.structs.replace(family, orders=orders))


def _stop_again(turn: Turn, family: Family, qty: int) -> ExitIntent:
    intent = family.intent
    assert isinstance(intent, BracketIntent)
    grouped = any(order.oca_group and order.may_trade for order in family.orders[1:])
    attempt = _next_attempt(turn, family)
    turn.count("stop_put_back")
    return ExitIntent(
        intent_id=_again_id(turn, family, attempt),
        signal_id=STOP_AGAIN + intent.intent_id,
        strategy=intent.strategy,
        symbol=intent.symbol,
        side=Side.SELL if intent.side is Side.BUY else Side.BUY,
        qty=qty,
        limit_px=0,
        expires_ns=turn.now_ns + LIFETIME_NS,
        asked_by="",
        within=intent.intent_id if grouped else "",
        attempt=attempt,
        stop_px=intent.stop_px,
    )


def _forget(turn: Turn, intent_id: str) -> None:
    turn.effects.append(ClearAlarm(f"exits_wrong.{intent_id}"))
    turn.defects = {key: defect for key, defect in turn.defects.items() if key != intent_id}


def _alarm(turn: Turn, intent_id: str, text: str) -> None:
    turn.alarm(f"exits_wrong.{intent_id}", Severity.CRITICAL, text)
