"""What a broker sees of its gateway in a week, with the whole engine: the nightly restart that takes orders and ids
back, fills that nobody was told of, a half-open socket, another client under our id. No order is lost, none doubled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.adapters.ib_driver import CANNOT_CONNECT_CODE
from actors.messages import SessionOpened, VenueErrorReported
from tests.actors.ib_bench import Bench
from tests.chaos.books import assert_equal_to_the_gateway, assert_one_outcome_each, lines, rows, settle
from tests.chaos.engine_process import EngineRun
from tests.chaos.load import QUIET, Load
from tests.chaos.orders import CALM
from tests.chaos.points import FAST

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]
REST, FILL, PROFIT = "1", "-1", "6"
"""Offsets of a price at which a buy waits, enters, and takes its profit."""


@pytest.fixture(scope="module")
def trading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EngineRun, Load]]:
    with EngineRun(tmp_path_factory.mktemp("outages") / "run", *QUIET, *FAST, *CALM) as engine:
        engine.wait_serving()
        load = Load(engine, 1)
        engine.wait(load.prices, 90, "the gateway serves")
        yield engine, load


def resting(engine: EngineRun, load: Load, symbol: str = "MSFT") -> str:
    """A bracket whose three legs stand at the gateway, none filled; its signal."""
    load.price(symbol, REST)
    name = load.signal(symbol, "BUY", limit=True)
    settle(engine, load.published)
    assert statuses(engine, name) == ["PreSubmitted", "PreSubmitted", "Submitted"]
    return name


def statuses(engine: EngineRun, name: str) -> list[str]:
    """What the gateway says of a signal's orders."""
    refs = {ref for ref, order in engine.orders().items() if order["signal_id"] == name}
    return sorted(str(one["status"]) for one in rows(engine, "list_orders", "orders") if one["order_ref"] in refs)


def live_and_die(load: Load, symbol: str = "MSFT") -> None:
    """Prices of an entry and of a profit taken."""
    load.price(symbol, FILL)
    load.price(symbol, PROFIT)


def check(engine: EngineRun, load: Load) -> None:
    engine.wait(lambda: engine.gateway("clear"), 90, "the gateway's faults end")
    settle(engine, load.published)
    assert_equal_to_the_gateway(engine)
    assert_one_outcome_each(engine, load.published)
    assert engine.status().halt is None


def session_ends(engine: EngineRun) -> None:
    engine.wait(lambda: engine.status().gate.get("gate") != "open", 90, "the gate is shut")


DONE = ["Cancelled", "Filled", "Filled"]


def test_what_fills_after_1100_is_known_after_1102(trading: tuple[EngineRun, Load]) -> None:
    engine, load = trading
    name = resting(engine, load)
    engine.gateway("fault", kind="message", code=1100)
    live_and_die(load)
    session_ends(engine)
    assert statuses(engine, name) == DONE
    engine.gateway("fault", kind="message", code=1102)
    check(engine, load)


def test_what_fills_while_disconnected_is_known_afterwards(trading: tuple[EngineRun, Load]) -> None:
    engine, load = trading
    name = resting(engine, load)
    engine.gateway("fault", kind="refuse", seconds=60)
    live_and_die(load)
    session_ends(engine)
    assert statuses(engine, name) == DONE
    check(engine, load)


def test_a_half_open_socket_is_found_and_what_went_into_it_is_settled(trading: tuple[EngineRun, Load]) -> None:
    engine, load = trading
    name = resting(engine, load)
    engine.gateway("fault", kind="half_open", client_id=engine.settings.gateway.client_id, seconds=120)
    into_the_void = load.signal("AAPL", "BUY")
    live_and_die(load)
    session_ends(engine)
    check(engine, load)
    assert statuses(engine, name) == DONE
    family = statuses(engine, into_the_void)
    assert len(family) == (3 if engine.outcomes()[into_the_void]["outcome"] == "submitted" else 0)


@pytest.mark.library_errors("not_taken", reason="the client that is turned away is one of this process")
def test_another_client_under_our_id_is_turned_away_and_takes_nothing(trading: tuple[EngineRun, Load]) -> None:
    engine, load = trading
    address = json.loads((engine.run_dir / "gateway" / "gateway.json").read_bytes())
    with Bench(int(address["port"]), client_id=engine.settings.gateway.client_id) as other:
        told = other.wait(VenueErrorReported, lambda error: error.code == CANNOT_CONNECT_CODE, within_s=60)
        assert "is in use" in told.text
        name = resting(engine, load)
        live_and_die(load)
        check(engine, load)
        assert statuses(engine, name) == DONE
        assert not other.of(SessionOpened)


def test_what_fills_while_the_engine_is_dead_is_known_after_its_next_start(tmp_path: Path) -> None:
    engine = EngineRun(tmp_path / "run", *QUIET, *FAST, *CALM)
    engine.start()
    try:
        engine.wait_serving()
        load = Load(engine, 2)
        engine.wait(load.prices, 90, "the gateway serves")
        name = resting(engine, load)
        assert engine.process is not None
        engine.process.kill()
        engine.process.wait()
        live_and_die(load)
        assert [one["status"] for one in engine.gateway_orders()].count("Filled") == 2
        engine.start()
        engine.wait_serving()
        check(engine, load)
        assert statuses(engine, name) == DONE
    finally:
        engine.stop()


def test_orders_and_ids_that_the_nightly_restart_took_back_are_given_up_and_the_next_bracket_is_whole(
    tmp_path: Path,
) -> None:
    with EngineRun(tmp_path / "run", *QUIET, *FAST, *CALM) as engine:
        engine.wait_serving()
        load = Load(engine, 3)
        engine.wait(load.prices, 90, "the gateway serves")
        kept = resting(engine, load, "SPY")
        live_and_die(load, "SPY")
        settle(engine, load.published)
        # What came before this jump stays, however slow the machine is.
        engine.gateway("set_clock", forward_s=600)
        gone = resting(engine, load)
        refs = {ref for ref, order in engine.orders().items() if order["signal_id"] == gone}
        taken_back = engine.gateway("fault", kind="nightly_restart", seconds=60, ms=300_000)["lost"]
        assert isinstance(taken_back, list)
        assert len(taken_back) == len(refs) == 3
        session_ends(engine)
        engine.gateway("clear")
        engine.wait(lambda: refs <= given_up(engine), 90, "what the gateway took back is given up")
        after = resting(engine, load)
        live_and_die(load)
        check(engine, load)
        assert statuses(engine, kept) == statuses(engine, after) == DONE
        assert statuses(engine, gone) == []
        assert {order["state"] for order in engine.orders().values() if order["signal_id"] == gone} == {"expired"}
        assert given_up(engine) == refs
        engine.wait(lambda: cleared(engine) == refs, 90, "the divergences are over")


def given_up(engine: EngineRun) -> set[str]:
    """Orders of which it was said that the gateway took them back."""
    return {str(line["subject"]) for line in lines(engine, "incidents") if line["kind"] == "vanished"}


def cleared(engine: EngineRun) -> set[str]:
    """Orders that were here and not there, and are no more."""
    told = [line for line in lines(engine, "divergences") if line["kind"] == "missing_there"]
    return {str(line["subject"]) for line in told if line["change"] == "cleared"}
