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
from kernels.address_block import (
    Block,
    float64s_in,
    int32s_in,
    int64s_in,
    read_only_int32s_in,
    read_only_int64s_in,
    uint32s_in,
)
from kernels.atomics import load_acquire, load_relaxed
from kernels.book_image import BookImage
from kernels.cycles import NO_LEG, CycleIndex
from kernels.fixed8 import SCALE
from kernels.latency_histogram import new_histogram, record
from kernels.seqlock import (
    AGED,
    ASK_PX,
    BID_PX,
    BUSY,
    EPOCH_SHIFT,
    FEED_DEAD,
    FEED_WORDS,
    FLAGS,
    INVALID,
    LIVE,
    RECEIVED_NS,
    ROW_WORDS,
    SEQUENCE,
    TWIN_FEED,
    drain,
    feed_is_live,
    read_live_row,
)

# A digest of the files whose functions are compiled into this: numba's cache does not look at them (see test_warm).
COMPILED_WITH: Final = "d8a44b633fd7a4ba"

RELATIVE_ERROR: Final = Fraction(1, 2**49)
CHANGES_A_TURN_MAX: Final = 1 << 15
_BATCH_MIN: Final = 64
_VERDICT_BITS: Final = 3
_VERDICT_MASK: Final = 7

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Uint32s = npt.NDArray[np.uint32]
Float64s = npt.NDArray[np.float64]

# Places in the block.
_ROWS, _ROW_FEED, _FEEDS, _RINGS, _ROW_START, _ROW_CYCLES, _CODES, _AGES, _KEPT_BUY, _KEPT_SELL = range(10)
_FACTORS, _SEEN, _TAKEN, _DONE, _RECEIVED, _VALUES, _OUT, _TALLY, _STATE, _BOUNDS = range(10, 20)
_CHANGED, _CURSORS, _OVERRUN, _HISTOGRAM, _KNOWN, _EPOCHS, _HELD, _NEAR_START, _NEAR = range(20, 29)
_UNKNOWN: Final = -1

# Words of the state.
_STAMP, _WIDTH, _LIVENESS_NS, _RING_WORDS, _BATCH, _COUNT, _OVERRUNS, _MORE, _N_STATE = range(9)


def screen_threshold(least: Fraction) -> float:
    """Return a float that the computed bound reaches whenever the exact one reaches `least` (above 0)."""
    return math.nextafter(float(least * (1 - RELATIVE_ERROR)), 0.0)


def kept_factors(fees_e8: Int64s) -> tuple[Float64s, Float64s]:
    """Return what fees leave, for `screen_rows`: float64 [rows] each, over the ask for a BUY, times the bid for a SELL.

    `fees_e8`: int64 [rows], counts of 1e-8 in [0, 1e8).
    """
    kept = (SCALE - fees_e8).astype(np.float64)
    return kept, kept / float(SCALE * SCALE)


@njit(cache=True, nogil=True, inline="always")
def _read_factors(
    image: tuple[Int64s, Int64s, Int64s],
    limits: tuple[Int64s, Int64s],
    kept: tuple[Float64s, Float64s],
    into: tuple[Int64s, Float64s, Int64s, Int64s, Int64s, Int64s, Float64s],
    row: int,
    now_ns: int,
) -> None:
    """Read a row and judge it; set its factors, NaN where it is not LIVE, and note that it was seen in this call.

    A row whose sequence is that of its last reading holds what it held then: it is only judged. (Not one of a feed with
    a twin, whose readings are of either.)
    """
    ages, state = limits
    values, factors, received, seen, known, epochs, held = into
    rows, row_feed, feeds = image
    feed = row_feed[row]
    if (
        known[row] == load_acquire(rows, row * ROW_WORDS + SEQUENCE)
        and feed >= 0
        and load_relaxed(feeds, feed * FEED_WORDS + TWIN_FEED) == 0
    ):
        verdict = LIVE
        if not feed_is_live(feeds, feed, epochs[row], now_ns, state[_LIVENESS_NS]):
            verdict = FEED_DEAD
        elif now_ns - received[row] > ages[row]:
            verdict = AGED
    else:
        verdict = read_live_row(rows, row_feed, feeds, row, now_ns, state[_LIVENESS_NS], ages[row], values)
        bid, ask = values[BID_PX], values[ASK_PX]
        if verdict == LIVE and (bid <= 0 or ask <= 0):
            verdict = INVALID
        if verdict != BUSY:
            received[row] = values[RECEIVED_NS]
        known[row] = _UNKNOWN
        if verdict == LIVE:
            known[row], epochs[row] = values[SEQUENCE], values[FLAGS] >> EPOCH_SHIFT
            held[2 * row] = kept[0][row] / np.float64(ask)
            held[2 * row + 1] = np.float64(bid) * kept[1][row]
    factors[2 * row] = held[2 * row] if verdict == LIVE else np.nan
    factors[2 * row + 1] = held[2 * row + 1] if verdict == LIVE else np.nan
    seen[row] = state[_STAMP] << _VERDICT_BITS | verdict


