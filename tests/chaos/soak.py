"""Brackets through the whole path for minutes, as fast as the gateway may be spoken to; and far more signals than that.

What happened is counted from two sides while it happens, because both forget in time: from the broker's journal, and
from the gateway's lists. Every order that was written stands at the gateway, was acknowledged, and has filled alike.
"""

from __future__ import annotations

import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import cast

import msgspec
import psutil  # type: ignore[import-untyped]

from actors.adapters.bus_streams import publish_signal
from actors.adapters.redis_client import Purpose, connect
from actors.keys import KeyType, key
from actors.messages import (
    ExecutionReported,
    JournalRecord,
    OrderReported,
    PlaceBracket,
    Side,
    Signal,
    SubmitNotSent,
    SubmitWritten,
)
from kernels.fixed8 import SCALE
from supervisors.run_files import read_engine_file, resolved
from tests.chaos.books import (
    assert_positions_and_cash,
    few,
    fixed,
    lines,
    number,
    rows,
    settle,
)
from tests.chaos.engine_process import EngineRun
from tests.chaos.load import PRICES, QUIET

SIGNALS_PER_S = 13.5
"""A bracket is three messages: 40.5 a second, under the broker's 14 brackets, our limiter's 45 and the gateway's 50."""
STEPS = (0, 6, 0, -6)
"""Where a symbol's price goes, one after the other, a second each: past every take-profit, and past every stop."""
LISTED_EVERY_S = 30.0
"""The gateway lists its newest 10,000, which are three minutes' at least."""
WEIGHED = (0.1, 0.5, 1.0)
"""Shares of the run at which every process is weighed."""
GROWTH_MAX = 0.25
GROWTH_MB_MAX = 24.0
"""What a process may have gained since half of the run: until then it fills what it keeps, which is bounded."""
SETTINGS = (
    *QUIET,
    "venues.exchange.symbols=6",
    "venues.exchange.rate_per_s=20",
    "fund.fraction=0.01",
    "pre_trade.collar_bps=0",
    "pre_trade.exit_collar_bps=0",
)

Page = list[tuple[bytes, dict[bytes, bytes]]]


