"""The driver of the spot exchange's orders, over real sockets against the paper exchange, at peace and at fault."""

from __future__ import annotations

import os
import random
import stat
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from actors.adapters.spot_key import KeyFileError, read_key
from actors.adapters.spot_rest import RestLimits
from actors.messages import (
    CancelSpotOrder,
    SpotBalancesReported,
    SpotExecutionReported,
    SpotOrderNotSent,
    SpotOrderRefused,
    SpotOrderReported,
    SpotOrderWritten,
    SpotOutcomeUnknown,
    SpotSessionLost,
    SpotSessionOpened,
)
from tests.actors.spot_bench import STILL, SpotBench, fixed
from tests.venues.exchange_client import SignedClient
from tests.venues.exchange_process import ExchangeProcess, wait_until

pytestmark = pytest.mark.process

QUICK = RestLimits(recv_window_ms=30_000, request_s_max=1.0)


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExchangeProcess]:
    """One exchange for the tests that leave it as it was, but for orders."""
    options = [*STILL, "--balance", "USDT=5000000", "BTC=100", "BNB=10"]
    with ExchangeProcess(tmp_path_factory.mktemp("exchange"), *options) as process:
        yield process


@pytest.fixture
def bench(exchange: ExchangeProcess) -> Iterator[SpotBench]:
    with SpotBench(exchange) as one:
        yield one


@pytest.fixture
def quick(exchange: ExchangeProcess) -> Iterator[SpotBench]:
    """One that waits a second for a reply."""
    with SpotBench(exchange, QUICK) as one:
        yield one


def test_an_order_is_told_as_written_then_by_reply_and_by_stream_alike(bench: SpotBench) -> None:
    session = bench.opened()
    assert session.account.isdigit()
    command = bench.buy(session, "peace-1")
    bench.driver.post(command)
    bench.until(lambda: len(bench.executions("peace-1")) == 2 and bool(bench.of(SpotBalancesReported)))
    mine = [one for one in bench.events if getattr(one, "client_order_id", "") == "peace-1"]
    assert isinstance(mine[0], SpotOrderWritten)
    assert abs(mine[0].written_ns - time.time_ns()) < 60 * 10**9
    first, second = bench.executions("peace-1")
    assert first == second or (first.trade_id, first.last_qty, first.last_px, first.quote_qty, first.commission) == (
        second.trade_id,
        second.last_qty,
        second.last_px,
        second.quote_qty,
        second.commission,
    )
    assert (first.last_px, first.last_qty, first.commission, first.commission_asset) == (
        command.ticket.limit_px,
        fixed("0.01"),
        fixed("0.00001"),
        "BTC",
    )
    ends = [report for report in bench.reports("peace-1") if report.status == "FILLED"]
    assert {(one.cum_qty, one.cum_quote_qty) for one in ends} == {(fixed("0.01"), first.quote_qty)}
    assert {one.session_id for one in mine} == {session.session_id}
    balances = bench.of(SpotBalancesReported)[-1].balances
    assert balances.keys() >= {"BTC", "USDT"}
    assert balances["USDT"].locked == 0


def test_three_orders_posted_at_once_go_out_in_order_and_are_all_answered(bench: SpotBench) -> None:
    session = bench.opened()
    names = [f"leg-{number}-{time.time_ns()}" for number in range(3)]
    for command in [bench.buy(session, name, qty="0.001") for name in names]:
        bench.driver.post(command)
    bench.until(lambda: all(len(bench.executions(name)) == 2 for name in names))
    assert [one.client_order_id for one in bench.of(SpotOrderWritten)] == names


def test_an_order_is_written_at_most_once_however_often_it_is_asked_for(bench: SpotBench) -> None:
    session = bench.opened()
    before = bench.placed()
    command = bench.buy(session, "once-1", qty="0.001")
    bench.driver.post(command)
    bench.until(lambda: len(bench.executions("once-1")) == 2)
    bench.driver.post(command)
    bench.until(lambda: len(bench.of(SpotOrderWritten, "once-1")) == 2)
    assert bench.progress()["submissions_repeated"] == 1
    assert bench.placed() == before + 1


