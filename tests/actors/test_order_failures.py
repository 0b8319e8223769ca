"""What a gateway can do wrong, by name, on real sockets: no order lost, none doubled, the books equal to its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.broker_state import Order
from actors.messages import CancelOrders
from tests.actors.ib_bench import Proxy, px
from tests.actors.money_bench import UNIT
from tests.actors.order_stage import BROKER, Stage, between_tests
from tests.venues.gateway_process import GatewayProcess

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One engine's order side and one gateway, which every test leaves whole, with prices around 500."""
    folder = tmp_path_factory.mktemp("failures")
    with GatewayProcess(folder, "--messages-per-s", "0") as gateway, Stage(gateway) as running:
        yield running


@pytest.fixture
def name(stage: Stage, request: pytest.FixtureRequest) -> Iterator[str]:
    """A signal's name, with the gateway as it should be before and after."""
    with between_tests(stage):
        yield request.node.name


def test_what_the_gateway_holds_is_read_back_and_equals_what_was_asked(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as gateway, Stage(gateway) as stage:
        stage.place("s1")
        resting = stage.place("s2", limit="480.00", stop="470.00")
        stage.until("all are there", lambda: stage.states(resting) == ["submitted"] * 3)
        assert stage.settled()
        assert not [name for name in stage.alarms if name.startswith("read_back")]
        gateway.set_price("SPY", "511.00", "511.02")
        assert stage.settled()
        assert not [name for name in stage.raised if name.startswith("read_back")]


def test_a_time_in_force_that_a_preset_changed_is_called_out_and_cleared_when_it_is_as_asked(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as gateway:
        proxy = Proxy(gateway.port)
        proxy.rewrite = lambda fields: [*fields[:18], "DAY", *fields[19:]] if _is_stop(fields) else fields
        with Stage(gateway, proxy.port) as stage:
            resting = stage.place("s1", limit="480.00", stop="470.00")
            name = stage.broker.state.families[resting].orders[2].client_order_id
            stage.until("it is called out", lambda: f"read_back.{name}" in stage.alarms)
            assert stage.alarms[f"read_back.{name}"] == "time_in_force: asked GTC, the venue has DAY"
            proxy.rewrite = None
            stage.gateway.fault("drop")
            stage.until("it is as asked", lambda: f"read_back.{name}" not in stage.alarms)
            assert stage.raised[f"read_back.{name}"] == 1
            assert stage.settled()
        proxy.close()


def _is_stop(fields: list[str]) -> bool:
    return fields[0] == "5" and "STP" in fields[:20]


# ---- fills


def test_an_entry_that_ends_partly_filled_leaves_exits_of_what_filled_though_the_gateway_does_not(
    tmp_path: Path,
) -> None:
    with GatewayProcess(tmp_path, "--partial-parent", "keep") as gateway, Stage(gateway) as stage:
        gateway.fault("partial_fills", size="4")
        intent_id = stage.place("s1", limit="500.02")
        stage.until("a part fills", lambda: stage.family(intent_id)["entry"].cum_qty > 0)
        stage.feed(BROKER, CancelOrders((stage.family(intent_id)["entry"].client_order_id,), "test"))
        stage.until("the entry ends", lambda: stage.states(intent_id)[0] == "cancelled")
        filled = stage.family(intent_id)["entry"].cum_qty

        def sizes() -> set[int]:
            rows = [row for row in gateway.orders() if row["parent_perm_id"]]
            return {round(float(row["qty"]) * UNIT) for row in rows}

        stage.until("the gateway's exits are of what filled", lambda: sizes() == {filled})
        stage.until("it is known here", lambda: not stage.broker.state.defects)
        gateway.control({"cmd": "clear"})
        gateway.set_price("SPY", "489.00", "489.02")
        assert stage.settled()
        assert not stage.broker.state.positions["SPY"].qty
        assert not [one for one in stage.alarms if one.startswith(("exits_wrong", "read_back"))]


def test_a_stop_that_the_gateway_dropped_is_put_back_and_protects(stage: Stage, name: str) -> None:
    intent_id = stage.place(name)
    stage.until("it is held", lambda: stage.states(intent_id) == ["filled", "submitted", "submitted"])
    before = stage.broker.state.positions["SPY"].qty
    stage.gateway.control({"cmd": "cancel_order", "perm_id": stage.family(intent_id)["stop_loss"].perm_id})
    stage.until("it is put back", lambda: bool(_again(stage, intent_id)) and not stage.broker.state.defects)
    stage.until("it works", lambda: _again(stage, intent_id)[0].state.value == "submitted")
    assert stage.settled()
    stage.gateway.set_price("SPY", "489.00", "489.02")
    stage.until("it fills", lambda: _again(stage, intent_id)[0].state.value == "filled")
    assert stage.settled()
    assert stage.states(intent_id) == ["filled", "cancelled", "cancelled"]
    assert stage.broker.state.positions["SPY"].qty == before - 10 * UNIT


def _again(stage: Stage, intent_id: str) -> list[Order]:
    closers = stage.broker.state.families[intent_id].closers
    return [stage.broker.state.families[closer].orders[0] for closer in closers]


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "partial_fills", "size": "3"},
        {"kind": "duplicate_execution", "count": 3},
        {"kind": "status", "how": "missing", "count": 6},
        {"kind": "status", "how": "duplicate", "count": 6},
        {"kind": "status", "how": "late", "count": 2},
        {"kind": "commission", "how": "missing"},
        {"kind": "commission", "how": "late", "ms": 200},
        {"kind": "commission", "how": "first"},
        {"kind": "silence", "count": 3},
        {"kind": "surface_late", "ms": 700, "count": 3},
        {"kind": "warn", "code": 399, "count": 3},
        *({"kind": "warn", "code": code} for code in (103, 104, 105, 135, 161, 321, 2109, 10147, 10148, 10311, 10349)),
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values()),
)
def test_a_bracket_lives_through_what_the_gateway_does_wrong(stage: Stage, name: str, fault: dict[str, Any]) -> None:
    stage.gateway.control({"cmd": "fault", **fault})
    intent_id = stage.place(name)
    stage.until("the entry fills", lambda: _quoted(stage, "500.0") and stage.states(intent_id)[0] == "filled")
    ended = {"filled", "cancelled"}
    stage.until("exits end", lambda: _quoted(stage, "511.0") and set(stage.states(intent_id)[1:]) == ended)
    assert stage.settled()
    assert [one.outcome.value for one in stage.outcomes() if one.intent_id == intent_id] == ["submitted"]


