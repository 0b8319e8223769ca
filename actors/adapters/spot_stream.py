"""One connection of the user stream: opened, proven alive by pings, and over for good once it is lost.

An answered ping proves that everything the venue wrote before it has been read. A half-open connection is found
within `DEAD_NS_MAX` of the first unanswered ping. What cannot be read ends the connection: only a reading of the
account can settle what it would have said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from picows import WSError, WSFrame, WSHandshakeError, WSListener, WSMsgType, WSTransport, ws_connect

from actors.adapters.feed_pulse import PING_EVERY_NS, Beat, Pulse
from actors.adapters.retry_after import retry_after_s
from actors.adapters.spot_rest import Away
from actors.ports import Clock

FRAME_BYTES_MAX: Final = 1024 * 1024
HANDSHAKE_S_MAX: Final = 5.0
TICK_S: Final = 0.25
_TICK_GAP_NS_MAX: Final = 2_000_000_000


class UserStream:
    """Make one by `connect`; call `tick` every quarter of a second; wait for `lost`."""

    def __init__(self, clock: Clock, on_event: Callable[[bytes], None]) -> None:
        """`on_event` takes each event, and must not raise."""
        self._clock, self._on_event = clock, on_event
        self._transport: WSTransport | None = None
        self._pulse = Pulse(clock.now_ns(), _TICK_GAP_NS_MAX)
        self._partial = b""
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[str] = loop.create_future()
        self.heard: asyncio.Future[None] = loop.create_future()
        """Done once a ping was answered."""

    async def connect(self, url: str, guard: Callable[[_OnFrame], _OnFrame]) -> None:
        """Connect and wait for the first answered ping. Raises Away. `guard` ends the process for an exception."""
        on_frame = guard(self._frame)
        try:
            transport, _ = await ws_connect(
                lambda: _Listener(self, on_frame),
                url,
                websocket_handshake_timeout=HANDSHAKE_S_MAX,
                enable_auto_pong=False,
                max_frame_size=FRAME_BYTES_MAX,
                max_redirects=0,
            )
        except WSHandshakeError as error:
            response = error.response
            status = int(response.status) if response is not None else 0
            told_s = retry_after_s(status, response.headers.get("Retry-After") if response is not None else None)
            raise Away(f"user stream: HTTP {status} at the upgrade", told_s) from None
        except (OSError, TimeoutError, WSError) as error:
            raise Away(f"user stream: {type(error).__name__}"[:200]) from None
        # Asked at once, and not after the first pause: the session waits for this answer.
        self._pulse = Pulse(self._clock.now_ns() - PING_EVERY_NS, _TICK_GAP_NS_MAX)
        self._transport = transport
        either: set[asyncio.Future[Any]] = {self.heard, self.lost}
        while not (self.heard.done() or self.lost.done()):
            self.tick(self._clock.now_ns())
            await asyncio.wait(either, timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
        if self.lost.done():
            raise Away(f"user stream: {self.lost.result()}")

    def tick(self, now_ns: int) -> None:
        """Ask the venue whether it is there; give up where it has not answered for long."""
        if self._transport is None or self.lost.done():
            return
        if self._pulse.tick(now_ns) is Beat.DEAD:
            self.lose("no answer to a ping: half-open")
        elif payload := self._pulse.ping(now_ns):
            self._transport.send_ping(payload)

    def lose(self, reason: str) -> None:
        """End it."""
        if not self.lost.done():
            self.lost.set_result(reason)
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def ended(self) -> None:
        """The socket is gone."""
        self.lose("connection lost")

    def _frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self.lost.done():
            return
        match frame.msg_type:
            case WSMsgType.TEXT | WSMsgType.BINARY | WSMsgType.CONTINUATION:
                self._partial += frame.get_payload_as_bytes()
                if len(self._partial) > FRAME_BYTES_MAX:
                    self.lose(f"an event of more than {FRAME_BYTES_MAX} bytes")
                elif frame.fin:
                    payload, self._partial = self._partial, b""
                    self._on_event(payload)
            case WSMsgType.PONG:
                self._pulse.pong(frame.get_payload_as_bytes(), self._clock.now_ns())
                if not self.heard.done():
                    self.heard.set_result(None)
            case WSMsgType.PING:
                transport.send_pong(frame.get_payload_as_bytes())
            case WSMsgType.CLOSE:
                self.lose(f"closed by the venue: {int(frame.get_close_code().value)}")


_OnFrame = Callable[[WSTransport, WSFrame], None]


class _Listener(WSListener):
    def __init__(self, stream: UserStream, on_frame: _OnFrame) -> None:
        self._stream = stream
        self._on_frame = on_frame

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One frame."""
        self._on_frame(transport, frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """However it ended."""
        self._stream.ended()