def test_under_a_halt_nothing_leaves_but_what_reduces_risk(bench: SpotBench) -> None:
    session = bench.opened()
    before = bench.placed()
    bench.halt = "a person said so"
    bench.driver.post(bench.buy(session, "halted-1"))
    assert "a person said so" in bench.wait(SpotOrderNotSent).reason
    assert bench.placed() == before
    bench.driver.post(bench.buy(session, "halted-2", qty="0.001", reduces_risk=True))
    bench.wait(SpotExecutionReported)


def test_an_order_of_another_session_or_too_late_does_not_leave(bench: SpotBench) -> None:
    session = bench.opened()
    before = bench.placed()
    stale = SpotSessionOpened("an-earlier-session", session.account)
    bench.driver.post(bench.buy(stale, "stale-1"))
    assert "is over" in bench.wait(SpotOrderNotSent).reason
    bench.driver.post(bench.buy(session, "late-1", not_after_ns=time.time_ns() - 1))
    assert "late" in bench.wait(SpotOrderNotSent).reason
    assert bench.placed() == before


def test_a_refusal_is_told_with_the_venues_own_code(bench: SpotBench) -> None:
    session = bench.opened()
    bench.driver.post(bench.buy(session, "dust-1", qty="0.00000001"))
    refused = bench.wait(SpotOrderRefused)
    assert (refused.http_status, refused.code, refused.reason) == (400, -1013, "Filter failure: LOT_SIZE")
    bench.driver.post(bench.buy(session, "rich-1", qty="100"))
    assert bench.wait(SpotOrderRefused).code == -2010


@pytest.mark.parametrize(
    ("fault", "fields"),
    [
        ("lost_answer", {"how": "cut"}),
        ("lost_answer", {"how": "status_504"}),
        ("lost_answer", {"how": "silent"}),
        ("late_answer", {"seconds": 3}),
        ("reject_orders", {"code": -1006, "msg": "An unexpected response was received from the message bus."}),
        ("reject_orders", {"code": -2010, "msg": "Duplicate order sent."}),
    ],
)
def test_an_order_whose_answer_is_lost_is_unknown_and_its_fate_is_found_by_its_name(
    quick: SpotBench, fault: str, fields: dict[str, object]
) -> None:
    session = quick.opened()
    before = quick.placed()
    name = f"lost-{time.time_ns()}"
    quick.exchange.fault("silent_reports")
    quick.exchange.fault(fault, **fields)
    quick.driver.post(quick.buy(session, name, qty="0.001"))
    quick.wait(SpotOutcomeUnknown, lambda told: told.client_order_id == name)
    assert not quick.reports(name)
    read = quick.read_whole(session, name)
    if fault == "reject_orders":
        assert read.order is None
        quick.driver.post(quick.buy(session, name + "-2", qty="0.001"))  # uses the silence up
        quick.wait(SpotOrderReported)
        assert quick.placed() == before + 1
        return
    assert read.order is not None
    assert (read.order.status, read.order.cum_qty) == ("FILLED", fixed("0.001"))
    assert [(one.client_order_id, one.last_qty) for one in read.trades] == [(name, fixed("0.001"))]
    assert quick.placed() == before + 1


def test_an_order_that_surfaces_late_is_absent_first_and_there_later(quick: SpotBench) -> None:
    session = quick.opened()
    name = f"surfacing-{time.time_ns()}"
    quick.exchange.fault("late_order", seconds=5, how="cut")
    quick.driver.post(quick.buy(session, name, qty="0.001"))
    quick.wait(SpotOutcomeUnknown)
    assert quick.read_whole(session, name).order is None
    quick.wait(SpotExecutionReported, lambda told: told.client_order_id == name)
    read = quick.read_whole(session, name)
    assert read.order is not None
    assert read.order.status == "FILLED"


def test_after_429_nothing_is_sent_until_the_venue_said(exchange: ExchangeProcess) -> None:
    with SpotBench(exchange) as bench:
        session = bench.opened()
        exchange.fault("order_status", status=429, retry_after_s=2)
        bench.driver.post(bench.buy(session, "busy-1", qty="0.001"))
        refused = bench.wait(SpotOrderRefused)
        assert (refused.http_status, refused.code) == (429, -1003)
        bench.driver.post(bench.buy(session, "busy-2", qty="0.001"))
        assert "stay away" in bench.wait(SpotOrderNotSent).reason
        again = f"busy-{time.time_ns()}"

        def goes_out() -> bool:
            refusals = len(bench.of(SpotOrderNotSent))
            bench.driver.post(bench.buy(session, again, qty="0.001"))
            bench.until(lambda: len(bench.of(SpotOrderNotSent)) > refusals or bool(bench.reports(again)))
            return bool(bench.reports(again))

        wait_until(goes_out, 30.0, lambda: str(bench.shown()))


