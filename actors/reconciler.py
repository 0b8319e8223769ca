"""The reconciler actor: compares what we believe with what the venue says, and holds the key to the gate.

Owns: the gate's lease, what is known to be absent at the venue, the divergences that stand. Consumes:
`BrokerSessionChanged` (owed), `PicturesTaken`, `ReconcileNow` (a person's), its timers. Emits: `ReadVenue`,
`GrantGate`, `RevokeGate` (at most once: a lease ends by itself), `ResolveIntent` (owed), alarms and lines about
divergences, the projection `reconcile`. It never places, cancels or "corrects" anything.

Invariants: the gate opens only after a complete read in this session and incarnation, with nothing unresolved and no
blocking divergence; it is renewed only while reads succeed. A failed query is neither flat nor absence. An intent is
settled only when each of its unresolved orders was absent from two complete reads of one session, a grace apart; so is
an order that worked and that the venue took back (`reconciler_absence`).

A divergence is raised at the first read that shows it, read again after `recheck_ns` (a fill may have run between
the answers to one read) and, if it still stands, shuts the gate where its kind opens risk on a wrong picture
(`blocking`; not with `divergence_shuts_gate = False`). It stays, across restarts, until a read clears it.

Cash and equity are counted from a baseline (`reconciler_money`), which is taken once for an account, and again when a
person accepts the account as it is (`ReconcileNow.accept_cash`); until a read can be compared, that wish stands.

Recovery: gate shut (the old lease runs out), alarms raised anew, the venue read at once. Full: `findings_max`
divergences are tracked, those beyond are counted.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from actors.effects import (
    CancelTimer,
    ClearAlarm,
    Count,
    Effect,
    Project,
    RaiseAlarm,
    Send,
    Severity,
    StartTimer,
)
from actors.messages import (
    AnyMessage,
    BrokerSessionChanged,
    Envelope,
    GrantGate,
    HaltChanged,
    OrderPicture,
    PicturesTaken,
    ReadVenue,
    ReconcileNow,
    Recovered,
    RevokeGate,
    TimerFired,
)
from actors.reconciler_absence import is_unsettled, settle
from actors.reconciler_findings import AGAIN_TIMER, alarm_of, compare, track
from actors.reconciler_money import compare_money, take_baseline
from actors.reconciler_state import (
    BLOCKING,
    SECOND_NS,
    ReconcilerSettings,
    ReconcilerState,
    gate_text,
    view_of,
)
from kernels.order_state import OrderState
from kernels.reconcile import FindingKind

GATE_TIMER, POSITIONS_TIMER, ORDERS_TIMER = "gate", "positions", "orders"
READ_TIMEOUT_TIMER = "read_timeout"
TIMERS = (GATE_TIMER, POSITIONS_TIMER, ORDERS_TIMER, READ_TIMEOUT_TIMER, AGAIN_TIMER)

ASKED = "asked."
"""How the request of a person's read begins; what follows is `ReconcileNow.asked_ns`."""

__all__ = ["Reconciler", "ReconcilerSettings", "ReconcilerState"]

ReconcilerInput = BrokerSessionChanged | PicturesTaken | ReconcileNow | TimerFired | Recovered | HaltChanged
Reduced = tuple[ReconcilerState, tuple[Effect, ...]]


