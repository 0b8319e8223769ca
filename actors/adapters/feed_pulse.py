"""When a connection's header may say that it lives, and when to ask the venue whether it still does.

A ping travels behind every frame that the venue wrote before it answered, and ours is read after every frame that
waits for us: an answered ping proves both that the connection is open and that nothing older is still on its way. So a
beat is withheld while a ping has been unanswered for `PONG_NS_MAX` (half-open, a venue that hangs, or a backlog), and
from any gap in our own ticks (we were stopped, or the loop hung: what is in the rows may be old, and what is newer
still unread) until a ping sent after the gap is answered.

Pure: the clock's readings come in. The venue closes a connection that says more than 5 messages in a second, pongs to
its own pings among them: a ping every `PING_GAP_NS_MIN` at most leaves room for those.
"""

from __future__ import annotations

import enum
from typing import Final

PING_EVERY_NS: Final = 400_000_000
PING_GAP_NS_MIN: Final = 300_000_000
PONG_NS_MAX: Final = 500_000_000
DEAD_NS_MAX: Final = 5_000_000_000


class Beat(enum.Enum):
    """What a tick comes to."""

    LIVE = enum.auto()
    WITHHELD = enum.auto()
    DEAD = enum.auto()


class Pulse:
    """One connection's. Begins trusted: what comes first over a new connection is fresh."""

    __slots__ = ("_answered", "_asked", "_asked_ns", "_needed", "_stale_ns", "_ticked_ns", "gaps", "lag_ns")

    def __init__(self, now_ns: int, stale_ns: int) -> None:
        """`stale_ns`: a gap between ticks longer than this is one in which readers had given us up."""
        self._stale_ns = stale_ns
        self._ticked_ns = now_ns
        self._asked = 0
        self._answered = 0
        self._needed = 0
        self._asked_ns = now_ns
        self.gaps = 0
        self.lag_ns = 0

    @property
    def asked(self) -> int:
        """How many pings were sent."""
        return self._asked

    @property
    def answered(self) -> int:
        """The number of the latest ping that was answered, 0 for none."""
        return self._answered

    def tick(self, now_ns: int) -> Beat:
        """Judge the connection now."""
        if now_ns - self._ticked_ns > self._stale_ns:
            self.gaps += 1
            self._needed = self._asked + 1
        self._ticked_ns = now_ns
        waiting_ns = now_ns - self._asked_ns if self._answered < self._asked else 0
        if waiting_ns > DEAD_NS_MAX:
            return Beat.DEAD
        return Beat.WITHHELD if waiting_ns > PONG_NS_MAX or self._answered < self._needed else Beat.LIVE

    def ping(self, now_ns: int) -> bytes:
        """Return the payload of the ping to send now; empty for none."""
        since_ns = now_ns - self._asked_ns
        unasked = self._asked < self._needed
        due = since_ns >= PING_EVERY_NS and self._answered == self._asked
        if not (due or (unasked and since_ns >= PING_GAP_NS_MIN)):
            return b""
        self._asked += 1
        self._asked_ns = now_ns
        return str(self._asked).encode()

    def pong(self, payload: bytes, now_ns: int) -> None:
        """Take an answer; one that answers none of ours says nothing."""
        number = int(payload) if payload.isdigit() and len(payload) < 16 else 0
        if not self._answered < number <= self._asked:
            return
        self._answered = number
        if number == self._asked:
            self.lag_ns = now_ns - self._asked_ns
