"""The view of a real engine on a real terminal, from start to Ctrl-C."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisors.console import look_at
from supervisors.picture import Rates, picture
from tests.chaos.engine_process import EngineRun
from tests.console.terminal import Terminal

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

ROLES = (
    "run.py", "redis.ledger", "redis.bus", "exchange", "gateway", "root", "market", "book", "feed.spot.0", "evaluator",
    "execution", "broker.paper", "reconciler", "allocator", "research", "source.momentum",
)  # fmt: skip


class EngineOnTerminal(EngineRun):
    """`run.py` as a person starts it: on a terminal, with its view."""

    terminal: Terminal

    def start(self) -> None:
        sets = [part for override in self.overrides for part in ("--set", override)]
        self.terminal = Terminal(self.command("run")[:2] + sets, 100, 30, self.run_dir.parent)
        self.process = self.terminal.process

    def output(self) -> str:
        return self.terminal.text[-4000:]

    def stop(self) -> int:
        if self.terminal.process.poll() is None:
            self.terminal.press_ctrl_c()
            self.terminal.wait_end(15)
        self.process = None
        return int(self.terminal.process.returncode)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineOnTerminal]:
    run = EngineOnTerminal(tmp_path_factory.mktemp("console") / "run", "momentum.threshold_bps=1")
    run.start()
    try:
        run.wait_serving()
        yield run
    finally:
        run.stop()
        run.terminal.close()


def test_a_terminal_shows_the_tree_the_gate_and_the_dry_run(engine: EngineOnTerminal) -> None:
    for words in (*ROLES, "gate open", "DRY RUN", "no halt", "rows valid", "opportunities"):
        engine.terminal.wait_for(words, 30)
    assert "Traceback" not in engine.terminal.text


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_a_real_status_is_drawn_whole(engine: EngineOnTerminal, width: int, height: int) -> None:
    engine.wait(lambda: engine.status().gate.get("gate") == "open", 30, "the gate opens")
    drawn = picture(look_at(engine.settings, Rates()), width, height).plain
    for words in (*ROLES, "gate open", "DRY RUN", "positions", "orders"):
        assert words in drawn, drawn
    assert all(len(line) <= width for line in drawn.split("\n"))


def test_a_view_that_is_killed_comes_back(engine: EngineOnTerminal) -> None:
    pid = engine.pids()["view"]
    subprocess.run(["kill", "-9", str(pid)], check=True)
    engine.wait(lambda: engine.pids()["view"] not in (0, pid), 20, "a new view")
    assert engine.status().running


def test_ctrl_c_prints_the_summary_and_ends_every_view(engine: EngineOnTerminal, tmp_path: Path) -> None:
    second = Terminal(engine.command("view"), 80, 24, tmp_path)
    try:
        second.wait_for("gate open", 30)
        engine.terminal.press_ctrl_c()
        assert engine.terminal.wait_end(15) == 0
        assert second.wait_end(10) == 0
        after_the_view = engine.terminal.raw.rpartition("\x1b[?1049l")[2]
        for words in ("Apex ran", "(dry run)", "opportunities:", "signals:", "orders:", "positions:", "kept in"):
            assert words in after_the_view, after_the_view
    finally:
        second.close()
    assert engine.run("view").returncode == 69
