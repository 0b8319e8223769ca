"""One market's order book by levels: a snapshot of the venue spliced with its stream of diffs, by update id.

The rule (the spot exchange's WebSocket documentation, "How to manage a local order book correctly", as of 2025): diffs
are kept from the opening of the stream; a snapshot older than the first kept diff's first id minus one is of no use;
diffs whose final id is not above the snapshot's are dropped; the next must begin at most one above the book's id, and
so must each one after it, or something was missed and the book begins anew.

What is known has an **edge**: a snapshot of n levels says nothing of what lies behind its last, and no more does a book
that dropped its worst level for want of room. A change behind the edge is left out, so that every level held is right
and none between two of them is missing. When few are left before the edge, another snapshot is wanted; the book stays
valid meanwhile.

Pure. Levels are int64 [n, 2] of (price, quantity), Fixed8 counts, best first; a quantity of 0 in a change removes.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from kernels.capture_records import BookState, DiffState

Int64s = npt.NDArray[np.int64]

DIFFS_KEPT_MAX: Final = 1_000
"""At one diff each 100 ms, more than a minute of waiting for a snapshot; beyond, the oldest are missing: begin anew."""

NO_EDGE: Final = 2**63 - 1
_BID, _ASK = -1, 1


class Diff(NamedTuple):
    """One event of the stream: every change of levels from update `first_id` to `final_id`, both included."""

    first_id: int
    final_id: int
    bids: Int64s
    asks: Int64s


class Outcome(enum.Enum):
    """What a diff or a snapshot came to."""

    KEPT = "kept"
    """A diff that waits for the snapshot."""
    APPLIED = "applied"
    """The book is valid, and as of a later id than before."""
    OLD = "old"
    """A diff that the book already has: nothing changed."""
    GAP = "gap"
    """Something was missed: the book is void, and a snapshot is wanted."""
    TOO_OLD = "too_old"
    """A snapshot from before the diffs that are kept: another is wanted."""
    CROSSED = "crossed"
    """A bid at or above an ask: the book is void, and a snapshot is wanted."""
    FULL = "full"
    """More diffs wait than may: they are dropped, and a later snapshot is wanted."""


class DepthBook:
    """One market's. Begins void, keeping diffs. `levels_max` a side are held, `levels_wanted` should be known."""

    __slots__ = ("_counts", "_edges", "_is_filling", "_kept", "_sides", "is_valid", "levels_wanted", "update_id")

    def __init__(self, levels_max: int, levels_wanted: int) -> None:
        """Raises ValueError unless 1 <= levels_wanted <= levels_max."""
        if not 1 <= levels_wanted <= levels_max:
            raise ValueError(f"levels_wanted is {levels_wanted}; allowed: 1 to levels_max ({levels_max})")
        self.levels_wanted = levels_wanted
        self.is_valid = False
        self.update_id = 0
        self._sides = np.zeros((2, levels_max, 2), dtype=np.int64)
        self._counts = [0, 0]
        self._edges = [NO_EDGE, NO_EDGE]
        self._kept: list[Diff] = []
        self._is_filling = False

    @property
    def bids(self) -> Int64s:
        """The bids, best first: a view, good until the next change."""
        return self._sides[0, : self._counts[0]]

    @property
    def asks(self) -> Int64s:
        """The asks, best first: a view, good until the next change."""
        return self._sides[1, : self._counts[1]]

    @property
    def wants_snapshot(self) -> bool:
        """Whether it is void, or knows fewer levels than wanted though there may be more."""
        thin = any(
            count < self.levels_wanted and edge != NO_EDGE
            for count, edge in zip(self._counts, self._edges, strict=True)
        )
        return not self.is_valid or thin

    def begin_filling(self) -> None:
        """A snapshot is being asked for: keep the diffs that come meanwhile, also those that are applied."""
        if not self._is_filling and self.is_valid:
            self._kept.clear()
        self._is_filling = True

    def apply_diff(self, diff: Diff) -> Outcome:
        """Take the next event of the stream. KEPT, APPLIED, OLD, GAP, CROSSED or FULL."""
        if self.is_valid:
            if diff.final_id <= self.update_id:
                return Outcome.OLD
            if diff.first_id > self.update_id + 1:
                self.void()
                self._kept.append(diff)
                return Outcome.GAP
            if self._is_filling and len(self._kept) < DIFFS_KEPT_MAX:
                self._kept.append(diff)
            return self._apply(diff)
        if self._kept and diff.final_id <= self._kept[-1].final_id:
            return Outcome.OLD
        if self._kept and diff.first_id > self._kept[-1].final_id + 1:
            # A gap among those that wait: what came before it can be spliced to nothing that comes after.
            self._kept = [diff]
            return Outcome.GAP
        if len(self._kept) >= DIFFS_KEPT_MAX:
            self._kept = [diff]
            return Outcome.FULL
        self._kept.append(diff)
        return Outcome.KEPT

    def apply_snapshot(self, update_id: int, bids: Int64s, asks: Int64s, limit: int) -> Outcome:
        """Take a snapshot of at most `limit` levels a side: APPLIED, TOO_OLD, GAP or CROSSED.

        TOO_OLD changes nothing. A book that is valid and ahead of it is filled up from it, by the diffs kept since
        `begin_filling`. Asking for it must have come after the stream was open.
        """
        if self._kept and update_id + 1 < self._kept[0].first_id:
            return Outcome.TOO_OLD
        if self.is_valid and not self._kept and update_id < self.update_id:
            return Outcome.TOO_OLD
        kept, self._kept, self._is_filling = self._kept, [], False
        self.is_valid, self.update_id = True, update_id
        for side, sign, levels in ((0, _BID, bids), (1, _ASK, asks)):
            self._edges[side] = sign * int(levels[-1, 0]) if len(levels) >= limit else NO_EDGE
            self._counts[side] = 0
            self._change(side, levels)
        for place, diff in enumerate(kept):
            if diff.final_id <= self.update_id:
                continue
            if diff.first_id > self.update_id + 1:
                self.void()
                self._kept = kept[place:]
                return Outcome.GAP
            self._take(diff)
        return self._checked()

    def void(self) -> None:
        """Begin anew: nothing is known, diffs are kept."""
        self.is_valid, self._is_filling = False, False
        self._counts, self._edges = [0, 0], [NO_EDGE, NO_EDGE]
        self._kept = []

    def state(self, symbol: str) -> BookState:
        """Return all that it knows."""
        kept = tuple(DiffState(one.first_id, one.final_id, _packed(one.bids), _packed(one.asks)) for one in self._kept)
        bids, asks = _packed(self.bids), _packed(self.asks)
        edges = self._edges[0], self._edges[1]
        return BookState(symbol, self.is_valid, self.update_id, self._is_filling, edges, bids, asks, kept)

    def restore(self, state: BookState) -> bool:
        """Know what another knew; False, and nothing done, where it is valid already or has no room for the levels."""
        sides = _levels(state.bids), _levels(state.asks)
        if self.is_valid or max(map(len, sides)) > self._sides.shape[1]:
            return False
        for side, levels in enumerate(sides):
            self._counts[side] = len(levels)
            self._sides[side, : len(levels)] = levels
        self.is_valid, self.update_id, self._is_filling = state.is_valid, state.update_id, state.is_filling
        self._edges = list(state.edges)
        self._kept = [Diff(one.first_id, one.final_id, _levels(one.bids), _levels(one.asks)) for one in state.kept]
        return True

    def _apply(self, diff: Diff) -> Outcome:
        self._take(diff)
        return self._checked()

    def _take(self, diff: Diff) -> None:
        self._change(0, diff.bids)
        self._change(1, diff.asks)
        self.update_id = diff.final_id

    def _change(self, side: int, changes: Int64s) -> None:
        sign = _ASK if side else _BID
        self._counts[side], self._edges[side] = change_levels(
            self._sides[side], self._counts[side], changes, sign, self._edges[side]
        )

    def _checked(self) -> Outcome:
        if all(self._counts) and self._sides[0, 0, 0] >= self._sides[1, 0, 0]:
            self.void()
            return Outcome.CROSSED
        return Outcome.APPLIED


