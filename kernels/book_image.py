"""The book image: the top of every market's book in one table that all processes map (see `kernels.seqlock`).

The buffer is the caller's: a mapped file, or any memory in a test or a replay. In words of 8 bytes, each part on a
cache line of its own: page header (16), feed headers (16 each), the feed that owns each row (1 each), rows (8 each), a
ring a feed (8 and its slots), row and feed of each ladder (1 each), ladders (`kernels.ladder`). Everything is zero in a
new file, and zero means nowhere valid: no magic, epoch 0, never seen.

A feed may have a **twin**, which follows the same symbols over a connection of its own: its rows (and ladders) stand
behind all those of the others, in the same order. A row's number is its symbol's for both; `read_live_row` takes the
twin's where the feed's own is not live.

Who writes what: the book actor the page header, the owners and HELD_DOWN; a feed, through its one `FeedWriter`, its
header line, its own rows, ladders and ring. Everyone reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from kernels import ladder, seqlock
from kernels.image_layout import (
    H_FEEDS,
    H_LADDER_LEVELS,
    H_LADDERS,
    H_MAGIC,
    H_REPLICAS,
    H_RING_SLOTS,
    H_ROWS,
    H_SYMBOLS_DIGEST,
    H_VERSION,
    HEADER_WORDS,
    MAGIC,
    NO_LADDER,
    WORD_BYTES,
    format_ladders,
    format_twins,
    words_of,
)
from kernels.image_layout import LAYOUT_VERSION as LAYOUT_VERSION
from kernels.image_layout import NO_FEED as NO_FEED
from kernels.image_layout import RING_SLOTS as RING_SLOTS
from kernels.image_layout import ImageError as ImageError
from kernels.image_layout import Layout as Layout
from kernels.image_layout import layout as layout
from kernels.image_values import FeedCounters as FeedCounters
from kernels.image_values import FeedHeader as FeedHeader
from kernels.image_values import Ladder as Ladder
from kernels.image_values import Row as Row
from kernels.image_values import RowStatus as RowStatus
from kernels.image_values import Verdict as Verdict

Int64s = npt.NDArray[np.int64]

LIVENESS_NS_MAX: Final = 250_000_000
BEAT_NS_MAX: Final = 50_000_000
NO_AGE_LIMIT: Final = 2**62
EPOCH_MAX: Final = 2**47 - 1


class RowNotOwned(RuntimeError):
    """A feed tried to write a row of another's: a broken invariant."""


class Fenced(RuntimeError):
    """The feed has a later epoch than this writer's, or as late a one: this writer must end."""


