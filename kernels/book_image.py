"""The book image: the top of every market's book in one table that all processes map (see `kernels.seqlock`).

The buffer is the caller's: a mapped file, or any memory in a test or a replay. In words of 8 bytes, each part on a
cache line of its own: page header (16), feed headers (16 each), the feed that owns each row (1 each), rows (8 each), a
ring a feed (8 and its slots). Everything is zero in a new file, and zero means nowhere valid: no magic, epoch 0, never
seen.

Who writes what: the book actor the page header, the owners and HELD_DOWN; a feed, through its one `FeedWriter`, its
header line, its own rows and its ring. Everyone reads.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from kernels import seqlock

Int64s = npt.NDArray[np.int64]

MAGIC: Final = 0x4150_4558_424F_4F4B
LAYOUT_VERSION: Final = 1
LIVENESS_NS_MAX: Final = 250_000_000
BEAT_NS_MAX: Final = 50_000_000
NO_AGE_LIMIT: Final = 2**62
EPOCH_MAX: Final = 2**47 - 1
NO_FEED: Final = -1
RING_SLOTS: Final = 1 << 16

_WORD_BYTES: Final = 8
_LINE_WORDS: Final = 8
_HEADER_WORDS: Final = 16
_H_MAGIC, _H_VERSION, _H_ROWS, _H_FEEDS, _H_RING_SLOTS, _H_SYMBOLS_DIGEST = range(6)


class RowStatus(enum.IntEnum):
    """Valid, or why not. The low byte of a row's flags."""

    NEVER_SEEN = seqlock.NEVER_SEEN
    VALID = seqlock.VALID
    PARSE_FAILURE = 2
    CROSSED = 3
    ONE_SIDED = 4
    GAP = 5
    HALTED = 6


class Verdict(enum.IntEnum):
    """What a reader may do with a row now; all but LIVE mean that it must not open risk."""

    LIVE = seqlock.LIVE
    INVALID = seqlock.INVALID
    FEED_DEAD = seqlock.FEED_DEAD
    AGED = seqlock.AGED
    BUSY = seqlock.BUSY


class ImageError(ValueError):
    """The buffer is no image of this layout, or a figure is out of its range; the text says which."""


class RowNotOwned(RuntimeError):
    """A feed tried to write a row of another's: a broken invariant."""


class Fenced(RuntimeError):
    """The feed has a later epoch than this writer's, or as late a one: this writer must end."""


class Row(NamedTuple):
    """One row as it stood at one moment. Prices and quantities are Fixed8 counts."""

    sequence: int
    bid_px: int
    bid_qty: int
    ask_px: int
    ask_qty: int
    venue_update_id: int
    received_ns: int
    flags: int

    @property
    def status(self) -> RowStatus:
        """Valid, or why not, as the feed that wrote it said."""
        return RowStatus(self.flags & seqlock.STATUS_MASK)

    @property
    def quantity_capped(self) -> bool:
        """Whether a quantity stood for more than Fixed8 holds."""
        return bool(self.flags & seqlock.QUANTITY_CAPPED)

    @property
    def epoch(self) -> int:
        """The epoch of the feed that wrote it; 0 for a row never written."""
        return self.flags >> seqlock.EPOCH_SHIFT


class FeedHeader(NamedTuple):
    """A feed's header line as it stood."""

    epoch: int
    live_ns: int
    lag_ns: int
    up: bool
    frames: int
    parsed: int
    rejected: int
    capped: int
    held_down_epoch: int


class FeedCounters(NamedTuple):
    """What a feed counted since its epoch began, for its header line."""

    frames: int = 0
    parsed: int = 0
    rejected: int = 0
    capped: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets of an image's parts, in words; `n_bytes` is the size that its buffer must have at least."""

    n_rows: int
    n_feeds: int
    ring_slots: int
    feeds_at: int
    row_feed_at: int
    rows_at: int
    rings_at: int
    ring_words: int
    n_bytes: int


