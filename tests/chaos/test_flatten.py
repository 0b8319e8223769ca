"""`run.py flatten` with the whole engine on the paper gateway: it ends flat there, whatever is killed, and latched."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisors.run_files import read_engine_file
from tests.chaos.books import lines, settle
from tests.chaos.engine_process import EngineRun, kill_role
from tests.chaos.load import QUIET, Load
from tests.chaos.points import FAST

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

QUICK = ("risk.settle_s=0.5", "risk.verify_every_s=1", "risk.retry_s=3")


@pytest.fixture(scope="module")
def trading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EngineRun, Load]]:
    with EngineRun(tmp_path_factory.mktemp("flatten") / "run", *QUIET, *FAST, *QUICK) as engine:
        engine.wait_serving()
        yield engine, Load(engine, 1)


def opened(engine: EngineRun, load: Load) -> None:
    """Brackets on both sides whose entries have filled; their exits work."""
    engine.wait(load.prices, 90, "the gateway serves")
    for symbol, side in (("MSFT", "BUY"), ("AAPL", "SELL"), ("SPY", "BUY")):
        load.signal(symbol, side)
    settle(engine, load.published)
    engine.wait(lambda: len(engine.positions()) == 3, 90, "the entries fill")


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
