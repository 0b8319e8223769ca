"""The market's path on a loopback socket: real feed and evaluator processes, a sender of real WebSocket beside them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from actors.adapters.feed_connection import ticker_streams
from actors.adapters.feed_link import stream_url
from actors.adapters.image_file import FeedSlot, open_image, withdraw_record
from actors.market_rows import Assignment, assign_rows
from benchmarks.bare_feed import BareCount, BareFeed
from benchmarks.driver_process import Counted, DriverProcess
from benchmarks.frame_sender import SenderOptions, SentReport
from benchmarks.market import SEED, made_up_symbols
from benchmarks.report import ROOT, Measured, quantile, spread_of
from kernels.latency_histogram import BUCKETS, FRAME_TO_DECISION, Int64s, count_of, from_sparse, quantile_ns
from venues.exchange.universe import made_up_universe

SYMBOLS = 1_392
CONNECTION_SYMBOLS_MAX = 200
SENDER_CPU, ENGINE_CPU = 0, 1
SUSTAINED_MIN = 100_000.0
RATE = 20_000.0
WAIT_S_MAX = 60.0


class Program:
    """A program of the benchmarks that answers lines on its standard output."""

    def __init__(self, module: str, options: msgspec.Struct) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, msgspec.json.encode(options).decode()],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def tell(self, line: str) -> None:
        """Write a line to it."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def hear(self) -> bytes:
        """Return its next line. Raises RuntimeError where it has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait()}")
        return line.rstrip(b"\n")

    def hear_kind(self, kind: str) -> bytes:
        """Return the body of the next line of a kind; the others before it are dropped."""
        while True:
            found, _, body = self.hear().partition(b" ")
            if found.decode() == kind:
                return body

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(WAIT_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Tally(msgspec.Struct, frozen=True):
    """What feed and evaluator had counted at one moment."""

    frames: int
    parsed: int
    rejected: int
    changes: int
    overruns: int
    rescans: int
    decided: dict[str, int]

    def since(self, before: Tally) -> Tally:
        """Return what was counted after `before`, without the histogram."""
        return Tally(
            self.frames - before.frames,
            self.parsed - before.parsed,
            self.rejected - before.rejected,
            self.changes - before.changes,
            self.overruns - before.overruns,
            self.rescans - before.rescans,
            {},
        )


class Market:
    """A sender, a feed and an evaluator, connected."""

    def __init__(self, stack: ExitStack, run_dir: Path, engine_cpus: tuple[int, int], *, spin: bool) -> None:
        assignment = _assigned()
        withdraw_record(run_dir)
        feeds = [FeedSlot(*slot) for slot in assignment.feeds]
        open_image(run_dir, assignment.symbols, assignment.row_feed, feeds, "venue")
        self.sender, url = _sender(stack, len(feeds))
        feed_cpu, evaluator_cpu = engine_cpus
        self.feed = _closing(stack, Program("benchmarks.driver_process", _driver("feed", run_dir, feed_cpu, url)))
        self.evaluator = _closing(
            stack, Program("benchmarks.driver_process", _driver("evaluator", run_dir, evaluator_cpu, "", spin=spin))
        )
        assert self.sender.hear() == b"ready"
        self.evaluator.hear_kind("EvaluatorReady")

    def stretch(self, rate: float, seconds: float, *, patient: bool = False) -> tuple[SentReport, Tally, Int64s]:
        """Send for a while, wait until all of it is counted; return what was sent, and what was counted of it."""
        before = self._tally()
        self.sender.tell(f"{rate} {seconds} {int(patient)}")
        sent = msgspec.json.decode(self.sender.hear(), type=SentReport)
        deadline = time.monotonic() + WAIT_S_MAX
        while True:
            after = self._tally()
            since = after.since(before)
            if since.frames >= sent.frames and (since.changes >= since.parsed or since.overruns):
                break
            if time.monotonic() > deadline:
                break
        ages = from_sparse(after.decided)
        ages[:BUCKETS] -= from_sparse(before.decided)[:BUCKETS]
        return sent, after.since(before), ages

    def _tally(self) -> Tally:
        """Ask both, after a status of each: their counters are as of their last status."""
        told = []
        for program, status in ((self.feed, "FeedStatus"), (self.evaluator, "EvaluatorStatus")):
            program.tell("count")
            program.hear_kind("Counted")
            program.hear_kind(status)
            program.tell("count")
            told.append(msgspec.json.decode(program.hear_kind("Counted"), type=Counted))
        feed, evaluator = told
        rejected = sum(count for name, count in feed.counters.items() if name.startswith("rejected."))
        return Tally(
            frames=feed.counters["frames"],
            parsed=feed.counters["parsed"],
            rejected=rejected,
            changes=evaluator.counters["changes"],
            overruns=evaluator.counters["overruns"],
            rescans=evaluator.counters["rescans"],
            decided=evaluator.latencies.get(FRAME_TO_DECISION, {}),
        )


@contextmanager
def market(engine_cpus: tuple[int, int] = (ENGINE_CPU, ENGINE_CPU), *, spin: bool = False) -> Iterator[Market]:
    """Start the three, and end them."""
    with ExitStack() as stack:
        run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="apex-bench-")))
        yield Market(stack, run_dir, engine_cpus, spin=spin)


class BareMarket:
    """A sender and the plain form, connected."""

    def __init__(self, stack: ExitStack, *, decides: bool) -> None:
        assignment = _assigned()
        self.sender, url = _sender(stack, len(assignment.feeds))
        options = BareFeed(tuple(_urls(assignment, url)), ENGINE_CPU, SYMBOLS if decides else 0, SEED)
        self._bare = _closing(stack, Program("benchmarks.bare_feed", options))
        assert self.sender.hear() == b"ready"

    def stretch(self, rate: float, seconds: float, *, patient: bool = False) -> tuple[float, list[int]]:
        """Send for a while; return the frames a second that were read, and their ages at the decision in ns."""
        before = self._count()
        self.sender.tell(f"{rate} {seconds} {int(patient)}")
        sent = msgspec.json.decode(self.sender.hear(), type=SentReport)
        after = self._count()
        return (after.frames - before.frames) / sent.seconds, after.ages_ns

    def _count(self) -> BareCount:
        self._bare.tell("count")
        return msgspec.json.decode(self._bare.hear(), type=BareCount)


def _assigned() -> Assignment:
    return assign_rows(made_up_symbols(made_up_universe(SYMBOLS, SEED)), None, 1, CONNECTION_SYMBOLS_MAX)


def _urls(assignment: Assignment, url: str) -> list[str]:
    names = [symbol.name for symbol in assignment.symbols]
    return [
        stream_url(
            url,
            ticker_streams([name for name, feed in zip(names, assignment.row_feed, strict=True) if feed == number]),
        )
        for number in range(len(assignment.feeds))
    ]


def _sender(stack: ExitStack, connections: int) -> tuple[Program, str]:
    options = SenderOptions(SYMBOLS, SEED, connections, SENDER_CPU)
    sender = _closing(stack, Program("benchmarks.frame_sender", options))
    return sender, f"ws://127.0.0.1:{int(sender.hear())}"


def _driver(kind: str, run_dir: Path, cpu: int, url: str, *, spin: bool = False) -> DriverProcess:
    return DriverProcess(kind, str(run_dir), url, cpu, spin)


def _closing(stack: ExitStack, program: Program) -> Program:
    stack.callback(program.close)
    return program


def sustained(quick: bool) -> list[Measured]:
    """Feed and evaluator on one processor, the sender on the other, as fast as they read; every frame accounted for."""
    seconds, rounds = (1.0, 2) if quick else (4.0, 5)
    ours, bare = [], []
    with ExitStack() as stack:
        plain = BareMarket(stack, decides=False)
        with market() as running:
            running.stretch(20_000, 1.0)
            sent, counted, _ = running.stretch(SUSTAINED_MIN, seconds)
            _check_accounted(sent, counted)
            if counted.overruns:
                raise RuntimeError(f"at {SUSTAINED_MIN:g} frames/s changes were announced that nobody could follow")
            overruns = 0
            for _ in range(rounds):
                sent, counted, _ = running.stretch(0, seconds)
                _check_accounted(sent, counted)
                overruns += counted.overruns
                ours.append(sent.frames / sent.seconds)
                bare.append(plain.stretch(0, seconds)[0])
    return [
        Measured(
            name="market_rate.loopback_to_decision",
            value=spread_of(ours).p50,
            unit="frames/s",
            baseline_name="picows, orjson and four floats in one process, nothing decided",
            baseline=spread_of(bare).p50,
            goal=SUSTAINED_MIN,
            less_is_better=False,
            spread=spread_of(ours),
            baseline_spread=spread_of(bare),
            note=f"{SYMBOLS} symbols, {seconds:g} s a round, the sender blocked by what is read; all accounted for; "
            f"{overruns} ring overruns, each answered by a look at every row (none at {SUSTAINED_MIN:g} frames/s)",
        )
    ]


def latency(quick: bool) -> list[Measured]:
    """From the read that brought a frame to the decision on its row, at 20,000 frames/s; asleep and spinning.

    Asleep: feed and evaluator share a processor, the sender has the other. Spinning: the evaluator has one for itself,
    feed and sender share the other. The sender sleeps between frames: watching the clock instead it would keep the feed
    from the processor that they share, and under a real-time policy be stopped by the kernel for 50 ms a second.
    """
    seconds, rounds = (1.0, 2) if quick else (5.0, 6)
    figures = []
    for name, cpus, spin, goals in (
        ("market_latency.asleep", (ENGINE_CPU, ENGINE_CPU), False, {0.5: 100.0, 0.99: 1_000.0}),
        ("market_latency.spinning", (SENDER_CPU, ENGINE_CPU), True, {0.5: None, 0.99: None}),
    ):
        # One after another: a thread that spins leaves the baseline no processor.
        with ExitStack() as stack:
            plain = BareMarket(stack, decides=True)
            plain.stretch(RATE, 1.0, patient=True)
            bare = [plain.stretch(RATE, seconds, patient=True)[1] for _ in range(rounds)]
        ours: list[Int64s] = []
        with market(cpus, spin=spin) as running:
            running.stretch(RATE, 1.0, patient=True)
            for _ in range(rounds):
                sent, counted, ages = running.stretch(RATE, seconds, patient=True)
                _check_accounted(sent, counted)
                ours.append(ages)
        figures += _latencies(name, ours, bare, goals)
    return figures


def _latencies(
    name: str, ours: list[Int64s], bare: list[list[int]], goals: Mapping[float, float | None]
) -> list[Measured]:
    """Each quantile is taken a round; the figure is the median round's."""
    measured = []
    for share, goal in goals.items():
        values = [quantile_ns(one, round(share * 1000)) / 1e3 for one in ours]
        beside = [quantile(ages, share) / 1e3 for ages in bare]
        measured.append(
            Measured(
                name=f"{name}.p{round(share * 100)}",
                value=quantile(values, 0.5),
                unit="µs",
                baseline_name="one process: picows, orjson, floats, the same cycles in plain Python",
                baseline=quantile(beside, 0.5),
                goal=goal,
                spread=spread_of(values),
                baseline_spread=spread_of(beside),
                note=f"{RATE:g} frames/s, {SYMBOLS} symbols; the samples are rounds of {count_of(ours[0])} frames",
            )
        )
    return measured


def _check_accounted(sent: SentReport, counted: Tally) -> None:
    """Every frame that was sent is parsed or rejected by name, and every row that changed was looked at."""
    if counted.frames != sent.frames or counted.parsed + counted.rejected != sent.frames:
        raise RuntimeError(f"{sent.frames} frames sent, counted {counted}")
    if counted.changes != counted.parsed and not counted.overruns:
        raise RuntimeError(f"rows changed that nobody looked at: {counted}")
