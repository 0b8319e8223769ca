"""The one loop of every actor: receive, trace, reduce, journal, commit, effects.

Owns: an actor's `Core`. Consumes: envelopes (from other roles, the driver, timers). Emits: effects, after the append
that makes their cause durable, and never without it. Recovery: `recover()` folds snapshot and tail through the same
`advance` as the live loop, then feeds `Recovered`. If an append fails, no effect runs and the exception ends the
actor. Full: at most `WINDOW` owed messages are in flight to a role, the rest waits in the outbox, which is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from actors.core import Admission, Core, Step, admit, advance, new_core
from actors.effects import (
    AckStream,
    AppendLine,
    CancelTimer,
    ClearAlarm,
    Count,
    Drive,
    Effect,
    LatchHalt,
    Project,
    Publish,
    RaiseAlarm,
    Send,
    StartTimer,
)
from actors.messages import Acknowledged, AnyMessage, Envelope, JournalRecord, Recovered, TimerFired
from actors.ports import Entry, FaultPoint, LedgerCorrupt, Ports, Projection
from actors.role import Role
from actors.snapshot import SnapshotDamaged, decode_snapshot, encode_snapshot

S = TypeVar("S")

WINDOW = 64
"""Owed messages in flight to one role: what it can take in the time of an acknowledgement's way back, also where that
takes a busy actor's whole turn. The host puts those of one turn into few posts; posts have a credit of their own, for
the actor system stalls a sender at about twenty."""

RESEND_NS = 250_000_000
RESEND_TIMER = "shell.resend"

TRIM_EVERY = 32
"""Acknowledged messages of one role that one journal entry takes out of the outbox. An entry for each would be most of
a busy journal, and its fsyncs would stand before the orders'."""

SNAPSHOT_BYTES = 8 << 20
"""Journaled since the last snapshot, at which the next is due, however few the entries are: a whole reading of a busy
venue is a megabyte, and a thousand of them are all that the ledger may hold."""

TRIM_NS = 500_000_000
TRIM_TIMER = "shell.trim"

_encode = msgspec.json.Encoder().encode
_record_decoder = msgspec.json.Decoder(JournalRecord)


def _written(value: bytes | msgspec.Struct) -> bytes:
    return value if isinstance(value, bytes) else _encode(value)


class _Taken(msgspec.Struct, Generic[S], frozen=True, gc=False):
    """An envelope and what it comes to; `is_news` if that is to be journaled."""

    envelope: Envelope
    step: Step[S]
    is_news: bool
    received_ns: int


