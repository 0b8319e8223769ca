"""What ib_insync can ask of the market: chains, bars, live bars, data types; and orders by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from ib_insync import IB, Contract, Future, Index, LimitOrder, MarketOrder, Option, Order

from tests.venues.gateway_client import ClientErrors, client_errors, connect, run, settled, stock, until
from tests.venues.gateway_process import GatewayProcess

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("client_errors")]
__all__ = ["client_errors"]
NOON = "20261123 12:00:30 US/Eastern"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path, "--hours", "exchange", "--tick-ms", "20") as running:
        running.control({"cmd": "set_clock", "time": NOON})
        running.set_price("AAPL", "190.00", "190.02")
        yield running


def test_an_option_is_qualified_priced_bought_and_settled_in_hundreds(gateway: GatewayProcess) -> None:
    async def story() -> None:
        ib = await connect(gateway.port)
        option = Option("SPX", "20261218", 6000, "C", "SMART", tradingClass="SPXW")
        assert await ib.qualifyContractsAsync(option) == [option]
        assert (option.multiplier, option.localSymbol) == ("100", "SPXW  261218C06000000")
        ticker = ib.reqMktData(option)
        await until("a price and greeks", lambda: ticker.hasBidAsk() and ticker.modelGreeks)
        assert 0.4 < ticker.modelGreeks.delta < 0.6
        assert 80 < ticker.midpoint() < 130, "16 % of volatility for 25 days at the money"
        gateway.set_price("SPX", "6100.00", "6100.10")
        await until("it follows its index", lambda: ticker.modelGreeks.undPrice > 6050 and ticker.midpoint() > 130)
        gateway.set_price(option.localSymbol, "150.00", "150.50")
        trade = ib.placeOrder(option, MarketOrder("BUY", 3))
        await until("filled", lambda: trade.orderStatus.status == "Filled" and trade.fills[0].commissionReport.execId)
        assert trade.orderStatus.avgFillPrice == 150.5
        assert trade.fills[0].commissionReport.commission == 1.95
        [held] = await ib.reqPositionsAsync()
        assert (held.position, held.avgCost) == (3.0, pytest.approx(15050.65))
        assert (held.contract.secType, held.contract.strike, held.contract.right) == ("OPT", 6000.0, "C")
        await until("valued", lambda: ib.portfolio())
        assert ib.portfolio()[0].marketValue == pytest.approx(3 * 100 * 150.25, abs=100)
        assert gateway.account()["values"]["TotalCashValue"] == str(Decimal("1000000.00") - Decimal("45151.95"))
        ib.disconnect()

    run(story())


def test_a_future_is_found_by_month_traded_and_costs_only_its_commission(gateway: GatewayProcess) -> None:
    async def story() -> None:
        ib = await connect(gateway.port)
        future = Future("MES", "202612", "CME")
        await ib.qualifyContractsAsync(future)
        assert (future.localSymbol, future.lastTradeDateOrContractMonth) == ("MESZ6", "20261218")
        gateway.set_price("MESZ6", "6010.00", "6010.25")
        for action in ("BUY", "SELL"):
            trade = ib.placeOrder(future, MarketOrder(action, 2))
            await until(action, lambda trade=trade: trade.orderStatus.status == "Filled")
            gateway.set_price("MESZ6", "6020.00", "6020.25")
        await settled(ib)
        assert Decimal(gateway.account()["cash"]) == 1_000_000 + Decimal("9.75") * 2 * 5 - 9
        details = await ib.reqContractDetailsAsync(Future("ES", exchange="CME"))
        assert [one.contract.localSymbol for one in details] == ["ESZ6", "ESH7", "ESM7", "ESU7", "ESZ7"]
        assert details[0].tradingHours.startswith("20261122:1800-20261123:1700;")
        ib.disconnect()

    run(story())


def test_a_chain_is_listed_by_parameters_and_by_details(gateway: GatewayProcess, client_errors: ClientErrors) -> None:
    client_errors.allow("Error 200")

    async def story() -> None:
        ib = await connect(gateway.port)
        [spx] = await ib.reqContractDetailsAsync(Index("SPX", "CBOE"))
        params = await ib.reqSecDefOptParamsAsync("SPX", "", "IND", spx.contract.conId)
        weekly = next(one for one in params if (one.exchange, one.tradingClass) == ("CBOE", "SPXW"))
        assert "20261123" in weekly.expirations
        assert {5995.0, 6000.0} <= set(weekly.strikes)
        partial = Option("SPX", "20261127", 0, "C", "SMART", tradingClass="SPXW")
        calls = await ib.reqContractDetailsAsync(partial)
        assert sorted(one.contract.strike for one in calls) == sorted(weekly.strikes)
        assert {one.contract.right for one in calls} == {"C"}
        assert calls[0].liquidHours.startswith("20261123:0930-20261123:1615;")
        assert await ib.reqContractDetailsAsync(Option("SPX", "20261128", 6000, "C", "SMART")) == []
        found = await ib.reqMatchingSymbolsAsync("apple")
        assert [(one.contract.symbol, one.derivativeSecTypes) for one in found or []] == [("AAPL", ["OPT"])]
        ib.disconnect()

    run(story())


def test_bars_are_the_same_at_each_question_and_small_ones_make_up_large_ones(gateway: GatewayProcess) -> None:
    async def story() -> None:
        ib = await connect(gateway.port)
        aapl = await stock(ib, "AAPL")
        hours = await ib.reqHistoricalDataAsync(aapl, "20261120 16:00:00 US/Eastern", "1 D", "1 hour", "TRADES", True)
        again = await ib.reqHistoricalDataAsync(aapl, "20261120 16:00:00 US/Eastern", "1 D", "1 hour", "TRADES", True)
        assert list(hours) == list(again)
        minutes = await ib.reqHistoricalDataAsync(aapl, "20261120 16:00:00 US/Eastern", "1 D", "1 min", "TRADES", True)
        assert (len(hours), len(minutes)) == (7, 390)
        assert [bar.open for bar in hours] == [bar.open for bar in minutes if bar.date in {h.date for h in hours}]
        assert hours[-1].close == minutes[-1].close
        whole = await ib.reqHistoricalDataAsync(aapl, "20261120 20:00:00 US/Eastern", "1 D", "1 min", "TRADES", False)
        assert len(whole) == 16 * 60
        days = await ib.reqHistoricalDataAsync(aapl, "", "1 Y", "1 day", "ADJUSTED_LAST", True)
        assert 248 <= len(days) <= 254
        assert all(0.5 < later.close / sooner.close < 2 for sooner, later in pairwise(days))
        schedule = await ib.reqHistoricalScheduleAsync(aapl, 5)
        assert [session.refDate for session in schedule.sessions][-1] == "20261123"
        head = await ib.reqHeadTimeStampAsync(aapl, "TRADES", True, 1)
        assert isinstance(head, datetime)
        ib.disconnect()

    run(story())


def test_bars_kept_up_to_date_and_live_bars_follow_the_price(gateway: GatewayProcess) -> None:
    async def story() -> None:
        ib = await connect(gateway.port)
        aapl = await stock(ib, "AAPL")
        bars = await ib.reqHistoricalDataAsync(aapl, "", "3600 S", "1 min", "TRADES", True, keepUpToDate=True)
        live = ib.reqRealTimeBars(aapl, 5, "TRADES", True)
        await settled(ib)
        before = len(bars)
        gateway.set_price("AAPL", "195.00", "195.02", "195.01")
        await until("the running bar moves", lambda: bars[-1].close == 195.01)
        assert len(bars) == before or bars[-1].open == 195.01
        gateway.control({"cmd": "set_clock", "forward_s": 60})
        gateway.set_price("AAPL", "196.00", "196.02", "196.01")
        await until("a new bar", lambda: bars[-1].open == 196.01)
        await until("five seconds are over", lambda: len(live) >= 1)
        gateway.control({"cmd": "set_clock", "forward_s": 6})
        await until("the next five seconds are over", lambda: live[-1].close == 196.01)
        assert [bar.time.second % 5 for bar in live] == [0] * len(live)
        assert [bar.time for bar in live] == sorted({bar.time for bar in live})
        ib.cancelHistoricalData(bars)
        ib.cancelRealTimeBars(live)
        ib.disconnect()

    run(story())


@pytest.mark.parametrize(("subscribed", "kind", "code"), [("delayed", 1, 354), ("delayed", 3, 10167), ("none", 3, 354)])
def test_what_is_not_subscribed_is_refused_or_delayed(
    tmp_path: Path, client_errors: ClientErrors, subscribed: str, kind: int, code: int
) -> None:
    client_errors.allow("Error 354")
    with GatewayProcess(tmp_path, "--market-data", subscribed) as gateway:

        async def story() -> None:
            ib = await connect(gateway.port)
            aapl = await stock(ib, "AAPL")
            codes: list[int] = []
            ib.errorEvent += lambda req_id, code, text, contract: codes.append(code)
            ib.reqMarketDataType(kind)
            ticker = ib.reqMktData(aapl)
            await until("an answer", lambda: code in codes)
            await settled(ib)
            assert ticker.hasBidAsk() is (code == 10167)
            assert (ticker.marketDataType == 3) is (code == 10167)
            ib.disconnect()

        run(story())


def test_an_order_by_hand_is_bound_by_client_zero_and_cancelled_by_it(gateway: GatewayProcess) -> None:
    def by_hand(limit: str) -> int:
        command = {"cmd": "manual_order", "symbol": "AAPL", "action": "BUY", "qty": "7", "order_type": "LMT"}
        perm_id = gateway.control({**command, "limit_px": limit})["order"]["perm_id"]
        assert isinstance(perm_id, int)
        return perm_id

    async def story() -> None:
        other = await connect(gateway.port, 5)
        first = by_hand("150.00")
        [seen] = await other.reqAllOpenOrdersAsync()
        assert (seen.order.orderId, seen.order.clientId, seen.order.permId) == (0, 0, first)
        binder = await connect(gateway.port, 0)
        binder.reqAutoOpenOrders(True)
        second = by_hand("151.00")
        await until("both are bound", lambda: {t.order.permId for t in binder.openTrades()} == {first, second})
        trades = {trade.order.permId: trade for trade in binder.openTrades()}
        assert all(trade.order.orderId < 0 for trade in trades.values())
        binder.cancelOrder(trades[second].order)
        await until("cancelled", lambda: trades[second].orderStatus.status == "Cancelled")
        gateway.set_price("AAPL", "149.00", "149.02")
        await until("filled", lambda: trades[first].orderStatus.status == "Filled")
        assert [t.order.permId for t in await binder.reqCompletedOrdersAsync(False)] == [second, first]
        assert await binder.reqCompletedOrdersAsync(True) == []
        assert [fill.execution.permId for fill in await other.reqExecutionsAsync()] == [first]
        other.disconnect()
        binder.disconnect()

    run(story())


def test_outside_hours_an_order_waits_with_399_unless_it_may_trade_outside_them(
    gateway: GatewayProcess, client_errors: ClientErrors
) -> None:
    async def story() -> None:
        ib = await connect(gateway.port)
        aapl = await stock(ib, "AAPL")
        gateway.control({"cmd": "set_clock", "time": "20261124 08:00:00 US/Eastern"})
        codes: list[int] = []
        ib.errorEvent += lambda req_id, code, text, contract: codes.append(code)
        held = ib.placeOrder(aapl, LimitOrder("BUY", 1, 191.0))
        early = ib.placeOrder(aapl, LimitOrder("BUY", 2, 191.0, outsideRth=True))
        await until("the early one fills", lambda: early.orderStatus.status == "Filled")
        assert (held.orderStatus.status, codes) == ("PreSubmitted", [399])
        gateway.control({"cmd": "set_clock", "time": "20261124 09:30:00 US/Eastern"})
        await until("the open fills the other", lambda: held.orderStatus.status == "Filled")
        ib.disconnect()

    run(story())


def test_profit_of_one_position_is_told_as_it_changes(gateway: GatewayProcess) -> None:
    async def story() -> None:
        ib = await connect(gateway.port)
        aapl = await stock(ib, "AAPL")
        trade = ib.placeOrder(aapl, MarketOrder("BUY", 100))
        await until("filled", lambda: trade.orderStatus.status == "Filled")
        pnl = ib.reqPnLSingle("DU1234567", "", aapl.conId)
        gateway.set_price("AAPL", "192.00", "192.02")
        await until("profit", lambda: pnl.unrealizedPnL == pytest.approx(100 * (192.01 - 190.02) - 1))
        assert (pnl.position, pnl.value) == (100, pytest.approx(19201))
        ib.disconnect()

    run(story())


def trail(percent: float) -> Order:
    return Order(action="SELL", totalQuantity=100, orderType="TRAIL", trailingPercent=percent, tif="GTC")


def test_a_trailing_stop_tells_where_it_stands(gateway: GatewayProcess) -> None:
    async def price(ib: IB, bid: str, ask: str) -> None:
        gateway.set_price("AAPL", bid, ask)
        await settled(ib)

    async def story() -> None:
        ib = await connect(gateway.port)
        aapl: Contract = await stock(ib, "AAPL")
        trade = ib.placeOrder(aapl, trail(1.0))
        await until("accepted", lambda: trade.orderStatus.whyHeld == "trigger")
        await price(ib, "200.00", "200.02")
        other = await connect(gateway.port, 5)
        assert [t.order.trailStopPrice for t in await other.reqAllOpenOrdersAsync()] == [198.0]
        other.disconnect()
        await price(ib, "197.90", "197.92")
        await until("elected and filled", lambda: trade.orderStatus.status == "Filled")
        assert trade.orderStatus.avgFillPrice == 197.9
        ib.disconnect()

    run(story())


def test_small_questions_have_their_answers(gateway: GatewayProcess, client_errors: ClientErrors) -> None:
    client_errors.allow("Error 321")

    async def story() -> None:
        ib = await connect(gateway.port)
        aapl = await stock(ib, "AAPL")
        trade = ib.placeOrder(aapl, MarketOrder("BUY", 5))
        await until("filled", lambda: trade.orderStatus.status == "Filled")
        rule = await ib.reqMarketRuleAsync(26)
        assert [(step.lowEdge, step.increment) for step in rule or []] == [(0.0, 0.01)]
        assert await ib.reqNewsProvidersAsync() == []
        assert await ib.reqMktDepthExchangesAsync() == []
        assert await ib.reqSmartComponentsAsync("9c0001") == []
        rows: list[tuple[str, float]] = []
        ib.wrapper.positionMulti = lambda req, account, model, contract, size, cost: rows.append(  # type: ignore[attr-defined]
            (contract.symbol, size)
        )
        ib.client.reqPositionsMulti(9_001, "DU1234567", "")
        await until("a position", lambda: rows == [("AAPL", 5.0)])
        ib.placeOrder(aapl, MarketOrder("SELL", 2))
        await until("its change", lambda: rows[-1] == ("AAPL", 3.0))
        assert gateway.status()["counters"].get("unknown_requests", 0) == 0
        ib.disconnect()

    run(story())
