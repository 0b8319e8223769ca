"""One WebSocket of a feed's slot: what comes over it, its pulse, and the streams that its address could not hold."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from actors.adapters.feed_pulse import Pulse
from actors.ports import Clock
from kernels.frame_fold import FRAMES_MAX
from kernels.token_bucket import full, take

FRAME_BYTES_MAX: Final = 64 * 1024
CONTROL_BYTES_MAX: Final = 125
"""A longer frame is no control frame (RFC 6455, section 5.5), which tells text apart at a fraction of the cost."""

SUBSCRIBE_STREAMS_MAX: Final = 50
"""Streams in one SUBSCRIBE message."""

SUBSCRIBES_PER_S_MAX: Final = 1
"""Of the 5 messages a second that the venue takes on a connection our pings and pongs need up to 4."""

_REPLIES: Final = (b'{"result"', b'{"error"', b'{"code"', b'{"id"')

OnFrame = Callable[[WSTransport, WSFrame], None]
Guard = Callable[[OnFrame], OnFrame]


class LinkOwner(Protocol):
    """What a link tells, on the loop."""

    def opened(self, link: Link) -> None:
        """The upgrade is done."""

    def ended(self, link: Link) -> None:
        """It is over, however it ended."""

    def fold(self, link: Link, frames: list[bytes], received_ns: int) -> None:
        """The frames of one read, in their order, or a message that came in parts."""

    def note(self, link: Link, reason: str) -> None:
        """Why it is about to end."""


class Link(WSListener):
    """See the module. `streams` are asked for in the address, `more` by messages once it is open.

    The frames of a read are kept until it ends, or are FRAMES_MAX, and told in one call; anything else is taken behind
    them.
    """

    def __init__(
        self, owner: LinkOwner, streams: Sequence[str], more: Sequence[str], stale_ns: int, clock: Clock, guard: Guard
    ) -> None:
        self.transport: WSTransport | None = None
        self.pulse: Pulse
        self.streams = tuple(streams)
        self._owner, self._stale_ns, self._clock = owner, stale_ns, clock
        self._more = [more[at : at + SUBSCRIBE_STREAMS_MAX] for at in range(0, len(more), SUBSCRIBE_STREAMS_MAX)]
        self._unanswered = len(self._more)
        self._messages = full(1, SUBSCRIBES_PER_S_MAX, 1_000_000_000, 0)
        self._number = 0
        self._partial = b""
        self._read: list[bytes] = []
        self._received_ns = 0
        self._now_ns = clock.now_ns
        self._fold_read, self._take = guard(self._folded), guard(self._taken)

    # ---- as picows calls it

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The upgrade is done; frames may follow in the same read."""
        self.transport = transport
        self.pulse = Pulse(self._clock.now_ns(), self._stale_ns)
        self._owner.opened(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One frame. This is what Python costs a frame: nothing stands here that could stand in the fold."""
        if frame.payload_size > CONTROL_BYTES_MAX and frame.fin and not self._partial:
            read = self._read
            if not read:
                self._received_ns = self._now_ns()
            read.append(frame.get_payload_as_bytes())
            if frame.last_in_buffer or len(read) >= FRAMES_MAX:
                self._fold_read(transport, frame)
        else:
            self._take(transport, frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """However it ended."""
        self._owner.ended(self)

    # ---- as its connection does

    @property
    def is_subscribed(self) -> bool:
        """Whether the venue has taken every stream."""
        return self._unanswered == 0

    def ask(self, now_ns: int) -> None:
        """Send the ping that is due, and the next streams to subscribe to, within what a connection may say."""
        assert self.transport is not None
        payload = self.pulse.ping(now_ns)
        if payload:
            self.transport.send_ping(payload)
        if self._number < len(self._more):
            self._messages, wait_ns = take(self._messages, 1, now_ns)
            if wait_ns == 0:
                request = {"method": "SUBSCRIBE", "params": self._more[self._number], "id": self._number + 1}
                self.transport.send(WSMsgType.TEXT, msgspec.json.encode(request))
                self._number += 1

    def cut(self) -> None:
        """End it at once."""
        if self.transport is not None:
            self.transport.disconnect(graceful=False)

    # ---- inside

    def _folded(self, transport: WSTransport, frame: WSFrame) -> None:
        read, self._read = self._read, []
        self._tell(read, self._received_ns)

    def _taken(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._read:
            self._folded(transport, frame)
        match frame.msg_type:
            case WSMsgType.TEXT | WSMsgType.BINARY | WSMsgType.CONTINUATION:
                self._part(frame)
            case WSMsgType.PONG:
                self.pulse.pong(frame.get_payload_as_bytes(), self._clock.now_ns())
            case WSMsgType.PING:
                transport.send_pong(frame.get_payload_as_bytes())
            case WSMsgType.CLOSE:
                self._owner.note(self, f"closed by the venue: {int(frame.get_close_code().value)}")
                transport.disconnect()

    def _part(self, frame: WSFrame) -> None:
        self._partial += frame.get_payload_as_bytes()
        # Past the bound it is folded as it is: it is no frame, and says so for every row of the connection.
        if frame.fin or len(self._partial) > FRAME_BYTES_MAX:
            payload, self._partial = self._partial, b""
            self._tell([payload], self._clock.now_ns())

    def _tell(self, frames: list[bytes], received_ns: int) -> None:
        self._owner.fold(self, frames, received_ns)
        if self._unanswered:
            for payload in frames:
                if payload.startswith(_REPLIES):
                    self._replied(payload)

    def _replied(self, payload: bytes) -> None:
        try:
            reply = msgspec.json.decode(payload)
        except msgspec.DecodeError:
            return
        if isinstance(reply, dict) and reply.get("result", 0) is None:
            self._unanswered -= 1
            return
        told = payload[:200].decode("utf-8", "replace")
        self._owner.note(self, f"the venue refused streams: {told}. Remedy: lower exchange.symbols_per_connection_max")
        self.cut()


def stream_url(ws_url: str, streams: Sequence[str]) -> str:
    """Return the address of the combined stream of these; outside ASCII, percent-encoded UTF-8."""
    names = "/".join(urllib.parse.quote(stream, safe="@") for stream in streams)
    return f"{ws_url.rstrip('/')}/stream?streams={names}"