def _quoted(stage: Stage, px_head: str) -> bool:
    """Quote once more, since an order may get a part only of what a quote offers; True."""
    stage.gateway.set_price("SPY", f"{px_head}0", f"{px_head}2")
    return True


@pytest.mark.parametrize("code", [110, 200, 201, 404, 451, 460, 10006])
def test_an_entry_that_the_gateway_refuses_leaves_no_order_and_is_not_doubled(
    stage: Stage, name: str, code: int
) -> None:
    stage.gateway.fault("reject", code=code, count=6)
    intent_id = stage.place(name)
    stage.until("it is given up", lambda: set(stage.states(intent_id)) == {"expired"})
    assert stage.settled()
    refs = {order.client_order_id for order in stage.family(intent_id).values()}
    assert not [row for row in stage.gateway.orders() if row["order_ref"] in refs]


@pytest.mark.parametrize("first", ["error", "status"])
def test_an_inactive_entry_is_not_done_and_may_be_revived(stage: Stage, name: str, first: str) -> None:
    stage.gateway.fault("inactive", code=201, first=first)
    intent_id = stage.place(name)
    stage.until("it is inactive", lambda: stage.family(intent_id)["entry"].inactive)
    stage.gateway.control({"cmd": "revive_order", "perm_id": stage.family(intent_id)["entry"].perm_id})
    stage.until("it fills", lambda: stage.states(intent_id)[0] == "filled")
    assert stage.settled()


def test_a_fill_after_the_cancel_counts_and_what_it_opened_gets_a_stop(stage: Stage, name: str) -> None:
    intent_id = stage.place(name, limit="480.00", stop="470.00")
    stage.until("it is there", lambda: stage.states(intent_id) == ["submitted"] * 3)
    stage.gateway.fault("fill_after_cancel", count=1)
    stage.feed(BROKER, CancelOrders((stage.family(intent_id)["entry"].client_order_id,), "test"))
    stage.until("it fills", lambda: stage.states(intent_id) == ["filled", "cancelled", "cancelled"])
    stage.until("it is protected", lambda: bool(_again(stage, intent_id)))
    stage.until("the stop works", lambda: _again(stage, intent_id)[0].state.value == "submitted")
    assert stage.settled()


def test_a_correction_replaces_the_fill_that_it_corrects(stage: Stage, name: str) -> None:
    intent_id = stage.place(name)
    stage.until("it fills", lambda: stage.states(intent_id)[0] == "filled")
    perm_id = stage.family(intent_id)["entry"].perm_id
    stage.gateway.fault("correct_execution", perm_id=perm_id, px="499.50")
    stage.until("corrected", lambda: stage.family(intent_id)["entry"].notional == 10 * UNIT * px("499.50"))
    assert stage.settled()


