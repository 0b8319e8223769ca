"""What is listed and how a partial contract finds it: chains by expiry, strike and right, futures, and 200."""

from __future__ import annotations

import random
from datetime import date, timedelta
from decimal import Decimal

import pytest

from venues.gateway.contracts import CLASSES, Instrument, derivative, derivative_con_id, derivative_parts
from venues.gateway.exchange_days import closes_early, is_trading_day, third_friday
from venues.gateway.hours import Timetable, ns_of, read_time_ns, session_of
from venues.gateway.listing import Listing, Wanted, expiries_of

TODAY = date(2026, 11, 23)
LISTING = Listing(["SPY", "AAPL", "IBM", "ZZZ"])


def found(**parts: object) -> list[Instrument]:
    return list(LISTING.matches(Wanted(**parts), TODAY))  # type: ignore[arg-type]


def one(**parts: object) -> Instrument:
    [only] = found(**parts)
    return only


@pytest.mark.parametrize("seed", range(3))
def test_a_con_id_says_class_expiry_strike_and_right(seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    seen = set()
    for _ in range(2_000):
        listed = chance.choice(CLASSES)
        expiry = date(2026, 1, 1) + timedelta(days=chance.randrange(3_000))
        strike = listed.step * chance.randrange(1, 2048)
        right = chance.choice("CP") if listed.step else ""
        con_id = derivative_con_id(listed, expiry, strike, right)
        assert derivative_parts(con_id) == (listed, expiry, strike, right)
        assert 0 < con_id < 2**31
        seen.add((con_id, listed.name, expiry, strike, right))
    assert len({con_id for con_id, *_ in seen}) == len(seen)


def test_an_option_is_found_by_its_parts_by_its_name_and_by_its_con_id() -> None:
    by_parts = one(symbol="SPY", sec_type="OPT", expiry="20261218", strike=Decimal(500), right="C", exchange="SMART")
    assert by_parts.local_symbol == "SPY   261218C00500000"
    assert (by_parts.multiplier, by_parts.trading_class, by_parts.min_tick) == (100, "SPY", Decimal("0.01"))
    assert one(local_symbol=by_parts.local_symbol, sec_type="OPT") == by_parts
    assert one(con_id=by_parts.con_id) == by_parts
    assert one(con_id=by_parts.con_id, symbol="SPY", sec_type="OPT", right="CALL") == by_parts


def test_spx_has_two_classes_on_the_third_friday_and_one_on_other_days() -> None:
    parts: dict[str, object] = {"symbol": "SPX", "sec_type": "OPT", "strike": Decimal(6000), "right": "P"}
    assert {option.trading_class for option in found(expiry="20261218", **parts)} == {"SPX", "SPXW"}
    assert {option.trading_class for option in found(expiry="20261211", **parts)} == {"SPXW"}
    assert one(expiry="20261218", trading_class="SPXW", **parts).exchange == "CBOE"
    assert LISTING.find(Wanted(expiry="20261218", **parts), TODAY) is None, "which one is meant is not said"  # type: ignore[arg-type]


def test_a_chain_is_found_by_month_and_strike_or_by_expiry_alone() -> None:
    month = found(symbol="SPY", sec_type="OPT", expiry="202612", strike=Decimal(500))
    assert {option.right for option in month} == {"C", "P"}
    assert {option.expiry for option in month} > {"20261204", "20261211", "20261218"}
    strikes = {option.strike for option in found(symbol="SPX", sec_type="OPT", expiry="20261218", trading_class="SPX")}
    assert Decimal(5995) in strikes
    assert min(strikes) == 3600
    assert max(strikes) == 8400


def test_futures_are_quarterly_and_named_by_month_and_year() -> None:
    es = found(symbol="ES", sec_type="FUT", exchange="CME")
    assert [future.local_symbol for future in es][:3] == ["ESZ6", "ESH7", "ESM7"]
    assert es[0].expiry == "20261218"
    assert one(symbol="ES", sec_type="FUT", expiry="202612").multiplier == 50
    assert one(local_symbol="MESZ6", sec_type="FUT").multiplier == 5
    assert one(symbol="MES", sec_type="FUT", expiry="20261218", multiplier="5").min_tick == Decimal("0.25")


@pytest.mark.parametrize(
    "parts",
    [
        {"symbol": "ES", "sec_type": "FUT", "exchange": "NYMEX"},
        {"symbol": "ES", "sec_type": "FUT", "expiry": "202611"},
        {"symbol": "MES", "sec_type": "FUT", "multiplier": "50"},
        {"symbol": "SPY", "sec_type": "OPT", "expiry": "20261219"},
        {"symbol": "SPY", "sec_type": "OPT", "expiry": "20251219"},
        {"symbol": "SPY", "sec_type": "OPT", "expiry": "20261218", "strike": Decimal("500.5")},
        {"symbol": "SPY", "sec_type": "OPT", "expiry": "20261218", "currency": "EUR"},
        {"symbol": "ZZZ", "sec_type": "OPT"},
        {"symbol": "SPX", "sec_type": "STK", "primary_exchange": "NYSE"},
        {"sec_type": "OPT"},
        {"symbol": "SPY"},
        {"con_id": 1_999_999_999},
        {"symbol": "EUR", "sec_type": "CASH"},
    ],
)
def test_what_is_not_listed_is_not_found(parts: dict[str, object]) -> None:
    assert found(**parts) == []


def test_an_option_of_a_day_gone_by_is_still_what_its_con_id_says_but_not_listed() -> None:
    gone = derivative(CLASSES[2], date(2026, 11, 20), Decimal(500), "C", 756733)
    assert LISTING.get(gone.con_id) == gone
    assert found(con_id=gone.con_id) == []


def test_expiries_lie_on_trading_days_and_today_is_one_of_them() -> None:
    for listed in CLASSES:
        days = expiries_of(listed, TODAY)
        assert days == sorted(set(days))
        assert all(day >= TODAY and is_trading_day(day) for day in days), listed.name
    assert TODAY in expiries_of(CLASSES[1], TODAY)
    assert len(expiries_of(CLASSES[-1], TODAY)) == 5


def test_holidays_are_those_of_the_exchanges() -> None:
    closed = {"0101", "0119", "0216", "0403", "0525", "0619", "0703", "0907", "1126", "1225"}
    year = [date(2026, 1, 1) + timedelta(days=number) for number in range(365)]
    weekdays = [day for day in year if day.weekday() < 5]
    assert {f"{day:%m%d}" for day in weekdays if not is_trading_day(day)} == closed
    assert [f"{day:%m%d}" for day in weekdays if closes_early(day)] == ["1127", "1224"]
    assert is_trading_day(date(2021, 12, 31)), "a Saturday New Year is not kept on the Friday before"
    assert third_friday(2026, 6) == date(2026, 6, 18), "Juneteenth is a Friday"


def test_sessions_know_daylight_saving_and_kinds_of_instruments() -> None:
    spy, es = one(symbol="SPY", sec_type="STK"), found(symbol="ES", sec_type="FUT")[0]
    spx = one(symbol="SPX", sec_type="OPT", expiry="20261218", strike=Decimal(6000), right="C", trading_class="SPXW")

    def utc(instrument: Instrument, day: date, *, liquid: bool) -> list[str]:
        session = session_of(instrument, day, liquid=liquid)
        assert session is not None
        return [
            f"{ns_of(moment) // 3_600_000_000_000 % 24:02}{ns_of(moment) // 60_000_000_000 % 60:02}"
            for moment in session
        ]

    assert utc(spy, date(2026, 7, 1), liquid=True) == ["1330", "2000"]
    assert utc(spy, date(2026, 12, 1), liquid=True) == ["1430", "2100"]
    assert utc(spy, date(2026, 12, 1), liquid=False) == ["0900", "0100"]
    assert utc(spx, date(2026, 12, 1), liquid=True) == ["1430", "2115"]
    assert utc(es, date(2026, 12, 1), liquid=False) == ["2300", "2200"]
    assert utc(spy, date(2026, 11, 27), liquid=True) == ["1430", "1800"]
    assert session_of(spy, date(2026, 11, 26), liquid=True) is None


def test_hours_are_told_as_recorded() -> None:
    aapl = one(symbol="AAPL", sec_type="STK")
    sunday_ns = read_time_ns("20260405 12:00:00 US/Eastern")
    table = Timetable("exchange")
    days = ["20260406", "20260407", "20260408", "20260409", "20260410"]
    assert table.text(aapl, sunday_ns, liquid=False) == ";".join(
        ["20260405:CLOSED", *(f"{day}:0400-{day}:2000" for day in days)]
    )
    assert table.text(aapl, sunday_ns, liquid=True) == ";".join(
        ["20260405:CLOSED", *(f"{day}:0930-{day}:1600" for day in days)]
    )


@pytest.mark.parametrize(
    ("moment", "outside", "is_open", "opens", "ends"),
    [
        ("20261123 09:29:59", False, False, "20261123 09:30:00", "20261123 16:00:00"),
        ("20261123 09:29:59", True, True, None, "20261123 20:00:00"),
        ("20261123 09:30:00", False, True, None, "20261123 16:00:00"),
        ("20261123 16:00:00", False, False, "20261124 09:30:00", "20261124 16:00:00"),
        ("20261125 21:00:00", True, False, "20261127 04:00:00", "20261127 17:00:00"),
        ("20261128 12:00:00", False, False, "20261130 09:30:00", "20261130 16:00:00"),
    ],
)
def test_when_an_order_may_trade_and_when_its_day_ends(
    moment: str, outside: bool, is_open: bool, opens: str | None, ends: str
) -> None:
    aapl, table, now_ns = one(symbol="AAPL", sec_type="STK"), Timetable("exchange"), read_time_ns(moment)
    assert table.is_open(aapl, now_ns, outside) is is_open
    assert table.opens_ns(aapl, now_ns, outside) == (read_time_ns(opens) if opens else 0)
    assert table.day_ends_ns(aapl, now_ns, outside) == read_time_ns(ends)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("20261123 09:30:00 US/Eastern", "20261123-14:30:00"),
        ("20261123 09:30:00", "20261123-14:30:00"),
        ("20261123 09:30", "20261123-14:30:00"),
        ("20261123", "20261123-05:00:00"),
        ("20261123 15:30:00 Europe/Berlin", "20261123-14:30:00"),
    ],
)
def test_times_are_read_in_the_forms_that_clients_write(text: str, same: str) -> None:
    assert read_time_ns(text) == read_time_ns(same)


@pytest.mark.parametrize("text", ["", "soon", "20261323 09:30:00", "20261123 09:30:00 Nowhere/City", "2026-11-23"])
def test_a_time_that_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_time_ns(text)
