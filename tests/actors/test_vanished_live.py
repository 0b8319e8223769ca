"""Acknowledged orders that a gateway loses, on real sockets: given up, protected again, known again, never doubled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.broker_state import Order
from actors.messages import CancelOrders
from tests.actors.money_bench import UNIT
from tests.actors.order_stage import BROKER, Stage, between_tests
from tests.venues.gateway_process import GatewayProcess

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]
READS = 3


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One engine's order side and one gateway, with prices around 500."""
    folder = tmp_path_factory.mktemp("vanished")
    with GatewayProcess(folder, "--messages-per-s", "0") as gateway, Stage(gateway) as running:
        yield running


@pytest.fixture
def name(stage: Stage, request: pytest.FixtureRequest) -> Iterator[str]:
    """A signal's name, with the gateway as it should be before and after."""
    with between_tests(stage):
        yield request.node.name


def vanish(stage: Stage, intent_id: str, *legs: str) -> list[str]:
    """Have the gateway lose these legs; their names here."""
    names = [stage.family(intent_id)[leg].client_order_id for leg in legs]
    for reference in names:
        stage.gateway.fault("vanish", order_ref=reference)
    return names


def held(stage: Stage, name: str) -> str:
    """A bracket whose entry has filled and whose exits work."""
    intent_id = stage.place(name)
    stage.until("it is held", lambda: stage.states(intent_id) == ["filled", "submitted", "submitted"])
    return intent_id


def again(stage: Stage, intent_id: str) -> list[Order]:
    closers = stage.broker.state.families[intent_id].closers
    return [stage.broker.state.families[closer].orders[0] for closer in closers]


def put_back(stage: Stage, intent_id: str) -> Order:
    """Wait until the stop that was put back works."""

    def works() -> bool:
        return any(order.state.value == "submitted" for order in again(stage, intent_id))

    stage.until("a stop is put back and works", works)
    return again(stage, intent_id)[-1]


def test_a_bracket_that_the_gateway_lost_expires_with_evidence_and_is_known_again_when_it_surfaces(
    stage: Stage, name: str
) -> None:
    intent_id = stage.place(name, limit="480.00", stop="470.00")
    stage.until("it rests", lambda: stage.states(intent_id) == ["submitted"] * 3)
    lost = vanish(stage, intent_id, "entry", "take_profit", "stop_loss")
    stage.until("it is given up", lambda: stage.states(intent_id) == ["expired"] * 3)
    assert {stage.raised[f"vanished.{reference}"] for reference in lost} == {1}
    stage.until("nothing is left to do", lambda: not [one for one in stage.alarms if one.startswith("vanished")])
    stage.until("books agree", lambda: not stage.reconciler.state.findings)
    stage.gateway.control({"cmd": "clear"})
    stage.until("it is known again", lambda: stage.states(intent_id) == ["submitted"] * 3)
    assert "surfaced" in stage.raised
    assert stage.settled()


def test_an_answer_that_fails_is_no_evidence_that_an_order_is_gone(stage: Stage, name: str) -> None:
    intent_id = stage.place(name, limit="480.00", stop="470.00")
    stage.until("it rests", lambda: stage.states(intent_id) == ["submitted"] * 3)
    stage.gateway.fault("request_error", request=99, code=322, text="no", count=100)
    failed = stage.raised["venue_read"]
    vanish(stage, intent_id, "entry", "take_profit", "stop_loss")
    stage.until("reads fail", lambda: stage.raised["venue_read"] >= failed + READS)
    assert stage.states(intent_id) == ["submitted"] * 3
    assert not stage.reconciler.state.absences
    stage.gateway.control({"cmd": "clear"})
    assert stage.settled()
    assert stage.states(intent_id) == ["submitted"] * 3


