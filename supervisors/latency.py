"""Latencies of a running engine by stage, merged over its actors' histograms."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from actors.adapters.health import HealthReport
from actors.adapters.inspection import Inspector
from config.schema import Settings
from kernels.latency_histogram import (
    MAX_AT,
    RELATIVE_ERROR,
    Int64s,
    count_of,
    from_sparse,
    merge,
    new_histogram,
    quantile_ns,
)
from supervisors.run_files import read_engine_file, resolved


class StageLatency(msgspec.Struct, frozen=True):
    """One stage, in microseconds. Quantiles are never below the true ones, and at most `error_percent` above."""

    stage: str
    count: int
    p50_us: float
    p90_us: float
    p99_us: float
    p999_us: float
    max_us: float


class LatencyReport(msgspec.Struct, frozen=True):
    """All stages since their actors' incarnations began, by name."""

    stages: tuple[StageLatency, ...]
    error_percent: float


def read_latency(settings: Settings) -> LatencyReport:
    """Read them now. Raises NotRunning, EngineAway."""
    found = read_engine_file(settings)
    with Inspector(resolved(settings, found)) as inspector:
        reports = [leaf for leaf in inspector.leaves() if leaf.written_ns >= found.started_ns]
    return LatencyReport(sum_latencies(reports), 100 * RELATIVE_ERROR)


def sum_latencies(reports: Iterable[HealthReport]) -> tuple[StageLatency, ...]:
    """Merge the histograms of all reports, by stage; what holds nothing is absent."""
    merged: dict[str, Int64s] = {}
    for report in reports:
        for stage, sparse in report.latencies.items():
            if sparse:
                merge(merged.setdefault(stage, new_histogram()), from_sparse(sparse))
    return tuple(_stage(stage, merged[stage]) for stage in sorted(merged))


def _stage(name: str, histogram: Int64s) -> StageLatency:
    p50, p90, p99, p999 = (quantile_ns(histogram, per_mille) / 1_000 for per_mille in (500, 900, 990, 999))
    return StageLatency(name, count_of(histogram), p50, p90, p99, p999, int(histogram[MAX_AT]) / 1_000)


def latency_text(report: LatencyReport) -> str:
    """The report as a table."""
    if not report.stages:
        return "nothing was measured yet"
    lines = [f"{'stage':<24}{'count':>12}{'p50':>12}{'p90':>12}{'p99':>12}{'p99.9':>12}{'max':>12}   µs"]
    lines += [
        f"{one.stage:<24}{one.count:>12,}{one.p50_us:>12,.1f}{one.p90_us:>12,.1f}{one.p99_us:>12,.1f}"
        f"{one.p999_us:>12,.1f}{one.max_us:>12,.1f}"
        for one in report.stages
    ]
    lines.append(f"quantiles are at most {report.error_percent:.1f} % above the true ones")
    return "\n".join(lines)