def _packed(levels: Int64s) -> bytes:
    return levels.astype("<i8").tobytes()


def _levels(packed: bytes) -> Int64s:
    return np.frombuffer(packed, dtype="<i8").astype(np.int64).reshape(-1, 2)


@njit(cache=True, nogil=True)
def change_levels(levels: Int64s, count: int, changes: Int64s, sign: int, edge: int) -> tuple[int, int]:
    """Set or remove levels in place; return (how many there are, the edge).

    `levels` int64 [room, 2], the first `count` in order of `sign` * price, ascending (sign -1 for bids, 1 for asks);
    `changes` int64 [n, 2] in any order. A change whose `sign` * price is above `edge` is left out. Where there is no
    room the worst level goes, and the edge becomes that of the worst kept. Linear in the levels for each change.
    """
    room = len(levels)
    for number in range(len(changes)):
        price, quantity = changes[number, 0], changes[number, 1]
        key = sign * price
        if key > edge:
            continue
        low, high = 0, count
        while low < high:
            middle = (low + high) // 2
            if sign * levels[middle, 0] < key:
                low = middle + 1
            else:
                high = middle
        found = low < count and levels[low, 0] == price
        if found and quantity == 0:
            for place in range(low, count - 1):
                levels[place, 0], levels[place, 1] = levels[place + 1, 0], levels[place + 1, 1]
            count -= 1
        elif found:
            levels[low, 1] = quantity
        elif quantity != 0 and low == room:
            edge = sign * levels[room - 1, 0]
        elif quantity != 0:
            is_full = count == room
            if is_full:
                count -= 1
            for place in range(count, low, -1):
                levels[place, 0], levels[place, 1] = levels[place - 1, 0], levels[place - 1, 1]
            levels[low, 0], levels[low, 1] = price, quantity
            count += 1
            if is_full:
                edge = sign * levels[count - 1, 0]
    return count, edge
