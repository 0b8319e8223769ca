"""How long to wait before the next try."""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """Delay before the next try: doubling from `s_min` to `s_max`, each shortened at random by up to a half.

    The chance keeps those who failed together from coming back together.
    """

    def __init__(self, s_min: float, s_max: float, random_unit: Callable[[], float]) -> None:
        """`random_unit`: uniform in [0, 1)."""
        self._s_min = s_min
        self._s_max = s_max
        self._random_unit = random_unit
        self._failures = 0

    def next_s(self, s_max: float | None = None) -> float:
        """Return the delay after one more failure; `s_max` in place of the usual one."""
        delay_s = min(self._s_max if s_max is None else s_max, self._s_min * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return delay_s * (1.0 - 0.5 * self._random_unit())

    def reset(self) -> None:
        """The last try was a success."""
        self._failures = 0
