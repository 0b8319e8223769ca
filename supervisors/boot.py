"""The process that creates the actor system, inside the engine's own session.

`ActorSystem()` is a singleton of its process, so the guardian forks this anew for every start of the engine. It tells
the guardian which processes are root and admin, then waits to be told to stop.
"""

from __future__ import annotations

import os
import secrets
import signal
import time

import msgspec
import psutil  # type: ignore[import-untyped]
from thespian.actors import ActorSystem

import actors.adapters.wiring  # noqa: F401  imported before the fork, so that no actor imports it again
from config.schema import Settings
from supervisors.lifecycle import Answer, Hatched, RunContext, StartSupervisor, StopActor
from supervisors.lifeline import ProcessIdentity, die_with_parent, kill_if_same
from supervisors.supervisor import SupervisorHost
from supervisors.transport import start_system
from supervisors.tree import build_tree

HATCH_TIMEOUT_S = 15.0
LISTEN_S = 0.25
POLL_S = 0.02
STOP_SHARE = 0.7
"""Part of the stop's time that the tree gets before the root is killed."""
STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}


class Booted(msgspec.Struct, frozen=True):
    """What the guardian learns, a JSON line each, as it becomes known: the root's process, then that all serves."""

    root: ProcessIdentity
    admin: ProcessIdentity
    serving: bool


def boot(settings: Settings, run_id: str, guardian: ProcessIdentity, port: int, report: int) -> int:
    """Start admin, root and tree; write `Booted` lines to the descriptor `report`; serve until SIGTERM.

    Runs in a forked child that is the leader of the engine's session. Returns the exit code.
    """
    die_with_parent(guardian.pid)
    system = start_system(port, secrets.token_bytes(32))
    # Only now: the admin and all actors descend from the line above and must not inherit blocked signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    context = RunContext(settings=settings, run_id=run_id, run_dir=settings.run.run_dir, guardian=guardian)
    address = system.createActor(SupervisorHost)
    start = StartSupervisor(build_tree(settings), context, 1, os.getpid())
    root = _await_serving(system, address, start, report)
    if root is None:
        return 1
    while signal.sigtimedwait(STOP_SIGNALS, LISTEN_S) is None:
        if not root.is_alive():
            return 1
    system.tell(address, StopActor(start.spec.role, 1, settings.supervision.stop_timeout_s))
    deadline = time.monotonic() + settings.supervision.stop_timeout_s * STOP_SHARE
    while root.is_alive() and time.monotonic() < deadline:
        time.sleep(POLL_S)
    kill_if_same(root, signal.SIGKILL)
    return 0


def _await_serving(system: ActorSystem, address: object, start: StartSupervisor, report: int) -> ProcessIdentity | None:
    """Start the root and wait until its tree serves; None if it ends first or a stop is asked for."""
    system.tell(address, start)
    root: ProcessIdentity | None = None
    deadline = time.monotonic() + HATCH_TIMEOUT_S
    while True:
        answer = system.listen(LISTEN_S)
        match answer:
            case Hatched(process=process):
                root = process
                admin = ProcessIdentity.of(_parent_of(process.pid))
                _report(report, Booted(root, admin, serving=False))
            case Answer(root=process, admin_pid=admin_pid):
                _report(report, Booted(process, ProcessIdentity.of(admin_pid), serving=True))
                return process
        if signal.sigtimedwait(STOP_SIGNALS, 0) is not None:
            if root is not None:
                kill_if_same(root, signal.SIGKILL)
            return None
        if (root is None and time.monotonic() > deadline) or (root is not None and not root.is_alive()):
            return None


def _parent_of(pid: int) -> int:
    return int(psutil.Process(pid).ppid())


def _report(descriptor: int, booted: Booted) -> None:
    os.write(descriptor, msgspec.json.encode(booted) + b"\n")
