"""The fold of usual frames into rows, compiled: many frames of one connection in one call, nothing made in between.

It takes the frames in their order and stops at the first that is not the usual good one of a row that the writer owns,
for the whole rule to judge (`kernels.fold`), which then goes on here behind it. So the rows, the ring and the counts
are those that one frame at a time by the whole rule would leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from kernels.address_block import Block, int32s_in, int64s_in, uint8s_in
from kernels.book_image import FeedWriter, Fenced
from kernels.frame_scan import (
    ASK_PX,
    ASK_QTY,
    BID_PX,
    BID_QTY,
    N_FIGURES,
    QUANTITY_CAPPED,
    TEXT_PADDING,
    UNUSUAL,
    UPDATE_ID,
    ScanTable,
    scan_frame,
)
from kernels.seqlock import FENCED, VALID, write_row
from kernels.seqlock import QUANTITY_CAPPED as CAPPED_FLAG

# A digest of the files whose functions are compiled into this: numba's cache does not look at them (see test_warm).
COMPILED_WITH: Final = "93378ae6d6b3bea7"

FRAMES_MAX: Final = 1_024
"""Frames a call takes at most; a longer batch is several calls."""
FENCED_OUT: Final = -1
STALE_ROW: Final = -2
FENCED_ROW: Final = -3
_TEXT_BYTES: Final = 1 << 18

Int64s = npt.NDArray[np.int64]

# Places in the block.
_TEXT, _LENGTHS, _SLOTS, _LOWER, _LOWER_AT, _UPPER, _UPPER_AT, _FIGURES = range(8)
_ROWS, FEEDS, _RING, _OWNED, _LATEST, _STATE, _CAPPED_ROWS = range(8, 15)

# Words of the state: whose rows; counts since the start; of the last call, the last row changed and where it stopped.
_FEED, _EPOCH, _PARSED, _STALE, _CAPPED, _LAST_ROW, _STOPPED_AT, _N_STATE = range(8)
NO_CHANGE: Final = -1


@njit(cache=True, nogil=True, forceinline=True)
def fold_frame(block: Int64s, text: npt.NDArray[np.uint8], start: int, stop: int, received_ns: int) -> int:
    """Fold the frame `text[start:stop]`; return the row that it changed, or UNUSUAL (not touched: the whole rule's),
    STALE_ROW (counted), FENCED_ROW (the writer has a successor).
    """
    state, figures = int64s_in(block, _STATE), int64s_in(block, _FIGURES)
    row = scan_frame(
        text, start, stop, int32s_in(block, _SLOTS), uint8s_in(block, _LOWER), int64s_in(block, _LOWER_AT),
        uint8s_in(block, _UPPER), int64s_in(block, _UPPER_AT), figures,
    )  # fmt: skip
    if row == UNUSUAL or not uint8s_in(block, _OWNED)[row]:
        return UNUSUAL
    latest = int64s_in(block, _LATEST)
    # Equal is stale too: a frame seen twice says nothing new.
    if figures[UPDATE_ID] <= latest[row]:
        state[_STALE] += 1
        return STALE_ROW
    capped = figures[QUANTITY_CAPPED] != 0
    written = write_row(
        int64s_in(block, _ROWS), int64s_in(block, FEEDS), int64s_in(block, _RING), state[_FEED], state[_EPOCH], row,
        figures[BID_PX], figures[BID_QTY], figures[ASK_PX], figures[ASK_QTY], figures[UPDATE_ID], received_ns,
        VALID | (CAPPED_FLAG if capped else 0),
    )  # fmt: skip
    if written == FENCED:
        return FENCED_ROW
    latest[row] = figures[UPDATE_ID]
    state[_PARSED] += 1
    state[_CAPPED] += capped
    int64s_in(block, _CAPPED_ROWS)[row] += capped
    return row


@njit(cache=True, nogil=True)
def _fold_frames(block: Int64s, first: int, count: int, start: int, received_ns: int) -> int:
    """Fold frames `first` to `count`, the first of them at `start` in the text; return the number of the one that it
    stopped at, `count` where there was none, FENCED_OUT where the writer has a successor.
    """
    text, lengths, state = uint8s_in(block, _TEXT), int64s_in(block, _LENGTHS), int64s_in(block, _STATE)
    state[_LAST_ROW] = NO_CHANGE
    for number in range(first, count):
        row = fold_frame(block, text, start, start + lengths[number], received_ns)
        if row == UNUSUAL:
            state[_STOPPED_AT] = start
            return number
        if row == FENCED_ROW:
            return FENCED_OUT
        start += lengths[number]
        if row != STALE_ROW:
            state[_LAST_ROW] = row
    return count


class FrameFold:
    """The compiled fold of one writer's frames. Both int64 [rows] and shared with whoever folds the other frames:
    `latest`, the last update id of each row, and `capped_rows`, its frames with a quantity that Fixed8 does not hold.
    """

    __slots__ = ("_block", "_lengths", "_lengths_view", "_state", "_state_view", "_text_view", "capped_rows", "latest")

    def __init__(self, writer: FeedWriter, table: ScanTable) -> None:
        n_rows = writer.image.layout.n_rows
        self.latest = np.zeros(n_rows, dtype=np.int64)
        self.capped_rows = np.zeros(n_rows, dtype=np.int64)
        self._lengths = np.zeros(FRAMES_MAX, dtype=np.int64)
        self._lengths_view = self._lengths.data
        self._state = np.zeros(_N_STATE, dtype=np.int64)
        self._state[_FEED], self._state[_EPOCH] = writer.feed, writer.epoch
        self._state_view = self._state.data
        owned = np.zeros(n_rows, dtype=np.uint8)
        owned[list(writer.owned)] = 1
        rows, feeds, ring = writer.arrays
        self._block = Block(
            {
                _LENGTHS: self._lengths,
                _SLOTS: table.slots,
                _LOWER: table.lower,
                _LOWER_AT: table.lower_at,
                _UPPER: table.upper,
                _UPPER_AT: table.upper_at,
                _FIGURES: np.zeros(N_FIGURES, dtype=np.int64),
                _ROWS: rows,
                FEEDS: feeds,
                _RING: ring,
                _OWNED: owned,
                _LATEST: self.latest,
                _STATE: self._state,
                _CAPPED_ROWS: self.capped_rows,
            }
        )
        self._make_room(_TEXT_BYTES)

    def put(self, frames: Sequence[bytes]) -> int:
        """Take a batch (at most FRAMES_MAX) to be folded by `fold`; return how many they are."""
        count = len(frames)
        if count == 1:
            text = frames[0]
            self._lengths_view[0] = len(text)
        else:
            text = b"".join(frames)
            self._lengths[:count] = np.fromiter(map(len, frames), np.int64, count)
        if len(text) + TEXT_PADDING > len(self._text_view):
            self._make_room(1 << (len(text) + TEXT_PADDING).bit_length())
        self._text_view[: len(text)] = text
        return count

    def fold(self, first: int, count: int, start: int, received_ns: int) -> int:
        """Fold the batch from frame `first`, which begins at byte `start`; return the number of the frame it stopped
        at, `count` where there was none. Raises Fenced.
        """
        stopped: int = _fold_frames(self._block.words, first, count, start, received_ns)
        if stopped == FENCED_OUT:
            raise Fenced(f"feed {self._state[_FEED]}: epoch {self._state[_EPOCH]} has been succeeded")
        return stopped

    @property
    def block(self) -> Int64s:
        """For compiled callers of `fold_frame`."""
        return self._block.words

    @property
    def last_row(self) -> int:
        """The last row that the last call changed, or NO_CHANGE."""
        return self._state_view[_LAST_ROW]

    @property
    def stopped_at(self) -> int:
        """Where in the text the frame begins that the last call stopped at."""
        return self._state_view[_STOPPED_AT]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Frames since the start: parsed, stale, and of those parsed, capped."""
        return self._state_view[_PARSED], self._state_view[_STALE], self._state_view[_CAPPED]

    def _make_room(self, n_bytes: int) -> None:
        text = np.zeros(n_bytes, dtype=np.uint8)
        self._text_view = text.data
        self._block.put(_TEXT, text)
