"""`run.py flatten` with the whole engine on the paper gateway: it ends flat there, whatever is killed, and latched."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisors.run_files import read_engine_file
from tests.chaos.books import lines, rows, settle
from tests.chaos.engine_process import EngineRun, kill_role
from tests.chaos.load import QUIET, Load
from tests.chaos.orders import CALM
from tests.chaos.points import FAST

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

QUICK = (*CALM, "risk.settle_s=0.5", "risk.verify_every_s=1", "risk.retry_s=3")
CANCEL_ORDER = 4
"""The message's number."""


@pytest.fixture(scope="module")
def trading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EngineRun, Load]]:
    with EngineRun(tmp_path_factory.mktemp("flatten") / "run", *QUIET, *FAST, *QUICK) as engine:
        engine.wait_serving(180)
        yield engine, Load(engine, 1)


def opened(engine: EngineRun, load: Load) -> None:
    """Brackets on both sides whose entries have filled; their exits work."""
    engine.wait(load.prices, 90, "the gateway serves")
    for symbol, side in (("MSFT", "BUY"), ("AAPL", "SELL"), ("SPY", "BUY")):
        load.signal(symbol, side)
    settle(engine, load.published)
    engine.wait(lambda: len(engine.positions()) == 3, 90, "the entries fill")


def partly(engine: EngineRun, load: Load, symbol: str) -> None:
    """A bracket of whose entry one share has filled; its exits stand as large as they were placed, and held."""
    load.price(symbol, "1")
    name = load.signal(symbol, "BUY", limit=True)
    settle(engine, load.published)
    assert engine.outcomes()[name]["outcome"] == "submitted"
    engine.gateway("fault", kind="partial_fills", size="1")
    load.price(symbol, "-1")
    load.price(symbol, "1")
    engine.wait(lambda: engine.positions().get(symbol), 60, "a part fills")
    assert engine.positions()[symbol] == engine.gateway_positions()[symbol] == 1


def unanswered(engine: EngineRun) -> int:
    """How many requests the gateway has not answered, on purpose."""
    struck = engine.gateway("status")["faults_struck"]
    assert isinstance(struck, dict)
    return int(struck.get("unanswered", 0))


def stage(engine: EngineRun) -> str:
    return engine.status().detail.get("risk", {}).get("flatten", "")


def assert_no_exit_turned_a_position_over(engine: EngineRun) -> None:
    """By the gateway's executions, one by one, in the order in which they happened."""
    legs = {ref: order["leg"] for ref, order in engine.orders().items()}
    held: Counter[str] = Counter()
    for fill in rows(engine, "list_executions", "executions"):
        symbol, before = str(fill["symbol"]), held[str(fill["symbol"])]
        held[symbol] += int(float(str(fill["qty"]))) * (1 if fill["side"] == "BOT" else -1)
        if legs[str(fill["order_ref"])] != "entry":
            assert before * held[symbol] >= 0, f"{symbol} from {before} to {held[symbol]}: {fill}"
            assert abs(held[symbol]) < abs(before), f"{symbol} from {before} to {held[symbol]}: {fill}"


def go_on(engine: EngineRun, load: Load) -> None:
    assert "flatten ended" in engine.run("resume").stdout
    engine.wait(lambda: engine.gateway("clear"), 30, "the gateway's faults end")
    engine.wait_serving(90)
    settle(engine, load.published)


def working(engine: EngineRun) -> list[object]:
    done = ("Filled", "Cancelled", "ApiCancelled", "Inactive")
    return [one["order_ref"] for one in engine.gateway_orders() if one["status"] not in done]


def assert_flat(engine: EngineRun) -> None:
    """At the gateway, by its own word; and latched."""
    assert not engine.gateway_positions()
    assert not working(engine)
    halt = engine.status().halt
    assert halt is not None
    assert halt.flatten


class Flatten:
    """The command as a process. It writes to a file: a pipe would stay open in what a killed command leaves behind."""

    def __init__(self, engine: EngineRun) -> None:
        command = engine.command("flatten", "a test", "--timeout-s", "120")
        self._output = Path(tempfile.mkstemp(prefix="flatten-", suffix=".txt", dir=engine.run_dir.parent)[1])
        with self._output.open("w") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def failed(self) -> bool:
        return bool(self.process.poll())

    def text(self) -> str:
        return self._output.read_text()

    def ended(self) -> str:
        self.process.wait(timeout=150)
        assert self.process.returncode == 0, self.text()
        assert "flat by the broker's records" in self.text()
        return self.text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=30)


