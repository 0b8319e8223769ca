"""The rows of an image over time: which stay invalid and why, which fell silent, which are the busiest.

A frozen leg is two things that look alike from outside, a quiet symbol and a broken path (field notes 4 and 8). What
tells them apart is the symbol's own history: one that spoke a hundred times a minute and has said nothing for thirty
seconds is not quiet. Ages alone cannot say so, and neither can the beat of its connection.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from kernels import seqlock
from kernels.book_image import LIVENESS_NS_MAX, NO_AGE_LIMIT, BookImage, RowStatus
from kernels.seqlock import (
    BUSY,
    FEED_DEAD,
    FLAGS,
    INVALID,
    LIVE,
    RECEIVED_NS,
    SEQUENCE,
    STATUS_MASK,
    TWIN_SEQUENCE,
    read_live_row,
)
from kernels.suspicion import EXPECTED_MIN, HISTORY_WINDOWS

# A digest of the files whose functions are compiled into these: numba's cache does not look at them (see test_warm).
COMPILED_WITH: Final = "e277ffa518340e51"

Int64s = npt.NDArray[np.int64]

_S_NS: Final = 1_000_000_000
_VERDICT, _STATUS, _SEQUENCE, _RECEIVED_NS = range(4)
_COLUMNS: Final = 4


class InvalidRow(NamedTuple):
    """A row that has not been valid since `since_ns`, and why now."""

    row: int
    status: RowStatus
    since_ns: int


class SilentRow(NamedTuple):
    """A valid row of a live feed, last written at `since_ns`; `expected`: writes that should have come by its rate.

    Where its connection is younger than that write, `since_ns` is when the connection came to live.
    """

    row: int
    since_ns: int
    expected: float


class RowWatch:
    """One image, looked at about once a second. Holds 31 counts a row; linear in the rows, about 30 ns each."""

    def __init__(self, image: BookImage, now_ns: int, liveness_ns_max: int = LIVENESS_NS_MAX) -> None:
        n_rows = image.layout.n_rows
        self._image, self._liveness_ns_max = image, liveness_ns_max
        self._seen = np.zeros((n_rows, _COLUMNS), dtype=np.int64)
        self._invalid_since = np.zeros(n_rows, dtype=np.int64)
        self._windows = np.zeros((HISTORY_WINDOWS, n_rows), dtype=np.int32)
        self._window = np.zeros(n_rows, dtype=np.int64)
        self._slot_epoch = np.zeros(image.layout.n_feeds, dtype=np.int64)
        self._slot_since = np.zeros(image.layout.n_feeds, dtype=np.int64)
        self._twin = np.array([image.twin(feed) for feed in range(image.layout.n_feeds)], dtype=np.int64)
        self._ended = 0
        self._observed_ns = 0
        self._began_ns = now_ns
        self._observe()

    def look(self, now_ns: int) -> None:
        """Read every row and every header once."""
        self._look_at_slots(now_ns)
        before = self._seen[:, _SEQUENCE].copy()
        self._observe(now_ns)
        # A write moves the sequence by two; one of a successor after a death within a write by one, and is one too.
        # A twin numbers its own: from one to the other nothing is known but that somebody writes.
        after = self._seen[:, _SEQUENCE]
        same = (after >= TWIN_SEQUENCE) == (before >= TWIN_SEQUENCE)
        self._window += np.where(same, (np.maximum(after - before, 0) + 1) // 2, 1)
        invalid = self._seen[:, _VERDICT] == INVALID
        self._invalid_since = np.where(invalid, np.where(self._invalid_since, self._invalid_since, now_ns), 0)

    def end_window(self, now_ns: int) -> None:
        """The window's writes join the history."""
        self._windows[self._ended % HISTORY_WINDOWS] = self._window
        self._window[:] = 0
        self._ended += 1
        self._observed_ns = min(self._ended, HISTORY_WINDOWS) * (now_ns - self._began_ns) // self._ended

    def find_invalid(self, now_ns: int, longer_than_ns: int) -> list[InvalidRow]:
        """Return the rows that have been invalid for longer than that, without pause, longest first.

        A row that was never seen is quiet as far as anybody knows, and is none of them.
        """
        long = (self._invalid_since > 0) & (now_ns - self._invalid_since > longer_than_ns)
        long &= self._seen[:, _STATUS] != RowStatus.NEVER_SEEN
        found = [
            InvalidRow(row, RowStatus(int(self._seen[row, _STATUS])), int(self._invalid_since[row]))
            for row in np.flatnonzero(long).tolist()
        ]
        return sorted(found, key=lambda one: (one.since_ns, one.row))

    def find_silent(
        self, now_ns: int, silent_ns_min: int, expected_min: float = EXPECTED_MIN, windows_min: int = 1
    ) -> list[SilentRow]:
        """Return the live rows that have not been written for `silent_ns_min`, when by their rate over the past windows
        at least `expected_min` writes should have come; the most expected first.
        """
        if self._ended < windows_min or self._observed_ns <= 0:
            return []
        owner = self._image.row_feed
        own, twins = self._slot_since[owner], np.where(self._twin >= 0, self._slot_since[self._twin], 0)[owner]
        slot_since = np.where(owner >= 0, np.where(own > 0, own, twins), 0)
        verdicts = self._seen[:, _VERDICT]
        # A row of an epoch before its connection's is as silent as one that stands still.
        speaks = (slot_since > 0) & ((verdicts == LIVE) | (verdicts == FEED_DEAD))
        since = np.maximum(self._seen[:, _RECEIVED_NS], slot_since)
        expected = self._windows.sum(axis=0) / self._observed_ns * (now_ns - since)
        found = speaks & (now_ns - since > silent_ns_min) & (expected >= expected_min)
        rows = [SilentRow(row, int(since[row]), float(expected[row])) for row in np.flatnonzero(found).tolist()]
        return sorted(rows, key=lambda one: (-one.expected, one.row))

    def rank_busiest(self, count: int) -> list[int]:
        """Return the rows with the most writes over the past windows and this one, at most `count`, busiest first.

        Rows without a write are none of them.
        """
        writes = self._windows.sum(axis=0, dtype=np.int64) + self._window
        order = np.lexsort((np.arange(len(writes)), -writes))[:count]
        return [row for row in order.tolist() if writes[row]]

    def _look_at_slots(self, now_ns: int) -> None:
        for slot in range(len(self._slot_since)):
            header = self._image.read_header(slot)
            lives = header.up and header.held_down_epoch < header.epoch
            if not lives or abs(now_ns - header.live_ns) > self._liveness_ns_max:
                self._slot_since[slot] = 0
            elif not self._slot_since[slot] or header.epoch != self._slot_epoch[slot]:
                self._slot_since[slot] = now_ns
            self._slot_epoch[slot] = header.epoch

    def _observe(self, now_ns: int = 0) -> None:
        image = self._image
        _judge_rows(image.rows, image.row_feed, image.feeds, now_ns, self._liveness_ns_max, NO_AGE_LIMIT, self._seen)


@njit(cache=True, nogil=True)
def _judge_rows(
    rows: Int64s, row_feed: Int64s, feeds: Int64s, now_ns: int, liveness_ns_max: int, age_ns_max: int, seen: Int64s
) -> None:
    """Fill `seen` [rows, 4]: verdict, status, sequence, received_ns; of a row within a write the verdict alone."""
    values = np.empty(seqlock.ROW_WORDS, dtype=np.int64)
    for row in range(len(row_feed)):
        verdict = read_live_row(rows, row_feed, feeds, row, now_ns, liveness_ns_max, age_ns_max, values)
        seen[row, _VERDICT] = verdict
        if verdict != BUSY:
            seen[row, _STATUS] = values[FLAGS] & STATUS_MASK
            seen[row, _SEQUENCE] = values[SEQUENCE]
            seen[row, _RECEIVED_NS] = values[RECEIVED_NS]
