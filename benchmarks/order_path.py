"""A signal published → its intent durable → the bytes of its three orders on the socket, in the whole engine.

Signals go to the bus one by one, far enough apart that none waits for another. The market stands still and the limits
are far from it, so that nothing fills: what is measured is the way out. Every figure is a difference of wall clocks of
this machine that the engine wrote down itself: the signal's `ts_event_ns`, the journals of allocator and broker, the
allocator's trace, and `SubmitWritten.written_ns`, read right after the last byte was handed to the socket. The intent
is durable when the broker's append has returned, which is before the bytes leave and after "broker has it".
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import msgspec
import orjson
import redis

from actors.adapters.bus_streams import publish_signal
from actors.adapters.redis_server import EmbeddedRedis, Purpose, ServerKind, connect
from actors.keys import KeyType, key
from actors.messages import JournalRecord, PlaceBracket, Side, Signal, SignalReceived, SubmitWritten
from benchmarks.bare_hops import SYMBOLS
from benchmarks.engine_watch import Watched, engine_directory, wait_for
from benchmarks.report import ROOT, Measured, compared
from kernels.fixed8 import SCALE
from tests.chaos.engine_process import EngineRun
from tests.venues.gateway_process import GatewayProcess

Page = list[tuple[bytes, dict[bytes, bytes]]]

BASELINE = "one process: read, 2 fsynced appends, ib_insync ×3"
BOUND = "the same hops bare: 2 actors, 2 fsynced appends, ib_insync ×3"
GAP_S = 0.12
"""Eight signals a second: below the broker's pace of 14 intents and the gateway's of 50 messages."""
WARM_UP = len(SYMBOLS)
"""The first of each symbol asks the gateway for its contract."""
MS = 1e6
MANY = ("fund.max_open_brackets=100000", "fund.max_gross_notional=1000000000", "fund.max_position_notional=100000000")
NO_LIMITS = ("risk.rejects_max=0", "risk.ack_slow_max=0", "risk.daily_loss_max=0")
STILL = (
    "momentum.enabled=false",
    "venues.gateway.walk=false",
    "fund.fraction=0.01",
    "pre_trade.collar_bps=0",
    "pre_trade.exit_collar_bps=0",
    "pre_trade.market_collar_bps=10000",
    *MANY,
    *NO_LIMITS,
)
QUIET = ("venues.exchange.rate_per_s=1", "venues.exchange.opportunity_every_s=0")


def orders(quick: bool) -> list[Measured]:
    """With the default market data beside it, and with next to none."""
    count = 20 if quick else 300
    goals: dict[float, float | None] = {0.5: 2.0, 0.99: 10.0}
    figures = _measured("orders.signal_to_socket", count, goals, ())
    return figures if quick else figures + _measured("orders.quiet_market", count, {0.5: None, 0.99: None}, QUIET)


def _measured(name: str, count: int, goals: dict[float, float | None], overrides: tuple[str, ...]) -> list[Measured]:
    with engine_directory() as directory, ExitStack() as stack:
        engine = stack.enter_context(EngineRun(directory / "run", *STILL, *overrides))
        bare = stack.enter_context(_bare(directory, "benchmarks.bare_order"))
        bound = stack.enter_context(_bare(directory, "benchmarks.bare_hops"))
        engine.wait(lambda: engine.all_serve() and engine.status().gate.get("gate") == "open", 60, "an open gate")
        path = Way(engine)
        took: dict[Bare, list[float]] = {bare: [], bound: []}
        for number in range(WARM_UP + count):
            at = time.monotonic()
            path.publish(number)
            for share, one in enumerate((bare, bound), 1):
                time.sleep(max(0.0, at + GAP_S * share / 3 - time.monotonic()))
                took[one].append(one.written_after_ns(_signal(number)) / MS)
            if number % 20 == 0:
                path.read()
            time.sleep(max(0.0, at + GAP_S - time.monotonic()))
        wait_for(lambda: path.read() == WARM_UP + count, 20, "all are written", engine)
        hops = path.hops(WARM_UP)
    note = "; ".join(f"{hop} {_medians(times)}" for hop, times in hops.items() if hop != "all")
    baseline, bounds = (samples[WARM_UP:] for samples in took.values())
    figures = compared(name, "ms", hops["all"], BASELINE, baseline, goals, f"p50/p99 ms by hop: {note}")
    return figures + compared(f"{name}.beside_bound", "ms", hops["all"], BOUND, bounds, dict.fromkeys(goals))


def _medians(times: list[float]) -> str:
    ordered = sorted(times)
    return f"{ordered[len(ordered) // 2]:.2f}/{ordered[int(len(ordered) * 0.99)]:.2f}"


def _signal(number: int) -> Signal:
    now_ns = time.time_ns()
    return Signal(
        signal_id=f"bench-{number}",
        strategy=f"bench-{number}",
        symbol=SYMBOLS[number % len(SYMBOLS)],
        side=Side.BUY,
        limit_px=20 * SCALE,
        reference_px=100 * SCALE,
        take_profit_px=9_000 * SCALE,
        stop_px=10 * SCALE,
        ts_event_ns=now_ns,
        expires_ns=now_ns + 60 * 10**9,
    )


class Way:
    """The way of each signal through one engine."""

    def __init__(self, engine: EngineRun) -> None:
        found = Watched(engine).file()
        self._run_dir = engine.run_dir
        self._bus = connect(found.bus_url, Purpose.BUS)
        self._ledger = connect(found.ledger_url, Purpose.TOOL)
        self._after = {"allocator": "-", "broker.paper": "-"}
        self.published: dict[str, int] = {}
        self.allocator: dict[str, int] = {}
        self.broker: dict[str, int] = {}
        self.written: dict[str, int] = {}
        self._signal_of: dict[str, str] = {}

    def publish(self, number: int) -> None:
        """Put a signal on the bus."""
        signal = _signal(number)
        self.published[signal.signal_id] = signal.ts_event_ns
        publish_signal(self._bus, signal)

    def read(self) -> int:
        """Take what the journals have got since the last look; return how many signals' orders are written."""
        for role in self._after:
            for record in self._new_records(role):
                match record.input.body:
                    case SignalReceived(signal=signal):
                        self.allocator.setdefault(signal.signal_id, record.now_ns)
                    case PlaceBracket(intent=intent):
                        self.broker.setdefault(intent.signal_id, record.now_ns)
                        self._signal_of[intent.intent_id] = intent.signal_id
                    case SubmitWritten(intent_id=intent_id, written_ns=written_ns):
                        self.written.setdefault(self._signal_of[intent_id], written_ns)
        return len(self.written)

    def hops(self, skipped: int) -> dict[str, list[float]]:
        """Return milliseconds of each part of the way, and of all of it, of the signals after the first ones."""
        # The trace waits in memory for up to a second.
        time.sleep(2.0)
        sent = self._sent()
        hops: dict[str, list[float]] = {}
        for signal_id in list(self.published)[skipped:]:
            marks = {
                "published→allocator has it": self.allocator[signal_id] - self.published[signal_id],
                "→allocator's append, intent sent": sent[signal_id] - self.allocator[signal_id],
                "→broker has it": self.broker[signal_id] - sent[signal_id],
                "→broker's append, bytes on the socket": self.written[signal_id] - self.broker[signal_id],
                "all": self.written[signal_id] - self.published[signal_id],
            }
            for hop, took_ns in marks.items():
                hops.setdefault(hop, []).append(took_ns / MS)
        return hops

    def _new_records(self, role: str) -> Iterator[JournalRecord]:
        page = cast("Page", self._ledger.xrange(key(KeyType.JOURNAL, role), self._after[role], "+"))
        for entry_id, fields in page:
            self._after[role] = f"({entry_id.decode()}"
            yield msgspec.json.decode(next(iter(fields.values())), type=JournalRecord)

    def _sent(self) -> dict[str, int]:
        lines = (self._run_dir / "trace" / "allocator.jsonl").read_bytes().splitlines()
        found: dict[str, int] = {}
        for line in map(orjson.loads, lines):
            if line["type"] == "PlaceBracket" and line["outcome"] == "sent":
                found.setdefault(line["correlation_id"], line["sent_ns"])
        return found


