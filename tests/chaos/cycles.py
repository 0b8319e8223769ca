"""Whole engines that carry cycles out, on a paper exchange that loses answers, while processes die at random.

What is compared at the end is read from outside: the exchange's own account and orders, the lines, and the journal's
inputs. Shares no logic with the engine.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

from actors.adapters.inspection import Inspector
from actors.keys import KeyType
from supervisors.run_files import read_engine_file, resolved
from supervisors.status import read_projection
from tests.chaos.books import few, lines
from tests.chaos.engine_process import FIXED, EngineRun, runs
from tests.chaos.load import AWAY
from tests.venues.exchange_client import SignedClient

FIRST = {"USDT": Decimal(10_000), "BTC": Decimal(1), "ETH": Decimal(10), "BNB": Decimal(20)}
"""What the paper exchange's account begins with."""

TRADING = (
    "evaluator.dry_run=false",
    "momentum.enabled=false",
    "venues.exchange.opportunity_every_s=0.7",
    "execution.decision_age_ms_max=2000",
    "execution.leg_wait_ms=3000",
    "execution.breaker.window=1000",
    "execution.breaker.failures_max=999",
    "execution.breaker.consecutive_max=999",
    "execution.breaker.loss_max=1000000",
    "execution.breaker.slip_bps_max=9999",
    "supervision.intensity=1000",
    "supervision.root_intensity=1000",
    "supervision.backoff_s_max=0.2",
)
"""Many opportunities, and a breaker that lets all of them through: what is tried here is the bookkeeping."""

VICTIMS = ("broker.spot", "executor", "evaluator", "exchange", "redis.ledger", "redis.bus", "feed.spot.0", "book")
FAULTS: tuple[dict[str, object], ...] = (
    {"fault": "lost_answer", "how": "silent"},
    {"fault": "lost_answer", "how": "cut"},
    {"fault": "lost_answer", "how": "status_504"},
    {"fault": "lost_answer", "how": "cut", "placed": False},
    {"fault": "lost_answer", "how": "status_504", "placed": False},
    {"fault": "late_answer", "seconds": 1.5},
    {"fault": "late_order", "seconds": 1.5},
    {"fault": "partial_fill", "percent": 40, "n": 2},
    {"fault": "partial_fill", "percent": 0},
    {"fault": "silent_reports", "n": 3},
    {"fault": "duplicate_reports", "n": 6},
    {"fault": "reorder_reports", "n": 6},
    {"fault": "reject_orders"},
    {"fault": "order_status"},
    {"fault": "user_stream_drop"},
    {"fault": "user_stream_drop", "half_open": True},
    {"fault": "listen_key_expiry"},
)
SECONDS = 30.0


class Exchange:
    """The paper exchange of a run, asked directly."""

    def __init__(self, engine: EngineRun) -> None:
        self.state = engine.run_dir / "exchange"
        self.first = dict(FIRST)

    @property
    def base_url(self) -> str:
        """Where it serves now."""
        return str(json.loads((self.state / "exchange.json").read_bytes())["base_url"])

    def client(self) -> SignedClient:
        """A client that signs."""
        return SignedClient(self)  # type: ignore[arg-type]

    def fault(self, **fields: object) -> None:
        """Put one in force."""
        self._tell("/paper/fault", fields)

    def fund(self) -> None:
        """Give the account a million of every asset, so that every leg can go out at once."""
        with urllib.request.urlopen(self.base_url + "/api/v3/exchangeInfo", timeout=30) as reply:
            symbols = json.loads(reply.read())["symbols"]
        for asset in sorted({one[side] for one in symbols for side in ("baseAsset", "quoteAsset")}):
            self._tell("/paper/transfer", {"asset": asset, "amount": "1000000"})
            self.first[asset] = self.first.get(asset, Decimal(0)) + 1_000_000

    def _tell(self, path: str, fields: dict[str, object]) -> None:
        with urllib.request.urlopen(self.base_url + path, data=json.dumps(fields).encode(), timeout=5) as reply:
            reply.read()

    def changed(self) -> dict[str, Decimal]:
        """What the account has more, or less, than at first."""
        held = {asset: free + locked for asset, (free, locked) in self.client().balances().items()}
        first = self.first
        moved = {asset: held.get(asset, Decimal(0)) - first.get(asset, Decimal(0)) for asset in {*held, *first}}
        return {asset: amount for asset, amount in moved.items() if amount}


