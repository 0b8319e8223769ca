"""The user stream, and the faults of orders and of it: each on real sockets, each counted."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.venues.exchange_client import PATIENCE_S, SignedClient, UserEvents, canonical
from tests.venues.exchange_process import ExchangeProcess, wait_until

pytestmark = pytest.mark.process

STILL = ["--rate", "0.001", "--opportunity-every-s", "0", "--symbols", "12"]
MOVING = ["--rate", "500", "--opportunity-every-s", "0", "--symbols", "6"]
REPORT_FIELDS = list("eEsc") + list("SofqpPFgCxXrilzLnNTtIwmMOZYQWV")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedClient]:
    options = [*STILL, "--balance", "USDT=1000000", "BTC=100", "BNB=10"]
    with ExchangeProcess(tmp_path_factory.mktemp("exchange"), *options) as exchange:
        yield SignedClient(exchange)


def buy(client: SignedClient, name: str, quantity: str = "0.001", **terms: object) -> Any:
    return client.order("BTCUSDT", "BUY", "MARKET", quantity=quantity, newClientOrderId=name, **terms)


def struck(client: SignedClient, fault: str) -> int:
    return int(client.exchange.get("/paper/status")["faults"].get(fault, 0))


def listening(client: SignedClient, check: Callable[[UserEvents], Awaitable[None]], path: str = "") -> None:
    async def run() -> None:
        async with UserEvents(client, path) as events:
            await check(events)

    asyncio.run(run())


async def connected(client: SignedClient, count: int) -> None:
    """Wait until so many connections are there: those of an earlier test may be on their way out."""
    deadline = time.monotonic() + PATIENCE_S
    while len((await asyncio.to_thread(client.exchange.get, "/paper/status"))["connections"]) != count:
        assert time.monotonic() < deadline


def is_of(name: str) -> Callable[[dict[str, Any]], bool]:
    return lambda event: name in (event.get("c"), event.get("C"))


def test_every_step_of_an_order_is_an_execution_report_and_then_come_the_balances(client: SignedClient) -> None:
    async def check(events: UserEvents) -> None:
        reply = await asyncio.to_thread(buy, client, "steps-1")
        new, trade, position = [await events.next() for _ in range(3)]
        assert list(new) == list(trade) == REPORT_FIELDS
        assert (new["e"], new["x"], new["X"], new["t"], new["N"]) == ("executionReport", "NEW", "NEW", -1, None)
        assert (trade["x"], trade["X"], trade["c"], trade["C"]) == ("TRADE", "FILLED", "steps-1", "")
        (fill,) = reply["fills"]
        assert (trade["L"], trade["l"], trade["n"], trade["N"], trade["t"], trade["i"]) == (
            fill["price"],
            fill["qty"],
            fill["commission"],
            fill["commissionAsset"],
            fill["tradeId"],
            reply["orderId"],
        )
        assert Decimal(trade["Y"]) == Decimal(trade["Z"]) == Decimal(fill["price"]) * Decimal(fill["qty"])
        assert position["e"] == "outboundAccountPosition"
        held = await asyncio.to_thread(client.balances)
        assert {one["a"]: (Decimal(one["f"]), Decimal(one["l"])) for one in position["B"]} == {
            asset: held[asset] for asset in ("USDT", "BTC")
        }

    listening(client, check)


def test_a_cancelled_order_is_reported_under_the_cancels_name_with_its_own_beside_it(client: SignedClient) -> None:
    async def check(events: UserEvents) -> None:
        terms = {"timeInForce": "GTC", "quantity": "0.01", "price": "2000", "newClientOrderId": "mine-1"}
        await asyncio.to_thread(lambda: client.order("BTCUSDT", "BUY", "LIMIT", **terms))
        cancel = {"symbol": "BTCUSDT", "origClientOrderId": "mine-1", "newClientOrderId": "gone-1"}
        await asyncio.to_thread(lambda: client.good("DELETE", "/api/v3/order", **cancel))
        event = await events.until(lambda one: one.get("x") == "CANCELED")
        assert (event["c"], event["C"], event["X"]) == ("gone-1", "mine-1", "CANCELED")

    listening(client, check)


def test_a_deposit_and_a_withdrawal_are_balance_updates(client: SignedClient) -> None:
    async def check(events: UserEvents) -> None:
        transfer = {"asset": "ETH", "amount": "2.5"}
        assert (await asyncio.to_thread(client.exchange.request, "/paper/transfer", transfer))[0] == 200
        event, position = await events.next(), await events.next()
        assert (event["e"], event["a"], event["d"]) == ("balanceUpdate", "ETH", "2.50000000")
        assert position["B"] == [{"a": "ETH", "f": "2.50000000", "l": "0.00000000"}]
        transfer["amount"] = "-2.5"
        await asyncio.to_thread(client.exchange.request, "/paper/transfer", transfer)
        assert (await events.next())["d"] == "-2.50000000"
        refused = await asyncio.to_thread(client.exchange.request, "/paper/transfer", transfer)
        assert (refused[0], refused[2]["code"]) == (400, -2010)

    listening(client, check)


def test_the_combined_form_names_the_stream(client: SignedClient) -> None:
    key = client.listen_key()

    async def check(events: UserEvents) -> None:
        await asyncio.to_thread(buy, client, "combined-1")
        async with asyncio.timeout(PATIENCE_S):
            event = await events.ws.receive_json()
        assert event["stream"] == key
        assert event["data"]["c"] == "combined-1"

    listening(client, check, f"/stream?streams={key}")


def test_a_listen_key_is_one_until_it_is_closed_and_unknown_ones_are_refused(client: SignedClient) -> None:
    path = "/api/v3/userDataStream"
    key = client.listen_key()
    assert client.listen_key() == key
    assert client.send("PUT", path, f"listenKey={key}")[0] == 200
    assert client.send("DELETE", path, f"listenKey={key}")[0] == 200
    gone = {"code": -1125, "msg": "This listenKey does not exist."}
    assert client.send("PUT", path, f"listenKey={key}")[0::2] == (400, gone)
    assert client.send("DELETE", path, f"listenKey={key}")[0::2] == (400, gone)
    assert client.send("POST", path, body="", api_key="A" * 64)[2]["code"] == -2015
    assert client.listen_key() != key


def test_a_listen_key_that_nobody_prolongs_expires_and_says_so(tmp_path: Path) -> None:
    async def check(events: UserEvents) -> None:
        event = await events.until(lambda one: one["e"] == "listenKeyExpired")
        assert event["listenKey"]

    with ExchangeProcess(tmp_path, *STILL, "--listen-key-s", "5") as exchange:
        listening(SignedClient(exchange), check)


def test_a_resting_order_fills_at_its_own_price_when_the_book_comes_to_it(tmp_path: Path) -> None:
    with ExchangeProcess(tmp_path, *MOVING) as exchange:
        client = SignedClient(exchange)

        async def check(events: UserEvents) -> None:
            terms = {"quantity": "0.01", "newClientOrderId": "rest-1"}
            for _ in range(200):  # the book moves: one that would take at once is refused, and tried again
                top = await asyncio.to_thread(client.top, "BTCUSDT")
                terms["price"] = canonical(top["askPrice"] - 1)
                asked = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT_MAKER", **terms}
                if (await asyncio.to_thread(lambda: client.ask("POST", "/api/v3/order", **asked)))[0] == 200:  # noqa: B023
                    break
            event = await events.until(lambda one: one.get("x") == "TRADE")
            assert (event["c"], event["m"], event["L"]) == ("rest-1", True, terms["price"])

        listening(client, check)
        (trade,) = client.good("GET", "/api/v3/myTrades", symbol="BTCUSDT")[:1]
        assert trade["isMaker"]


# ---- faults


def test_orders_are_refused_on_demand_and_not_placed(client: SignedClient) -> None:
    client.exchange.fault(
        "reject_orders", n=2, code=-2010, msg="Account has insufficient balance for requested action."
    )
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.001"}
    assert [client.refused("POST", "/api/v3/order", **order)[1] for _ in range(2)] == [-2010, -2010]
    assert client.ask("POST", "/api/v3/order", **order)[0] == 200
    assert struck(client, "reject_orders") == 2


@pytest.mark.parametrize("placed", [True, False])
@pytest.mark.parametrize("how", ["silent", "cut", "status_504"])
def test_an_answer_is_lost_on_demand_whether_the_order_was_placed_or_not(
    client: SignedClient, how: str, placed: bool
) -> None:
    before, name = struck(client, "lost_answer"), f"lost-{how}-{placed}"
    client.exchange.fault("lost_answer", how=how, placed=placed)
    if how == "status_504":
        order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.001", "newClientOrderId": name}
        assert client.refused("POST", "/api/v3/order", **order)[:2] == (504, -1007)
    else:
        asked = client.signed_query(
            symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.001", newClientOrderId=name
        )
        expect_no_answer(client, asked, 1.5 if how == "silent" else PATIENCE_S)
    # The connection may break before the order is placed, as far as we see: ask until the fault has struck.
    wait_until(lambda: struck(client, "lost_answer") == before + 1, PATIENCE_S, lambda: "did not strike")
    status, _, found = client.ask("GET", "/api/v3/order", symbol="BTCUSDT", origClientOrderId=name)
    assert (status == 200) is placed
    assert found.get("status" if placed else "code") == ("FILLED" if placed else -2013)


def expect_no_answer(client: SignedClient, query: str, seconds_max: float) -> None:
    """Send an order; assert that the connection ends, or nothing comes within the time."""
    connection = http.client.HTTPConnection("127.0.0.1", client.exchange.port, timeout=seconds_max)
    try:
        connection.request("POST", f"/api/v3/order?{query}", headers={"X-MBX-APIKEY": client.api_key})
        with pytest.raises((OSError, http.client.HTTPException)):
            connection.getresponse()
    finally:
        connection.close()


def test_a_late_answer_is_of_an_order_that_was_placed_at_once(client: SignedClient) -> None:
    async def check(events: UserEvents) -> None:
        await asyncio.to_thread(lambda: client.exchange.fault("late_answer", seconds=2))
        begun_s = time.monotonic()
        reply = await asyncio.to_thread(buy, client, "late-1")
        assert time.monotonic() - begun_s >= 2
        event = await events.until(is_of("late-1"))
        assert event["E"] <= reply["transactTime"] + 1_000

    listening(client, check)
    assert struck(client, "late_answer") == 1


def test_an_order_surfaces_late_on_demand(client: SignedClient) -> None:
    async def check(events: UserEvents) -> None:
        await asyncio.to_thread(lambda: client.exchange.fault("late_order", seconds=2))
        begun_s = time.monotonic()
        order = {
            "symbol": "BTCUSDT",
            "side": "BUY",
            "type": "MARKET",
            "quantity": "0.001",
            "newClientOrderId": "deep-1",
        }
        assert (await asyncio.to_thread(lambda: client.refused("POST", "/api/v3/order", **order)))[:2] == (504, -1007)
        event = await events.until(is_of("deep-1"))
        assert event["x"] == "NEW"
        assert time.monotonic() - begun_s >= 2

    listening(client, check)
    assert struck(client, "late_order") == 1
    assert client.good("GET", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="deep-1")["status"] == "FILLED"


def test_part_of_a_fill_only_on_demand(client: SignedClient) -> None:
    client.exchange.fault("partial_fill", percent=40)
    reply = buy(client, "part-1", quantity="0.01")
    assert (reply["status"], reply["executedQty"]) == ("EXPIRED", "0.00400000")
    assert struck(client, "partial_fill") == 1


def test_reports_are_silent_doubled_or_backwards_on_demand(client: SignedClient) -> None:
    async def check(events: UserEvents) -> None:
        def trade_with(fault: str) -> None:
            client.exchange.fault(fault)
            buy(client, fault)

        await asyncio.to_thread(trade_with, "silent_reports")
        await asyncio.to_thread(trade_with, "duplicate_reports")
        seen = [await events.next() for _ in range(6)]
        assert [event.get("c") for event in seen[:4]] == ["duplicate_reports"] * 4
        assert seen[0] == seen[1]
        assert seen[2] == seen[3]
        assert seen[4] == seen[5]
        await asyncio.to_thread(trade_with, "reorder_reports")
        backwards = [await events.next() for _ in range(3)]
        assert [event.get("x", event["e"]) for event in backwards] == ["outboundAccountPosition", "TRADE", "NEW"]
        await asyncio.to_thread(buy, client, "as-ever")
        assert [(await events.next()).get("x") for _ in range(2)] == ["NEW", "TRADE"]

    listening(client, check)
    assert [struck(client, f"{kind}_reports") for kind in ("silent", "duplicate", "reorder")] == [1, 1, 1]
    order = client.good("GET", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="silent_reports")
    assert order["status"] == "FILLED"


def test_the_user_stream_is_cut_or_made_half_open_on_demand_and_market_streams_are_not(client: SignedClient) -> None:
    async def check(events: UserEvents) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(client.exchange.ws_url + "/ws/btcusdt@bookTicker") as market,
        ):
            await connected(client, 2)
            assert await asyncio.to_thread(lambda: client.exchange.fault("user_stream_drop", half_open=True)) == 1
            await asyncio.to_thread(buy, client, "unheard-1")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await events.ws.receive()
            await asyncio.to_thread(lambda: client.exchange.fault("crossed", symbol="BTCUSDT"))
            async with asyncio.timeout(PATIENCE_S):
                assert (await market.receive()).type is aiohttp.WSMsgType.TEXT
            async with UserEvents(client) as other:
                assert await asyncio.to_thread(lambda: client.exchange.fault("user_stream_drop")) == 2
                async with asyncio.timeout(PATIENCE_S):
                    assert (await other.ws.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)
            assert not market.closed

    listening(client, check)
    assert struck(client, "user_stream_drop") == 2


def test_every_listen_key_expires_on_demand(client: SignedClient) -> None:
    async def check(events: UserEvents) -> None:
        assert await asyncio.to_thread(lambda: client.exchange.fault("listen_key_expiry")) == 1
        assert (await events.until(lambda one: one["e"] == "listenKeyExpired"))["listenKey"]

    listening(client, check)
    assert struck(client, "listen_key_expiry") == 1


def test_requests_about_orders_are_answered_429_on_demand_and_market_data_is_not(client: SignedClient) -> None:
    client.exchange.fault("order_status", status=429, retry_after_s=7)
    assert client.exchange.get("/api/v3/ping") == {}
    status, headers, reply = client.ask("GET", "/api/v3/openOrders")
    assert (status, reply["code"], headers["Retry-After"]) == (429, -1003, "7")
    client.exchange.fault("order_status", status=418, retry_after_s=9)
    assert client.ask("GET", "/api/v3/openOrders")[0] == 418
    assert client.ask("GET", "/api/v3/openOrders")[0] == 200
    assert struck(client, "order_status") == 2


def test_the_exchanges_clock_is_set_wrong_on_demand(client: SignedClient) -> None:
    client.exchange.fault("clock_skew", ms=-120_000)
    assert client.refused("GET", "/api/v3/openOrders")[1] == -1021
    told_ms = client.exchange.get("/api/v3/time")["serverTime"]
    assert abs(told_ms + 120_000 - time.time() * 1e3) < 60_000
    client.skew_ms = -120_000
    assert client.ask("GET", "/api/v3/openOrders")[0] == 200
    client.skew_ms = 0
    client.exchange.fault("clock_skew", ms=0)
    assert client.ask("GET", "/api/v3/openOrders")[0] == 200


def test_a_halted_symbol_takes_no_orders_until_it_is_called_back(client: SignedClient) -> None:
    order = {"symbol": "ETHUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
    client.exchange.fault("halt_symbol", symbol="ETHUSDT")
    assert client.refused("POST", "/api/v3/order", **order) == (400, -1013, "Market is closed.")
    assert client.ask("POST", "/api/v3/order", **{**order, "symbol": "BTCUSDT"})[0] == 200
    client.exchange.fault("halt_symbol", symbol="ETHUSDT", halted=False)
    assert client.ask("POST", "/api/v3/order", **order)[0] == 200
    assert client.exchange.request("/paper/fault", {"fault": "halt_symbol", "symbol": "NOSUCH"})[2]["code"] == -1121


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "lost_answer", "how": "somehow"},
        {"fault": "partial_fill", "percent": 100},
        {"fault": "late_answer"},
        {"fault": "reject_orders", "n": 0},
        {"fault": "clock_skew", "ms": "early"},
    ],
)
def test_a_fault_that_is_none_is_refused_and_changes_nothing(client: SignedClient, fault: dict[str, object]) -> None:
    status, _, reply = client.exchange.request("/paper/fault", fault)
    assert (status, reply["code"]) == (400, -1130)


def test_many_clients_at_once_leave_an_account_that_adds_up(client: SignedClient) -> None:
    before = client.balances()
    replies: list[Any] = []

    def trade(number: int) -> None:
        for turn in range(5):
            side = "BUY" if (number + turn) % 2 else "SELL"
            replies.append(client.order("BNBUSDT", side, "MARKET", quantity="0.05"))

    threads = [threading.Thread(target=trade, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(replies) == 20
    ids = [fill["tradeId"] for reply in replies for fill in reply["fills"]]
    assert len(set(ids)) == len(ids)
    expected = {"BNB": before["BNB"][0], "USDT": before["USDT"][0]}
    for trade_row in client.good("GET", "/api/v3/myTrades", symbol="BNBUSDT"):
        sign = 1 if trade_row["isBuyer"] else -1
        expected["BNB"] += sign * Decimal(trade_row["qty"])
        expected["USDT"] -= sign * Decimal(trade_row["quoteQty"])
        expected[trade_row["commissionAsset"]] -= Decimal(trade_row["commission"])
    after = client.balances()
    assert {asset: after[asset][0] for asset in expected} == expected


def test_neither_key_nor_secret_nor_signature_is_in_anything_the_exchange_printed(client: SignedClient) -> None:
    assert client.refused("GET", "/api/v3/account", recvWindow=60_001)[1] == -1131
    printed = client.exchange.output()
    assert client.secret not in printed
    assert client.api_key not in printed
    assert "signature" not in printed
    assert "Traceback" not in printed
