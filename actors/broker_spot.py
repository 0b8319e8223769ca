"""The spot broker: one immediate-or-cancel order after the other to the spot exchange, and what became of each.

Owns: our orders and executions there, what the account held when it was first read. Consumes: `PlaceSpotOrder` and
`RebaseSpotAccount` (owed), halts, its driver's reports. Emits: `SubmitSpotOrder`, `QuerySpotOrder`,
`CancelSpotOrder`, `ReadSpotAccount` to the driver; `SpotOrderDone`, `SpotGateChanged` (owed) and
`SpotBalancesChanged` to the executor; the projection `orders` of symbol `spot`.

Invariants: an order is journaled as `pre_sent`, with the session it goes out in, before a byte is written, and is
written at most once, ever: the exchange holds an id unique among open orders only, so that a second writing could fill
twice. What nobody can know is UNKNOWN and is looked up, by id and by trades: found, it is adopted; absent twice with
a grace between that is longer than a request is valid, it is expired. Executions alone fill, each once. Nothing goes
out but in a session whose account was read after everything unresolved was settled, nor, but to unwind, while the
account's totals are not the first ones plus our executions. Each order's end is told, once, and again if a later
fact changes it.

Recovery: `Recovered` ends the session; what was written and not acknowledged becomes UNKNOWN; the driver opens a new
session by itself. Full: beyond `ended_max` the oldest orders that are done are forgotten, beyond `trades_max` the
oldest trades; live orders are as many as the executor has open.
"""

from __future__ import annotations

from typing import assert_never

from actors.effects import ClearAlarm, Effect, Severity
from actors.messages import (
    Envelope,
    HaltChanged,
    PlaceSpotOrder,
    RebaseSpotAccount,
    Recovered,
    SpotAccountRead,
    SpotBalancesReported,
    SpotExecutionReported,
    SpotOrderNotSent,
    SpotOrderRead,
    SpotOrderRefused,
    SpotOrderReported,
    SpotOrderWritten,
    SpotOutcomeUnknown,
    SpotSessionLost,
    SpotSessionOpened,
    TimerFired,
)
from actors.spot_facts import (
    fold_account,
    fold_balances,
    fold_execution,
    fold_not_sent,
    fold_order,
    fold_order_read,
    fold_refused,
    fold_unknown,
    fold_written,
)
from actors.spot_state import SpotOrder, SpotSession, SpotSettings, SpotState
from actors.spot_turn import Turn
from kernels import ids

SpotInput = (
    PlaceSpotOrder
    | RebaseSpotAccount
    | HaltChanged
    | SpotSessionOpened
    | SpotSessionLost
    | SpotOrderWritten
    | SpotOrderNotSent
    | SpotOrderRefused
    | SpotOutcomeUnknown
    | SpotOrderReported
    | SpotExecutionReported
    | SpotBalancesReported
    | SpotOrderRead
    | SpotAccountRead
    | TimerFired
    | Recovered
)


class SpotBroker:
    """The role; holds nothing but its settings."""

    schema_version = 1
    state_type = SpotState

    def __init__(self, settings: SpotSettings | None = None) -> None:
        self.settings = settings or SpotSettings()

    @property
    def name(self) -> str:
        """Role name."""
        return self.settings.name

    def initial(self) -> SpotState:
        """Nothing known, gate shut."""
        return SpotState()

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        """There is no earlier version."""
        raise ValueError(f"{self.name}: no migration from schema version {schema_version}")

    def show(self, state: SpotState, now_ns: int) -> dict[str, str]:
        """Return what the console shows."""
        shown = {"session": state.session.account if state.session else "none"}
        shown["gate"] = f"shut: {state.gate.value}" if state.gate.value else "open"
        unknown = sum(order.out and order.state.value == "unknown" for order in state.live.values())
        shown |= {"orders": str(len(state.live) + len(state.ended)), "live": str(len(state.live))}
        return shown | {"unknown": str(unknown), "trades": str(len(state.trades))}

    def reduce(self, state: SpotState, envelope: Envelope, now_ns: int) -> tuple[SpotState, tuple[Effect, ...]]:
        """Fold one input."""
        turn = Turn(self.settings, state, now_ns)
        body = envelope.body
        if isinstance(body, SpotInput):
            _handle(turn, body, envelope.correlation_id or envelope.message_id)
        else:
            turn.count("unexpected")
        return turn.finish()


def _handle(turn: Turn, body: SpotInput, correlation_id: str) -> None:
    match body:
        case PlaceSpotOrder():
            _place(turn, body, correlation_id)
        case RebaseSpotAccount():
            turn.baseline = None
            turn.diverge("")
            turn.read_account()
        case HaltChanged(reason=reason):
            turn.halt = reason
        case SpotSessionOpened():
            _session_opened(turn, body)
        case SpotSessionLost():
            if _current(turn, body.session_id):
                turn.lose_session()
                turn.count("session_lost")
        case SpotOrderWritten():
            fold_written(turn, body)
        case SpotOrderNotSent():
            fold_not_sent(turn, body)
        case SpotOrderRefused():
            fold_refused(turn, body)
        case SpotOutcomeUnknown():
            fold_unknown(turn, body)
        case SpotOrderReported():
            fold_order(turn, body)  # a fact whichever session told it, as an execution is
        case SpotExecutionReported():
            fold_execution(turn, body)
        case SpotBalancesReported():
            if _current(turn, body.session_id):
                fold_balances(turn, body)
        case SpotOrderRead():
            if _current(turn, body.session_id):
                fold_order_read(turn, body)
        case SpotAccountRead():
            if _current(turn, body.session_id):
                fold_account(turn, body)
        case TimerFired():
            pass  # what time alone changes is looked at after every input
        case Recovered():
            turn.lose_session()
            if turn.diverged:
                turn.alarm("spot_diverged", Severity.CRITICAL, turn.diverged)
        case _:
            assert_never(body)


def _current(turn: Turn, session_id: str) -> bool:
    if turn.session is not None and turn.session.session_id == session_id:
        return True
    turn.count("another_session")
    return False


def _place(turn: Turn, place: PlaceSpotOrder, correlation_id: str) -> None:
    known = turn.find(place.client_order_id)
    if known is not None:
        turn.count("order_again")
        if known.place != place:
            turn.incident("id_again", place.client_order_id, "another order under an id that is used")
        return
    order = SpotOrder(place, turn.now_ns, turn.now_ns, correlation_id=correlation_id)
    if not ids.is_cycle_order_id(turn.settings.fund, place.client_order_id) or min(place.qty, place.limit_px) <= 0:
        turn.incident("order_unfit", place.client_order_id, f"qty {place.qty} at {place.limit_px}")
        turn.put(turn.gave_up(order, "unfit"))
        return
    turn.put(order)


def _session_opened(turn: Turn, opened: SpotSessionOpened) -> None:
    if turn.session is not None:
        turn.lose_session()
    ours = turn.settings.account or turn.account
    if ours and opened.account != ours:
        text = f"session is of account {opened.account}, ours is {ours}: not used"
        turn.alarm("spot_account", Severity.CRITICAL, text)
        turn.count("wrong_account")
        return
    turn.effects.append(ClearAlarm("spot_account"))
    turn.account = opened.account
    turn.session = SpotSession(opened.session_id, opened.account)
