"""The tree of a running engine under kills and stops: who is restarted with whom, who is left alone, who gives up."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from actors.adapters.health import ProcessReport
from actors.adapters.redis_client import Purpose, connect
from actors.keys import ALL, KeyType, key
from supervisors.run_files import read_engine_file, resolved
from tests.chaos.engine_process import EngineRun, kill_role, runs

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

DEAD_AFTER_S = 15.0  # as in service: less, and a loaded machine makes a healthy actor look hung, and restarts it
QUICK = (
    "supervision.heartbeat_s=0.5",
    f"supervision.dead_after_s={DEAD_AFTER_S}",
    "supervision.intensity=100",
    "supervision.root_intensity=100",
    "supervision.backoff_s_max=0.1",
)
heavy = pytest.mark.skipif(not os.environ.get("APEX_CHAOS"), reason="set APEX_CHAOS=1 for it: it takes its time")
OUTSIDE = {"run.py", "redis.ledger", "redis.bus", "exchange", "gateway", "view"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineRun]:
    with EngineRun(tmp_path_factory.mktemp("supervision") / "run", *QUICK) as running:
        running.wait_serving()
        yield running


def reports(engine: EngineRun) -> dict[str, ProcessReport]:
    return {one.role: one for one in engine.status().processes}


def starts_of(engine: EngineRun, supervisor: str, after: float = 0.0) -> list[str]:
    """Roles in the order in which the supervisor started them, by its own log."""
    text = (engine.run_dir / "logs" / f"{supervisor}.log").read_text()
    return [line.split(" starts ")[1].split()[0] for line in text.splitlines() if f"{supervisor} starts " in line]


def replaced_after(engine: EngineRun, role: str) -> set[str]:
    """Kill the role; the roles of the tree that have another process once all serve again."""
    before = engine.pids()
    old = kill_role(engine, role)
    engine.wait(lambda: engine.pids().get(role, old) not in (0, old), 90, f"{role} has another pid than {old}")
    engine.wait_serving()
    after = engine.pids()
    return {name for name, pid in before.items() if after.get(name) != pid}


def test_children_start_left_to_right(engine: EngineRun) -> None:
    assert starts_of(engine, "root")[:3] == ["market", "execution", "research"]
    assert starts_of(engine, "market")[:3] == ["book", "feeds", "evaluator"]
    assert starts_of(engine, "execution")[:3] == ["brokers", "reconciler", "risk"]


def test_under_rest_for_one_a_death_takes_along_what_stands_to_the_right_and_nothing_else(engine: EngineRun) -> None:
    assert replaced_after(engine, "evaluator") == {"evaluator"}
    began = len(starts_of(engine, "market"))
    assert replaced_after(engine, "book") == {"book", "feeds", "feed.spot.0", "evaluator"}
    assert starts_of(engine, "market")[began:] == ["book", "feeds", "evaluator"]
    assert replaced_after(engine, "reconciler") == {"reconciler", "risk", "allocator", "sentinel"}


def test_under_one_for_one_a_death_is_its_own_affair(engine: EngineRun) -> None:
    assert replaced_after(engine, "broker.paper") == {"broker.paper"}
    assert replaced_after(engine, "source.momentum") == {"source.momentum"}


def test_a_killed_supervisor_takes_its_children_along_and_comes_back_with_them(engine: EngineRun) -> None:
    assert replaced_after(engine, "feeds") == {"feeds", "feed.spot.0", "evaluator"}


def test_sigterm_ends_a_leaf_as_a_kill_does_and_it_comes_back(engine: EngineRun) -> None:
    old = engine.pids()["allocator"]
    os.kill(old, signal.SIGTERM)
    engine.wait(lambda: engine.pids()["allocator"] not in (0, old), 90, "another allocator")
    engine.wait_serving()
    assert reports(engine)["allocator"].last_exit == "crashed"


def test_a_hung_supervisor_is_killed_by_its_parents_heartbeat(engine: EngineRun) -> None:
    before = engine.pids()
    os.kill(before["execution"], signal.SIGSTOP)
    engine.wait(lambda: engine.pids()["execution"] not in (0, before["execution"]), 90, "another execution supervisor")
    engine.wait_serving()
    assert not runs(before["allocator"]), "its children went with it"
    assert reports(engine)["execution"].last_exit == "killed_hung"


def test_a_root_stopped_for_a_while_kills_nobody_when_it_goes_on(engine: EngineRun) -> None:
    """It has not heard its children's answers meanwhile; that is not their fault."""
    engine.wait(lambda: all(one.last_beat_age_s is not None for one in tree(engine)), 90, "every beat is known")
    before = engine.pids()
    os.kill(before["root"], signal.SIGSTOP)
    time.sleep(DEAD_AFTER_S + 1.0)  # the guardian allows five more
    os.kill(before["root"], signal.SIGCONT)
    answered_again = {"market", "execution", "research"}
    engine.wait(lambda: fresh(engine, answered_again), 90, "the root's children have answered again")
    assert engine.pids() == before


