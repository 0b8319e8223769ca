"""The reconciler actor: compares what we believe with what the venue says, and holds the key to the gate.

Owns: the gate's lease, what is known to be absent at the venue, the divergences that stand. Consumes:
`BrokerSessionChanged` (owed), `PicturesTaken`, its timers. Emits: `ReadVenue`, `GrantGate`, `RevokeGate` (at most
once: a lease ends by itself), `ResolveIntent` (owed), alarms and lines about divergences. It never places, cancels or
"corrects" anything.

Invariants: the gate opens only after a complete read in this session and incarnation, with nothing unresolved and no
blocking divergence; it is renewed only while reads succeed. A failed query is neither flat nor absence. An intent is
settled only when each of its unresolved orders was absent from two complete reads of one session, a grace apart.

A divergence is raised at the first read that shows it, read again after `recheck_ns` (a fill may have run between
the answers to one read) and, if it still stands, shuts the gate where its kind opens risk on a wrong picture
(`blocking`; not with `divergence_shuts_gate = False`). It stays, across restarts, until a read clears it.

Recovery: gate shut (the old lease runs out), alarms raised anew, the venue read at once. Full: `findings_max`
divergences are tracked, those beyond are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

import msgspec

from actors.effects import (
    AppendLine,
    CancelTimer,
    ClearAlarm,
    Count,
    Effect,
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
    IncidentRecorded,
    OrderPicture,
    PicturesTaken,
    ReadVenue,
    Recovered,
    Resolution,
    ResolveIntent,
    RevokeGate,
    TimerFired,
    VenueRead,
)
from kernels import ids
from kernels.order_state import UNRESOLVED, OrderState
from kernels.reconcile import (
    Finding,
    FindingKind,
    OurOrder,
    TheirOrder,
    absent,
    compare_orders,
    compare_positions,
)

SECOND_NS = 1_000_000_000
GATE_TIMER, POSITIONS_TIMER, ORDERS_TIMER = "gate", "positions", "orders"
READ_TIMEOUT_TIMER, AGAIN_TIMER = "read_timeout", "again"
TIMERS = (GATE_TIMER, POSITIONS_TIMER, ORDERS_TIMER, READ_TIMEOUT_TIMER, AGAIN_TIMER)

BLOCKING = frozenset({FindingKind.POSITION, FindingKind.TWO_PERM_IDS, FindingKind.MISSING_HERE})


class ReconcilerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`gate_ttl_ns` is how long a dead reconciler keeps the gate open at most."""

    name: str = "reconciler"
    fund: str = "apex"
    broker: str = "broker.paper"
    allocator: str = "allocator"
    gate_ttl_ns: int = 15 * SECOND_NS
    read_age_ns_max: int = 75 * SECOND_NS
    positions_every_ns: int = 30 * SECOND_NS
    orders_every_ns: int = 300 * SECOND_NS
    read_timeout_ns: int = 15 * SECOND_NS
    grace_ns: int = 3 * SECOND_NS
    recheck_ns: int = 2 * SECOND_NS
    divergence_shuts_gate: bool = True
    ignored_symbols: tuple[str, ...] = ()
    findings_max: int = 256


class Tracked(msgspec.Struct, frozen=True):
    """A divergence that stands; `confirmed` once two reads in a row have shown it."""

    finding: Finding
    since_ns: int
    confirmed: bool = False


class Absence(msgspec.Struct, frozen=True):
    """First complete read in which an intent's unresolved orders were absent."""

    session_id: str
    first_ns: int


class ReconcilerState(msgspec.Struct, frozen=True):
    """`read_full_ns` is the last complete read of this session (0: none yet), `read_ns` the last of any kind."""

    epoch: int = 0
    session_id: str = ""
    account: str = ""
    read_ns: int = 0
    read_full_ns: int = 0
    gate_open: bool = False
    absences: Mapping[str, Absence] = {}
    findings: Mapping[str, Tracked] = {}


