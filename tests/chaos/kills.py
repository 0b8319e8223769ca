"""One run of a whole engine under load in which processes die at random, by a seed; the books must be equal after."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

from tests.chaos.books import assert_equal_to_the_gateway, assert_one_outcome_each, settle
from tests.chaos.engine_process import EngineRun, runs
from tests.chaos.load import AWAY, QUIET, Load
from tests.chaos.points import FAST, message_faults, override

SECONDS = 15.0
LOAD_EVERY_S = 0.15
"""Between two signals or prices: below the broker's own pace of 14 intents a second."""
GATEWAY_FAULTS: tuple[dict[str, object], ...] = (
    {"kind": "die_at_place", "when": "before", "nth": 1},
    {"kind": "die_at_place", "when": "after", "nth": 1},
    {"kind": "die_at_place", "when": "before", "nth": 2},
    {"kind": "die_at_place", "when": "after", "nth": 2},
    {"kind": "die_at_place", "when": "after", "nth": 3},
    {"kind": "drop_at_place", "when": "before", "nth": 1},
    {"kind": "drop_at_place", "when": "after", "nth": 2},
    {"kind": "drop_at_place", "when": "after", "nth": 3},
    {"kind": "silence", "accepted": True, "nth": 1, "count": 3},
    {"kind": "silence", "accepted": False, "nth": 1, "count": 3},
    {"kind": "drop"},
    {"kind": "refuse", "seconds": 2},
    {"kind": "partial_fills", "size": "3"},
    {"kind": "duplicate_execution", "count": 3},
)
SHORT_BEATS = ("supervision.heartbeat_s=0.5", "supervision.dead_after_s=4")
"""So that a stopped process is found hung within the run."""


class Chaos:
    """The acts of one run. `done` counts them by name."""

    def __init__(self, engine: EngineRun, seed: int, say: bool = False) -> None:
        self.engine = engine
        self.random = random.Random(f"kills {seed}")
        self.load = Load(engine, seed)
        self.done: Counter[str] = Counter()
        self.say = say

    def act(self) -> None:
        """Kill one (most often), or more at once, stop one, halt, or arm a fault of the gateway."""
        choice = self.random.random()
        try:
            if choice < 0.55:
                self._kill(1)
            elif choice < 0.65:
                self._kill(self.random.randint(2, 4))
            elif choice < 0.70:
                self._stop_one()
            elif choice < 0.75:
                self._halt_for_a_moment()
            elif choice < 0.80:
                self._kill_run_py()
            else:
                self._fault()
        except (*AWAY, json.JSONDecodeError, OSError) as error:
            self._note(f"nothing: {type(error).__name__}")

    def _note(self, name: str) -> None:
        self.done[name] += 1
        if self.say:
            print(f"  {time.strftime('%H:%M:%S')} {name}", flush=True)

    def _victims(self) -> list[tuple[str, int]]:
        return sorted((role, pid) for role, pid in self.engine.pids().items() if role != "run.py" and pid and runs(pid))

    def _kill(self, count: int) -> None:
        victims = self._victims()
        for role, pid in self.random.sample(victims, min(count, len(victims))):
            self.engine.strikes(role)
            os.kill(pid, signal.SIGKILL)
            self._note(f"kill {role}")

    def _stop_one(self) -> None:
        victims = self._victims()
        if not victims:
            return
        role, pid = self.random.choice(victims)
        self.engine.strikes(role)
        os.kill(pid, signal.SIGSTOP)
        self._note(f"stop {role}")
        if role in ("exchange", "gateway", "admin", "root", "log"):  # judged late or not at all; a hang that ends
            time.sleep(1.0)
            os.kill(pid, signal.SIGCONT)

    def _halt_for_a_moment(self) -> None:
        self._note("halt")
        assert self.engine.run("halt", "chaos").returncode == 0
        for _ in range(3):
            self.load.signal()
        assert self.engine.run("resume").returncode == 0

    def _kill_run_py(self) -> None:
        process = self.engine.process
        assert process is not None
        self._note("kill run.py")
        process.kill()
        process.wait()
        for _ in range(3):
            self.load.signal()  # into whatever is still there
        self.engine.start()

    def _fault(self) -> None:
        fault = self.random.choice(GATEWAY_FAULTS)
        self._note(f"gateway {fault['kind']} {fault.get('when', fault.get('accepted', ''))}".strip())
        self.engine.gateway("fault", **fault)
        for _ in range(2):
            self.load.signal()


def run_kills(run_dir: Path, seed: int, seconds: float = SECONDS, say: bool = False, messages: bool = True) -> Chaos:
    """Run it; raises AssertionError with what was lost or doubled. The run directory is left to whoever called."""
    rules = message_faults(seed, 12) if messages else []
    with EngineRun(run_dir, *QUIET, *FAST, *SHORT_BEATS, override(rules)) as engine:
        engine.wait_serving()
        chaos = Chaos(engine, seed, say)
        engine.wait(chaos.load.prices, 90, "the gateway serves")
        deadline = time.monotonic() + seconds
        next_act = 0.0
        while time.monotonic() < deadline:
            _go_on_if_it_gave_up(engine, chaos)
            chaos.load.step()
            time.sleep(LOAD_EVERY_S)
            if time.monotonic() >= next_act:
                chaos.act()
                next_act = time.monotonic() + chaos.random.uniform(0.2, 1.5)
        finish(engine, chaos.load)
    return chaos


def finish(engine: EngineRun, load: Load) -> Counter[str]:
    """End every fault, let all come back, settle, close what is open, settle again, compare."""
    if engine.process is None or engine.process.poll() is not None:
        engine.start()
    engine.wait_serving()
    engine.wait(lambda: engine.gateway("clear"), 90, "the gateway's faults end")
    settle(engine, load.published)
    assert_equal_to_the_gateway(engine)
    load.exit_all()
    settle(engine, load.published)
    assert_equal_to_the_gateway(engine)
    assert engine.status().halt is None, engine.status().halt
    return assert_one_outcome_each(engine, load.published)


def _go_on_if_it_gave_up(engine: EngineRun, chaos: Chaos) -> None:
    """As systemd would: start again when run.py ended with a code."""
    process = engine.process
    if process is not None and process.poll() is not None:
        chaos.done[f"run.py ended with {process.returncode}"] += 1
        engine.start()


def keep(run_dir: Path, kept: Path) -> None:
    """Move what a failed run left."""
    shutil.rmtree(kept, ignore_errors=True)
    shutil.move(run_dir, kept)
