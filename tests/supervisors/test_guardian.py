"""Lock, engine and record of the guardian, with real processes: what is ours ends, what is not is never touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from supervisors.guardian import RunDirTaken, RunLock, SessionRecord, clear_stale
from supervisors.lifeline import ProcessIdentity, ProcessWatch
from supervisors.session_record import RUN_ID_VARIABLE, RecordedProcess, holds_open, mark_path
from supervisors.transport import admin_port
from tests.supervisors.processes import eventually, python, read_when_written, sleeper

pytestmark = pytest.mark.process
RUN_ID = uuid.uuid4().hex
"""Of this very test run: another one on the same machine must not be taken for it."""

HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from supervisors.guardian import RunLock
with RunLock(Path(sys.argv[1])):
    Path(sys.argv[2]).write_text("held\\n")
    time.sleep(600)
"""

A_RUN = """
import os, sys, time
from pathlib import Path
from supervisors.guardian import EngineProcess, RunLock, SessionRecord
run_dir, told = Path(sys.argv[1]), Path(sys.argv[2])

def engine(report):
    # An orphan in a session of its own, as the actor system's admin is, with a child as actors are.
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open(told, "a") as file:
                file.write(f"{os.getpid()} {os.getppid()}\\n")
        time.sleep(600)
    time.sleep(600)
    return 0

with RunLock(run_dir):
    engine = EngineProcess.start(engine)
    SessionRecord.of(sys.argv[3], (engine.identity,)).save(run_dir)
    (run_dir / "engine").write_text(f"{engine.identity.pid}\\n")
    time.sleep(600)
"""


@pytest.fixture
def reaper() -> Iterator[list[ProcessIdentity]]:
    """Kills at the end what a test names here."""
    named: list[ProcessIdentity] = []
    yield named
    for identity in named:
        with suppress(ProcessLookupError):
            if identity.is_alive():
                os.kill(identity.pid, signal.SIGKILL)


# The lock


def test_a_second_run_on_the_same_directory_is_refused_with_holder_and_remedy(tmp_path: Path) -> None:
    with python(HOLD_THE_LOCK, str(tmp_path), str(tmp_path / "told")) as holder:
        read_when_written(tmp_path / "told")
        with pytest.raises(RunDirTaken, match=f"{tmp_path} is in use by the run with pid {holder.pid}.*Remedy"):
            RunLock(tmp_path).__enter__()


def test_the_lock_of_a_killed_run_is_free_at_once_and_leaves_its_mark(tmp_path: Path) -> None:
    with python(HOLD_THE_LOCK, str(tmp_path), str(tmp_path / "told")) as holder:
        read_when_written(tmp_path / "told")
        holder.kill()
        holder.wait()
        with RunLock(tmp_path) as lock:
            assert lock.path.read_text() == f"{os.getpid()}\n"
            record = SessionRecord.load(tmp_path)
            assert record is not None
            assert len(record.marks) == 1
            assert clear_stale(record) == ()
            assert SessionRecord.load(tmp_path) is None, "a mark that nothing carries is removed"


def test_a_child_forked_while_the_lock_is_held_does_not_hold_it(tmp_path: Path) -> None:
    code = """
import os, sys, time
from pathlib import Path
from supervisors.guardian import RunLock
with RunLock(Path(sys.argv[1])):
    child = os.fork()
    if child:
        Path(sys.argv[2]).write_text(f"{child}\\n")
    time.sleep(600)
"""
    with python(code, str(tmp_path), str(tmp_path / "told")) as holder:
        child = ProcessIdentity.of(int(read_when_written(tmp_path / "told")))
        holder.kill()
        holder.wait()
        with RunLock(tmp_path):
            assert child.is_alive()
            record = SessionRecord.load(tmp_path)
            assert record is not None
            (cleared,) = clear_stale(record)
            assert (cleared.pid, cleared.known_by) == (child.pid, "the mark")
            assert not child.is_alive()


# What an earlier run left


