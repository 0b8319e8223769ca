"""ib_insync at every server version, through kills, and what it can ask for besides orders."""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from ib_insync import Fill, LimitOrder, Trade

from tests.venues.gateway_client import (
    ClientErrors,
    bracket,
    client_errors,
    connect,
    market,
    place_all,
    run,
    settled,
    stock,
    until,
)
from tests.venues.gateway_process import GatewayProcess

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("client_errors")]
__all__ = ["client_errors"]


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path) as running:
        running.set_price("AAPL", "190.00", "190.02")
        running.set_price("SPY", "500.00", "500.01")
        yield running


@pytest.mark.parametrize("version", [157, 159, 160, 162, 163, 164, 166, 169, 170, 176])
def test_ib_insync_reads_every_message_at_every_server_version(
    gateway: GatewayProcess, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    monkeypatch.setattr("ib_insync.client.Client.MaxClientVersion", version)

    async def story() -> None:
        ib = await connect(gateway.port)
        assert ib.client.serverVersion() == version
        aapl = await stock(ib, "AAPL")
        entry, target, stop = place_all(ib, aapl, bracket(ib, "BUY", 100, market("BUY", 100), 195.00, 185.00))
        await until("the stop waits", lambda: stop.orderStatus.whyHeld == "trigger")
        target.order.lmtPrice, target.order.parentId, target.order.transmit = 194.00, 0, True
        ib.placeOrder(aapl, target.order)
        gateway.set_price("AAPL", "194.50", "194.52")
        await until("the target fills", lambda: target.orderStatus.status == "Filled")
        await until("the stop goes", lambda: stop.orderStatus.status == "Cancelled")
        ib.disconnect()
        gateway.wait_for("the client is gone", lambda g: g.status()["clients"] == [])
        back = await connect(gateway.port)
        assert {t.order.orderRef: t.orderStatus.status for t in back.trades()} == {
            entry.order.orderRef: "Filled",
            target.order.orderRef: "Filled",
            stop.order.orderRef: "Cancelled",
        }
        assert [fill.execution.price for fill in back.fills()] == [190.02, 194.00]
        assert [t.order.filledQuantity for t in back.trades()] == [100.0, 100.0, 0.0]
        back.disconnect()

    run(story())


@pytest.mark.parametrize("seed", range(3))
def test_random_brackets_through_kills_end_with_the_figures_that_the_fills_sum_to(
    gateway: GatewayProcess, client_errors: ClientErrors, seed: int
) -> None:
    client_errors.allow("Peer closed connection", "Connection reset", "Connection lost")
    print(f"seed {seed}")
    chance = random.Random(seed)
    told: dict[str, float] = {}

    async def lap(cents: int) -> None:
        ib = await connect(gateway.port)
        aapl = await stock(ib, "AAPL")

        def note(trade: Trade, fill: Fill) -> None:
            told[fill.execution.execId] = fill.execution.shares

        ib.execDetailsEvent += note
        for _ in range(4):
            action, qty = chance.choice(["BUY", "SELL"]), chance.randrange(1, 300)
            away = 1 if action == "BUY" else -1
            entry = LimitOrder(action, qty, (cents + chance.randrange(-30, 60) * away) / 100)
            orders = bracket(ib, action, qty, entry, (cents + 90 * away) / 100, (cents - 90 * away) / 100)
            place_all(ib, aapl, orders[: chance.choice([2, 3, 3, 3])])
        if chance.random() < 0.5:
            await settled(ib)
        for _ in range(3):
            cents += chance.randrange(-80, 81)
            gateway.set_price("AAPL", f"{cents / 100:.2f}", f"{(cents + 2) / 100:.2f}")
        gateway.kill9()
        await until("the client notices", lambda: not ib.isConnected())
        gateway.restart()

    async def story() -> None:
        for _ in range(4):
            await lap(19_000)
        back = await connect(gateway.port)
        fills = {fill.execution.execId: fill.execution for fill in back.fills()}
        assert told.items() <= {exec_id: execution.shares for exec_id, execution in fills.items()}.items()
        signed = [(1 if e.side == "BOT" else -1, Decimal(str(e.shares)), Decimal(str(e.price))) for e in fills.values()]
        held = sum(sign * qty for sign, qty, _ in signed)
        assert {position.contract.symbol: position.position for position in back.positions()} == (
            {"AAPL": float(held)} if held else {}
        )
        fees = sum(Decimal(str(fill.commissionReport.commission)) for fill in back.fills())
        spent = sum(sign * qty * px for sign, qty, px in signed)
        assert Decimal(gateway.account()["cash"]) == 1_000_000 - spent - fees
        back.disconnect()

    run(story())
    rows = gateway.orders()
    assert (
        len({row["perm_id"] for row in rows}) == len({(row["client_id"], row["order_id"]) for row in rows}) == len(rows)
    )


def test_market_data_ticks_follow_the_price_and_stop_on_cancel(gateway: GatewayProcess) -> None:
    async def story() -> None:
        ib = await connect(gateway.port)
        aapl = await stock(ib, "AAPL")
        ticker = ib.reqMktData(aapl)
        await until("a first quote", lambda: ticker.ask == 190.02)
        gateway.set_price("AAPL", "191.00", "191.04", "191.02")
        await until("a second", lambda: (ticker.bid, ticker.ask, ticker.last) == (191.00, 191.04, 191.02))
        ib.cancelMktData(aapl)
        await settled(ib)
        gateway.set_price("AAPL", "192.00", "192.04")
        await settled(ib)
        assert ticker.bid == 191.00
        [snapshot] = await ib.reqTickersAsync(aapl)
        assert snapshot.bid == 192.00
        ib.disconnect()

    run(story())


def test_what_if_tells_margin_and_commission_and_places_nothing(gateway: GatewayProcess) -> None:
    async def story() -> None:
        ib = await connect(gateway.port)
        state = await ib.whatIfOrderAsync(await stock(ib, "AAPL"), LimitOrder("BUY", 400, 190.00))
        assert (float(state.initMarginChange), state.commission) == (19000.0, 2.0)
        assert (float(state.initMarginBefore), float(state.initMarginAfter)) == (0, 19000)
        equity = [float(text) for text in (state.equityWithLoanBefore, state.equityWithLoanAfter)]
        assert equity == [1_000_000, 999_998]
        ib.disconnect()

    run(story())
    assert gateway.orders() == []


def test_what_if_of_an_order_that_closes_frees_the_margin_that_the_position_takes(gateway: GatewayProcess) -> None:
    async def story() -> None:
        ib = await connect(gateway.port)
        aapl = await stock(ib, "AAPL")
        trade = ib.placeOrder(aapl, market("BUY", 100))
        await until("filled", lambda: trade.orderStatus.status == "Filled")
        state = await ib.whatIfOrderAsync(aapl, LimitOrder("SELL", 100, 190.00))
        assert float(state.initMarginChange) == -4750
        assert float(state.initMarginBefore) > 4700
        ib.disconnect()

    run(story())


def test_profit_is_told_to_a_subscriber(gateway: GatewayProcess) -> None:
    async def story() -> None:
        ib = await connect(gateway.port)
        aapl = await stock(ib, "AAPL")
        pnl = ib.reqPnL("DU1234567")
        trade = ib.placeOrder(aapl, market("BUY", 100))
        await until("filled", lambda: trade.orderStatus.status == "Filled")
        gateway.set_price("AAPL", "192.00", "192.02", "192.01")
        await until("profit", lambda: pnl.unrealizedPnL > 150)
        assert pnl.unrealizedPnL == pytest.approx(100 * (192.01 - 190.02) - 1)
        ib.disconnect()

    run(story())


def test_bars_of_what_the_market_does_not_show_are_answered_by_162(
    gateway: GatewayProcess, client_errors: ClientErrors
) -> None:
    client_errors.allow("Error 162")

    async def story() -> None:
        ib = await connect(gateway.port)
        aapl = await stock(ib, "AAPL")
        assert not list(await ib.reqHistoricalDataAsync(aapl, "", "1 D", "1 hour", "HISTORICAL_VOLATILITY", True))
        ib.disconnect()

    run(story())


def test_the_walk_brings_prices_and_fills_without_a_control_port(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, "--tick-ms", "5", "--volatility-bps", "20", walk=True) as gateway:

        async def story() -> None:
            ib = await connect(gateway.port)
            aapl = await stock(ib, "AAPL")
            ticker = ib.reqMktData(aapl)
            await until("a quote", lambda: ticker.hasBidAsk())
            trade = ib.placeOrder(aapl, LimitOrder("BUY", 10, round(ticker.bid - 0.05, 2)))
            other = ib.placeOrder(aapl, LimitOrder("SELL", 10, round(ticker.ask + 0.05, 2)))
            await until("one of them fills", lambda: "Filled" in (trade.orderStatus.status, other.orderStatus.status))
            assert gateway.executions()
            ib.disconnect()

        run(story())
