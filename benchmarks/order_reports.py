"""What the venue says of an order → journaled → visible to the allocator; and a broker killed with open orders.

A report is made by having the gateway cancel a working order of ours at its control port. The time begins where the
gateway writes the report to the socket, which it says itself (`told_ns` of its status). The baseline is one process
with ib_insync and the ledger, whose own orders the same gateway cancels in turn: it appends one record, fsynced, when
the report is there. Every figure is a difference of wall clocks of this machine.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import cast

import msgspec
import psutil  # type: ignore[import-untyped]
from ib_insync import IB, LimitOrder, Stock, Trade

from actors.adapters.identity import IdentityFile
from actors.adapters.redis_client import Purpose, connect
from actors.adapters.redis_ledger import RedisLedger
from actors.keys import KeyType, key
from actors.messages import JournalRecord, OrderChanged, OrderReported
from actors.ports import Entry
from benchmarks.engine_watch import Watched, engine_directory, kill, wait_for
from benchmarks.order_path import QUIET, STILL, Way
from benchmarks.report import Measured, compared
from tests.chaos.engine_process import EngineRun

Page = list[tuple[bytes, dict[bytes, bytes]]]
BASELINE = "one process: ib_insync, 1 fsynced append"
BARE_CLIENT, PORT_S = 41, 0.15
RECORD = b"x" * 700
MS = 1e6
SLOTS_NEEDED = 3
"""Orders of a bracket."""
PACE_S = 0.09
"""Eleven brackets a second: below the broker's pace of 14 intents and the gateway's of 50 messages."""


class Bare:
    """The baseline: a client of the same gateway, with a journal of its own on the same server."""

    def __init__(self, engine: EngineRun) -> None:
        found = Watched(engine).file()
        self._ledger = RedisLedger(
            connect(found.ledger_url, Purpose.LEDGER), "bare", "a benchmark", IdentityFile(engine.run_dir / "bare.json")
        )
        self._ledger.acquire()
        self._ib, self._seq = IB(), 0
        port = int(msgspec.json.decode((engine.run_dir / "gateway" / "gateway.json").read_bytes())["port"])
        self._ib.connect("127.0.0.1", port, clientId=BARE_CLIENT)
        self._contract = self._ib.qualifyContracts(Stock("IBM", "SMART", "USD"))[0]
        self._seen_ns = 0
        self._asking = ThreadPoolExecutor(1)

    def close(self) -> None:
        """Leave."""
        self._asking.shutdown()
        self._ib.disconnect()

    def cancelled_after_ns(self, engine: EngineRun) -> int:
        """Place an order, have it cancelled at the control port, and return how long its report took to be durable."""
        trade = self._ib.placeOrder(self._contract, LimitOrder("BUY", 1, 1.0))
        end = time.monotonic() + 20
        while not (trade.order.permId and trade.orderStatus.status in ("Submitted", "PreSubmitted")):
            assert time.monotonic() < end, "the baseline's order was not accepted"
            self._ib.sleep(0.005)
        trade.statusEvent += self._on_status
        self._seen_ns = 0
        began = self._asking.submit(told_ns, engine, trade.order.permId, BARE_CLIENT)
        while not self._seen_ns:
            assert time.monotonic() < end, "the baseline's cancel was not told"
            self._ib.sleep(0.0005)
        return self._seen_ns - began.result(20)

    def _on_status(self, trade: Trade) -> None:
        if trade.orderStatus.status == "Cancelled" and not self._seen_ns:
            self._seq += 1
            self._ledger.append([Entry(self._seq, RECORD)])
            self._seen_ns = time.time_ns()


def told_ns(engine: EngineRun, perm_id: object, client_id: int) -> int:
    """Have the gateway cancel an order; return when it wrote that to its client."""
    engine.gateway("cancel_order", perm_id=perm_id)
    told = cast("dict[str, int]", engine.gateway("status")["told_ns"])
    return told[str(client_id)]


def reports(quick: bool) -> list[Measured]:
    """Order reports, one by one, in a quiet market."""
    count = 10 if quick else 200
    with engine_directory() as directory, ExitStack() as stack:
        engine = stack.enter_context(EngineRun(directory / "run", *STILL, *QUIET))
        engine.wait(lambda: engine.all_serve() and engine.status().gate.get("gate") == "open", 60, "an open gate")
        _place(engine, count)
        bare = Bare(engine)
        stack.callback(bare.close)
        began: dict[str, int] = {}
        baseline = []
        entries = [row for row in engine.orders().values() if row["leg"] == "entry"]
        for row in entries:
            name = str(row["client_order_id"])
            began[name] = told_ns(engine, row["perm_id"], engine.settings.gateway.client_id)
            time.sleep(PORT_S)
            baseline.append(bare.cancelled_after_ns(engine) / MS)
        journaled, visible = _seen(engine, began, 20)
    times = [(visible[name] - at) / MS for name, at in began.items()]
    to_broker = sorted((journaled[name] - began[name]) / MS for name in began)
    hop = sorted((visible[name] - journaled[name]) / MS for name in began)
    middle = len(hop) // 2
    note = f"p50 ms: socket → broker takes it {to_broker[middle]:.2f}; → allocator takes its change {hop[middle]:.2f}"
    goals: dict[float, float | None] = {0.5: 2.0, 0.99: None}
    return compared("orders.report_to_allocator", "ms", times, BASELINE, baseline, goals, note)


def recovery(quick: bool) -> list[Measured]:
    """Broker killed with 1,000 open orders → the next one has its session, all was compared, the gate is open."""
    brackets, kills = (20, 1) if quick else (334, 5)
    with engine_directory() as directory, ExitStack() as stack:
        engine = stack.enter_context(EngineRun(directory / "run", *STILL, *QUIET))
        engine.wait(lambda: engine.all_serve() and engine.status().gate.get("gate") == "open", 60, "an open gate")
        _place(engine, brackets)
        bare = Bare(engine)
        stack.callback(bare.close)
        took, folded, baseline = [], [], []
        for _ in range(kills):
            # The board shows the one killed before for up to a second.
            wait_for(lambda: psutil.pid_exists(engine.pids()["broker.paper"]), 20, "the broker's pid is shown", engine)
            pid = engine.pids()["broker.paper"]
            before_ns = time.time_ns()
            at = kill(pid)
            wait_for(lambda at_ns=before_ns: _reopened_ns(engine, at_ns), 60, "the gate is open again", engine)  # type: ignore[misc]
            opened_ns = _reopened_ns(engine, before_ns)
            took.append(opened_ns / 1e9 - at)
            folded.append((opened_ns - _recovered_ns(engine, before_ns)) / 1e9)
            baseline.append(_bare_read_s(bare))
        open_orders = len([row for row in engine.orders().values() if row["state"] == "submitted"])
    note = (
        f"{open_orders} open orders; kill -9 → the next broker takes the first lease of its session; from the end of "
    )
    note += f"its fold, without the supervisor's backoff: {min(folded):.2f} to {max(folded):.2f} s"
    goals: dict[float, float | None] = {0.5: 2.0}
    name = "bare ib_insync: all open orders, executions, positions"
    return compared("orders.broker_recovery", "s", took, name, baseline, goals, note)


def _bare_read_s(bare: Bare) -> float:
    began = time.perf_counter()
    bare._ib.reqAllOpenOrders()
    bare._ib.reqCompletedOrders(False)
    bare._ib.reqExecutions()
    bare._ib.reqPositions()
    return time.perf_counter() - began


def _place(engine: EngineRun, brackets: int) -> None:
    path = Way(engine)
    for number in range(brackets):
        path.publish(number)
        time.sleep(PACE_S)
    working = {"submitted"}
    engine.wait(
        lambda: sum(row["state"] in working for row in engine.orders().values()) == brackets * SLOTS_NEEDED,
        60,
        f"{brackets} brackets work",
    )
    engine.wait(lambda: not engine.status().counters["broker.paper"].get("owed"), 60, "nobody is owed any news")


def _records(engine: EngineRun, role: str, first: str = "-") -> list[JournalRecord]:
    with connect(Watched(engine).file().ledger_url, Purpose.TOOL) as client:
        page = cast("Page", client.xrange(key(KeyType.JOURNAL, role), first, "+"))
    return [msgspec.json.decode(next(iter(fields.values())), type=JournalRecord) for _, fields in page]


def _seen(engine: EngineRun, began: dict[str, int], seconds_max: float) -> tuple[dict[str, int], dict[str, int]]:
    """When the broker took each report of a cancel, and when the allocator took its change."""
    journaled: dict[str, int] = {}
    visible: dict[str, int] = {}

    def all_there() -> bool:
        for record in _records(engine, "broker.paper"):
            body = record.input.body
            if isinstance(body, OrderReported) and body.status == "Cancelled" and body.client_order_id in began:
                journaled.setdefault(body.client_order_id, record.now_ns)
        for record in _records(engine, "allocator"):
            body = record.input.body
            if isinstance(body, OrderChanged) and body.state == "cancelled" and body.client_order_id in began:
                visible.setdefault(body.client_order_id, record.now_ns)
        return set(journaled) == set(visible) == set(began)

    wait_for(all_there, seconds_max, "the allocator knows of each", engine)
    return journaled, visible


def _recovered_ns(engine: EngineRun, since_ns: int) -> int:
    """When the broker that came after `since_ns` had folded its journal."""
    records = _records(engine, "broker.paper")
    return next(one.now_ns for one in records if one.now_ns > since_ns and type(one.input.body).__name__ == "Recovered")


def _reopened_ns(engine: EngineRun, since_ns: int) -> int:
    """When the broker took the first lease of a session that began after `since_ns`; 0: not yet."""
    opened = False
    for record in _records(engine, "broker.paper"):
        if record.now_ns < since_ns:
            continue
        name = type(record.input.body).__name__
        opened = opened or name == "SessionOpened"
        if opened and name == "GrantGate":
            return record.now_ns
    return 0