def test_after_a_kill_of_run_py_everything_it_forked_is_cleared_and_a_bystander_is_not(tmp_path: Path) -> None:
    run_dir, told = tmp_path / "run", tmp_path / "told"
    with sleeper() as bystander, python(A_RUN, str(run_dir), str(told), RUN_ID) as run:
        engine = ProcessIdentity.of(int(read_when_written(run_dir / "engine")))
        actor, admin = (ProcessIdentity.of(int(pid)) for pid in read_when_written(told).split())
        run.kill()
        run.wait()
        with RunLock(run_dir):
            assert all(one.is_alive() for one in (engine, actor, admin))
            record = SessionRecord.load(run_dir)
            assert record is not None
            cleared = clear_stale(record)
            assert {one.pid: one.known_by for one in cleared} == {
                engine.pid: "the record",
                actor.pid: "the mark",
                admin.pid: "the mark",
            }
            assert str(engine.pid) in str(cleared[0])
            assert not any(one.is_alive() for one in (engine, actor, admin))
            assert bystander.poll() is None
            assert clear_stale(record) == ()


def test_what_was_forked_is_known_even_after_the_run_directory_was_emptied(tmp_path: Path) -> None:
    run_dir, told = tmp_path / "run", tmp_path / "told"
    with python(A_RUN, str(run_dir), str(told), RUN_ID) as run:
        engine = ProcessIdentity.of(int(read_when_written(run_dir / "engine")))
        read_when_written(told)
        record = SessionRecord.load(run_dir)
        assert record is not None
        for mark in record.marks:
            Path(mark).unlink()
        run.kill()
        run.wait()
        assert len(clear_stale(record)) == 3
        assert not engine.is_alive()


def test_a_reused_pid_in_the_record_is_never_touched(tmp_path: Path) -> None:
    with sleeper() as bystander:
        identity = ProcessIdentity.of(bystander.pid)
        reused = msgspec.structs.replace(identity, started_at=identity.started_at + "1")
        record = SessionRecord(RUN_ID, None, (RecordedProcess(reused, os.getsid(bystander.pid)),))
        assert clear_stale(record) == ()
        assert bystander.poll() is None


def test_a_recorded_process_that_is_in_another_session_now_is_not_touched() -> None:
    with sleeper() as process:
        identity = ProcessIdentity.of(process.pid)
        record = SessionRecord(RUN_ID, None, (RecordedProcess(identity, os.getsid(process.pid) + 1),))
        assert clear_stale(record) == ()
        assert process.poll() is None


def test_a_recorded_process_is_cleared() -> None:
    with sleeper() as process:
        record = SessionRecord.of(RUN_ID, (), (ProcessIdentity.of(process.pid),))
        assert [one.known_by for one in clear_stale(record)] == ["the record"]
        assert process.wait() == -signal.SIGKILL


def test_an_executed_program_is_known_by_the_run_id_in_its_environment_and_no_other() -> None:
    code = "import time; time.sleep(600)"
    record = SessionRecord(RUN_ID, None, ())
    with (
        python(code, environment={RUN_ID_VARIABLE: RUN_ID}) as ours,
        python(code, environment={RUN_ID_VARIABLE: RUN_ID + "2"}) as theirs,
    ):
        # Between fork and exec it still shows our environment.
        eventually(lambda: "APEX" in Path(f"/proc/{ours.pid}/environ").read_text(), "the program is executed")
        assert [(one.pid, one.known_by) for one in clear_stale(record)] == [(ours.pid, "its environment")]
        assert theirs.poll() is None