def latched(engine: EngineRun, command: Flatten) -> bool:
    assert not command.failed(), command.text()
    return engine.status().halt is not None


@pytest.mark.parametrize("killed", ["broker.paper", "gateway", "stopped allocator"])
def test_everything_is_closed_at_the_gateway(trading: tuple[EngineRun, Load], killed: str) -> None:
    engine, load = trading
    opened(engine, load)
    stopped = engine.pids()["allocator"] if killed.startswith("stopped") else 0
    if stopped:
        os.kill(stopped, signal.SIGSTOP)
    command = Flatten(engine)
    engine.wait(lambda: latched(engine, command), 90, "the latch")
    if killed == "gateway":
        kill_role(engine, "gateway")
    elif killed and not stopped:
        kill_role(engine, killed)
        load.price("MSFT", "-6")  # its stop fills while nobody here listens
    command.ended()
    assert_flat(engine)
    assert not engine.positions()
    assert "flat" in [line["kind"] for line in lines(engine, "incidents")]
    resumed = engine.run("resume")
    assert "flatten ended" in resumed.stdout
    engine.wait_serving()
    settle(engine, load.published)


@pytest.mark.parametrize("killed", ["", "broker.paper", "gateway"])
def test_a_bracket_that_has_filled_in_part_goes_by_what_has_filled(
    trading: tuple[EngineRun, Load], killed: str
) -> None:
    engine, load = trading
    partly(engine, load, "MSFT")
    command = Flatten(engine)
    engine.wait(lambda: latched(engine, command), 60, "the latch")
    if killed:
        kill_role(engine, killed)
    command.ended()
    assert_flat(engine)
    assert not engine.positions()
    assert_no_exit_turned_a_position_over(engine)
    go_on(engine, load)


def test_nothing_is_closed_while_the_gateway_does_not_take_cancels_and_all_once_it_does(
    trading: tuple[EngineRun, Load],
) -> None:
    engine, load = trading
    opened(engine, load)
    engine.gateway("fault", kind="unanswered", request=CANCEL_ORDER, count=1_000)
    command = Flatten(engine)
    engine.wait(lambda: latched(engine, command), 120, "the latch")
    engine.wait(lambda: stage(engine) == "cancelling", 60, "cancels are asked for")
    before = unanswered(engine)
    engine.wait(lambda: unanswered(engine) > before, 60, "they are asked for again")
    assert stage(engine) == "cancelling"
    assert len(engine.gateway_positions()) == 3
    engine.gateway("clear")
    command.ended()
    assert_flat(engine)
    assert_no_exit_turned_a_position_over(engine)
    go_on(engine, load)


@pytest.mark.parametrize("moment", ["cancelling", "settling", "closing", "confirming"])
def test_stops_that_fill_at_any_moment_of_it_turn_no_position_over(
    trading: tuple[EngineRun, Load], moment: str
) -> None:
    """The price runs through every stop when the flatten has come to that, or beyond."""
    engine, load = trading
    opened(engine, load)
    command = Flatten(engine)
    reached = ["cancelling", "settling", "closing", "confirming", "flat"]
    engine.wait(lambda: latched(engine, command), 120, "the latch")
    engine.wait(lambda: stage(engine) in reached[reached.index(moment) :], 60, moment)
    for symbol, offset in (("MSFT", "-6"), ("AAPL", "6"), ("SPY", "-6")):
        load.price(symbol, offset)
    command.ended()
    assert_flat(engine)
    assert_no_exit_turned_a_position_over(engine)
    assert "over_closed" not in [line["kind"] for line in lines(engine, "incidents")]
    go_on(engine, load)


def test_it_works_where_the_whole_tree_dies_in_the_middle_the_command_too_and_from_a_dead_start(tmp_path: Path) -> None:
    with EngineRun(tmp_path / "run", *QUIET, *FAST, *QUICK) as engine:
        engine.wait_serving()
        opened(engine, Load(engine, 2))
        first = Flatten(engine)
        engine.wait(lambda: latched(engine, first), 90, "the latch")
        assert engine.process is not None
        engine.process.kill()
        engine.process.wait()
        engine.process = None

        def taken_over() -> bool:
            return read_engine_file(engine.settings).pid == first.process.pid or first.process.poll() is not None

        engine.wait(taken_over, 90, "the command runs a tree of its own, or is done")
        first.kill()
        assert "no engine runs here" in Flatten(engine).ended()
        engine.start()
        engine.wait_serving()
        engine.wait(lambda: engine.gateway("walk", on=False), 90, "the gateway serves")
        engine.wait(lambda: not engine.positions(), 90, "our books are flat too")
        assert_flat(engine)