class CycleChaos:
    """The acts of one run. `done` counts them by name."""

    def __init__(self, engine: EngineRun, exchange: Exchange, seed: int, say: bool) -> None:
        self.engine, self.exchange = engine, exchange
        self.random = random.Random(f"cycles {seed}")
        self.done: Counter[str] = Counter()
        self.say = say

    def act(self) -> None:
        """Kill one of those that take part, or more at once, or arm a fault of the exchange."""
        choice = self.random.random()
        try:
            if choice < 0.35:
                self._kill(1)
            elif choice < 0.45:
                self._kill(self.random.randint(2, 3))
            elif choice < 0.5:
                self._stop_one()
            else:
                self._fault()
        except (*AWAY, json.JSONDecodeError, urllib.error.URLError, OSError) as error:
            self._note(f"nothing: {type(error).__name__}")

    def _note(self, name: str) -> None:
        self.done[name] += 1
        if self.say:
            print(f"  {time.strftime('%H:%M:%S')} {name}", flush=True)

    def _victims(self) -> list[tuple[str, int]]:
        pids = self.engine.pids()
        return [(role, pids[role]) for role in VICTIMS if pids.get(role) and runs(pids[role])]

    def _kill(self, count: int) -> None:
        victims = self._victims()
        for role, pid in self.random.sample(victims, min(count, len(victims))):
            self.engine.strikes(role)
            os.kill(pid, signal.SIGKILL)
            self._note(f"kill {role}")

    def _stop_one(self) -> None:
        """A pause that nobody takes for a death: broker or executor, in the middle of whatever it does."""
        victims = [(role, pid) for role, pid in self._victims() if role in ("broker.spot", "executor")]
        if victims:
            role, pid = self.random.choice(victims)
            os.kill(pid, signal.SIGSTOP)
            self._note(f"stop {role}")
            time.sleep(1.0)
            os.kill(pid, signal.SIGCONT)

    def _fault(self) -> None:
        fault = self.random.choice(FAULTS)
        self._note(" ".join(str(value) for value in fault.values()))
        self.exchange.fault(**fault)


