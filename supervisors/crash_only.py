"""The base of every actor's process: what Thespian would soften, retry or swallow ends the process instead.

Its parent knows of a death within milliseconds; of anything else it may never know.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any, final

import setproctitle
from thespian.actors import Actor, ActorExitRequest, ChildActorExited, ThespianWatch, WakeupMessage, WatchMessage

from supervisors.lifeline import ProcessIdentity, native_faults_default

EXIT_CRASHED = 70
"""EX_SOFTWARE of sysexits.h."""


class CrashOnlyActor(Actor):  # type: ignore[misc]
    """Owns this process's watched descriptors and timers. Single-threaded: every method is called by the actor's loop.

    An exception in any of them, SystemExit included, is written to stderr and ends the process with code 70: nothing
    is retried, nothing runs after it, and what was sent but not yet transmitted may be lost. SIGTERM and native
    faults end it too, at any moment.
    """

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        super().__init__()
        native_faults_default()
        # Thespian's handler is not heard while busy, and while idle makes the parent hear of the end twice.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _log_here()
        self._watched: dict[int, Callable[[], object]] = {}
        self._timers: list[tuple[float, int, object]] = []
        self._timer_number = itertools.count()

    # What a subclass fills in

    def on_message(self, message: object, sender: object) -> None:
        """A message that is not the actor system's own."""

    def on_timer(self, payload: object) -> None:
        """A timer of `after` came due."""

    def on_child_exited(self, address: object) -> None:
        """A child's process is gone. May come twice; compare `address` with the current child's."""

    def on_exit_request(self) -> None:
        """The actor system shuts down; this process ends right after."""

    # What a subclass uses

    def watch(self, descriptor: int, callback: Callable[[], object]) -> None:
        """Call back whenever the descriptor is readable, until `unwatch`.

        The callback must read it empty without blocking, or unwatch it: readable, it is called 35,000 times a second.
        """
        self._watched[descriptor] = callback

    def unwatch(self, descriptor: int) -> None:
        """Forget it; before it is closed."""
        self._watched.pop(descriptor, None)

    def after(self, delay_s: float, payload: object) -> None:
        """Call `on_timer` once, not before; late by as long as a running handler takes. In order of due times."""
        delay_s = max(0.0, delay_s)
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._timer_number), payload))
        self.wakeupAfter(timedelta(seconds=delay_s))

    def child_process(self, address: object) -> ProcessIdentity | None:
        """The process just created for this child, known before the child can speak; None if it is gone already."""
        for child in getattr(self._myRef, "_child_procs", []):
            if child.childAddr == address:
                try:
                    return ProcessIdentity.of(child.childProc.pid)
                except ProcessLookupError:
                    return None
        return None

    def name_process(self, role: str) -> None:
        """What `ps` shows."""
        setproctitle.setproctitle(f"apex {role}")

    # Thespian's way in

    @final
    def receiveMessage(self, message: Any, sender: Any) -> ThespianWatch:  # noqa: N802  Thespian's name
        """Hand over; always return the watches, which Thespian forgets at the first call that does not."""
        try:
            self._receive(message, sender)
        except BaseException:  # noqa: BLE001  it ends the process
            crash(f"{type(self).__name__} failed on {type(message).__name__}")
        return ThespianWatch(list(self._watched))

    def _receive(self, message: object, sender: object) -> None:
        if isinstance(message, WatchMessage):
            for descriptor in message.ready:
                callback = self._watched.get(descriptor)
                # A callback before it in this very list may have taken it off the watch.
                if callback is not None:
                    callback()
        elif isinstance(message, WakeupMessage):
            # Thespian hands out timers due together in reverse; each wake-up takes the one due first instead.
            self.on_timer(heapq.heappop(self._timers)[2])
        elif isinstance(message, ChildActorExited):
            self.on_child_exited(message.childAddress)
        elif isinstance(message, ActorExitRequest):
            self.on_exit_request()
            os._exit(0)
        else:
            self.on_message(message, sender)


def crash(what: str) -> None:
    """Write the current traceback to stderr and end this process at once, without any clean-up."""
    sys.stderr.write(f"{what} (pid {os.getpid()}):\n{traceback.format_exc()}")
    sys.stderr.flush()
    os._exit(EXIT_CRASHED)


def _log_here() -> None:
    """Undo Thespian's root logger, which ships every record as a message and admits no handler."""
    root = logging.RootLogger(logging.WARNING)
    root.addHandler(logging.StreamHandler())
    logging.root = root
    logging.Logger.root = root
    logging.Logger.manager = logging.Manager(root)
