"""A stop that the gateway acknowledges and never elects, with the whole engine: called out every time, closed once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.books import assert_equal_to_the_gateway, lines, settle
from tests.chaos.engine_process import EngineRun, kill_role
from tests.chaos.load import QUIET, Load
from tests.chaos.orders import CALM
from tests.chaos.points import FAST

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

GUARDED = (*CALM, "sentinel.on_inert=close", "sentinel.grace_s=1", "sentinel.settle_s=0.5")


@pytest.fixture(scope="module")
def trading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EngineRun, Load]]:
    with EngineRun(tmp_path_factory.mktemp("inert") / "run", *QUIET, *FAST, *GUARDED) as engine:
        engine.wait_serving()
        load = Load(engine, 1)
        engine.wait(load.prices, 90, "the gateway serves")
        yield engine, load


def opened(engine: EngineRun, load: Load, inert: bool, side: str = "BUY") -> str:
    """A bracket whose entry has filled; its intent. `inert`: its stop, and every one to come."""
    engine.wait(load.prices, 90, "the gateway serves")
    engine.gateway("fault", kind="inert_stop", on=inert)
    name = load.signal("MSFT", side)
    settle(engine, load.published)
    engine.wait(lambda: engine.positions().get("MSFT"), 90, "the entry fills")
    return next(str(order["intent_id"]) for order in engine.orders().values() if order["signal_id"] == name)


def legs(engine: EngineRun, intent_id: str) -> dict[str, str]:
    return {str(o["leg"]): str(o["state"]) for o in engine.orders().values() if o["intent_id"] == intent_id}


def inert(engine: EngineRun, intent_id: str) -> list[dict[str, object]]:
    told = lines(engine, "incidents")
    return [line for line in told if line["kind"] == "inert_stop" and str(line["subject"]).startswith(intent_id)]


def watched(engine: EngineRun) -> bool:
    return engine.status().detail.get("sentinel", {}).get("prices") == "ok"


@pytest.mark.parametrize(("side", "offset"), [("BUY", "-6"), ("SELL", "6")])
def test_a_normal_stop_never_raises_it(trading: tuple[EngineRun, Load], side: str, offset: str) -> None:
    engine, load = trading
    intent_id = opened(engine, load, inert=False, side=side)
    engine.wait(lambda: watched(engine), 90, "the sentinel has prices")
    load.price("MSFT", offset)
    engine.wait(lambda: legs(engine, intent_id)["stop_loss"] == "filled", 90, "the stop fills")
    settle(engine, load.published)
    assert not inert(engine, intent_id)
    assert not engine.positions().get("MSFT")
    assert_equal_to_the_gateway(engine)


@pytest.mark.parametrize("named", ["order_ref", "perm_id"])
def test_a_stop_that_dies_after_it_was_accepted_is_called_out_too_on_either_side(
    trading: tuple[EngineRun, Load], named: str
) -> None:
    engine, load = trading
    side, offset = ("BUY", "-6") if named == "perm_id" else ("SELL", "6")
    intent_id = opened(engine, load, inert=False, side=side)
    engine.wait(lambda: watched(engine), 90, "the sentinel has prices")
    ours = engine.orders()
    rows = [one for one in engine.gateway_orders() if ours[str(one["order_ref"])]["intent_id"] == intent_id]
    stop = next(one for one in rows if one["order_type"] == "STP")
    engine.gateway("fault", kind="inert_stop", **{named: stop[named]})
    load.price("MSFT", offset)
    engine.wait(lambda: inert(engine, intent_id), 90, "the stop is called inert")
    engine.wait(lambda: not engine.gateway_positions().get("MSFT"), 90, "the position is closed")
    settle(engine, load.published)
    assert len(inert(engine, intent_id)) == 1
    assert not engine.positions().get("MSFT")
    assert_equal_to_the_gateway(engine)


@pytest.mark.parametrize("killed", ["", "sentinel", "broker.paper", "gateway"])
def test_an_inert_stop_is_called_out_and_its_position_closed_once(trading: tuple[EngineRun, Load], killed: str) -> None:
    engine, load = trading
    intent_id = opened(engine, load, inert=True)
    engine.wait(lambda: watched(engine), 90, "the sentinel has prices")
    load.price("MSFT", "-6")
    engine.wait(lambda: inert(engine, intent_id), 90, "the stop is called inert")
    if killed:
        kill_role(engine, killed)
    engine.wait(lambda: not engine.gateway_positions().get("MSFT"), 90, "the position is closed")
    settle(engine, load.published)
    # It is the way out itself; where that takes longer than the grace period, an order alone is.
    assert legs(engine, intent_id) in [
        {"entry": "filled", "take_profit": "cancelled", "stop_loss": end} for end in ("filled", "cancelled")
    ]
    assert len(inert(engine, intent_id)) == 1
    assert not engine.positions().get("MSFT")
    assert_equal_to_the_gateway(engine)
