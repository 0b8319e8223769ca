"""Recorded connections of depth brought to ladders, by the fold that the live ones have (`kernels.depth_fold`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kernels.book_image import FeedWriter
from kernels.capture_records import SlotRecord, decode_book_state, decode_snapshot
from kernels.depth_fold import DepthFold
from kernels.fold import ALL_CHANGED, NOTHING_CHANGED
from kernels.frames import NO_ROW, Reason, SymbolTable
from kernels.recorded_line import LineKind, RecordedLine


class DepthPlan(NamedTuple):
    """Which recordings are connections of depth, and what an image needs for them.

    `sources`: their numbers among the recordings, ascending; `ladders`: (row, place in `sources`); `levels` a side.
    """

    sources: tuple[int, ...]
    ladders: tuple[tuple[int, int], ...]
    levels: int


def plan_depth(slots: Mapping[int, SlotRecord], table: SymbolTable) -> DepthPlan:
    """Plan the ladders of recordings, by number; one that two have (a twin's, say) is the first's.

    Symbols that are not listed have none. Of recordings with different levels the image has the most.
    """
    sources = tuple(sorted(number for number, slot in slots.items() if slot.is_depth))
    ladders: dict[int, int] = {}
    for place, number in enumerate(sources):
        for symbol in slots[number].symbols:
            row = table.row(symbol)
            if row != NO_ROW:
                ladders.setdefault(row, place)
    levels = max((slots[number].levels for number in sources), default=0)
    return DepthPlan(sources, tuple(sorted(ladders.items())), levels)


class RecordedDepth:
    """One recorded connection. Its `fold` counts, a record that is none as a bad line."""

    def __init__(self, writer: FeedWriter, table: SymbolTable) -> None:
        self.writer, self.fold = writer, DepthFold(writer, table)
        self._table = table
        self._ladders = frozenset(self.fold.rows)

    def apply(self, line: RecordedLine, now_ns: int) -> list[int]:
        """Apply one entry of the recording; return the rows whose ladders it wrote. Raises Fenced.

        What a state tells was so before the recording began: it changes nothing.
        """
        match line.kind:
            case LineKind.DEPTH:
                changed = self.fold.apply_frame(line.frame, now_ns)
            case LineKind.EPOCH:
                self.fold.begin_anew()
                changed = ALL_CHANGED
            case LineKind.ASKED:
                changed = self._asked(line.frame)
            case LineKind.SNAPSHOT:
                changed = self._spliced(line.frame, now_ns)
            case LineKind.STATE:
                changed = self._restored(line.frame, now_ns)
            case LineKind.UNSPLICED:
                changed = self._rejected(Reason.DEPTH_WITHOUT_SNAPSHOT)
            case LineKind.BAD:
                changed = self._rejected(Reason.BAD_LINE)
            case _:
                changed = NOTHING_CHANGED
        if changed == ALL_CHANGED:
            return self.fold.rows
        return [] if changed == NOTHING_CHANGED else [changed]

    @property
    def never_spliced(self) -> int:
        """Ladders that no snapshot, and no state, has brought to count."""
        return len(self._ladders - self.fold.spliced)

    def _asked(self, payload: bytes) -> int:
        row = self._table.row(payload.decode("utf-8", "replace"))
        if row in self._ladders:
            self.fold.begin_snapshot(row)
        return NOTHING_CHANGED

    def _spliced(self, payload: bytes, now_ns: int) -> int:
        snapshot = decode_snapshot(payload)
        if snapshot is None:
            return self._rejected(Reason.BAD_LINE)
        row = self._table.row(snapshot.symbol)
        if row not in self._ladders:
            return NOTHING_CHANGED
        return self.fold.apply_snapshot(row, snapshot.body, now_ns, snapshot.limit)

    def _restored(self, payload: bytes, now_ns: int) -> int:
        state = decode_book_state(payload)
        if state is None:
            return self._rejected(Reason.BAD_LINE)
        self.fold.restore(state, now_ns)
        return NOTHING_CHANGED

    def _rejected(self, reason: Reason) -> int:
        self.fold.frames += 1
        self.fold.rejected[reason] += 1
        return NOTHING_CHANGED
