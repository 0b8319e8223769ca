"""How many rows of an image count now, and why the others do not."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from kernels import seqlock
from kernels.book_image import LIVENESS_NS_MAX, NO_AGE_LIMIT, BookImage, RowStatus
from kernels.seqlock import INVALID, read_live_row

# A digest of the files whose functions are compiled into this: numba's cache does not look at them (see test_warm).
COMPILED_WITH: Final = "e277ffa518340e51"

Int64s = npt.NDArray[np.int64]
_STATUSES = 256


class RowTally(NamedTuple):
    """Rows by what a reader may do with them; `reasons` names those that are not live, absent where there is none."""

    live: int
    not_live: int
    reasons: dict[str, int]


def tally_rows(
    image: BookImage, now_ns: int, age_ns_max: int | Int64s = NO_AGE_LIMIT, liveness_ns_max: int = LIVENESS_NS_MAX
) -> RowTally:
    """Judge every row of the image once, as `BookImage.read_live_row` would. Linear in the rows, about 30 ns each.

    `age_ns_max`: one limit, or int64 [rows].
    """
    limits = np.array(np.broadcast_to(np.asarray(age_ns_max, dtype=np.int64), (image.layout.n_rows,)))
    verdicts = np.zeros(seqlock.N_VERDICTS, dtype=np.int64)
    statuses = np.zeros(_STATUSES, dtype=np.int64)
    _count(image.rows, image.row_feed, image.feeds, now_ns, liveness_ns_max, limits, verdicts, statuses)
    live, _, feed_dead, aged, busy = verdicts.tolist()
    counts = {status.name.lower(): int(statuses[status]) for status in RowStatus if status is not RowStatus.VALID}
    counts |= {"feed_dead": feed_dead, "aged": aged, "busy": busy}
    return RowTally(live, image.layout.n_rows - live, {name: count for name, count in counts.items() if count})


@njit(cache=True, nogil=True)
def _count(
    rows: Int64s,
    row_feed: Int64s,
    feeds: Int64s,
    now_ns: int,
    liveness_ns_max: int,
    age_ns_max: Int64s,
    verdicts: Int64s,
    statuses: Int64s,
) -> None:
    """Add to `verdicts` [N_VERDICTS] and, for rows that their feed calls invalid, to `statuses` [256]."""
    values = np.empty(seqlock.ROW_WORDS, dtype=np.int64)
    for row in range(len(row_feed)):
        verdict = read_live_row(rows, row_feed, feeds, row, now_ns, liveness_ns_max, age_ns_max[row], values)
        verdicts[verdict] += 1
        if verdict == INVALID:
            statuses[values[seqlock.FLAGS] & seqlock.STATUS_MASK] += 1
