"""A stop that becomes a market order under its own id, at a real gateway: whenever it fills, nothing closes twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.broker_state import Order
from actors.messages import CloseWithStop, ModifyOrder, StopStands
from tests.actors.money_bench import UNIT
from tests.actors.order_stage import BROKER, Stage
from tests.venues.gateway_process import GatewayProcess

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

SHARES = 10


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("market")
    with GatewayProcess(folder, "--messages-per-s", "0") as gateway, Stage(gateway) as running:
        yield running


@pytest.fixture
def stop(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Order]:
    """The working stop of a bracket of ten that has filled, and nothing else held."""
    stage.gateway.control({"cmd": "clear"})
    stage.gateway.set_price("SPY", "500.00", "500.02")
    stage.serving()
    intent_id = stage.place(request.node.name, shares=SHARES)
    stage.until("it is held", lambda: stage.states(intent_id) == ["filled", "submitted", "submitted"])
    yield stage.family(intent_id)["stop_loss"]
    stage.gateway.control({"cmd": "clear"})
    assert stage.settled()


def close(stage: Stage, stop: Order, shares: int = SHARES) -> None:
    stage.feed(BROKER, CloseWithStop(stop.client_order_id, shares * UNIT, "risk", "a test"))


def now(stage: Stage, stop: Order) -> Order:
    return stage.all_orders()[stop.client_order_id]


def flat(stage: Stage) -> bool:
    """By the gateway's own records."""
    return not float(stage.gateway.positions().get("SPY", {"qty": 0})["qty"])


def stands(stage: Stage, stop: Order) -> list[StopStands]:
    told = [one for one in stage.told if isinstance(one, StopStands)]
    return [one for one in told if one.client_order_id == stop.client_order_id]


def is_closed_by_it(stage: Stage, stop: Order) -> bool:
    stage.until("it has filled", lambda: now(stage, stop).state.value == "filled")
    row = next(row for row in stage.gateway.orders() if row["order_ref"] == stop.client_order_id)
    fills = [one for one in stage.gateway.executions() if one["order_ref"] == stop.client_order_id]
    sold = sum(float(one["qty"]) for one in fills)
    return flat(stage) and (float(row["filled"]), sold) == (SHARES, SHARES) and stage.settled()


def test_it_fills_at_the_market_under_its_own_id_and_nobody_is_told_that_it_stands(stage: Stage, stop: Order) -> None:
    close(stage, stop)
    assert is_closed_by_it(stage, stop)
    assert (now(stage, stop).order_type.value, now(stage, stop).stop_px) == ("MKT", 0)
    assert now(stage, stop).perm_id == stop.perm_id
    assert not stands(stage, stop)
    assert not [name for name in stage.alarms if name.startswith(("read_back", "exits_wrong", "incident"))]


@pytest.mark.parametrize("filled", [1, 5, 9, 10])
def test_a_stop_elected_before_the_change_arrives_closes_no_more_than_is_held(
    stage: Stage, stop: Order, filled: int
) -> None:
    stage.gateway.fault("partial_fills", size=str(filled))
    stage.gateway.set_price("SPY", "489.00", "489.02")  # it fills that much there; nobody here has heard of it
    stage.gateway.fault("hold_fills", on=True)
    stage.gateway.fault("partial_fills", on=False)
    close(stage, stop)
    stage.gateway.fault("hold_fills", on=False)
    assert is_closed_by_it(stage, stop)


@pytest.mark.parametrize("filled", [1, 5, 9, 10])
def test_a_stop_elected_after_the_change_was_written_closes_no_more_than_is_held(
    stage: Stage, stop: Order, filled: int
) -> None:
    stage.gateway.fault("hold_fills", on=True)
    close(stage, stop)
    stage.until("the change is written", lambda: bool(stage.commands(ModifyOrder)))
    stage.gateway.fault("partial_fills", size=str(filled))
    stage.gateway.set_price("SPY", "489.00", "489.02")
    stage.gateway.fault("hold_fills", on=False)
    stage.gateway.fault("partial_fills", on=False)
    stage.gateway.set_price("SPY", "488.00", "488.02")
    assert is_closed_by_it(stage, stop)


FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("drop_at_place", {"when": "before"}),
    ("drop_at_place", {"when": "after"}),
    ("silence", {"accepted": False}),
    ("silence", {"accepted": True}),
    ("warn", {"code": 399, "text": "held"}),
    ("reject", {"code": 201, "text": "not now"}),
]


@pytest.mark.parametrize(("kind", "fields"), FAULTS, ids=lambda value: str(value).replace(" ", ""))
def test_a_change_that_is_lost_or_unanswered_is_looked_up_and_made_again(
    stage: Stage, stop: Order, kind: str, fields: dict[str, Any]
) -> None:
    stage.gateway.fault(kind, **fields)
    close(stage, stop)
    assert is_closed_by_it(stage, stop)
    assert not stands(stage, stop)


def test_where_the_gateway_refuses_the_change_each_time_it_stays_a_stop_and_who_asked_is_told_once(
    stage: Stage, stop: Order
) -> None:
    text = "Order modify failed. Cannot change to the new order type."
    stage.gateway.fault("reject", code=329, text=text, count=3)
    close(stage, stop)
    stage.until("who asked is told", lambda: bool(stands(stage, stop)))
    assert len(stands(stage, stop)) == 1
    row = next(row for row in stage.gateway.orders() if row["order_ref"] == stop.client_order_id)
    assert row["order_type"] == "STP"
    stage.gateway.set_price("SPY", "489.00", "489.02")
    assert is_closed_by_it(stage, stop)


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_gateway_that_dies_at_the_change_is_asked_again(tmp_path: Path, when: str) -> None:
    with GatewayProcess(tmp_path) as gateway, Stage(gateway) as stage:
        intent_id = stage.place("s1", shares=SHARES)
        stage.until("it is held", lambda: stage.states(intent_id) == ["filled", "submitted", "submitted"])
        stop = stage.family(intent_id)["stop_loss"]
        gateway.fault("die_at_place", when=when)
        close(stage, stop)
        gateway.wait_dead()
        gateway.restart()
        gateway.set_price("SPY", "500.00", "500.02")
        assert is_closed_by_it(stage, stop)


@pytest.mark.parametrize("heard", [False, True], ids=["the change is unheard of", "the change was shown"])
def test_a_broker_that_dies_at_the_change_goes_on_with_it(tmp_path: Path, heard: bool) -> None:
    with GatewayProcess(tmp_path) as gateway, Stage(gateway) as stage:
        intent_id = stage.place("s1", shares=SHARES)
        stage.until("it is held", lambda: stage.states(intent_id) == ["filled", "submitted", "submitted"])
        stop = stage.family(intent_id)["stop_loss"]
        gateway.fault("hold_fills", on=True)
        close(stage, stop)
        if heard:
            stage.until("it is at the market", lambda: now(stage, stop).order_type.value == "MKT")
        stage.crash()
        gateway.fault("hold_fills", on=False)
        assert is_closed_by_it(stage, stop)
