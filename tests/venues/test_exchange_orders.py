"""Orders over REST in the real forms: types, times in force, fills, queries, cancels, refusals. Real sockets."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.venues.exchange_client import SignedClient, canonical
from tests.venues.exchange_process import ExchangeProcess
from tests.venues.test_exchange_life import run

pytestmark = pytest.mark.process

# A book that stands still: nothing but our own orders changes what can be taken.
STILL = ["--rate", "0.001", "--opportunity-every-s", "0", "--symbols", "24"]
NAME = "币安人生USDT"
DECIMAL = re.compile(r"\d+\.\d{8}")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[SignedClient]:
    with ExchangeProcess(tmp_path, *STILL) as exchange:
        yield SignedClient(exchange)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedClient]:
    """For what is refused, and changes nothing."""
    with ExchangeProcess(tmp_path_factory.mktemp("exchange"), *STILL) as exchange:
        yield SignedClient(exchange)


def test_the_key_file_is_named_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    with ExchangeProcess(tmp_path, *STILL) as exchange:
        first = SignedClient(exchange)
        path = Path(json.loads((tmp_path / "exchange.json").read_bytes())["api_key_file"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        exchange.restart()
        again = SignedClient(exchange)
        assert (again.api_key, again.secret) == (first.api_key, first.secret)
        assert again.good("GET", "/api/v3/account")["canTrade"]
        assert first.secret not in exchange.output()
        assert first.api_key not in exchange.output()


def test_a_new_account_has_its_start_balances_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    with ExchangeProcess(tmp_path, *STILL, "--balance", "USDT=123.45", "BTC=0.00000001") as exchange:
        first = {"USDT": (Decimal("123.45"), Decimal(0)), "BTC": (Decimal("0.00000001"), Decimal(0))}
        assert SignedClient(exchange).balances() == first
        exchange.options = (*STILL, "--balance", "USDT=7")
        exchange.restart()
        assert SignedClient(exchange).balances() == first


def test_a_full_reply_tells_every_fill_and_the_account_shows_what_it_did(client: SignedClient) -> None:
    top = client.top("BTCUSDT")
    before = client.balances()
    reply = client.ioc("BTCUSDT", "BUY", "0.01", canonical(top["askPrice"]), newClientOrderId="first-1")
    assert list(reply)[:9] == [
        "symbol",
        "orderId",
        "orderListId",
        "clientOrderId",
        "transactTime",
        "price",
        "origQty",
        "executedQty",
        "origQuoteOrderQty",
    ]
    assert (reply["status"], reply["clientOrderId"], reply["type"], reply["side"]) == (
        "FILLED",
        "first-1",
        "LIMIT",
        "BUY",
    )
    (fill,) = reply["fills"]
    assert list(fill) == ["price", "qty", "commission", "commissionAsset", "tradeId"]
    assert Decimal(fill["price"]) == top["askPrice"]
    assert (Decimal(fill["commission"]), fill["commissionAsset"]) == (Decimal("0.00001"), "BTC")
    cost = top["askPrice"] * Decimal("0.01")
    assert Decimal(reply["cummulativeQuoteQty"]) == cost
    after = client.balances()
    assert after["USDT"] == (before["USDT"][0] - cost, 0)
    assert after["BTC"] == (before["BTC"][0] + Decimal("0.00999"), 0)
    assert all(DECIMAL.fullmatch(fill[name]) for name in ("price", "qty", "commission"))


def test_what_was_taken_is_gone_until_the_book_changes(client: SignedClient) -> None:
    top = client.top("ETHBTC")
    client.exchange.request("/paper/transfer", {"asset": "BTC", "amount": "90000"})
    all_of_it = canonical(top["askQty"])
    first = client.ioc("ETHBTC", "BUY", all_of_it, canonical(top["askPrice"]))
    assert first["status"] == "FILLED"
    second = client.ioc("ETHBTC", "BUY", all_of_it, canonical(top["askPrice"]))
    assert (second["status"], second["executedQty"], second["fills"]) == ("EXPIRED", "0.00000000", [])
    sold = client.ioc("ETHBTC", "SELL", "0.1", canonical(top["bidPrice"]))
    assert sold["status"] == "FILLED"


def test_an_immediate_or_cancel_order_takes_what_stands_and_expires_with_the_rest(client: SignedClient) -> None:
    top = client.top("BTCUSDT")
    client.exchange.request("/paper/transfer", {"asset": "USDT", "amount": "900000000"})
    reply = client.ioc("BTCUSDT", "BUY", canonical(2 * top["askQty"]), canonical(top["askPrice"]))
    assert (reply["status"], Decimal(reply["executedQty"])) == ("EXPIRED", top["askQty"])
    assert client.balances()["USDT"][1] == 0


def test_fill_or_kill_is_all_or_nothing(client: SignedClient) -> None:
    top = client.top("BTCUSDT")
    client.exchange.request("/paper/transfer", {"asset": "USDT", "amount": "900000000"})
    whole = {"timeInForce": "FOK", "price": canonical(top["askPrice"])}
    none = client.order("BTCUSDT", "BUY", "LIMIT", quantity=canonical(2 * top["askQty"]), **whole)
    assert (none["status"], none["executedQty"], none["fills"]) == ("EXPIRED", "0.00000000", [])
    assert client.order("BTCUSDT", "BUY", "LIMIT", quantity=canonical(top["askQty"]), **whole)["status"] == "FILLED"


def test_an_order_walks_the_levels_below_the_top_and_each_is_a_trade(client: SignedClient) -> None:
    asks = client.exchange.get("/api/v3/depth?symbol=ETHUSDT&limit=5")["asks"]
    client.exchange.request("/paper/transfer", {"asset": "USDT", "amount": "900000000"})
    two = Decimal(asks[0][1]) + Decimal(asks[1][1])
    rest = Decimal(asks[2][1]) / 2 // Decimal("0.001") * Decimal("0.001")
    reply = client.ioc("ETHUSDT", "BUY", canonical(two + rest), asks[2][0])
    assert reply["status"] == "FILLED"
    assert [(fill["price"], fill["qty"]) for fill in reply["fills"]] == [
        *map(tuple, asks[:2]),
        (asks[2][0], canonical(rest)),
    ]
    assert [fill["tradeId"] for fill in reply["fills"]] == [1, 2, 3]
    again = client.ioc("ETHUSDT", "BUY", canonical(two), asks[3][0])
    assert again["fills"][0]["price"] == asks[2][0]


def test_a_market_order_goes_by_quantity_or_by_what_it_may_spend(client: SignedClient) -> None:
    top = client.top("BTCUSDT")
    bought = client.order("BTCUSDT", "BUY", "MARKET", quantity="0.01")
    assert (bought["status"], bought["price"]) == ("FILLED", "0.00000000")
    spent = client.order("BTCUSDT", "BUY", "MARKET", quoteOrderQty="100")
    assert spent["origQuoteOrderQty"] == "100.00000000"
    assert Decimal(100) - top["askPrice"] * Decimal("0.00001") < Decimal(spent["cummulativeQuoteQty"]) <= Decimal(100)
    assert spent["status"] == "FILLED"
    sold = client.order("BTCUSDT", "SELL", "MARKET", quoteOrderQty="50")
    assert 0 < Decimal(sold["cummulativeQuoteQty"]) <= Decimal(50)


def test_a_maker_only_order_rests_or_is_refused(client: SignedClient) -> None:
    top = client.top("BTCUSDT")
    maker = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT_MAKER", "quantity": "0.01"}
    assert client.refused("POST", "/api/v3/order", **maker, price=canonical(top["askPrice"])) == (
        400,
        -2010,
        "Order would immediately match and take.",
    )
    ack = client.good("POST", "/api/v3/order", **maker, price=canonical(top["bidPrice"]))
    assert list(ack) == ["symbol", "orderId", "orderListId", "clientOrderId", "transactTime"]
    assert [one["orderId"] for one in client.good("GET", "/api/v3/openOrders")] == [ack["orderId"]]


def test_a_resting_order_holds_its_money_back_until_it_is_cancelled(client: SignedClient) -> None:
    low = canonical(client.top("BTCUSDT")["bidPrice"] * 9 // 10)
    free = client.balances()["USDT"][0]
    placed = client.order(
        "BTCUSDT", "BUY", "LIMIT", timeInForce="GTC", quantity="0.1", price=low, newClientOrderId="mine"
    )
    assert (placed["status"], placed["fills"]) == ("NEW", [])
    held = Decimal(low) * Decimal("0.1")
    assert client.balances()["USDT"] == (free - held, held)
    asked = client.good("GET", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="mine")
    assert (asked["orderId"], asked["status"], asked["isWorking"]) == (placed["orderId"], "NEW", True)
    gone = client.good("DELETE", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="mine", newClientOrderId="c-1")
    assert (gone["origClientOrderId"], gone["clientOrderId"], gone["status"]) == ("mine", "c-1", "CANCELED")
    assert client.balances()["USDT"] == (free, 0)
    unknown = client.refused("DELETE", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="mine")
    assert unknown == (400, -2011, "Unknown order sent.")


def test_a_name_is_taken_only_while_its_order_is_open(client: SignedClient) -> None:
    low = canonical(client.top("BTCUSDT")["bidPrice"] // 2 // 1)
    terms = {"timeInForce": "GTC", "quantity": "0.01", "price": low, "newClientOrderId": "again"}
    first = client.order("BTCUSDT", "BUY", "LIMIT", **terms)
    repeated = client.refused("POST", "/api/v3/order", symbol="BTCUSDT", side="BUY", type="LIMIT", **terms)
    assert repeated == (400, -2010, "Duplicate order sent.")
    client.good("DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=first["orderId"])
    second = client.order("BTCUSDT", "BUY", "LIMIT", **terms)
    assert second["orderId"] > first["orderId"]
    found = client.good("GET", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="again")
    assert found["orderId"] == second["orderId"]


def test_order_and_trade_ids_are_a_symbols_own(client: SignedClient) -> None:
    one = client.order("BTCUSDT", "BUY", "MARKET", quantity="0.01")
    other = client.order("ETHUSDT", "BUY", "MARKET", quantity="0.1")
    assert one["orderId"] == other["orderId"] == 1
    assert one["fills"][0]["tradeId"] == other["fills"][0]["tradeId"] == 1


def test_all_orders_and_trades_can_be_asked_for_by_id_time_and_number(client: SignedClient) -> None:
    begun_ms = time.time_ns() // 10**6
    replies = [client.order("BTCUSDT", "BUY", "MARKET", quantity="0.001") for _ in range(5)]
    ids = [reply["orderId"] for reply in replies]

    def listed(path: str, field: str, **params: object) -> list[Any]:
        return [one[field] for one in client.good("GET", path, symbol="BTCUSDT", **params)]

    assert listed("/api/v3/allOrders", "orderId") == ids
    assert listed("/api/v3/allOrders", "orderId", orderId=3) == ids[2:]
    assert listed("/api/v3/allOrders", "orderId", limit=2) == ids[3:]
    assert listed("/api/v3/allOrders", "orderId", endTime=begun_ms - 1) == []
    assert listed("/api/v3/allOrders", "orderId", startTime=begun_ms, limit=2) == ids[:2]
    assert listed("/api/v3/myTrades", "id") == [1, 2, 3, 4, 5]
    assert listed("/api/v3/myTrades", "id", fromId=4) == [4, 5]
    assert listed("/api/v3/myTrades", "orderId", orderId=2) == [2]
    (trade,) = client.good("GET", "/api/v3/myTrades", symbol="BTCUSDT", orderId=2)
    fill = replies[1]["fills"][0]
    assert (trade["price"], trade["qty"], trade["commission"], trade["commissionAsset"]) == (
        fill["price"],
        fill["qty"],
        fill["commission"],
        "BTC",
    )
    assert (trade["isBuyer"], trade["isMaker"], trade["isBestMatch"]) == (True, False, True)
    assert Decimal(trade["quoteQty"]) == Decimal(trade["price"]) * Decimal(trade["qty"])


def test_open_orders_are_cancelled_together_by_symbol(client: SignedClient) -> None:
    for symbol, price in (("BTCUSDT", "1000"), ("BTCUSDT", "1001"), ("ETHUSDT", "100")):
        client.order(symbol, "BUY", "LIMIT", timeInForce="GTC", quantity="0.5", price=price)
    gone = client.good("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")
    assert [one["status"] for one in gone] == ["CANCELED", "CANCELED"]
    assert [one["symbol"] for one in client.good("GET", "/api/v3/openOrders")] == ["ETHUSDT"]
    assert client.refused("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")[1] == -2011


def test_a_name_outside_ascii_is_traded_as_percent_encoded_utf8(client: SignedClient) -> None:
    reply = client.order(NAME, "BUY", "MARKET", quoteOrderQty="50")
    assert (reply["symbol"], reply["status"]) == (NAME, "FILLED")
    assert client.good("GET", "/api/v3/myTrades", symbol=NAME)[0]["symbol"] == NAME


def test_parameters_may_come_in_the_body_or_in_both(client: SignedClient) -> None:
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.001"}
    assert client.send("POST", "/api/v3/order", body=client.signed_query(**order))[0] == 200
    whole = urlencode({**order, "timestamp": time.time_ns() // 10**6})
    query, body = whole[:30].rpartition("&")[0], whole[len(whole[:30].rpartition("&")[0]) + 1 :]
    signature = hmac.new(client.secret.encode(), (query + body).encode(), hashlib.sha256).hexdigest()
    assert client.send("POST", "/api/v3/order", query, f"{body}&signature={signature}")[0] == 200


def test_commission_is_paid_in_bnb_at_a_discount_while_there_is_some(tmp_path: Path) -> None:
    options = [*STILL, "--bnb-discount", "--balance", "USDT=10000", "BNB=0.0001", "--commission", "ETHUSDT=0"]
    with ExchangeProcess(tmp_path, *options) as exchange:
        client = SignedClient(exchange)
        bnb = client.top("BNBBTC")
        (fill,) = client.order("BTCUSDT", "BUY", "MARKET", quantity="0.001")["fills"]
        assert fill["commissionAsset"] == "BNB"
        exact = Decimal("0.001") * Decimal("0.001") * Decimal("0.75") / ((bnb["bidPrice"] + bnb["askPrice"]) / 2)
        assert abs(Decimal(fill["commission"]) - exact) <= Decimal("0.00000001")
        (dear,) = client.order("BTCUSDT", "BUY", "MARKET", quantity="0.1")["fills"]
        assert (dear["commissionAsset"], Decimal(dear["commission"])) == ("BTC", Decimal("0.0001"))
        (free,) = client.order("ETHUSDT", "BUY", "MARKET", quantity="0.1")["fills"]
        assert Decimal(free["commission"]) == 0
        told = client.good("GET", "/api/v3/account/commission", symbol="ETHUSDT")
        assert told["standardCommission"]["taker"] == "0.00000000"
        assert told["discount"] == {
            "enabledForAccount": True,
            "enabledForSymbol": True,
            "discountAsset": "BNB",
            "discount": "0.75000000",
        }


ILLEGAL_QUANTITY = (
    r"Illegal characters found in parameter 'quantity'; legal range is '^([0-9]{1,20})(\.[0-9]{1,20})?$'."
)
ILLEGAL_NAME = "Illegal characters found in parameter 'newClientOrderId'; legal range is '^[a-zA-Z0-9-_]{1,36}$'."
LIMIT = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.01",
    "price": "50000",
}


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"symbol": "NOSUCH"}, -1121, "Invalid symbol."),
        ({"symbol": None}, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
        ({"side": "HOLD"}, -1117, "Invalid side."),
        ({"type": "STOP"}, -1116, "Invalid orderType."),
        ({"timeInForce": "GTX"}, -1115, "Invalid timeInForce."),
        ({"timeInForce": None}, -1102, "Mandatory parameter 'timeInForce' was not sent, was empty/null, or malformed."),
        ({"price": None}, -1102, "Mandatory parameter 'price' was not sent, was empty/null, or malformed."),
        ({"quantity": "1e3"}, -1100, ILLEGAL_QUANTITY),
        ({"quantity": "0.0123456789"}, -1111, "Parameter 'quantity' has too much precision."),
        ({"quantity": "0"}, -1013, "Invalid quantity."),
        ({"quantity": "99999999999999999999"}, -1013, "Invalid quantity."),
        ({"price": "50000.00000001"}, -1013, "Filter failure: PRICE_FILTER"),
        ({"price": "99999999"}, -1013, "Filter failure: PRICE_FILTER"),
        ({"quantity": "0.00000001"}, -1013, "Filter failure: LOT_SIZE"),
        ({"quantity": "0.00001", "price": "1"}, -1013, "Filter failure: NOTIONAL"),
        ({"quantity": "1"}, -2010, "Account has insufficient balance for requested action."),
        ({"newClientOrderId": "no spaces"}, -1100, ILLEGAL_NAME),
        ({"quoteOrderQty": "10"}, -1106, "Parameter 'quoteOrderQty' sent when not required."),
        ({"leverage": "10"}, -1104, "Not all sent parameters were read; read '6' parameter(s) but was sent '7'."),
        ({"type": "MARKET", "timeInForce": None}, -1106, "Parameter 'price' sent when not required."),
    ],
)  # fmt: skip
def test_an_order_that_may_not_be_gets_the_real_error(
    shared: SignedClient, change: dict[str, str | None], code: int, message: str
) -> None:
    order = {name: value for name, value in {**LIMIT, **change}.items() if value is not None}
    assert shared.refused("POST", "/api/v3/order", **order) == (400, code, message)
    assert shared.good("GET", "/api/v3/allOrders", symbol="BTCUSDT") == []


@pytest.mark.parametrize(
    ("method", "path", "params", "code"),
    [
        ("GET", "/api/v3/order", {"symbol": "BTCUSDT", "orderId": 999}, -2013),
        ("GET", "/api/v3/order", {"symbol": "BTCUSDT", "origClientOrderId": "nobody"}, -2013),
        ("GET", "/api/v3/order", {"symbol": "BTCUSDT"}, -1102),
        ("DELETE", "/api/v3/order", {"symbol": "BTCUSDT", "orderId": 999}, -2011),
        ("DELETE", "/api/v3/openOrders", {"symbol": "NOSUCH"}, -1121),
        ("GET", "/api/v3/myTrades", {}, -1102),
        ("GET", "/api/v3/myTrades", {"symbol": "BTCUSDT", "limit": "many"}, -1100),
    ],
)
def test_a_question_about_nothing_gets_the_real_error(
    shared: SignedClient, method: str, path: str, params: dict[str, object], code: int
) -> None:
    assert shared.refused(method, path, **params)[1] == code


def test_a_test_order_is_checked_and_not_placed(shared: SignedClient) -> None:
    assert shared.good("POST", "/api/v3/order/test", **LIMIT) == {}
    assert shared.refused("POST", "/api/v3/order/test", **{**LIMIT, "quantity": "0.00000001"})[1] == -1013
    assert shared.good("GET", "/api/v3/openOrders") == []


def test_who_may_not_ask_gets_the_real_error(shared: SignedClient) -> None:
    path = "/api/v3/account"
    good = shared.signed_query()
    assert shared.send("GET", path, good, api_key="")[0::2] == (401, {"code": -2014, "msg": "API-key format invalid."})
    status, _, reply = shared.send("GET", path, good, api_key="A" * 64)
    assert (status, reply["code"]) == (401, -2015)
    assert shared.send("GET", path, good[:-4] + "0000")[2]["code"] == -1022
    assert shared.send("GET", path, good + "&omitZeroBalances=true")[2]["code"] == -1022
    assert shared.send("GET", path, "timestamp=1")[2]["code"] == -1102
    now_ms = time.time_ns() // 10**6
    assert shared.refused("GET", path, timestamp=now_ms - 5_500)[1:] == (
        -1021,
        "Timestamp for this request is outside of the recvWindow.",
    )
    assert shared.good("GET", path, timestamp=now_ms - 5_500, recvWindow=60_000)["accountType"] == "SPOT"
    assert shared.refused("GET", path, timestamp=now_ms + 60_000)[1:] == (
        -1021,
        "Timestamp for this request was 1000ms ahead of the server's time.",
    )
    assert shared.refused("GET", path, recvWindow=60_001)[1] == -1131
    assert shared.refused("GET", path + "", symbol="x", recvWindow=5000)[1] == -1104


def test_too_many_orders_in_ten_seconds_are_429_with_retry_after(tmp_path: Path) -> None:
    with ExchangeProcess(tmp_path, *STILL, "--orders-per-10s", "3") as exchange:
        client = SignedClient(exchange)
        order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.001"}
        counts, refused = [], None
        # Ten seconds may turn between two orders: then the count begins anew, once.
        for _ in range(8):
            status, headers, reply = client.ask("POST", "/api/v3/order", **order)
            if status == 429:
                refused = (headers, reply)
                break
            counts.append(int(headers["X-MBX-ORDER-COUNT-10S"]))
        assert refused is not None
        assert counts[-3:] == [1, 2, 3]
        assert refused[1] == {"code": -1015, "msg": "Too many new orders; current limit is 3 orders per 10 SECOND."}
        assert 1 <= int(refused[0]["Retry-After"]) <= 11
        limits = exchange.get("/api/v3/exchangeInfo?symbol=BTCUSDT")["rateLimits"]
        assert {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 3} in limits


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--balance", "USDT"], "--balance USDT"),
        (["--commission-bps", "-1"], "--commission-bps -1"),
        (["--commission", "BTCUSDT"], "--commission BTCUSDT"),
        (["--listen-key-s", "0"], "--listen-key-s 0"),
    ],
)
def test_a_setting_of_the_account_that_cannot_work_is_named(tmp_path: Path, options: list[str], words: str) -> None:
    ended = run("--port", "0", "--state", str(tmp_path), *options)
    assert ended.returncode == 78
    assert words in ended.stderr


def test_a_damaged_key_file_is_named_and_nothing_of_it_is_shown(tmp_path: Path) -> None:
    (tmp_path / "api_key.json").write_text('{"api_key":"hush')
    os.chmod(tmp_path / "api_key.json", 0o600)
    ended = run("--port", "0", "--state", str(tmp_path))
    assert ended.returncode == 78
    assert "api_key.json" in ended.stderr
    assert "hush" not in ended.stderr
    assert quote(NAME) not in ended.stderr


@pytest.mark.data
def test_a_recorded_listing_takes_orders_under_its_own_filters_at_its_recorded_top(
    recorded: Callable[[str], Path], tmp_path: Path
) -> None:
    snapshot = recorded("binance/snapshots/bookTicker_2019-08-22.json")
    info = recorded("binance/exchange_info/exchangeInfo_2019-08-22_full.json.gz")
    options = ["--record", str(snapshot), "--exchange-info", str(info), "--play-on", "start"]
    with ExchangeProcess(tmp_path, *options) as exchange:
        client = SignedClient(exchange)
        top = client.top("BTCUSDT")
        order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "IOC", "quantity": "0.01"}
        ask = canonical(top["askPrice"])
        refused = {name: {**order, "price": ask, **change} for name, change in {
            "PRICE_FILTER": {"price": canonical(top["askPrice"] + Decimal("0.001"))},
            "LOT_SIZE": {"quantity": "0.0000011"},
            "MIN_NOTIONAL": {"quantity": "0.000002"},
        }.items()}  # fmt: skip
        for name, asked in refused.items():
            assert client.refused("POST", "/api/v3/order", **asked)[1:] == (-1013, f"Filter failure: {name}")
        filled = client.good("POST", "/api/v3/order", **order, price=ask)
        assert Decimal(filled["executedQty"]) == min(Decimal("0.01"), top["askQty"])
        assert filled["fills"][0]["price"] == ask
