"""The REST face in the real forms, asked over a real socket."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.venues.exchange_process import ExchangeProcess
from venues.exchange.limits import WeightLimit

pytestmark = pytest.mark.process

NAME = "币安人生USDT"
DECIMAL = re.compile(r"\d+\.\d{8}")


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExchangeProcess]:
    with ExchangeProcess(tmp_path_factory.mktemp("exchange"), "--rate", "50", "--opportunity-every-s", "0") as running:
        yield running


def test_ping_and_time_answer_as_the_real_exchange_does(exchange: ExchangeProcess) -> None:
    assert exchange.get("/api/v3/ping") == {}
    assert abs(exchange.get("/api/v3/time")["serverTime"] / 1e3 - time.time()) < 60


def test_exchange_info_lists_every_symbol_with_its_filters(exchange: ExchangeProcess) -> None:
    info = exchange.get("/api/v3/exchangeInfo")
    assert len(info["symbols"]) == 60
    assert info["timezone"] == "UTC"
    assert info["rateLimits"][0]["rateLimitType"] == "REQUEST_WEIGHT"
    for entry in info["symbols"]:
        assert entry["symbol"] == entry["baseAsset"] + entry["quoteAsset"]
        assert entry["status"] == "TRADING"
        filters = {one["filterType"]: one for one in entry["filters"]}
        assert DECIMAL.fullmatch(filters["PRICE_FILTER"]["tickSize"])
        assert DECIMAL.fullmatch(filters["LOT_SIZE"]["stepSize"])
        assert DECIMAL.fullmatch(filters["LOT_SIZE"]["minQty"])
        assert DECIMAL.fullmatch(filters["LOT_SIZE"]["maxQty"])
        assert DECIMAL.fullmatch(filters["NOTIONAL"]["minNotional"])


def test_exchange_info_can_be_asked_for_one_symbol_or_some(exchange: ExchangeProcess) -> None:
    one = exchange.get("/api/v3/exchangeInfo?symbol=BTCUSDT")
    assert [entry["symbol"] for entry in one["symbols"]] == ["BTCUSDT"]
    asked = quote(f'["ETHBTC","{NAME}"]')
    some = exchange.get(f"/api/v3/exchangeInfo?symbols={asked}")
    assert [entry["symbol"] for entry in some["symbols"]] == ["ETHBTC", NAME]


def test_book_ticker_has_the_real_fields_as_strings_and_no_update_id(exchange: ExchangeProcess) -> None:
    fields = ["symbol", "bidPrice", "bidQty", "askPrice", "askQty"]
    one = exchange.get("/api/v3/ticker/bookTicker?symbol=BTCUSDT")
    assert list(one) == fields
    assert all(DECIMAL.fullmatch(one[field]) for field in fields[1:])
    assert float(one["bidPrice"]) < float(one["askPrice"])
    everything = exchange.get("/api/v3/ticker/bookTicker")
    assert len(everything) == 60
    assert all(list(row) == fields for row in everything)
    some = exchange.get('/api/v3/ticker/bookTicker?symbols=["BTCUSDT","BNBBTC"]'.replace('"', "%22"))
    assert [row["symbol"] for row in some] == ["BTCUSDT", "BNBBTC"]


@pytest.mark.parametrize("path", ["/api/v3/ticker/bookTicker", "/api/v3/depth", "/api/v3/exchangeInfo"])
def test_a_name_outside_ascii_is_asked_for_as_percent_encoded_utf8(exchange: ExchangeProcess, path: str) -> None:
    reply = exchange.get(f"{path}?symbol={quote(NAME)}")
    assert "bids" in reply or reply.get("symbol") == NAME or reply["symbols"][0]["symbol"] == NAME


def test_depth_shows_the_book_with_an_update_id_that_rises(exchange: ExchangeProcess) -> None:
    first = exchange.get("/api/v3/depth?symbol=BTCUSDT&limit=5")
    assert list(first) == ["lastUpdateId", "bids", "asks"]
    assert len(first["bids"]) == len(first["asks"]) == 5
    assert all(DECIMAL.fullmatch(text) for text in first["bids"][0] + first["asks"][0])
    assert exchange.get("/api/v3/depth?symbol=BTCUSDT")["lastUpdateId"] >= first["lastUpdateId"]


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("/api/v3/depth?symbol=NOSUCH", -1121, "Invalid symbol."),
        (
            "/api/v3/ticker/bookTicker?symbol=btcusdt",
            -1100,
            "Illegal characters found in parameter 'symbol'; legal range is '^[\\w\\-._&&[^a-z]]{1,50}$'.",
        ),
        ("/api/v3/ping?now=1", -1101, "Too many parameters; expected '0' and received '1'."),
        ("/api/v3/depth?symbol=BTCUSDT&symbol=ETHBTC", -1101, "Duplicate values for a parameter detected."),
        (
            "/api/v3/depth?symbol=BTCUSDT&levels=5",
            -1104,
            "Not all sent parameters were read; read '1' parameter(s) but was sent '2'.",
        ),
        ("/api/v3/depth?symbol=BTCUSDT&limit=0", -1130, "Data sent for parameter 'limit' is not valid."),
        ("/api/v3/exchangeInfo?symbols=%5B%22BTCUSDT%22,%22NOSUCH%22%5D", -1121, "Invalid symbol."),
        ("/api/v3/depth", -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
        ("/api/v3/ticker/bookTicker?symbol=", -1105, "Parameter 'symbol' was empty."),
        (
            "/api/v3/depth?symbol=BTCUSDT&limit=x",
            -1100,
            "Illegal characters found in parameter 'limit'; legal range is '^[0-9]{1,20}$'.",
        ),
        (
            "/api/v3/ticker/bookTicker?symbol=BTCUSDT&symbols=%5B%5D",
            -1128,
            "Combination of optional parameters invalid.",
        ),
        (
            "/api/v3/ticker/bookTicker?symbols=%5B%22BTCUSDT%22,%22BTCUSDT%22%5D",
            -1151,
            "Symbol is present multiple times in the list.",
        ),
        ("/api/v3/ticker/bookTicker?symbols=BTCUSDT", -1135, "JSON sent for parameter 'symbols' is not valid"),
    ],
)
def test_a_wrong_question_gets_the_real_error_body(
    exchange: ExchangeProcess, path: str, code: int, message: str
) -> None:
    status, _, reply = exchange.request(path)
    assert (status, reply) == (400, {"code": code, "msg": message})


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/api/v3/depth?symbol=BTCUSDT", "/api/v3/nosuch", "/stream", "/", "/paper/fault"])
def test_other_methods_and_unknown_routes_are_refused_and_nothing_breaks(
    exchange: ExchangeProcess, method: str, path: str
) -> None:
    request = urllib.request.Request(exchange.base_url + path, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            status = reply.status
    except urllib.error.HTTPError as error:
        with error:
            status = error.code
    assert 200 <= status < 500
    assert exchange.get("/api/v3/ping") == {}
    assert "Traceback" not in exchange.output()


def test_every_reply_tells_the_weight_used_this_minute(exchange: ExchangeProcess) -> None:
    used = []
    for path in ("/api/v3/ping", "/api/v3/exchangeInfo", "/api/v3/depth?symbol=BTCUSDT&limit=1000"):
        used.append(int(exchange.request(path)[1]["X-MBX-USED-WEIGHT-1M"]))
    # A minute may turn between two requests; then the count starts anew with that request's own weight.
    assert used[1] - used[0] == 20 or used[1] == 20
    assert used[2] - used[1] == 50 or used[2] == 50


def test_spent_weight_is_429_until_the_minute_turns_and_going_on_all_the_same_is_418() -> None:
    limit = WeightLimit(10)
    assert limit.spend(8, 60.0) is None
    refusal = limit.spend(4, 75.5)
    assert refusal is not None
    assert (refusal.status, refusal.retry_after_s) == (429, 45)
    assert limit.spend(2, 76.0) is None
    assert limit.used == 10
    assert limit.spend(4, 120.0) is None
    refusals = [limit.spend(7, 121.0) for _ in range(21)]
    assert [one.status for one in refusals if one] == [429] * 20 + [418]
    banned = limit.spend(1, 180.0)
    assert banned is not None
    assert banned.status == 418
    assert limit.spend(1, 241.0) is None


def test_who_goes_on_asking_while_banned_is_banned_for_twice_as_long_up_to_three_days() -> None:
    limit, now_s, bans = WeightLimit(1), 60.0, []
    for _ in range(14):
        refusal = None
        for _ in range(21):
            refusal = limit.spend(2, now_s)
        assert refusal is not None
        assert refusal.status == 418
        refusal = limit.spend(2, now_s)
        assert refusal is not None
        bans.append(refusal.retry_after_s - 1)
        now_s += refusal.retry_after_s
    assert bans[:4] == [120, 240, 480, 960]
    assert bans[-1] == 3 * 86_400


def test_spent_weight_is_told_over_the_wire_with_retry_after(tmp_path: Path) -> None:
    with ExchangeProcess(tmp_path, "--weight-per-minute", "30", "--rate", "1") as poor:
        replies = [poor.request("/api/v3/exchangeInfo") for _ in range(4)]
    refused = [reply for reply in replies if reply[0] == 429]
    assert len(refused) >= 2
    assert refused[0][2]["code"] == -1003
    assert 1 <= int(refused[0][1]["Retry-After"]) <= 60
