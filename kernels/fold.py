"""The fold of a feed's frames into its rows: the one code path for the live feed and for a replay."""

from __future__ import annotations

from collections import Counter
from typing import Final

import orjson

from kernels.book_image import FeedCounters, FeedWriter, RowStatus
from kernels.frames import (
    NO_ROW,
    ROW_STATUS,
    Reason,
    Rejected,
    RowUpdate,
    SymbolTable,
    parse_frame,
    parse_snapshot_entry,
)

NOTHING_CHANGED: Final = -1
ALL_CHANGED: Final = -2


class FeedFold:
    """Applies frames to the rows of one `FeedWriter`, and accounts for each: frames = parsed + sum of `rejected`.

    A fold lives as long as its writer's epoch. `rejected` is counted by reason, `quantity_capped` by frame (capped
    frames are parsed ones). A frame for a symbol of another feed's is UNKNOWN_SYMBOL here.
    """

    __slots__ = ("_latest", "_table", "_writer", "frames", "parsed", "quantity_capped", "rejected", "rows_invalidated")

    def __init__(self, writer: FeedWriter, table: SymbolTable) -> None:
        self._writer, self._table = writer, table
        self._latest: dict[int, int] = {}
        self.frames = 0
        self.parsed = 0
        self.quantity_capped = 0
        self.rows_invalidated = 0
        self.rejected: Counter[Reason] = Counter()

    def apply_frame(self, frame: bytes, received_ns: int) -> int:
        """Apply a stream's frame; return the row that changed, NOTHING_CHANGED or ALL_CHANGED (each row was
        invalidated).

        Raises what the writer does: Fenced.
        """
        return self._apply(parse_frame(frame, self._table), received_ns)

    def apply_entry(self, entry: object, received_ns: int) -> int:
        """Apply one decoded entry of a snapshot, in the same way."""
        return self._apply(parse_snapshot_entry(entry, self._table), received_ns)

    def snapshot_entries(self, payload: bytes) -> list[object] | None:
        """Return the entries of a snapshot's bytes; None, counted as one bad line, if it is no JSON array."""
        try:
            entries = orjson.loads(payload)
        except orjson.JSONDecodeError:
            entries = None
        if isinstance(entries, list):
            return entries
        self.reject_line()
        return None

    def reject_line(self) -> None:
        """Count a recorded line that is no frame (damage to the recording: it says nothing of any row)."""
        self.frames += 1
        self.rejected[Reason.BAD_LINE] += 1

    def counters(self) -> FeedCounters:
        """Return the counts for the feed's header line."""
        return FeedCounters(self.frames, self.parsed, self.rejected.total(), self.quantity_capped)

    def _apply(self, outcome: RowUpdate | Rejected, received_ns: int) -> int:
        self.frames += 1
        if isinstance(outcome, Rejected):
            return self._reject(outcome)
        row, bid_px, bid_qty, ask_px, ask_qty, update_id, capped = outcome
        if row not in self._writer.owned:
            return self._reject(Rejected(Reason.UNKNOWN_SYMBOL, NO_ROW))
        if update_id:
            # Equal is stale too: a frame seen twice says nothing new.
            if update_id <= self._latest.get(row, 0):
                return self._reject(Rejected(Reason.STALE_UPDATE_ID, row))
            self._latest[row] = update_id
        self._writer.write_row(row, bid_px, bid_qty, ask_px, ask_qty, update_id, received_ns, capped)
        self.parsed += 1
        self.quantity_capped += capped
        return row

    def _reject(self, rejected: Rejected) -> int:
        self.rejected[rejected.reason] += 1
        status = ROW_STATUS.get(rejected.reason)
        if status is None:
            return NOTHING_CHANGED
        if rejected.row == NO_ROW:
            for row in self._writer.owned:
                self._invalidate(row, status)
            return ALL_CHANGED
        if rejected.row not in self._writer.owned:
            return NOTHING_CHANGED
        self._invalidate(rejected.row, status)
        return rejected.row

    def _invalidate(self, row: int, status: RowStatus) -> None:
        self._writer.mark_invalid(row, status)
        self.rows_invalidated += 1
