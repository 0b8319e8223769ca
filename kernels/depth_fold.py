"""The fold of a depth feed's frames into the ladders of one `FeedWriter`: the counterpart of `kernels.fold`.

A ladder is GAP until its book is spliced, and again from the moment that something of it was missed, or may have been
(a frame of it that does not parse), until it is spliced anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from kernels.book_image import FeedCounters, FeedWriter, RowStatus
from kernels.capture_records import BookState
from kernels.depth_book import DepthBook, Outcome
from kernels.depth_frames import parse_depth_frame, parse_depth_snapshot
from kernels.fold import ALL_CHANGED, NOTHING_CHANGED
from kernels.frames import NO_ROW, Reason, Rejected, SymbolTable

LEVELS_HELD: Final = 5_000
SNAPSHOT_LEVELS: Final = 1_000
"""Asked for of the venue, and the most that a snapshot of ordinary weight has."""

_NO_LEVELS: Final = np.zeros((0, 2), dtype=np.int64)
_UNSEEN: Final = frozenset((Reason.CONTROL, Reason.NOT_BOOK_TICKER, Reason.UNKNOWN_SYMBOL))
"""What says nothing of any ladder of ours."""


class DepthFold:
    """Applies diffs and snapshots to the ladders of one writer, for its epoch.

    frames = parsed + the sum of `rejected`. A parsed diff is one that was kept, applied, or showed a gap; `outcomes`
    counts which, by name, snapshots too (with `snapshot_` before the name). `spliced`: rows whose ladder ever counted.
    """

    __slots__ = (
        "_books", "_levels", "_shown_ns", "_table", "_writer", "capped_rows", "frames", "outcomes", "parsed",
        "quantity_capped", "rejected", "spliced",
    )  # fmt: skip

    def __init__(self, writer: FeedWriter, table: SymbolTable) -> None:
        self._writer, self._table = writer, table
        self._levels = writer.image.layout.ladder_levels
        wanted = min(self._levels, LEVELS_HELD)
        self._books = {row: DepthBook(LEVELS_HELD, wanted) for row in sorted(writer.owned_ladders)}
        self._shown_ns = dict.fromkeys(self._books, 0)
        self.frames = 0
        self.parsed = 0
        self.quantity_capped = 0
        self.capped_rows: Counter[int] = Counter()
        self.rejected: Counter[Reason] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.spliced: set[int] = set()
        for row in self._books:
            self._show_gap(row)

    def apply_frame(self, frame: bytes, received_ns: int) -> int:
        """Apply a frame; return the row whose ladder changed, NOTHING_CHANGED or ALL_CHANGED. Raises Fenced."""
        self.frames += 1
        update = parse_depth_frame(frame, self._table)
        if isinstance(update, Rejected):
            return self._reject(update)
        book = self._books.get(update.row)
        if book is None:
            return self._reject(Rejected(Reason.UNKNOWN_SYMBOL, NO_ROW))
        was_valid = book.is_valid
        outcome = book.apply_diff(update.diff)
        if outcome is Outcome.OLD:
            return self._reject(Rejected(Reason.STALE_UPDATE_ID, NO_ROW))
        self.parsed += 1
        self.quantity_capped += update.quantity_capped
        if update.quantity_capped:
            self.capped_rows[update.row] += 1
        self.outcomes[outcome.value] += 1
        if outcome is Outcome.APPLIED:
            self._show(update.row, book, received_ns)
            return update.row
        if was_valid:
            self._show_gap(update.row)
            return update.row
        return NOTHING_CHANGED

    def apply_frames(self, frames: Sequence[bytes], received_ns: int) -> bool:
        """Apply the frames of one read in their order; say whether a ladder changed. Raises Fenced."""
        changed = False
        for frame in frames:
            changed |= self.apply_frame(frame, received_ns) != NOTHING_CHANGED
        return changed

    def wanted(self) -> list[int]:
        """Return the rows whose books want a snapshot."""
        return [row for row, book in self._books.items() if book.wants_snapshot]

    def begin_snapshot(self, row: int) -> None:
        """A snapshot of this row is about to be asked for."""
        self._books[row].begin_filling()

    def apply_snapshot(self, row: int, body: bytes, received_ns: int, limit: int = SNAPSHOT_LEVELS) -> int:
        """Splice a REST reply, asked for with `limit`; return the row if its ladder was written, else NOTHING_CHANGED.

        Raises Fenced.
        """
        snapshot, book = parse_depth_snapshot(body), self._books[row]
        if snapshot is None:
            self.outcomes["snapshot_unread"] += 1
            return NOTHING_CHANGED
        outcome = book.apply_snapshot(*snapshot, limit)
        self.outcomes[f"snapshot_{outcome.value}"] += 1
        if outcome is Outcome.APPLIED:
            self._show(row, book, received_ns)
        elif not book.is_valid:
            self._show_gap(row)
        else:
            return NOTHING_CHANGED
        return row

    @property
    def rows(self) -> list[int]:
        """The rows whose ladders it writes, ascending."""
        return list(self._books)

    def is_valid(self, row: int) -> bool:
        """Whether the row's ladder counts."""
        return self._books[row].is_valid

    def begin_anew(self) -> None:
        """A connection began where the recording has a mark of it: no ladder counts before it is spliced again."""
        for row, book in self._books.items():
            book.void()
            self._show_gap(row)

    def states(self) -> Iterator[tuple[int, BookState]]:
        """Yield all that it knows, a symbol at a time, with the time at which the ladder was last told (0: never)."""
        for row in sorted(self._books, key=self._shown_ns.__getitem__):
            yield self._shown_ns[row], self._books[row].state(self._table.names[row])

    def restore(self, state: BookState, received_ns: int) -> None:
        """Know of a symbol what the fold knew that yielded this; nothing where its ladder counts already."""
        row = self._table.row(state.symbol)
        book = self._books.get(row)
        if book is not None and book.restore(state) and book.is_valid:
            self._show(row, book, received_ns)

    def counters(self) -> FeedCounters:
        """Return the counts for the feed's header line."""
        return FeedCounters(self.frames, self.parsed, self.rejected.total(), self.quantity_capped)

    def _show(self, row: int, book: DepthBook, received_ns: int) -> None:
        bids, asks = book.bids[: self._levels], book.asks[: self._levels]
        status = RowStatus.VALID if len(bids) and len(asks) else RowStatus.ONE_SIDED
        self._shown_ns[row] = received_ns
        self.spliced.add(row)
        self._writer.write_ladder(row, bids, asks, book.update_id, received_ns, status)

    def _show_gap(self, row: int) -> None:
        self._shown_ns[row] = 0
        self._writer.write_ladder(row, _NO_LEVELS, _NO_LEVELS, 0, 0, RowStatus.GAP)

    def _reject(self, rejected: Rejected) -> int:
        self.rejected[rejected.reason] += 1
        if rejected.reason in _UNSEEN or rejected.reason is Reason.STALE_UPDATE_ID:
            return NOTHING_CHANGED
        rows = list(self._books) if rejected.row == NO_ROW else [rejected.row]
        touched = [row for row in rows if row in self._books]
        for row in touched:
            self._books[row].void()
            self._show_gap(row)
        if not touched:
            return NOTHING_CHANGED
        return ALL_CHANGED if rejected.row == NO_ROW else rejected.row