def test_a_clearing_process_spares_itself_and_whoever_started_it(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from supervisors.guardian import SessionRecord, clear_stale
from supervisors.session_record import RUN_ID_VARIABLE
child = os.fork()
if child == 0:
    cleared = clear_stale(SessionRecord(sys.argv[2], None, ()))
    Path(sys.argv[1]).write_text(f"{len(cleared)}\\n")
else:
    os.waitpid(child, 0)
"""
    with python(code, str(tmp_path / "told"), RUN_ID, environment={RUN_ID_VARIABLE: RUN_ID}) as process:
        assert read_when_written(tmp_path / "told") == "0"
        assert process.wait(30) == 0


def test_a_record_survives_the_way_through_the_disk_and_an_unreadable_one_is_none(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        mine = ProcessIdentity.of(os.getpid())
        SessionRecord.of(RUN_ID, (mine,)).save(tmp_path)
        loaded = SessionRecord.load(tmp_path)
        assert loaded is not None
        assert loaded.run_id == RUN_ID
        assert loaded.guardian == mine
        assert loaded.processes == (RecordedProcess(mine, os.getsid(0)),)
        assert loaded.marks == (str(mark_path(tmp_path, mine)),)
        assert holds_open(os.getpid(), loaded.marks[0])
        SessionRecord.clear(tmp_path)
        assert SessionRecord.load(tmp_path) is None
        (tmp_path / "session.json").write_text('{"run_id": ')
        assert SessionRecord.load(tmp_path) is None
    assert not list((tmp_path / "marks").iterdir())


# The engine process


def run_script(code: str, *arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=Path(__file__).parent.parent.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


PRELUDE = """
import os, select, signal, socket, sys, threading, time
from supervisors.guardian import EngineProcess
from supervisors.lifeline import ProcessIdentity
def until_report(engine):
    text = b""
    while not text.endswith(b"\\n"):
        select.select(engine.descriptors(), [], [], 20)
        text += engine.read_report()
    return text.decode().split()
"""


def test_the_engine_runs_in_a_session_of_its_own_and_reports_through_its_pipe() -> None:
    said = run_script(
        PRELUDE
        + """
engine = EngineProcess.start(lambda report: os.write(report, f"{os.getpid()} {os.getsid(0)}\\n".encode()) and 7)
pid, session = until_report(engine)
print(pid == session == str(engine.identity.pid), engine.stop(20.0), engine.gone())
"""
    )
    assert said == "True 7 False"


def test_an_engine_that_raises_says_why_and_exits_with_70() -> None:
    said = run_script(
        PRELUDE
        + """
os.dup2(1, 2)
def body(report):
    raise ValueError("on purpose")
engine = EngineProcess.start(body)
while not engine.gone():
    select.select(engine.descriptors(), [], [], 20)
    engine.read_report()
print(engine.kill_session())
"""
    )
    assert "ValueError: on purpose" in said
    assert said.endswith("70")


def test_the_end_of_root_or_admin_is_the_end_of_the_engine_and_takes_everything_along() -> None:
    said = run_script(
        PRELUDE
        + """
def body(report):
    if os.fork() == 0:
        os.setsid()
        for _ in range(2):
            if os.fork() == 0:
                break
        os.write(report, f"{os.getpid()}\\n".encode())
    time.sleep(600)
engine = EngineProcess.start(body)
pids = []
while len(pids) < 3:
    pids += until_report(engine)
others = [ProcessIdentity.of(int(pid)) for pid in pids]
engine.watch_also(*others[:1], *others[:1])
assert not engine.gone()
os.kill(others[0].pid, signal.SIGKILL)
assert select.select(engine.descriptors(), [], [], 20)[0]
assert engine.gone()
status = engine.kill_session()
print(status, [one.is_alive() for one in (engine.identity, *others)])
"""
    )
    assert said == f"{-signal.SIGKILL} [False, False, False, False]"


def test_descendants_that_nobody_told_the_guardian_of_are_killed_too() -> None:
    said = run_script(
        PRELUDE
        + """
def body(report):
    if os.fork() == 0:
        os.setsid()
        os.write(report, f"{os.getpid()}\\n".encode())
        time.sleep(600)
    os._exit(0)
engine = EngineProcess.start(body)
orphan = ProcessIdentity.of(int(until_report(engine)[0]))
assert orphan.is_alive()
print(engine.kill_session(), orphan.is_alive())
"""
    )
    assert said == "0 False"


def test_an_engine_that_ignores_sigterm_is_killed_after_its_time() -> None:
    said = run_script(
        PRELUDE
        + """
def body(report):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(report, b"ready\\n")
    time.sleep(600)
engine = EngineProcess.start(body)
until_report(engine)
print(engine.stop(0.1))
"""
    )
    assert said == str(-signal.SIGKILL)


def test_the_engine_inherits_neither_signal_handling_nor_sockets_of_the_guardian() -> None:
    said = run_script(
        PRELUDE
        + """
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen()
where = server.getsockname()
signal.signal(signal.SIGTERM, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
def body(report):
    own = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and not signal.pthread_sigmask(signal.SIG_BLOCK, set())
    os.write(report, f"{own}\\n".encode())
    time.sleep(600)
engine = EngineProcess.start(body)
print(*until_report(engine), end=" ")
server.close()
try:
    socket.create_connection(where, 5)
    print("still listened to", end=" ")
except ConnectionRefusedError:
    print("closed", end=" ")
print(engine.stop(20.0))
"""
    )
    assert said == f"True closed {-signal.SIGTERM}"


def test_a_guardian_with_threads_refuses_to_fork() -> None:
    said = run_script(
        PRELUDE
        + """
threading.Thread(target=time.sleep, args=(600,), name="stray", daemon=True).start()
try:
    EngineProcess.start(lambda report: 0)
except RuntimeError as error:
    print(error)
"""
    )
    assert "'stray'" in said


def test_a_watched_process_that_is_gone_already_ends_the_engine_at_once() -> None:
    with sleeper() as process:
        identity = ProcessIdentity.of(process.pid)
        process.kill()
        process.wait()
    watch = ProcessWatch(identity)
    assert watch.gone()
    watch.close()


# With the real actor system

ENGINE_WITH_ACTORS = (
    PRELUDE
    + """
from pathlib import Path
from supervisors.guardian import RunLock, SessionRecord, clear_stale
from supervisors.lifeline import die_with_parent
from supervisors.transport import admin_port, start_system
from tests.supervisors.stage import Do, Player

run_dir = Path(sys.argv[1])
guardian = os.getpid()

def start():
    port = admin_port(run_dir)
    def body(report):
        die_with_parent(guardian)
        system = start_system(port, os.urandom(32))
        root = system.createActor(Player)
        pid = system.ask(root, Do("pid"), 20)
        child = system.ask(root, Do("spawn", "Player"), 20)
        admin = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        os.write(report, f"{pid} {admin} {child}\\n".encode())
        time.sleep(600)
        return 0
    engine = EngineProcess.start(body)
    identities = [ProcessIdentity.of(int(pid)) for pid in until_report(engine)]
    engine.watch_also(*identities[:2])
    return port, engine, identities
"""
)


@pytest.mark.parametrize("victim", ["starter", "root", "admin"])
def test_whichever_process_of_the_engine_is_killed_all_go_and_it_starts_again_on_the_same_port(
    victim: str, tmp_path: Path
) -> None:
    said = run_script(
        ENGINE_WITH_ACTORS
        + f"""
with RunLock(run_dir):
    port, engine, (root, admin, child) = start()
    os.kill({{"starter": engine.identity, "root": root, "admin": admin}}["{victim}"].pid, signal.SIGKILL)
    select.select(engine.descriptors(), [], [], 20)
    gone = engine.gone()
    engine.kill_session()
    left = [one.is_alive() for one in (engine.identity, root, admin, child)]
    again, engine, (root, admin, child) = start()
    print(gone, any(left), again == port, child.is_alive())
    engine.kill_session()
    print(any(one.is_alive() for one in (engine.identity, root, admin, child)))
""",
        str(tmp_path / "run"),
    )
    assert said.split() == ["True", "False", "True", "True", "False"]


def test_after_a_kill_of_run_py_the_next_run_clears_admin_and_actors_and_has_their_port_again(tmp_path: Path) -> None:
    run_dir, told = tmp_path / "run", tmp_path / "told"
    code = (
        ENGINE_WITH_ACTORS
        + """
with RunLock(run_dir):
    port, engine, identities = start()
    Path(sys.argv[2]).write_text(f"{port} {' '.join(str(one.pid) for one in identities)}\\n")
    time.sleep(600)
"""
    )
    with sleeper() as bystander, python(code, str(run_dir), str(told)) as run:
        port, *pids = (int(word) for word in read_when_written(told).split())
        processes = [ProcessIdentity.of(pid) for pid in pids]
        run.kill()
        run.wait()
        with RunLock(run_dir):
            # No record was written, as if it had died before it could: the mark is enough.
            record = SessionRecord.load(run_dir)
            assert record is not None
            assert {one.known_by for one in clear_stale(record)} == {"the mark"}
            assert not any(one.is_alive() for one in processes)
            assert admin_port(run_dir) == port
        assert bystander.poll() is None
