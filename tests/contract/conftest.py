"""One engine for all tests of this folder: started once, with `make run`'s own recipe."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.engine_process import ROOT, EngineRun


class MadeRun(EngineRun):
    """`make run`, with this Python's environment in place of one that would be installed first."""

    def start(self) -> None:
        sets = " ".join(f"--set {override}" for override in self.overrides)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*make_here(), "run", f"ARGS=--no-view {sets}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,
            )

    def stop(self) -> int:
        """Ctrl-C goes to everybody in the terminal's foreground: to make and to what it runs."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.status().pid, 2)
            self.process.wait(60)
        code, self.process = (self.process.returncode if self.process else 0), None
        return code


def make_here() -> list[str]:
    """`make` that takes the Python of this test for an environment that is already installed."""
    check_sum = subprocess.run(
        ["cksum"], stdin=(ROOT / "requirements.lock").open("rb"), capture_output=True, text=True, check=True
    ).stdout.split()[0]
    environment = Path(sys.prefix)
    stamp = environment / f".installed-{check_sum}"
    return ["make", "--no-print-directory", "-o", str(stamp), f"VENV={environment}", f"STAMP={stamp}"]


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MadeRun]:
    """A running engine that has had a fill."""
    with MadeRun(tmp_path_factory.mktemp("contract") / "run", "momentum.threshold_bps=1") as running:
        running.wait_serving()
        running.wait(lambda: "filled" in {row["state"] for row in running.orders().values()}, 90, "a fill")
        yield running
