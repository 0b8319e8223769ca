"""One client's connection: what it is subscribed to, what is on its way to it, and where every frame of it went."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Final

import msgspec

# Held back for one connection by a fault, all kinds of bytes together.
HELD_BYTES_MAX: Final = 64 * 1024 * 1024
# Streams that a connection left again and whose frames are still told apart; those of more are counted together.
_LEFT_STREAMS_MAX: Final = 1_024
OTHER_STREAMS: Final = "other streams"
USER_STREAM: Final = "user stream"


class FrameAccount(msgspec.Struct, frozen=True):
    """Where the frames of one connection went: `due` is `sent` and all of `lost`; `by_stream` adds up to `due`.

    `sent` were handed to the socket; where the connection did not end in order, `unread_bytes` of them, and what was
    still on its way, may never have been read. `lost` by cause: `half_open`; `silence` (of the connection); `held` (a
    backlog not yet let go, or that the end overtook); `ended` (about to be sent when the connection was cut off).
    `ended`: why it is over; empty while it lives.
    """

    number: int
    ended: str
    due: int
    sent: int
    lost: dict[str, int]
    unread_bytes: int
    by_stream: dict[str, int]


class Connection:
    """Its unread bytes are bounded: past the bound it is cut off, never waited for."""

    def __init__(
        self, number: int, transport: asyncio.Transport, is_combined: bool, now_s: float, ping_due_s: float
    ) -> None:
        self.number = number
        self.transport = transport
        self.is_combined = is_combined
        # Streams subscribed to, in that order, and how many frames of each were due to this client.
        self.streams: dict[str, int] = {}
        self.opened_s = now_s
        self.ping_due_s = ping_due_s
        self.unanswered_ping_s: float | None = None
        self.is_mute = False
        self.silent_until_s = 0.0
        self.frames_sent = 0
        self.pending: list[bytes] = []
        self.inbound_s: deque[float] = deque(maxlen=64)
        self._left: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._held: list[bytes] | None = None
        self._held_bytes = self._held_frames = 0

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket, unless the connection plays dead, holds all back for a while, or is gone."""
        if self._held is not None:
            self._held.append(data)
            self._held_bytes += len(data)
        elif not self.is_mute and not self.transport.is_closing():
            self.transport.write(data)

    def send_pending(self, now_s: float) -> int:
        """Send the frames that wait, or lose them to the fault in force; return how many were sent."""
        count, data = len(self.pending), b"".join(self.pending)
        self.pending.clear()
        if self.is_mute:
            self._lost["half_open"] += count
            return 0
        if now_s < self.silent_until_s:
            self._lost["silence"] += count
            return 0
        self.write(data)
        if self._held is not None:
            self._held_frames += count
            return 0
        self.frames_sent += count
        return count

    def hold(self) -> None:
        """Hold everything back from now on, pongs and replies too."""
        if self._held is None:
            self._held = []

    def let_go(self) -> int:
        """Send all that was held back, in order; return how many frames it was."""
        held, self._held = self._held, None
        count, self._held_frames, self._held_bytes = self._held_frames, 0, 0
        if held:
            self.write(b"".join(held))
        if self.is_mute:
            self._lost["half_open"] += count
            return 0
        self.frames_sent += count
        return count

    def leave(self, stream: str) -> None:
        """Forget a subscription, and keep count of its frames."""
        frames, name = self.streams.pop(stream, 0), _told_as(stream)
        if frames:
            room = name in self._left or len(self._left) < _LEFT_STREAMS_MAX
            self._left[name if room else OTHER_STREAMS] += frames

    def lose_pending(self) -> None:
        """Give up the frames that wait: the connection is over."""
        self._lost["ended"] += len(self.pending)
        self.pending.clear()

    @property
    def unread_bytes(self) -> int:
        """What the socket has not yet taken."""
        return self.transport.get_write_buffer_size()

    @property
    def has_too_much_held(self) -> bool:
        """Whether a backlog has grown past its bound."""
        return self._held_bytes > HELD_BYTES_MAX

    def account(self, ended: str = "") -> FrameAccount:
        """Return where its frames went so far. The names of user streams, which are secrets, are not told."""
        by_stream = Counter(self._left)
        for stream, frames in self.streams.items():
            if frames:
                by_stream[_told_as(stream)] += frames
        lost = {cause: frames for cause, frames in {**self._lost, "held": self._held_frames}.items() if frames}
        return FrameAccount(
            number=self.number,
            ended=ended,
            due=sum(by_stream.values()),
            sent=self.frames_sent,
            lost=lost,
            unread_bytes=self.unread_bytes,
            by_stream=dict(by_stream),
        )


def _told_as(stream: str) -> str:
    return stream if "@" in stream else USER_STREAM
