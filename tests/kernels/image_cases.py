"""Small book images for tests: one image in plain memory, its rows owned by two feeds."""

from __future__ import annotations

from kernels.book_image import BookImage, format_image, layout


def plain_image(row_feed: tuple[int, ...] = (0, 0, 0, 1), n_feeds: int = 2, ring_slots: int = 8) -> BookImage:
    return format_image(bytearray(layout(len(row_feed), n_feeds, ring_slots).n_bytes), row_feed, n_feeds, ring_slots)