def layout(n_rows: int, n_feeds: int, ring_slots: int = RING_SLOTS) -> Layout:
    """Return where the parts lie. Raises ImageError: no rows or feeds, or ring slots that are no power of two."""
    if n_rows < 1 or n_feeds < 1:
        raise ImageError(f"an image needs at least one row and one feed, not {n_rows} and {n_feeds}")
    if ring_slots < 2 or ring_slots & (ring_slots - 1):
        raise ImageError(f"ring slots must be a power of two and at least 2, not {ring_slots}")
    feeds_at = _HEADER_WORDS
    row_feed_at = feeds_at + n_feeds * seqlock.FEED_WORDS
    rows_at = row_feed_at + _whole_lines(n_rows)
    rings_at = rows_at + n_rows * seqlock.ROW_WORDS
    ring_words = seqlock.RING_HEAD_WORDS + _whole_lines(ring_slots)
    n_bytes = (rings_at + n_feeds * ring_words) * _WORD_BYTES
    return Layout(n_rows, n_feeds, ring_slots, feeds_at, row_feed_at, rows_at, rings_at, ring_words, n_bytes)


def format_image(
    buffer: bytearray | memoryview | Int64s,
    row_feed: Sequence[int],
    n_feeds: int,
    ring_slots: int = RING_SLOTS,
    symbols_digest: int = 0,
) -> BookImage:
    """Make a zeroed, writable buffer an image: the book actor's act, once, before anyone else maps it.

    `row_feed`: the feed that owns each row, NO_FEED for none. `symbols_digest` (int64) is for a reader to see that it
    numbers the rows as the book actor did. The magic is written last. Raises ImageError.
    """
    parts = layout(len(row_feed), n_feeds, ring_slots)
    words = _words(buffer)
    if len(words) * _WORD_BYTES < parts.n_bytes:
        raise ImageError(f"the buffer has {len(words) * _WORD_BYTES} bytes, the image needs {parts.n_bytes}")
    if words[: parts.n_bytes // _WORD_BYTES].any():
        raise ImageError("the buffer is not zeroed: an old image must not shine through a new one; make a new file")
    if any(not NO_FEED <= feed < n_feeds for feed in row_feed):
        raise ImageError(f"every row's feed must lie in [{NO_FEED}, {n_feeds})")
    words[parts.row_feed_at : parts.row_feed_at + parts.n_rows] = row_feed
    words[_H_VERSION : _H_SYMBOLS_DIGEST + 1] = (
        LAYOUT_VERSION, parts.n_rows, parts.n_feeds, parts.ring_slots, symbols_digest,
    )  # fmt: skip
    seqlock.set_word(words, _H_MAGIC, MAGIC)
    return BookImage(buffer)


class BookImage:
    """A view of an image in a buffer, and all that a reader may do. Holds no state but the buffer.

    The vectors `rows`, `feeds` and `row_feed` are read-only, for compiled readers (`kernels.evaluate`); `ring(feed)`
    too. One reader a view and thread: the scratch space of `read` is shared.
    """

    __slots__ = ("_feed_scratch", "_row_scratch", "_words", "feeds", "layout", "row_feed", "rows", "symbols_digest")

    def __init__(self, buffer: bytes | bytearray | memoryview | Int64s) -> None:
        """Take a whole image. Raises ImageError: too small, no magic, another layout version, or cut off."""
        words = _words(buffer)
        if len(words) < _HEADER_WORDS or words[_H_MAGIC] != MAGIC:
            raise ImageError("no book image here (no magic): does the book actor run in this run directory?")
        if words[_H_VERSION] != LAYOUT_VERSION:
            raise ImageError(f"the image has layout version {words[_H_VERSION]}, this program reads {LAYOUT_VERSION}")
        self.layout = layout(int(words[_H_ROWS]), int(words[_H_FEEDS]), int(words[_H_RING_SLOTS]))
        if len(words) * _WORD_BYTES < self.layout.n_bytes:
            raise ImageError(f"the image is cut off: {len(words) * _WORD_BYTES} of {self.layout.n_bytes} bytes")
        self._words = words
        self.symbols_digest = int(words[_H_SYMBOLS_DIGEST])
        parts = self.layout
        self.feeds = _read_only(words[parts.feeds_at : parts.row_feed_at])
        self.row_feed = _read_only(words[parts.row_feed_at : parts.row_feed_at + parts.n_rows])
        self.rows = _read_only(words[parts.rows_at : parts.rings_at])
        self._row_scratch = np.zeros(seqlock.ROW_WORDS, dtype=np.int64)
        self._feed_scratch = np.zeros(seqlock.FEED_WORDS, dtype=np.int64)

    def ring(self, feed: int) -> Int64s:
        """Return a feed's ring, read-only."""
        at = self.layout.rings_at + self._feed(feed) * self.layout.ring_words
        return _read_only(self._words[at : at + seqlock.RING_HEAD_WORDS + self.layout.ring_slots])

    def rows_of(self, feed: int) -> npt.NDArray[np.int32]:
        """Return the rows that a feed owns, ascending: what to look at after an overrun."""
        return np.flatnonzero(self.row_feed == self._feed(feed)).astype(np.int32)

    def read_row(self, row: int) -> Row | None:
        """Return a row, never torn; None where its writer was within a write all along (it may be dead there)."""
        if not seqlock.read_row(self.rows, self._row(row), self._row_scratch):
            return None
        return Row(*self._row_scratch.tolist())

    def read_live_row(
        self, row: int, now_ns: int, age_ns_max: int = NO_AGE_LIMIT, liveness_ns_max: int = LIVENESS_NS_MAX
    ) -> tuple[Verdict, Row | None]:
        """Return a row with the verdict on it and its feed, taken together; None only where BUSY."""
        verdict = seqlock.read_live_row(
            self.rows, self.row_feed, self.feeds, self._row(row), now_ns, liveness_ns_max, age_ns_max, self._row_scratch
        )
        found = None if verdict == seqlock.BUSY else Row(*self._row_scratch.tolist())
        return Verdict(verdict), found

    def read_header(self, feed: int) -> FeedHeader:
        """Return a feed's header; as down where its epoch changed under the reading."""
        seqlock.read_feed(self.feeds, self._feed(feed), self._feed_scratch)
        epoch, live_ns, lag_ns, state, frames, parsed, rejected, capped, held = self._feed_scratch.tolist()[:9]
        return FeedHeader(epoch, live_ns, lag_ns, state == seqlock.UP, frames, parsed, rejected, capped, held)

    def hold_down(self, feed: int) -> int:
        """Let no row of the feed's present epoch, or an older one, count again; return that epoch. Book actor's."""
        epoch = self.read_header(feed).epoch
        line = self.layout.feeds_at + feed * seqlock.FEED_WORDS
        seqlock.set_word(self._words, line + seqlock.HELD_DOWN_EPOCH, epoch)
        return epoch

    def _row(self, row: int) -> int:
        if not 0 <= row < self.layout.n_rows:
            raise IndexError(f"row {row} of {self.layout.n_rows}")
        return int(row)

    def _feed(self, feed: int) -> int:
        if not 0 <= feed < self.layout.n_feeds:
            raise IndexError(f"feed {feed} of {self.layout.n_feeds}")
        return int(feed)


def row_is_live(
    row: Row, header: FeedHeader, now_ns: int, age_ns_max: int = NO_AGE_LIMIT, liveness_ns_max: int = LIVENESS_NS_MAX
) -> bool:
    """Say of values already read whether they may still open risk: the check again, where a decision is consumed.

    The same rule as `seqlock.read_live_row`: valid, of the header's epoch, which is up, not held down, and beating; and
    not older than `age_ns_max`.
    """
    return (
        row.flags & seqlock.STATUS_MASK == seqlock.VALID
        and row.epoch == header.epoch != 0
        and header.up
        and header.held_down_epoch < header.epoch
        and abs(now_ns - header.live_ns) <= liveness_ns_max
        and now_ns - row.received_ns <= age_ns_max
    )


class FeedWriter:
    """The one way to write: a feed's own rows, ring and header, in one epoch.

    Beginning an epoch makes every row of an older one count no more, until this writer writes it again. A connection
    lost is an epoch lost: `down`, then a new writer with a higher epoch once frames come again.
    """

    __slots__ = ("_counters", "_feeds", "_ring", "_rows", "_words", "epoch", "feed", "image", "owned")

    def __init__(self, image: BookImage, feed: int, epoch: int) -> None:
        """Begin an epoch. Raises Fenced if the feed has one as high; ImageError if the buffer cannot be written."""
        if not 0 < epoch <= EPOCH_MAX:
            raise ImageError(f"an epoch lies in [1, {EPOCH_MAX}], not {epoch}")
        words, parts = image._words, image.layout
        if not words.flags.writeable:
            raise ImageError("the image is mapped read-only: a feed needs it writable")
        self.image, self.feed, self.epoch = image, image._feed(feed), epoch
        self.owned = frozenset(image.rows_of(feed).tolist())
        ring_at = parts.rings_at + feed * parts.ring_words
        self._words = words
        self._feeds = words[parts.feeds_at : parts.row_feed_at]
        self._rows = words[parts.rows_at : parts.rings_at]
        self._ring = words[ring_at : ring_at + seqlock.RING_HEAD_WORDS + parts.ring_slots]
        self._counters = np.zeros(len(FeedCounters()), dtype=np.int64)
        self._settle(seqlock.open_epoch(self._feeds, feed, epoch))

    def write_row(
        self,
        row: int,
        bid_px: int,
        bid_qty: int,
        ask_px: int,
        ask_qty: int,
        venue_update_id: int,
        received_ns: int,
        quantity_capped: bool = False,
    ) -> None:
        """Write a row as valid and announce it. Raises RowNotOwned, Fenced."""
        flags = seqlock.VALID | (seqlock.QUANTITY_CAPPED if quantity_capped else 0)
        self._settle(
            seqlock.write_row(
                self._rows, self._feeds, self._ring, self.feed, self.epoch, self._own(row),
                bid_px, bid_qty, ask_px, ask_qty, venue_update_id, received_ns, flags,
            )
        )  # fmt: skip

    def mark_invalid(self, row: int, reason: RowStatus) -> None:
        """Say why a row does not count; its last figures stay to be shown. Raises RowNotOwned, Fenced."""
        if reason is RowStatus.VALID:
            raise ValueError("a row turns valid by a good frame alone: write_row")
        self._settle(
            seqlock.invalidate_row(
                self._rows, self._feeds, self._ring, self.feed, self.epoch, self._own(row), int(reason)
            )
        )

    def beat(self, now_ns: int, lag_ns: int = 0, counters: FeedCounters | None = None) -> None:
        """Say that the feed lives; at least every BEAT_NS_MAX. Does not bring up what is down. Raises Fenced."""
        if counters is not None:
            self._counters[:] = counters
        self._settle(seqlock.beat(self._feeds, self.feed, self.epoch, now_ns, lag_ns, self._counters))

    def down(self) -> None:
        """End the epoch: no row of it counts from here on, whatever beats follow. Raises Fenced."""
        if self.image.read_header(self.feed).epoch != self.epoch:
            raise Fenced(f"feed {self.feed}: epoch {self.epoch} is no longer the feed's")
        seqlock.set_word(self._feeds, self.feed * seqlock.FEED_WORDS + seqlock.STATE, seqlock.DOWN)

    def _own(self, row: int) -> int:
        if row not in self.owned:
            raise RowNotOwned(f"row {row} is not feed {self.feed}'s")
        return int(row)

    def _settle(self, outcome: int) -> None:
        if outcome == seqlock.FENCED:
            held = self.image.read_header(self.feed).epoch
            raise Fenced(f"feed {self.feed}: epoch {self.epoch} comes after {held}, or has been succeeded")


class RingReader:
    """One reader's place in a feed's ring. Begins at the head: look at every row first."""

    __slots__ = ("_out", "_ring", "cursor", "overruns")

    def __init__(self, image: BookImage, feed: int, batch: int = 4096) -> None:
        self._ring = image.ring(feed)
        self._out = np.zeros(batch, dtype=np.int32)
        self.cursor = int(seqlock.ring_head(self._ring))
        self.overruns = 0

    def drain(self) -> npt.NDArray[np.int32] | None:
        """Return the rows announced since the last call, oldest first (at most `batch`; call until empty).

        None after an overrun (counted): look at every row of the feed. The array is overwritten by the next call.
        """
        self.cursor, count, overrun = seqlock.drain(self._ring, self.cursor, self._out)
        if overrun:
            self.overruns += 1
            return None
        return self._out[:count]


def _whole_lines(n_words: int) -> int:
    return -(-n_words // _LINE_WORDS) * _LINE_WORDS


def _words(buffer: bytes | bytearray | memoryview | Int64s) -> Int64s:
    if isinstance(buffer, np.ndarray):
        return buffer
    whole = len(buffer) // _WORD_BYTES if not isinstance(buffer, memoryview) else buffer.nbytes // _WORD_BYTES
    return np.frombuffer(buffer, dtype=np.int64, count=whole)


def _read_only(words: Int64s) -> Int64s:
    view = words.view()
    view.flags.writeable = False
    return view