@njit(cache=True, nogil=True, inline="always")
def _reading(
    block: Int64s,
) -> tuple[
    tuple[Int64s, Int64s, Int64s],
    tuple[Int64s, Int64s],
    tuple[Float64s, Float64s],
    tuple[Int64s, Float64s, Int64s, Int64s, Int64s, Int64s, Float64s],
]:
    """Open what `_read_factors` takes."""
    image = (
        read_only_int64s_in(block, _ROWS),
        read_only_int64s_in(block, _ROW_FEED),
        read_only_int64s_in(block, _FEEDS),
    )
    limits = (int64s_in(block, _AGES), int64s_in(block, _STATE))
    kept = (float64s_in(block, _KEPT_BUY), float64s_in(block, _KEPT_SELL))
    into = (
        int64s_in(block, _VALUES),
        float64s_in(block, _FACTORS),
        int64s_in(block, _RECEIVED),
        int64s_in(block, _SEEN),
        int64s_in(block, _KNOWN),
        int64s_in(block, _EPOCHS),
        float64s_in(block, _HELD),
    )
    return image, limits, kept, into


@njit(cache=True, nogil=True)
def _skipped_for(codes: Uint32s, seen: Int64s, begin: int) -> int:
    """Return the verdict on the first leg, of the cycle whose codes begin there, that is not LIVE; there is one."""
    verdict = LIVE
    while verdict == LIVE:
        verdict = seen[codes[begin] >> 1] & _VERDICT_MASK
        begin += 1
    return verdict


@njit(cache=True, nogil=True)
def _find_near(
    row_start: Int64s, row_cycles: Int32s, codes: Uint32s, width: int, marks: Int64s, near_start: Int64s, near: Uint32s
) -> int:
    """Find the rows of the cycles that cross each row, itself too, each once; return how many they are over all rows.

    `marks` int64 [rows], zeros; `near_start` int64 [rows + 1] and `near`: the result in compressed form, `near` only
    where it has room for all. Linear in the legs of `row_cycles`.
    """
    n_rows, total = len(marks), 0
    for row in range(n_rows):
        near_start[row] = total
        for at in range(row_start[row], row_start[row + 1]):
            begin = np.int64(row_cycles[at]) * width
            for place in range(begin, begin + width):
                other = codes[place] >> 1
                if other < n_rows and marks[other] != row + 1:
                    marks[other] = row + 1
                    if total < len(near):
                        near[total] = other
                    total += 1
    near_start[n_rows] = total
    return total


def _near(index: CycleIndex, codes: Uint32s) -> tuple[Int64s, Uint32s]:
    n_rows, width = len(index.symbols), codes.shape[1]
    near_start, near = np.zeros(n_rows + 1, dtype=np.int64), np.zeros(0, dtype=np.uint32)
    for _ in range(2):  # how many, then which
        marks = np.zeros(n_rows, dtype=np.int64)
        total = _find_near(index.row_start, index.row_cycles, codes.ravel(), width, marks, near_start, near)
        near = near if len(near) else np.zeros(total, dtype=np.uint32)
    return near_start, near


