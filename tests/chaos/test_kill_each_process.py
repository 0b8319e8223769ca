"""kill -9 of each process of a running, trading engine, in turn: each is back, nothing is lost or doubled."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.books import assert_equal_to_the_gateway, assert_one_outcome_each, settle
from tests.chaos.engine_process import EngineRun, kill_role, runs

SEED = 20241121
BUSY = ("momentum.threshold_bps=1", "momentum.lookback_s=2")


@pytest.mark.process
@pytest.mark.timeout(420)
def test_every_process_killed_in_turn_is_back_and_the_books_equal_the_gateways(tmp_path: Path) -> None:
    random.seed(SEED)
    print(f"seed {SEED}")
    with EngineRun(tmp_path / "run", *BUSY) as engine:
        engine.wait_serving()
        engine.wait(lambda: engine.orders(), 90, "the first order")
        roles = [one.role for one in engine.status().processes if one.role != "run.py"]
        random.shuffle(roles)
        for role in roles:
            old = kill_role(engine, role)
            engine.wait(
                lambda role=role, old=old: engine.pids().get(role, old) != old, 90, f"{role} has another pid than {old}"
            )
            engine.wait_serving()
        settle(engine)
        assert_equal_to_the_gateway(engine)
        assert assert_one_outcome_each(engine, engine.outcomes())
        assert engine.status().halt is None


@pytest.mark.process
@pytest.mark.timeout(180)
def test_run_py_killed_leaves_nothing_and_the_next_start_goes_on_from_there(tmp_path: Path) -> None:
    engine = EngineRun(tmp_path / "run", *BUSY)
    engine.start()
    try:
        engine.wait_serving()
        engine.wait(lambda: engine.orders(), 90, "the first order")
        first = set(engine.orders())
        old = engine.pids()
        assert engine.process is not None
        engine.process.kill()
        engine.process.wait()
        engine.process = None
        engine.start()
        engine.wait(lambda: engine.status().pid != old["run.py"], 90, "a new guardian")
        engine.wait_serving()
        alive = {role: pid for role, pid in old.items() if runs(pid)}
        assert not alive, f"processes of the old run still run: {alive}"
        assert first <= set(engine.orders()), "orders of the first run are forgotten"
        settle(engine)
        assert_equal_to_the_gateway(engine)
    finally:
        engine.stop()
