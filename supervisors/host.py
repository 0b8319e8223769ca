"""The process of one leaf actor: between the actor system and the shell.

Owns: the process's lifeline, its transport credit, timers, alarms, and the watch of its driver. Consumes: lifecycle
messages of its supervisor, envelopes of other roles, its driver's events. Recovery: none of its own; the shell's.
Ends the process, never limps on: an exception anywhere writes an exit note that says why and kills the process.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from loguru import logger

from actors.adapters.acknowledged import AcknowledgedFile
from actors.adapters.alarms import AlarmTable
from actors.adapters.assembly import Assembly, BeatReturned, BuildContext, Builder
from actors.adapters.clock import SystemClock
from actors.adapters.health import HealthBoard, HealthReport
from actors.adapters.identity import IdentityFile
from actors.adapters.logs import log_to_file
from actors.kept_alarms import is_seen
from actors.messages import AnyMessage, Envelope, HaltChanged
from actors.ports import Fenced, LedgerAway, Ports
from actors.shell import Shell
from supervisors.crash_only import CrashOnlyActor
from supervisors.exit_note import ExitNote, write_exit_note
from supervisors.host_transport import HostTimers, HostTransport, NoDriver
from supervisors.lifecycle import (
    Beat,
    BeatAnswered,
    Hatched,
    Peer,
    Peers,
    PeerUp,
    Post,
    Seen,
    Serving,
    StartActor,
    StopActor,
)
from supervisors.lifeline import ProcessIdentity, die_with_parent
from supervisors.spec import ExitReason

HALT_POLL_S = 0.2
SWITCH_S = 0.0005
"""How long an actor's loop and its driver's thread keep each other waiting; Python's 5 ms is more than an order has."""
HEALTH_EVERY_S = 1.0
TOGETHER_MAX = 16
"""Events of the driver that wait already and are made durable at once; more would hold up the first one's news."""


class HostLatch:
    """The halt latch in the identity file, latched in a role's name."""

    def __init__(self, identity: IdentityFile, role: str) -> None:
        self._identity, self._role = identity, role

    def latch(self, reason: str, flatten: bool) -> None:
        """Two fsyncs. Raises IdentityDamaged, IdentityBusy: the role ends, and asks again when it is back."""
        if flatten:
            self._identity.order_flatten(reason, self._role)
        else:
            self._identity.latch_halt(reason, self._role)