def test_partial_fills_and_what_expires_are_reported_as_the_venue_says(bench: SpotBench) -> None:
    session = bench.opened()
    bench.exchange.fault("partial_fill", percent=50)
    name = f"half-{time.time_ns()}"
    bench.driver.post(bench.buy(session, name, qty="0.002"))
    bench.until(lambda: len(bench.executions(name)) == 2)
    bench.until(lambda: [one.status for one in bench.reports(name)].count("EXPIRED") == 2)
    ended = [one for one in bench.reports(name) if one.status == "EXPIRED"]
    assert {one.cum_qty for one in ended} == {fixed("0.001")}


def test_reports_told_twice_or_backwards_are_passed_on_as_claims(bench: SpotBench) -> None:
    session = bench.opened()
    twice, backwards = f"twice-{time.time_ns()}", f"back-{time.time_ns()}"
    bench.exchange.fault("duplicate_reports")
    bench.driver.post(bench.buy(session, twice, qty="0.001"))
    bench.until(lambda: len(bench.executions(twice)) == 3)
    bench.exchange.fault("reorder_reports")
    bench.driver.post(bench.buy(session, backwards, qty="0.001"))
    bench.until(lambda: len(bench.executions(backwards)) == 2 and len(bench.reports(backwards)) == 3)
    assert len({one.trade_id for one in bench.executions(twice)}) == 1