def format_image(
    buffer: bytearray | memoryview | Int64s,
    row_feed: Sequence[int],
    n_feeds: int,
    ring_slots: int = RING_SLOTS,
    symbols_digest: int = 0,
    twins: Mapping[int, int] | None = None,
    ladders: Sequence[tuple[int, int]] = (),
    ladder_levels: int = 0,
) -> BookImage:
    """Make a zeroed, writable buffer an image: the book actor's act, once, before anyone else maps it.

    `row_feed`: the feed that owns each row, NO_FEED for none. `symbols_digest` (int64) is for a reader to see that it
    numbers the rows as the book actor did. `twins`: by feed, the feed that follows the same symbols. `ladders`: (row,
    feed that owns it), one a row at most. The magic is written last. Raises ImageError.
    """
    twins = twins or {}
    parts = layout(len(row_feed), n_feeds, ring_slots, 2 if twins else 1, len(ladders), ladder_levels)
    words = words_of(buffer)
    if len(words) * WORD_BYTES < parts.n_bytes:
        raise ImageError(f"the buffer has {len(words) * WORD_BYTES} bytes, the image needs {parts.n_bytes}")
    if words[: parts.n_bytes // WORD_BYTES].any():
        raise ImageError("the buffer is not zeroed: an old image must not shine through a new one; make a new file")
    if any(not NO_FEED <= feed < n_feeds for feed in row_feed):
        raise ImageError(f"every row's feed must lie in [{NO_FEED}, {n_feeds})")
    words[parts.row_feed_at : parts.row_feed_at + parts.n_rows] = row_feed
    format_twins(words, parts, twins, {*row_feed, *(feed for _, feed in ladders)})
    format_ladders(words, parts, ladders)
    words[H_VERSION : H_LADDER_LEVELS + 1] = (
        LAYOUT_VERSION, parts.n_rows, parts.n_feeds, parts.ring_slots, symbols_digest,
        parts.replicas, parts.n_ladders, parts.ladder_levels,
    )  # fmt: skip
    seqlock.set_word(words, H_MAGIC, MAGIC)
    return BookImage(buffer)


class BookImage:
    """A view of an image in a buffer, and all that a reader may do. Holds no state but the buffer.

    The vectors `rows`, `feeds`, `row_feed`, `ladders` and `ladder_feed` are read-only, for compiled readers
    (`kernels.screen`, `kernels.ladder`); `ring(feed)` too. `row_ladder`: the ladder of each row, NO_LADDER for none.
    One reader a view and thread: the scratch space of the reads is shared.
    """

    __slots__ = (
        "_feed_scratch",
        "_ladder_scratch",
        "_row_scratch",
        "_words",
        "feeds",
        "ladder_feed",
        "ladders",
        "layout",
        "row_feed",
        "row_ladder",
        "rows",
        "symbols_digest",
    )

    def __init__(self, buffer: bytes | bytearray | memoryview | Int64s) -> None:
        """Take a whole image. Raises ImageError: too small, no magic, another layout version, or cut off."""
        words = words_of(buffer)
        if len(words) < HEADER_WORDS or words[H_MAGIC] != MAGIC:
            raise ImageError("no book image here (no magic): does the book actor run in this run directory?")
        if words[H_VERSION] != LAYOUT_VERSION:
            raise ImageError(f"the image has layout version {words[H_VERSION]}, this program reads {LAYOUT_VERSION}")
        self.layout = layout(
            *(int(words[at]) for at in (H_ROWS, H_FEEDS, H_RING_SLOTS, H_REPLICAS, H_LADDERS, H_LADDER_LEVELS))
        )
        if len(words) * WORD_BYTES < self.layout.n_bytes:
            raise ImageError(f"the image is cut off: {len(words) * WORD_BYTES} of {self.layout.n_bytes} bytes")
        self._words = words
        self.symbols_digest = int(words[H_SYMBOLS_DIGEST])
        parts = self.layout
        self.feeds = _read_only(words[parts.feeds_at : parts.row_feed_at])
        self.row_feed = _read_only(words[parts.row_feed_at : parts.row_feed_at + parts.n_rows])
        self.rows = _read_only(words[parts.rows_at : parts.rings_at])
        self.ladder_feed = _read_only(words[parts.ladder_feed_at : parts.ladder_feed_at + parts.n_ladders])
        self.ladders = _read_only(words[parts.ladders_at : parts.n_bytes // WORD_BYTES])
        self.row_ladder = np.full(parts.n_rows, NO_LADDER, dtype=np.int64)
        ladder_rows = words[parts.ladder_rows_at : parts.ladder_rows_at + parts.n_ladders]
        self.row_ladder[ladder_rows] = np.arange(parts.n_ladders)
        self.row_ladder.flags.writeable = False
        self._ladder_scratch = np.zeros(ladder.words(parts.ladder_levels), dtype=np.int64)
        self._row_scratch = np.zeros(seqlock.ROW_WORDS, dtype=np.int64)
        self._feed_scratch = np.zeros(seqlock.FEED_WORDS, dtype=np.int64)

    def ring(self, feed: int) -> Int64s:
        """Return a feed's ring, read-only."""
        at = self.layout.rings_at + self._feed(feed) * self.layout.ring_words
        return _read_only(self._words[at : at + seqlock.RING_HEAD_WORDS + self.layout.ring_slots])

    @property
    def rings(self) -> Int64s:
        """All rings, one after another, each of `layout.ring_words`; read-only."""
        return _read_only(
            self._words[self.layout.rings_at : self.layout.rings_at + self.layout.n_feeds * self.layout.ring_words]
        )

    def rows_of(self, feed: int) -> npt.NDArray[np.int32]:
        """Return the rows that a feed writes, ascending."""
        return np.flatnonzero(self.row_feed == self.primary(feed)).astype(np.int32)

    def ladder_rows_of(self, feed: int) -> npt.NDArray[np.int32]:
        """Return the rows whose ladders a feed writes, ascending."""
        rows = np.flatnonzero(self.row_ladder != NO_LADDER)
        return rows[self.ladder_feed[self.row_ladder[rows]] == self.primary(feed)].astype(np.int32)

    def announced_by(self, feed: int) -> npt.NDArray[np.int32]:
        """Return the rows that a feed announces on its ring, ascending: what to look at after an overrun."""
        return np.union1d(self.rows_of(feed), self.ladder_rows_of(feed)).astype(np.int32)

    def twin(self, feed: int) -> int:
        """Return the feed's twin, NO_FEED where it has none."""
        return int(self.feeds[self._feed(feed) * seqlock.FEED_WORDS + seqlock.TWIN_FEED]) - 1

    def primary(self, feed: int) -> int:
        """Return the feed whose twin this one is, or itself."""
        twins = self.feeds[seqlock.TWIN_FEED :: seqlock.FEED_WORDS]
        found = np.flatnonzero(twins == self._feed(feed) + 1)
        return int(found[0]) if len(found) else feed

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

    def read_live_ladder(
        self, row: int, now_ns: int, age_ns_max: int = NO_AGE_LIMIT, liveness_ns_max: int = LIVENESS_NS_MAX
    ) -> tuple[Verdict, Ladder | None]:
        """Return the ladder of a row's symbol, never torn, with the verdict on it and its feed, as `read_live_row`.

        (INVALID, None) where the symbol has no ladder; None also where BUSY. A ladder with another verdict than LIVE
        must not be walked. Its feed is another than the row's, and its diffs come at most every 100 ms: the row's top
        is the newer where the ladder's `venue_update_id` is below the row's. The arrays are copies.
        """
        number = int(self.row_ladder[self._row(row)])
        if number == NO_LADDER:
            return Verdict.INVALID, None
        levels, out = self.layout.ladder_levels, self._ladder_scratch
        verdict = ladder.read_live_ladder(
            self.ladders, self.ladder_feed, self.feeds, number, levels, now_ns, liveness_ns_max, age_ns_max, out
        )
        if verdict == seqlock.BUSY:
            return Verdict.BUSY, None
        sides = out[ladder.HEAD_WORDS : ladder.HEAD_WORDS + 2 * ladder.PAIR_WORDS * levels].reshape(2, levels, 2)
        bids, asks = sides[0, : out[ladder.N_BIDS]].copy(), sides[1, : out[ladder.N_ASKS]].copy()
        sequence, _, _, update_id, received_ns, flags = out[: ladder.FLAGS + 1].tolist()
        return Verdict(verdict), Ladder(sequence, update_id, received_ns, flags, bids, asks)

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

    def stand_down(self, feed: int, is_down: bool) -> None:
        """Let readers look at the feed's twin first, or no more. Book actor's."""
        line = self.layout.feeds_at + self._feed(feed) * seqlock.FEED_WORDS
        seqlock.set_word(self._words, line + seqlock.STOOD_DOWN, int(is_down))

    def is_stood_down(self, feed: int) -> bool:
        """Whether readers look at its twin first."""
        return bool(self.feeds[self._feed(feed) * seqlock.FEED_WORDS + seqlock.STOOD_DOWN])

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

    __slots__ = (
        "_counters",
        "_feeds",
        "_ladders",
        "_ring",
        "_rows",
        "_words",
        "epoch",
        "feed",
        "image",
        "owned",
        "owned_ladders",
    )

    def __init__(self, image: BookImage, feed: int, epoch: int) -> None:
        """Begin an epoch. Raises Fenced if the feed has one as high; ImageError if the buffer cannot be written."""
        if not 0 < epoch <= EPOCH_MAX:
            raise ImageError(f"an epoch lies in [1, {EPOCH_MAX}], not {epoch}")
        words, parts = image._words, image.layout
        if not words.flags.writeable:
            raise ImageError("the image is mapped read-only: a feed needs it writable")
        self.image, self.feed, self.epoch = image, image._feed(feed), epoch
        self.owned = frozenset(image.rows_of(feed).tolist())
        self.owned_ladders = frozenset(image.ladder_rows_of(feed).tolist())
        is_twin = image.primary(feed) != feed
        ring_at = parts.rings_at + feed * parts.ring_words
        self._words = words
        self._feeds = words[parts.feeds_at : parts.row_feed_at]
        self._rows = words[parts.rows_at + is_twin * parts.n_rows * seqlock.ROW_WORDS : parts.rings_at]
        behind = is_twin * parts.n_ladders * ladder.words(parts.ladder_levels)
        self._ladders = words[parts.ladders_at + behind : parts.n_bytes // WORD_BYTES]
        self._ring = words[ring_at : ring_at + seqlock.RING_HEAD_WORDS + parts.ring_slots]
        self._counters = np.zeros(len(FeedCounters()), dtype=np.int64)
        self._settle(seqlock.open_epoch(self._feeds, feed, epoch))

    @property
    def arrays(self) -> tuple[Int64s, Int64s, Int64s]:
        """Rows, headers and ring, for compiled writers (`kernels.frame_fold`), which write only rows that are owned."""
        return self._rows, self._feeds, self._ring

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

    def read_row(self, row: int) -> Row:
        """Return a row as this writer has it, whichever of two that follow it. Raises RowNotOwned."""
        out = np.zeros(seqlock.ROW_WORDS, dtype=np.int64)
        is_whole = seqlock.read_row(self._rows, self._own(row), out)
        assert is_whole, "nobody else writes it"
        return Row(*out.tolist())

    def mark_invalid(self, row: int, reason: RowStatus) -> None:
        """Say why a row does not count; its last figures stay to be shown. Raises RowNotOwned, Fenced."""
        if reason is RowStatus.VALID:
            raise ValueError("a row turns valid by a good frame alone: write_row")
        self._settle(
            seqlock.invalidate_row(
                self._rows, self._feeds, self._ring, self.feed, self.epoch, self._own(row), int(reason)
            )
        )

    def write_ladder(
        self,
        row: int,
        bids: Int64s,
        asks: Int64s,
        venue_update_id: int,
        received_ns: int,
        status: RowStatus = RowStatus.VALID,
    ) -> None:
        """Write the ladder of a row's symbol and announce the row: int64 [n, 2], best first, as many as there is room.

        With another status than VALID it does not count. Raises RowNotOwned, Fenced.
        """
        if row not in self.owned_ladders:
            raise RowNotOwned(f"the ladder of row {row} is not feed {self.feed}'s")
        image = self.image
        self._settle(
            ladder.write_ladder(
                self._ladders, self._feeds, self._ring, self.feed, self.epoch, int(image.row_ladder[row]),
                image.layout.ladder_levels, int(row), bids, asks, venue_update_id, received_ns, int(status),
            )
        )  # fmt: skip

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


def _read_only(words: Int64s) -> Int64s:
    view = words.view()
    view.flags.writeable = False
    return view
