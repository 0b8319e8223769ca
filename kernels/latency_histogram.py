"""Latencies in fixed buckets that grow with the value: exact counts, mergeable, quantiles with a stated error.

A histogram is an int64 vector of `WORDS`: `BUCKETS` counts, then the greatest value recorded. Values are nanoseconds.
Below 64 ns each value has a bucket of its own; above, every power of two is cut into 32 equal ones, so that a bucket's
upper bound is less than 1/32 above any value in it. Values from `VALUE_NS_MAX` on (18 minutes) are counted in the last
bucket; a value below 0 (two clocks) counts as 0.

Source: the log-linear buckets of HdrHistogram (G. Tene, hdrhistogram.org, 2012); the index is derived here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

Int64s = npt.NDArray[np.int64]

SUB_BITS: Final = 5
_SUBS: Final = 1 << SUB_BITS
_OCTAVES: Final = 34
BUCKETS: Final = (_OCTAVES + 2) * _SUBS
VALUE_NS_MAX: Final = (1 << (_OCTAVES + SUB_BITS + 1)) - 1
WORDS: Final = BUCKETS + 1
MAX_AT: Final = BUCKETS

RELATIVE_ERROR: Final = 1 / _SUBS
"""A quantile is at least the true one and less than this share above it."""


FRAME_TO_ROW: Final = "1 frame to row"
FRAME_TO_DECISION: Final = "2 frame to decision"
FRAME_TO_TOLD: Final = "3 frame to told"
"""Names of the stages, in their order; each from the receipt of the (newest) frame."""


def new_histogram() -> Int64s:
    """Return an empty one."""
    return np.zeros(WORDS, dtype=np.int64)


@njit(cache=True, nogil=True)
def record(histogram: Int64s, value_ns: int, times: int = 1) -> None:
    """Count a value, `times` times; in place, about 10 ns from compiled code."""
    if value_ns > histogram[MAX_AT]:
        histogram[MAX_AT] = value_ns
    value = min(max(value_ns, 0), VALUE_NS_MAX)
    shift = 0
    while value >> shift >= 2 * _SUBS:
        shift += 1
    histogram[shift * _SUBS + (value >> shift)] += times


def bounds_ns(bucket: int) -> tuple[int, int]:
    """Return the least and the greatest value of a bucket."""
    if bucket < 2 * _SUBS:
        return bucket, bucket
    shift = bucket // _SUBS - 1
    low = (bucket - shift * _SUBS) << shift
    return low, low + (1 << shift) - 1


def count_of(histogram: Int64s) -> int:
    """Return how many values were recorded."""
    return int(histogram[:BUCKETS].sum())


def merge(into: Int64s, other: Int64s) -> None:
    """Add `other` to `into`, in place: what one histogram of both recordings would hold."""
    greatest = max(int(into[MAX_AT]), int(other[MAX_AT]))
    into += other
    into[MAX_AT] = greatest


def quantile_ns(histogram: Int64s, per_mille: int) -> int:
    """Return the value of rank ceil(n * per_mille / 1000), at least the first, rounded up to its bucket's upper bound.

    Never below the true value, less than `RELATIVE_ERROR` above it and never above the greatest recorded (but above
    `VALUE_NS_MAX` only that greatest is known). 0 for an empty histogram. `per_mille` in [0, 1000].
    """
    if not 0 <= per_mille <= 1000:
        raise ValueError(f"a quantile lies in [0, 1000] per mille, not {per_mille}")
    running = np.cumsum(histogram[:BUCKETS])
    count = int(running[-1])
    if count == 0:
        return 0
    rank = max(1, -(-count * per_mille // 1000))
    bucket = int(np.searchsorted(running, rank))
    greatest = max(int(histogram[MAX_AT]), 0)
    return greatest if bucket == BUCKETS - 1 else min(bounds_ns(bucket)[1], greatest)


def to_sparse(histogram: Int64s) -> dict[str, int]:
    """Return the buckets that hold something, by number as text, and `max`: the form that travels."""
    sparse = {str(bucket): int(histogram[bucket]) for bucket in np.flatnonzero(histogram[:BUCKETS]).tolist()}
    return sparse | {"max": int(histogram[MAX_AT])} if sparse else {}


def from_sparse(sparse: Mapping[str, int]) -> Int64s:
    """Return the histogram of a sparse form. Raises ValueError for a bucket that there is not."""
    histogram = new_histogram()
    for name, count in sparse.items():
        at = MAX_AT if name == "max" else int(name)
        if not 0 <= at < WORDS or count < 0:
            raise ValueError(f"no histogram of this form has {count} in bucket {name}")
        histogram[at] = count
    return histogram
