"""The account: conserved and never below zero against a naive oracle, commission by hand, and what outlives a crash."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import threading
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest

from tests.venues.account_oracle import UNIT, NaiveExchange, Resting
from tests.venues.exchange_client import SignedClient
from tests.venues.exchange_process import ExchangeProcess, wait_until
from venues.exchange.api_error import ApiError
from venues.exchange.commission import CommissionPlan, commission
from venues.exchange.market import made_up_listing, market_of
from venues.exchange.matching import Consumption, Level, quote_amount, quote_needed, walk_quote
from venues.exchange.order_checks import NewOrder
from venues.exchange.order_journal import OrderJournal
from venues.exchange.orders import Order, TradingState
from venues.exchange.state import StateError
from venues.exchange.trading import Book, Trading

STEP = UNIT // 1000
TICK = UNIT // 100
RATE = 123_457
MARKET = market_of([made_up_listing("BTC", "USDT", TICK, STEP, 0)])
START = {"BTC": 3 * UNIT, "USDT": 500 * UNIT}


class Stage:
    """An account in a folder, a book that the test sets, a clock and names that count."""

    def __init__(self, folder: Path, step: object = None) -> None:
        self.book = Book(1, [], [])
        self.clock = itertools.count(1_000)
        self.names = itertools.count(1)
        self.journal = OrderJournal(folder, step) if callable(step) else OrderJournal(folder)
        self.trading = Trading(
            self.journal,
            MARKET.entries,
            lambda _symbol: self.book,
            CommissionPlan(RATE, {}, False),
            lambda: next(self.clock),
            lambda: f"named-{next(self.names)}",
            Counter(),
        )

    def set_book(self, bids: dict[int, int], asks: dict[int, int]) -> None:
        self.book = Book(
            self.book.version + 1,
            [Level(*one) for one in sorted(bids.items(), reverse=True)],
            [Level(*one) for one in sorted(asks.items())],
        )
        self.trading.book_changed("BTCUSDT")

    def facts(self) -> tuple[object, ...]:
        state = self.trading.state
        held = {name: (one.free, one.locked) for name, one in state.balances.items()}
        return dict(state.orders), {name: dict(of) for name, of in state.trades.items()}, held


def limit(side: str, qty: int, price: int, time_in_force: str = "GTC", kind: str = "LIMIT") -> NewOrder:
    return NewOrder("BTCUSDT", side, kind, time_in_force, qty, 0, price, "", "FULL")  # type: ignore[arg-type]


def market(side: str, qty: int, quote_qty: int = 0) -> NewOrder:
    return NewOrder("BTCUSDT", side, "MARKET", "GTC", qty, quote_qty, 0, "", "FULL")  # type: ignore[arg-type]


def a_book(rng: Random) -> tuple[dict[int, int], dict[int, int]]:
    middle = rng.randint(900, 1100)
    bids = {(middle - rng.randint(1, 30)) * TICK: rng.randint(1, 40) * STEP for _ in range(rng.randint(0, 5))}
    asks = {(middle + rng.randint(0, 30)) * TICK: rng.randint(1, 40) * STEP for _ in range(rng.randint(0, 5))}
    return bids, asks


@pytest.mark.parametrize("seed", range(10))
def test_orders_fill_as_lot_by_lot_and_balances_are_conserved_and_never_negative(tmp_path: Path, seed: int) -> None:
    print("seed", seed)
    rng = Random(seed)
    stage = Stage(tmp_path)
    stage.trading.open_account(START)
    naive = NaiveExchange(STEP, Fraction(RATE, UNIT), START["BTC"], START["USDT"])
    refusals = 0
    for _ in range(120):
        what = rng.random()
        if what < 0.3:
            bids, asks = a_book(rng)
            stage.set_book(bids, asks)
            naive.turn(bids, asks)
        elif what < 0.4 and naive.resting:
            gone = naive.resting.pop(rng.randrange(len(naive.resting)))
            stage.trading.cancel("BTCUSDT", gone.number, "")
        else:
            refusals += place_both(rng, stage, naive)
        check_alike(stage, naive)
    assert refusals < 60
    assert any(naive.fills.values())
    assert Stage(tmp_path).facts() == stage.facts()


def place_both(rng: Random, stage: Stage, naive: NaiveExchange) -> bool:
    """Place the same order on both sides; return whether it was refused."""
    side, lots, price = rng.choice(["BUY", "SELL"]), rng.randint(1, 60), rng.randint(870, 1130) * TICK
    kind = rng.choice(["GTC", "IOC", "FOK", "MARKET", "QUOTE", "MAKER"])
    budget = rng.randint(1, 60_000) * UNIT // 1000
    before = stage.facts()
    match kind:
        case "MARKET":
            order, bound, most, money = market(side, lots * STEP), 0, lots, None
        case "QUOTE":
            order, bound, most, money = market(side, 0, budget), 0, 10**6, Fraction(budget)
        case "MAKER":
            order, bound, most, money = limit(side, lots * STEP, price, "GTC", "LIMIT_MAKER"), price, lots, None
        case _:
            order, bound, most, money = limit(side, lots * STEP, price, kind), price, lots, None
    tried = naive.take(side, bound, most, money)
    try:
        steps = stage.trading.place(order)
    except ApiError:
        naive.give_back(side, tried)
        assert stage.facts() == before
        return True
    done = steps[-1].order
    if kind == "FOK" and sum(qty for _, qty in tried) < lots * STEP:
        naive.give_back(side, tried)
        tried = []
    assert kind != "MAKER" or not tried
    for fill in tried:
        naive.fills[done.order_id].append(fill)
        naive.book(side, *fill)
    left = lots * STEP - sum(qty for _, qty in tried)
    if kind in ("GTC", "MAKER") and left:
        naive.resting.append(Resting(done.order_id, side, price, left))
    return False


def check_alike(stage: Stage, naive: NaiveExchange) -> None:
    state = stage.trading.state
    base, quote = state.balance("BTC"), state.balance("USDT")
    assert min(base.free, base.locked, quote.free, quote.locked) >= 0
    assert (base.free + base.locked, quote.free + quote.locked) == (naive.base, naive.quote)
    assert (base.locked, quote.locked) == naive.locked()
    trades = state.trades.get("BTCUSDT", {}).values()
    found: dict[int, list[tuple[int, int]]] = {}
    for trade in trades:
        found.setdefault(trade.order_id, []).append((trade.price, trade.qty))
    assert found == {number: fills for number, fills in naive.fills.items() if fills}
    assert [trade.trade_id for trade in trades] == list(range(1, len(trades) + 1))
    open_orders = state.open.get("BTCUSDT", {}).values()
    assert {one.order_id: one.qty - one.executed_qty for one in open_orders} == {
        one.number: one.left for one in naive.resting
    }
    for order in state.orders.values():
        assert order.executed_qty == sum(qty for _, qty in found.get(order.order_id, []))
        assert order.is_open or order.locked == 0


def test_rounding_never_takes_more_than_was_held_back() -> None:
    rng = Random(5)
    for _ in range(2_000):
        price, qty = rng.randint(1, 10**12), rng.randint(1, 10**12)
        held, left = quote_needed(price, qty), qty
        while left:
            part = rng.randint(1, left)
            held -= quote_amount(rng.randint(1, price), part)
            left -= part
            assert held >= quote_needed(price, left)
    assert quote_amount(3, 33_333_333) == 0
    assert quote_needed(3, 33_333_333) == 1


def test_a_market_order_never_spends_more_than_it_may() -> None:
    rng = Random(6)
    for _ in range(2_000):
        levels = [Level(rng.randint(1, 10**10), rng.randint(1, 10**10)) for _ in range(3)]
        budget, step = rng.randint(1, 10**11), rng.choice([1, 7, 1000])
        taken = walk_quote(budget, step, sorted(levels))
        assert sum(quote_amount(price, qty) for price, qty in taken) <= budget
        assert all(qty % step == 0 for _, qty in taken)


def test_what_was_taken_is_of_one_version_of_a_book() -> None:
    consumption = Consumption()
    levels = [Level(10, 5), Level(11, 5)]
    consumption.take("A", "BUY", 1, [Level(10, 5), Level(11, 2)])
    assert consumption.left("A", "BUY", 1, levels) == [Level(11, 3)]
    assert consumption.left("A", "SELL", 1, levels) == levels
    assert consumption.left("A", "BUY", 2, levels) == levels
    consumption.take("A", "BUY", 2, [Level(10, 1)])
    assert consumption.left("A", "BUY", 2, levels) == [Level(10, 4), Level(11, 5)]


@pytest.mark.parametrize(
    ("asset", "amount", "bnb_free", "prices", "expected"),
    [
        ("BTC", 100_000_000, 0, {}, (100_000, "BTC")),
        ("BTC", 999, 0, {}, (0, "BTC")),
        ("BTC", 100_000_000, 10**9, {"BNBBTC": 1_000_000}, (7_500_000, "BNB")),
        ("BTC", 100_000_000, 7_499_999, {"BNBBTC": 1_000_000}, (100_000, "BTC")),
        ("BTC", 100_000_000, 10**9, {}, (100_000, "BTC")),
        ("BNB", 100_000_000, 10**9, {}, (75_000, "BNB")),
        ("EUR", 100_000_000, 10**9, {"EURUSDT": 2 * UNIT, "BNBUSDT": 400 * UNIT}, (375, "BNB")),
    ],
)
def test_commission_is_rounded_down_and_paid_in_bnb_where_that_is_there(
    asset: str, amount: int, bnb_free: int, prices: dict[str, int], expected: tuple[int, str]
) -> None:
    plan = CommissionPlan(100_000, {}, discount_pays=bnb_free > 0)
    assert commission(plan, "X", asset, amount, bnb_free, lambda symbol: prices.get(symbol, 0)) == expected


# ---- what outlives a crash


class Crash(RuntimeError):
    """The process ends here."""


def scenario(stage: Stage, told: list[tuple[object, ...]]) -> None:
    """Every kind of transaction, and a compaction; what is told is the state after each."""
    trading = stage.trading

    def tell() -> None:
        told.append(stage.facts())

    trading.open_account(START)
    tell()
    stage.set_book({990 * TICK: 50 * STEP}, {1000 * TICK: 20 * STEP, 1010 * TICK: 50 * STEP})
    trading.place(limit("BUY", 30 * STEP, 1010 * TICK, "IOC"))
    tell()
    trading.place(limit("BUY", 10 * STEP, 950 * TICK))
    tell()
    trading.place(limit("SELL", 60 * STEP, 1100 * TICK))
    tell()
    trading.compact()
    tell()
    stage.set_book({940 * TICK: STEP}, {945 * TICK: 4 * STEP})
    tell()
    trading.cancel("BTCUSDT", 2, "")
    tell()
    trading.place(market("SELL", STEP))
    tell()
    trading.transfer("USDT", -UNIT)
    tell()
    trading.cancel_all("BTCUSDT")
    tell()


def run_until_crash(folder: Path, at: int, torn: int) -> tuple[list[tuple[object, ...]], str]:
    """Run with a crash at the `at`-th step on disk; return what was told, and the step's name (empty: none left)."""
    steps = itertools.count()
    name = ""

    def step(what: str) -> None:
        nonlocal name
        if next(steps) == at:
            name = what
            raise Crash(what)

    told: list[tuple[object, ...]] = []
    stage = Stage(folder, step)
    try:
        scenario(stage, told)
    except Crash:
        if name == "write" and torn:
            with max(folder.glob("trading-*.jsonl")).open("ab") as file:
                file.write(b'[{"record":"Order","symbol":"BTCUSDT","order_id":9'[:torn])
    stage.journal.close()
    return told, name


