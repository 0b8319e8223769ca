"""The protocol of the book image in compiled code: rows under a seqlock, feed headers, rings of changed rows.

All arrays are int64 vectors (`rows`: 8 words a row; `feeds`: 16 words a feed; `ring`: 8 words of head, then the slots;
`row_feed`: the feed that owns each row, -1 for none). Times are of one clock that all processes share. Indices are not
checked: `kernels.book_image` is the way in.

A row's write: sequence := sequence | 1; release fence; the data; release store of the next even sequence. A read:
acquire load of the sequence, the data, acquire fence, the sequence again; equal and even, the data are of one write.
Data are relaxed atomics. A successor of a writer killed between the two stores finds an odd sequence and leaves it odd
until its own data stand, so no even window opens over mixed data.

Source: Boehm 2012 (see `kernels.atomics`), figure 6, with the writer's part for a single writer derived here.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from kernels.atomics import fence_acquire, fence_release, load_acquire, load_relaxed, store_relaxed, store_release

# A digest of the files whose functions are compiled into these: numba's cache does not look at them (see test_warm).
COMPILED_WITH: Final = "8c95858120161895"

Int64s = npt.NDArray[np.int64]

ROW_WORDS: Final = 8
SEQUENCE: Final = 0
BID_PX: Final = 1
BID_QTY: Final = 2
ASK_PX: Final = 3
ASK_QTY: Final = 4
VENUE_UPDATE_ID: Final = 5
RECEIVED_NS: Final = 6
FLAGS: Final = 7

# Flags: status in the low 8 bits, then bits of note, then the epoch of the feed that wrote the row.
STATUS_MASK: Final = 0xFF
NEVER_SEEN: Final = 0
VALID: Final = 1
QUANTITY_CAPPED: Final = 0x100
EPOCH_SHIFT: Final = 16

FEED_WORDS: Final = 16
EPOCH: Final = 0
LIVE_NS: Final = 1
LAG_NS: Final = 2
STATE: Final = 3
FRAMES: Final = 4
PARSED: Final = 5
REJECTED: Final = 6
CAPPED: Final = 7
# The second line is the book actor's: rows of this epoch and older do not count.
HELD_DOWN_EPOCH: Final = 8
# Not 0: readers look at the twin first. The twin's number plus one, 0 for none, and how many rows on its rows lie.
STOOD_DOWN: Final = 9
TWIN_FEED: Final = 10
TWIN_ROWS: Final = 11

DOWN: Final = 0
UP: Final = 1

# Sequences of a twin's rows begin here, so that a sequence is never one of both.
TWIN_SEQUENCE: Final = 1 << 62

RING_HEAD_WORDS: Final = 8
HEAD: Final = 0

READ_ATTEMPTS: Final = 100

# Verdicts on a row. All but LIVE mean: do not use it to open risk.
LIVE: Final = 0
INVALID: Final = 1
FEED_DEAD: Final = 2
AGED: Final = 3
BUSY: Final = 4
N_VERDICTS: Final = 5

# What a writer's call came to.
WRITTEN: Final = 0
FENCED: Final = 1


@njit(cache=True, nogil=True)
def open_epoch(feeds: Int64s, feed: int, epoch: int) -> int:
    """Begin a feed's epoch: up, but live only from its first beat. FENCED, and nothing done, if it is not the highest.

    The order of the stores keeps a reader from pairing an old epoch with a new beat: liveness is cleared before the
    epoch changes, and whoever has seen a later beat sees the later epoch when it looks again.
    """
    line = feed * FEED_WORDS
    if epoch <= load_acquire(feeds, line + EPOCH):
        return FENCED
    store_release(feeds, line + STATE, DOWN)
    store_release(feeds, line + LIVE_NS, 0)
    store_release(feeds, line + EPOCH, epoch)
    store_release(feeds, line + LAG_NS, 0)
    store_release(feeds, line + STATE, UP)
    return WRITTEN


@njit(cache=True, nogil=True)
def write_row(
    rows: Int64s,
    feeds: Int64s,
    ring: Int64s,
    feed: int,
    epoch: int,
    row: int,
    bid_px: int,
    bid_qty: int,
    ask_px: int,
    ask_qty: int,
    venue_update_id: int,
    received_ns: int,
    flags: int,
) -> int:
    """Write one row of the feed's and announce it on its ring. FENCED, and nothing done, under another epoch.

    `flags` without its epoch, which is added here. In place; about 30 ns.
    """
    if load_acquire(feeds, feed * FEED_WORDS + EPOCH) != epoch:
        return FENCED
    at = row * ROW_WORDS
    odd = load_relaxed(rows, at + SEQUENCE) | 1
    store_relaxed(rows, at + SEQUENCE, odd)
    fence_release()
    store_relaxed(rows, at + BID_PX, bid_px)
    store_relaxed(rows, at + BID_QTY, bid_qty)
    store_relaxed(rows, at + ASK_PX, ask_px)
    store_relaxed(rows, at + ASK_QTY, ask_qty)
    store_relaxed(rows, at + VENUE_UPDATE_ID, venue_update_id)
    store_relaxed(rows, at + RECEIVED_NS, received_ns)
    store_relaxed(rows, at + FLAGS, flags | (epoch << EPOCH_SHIFT))
    store_release(rows, at + SEQUENCE, odd + 1)
    push(ring, row)
    return WRITTEN


@njit(cache=True, nogil=True)
def invalidate_row(rows: Int64s, feeds: Int64s, ring: Int64s, feed: int, epoch: int, row: int, status: int) -> int:
    """Change a row's status alone, keeping its last figures for whoever shows them; announced like a write.

    Where the predecessor died within a write those figures may be of two frames: they are cleared.
    """
    if load_acquire(feeds, feed * FEED_WORDS + EPOCH) != epoch:
        return FENCED
    at = row * ROW_WORDS
    found = load_relaxed(rows, at + SEQUENCE)
    odd = found | 1
    store_relaxed(rows, at + SEQUENCE, odd)
    fence_release()
    if found == odd:
        for word in range(BID_PX, FLAGS):
            store_relaxed(rows, at + word, 0)
    store_relaxed(rows, at + FLAGS, status | (epoch << EPOCH_SHIFT))
    store_release(rows, at + SEQUENCE, odd + 1)
    push(ring, row)
    return WRITTEN


@njit(cache=True, nogil=True, forceinline=True)
def read_row(rows: Int64s, row: int, out: Int64s) -> bool:
    """Copy a row's 8 words into `out`; False, with `out` of no meaning, if it was being written READ_ATTEMPTS times."""
    at = row * ROW_WORDS
    for _ in range(READ_ATTEMPTS):
        before = load_acquire(rows, at + SEQUENCE)
        if before & 1:
            continue
        for word in range(1, ROW_WORDS):
            out[word] = load_relaxed(rows, at + word)
        fence_acquire()
        if load_relaxed(rows, at + SEQUENCE) == before:
            out[SEQUENCE] = before
            return True
    return False


