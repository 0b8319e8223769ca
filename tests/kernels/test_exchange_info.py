"""exchangeInfo: filters become Fixed8 counts, gaps become stated defaults, and what is wrong is named."""

from __future__ import annotations

import json

import pytest

from kernels.exchange_info import ExchangeInfoError, Symbol, parse_exchange_info
from kernels.fixed8 import COUNT_MAX


def reply(*symbols: dict[str, object]) -> bytes:
    return json.dumps({"timezone": "UTC", "rateLimits": [], "symbols": symbols}).encode()


def listed(name: str = "ETHBTC", filters: object = (), **other: object) -> dict[str, object]:
    return {"symbol": name, "status": "TRADING", "baseAsset": "ETH", "quoteAsset": "BTC", "filters": filters} | other


FILTERS = [
    {"filterType": "PRICE_FILTER", "minPrice": "0.00000100", "maxPrice": "100000.0", "tickSize": "0.00000100"},
    {"filterType": "PERCENT_PRICE", "multiplierUp": "5", "multiplierDown": "0.2", "avgPriceMins": 5},
    {"filterType": "LOT_SIZE", "minQty": "0.01000000", "maxQty": "100000.00000000", "stepSize": "0.00100000"},
    {"filterType": "MARKET_LOT_SIZE", "minQty": "0.0", "maxQty": "7.0", "stepSize": "0.0"},
    {"filterType": "MIN_NOTIONAL", "minNotional": "0.00010000", "applyToMarket": True, "avgPriceMins": 5},
    {"filterType": "ICEBERG_PARTS", "limit": 10},
]


def test_filters_become_counts() -> None:
    assert parse_exchange_info(reply(listed(filters=FILTERS))) == (
        Symbol("ETHBTC", "TRADING", "ETH", "BTC", 100, 100_000, 1_000_000, 10_000_000_000_000, 10_000),
    )


def test_missing_filters_and_steps_of_zero_leave_no_limit() -> None:
    disabled = [
        {"filterType": "PRICE_FILTER", "tickSize": "0.00000000"},
        {"filterType": "LOT_SIZE", "minQty": "0.0", "maxQty": "0.0", "stepSize": "0.0"},
    ]
    plain = Symbol("ETHBTC", "TRADING", "ETH", "BTC", 1, 1, 1, COUNT_MAX, 0)
    without = listed()
    del without["filters"]
    assert parse_exchange_info(reply(listed())) == (plain,)
    assert parse_exchange_info(reply(without)) == (plain,)
    assert parse_exchange_info(reply(listed(filters=disabled))) == (plain,)


def test_a_maximum_beyond_fixed8_is_no_limit_and_the_later_notional_filter_is_known() -> None:
    filters = [
        {"filterType": "LOT_SIZE", "minQty": "1", "maxQty": "92233720369.0", "stepSize": "1"},
        {"filterType": "NOTIONAL", "minNotional": "5.0", "maxNotional": "9000000.0", "applyMinToMarket": True},
    ]
    (symbol,) = parse_exchange_info(reply(listed(filters=filters)))
    assert (symbol.max_qty, symbol.min_notional) == (COUNT_MAX, 500_000_000)


def test_duplicate_pairs_names_beyond_ascii_and_equal_assets_are_kept_as_listed() -> None:
    symbols = parse_exchange_info(
        reply(
            listed("A1"), listed("A2"), listed("币安人生USDT", baseAsset="币安人生"), listed("BTCBTC", baseAsset="BTC")
        )
    )
    assert [one.name for one in symbols] == ["A1", "A2", "币安人生USDT", "BTCBTC"]
    assert symbols[2].base == "币安人生"


@pytest.mark.parametrize("status", ["BREAK", "HALT", "PRE_TRADING", "", "trading"])
def test_only_the_status_trading_is_trading(status: str) -> None:
    (symbol,) = parse_exchange_info(reply(listed(status=status)))
    assert not symbol.trading


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (b"{", "exchangeInfo"),
        (b"[]", "Expected `object`"),
        (b"{}", "symbols"),
        (b'{"symbols": [{"symbol": "X"}]}', "status"),
        (reply(listed(baseAsset=None)), "baseAsset"),
        (reply(listed(""), listed("B")), "empty name"),
        (reply(listed("A"), listed("A")), "'A' is listed twice"),
        (
            reply(listed(filters=[{"filterType": "LOT_SIZE", "stepSize": "1e-3"}])),
            "'ETHBTC', LOT_SIZE.stepSize: '1e-3'",
        ),
        (reply(listed(filters=[{"filterType": "PRICE_FILTER", "tickSize": "0.000000001"}])), "tickSize: '0.000000001'"),
        (reply(listed(filters=[{"filterType": "LOT_SIZE", "stepSize": 0.1}])), "stepSize"),
    ],
)
def test_a_reply_that_cannot_be_used_is_refused_with_field_value_and_remedy(broken: bytes, named: str) -> None:
    with pytest.raises(ExchangeInfoError) as caught:
        parse_exchange_info(broken)
    assert named in str(caught.value)
    assert "fetch GET /api/v3/exchangeInfo again" in str(caught.value)