@pytest.mark.parametrize("torn", [0, 1, 30])
def test_a_crash_at_every_step_on_disk_leaves_what_was_told_or_one_whole_transaction_more(
    tmp_path: Path, torn: int
) -> None:
    (tmp_path / "whole").mkdir()
    reference, _ = run_until_crash(tmp_path / "whole", -1, 0)
    assert len(reference) == 10
    seen: Counter[str] = Counter()
    for at in itertools.count():
        folder = tmp_path / f"crash-{at}"
        folder.mkdir()
        told, name = run_until_crash(folder, at, torn)
        if not name:
            break
        seen[name] += 1
        assert told == reference[: len(told)]
        again = Stage(folder)
        nothing: tuple[object, ...] = ({}, {}, {})
        before = told[-1] if told else nothing
        assert again.facts() in (before, reference[len(told)])
        assert again.trading.counters["torn_lines"] == (1 if name == "write" and torn else 0)
        ids_go_on(again, told)
        again.journal.close()
    assert seen.keys() == {"write", "fsync", "appended", "snapshot", "rename", "begin", "remove"}
    assert seen["write"] == seen["fsync"] == seen["appended"] == 9


def ids_go_on(stage: Stage, told: list[tuple[object, ...]]) -> None:
    """No id that anybody was told is given again."""
    orders = [key for facts in told for key in facts[0]]  # type: ignore[attr-defined]
    trades = [key for facts in told for key in facts[1].get("BTCUSDT", {})]  # type: ignore[attr-defined]
    stage.trading.open_account(START)
    stage.set_book({990 * TICK: 500 * STEP}, {1000 * TICK: 500 * STEP})
    steps = stage.trading.place(limit("BUY", STEP, 1000 * TICK, "IOC"))
    assert steps[-1].trade is not None
    assert steps[-1].order.order_id > max((number for _, number in orders), default=0)
    assert steps[-1].trade.trade_id > max(trades, default=0)


