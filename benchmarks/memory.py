"""PSS of every process of a running engine and of the whole; the baseline is an interpreter that imported numba."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.engine_watch import engine_directory
from benchmarks.report import Measured, quantile
from tests.chaos.engine_process import EngineRun

BASELINE = "bare interpreter with numpy and numba"
EVALUATOR_MB_MAX = 250.0
HOST = "import numpy, numba, sys; print(1, flush=True); sys.stdin.read()"
OUTSIDE = ("exchange", "gateway")
"""The outside world, which stands for venues elsewhere: shown, but no part of the tree."""


def memory(quick: bool) -> list[Measured]:
    """Look several times while the engine trades, and take each process's greatest."""
    looks, every_s = (1, 3.0) if quick else (6, 5.0)
    with engine_directory() as directory, EngineRun(directory / "run", "momentum.threshold_bps=1") as engine:
        engine.wait_serving(60)
        seen: dict[str, list[float]] = {}
        for _ in range(looks):
            time.sleep(every_s)
            for role, pid in engine.pids().items():
                seen.setdefault(role, []).append(pss_mb(pid))
        bare = bare_mb()
    tree = {role: max(found) for role, found in seen.items() if role not in OUTSIDE}
    whole = Measured(
        name="memory.tree",
        value=sum(tree.values()),
        unit="MB",
        baseline_name=BASELINE,
        baseline=bare,
        note=f"{len(tree)} processes, run.py and both Redis servers among them; venues apart; PSS",
    )
    each = [
        Measured(
            name=f"memory.{role}",
            value=max(found),
            unit="MB",
            baseline_name=BASELINE,
            baseline=bare,
            goal=EVALUATOR_MB_MAX if role == "evaluator" else None,
            note=f"median {quantile(found, 0.5):.1f} MB; PSS",
        )
        for role, found in sorted(seen.items())
    ]
    return [whole, *each]


def bare_mb() -> float:
    """PSS of an interpreter that does nothing but hold numpy and numba."""
    with subprocess.Popen([sys.executable, "-c", HOST], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        return pss_mb(process.pid)


def pss_mb(pid: int) -> float:
    """Proportional set size in units of 1e6 bytes: pages shared with others count by their share."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    assert found is not None, "this kernel tells no PSS"
    return int(found[1]) * 1024 / 1e6
