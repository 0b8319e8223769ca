"""Programs that the guardian keeps running beside the engine: the Redis servers, the paper venues, the view.

They stand for the outside world, in sessions of their own, and go on when the engine dies.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from loguru import logger

from actors.adapters.redis_server import ServerFailed
from supervisors.lifeline import ProcessIdentity, ProcessWatch

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 5.0
QUIET_S = 10.0


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
        except (OutsideFailed, ServerFailed, OSError) as error:
            logger.error("{} does not start: {}", self.role, error)
            self._not_before = time.monotonic() + self._backoff_s
            return False
        return True