def tree(engine: EngineRun) -> list[ProcessReport]:
    return [one for one in engine.status().processes if one.parent not in ("", "run.py", "admin")]


def fresh(engine: EngineRun, roles: set[str]) -> bool:
    ages = [one.last_beat_age_s for one in engine.status().processes if one.role in roles]
    return len(ages) == len(roles) and all(age is not None and age < 2.0 for age in ages)


@heavy
def test_run_py_stopped_for_a_while_kills_nobody_when_it_goes_on(engine: EngineRun) -> None:
    before = engine.pids()
    os.kill(before["run.py"], signal.SIGSTOP)
    time.sleep(DEAD_AFTER_S + 3.0)
    os.kill(before["run.py"], signal.SIGCONT)
    written = engine.output().count("processes run")
    engine.wait(lambda: engine.output().count("processes run") > written + 1, 90, "run.py looks at its engine again")
    assert engine.pids() == before


@pytest.mark.parametrize("role", ["admin", pytest.param("root", marks=heavy)])
def test_sigterm_to_root_or_admin_brings_the_whole_engine_back(engine: EngineRun, role: str) -> None:
    before = engine.pids()
    os.kill(before[role], signal.SIGTERM)
    engine.wait(lambda: engine.pids().get("root") not in (0, None, before["root"]), 90, "another root")
    engine.wait_serving()
    after = engine.pids()
    assert {name for name, pid in before.items() if after[name] == pid} == OUTSIDE & set(before)
    assert engine.status().halt is None


def test_a_hung_root_is_killed_by_run_py_and_the_engine_started_anew(engine: EngineRun) -> None:
    before = engine.pids()
    os.kill(before["root"], signal.SIGSTOP)
    engine.wait(lambda: engine.pids().get("root") not in (0, None, before["root"]), 90, "another root")
    engine.wait_serving()
    left = {role: pid for role, pid in before.items() if role not in OUTSIDE and runs(pid)}
    assert not left


def test_a_stopped_admin_delays_nobody_whom_the_tree_restarts(engine: EngineRun) -> None:
    """The admin only introduces the root: what the tree does from then on goes past it."""
    admin = engine.pids()["admin"]
    os.kill(admin, signal.SIGSTOP)
    try:
        assert replaced_after(engine, "allocator") == {"allocator", "sentinel"}
        assert replaced_after(engine, "feeds") == {"feeds", "feed.spot.0", "evaluator"}
    finally:
        os.kill(admin, signal.SIGCONT)


def test_the_ledgers_death_counts_against_nobodys_budget(tmp_path: Path) -> None:
    """With no restart to spare, three deaths of the ledger spend no budget: whoever wrote meanwhile ends and waits.

    `feeds` may change: it stands to the right of `book`, which may be among those.
    """
    tight = ("supervision.intensity=1", "supervision.root_intensity=1", "supervision.period_s=600")
    with EngineRun(tmp_path / "run", *tight, "momentum.threshold_bps=1") as engine:
        engine.wait_serving()
        before = engine.pids()
        for _ in range(3):
            old = kill_role(engine, "redis.ledger")
            engine.wait(lambda old=old: engine.pids()["redis.ledger"] != old, 90, "another ledger server")
            engine.wait_serving()
        after = engine.pids()
        for role in ("root", "market", "execution", "brokers", "research"):
            assert after[role] == before[role], f"{role} was restarted"
        assert engine.status().halt is None


def test_a_leaf_that_crashes_for_ever_ends_in_a_halt_exit_75_and_nothing_left(tmp_path: Path) -> None:
    engine = EngineRun(
        tmp_path / "run",
        "supervision.intensity=2",
        "supervision.backoff_s_max=0.05",
        'faults.plan=[{role="allocator", point="receive", message="Recovered", action="crash", times=0}]',
    )
    engine.start()
    process = engine.process
    assert process is not None
    seen: dict[str, int] = {}
    try:
        deadline = time.monotonic() + 90
        while process.poll() is None and time.monotonic() < deadline:
            seen.update({f"{child.pid}": child.pid for child in psutil.Process(process.pid).children(recursive=True)})
            time.sleep(0.2)
    except psutil.Error:
        pass
    assert process.wait(20) == 75, engine.output()
    engine.process = None
    assert not [pid for pid in seen.values() if runs(pid)], "left behind"
    assert "gave up" in engine.output()
    for supervisor in ("execution", "root"):
        assert "escalat" in (engine.run_dir / "logs" / f"{supervisor}.log").read_text()
    stops = json.loads((engine.run_dir / "exits" / "root.json").read_text())
    assert stops["reason"] == "escalated"
    engine.overrides = engine.overrides[:1]
    with engine:
        engine.wait_serving()
        halt = engine.status().halt
        assert halt is not None
        assert "root supervisor gave up" in halt.reason
        assert "execution" in halt.reason
        settings = resolved(engine.settings, read_engine_file(engine.settings))
        with connect(settings.ledger.bus_url, Purpose.TOOL, settings) as client:
            assert b"budget_spent" in str(client.xrange(key(KeyType.ALERTS, ALL))).encode()
