"""The worker thread: order, bounds, wake-ups, heartbeats, and that no exception in it goes unseen."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from eventkit import Event as KitEvent

from actors.adapters.worker import COMMANDS_MAX, EXIT_CODE, Worker

ROOT = Path(__file__).resolve().parent.parent.parent
Beat = tuple[str, int, dict[str, int]]


def make_beat(nonce: int, progress: dict[str, int]) -> object:
    return ("beat", nonce, progress)


async def idle() -> None:
    await asyncio.Event().wait()


class Hosted:
    """A worker whose commands are functions that run on its loop."""

    def __init__(self, events_max: int = 10_000, full_s_max: float = 5.0) -> None:
        self.reasons: list[str] = []
        self.died = threading.Event()
        self.worker: Worker[Callable[[], None], object] = Worker("test", self.die, events_max, full_s_max)

    def die(self, reason: str) -> None:
        self.reasons.append(reason)
        self.died.set()

    def start(self) -> Hosted:
        self.worker.start(idle, lambda command: command(), make_beat)
        return self

    def events(self, count: int, seconds_max: float = 60.0) -> list[object]:
        """Wait, by the descriptor only, for so many events."""
        found: list[object] = []
        deadline = time.monotonic() + seconds_max
        while len(found) < count:
            assert self.readable(deadline - time.monotonic()), f"{len(found)} of {count} events came: {found[:5]}"
            found += self.worker.drain()
        return found

    def readable(self, seconds_max: float = 0.0) -> bool:
        return bool(select.select([self.worker.fileno()], [], [], max(0.0, seconds_max))[0])


@pytest.fixture
def hosted() -> Iterator[Hosted]:
    host = Hosted().start()
    yield host
    assert host.worker.stop()


def test_commands_and_events_keep_their_order(hosted: Hosted) -> None:
    for number in range(1000):
        hosted.worker.post(lambda number=number: hosted.worker.emit(number))
    assert hosted.events(1000) == list(range(1000))
    assert not hosted.reasons


def test_the_descriptor_is_readable_exactly_while_events_wait(hosted: Hosted) -> None:
    assert not hosted.readable()
    hosted.worker.post(lambda: [hosted.worker.emit(number) for number in range(500)] and None)
    assert hosted.events(500) == list(range(500))
    assert not hosted.readable()
    assert hosted.worker.drain() == []
    hosted.worker.post(lambda: hosted.worker.emit("again"))
    assert hosted.events(1) == ["again"]


def test_a_command_that_is_given_way_is_taken_before_post_returns_but_a_hung_loop_holds_up_nobody(
    hosted: Hosted,
) -> None:
    taken: list[int] = []
    for number in range(200):
        hosted.worker.post(functools.partial(taken.append, number), 20.0)
        assert taken[-1] == number
    hanging, may_go = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        may_go.wait(20.0)

    hosted.worker.post(hang)
    assert hanging.wait(20.0)
    hosted.worker.post(functools.partial(taken.append, 200), 0.01)
    assert taken[-1] == 199
    may_go.set()
    hosted.worker.post(functools.partial(hosted.worker.emit, "done"))
    assert hosted.events(1, 20.0) == ["done"]
    assert taken[-1] == 200


def test_an_event_with_a_key_replaces_the_one_that_waits_in_its_place(hosted: Hosted) -> None:
    emit = hosted.worker.emit
    hosted.worker.post(lambda: emit(("AAPL", 1), "AAPL"))
    hosted.worker.post(lambda: emit("order"))
    hosted.worker.post(lambda: emit(("MSFT", 7), "MSFT"))
    hosted.worker.post(lambda: emit(("AAPL", 2), "AAPL"))
    barrier = threading.Event()
    hosted.worker.post(barrier.set)
    assert barrier.wait(60)
    assert hosted.worker.drain() == [("AAPL", 2), "order", ("MSFT", 7)]
    assert hosted.worker.progress["events_conflated"] == 1
    hosted.worker.post(lambda: emit(("AAPL", 3), "AAPL"))
    assert hosted.events(1) == [("AAPL", 3)]


def test_a_full_queue_blocks_the_loop_until_the_actor_drains_and_drops_nothing() -> None:
    host = Hosted(events_max=10).start()
    host.worker.post(lambda: [host.worker.emit(number) for number in range(1000)] and None)
    assert host.events(1000) == list(range(1000))
    assert host.worker.progress["events_full"] > 0
    assert not host.reasons
    assert host.worker.stop()


def test_a_queue_that_stays_full_ends_the_process() -> None:
    host = Hosted(events_max=10, full_s_max=0.05).start()
    host.worker.post(lambda: [host.worker.emit(number) for number in range(11)] and None)
    assert host.died.wait(60)
    assert "10 events wait" in host.reasons[0]
    assert host.worker.stop()


def test_a_beat_comes_back_with_the_threads_counters(hosted: Hosted) -> None:
    hosted.worker.post(lambda: hosted.worker.count("orders", 3))
    hosted.worker.beat(41)
    (beat,) = hosted.events(1)
    assert beat == ("beat", 41, {"orders": 3, "commands": 1, "beats": 1})


def test_a_hung_loop_answers_no_beat_and_its_commands_are_bounded(hosted: Hosted) -> None:
    go_on, hung = threading.Event(), threading.Event()

    def hang() -> None:
        hung.set()
        go_on.wait(30)

    hosted.worker.post(hang)
    assert hung.wait(60)
    hosted.worker.beat(1)
    assert not hosted.readable(0.05)
    for _ in range(COMMANDS_MAX):
        hosted.worker.post(lambda: None)
    assert not hosted.reasons
    hosted.worker.post(lambda: None)
    assert "the loop hangs" in hosted.reasons[0]
    go_on.set()


SWALLOWING = pytest.mark.library_errors("unreadable", reason="the library logs what a handler raises, and goes on")


@pytest.mark.parametrize("place", ["command", "task", "timer", pytest.param("swallowing library", marks=SWALLOWING)])
def test_an_exception_anywhere_in_the_thread_ends_the_process(place: str) -> None:
    host = Hosted().start()

    def fail() -> None:
        raise ValueError("a bug")

    async def fail_later() -> None:
        fail()

    def fail_in_library() -> None:
        event = KitEvent("kit")
        event += host.worker.guard(fail)
        event.emit()

    def act() -> None:
        match place:
            case "command":
                fail()
            case "task":
                host.worker.spawn(fail_later(), "failing")
            case "timer":
                asyncio.get_running_loop().call_later(0.001, fail)
            case _:
                fail_in_library()

    host.worker.post(act)
    assert host.died.wait(60)
    assert "ValueError: a bug" in host.reasons[0]
    assert host.worker.stop()


def test_a_main_that_fails_or_returns_ends_the_process() -> None:
    async def fail() -> None:
        raise ValueError("a bug")

    async def leave() -> None:
        return

    for main, reason in ((fail, "ValueError: a bug"), (leave, "ended by itself")):
        host = Hosted()
        host.worker.start(main, lambda command: command(), make_beat)
        assert host.died.wait(60)
        assert reason in host.reasons[0]
        host.worker.stop()


def test_by_default_the_process_really_ends_with_its_own_code_and_says_why() -> None:
    program = """
