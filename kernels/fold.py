"""The fold of a feed's frames into its rows: the one code path for the live feed and for a replay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import orjson

from kernels.book_image import FeedCounters, FeedWriter, RowStatus
from kernels.capture_records import TickerState, decode_ticker_state
from kernels.frame_fold import FRAMES_MAX, NO_CHANGE, FrameFold
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
from kernels.recorded_line import LineKind, RecordedLine

NOTHING_CHANGED: Final = NO_CHANGE
ALL_CHANGED: Final = -2


class FeedFold:
    """Applies frames to the rows of one `FeedWriter`, and accounts for each: frames = parsed + sum of `rejected`.

    A fold lives as long as its writer's epoch. `rejected` is counted by reason, `quantity_capped` by frame (capped
    frames are parsed ones). A frame for a symbol of another feed's is UNKNOWN_SYMBOL here.

    The usual good frames are folded in compiled code, the others by the whole rule, each in its turn.
    """

    __slots__ = (
        "_capped", "_frames", "_latest", "_parsed", "_rejected", "_table", "_usual", "_writer", "rows_invalidated",
    )  # fmt: skip

    def __init__(self, writer: FeedWriter, table: SymbolTable) -> None:
        self._writer, self._table = writer, table
        self._usual = FrameFold(writer, table.scan)
        self._latest = self._usual.latest
        self.rows_invalidated = 0
        # What was folded by the whole rule; the usual frames are counted where they are folded.
        self._frames = 0
        self._parsed = 0
        self._capped = 0
        self._rejected: Counter[Reason] = Counter()

    @property
    def frames(self) -> int:
        """Every frame, entry and bad line."""
        parsed, stale, _ = self._usual.counts
        return self._frames + parsed + stale

    @property
    def parsed(self) -> int:
        """Frames that set their row."""
        return self._parsed + self._usual.counts[0]

    @property
    def quantity_capped(self) -> int:
        """Of those parsed, frames with a quantity that Fixed8 does not hold."""
        return self._capped + self._usual.counts[2]

    @property
    def capped_rows(self) -> dict[int, int]:
        """Of those, how many by row; rows without one are absent."""
        capped = self._usual.capped_rows
        return {row: int(capped[row]) for row in np.flatnonzero(capped).tolist()}

    @property
    def rejected(self) -> Counter[Reason]:
        """Frames that set no row, by reason (a copy)."""
        rejected, stale = Counter(self._rejected), self._usual.counts[1]
        if stale:
            rejected[Reason.STALE_UPDATE_ID] += stale
        return rejected

    @property
    def block(self) -> npt.NDArray[np.int64]:
        """For compiled callers of `kernels.frame_fold.fold_frame`."""
        return self._usual.block

    def apply_frame(self, frame: bytes, received_ns: int) -> int:
        """Apply a stream's frame; return the row that changed, NOTHING_CHANGED or ALL_CHANGED (each row was
        invalidated).

        Raises what the writer does: Fenced.
        """
        usual = self._usual
        if usual.fold(0, usual.put((frame,)), 0, received_ns) == 1:
            return usual.last_row
        return self._apply(parse_frame(frame, self._table), received_ns)

    def apply_frames(self, frames: Sequence[bytes], received_ns: int) -> bool:
        """Apply the frames of one read in their order; say whether a row changed. Raises Fenced."""
        changed = False
        for begin in range(0, len(frames), FRAMES_MAX):
            changed |= self._apply_batch(frames[begin : begin + FRAMES_MAX], received_ns)
        return changed

    def _apply_batch(self, frames: Sequence[bytes], received_ns: int) -> bool:
        usual = self._usual
        count = usual.put(frames)
        at = usual.fold(0, count, 0, received_ns)
        changed = usual.last_row != NOTHING_CHANGED
        while at < count:
            frame = frames[at]
            start = usual.stopped_at + len(frame)
            changed |= self._apply(parse_frame(frame, self._table), received_ns) != NOTHING_CHANGED
            at = usual.fold(at + 1, count, start, received_ns)
            changed |= usual.last_row != NOTHING_CHANGED
        return changed

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
        self._reject_line(Reason.BAD_LINE)
        return None

    def begin_anew(self, rows: Iterable[int] | None = None) -> None:
        """A connection began where the recording has a mark of it: no row of it (None: of all) counts before its next
        frame, by any id.
        """
        for row in np.flatnonzero(self._latest).tolist() if rows is None else rows:
            if self._latest[row]:
                self._invalidate(row, RowStatus.GAP)
                self._latest[row] = 0

    def apply_mark(self, line: RecordedLine, received_ns: int, rows: Iterable[int] | None = None) -> None:
        """Apply what a recording holds beside frames. `rows`: of the connection that it is of, None: all."""
        match line.kind:
            case LineKind.EPOCH:
                self.begin_anew(rows)
            case LineKind.BAD:
                self._reject_line(Reason.BAD_LINE)
            case LineKind.UNSPLICED:
                self._reject_line(Reason.DEPTH_WITHOUT_SNAPSHOT)
            case LineKind.STATE:
                state = decode_ticker_state(line.frame)
                if state is None:
                    self._reject_line(Reason.BAD_LINE)
                else:
                    self.restore(state, received_ns)
            case _:
                pass

    def states(self) -> Iterator[tuple[int, TickerState]]:
        """Yield what it knows of each row that it has had a good frame of, with the time of what the row says."""
        found = []
        for row in np.flatnonzero(self._latest).tolist():
            one = self._writer.read_row(row)
            found.append((one.received_ns, TickerState(
                self._table.names[row], one.bid_px, one.bid_qty, one.ask_px, one.ask_qty, one.venue_update_id,
                int(self._latest[row]), one.status, one.quantity_capped,
            )))  # fmt: skip
        yield from sorted(found, key=lambda one: one[0])

    def restore(self, state: TickerState, received_ns: int) -> None:
        """Know of a row what the fold knew that yielded this; nothing where it has had a good frame of it."""
        row = self._table.row(state.symbol)
        if row not in self._writer.owned or self._latest[row]:
            return
        self._latest[row] = state.latest_id
        if state.status == RowStatus.VALID:
            self._writer.write_row(
                row, state.bid_px, state.bid_qty, state.ask_px, state.ask_qty, state.venue_update_id, received_ns,
                state.quantity_capped,
            )  # fmt: skip
        else:
            self._writer.mark_invalid(row, state.status)

    def _reject_line(self, reason: Reason) -> None:
        """Count what was recorded and is no frame of a ticker: it says nothing of any row."""
        self._frames += 1
        self._rejected[reason] += 1

    def counters(self) -> FeedCounters:
        """Return the counts for the feed's header line."""
        frames, parsed = self.frames, self.parsed
        return FeedCounters(frames, parsed, frames - parsed, self.quantity_capped)

    def _apply(self, outcome: RowUpdate | Rejected, received_ns: int) -> int:
        self._frames += 1
        if isinstance(outcome, Rejected):
            return self._reject(outcome)
        row, bid_px, bid_qty, ask_px, ask_qty, update_id, capped = outcome
        if row not in self._writer.owned:
            return self._reject(Rejected(Reason.UNKNOWN_SYMBOL, NO_ROW))
        if update_id:
            # Equal is stale too: a frame seen twice says nothing new.
            if update_id <= self._latest[row]:
                return self._reject(Rejected(Reason.STALE_UPDATE_ID, row))
            self._latest[row] = update_id
        self._writer.write_row(row, bid_px, bid_qty, ask_px, ask_qty, update_id, received_ns, capped)
        self._parsed += 1
        self._capped += capped
        self._usual.capped_rows[row] += capped
        return row

    def _reject(self, rejected: Rejected) -> int:
        self._rejected[rejected.reason] += 1
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
