"""Entries on their way to a real paper gateway: what fits no contract, no hours, no money and no market stays here."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from actors.adapters.price_file import read_last_prices
from actors.messages import (
    CancelOrders,
    ExitIntent,
    IntentOutcome,
    PlaceExit,
    ReadVenue,
    Side,
    SubmitRefused,
    VenueRead,
)
from kernels import ids
from kernels.entry_checks import EntryRules
from kernels.market_collar import BY_REFERENCE, MarketCollar
from tests.actors.ib_bench import Proxy, px
from tests.actors.money_bench import FUND, SECOND, UNIT
from tests.actors.order_stage import BROKER, Stage
from tests.venues.gateway_process import GatewayProcess

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

COLLAR = MarketCollar(bps_max=500, age_ns_max=3_600 * SECOND)
RULES = EntryRules()


def guarded(gateway: GatewayProcess, port: int = 0, collar: MarketCollar = COLLAR, **changed: Any) -> Stage:
    settings: dict[str, Any] = {"entries": RULES, "symbols": ("SPY",)} | changed
    return Stage(gateway, port, {"collar": collar, "client_id": 7}, **settings)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One guarded order side with 20,000 USD at one gateway, flat before and after each test."""
    folder = tmp_path_factory.mktemp("guards")
    with GatewayProcess(folder, "--messages-per-s", "0", "--cash", "20000") as gateway:
        gateway.set_price("SPY", "500.00", "500.02", "500.00")
        with guarded(gateway) as running:
            priced(running)
            yield running


def priced(stage: Stage, symbol: str = "SPY", near: str = "500.00") -> None:
    assert stage.link.prices is not None
    prices = stage.link.prices

    def heard() -> bool:
        last = prices.last(symbol)
        return last is not None and abs(last.px - px(near)) < UNIT

    stage.until(f"a price of {symbol}", heard)


def outcome(stage: Stage, intent_id: str) -> IntentOutcome:
    def of() -> list[IntentOutcome]:
        return [one for one in stage.outcomes() if one.intent_id == intent_id]

    stage.until(f"an outcome of {intent_id}", lambda: bool(of()))
    assert len(of()) == 1
    return of()[0]


def refused(stage: Stage, name: str, **changed: Any) -> tuple[str, str]:
    """Place it, see that it leaves no order anywhere; guard and field of the refusal."""
    before = len(stage.gateway.orders())
    told = outcome(stage, stage.place(name, **changed))
    assert told.figures.get("remedy"), told
    assert len(stage.gateway.orders()) == before
    return told.guard, told.figures["field"]


