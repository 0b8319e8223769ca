"""Failures of sessions with the gateway, by name, on real sockets: what each holds back, tells, and leaves whole.

Each ends with no order lost, none doubled, and the state equal to the gateway's. The failures of orders and fills are
in `test_order_failures.py`; `docs/gateway_failures.md` says which test belongs to which failure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ib_insync import IB, LimitOrder, Stock
from ib_insync.client import Client

from actors.adapters.assembly import BeatReturned
from actors.adapters.ib_driver import CANNOT_CONNECT_CODE
from actors.broker_watch import LOGIN_ALARM, OVERDUE_ALARM
from actors.messages import (
    CancelOrders,
    ModifyOrder,
    PriceSeen,
    Side,
    SubmitOrders,
    SubmitWritten,
    VenueErrorReported,
)
from kernels.recurring import DAY_NS, Span
from kernels.uptime import figures
from tests.actors.ib_bench import Bench, bracket
from tests.actors.money_bench import SECOND, UNIT
from tests.actors.order_stage import BROKER, Stage
from tests.actors.test_ib_prices import Prices
from tests.venues.gateway_process import GatewayProcess

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]
QUICK = {"probe_every_s": 0.2, "probe_s_max": 1.0, "connect_s_max": 2.0}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path, "--messages-per-s", "0") as running:
        yield running


def now() -> Span:
    """An hour of every day that began a minute ago."""
    return Span((time.time_ns() - 60 * SECOND) % DAY_NS, 3_600 * SECOND)


def connected_refusals(stage: Stage) -> list[str]:
    return [one.text for one in stage.link.of(VenueErrorReported) if one.code == CANNOT_CONNECT_CODE]


def away(stage: Stage) -> None:
    stage.until("there is no session", lambda: stage.broker.state.session is None)


def back(stage: Stage) -> None:
    stage.gateway.control({"cmd": "clear"})
    stage.serving()


def held(stage: Stage, intent_id: str) -> bool:
    """Whether the broker holds it back, and nothing of it is at the gateway."""
    return intent_id in stage.broker.state.held and not [
        row for row in stage.gateway.orders() if intent_id in str(row["order_ref"])
    ]


def test_until_the_weekly_login_a_person_is_asked_for_and_what_fills_meanwhile_is_known_afterwards(
    gateway: GatewayProcess,
) -> None:
    login = now()
    with Stage(gateway, driver={"login": login, "login_backoff_s": 1.0, **QUICK}, login=login) as stage:
        there = stage.place("s1")
        stage.until("it is held", lambda: stage.states(there) == ["filled", "submitted", "submitted"])
        gateway.fault("login_required")
        away(stage)
        late = stage.place("s2")
        stage.until("it has tried for a while", lambda: len(connected_refusals(stage)) >= 2)
        assert held(stage, late)
        assert set(stage.raised) == {LOGIN_ALARM, "gate"}
        assert "second factor" in stage.alarms[LOGIN_ALARM]
        gateway.set_price("SPY", "511.00", "511.02")
        gateway.set_price("SPY", "500.00", "500.02")
        back(stage)
        stage.until("the exit is known", lambda: stage.states(there) == ["filled", "filled", "cancelled"])
        stage.until("what waited goes out", lambda: stage.states(late)[0] == "filled")
        assert stage.settled()
        assert not {LOGIN_ALARM, OVERDUE_ALARM} & set(stage.alarms)
        week = figures(stage.broker.state.uptime, time.time_ns(), (login,))
        assert week.planned_s > 0
        assert (week.down_s, week.losses) == (0, 0)


def test_in_the_login_window_it_is_tried_less_and_less_often(gateway: GatewayProcess) -> None:
    gateway.fault("refuse", seconds=600)
    quick = {"backoff_s_min": 0.01, "backoff_s_max": 0.02}
    with (
        Bench(gateway.port, login=now(), login_backoff_s=600.0, **quick) as patient,
        Bench(gateway.port, 8, **quick) as other,
    ):
        other.until(lambda: connects(other) >= 60, 60)
        # Each wait is twice the one before: twenty would take hours.
        assert connects(patient) < 20


def connects(bench: Bench) -> int:
    known = len(bench.events)
    bench.driver.beat(known)
    bench.until(lambda: any(isinstance(one, BeatReturned) for one in bench.events[known:]))
    return bench.of(BeatReturned)[-1].progress.get("connects", 0)


def test_a_client_id_that_is_still_taken_holds_orders_back_until_it_is_free(gateway: GatewayProcess) -> None:
    with Stage(gateway, driver=QUICK) as stage:
        there = stage.place("s1", limit="480.00", stop="470.00")
        stage.until("it is there", lambda: stage.states(there) == ["submitted"] * 3)
        # The gateway has not noticed that the connection is gone, and keeps its client id.
        gateway.fault("half_open", client_id=7, seconds=600)
        away(stage)
        late = stage.place("s2")
        stage.until("the reason is told", lambda: any("in use" in text for text in connected_refusals(stage)))
        assert held(stage, late)
        back(stage)
        stage.until("what waited goes out", lambda: stage.states(late)[0] == "filled")
        assert stage.settled()


def test_a_port_that_refuses_is_told_and_orders_wait_until_it_takes_connections_again(gateway: GatewayProcess) -> None:
    with Stage(gateway, driver=QUICK) as stage:
        gateway.fault("refuse", seconds=600)
        away(stage)
        late = stage.place("s1")
        stage.until("it is told", lambda: bool(connected_refusals(stage)))
        assert held(stage, late)
        back(stage)
        stage.until("what waited goes out", lambda: stage.states(late)[0] == "filled")
        assert stage.settled()


def test_a_cancel_that_is_asked_for_without_a_connection_is_asked_again_when_there_is_one(
    gateway: GatewayProcess,
) -> None:
    with Stage(gateway, driver=QUICK, cancel_again_ns=SECOND // 2) as stage:
        there = stage.place("s1", limit="480.00", stop="470.00")
        stage.until("it is there", lambda: stage.states(there) == ["submitted"] * 3)
        gateway.fault("refuse", seconds=600)
        away(stage)
        stage.feed(BROKER, CancelOrders((stage.family(there)["entry"].client_order_id,), "test"))
        back(stage)
        stage.until("it is cancelled", lambda: set(stage.states(there)) == {"cancelled"})
        assert stage.settled()
        assert not stage.commands(ModifyOrder)


@pytest.mark.library_errors("ended", reason="the gateway closes a session that sends too much")
def test_more_messages_than_the_gateway_takes_end_the_session_and_no_order_is_lost_or_doubled(tmp_path: Path) -> None:
    """By a driver that does not pace itself: ours does, and never comes to this."""
    with GatewayProcess(tmp_path) as gateway:
        driver = {"messages_per_s_max": 100_000, **QUICK}
        with Stage(gateway, driver=driver, intents_per_s_max=1_000) as stage:
            first = stage.broker.state.session
            names = [stage.place(f"s{k}", limit="480.00", stop="470.00", shares=1) for k in range(60)]
            stage.until("the gateway closes", lambda: stage.broker.state.session != first)
            assert gateway.status()["counters"]["error_100"]
            stage.until(
                "all are there or given up",
                lambda: all(set(stage.states(name)) <= {"submitted", "expired"} for name in names),
            )
            assert stage.settled()
            assert len(stage.outcomes()) == len(names)


def test_a_competing_session_takes_prices_and_no_order_and_gives_them_back(gateway: GatewayProcess) -> None:
    with Stage(gateway) as stage:
        session = stage.broker.state.session
        prices = Prices(gateway.port, symbols=("SPY",), silent_s_max=1.0)
        try:
            prices.until(lambda: prices.last("SPY"))
            gateway.fault("competing_session")
            prices.until(lambda: prices.progress().get("notice_10197", 0))
            known = len([one for one in prices.events if isinstance(one, PriceSeen)])
            gateway.set_price("SPY", "500.10", "500.12")
            intent_id = stage.place("s1")
            stage.until("it fills", lambda: stage.states(intent_id)[0] == "filled")
            assert stage.settled()
            assert len([one for one in prices.events if isinstance(one, PriceSeen)]) == known
            gateway.fault("competing_session", on=False)
            gateway.set_price("SPY", "500.20", "500.22", "500.21")
            prices.until(lambda: prices.last("SPY") == 50_021 * 10**6)
            assert stage.broker.state.session == session
        finally:
            prices.driver.stop()


@pytest.mark.parametrize("code", [2103, 2105, 2157])
def test_a_broken_data_farm_neither_ends_the_session_nor_raises_an_alarm(gateway: GatewayProcess, code: int) -> None:
    with Stage(gateway) as stage:
        session = stage.broker.state.session
        gateway.fault("message", code=code)
        intent_id = stage.place("s1")
        stage.until("it fills", lambda: stage.states(intent_id)[0] == "filled")
        stage.until("it is told", lambda: any(one.code == code for one in stage.link.of(VenueErrorReported)))
        assert stage.settled()
        assert stage.broker.state.session == session
        assert not stage.raised


def test_an_order_that_waits_for_shares_to_short_is_there_once_and_fills_when_there_are_some(
    gateway: GatewayProcess,
) -> None:
    with Stage(gateway) as stage:
        gateway.fault("no_shares")
        intent_id = stage.place("s1", side=Side.SELL, profit="490.00", stop="510.00")
        stage.until("it is there", lambda: stage.states(intent_id)[0] == "submitted")
        assert stage.settled()
        gateway.control({"cmd": "clear"})
        gateway.set_price("SPY", "500.00", "500.02")
        stage.until("it fills", lambda: stage.states(intent_id) == ["filled", "submitted", "submitted"])
        assert stage.settled()
        assert stage.broker.state.positions["SPY"].qty == -10 * UNIT


def test_a_change_that_became_a_second_order_is_called_out_and_answered_by_no_order_of_ours(tmp_path: Path) -> None:
    """Field note 15: one modify during lost connectivity has produced two live permIds."""
    with GatewayProcess(tmp_path, "--partial-parent", "keep") as gateway, Stage(gateway) as stage:
        gateway.fault("partial_fills", size="4")
        intent_id = stage.place("s1", limit="500.02")
        stage.until("a part fills", lambda: stage.family(intent_id)["entry"].cum_qty > 0)
        gateway.fault("two_perm_ids")
        known = stage.family(intent_id)["stop_loss"].perm_id, stage.family(intent_id)["take_profit"].perm_id
        stage.feed(BROKER, CancelOrders((stage.family(intent_id)["entry"].client_order_id,), "test"))
        stage.until("it is called out", lambda: "incident.two_perm_ids" in stage.alarms)
        ours = stage.family(intent_id)
        assert (ours["stop_loss"].perm_id, ours["take_profit"].perm_id) == known
        assert len(stage.commands(SubmitOrders)) == 1
        # The gateway has doubled it, and only a person at the gateway can say which one goes.
        seen = [row for row in gateway.orders() if row["perm_id"] not in (*known, ours["entry"].perm_id)]
        assert len(seen) == 1
        assert seen[0]["order_ref"] in {order.client_order_id for order in ours.values()}


# ---- the library's own queue


def test_the_librarys_throttle_queue_never_holds_an_order_of_ours(
    gateway: GatewayProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[int] = []
    monkeypatch.setattr(Client, "sendMsg", _watched(Client.sendMsg, waiting))
    with Bench(gateway.port, messages_per_s_max=100_000) as bench:
        session = bench.opened()
        for number in range(80):
            first_id = session.next_order_id + 3 * number
            bench.driver.post(
                bracket(session, f"s{number}", first_order_id=first_id, entry_px="48.00", stop_px="47.00")
            )
        for _ in range(80):
            bench.wait(SubmitWritten)
        gateway.wait_for("all orders", lambda one: len(one.orders()) == 240)
    assert len(waiting) > 240
    assert set(waiting) == {0}, "a message waited inside the library, where a disconnect loses it"


def test_as_it_comes_the_library_queues_orders_and_loses_them_at_a_disconnect(
    gateway: GatewayProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test above must be able to see."""
    waiting: list[int] = []
    monkeypatch.setattr(Client, "sendMsg", _watched(Client.sendMsg, waiting))
    ib = IB()
    ib.connect("127.0.0.1", gateway.port, clientId=9)
    (spy,) = ib.qualifyContracts(Stock("SPY", "SMART", "USD"))
    for _ in range(100):
        ib.placeOrder(spy, LimitOrder("BUY", 1, 48.0))
    assert max(waiting) > 0
    ib.disconnect()
    gateway.wait_for("the client is gone", lambda one: one.status()["clients"] == [])
    assert len(gateway.orders()) < 100


def _watched(send: Callable[[Any, str], None], waiting: list[int]) -> Callable[[Any, str], None]:
    def watched(client: Any, message: str) -> None:
        send(client, message)
        waiting.append(len(client._msgQ))

    return watched
