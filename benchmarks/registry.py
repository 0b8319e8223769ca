"""The benchmarks by name. Each is imported only when it runs: some fork, and must not inherit the others' threads."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import msgspec

from benchmarks.report import Measured

Run = Callable[[bool], list[Measured]]


class Benchmark(msgspec.Struct, frozen=True):
    """`module:function`, which takes `quick` and returns figures, each with the baseline that it ran itself."""

    name: str
    at: str
    baseline: str
    about: str
    cheap: bool = False
    """Its quick form takes a few seconds and starts no engine."""

    peer: str = ""
    """`module:function` of another's engine, run beside it where asked for; what it is, and what it costs, is there."""

    def run(self, quick: bool, peers: bool = False) -> list[Measured]:
        """Run it and its baseline, and its peer where `peers` asks for it."""
        return [figure for at in (self.at, self.peer if peers else "") if at for figure in _function(at)(quick)]


def _function(at: str) -> Run:
    module, _, name = at.partition(":")
    found: Run = getattr(importlib.import_module(module), name)
    return found


BENCHMARKS = (
    Benchmark("parse", "benchmarks.kernel_speed:parse", "orjson and float", "frames → rows of the book", cheap=True),
    Benchmark(
        "evaluate",
        "benchmarks.kernel_speed:evaluate",
        "the same cycles in plain Python floats",
        "one changed row of the median symbol → its cycles screened",
    ),
    Benchmark(
        "full_scan",
        "benchmarks.full_scan:full_scan",
        "a plain C loop; Decimal",
        "5,196 cycles screened, validity and age checked",
        cheap=True,
    ),
    Benchmark(
        "cycle_index",
        "benchmarks.kernel_speed:cycle_index",
        "plain Python dicts",
        "parsed symbols → index of 5,196 cycles",
        cheap=True,
    ),
    Benchmark(
        "market_rate",
        "benchmarks.market_path:sustained",
        "picows, orjson and float in one process",
        "loopback WebSocket → decision, as fast as it goes",
    ),
    Benchmark(
        "market_latency",
        "benchmarks.market_path:latency",
        "the same in one process in plain Python",
        "frame received → decision at 20,000 frames/s",
    ),
    Benchmark(
        "replay",
        "benchmarks.replay_speed:replay",
        "orjson, floats and the changed symbol's cycles in a plain loop",
        "recordings → book and evaluator, offline, one processor",
        cheap=True,
        peer="benchmarks.replay_speed:beside_peer",
    ),
    Benchmark(
        "ledger", "benchmarks.ledger_append:append", "a bare XADD", "one durable append to the ledger", cheap=True
    ),
    Benchmark(
        "wake_up",
        "benchmarks.wake_up:wake_up",
        "the same back to back",
        "a sleeping process notices a socket",
        cheap=True,
    ),
    Benchmark(
        "worker_restart",
        "benchmarks.worker_restart:worker_restart",
        "a bare fork that reads the same entries",
        "worker killed → serving again, by the length of its journal's tail",
    ),
    Benchmark("orders", "benchmarks.order_path:orders", "the same steps in one process", "signal → order bytes"),
    Benchmark(
        "order_reports",
        "benchmarks.order_reports:reports",
        "ib_insync and one append in one process",
        "a cancel at the venue → visible to the allocator",
    ),
    Benchmark(
        "broker_recovery",
        "benchmarks.order_reports:recovery",
        "a bare client's read of the same orders",
        "broker killed with 1,000 open orders → gate open",
    ),
    Benchmark(
        "tree_restart", "benchmarks.tree_restart:tree_restart", "cold start", "root, admin, Redis killed → serving"
    ),
    Benchmark(
        "start", "benchmarks.start:start", "a bare interpreter with the same imports", "run.py → first evaluation"
    ),
    Benchmark(
        "gateway",
        "benchmarks.gateway_orders:gateway_orders",
        "a bare socket server that journals",
        "order messages a second of the paper gateway",
        cheap=True,
    ),
    Benchmark("memory", "benchmarks.memory:memory", "a bare interpreter with numpy and numba", "PSS of every process"),
)


def chosen(names: list[str]) -> list[Benchmark]:
    """Return those named, in the order of the table; all for no names. Raises KeyError with what there is."""
    known = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise KeyError(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    return [benchmark for benchmark in BENCHMARKS if not names or benchmark.name in names]