def test_terms_come_from_the_gateway_when_a_session_opens(stage: Stage) -> None:
    stage.until("terms", lambda: "SPY" in stage.broker.state.contracts)
    terms = stage.broker.state.contracts["SPY"]
    assert (terms.currency, terms.multiplier, terms.size_min, terms.size_step) == ("USD", UNIT, UNIT, UNIT)
    assert [(one.low_px, one.step) for one in terms.price_steps] == [(0, UNIT // 100)]
    assert terms.hours_until_ns > time.time_ns() + 4 * 86_400 * SECOND


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"limit": "499.995"}, ("tick", "limit_px")),
        ({"profit": "510.001"}, ("tick", "take_profit_px")),
        ({"stop": "489.999"}, ("tick", "stop_px")),
        ({"limit": "530.00", "profit": "560.00"}, ("market_collar", "limit_px")),
        ({"reference": "470.00"}, ("market_collar", "reference_px")),
        ({"shares": 40}, ("funds", "cost")),
        ({"symbol": "NOSUCH"}, ("contract_unknown", "symbol")),
    ],
)
def test_an_entry_that_must_not_leave_is_refused_by_guard_field_and_remedy_and_leaves_nothing(
    stage: Stage, changed: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert refused(stage, f"no-{'-'.join(map(str, changed.values()))}", **changed) == expected


def test_what_pending_entries_reserved_is_not_there_for_the_next_one_until_they_end(stage: Stage) -> None:
    resting = stage.place("r1", shares=25, limit="490.00", stop="480.00")
    stage.until("it rests", lambda: stage.states(resting)[0] == "submitted")
    assert refused(stage, "r2", shares=25, limit="490.00", stop="480.00") == ("funds", "cost")
    entry = stage.family(resting)["entry"].client_order_id
    stage.feed(BROKER, CancelOrders((entry,), "test"))
    stage.until("it is gone", lambda: set(stage.states(resting)) == {"cancelled"})
    again = stage.place("r3", shares=25, limit="490.00", stop="480.00")
    stage.until("it rests", lambda: stage.states(again)[0] == "submitted")
    stage.feed(BROKER, CancelOrders((stage.family(again)["entry"].client_order_id,), "test"))
    stage.until("it is gone", lambda: set(stage.states(again)) == {"cancelled"})


def test_the_first_order_of_a_stock_nobody_has_asked_for_waits_for_its_terms_and_price_and_leaves(stage: Stage) -> None:
    stage.gateway.set_price("MSFT", "400.00", "400.02", "400.01")
    placed = {"symbol": "MSFT", "shares": 2, "profit": "410.00", "stop": "390.00", "reference": "400.00"}
    intent_id = stage.place("first", **placed)  # type: ignore[arg-type]
    assert outcome(stage, intent_id).outcome.value == "submitted"
    stage.until("it is filled", lambda: stage.states(intent_id)[0] == "filled")
    stage.gateway.set_price("MSFT", "410.01", "410.03", "410.02")
    stage.until("it is closed", lambda: stage.states(intent_id)[1] == "filled")
    assert stage.settled()


def test_an_entry_of_a_known_stock_asks_the_gateway_nothing_before_it_leaves(stage: Stage) -> None:
    """Contract, market rule, account and prices: no question of these is answered, and the order goes out."""
    stage.until("terms", lambda: "SPY" in stage.broker.state.contracts)
    for request in (9, 91, 1):
        stage.gateway.fault("unanswered", request=request, count=50, client_id=7)
    intent_id = stage.place("asks-nothing", shares=2, limit="480.00", stop="470.00")
    assert outcome(stage, intent_id).outcome.value == "submitted"
    stage.until("it rests", lambda: stage.states(intent_id)[0] == "submitted")
    stage.gateway.control({"cmd": "clear"})
    stage.feed(BROKER, CancelOrders((stage.family(intent_id)["entry"].client_order_id,), "test"))
    stage.until("it is gone", lambda: set(stage.states(intent_id)) == {"cancelled"})
    assert stage.settled()


def test_a_way_out_leaves_while_no_entry_may(tmp_path: Path) -> None:
    """Every price is too old; a way out is asked none of it."""
    with GatewayProcess(tmp_path) as gateway:
        gateway.set_price("SPY", "500.00", "500.02", "500.00")
        with guarded(gateway, collar=MarketCollar(bps_max=500, age_ns_max=1)) as stage:
            priced(stage)
            held = stage.place("held", shares=2, limit="501.00")
            stage.until("it is filled", lambda: stage.states(held)[0] == "filled")
            assert refused(stage, "no-entry") == ("no_price", "last_px")
            exit_id = ids.family_id(FUND, "close")
            due_ns = time.time_ns() + 60 * SECOND
            way_out = ExitIntent(exit_id, "close", "t", "SPY", Side.SELL, 2 * UNIT, 0, due_ns, "risk", held)
            stage.feed(BROKER, PlaceExit(way_out))
            stage.until("it is closed", lambda: stage.states(exit_id) == ["filled"])
            assert stage.settled()


def test_rounding_where_the_setting_says_so_is_in_our_favour_and_the_gateway_takes_it(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as gateway:
        gateway.set_price("SPY", "500.00", "500.02", "500.00")
        with guarded(gateway, entries=EntryRules(rounds=True)) as stage:
            priced(stage)
            intent_id = stage.place("rounded", limit="490.006", stop="480.001", profit="510.001")
            stage.until("it rests", lambda: stage.states(intent_id)[0] == "submitted")
            family = stage.family(intent_id)
            assert family["entry"].limit_px == px("490.00")
            assert family["take_profit"].limit_px == px("510.01")
            assert family["stop_loss"].stop_px == px("480.01")
            assert stage.settled()


def test_without_a_price_a_market_entry_is_refused_and_a_limit_goes_by_its_reference_and_says_so(
    tmp_path: Path,
) -> None:
    with GatewayProcess(tmp_path) as gateway:
        gateway.set_price("SPY", "500.00", "500.02", "500.00")
        old = MarketCollar(bps_max=500, age_ns_max=1)
        with guarded(gateway, collar=old) as stage:
            priced(stage)
            assert refused(stage, "m1") == ("no_price", "last_px")
            told = [one for one in stage.link.events if isinstance(one, SubmitRefused)]
            assert [one.guard for one in told] == ["no_price"]
            found = outcome(stage, stage.place("l1", limit="490.00", stop="480.00"))
            assert (found.outcome.value, found.figures["degraded"]) == ("submitted", BY_REFERENCE)
            assert stage.settled()


def test_outside_the_regular_hours_an_entry_is_refused_and_one_that_may_wait_is_not(tmp_path: Path) -> None:
    """The gateway tells hours that are over; a proxy says so, whatever day it is."""
    with GatewayProcess(tmp_path) as gateway:
        gateway.set_price("SPY", "500.00", "500.02", "500.00")
        proxy = Proxy(gateway.port)
        hours = f"{_day(0)}:CLOSED;{_day(1)}:CLOSED;{_day(2)}:0000-{_day(3)}:0000"
        proxy.rewrite = lambda fields: _with_hours(fields, hours)
        with guarded(gateway, proxy.port) as stage:
            priced(stage)
            assert refused(stage, "shut") == ("hours", "now_ns")
        with guarded(gateway, proxy.port, entries=EntryRules(waits_for_open=True), entry_time_in_force="GTC") as stage:
            priced(stage)
            assert outcome(stage, stage.place("waits", limit="490.00", stop="480.00")).outcome.value == "submitted"
            assert stage.settled()
        proxy.close()


def test_hours_that_cannot_be_read_are_not_assumed(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as gateway:
        gateway.set_price("SPY", "500.00", "500.02", "500.00")
        proxy = Proxy(gateway.port)
        proxy.rewrite = lambda fields: _with_hours(fields, "nonsense")
        with guarded(gateway, proxy.port) as stage:
            priced(stage)
            assert refused(stage, "unknown") == ("contract_unknown", "symbol")
        proxy.close()


def _day(ahead: int) -> str:
    return f"{datetime.now(ZoneInfo('US/Eastern')) + timedelta(days=ahead):%Y%m%d}"


def _with_hours(fields: list[str], hours: str) -> list[str]:
    if fields[0] != "10":
        return fields
    zone = fields.index("US/Eastern")
    return [*fields[: zone + 1], hours, hours, *fields[zone + 3 :]]


def test_price_steps_follow_the_gateways_market_rule_by_level(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as gateway:
        gateway.set_price("SPY", "500.00", "500.02", "500.00")
        proxy = Proxy(gateway.port)
        rule = ["93", "26", "2", "0", "0.01", "400", "0.05"]
        proxy.rewrite = lambda fields: rule if fields[0] == "93" else fields
        with guarded(gateway, proxy.port) as stage:
            priced(stage)
            assert refused(stage, "low", limit="490.01", stop="480.00") == ("tick", "limit_px")
            found = outcome(stage, stage.place("fits", limit="490.05", stop="399.99"))
            assert found.outcome.value == "submitted"
        proxy.close()


@pytest.mark.parametrize(
    ("row", "guard"),
    [("EUR", "account_currency"), ("BASE", "account_currency"), ("", "account_currency"), (None, "account_unknown")],
)
def test_account_values_in_another_or_no_currency_or_none_refuse_entries(
    tmp_path: Path, row: str | None, guard: str
) -> None:
    with GatewayProcess(tmp_path) as gateway:
        gateway.set_price("SPY", "500.00", "500.02", "500.00")
        proxy = Proxy(gateway.port)

        def rewritten(fields: list[str]) -> list[str] | None:
            if fields[0] != "6" or fields[2] not in (
                "TotalCashValue",
                "AvailableFunds",
                "BuyingPower",
                "NetLiquidation",
            ):
                return fields
            return [*fields[:4], row, *fields[5:]] if row is not None else None

        proxy.rewrite = rewritten
        with guarded(gateway, proxy.port) as stage:
            priced(stage)
            assert refused(stage, "money")[0] == guard
        proxy.close()


def test_values_that_grew_old_refuse_entries(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as gateway:
        gateway.set_price("SPY", "500.00", "500.02", "500.00")
        with guarded(gateway, entries=EntryRules(funds_age_ns_max=1)) as stage:
            priced(stage)
            assert refused(stage, "old") == ("account_stale", "age_ms")


def test_a_broker_that_comes_back_reads_the_terms_anew_before_an_entry_leaves(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as gateway:
        gateway.set_price("SPY", "500.00", "500.02", "500.00")
        with guarded(gateway) as stage:
            stage.until("terms", lambda: "SPY" in stage.broker.state.contracts)
            first = stage.broker.state.contracts["SPY"].read_ns
            stage.crash()
            intent_id = stage.place("after")
            assert outcome(stage, intent_id).outcome.value == "submitted"
            assert stage.broker.state.contracts["SPY"].read_ns > first
            assert stage.settled()


def test_a_read_tells_what_the_account_has_and_the_prices_of_what_it_holds(stage: Stage) -> None:
    held = stage.place("held", shares=2)
    stage.until("it is filled", lambda: stage.states(held)[0] == "filled")
    session = stage.broker.state.session
    assert session is not None
    before = len(stage.link.events)
    stage.feed(BROKER, ReadVenue(session.session_id, "asked", positions_only=True))

    def reads() -> list[VenueRead]:
        told = stage.link.events[before:]
        return [one for one in told if isinstance(one, VenueRead) and one.request_id == "asked"]

    stage.until("it is read", lambda: bool(reads()))
    account = reads()[0].account
    assert account is not None
    there = stage.gateway.control({"cmd": "account"})
    assert account.cash == round(float(there["cash"]) * UNIT)
    assert (account.currency, account.account) == ("USD", "DU1234567")
    assert [(one.symbol, one.qty) for one in account.holdings] == [("SPY", 2 * UNIT)]
    stage.gateway.set_price("SPY", "510.01", "510.03", "510.02")
    assert stage.settled()
    stage.gateway.set_price("SPY", "500.00", "500.02", "500.00")
    priced(stage)


def test_prices_are_written_for_people_with_the_time_they_were_heard(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as gateway:
        gateway.set_price("SPY", "500.00", "500.02", "500.00")
        with Stage(gateway, 0, {"collar": COLLAR, "prices_dir": tmp_path}) as stage:
            stage.until("they are there", lambda: "SPY" in read_last_prices(tmp_path))
            gateway.set_price("SPY", "501.00", "501.02", "499.00")
            stage.until("within the quote", lambda: read_last_prices(tmp_path)["SPY"].px == px("501.00"))
            assert abs(read_last_prices(tmp_path)["SPY"].heard_ns - time.time_ns()) < 60 * SECOND
    (tmp_path / "last_prices.json").write_text(json.dumps({"SPY": 5}))
    assert read_last_prices(tmp_path) == {}
