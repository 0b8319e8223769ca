"""What is read from a book image: rows, ladders and feed headers as values, and what their flags and verdicts mean."""

from __future__ import annotations

import enum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels import seqlock

Int64s = npt.NDArray[np.int64]


class RowStatus(enum.IntEnum):
    """Valid, or why not. The low byte of a row's flags."""

    NEVER_SEEN = seqlock.NEVER_SEEN
    VALID = seqlock.VALID
    PARSE_FAILURE = 2
    CROSSED = 3
    ONE_SIDED = 4
    GAP = 5
    HALTED = 6


class Verdict(enum.IntEnum):
    """What a reader may do with a row now; all but LIVE mean that it must not open risk."""

    LIVE = seqlock.LIVE
    INVALID = seqlock.INVALID
    FEED_DEAD = seqlock.FEED_DEAD
    AGED = seqlock.AGED
    BUSY = seqlock.BUSY


class Row(NamedTuple):
    """One row as it stood at one moment. Prices and quantities are Fixed8 counts."""

    sequence: int
    bid_px: int
    bid_qty: int
    ask_px: int
    ask_qty: int
    venue_update_id: int
    received_ns: int
    flags: int

    @property
    def status(self) -> RowStatus:
        """Valid, or why not, as the feed that wrote it said."""
        return RowStatus(self.flags & seqlock.STATUS_MASK)

    @property
    def quantity_capped(self) -> bool:
        """Whether a quantity stood for more than Fixed8 holds."""
        return bool(self.flags & seqlock.QUANTITY_CAPPED)

    @property
    def epoch(self) -> int:
        """The epoch of the feed that wrote it; 0 for a row never written."""
        return self.flags >> seqlock.EPOCH_SHIFT

    @property
    def of_twin(self) -> bool:
        """Whether it is the row of its feed's twin."""
        return self.sequence >= seqlock.TWIN_SEQUENCE


class Ladder(NamedTuple):
    """The best levels of one market as they stood at one moment. `bids`, `asks`: int64 [n, 2] of (price, quantity),
    Fixed8 counts, best first, prices strictly ordered, quantities above zero; at most the image's `ladder_levels`.

    `venue_update_id` is of the same count as a row's of the symbol (the venue numbers its book's changes): a ladder
    with a lower one than the row is older than the row's top. `of_twin`: see the module.
    """

    sequence: int
    venue_update_id: int
    received_ns: int
    flags: int
    bids: Int64s
    asks: Int64s

    @property
    def status(self) -> RowStatus:
        """Valid, or why not, as the feed that wrote it said; GAP while it is being spliced anew."""
        return RowStatus(self.flags & seqlock.STATUS_MASK)

    @property
    def epoch(self) -> int:
        """The epoch of the feed that wrote it."""
        return self.flags >> seqlock.EPOCH_SHIFT


class FeedHeader(NamedTuple):
    """A feed's header line as it stood."""

    epoch: int
    live_ns: int
    lag_ns: int
    up: bool
    frames: int
    parsed: int
    rejected: int
    capped: int
    held_down_epoch: int


class FeedCounters(NamedTuple):
    """What a feed counted since its epoch began, for its header line."""

    frames: int = 0
    parsed: int = 0
    rejected: int = 0
    capped: int = 0
