"""The spot exchange's REST, as far as market data need it: in the process's budget, bounded, no retry of its own."""

from __future__ import annotations

from types import TracebackType
from typing import Final

import aiohttp

from actors.adapters.venue_budget import VenueBudget

TIMEOUT_S: Final = 5.0
LISTING_WEIGHT: Final = 20
TICKERS_WEIGHT: Final = 4
"""Of exchangeInfo, and of the tops of all symbols. Source: the venue's documentation, 2025."""

REPLY_BYTES_MAX: Final = 64 * 1024 * 1024


class VenueAway(RuntimeError):
    """No good answer. `stay_away_s`: how long the venue said to wait, 0 where it did not."""

    def __init__(self, text: str, stay_away_s: float = 0.0) -> None:
        super().__init__(text)
        self.stay_away_s = stay_away_s


class VenueRest:
    """One session, for one loop."""

    def __init__(self, base_url: str, budget: VenueBudget) -> None:
        self._base_url = base_url.rstrip("/")
        self._budget = budget
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: str, weight: int = 1) -> bytes:
        """Return a reply's body. Raises VenueAway for anything but HTTP 200 within 5 s of its turn.

        Its turn comes when the budget has `weight`, and when the venue no longer wants to be left alone.
        """
        await self._budget.request(weight)
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        try:
            async with self._session.get(self._base_url + path) as reply:
                if reply.status != 200:
                    told_s = self._budget.refused(reply.status, reply.headers.get("Retry-After"))
                    raise VenueAway(f"GET {path}: HTTP {reply.status}", told_s)
                self._budget.answered(reply.headers.get("X-MBX-USED-WEIGHT-1M"))
                body = bytearray()
                async for part in reply.content.iter_any():
                    body += part
                    if len(body) > REPLY_BYTES_MAX:
                        raise VenueAway(f"GET {path}: more than {REPLY_BYTES_MAX} bytes")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise VenueAway(f"GET {path}: {type(error).__name__} {error}") from error
        return bytes(body)

    async def close(self) -> None:
        """End the session."""
        if self._session is not None:
            await self._session.close()

    async def __aenter__(self) -> VenueRest:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def depth_weight(limit: int) -> int:
    """Return the request weight of a depth snapshot of so many levels. Source: the venue's documentation, 2025."""
    return next(weight for most, weight in ((100, 5), (500, 25), (1_000, 50), (5_000, 250)) if limit <= most)
