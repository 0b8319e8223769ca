"""A supervisor's process: runs the policy's effects and tells it what happened.

Owns: its children's processes, their heartbeats, and (at the root) the table of who holds which role. Consumes:
lifecycle messages, exit notices, wake-ups. Emits: starts, stops, kills, the table, a report a second to the health
board. Keeps nothing: one that dies takes its children with it and its parent starts them all anew. Single-threaded,
and it holds no socket while it creates a child: a fork inherits every descriptor.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from pathlib import Path
from typing import Any

from loguru import logger

from actors.adapters.health import HealthBoard, ProcessReport, SupervisorReport
from actors.adapters.identity import IdentityFile
from actors.adapters.logs import log_to_file
from actors.adapters.redis_client import probe
from actors.effects import Severity
from supervisors import policy
from supervisors.crash_only import CrashOnlyActor
from supervisors.exit_note import ExitNote, read_exit_note, write_exit_note
from supervisors.host import ActorHost
from supervisors.lifecycle import (
    Answer,
    Beat,
    BeatAnswered,
    Hatched,
    Peer,
    Peers,
    PeerUp,
    Serving,
    StartActor,
    StartSupervisor,
    StopActor,
)
from supervisors.lifeline import LIFELINE, POLL_S, ProcessIdentity, ProcessWatch, die_with_parent, kill_if_same
from supervisors.spec import ExitReason, SupervisorSpec

NS = 1_000_000_000
WATCH_EVERY_S = 1.0
LEDGER_POLL_S = 0.05
INCARNATIONS_EACH = 1_000_000
"""Room for a child's incarnations below one incarnation of its supervisor."""


class ChildProcess:
    """What this process knows of one child's newest incarnation."""

    def __init__(self, address: object, incarnation: int, process: ProcessIdentity | None) -> None:
        self.address = address
        self.incarnation = incarnation
        self.process = process
        """None: it could not be forked, or was gone at once; the base says so."""
        self.beat_sent_ns: int | None = None
        self.beat_answered_ns: int | None = None


