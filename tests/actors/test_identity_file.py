"""The file outside Redis: latch and epochs, under real processes that update it at once."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from actors.adapters import identity as identity_module
from actors.adapters.identity import IdentityBusy, IdentityDamaged, IdentityFile
from tests.conftest import ROOT

HAMMER = """
import sys
from actors.adapters.identity import IdentityFile
file = IdentityFile(sys.argv[1])
for i in range(int(sys.argv[3])):
    print(file.draw_epoch("shared", 0, 0), flush=False)
    file.note_epoch(sys.argv[2], i + 1, i)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "identity.json"


def test_a_halt_is_latched_for_every_process_until_a_person_clears_it(path: Path) -> None:
    one, other = IdentityFile(path), IdentityFile(path)
    assert one.halt() is None
    assert other.halt() is None
    latched = one.latch_halt("restart budget spent", by="root")
    assert other.halt() == latched == IdentityFile(path).halt()
    assert (latched.reason, latched.by) == ("restart budget spent", "root")
    assert other.clear_halt(by="person") == latched
    assert one.halt() is None
    assert one.read().last_cleared_by == "person"
    assert one.clear_halt(by="person") is None


def test_an_order_to_flatten_latches_the_halt_stands_once_and_goes_with_it(path: Path) -> None:
    file = IdentityFile(path)
    first = file.latch_halt("daily loss", by="risk")
    ordered = file.order_flatten("get out", by="person")
    assert (ordered.reason, ordered.by, ordered.latched_ns) == ("daily loss", "risk", first.latched_ns)
    assert (ordered.flatten, ordered.flatten_by) == ("get out", "person")
    assert file.order_flatten("again", by="other") == ordered == IdentityFile(path).halt()
    assert file.latch_halt("again", by="other") == ordered
    assert file.clear_halt(by="person") == ordered
    alone = file.order_flatten("get out", by="person")
    assert (alone.reason, alone.flatten) == ("get out", "get out")
    assert alone.flatten_ns > ordered.flatten_ns


def test_the_first_reason_of_a_halt_stands(path: Path) -> None:
    file = IdentityFile(path)
    first = file.latch_halt("first", by="a")
    assert file.latch_halt("second", by="b") == first == file.halt()


def test_a_halt_needs_a_reason(path: Path) -> None:
    with pytest.raises(ValueError, match="reason"):
        IdentityFile(path).latch_halt("", by="a")


def test_polling_an_unchanged_latch_does_not_read_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = IdentityFile(path)
    file.latch_halt("why", by="a")
    first = file.halt()
    reads: list[Path] = []
    monkeypatch.setattr(Path, "read_bytes", lambda self: reads.append(self))
    assert file.halt() is first
    assert reads == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"roles": 3}', b"\x00" * 100, b'{"schema_version": 7}', b"[]"])
def test_a_damaged_file_is_refused_untouched_and_reads_as_halted(path: Path, content: bytes) -> None:
    IdentityFile(path).note_epoch("broker", 3)
    path.write_bytes(content)
    file = IdentityFile(path)
    for call in (file.read, lambda: file.note_epoch("broker", 4), lambda: file.clear_halt(by="x")):
        with pytest.raises(IdentityDamaged, match=r"identity.json.*Remedy"):
            call()
    with pytest.raises(IdentityDamaged):
        file.latch_halt("why", by="x")
    halt = file.halt()
    assert halt is not None
    assert "unreadable" in halt.reason
    assert path.read_bytes() == content


def test_a_file_that_was_there_and_is_gone_reads_as_halted_and_is_not_made_anew(path: Path) -> None:
    file = IdentityFile(path)
    file.note_epoch("broker", 3)
    path.unlink()
    halt = file.halt()
    assert halt is not None
    assert "is gone" in halt.reason
    with pytest.raises(IdentityDamaged, match="is gone"):
        file.note_epoch("broker", 4)
    assert not path.exists()


def test_epochs_never_fall(path: Path) -> None:
    file = IdentityFile(path)
    file.note_epoch("broker", 7, 100)
    file.note_epoch("broker", 3, 50)
    assert (file.read().roles["broker"].epoch, file.read().roles["broker"].seq) == (7, 100)
    assert file.draw_epoch("broker", 2, 0) == 8
    assert file.draw_epoch("broker", 20, 0) == 21


def test_a_leftover_of_a_write_that_died_is_harmless(path: Path) -> None:
    file = IdentityFile(path)
    file.note_epoch("broker", 1)
    path.with_name(path.name + ".new").write_bytes(b"{ half")
    assert IdentityFile(path).draw_epoch("broker", 1, 0) == 2


def test_processes_that_update_at_once_lose_nothing(path: Path) -> None:
    writers, rounds = 4, 25
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, str(path), f"role{n}", str(rounds)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(writers)
    ]
    drawn = [int(line) for process in processes for line in process.communicate(timeout=60)[0].split()]
    assert [process.returncode for process in processes] == [0] * writers
    assert sorted(drawn) == list(range(1, writers * rounds + 1))
    roles = IdentityFile(path).read().roles
    assert [roles[f"role{n}"].epoch for n in range(writers)] == [rounds] * writers


def test_a_process_killed_in_an_update_leaves_the_old_or_the_new_and_no_lock(path: Path) -> None:
    IdentityFile(path).latch_halt("stands", by="a")
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", HAMMER, str(path), "victim", "100000"], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        watcher = IdentityFile(path)
        before = watcher.read().roles.get("shared")
        while watcher.read().roles.get("shared") == before:
            assert process.poll() is None
        process.kill()
        process.wait(60)
        file = IdentityFile(path)
        assert file.halt() is not None
        file.note_epoch("after", 1)


def test_a_lock_that_is_never_released_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_module, "LOCK_WAIT_S", 0.05)
    file = IdentityFile(path)
    file.note_epoch("broker", 1)
    ready_read, ready_write = os.pipe()
    done_read, done_write = os.pipe()
    pid = os.fork()
    if pid == 0:  # a process that is stopped while it holds the lock
        with open(path.with_name(path.name + ".lock"), "ab") as sidecar:
            fcntl.lockf(sidecar.fileno(), fcntl.LOCK_EX)
            os.write(ready_write, b"x")
            os.read(done_read, 1)
            os._exit(0)
    os.read(ready_read, 1)
    try:
        with pytest.raises(IdentityBusy, match="another process"):
            file.note_epoch("broker", 2)
    finally:
        os.write(done_write, b"x")
        os.waitpid(pid, 0)
        for descriptor in (ready_read, ready_write, done_read, done_write):
            os.close(descriptor)
    file.note_epoch("broker", 2)
