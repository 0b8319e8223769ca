"""The benchmarks' results have the fixed form, and every figure stands beside a baseline of the same run."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.registry import BENCHMARKS, chosen
from benchmarks.report import (
    Measured,
    compared,
    entry_of,
    line_of,
    quantile,
    spread_of,
    this_machine,
    versions_here,
    write_results,
)

ROOT = Path(__file__).resolve().parents[2]
FIXED_FORM = {"name", "value", "unit", "baseline_name", "baseline", "ratio", "goal", "met"}
FIGURE = Measured(name="a.p50", value=3.0, unit="s", baseline_name="bare", baseline=2.0)


def entry(**changes: object) -> object:
    values = {name: getattr(FIGURE, name) for name in FIGURE.__struct_fields__} | changes
    return entry_of(Measured(**values), this_machine(), versions_here(), "abc", quick=True)  # type: ignore[arg-type]


def read(path: Path) -> list[dict[str, object]]:
    content = json.loads(path.read_bytes())
    assert isinstance(content, list)
    return content


@pytest.mark.parametrize("name", [benchmark.name for benchmark in BENCHMARKS if benchmark.cheap])
@pytest.mark.process
def test_a_cheap_benchmark_runs_quickly_and_writes_whole_entries(name: str, tmp_path: Path) -> None:
    path = tmp_path / "latest.json"
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks", name, "--quick", "--output", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    entries = read(path)
    assert entries
    for one in entries:
        assert set(one) >= FIXED_FORM | {"machine", "versions", "commit"}
        assert str(one["name"]).startswith(f"{name}.")
        assert one["baseline_name"]
        assert one["value"] > 0  # type: ignore[operator]
        assert math.isclose(one["ratio"], one["value"] / one["baseline"])  # type: ignore[operator, arg-type]
        assert one["quick"] is True
        assert str(one["name"]) in finished.stdout


def test_every_benchmark_names_its_baseline_and_a_function_that_is_there() -> None:
    for benchmark in BENCHMARKS:
        assert benchmark.baseline
        module, _, function = benchmark.at.partition(":")
        source = (ROOT / (module.replace(".", os.sep) + ".py")).read_text()
        assert re.search(rf"^def {function}\(quick: bool\) -> list\[Measured\]:", source, re.MULTILINE), benchmark.at
    names = [benchmark.name for benchmark in BENCHMARKS]
    assert len(set(names)) == len(names)


def test_the_goals_are_those_of_the_issue() -> None:
    """Read in the sources: a goal that is moved must be moved here, too."""
    stated = {
        "worker_restart.py": ("{0.5: 0.1, 0.99: 0.5}", "{0.5: None, 0.99: 2.0}"),
        "tree_restart.py": ("{0.5: None, 0.99: 2.0}",),
        "order_path.py": ("{0.5: 2.0, 0.99: 10.0}",),
        "start.py": ("{0.5: 5.0, 0.99: 5.0}",),
        "memory.py": ("EVALUATOR_MB_MAX = 250.0",),
        "kernel_speed.py": ("PARSED_MIN = 800_000.0", "MEDIAN_US_MAX = 1.0", "INDEX_MS_MAX = 5.0"),
        "full_scan.py": ("TIMES_C_MAX = 2.0", "TIMES_DECIMAL_MIN = 1_000.0"),
        "replay_speed.py": ("CAPTURE_MIN = 1_000_000.0", "LINES_MIN = 300_000.0"),
        "market_path.py": ("SUSTAINED_MIN = 100_000.0", "{0.5: 100.0, 0.99: 1_000.0}"),
    }
    for name, goals in stated.items():
        source = (ROOT / "benchmarks" / name).read_text()
        assert all(goal in source for goal in goals), name


@pytest.mark.parametrize("baseline", [{"baseline_name": ""}, {"baseline": 0.0}])
def test_a_figure_without_a_baseline_is_refused(baseline: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"a\.p50"):
        entry(**baseline)


@pytest.mark.parametrize(
    ("goal", "less_is_better", "met"),
    [(None, True, None), (3.0, True, True), (2.9, True, False), (3.0, False, True), (3.1, False, False)],
)
def test_a_goal_is_met_when_reached_in_its_direction(
    goal: float | None, less_is_better: bool, met: bool | None
) -> None:
    judged = entry(goal=goal, less_is_better=less_is_better)
    assert judged.met is met  # type: ignore[attr-defined]
    assert ("MISSED" in line_of(judged)) == (met is False)  # type: ignore[arg-type]


def test_the_file_is_a_list_of_objects_that_each_carry_machine_versions_and_commit(tmp_path: Path) -> None:
    path = tmp_path / "results" / "latest.json"
    write_results([entry(), entry(name="b.p99")], path)  # type: ignore[list-item]
    first, second = read(path)
    assert (first["name"], second["name"]) == ("a.p50", "b.p99")
    for one in (first, second):
        assert set(one) >= FIXED_FORM
        assert one["commit"] == "abc"
        assert {"system", "processor", "cores", "load_1m"} <= set(one["machine"])  # type: ignore[call-overload]
        assert {"python", "thespian", "redis", "numba"} <= set(one["versions"])  # type: ignore[call-overload]
    assert [file.name for file in path.parent.iterdir()] == ["latest.json"]


def test_quantiles_are_by_nearest_rank() -> None:
    """By hand: of 1…10 the median is the 5th, the 99th percentile the 10th; of 1…200 it is the 198th."""
    ten = [float(n) for n in range(10, 0, -1)]
    assert (quantile(ten, 0.5), quantile(ten, 0.99), quantile([7.0], 0.99)) == (5.0, 10.0, 7.0)
    assert quantile([float(n) for n in range(1, 201)], 0.99) == 198.0
    spread = spread_of(ten)
    assert (spread.samples, spread.least, spread.p25, spread.p50, spread.p75, spread.most) == (10, 1, 3, 5, 8, 10)


def test_each_quantile_stands_beside_the_same_of_the_baseline() -> None:
    p50, p99 = compared("x", "s", [2.0, 4.0, 9.0], "bare", [1.0, 2.0, 3.0], {0.5: 5.0, 0.99: None})
    assert (p50.name, p50.value, p50.baseline, p50.goal) == ("x.p50", 4.0, 2.0, 5.0)
    assert (p99.name, p99.value, p99.baseline, p99.goal) == ("x.p99", 9.0, 3.0, None)


def test_an_unknown_name_is_a_usage_error_that_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense", "--quick"]) == 64
    said = capsys.readouterr().err
    assert "nonsense" in said
    assert all(benchmark.name in said for benchmark in BENCHMARKS)


def test_no_names_mean_all_and_names_keep_the_tables_order() -> None:
    assert chosen([]) == list(BENCHMARKS)
    assert [benchmark.name for benchmark in chosen(["ledger", "parse"])] == ["parse", "ledger"]