def test_an_open_order_is_seen_and_cancelled_under_its_own_name(bench: SpotBench) -> None:
    session = bench.opened()
    client = SignedClient(bench.exchange)
    name = f"resting-{time.time_ns()}"
    low = str(int(bench.top("BTCUSDT")["bidPrice"] // 2))
    client.order("BTCUSDT", "BUY", "LIMIT", timeInForce="GTC", quantity="0.01", price=low, newClientOrderId=name)
    read = bench.read_account(session)
    assert read.failed == ()
    assert read.can_trade
    assert [one.client_order_id for one in read.open_orders] == [name]
    assert read.balances["USDT"].locked == fixed(Decimal(low) * Decimal("0.01"))
    bench.driver.post(CancelSpotOrder(session.session_id, "BTCUSDT", name))
    bench.until(lambda: [one.status for one in bench.reports(name)].count("CANCELED") == 2)
    assert bench.read_account(session).open_orders == ()


def test_a_question_of_another_session_fails_whole(bench: SpotBench) -> None:
    session = bench.opened()
    stale = SpotSessionOpened("an-earlier-session", session.account)
    assert bench.read_order(stale, "x").failed == ("order", "myTrades")
    assert bench.read_account(stale).failed == ("account", "openOrders")


def test_an_order_that_never_was_is_absent_without_a_failure(bench: SpotBench) -> None:
    session = bench.opened()
    read = bench.read_whole(session, f"nobody-{time.time_ns()}")
    assert (read.order, read.trades) == (None, ())


@pytest.mark.parametrize("half_open", [False, True])
def test_a_user_stream_that_ends_or_goes_silent_ends_the_session_and_another_begins(
    exchange: ExchangeProcess, half_open: bool
) -> None:
    with SpotBench(exchange) as bench:
        first = bench.opened()
        begun_s = time.monotonic()
        assert exchange.fault("user_stream_drop", half_open=half_open) == 1
        lost = bench.wait(SpotSessionLost)
        assert lost.session_id == first.session_id
        if half_open:
            assert "half-open" in lost.reason
        print("found after", time.monotonic() - begun_s, "s")
        second = bench.opened()
        assert second.session_id != first.session_id
        bench.driver.post(bench.buy(first, "of-the-first"))
        bench.wait(SpotOrderNotSent)
        name = f"second-{time.time_ns()}"
        bench.driver.post(bench.buy(second, name, qty="0.001"))
        bench.until(lambda: len(bench.executions(name)) == 2)


def test_an_expired_listen_key_ends_the_session_and_the_next_has_its_own(exchange: ExchangeProcess) -> None:
    with SpotBench(exchange) as bench:
        bench.opened()
        assert exchange.fault("listen_key_expiry") == 1
        assert "expired" in bench.wait(SpotSessionLost).reason
        session = bench.opened()
        name = f"key-{time.time_ns()}"
        bench.driver.post(bench.buy(session, name, qty="0.001"))
        bench.until(lambda: len(bench.executions(name)) == 2)


def test_the_listen_key_is_prolonged_for_as_long_as_the_session_lasts(tmp_path: Path) -> None:
    options = [*STILL, "--listen-key-s", "3"]
    with ExchangeProcess(tmp_path, *options) as exchange, SpotBench(exchange, keepalive_s=0.4) as bench:
        bench.opened()
        wait_until(lambda: bench.progress().get("keepalives", 0) >= 9, 60.0, lambda: str(bench.progress()))
        lost = len(bench.of(SpotSessionLost))
        # A machine that stands still for 2.5 s loses its key by right; a driver that does not prolong loses it always.
        assert lost <= 1, bench.shown()


def test_the_venues_clock_is_followed_when_it_is_set_wrong(tmp_path: Path) -> None:
    with ExchangeProcess(tmp_path, *STILL) as exchange:
        exchange.fault("clock_skew", ms=3_600_000)
        with SpotBench(exchange) as bench:
            session = bench.opened()
            bench.driver.post(bench.buy(session, "skew-1", qty="0.001"))
            bench.until(lambda: bool(bench.executions("skew-1")))
            exchange.fault("clock_skew", ms=-3_600_000)
            bench.driver.post(bench.buy(session, "skew-2", qty="0.001"))
            assert bench.wait(SpotOrderRefused).code == -1021
            bench.until(lambda: bench.progress().get("clock_asked", 0) >= 1)
            bench.driver.post(bench.buy(session, "skew-3", qty="0.001"))
            bench.until(lambda: bool(bench.executions("skew-3")))


def test_orders_beyond_the_venues_limit_do_not_leave(exchange: ExchangeProcess) -> None:
    limits = RestLimits(recv_window_ms=30_000, orders_per_10s_max=4)
    with SpotBench(exchange, limits) as bench:
        session = bench.opened()
        names = [f"many-{number}-{time.time_ns()}" for number in range(3)]
        soon_ns = time.time_ns() + 60 * 10**9
        for name in names[:2]:
            bench.driver.post(bench.buy(session, name, qty="0.001", not_after_ns=soon_ns))
        bench.until(lambda: all(bench.reports(name) for name in names[:2]))
        bench.driver.post(bench.buy(session, names[2], qty="0.001", not_after_ns=time.time_ns() + 10**9))
        told = bench.wait(SpotOrderNotSent)
        assert told.client_order_id == names[2]
        assert "no token" in told.reason


def test_a_venue_that_dies_and_comes_back_is_met_again_and_what_it_knew_is_read(tmp_path: Path) -> None:
    with ExchangeProcess(tmp_path, *STILL) as exchange, SpotBench(exchange) as bench:
        session = bench.opened()
        command = bench.buy(session, "before-1", qty="0.001")
        bench.driver.post(command)
        bench.until(lambda: len(bench.executions("before-1")) == 2)
        exchange.kill9()
        bench.wait(SpotSessionLost)
        bench.driver.post(bench.buy(session, "while-away", price=Decimal(1)))
        assert "is over" in bench.wait(SpotOrderNotSent).reason
        exchange.start()
        again = bench.opened()
        read = bench.read_whole(again, "before-1")
        assert read.order is not None
        assert read.order.cum_qty == fixed("0.001")
        assert bench.read_account(again).balances["BTC"].free == fixed("1.000999")


def test_a_venue_that_dies_under_an_order_leaves_it_unknown(tmp_path: Path) -> None:
    with ExchangeProcess(tmp_path, *STILL) as exchange, SpotBench(exchange) as bench:
        session = bench.opened()
        exchange.fault("lost_answer", how="silent")
        bench.driver.post(bench.buy(session, "under-1", qty="0.001"))
        wait_until(lambda: bench.placed() == 1, 20.0, lambda: "not placed")
        exchange.kill9()
        assert bench.wait(SpotOutcomeUnknown).client_order_id == "under-1"
        exchange.start()
        read = bench.read_whole(bench.opened(), "under-1")
        assert read.order is not None
        assert read.order.status == "FILLED"


def test_a_connection_that_the_venue_closed_meanwhile_is_not_used_for_an_order(exchange: ExchangeProcess) -> None:
    with SpotBench(exchange) as bench:
        session = bench.opened()
        for number in range(5):
            exchange.fault("lost_answer", how="cut")
            bench.driver.post(bench.buy(session, f"cut-{number}", qty="0.001"))
            bench.wait(SpotOutcomeUnknown)
            name = f"after-{number}-{time.time_ns()}"
            bench.driver.post(bench.buy(session, name, qty="0.001"))
            bench.until(lambda name=name: len(bench.executions(name)) >= 2)
            assert len(bench.executions(name)) == 2


FAULTS: list[tuple[str, dict[str, object]]] = [
    ("reject_orders", {}),
    ("lost_answer", {"how": "cut"}),
    ("lost_answer", {"how": "cut", "placed": False}),
    ("lost_answer", {"how": "status_504"}),
    ("late_order", {"how": "cut", "seconds": 0.2}),
    ("partial_fill", {"percent": 30}),
    ("silent_reports", {}),
    ("duplicate_reports", {}),
    ("reorder_reports", {}),
    ("user_stream_drop", {}),
    ("listen_key_expiry", {}),
]


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_happens_what_is_told_of_an_order_holds_against_the_exchanges_own_records(
    tmp_path: Path, seed: int
) -> None:
    print("seed", seed)
    rng = random.Random(seed)
    names = [f"storm-{seed}-{number}" for number in range(40)]
    options = [*STILL, "--balance", "USDT=5000000", "--orders-per-10s", "1000"]
    limits = RestLimits(recv_window_ms=30_000, request_s_max=20.0, orders_per_10s_max=1_000)
    with ExchangeProcess(tmp_path, *options) as exchange, SpotBench(exchange, limits) as bench:
        bench.opened()
        for number, name in enumerate(names):
            if number == 20:
                exchange.restart()
            if rng.random() < 0.7:
                fault, fields = rng.choice(FAULTS)
                exchange.fault(fault, **fields)
            command = bench.buy(bench.of(SpotSessionOpened)[-1], name, qty="0.001")
            bench.driver.post(command)
            if rng.random() < 0.3:
                bench.driver.post(command)
            bench.until(lambda name=name: bool(ended(bench, name)))
        rows = SignedClient(exchange).good("GET", "/api/v3/allOrders", symbol="BTCUSDT", limit=1000)
    placed = {row["clientOrderId"]: row for row in rows}
    assert len(placed) == len(rows), "an order was placed twice"
    fates = Counter(kind.__name__ for name in names for kind in ended(bench, name))
    print(dict(fates))
    for name in names:
        for kind in ended(bench, name):
            if kind in (SpotOrderNotSent, SpotOrderRefused):
                assert name not in placed
            elif kind is SpotOrderReported:
                last = max(one.cum_qty for one in bench.reports(name))
                assert last == fixed(placed[name]["executedQty"])
        assert sum(one.last_qty for one in {x.trade_id: x for x in bench.executions(name)}.values()) in (
            0,
            fixed(placed[name]["executedQty"]) if name in placed else 0,
        )
    assert fates["SpotOutcomeUnknown"]
    assert fates["SpotOrderReported"]


def ended(bench: SpotBench, name: str) -> set[type]:
    """Which ends of the order were told."""
    kinds: list[type] = [SpotOrderNotSent, SpotOrderRefused, SpotOutcomeUnknown]
    told = {kind for kind in kinds if bench.of(kind, name)}
    over = any(one.status in ("FILLED", "EXPIRED") for one in bench.reports(name))
    return told | ({SpotOrderReported} if over else set())


def test_a_key_file_that_others_may_read_or_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    with pytest.raises(KeyFileError, match=r"No such file.*Remedy"):
        read_key(path)
    path.write_text('{"api_key":"abc","secret":"hush-hush"}')
    os.chmod(path, 0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        read_key(path)
    os.chmod(path, 0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "hush" not in repr(read_key(path))
    path.write_text('{"api_key":"abc","secret":"hush')
    with pytest.raises(KeyFileError) as refused:
        read_key(path)
    assert "hush" not in str(refused.value)
