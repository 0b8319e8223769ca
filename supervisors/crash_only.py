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

from supervisors.lifeline import LIFELINE, ProcessIdentity, ProcessWatch, native_faults_default

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
        # Two underscores: subclasses have names of their own for such things.
        self.__watched: dict[int, Callable[[], object]] = {}
        self.__timers: list[tuple[float, int, object]] = []
        self.__timer_number = itertools.count()
        self.__children: list[tuple[object, ProcessWatch | None]] = []

    # What a subclass fills in

    def on_message(self, message: object, sender: object) -> None:
        """A message that is not the actor system's own."""

    def on_timer(self, payload: object) -> None:
        """A timer of `after` came due."""

    def on_child_exited(self, address: object) -> None:
        """A child's process is gone, or could not be made. Once for each; `address` is what `createActor` returned."""

    def on_exit_request(self) -> None:
        """The actor system shuts down; this process ends right after."""

    # What a subclass uses

    def watch(self, descriptor: int, callback: Callable[[], object]) -> None:
        """Call back whenever the descriptor is readable, until `unwatch`.

        The callback must read it empty without blocking, or unwatch it: readable, it is called 35,000 times a second.
        """
        self.__watched[descriptor] = callback

    def unwatch(self, descriptor: int) -> None:
        """Forget it; before it is closed."""
        self.__watched.pop(descriptor, None)

    def after(self, delay_s: float, payload: object) -> None:
        """Call `on_timer` once, not before; late by as long as a running handler takes. In order of due times."""
        delay_s = max(0.0, delay_s)
        heapq.heappush(self.__timers, (time.monotonic() + delay_s, next(self.__timer_number), payload))
        self.wakeupAfter(timedelta(seconds=delay_s))

    def createActor(self, actor_class: type[Actor], *args: Any, **kwargs: Any) -> object:  # noqa: N802  Thespian's name
        """Fork a child; its end is told through `on_child_exited` whatever becomes of it.

        Thespian alone says nothing of one that ended before it connected, nor of one that could not be forked.
        """
        address: object = super().createActor(actor_class, *args, **kwargs)
        process = self.child_process(address)
        watch = ProcessWatch(process) if process is not None and LIFELINE.watches_without_thread else None
        self.__children.append((address, watch))
        if watch is not None:
            self.watch(watch.fileno(), lambda: self.__child_gone(address))
        elif process is None:
            self.after(0.0, _NeverBorn(address))
        return address

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
            self.__receive(message, sender)
        except BaseException:  # noqa: BLE001  it ends the process
            crash(f"{type(self).__name__} failed on {type(message).__name__}")
        return ThespianWatch(list(self.__watched))

    def __receive(self, message: object, sender: object) -> None:
        if isinstance(message, WatchMessage):
            for descriptor in message.ready:
                callback = self.__watched.get(descriptor)
                # A callback before it in this very list may have taken it off the watch.
                if callback is not None:
                    callback()
        elif isinstance(message, WakeupMessage):
            # Thespian hands out timers due together in reverse; each wake-up takes the one due first instead.
            self.__timer_due(heapq.heappop(self.__timers)[2])
        elif isinstance(message, ChildActorExited):
            self.__child_gone(message.childAddress)
        elif isinstance(message, ActorExitRequest):
            self.on_exit_request()
            os._exit(0)
        else:
            self.on_message(message, sender)

    def __timer_due(self, payload: object) -> None:
        if isinstance(payload, _NeverBorn):
            self.__child_gone(payload.address)
        else:
            self.on_timer(payload)

    def __child_gone(self, address: object) -> None:
        """By whichever notice comes first; Thespian's own may come never, later, or twice."""
        for entry in self.__children:
            known, watch = entry
            if known == address:
                if watch is not None and not watch.gone():
                    # A late notice of another child whose port this one was given: addresses are no more than ports.
                    return
                self.__children.remove(entry)
                if watch is not None:
                    self.unwatch(watch.fileno())
                    watch.close()
                self.on_child_exited(known)
                return


class _NeverBorn:
    """A timer's payload: this child has no process."""

    def __init__(self, address: object) -> None:
        self.address = address


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
