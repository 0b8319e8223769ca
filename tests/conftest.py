"""What every test may ask for: the recorded data, a run directory of its own, a free port."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the tests in its background has them ignore Ctrl-C, and so would every process they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


def data_folder() -> Path:
    """The recorded data, named by APEX_DATA, by default beside the project."""
    return Path(os.environ.get("APEX_DATA", ROOT.parent / "shared" / "data")).resolve()


@pytest.fixture(scope="session")
def recorded() -> Callable[[str], Path]:
    """Return the path of a recorded file; skip, naming it, where the whole folder is absent.

    Where the folder is there, a file that is not is a failure and not a skip: otherwise a renamed file
    would silently stop being tested.
    """

    def find(relative: str) -> Path:
        folder = data_folder()
        if not folder.is_dir():
            pytest.skip(f"recorded data: {relative} (no folder {folder}; set APEX_DATA)")
        path = folder / relative
        assert path.exists(), f"APEX_DATA is there, but {path} is not"
        return path

    return find


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Return a TCP port of the loopback that was free a moment ago."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests that need recorded data were skipped; CI reads this line."""
    skipped = terminalreporter.stats.get("skipped", [])
    lost = [report for report in skipped if "recorded data:" in str(report.longrepr)]
    terminalreporter.write_line(f"recorded-data tests skipped: {len(lost)} (folder there: {data_folder().is_dir()})")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run in which the data folder is there and a test that needs it was skipped all the same."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not data_folder().is_dir():
        return
    if any("recorded data:" in str(report.longrepr) for report in reporter.stats.get("skipped", [])):
        session.exitstatus = 1