class SupervisorHost(CrashOnlyActor):
    """One supervisor. Everything it does begins with `StartSupervisor`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._start: StartSupervisor | None = None

    # ---- inputs

    def on_message(self, message: object, sender: object) -> None:
        """Dispatch; an exception here is a supervisor's crash, and its parent's affair."""
        match message:
            case StartSupervisor():
                if self._start is None:
                    self._begin(message, sender)
            case _ if self._start is None:
                logger.warning("supervisor ignores {}: not started", type(message).__name__)
            case Hatched(role=role, incarnation=incarnation, process=process):
                child = self._current(role, incarnation)
                if child is not None:
                    child.process = process
            case Serving(role=role, incarnation=incarnation):
                self._decide(policy.Started(role, incarnation))
            case PeerUp(peer=peer):
                self._peer_up(peer)
            case Peers():
                self._spread(message)
            case BeatAnswered(role=role, incarnation=incarnation):
                child = self._current(role, incarnation)
                if child is not None:
                    child.beat_sent_ns, child.beat_answered_ns = None, time.monotonic_ns()
            case Beat(role=role, incarnation=incarnation, nonce=nonce) if self._is_me(role, incarnation):
                self.send(sender, BeatAnswered(role, incarnation, nonce))
            case StopActor(role=role, incarnation=incarnation) if self._is_me(role, incarnation):
                self._decide(policy.StopRequested())
            case _:
                logger.warning("supervisor ignores {}", type(message).__name__)

    def on_timer(self, payload: object) -> None:
        """Wake-ups: the policy's, the watch over heartbeats, the wait for the ledger."""
        if payload == "policy":
            self._decide(policy.Tick())
        elif payload == "watch":
            self._watch_children()
            self._publish()
            self.after(WATCH_EVERY_S, "watch")
        elif payload == "ledger":
            self._await_ledger()
        elif payload == "lifelines":
            if any(lifeline.gone() for lifeline in self._lifelines):
                self._take_the_session_down()
            self.after(POLL_S, "lifelines")

    def on_child_exited(self, address: object) -> None:
        """The actor system says that a child is gone. It says so twice, or of one long replaced; the policy knows."""
        for role, child in self._child_of.items():
            if child.address == address:
                self._gone(role, child)
                return

    # ---- life

    def _begin(self, start: StartSupervisor, parent: object) -> None:
        self._start, self._parent = start, parent
        spec, context = start.spec, start.context
        self._is_root = spec.role == "root"
        if not self._is_root:
            die_with_parent(start.parent_pid)
        self.name_process(spec.role)
        log_to_file(context.run_dir, spec.role)
        self._process = ProcessIdentity.of(os.getpid())
        self._health = HealthBoard(context.settings)
        self._child_of: dict[str, ChildProcess] = {}
        self._table: dict[str, Peer] = {}
        self._peers = Peers(0, ())
        self._events: deque[policy.Event] = deque()
        self._watched_ns = time.monotonic_ns()
        self._ledger_up = probe(context.settings.ledger.url, context.settings)
        self._policy = policy.initial_state(spec, self._ledger_up, (start.incarnation - 1) * INCARNATIONS_EACH)
        if self._is_root:
            self._guard_the_root()
        self.send(parent, Hatched(spec.role, start.incarnation, self._process))
        if not self._ledger_up:
            self.after(LEDGER_POLL_S, "ledger")
        self._decide(policy.Tick())
        self.after(WATCH_EVERY_S, "watch")

    def _guard_the_root(self) -> None:
        """Watch run.py and the actor system's admin: whoever is left alone takes the session down."""
        context = self._started().context
        self._lifelines = [ProcessWatch(context.guardian), ProcessWatch(ProcessIdentity.of(os.getppid()))]
        if LIFELINE.watches_without_thread:
            for lifeline in self._lifelines:
                self.watch(lifeline.fileno(), self._take_the_session_down)
        else:
            self.after(POLL_S, "lifelines")

    def _take_the_session_down(self) -> None:
        logger.error("root: run.py or the admin is gone; ending the session")
        os.killpg(os.getpgid(0), signal.SIGKILL)

    def _end(self, reason: ExitReason, text: str) -> None:
        start = self._started()
        write_exit_note(start.context.run_dir, ExitNote(start.spec.role, start.incarnation, reason, text))
        logger.info("{} ends: {}: {}", start.spec.role, reason.value, text)
        os._exit(0 if reason is ExitReason.SHUTDOWN else 70)

    def _escalate(self, reason: str) -> None:
        if self._is_root:
            text = f"root supervisor gave up: {reason}"
            IdentityFile(os.path.join(self._started().context.run_dir, "identity.json")).latch_halt(text, "root")
            self._health.alert("root", "budget_spent", Severity.CRITICAL, text, True)
        self._end(ExitReason.ESCALATED, reason)

    # ---- the policy and its effects

    def _decide(self, event: policy.Event) -> None:
        """Take one event; what its effects bring about is taken after them, never between."""
        self._events.append(event)
        if len(self._events) > 1:
            return
        while self._events:
            self._policy, effects = policy.step(self._policy, self._events[0], time.monotonic_ns())
            for effect in effects:
                self._run(effect)
            self._events.popleft()

    def _run(self, effect: policy.Effect) -> None:
        start = self._started()
        match effect:
            case policy.StartChild(role=role, incarnation=incarnation):
                self._start_child(role, incarnation)
            case policy.StopChild(role=role, incarnation=incarnation, shutdown_s=shutdown_s):
                self.send(self._child_of[role].address, StopActor(role, incarnation, shutdown_s))
            case policy.KillChild(role=role, incarnation=incarnation):
                self._kill(role, incarnation)
            case policy.WakeAt(at_ns=at_ns):
                self.after(max(0.0, (at_ns - time.monotonic_ns()) / NS), "policy")
            case policy.AllRunning():
                if self._is_root:
                    self.send(self._parent, Answer(self._process, os.getppid()))
                else:
                    self.send(self._parent, Serving(start.spec.role, start.incarnation, 0, 0))
            case policy.Escalate(reason=reason):
                self._escalate(reason)
            case policy.AllStopped():
                self._end(ExitReason.SHUTDOWN, "stopped")

    def _start_child(self, role: str, incarnation: int) -> None:
        state = self._policy.child(role)
        assert state is not None
        self._health.close()
        context = self._started().context
        if isinstance(state.spec, SupervisorSpec):
            address = self.createActor(SupervisorHost)
            message: object = StartSupervisor(state.spec, context, incarnation, os.getpid())
        else:
            address = self.createActor(ActorHost)
            message = StartActor(state.spec, context, incarnation, os.getpid())
        self._child_of[role] = ChildProcess(address, incarnation, self.child_process(address))
        self.send(address, message)
        logger.info("{} starts {} incarnation {}", self._started().spec.role, role, incarnation)

    def _kill(self, role: str, incarnation: int) -> None:
        child = self._current(role, incarnation)
        if child is None:
            return
        if child.process is None or not kill_if_same(child.process, signal.SIGKILL):
            self._gone(role, child)

    def _gone(self, role: str, child: ChildProcess) -> None:
        context = self._started().context
        note = read_exit_note(context.run_dir, role, child.incarnation)
        reason = note.reason if note is not None else ExitReason.CRASHED
        if self._ledger_up and not probe(context.settings.ledger.url, context.settings):
            self._ledger_up = False
            self._decide(policy.DependencyDown())
            self.after(LEDGER_POLL_S, "ledger")
        logger.warning("{} lost {} incarnation {}: {}", self._policy.spec.role, role, child.incarnation, reason.value)
        self._decide(policy.Exited(role, child.incarnation, reason))

    def _await_ledger(self) -> None:
        context = self._started().context
        if probe(context.settings.ledger.url, context.settings):
            self._ledger_up = True
            self._decide(policy.DependencyUp())
        else:
            self.after(LEDGER_POLL_S, "ledger")

    # ---- heartbeats

    def _watch_children(self) -> None:
        settings = self._started().context.settings.supervision
        now_ns = time.monotonic_ns()
        # Stopped or starved ourselves, we have not listened: answers may wait unread, and that time is not theirs.
        deaf_ns = max(0, now_ns - self._watched_ns - round(2 * WATCH_EVERY_S * NS))
        self._watched_ns = now_ns
        for state in self._policy.children:
            child = self._child_of.get(state.role)
            if child is None or child.incarnation != state.incarnation or not state.live:
                continue
            if child.process is not None and not child.process.is_alive():
                self._gone(state.role, child)
            elif state.status is policy.Status.RUNNING:
                if child.beat_sent_ns is not None:
                    child.beat_sent_ns += deaf_ns
                self._beat(state.role, child, settings.heartbeat_s, settings.dead_after_s, now_ns)
        if self._is_root:
            Path(self._started().context.run_dir, "root.beat").touch()

    def _beat(self, role: str, child: ChildProcess, every_s: float, dead_after_s: float, now_ns: int) -> None:
        if child.beat_sent_ns is not None:
            if now_ns - child.beat_sent_ns > dead_after_s * NS:
                logger.error("{} has not answered for {} s", role, dead_after_s)
                self._decide(policy.Hung(role, child.incarnation))
        elif child.beat_answered_ns is None or now_ns - child.beat_answered_ns >= every_s * NS:
            child.beat_sent_ns = now_ns
            self.send(child.address, Beat(role, child.incarnation, now_ns))

    # ---- who holds which role

    def _peer_up(self, peer: Peer) -> None:
        if not self._is_root:
            self.send(self._parent, PeerUp(peer))
            return
        known = self._table.get(peer.role)
        if known is None or known.epoch < peer.epoch:
            self._table[peer.role] = peer
            self._publish_peers()

    def _publish_peers(self) -> None:
        self._spread(Peers(self._peers.version + 1, tuple(self._table.values())))

    def _spread(self, peers: Peers) -> None:
        self._peers = peers
        for state in self._policy.children:
            if state.live and state.role in self._child_of:
                self.send(self._child_of[state.role].address, peers)

    # ---- seen from outside

    def _publish(self) -> None:
        now_ns = time.monotonic_ns()
        children = []
        for state in self._policy.children:
            child = self._child_of.get(state.role)
            answered_ns = child.beat_answered_ns if child is not None else None
            children.append(
                ProcessReport(
                    role=state.role,
                    pid=child.process.pid if child is not None and child.process is not None else 0,
                    parent=self._policy.spec.role,
                    state=state.status.value,
                    restarts=state.restarts,
                    incarnation=state.incarnation,
                    last_beat_age_s=None if answered_ns is None else round((now_ns - answered_ns) / NS, 3),
                    last_exit=state.last_exit.value if state.last_exit is not None else "",
                )
            )
        report = SupervisorReport(self._policy.spec.role, os.getpid(), time.time_ns(), tuple(children))
        self._health.put_supervisor(report)

    # ---- small things

    def _started(self) -> StartSupervisor:
        assert self._start is not None, "a supervisor acts only after StartSupervisor"
        return self._start

    def _is_me(self, role: str, incarnation: int) -> bool:
        start = self._started()
        return start.spec.role == role and start.incarnation == incarnation

    def _current(self, role: str, incarnation: int) -> ChildProcess | None:
        child = self._child_of.get(role)
        return child if child is not None and child.incarnation == incarnation else None
