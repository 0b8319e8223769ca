"""Both lifelines keep the same promises, shown with real processes."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from supervisors import lifeline
from supervisors.lifeline import Lifeline, PollingLifeline, ProcessIdentity, ProcessWatch
from tests.supervisors.processes import eventually, python, read_when_written, sleeper

pytestmark = pytest.mark.process

LIFELINES: list[Lifeline] = [PollingLifeline(threads=True)]
if sys.platform == "linux":
    LIFELINES.append(lifeline.LinuxLifeline())
both = pytest.mark.parametrize("line", LIFELINES, ids=lambda line: type(line).__name__)


def another_start(identity: ProcessIdentity) -> ProcessIdentity:
    """As if the pid had been given to somebody else since."""
    return msgspec.structs.replace(identity, started_at=identity.started_at + "1")


@both
def test_an_identity_is_stable_and_differs_between_processes(line: Lifeline) -> None:
    with sleeper() as first, sleeper() as second:
        assert line.identity(first.pid) == line.identity(first.pid)
        assert line.identity(first.pid) != line.identity(second.pid)
        assert line.is_alive(line.identity(first.pid))


@both
def test_a_zombie_and_a_reaped_process_are_both_dead(line: Lifeline) -> None:
    with sleeper() as process:
        identity = line.identity(process.pid)
        process.kill()
        eventually(lambda: not line.is_alive(identity), "the zombie is seen as dead")
        assert process.wait() == -signal.SIGKILL
        assert not line.is_alive(identity)
        with pytest.raises(ProcessLookupError):
            line.identity(process.pid)


@both
def test_a_reused_pid_is_neither_alive_nor_killed(line: Lifeline) -> None:
    with sleeper() as bystander:
        old = another_start(line.identity(bystander.pid))
        assert not line.is_alive(old)
        assert line.kill_if_same(old, signal.SIGKILL) is False
        assert bystander.poll() is None
        assert ProcessWatch(old, line).wait(10.0), "a process that is gone already is reported at once"


@both
def test_the_same_process_is_killed_once(line: Lifeline) -> None:
    with sleeper() as process:
        identity = line.identity(process.pid)
        assert line.kill_if_same(identity, signal.SIGKILL) is True
        assert process.wait() == -signal.SIGKILL
        assert line.kill_if_same(identity, signal.SIGKILL) is False


@both
def test_a_watch_turns_readable_for_good_when_its_process_ends(line: Lifeline) -> None:
    with sleeper() as process:
        watch = ProcessWatch(line.identity(process.pid), line)
        assert not watch.gone()
        process.kill()
        assert select.select([watch.fileno()], [], [], 10.0)[0]
        assert watch.gone()
        assert watch.gone()
        watch.close()


def test_a_watch_without_a_thread_knows_of_the_end_when_it_is_asked_and_is_readable_from_then_on() -> None:
    line = PollingLifeline(threads=False)
    with sleeper() as process:
        before = threading.active_count()
        watch = ProcessWatch(line.identity(process.pid), line)
        assert threading.active_count() == before
        assert not watch.gone()
        assert not watch.wait(0.0)
        process.kill()
        assert watch.wait(10.0)
        assert watch.gone()
        assert select.select([watch.fileno()], [], [], 0.0)[0]
        watch.close()


@both
def test_a_process_dies_with_its_parent(line: Lifeline, tmp_path: Path) -> None:
    told = tmp_path / "child"
    code = f"""
import os, sys, time
from supervisors.lifeline import *
parent = os.getpid()
if os.fork() == 0:
    {type(line).__name__}().die_with_parent(parent)
    open(sys.argv[1], "w").write(f"{{os.getpid()}}\\n")
time.sleep(600)
"""
    with python(code, str(told)) as parent:
        child = ProcessIdentity.of(int(read_when_written(told)))
        assert child.is_alive()
        watch = ProcessWatch(child)
        parent.kill()
        assert watch.wait(10.0)


@both
def test_a_process_whose_parent_died_before_it_looked_dies_at_once(line: Lifeline, tmp_path: Path) -> None:
    told = tmp_path / "child"
    code = f"""
import os, sys, time
from supervisors.lifeline import *
parent = os.getpid()
if os.fork() == 0:
    while os.getppid() == parent:
        time.sleep(0.001)
    open(sys.argv[1], "w").write(f"{{os.getpid()}}\\n")
    {type(line).__name__}().die_with_parent(parent)
    open(sys.argv[1], "w").write("lived\\n")
    time.sleep(600)
"""
    with python(code, str(told)) as parent:
        parent.wait()
    pid = int(read_when_written(told))
    eventually(lambda: not _exists(pid), "the orphan is gone")
    assert told.read_text() == f"{pid}\n"


def _exists(pid: int) -> bool:
    try:
        return ProcessIdentity.of(pid).is_alive()
    except ProcessLookupError:
        return False


def test_children_are_found_by_their_parent() -> None:
    with sleeper() as process:
        assert ProcessIdentity.of(process.pid) in ProcessIdentity.children_of(os.getpid())
        assert ProcessIdentity.children_of(process.pid) == ()


def test_an_identity_can_be_written_down_and_read_again() -> None:
    mine = ProcessIdentity.of(os.getpid())
    assert msgspec.json.decode(msgspec.json.encode(mine), type=ProcessIdentity) == mine
    assert mine.is_alive()


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"])
def test_a_native_fault_ends_the_process_and_leaves_a_traceback(name: str, tmp_path: Path) -> None:
    code = f"""
import os, signal, sys
from supervisors.lifeline import native_faults_default
native_faults_default()  # as in the process this one is forked from
for each in ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"):
    signal.signal(getattr(signal, each), lambda *_: None)
native_faults_default(open(sys.argv[1], "w"))
os.kill(os.getpid(), signal.{name})
"""
    with python(code, str(tmp_path / "fault")) as process:
        assert process.wait(30) == -getattr(signal, name)
    assert "most recent call first" in (tmp_path / "fault").read_text()
