"""A stretch of recorded frames folded and screened in one compiled call: what `kernels.replay` does frame by frame.

It goes on until a frame is not the usual good one, or is no frame, or a cycle may pay; then Python takes over for that
one, and the next call goes on behind it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from kernels.address_block import int64s_in, uint8s_in
from kernels.atomics import store_release
from kernels.frame_fold import FEEDS, FENCED_ROW, STALE_ROW, fold_frame
from kernels.frame_scan import UNUSUAL
from kernels.record_index import FRAME
from kernels.screen import screen_rows
from kernels.seqlock import LIVE_NS

# A digest of the files whose functions are compiled into this: numba's cache does not look at them (see test_warm).
COMPILED_WITH: Final = "da223ddfcddabaf1"

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

# Places of the stretch's block: entries in their order, then the texts that they lie in, by source.
TIMES, SOURCES, STARTS, LENGTHS, KINDS, CLOCK, TEXTS = range(7)
END: Final = 0
BY_HAND: Final = 1
CANDIDATES: Final = 2


@njit(cache=True, nogil=True)
def run_stretch(fold: Int64s, screen: Int64s, stretch: Int64s, changed: Int32s, first: int) -> tuple[int, int, int]:
    """Go on from entry `first`; return (the entry it stopped at, why, how many candidates it found there).

    `fold`, `screen`: blocks of a FrameFold and a Screen of the same image; `changed` int32 [1], scratch. The clock
    (int64 [1], in the stretch's block) is the latest time so far, and the feed's header beats with every frame. END:
    none is left. BY_HAND: the entry was not touched. CANDIDATES: it was folded; its cycles are to be decided.
    """
    times, sources, starts = int64s_in(stretch, TIMES), int64s_in(stretch, SOURCES), int64s_in(stretch, STARTS)
    lengths, kinds, clock = int64s_in(stretch, LENGTHS), uint8s_in(stretch, KINDS), int64s_in(stretch, CLOCK)
    feeds = int64s_in(fold, FEEDS)
    for entry in range(first, len(times)):
        if kinds[entry] != FRAME:
            return entry, BY_HAND, 0
        now_ns = max(clock[0], times[entry])
        text = uint8s_in(stretch, TEXTS + sources[entry])
        row = fold_frame(fold, text, starts[entry], starts[entry] + lengths[entry], now_ns)
        if row in (UNUSUAL, FENCED_ROW):
            return entry, BY_HAND, 0
        clock[0] = now_ns
        store_release(feeds, LIVE_NS, now_ns)
        if row == STALE_ROW:
            continue
        changed[0] = row
        found = screen_rows(screen, changed, 1, now_ns)
        if found:
            return entry, CANDIDATES, found
    return len(times), END, 0
