"""How many new orders an account may place: by ten seconds and by day, told with every one of them."""

from __future__ import annotations

from typing import Final

from venues.exchange.api_error import ApiError

_DAY_S: Final = 86_400


class OrderLimit:
    """Two counters that begin anew with their interval, as the exchange's do. What is refused is not counted."""

    def __init__(self, per_10s_max: int, per_day_max: int) -> None:
        self._limits = ((10, per_10s_max, "10 SECOND", "10S"), (_DAY_S, per_day_max, "1 DAY", "1D"))
        self._windows: dict[int, tuple[int, int]] = {}

    def check(self, now_s: float) -> None:
        """Raise ApiError (-1015, HTTP 429) where one order more is too many."""
        for seconds, limit, told, _ in self._limits:
            if self._used(seconds, now_s) >= limit:
                retry_s = int((now_s // seconds + 1) * seconds - now_s) + 1
                text = f"Too many new orders; current limit is {limit} orders per {told}."
                raise ApiError(-1015, text, 429, {"Retry-After": str(retry_s)} | self.headers(now_s))

    def count(self, now_s: float) -> None:
        """Count an order that was taken."""
        for seconds, _, _, _ in self._limits:
            self._windows[seconds] = (int(now_s // seconds), self._used(seconds, now_s) + 1)

    def headers(self, now_s: float) -> dict[str, str]:
        """Return the headers that tell what is used."""
        return {
            f"X-MBX-ORDER-COUNT-{suffix}": str(self._used(seconds, now_s)) for seconds, _, _, suffix in self._limits
        }

    def _used(self, seconds: int, now_s: float) -> int:
        window, used = self._windows.get(seconds, (-1, 0))
        return used if window == int(now_s // seconds) else 0
