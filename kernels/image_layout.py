"""Where the parts of a book image lie in its buffer (`kernels.book_image` says what they are), and its first words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from kernels import ladder, seqlock

Int64s = npt.NDArray[np.int64]

MAGIC: Final = 0x4150_4558_424F_4F4B
LAYOUT_VERSION: Final = 2
NO_FEED: Final = -1
NO_LADDER: Final = -1
RING_SLOTS: Final = 1 << 16

WORD_BYTES: Final = 8
HEADER_WORDS: Final = 16
H_MAGIC, H_VERSION, H_ROWS, H_FEEDS, H_RING_SLOTS, H_SYMBOLS_DIGEST = range(6)
H_REPLICAS, H_LADDERS, H_LADDER_LEVELS = range(6, 9)
_LINE_WORDS: Final = 8


class ImageError(ValueError):
    """The buffer is no image of this layout, or a figure is out of its range; the text says which."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets of an image's parts, in words; `n_bytes` is the size that its buffer must have at least."""

    n_rows: int
    n_feeds: int
    ring_slots: int
    feeds_at: int
    row_feed_at: int
    rows_at: int
    rings_at: int
    ring_words: int
    n_bytes: int
    replicas: int
    n_ladders: int
    ladder_levels: int
    ladder_rows_at: int
    ladder_feed_at: int
    ladders_at: int


def layout(
    n_rows: int,
    n_feeds: int,
    ring_slots: int = RING_SLOTS,
    replicas: int = 1,
    n_ladders: int = 0,
    ladder_levels: int = 0,
) -> Layout:
    """Return where the parts lie; `replicas` 2 where feeds have twins.

    Raises ImageError: no rows or feeds, or ring slots that are no power of two.
    """
    if n_rows < 1 or n_feeds < 1:
        raise ImageError(f"an image needs at least one row and one feed, not {n_rows} and {n_feeds}")
    if ring_slots < 2 or ring_slots & (ring_slots - 1):
        raise ImageError(f"ring slots must be a power of two and at least 2, not {ring_slots}")
    feeds_at = HEADER_WORDS
    row_feed_at = feeds_at + n_feeds * seqlock.FEED_WORDS
    rows_at = row_feed_at + _whole_lines(n_rows)
    rings_at = rows_at + n_rows * replicas * seqlock.ROW_WORDS
    ring_words = seqlock.RING_HEAD_WORDS + _whole_lines(ring_slots)
    ladder_rows_at = rings_at + n_feeds * ring_words
    ladder_feed_at = ladder_rows_at + _whole_lines(n_ladders)
    ladders_at = ladder_feed_at + _whole_lines(n_ladders)
    n_bytes = (ladders_at + n_ladders * replicas * (ladder.words(ladder_levels) if n_ladders else 0)) * WORD_BYTES
    return Layout(
        n_rows, n_feeds, ring_slots, feeds_at, row_feed_at, rows_at, rings_at, ring_words, n_bytes, replicas,
        n_ladders, ladder_levels, ladder_rows_at, ladder_feed_at, ladders_at,
    )  # fmt: skip


def format_twins(words: Int64s, parts: Layout, twins: Mapping[int, int], owners: set[int]) -> None:
    """Write each feed's twin, and where the sequences of its rows begin. Raises ImageError for one that cannot be."""
    for feed, twin in twins.items():
        if not (0 <= feed < parts.n_feeds and 0 <= twin < parts.n_feeds) or twin in owners or twin in twins:
            raise ImageError(f"feed {twin} cannot be the twin of feed {feed}: it has rows of its own, or is none")
        line = parts.feeds_at + feed * seqlock.FEED_WORDS
        words[line + seqlock.TWIN_FEED] = twin + 1
        words[line + seqlock.TWIN_ROWS] = parts.n_rows
    behind = words[parts.rows_at + parts.n_rows * seqlock.ROW_WORDS : parts.rings_at]
    behind[:: seqlock.ROW_WORDS] = seqlock.TWIN_SEQUENCE


def format_ladders(words: Int64s, parts: Layout, ladders: Sequence[tuple[int, int]]) -> None:
    """Write row and feed of each ladder. Raises ImageError: no levels, no such row or feed, two ladders of one row."""
    if not ladders:
        return
    rows, feeds = zip(*ladders, strict=True)
    if parts.ladder_levels < 1 or len(set(rows)) < len(rows) or not all(0 <= row < parts.n_rows for row in rows):
        raise ImageError(f"ladders need at least one level and rows of their own, not {ladders[:5]}")
    if not all(0 <= feed < parts.n_feeds for feed in feeds):
        raise ImageError(f"every ladder's feed must lie in [0, {parts.n_feeds})")
    words[parts.ladder_rows_at : parts.ladder_rows_at + parts.n_ladders] = rows
    words[parts.ladder_feed_at : parts.ladder_feed_at + parts.n_ladders] = feeds
    behind = words[parts.ladders_at + parts.n_ladders * ladder.words(parts.ladder_levels) : parts.n_bytes // WORD_BYTES]
    behind[:: ladder.words(parts.ladder_levels)] = seqlock.TWIN_SEQUENCE


def words_of(buffer: bytes | bytearray | memoryview | Int64s) -> Int64s:
    """Return the whole words of a buffer, in place."""
    if isinstance(buffer, np.ndarray):
        return buffer
    whole = len(buffer) // WORD_BYTES if not isinstance(buffer, memoryview) else buffer.nbytes // WORD_BYTES
    return np.frombuffer(buffer, dtype=np.int64, count=whole)


def _whole_lines(n_words: int) -> int:
    return -(-n_words // _LINE_WORDS) * _LINE_WORDS
