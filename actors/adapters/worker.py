"""A thread with an asyncio loop of its own beside an actor's loop, and the two bounded ways between them.

Owner: the actor that hosts it. Commands go in by `post`, events come out by `drain` when `fileno` is readable. Order is
kept in both directions. Nothing polls, and `post` waits for nothing but, where told to, the loop's turn.

Full: an emitted event waits, blocking the loop thread, until the actor drains; after `full_s_max` the process ends,
because an event that is dropped is worse than a restart. Events with a key coalesce instead: the newest takes the
place of the one that waits. More than `COMMANDS_MAX` commands not yet taken by the loop end the process too: the loop
hangs. An exception anywhere in the thread ends the process; nothing is logged and gone on from.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Coroutine, Hashable
from typing import Generic, ParamSpec, TypeVar

Command = TypeVar("Command")
Event = TypeVar("Event")
P = ParamSpec("P")
R = TypeVar("R")

EVENTS_MAX = 10_000
COMMANDS_MAX = 4_096
FULL_S_MAX = 5.0
START_S_MAX = 10.0
EXIT_CODE = 71

_WAKE = b"\0"


class WorkerEnded(RuntimeError):
    """The thread failed, and `die` returned (it does only in tests): what follows must not go on."""


def end_process(reason: str) -> None:
    """Say why on stderr and end this process at once, without cleaning up: recovery needs none."""
    sys.stderr.write(f"worker: {reason}\n")
    sys.stderr.flush()
    os._exit(EXIT_CODE)


class Worker(Generic[Command, Event]):
    """Give it its coroutine and its command handler by `start`, on the actor's thread and after the fork."""

    def __init__(
        self,
        name: str,
        die: Callable[[str], None] = end_process,
        events_max: int = EVENTS_MAX,
        full_s_max: float = FULL_S_MAX,
    ) -> None:
        self.name = name
        self.progress: dict[str, int] = {}
        """Counters, written by the loop thread only."""
        self._die = die
        self._events_max = events_max
        self._full_s_max = full_s_max
        self._events: dict[Hashable, Event] = {}
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._number = 0
        self._commands: deque[Command] = deque()
        self._way = threading.Lock()
        self._way.acquire()
        self._handle: Callable[[Command], None] | None = None
        self._make_beat: Callable[[int, dict[str, int]], Event] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread: threading.Thread | None = None
        self._ended = False
        self._stopping = False
        self._reader: socket.socket | None = None
        self._writer: socket.socket | None = None

    # ---- the actor's side

    def start(
        self,
        main: Callable[[], Coroutine[None, None, None]],
        handle: Callable[[Command], None],
        make_beat: Callable[[int, dict[str, int]], Event],
    ) -> None:
        """Begin: `main` runs until it is cancelled by `stop`, `handle` takes each command; both on the loop.

        Blocks until the loop runs. Raises RuntimeError if it does not within 10 s.
        """
        assert self._thread is None, f"{self.name}: started twice"
        self._handle, self._make_beat = handle, make_beat
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        running = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(main, running), name=f"worker-{self.name}", daemon=True)
        self._thread.start()
        if not running.wait(START_S_MAX):
            raise RuntimeError(f"{self.name}: its loop did not start within {START_S_MAX} s")

    def post(self, command: Command, way_s: float = 0.0) -> None:
        """Hand a command to the loop. After `stop` it goes nowhere.

        Blocks for `way_s` at most, until the loop has taken it: two threads that both have work hand Python's lock
        back and forth, and what is urgent to the loop would wait for what is not to the actor.
        """
        if self._stopping:
            return
        if way_s:
            self._way.acquire(blocking=False)
        if len(self._commands) >= COMMANDS_MAX:
            self._fail(f"{len(self._commands)} commands wait: the loop hangs")
            return
        self._commands.append(command)
        self._call(self._take_commands)
        if way_s:
            self._way.acquire(timeout=way_s)

    def beat(self, nonce: int) -> None:
        """Send a heartbeat through the loop; it comes back as an event made by `make_beat`."""
        self._call(functools.partial(self._answer_beat, nonce))

    def fileno(self) -> int:
        """Readable exactly while events wait."""
        assert self._reader is not None, f"{self.name}: not started"
        return self._reader.fileno()

    def drain(self) -> list[Event]:
        """Return all events that wait, oldest first."""
        with self._lock:
            if not self._events:
                return []
            events = list(self._events.values())
            self._events.clear()
            if self._reader is not None:
                self._reader.recv(len(_WAKE))
            self._room.notify_all()
            return events

    def stop(self, join_s_max: float = 3.0) -> bool:
        """Cancel `main`, end the thread, close the descriptors. False if the thread did not end in time."""
        thread = self._thread
        if thread is None or self._stopping:
            return True
        with self._lock:
            self._stopping = True
            self._room.notify_all()
        self._call(self._begin_stop)
        thread.join(join_s_max)
        if thread.is_alive():
            return False
        with self._lock:
            for end in (self._reader, self._writer):
                if end is not None:
                    end.close()
            self._reader = self._writer = None
        return True

    # ---- the loop's side

    def emit(self, event: Event, key: Hashable | None = None) -> None:
        """Hand an event to the actor. With a key it takes the place of one with the same key that still waits."""
        with self._lock:
            if key is not None:
                slot: Hashable = ("key", key)
                if slot in self._events:
                    self._events[slot] = event
                    self.count("events_conflated")
                    return
            else:
                self._number += 1
                slot = self._number
            if len(self._events) >= self._events_max and not self._wait_for_room():
                return
            was_empty = not self._events
            self._events[slot] = event
            if was_empty and self._writer is not None:
                self._writer.send(_WAKE)
        self.count("events")

    def count(self, name: str, by: int = 1) -> None:
        """Add to a progress counter. On the loop's thread only."""
        self.progress[name] = self.progress.get(name, 0) + by

    def spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Run a coroutine beside `main`; its exception ends the process, `stop` cancels it."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def guard(self, callback: Callable[P, R]) -> Callable[P, R]:
        """Wrap a callback for a library that swallows exceptions: an exception in it ends the process."""

        @functools.wraps(callback)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return callback(*args, **kwargs)
            except BaseException as error:
                self._fail(_traced(error))
                raise WorkerEnded(self.name) from error

        return guarded

    # ---- inside

    def _run(self, main: Callable[[], Coroutine[None, None, None]], running: threading.Event) -> None:
        reason = "its loop failed"
        try:
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            loop.set_exception_handler(self._loop_failed)
            self._loop = loop
            self._main = loop.create_task(self._supervise(main), name=f"{self.name}.main")
            loop.call_soon(running.set)
            loop.run_until_complete(asyncio.wait({self._main}))
            reason = self._end_of(self._main)
            loop.close()
        finally:
            self._loop = None
            if reason:
                error = sys.exc_info()[1]
                self._fail(reason if error is None else f"{reason}: {_traced(error)}")

    def _end_of(self, main: asyncio.Task[None]) -> str:
        """Say why `main` should not have ended; empty if it was stopped."""
        if main.cancelled():
            return "" if self._stopping else "its main coroutine was cancelled"
        error = main.exception()
        if error is not None:
            return _traced(error)
        return "" if self._stopping else "its main coroutine ended by itself"

    async def _supervise(self, main: Callable[[], Coroutine[None, None, None]]) -> None:
        try:
            await main()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _call(self, callback: Callable[[], None]) -> None:
        loop = self._loop
        if loop is None:
            return
        with contextlib.suppress(RuntimeError):  # closed since: the thread is ending, and says so itself
            loop.call_soon_threadsafe(callback)

    def _take_commands(self) -> None:
        assert self._handle is not None
        while self._commands:
            self._handle(self._commands.popleft())
            self.count("commands")
        if self._way.locked():  # taken by `post` alone, released here alone
            self._way.release()

    def _answer_beat(self, nonce: int) -> None:
        assert self._make_beat is not None
        self.count("beats")
        self.emit(self._make_beat(nonce, dict(self.progress)), key=("beat", self.name))

    def _begin_stop(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def _wait_for_room(self) -> bool:
        """Block the loop's thread, lock held, until there is room. False: stopping, or failed."""
        self.count("events_full")
        deadline = time.monotonic() + self._full_s_max
        while len(self._events) >= self._events_max and not self._stopping:
            if not self._room.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                self._fail(f"{len(self._events)} events wait for an actor that takes none")
                return False
        return not self._stopping

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(_traced(error))

    def _loop_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        told = _traced(error) if isinstance(error, BaseException) else ""
        self._fail(f"{context.get('message')} {told}")

    def _fail(self, reason: str) -> None:
        if self._ended:
            return
        self._ended = True
        self._die(f"{self.name}: {reason}")
        if (loop := self._loop) is not None and not loop.is_closed():  # reached in tests only
            loop.call_soon_threadsafe(self._begin_stop)


def _traced(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).strip()
