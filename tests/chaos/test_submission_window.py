"""The gateway dies, hangs up or goes silent while a bracket is on its way; the ledger dies; signals come twice, while
nobody is there, or during a halt. What may be at the gateway is settled from its own records, and never doubled."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.adapters.health import StandingAlarm
from tests.actors.redis_fixture import RedisPair
from tests.chaos.books import assert_equal_to_the_gateway, assert_one_outcome_each, few, rows, settle
from tests.chaos.engine_process import EngineRun, kill_role
from tests.chaos.load import QUIET, Load
from tests.chaos.points import FAST

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def trading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EngineRun, Load]]:
    with EngineRun(tmp_path_factory.mktemp("window") / "run", *QUIET, *FAST) as engine:
        engine.wait_serving()
        load = Load(engine, 1)
        engine.wait(load.prices, 90, "the gateway serves")
        load.signal()
        settle(engine, load.published)
        yield engine, load


def family(engine: EngineRun, name: str) -> list[dict[str, object]]:
    refs = {ref for ref, order in engine.orders().items() if order["signal_id"] == name}
    return [order for order in rows(engine, "list_orders", "orders") if order["order_ref"] in refs]


def faults_struck(engine: EngineRun) -> int:
    struck = engine.gateway("status")["faults_struck"]
    assert isinstance(struck, dict)
    return sum(struck.values())


def check(engine: EngineRun, load: Load) -> None:
    engine.wait(lambda: engine.gateway("clear"), 90, "the gateway's faults end")
    settle(engine, load.published)
    assert_equal_to_the_gateway(engine)
    assert_one_outcome_each(engine, load.published)


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_gateway_that_dies_at_any_leg_of_a_bracket_gets_it_once(
    trading: tuple[EngineRun, Load], when: str, nth: int
) -> None:
    engine, load = trading
    pid = engine.pids()["gateway"]
    engine.gateway("fault", kind="die_at_place", when=when, nth=nth)
    name = load.signal()
    engine.wait(lambda: engine.pids()["gateway"] not in (0, pid), 90, "another gateway")
    check(engine, load)
    assert len(family(engine, name)) == (3 if engine.outcomes()[name]["outcome"] == "submitted" else 0)


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_reset_at_any_leg_of_a_bracket_leaves_it_once(
    trading: tuple[EngineRun, Load], when: str, nth: int
) -> None:
    engine, load = trading
    struck = faults_struck(engine)
    engine.gateway("fault", kind="drop_at_place", when=when, nth=nth)
    name = load.signal()
    engine.wait(lambda: faults_struck(engine) > struck, 90, "the connection is reset")
    check(engine, load)
    assert len(family(engine, name)) == (3 if engine.outcomes()[name]["outcome"] == "submitted" else 0)


@pytest.mark.parametrize("accepted", [True, False])
def test_a_bracket_on_which_the_gateway_stays_silent_is_settled_by_its_records(
    trading: tuple[EngineRun, Load], accepted: bool
) -> None:
    engine, load = trading
    struck = faults_struck(engine)
    engine.gateway("fault", kind="silence", accepted=accepted, nth=1, count=3)
    name = load.signal()
    engine.wait(lambda: faults_struck(engine) >= struck + 3, 90, "the gateway swallows the bracket")
    engine.wait(lambda: name in engine.outcomes(), 90, "an outcome")
    check(engine, load)
    # What was lost in silence was sent again once, under the same ids.
    assert len(family(engine, name)) == 3


def test_an_order_that_was_given_up_stays_told_through_a_kill_until_a_person_has_seen_it(
    trading: tuple[EngineRun, Load],
) -> None:
    """Under a halt nothing is sent again: what the gateway swallowed is given up."""
    engine, load = trading
    alarm = "intent_expired"
    struck = faults_struck(engine)
    engine.gateway("fault", kind="silence", accepted=False, nth=1, count=3)
    name = load.signal()
    engine.wait(lambda: faults_struck(engine) >= struck + 3, 90, "the gateway swallows the bracket")
    assert engine.run("halt", "to have it given up").returncode == 0
    try:
        engine.wait(lambda: waiting(engine, alarm), 90, "it is given up")
        since_ns = waiting(engine, alarm)[0].since_ns
        pid = kill_role(engine, "broker.paper")
        engine.wait(lambda: engine.pids()["broker.paper"] not in (0, pid), 90, "another broker")
        engine.wait_serving()
        engine.wait(lambda: waiting(engine, alarm, since_ns), 90, "it stands as it stood")
        unknown = engine.run("alarms", "--ack", "intent_expird", "--why", "misspelt")
        assert unknown.returncode == 64
        assert alarm in unknown.stderr
        told = engine.run("alarms", "--ack", alarm, "--why", "looked at the broker's screen")
        assert told.returncode == 0, told.stderr
        assert "looked at the broker's screen" in told.stdout
        engine.wait(lambda: not waiting(engine, alarm), 90, "it is over")
        lines = (engine.run_dir / "lines" / "acknowledged.jsonl").read_text()
        assert "looked at the broker's screen" in lines
    finally:
        assert engine.run("resume").returncode == 0
    check(engine, load)
    assert {row["state"] for row in engine.orders().values() if row["signal_id"] == name} == {"expired"}


def waiting(engine: EngineRun, name: str, since_ns: int = 0) -> list[StandingAlarm]:
    """Alarms of this name that wait for a person; `since_ns`: only such a one."""
    found = [one.alarm for one in engine.status().alarms if one.alarm.name == name and one.alarm.for_a_person]
    return [one for one in found if since_ns in (0, one.since_ns)]


def test_a_gateway_killed_between_entry_and_exits_still_protects_the_position(
    trading: tuple[EngineRun, Load],
) -> None:
    engine, load = trading
    load.prices()
    name = load.signal("MSFT", "BUY")
    engine.wait(lambda: any(order["status"] == "Filled" for order in family(engine, name)), 90, "the entry fills")
    pid = kill_role(engine, "gateway")
    engine.wait(lambda: engine.pids()["gateway"] not in (0, pid), 90, "another gateway")
    engine.wait(load.prices, 90, "it serves")
    engine.wait(load.exit_all, 90, "prices pass the exits")
    check(engine, load)
    states = sorted(str(order["status"]) for order in family(engine, name))
    assert states == ["Cancelled", "Filled", "Filled"], states


def test_a_ledger_killed_again_and_again_while_signals_come_loses_none(trading: tuple[EngineRun, Load]) -> None:
    engine, load = trading
    for _ in range(4):
        for _ in range(4):
            load.signal()
        old = kill_role(engine, "redis.ledger")
        load.signal()
        engine.wait(lambda old=old: engine.pids()["redis.ledger"] not in (0, old), 90, "another ledger")  # type: ignore[misc]
    engine.wait_serving()
    check(engine, load)


def test_a_signal_published_many_times_over_becomes_one_bracket(trading: tuple[EngineRun, Load]) -> None:
    engine, load = trading
    name = load.signal(times=8)
    kill_role(engine, "allocator")
    check(engine, load)
    assert len(family(engine, name)) == 3


def test_a_halt_during_a_bracket_refuses_what_comes_after_and_keeps_what_is_there(
    trading: tuple[EngineRun, Load],
) -> None:
    engine, load = trading
    load.prices()
    before = load.signal("SPY", "BUY")
    engine.wait(lambda: len(family(engine, before)) == 3, 90, "the bracket is there")
    assert engine.run("halt", "during a bracket").returncode == 0
    try:
        after = [load.signal() for _ in range(3)]
        kill_role(engine, "broker.paper")
        kill_role(engine, "allocator")
        engine.wait(lambda: set(after) <= set(engine.outcomes()), 90, "outcomes under a halt")
        assert {engine.outcomes()[name]["guard"] for name in after} == {"halt"}
        working = [order for order in family(engine, before) if order["status"] in ("Submitted", "PreSubmitted")]
        assert len(working) == 2, "the exits stay under a halt"
    finally:
        assert engine.run("resume").returncode == 0
    check(engine, load)


def test_signals_published_while_the_whole_engine_is_down_are_taken_at_its_start(tmp_path: Path) -> None:
    servers = RedisPair()
    outside = (f"ledger.url={servers.ledger.url}", f"ledger.bus_url={servers.bus.url}")
    engine = EngineRun(tmp_path / "run", *QUIET, *FAST, *outside)
    try:
        engine.start()
        engine.wait_serving()
        load = Load(engine, 2)
        engine.wait(load.prices, 90, "the gateway serves")
        load.signal()
        assert engine.process is not None
        os.kill(engine.process.pid, signal.SIGKILL)
        engine.process.wait()
        down = [name for _ in range(6) if (name := load.signal(times=2))]
        assert len(down) == 6, f"the bus lives outside the engine: {few(down)}"
        engine.start()
        engine.wait_serving()
        engine.wait(load.prices, 90, "the gateway serves")
        check(engine, load)
        assert {engine.outcomes()[name]["outcome"] for name in down} == {"submitted"}
    finally:
        engine.stop()
        servers.close()


def test_signals_that_expired_while_the_engine_was_down_are_said_to_have_expired(tmp_path: Path) -> None:
    servers = RedisPair()
    outside = (f"ledger.url={servers.ledger.url}", f"ledger.bus_url={servers.bus.url}")
    engine = EngineRun(tmp_path / "run", *QUIET, *FAST, *outside)
    try:
        engine.start()
        engine.wait_serving()
        assert engine.stop() == 0
        load = Load(engine, 3, ttl_s=0.5)
        ended_s = time.monotonic() + 0.5
        down = [load.signal() for _ in range(3)]
        engine.start()
        engine.wait_serving()
        assert time.monotonic() > ended_s
        engine.wait(lambda: set(down) <= set(engine.outcomes()), 90, "outcomes")
        assert {engine.outcomes()[name]["outcome"] for name in down} == {"expired"}
        assert not engine.orders()
    finally:
        engine.stop()
        servers.close()