@njit(cache=True, nogil=True, forceinline=True)
def feed_is_live(feeds: Int64s, feed: int, epoch: int, now_ns: int, liveness_ns_max: int) -> bool:
    """Say whether the feed is up, held down by nobody, of this epoch and heard of within `liveness_ns_max`.

    A beat later than `now_ns` by no more than that is fresh (the caller's `now_ns` is older than its look); by more,
    the clocks are two: not live.
    """
    line = feed * FEED_WORDS
    if feed < 0 or epoch == 0 or load_acquire(feeds, line + EPOCH) != epoch:
        return False
    if load_acquire(feeds, line + STATE) != UP or load_acquire(feeds, line + HELD_DOWN_EPOCH) >= epoch:
        return False
    since = now_ns - load_acquire(feeds, line + LIVE_NS)
    return -liveness_ns_max <= since <= liveness_ns_max and load_acquire(feeds, line + EPOCH) == epoch


@njit(cache=True, nogil=True, forceinline=True)
def read_live_row(
    rows: Int64s,
    row_feed: Int64s,
    feeds: Int64s,
    row: int,
    now_ns: int,
    liveness_ns_max: int,
    age_ns_max: int,
    out: Int64s,
) -> int:
    """Read a row and judge it: LIVE, or the first reason why not of BUSY, INVALID, FEED_DEAD, AGED.

    `out` (8 words) holds the row unless BUSY. The header is read after the row, so that a row of a feed that died or
    was succeeded meanwhile is not taken. Where the feed has a twin, the twin's row is taken if the feed's own is not
    LIVE (or is, but the feed was stood down and the twin's is LIVE too); the verdict is LIVE if either is, else on the
    one looked at first.
    """
    feed = row_feed[row]
    line = feed * FEED_WORDS
    if feed < 0 or load_relaxed(feeds, line + TWIN_FEED) == 0:
        return judge_row(rows, feeds, feed, row, now_ns, liveness_ns_max, age_ns_max, out)
    twin = load_relaxed(feeds, line + TWIN_FEED) - 1
    twin_row = row + load_relaxed(feeds, line + TWIN_ROWS)
    first, first_row, second, second_row = feed, row, twin, twin_row
    if load_acquire(feeds, line + STOOD_DOWN) != 0:
        first, first_row, second, second_row = twin, twin_row, feed, row
    if judge_row(rows, feeds, first, first_row, now_ns, liveness_ns_max, age_ns_max, out) == LIVE:
        return LIVE
    if judge_row(rows, feeds, second, second_row, now_ns, liveness_ns_max, age_ns_max, out) == LIVE:
        return LIVE
    return judge_row(rows, feeds, first, first_row, now_ns, liveness_ns_max, age_ns_max, out)


