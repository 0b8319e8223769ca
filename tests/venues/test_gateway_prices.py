"""The gateway's market: seeded, in whole ticks, going on from where it is put; and which contracts it knows."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal

import pytest

from venues.gateway.contracts import LISTED, Instrument, spots_of
from venues.gateway.listing import Listing, Wanted
from venues.gateway.matching import Quote
from venues.gateway.prices import Market, quote_around

SPY, IBM = LISTED["SPY"], LISTED["IBM"]
TODAY = date(2026, 11, 23)


def walked(stocks: list[Instrument], seed: int, steps: int) -> list[Quote]:
    market = Market(stocks, 1.5, seed)
    return [market.step(stock.con_id) for _ in range(steps) for stock in stocks]


def test_a_seed_is_a_walk_whatever_other_symbols_are_there() -> None:
    alone = walked([SPY], 7, 200)
    assert alone == walked([IBM, SPY], 7, 200)[1::2]
    assert alone != walked([SPY], 8, 200)


def test_quotes_are_whole_ticks_with_the_last_price_inside() -> None:
    for quote in walked([SPY, IBM], 3, 2_000):
        assert 0 < quote.bid <= quote.last <= quote.ask
        assert quote.bid < quote.ask
        assert all(px % SPY.min_tick == 0 for px in (quote.bid, quote.ask, quote.last))


def test_a_price_near_zero_still_has_a_bid_and_an_ask() -> None:
    assert quote_around(0.001, Decimal("0.01")) == Quote(Decimal("0.01"), Decimal("0.02"), Decimal("0.01"))


@pytest.mark.parametrize("seed", range(3))
def test_a_walk_moves_within_a_minute_and_stays_near_its_start_for_days(seed: int) -> None:
    market = Market([SPY], 1.5, seed)
    pxs = [float(market.step(SPY.con_id).last) for _ in range(20_000)]
    minute = [abs(math.log(later / sooner)) for sooner, later in zip(pxs, pxs[240:], strict=False)]
    assert 0.003 < sum(minute) / len(minute) < 0.03
    assert all(0.7 * 500 < px < 1.4 * 500 for px in pxs)


def test_a_price_set_from_outside_is_where_the_walk_goes_on() -> None:
    market = Market([SPY], 1.5, 1)
    market.place(SPY, Quote(Decimal(300), Decimal("300.02"), Decimal("300.01")))
    assert abs(market.step(SPY.con_id).mid - 300) < 1
    assert (market.lows[SPY.con_id] < 301, market.highs[SPY.con_id]) == (True, market.opens[SPY.con_id])


def wanted(**given: object) -> Wanted:
    base: dict[str, object] = {"sec_type": "STK", "exchange": "SMART", "currency": "USD"}
    return Wanted(**{**base, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"symbol": "SPY"}, "SPY"),
        ({"con_id": 756733}, "SPY"),
        ({"con_id": 756733, "symbol": "SPY", "sec_type": ""}, "SPY"),
        ({"local_symbol": "SPY"}, "SPY"),
        ({"symbol": "SPY", "primary_exchange": "ARCA"}, "SPY"),
        ({"symbol": "SPY", "primary_exchange": "NYSE"}, None),
        ({"con_id": 756733, "symbol": "IBM"}, None),
        ({"con_id": 1}, None),
        ({"symbol": "SPY", "currency": "EUR"}, None),
        ({"symbol": "SPY", "sec_type": "FUT"}, None),
        ({"symbol": "SPY", "sec_type": ""}, None),
        ({"symbol": "spy"}, None),
    ],
)
def test_a_contract_finds_its_stock_or_nothing(given: dict[str, object], found: str | None) -> None:
    stock = Listing(["SPY", "IBM"]).find(wanted(**given), TODAY)
    assert (stock.symbol if stock else None) == found


def test_a_symbol_of_nobodys_has_a_con_id_of_its_own_that_stays() -> None:
    [first] = spots_of(["ZZZ"]).values()
    assert first == spots_of(["ZZZ"])["ZZZ"]
    assert first.con_id not in {stock.con_id for stock in LISTED.values()}
    with pytest.raises(ValueError, match="no stock symbol"):
        spots_of(["A B"])
