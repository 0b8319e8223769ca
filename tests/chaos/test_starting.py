"""Starts: over what a killed run left, on a machine that refuses, with peers that hang, on the polling lifeline."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from actors.adapters.redis_client import Purpose, ServerKind, connect
from actors.adapters.redis_server import EmbeddedRedis
from actors.keys import KeyType, key
from supervisors.run_files import read_engine_file, resolved
from tests.chaos.books import assert_one_outcome_each, settle
from tests.chaos.engine_process import EngineRun, kill_role, runs
from tests.chaos.load import QUIET, Load

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

MOMENTS = 20 if os.environ.get("APEX_CHAOS") else 4
SEED = int(os.environ.get("APEX_SEED", "20260726"))
QUICK = ("supervision.heartbeat_s=0.5", "supervision.dead_after_s=15", "supervision.backoff_s_max=0.1")


def started_by(engine: EngineRun) -> set[psutil.Process]:
    """Everything that descends from run.py now, itself included."""
    assert engine.process is not None
    try:
        guardian = psutil.Process(engine.process.pid)
        return {guardian, *guardian.children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()


def alive(processes: set[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and runs(one.pid)]


def about(folder: Path) -> list[str]:
    """Command lines of processes that name the folder, this one and its own left out."""
    found = []
    for one in psutil.process_iter(["pid", "cmdline"]):
        line = " ".join(one.info["cmdline"] or ())
        if str(folder) in line and one.info["pid"] != os.getpid():
            found.append(line)
    return found


def test_whatever_was_killed_in_whatever_order_at_whatever_moment_the_next_start_comes_up(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    chosen = random.Random(SEED)
    engine = EngineRun(tmp_path / "run")
    other = EmbeddedRedis(ServerKind.BUS, tmp_path / "other")
    other.start()
    bystander = subprocess.Popen(["sleep", "600"], cwd=tmp_path)
    ever: set[psutil.Process] = set()
    try:
        for moment in range(MOMENTS):
            engine.start()
            if moment == MOMENTS // 2:
                engine.wait_serving()  # one of them in full flight
            else:
                time.sleep(chosen.uniform(0.0, 3.0))  # the moment is what is tried
            found = started_by(engine)
            ever |= found
            victims = sorted(found, key=lambda one: chosen.random())
            assert engine.process is not None
            for one in victims if moment % 2 else ():
                if chosen.random() < 0.8:
                    one.kill()
            engine.process.kill()
            engine.process.wait()
            engine.process = None
        engine.start()
        engine.wait_serving()
        assert not alive(ever), "left from a run that was killed"
        assert bystander.poll() is None
        assert other.alive()
    finally:
        engine.stop()
        bystander.kill()
        bystander.wait()
        other.stop()
    assert not about(tmp_path), "left from the last run"


# ---- refusals


def assert_refused(engine: EngineRun, *parts: str) -> None:
    """A start ends with 78, in words, and leaves nothing behind."""
    result = engine.run("run", "--no-view")
    assert result.returncode == 78, result.stderr[-2000:]
    assert "Traceback" not in result.stderr
    assert "Remedy" in result.stderr
    for part in parts:
        assert part in result.stderr, result.stderr[-2000:]
    assert not about(engine.run_dir)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> EngineRun:
    """A run directory in which an engine has served and ended in order."""
    engine = EngineRun(tmp_path_factory.mktemp("refusals") / "run", "supervision.stop_timeout_s=10")
    with engine:
        engine.wait_serving()
    return engine


def test_an_end_in_order_stops_right_to_left_and_every_actor_says_so(stopped: EngineRun) -> None:
    notes = {path.stem: path for path in (stopped.run_dir / "exits").glob("*.json")}
    reasons = {role: json.loads(path.read_text())["reason"] for role, path in notes.items()}
    assert set(reasons.values()) == {"shutdown"}, reasons
    in_time = sorted(notes, key=lambda role: notes[role].stat().st_mtime_ns)
    for first_to_last in (
        ("source.momentum", "research", "allocator", "reconciler", "broker.paper", "brokers", "execution"),
        ("execution", "evaluator", "feed.spot.0", "feeds", "book", "market", "root"),
    ):
        assert [role for role in in_time if role in first_to_last] == list(first_to_last)


def test_a_damaged_identity_file_is_refused_and_kept(stopped: EngineRun) -> None:
    path = stopped.run_dir / "identity.json"
    good = path.read_bytes()
    try:
        path.write_bytes(good[: len(good) // 2])
        assert_refused(stopped, "identity.json", "damaged")
        assert path.read_bytes() == good[: len(good) // 2]
    finally:
        path.write_bytes(good)


def test_a_ledger_that_lost_its_file_is_refused(stopped: EngineRun) -> None:
    ledger, aside = stopped.run_dir / "ledger", stopped.run_dir / "ledger.aside"
    ledger.rename(aside)
    try:
        assert_refused(stopped, "ledger", "--fresh")
    finally:
        subprocess.run(["rm", "-rf", str(ledger)], check=True)
        aside.rename(ledger)


def test_a_venues_port_that_somebody_holds_is_refused(stopped: EngineRun) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        taken = EngineRun(stopped.run_dir, f"venues.gateway.port={port}")
        result = taken.run("run", "--no-view")
    assert result.returncode == 78, result.stderr[-2000:]
    assert "gateway did not come up" in result.stderr
    assert not about(stopped.run_dir)


def test_after_every_refusal_was_mended_the_engine_serves(stopped: EngineRun) -> None:
    with stopped:
        stopped.wait_serving()
        assert stopped.status().halt is None


def test_a_run_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for run_dir in (tmp_path / "file", tmp_path / "file" / "run"):
        engine = EngineRun(tmp_path / "unused")
        engine.overrides = [f"run.run_dir={run_dir}"]
        assert_refused(engine, str(run_dir))
    assert (tmp_path / "file").read_text() == "not a folder"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with hardly any room; only a superuser can make one."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True)
    if made.returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_refused(tiny_disk: Path) -> None:
    (tiny_disk / "ballast").write_bytes(b"x" * 60_000)
    assert_refused(EngineRun(tiny_disk / "run"), str(tiny_disk))


def test_ctrl_c_while_starting_ends_everything_at_once_even_if_asked_twice(tmp_path: Path) -> None:
    for wait_s in (0.6, 1.2):
        engine = EngineRun(tmp_path / "run")
        engine.start()
        process = engine.process
        assert process is not None
        time.sleep(wait_s)  # somewhere within the start
        found = started_by(engine)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.1)
        process.wait(15)
        assert not alive(found)
        assert not about(tmp_path)
        engine.process = None


# ---- exits and peers


def test_status_says_why_each_actor_ended_last(tmp_path: Path) -> None:
    plan = 'faults.plan=[{role="reconciler", point="before_append", message="*", nth=3, action="ledger_away"}]'
    often = "reconciler.positions_every_s=1"
    with EngineRun(tmp_path / "run", *QUICK, *QUIET, often, plan) as engine:
        engine.wait_serving()

        def last_exit(role: str) -> str:
            return {one.role: one.last_exit for one in engine.status().processes}[role]

        engine.wait(lambda: last_exit("reconciler") == "dependency_down", 90, "the ledger seemed away to it")
        kill_role(engine, "evaluator")
        engine.wait(lambda: last_exit("evaluator") == "crashed", 90, "killed")
        engine.wait_serving()
        settings = resolved(engine.settings, read_engine_file(engine.settings))
        with connect(settings.ledger.url, Purpose.TOOL, settings) as client:
            client.set(key(KeyType.LEASE, "allocator"), "1000000 somebody-else")
        Load(engine, SEED).signal()
        engine.wait(lambda: last_exit("allocator") == "fenced", 90, "another writer holds its role")
        engine.wait_serving()
        engine.wait(lambda: engine.outcomes(), 90, "its successor took the signal on")
        assert_one_outcome_each(engine, ["s0001"])
        assert "epoch" in (engine.run_dir / "exits" / "allocator.json").read_text(), "the note names the epochs"


def test_a_hung_peer_stalls_nobody_and_gets_what_it_is_owed_once_it_goes_on(tmp_path: Path) -> None:
    """More signals than the credit, the window and Thespian's own limit, while the broker is stopped."""
    with EngineRun(tmp_path / "run", *QUIET, "supervision.dead_after_s=300") as engine:  # it is not to be killed
        engine.wait_serving()
        load = Load(engine, SEED)
        load.prices()
        load.signal()
        engine.wait(lambda: engine.outcomes(), 90, "the first signal's outcome")
        before = engine.pids()
        os.kill(before["broker.paper"], signal.SIGSTOP)
        try:
            for _ in range(40):
                load.signal()
            refusals = "credit_refused.broker.paper"
            engine.wait(lambda: engine.status().counters.get("allocator", {}).get(refusals), 60, "its credit is spent")
            # Its own sends to others go on, and so do its heartbeat and its health.
            written = engine.status().counters["allocator"][refusals]
            engine.wait(lambda: engine.status().counters["allocator"][refusals] > written, 60, "the allocator goes on")
        finally:
            os.kill(before["broker.paper"], signal.SIGCONT)
        engine.wait(lambda: len(engine.outcomes()) == len(load.published), 90, "every signal has its outcome")
        assert engine.pids()["allocator"] == before["allocator"]
        assert engine.pids()["broker.paper"] == before["broker.paper"]
        settle(engine)
        assert_one_outcome_each(engine, load.published)


