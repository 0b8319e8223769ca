"""The broker actor: intents out, the venue's claims in.

Owns: our orders, executions and positions at one account, the ids drawn for them, the intents held back.
Consumes: `PlaceBracket`, `PlaceExit`, `CancelOrders`, `CloseWithStop` and `ResolveIntent` (owed), gate grants, halts,
its driver's reports. Emits: `SubmitOrders`, `ModifyOrder`, `CancelVenueOrder`, `QueryVenue` and `ReadContract` to the
driver; `IntentOutcome` and `StopStands` (owed) to who asked; `OrderChanged`, `PositionChanged`, `BracketClosed` (owed)
to the allocator and the watchers; `BrokerSessionChanged` (owed) and `PicturesTaken` to the reconciler; projections
`orders`, `positions`.

Invariants: orders are journaled as `pre_sent`, with account, client id, venue order ids and generation, before any
byte is written; an intent is written at most once, plus at most one resend that the reconciler settled; ids are
never drawn twice; executions alone fill; what nobody can know is UNKNOWN; each intent gets one `IntentOutcome`.
A venue's refusal of an order is not an intent's refusal: the outcome is `submitted` because it went out, and the
orders' states tell the rest.

Recovery: `Recovered` ends the session and shuts the gate in the state too; what was not acknowledged becomes
UNKNOWN; the driver opens a new session by itself. A gate grant is part of the state, so each renewal costs one
journal entry: the fold must know under which lease an order left.

Full: held intents beyond `held_max` are refused; closed families beyond `families_max` are pruned oldest first
(open ones block placing instead); fills beyond `fills_max` are folded into positions; each is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from typing import assert_never

import msgspec

from actors.broker_at_market import AT_MARKET_TIMER, close_with_stop, look_up_refused, turn_on
from actors.broker_cancels import CANCEL_TIMER, cancel, cancel_again
from actors.broker_entries import contract_read, our_cash, read_ahead
from actors.broker_exits import EXITS_TIMER, alarm_exits_again, mend_exits, watch_exits
from actors.broker_facts import fold_commission, fold_error, fold_execution, fold_read, fold_report
from actors.broker_intents import (
    AT_ONCE,
    HELD_TIMER,
    STUCK_TIMER,
    lose_session,
    not_sent,
    place,
    refused_unsent,
    release_held,
    resolve,
    stuck,
    wake_for_held,
    written,
)
from actors.broker_readback import alarm_again
from actors.broker_state import BrokerSettings, BrokerState, Family, Gate, Generation, Order, Session, name_kinds
from actors.broker_turn import Turn
from actors.broker_vanished import alarm_vanished_again, take_back
from actors.broker_watch import (
    WATCH_TIMER,
    session_began,
    session_ended,
    show_uptime,
    told_error,
    watch,
    watcher_recovered,
)
from actors.effects import ClearAlarm, Drive, Effect, Send, Severity, StartTimer
from actors.messages import (
    BrokerSessionChanged,
    CancelOrders,
    CloseWithStop,
    CommissionReported,
    ContractRead,
    Envelope,
    ExecutionReported,
    GrantGate,
    HaltChanged,
    OrderPicture,
    OrderReported,
    OrdersShown,
    PicturesTaken,
    PlaceBracket,
    PlaceExit,
    QueryVenue,
    ReadVenue,
    Recovered,
    ResolveIntent,
    RevokeGate,
    SessionLost,
    SessionOpened,
    ShowOrders,
    SubmitNotSent,
    SubmitRefused,
    SubmitWritten,
    TimerFired,
    VenueErrorReported,
    VenuePosition,
    VenueRead,
)
from kernels.order_state import UNRESOLVED, WORKING
from kernels.positions import average_px, split_exec_id
from kernels.reconcile import OurFill

BrokerInput = (
    PlaceBracket
    | PlaceExit
    | CancelOrders
    | CloseWithStop
    | GrantGate
    | RevokeGate
    | HaltChanged
    | SessionOpened
    | SessionLost
    | SubmitWritten
    | SubmitNotSent
    | SubmitRefused
    | ContractRead
    | OrderReported
    | ExecutionReported
    | CommissionReported
    | VenueErrorReported
    | VenueRead
    | ReadVenue
    | ShowOrders
    | ResolveIntent
    | TimerFired
    | Recovered
)


class Broker:
    """The role; holds nothing but its settings."""

    schema_version = 2
    state_type = BrokerState

    def __init__(self, settings: BrokerSettings | None = None) -> None:
        self.settings = settings or BrokerSettings()

    @property
    def name(self) -> str:
        """Role name."""
        return self.settings.name

    def initial(self) -> BrokerState:
        """Nothing known, gate shut."""
        return BrokerState()

    def show(self, state: BrokerState, now_ns: int) -> dict[str, str]:
        """Return what the console shows."""
        session, gate = state.session, state.gate
        shown = {"session": f"{session.account} client {session.client_id}" if session is not None else "none"}
        open_s = 0.0 if gate is None else (gate.expires_ns - now_ns) / 1e9
        shown["gate"] = f"open for {open_s:.0f} s more" if open_s > 0 else "shut"
        states = Counter(order.state for family in state.families.values() for order in family.orders)
        unresolved = sum(count for order_state, count in states.items() if order_state in UNRESOLVED)
        working = sum(count for order_state, count in states.items() if order_state in WORKING)
        shown |= {"working": str(working), "unresolved": str(unresolved), "held": str(len(state.held))}
        return shown | show_uptime(state.uptime, now_ns, self.settings.planned)

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        """Version 1 knew brackets only, and did not name their kind. Raises ValueError (any other version)."""
        if schema_version != 1:
            raise ValueError(f"{self.name}: no migration from schema version {schema_version}")
        return name_kinds(state)

    def reduce(self, state: BrokerState, envelope: Envelope, now_ns: int) -> tuple[BrokerState, tuple[Effect, ...]]:
        """Fold one input."""
        turn = Turn(self.settings, state, now_ns)
        body = envelope.body
        if isinstance(body, BrokerInput):
            _handle(turn, body, envelope.correlation_id or envelope.message_id)
            watch_exits(turn)
        else:
            turn.count("unexpected")
        return turn.finish()


def _handle(turn: Turn, body: BrokerInput, correlation_id: str) -> None:
    match body:
        case PlaceBracket(intent=intent) | PlaceExit(intent=intent):
            place(turn, intent, correlation_id)
        case CancelOrders():
            cancel(turn, body)
        case CloseWithStop():
            close_with_stop(turn, body)
        case GrantGate():
            _granted(turn, body)
        case RevokeGate():
            _revoked(turn, body)
        case HaltChanged(reason=reason, flatten=flatten):
            turn.halt, turn.flatten = reason, flatten
            release_held(turn)
        case SessionOpened():
            _session_opened(turn, body)
        case SessionLost():
            _session_lost(turn, body)
        case SubmitWritten():
            written(turn, body)
        case SubmitNotSent():
            not_sent(turn, body)
        case SubmitRefused():
            refused_unsent(turn, body)
        case ContractRead():
            if _current(turn, body.session_id):
                contract_read(turn, body)
                release_held(turn)
        case OrderReported():
            if _current(turn, body.session_id):
                fold_report(turn, body)
        case ExecutionReported():
            fold_execution(turn, body)  # a fact whichever session told it
        case CommissionReported():
            fold_commission(turn, body)
        case VenueErrorReported():
            fold_error(turn, body)
            look_up_refused(turn, body)
            told_error(turn, body.code)
        case VenueRead():
            if _current(turn, body.session_id):
                fold_read(turn, body)
                turn_on(turn)
                pictures = _pictures(turn, body)
                turn.effects.append(Send(turn.settings.reconciler, pictures))
                if turn.flatten:
                    turn.effects.append(Send(turn.settings.risk, pictures))
        case ReadVenue():
            session_id = body.session_id or (turn.session.session_id if turn.session is not None else "")
            if _current(turn, session_id):
                turn.effects.append(Drive(QueryVenue(session_id, body.request_id, body.positions_only)))
        case ShowOrders(asked_by=asked_by, request_id=request_id):
            session_id = turn.session.session_id if turn.session is not None else ""
            turn.effects.append(Send(asked_by, OrdersShown(request_id, session_id, _orders(turn), _positions(turn))))
        case ResolveIntent(client_order_ids=()):
            resolve(turn, body)
        case ResolveIntent():
            take_back(turn, body)
        case TimerFired(name=name):
            _timer(turn, name)
        case Recovered():
            _recovered(turn)
        case _:
            assert_never(body)


def _current(turn: Turn, session_id: str) -> bool:
    if turn.session is not None and turn.session.session_id == session_id:
        return True
    turn.count("another_session")
    return False


# ---- gate


def _granted(turn: Turn, grant: GrantGate) -> None:
    if grant.reconciler_epoch < turn.gate_epoch:
        turn.count("grant_of_stale_reconciler")
    elif _current(turn, grant.session_id) and turn.now_ns < grant.expires_ns:
        turn.gate_epoch = grant.reconciler_epoch
        turn.gate = Gate(grant.session_id, grant.expires_ns)
        release_held(turn)


def _revoked(turn: Turn, revoke: RevokeGate) -> None:
    if turn.gate is not None and turn.gate.session_id == revoke.session_id:
        turn.gate = None
        turn.count("gate_revoked")


# ---- sessions


def _session_opened(turn: Turn, opened: SessionOpened) -> None:
    if turn.session is not None:
        lose_session(turn)
    if turn.settings.account and opened.account != turn.settings.account:
        text = f"session is of account {opened.account}, configured is {turn.settings.account}: not used"
        turn.alarm("account", Severity.CRITICAL, text)
        turn.count("wrong_account")
        return
    turn.effects.append(ClearAlarm("account"))
    turn.session = Session(opened.session_id, opened.account, opened.client_id)
    session_began(turn)
    turn.gate = None
    turn.contracts = {}
    turn.generation = _generation(turn, opened)
    turn.next_order_id = max(turn.next_order_id, opened.next_order_id, opened.venue_next_order_id)
    changed = BrokerSessionChanged(opened.session_id, opened.account, opened.next_order_id)
    turn.owe(turn.settings.reconciler, changed)
    read_ahead(turn)
    wake_for_held(turn)
    if turn.cancels:
        cancel_again(turn)


def _generation(turn: Turn, opened: SessionOpened) -> Generation:
    """Return the present generation, or the next one if the venue's ids may have rolled back or are another's."""
    old, next_id = turn.generation, opened.venue_next_order_id or opened.next_order_id
    if old is None:
        return Generation(1, opened.account, opened.client_id, next_id)
    same_client = (old.account, old.client_id) == (opened.account, opened.client_id)
    if same_client and next_id >= old.venue_next_id and next_id > old.acknowledged_id:
        return msgspec.structs.replace(old, venue_next_id=next_id)
    turn.count("generation_changed")
    return Generation(old.number + 1, opened.account, opened.client_id, next_id)


def _session_lost(turn: Turn, lost: SessionLost) -> None:
    if _current(turn, lost.session_id):
        lose_session(turn)
        turn.owe(turn.settings.reconciler, BrokerSessionChanged("", ""))
        turn.count(f"session_lost_in_{turn.window}" if turn.window else "session_lost")
        session_ended(turn)


def _recovered(turn: Turn) -> None:
    if turn.session is not None:
        turn.owe(turn.settings.reconciler, BrokerSessionChanged("", ""))
    lose_session(turn)
    watcher_recovered(turn)
    wake_for_held(turn)
    alarm_again(turn)
    alarm_exits_again(turn)
    alarm_vanished_again(turn)
    if _unresolved(turn):
        turn.effects.append(StartTimer(STUCK_TIMER, turn.settings.stuck_after_ns))
    if turn.cancels:
        turn.effects.append(StartTimer(CANCEL_TIMER, turn.settings.cancel_again_ns))
    turn_on(turn)


# ---- timers


def _timer(turn: Turn, name: str) -> None:
    if name == HELD_TIMER:
        release_held(turn)
    elif name == STUCK_TIMER:
        _check_stuck(turn)
    elif name == EXITS_TIMER:
        mend_exits(turn)
    elif name == CANCEL_TIMER:
        cancel_again(turn)
    elif name == AT_MARKET_TIMER:
        turn_on(turn)
    elif name == WATCH_TIMER:
        watch(turn)
    else:
        turn.count("unknown_timer")


def _check_stuck(turn: Turn) -> None:
    names = stuck(turn)
    if names and not turn.window:
        turn.count("stuck")
        text = f"{len(names)} orders without the venue's word, first {names[0]}"
        turn.alarm("order_stuck", Severity.WARNING, text)
    else:
        turn.effects.append(ClearAlarm("order_stuck"))
    if _unresolved(turn):
        turn.effects.append(StartTimer(STUCK_TIMER, turn.settings.stuck_after_ns))


def _unresolved(turn: Turn) -> bool:
    return any(order.state in UNRESOLVED for family in turn.families.values() for order in family.orders)


# ---- pictures


def _pictures(turn: Turn, read: VenueRead) -> PicturesTaken:
    """Our side of what the read can speak of: open families, and any order that the read names."""
    named = {report.client_order_id for report in (*read.open_orders, *read.completed_orders)}
    fills = () if read.positions_only else _fills(turn, read)
    followed = tuple(external.perm_id for external in turn.externals.values())
    return PicturesTaken(
        read, _orders(turn, named), _positions(turn), fills, turn.absorbed_ts_ns, followed, our_cash(turn)
    )


def _fills(turn: Turn, read: VenueRead) -> tuple[OurFill, ...]:
    """Those that the read names, and those of which no commission was told."""
    named = {split_exec_id(execution.exec_id)[0] for execution in read.executions}
    return tuple(
        OurFill(base, fill.revision, fill.symbol, fill.qty, fill.px, fill.ts_event_ns, bool(fill.currency))
        for base, fill in turn.fills.items()
        if base in named or not fill.currency
    )


def _orders(turn: Turn, named: Set[str] = frozenset()) -> tuple[OrderPicture, ...]:
    return tuple(
        _picture(turn, family, order)
        for family in turn.families.values()
        for order in family.orders
        if not family.closed or order.client_order_id in named
    )


def _positions(turn: Turn) -> tuple[VenuePosition, ...]:
    account = turn.session.account if turn.session else ""
    return tuple(
        VenuePosition(account, symbol, position.qty, average_px(position), position.commission)
        for symbol, position in turn.positions.items()
        if position.qty
    )


def _picture(turn: Turn, family: Family, order: Order) -> OrderPicture:
    intent, settings = family.intent, turn.settings
    return OrderPicture(
        client_order_id=order.client_order_id,
        intent_id=intent.intent_id,
        symbol=intent.symbol,
        side=order.side,
        leg=order.leg,
        state=order.state.value,
        qty=order.qty,
        cum_qty=order.cum_qty,
        venue_order_id=order.venue_order_id,
        perm_id=order.perm_id,
        generation=family.generation,
        since_ns=order.since_ns,
        resends=family.resends,
        expires_ns=intent.expires_ns,
        limit_px=order.limit_px,
        stop_px=order.stop_px,
        oca_group=order.oca_group,
        order_type=order.order_type.value,
        time_in_force=settings.entry_time_in_force if order.leg in AT_ONCE else settings.exit_time_in_force,
        bracket_id=turn.bracket_id(intent),
    )