class Reconciler:
    """The role; holds nothing but its settings."""

    schema_version = 1
    state_type = ReconcilerState

    def __init__(self, settings: ReconcilerSettings | None = None) -> None:
        self.settings = settings or ReconcilerSettings()

    @property
    def name(self) -> str:
        """Role name."""
        return self.settings.name

    def initial(self) -> ReconcilerState:
        """No session, gate shut."""
        return ReconcilerState()

    def show(self, state: ReconcilerState, now_ns: int) -> dict[str, str]:
        """Return what the console shows; `gate` first, with the reason where it is shut."""
        age = f"{max(0, now_ns - state.read_ns) / 1e9:.0f} s ago" if state.read_ns else "never"
        standing = sum(one.confirmed for one in state.findings.values())
        return {
            "gate": gate_text(state),
            "read": age,
            "divergences": str(standing),
            "absent": str(len(state.absences)),
        }

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        """There is no earlier version."""
        raise ValueError(f"{self.name}: no migration from schema version {schema_version}")

    def reduce(self, state: ReconcilerState, envelope: Envelope, now_ns: int) -> Reduced:
        """Fold one input; what changed is shown in the same append."""
        reduced, effects = self._reduce(state, envelope.body, now_ns)
        if reduced is state:
            return state, effects
        return reduced, (*effects, Project("reconcile", "all", "state", view_of(reduced, self._blocking)))

    @property
    def _blocking(self) -> frozenset[FindingKind]:
        return BLOCKING if self.settings.divergence_shuts_gate else frozenset()

    def _reduce(self, state: ReconcilerState, body: AnyMessage, now_ns: int) -> Reduced:
        if not isinstance(body, ReconcilerInput):
            return state, (Count("unexpected"),)
        match body:
            case BrokerSessionChanged():
                return self._session_changed(state, body, now_ns)
            case ReconcileNow():
                return self._asked(state, body)
            case PicturesTaken():
                return self._pictures(state, body, now_ns)
            case TimerFired(name=name):
                return self._timer(state, name, now_ns)
            case Recovered(epoch=epoch):
                return self._recovered(state, epoch, now_ns)
            case HaltChanged():
                return state, ()  # a halt is the broker's and the allocator's to obey; reading goes on
            case _:
                assert_never(body)

    # ---- sessions

    def _session_changed(self, state: ReconcilerState, told: BrokerSessionChanged, now_ns: int) -> Reduced:
        effects: list[Effect] = []
        if state.gate_open:
            effects.extend(self._revocations(state.session_id, "session changed"))
        changed = msgspec.structs.replace(
            state,
            session_id=told.session_id,
            account=told.account,
            read_ns=0,
            read_full_ns=0,
            gate_open=False,
            absences={},
        )
        if told.session_id:
            effects.extend(self._read(changed, now_ns))
            effects.append(StartTimer(POSITIONS_TIMER, self.settings.positions_every_ns))
            effects.append(StartTimer(ORDERS_TIMER, self.settings.orders_every_ns))
        else:
            effects.extend(CancelTimer(name) for name in TIMERS)
        return changed, tuple(effects)

    def _recovered(self, state: ReconcilerState, epoch: int, now_ns: int) -> Reduced:
        effects: list[Effect] = [alarm_of(tracked) for tracked in state.findings.values()]
        if state.epoch and not state.gate_open:
            effects.append(RaiseAlarm("gate", Severity.WARNING, "shut: it was before a restart"))
        # What this incarnation has not read itself it does not vouch for.
        recovered = msgspec.structs.replace(state, epoch=epoch, gate_open=False, read_ns=0, read_full_ns=0, absences={})
        if state.session_id:
            effects.extend(self._read(recovered, now_ns))
            effects.append(StartTimer(POSITIONS_TIMER, self.settings.positions_every_ns))
            effects.append(StartTimer(ORDERS_TIMER, self.settings.orders_every_ns))
        return recovered, tuple(effects)

    def _read(self, state: ReconcilerState, now_ns: int, positions_only: bool = False) -> tuple[Effect, ...]:
        request = ReadVenue(state.session_id, f"{state.epoch}.{now_ns}", positions_only)
        return (
            Send(self.settings.broker, request),
            StartTimer(READ_TIMEOUT_TIMER, self.settings.read_timeout_ns),
        )

    def _asked(self, state: ReconcilerState, ask: ReconcileNow) -> Reduced:
        """A person waits: read everything under a name that the answer brings back. Nothing to read: answer at once."""
        if ask.accept_cash and ask.asked_ns > state.accept_asked_ns:
            state = msgspec.structs.replace(state, accept_asked_ns=ask.asked_ns)
        if not state.session_id:
            return msgspec.structs.replace(state, answered_ns=ask.asked_ns), (Count("asked_without_session"),)
        read = ReadVenue(state.session_id, f"{ASKED}{ask.asked_ns}", positions_only=False)
        again = StartTimer(READ_TIMEOUT_TIMER, self.settings.read_timeout_ns)
        return state, (Count("asked"), Send(self.settings.broker, read), again)

    # ---- timers

    def _timer(self, state: ReconcilerState, name: str, now_ns: int) -> Reduced:
        if not state.session_id:
            return state, (Count("timer_without_session"),)
        match name:
            case "gate":
                return self._renew(state, now_ns)
            case "positions":
                # Until the orders were read too, a smaller question would only take that read's place.
                effects = self._read(state, now_ns, positions_only=state.read_full_ns != 0)
                return state, (*effects, StartTimer(POSITIONS_TIMER, self.settings.positions_every_ns))
            case "orders":
                return state, (*self._read(state, now_ns), StartTimer(ORDERS_TIMER, self.settings.orders_every_ns))
            case "again":
                return state, self._read(state, now_ns)
            case "read_timeout":
                text = "the venue was asked for its records and has not answered"
                alarm = RaiseAlarm("venue_read", Severity.WARNING, text)
                return state, (Count("read_unanswered"), alarm, *self._read(state, now_ns))
            case _:
                return state, (Count("unknown_timer"),)

    def _renew(self, state: ReconcilerState, now_ns: int) -> Reduced:
        if not state.gate_open:
            return state, ()
        age_ns = now_ns - state.read_ns
        if age_ns <= self.settings.read_age_ns_max:
            return state, self._grants(state, now_ns)
        reason = f"last good read is {age_ns // SECOND_NS} s old"
        shut = msgspec.structs.replace(state, gate_open=False, read_full_ns=0)
        return shut, (*self._revocations(state.session_id, reason), *self._read(shut, now_ns))

    # ---- the gate

    def _grants(self, state: ReconcilerState, now_ns: int) -> tuple[Effect, ...]:
        grant = GrantGate(state.session_id, state.epoch, now_ns + self.settings.gate_ttl_ns)
        return (*self._to_both(grant), StartTimer(GATE_TIMER, self.settings.gate_ttl_ns // 3))

    def _revocations(self, session_id: str, reason: str) -> tuple[Effect, ...]:
        alarm = RaiseAlarm("gate", Severity.WARNING, f"shut: {reason}")
        return (*self._to_both(RevokeGate(session_id, reason)), CancelTimer(GATE_TIMER), alarm, Count("gate_shut"))

    def _to_both(self, body: AnyMessage) -> tuple[Effect, ...]:
        return Send(self.settings.broker, body), Send(self.settings.allocator, body)

    # ---- reads

    def _pictures(self, state: ReconcilerState, pictures: PicturesTaken, now_ns: int) -> Reduced:
        read = pictures.read
        if not state.session_id or read.session_id != state.session_id:
            return state, (Count("pictures_of_another_session"),)
        if read.request_id.startswith(ASKED):
            state = msgspec.structs.replace(state, answered_ns=int(read.request_id.removeprefix(ASKED)))
        if read.failed:
            if read.failed != state.failed:
                state = msgspec.structs.replace(state, failed=read.failed)
            text = f"not answered: {', '.join(read.failed)}; nothing is concluded from this read"
            alarm = RaiseAlarm("venue_read", Severity.WARNING, text)
            again = StartTimer(AGAIN_TIMER, self.settings.recheck_ns)
            return state, (Count("read_failed"), alarm, CancelTimer(READ_TIMEOUT_TIMER), again)
        effects: list[Effect] = [CancelTimer(READ_TIMEOUT_TIMER), ClearAlarm("venue_read")]
        state = msgspec.structs.replace(state, read_ns=now_ns, request_id=read.request_id, failed=())
        found = compare(self.settings, state, pictures)
        if not read.positions_only:
            state = msgspec.structs.replace(state, read_full_ns=now_ns)
            state, more = settle(self.settings, state, pictures, found, now_ns)
            effects.extend(more)
        elif any(is_unsettled(order, read.taken_ns, self.settings.grace_ns) for order in pictures.orders):
            effects.append(StartTimer(AGAIN_TIMER, self.settings.recheck_ns))
        state, more = take_baseline(self.settings, state, pictures, now_ns)
        effects.extend(more)
        money = compare_money(self.settings, state, pictures)
        state, more = track(self.settings, state, read, found, money, now_ns)
        effects.extend(more)
        state, more = self._judge_gate(state, pictures.orders, now_ns)
        effects.extend(more)
        return state, tuple(effects)

    def _judge_gate(self, state: ReconcilerState, orders: tuple[OrderPicture, ...], now_ns: int) -> Reduced:
        blocking = [tracked for tracked in state.findings.values() if tracked.finding.kind in self._blocking]
        if state.gate_open:
            confirmed = next((tracked for tracked in blocking if tracked.confirmed), None)
            if confirmed is None:
                return state, ()
            reason = f"{confirmed.finding.key}: {confirmed.finding.evidence}"
            return msgspec.structs.replace(state, gate_open=False), self._revocations(state.session_id, reason)
        unknown = sum(order.state == OrderState.UNKNOWN for order in orders)
        if not state.read_full_ns or unknown or blocking:
            text = f"shut: {unknown} orders unknown, {len(blocking)} blocking divergences"
            again = StartTimer(AGAIN_TIMER, self.settings.grace_ns)
            return state, (RaiseAlarm("gate", Severity.WARNING, text), again)
        opened = msgspec.structs.replace(state, gate_open=True)
        return opened, (*self._grants(opened, now_ns), ClearAlarm("gate"), Count("gate_opened"))