import asyncio, threading
from actors.adapters.worker import Worker
async def main():
    await asyncio.Event().wait()
def fail(command):
    raise ValueError("a bug")
worker = Worker("w")
worker.start(main, fail, lambda nonce, progress: None)
worker.post("x")
threading.Event().wait(20)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == EXIT_CODE
    assert "ValueError: a bug" in done.stderr


def test_stop_cancels_main_and_its_tasks_and_closes_every_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    cancelled: list[str] = []

    async def wait_for_ever(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(name)

    host = Hosted()
    host.worker.start(lambda: wait_for_ever("main"), lambda command: command(), make_beat)
    spawned = threading.Event()

    def spawn() -> None:
        host.worker.spawn(wait_for_ever("task"), "task")
        asyncio.get_running_loop().call_soon(spawned.set)

    host.worker.post(spawn)
    assert spawned.wait(60)
    assert host.worker.stop()
    assert sorted(cancelled) == ["main", "task"]
    assert not host.reasons
    host.worker.post(lambda: None)
    host.worker.beat(1)
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


def test_it_starts_in_a_forked_child_of_a_process_that_imported_it() -> None:
    with contextlib.closing(os.fdopen(*_child(), closefd=True)) as answer:
        assert answer.read() == "beat 5"


def _child() -> tuple[int, str]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        host = Hosted().start()
        host.worker.beat(5)
        name, nonce, _ = host.events(1)[0]  # type: ignore[misc]
        os.write(writer, f"{name} {nonce}".encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    return reader, "r"
