"""One connection of a feed: a combined stream over WebSocket into the rows (or ladders) of one slot of the image.

Owns: its slot's header, ring, rows and ladders, through one `FeedWriter` an epoch. An epoch of the slot is unbroken
knowledge: it begins when a stream is open and ends with it, so that a row counts again only by a later frame. The
venue's REST snapshot of tickers is never a row: it has no update id, so nobody can say whether it is older than a
frame.

The venue ends every connection after 24 hours. Before that a second one is opened, make before break: from its first
answered ping on it says whatever changes, and once the first has answered a ping sent after that, nothing older is on
its way. Then the second takes the first's place in the same epoch; frames seen twice meanwhile are stale by id. If the
first ends before, the second goes on in a new epoch.

HTTP 414 (field note 6) is for more streams in one address than the venue takes: the next try names half as many there
and asks for the others by messages. Until the venue has taken all, the slot is not live; where it refuses some, the
connection is given up with an error that names the setting.

Full: nothing waits here longer than a read of the socket takes. Its frames are kept until it ends, or are FRAMES_MAX,
and folded in one call; they carry the time at which the first of them was handed over. What cannot be read in time
waits in the socket, which shows as lag, then as a header that does not beat, and ends with the venue cutting us off.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

import msgspec
from picows import WSError, WSHandshakeError, ws_connect

from actors.adapters.backoff import Backoff
from actors.adapters.capture_file import CaptureFile
from actors.adapters.feed_link import FRAME_BYTES_MAX, Guard, Link, stream_url
from actors.adapters.feed_pulse import Beat
from actors.adapters.venue_budget import VenueBudget
from actors.ports import Clock
from config.limits import SYMBOLS_PER_CONNECTION_MAX
from kernels.book_image import EPOCH_MAX, BookImage, FeedCounters, FeedWriter
from kernels.capture_records import BookState, TickerState
from kernels.depth_fold import DepthFold
from kernels.frames import Reason
from kernels.latency_histogram import new_histogram, record

HANDSHAKE_S_MAX: Final = 5.0
RECONNECT_S_MIN: Final = 0.1
RECONNECT_S_MAX: Final = 5.0
STABLE_S: Final = 5.0
"""A connection that lasted this long was a good one: only then does the next wait begin short again."""

HANDOVER_S_MAX: Final = 60.0
"""A second connection that has not taken over by then is given up, and another is tried."""

ADDRESS_STREAMS_MAX: Final = SYMBOLS_PER_CONNECTION_MAX
"""Named in a connection's address; the others are asked for by messages."""

LIFE_JITTER: Final = 0.1
"""Of its life, by which a connection's is shortened at random: not all of a feed's change at once."""

CONNECTIONS_BITS: Final = 20
"""An epoch of a slot is the role's epoch and, in the low bits, the number of the connection within it."""


class Fold(Protocol):
    """What makes rows of frames, for one epoch: `kernels.fold.FeedFold` or `kernels.depth_fold.DepthFold`."""

    @property
    def frames(self) -> int: ...
    @property
    def parsed(self) -> int: ...
    @property
    def quantity_capped(self) -> int: ...
    @property
    def capped_rows(self) -> Mapping[int, int]: ...
    @property
    def rejected(self) -> Counter[Reason]: ...
    def apply_frames(self, frames: Sequence[bytes], received_ns: int) -> bool: ...
    def states(self) -> Iterator[tuple[int, TickerState | BookState]]: ...
    def counters(self) -> FeedCounters: ...


class SlotTerms(msgspec.Struct, frozen=True, kw_only=True):
    """How a slot is followed. `life_s`: after so long the next connection takes over."""

    slot: int
    role_epoch: int
    ws_url: str
    streams: tuple[str, ...]
    stale_ns: int
    life_s: float


