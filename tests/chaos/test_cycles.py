"""Cycles carried out by real processes: killed at random while answers are lost, and stopped by the breaker."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.chaos.cycles import TRADING, Exchange, compare, ended, run_cycles, settle, unreported
from tests.chaos.engine_process import ROOT, EngineRun, kill_role

pytestmark = [pytest.mark.process, pytest.mark.timeout(420)]


def test_the_books_are_the_exchanges_after_processes_died_and_answers_were_lost(tmp_path: Path) -> None:
    seed = 4
    print(f"seed {seed}")
    done = run_cycles(tmp_path / "run", seed, seconds=10)
    assert sum(count for name, count in done.items() if name.startswith("kill"))
    assert done["filled"] + done["unwound"] + done["not_filled"] + done["held"]


def test_a_breaker_that_tripped_outlives_its_executor_until_a_person_clears_it(tmp_path: Path) -> None:
    limits = ("execution.breaker.consecutive_max=1", "execution.breaker.failures_max=1")
    with EngineRun(tmp_path / "run", *TRADING, *limits) as engine:
        engine.wait_serving()
        shown = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), "status", "--json", "--set", f"run.run_dir={engine.run_dir}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert json.loads(shown.stdout)["dry_run"] is False, "whoever looks is told what the engine does"
        exchange = Exchange(engine)
        engine.wait(lambda: ended(engine), 90, "the first attempt of which an order left")

        def breaker() -> str:
            return engine.status().detail.get("executor", {}).get("breaker", "")

        def trips() -> bool:
            exchange.fault(fault="partial_fill", percent=0, n=50)
            return "TRIPPED" in breaker()

        engine.wait(trips, 90, "the breaker trips once nothing fills any more")
        old = kill_role(engine, "executor")
        engine.wait(lambda: engine.pids().get("executor", old) != old, 90, "another executor")
        since_ns = time.time_ns()
        engine.wait(lambda: not unreported(engine, ("executor",), since_ns), 90, "the other executor reports")
        assert "TRIPPED" in breaker()
        alarms = {one.alarm.name for one in engine.status().alarms if one.role == "executor"}
        assert "cycles_stopped" in alarms
        assert engine.run("cycles-resume", "").returncode == 64
        resumed = engine.run("cycles-resume", "a test looked at it")
        assert resumed.returncode == 0, resumed.stderr
        engine.wait(lambda: breaker() == "closed" or "TRIPPED" in breaker(), 90, "the executor says")
        engine.wait(lambda: _resumed(engine), 90, "the executor has heard of it")
        settle(engine)
        compare(engine, exchange)


def _resumed(engine: EngineRun) -> bool:
    return engine.status().counters.get("executor", {}).get("resumed", 0) >= 1
