"""Ladders in the book image, in compiled code: the best levels of a market's order book under a seqlock of its own.

A ladder is `words(levels)` int64: 8 of head (sequence, bids, asks, the venue's update id, receive time, flags as a
row's), then `levels` pairs (price, quantity) of bids, best first, then as many of asks. Counts of 1e-8. One writer, the
feed that owns it; the protocol, the flags and what makes it live are those of rows (`kernels.seqlock`). Indices are not
checked: `kernels.book_image` is the way in.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from kernels.atomics import fence_acquire, fence_release, load_acquire, load_relaxed, store_relaxed, store_release
from kernels.seqlock import (
    AGED,
    BUSY,
    EPOCH,
    EPOCH_SHIFT,
    FEED_DEAD,
    FEED_WORDS,
    FENCED,
    INVALID,
    LIVE,
    READ_ATTEMPTS,
    STATUS_MASK,
    STOOD_DOWN,
    TWIN_FEED,
    VALID,
    WRITTEN,
    feed_is_live,
    push,
)

# A digest of the files whose functions are compiled into these: numba's cache does not look at them (see test_warm).
COMPILED_WITH: Final = "8551a606d087aa54"

Int64s = npt.NDArray[np.int64]

HEAD_WORDS: Final = 8
SEQUENCE: Final = 0
N_BIDS: Final = 1
N_ASKS: Final = 2
UPDATE_ID: Final = 3
RECEIVED_NS: Final = 4
FLAGS: Final = 5
PAIR_WORDS: Final = 2


def words(levels: int) -> int:
    """Return how many words a ladder of so many levels a side takes: whole cache lines."""
    return -(-(HEAD_WORDS + 2 * PAIR_WORDS * levels) // 8) * 8


@njit(cache=True, nogil=True)
def write_ladder(
    ladders: Int64s,
    feeds: Int64s,
    ring: Int64s,
    feed: int,
    epoch: int,
    ladder: int,
    levels: int,
    row: int,
    bids: Int64s,
    asks: Int64s,
    update_id: int,
    received_ns: int,
    status: int,
) -> int:
    """Write a ladder and announce its row on the ring. FENCED, and nothing done, under another epoch.

    `bids`, `asks`: int64 [n, 2], best first; what is beyond `levels` is left out. `status` VALID, or why it does not
    count (its levels are then of no use, and may be none).
    """
    if load_acquire(feeds, feed * FEED_WORDS + EPOCH) != epoch:
        return FENCED
    at = ladder * _words(levels)
    odd = load_relaxed(ladders, at + SEQUENCE) | 1
    store_relaxed(ladders, at + SEQUENCE, odd)
    fence_release()
    n_bids, n_asks = min(len(bids), levels), min(len(asks), levels)
    store_relaxed(ladders, at + N_BIDS, n_bids)
    store_relaxed(ladders, at + N_ASKS, n_asks)
    store_relaxed(ladders, at + UPDATE_ID, update_id)
    store_relaxed(ladders, at + RECEIVED_NS, received_ns)
    store_relaxed(ladders, at + FLAGS, status | (epoch << EPOCH_SHIFT))
    place = at + HEAD_WORDS
    for level in range(n_bids):
        store_relaxed(ladders, place + 2 * level, bids[level, 0])
        store_relaxed(ladders, place + 2 * level + 1, bids[level, 1])
    place += PAIR_WORDS * levels
    for level in range(n_asks):
        store_relaxed(ladders, place + 2 * level, asks[level, 0])
        store_relaxed(ladders, place + 2 * level + 1, asks[level, 1])
    store_release(ladders, at + SEQUENCE, odd + 1)
    push(ring, row)
    return WRITTEN


@njit(cache=True, nogil=True)
def read_ladder(ladders: Int64s, ladder: int, levels: int, out: Int64s) -> bool:
    """Copy a ladder's words into `out`; False, with `out` of no meaning, if it was being written all along."""
    at = ladder * _words(levels)
    for _ in range(READ_ATTEMPTS):
        before = load_acquire(ladders, at + SEQUENCE)
        if before & 1:
            continue
        for word in range(1, _words(levels)):
            out[word] = load_relaxed(ladders, at + word)
        fence_acquire()
        if load_relaxed(ladders, at + SEQUENCE) == before:
            out[SEQUENCE] = before
            return True
    return False


@njit(cache=True, nogil=True)
def read_live_ladder(
    ladders: Int64s,
    ladder_feed: Int64s,
    feeds: Int64s,
    ladder: int,
    levels: int,
    now_ns: int,
    liveness_ns_max: int,
    age_ns_max: int,
    out: Int64s,
) -> int:
    """Read a ladder and judge it as `seqlock.read_live_row` does a row, twins included.

    `ladder_feed`: the feed of each ladder; a twin's ladders stand behind these, in the same order. `out`: words(levels)
    words, of no meaning where BUSY.
    """
    feed = ladder_feed[ladder]
    line = feed * FEED_WORDS
    if load_relaxed(feeds, line + TWIN_FEED) == 0:
        return _judge(ladders, feeds, feed, ladder, levels, now_ns, liveness_ns_max, age_ns_max, out)
    first, first_at = feed, ladder
    second, second_at = load_relaxed(feeds, line + TWIN_FEED) - 1, ladder + len(ladder_feed)
    if load_acquire(feeds, line + STOOD_DOWN) != 0:
        first, first_at, second, second_at = second, second_at, first, first_at
    if _judge(ladders, feeds, first, first_at, levels, now_ns, liveness_ns_max, age_ns_max, out) == LIVE:
        return LIVE
    if _judge(ladders, feeds, second, second_at, levels, now_ns, liveness_ns_max, age_ns_max, out) == LIVE:
        return LIVE
    return _judge(ladders, feeds, first, first_at, levels, now_ns, liveness_ns_max, age_ns_max, out)


@njit(cache=True, nogil=True)
def _judge(
    ladders: Int64s,
    feeds: Int64s,
    feed: int,
    ladder: int,
    levels: int,
    now_ns: int,
    liveness_ns_max: int,
    age_ns_max: int,
    out: Int64s,
) -> int:
    if not read_ladder(ladders, ladder, levels, out):
        return BUSY
    if out[FLAGS] & STATUS_MASK != VALID:
        return INVALID
    if not feed_is_live(feeds, feed, out[FLAGS] >> EPOCH_SHIFT, now_ns, liveness_ns_max):
        return FEED_DEAD
    if now_ns - out[RECEIVED_NS] > age_ns_max:
        return AGED
    return LIVE


@njit(cache=True, nogil=True)
def _words(levels: int) -> int:
    return -(-(HEAD_WORDS + 2 * PAIR_WORDS * levels) // 8) * 8
