"""A private copy of a book image's rows, ladders and headers: values that stand still, to be evaluated more than once.

Each row and ladder is copied under its seqlock; one that was being written all along stays busy in the copy. Headers
are copied after what they vouch for. Rings are not copied.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from kernels.book_image import BookImage
from kernels.image_layout import words_of
from kernels.ladder import read_ladder
from kernels.ladder import words as ladder_words
from kernels.seqlock import FEED_WORDS, ROW_WORDS, read_feed, read_row

# A digest of the files whose functions are compiled into this: numba's cache does not look at them (see test_warm).
COMPILED_WITH: Final = "8a09db8dfc43b50c"

Int64s = npt.NDArray[np.int64]


class ImageCopy:
    """`image`: the copy, as of the last `refresh`; nowhere valid before the first."""

    __slots__ = ("_feeds", "_ladders", "_rows", "_shape", "_source", "image")

    def __init__(self, source: BookImage) -> None:
        parts = source.layout
        copied = words_of(bytearray(parts.n_bytes))
        for begin, end in (
            (0, parts.feeds_at),
            (parts.row_feed_at, parts.rows_at),
            (parts.ladder_rows_at, parts.ladders_at),
        ):
            copied[begin:end] = source._words[begin:end]
        self._source = source
        self._shape = parts.ladder_levels, ladder_words(parts.ladder_levels)
        self._feeds = copied[parts.feeds_at : parts.row_feed_at]
        self._rows = copied[parts.rows_at : parts.rings_at]
        self._ladders = copied[parts.ladders_at :]
        self.image = BookImage(copied)

    def refresh(self) -> None:
        """Copy everything anew: about 20 ns a row."""
        source = self._source
        copy_values(source.rows, source.ladders, source.feeds, *self._shape, self._rows, self._ladders, self._feeds)


@njit(cache=True, nogil=True)
def copy_values(
    rows: Int64s,
    ladders: Int64s,
    feeds: Int64s,
    levels: int,
    size: int,
    rows_out: Int64s,
    ladders_out: Int64s,
    feeds_out: Int64s,
) -> None:
    """Copy each whole value; one that is busy keeps an odd sequence in the copy. `size`: words of a ladder."""
    row_value = np.empty(ROW_WORDS, dtype=np.int64)
    for row in range(len(rows) // ROW_WORDS):
        at = row * ROW_WORDS
        if read_row(rows, row, row_value):
            rows_out[at : at + ROW_WORDS] = row_value
        else:
            rows_out[at] |= 1
    if levels > 0:
        ladder_value = np.empty(size, dtype=np.int64)
        for ladder in range(len(ladders) // size):
            at = ladder * size
            if read_ladder(ladders, ladder, levels, ladder_value):
                ladders_out[at : at + size] = ladder_value
            else:
                ladders_out[at] |= 1
    feed_value = np.empty(FEED_WORDS, dtype=np.int64)
    for feed in range(len(feeds) // FEED_WORDS):
        read_feed(feeds, feed, feed_value)
        feeds_out[feed * FEED_WORDS : (feed + 1) * FEED_WORDS] = feed_value
