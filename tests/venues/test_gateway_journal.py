"""State on disk: what was appended is there after any crash, and damage is told and not guessed around."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.venues.gateway_bench import AAPL, Bench
from venues.gateway.asked import PlaceOrder
from venues.gateway.book import Arrival
from venues.gateway.contracts import Instrument
from venues.gateway.core import GatewayCore
from venues.gateway.hours import read_time_ns
from venues.gateway.journal import Journal, StateError
from venues.gateway.listing import Wanted
from venues.gateway.matching import Quote
from venues.gateway.model import NEVER_NS, Order, Record
from venues.gateway.session import Client
from venues.gateway.settings import GatewaySettings

FAR = (Decimal("99.99"), Decimal("100.01"))


def some_records() -> list[Record]:
    bench = Bench()
    bench.bracket(1, "10", "100.01", "105", "95")
    return bench.records


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def load(folder: Path) -> list[Record]:
    journal = Journal(folder)
    try:
        return journal.load()[1]
    finally:
        journal.close()


def write(folder: Path, batches: list[list[Record]]) -> Path:
    journal = Journal(folder)
    journal.load()
    for batch in batches:
        journal.append(batch)
    journal.close()
    [path] = folder.glob("journal-*.jsonl")
    return path


def test_what_was_appended_is_read_back(folder: Path) -> None:
    records = some_records()
    write(folder, [records[:3], [], records[3:]])
    assert load(folder) == records


@pytest.mark.parametrize("cut", [1, 2, 40, 400])
def test_a_torn_last_line_is_cut_off_counted_and_its_batch_is_gone_as_a_whole(folder: Path, cut: int) -> None:
    records = some_records()
    path = write(folder, [records[:3], records[3:]])
    os.truncate(path, path.stat().st_size - cut)
    journal = Journal(folder)
    assert journal.load()[1] == records[:3]
    assert journal.torn_lines == 1
    journal.append(records[3:])
    journal.close()
    assert load(folder) == records


def test_damage_before_the_last_line_refuses_the_start(folder: Path) -> None:
    records = some_records()
    path = write(folder, [records[:3], records[3:]])
    data = bytearray(path.read_bytes())
    data[10] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(StateError, match=r"line 1 .*Remedy"):
        load(folder)


def test_a_second_gateway_on_the_folder_is_refused_by_name_and_pid(folder: Path) -> None:
    journal = Journal(folder)
    command = [sys.executable, "-m", "venues.gateway", "--state", str(folder), "--port", "0"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    journal.close()
    assert second.returncode == 2
    assert f"in use by a gateway with pid {os.getpid()}" in second.stderr
    assert "Remedy" in second.stderr


class Run:
    """A gateway core on a folder, without sockets."""

    def __init__(self, folder: Path, *, price: bool = True, **settings: object) -> None:
        self.now_ns = 1_700_000_000_000_000_000
        self.journal = Journal(folder)
        chosen = GatewaySettings(state_dir=folder, walk=False, **{"symbols": ("AAPL",), **settings})  # type: ignore[arg-type]
        self.core = GatewayCore(chosen, self.journal, lambda: self.now_ns)
        self.client = self.core.start(1, 176) or Client(1, 176)
        if price:
            self.core.set_quote(AAPL, Quote(*FAR, FAR[0]))

    def place(self, order_id: int, kind: str = "MKT", **more: object) -> None:
        bench = Bench()
        ticket = replace(bench.ticket(order_id, "BUY", "10", kind, **more), account="")
        wanted = Wanted(con_id=AAPL.con_id, sec_type="STK")
        self.core.place(self.client, PlaceOrder(ticket, wanted))
        self.core.commit()

    def seen(self) -> tuple[object, ...]:
        core = self.core
        return (
            dict(core.store.orders),
            list(core.store.executions),
            core.account.base(),
            dict(core.store.next_ids),
            core.store.next_perm_id,
            core.store.next_exec,
            dict(core.market.quotes),
        )

    def crash(self) -> None:
        self.journal.close()


def test_a_restart_finds_every_order_fill_id_and_price(folder: Path) -> None:
    first = Run(folder)
    first.place(1)
    first.place(2, "LMT", limit="90")
    before = first.seen()
    first.crash()
    second = Run(folder)
    assert second.seen() == before
    assert second.core.engine.next_order_id(1) == 3
    second.crash()


def test_what_was_not_committed_is_not_there_after_a_crash(folder: Path) -> None:
    first = Run(folder)
    first.place(1)
    before = first.seen()
    first.core.engine.place(Bench().ticket(2, "BUY", "10"), first.now_ns)
    first.core.settle()
    first.crash()
    second = Run(folder)
    assert second.seen() == before
    second.crash()


def test_compaction_keeps_the_state_and_drops_only_the_oldest_done(folder: Path) -> None:
    first = Run(folder, journal_bytes_max=4_000, completed_kept_max=5, executions_kept_max=4)
    for order_id in range(1, 21):
        first.place(order_id)
    first.place(21, "LMT", limit="90")
    first.core.compact()
    core = first.core
    assert core.counters["compactions"] > 2
    assert (len(core.store.orders), len(core.store.executions)) == (6, 4)
    assert core.account.positions[AAPL.con_id].qty == 200
    before = first.seen()
    first.crash()
    second = Run(folder, journal_bytes_max=4_000, completed_kept_max=5, executions_kept_max=4)
    assert second.seen() == before
    second.place(3)
    assert second.core.counters["error_103"] == 1
    second.crash()
    assert len(list(folder.glob("journal-*.jsonl"))) == 1


@pytest.mark.parametrize("step", ["snapshot beside", "snapshot in place", "old journal still there"])
def test_a_crash_in_the_middle_of_a_compaction_loses_nothing(folder: Path, step: str) -> None:
    first = Run(folder)
    first.place(1)
    before = first.seen()
    [old] = folder.glob("journal-*.jsonl")
    kept = old.read_bytes()
    if step == "snapshot beside":
        (folder / "snapshot.json.new").write_bytes(b'{"half a snap')
    else:
        first.core.compact()
        if step == "snapshot in place":
            for path in folder.glob("journal-*.jsonl"):
                path.unlink()
        old.write_bytes(kept)
    first.crash()
    second = Run(folder)
    assert second.seen() == before
    second.crash()


def test_the_state_of_another_account_or_schema_is_refused(folder: Path) -> None:
    Run(folder).crash()
    with pytest.raises(StateError, match="DU1234567"):
        Run(folder, account="DU7654321")
    path = folder / "snapshot.json"
    path.write_text(path.read_text().replace('"schema_version":1', '"schema_version":9'))
    with pytest.raises(StateError, match="schema version 9"):
        Run(folder)


def test_a_position_outlives_the_listing_of_its_symbol(folder: Path) -> None:
    first = Run(folder)
    first.place(1)
    first.crash()
    journal = Journal(folder)
    core = GatewayCore(GatewaySettings(state_dir=folder, symbols=("SPY",), walk=False), journal, lambda: 0)
    assert [held.symbol for held in core.account.positions.values()] == ["AAPL"]
    assert isinstance(core.store.orders[1000001], Order)
    journal.close()


def option_of(run: Run) -> Instrument:
    option = run.core.listed.named("SPY   231215C00500000", run.core.trade_date())
    assert option is not None
    run.core.look_at(option)
    return option


def everything(run: Run) -> tuple[object, ...]:
    core = run.core
    quotes = {con_id: quote for con_id, quote in core.market.quotes.items() if con_id in core.market.pinned}
    return (*run.seen()[:6], core.account.cash_told, dict(core.account.positions), core.ahead_ns, core.began_ns, quotes)


@pytest.mark.parametrize("compacted", [False, True])
def test_every_new_kind_of_state_is_found_after_a_restart(folder: Path, compacted: bool) -> None:
    settings = {"symbols": ("AAPL", "SPY"), "hours": "exchange"}
    first = Run(folder, **settings)
    core, bench = first.core, Bench()
    core.set_clock(read_time_ns("20231116 10:00:00"))
    option = option_of(first)
    core.set_quote(option, Quote(Decimal("2.00"), Decimal("2.10"), Decimal("2.05")))
    core.engine.place(replace(bench.ticket(1, "BUY", "2", con_id=option.con_id), symbol="SPY"), core.clock_ns())
    core.engine.place(bench.ticket(2, "SELL", "10", "TRAIL", stop="2"), core.clock_ns())
    core.engine.place(bench.ticket(3, "BUY", "10", "LMT", limit="90"), core.clock_ns())
    core.engine.conduct.arrivals[1, 4] = Arrival(surfaces_ns=NEVER_NS)
    core.engine.place(bench.ticket(4, "BUY", "10", "LMT", limit="90"), core.clock_ns())
    core.engine.conduct.arrivals[1, 5] = Arrival(inactive=(201, "no"))
    core.engine.place(bench.ticket(5, "BUY", "10", "LMT", limit="90"), core.clock_ns())
    core.set_quote(AAPL, Quote(Decimal("109.99"), Decimal("110.01"), Decimal("110.00")))
    core.engine.correct(core.store.latest_executions()[0], Decimal("1.90"), core.account_base)
    core.engine.place(replace(bench.ticket(0, "BUY", "5", "LMT", limit="50"), client_id=0), core.clock_ns())
    core.engine.bind()
    core.commit()
    if compacted:
        core.compact()
    before = everything(first)
    first.crash()
    second = Run(folder, price=False, **settings)
    assert everything(second) == before
    store = second.core.store
    assert store.orders[1000002].trail_px == Decimal("108")
    assert [order.ticket.order_id for order in store.open_orders()] == [2, 3, 5, -2]
    assert second.core.account.positions[option.con_id].cost == Decimal("381.30")
    assert second.core.next_due_ns() == read_time_ns("20231116 16:00:00")
    second.crash()


def test_orders_that_a_restart_forgot_stay_forgotten(folder: Path) -> None:
    first = Run(folder)
    first.place(1, "LMT", limit="90")
    first.now_ns += 10**10
    first.place(2, "LMT", limit="91")
    assert [order.ticket.order_id for order in first.core.engine.lose(first.now_ns)] == [2]
    first.core.commit()
    before = first.seen()
    first.crash()
    second = Run(folder)
    assert second.seen() == before
    assert second.core.engine.next_order_id(1) == 2
    second.place(2)
    assert [order.perm_id for order in second.core.store.orders.values()] == [1000001, 1000003]
    second.crash()


def test_a_corrected_fill_is_dropped_with_its_corrections_and_counts_as_corrected(folder: Path) -> None:
    first = Run(folder, executions_kept_max=1)
    first.place(1)
    first.core.engine.correct(first.core.store.latest_executions()[0], Decimal(50), first.core.account_base)
    first.place(2)
    first.core.commit()
    cash = first.core.account.cash
    first.core.compact()
    assert len(first.core.store.executions) == 1
    first.crash()
    second = Run(folder)
    assert second.core.account.cash == cash == 1_000_000 - 500 - Decimal("1000.10") - 2
    second.crash()


def test_an_order_that_expired_while_the_gateway_was_down_does_not_fill(folder: Path) -> None:
    first = Run(folder, hours="exchange")
    first.now_ns = read_time_ns("20231116 10:00:00")
    first.place(1, "LMT", limit="90")
    first.place(2, "LMT", limit="91", tif="GTC")
    first.crash()
    journal = Journal(folder)
    settings = GatewaySettings(state_dir=folder, symbols=("AAPL",), walk=False, hours="exchange")
    core = GatewayCore(settings, journal, lambda: read_time_ns("20231117 10:00:00"))
    core.set_quote(AAPL, Quote(Decimal("80.00"), Decimal("80.02"), Decimal("80.01")))
    assert [order.status for order in core.store.orders.values()] == ["Cancelled", "Filled"]
    assert core.store.orders[1000001].done_reason == "Expired"
    journal.close()
