"""A whole engine in a directory of its own, and when exactly what happened: by the microseconds of its log files."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from actors.adapters.redis_client import probe
from supervisors.run_files import EngineFile, read_engine_file
from tests.chaos.engine_process import EngineRun

TREE_SERVES = re.compile(r"^(\S+) \S+\s+run\.py the tree serves: root (\d+), admin (\d+)", re.MULTILINE)
LEAF_SERVES = re.compile(r"^(\S+) \S+\s+(\S+) \2 serves: epoch (\d+), (\d+) entries replayed", re.MULTILINE)
LOST = re.compile(r"^(\S+) \S+\s+\S+ \S+ lost (\S+) incarnation (\d+): (\S+)", re.MULTILINE)
POLL_S = 0.02
"""What happened when is read from the logs: looking more often would only take time from what is measured."""


@contextmanager
def engine_directory() -> Iterator[Path]:
    """A folder for one engine's run directory and log, removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="apex-bench-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class Watched:
    """Reads an engine's traces of itself. Times are wall-clock seconds since the epoch."""

    def __init__(self, engine: EngineRun) -> None:
        self.engine = engine

    def file(self) -> EngineFile:
        """Return what run.py wrote down last."""
        return read_engine_file(self.engine.settings)

    def guardian_log(self) -> str:
        """Return the log of run.py."""
        return self.engine.log.read_text(errors="replace")

    def trees_served(self) -> list[tuple[float, int]]:
        """Return when, and with which root, a whole tree served."""
        return [(_seconds(at), int(root)) for at, root, _ in TREE_SERVES.findall(self.guardian_log())]

    def has_served(self) -> bool:
        """Whether a whole tree ever served."""
        return self.engine.log.exists() and bool(self.trees_served())

    def leaves_served(self) -> list[tuple[float, str, int]]:
        """Return when which leaf served, and how many entries it had replayed."""
        return [(_seconds(at), role, int(n)) for at, role, _, n in LEAF_SERVES.findall(self._logs())]

    def lost(self) -> list[tuple[float, str]]:
        """Return when which child was noticed as gone."""
        return [(_seconds(at), role) for at, role, _, _ in LOST.findall(self._logs())]

    def pid_of(self, role: str) -> int:
        """Return the pid of one of the guardian's own: root, admin, redis.ledger, redis.bus."""
        return {note.role: note.pid for note in self.file().processes}[role]

    def redis_answers(self) -> bool:
        """Whether both servers answer now."""
        found = self.file()
        return probe(found.ledger_url) and probe(found.bus_url)

    def _logs(self) -> str:
        folder = self.engine.run_dir / "logs"
        return "\n".join(path.read_text(errors="replace") for path in sorted(folder.glob("*.log")))


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def kill(pid: int) -> float:
    """SIGKILL; the time just before."""
    at = time.time()
    os.kill(pid, signal.SIGKILL)
    return at


def wait_for(
    condition: Callable[[], object], seconds_max: float, what: str, engine: EngineRun, poll_s: float = POLL_S
) -> None:
    """Poll. Raises AssertionError with the engine's last words."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds_max} s: {what}\n{engine.output()}")
        time.sleep(poll_s)
