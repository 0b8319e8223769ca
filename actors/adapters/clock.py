"""The only place that reads a clock for the engine's decisions."""

from __future__ import annotations

import time


class SystemClock:
    """Wall clock in nanoseconds that never steps back within this process.

    A step backwards of the system's clock is held still until real time catches up, so that a journal's `now_ns`
    never falls within an incarnation.
    """

    def __init__(self) -> None:
        self._last_ns = 0

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        self._last_ns = max(self._last_ns, time.time_ns())
        return self._last_ns
