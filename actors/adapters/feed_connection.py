"""One connection of a feed: a combined bookTicker stream over WebSocket into the rows of one slot of the image.

Owns: its slot's header, ring and rows, through one `FeedWriter` a connection made. An epoch of the slot is a
connection: it begins when the stream is open and ends with it, so that a row counts again only by a later frame. The
venue's REST snapshot is never a row: it has no update id, so nobody can say whether it is older than a frame.

Full: nothing waits here longer than a read of the socket takes. Its frames are kept until it ends, or are FRAMES_MAX,
and folded in one call; they carry the time at which the first of them was handed over. What cannot be read in time
waits in the socket, which shows as lag, then as a header that does not beat, and ends with the venue cutting us off.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec
from picows import WSError, WSFrame, WSHandshakeError, WSListener, WSMsgType, WSTransport, ws_connect

from actors.adapters.backoff import Backoff
from actors.adapters.capture_file import CaptureFile
from actors.adapters.feed_pulse import Beat, Pulse
from actors.adapters.retry_after import retry_after_s
from actors.ports import Clock
from kernels.book_image import EPOCH_MAX, BookImage, FeedWriter
from kernels.fold import FeedFold
from kernels.frame_fold import FRAMES_MAX
from kernels.frames import SymbolTable

FRAME_BYTES_MAX: Final = 64 * 1024
CONTROL_BYTES_MAX: Final = 125
"""A longer frame is no control frame (RFC 6455, section 5.5), which tells text apart at a fraction of the cost."""
HANDSHAKE_S_MAX: Final = 5.0
RECONNECT_S_MIN: Final = 0.1
RECONNECT_S_MAX: Final = 5.0
STABLE_S: Final = 5.0
"""A connection that lasted this long was a good one: only then does the next wait begin short again."""

CONNECTIONS_BITS: Final = 20
"""An epoch of a slot is the role's epoch and, in the low bits, the number of the connection within it."""


OnFrame = Callable[[WSTransport, WSFrame], None]
Guard = Callable[[OnFrame], OnFrame]


class SlotTotals(msgspec.Struct):
    """A connection's totals since this incarnation began. Frames = parsed + the sum of rejected."""

    frames: int = 0
    parsed: int = 0
    quantity_capped: int = 0
    connections: int = 0
    beats_withheld: int = 0
    gaps: int = 0
    held_down: int = 0
    rejected: Counter[str] = msgspec.field(default_factory=Counter)
    capped_rows: Counter[int] = msgspec.field(default_factory=Counter)
    refused: Counter[str] = msgspec.field(default_factory=Counter)