class Bare:
    """A process to compare with, with servers and a gateway of its own."""

    def __init__(self, bus: redis.Redis, process: subprocess.Popen[str]) -> None:
        self._bus = bus
        self._process = process

    def line(self) -> str:
        """Return the next line that it says."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def written_after_ns(self, signal: Signal) -> int:
        """Publish a signal and return how long it took until its orders were written."""
        publish_signal(self._bus, signal)
        signal_id, written_ns = self.line().split()
        assert signal_id == signal.signal_id, f"{signal_id} answered for {signal.signal_id}"
        return int(written_ns) - signal.ts_event_ns


@contextmanager
def _bare(directory: Path, module: str) -> Iterator[Bare]:
    folder = directory / module
    folder.mkdir()
    with ExitStack() as stack:
        servers = [EmbeddedRedis(kind, folder) for kind in (ServerKind.LEDGER, ServerKind.BUS)]
        for server in servers:
            stack.callback(server.stop)
            server.start()
        gateway = stack.enter_context(GatewayProcess(folder))
        urls = [server.url for server in servers]
        process = subprocess.Popen(
            [sys.executable, "-m", module, *urls, str(folder), str(gateway.port), "31"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(_end, process)
        bare = Bare(connect(urls[1], Purpose.BUS), process)
        assert bare.line() == "ready", "the baseline did not connect"
        yield bare


def _end(process: subprocess.Popen[str]) -> None:
    """What has processes of its own ends them when its input ends; the other is killed."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(3)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