def test_a_lost_stop_is_put_back_and_the_take_profit_that_is_left_ends_with_it(stage: Stage, name: str) -> None:
    intent_id = held(stage, name)
    (lost,) = vanish(stage, intent_id, "stop_loss")
    stop = put_back(stage, intent_id)
    assert (stop.qty, stop.stop_px, stage.states(intent_id)) == (
        10 * UNIT,
        490 * UNIT,
        ["filled", "submitted", "expired"],
    )
    assert stop.oca_group == stage.family(intent_id)["take_profit"].oca_group != ""
    stage.until("its alarm goes", lambda: f"vanished.{lost}" not in stage.alarms)
    before = stage.broker.state.positions["SPY"].qty
    stage.gateway.set_price("SPY", "511.00", "511.02")
    stage.until("the stop goes with the profit", lambda: again(stage, intent_id)[0].state.value == "cancelled")
    assert stage.broker.state.positions["SPY"].qty == before - 10 * UNIT


def test_when_a_lost_stop_surfaces_after_another_was_put_back_one_of_them_is_cancelled(stage: Stage, name: str) -> None:
    intent_id = held(stage, name)
    before = stage.broker.state.positions["SPY"].qty
    vanish(stage, intent_id, "take_profit", "stop_loss")
    put_back(stage, intent_id)
    stage.gateway.control({"cmd": "clear"})
    stage.until("one goes", lambda: again(stage, intent_id)[0].state.value == "cancelled")
    assert stage.states(intent_id) == ["filled", "submitted", "submitted"]
    assert stage.settled()
    stage.gateway.set_price("SPY", "489.00", "489.02")
    stage.until("the stop fills", lambda: stage.states(intent_id) == ["filled", "cancelled", "filled"])
    assert stage.settled()
    assert stage.broker.state.positions["SPY"].qty == before - 10 * UNIT
    assert not stage.broker.state.defects


def test_two_stops_that_both_filled_before_anybody_could_know_are_called_out(stage: Stage, name: str) -> None:
    intent_id = held(stage, name)
    before = stage.broker.state.positions["SPY"].qty
    vanish(stage, intent_id, "take_profit", "stop_loss")
    put_back(stage, intent_id)
    stage.gateway.set_price("SPY", "489.00", "489.02")
    stage.until("the new one fills", lambda: again(stage, intent_id)[0].state.value == "filled")
    stage.gateway.control({"cmd": "clear"})
    stage.until("the lost one fills too", lambda: stage.states(intent_id)[2] == "filled")
    stage.until("it is called out", lambda: "incident.closed_twice" in stage.alarms)
    assert stage.settled()
    assert stage.broker.state.positions["SPY"].qty == before - 20 * UNIT
    assert len(again(stage, intent_id)) == 1


def test_a_partly_filled_entry_that_was_lost_keeps_its_fills_and_goes_on_when_it_surfaces(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as gateway, Stage(gateway) as stage:
        gateway.fault("partial_fills", size="4")
        intent_id = stage.place("s1", limit="500.02")
        stage.until("a part fills", lambda: stage.family(intent_id)["entry"].cum_qty == 4 * UNIT)
        vanish(stage, intent_id, "entry")
        stage.until("it is given up", lambda: stage.states(intent_id)[0] == "expired")
        assert stage.family(intent_id)["entry"].cum_qty == 4 * UNIT
        gateway.control({"cmd": "clear"})
        stage.until("it fills", lambda: stage.states(intent_id)[0] == "filled")
        assert stage.settled()
        assert stage.broker.state.positions["SPY"].qty == 10 * UNIT


def test_a_stop_that_somebody_cancels_while_it_is_lost_is_not_put_back(stage: Stage, name: str) -> None:
    intent_id = held(stage, name)
    stage.feed(BROKER, CancelOrders((stage.family(intent_id)["take_profit"].client_order_id,), "test"))
    stage.until("the profit is off", lambda: stage.states(intent_id)[1] == "cancelled")
    (lost,) = vanish(stage, intent_id, "stop_loss")
    stage.feed(BROKER, CancelOrders((lost,), "test"))
    stage.until("it is given up", lambda: stage.states(intent_id)[2] == "expired")
    stage.until("reads went by", lambda: f"vanished.{lost}" in stage.alarms)
    assert not again(stage, intent_id)
    assert not stage.broker.state.cancels
    stage.gateway.control({"cmd": "clear"})
    assert stage.settled()