class FeedConnection:
    """Call `run` as a task and `tick` at least every 50 ms, both on one loop."""

    def __init__(
        self,
        slot: int,
        image: BookImage,
        table: SymbolTable,
        role_epoch: int,
        url: str,
        stale_ns: int,
        clock: Clock,
        random_unit: Callable[[], float],
        on_rows: Callable[[], None],
        guard: Guard,
        capture: CaptureFile | None = None,
    ) -> None:
        """`on_rows` is called when rows changed, once a read; `guard` ends the process for an exception in it."""
        self.reason = "not connected yet"
        self.totals = SlotTotals()
        self._slot, self._image, self._table = slot, image, table
        self._role_epoch, self._url, self._stale_ns = role_epoch, url, stale_ns
        self._clock, self._on_rows, self._capture = clock, on_rows, capture
        self._backoff = Backoff(RECONNECT_S_MIN, RECONNECT_S_MAX, random_unit)
        self._guard = guard
        self._number = 0
        self._transport: WSTransport | None = None
        self._writer: FeedWriter | None = None
        self._fold: FeedFold | None = None
        self._pulse: Pulse | None = None
        self.partial = b""
        """The message in several frames that is under way."""
        self._beat_ns = 0

    # ---- connecting

    async def run(self) -> None:
        """Connect, and again, until cancelled. Raises Fenced if a later incarnation has the slot."""
        loop = asyncio.get_running_loop()
        while True:
            told_s, began_s = 0.0, loop.time()
            try:
                transport, _ = await ws_connect(
                    self._listener,
                    self._url,
                    websocket_handshake_timeout=HANDSHAKE_S_MAX,
                    enable_auto_pong=False,
                    max_frame_size=FRAME_BYTES_MAX,
                    max_redirects=0,
                )
                await transport.wait_disconnected()
            except WSHandshakeError as error:
                told_s = self._refused(error)
            except (OSError, TimeoutError, WSError) as error:
                self.reason = f"{type(error).__name__}: {error}"[:200]
            self._ended()
            if loop.time() - began_s >= STABLE_S:
                self._backoff.reset()
            await asyncio.sleep(max(self._backoff.next_s(), told_s))

    def opened(self, transport: WSTransport) -> None:
        """The stream is open: the slot's next epoch begins."""
        self._transport = transport
        self.totals.connections += 1
        self.reason = ""
        self._begin_epoch()
        self._pulse = Pulse(self._clock.now_ns(), self._stale_ns)
        self._beat(self._clock.now_ns())

    def ended(self, transport: WSTransport) -> None:
        """The stream is over: no row of it counts from here on."""
        if transport is self._transport:
            self.reason = self.reason or "connection lost"
            self._ended()

    def close(self) -> None:
        """End the epoch and the connection."""
        transport = self._transport
        self._ended()
        if transport is not None:
            transport.disconnect(graceful=False)

    # ---- life

    @property
    def is_live(self) -> bool:
        """Whether readers may take its rows now."""
        return self._writer is not None and self._clock.now_ns() - self._beat_ns <= self._stale_ns

    def tick(self, now_ns: int) -> None:
        """Beat, or do not; ask the venue; give up a connection that has not answered for long."""
        transport, pulse, writer = self._transport, self._pulse, self._writer
        if transport is None or pulse is None or writer is None:
            return
        if self._image.read_header(self._slot).held_down_epoch >= writer.epoch:
            self.totals.held_down += 1
            self._retire()
            self._begin_epoch()
        gaps = pulse.gaps
        beat = pulse.tick(now_ns)
        self.totals.gaps += pulse.gaps - gaps
        if beat is Beat.DEAD:
            self.reason = "no answer to a ping: half-open"
            transport.disconnect(graceful=False)
            self._ended()
            return
        if beat is Beat.LIVE:
            self.reason = ""
            self._beat(now_ns)
        else:
            self.totals.beats_withheld += 1
            self.reason = "a ping is unanswered"
        payload = pulse.ping(now_ns)
        if payload:
            transport.send_ping(payload)

    def lag_ns(self) -> int:
        """Return the last ping's time there and back."""
        return self._pulse.lag_ns if self._pulse is not None else 0

    def sum_totals(self) -> SlotTotals:
        """Return the totals, the fold in progress included."""
        totals = msgspec.structs.replace(
            self.totals, rejected=Counter(self.totals.rejected), capped_rows=Counter(self.totals.capped_rows)
        )
        _add(totals, self._fold)
        return totals

    # ---- inside

    def _listener(self) -> WSListener:
        return _Listener(self, self._guard)

    def _begin_epoch(self) -> None:
        self._number += 1
        epoch = (self._role_epoch << CONNECTIONS_BITS) + self._number
        assert self._number < 1 << CONNECTIONS_BITS, "more connections than an incarnation may have"
        assert epoch <= EPOCH_MAX, "more incarnations than a slot's epochs can number"
        self._writer = FeedWriter(self._image, self._slot, epoch)
        self._fold = FeedFold(self._writer, self._table)
        self.partial = b""

    def _ended(self) -> None:
        if self._writer is not None:
            self._writer.down()
        self._retire()
        self._transport = self._writer = self._pulse = None

    def _retire(self) -> None:
        _add(self.totals, self._fold)
        self._fold = None

    def _refused(self, error: WSHandshakeError) -> float:
        """Return how long the venue said to stay away."""
        response = error.response
        status = int(response.status) if response is not None else 0
        self.reason = f"HTTP {status} at the upgrade" if status else f"handshake: {error}"[:200]
        self.totals.refused[f"http_{status}" if status else "handshake"] += 1
        return retry_after_s(status, response.headers.get("Retry-After") if response is not None else None)

    def _beat(self, now_ns: int) -> None:
        assert self._writer is not None
        assert self._fold is not None
        self._writer.beat(now_ns, self.lag_ns(), self._fold.counters())
        self._beat_ns = now_ns

    # ---- frames

    def now_ns(self) -> int:
        """The clock."""
        return self._clock.now_ns()

    def fold(self, transport: WSTransport, frames: list[bytes], received_ns: int) -> None:
        """Fold the frames of one read, in their order; wake whoever waits for rows if one changed."""
        if transport is not self._transport:
            return
        assert self._fold is not None
        if self._capture is not None:
            for payload in frames:
                self._capture.write(received_ns, payload)
        if self._fold.apply_frames(frames, received_ns):
            self._on_rows()

    def take(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a frame that may be control, or a part of a message."""
        if transport is not self._transport:
            return
        match frame.msg_type:
            case WSMsgType.TEXT | WSMsgType.BINARY | WSMsgType.CONTINUATION:
                self._part(transport, frame)
            case WSMsgType.PONG:
                if self._pulse is not None:
                    self._pulse.pong(frame.get_payload_as_bytes(), self._clock.now_ns())
            case WSMsgType.PING:
                transport.send_pong(frame.get_payload_as_bytes())
            case WSMsgType.CLOSE:
                self.reason = f"closed by the venue: {int(frame.get_close_code().value)}"
                transport.disconnect()

    def _part(self, transport: WSTransport, frame: WSFrame) -> None:
        self.partial += frame.get_payload_as_bytes()
        # Past the bound it is folded as it is: it is no frame, and says so for every row of the connection.
        if frame.fin or len(self.partial) > FRAME_BYTES_MAX:
            payload, self.partial = self.partial, b""
            self.fold(transport, [payload], self._clock.now_ns())


class _Listener(WSListener):
    """One transport's. The frames of a read wait in `_read`; anything else is taken behind them."""

    def __init__(self, connection: FeedConnection, guard: Guard) -> None:
        self._connection = connection
        self._read: list[bytes] = []
        self._received_ns = 0
        self._fold_read, self._take = guard(self._folded), guard(self._taken)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The upgrade is done; frames may follow in the same read."""
        self._connection.opened(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One frame. This is what Python costs a frame: nothing stands here that could stand in the fold."""
        if frame.payload_size > CONTROL_BYTES_MAX and frame.fin and not self._connection.partial:
            read = self._read
            if not read:
                self._received_ns = self._connection.now_ns()
            read.append(frame.get_payload_as_bytes())
            if frame.last_in_buffer or len(read) >= FRAMES_MAX:
                self._fold_read(transport, frame)
        else:
            self._take(transport, frame)

    def _folded(self, transport: WSTransport, frame: WSFrame) -> None:
        read, self._read = self._read, []
        self._connection.fold(transport, read, self._received_ns)

    def _taken(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._read:
            self._folded(transport, frame)
        self._connection.take(transport, frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """However it ended."""
        self._connection.ended(transport)


def stream_url(ws_url: str, names: list[str]) -> str:
    """Return the address of the combined stream of these symbols; outside ASCII, percent-encoded UTF-8."""
    streams = "/".join(urllib.parse.quote(name.lower(), safe="") + "@bookTicker" for name in names)
    return f"{ws_url.rstrip('/')}/stream?streams={streams}"


def _add(totals: SlotTotals, fold: FeedFold | None) -> None:
    if fold is None:
        return
    totals.frames += fold.frames
    totals.parsed += fold.parsed
    totals.quantity_capped += fold.quantity_capped
    totals.capped_rows.update(fold.capped_rows)
    totals.rejected.update({reason.value: count for reason, count in fold.rejected.items()})