# ---- the portable twin


class PollingRun(EngineRun):
    """An engine on the polling lifeline, whose process identities this process cannot compare with its own."""

    def __init__(self, run_dir: Path, *overrides: str) -> None:
        super().__init__(run_dir, *overrides, environment={"APEX_LIFELINE": "polling"})

    def all_serve(self) -> bool:
        pids = self.pids()
        return {"root", "broker.paper", "allocator", "evaluator"} <= set(pids) and all(
            pid and runs(pid) for pid in pids.values()
        )


def test_on_the_polling_lifeline_kills_are_mended_and_with_run_py_everything_goes(tmp_path: Path) -> None:
    with PollingRun(tmp_path / "run", *QUICK) as engine:
        engine.wait_serving()
        for role in ("allocator", "market", "root"):
            old = kill_role(engine, role)
            engine.wait(lambda role=role, old=old: engine.pids().get(role, old) not in (0, old), 90, f"another {role}")
            engine.wait_serving()
        pids = engine.pids()
        assert engine.process is not None
        engine.process.kill()
        engine.process.wait()
        engine.process = None
        outside = {"run.py", "redis.ledger", "redis.bus", "exchange", "gateway"}
        tree = {role: pid for role, pid in pids.items() if role not in outside}
        engine.wait(lambda: not [pid for pid in tree.values() if runs(pid)], 60, "nothing of the tree is left")
        engine.start()
        engine.wait_serving()
        assert not [role for role, pid in pids.items() if runs(pid)], "the next start cleared the rest"