class ActorHost(CrashOnlyActor):
    """One leaf actor. Everything it does begins with `StartActor`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._start: StartActor | None = None
        self.ignored: dict[str, int] = {}
        """Messages that were not for this actor in this state, by why."""
        self._shell: Shell[Any]
        self._assembly: Assembly

    # ---- lifecycle

    def on_message(self, message: object, sender: object) -> None:
        """Dispatch; any exception becomes an exit note and the end of the process."""
        with self._ending_with_a_note():
            self._dispatch(message, sender)

    @contextlib.contextmanager
    def _ending_with_a_note(self) -> Iterator[None]:
        """Around every way in, a message, a timer or the driver's descriptor: the note says what failed."""
        try:
            yield
            self._flush()
        except LedgerAway as error:
            self._end(ExitReason.DEPENDENCY_DOWN, str(error))
        except Fenced as error:
            self._end(ExitReason.FENCED, str(error))
        except Exception:
            self._end(ExitReason.CRASHED, traceback.format_exc())
            raise

    def _flush(self) -> None:
        if hasattr(self, "_transport"):
            self._transport.flush()

    def _dispatch(self, message: object, sender: object) -> None:
        if self._start is None:
            if isinstance(message, StartActor):
                self._begin(message, sender)
            else:  # meant for whoever had this address before
                self._ignore("before_start", message)
            return
        match message:
            case Post():
                self._shell.take_all(message.envelopes)
                self._transport.handled(message, sender)
            case Seen():
                self._transport.seen(message)
                self._shell.credit_returned(message.role)
            case Beat(role=role, incarnation=incarnation, nonce=nonce) if self._is_me(role, incarnation):
                if self._assembly.driver is None:
                    self._answer_beat(nonce)
                else:
                    self._assembly.driver.beat(nonce)
            case Peers():
                for role in self._transport.learn(message):
                    self._shell.peer_changed(role)
            case StopActor(role=role, incarnation=incarnation) if self._is_me(role, incarnation):
                self._finish()
            case Beat() | StopActor() | StartActor():
                self._ignore("misdirected", message)
            case _:
                self._ignore("unknown", message)

    @property
    def epoch(self) -> int:
        """The one that this incarnation drew."""
        return self._shell.epoch

    def _is_me(self, role: str, incarnation: int) -> bool:
        start = self._start
        return start is not None and start.spec.role == role and start.incarnation == incarnation

    def _ignore(self, why: str, message: object) -> None:
        """Count it; say so the first time only, for a warning that repeats is a metric."""
        name = f"ignored_{why}"
        self.ignored[name] = self.ignored.get(name, 0) + 1
        if self.ignored[name] == 1:
            logger.warning("ignores {}: {}", type(message).__name__, why)

    def _begin(self, start: StartActor, supervisor: object) -> None:
        die_with_parent(start.parent_pid)
        self._start, self._supervisor = start, supervisor
        role, context = start.spec.role, start.context
        self.name_process(role)
        log_to_file(context.run_dir, role)
        self.send(supervisor, Hatched(role, start.incarnation, ProcessIdentity.of(os.getpid())))
        self._clock = SystemClock()
        self._identity = IdentityFile(os.path.join(context.run_dir, "identity.json"))
        self._health = HealthBoard(context.settings)
        self._assembly = assembly = self._build(start)
        self._alarms = AlarmTable(role, self._clock, self._health)
        self._words = AcknowledgedFile(context.run_dir)
        self._named_timers = HostTimers(self)
        self._transport = HostTransport(self, assembly.role.name, assembly.faults)
        driver = assembly.driver or NoDriver(role)
        ports = Ports(
            ledger=assembly.ledger,
            transport=self._transport,
            timers=self._named_timers,
            driver=driver,
            bus=assembly.bus,
            alarms=self._alarms,
            clock=self._clock,
            tracer=assembly.tracer,
            faults=assembly.faults,
            latch=HostLatch(self._identity, role),
        )
        self._shell = Shell(assembly.role, ports, assembly.snapshot_every)
        self._halt: HaltChanged | None = None  # what stands, or does not, is told to every incarnation
        self._shell.recover()
        self._poll_halt()
        self._poll_words()
        gc.freeze()  # what stands now stays: no collection is to walk it while an order waits
        if assembly.driver is not None:
            sys.setswitchinterval(SWITCH_S)
            assembly.driver.start()
            self.watch(assembly.driver.fileno(), self._drain)
        self.after(HALT_POLL_S, "host.halt")
        self.after(HEALTH_EVERY_S, "host.health")
        epoch = self._shell.epoch
        self.send(supervisor, Serving(role, start.incarnation, epoch, self._shell.replayed))
        self.send(supervisor, PeerUp(Peer(role, self.myAddress, epoch)))
        logger.info("{} serves: epoch {}, {} entries replayed", role, epoch, self._shell.replayed)

    def _build(self, start: StartActor) -> Assembly:
        module, _, function = start.spec.actor.partition(":")
        builder: Builder = getattr(importlib.import_module(module), function)
        context = start.context
        return builder(
            BuildContext(
                role=start.spec.role,
                options=dict(start.spec.options),
                settings=context.settings,
                run_dir=context.run_dir,
                run_id=context.run_id,
                incarnation=start.incarnation,
            )
        )

    def _finish(self) -> None:
        if self._assembly.driver is not None:
            self._assembly.driver.stop()
        self._end(ExitReason.SHUTDOWN, "stopped by its supervisor")

    def _end(self, reason: ExitReason, text: str) -> None:
        if self._start is not None:
            start = self._start
            write_exit_note(start.context.run_dir, ExitNote(start.spec.role, start.incarnation, reason, text))
            if reason is not ExitReason.SHUTDOWN:
                logger.error("{} ends: {}: {}", start.spec.role, reason.value, text)
            if hasattr(self, "_assembly"):
                flush = getattr(self._assembly.tracer, "flush", None)
                if flush is not None:
                    flush()
        sys.stderr.flush()
        os._exit(0 if reason is ExitReason.SHUTDOWN else 70)

    # ---- inputs

    def _drain(self) -> None:
        driver = self._assembly.driver
        assert driver is not None
        with self._ending_with_a_note():
            waiting: list[Envelope] = []
            for event in driver.drain():
                if isinstance(event, BeatReturned):
                    self._answer_beat(event.nonce)
                    self._progress = event.progress
                    continue
                waiting.append(self._of_driver(event))
                if len(waiting) == TOGETHER_MAX:
                    self._take_together(waiting)
                    waiting = []
            self._take_together(waiting)

    def _take_together(self, envelopes: list[Envelope]) -> None:
        self._shell.take_all(envelopes)
        self._flush()  # their news does not wait for the next events

    def _of_driver(self, event: AnyMessage) -> Envelope:
        ts_event_ns = getattr(event, "ts_event_ns", 0)
        correlation_id = ""
        signal = getattr(event, "signal", None)
        if signal is not None:
            ts_event_ns, correlation_id = signal.ts_event_ns, signal.correlation_id or signal.signal_id
        return self._shell.of_driver(event, ts_event_ns, correlation_id)

    def on_timer(self, payload: object) -> None:
        """A timer of the host or of the shell came due."""
        with self._ending_with_a_note():
            if payload == "host.halt":
                self._poll_halt()
                self._poll_words()
                self.after(HALT_POLL_S, "host.halt")
            elif payload == "host.health":
                self._publish_health()
                self.after(HEALTH_EVERY_S, "host.health")
            elif not self._transport.due(payload):
                name = self._named_timers.due(payload)
                if name is not None:
                    self._shell.timer_fired(name)

    def _poll_halt(self) -> None:
        halt = self._identity.halt()
        now = HaltChanged("", 0)
        if halt is not None:
            now = HaltChanged(halt.reason, halt.latched_ns, halt.flatten, halt.flatten_ns)
        if now != self._halt:
            self._halt = now
            self._shell.shell_event(now)

    def _poll_words(self) -> None:
        """Pass on what persons have said of this actor's alarms (`AlarmAcknowledged`); its state says what is news."""
        for word in self._words.news(self._assembly.role.name):
            if is_seen(self._shell.core.alarms, word):
                self._shell.shell_event(word)

    # ---- outputs

    def _answer_beat(self, nonce: int) -> None:
        assert self._start is not None
        self.send(self._supervisor, BeatAnswered(self._start.spec.role, self._start.incarnation, nonce))

    def _publish_health(self) -> None:
        shell = self._shell
        for part in (self._assembly.bus, self._assembly.tracer):
            flush = getattr(part, "flush", None)
            if flush is not None:
                flush()
        counters = {**self._assembly_counters(), **shell.counters}
        self._health.put(
            HealthReport(
                role=self._assembly.role.name,
                pid=os.getpid(),
                epoch=shell.epoch,
                seq=shell.core.seq,
                counters=counters,
                alarms=self._alarms.standing(),
                written_ns=self._clock.now_ns(),
                detail=self._detail(),
                latencies=getattr(self._assembly.driver, "latencies", None) or {},
            )
        )

    def _assembly_counters(self) -> dict[str, int]:
        counters: dict[str, int] = {**getattr(self, "_progress", {}), **self.ignored}
        counters.update({f"credit_refused.{k}": v for k, v in self._transport.refused.items()})
        for part in (self._assembly.bus, self._assembly.driver):
            counters.update(getattr(part, "counters", {}) or {})
        counters["owed"] = sum(len(owed) for owed in self._shell.core.outbox.values())
        counters["alarms_dropped"] = self._alarms.dropped
        counters["trace_lines_failed"] = int(getattr(self._assembly.tracer, "failed", 0))
        counters["health_writes_failed"] = self._health.failures
        return {name: value for name, value in counters.items() if value}

    def _detail(self) -> dict[str, str]:
        """What the role itself wants shown, as text by name."""
        show = getattr(self._assembly.role, "show", None)
        shown: dict[str, str] = show(self._shell.core.role, self._clock.now_ns()) if show is not None else {}
        return shown
