"""The request weight of the real exchange: used up by the minute, 429 when spent, 418 for who does not stop."""

from __future__ import annotations

from typing import Final, NamedTuple

_BAN_S: Final = 120
# How many requests may ignore a 429 within a minute before they are answered 418.
_IGNORED_MAX: Final = 20


class Refusal(NamedTuple):
    """An HTTP status and the seconds to keep away, told as Retry-After."""

    status: int
    retry_after_s: int


class WeightLimit:
    """One counter for all clients: every one of them comes from the same address, the loopback."""

    def __init__(self, weight_per_minute_max: int) -> None:
        self._weight_max = weight_per_minute_max
        self._minute = -1
        self._ignored = 0
        self._banned_until_s = 0.0
        self.used = 0

    def spend(self, weight: int, now_s: float) -> Refusal | None:
        """Charge a request; return the refusal it gets, if any. A refused request is not charged."""
        minute = int(now_s // 60)
        if minute != self._minute:
            self._minute, self.used, self._ignored = minute, 0, 0
        if now_s < self._banned_until_s:
            return Refusal(418, int(self._banned_until_s - now_s) + 1)
        if self.used + weight > self._weight_max:
            self._ignored += 1
            if self._ignored > _IGNORED_MAX:
                self._banned_until_s = now_s + _BAN_S
                return Refusal(418, _BAN_S)
            return Refusal(429, int((minute + 1) * 60 - now_s) + 1)
        self.used += weight
        return None
