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
from kernels.cycles import BUY
from kernels.fixed8 import SCALE
from kernels.seqlock import ASK_PX, BID_PX, INVALID, LIVE, read_live_row

# A digest of the files whose functions are compiled into this: numba's cache does not look at them (see test_warm).
COMPILED_WITH: Final = "416a90a51f853f0c"

RELATIVE_ERROR: Final = Fraction(1, 2**49)
_SCALE: Final = float(SCALE)

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


def screen_threshold(least_gross: Fraction) -> float:
    """Return a float that the computed gross return reaches whenever the exact one reaches `least_gross` (above 0)."""
    return math.nextafter(float(least_gross * (1 - RELATIVE_ERROR)), 0.0)


@njit(cache=True, nogil=True)
def screen_rows(
    changed: Int32s,
    index: tuple[Int64s, Int32s, Int32s, Int8s],
    image: tuple[Int64s, Int64s, Int64s],
    age_ns_max: Int64s,
    now_ns: int,
    liveness_ns_max: int,
    threshold: float,
    stamps: Int64s,
    out: Int32s,
    tally: Int64s,
) -> int:
    """Screen each cycle that crosses a changed row, once, and return how many candidates were put into `out`.

    `index`: row_start, row_cycles, legs, sides of a CycleIndex; `image`: rows, row_feed, feeds of a BookImage
    (read-only); `age_ns_max` int64 [rows]. `stamps` int64 [cycles + 1]: the last entry numbers the calls, the others
    say in which one a cycle was last seen; start from zeros. `out` int32 [cycles]: candidates in the order met, so it
    never fills. `tally` int64 [N_VERDICTS], added to: under LIVE the cycles evaluated, under each other verdict those
    skipped for a leg of that verdict (the changed row first, then leg order). All three legs are read here with their
    headers.
    """
    row_start, row_cycles, legs, sides = index
    rows, row_feed, feeds = image
    values = np.empty(seqlock.ROW_WORDS, dtype=np.int64)
    stamp = stamps[-1] + 1
    stamps[-1] = stamp
    found = 0
    for row in changed:
        first, last = row_start[row], row_start[row + 1]
        if first == last:
            continue
        verdict = read_live_row(rows, row_feed, feeds, row, now_ns, liveness_ns_max, age_ns_max[row], values)
        bid, ask = values[BID_PX], values[ASK_PX]
        if verdict == LIVE and (bid <= 0 or ask <= 0):
            verdict = INVALID
        for at in range(first, last):
            cycle = row_cycles[at]
            if stamps[cycle] == stamp:
                continue
            stamps[cycle] = stamp
            judged = verdict
            gross = 1.0
            for leg in range(3):
                if judged != LIVE:
                    break
                leg_row = legs[cycle, leg]
                leg_bid, leg_ask = bid, ask
                if leg_row != row:
                    judged = read_live_row(
                        rows, row_feed, feeds, leg_row, now_ns, liveness_ns_max, age_ns_max[leg_row], values
                    )
                    leg_bid, leg_ask = values[BID_PX], values[ASK_PX]
                    if judged == LIVE and (leg_bid <= 0 or leg_ask <= 0):
                        judged = INVALID
                if judged == LIVE:
                    if sides[cycle, leg] == BUY:
                        gross *= _SCALE / np.float64(leg_ask)
                    else:
                        gross *= np.float64(leg_bid) / _SCALE
            tally[judged] += 1
            if judged == LIVE and gross >= threshold:
                out[found] = cycle
                found += 1
    return found
