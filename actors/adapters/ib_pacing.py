"""How fast a connection to the gateway may speak."""

from __future__ import annotations

import asyncio
from collections import deque

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

    def take_now(self, count: int) -> bool:
        """Spend `count` messages if they may be written at once and nobody waits; False spends nothing."""
        now_s = asyncio.get_running_loop().time()
        if self._turn.locked() or self._wait_s(count, now_s) > 0:
            return False
        self._sent.extend([now_s] * count)
        return True

    def _wait_s(self, count: int, now_s: float) -> float:
        while self._sent and now_s - self._sent[0] >= WINDOW_S:
            self._sent.popleft()
        excess = len(self._sent) + count - self.per_s_max
        return 0.0 if excess <= 0 else self._sent[excess - 1] + WINDOW_S - now_s
