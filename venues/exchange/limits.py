"""The request weight of the real exchange: used up by the minute, 429 when spent, 418 for who does not stop."""

from __future__ import annotations

from typing import Final, NamedTuple

# The documentation's two minutes to three days, each ban twice the one before.
_BAN_S: Final = 120
_BAN_S_MAX: Final = 3 * 86_400
# How many requests may ignore a 429 or a ban within a minute before they are banned, and for longer each time.
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
        self._bans = 0
        self.used = 0

    def spend(self, weight: int, now_s: float) -> Refusal | None:
        """Charge a request; return the refusal it gets, if any. A refused request is not charged."""
        minute = int(now_s // 60)
        if minute != self._minute:
            self._minute, self.used, self._ignored = minute, 0, 0
        if now_s < self._banned_until_s:
            self._ignored += 1
            if self._ignored > _IGNORED_MAX:
                self._ban(now_s)
            return Refusal(418, int(self._banned_until_s - now_s) + 1)
        if self.used + weight > self._weight_max:
            self._ignored += 1
            if self._ignored > _IGNORED_MAX:
                return Refusal(418, self._ban(now_s))
            return Refusal(429, int((minute + 1) * 60 - now_s) + 1)
        self.used += weight
        return None

    def _ban(self, now_s: float) -> int:
        seconds = min(_BAN_S << min(self._bans, 16), _BAN_S_MAX)
        self._bans += 1
        self._ignored = 0
        self._banned_until_s = now_s + seconds
        return seconds