class Tally:
    """What the engine and the gateway say of every order of a run, by reference."""

    def __init__(self, engine: EngineRun) -> None:
        self.engine = engine
        self.written: dict[str, int] = {}
        self.went_out: set[str] = set()
        self.not_sent = 0
        self.acknowledged: set[str] = set()
        self.filled: dict[str, tuple[str, Decimal]] = {}
        self.at_gateway: dict[str, dict[str, object]] = {}
        self.executed: dict[str, tuple[str, Decimal]] = {}
        self.took_ms: list[float] = []
        self.published_ns: dict[str, int] = {}
        self._signal_of: dict[str, str] = {}
        self._after, self._seq = "-", 0
        settings = resolved(engine.settings, read_engine_file(engine.settings))
        self.ledger = connect(settings.ledger.url, Purpose.TOOL)
        self.bus = connect(settings.ledger.bus_url, Purpose.BUS)

    def publish(self, at: int, ttl_s: float) -> None:
        """Put the signal of this number on the bus."""
        symbol = sorted(PRICES)[at % len(PRICES)]
        side = (Side.BUY, Side.SELL)[at // len(PRICES) % 2]
        px, away = PRICES[symbol] * SCALE, (5 if side is Side.BUY else -5) * SCALE
        now_ns = time.time_ns()
        signal = Signal(
            signal_id=f"soak-{at}",
            strategy=f"soak-{at}",
            symbol=symbol,
            side=side,
            reference_px=px,
            take_profit_px=px + away,
            stop_px=px - away,
            ts_event_ns=now_ns,
            expires_ns=now_ns + round(ttl_s * 1e9),
        )
        publish_signal(self.bus, signal)
        self.published_ns[signal.signal_id] = now_ns

    def read_journal(self) -> None:
        """Take what the broker has journaled since the last look."""
        while True:
            page = cast("Page", self.ledger.xrange(key(KeyType.JOURNAL, "broker.paper"), self._after, "+", count=1_000))
            for entry_id, fields in page:
                seq = int(entry_id.partition(b"-")[0])
                assert self._seq in (0, seq - 1), f"the journal was trimmed between {self._seq} and {seq}, unread"
                self._seq, self._after = seq, f"({entry_id.decode()}"
                self._take(msgspec.json.decode(next(iter(fields.values())), type=JournalRecord))
            if len(page) < 1_000:
                return

    def _take(self, record: JournalRecord) -> None:
        match record.input.body:
            case PlaceBracket(intent=intent):
                self._signal_of[intent.intent_id] = intent.signal_id
            case SubmitWritten(client_order_ids=names, written_ns=written_ns, intent_id=intent_id):
                self.written.update(dict.fromkeys(names, written_ns))
                self.went_out.add(self._signal_of[intent_id])
                self.took_ms.append((written_ns - self.published_ns[self._signal_of[intent_id]]) / 1e6)
            case SubmitNotSent():
                self.not_sent += 1
            case OrderReported(client_order_id=name, perm_id=perm_id) if name and perm_id:
                self.acknowledged.add(name)
            case ExecutionReported() as told:
                self.filled[told.exec_id] = (told.client_order_id, fixed(told.last_qty))

    def read_gateway(self) -> None:
        """Take the gateway's newest orders and executions."""
        self.at_gateway.update((str(row["order_ref"]), row) for row in rows(self.engine, "list_orders", "orders"))
        for row in rows(self.engine, "list_executions", "executions"):
            self.executed[str(row["exec_id"])] = (str(row["order_ref"]), number(row["qty"]))

    def assert_equal(self) -> None:
        """Sent, acknowledged and filled are the same on both sides."""
        sent = set(self.written)
        assert sent == set(self.at_gateway), f"{few(sent ^ set(self.at_gateway))} on one side only"
        assert sent == self.acknowledged, f"{few(sent ^ self.acknowledged)} written or acknowledged only"
        assert self.filled == self.executed, f"{few(set(self.filled) ^ set(self.executed))} executed on one side only"
        counted = self.engine.gateway("list_executions")["total"]
        assert counted == len(self.executed), f"the gateway counts {counted} executions"
        open_ones = [ref for ref, row in self.at_gateway.items() if row["status"] in ("Submitted", "PreSubmitted")]
        assert not open_ones, f"{few(open_ones)} still work"

    def assert_one_outcome_each(self) -> Counter[str]:
        """Every signal has one, and orders were written of those that were submitted; count them."""
        told = [str(line["signal_id"]) for line in lines(self.engine, "outcomes")]
        twice = [name for name, count in Counter(told).items() if count > 1]
        assert not twice, f"{few(twice)} have more than one outcome"
        outcomes = {name: row for name, row in self.engine.outcomes().items() if name in self.published_ns}
        assert set(outcomes) == set(self.published_ns), f"{few(set(self.published_ns) - set(outcomes))} have no outcome"
        submitted = {name for name, row in outcomes.items() if row["outcome"] == "submitted"}
        assert submitted == self.went_out, f"{few(submitted ^ self.went_out)} are submitted or written only"
        return Counter(
            " by ".join(str(row[part]) for part in ("outcome", "guard") if part in row) for row in outcomes.values()
        )

    def __str__(self) -> str:
        took = sorted(self.took_ms) or [0.0]
        p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
        return (
            f"{len(self.written)} orders written, {len(self.acknowledged)} acknowledged, {len(self.filled)} executions "
            f"(gateway: {len(self.at_gateway)} orders, {len(self.executed)} executions); "
            f"{self.not_sent} submissions put back unsent; signal to bytes p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        )


class Weights:
    """Resident memory of each process at each weighing, in units of 1e6 bytes; of a Redis, what it holds."""

    def __init__(self, engine: EngineRun, tally: Tally) -> None:
        self._engine = engine
        self._servers = {"redis.ledger": tally.ledger, "redis.bus": tally.bus}
        self.seen: list[dict[str, float]] = []

    def weigh(self) -> None:
        """Once more."""
        pids = self._engine.pids()
        seen = {role: psutil.Process(pid).memory_info().rss / 1e6 for role, pid in pids.items() if pid}
        # What a Redis holds: resident besides are the buffers of its last rewrite.
        for role, client in self._servers.items():
            seen[role] = cast("dict[str, int]", client.info("memory"))["used_memory"] / 1e6
        self.seen.append(seen)

    def assert_flat(self) -> None:
        """Whatever is ours has gained little since half of the run; the paper gateway keeps its day's orders."""
        _, half, end = self.seen
        for role, mb in end.items():
            if role != "gateway" and role in half:
                allowed = half[role] + max(GROWTH_MB_MAX, half[role] * GROWTH_MAX)
                assert mb <= allowed, f"{role} grew from {half[role]:.0f} MB at half to {mb:.0f} MB"

    def __str__(self) -> str:
        told = []
        for role in sorted(self.seen[-1], key=lambda name: -self.seen[-1][name]):
            told.append(f"{role} {' → '.join(f'{look.get(role, 0.0):.0f}' for look in self.seen)}")
        return "MB at a tenth, half and end: " + ", ".join(told)


def run_soak(run_dir: Path, minutes: float) -> str:
    """Orders at the pace of the gateway for so long; return what there is to tell. Raises AssertionError."""
    with EngineRun(run_dir, *SETTINGS) as engine:
        tally = _ready(engine)
        weights = Weights(engine, tally)
        began, seconds = time.monotonic(), minutes * 60
        at = moved = 0
        listed = began
        while (now := time.monotonic()) < began + seconds:
            if at < (now - began) * SIGNALS_PER_S:
                tally.publish(at, 60.0)
                at += 1
            elif moved < now - began:
                _move(engine, moved)
                tally.read_journal()
                moved += 1
            elif now > listed + LISTED_EVERY_S:
                tally.read_gateway()
                listed = now
            elif len(weights.seen) < len(WEIGHED) - 1 and now - began > WEIGHED[len(weights.seen)] * seconds:
                weights.weigh()
            else:
                time.sleep(0.005)
        took_s = time.monotonic() - began
        outcomes = _end(engine, tally)
        weights.weigh()
        rate = f"{len(tally.written) / took_s:.1f} orders/s for {took_s:.0f} s"
        told = f"{rate}; {tally}; outcomes {_counted(outcomes)}\n{weights}"
        try:
            tally.assert_equal()
            assert outcomes["submitted"] >= 0.95 * outcomes.total(), f"too few went out: {_counted(outcomes)}"
            weights.assert_flat()
        except AssertionError as error:
            raise AssertionError(f"{error}\n{told}") from error
        return told


def run_overload(run_dir: Path, signals: int) -> str:
    """So many signals at once; every one has one outcome, and what went out is whole. Raises AssertionError."""
    with EngineRun(run_dir, *SETTINGS) as engine:
        tally = _ready(engine)
        began = time.monotonic()
        for at in range(signals):
            tally.publish(at, 30.0)
            if at % 200 == 0:
                tally.read_journal()
        published_s = time.monotonic() - began
        while len(engine.outcomes()) < signals:
            tally.read_journal()
            assert time.monotonic() < began + 120 + signals / 20, (
                f"{len(engine.outcomes())} of {signals} have an outcome"
            )
            time.sleep(0.5)
        ended_s = time.monotonic() - began
        outcomes = _end(engine, tally)
        resent = {role: counted.get("resent_owed", 0) for role, counted in engine.status().counters.items()}
        tally.assert_equal()
        return (
            f"{signals} signals published in {published_s:.1f} s, the last outcome after {ended_s:.1f} s; {tally}; "
            f"outcomes {_counted(outcomes)}; resent {_counted(Counter(resent))}"
        )


def _ready(engine: EngineRun) -> Tally:
    engine.wait(lambda: engine.all_serve() and engine.status().gate.get("gate") == "open", 90, "an open gate")
    _move(engine, 0)
    return Tally(engine)


def _move(engine: EngineRun, second: int) -> None:
    for symbol, px in PRICES.items():
        at = px + STEPS[second % len(STEPS)]
        engine.gateway("set_price", symbol=symbol, bid=f"{at}.00", ask=f"{at}.02", last=f"{at}.01")


def _end(engine: EngineRun, tally: Tally) -> Counter[str]:
    """Let every bracket end, and compare."""
    settle(engine, tally.published_ns, 180.0)
    tally.read_journal()
    for second in range(2 * len(STEPS)):
        _move(engine, second)
        time.sleep(0.2)
        tally.read_journal()
    settle(engine, tally.published_ns, 180.0)
    tally.read_journal()
    tally.read_gateway()
    assert_positions_and_cash(engine)
    return tally.assert_one_outcome_each()


def _counted(counted: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counted.items()) if count)
