"""Circuit breakers with the whole engine on the paper gateway: each latches the halt with its reason, and a person
can go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.books import lines, settle
from tests.chaos.engine_process import EngineRun, kill_role
from tests.chaos.load import QUIET, Load
from tests.chaos.orders import CALM
from tests.chaos.points import FAST

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

WAIT_S = 90


@pytest.fixture(scope="module")
def trading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EngineRun, Load]]:
    limits = ("risk.rejects_max=3", "risk.divergence_s_max=1", "risk.drawdown_max=20")
    with EngineRun(tmp_path_factory.mktemp("breakers") / "run", *QUIET, *FAST, *CALM, *limits) as engine:
        yield engine, serving(engine)


def serving(engine: EngineRun) -> Load:
    engine.wait_serving(WAIT_S)
    load = Load(engine, 1)
    engine.wait(load.prices, 30, "the gateway serves")
    settle(engine)
    return load


def assert_latched(engine: EngineRun, load: Load, reason: str) -> None:
    """The halt stands with this reason, once; what comes now is refused by it, also where risk dies over it."""
    engine.wait(lambda: engine.status().halt, WAIT_S, "the halt is latched")
    halt = engine.status().halt
    assert halt is not None
    assert halt.reason.startswith(reason), halt
    kill_role(engine, "risk")
    name = load.signal("SPY", "BUY")
    engine.wait(lambda: name in engine.outcomes(), WAIT_S, "the next signal has its outcome")
    outcome = engine.outcomes()[name]
    assert (outcome["outcome"], outcome["guard"]) == ("refused", "halt")
    told = [line for line in lines(engine, "incidents") if line["kind"] == "breaker"]
    assert sum(str(line["evidence"]).startswith(reason) for line in told) == 1, told


def go_on(engine: EngineRun, load: Load) -> None:
    """A person's word, and the next bracket lives."""
    assert "halt cleared" in engine.run("resume").stdout
    engine.wait(lambda: engine.gateway("clear"), 30, "the gateway's faults end")
    settle(engine)
    assert engine.status().halt is None
    assert opened(engine, load, "SPY")
    leave(engine, load, "SPY", "6")


def opened(engine: EngineRun, load: Load, symbol: str) -> bool:
    """Whether the gateway has a new position of a bracket that was bought."""
    load.price(symbol)
    load.signal(symbol, "BUY")
    settle(engine, load.published)
    return bool(engine.gateway_positions().get(symbol))


def leave(engine: EngineRun, load: Load, symbol: str, offset: str) -> None:
    load.price(symbol, offset)
    engine.wait(lambda: not engine.gateway_positions().get(symbol), WAIT_S, "it is out")
    engine.wait(lambda: not engine.positions().get(symbol), WAIT_S, "that is known here")
    load.price(symbol)


def refused(engine: EngineRun, load: Load) -> None:
    engine.gateway("fault", kind="inactive", code=201, text="Order rejected - reason:a test", count=9)
    for _ in range(3):
        load.signal("AAPL", "BUY")


def diverging(engine: EngineRun, load: Load) -> None:
    """Somebody buys at the broker's own screen what we hold too."""
    assert opened(engine, load, "MSFT")
    engine.gateway("manual_order", symbol="MSFT", action="BUY", qty="1")


def agreeing(engine: EngineRun, load: Load) -> None:
    engine.gateway("manual_order", symbol="MSFT", action="SELL", qty="1")
    leave(engine, load, "MSFT", "6")


def losing(engine: EngineRun, load: Load) -> None:
    assert opened(engine, load, "AAPL")
    leave(engine, load, "AAPL", "-6")


def nothing(engine: EngineRun, load: Load) -> None:
    """What has happened stands."""


Act = Callable[[EngineRun, Load], None]


@pytest.mark.parametrize(
    ("reason", "act", "undo"),
    [
        ("consecutive rejects: 3 orders refused in a row", refused, nothing),
        ("divergence: position MSFT", diverging, agreeing),
        ("loss: ", losing, nothing),
    ],
    ids=["refusals in a row", "a divergence that stands", "a loss from the day's highest"],
)
def test_a_limit_that_is_reached_latches_the_halt_with_its_reason_and_a_person_can_go_on(
    trading: tuple[EngineRun, Load], reason: str, act: Act, undo: Act
) -> None:
    engine, load = trading
    act(engine, load)
    assert_latched(engine, load, reason)
    undo(engine, load)
    go_on(engine, load)


SLOW = ("risk.ack_ms_max=1000", "risk.ack_slow_max=4", "risk.daily_loss_max=20", "reconciler.orders_every_s=600")


def test_late_acknowledgements_and_a_days_loss_latch_the_halt_the_loss_until_its_limit_is_another(
    tmp_path: Path,
) -> None:
    with EngineRun(tmp_path / "run", *QUIET, *FAST, *CALM, *SLOW) as engine:
        load = serving(engine)
        engine.gateway("fault", kind="silence", accepted=True, count=12)
        for _ in range(4):
            load.signal("AAPL", "BUY", limit=True)
        assert_latched(engine, load, "acknowledgement latency: 4 in a row above 1000 ms")
        engine.gateway("fault", kind="drop")  # what nobody told is read at the next session's beginning
        go_on(engine, load)

        load.price("MSFT")
        losing(engine, load)
        assert_latched(engine, load, "daily loss: P&L -")
        assert "halt cleared" in engine.run("resume").stdout
        engine.wait(lambda: engine.status().halt, WAIT_S, "the day's loss is not taken back by a resume")
        engine.stop()
        engine.overrides.append("risk.daily_loss_max=100000")
        engine.start()
        engine.wait_serving(WAIT_S)
        assert engine.status().halt is not None, "a start clears nothing"
        go_on(engine, load)