def test_a_line_that_is_damaged_and_not_the_last_refuses_the_start(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    scenario(stage, [])
    stage.journal.close()
    path = max(tmp_path.glob("trading-*.jsonl"))
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0][:-5], *lines[1:]]))
    with pytest.raises(StateError, match=r"line 1.*--state"):
        Stage(tmp_path)


def test_done_orders_beyond_the_bound_are_forgotten_and_their_ids_are_not(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    (tmp_path / "bounded").mkdir()
    stage.trading = Trading(
        OrderJournal(tmp_path / "bounded"),
        MARKET.entries,
        lambda _symbol: stage.book,
        CommissionPlan(0, {}, False),
        lambda: 1,
        lambda: f"n{next(stage.names)}",
        Counter(),
        orders_kept_max=10,
    )
    stage.trading.open_account({"BTC": UNIT, "USDT": 10**6 * UNIT})
    stage.set_book({}, {1000 * TICK: 10**6 * STEP})
    resting = stage.trading.place(limit("BUY", STEP, 10 * TICK))[-1].order
    for _ in range(45):
        stage.trading.place(limit("BUY", STEP, 1000 * TICK, "IOC"))
    state = stage.trading.state
    assert len(state.orders) <= 21
    assert resting.key in state.orders
    assert {trade.order_id for trade in state.trades["BTCUSDT"].values()} <= {number for _, number in state.orders}
    assert state.last_order_id["BTCUSDT"] == 46
    assert stage.trading.counters["orders_forgotten"] >= 25


def test_records_fold_to_the_state_that_they_were_made_of(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    scenario(stage, [])
    again = TradingState()
    again.apply(stage.trading.state.records())
    assert again.orders == stage.trading.state.orders
    assert again.trades == stage.trading.state.trades
    assert again.balances == stage.trading.state.balances
    assert again.last_trade_id == stage.trading.state.last_trade_id
    assert all(isinstance(order, Order) for order in again.orders.values())


@pytest.mark.process
def test_what_was_told_outlives_kill_9_in_the_midst_of_orders_and_no_id_comes_twice(tmp_path: Path) -> None:
    options = ["--rate", "200", "--opportunity-every-s", "0", "--symbols", "12", "--orders-per-10s", "1000"]
    told: dict[int, dict[str, object]] = {}
    asked = 0
    exchange = ExchangeProcess(tmp_path, *options)
    try:
        for life in range(4):
            exchange.restart()
            client = SignedClient(exchange)
            rows = client.good("GET", "/api/v3/allOrders", symbol="BTCUSDT", limit=1000)
            kept = {row["orderId"]: row for row in rows}
            assert [
                number for number, before in told.items() if kept[number]["executedQty"] != before["executedQty"]
            ] == []
            assert len(told) <= len(kept) <= asked
            conserved(client)
            killer = threading.Thread(target=kill_at, args=(exchange, told, len(told) + 10 + life))
            killer.start()
            with contextlib.suppress(OSError, http.client.HTTPException):
                while True:
                    asked += 1
                    reply = client.order("BTCUSDT", "BUY" if asked % 2 else "SELL", "MARKET", quantity="0.0002")
                    assert reply["orderId"] not in told
                    told[reply["orderId"]] = reply
            killer.join(30)
    finally:
        if exchange.process is not None and exchange.process.poll() is None:
            exchange.kill9()


def kill_at(exchange: ExchangeProcess, told: dict[int, dict[str, object]], goal: int) -> None:
    """Kill the exchange as soon as so many replies are in: the next request is under way."""
    wait_until(lambda: len(told) >= goal, 30.0, lambda: f"{len(told)} of {goal} told")
    exchange.kill9()


def conserved(client: SignedClient) -> None:
    """What the account holds is what it began with and what its trades did, to the last unit."""
    expected = {"USDT": Decimal(10_000), "BTC": Decimal(1)}
    rows = client.good("GET", "/api/v3/myTrades", symbol="BTCUSDT", limit=1000)
    assert [row["id"] for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:
        sign = 1 if row["isBuyer"] else -1
        expected["BTC"] += sign * Decimal(row["qty"])
        expected["USDT"] -= sign * Decimal(row["quoteQty"])
        expected[row["commissionAsset"]] -= Decimal(row["commission"])
    held = client.balances()
    assert {asset: held[asset] for asset in expected} == {asset: (one, 0) for asset, one in expected.items()}
