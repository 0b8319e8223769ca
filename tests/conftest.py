"""What every test may ask for: the recorded data, a run directory of its own, a free port."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.library_errors import COLLECTED, unexplained

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


def pytest_configure(config: pytest.Config) -> None:
    """Make known the one mark of our own that is no selection."""
    text = "library_errors(*kinds, reason): the test means ERROR records of the client library of these kinds"
    config.addinivalue_line("markers", text)


@pytest.fixture(scope="session", autouse=True)
def _library_records() -> None:
    COLLECTED.open()


@pytest.fixture(scope="module", autouse=True)
def _library_errors_of_a_module() -> Iterator[None]:
    """What the end of a module's own fixtures makes of errors counts too."""
    COLLECTED.scripted.clear()
    yield
    assert not (left := unexplained(COLLECTED.take(), COLLECTED.scripted)), _what_to_do(left)


@pytest.fixture(autouse=True)
def _library_errors(request: pytest.FixtureRequest) -> Iterator[None]:
    """Any ERROR record of the client library that nothing explains fails the test (see `tests/library_errors.py`)."""
    expected: list[str] = []
    for mark in request.node.iter_markers("library_errors"):
        assert mark.kwargs.get("reason"), "library_errors needs its reason"
        expected += mark.args
    yield
    records = COLLECTED.take()
    if "client_errors" not in request.fixturenames:  # which judges them itself, by texts that its test allows
        assert not (left := unexplained(records, COLLECTED.scripted, expected)), _what_to_do(left)


def _what_to_do(left: list[str]) -> str:
    return f"the client library logged errors that no scripted fault explains: {left}"


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