# ---- sessions


@pytest.mark.parametrize(("lost", "restored"), [(1100, 1101), (1100, 1102), (2110, 1102)])
def test_fills_while_the_gateway_has_lost_its_server_are_all_there_afterwards(
    stage: Stage, name: str, lost: int, restored: int
) -> None:
    intent_id = stage.place(name)
    stage.until("it is held", lambda: stage.states(intent_id) == ["filled", "submitted", "submitted"])
    stage.gateway.fault("message", code=lost)
    stage.gateway.fault("message", code=lost)
    stage.until("the gate is shut", lambda: stage.broker.state.session is None)
    other = stage.place(name + "b")
    stage.gateway.set_price("SPY", "511.00", "511.02")
    stage.gateway.set_price("SPY", "500.00", "500.02")
    assert not [one for one in stage.outcomes() if one.intent_id == other]
    stage.gateway.fault("message", code=restored)
    stage.until("the exit is known", lambda: stage.states(intent_id) == ["filled", "filled", "cancelled"])
    stage.until("what was held goes out", lambda: other in stage.broker.state.families)
    stage.until("and fills", lambda: stage.states(other)[0] == "filled")
    assert stage.settled()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_reset_in_the_middle_of_a_bracket_leaves_it_once(stage: Stage, name: str, nth: int, when: str) -> None:
    stage.gateway.fault("drop_at_place", nth=nth, when=when)
    intent_id = stage.place(name)
    stage.until("it fills", lambda: stage.states(intent_id)[0] == "filled")
    assert stage.settled()


def test_fills_while_disconnected_and_while_the_engine_is_dead_are_all_there_afterwards(
    stage: Stage, name: str
) -> None:
    first, second = stage.place(name), stage.place(name + "b")
    stage.until("held", lambda: stage.states(first) == stage.states(second) == ["filled", "submitted", "submitted"])
    stage.gateway.fault("refuse", seconds=1.0)
    stage.gateway.set_price("SPY", "511.00", "511.02")
    stage.until("the first exits are known", lambda: stage.states(first)[1:] == ["filled", "cancelled"])
    stage.gateway.set_price("SPY", "500.00", "500.02")
    third = stage.place(name + "c")
    stage.until("held", lambda: stage.states(third) == ["filled", "submitted", "submitted"])
    stage.link.driver.stop()
    stage.gateway.set_price("SPY", "489.00", "489.02")
    stage.crash()
    stage.until("the stop's fill is known", lambda: stage.states(third)[1:] == ["cancelled", "filled"])
    assert stage.settled()


def test_order_ids_that_rolled_back_are_never_given_to_another_order(stage: Stage, name: str) -> None:
    first = stage.place(name, limit="480.00", stop="470.00")
    stage.until("it is there", lambda: stage.states(first) == ["submitted"] * 3)
    stage.gateway.fault("next_order_id", client_id=7, value=1)
    before = stage.broker.state.session
    stage.gateway.fault("drop")
    stage.until("the session is another", lambda: stage.broker.state.session not in (None, before))
    second = stage.place(name + "b")
    stage.until("it fills", lambda: second in stage.broker.state.families and stage.states(second)[0] == "filled")
    assert stage.settled()
    drawn = [order.venue_order_id for order in stage.all_orders().values()]
    assert len(drawn) == len(set(drawn))
    generation = stage.broker.state.generation
    assert generation is not None
    assert generation.number > 1


def test_data_farms_that_break_end_no_session_and_lose_no_order(stage: Stage, name: str) -> None:
    session = stage.broker.state.session
    for code in (2103, 2105, 2157, 2107, 2108, 2119, 10197):
        stage.gateway.fault("message", code=code)
    intent_id = stage.place(name)
    stage.until("it fills", lambda: stage.states(intent_id)[0] == "filled")
    assert stage.settled()
    assert stage.broker.state.session == session


def test_the_nightly_restart_forgets_fresh_orders_and_rolls_ids_back_and_nothing_is_doubled(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as gateway, Stage(gateway) as stage:
        held = stage.place("s1")
        stage.until("it is held", lambda: stage.states(held) == ["filled", "submitted", "submitted"])
        gateway.fault("nightly_restart", seconds=1.0, ms=0)
        stage.until("the session is over", lambda: stage.broker.state.session is None)
        late = stage.place("s2")
        stage.serving()
        stage.until("what waited goes out", lambda: late in stage.broker.state.families)
        stage.until("and fills", lambda: stage.states(late)[0] == "filled")
        assert stage.settled()
        drawn = [order.venue_order_id for order in stage.all_orders().values()]
        assert len(drawn) == len(set(drawn))