@njit(cache=True, nogil=True)
def screen_rows(block: Int64s, changed: Int32s, count: int, now_ns: int) -> int:
    """Screen each cycle that crosses one of the first `count` changed rows, once; return the number of candidates.

    Each row is read, with its header, at most once: all cycles of a call are of one reading of each row.
    """
    row_start, row_cycles = read_only_int64s_in(block, _ROW_START), read_only_int32s_in(block, _ROW_CYCLES)
    near_start, near = int64s_in(block, _NEAR_START), uint32s_in(block, _NEAR)
    codes, taken, done = uint32s_in(block, _CODES), int64s_in(block, _TAKEN), int64s_in(block, _DONE)
    image, limits, kept, into = _reading(block)
    state, factors, seen = limits[1], into[1], into[3]
    out, tally, threshold = int32s_in(block, _OUT), int64s_in(block, _TALLY), float64s_in(block, _BOUNDS)[0]
    width = state[_WIDTH]
    stamp = state[_STAMP] + 1
    state[_STAMP] = stamp
    seen[-1] = stamp << _VERDICT_BITS  # of the absent leg, which is LIVE and returns what it is given
    found = 0
    for number in range(count):
        changed_row = changed[number]
        if done[changed_row] == stamp:
            continue
        done[changed_row] = stamp
        for at in range(near_start[changed_row], near_start[changed_row + 1]):
            row = near[at]
            if seen[row] >> _VERDICT_BITS != stamp:
                _read_factors(image, limits, kept, into, row, now_ns)
        for at in range(row_start[changed_row], row_start[changed_row + 1]):
            cycle = row_cycles[at]
            if count > 1:  # of one row alone each cycle comes once
                if taken[cycle] == stamp:
                    continue
                taken[cycle] = stamp
            begin = np.int64(cycle) * width
            bound = factors[codes[begin]] * factors[codes[begin + 1]] * factors[codes[begin + 2]]
            for place in range(begin + 3, begin + width):
                bound *= factors[codes[place]]
            if bound >= threshold:
                out[found] = cycle
                found += 1
            tally[LIVE if bound == bound else _skipped_for(codes, seen, begin)] += 1
    return found


@njit(cache=True, nogil=True)
def _screen_all(block: Int64s, now_ns: int) -> int:
    """Screen every cycle on one reading of each row; return the number of candidates."""
    row_start, codes = read_only_int64s_in(block, _ROW_START), uint32s_in(block, _CODES)
    image, limits, kept, into = _reading(block)
    state, factors, seen = limits[1], into[1], into[3]
    out, tally, threshold = int32s_in(block, _OUT), int64s_in(block, _TALLY), float64s_in(block, _BOUNDS)[0]
    width = state[_WIDTH]
    state[_STAMP] += 1
    seen[-1] = state[_STAMP] << _VERDICT_BITS
    for row in range(len(row_start) - 1):
        if row_start[row] < row_start[row + 1]:
            _read_factors(image, limits, kept, into, row, now_ns)
    found, skipped = 0, 0
    n_cycles = len(codes) // width
    for cycle in range(n_cycles):
        begin = cycle * width
        bound = factors[codes[begin]] * factors[codes[begin + 1]] * factors[codes[begin + 2]]
        for place in range(begin + 3, begin + width):
            bound *= factors[codes[place]]
        if bound >= threshold:
            out[found] = cycle
            found += 1
        elif bound != bound:
            tally[_skipped_for(codes, seen, begin)] += 1
            skipped += 1
    tally[LIVE] += n_cycles - skipped
    return found


@njit(cache=True, nogil=True)
def _turn(block: Int64s, now_ns: int) -> int:
    """Take what the rings announced since the last turn and screen it; return the number of candidates."""
    rings, cursors = read_only_int64s_in(block, _RINGS), int64s_in(block, _CURSORS)
    changed, overrun, state = int32s_in(block, _CHANGED), int64s_in(block, _OVERRUN), int64s_in(block, _STATE)
    ring_words, batch = state[_RING_WORDS], state[_BATCH]
    count, more = np.int64(0), False
    state[_OVERRUNS] = 0
    for feed in range(len(cursors)):
        ring = rings[feed * ring_words : (feed + 1) * ring_words]
        cursor, taken, overrun[feed] = drain(ring, cursors[feed], changed[count : count + batch])
        cursors[feed] = cursor
        state[_OVERRUNS] += overrun[feed]
        more |= taken == batch
        count += taken
    state[_COUNT], state[_MORE] = count, more
    return screen_rows(block, changed, count, now_ns) if count else 0


@njit(cache=True, nogil=True)
def _record(block: Int64s, now_ns: int) -> None:
    """Add the age that each changed row of the last turn has by now to the histogram."""
    changed, received = int32s_in(block, _CHANGED), int64s_in(block, _RECEIVED)
    histogram = int64s_in(block, _HISTOGRAM)
    for at in range(int64s_in(block, _STATE)[_COUNT]):
        received_ns = received[changed[at]]
        if received_ns != 0:  # a row of no cycle is not read, and nothing is decided on it
            record(histogram, now_ns - received_ns, 1)


