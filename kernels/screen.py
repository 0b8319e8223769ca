"""The compiled screen: which cycles of the changed rows may return more than a threshold.

It decides nothing but what is worth exact arithmetic (`kernels.evaluate`), and it can never miss.

**Error bound.** With u = 2^-53, each leg's rate is the quotient of two numbers, one exact (1e8) and one a count below
2^63 rounded to float64: two roundings a leg, six for three legs, and two more for the products. Counts lie in [1,
2^63), so a rate lies in [1e-11, 1e11] and a product in [1e-33, 1e33]: nothing under- or overflows, and each rounding
is a factor (1 + d) or 1 / (1 + d) with |d| <= u. Eight of them: |computed / exact - 1| <= 8u / (1 - 8u) < 9u < 2^-49 =
`RELATIVE_ERROR`. So exact >= T implies computed >= T (1 - 2^-49), and `screen_threshold(T)` is not above that. Source:
N. J. Higham, Accuracy and Stability of Numerical Algorithms (2002), lemma 3.1; the counting is derived here.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from kernels import seqlock
from kernels.cycles import BUY, SELL
from kernels.fixed8 import SCALE
from kernels.seqlock import ASK_PX, BID_PX, INVALID, LIVE, read_live_row

# A digest of the files whose functions are compiled into this: numba's cache does not look at them (see test_warm).
COMPILED_WITH: Final = "b9882f3ad2c5049c"

RELATIVE_ERROR: Final = Fraction(1, 2**49)
_SCALE: Final = float(SCALE)
_VERDICT_BITS: Final = 3
_VERDICT_MASK: Final = 7

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]


def screen_threshold(least_gross: Fraction) -> float:
    """Return a float that the computed gross return reaches whenever the exact one reaches `least_gross` (above 0)."""
    return math.nextafter(float(least_gross * (1 - RELATIVE_ERROR)), 0.0)


@njit(cache=True, nogil=True)
def screen_rows(
    changed: Int32s,
    index: tuple[Int64s, Int32s, Int32s, Int8s],
    image: tuple[Int64s, Int64s, Int64s],
    limits: tuple[Int64s, int, float],
    now_ns: int,
    scratch: tuple[Int64s, Int64s, Float64s],
    out: Int32s,
    tally: Int64s,
) -> int:
    """Screen each cycle that crosses a changed row, once, and return how many candidates were put into `out`.

    `index`: row_start, row_cycles, legs, sides of a CycleIndex; `image`: rows, row_feed, feeds of a BookImage
    (read-only); `limits`: greatest age in ns of each row, greatest silence of a feed in ns, threshold. `scratch`, from
    zeros and kept between calls: int64 [cycles + 1] (the last numbers the calls, the others say in which one a cycle
    was last seen), int64 [rows] (the same, and the verdict), float64 [2, rows] (rates by side). `out` int32 [cycles]:
    candidates in the order met, so it never fills. `tally` int64 [N_VERDICTS], added to: under LIVE the cycles
    evaluated, under each other verdict those skipped for a leg of that verdict (the first such leg in the
    cycle's order).

    Each row is read, with its header, at most once a call: all cycles of a call are of one reading of each row.
    """
    row_start, row_cycles, legs, sides = index
    rows, row_feed, feeds = image
    age_ns_max, liveness_ns_max, threshold = limits
    stamps, seen, rates = scratch
    values = np.empty(seqlock.ROW_WORDS, dtype=np.int64)
    stamp = stamps[-1] + 1
    stamps[-1] = stamp
    found = 0
    for changed_row in changed:
        for at in range(row_start[changed_row], row_start[changed_row + 1]):
            cycle = row_cycles[at]
            if stamps[cycle] == stamp:
                continue
            stamps[cycle] = stamp
            verdict = LIVE
            gross = 1.0
            for leg in range(3):
                row = legs[cycle, leg]
                known = seen[row]
                if known >> _VERDICT_BITS != stamp:
                    verdict = read_live_row(
                        rows, row_feed, feeds, row, now_ns, liveness_ns_max, age_ns_max[row], values
                    )
                    bid, ask = values[BID_PX], values[ASK_PX]
                    if verdict == LIVE and (bid <= 0 or ask <= 0):
                        verdict = INVALID
                    if verdict == LIVE:
                        rates[BUY, row] = _SCALE / np.float64(ask)
                        rates[SELL, row] = np.float64(bid) / _SCALE
                    known = stamp << _VERDICT_BITS | verdict
                    seen[row] = known
                verdict = known & _VERDICT_MASK
                if verdict != LIVE:
                    break
                gross *= rates[sides[cycle, leg], row]
            tally[verdict] += 1
            if verdict == LIVE and gross >= threshold:
                out[found] = cycle
                found += 1
    return found
