"""The spot exchange's REST, as far as the book needs it: bounded waits, refusals by name, never a retry of its own."""

from __future__ import annotations

from types import TracebackType
from typing import Final

import aiohttp

from actors.adapters.retry_after import retry_after_s

TIMEOUT_S: Final = 5.0
REPLY_BYTES_MAX: Final = 64 * 1024 * 1024


class VenueAway(RuntimeError):
    """No good answer. `stay_away_s`: how long the venue said to wait, 0 where it did not."""

    def __init__(self, text: str, stay_away_s: float = 0.0) -> None:
        super().__init__(text)
        self.stay_away_s = stay_away_s


class VenueRest:
    """One session, for one loop."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: str) -> bytes:
        """Return a reply's body. Raises VenueAway for anything but HTTP 200 within 5 s."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        try:
            async with self._session.get(self._base_url + path) as reply:
                if reply.status != 200:
                    told_s = retry_after_s(reply.status, reply.headers.get("Retry-After"))
                    raise VenueAway(f"GET {path}: HTTP {reply.status}", told_s)
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