@njit(cache=True, nogil=True, forceinline=True)
def judge_row(
    rows: Int64s, feeds: Int64s, feed: int, row: int, now_ns: int, liveness_ns_max: int, age_ns_max: int, out: Int64s
) -> int:
    """Read and judge the row at one place, of one feed: as `read_live_row` without twins."""
    if not read_row(rows, row, out):
        return BUSY
    if out[FLAGS] & STATUS_MASK != VALID:
        return INVALID
    if not feed_is_live(feeds, feed, out[FLAGS] >> EPOCH_SHIFT, now_ns, liveness_ns_max):
        return FEED_DEAD
    if now_ns - out[RECEIVED_NS] > age_ns_max:
        return AGED
    return LIVE


@njit(cache=True, nogil=True)
def push(ring: Int64s, row: int) -> None:
    """Announce a changed row; the oldest announcement is overwritten where no reader kept up."""
    slots = len(ring) - RING_HEAD_WORDS
    head = load_relaxed(ring, HEAD)
    # Keeps this slot's store after the last head's: a reader that sees the slot overwritten sees that head too.
    fence_release()
    store_relaxed(ring, RING_HEAD_WORDS + (head & (slots - 1)), row)
    store_release(ring, HEAD, head + 1)


@njit(cache=True, nogil=True)
def drain(ring: Int64s, cursor: int, out: npt.NDArray[np.int32]) -> tuple[int, int, bool]:
    """Copy announcements since `cursor` into `out`; return (next cursor, how many, overrun).

    Overrun: some were overwritten, none is returned, the next cursor is the head, and the caller must look at every row
    of the feed. At most len(out) at a time, oldest first, repetitions included.
    """
    slots = len(ring) - RING_HEAD_WORDS
    head = load_acquire(ring, HEAD)
    count = min(head - cursor, len(out))
    if head - cursor >= slots or head < cursor:
        return head, 0, True
    for step in range(count):
        out[step] = load_relaxed(ring, RING_HEAD_WORDS + ((cursor + step) & (slots - 1)))
    fence_acquire()
    # One slot short of the size: the slot of the next announcement may be under way before its head shows it.
    latest = load_relaxed(ring, HEAD)
    if latest - cursor >= slots:
        return latest, 0, True
    return cursor + count, count, False


@njit(cache=True, nogil=True)
def beat(feeds: Int64s, feed: int, epoch: int, now_ns: int, lag_ns: int, counters: Int64s) -> int:
    """Write a feed's liveness time, lag and counters (int64 [4]: frames, parsed, rejected, capped). FENCED as above."""
    line = feed * FEED_WORDS
    if load_acquire(feeds, line + EPOCH) != epoch:
        return FENCED
    store_relaxed(feeds, line + LAG_NS, lag_ns)
    for word in range(4):
        store_relaxed(feeds, line + FRAMES + word, counters[word])
    store_release(feeds, line + LIVE_NS, now_ns)
    return WRITTEN


@njit(cache=True, nogil=True)
def set_word(feeds: Int64s, at: int, value: int) -> None:
    """Store one word of a feed header, with release ordering."""
    store_release(feeds, at, value)


@njit(cache=True, nogil=True)
def read_feed(feeds: Int64s, feed: int, out: Int64s) -> None:
    """Copy a feed's header (16 words) into `out`; where its epoch changed meanwhile, as a feed that is down."""
    line = feed * FEED_WORDS
    epoch = load_acquire(feeds, line + EPOCH)
    for word in range(FEED_WORDS):
        out[word] = load_acquire(feeds, line + word)
    if load_acquire(feeds, line + EPOCH) != epoch or out[EPOCH] != epoch:
        out[STATE] = DOWN


@njit(cache=True, nogil=True)
def ring_head(ring: Int64s) -> int:
    """Return how many announcements a ring has ever had."""
    return load_acquire(ring, HEAD)