def run_cycles(run_dir: Path, seed: int, seconds: float = SECONDS, say: bool = False) -> Counter[str]:
    """Run it; raises AssertionError with what was lost or doubled. Returns acts and ends. The seed fixes the acts."""
    mode = ("sequence", "at_once")[seed % 2]
    unwind = ("back", "forward")[seed // 2 % 2]
    lengths, at_a_time = ("[3]", "[3,4]")[seed // 4 % 2], 1 + seed // 8 % 2
    varied = (
        f"execution.mode={mode}",
        f"execution.unwind={unwind}",
        f"execution.cycles_open_max={at_a_time}",
        f"evaluator.cycle_lengths={lengths}",
    )
    with EngineRun(run_dir, *TRADING, *varied) as engine:
        engine.wait_serving()
        exchange = Exchange(engine)
        if mode == "at_once":
            exchange.fund()
            assert engine.run("cycles-resume", "the account was funded").returncode == 0
        engine.wait(lambda: ended(engine), 90, "the first attempt of which an order left")
        chaos = CycleChaos(engine, exchange, seed, say)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            chaos.act()
            time.sleep(chaos.random.uniform(0.5, 3.0))
        settle(engine)
        compare(engine, exchange)
        ends = Counter(f"{line['end']}" for line in lines(engine, "cycles"))
    return chaos.done + ends


def ended(engine: EngineRun) -> list[dict[str, Any]]:
    """Lines of attempts of which an order left."""
    return [line for line in lines(engine, "cycles") if line["end"] != "refused"]


def settle(engine: EngineRun) -> None:
    """Halt, which begins nothing more, and wait until nothing is in work, owed, unknown or unread."""
    engine.wait_serving()
    assert engine.run("halt", "the end of a chaos run").returncode == 0
    began_ns = time.time_ns()

    def settled() -> bool:
        return not _unsettled(engine, began_ns)

    try:
        engine.wait(settled, 120, "all settled")
    except AssertionError as error:
        raise AssertionError(f"{_unsettled(engine, began_ns)}; {error}") from None


def _unsettled(engine: EngineRun, since_ns: int) -> list[str]:
    roles = ("executor", "broker.spot", "evaluator")
    why = [f"{role}: not reported since" for role in unreported(engine, roles, since_ns)]
    status = engine.status()
    why += [f"{role} owes {c['owed']}" for role, c in status.counters.items() if role in roles and c.get("owed")]
    executor, broker = status.detail.get("executor", {}), status.detail.get("broker.spot", {})
    if executor.get("in work"):
        why.append(f"{executor['in work']} attempts in work")
    if broker.get("live") != "0" or broker.get("gate") != "open":
        why.append(f"broker.spot {broker}")
    missing = asked(engine) - {str(line["attempt_id"]) for line in lines(engine, "cycles")}
    if missing:
        why.append(f"no line of {few(missing)}")
    return why


def unreported(engine: EngineRun, roles: tuple[str, ...], since_ns: int) -> list[str]:
    """Those whose report on the health board is older than this."""
    settings = resolved(engine.settings, read_engine_file(engine.settings))
    with Inspector(settings) as inspector:
        written = {leaf.role: leaf.written_ns for leaf in inspector.board().leaves}
    return [role for role in roles if written.get(role, 0) <= since_ns]


def asked(engine: EngineRun) -> set[str]:
    """Every attempt that the executor's journal was asked for, as far back as it is kept."""
    settings = resolved(engine.settings, read_engine_file(engine.settings))
    with Inspector(settings) as inspector:
        inputs = [json.loads(entry.payload)["input"]["body"] for entry in inspector.journals(["executor"])]
    return {str(body["attempt_id"]) for body in inputs if body["type"] == "ExecuteCycle"}


def compare(engine: EngineRun, exchange: Exchange) -> None:
    """One line each; each order once at the exchange and as we have it; all lines together are its account."""
    written = lines(engine, "cycles")
    twice = [name for name, count in Counter(str(line["attempt_id"]) for line in written).items() if count > 1]
    assert not twice, f"attempts with more than one line: {few(twice)}"
    total: dict[str, Decimal] = {}
    for line in written:
        flows = line.get("flows", {})
        assert isinstance(flows, dict)
        for asset, count in flows.items():
            total[asset] = total.get(asset, Decimal(0)) + Decimal(count) / FIXED
    moved = exchange.changed()
    assert {asset: amount for asset, amount in total.items() if amount} == moved, f"lines {total}, account {moved}"
    _compare_orders(engine, exchange)


def _compare_orders(engine: EngineRun, exchange: Exchange) -> None:
    ours = read_projection(engine.settings, KeyType.ORDERS, "spot")
    client = exchange.client()
    theirs: list[dict[str, Any]] = []
    for symbol in sorted({str(order["symbol"]) for order in ours.values()}):
        theirs += client.good("GET", "/api/v3/allOrders", symbol=symbol, limit=1000)
    named = Counter(order["clientOrderId"] for order in theirs)
    assert not [name for name, count in named.items() if count > 1], f"an order id twice: {named.most_common(3)}"
    assert not set(named) - set(ours), f"orders of the exchange that we do not know: {few(set(named) - set(ours))}"
    for order in theirs:
        mine = ours[order["clientOrderId"]]
        executed, quoted = Decimal(order["executedQty"]), Decimal(order["cummulativeQuoteQty"])
        assert _count(mine["cum_qty"]) == executed, f"{mine} and {order}"
        assert _count(mine["cum_quote_qty"]) == quoted, f"{mine} and {order}"
    for name, mine in ours.items():
        assert mine["state"] not in ("unknown", "pending", "pre_sent"), mine
        assert name in named or not mine["cum_qty"], f"filled here and unknown at the exchange: {mine}"


def _count(value: object) -> Decimal:
    assert isinstance(value, int)
    return Decimal(value) / FIXED