ReconcilerInput = BrokerSessionChanged | PicturesTaken | TimerFired | Recovered | HaltChanged
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
        standing = [one.finding for one in state.findings.values() if one.confirmed]
        if state.gate_open:
            gate = "open"
        elif not state.session_id:
            gate = "shut: no broker session"
        elif state.read_full_ns == 0:
            gate = "shut: the venue has not been read in this session"
        else:
            gate = "shut: " + ("divergence" if standing else "unresolved orders")
        age = f"{max(0, now_ns - state.read_ns) / 1e9:.0f} s ago" if state.read_ns else "never"
        return {"gate": gate, "read": age, "divergences": str(len(standing)), "absent": str(len(state.absences))}

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        """There is no earlier version."""
        raise ValueError(f"{self.name}: no migration from schema version {schema_version}")

    def reduce(self, state: ReconcilerState, envelope: Envelope, now_ns: int) -> Reduced:
        """Fold one input."""
        body = envelope.body
        if not isinstance(body, ReconcilerInput):
            return state, (Count("unexpected"),)
        match body:
            case BrokerSessionChanged():
                return self._session_changed(state, body, now_ns)
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
        effects: list[Effect] = [_alarm(tracked) for tracked in state.findings.values()]
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
        if read.failed:
            text = f"not answered: {', '.join(read.failed)}; nothing is concluded from this read"
            alarm = RaiseAlarm("venue_read", Severity.WARNING, text)
            again = StartTimer(AGAIN_TIMER, self.settings.recheck_ns)
            return state, (Count("read_failed"), alarm, CancelTimer(READ_TIMEOUT_TIMER), again)
        effects: list[Effect] = [CancelTimer(READ_TIMEOUT_TIMER), ClearAlarm("venue_read")]
        state = msgspec.structs.replace(state, read_ns=now_ns)
        if not read.positions_only:
            state = msgspec.structs.replace(state, read_full_ns=now_ns)
            state, more = self._settle(state, pictures, now_ns)
            effects.extend(more)
        elif any(_is_unsettled(order, read.taken_ns, self.settings.grace_ns) for order in pictures.orders):
            effects.append(StartTimer(AGAIN_TIMER, self.settings.recheck_ns))
        state, more = self._track(state, pictures, now_ns)
        effects.extend(more)
        state, more = self._judge_gate(state, pictures.orders, now_ns)
        effects.extend(more)
        return state, tuple(effects)

    def _settle(self, state: ReconcilerState, pictures: PicturesTaken, now_ns: int) -> Reduced:
        """Find intents whose unresolved orders are absent; the second time, a grace later, settle them."""
        read, settings = pictures.read, self.settings
        theirs = _their_orders(read)
        executed = tuple((execution.client_order_id, execution.perm_id) for execution in read.executions)
        families: dict[str, list[OrderPicture]] = {}
        for order in pictures.orders:
            families.setdefault(order.intent_id, []).append(order)
        absences: dict[str, Absence] = {}
        effects: list[Effect] = []
        for intent_id, orders in families.items():
            unsettled = [order for order in orders if _is_unsettled(order, read.taken_ns, settings.grace_ns)]
            if not unsettled or not all(
                absent(order.client_order_id, order.perm_id, theirs, executed) for order in unsettled
            ):
                continue
            first = state.absences.get(intent_id)
            if first is None or read.taken_ns - first.first_ns < settings.grace_ns:
                absences[intent_id] = first or Absence(read.session_id, read.taken_ns)
                continue
            resolution = _resolution(orders, unsettled, now_ns)
            evidence = f"absent at {first.first_ns} and {read.taken_ns}: {len(unsettled)} of {len(orders)} orders"
            resolve = ResolveIntent(intent_id, read.session_id, resolution, evidence)
            effects += [Send(settings.broker, resolve, owed=True), Count(f"resolved_{resolution.value}")]
        if effects or absences:
            effects.append(StartTimer(AGAIN_TIMER, settings.grace_ns))
        if absences != state.absences:
            state = msgspec.structs.replace(state, absences=absences)
        return state, tuple(effects)

    def _track(self, state: ReconcilerState, pictures: PicturesTaken, now_ns: int) -> Reduced:
        """Raise what is new, confirm what still stands, clear what is gone."""
        found = {finding.key: finding for finding in self._compare(pictures)}
        about = {FindingKind.POSITION} if pictures.read.positions_only else set(FindingKind)
        findings: dict[str, Tracked] = {}
        effects: list[Effect] = []
        for key, tracked in state.findings.items():
            if tracked.finding.kind not in about:
                findings[key] = tracked
            elif key not in found:
                line = IncidentRecorded("divergence_cleared", key, tracked.finding.evidence)
                effects += [ClearAlarm(f"divergence.{key}"), AppendLine("divergences", line), Count("cleared")]
        for key, finding in found.items():
            old = state.findings.get(key)
            if old is None and len(findings) >= self.settings.findings_max:
                effects.append(Count("finding_untracked"))
                continue
            findings[key] = Tracked(finding, old.since_ns if old else now_ns, old is not None)
            if old is None:
                line = IncidentRecorded(f"divergence.{finding.kind}", finding.subject, finding.evidence)
                effects += [AppendLine("divergences", line), Count(f"divergence.{finding.kind}")]
            if findings[key] != old:
                effects.append(_alarm(findings[key]))
        if any(not tracked.confirmed for tracked in findings.values()):
            effects.append(StartTimer(AGAIN_TIMER, self.settings.recheck_ns))
        if findings != state.findings:
            state = msgspec.structs.replace(state, findings=findings)
        return state, tuple(effects)

    def _compare(self, pictures: PicturesTaken) -> tuple[Finding, ...]:
        read = pictures.read
        positions = compare_positions(
            ((position.symbol, position.qty) for position in pictures.positions),
            ((position.symbol, position.qty) for position in read.positions),
            frozenset(self.settings.ignored_symbols),
        )
        if read.positions_only:
            return positions
        ours = tuple(_our_order(order) for order in pictures.orders)
        return (*compare_orders(ours, _their_orders(read), ids.fund_tag(self.settings.fund)), *positions)

    def _judge_gate(self, state: ReconcilerState, orders: tuple[OrderPicture, ...], now_ns: int) -> Reduced:
        blocking = [
            tracked
            for tracked in state.findings.values()
            if self.settings.divergence_shuts_gate and tracked.finding.kind in BLOCKING
        ]
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