class Screen:
    """One reader's screen of an image. `rows`, `all` and `turn` each return how many candidates they found, which
    `candidates` then lists, in the order met.

    `tally` int64 [N_VERDICTS]: under LIVE the cycles evaluated since the start, under each other verdict those skipped
    for a leg of that verdict (the first such leg in the cycle's order). `latency`: a histogram, which `record` fills.
    `bounds` float64 [1]: the threshold.
    """

    __slots__ = ("_block", "_changed", "_out", "_overrun", "_state", "_words", "bounds", "latency", "tally")

    def __init__(
        self,
        index: CycleIndex,
        image: BookImage,
        kept: tuple[Float64s, Float64s],
        age_ns_max: Int64s,
        liveness_ns_max: int,
        threshold: float,
    ) -> None:
        """`kept`: of `kept_factors`; `age_ns_max` int64 [rows], which may change in place. Rings are read from here."""
        n_rows, n_feeds = len(index.symbols), image.layout.n_feeds
        # Row and side in one; absent legs lead to a factor of 1 behind the last row's.
        codes = np.where(index.legs == NO_LEG, 2 * n_rows, 2 * index.legs + index.sides).astype(np.uint32)
        factors = np.full(2 * n_rows + 2, np.nan)
        factors[2 * n_rows] = 1.0
        near_start, near = _near(index, codes)
        batch = max(_BATCH_MIN, CHANGES_A_TURN_MAX // max(1, n_feeds))
        self._state = np.zeros(_N_STATE, dtype=np.int64)
        self._state[[_WIDTH, _LIVENESS_NS, _BATCH]] = codes.shape[1], liveness_ns_max, batch
        self._state[_RING_WORDS] = image.layout.ring_words
        self._out = np.zeros(max(len(index), 1), dtype=np.int32)
        self._changed = np.zeros(batch * max(1, n_feeds), dtype=np.int32)
        self._overrun = np.zeros(n_feeds, dtype=np.int64)
        self.tally = np.zeros(seqlock.N_VERDICTS, dtype=np.int64)
        self.latency = new_histogram()
        self.bounds = np.array([threshold])
        cursors = np.array([seqlock.ring_head(image.ring(feed)) for feed in range(n_feeds)], dtype=np.int64)
        self._block = Block(
            {
                _ROWS: image.rows, _ROW_FEED: image.row_feed, _FEEDS: image.feeds, _RINGS: image.rings,
                _ROW_START: index.row_start, _ROW_CYCLES: index.row_cycles, _CODES: codes, _AGES: age_ns_max,
                _KEPT_BUY: kept[0], _KEPT_SELL: kept[1], _FACTORS: factors,
                _SEEN: np.zeros(n_rows + 1, dtype=np.int64), _TAKEN: np.zeros(len(index), dtype=np.int64),
                _DONE: np.zeros(n_rows, dtype=np.int64), _RECEIVED: np.zeros(n_rows, dtype=np.int64),
                _VALUES: np.zeros(seqlock.ROW_WORDS, dtype=np.int64), _OUT: self._out, _TALLY: self.tally,
                _STATE: self._state, _BOUNDS: self.bounds, _CHANGED: self._changed, _CURSORS: cursors,
                _OVERRUN: self._overrun, _HISTOGRAM: self.latency,
                _KNOWN: np.full(n_rows, _UNKNOWN, dtype=np.int64), _EPOCHS: np.zeros(n_rows, dtype=np.int64),
                _HELD: np.zeros(2 * n_rows), _NEAR_START: near_start, _NEAR: near,
            }
        )  # fmt: skip
        self._words = self._block.words

    @property
    def block(self) -> Int64s:
        """For compiled callers of `screen_rows`."""
        return self._words

    def rows(self, changed: Int32s, now_ns: int) -> int:
        """Screen the cycles of these rows, which are not checked, each once."""
        found: int = screen_rows(self._words, changed, len(changed), now_ns)
        return found

    def all(self, now_ns: int) -> int:
        """Screen every cycle."""
        found: int = _screen_all(self._words, now_ns)
        return found

    def turn(self, now_ns: int) -> int:
        """Take what was announced since the last turn, at most about CHANGES_A_TURN_MAX, and screen it in one call."""
        found: int = _turn(self._words, now_ns)
        return found

    def record(self, now_ns: int) -> None:
        """Add to `latency` how long ago each frame of the last turn was received."""
        _record(self._words, now_ns)

    def candidates(self, found: int) -> list[int]:
        """Return the cycles that the last call found."""
        return self._out[:found].tolist()

    @property
    def changed(self) -> Int32s:
        """The rows of the last turn, repetitions included; overwritten by the next."""
        return self._changed[: self._state[_COUNT]]

    @property
    def is_more(self) -> bool:
        """Whether the last turn left some for another."""
        return bool(self._state[_MORE])

    @property
    def overrun(self) -> list[int]:
        """The feeds that the last turn could not follow: look at every row that they announce."""
        return np.flatnonzero(self._overrun).tolist() if self._state[_OVERRUNS] else []
