"""The paper gateway as ib_insync sees it: real client, real sockets, real processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from ib_insync import IB, ExecutionFilter, Forex, LimitOrder, Order, Stock, StopLimitOrder, StopOrder

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


def test_a_client_connects_and_finds_account_positions_orders_and_contracts(gateway: GatewayProcess) -> None:
    async def story() -> None:
        ib = await connect(gateway.port)
        assert ib.client.serverVersion() == 176
        assert ib.managedAccounts() == ["DU1234567"]
        assert ib.positions() == []
        assert ib.trades() == []
        values = {value.tag: value.value for value in ib.accountValues()}
        assert values["NetLiquidation"] == "1000000.00"
        assert values["AccountReady"] == "true"
        [details] = await ib.reqContractDetailsAsync(Stock("AAPL", "SMART", "USD"))
        assert (details.contract.conId, details.minTick, details.longName) == (265598, 0.01, "APPLE INC")
        summary = await ib.accountSummaryAsync()
        assert {"BuyingPower", "TotalCashValue"} <= {value.tag for value in summary}
        assert abs((await ib.reqCurrentTimeAsync()).year - 2026) < 100
        ib.disconnect()

    run(story())


def test_an_unknown_contract_is_error_200(gateway: GatewayProcess, client_errors: ClientErrors) -> None:
    client_errors.allow("Error 200")

    async def story() -> None:
        ib = await connect(gateway.port)
        for contract in (Stock("NOSUCH", "SMART", "USD"), Forex("EURUSD"), Stock("AAPL", "SMART", "EUR")):
            assert await ib.reqContractDetailsAsync(contract) == []
        ib.disconnect()

    run(story())


def test_a_bracket_lives_its_whole_life_to_the_target(gateway: GatewayProcess) -> None:
    async def story() -> None:
        ib = await connect(gateway.port)
        aapl = await stock(ib, "AAPL")
        entry, target, stop = place_all(
            ib, aapl, bracket(ib, "BUY", 100, LimitOrder("BUY", 100, 189.50), 195.00, 185.00)
        )
        await until("legs are held", lambda: stop.orderStatus.whyHeld == "child,trigger")
        assert (entry.orderStatus.status, target.orderStatus.status) == ("Submitted", "PreSubmitted")
        assert target.orderStatus.whyHeld == "child"
        gateway.set_price("AAPL", "189.40", "189.45")
        await until("entry fills", lambda: entry.fills and entry.fills[0].commissionReport.execId)
        await until("target works", lambda: target.orderStatus.status == "Submitted")
        await until("stop waits", lambda: stop.orderStatus.whyHeld == "trigger")
        assert entry.orderStatus.avgFillPrice == 189.50
        assert ib.positions()[0].position == 100
        gateway.set_price("AAPL", "195.10", "195.12")
        await until("target fills", lambda: target.orderStatus.status == "Filled")
        await until("stop goes", lambda: stop.orderStatus.status == "Cancelled")
        await until("commission", lambda: target.fills[0].commissionReport.execId)
        assert target.fills[0].execution.price == 195.00
        assert target.fills[0].commissionReport.realizedPNL == 100 * (195.00 - 189.50) - 2
        assert ib.positions() == []
        assert [t.order.permId for t in (entry, target, stop)] == [1000001, 1000002, 1000003]
        ib.disconnect()

    run(story())
    assert gateway.account()["cash"] == "1000548"


def test_a_market_bracket_is_stopped_out(gateway: GatewayProcess) -> None:
    async def story() -> None:
        ib = await connect(gateway.port)
        aapl = await stock(ib, "AAPL")
        entry, target, stop = place_all(ib, aapl, bracket(ib, "SELL", 50, market("SELL", 50), 180.00, 195.00))
        await until("entry fills", lambda: entry.orderStatus.status == "Filled")
        assert entry.orderStatus.avgFillPrice == 190.00
        assert [line.status for line in entry.log] == ["PendingSubmit", "PreSubmitted", "PreSubmitted", "Filled"]
        gateway.set_price("AAPL", "195.00", "195.04", "195.02")
        await until("stop fills", lambda: stop.orderStatus.status == "Filled")
        assert stop.fills[0].execution.price == 195.04
        await until("target goes", lambda: target.orderStatus.status == "Cancelled")
        ib.disconnect()

    run(story())
    assert gateway.positions()["AAPL"]["qty"] == "0"


def test_a_partial_fill_of_the_target_reduces_the_stop(gateway: GatewayProcess) -> None:
    async def story() -> None:
        ib = await connect(gateway.port)
        aapl = await stock(ib, "AAPL")
        entry, target, stop = place_all(ib, aapl, bracket(ib, "BUY", 100, market("BUY", 100), 195.00, 185.00))
        await until("entry fills", lambda: entry.orderStatus.status == "Filled")
        gateway.fault("partial_fills", size="30")
        gateway.set_price("AAPL", "195.00", "195.02")
        await until("30 are sold", lambda: target.orderStatus.filled == 30)
        await until("the stop is 70", lambda: stop.order.totalQuantity == 70)
        assert (target.orderStatus.status, target.orderStatus.remaining) == ("Submitted", 70)
        assert stop.orderStatus.remaining == 70
        gateway.fault("partial_fills", on=False)
        gateway.set_price("AAPL", "184.00", "184.02")
        await until("the stop sells the rest", lambda: stop.orderStatus.status == "Filled")
        await until("the target goes", lambda: target.orderStatus.status == "Cancelled")
        assert (stop.orderStatus.filled, target.orderStatus.filled) == (70, 30)
        ib.disconnect()

    run(story())
    assert gateway.positions()["AAPL"]["qty"] == "0"


def test_an_untransmitted_bracket_says_nothing_and_cancelling_the_parent_takes_the_children(
    gateway: GatewayProcess,
) -> None:
    async def story() -> None:
        ib = await connect(gateway.port)
        aapl = await stock(ib, "AAPL")
        orders = bracket(ib, "BUY", 10, LimitOrder("BUY", 10, 150.00), 200.00, 140.00)
        trades = place_all(ib, aapl, orders[:2])
        await settled(ib)
        assert [trade.orderStatus.status for trade in trades] == ["PendingSubmit", "PendingSubmit"]
        assert gateway.orders() == []
        trades += place_all(ib, aapl, orders[2:])
        await until("the family is told", lambda: trades[2].orderStatus.status == "PreSubmitted")
        groups = {row["oca_group"] for row in gateway.orders() if row["parent_perm_id"]}
        assert groups == {str(trades[0].order.permId)}
        ib.cancelOrder(orders[0])
        await until("all three go", lambda: all(trade.orderStatus.status == "Cancelled" for trade in trades))
        ib.disconnect()

    run(story())


def test_limit_stop_and_stop_limit_orders_fill_at_their_prices_and_not_before(gateway: GatewayProcess) -> None:
    async def story() -> None:
        ib = await connect(gateway.port)
        spy = await stock(ib, "SPY")
        limit = ib.placeOrder(spy, LimitOrder("BUY", 10, 499.00))
        stop = ib.placeOrder(spy, StopOrder("BUY", 10, 502.00))
        stop_limit = ib.placeOrder(spy, StopLimitOrder("BUY", 10, 502.00, 501.50))
        crossing = ib.placeOrder(spy, LimitOrder("BUY", 10, 600.00))
        await until("the crossing limit fills at the touch", lambda: crossing.orderStatus.status == "Filled")
        assert crossing.orderStatus.avgFillPrice == 500.01
        gateway.set_price("SPY", "502.40", "502.60", "502.50")
        await until("the stop fills at the ask", lambda: stop.orderStatus.status == "Filled")
        assert stop.orderStatus.avgFillPrice == 502.60
        await until("the stop-limit is elected", lambda: stop_limit.orderStatus.status == "Submitted")
        assert stop_limit.orderStatus.filled == 0
        gateway.set_price("SPY", "501.80", "501.90")
        await until("it fills at its limit", lambda: stop_limit.orderStatus.status == "Filled")
        assert stop_limit.orderStatus.avgFillPrice == 502.00
        assert limit.orderStatus.status == "Submitted"
        gateway.set_price("SPY", "498.00", "498.02")
        await until("the resting limit fills at its limit", lambda: limit.orderStatus.status == "Filled")
        assert limit.orderStatus.avgFillPrice == 499.00
        ib.disconnect()

    run(story())


def test_an_order_is_modified_under_its_id_and_cancelled(gateway: GatewayProcess) -> None:
    async def story() -> None:
        ib = await connect(gateway.port)
        aapl = await stock(ib, "AAPL")
        order = LimitOrder("BUY", 10, 180.00, orderRef="mine", tif="GTC")
        trade = ib.placeOrder(aapl, order)
        await until("it rests", lambda: trade.orderStatus.status == "Submitted")
        order.lmtPrice, order.totalQuantity = 185.00, 20
        ib.placeOrder(aapl, order)
        await until("the change shows", lambda: trade.orderStatus.remaining == 20)
        [row] = gateway.orders()
        assert (row["limit_px"], row["qty"], row["order_ref"], row["tif"]) == ("185", "20", "mine", "GTC")
        ib.cancelOrder(order)
        await until("it goes", lambda: trade.orderStatus.status == "Cancelled")
        assert trade.log[-1].status == "Cancelled"
        ib.disconnect()

    run(story())


def test_an_immediate_or_cancel_order_fills_what_it_can_and_ends(gateway: GatewayProcess) -> None:
    async def story() -> None:
        ib = await connect(gateway.port)
        aapl = await stock(ib, "AAPL")
        gateway.fault("partial_fills", size="4")
        some = ib.placeOrder(aapl, LimitOrder("BUY", 10, 191.00, tif="IOC"))
        none = ib.placeOrder(aapl, LimitOrder("BUY", 10, 180.00, tif="IOC"))
        await until("both end", lambda: {some.orderStatus.status, none.orderStatus.status} == {"Cancelled"})
        assert (some.orderStatus.filled, none.orderStatus.filled) == (4, 0)
        ib.disconnect()

    run(story())


def test_executions_filter_and_positions_match_a_naive_sum(gateway: GatewayProcess) -> None:
    async def story() -> None:
        ib = await connect(gateway.port)
        contracts = {name: await stock(ib, name) for name in ("AAPL", "SPY")}
        plan = [
            ("AAPL", "BUY", 300),
            ("SPY", "SELL", 40),
            ("AAPL", "SELL", 120),
            ("AAPL", "SELL", 300),
            ("SPY", "BUY", 40),
        ]
        trades = []
        for step, (symbol, action, qty) in enumerate(plan):
            bid = Decimal("190.00") + step if symbol == "AAPL" else Decimal("500.00") - step
            gateway.set_price(symbol, str(bid), str(bid + Decimal("0.02")))
            trade = ib.placeOrder(contracts[symbol], market(action, qty))
            await until("filled", lambda trade=trade: trade.orderStatus.status == "Filled")  # type: ignore[misc]
            trades.append(trade)
        await settled(ib)
        cash, held = Decimal(1_000_000), {"AAPL": Decimal(0), "SPY": Decimal(0)}
        for fill in ib.fills():
            qty, px = Decimal(str(fill.execution.shares)), Decimal(str(fill.execution.price))
            sign = 1 if fill.execution.side == "BOT" else -1
            held[fill.contract.symbol] += sign * qty
            cash -= sign * qty * px + max(Decimal(1), qty * Decimal("0.005"))
        assert (
            gateway.account()["cash"] == str(cash.quantize(Decimal("1e-5")).normalize())
            or Decimal(gateway.account()["cash"]) == cash
        )
        assert {p.contract.symbol: p.position for p in ib.positions()} == {"AAPL": -120.0}
        assert held == {"AAPL": Decimal(-120), "SPY": Decimal(0)}
        bought = await ib.reqExecutionsAsync(ExecutionFilter(symbol="AAPL", side="BUY"))
        assert [fill.execution.shares for fill in bought] == [300]
        later = await ib.reqExecutionsAsync(ExecutionFilter(time="20990101-00:00:00"))
        assert later == []
        [item] = [entry for entry in ib.portfolio() if entry.contract.symbol == "AAPL"]
        assert (item.position, item.averageCost) == (-120.0, pytest.approx(193.0 - 0.005))
        ib.disconnect()

    run(story())


def test_a_client_sees_only_its_own_open_orders_unless_it_asks_for_all(gateway: GatewayProcess) -> None:
    async def story() -> None:
        first, second = await connect(gateway.port, 1), await connect(gateway.port, 2)
        aapl = await stock(first, "AAPL")
        mine = first.placeOrder(aapl, LimitOrder("BUY", 1, 100.00, orderRef="first"))
        yours = second.placeOrder(aapl, LimitOrder("BUY", 2, 100.00, orderRef="second"))
        await until("both rest", lambda: {mine.orderStatus.status, yours.orderStatus.status} == {"Submitted"})
        assert [t.order.orderRef for t in await first.reqOpenOrdersAsync()] == ["first"]
        everyone = await first.reqAllOpenOrdersAsync()
        assert {(t.order.clientId, t.order.orderRef) for t in everyone} == {(1, "first"), (2, "second")}
        assert len({t.order.permId for t in everyone}) == 2
        first.reqGlobalCancel()
        await until("a global cancel takes all", lambda: yours.orderStatus.status == "Cancelled")
        first.disconnect()
        second.disconnect()

    run(story())


def test_orders_live_on_while_their_client_is_away_and_its_next_session_learns_of_the_fill(
    gateway: GatewayProcess,
) -> None:
    async def story() -> None:
        ib = await connect(gateway.port)
        aapl = await stock(ib, "AAPL")
        orders = bracket(ib, "BUY", 100, LimitOrder("BUY", 100, 189.00), 195.00, 185.00)
        trades = place_all(ib, aapl, orders)
        await until("told", lambda: trades[2].orderStatus.status == "PreSubmitted")
        ib.disconnect()
        gateway.wait_for("the client is gone", lambda g: g.status()["clients"] == [])
        gateway.set_price("AAPL", "188.90", "188.95")
        back = await connect(gateway.port)
        assert {t.order.orderRef[-1]: t.orderStatus.status for t in back.openTrades()} == {
            "1": "Submitted",
            "2": "PreSubmitted",
        }
        done = [t for t in back.trades() if t.orderStatus.status == "Filled"]
        assert [(t.order.orderRef, t.order.filledQuantity) for t in done] == [(orders[0].orderRef, 100.0)]
        assert [fill.execution.orderRef for fill in back.fills()] == [orders[0].orderRef]
        assert back.positions()[0].position == 100
        assert back.client.getReqId() > max(order.orderId for order in orders)
        back.disconnect()

    run(story())


def test_kill_9_and_restart_lose_nothing_and_fills_go_on(gateway: GatewayProcess, client_errors: ClientErrors) -> None:
    client_errors.allow("Peer closed connection", "Connection reset", "Connection lost")

    async def story() -> None:
        ib = await connect(gateway.port)
        aapl = await stock(ib, "AAPL")
        trades = place_all(ib, aapl, bracket(ib, "BUY", 100, market("BUY", 100), 195.00, 185.00))
        await until("filled", lambda: trades[2].orderStatus.whyHeld == "trigger")
        before, cash = gateway.orders(), gateway.account()["cash"]
        gateway.kill9()
        await until("the client notices", lambda: not ib.isConnected())
        gateway.restart()
        assert gateway.orders() == before
        assert gateway.account()["cash"] == cash
        gateway.set_price("AAPL", "184.90", "184.95")
        back = await connect(gateway.port)
        assert back.openTrades() == []
        assert back.positions() == []
        assert [fill.execution.execId.split(".")[1] for fill in back.fills()] == ["00000001", "00000002"]
        assert {t.order.permId: t.orderStatus.status for t in back.trades()} == {
            1000001: "Filled",
            1000002: "Cancelled",
            1000003: "Filled",
        }
        back.disconnect()

    run(story())


def test_a_second_session_with_the_same_client_id_is_refused_by_326(
    gateway: GatewayProcess, client_errors: ClientErrors
) -> None:
    client_errors.allow("Error 326", "already in use", "API connection failed")

    async def story() -> None:
        first = await connect(gateway.port, 5)
        second = IB()
        with pytest.raises((asyncio.TimeoutError, ConnectionError)):
            await second.connectAsync("127.0.0.1", gateway.port, clientId=5, timeout=1)
        await settled(first)
        first.disconnect()
        gateway.wait_for("the id is free", lambda g: g.status()["clients"] == [])
        again = await connect(gateway.port, 5)
        again.disconnect()

    run(story())
    assert any("Error 326" in text for text in client_errors.messages)


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (Order(action="BUY", totalQuantity=1, orderType="FEELINGS", lmtPrice=10), 321),
        (Order(action="BUY", totalQuantity=1, orderType="MIT", auxPrice=10), 387),
        (LimitOrder("BUY", 0, 10.0), 321),
        (LimitOrder("BUY", 1, 10.0, account="DU0"), 321),
        (LimitOrder("BUY", 1, 10.0, tif="OPG"), 321),
        (LimitOrder("BUY", 1, 10.0, parentId=999), 10006),
    ],
)
def test_an_order_that_cannot_be_is_refused_with_its_code_and_does_not_live(
    gateway: GatewayProcess, client_errors: ClientErrors, order: Order, code: int
) -> None:
    client_errors.allow(f"Error {code}")

    async def story() -> None:
        ib = await connect(gateway.port)
        trade = ib.placeOrder(await stock(ib, "AAPL"), order)
        await until("refused", lambda: trade.orderStatus.status == "Cancelled")
        assert trade.log[-1].errorCode == code
        ib.disconnect()

    run(story())
    assert gateway.orders() == []


def test_ids_cancels_and_modifies_of_what_is_done_have_their_codes(
    gateway: GatewayProcess, client_errors: ClientErrors
) -> None:
    client_errors.allow("Error 103", "Error 104", "Error 105", "Error 10147", "Error 10148")

    async def story() -> None:
        ib = await connect(gateway.port)
        aapl, spy = await stock(ib, "AAPL"), await stock(ib, "SPY")
        seen: list[tuple[int, int]] = []
        ib.errorEvent += lambda req_id, code, text, contract: seen.append((req_id, code))
        filled = ib.placeOrder(aapl, market("BUY", 1))
        gone = ib.placeOrder(aapl, LimitOrder("BUY", 1, 100.0))
        alive = ib.placeOrder(aapl, LimitOrder("BUY", 1, 101.0))
        await until("filled", lambda: filled.orderStatus.status == "Filled")
        ib.cancelOrder(gone.order)
        await until("cancelled", lambda: gone.orderStatus.status == "Cancelled")
        client, ids = ib.client, [trade.order.orderId for trade in (filled, gone, alive)]
        client.placeOrder(ids[0], aapl, LimitOrder("BUY", 1, 102.0))
        client.placeOrder(ids[1], aapl, LimitOrder("BUY", 1, 102.0))
        client.placeOrder(ids[2], spy, LimitOrder("BUY", 1, 102.0))
        client.cancelOrder(ids[0])
        client.cancelOrder(987654)
        await settled(ib)
        answers = [(ids[0], 104), (ids[1], 103), (ids[2], 105), (ids[0], 10148), (987654, 10147)]
        assert [entry for entry in seen if entry[1] not in (202,)] == answers
        ib.disconnect()

    run(story())
    assert [row["status"] for row in gateway.orders()] == ["Filled", "Cancelled", "Submitted"]
