"""How fast a connection may speak, and how soon it may be tried again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

WINDOW_S = 1.0


class Pacer:
    """At most `per_s_max` messages in any second, waiting in turn. IB closes a connection that sends more than 50."""

    def __init__(self, per_s_max: int) -> None:
        self.per_s_max = per_s_max
        self._sent: deque[float] = deque()
        self._turn = asyncio.Lock()

    async def take(self, count: int) -> None:
        """Wait until `count` messages may be written at once, and spend them. Raises ValueError if that is never."""
        if count > self.per_s_max:
            raise ValueError(f"{count} messages at once are more than {self.per_s_max} a second")
        loop = asyncio.get_running_loop()
        async with self._turn:
            while (wait_s := self._wait_s(count, loop.time())) > 0:
                await asyncio.sleep(wait_s)
            self._sent.extend([loop.time()] * count)

    def _wait_s(self, count: int, now_s: float) -> float:
        while self._sent and now_s - self._sent[0] >= WINDOW_S:
            self._sent.popleft()
        excess = len(self._sent) + count - self.per_s_max
        return 0.0 if excess <= 0 else self._sent[excess - 1] + WINDOW_S - now_s


class Backoff:
    """Delay before the next try: doubling from `s_min` to `s_max`, each shortened at random by up to a half."""

    def __init__(self, s_min: float, s_max: float, random_unit: Callable[[], float]) -> None:
        self._s_min = s_min
        self._s_max = s_max
        self._random_unit = random_unit
        self._failures = 0

    def next_s(self) -> float:
        """Return the delay after one more failure."""
        delay_s = min(self._s_max, self._s_min * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return delay_s * (1.0 - 0.5 * self._random_unit())

    def reset(self) -> None:
        """The last try was a success."""
        self._failures = 0
