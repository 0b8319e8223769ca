"""Programs that the guardian keeps running beside the engine: the Redis servers, the paper venues, the view.

They stand for the outside world, in sessions of their own, and go on when the engine dies.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from loguru import logger

from supervisors.lifeline import ProcessIdentity, ProcessWatch
from supervisors.session_record import RUN_ID_VARIABLE

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 5.0
QUIET_S = 10.0
READY_TIMEOUT_S = 30.0


class OutsideFailed(RuntimeError):
    """A program did not come up; the text says which, and where its log is."""


class Outside:
    """One program: started, watched, started again with backoff. `launch` returns once it serves."""

    def __init__(self, role: str, launch: Callable[[], int]) -> None:
        self.role = role
        self.restarts = 0
        self.identity: ProcessIdentity | None = None
        self.watch: ProcessWatch | None = None
        self._launch = launch
        self._not_before = 0.0
        self._backoff_s = BACKOFF_FIRST_S
        self._started = 0.0

    def start(self) -> None:
        """Start it and watch it. Raises what `launch` raises."""
        pid = self._launch()
        self.identity = ProcessIdentity.of(pid)
        self.watch = ProcessWatch(self.identity)
        self._started = time.monotonic()
        logger.info("{} runs: pid {}", self.role, pid)

    def revive(self) -> bool:
        """Start it again if it is gone and its backoff is over; True if it was started."""
        if self.watch is not None:
            if not self.watch.gone():
                return False
            self.watch.close()
            self.watch = None
            quiet = time.monotonic() - self._started > QUIET_S
            self._backoff_s = BACKOFF_FIRST_S if quiet else min(self._backoff_s * 2, BACKOFF_MAX_S)
            self._not_before = time.monotonic() + (0.0 if quiet else self._backoff_s)
            logger.warning("{} is gone; starting it again", self.role)
        if time.monotonic() < self._not_before:
            return False
        self.restarts += 1
        try:
            self.start()
        except (OutsideFailed, OSError) as error:
            logger.error("{} does not start: {}", self.role, error)
            self._not_before = time.monotonic() + self._backoff_s
            return False
        return True


class VenueFile(msgspec.Struct, frozen=True):
    """The part of a venue's own address file that the guardian needs."""

    pid: int
    port: int = 0
    control_port: int = 0


class VenueProgram:
    """A paper venue as a process: `run.py <name> --state DIR …`, on the ports it had before."""

    def __init__(self, name: str, run_id: str, run_dir: Path, arguments: list[str], address_file: str) -> None:
        self.name = name
        self._run_id = run_id
        self._state = run_dir / name
        self._log = run_dir / "logs" / f"{name}.log"
        self._arguments = arguments
        self._address = self._state / address_file
        self._child: subprocess.Popen[bytes] | None = None

    def launch(self, ports: list[str]) -> int:
        """Start it and return its pid once it has written down that it serves."""
        self._state.mkdir(parents=True, exist_ok=True)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._address.unlink(missing_ok=True)
        program = Path(sys.argv[0]).resolve()
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, str(program), self.name, "--state", str(self._state), *ports, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, RUN_ID_VARIABLE: self._run_id},
            )
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            found = self.address()
            if found is not None and found.pid == self._child.pid:
                return self._child.pid
            if self._child.poll() is not None:
                break
            time.sleep(0.01)
        self._child.kill()
        raise OutsideFailed(f"{self.name} did not come up; its log is {self._log}: {self._last_words()}")

    def address(self) -> VenueFile | None:
        """What it wrote down, if it did."""
        try:
            return msgspec.json.decode(self._address.read_bytes(), type=VenueFile)
        except (OSError, msgspec.MsgspecError):
            return None

    def reap(self) -> None:
        """Collect it if it has ended."""
        if self._child is not None:
            self._child.poll()

    def _last_words(self) -> str:
        size = self._log.stat().st_size
        with self._log.open("rb") as log:
            log.seek(max(0, size - 500))
            return log.read().decode("utf-8", "replace").strip().replace("\n", " | ")