class Shell(Generic[S]):
    """An actor, given its role and its ports. Single-threaded; every method runs on the actor's thread."""

    def __init__(self, role: Role[S], ports: Ports, snapshot_every: int = 1000) -> None:
        self.role = role
        self.ports = ports
        self.snapshot_every = snapshot_every
        self.core: Core[S] = new_core(role)
        self.epoch = 0
        self.counters: dict[str, int] = {}
        self.replayed = 0
        self._snapshot_seq = self._bytes = 0
        self._sent_up_to: dict[str, int] = {}
        self._resend_stands = False
        self._heads: dict[str, int] = {}
        self._acked_up_to: dict[str, Envelope] = {}
        self._trim_stands = False
        self._volatile = 0

    # ---- recovery

    def recover(self) -> None:
        """Draw an epoch, fold what the ledger holds, and feed `Recovered`. Raises LedgerAway, LedgerCorrupt."""
        self.epoch = self.ports.ledger.acquire()
        self.core = self._fold_ledger()
        self._snapshot_seq = self.core.seq - self.replayed
        for name, kept in self.core.alarms.items():
            self.ports.alarms.keep_alarm(name, kept)
        self.take(self._local("shell", Recovered(self.epoch)))
        for target in self.core.outbox:
            self._pump(target)
        self._resend_later()

    def _fold_ledger(self) -> Core[S]:
        core = self._newest_snapshot()
        for seq, payload in self.ports.ledger.tail(core.seq):
            if seq != core.seq + 1:
                raise LedgerCorrupt(
                    f"{self.role.name}: journal goes from {core.seq} to {seq}; entries are missing. "
                    "Remedy: restore the ledger's append-only file, or start with --fresh"
                )
            record = _record_decoder.decode(payload)
            core = advance(self.role, core, record.input, record.now_ns, record.epoch).core
            if core.seq != seq:
                raise LedgerCorrupt(f"{self.role.name}: entry {seq} folds to nothing: not this program's journal")
            self.replayed += 1
            self._bytes += len(payload)
        return core

    def _newest_snapshot(self) -> Core[S]:
        for payload in self.ports.ledger.load().snapshots:
            try:
                return decode_snapshot(self.role, payload)
            except SnapshotDamaged:
                self.count("snapshot_damaged")
        return new_core(self.role)

    # ---- inputs

    def driver_event(self, body: AnyMessage, ts_event_ns: int = 0, correlation_id: str = "") -> None:
        """Take an event of the actor's own driver."""
        self.take(self.of_driver(body, ts_event_ns, correlation_id))

    def of_driver(self, body: AnyMessage, ts_event_ns: int = 0, correlation_id: str = "") -> Envelope:
        """Return an event of the actor's own driver as `take_all` takes it."""
        return self._local("driver", body, ts_event_ns, correlation_id)

    def shell_event(self, body: AnyMessage) -> None:
        """Take an event that the host itself saw (the halt latch)."""
        self.take(self._local("shell", body))

    def timer_fired(self, name: str) -> None:
        """A timer came due."""
        if name == RESEND_TIMER:
            self._resend()
        elif name == TRIM_TIMER:
            self._trim_stands = False
            for source in tuple(self._acked_up_to):
                self._trim(source)
        else:
            self.take(self._local("timer", TimerFired(name)))

    def peer_changed(self, role: str) -> None:
        """A new incarnation of `role` is there: what it is owed goes out again at once."""
        self._sent_up_to.pop(role, None)
        self._pump(role)

    def credit_returned(self, role: str) -> None:
        """The transport takes more for `role`: what it refused before goes on."""
        self._pump(role)

    def take(self, envelope: Envelope) -> None:
        """Receive → trace → reduce → append → commit → effects, for one envelope."""
        self.take_all((envelope,))

    def take_all(self, envelopes: Sequence[Envelope]) -> None:
        """As `take` of each in turn, but those that stand together are made durable at once, before any has an effect.

        A death in between is a death before all of them: nothing of theirs has left.
        """
        taken: list[_Taken[S]] = []
        core = self.core
        try:
            for envelope in envelopes:
                received_ns = self.ports.clock.now_ns()
                self._fault(FaultPoint.RECEIVE, envelope)
                # An address is a port: what was sent to a dead role's may reach whoever was given it since.
                to_me = envelope.target == self.role.name
                verdict = admit(core, envelope, self.epoch) if to_me else Admission.MISDIRECTED
                if verdict is Admission.ADMIT and not isinstance(envelope.body, Acknowledged):
                    step = advance(self.role, core, envelope, received_ns, self.epoch)
                    taken.append(_Taken(envelope, step, step.core is not core, received_ns))
                    core = step.core
                    continue
                settled, taken = taken, []
                self._settle(settled)
                self._take_apart(envelope, verdict, received_ns)
                core = self.core
        except Exception:
            # What was taken before one that fails stands, as it would have without it.
            self._settle(taken)
            raise
        self._settle(taken)

    def _take_apart(self, envelope: Envelope, verdict: Admission, received_ns: int) -> None:
        """Take what the reducer does not see: a refused envelope, or an acknowledgement."""
        outcome = verdict.value
        if verdict is Admission.ADMIT:
            assert isinstance(envelope.body, Acknowledged)
            self._acknowledged(envelope, envelope.body.delivery_seq)
            outcome = "handled"
        else:
            self.count(f"refused_{outcome}")
            if verdict is Admission.DUPLICATE:
                self._acknowledge(envelope)
        self.ports.tracer.hop(envelope, received_ns, self.ports.clock.now_ns(), outcome)

    def _settle(self, taken: list[_Taken[S]]) -> None:
        """Append → commit → effects."""
        if not taken:
            return
        self._append([one for one in taken if one.is_news])
        for one in taken:
            for effect in one.step.effects:
                self._run(effect, one.envelope)
            for target in dict.fromkeys(owed.target for owed in one.step.owed):
                self._pump(target)
            if one.step.owed:
                self._resend_later()
            if one.envelope.delivery_seq:
                self._acknowledge(one.envelope)
            self.ports.tracer.hop(one.envelope, one.received_ns, self.ports.clock.now_ns(), "handled")
        self._snapshot_if_due()

    def snapshot(self) -> None:
        """Save the state now. Raises as an append does."""
        self.ports.ledger.save_snapshot(self.core.seq, encode_snapshot(self.role, self.core))
        self._snapshot_seq, self._bytes = self.core.seq, 0

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter that the health aggregator reads."""
        self.counters[name] = self.counters.get(name, 0) + by

    def _snapshot_if_due(self) -> None:
        if self.core.seq - self._snapshot_seq >= self.snapshot_every or self._bytes >= SNAPSHOT_BYTES:
            self.snapshot()

    # ---- the steps

    def _append(self, taken: list[_Taken[S]]) -> None:
        if not taken:
            return
        for one in taken:
            self._fault(FaultPoint.BEFORE_APPEND, one.envelope)
        entries = [self._entry(one) for one in taken]
        self.ports.ledger.append(entries)
        self._bytes += sum(len(entry.record) for entry in entries)
        for one in taken:
            self._fault(FaultPoint.AFTER_APPEND, one.envelope)
        self.core = taken[-1].step.core

    def _entry(self, taken: _Taken[S]) -> Entry:
        seq = taken.step.core.seq
        record = JournalRecord(seq=seq, now_ns=taken.received_ns, epoch=self.epoch, input=taken.envelope)
        projections = tuple(
            Projection(effect.key_type, effect.symbol, effect.field, _written(effect.value))
            for effect in taken.step.effects
            if isinstance(effect, Project)
        )
        return Entry(seq, _encode(record), projections)

    def _run(self, effect: Effect, cause: Envelope) -> None:
        self._fault(FaultPoint.BEFORE_EFFECT, cause, type(effect).__name__)
        ports = self.ports
        match effect:
            case Send():
                self._send(self._envelope(effect, cause))
            case StartTimer(name=name, after_ns=after_ns):
                ports.timers.start(name, after_ns)
            case CancelTimer(name=name):
                ports.timers.cancel(name)
            case Drive(command=command):
                ports.driver.post(command)
            case Project():
                pass  # written with the append
            case AckStream(stream=stream, entry_id=entry_id):
                ports.bus.acknowledge(stream, entry_id)
            case Publish():
                ports.bus.publish(effect, cause)
            case AppendLine():
                ports.bus.append_line(effect, cause)
            case Count(name=name, by=by):
                self.count(name, by)
            case RaiseAlarm(name=name, severity=severity, text=text):
                kept = self.core.alarms.get(name) if effect.for_a_person else None
                if kept is not None:
                    ports.alarms.keep_alarm(name, kept)
                else:
                    ports.alarms.raise_alarm(name, severity, text)
            case ClearAlarm(name=name, why=why):
                ports.alarms.clear_alarm(name, why)
            case LatchHalt(reason=reason, flatten=flatten):
                assert ports.latch is not None, "no latch in this host"
                ports.latch.latch(reason, flatten)
        self._fault(FaultPoint.AFTER_EFFECT, cause, type(effect).__name__)

    # ---- delivery

    def _pump(self, target: str) -> None:
        """Send what is owed to `target` and not yet in flight, up to the window."""
        done = self._sent_up_to.get(target, 0)
        for envelope in self._unacknowledged(target, WINDOW):
            if envelope.delivery_seq > done:
                if not self._send(envelope):
                    return
                self._sent_up_to[target] = envelope.delivery_seq

    def _unacknowledged(self, target: str, count: int = 1) -> tuple[Envelope, ...]:
        """The first `count` owed to `target`, without what it has acknowledged and the journal not yet says so."""
        owed = self.core.outbox.get(target, ())
        acked = self._acked_up_to.get(target)
        if acked is None or not owed:
            return owed[:count]
        assert isinstance(acked.body, Acknowledged)
        start = max(acked.body.delivery_seq - owed[0].delivery_seq + 1, 0)
        return owed[start : start + count]

    def _acknowledged(self, envelope: Envelope, number: int) -> None:
        """Send no more of it, and let the next go; journal it with those to come, or soon.

        A death until then costs a delivery again, which its receiver knows and acknowledges.
        """
        source = envelope.source
        left = self._unacknowledged(source)
        if not left or number < left[0].delivery_seq:
            return
        self._acked_up_to[source] = envelope
        if number - self.core.outbox[source][0].delivery_seq + 1 >= TRIM_EVERY:
            self._trim(source)
        elif not self._trim_stands:
            self._trim_stands = True
            self.ports.timers.start(TRIM_TIMER, TRIM_NS)
        self._pump(source)

    def _trim(self, source: str) -> None:
        """Journal how far `source` has acknowledged."""
        envelope, now_ns = self._acked_up_to[source], self.ports.clock.now_ns()
        step = advance(self.role, self.core, envelope, now_ns, self.epoch)
        if step.core is not self.core:
            self._append([_Taken(envelope, step, True, now_ns)])
        del self._acked_up_to[source]
        self._snapshot_if_due()

    def _resend(self) -> None:
        """Send again where nothing was acknowledged since the timer began: a slow receiver is not to get all twice."""
        self._resend_stands = False
        for target in self.core.outbox:
            left = self._unacknowledged(target)
            if not left:
                continue
            if self._heads.get(target) == left[0].delivery_seq:
                self.count("resent_owed")
                self._sent_up_to.pop(target, None)
            self._pump(target)
        self._resend_later()

    def _resend_later(self) -> None:
        """Start the timer unless it runs: moved by each new message, it would never fire under steady traffic."""
        if self._resend_stands:
            return
        left = ((target, self._unacknowledged(target)) for target in self.core.outbox)
        self._heads = {target: owed[0].delivery_seq for target, owed in left if owed}
        if self._heads:
            self._resend_stands = True
            self.ports.timers.start(RESEND_TIMER, RESEND_NS)

    def _send(self, envelope: Envelope) -> bool:
        self._fault(FaultPoint.BEFORE_SEND, envelope)
        sent = self.ports.transport.send(envelope)
        if sent:
            self.ports.tracer.sent(envelope, self.ports.clock.now_ns())
        else:
            self.count("unaddressed")
        self._fault(FaultPoint.AFTER_SEND, envelope)
        return sent

    def _acknowledge(self, envelope: Envelope) -> None:
        self._fault(FaultPoint.BEFORE_ACK, envelope)
        body = Acknowledged(self.core.accepted.get(envelope.source, 0))
        self._send(self._envelope(Send(envelope.source, body), envelope))
        self._fault(FaultPoint.AFTER_ACK, envelope)

    def _envelope(self, send: Send, cause: Envelope) -> Envelope:
        self._volatile += 1
        return Envelope(
            message_id=f"{self.role.name}:e{self.epoch}.{self._volatile}",
            correlation_id=send.correlation_id or cause.correlation_id or cause.message_id,
            causation_id=cause.message_id,
            source=self.role.name,
            target=send.target,
            source_epoch=self.epoch,
            ts_init_ns=self.ports.clock.now_ns(),
            ts_event_ns=cause.ts_event_ns,
            body=send.body,
        )

    def _local(self, source: str, body: AnyMessage, ts_event_ns: int = 0, correlation_id: str = "") -> Envelope:
        self._volatile += 1
        message_id = f"{self.role.name}:e{self.epoch}.{source}.{self._volatile}"
        return Envelope(
            message_id=message_id,
            correlation_id=correlation_id or message_id,
            causation_id="",
            source=source,
            target=self.role.name,
            source_epoch=self.epoch,
            ts_init_ns=self.ports.clock.now_ns(),
            ts_event_ns=ts_event_ns,
            body=body,
        )

    def _fault(self, point: FaultPoint, envelope: Envelope, name: str = "") -> None:
        if self.ports.faults is not None:
            self.ports.faults.at(point, envelope, name or type(envelope.body).__name__)
