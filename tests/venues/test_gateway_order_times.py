"""Times in force, opening hours, triggers and trailing stops, by an injected clock."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from tests.venues.gateway_bench import Bench
from venues.gateway.hours import read_time_ns
from venues.gateway.listing import Wanted
from venues.gateway.model import NEVER_NS


def exchange(moment: str) -> Bench:
    bench = Bench(now_ns=read_time_ns(moment), hours="exchange")
    bench.take()
    return bench


def advance(bench: Bench, moment: str) -> list[str]:
    bench.now_ns = read_time_ns(moment)
    bench.engine.advance(bench.now_ns)
    return bench.take()


def test_an_order_before_the_open_is_held_with_399_and_fills_at_the_open() -> None:
    bench = exchange("20261123 08:00:00")
    assert bench.place(1, "BUY", "10", "LMT", limit="101") == ["1 PreSubmitted", "1 error 399"]
    assert bench.quote("99.98", "100.00") == []
    assert bench.engine.next_due_ns() == read_time_ns("20261123 09:30:00")
    assert advance(bench, "20261123 09:29:59") == []
    assert advance(bench, "20261123 09:30:00")[:2] == ["1 Submitted", "1 fill 10@100.00"]


def test_outside_rth_an_order_works_before_the_open_and_until_the_late_close() -> None:
    bench = exchange("20261123 08:00:00")
    assert bench.place(1, "BUY", "10", "LMT", limit="101", outside_rth=True)[-3] == "1 fill 10@100.01"
    bench.place(2, "BUY", "10", "LMT", limit="90", outside_rth=True)
    bench.place(3, "BUY", "10", "LMT", limit="90")
    assert advance(bench, "20261123 16:00:00") == ["3 Cancelled", "3 error 202"]
    assert advance(bench, "20261123 20:00:00") == ["2 Cancelled", "2 error 202"]


def test_a_day_order_ends_at_the_close_and_a_gtc_order_fills_the_next_day_only() -> None:
    bench = exchange("20261123 15:00:00")
    bench.place(1, "BUY", "10", "LMT", limit="90")
    bench.place(2, "BUY", "10", "LMT", limit="90", tif="GTC")
    assert advance(bench, "20261123 16:00:01") == ["1 Cancelled", "1 error 202"]
    assert bench.order(1).done_reason == "Expired"
    assert bench.quote("89.00", "89.02") == [], "the market is closed"
    bench.now_ns = read_time_ns("20261124 09:30:01")
    assert bench.quote("89.00", "89.02")[0] == "2 fill 10@90"


def test_a_day_order_given_at_night_lives_through_the_next_session() -> None:
    bench = exchange("20261127 20:30:00")
    bench.place(1, "BUY", "10", "LMT", limit="90")
    assert advance(bench, "20261130 09:30:00") == ["1 Submitted"]
    assert advance(bench, "20261130 16:00:00") == ["1 Cancelled", "1 error 202"]


def test_good_till_date_and_good_after_time_are_kept() -> None:
    bench = exchange("20261123 10:00:00")
    till, after = read_time_ns("20261124 11:00:00"), read_time_ns("20261123 12:00:00")
    bench.place(1, "BUY", "10", "LMT", limit="90", tif="GTD", good_till_ns=till)
    assert bench.place(2, "BUY", "10", good_after_ns=after) == ["2 PreSubmitted", "2 error 399"]
    assert advance(bench, "20261123 12:00:00")[:2] == ["2 Submitted", "2 fill 10@100.01"]
    assert advance(bench, "20261124 10:59:59") == []
    assert advance(bench, "20261124 11:00:00") == ["1 Cancelled", "1 error 202"]


def test_without_hours_nothing_waits_and_nothing_expires() -> None:
    bench = Bench()
    assert bench.place(1, "BUY", "10", "LMT", limit="90") == ["1 Submitted"]
    bench.engine.advance(NEVER_NS - 1)
    assert bench.take() == []


def test_a_stop_is_not_elected_while_its_market_is_closed() -> None:
    bench = exchange("20261123 17:00:00")
    bench.place(1, "SELL", "10", "STP", stop="95", tif="GTC")
    assert bench.quote("80.00", "80.02") == []
    bench.now_ns = read_time_ns("20261124 09:30:00")
    bench.engine.advance(bench.now_ns)
    assert bench.take()[:3] == ["1 PreSubmitted trigger", "1 Submitted", "1 fill 10@80.00"]


QUOTES = {
    "last only": ("99.00", "99.50", "95.00"),
    "ask at the stop": ("94.00", "95.00", "96.00"),
    "mid at the stop": ("94.00", "96.00", "96.00"),
}


@pytest.mark.parametrize(
    ("method", "elected_by"),
    [
        (0, {"last only": 1}),
        (2, {"last only": 1}),
        (3, {"last only": 2}),
        (4, {"ask at the stop": 1}),
        (1, {"ask at the stop": 2}),
        (7, {"last only": 1, "ask at the stop": 1}),
        (8, {"mid at the stop": 1, "ask at the stop": 1}),
    ],
)
@pytest.mark.parametrize("name", QUOTES)
def test_which_price_elects_a_sell_stop(method: int, elected_by: dict[str, int], name: str) -> None:
    bench = Bench()
    bench.place(1, "SELL", "10", "STP", stop="95", trigger_method=method)
    needed = elected_by.get(name, 0)
    for number in range(1, 4):
        said = bench.quote(*QUOTES[name])
        assert bool(said) == (number == needed), (name, number, said)


def test_the_double_methods_want_two_prices_in_a_row() -> None:
    bench = Bench()
    bench.place(1, "BUY", "10", "STP", stop="105", trigger_method=3)
    assert bench.quote("104.99", "105.01", "105.00") == []
    assert bench.quote("104.00", "105.01", "104.50") == []
    assert bench.quote("104.99", "105.01", "105.00") == []
    assert bench.quote("105.00", "105.02", "105.01")[:2] == ["1 Submitted", "1 fill 10@105.02"]


def test_a_trailing_stop_follows_the_market_up_and_never_down() -> None:
    bench = Bench()
    bench.place(1, "SELL", "10", "TRAIL", stop="2")
    assert bench.order(1).stop_px == Decimal("98")
    bench.quote("104.99", "105.01", "105.00")
    bench.quote("103.99", "104.01", "104.00")
    assert bench.order(1).stop_px == Decimal(103)
    assert bench.quote("102.98", "103.02", "103.00")[:2] == ["1 Submitted", "1 fill 10@102.98"]


def test_a_trailing_stop_limit_fills_no_worse_than_its_offset_behind() -> None:
    bench = Bench()
    bench.place(1, "SELL", "10", "TRAIL LIMIT", trail_percent=Decimal(1), limit_offset=Decimal("0.50"))
    assert (bench.order(1).stop_px, bench.order(1).limit_px) == (Decimal("99.00"), Decimal("98.50"))
    assert bench.quote("98.00", "98.20", "98.10") == ["1 Submitted"]
    assert bench.quote("98.60", "98.70", "98.65")[0] == "1 fill 10@98.50"


def test_a_buy_trailing_stop_starts_where_it_is_told_to_and_is_held_behind_its_parent() -> None:
    bench = Bench()
    bench.place(1, "SELL", "10", "LMT", limit="101", transmit=False)
    bench.place(2, "BUY", "10", "TRAIL", stop="1", trail_px=Decimal("103.00"), parent_id=1)
    assert bench.order(2).why_held == "child,trigger"
    bench.quote("101.00", "101.02", "101.01")
    assert bench.order(2).stop_px == Decimal("102.01")


def test_changing_the_distance_of_a_trailing_stop_starts_it_anew() -> None:
    bench = Bench()
    bench.place(1, "SELL", "10", "TRAIL", stop="2")
    bench.place(1, "SELL", "10", "TRAIL", stop="1")
    assert bench.order(1).stop_px == Decimal(99)
    bench.place(1, "SELL", "12", "TRAIL", stop="1")
    assert (bench.order(1).stop_px, bench.order(1).qty) == (Decimal(99), 12)


def test_derivatives_trade_in_whole_contracts_and_indices_not_at_all() -> None:
    bench = Bench()
    es, *_ = bench.listing.matches(Wanted(symbol="ES", sec_type="FUT"), date(2026, 11, 23))
    [spx] = bench.listing.matches(Wanted(symbol="SPX", sec_type="IND"), date(2026, 11, 23))
    assert bench.place(1, "BUY", "1.5", con_id=es.con_id) == ["1 error 321"]
    assert bench.place(2, "BUY", "1", con_id=spx.con_id) == ["2 error 387"]
    assert bench.place(3, "BUY", "1", "LMT", limit="6000.10", con_id=es.con_id) == ["3 error 110"]
    assert bench.place(4, "BUY", "1", "LMT", limit="6000.25", con_id=es.con_id) == ["4 Submitted"]
