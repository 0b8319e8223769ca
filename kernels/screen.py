"""The compiled screen: which cycles of the changed rows may return more than a threshold.

It decides nothing but what is worth exact arithmetic (`kernels.evaluate`), and it can never miss. It compares, with the
least net return asked for, an upper bound of what the exact arithmetic can give: the product over the legs of the rate
at the top of the book times the share that is left after the leg's own fee.

**Why that is an upper bound.** The exact arithmetic rounds every amount against us and buys at the top's price or
worse (a tick's rounding, deeper levels), so no leg turns its input into more than input x rate x kept. Legs after the
first spend at most what the one before received: the product follows. Where a token pays the fees, a leg hands on
its whole amount, and the fees' worth is counted at the end: received <= amount_i x (factors of the later legs) for
each leg i, so the fees cost at least received x (f_1 + ... + f_n), and 1 - sum f_i <= product (1 - f_i).

**Error bound.** With u = 2^-53, a BUY's factor is kept / ask: kept, a count of 1e-8, is exact, ask is rounded to
float64, the quotient rounded: two roundings. A SELL's is bid times kept / 1e16: three. A cycle of n <= 4 legs has at
most 3 n of these and n - 1 for the products: 15. Counts lie in [1, 2^63) and kept in [1, 1e8], so factors lie in
[1e-19, 1e11] and products in [1e-76, 1e44]: nothing under- or overflows, and each rounding is a factor (1 + d) or
1 / (1 + d) with |d| <= u. So |computed / exact - 1| <= 15u / (1 - 15u) < 16u = 2^-49 = `RELATIVE_ERROR`, exact >= T
implies computed >= T (1 - 2^-49), and `screen_threshold(T)` is not above that. Source: N. J. Higham, Accuracy and
Stability of Numerical Algorithms (2002), lemma 3.1; the counting is derived here.
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
_VERDICT_BITS: Final = 3
_VERDICT_MASK: Final = 7

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Float64s = npt.NDArray[np.float64]


def screen_threshold(least: Fraction) -> float:
    """Return a float that the computed bound reaches whenever the exact one reaches `least` (above 0)."""
    return math.nextafter(float(least * (1 - RELATIVE_ERROR)), 0.0)


def kept_factors(fees_e8: Int64s) -> tuple[Float64s, Float64s]:
    """Return what fees leave, for `screen_rows`: float64 [rows] each, over the ask for a BUY, times the bid for a SELL.

    `fees_e8`: int64 [rows], counts of 1e-8 in [0, 1e8).
    """
    kept = (SCALE - fees_e8).astype(np.float64)
    return kept, kept / float(SCALE * SCALE)


@njit(cache=True, nogil=True)
def screen_rows(
    changed: Int32s,
    index: tuple[Int64s, Int32s, Int32s, Int8s, Int8s],
    image: tuple[Int64s, Int64s, Int64s],
    kept: tuple[Float64s, Float64s],
    limits: tuple[Int64s, int, float],
    now_ns: int,
    scratch: tuple[Int64s, Int64s, Float64s],
    out: Int32s,
    tally: Int64s,
) -> int:
    """Screen each cycle that crosses a changed row, once, and return how many candidates were put into `out`.

    `index`: row_start, row_cycles, legs, sides, lengths of a CycleIndex; `image`: rows, row_feed, feeds of a BookImage
    (read-only); `kept`: of `kept_factors`; `limits`: greatest age in ns of each row, greatest silence of a feed in ns,
    threshold. `scratch`, from zeros and kept between calls: int64 [cycles + 1] (the last numbers the calls, the others
    say in which one a cycle was last seen), int64 [rows] (the same, and the verdict), float64 [2, rows] (factors by
    side). `out` int32 [cycles]: candidates in the order met, so it never fills. `tally` int64 [N_VERDICTS], added to:
    under LIVE the cycles evaluated, under each other verdict those skipped for a leg of that verdict (the first such
    leg in the cycle's order).

    Each row is read, with its header, at most once a call: all cycles of a call are of one reading of each row.
    """
    row_start, row_cycles, legs, sides, lengths = index
    kept_buy, kept_sell = kept
    rows, row_feed, feeds = image
    age_ns_max, liveness_ns_max, threshold = limits
    stamps, seen, factors = scratch
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
            bound = 1.0
            for leg in range(lengths[cycle]):
                row = np.int64(legs[cycle, leg])  # as everyone else calls the reader: one compiled form of it
                known = seen[row]
                if known >> _VERDICT_BITS != stamp:
                    verdict = read_live_row(
                        rows, row_feed, feeds, row, now_ns, liveness_ns_max, age_ns_max[row], values
                    )
                    bid, ask = values[BID_PX], values[ASK_PX]
                    if verdict == LIVE and (bid <= 0 or ask <= 0):
                        verdict = INVALID
                    if verdict == LIVE:
                        factors[BUY, row] = kept_buy[row] / np.float64(ask)
                        factors[SELL, row] = np.float64(bid) * kept_sell[row]
                    known = stamp << _VERDICT_BITS | verdict
                    seen[row] = known
                verdict = known & _VERDICT_MASK
                if verdict != LIVE:
                    break
                bound *= factors[sides[cycle, leg], row]
            tally[verdict] += 1
            if verdict == LIVE and bound >= threshold:
                out[found] = cycle
                found += 1
    return found