def _is_unsettled(order: OrderPicture, taken_ns: int, grace_ns: int) -> bool:
    """UNKNOWN at once; one in flight in a living session only when the venue has been silent about it for long."""
    if order.state == OrderState.UNKNOWN:
        return True
    return order.state in UNRESOLVED and taken_ns - order.since_ns >= grace_ns


def _resolution(orders: list[OrderPicture], unsettled: list[OrderPicture], now_ns: int) -> Resolution:
    """Only a family of which nothing is at the venue, sent once and still wanted, may be sent again."""
    whole = len(unsettled) == len(orders)
    fresh = all(order.resends == 0 and now_ns < order.expires_ns for order in orders)
    return Resolution.RESEND_SAME_ID if whole and fresh else Resolution.EXPIRE


def _alarm(tracked: Tracked) -> RaiseAlarm:
    finding = tracked.finding
    severity = Severity.CRITICAL if tracked.confirmed else Severity.WARNING
    return RaiseAlarm(f"divergence.{finding.key}", severity, finding.evidence)


def _our_order(order: OrderPicture) -> OurOrder:
    return OurOrder(
        client_order_id=order.client_order_id,
        state=OrderState(order.state),
        symbol=order.symbol,
        qty=order.qty,
        cum_qty=order.cum_qty,
        perm_id=order.perm_id,
        limit_px=order.limit_px,
        stop_px=order.stop_px,
    )


def _their_orders(read: VenueRead) -> tuple[TheirOrder, ...]:
    return tuple(
        TheirOrder(
            client_order_id=report.client_order_id,
            perm_id=report.perm_id,
            status=report.status,
            symbol=report.symbol,
            qty=report.qty,
            filled_qty=report.filled_qty,
            completed=completed,
            limit_px=report.limit_px,
            stop_px=report.stop_px,
        )
        for completed, reports in ((False, read.open_orders), (True, read.completed_orders))
        for report in reports
    )
