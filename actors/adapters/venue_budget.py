"""What one process may ask of the spot exchange: connects and request weight, and when to stay away altogether.

One for all connections and REST of a process, on its one loop. The venue counts by address: where several processes
share one, each gets a share of the limits. Waiting is in no order; nobody is refused, only late.

429 and 418 are obeyed by everything alike, for as long as the venue says and never less than the time before it
doubled: who asks on while told to stay away is banned for longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from actors.adapters.retry_after import retry_after_s
from kernels.token_bucket import TokenBucket, full, lowered, take

CONNECTS_WINDOW_NS: Final = 300_000_000_000
WEIGHT_WINDOW_NS: Final = 60_000_000_000
AWAY_S_MIN: Final = 1.0
AWAY_S_MAX: Final = 600.0
"""Of what we add ourselves; the venue may say more."""

OBEYED: Final = (429, 418)


class VenueLimits(msgspec.Struct, frozen=True):
    """The venue's, or this process's share of them. The weight's limit is told by exchangeInfo as well."""

    connects_per_5_min_max: int = 300
    weight_per_min_max: int = 6_000


class VenueBudget:
    """See the module. All methods on one loop."""

    def __init__(self, limits: VenueLimits, random_unit: Callable[[], float]) -> None:
        self._limits, self._random_unit = limits, random_unit
        self._connects = _bucket(limits.connects_per_5_min_max, CONNECTS_WINDOW_NS)
        self._weight = _bucket(limits.weight_per_min_max, WEIGHT_WINDOW_NS)
        self._away_until_s = 0.0
        self._refusals = 0
        self.counts = {"connects": 0, "weight": 0, "stayed_away": 0, "throttled": 0}

    async def connect(self) -> None:
        """Wait until a connection may be tried, and spend one."""
        await self._stay_away()
        while True:
            self._connects, wait_ns = take(self._connects, 1, _now_ns())
            if wait_ns == 0:
                break
            await self._sleep(wait_ns)
            await self._stay_away()
        self.counts["connects"] += 1

    async def request(self, weight: int) -> None:
        """Wait until a request of this weight may be made, and spend it."""
        await self._stay_away()
        weight = min(weight, self._weight.capacity)
        while True:
            self._weight, wait_ns = take(self._weight, weight, _now_ns())
            if wait_ns == 0:
                break
            await self._sleep(wait_ns)
            await self._stay_away()
        self.counts["weight"] += weight

    def answered(self, used_weight: str | None = None) -> None:
        """A request or an upgrade went well; `used_weight`: what the venue counts as used in this minute."""
        self._refusals = 0
        if used_weight is not None and used_weight.isascii() and used_weight.isdigit():
            left = max(0, self._limits.weight_per_min_max - int(used_weight[:9]))
            self._weight = lowered(self._weight, min(left, self._weight.capacity), _now_ns())

    def refused(self, status: int, header: str | None) -> float:
        """The venue refused with this status and Retry-After; return how long everything stays away, 0 for not."""
        if status not in OBEYED:
            return 0.0
        own_s = min(AWAY_S_MAX, AWAY_S_MIN * 2.0 ** min(self._refusals, 20))
        self._refusals += 1
        # Not all processes at the same moment, and none before the time.
        away_s = max(retry_after_s(status, header), own_s) * (1.0 + 0.1 * self._random_unit())
        self._away_until_s = max(self._away_until_s, asyncio.get_running_loop().time() + away_s)
        self.counts["stayed_away"] += 1
        return away_s

    @property
    def away_s(self) -> float:
        """How long everything still stays away."""
        return max(0.0, self._away_until_s - asyncio.get_running_loop().time())

    async def _stay_away(self) -> None:
        while (left_s := self.away_s) > 0:
            await asyncio.sleep(left_s)

    async def _sleep(self, wait_ns: int) -> None:
        self.counts["throttled"] += 1
        await asyncio.sleep(wait_ns / 1e9)


def _bucket(limit: int, window_ns: int) -> TokenBucket:
    """Return a bucket of which no window of `window_ns` sees more than `limit`: half at once, the rest evenly."""
    burst = max(1, limit // 2)
    return full(burst, max(1, limit - burst), window_ns, _now_ns())


def _now_ns() -> int:
    return int(asyncio.get_running_loop().time() * 1e9)
