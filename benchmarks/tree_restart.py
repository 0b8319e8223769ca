"""Root, admin or a Redis server of run.py killed → the whole tree serves again; the baseline is that tree's cold start.

For root and admin: until run.py says that the tree serves. For a Redis server: until it answers and the last leaf
that was lost to it serves again, by the microseconds of the log files. The engine is the default one, under load.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

from benchmarks.engine_watch import Watched, engine_directory, kill, wait_for
from benchmarks.report import Measured, compared
from tests.chaos.engine_process import EngineRun

BASELINE = "cold start of run.py until its tree serves"
ROOT_GAP_S = 3.5
"""Between two kills that cost an engine start: run.py gives up after 20 within a minute."""
SETTLE_S = 2.5
"""After a server is back: whoever had not yet noticed that it was away has by then."""
SERVE_S_MAX = 60.0
VICTIMS = ("root", "redis.ledger", "admin", "redis.bus")
"""In this order in turn, so that the same server is never killed twice within ten seconds: that is backed off."""


def tree_restart(quick: bool) -> list[Measured]:
    """Kill each in turn, again and again, in several engines."""
    engines, rounds = (1, 1) if quick else (3, 4)
    cold: list[float] = []
    back: dict[str, list[float]] = {victim: [] for victim in VICTIMS}
    for _ in range(engines):
        with engine_directory() as directory, ExitStack() as stack:
            began = time.time()
            engine = stack.enter_context(EngineRun(directory / "run"))
            watched = Watched(engine)
            wait_for(watched.has_served, SERVE_S_MAX, "a tree", engine)
            cold.append(watched.trees_served()[-1][0] - began)
            for _ in range(rounds):
                for victim in VICTIMS:
                    time.sleep(ROOT_GAP_S)
                    back[victim].append(_killed_s(watched, victim))
    all_of_them = [seconds for times in back.values() for seconds in times]
    note = "kill -9 → every process of the tree serves; the default engine under load"
    shares: dict[float, float | None] = {0.5: None, 0.99: 2.0}
    figures = compared("tree_restart.any", "s", all_of_them, BASELINE, cold, shares, note)
    for victim, times in back.items():
        figures += compared(f"tree_restart.{victim}", "s", times, BASELINE, cold, {0.5: None, 0.99: 2.0}, note)
    return figures


def _killed_s(watched: Watched, victim: str) -> float:
    return _server_killed_s(watched, victim) if victim.startswith("redis.") else _engine_killed_s(watched, victim)


def _engine_killed_s(watched: Watched, victim: str) -> float:
    at = kill(watched.pid_of(victim))
    wait_for(lambda: watched.trees_served()[-1][0] > at, SERVE_S_MAX, f"a tree after {victim}", watched.engine)
    return watched.trees_served()[-1][0] - at


def _server_killed_s(watched: Watched, victim: str) -> float:
    old = watched.pid_of(victim)
    at = kill(old)
    wait_for(lambda: watched.pid_of(victim) != old, SERVE_S_MAX, f"another {victim}", watched.engine, 0.002)
    wait_for(watched.redis_answers, SERVE_S_MAX, "Redis answers", watched.engine, 0.002)
    answered = time.time()
    wait_for(lambda: _whole(watched, at) and time.time() > answered + SETTLE_S, SERVE_S_MAX, "leaves", watched.engine)
    served = [when for when, role, _ in watched.leaves_served() if when > at and role in _lost_since(watched, at)]
    return max([answered, *served]) - at


def _whole(watched: Watched, at: float) -> bool:
    """Whether every leaf lost since then serves again."""
    served = {role: when for when, role, _ in sorted(watched.leaves_served())}
    return all(served.get(role, 0.0) > when for role, when in _lost_since(watched, at).items() if role in served)


def _lost_since(watched: Watched, at: float) -> dict[str, float]:
    return {role: when for when, role in sorted(watched.lost()) if when > at}