class SlotTotals(msgspec.Struct):
    """A slot's totals since this incarnation began. Frames = parsed + the sum of rejected."""

    frames: int = 0
    parsed: int = 0
    quantity_capped: int = 0
    connections: int = 0
    handovers: int = 0
    beats_withheld: int = 0
    gaps: int = 0
    held_down: int = 0
    rejected: Counter[str] = msgspec.field(default_factory=Counter)
    capped_rows: Counter[int] = msgspec.field(default_factory=Counter)
    refused: Counter[str] = msgspec.field(default_factory=Counter)
    depth: Counter[str] = msgspec.field(default_factory=Counter)
    """What diffs and snapshots came to."""


class FeedConnection:
    """Call `run` as a task and `tick` at least every 50 ms, both on one loop."""

    def __init__(
        self,
        terms: SlotTerms,
        image: BookImage,
        make_fold: Callable[[FeedWriter], Fold],
        budget: VenueBudget,
        clock: Clock,
        random_unit: Callable[[], float],
        on_rows: Callable[[], None],
        guard: Guard,
        capture: CaptureFile | None = None,
    ) -> None:
        """`on_rows` is called when rows changed, once a read; `guard` ends the process for an exception in it."""
        self.reason = "not connected yet"
        self.totals = SlotTotals()
        self.lag = new_histogram()
        """Of each ping's time there and back, over all connections of this incarnation."""
        self._measured: tuple[Link | None, int] = (None, 0)
        self.latency = new_histogram()
        """From the first frame of a read to the rows of all its frames, counted once a frame."""
        self._terms, self._image, self._make_fold, self._budget = terms, image, make_fold, budget
        self._clock, self._random_unit, self._on_rows, self._capture = clock, random_unit, on_rows, capture
        self._guard = guard
        self._backoff = Backoff(RECONNECT_S_MIN, RECONNECT_S_MAX, random_unit)
        self._in_address = min(len(terms.streams), ADDRESS_STREAMS_MAX)
        self._number = 0
        self._current: Link | None = None
        self._next: Link | None = None
        self._asked_before: int | None = None
        self._writer: FeedWriter | None = None
        self.fold_in_use: Fold | None = None
        self._beat_ns = 0
        if capture is not None:
            capture.follow(self._states)

    # ---- connecting

    async def run(self) -> None:
        """Connect, and again, until cancelled. Raises Fenced if a later incarnation has the slot."""
        loop = asyncio.get_running_loop()
        while True:
            await self._budget.connect()
            began_s = loop.time()
            link = await self._open()
            if link is not None:
                await self._follow(link)
            self._ended()
            if loop.time() - began_s >= STABLE_S:
                self._backoff.reset()
            await asyncio.sleep(self._backoff.next_s())

    async def _open(self) -> Link | None:
        """Return a link that is open, None where the venue did not take it."""
        terms = self._terms
        first, more = terms.streams[: self._in_address], terms.streams[self._in_address :]
        link = Link(self, first, more, terms.stale_ns, self._clock, self._guard)
        try:
            await ws_connect(
                lambda: link,
                stream_url(terms.ws_url, first),
                websocket_handshake_timeout=HANDSHAKE_S_MAX,
                enable_auto_pong=False,
                max_frame_size=FRAME_BYTES_MAX,
                max_redirects=0,
            )
        except WSHandshakeError as error:
            self._refused(error)
            return None
        except (OSError, TimeoutError, WSError) as error:
            self.note(link, f"{type(error).__name__}: {error}"[:200])
            return None
        self._budget.answered()
        return link

    async def _follow(self, link: Link) -> None:
        """Stay with a link, and with the one that takes its place, until the last is over."""
        life_s = self._terms.life_s * (1.0 - LIFE_JITTER * self._random_unit())
        while True:
            over = asyncio.ensure_future(_over(link))
            try:
                await asyncio.wait({over}, timeout=life_s)
                if not over.done():
                    successor = await self._second(over)
                    if successor is None:
                        life_s = self._backoff.next_s()
                        continue
                    link, life_s = successor, self._terms.life_s * (1.0 - LIFE_JITTER * self._random_unit())
                elif self._current is not None and self._current is not link:
                    link = self._current
                else:
                    return
            finally:
                over.cancel()

    async def _second(self, first_over: asyncio.Future[None]) -> Link | None:
        """Open a second link and wait until it took the first's place; None where it did not come to that."""
        await self._budget.connect()
        second = await self._open()
        if second is None:
            return None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HANDOVER_S_MAX
        over = asyncio.ensure_future(_over(second))
        try:
            while self._current is not second:
                if over.done() or loop.time() > deadline:
                    self._drop_next(second)
                    return None
                await asyncio.wait({over, first_over}, timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
        return second

    def opened(self, link: Link) -> None:
        """The stream is open: the slot's next epoch begins, or this link is the next of the present one."""
        self.totals.connections += 1
        if self._current is not None:
            self._next, self._asked_before = link, None
            return
        self._begin(link)

    def ended(self, link: Link) -> None:
        """The stream is over: no row of it counts from here on."""
        if link is self._next:
            self._next = None
        elif link is self._current:
            self.reason = self.reason or "connection lost"
            successor, self._next = self._next, None
            self._ended()
            if successor is not None:
                self._begin(successor)

    def note(self, link: Link, reason: str) -> None:
        """Say why the slot is about to be down; of a second link nobody needs to know."""
        if self._current is None or link is self._current:
            self.reason = reason

    def close(self) -> None:
        """End the epoch and the connections."""
        links = [link for link in (self._current, self._next) if link is not None]
        self._next = None
        self._ended()
        for link in links:
            link.cut()

    # ---- life

    @property
    def is_live(self) -> bool:
        """Whether readers may take its rows now."""
        return self._writer is not None and self._clock.now_ns() - self._beat_ns <= self._terms.stale_ns

    def tick(self, now_ns: int) -> None:
        """Beat, or do not; ask the venue; give up a connection that has not answered for long."""
        self._tick_next(now_ns)
        link, writer = self._current, self._writer
        if link is None or writer is None:
            return
        if self._image.read_header(self._terms.slot).held_down_epoch >= writer.epoch:
            self.totals.held_down += 1
            self._retire()
            self._begin_epoch()
        pulse = link.pulse
        gaps = pulse.gaps
        beat = pulse.tick(now_ns)
        self.totals.gaps += pulse.gaps - gaps
        if pulse.answered == pulse.asked and self._measured != (link, pulse.answered):
            self._measured = link, pulse.answered
            if pulse.answered:
                record(self.lag, pulse.lag_ns)
        if beat is Beat.DEAD:
            self.reason = "no answer to a ping: half-open"
            link.cut()
            self.ended(link)
            return
        if not link.is_subscribed:
            self.reason = "streams are still being asked for"
        elif beat is Beat.LIVE:
            self.reason = ""
            self._beat(now_ns)
        else:
            self.totals.beats_withheld += 1
            self.reason = "a ping is unanswered"
        link.ask(now_ns)

    def lag_ns(self) -> int:
        """Return the last ping's time there and back."""
        return self._current.pulse.lag_ns if self._current is not None else 0

    def sum_totals(self) -> SlotTotals:
        """Return the totals, the fold in progress included."""
        totals = msgspec.structs.replace(
            self.totals,
            rejected=Counter(self.totals.rejected),
            capped_rows=Counter(self.totals.capped_rows),
            refused=Counter(self.totals.refused),
            depth=Counter(self.totals.depth),
        )
        _add(totals, self.fold_in_use)
        return totals

    # ---- frames

    def fold(self, link: Link, frames: list[bytes], received_ns: int) -> None:
        """Fold the frames of one read of either link, in their order; wake whoever waits for rows if one changed."""
        fold = self.fold_in_use
        if fold is None or (link is not self._current and link is not self._next):
            return
        changed = self._captured(fold, frames, received_ns) if self._capture else fold.apply_frames(frames, received_ns)
        record(self.latency, self._clock.now_ns() - received_ns, len(frames))
        if changed:
            self._on_rows()

    def capture(self, kind: int, received_ns: int, payload: bytes) -> None:
        """Capture what is about to take effect on the fold in use, and is no frame."""
        if self._capture is not None:
            self._capture.note(kind, received_ns, payload)

    # ---- inside

    def _captured(self, fold: Fold, frames: Sequence[bytes], received_ns: int) -> bool:
        """Write each frame before it is folded; where a file ends between two, the next begins with what is known."""
        assert self._capture is not None
        changed = False
        for batch in self._capture.batches(frames):
            for payload in batch:
                self._capture.write(received_ns, payload)
            changed |= fold.apply_frames(batch, received_ns)
        return changed

    def _states(self) -> Iterator[tuple[int, TickerState | BookState]]:
        if self.fold_in_use is not None:
            yield from self.fold_in_use.states()

    def _begin(self, link: Link) -> None:
        self._current = link
        self.reason = ""
        self._begin_epoch()
        if link.is_subscribed:
            self._beat(self._clock.now_ns())

    def _begin_epoch(self) -> None:
        self._number += 1
        epoch = (self._terms.role_epoch << CONNECTIONS_BITS) + self._number
        assert self._number < 1 << CONNECTIONS_BITS, "more connections than an incarnation may have"
        assert epoch <= EPOCH_MAX, "more incarnations than a slot's epochs can number"
        self._writer = FeedWriter(self._image, self._terms.slot, epoch)
        self.fold_in_use = self._make_fold(self._writer)
        if self._capture is not None:
            self._capture.mark_epoch(self._clock.now_ns())

    def _ended(self) -> None:
        if self._writer is not None:
            self._writer.down()
        self._retire()
        self._current = self._writer = None

    def _retire(self) -> None:
        _add(self.totals, self.fold_in_use)
        self.fold_in_use = None

    def _tick_next(self, now_ns: int) -> None:
        """Let the second link take over once it says everything and the first has said all that was before."""
        first, second = self._current, self._next
        if first is None or second is None:
            return
        if second.pulse.tick(now_ns) is Beat.DEAD:
            self._drop_next(second)
            return
        second.ask(now_ns)
        if self._asked_before is None:
            if second.is_subscribed and second.pulse.answered > 0:
                self._asked_before = first.pulse.asked
        elif first.pulse.answered > self._asked_before and second.pulse.tick(now_ns) is Beat.LIVE:
            self._current, self._next = second, None
            self.totals.handovers += 1
            first.cut()

    def _drop_next(self, link: Link) -> None:
        if self._next is link:
            self._next = None
            link.cut()

    def _refused(self, error: WSHandshakeError) -> None:
        response = error.response
        status = int(response.status) if response is not None else 0
        reason = f"HTTP {status} at the upgrade" if status else f"handshake: {error}"[:200]
        if status == 414:
            reason += (
                f": {self._in_address} streams in one address are more than the venue takes. "
                "Remedy: lower exchange.symbols_per_connection_max"
            )
            self._in_address = max(1, self._in_address // 2)
        if self._current is None:
            self.reason = reason
        self.totals.refused[f"http_{status}" if status else "handshake"] += 1
        self._budget.refused(status, response.headers.get("Retry-After") if response is not None else None)

    def _beat(self, now_ns: int) -> None:
        assert self._writer is not None
        assert self.fold_in_use is not None
        self._writer.beat(now_ns, self.lag_ns(), self.fold_in_use.counters())
        self._beat_ns = now_ns


async def _over(link: Link) -> None:
    """Return when a link is over."""
    assert link.transport is not None
    try:
        await link.transport.wait_disconnected()
    except (OSError, TimeoutError, WSError):
        return


def ticker_streams(names: Sequence[str]) -> tuple[str, ...]:
    """Return the streams of these symbols' tops."""
    return tuple(f"{name.lower()}@bookTicker" for name in names)


def _add(totals: SlotTotals, fold: Fold | None) -> None:
    if fold is None:
        return
    totals.frames += fold.frames
    totals.parsed += fold.parsed
    totals.quantity_capped += fold.quantity_capped
    totals.capped_rows.update(fold.capped_rows)
    totals.rejected.update({reason.value: count for reason, count in fold.rejected.items()})
    if isinstance(fold, DepthFold):
        totals.depth.update(fold.outcomes)
