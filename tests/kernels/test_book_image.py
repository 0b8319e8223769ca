"""The book image in one process: what a row, a header and a ring say, against plain Python that does the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import seqlock
from kernels.book_image import (
    BookImage,
    FeedCounters,
    FeedWriter,
    Fenced,
    ImageError,
    RingReader,
    Row,
    RowNotOwned,
    RowStatus,
    Verdict,
    format_image,
    layout,
    row_is_live,
)
from tests.kernels.image_cases import plain_image

NOW_NS = 10**15
MS = 1_000_000
counts = st.integers(0, 2**63 - 1)


def live_writer(image: BookImage, feed: int = 0, epoch: int = 1, now_ns: int = NOW_NS) -> FeedWriter:
    writer = FeedWriter(image, feed, epoch)
    writer.beat(now_ns)
    return writer


def verdict(image: BookImage, row: int, now_ns: int = NOW_NS, age_ns_max: int = 2**62) -> Verdict:
    found, values = image.read_live_row(row, now_ns, age_ns_max)
    if values is not None:
        header = image.read_header(max(int(image.row_feed[row]), 0))
        assert row_is_live(values, header, now_ns, age_ns_max) == (found is Verdict.LIVE)
    return found


def test_parts_lie_on_cache_lines_and_do_not_overlap() -> None:
    parts = layout(595, 3, 1024)
    starts = [parts.feeds_at, parts.row_feed_at, parts.rows_at, parts.rings_at]
    assert all(at % 8 == 0 for at in starts)
    assert starts == sorted(starts)
    assert parts.rows_at - parts.row_feed_at >= 595
    assert parts.rings_at - parts.rows_at == 595 * 8
    assert parts.n_bytes == 8 * (parts.rings_at + 3 * (8 + 1024))


@settings(deadline=None)
@given(counts, counts, counts, counts, counts, counts, st.booleans(), st.integers(1, 2**47 - 1))
def test_a_row_reads_as_it_was_written(
    bid_px: int, bid_qty: int, ask_px: int, ask_qty: int, update_id: int, now_ns: int, capped: bool, epoch: int
) -> None:
    image = plain_image()
    FeedWriter(image, 0, epoch).write_row(1, bid_px, bid_qty, ask_px, ask_qty, update_id, now_ns, capped)
    row = image.read_row(1)
    assert row is not None
    assert row[:7] == (2, bid_px, bid_qty, ask_px, ask_qty, update_id, now_ns)
    assert (row.status, row.quantity_capped, row.epoch) == (RowStatus.VALID, capped, epoch)


def test_a_row_of_a_new_image_was_never_seen() -> None:
    image = plain_image()
    live_writer(image)
    row = image.read_row(0)
    assert row == Row(0, 0, 0, 0, 0, 0, 0, 0)
    assert row.status is RowStatus.NEVER_SEEN
    assert verdict(image, 0) is Verdict.INVALID


def test_a_good_frame_makes_a_row_live_and_a_bad_one_keeps_its_figures_to_be_shown() -> None:
    image = plain_image()
    writer = live_writer(image)
    writer.write_row(0, 1, 2, 3, 4, 5, NOW_NS)
    assert verdict(image, 0) is Verdict.LIVE
    for reason in set(RowStatus) - {RowStatus.VALID}:
        writer.mark_invalid(0, reason)
        row = image.read_row(0)
        assert row is not None
        assert (row.status, row[1:7]) == (reason, (1, 2, 3, 4, 5, NOW_NS))
        assert verdict(image, 0) is Verdict.INVALID
    writer.write_row(0, 1, 2, 3, 4, 6, NOW_NS)
    assert verdict(image, 0) is Verdict.LIVE


def test_no_row_turns_valid_by_being_marked() -> None:
    with pytest.raises(ValueError, match="good frame"):
        live_writer(plain_image()).mark_invalid(0, RowStatus.VALID)


def test_a_row_counts_only_with_a_live_header() -> None:
    image = plain_image()
    writer = FeedWriter(image, 0, 1)
    writer.write_row(0, 1, 2, 3, 4, 5, NOW_NS)
    assert verdict(image, 0) is Verdict.FEED_DEAD, "no beat yet"
    writer.beat(NOW_NS)
    assert verdict(image, 0, NOW_NS + 250 * MS) is Verdict.LIVE
    assert verdict(image, 0, NOW_NS + 250 * MS + 1) is Verdict.FEED_DEAD, "stale after 250 ms"
    assert verdict(image, 0, NOW_NS - 250 * MS) is Verdict.LIVE, "the beat came while the reader looked"
    assert verdict(image, 0, NOW_NS - 250 * MS - 1) is Verdict.FEED_DEAD, "a beat of another clock"


def test_a_row_of_an_older_epoch_counts_only_once_the_new_one_has_written_it() -> None:
    image = plain_image()
    old = live_writer(image, epoch=1)
    old.write_row(0, 1, 2, 3, 4, 5, NOW_NS)
    new = FeedWriter(image, 0, 2)
    new.write_row(1, 1, 2, 3, 4, 5, NOW_NS)
    assert verdict(image, 1) is Verdict.FEED_DEAD, "the old epoch's beat is not the new one's"
    new.beat(NOW_NS)
    assert verdict(image, 1) is Verdict.LIVE
    assert verdict(image, 0) is Verdict.FEED_DEAD
    new.write_row(0, 1, 2, 3, 4, 5, NOW_NS)
    assert verdict(image, 0) is Verdict.LIVE


def test_a_writer_of_a_stale_epoch_is_refused_whatever_it_does_and_changes_nothing() -> None:
    image = plain_image()
    old = live_writer(image, epoch=3)
    live_writer(image, epoch=4)
    before = bytes(image._words.tobytes())
    for act in (
        lambda: old.write_row(0, 1, 2, 3, 4, 5, NOW_NS),
        lambda: old.mark_invalid(0, RowStatus.GAP),
        lambda: old.beat(NOW_NS + 1),
        old.down,
        lambda: FeedWriter(image, 0, 4),
        lambda: FeedWriter(image, 0, 2),
    ):
        with pytest.raises(Fenced):
            act()
    assert image._words.tobytes() == before


def test_a_feed_that_is_down_stays_down_whatever_beats_follow() -> None:
    image = plain_image()
    writer = live_writer(image)
    writer.write_row(0, 1, 2, 3, 4, 5, NOW_NS)
    writer.down()
    writer.beat(NOW_NS)
    assert verdict(image, 0) is Verdict.FEED_DEAD


def test_a_feed_held_down_counts_again_only_in_a_later_epoch() -> None:
    image = plain_image()
    writer = live_writer(image, epoch=7)
    writer.write_row(0, 1, 2, 3, 4, 5, NOW_NS)
    assert image.hold_down(0) == 7
    assert verdict(image, 0) is Verdict.FEED_DEAD
    live_writer(image, epoch=8).write_row(0, 1, 2, 3, 4, 5, NOW_NS)
    assert verdict(image, 0) is Verdict.LIVE


def test_an_old_quote_is_aged_by_the_limit_of_its_class() -> None:
    image = plain_image()
    live_writer(image).write_row(0, 1, 2, 3, 4, 5, NOW_NS - 100)
    assert verdict(image, 0, age_ns_max=100) is Verdict.LIVE
    assert verdict(image, 0, age_ns_max=99) is Verdict.AGED


def test_a_feed_writes_no_row_but_its_own() -> None:
    image = plain_image((0, 1, -1))
    writer = live_writer(image)
    for row in (1, 2, 3, -1):
        with pytest.raises(RowNotOwned):
            writer.write_row(row, 1, 2, 3, 4, 5, NOW_NS)
    with pytest.raises(RowNotOwned):
        writer.mark_invalid(1, RowStatus.GAP)


def test_a_row_left_in_mid_write_is_busy_until_its_successor_has_written_it() -> None:
    image = plain_image()
    live_writer(image).write_row(0, 1, 2, 3, 4, 5, NOW_NS)
    at = image.layout.rows_at
    image._words[at + seqlock.SEQUENCE] |= 1
    image._words[at + seqlock.BID_PX] = 999
    assert image.read_row(0) is None
    assert verdict(image, 0) is Verdict.BUSY
    successor = live_writer(image, epoch=2)
    successor.mark_invalid(0, RowStatus.GAP)
    row = image.read_row(0)
    assert row is not None
    assert row[:7] == (4, 0, 0, 0, 0, 0, 0), "figures of two frames are not shown"
    successor.write_row(0, 9, 8, 7, 6, 5, NOW_NS)
    row = image.read_row(0)
    assert row is not None
    assert row[:5] == (6, 9, 8, 7, 6)


def test_a_header_says_what_the_feed_last_said() -> None:
    image = plain_image()
    writer = FeedWriter(image, 1, 5)
    assert image.read_header(1)[:4] == (5, 0, 0, True)
    writer.beat(NOW_NS, 1234, FeedCounters(10, 7, 3, 1))
    assert image.read_header(1) == (5, NOW_NS, 1234, True, 10, 7, 3, 1, 0)
    writer.beat(NOW_NS + 1)
    assert image.read_header(1) == (5, NOW_NS + 1, 0, True, 10, 7, 3, 1, 0)
    assert image.read_header(0)[:4] == (0, 0, 0, False)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 2), st.none()), max_size=60), st.sampled_from([2, 8]))
def test_a_ring_gives_every_change_in_order_or_says_that_it_was_overrun(steps: list[int | None], slots: int) -> None:
    image = plain_image(ring_slots=slots)
    writer, reader = live_writer(image), RingReader(image, 0)
    waiting: list[int] = []
    for step in [*steps, None]:
        if step is not None:
            writer.write_row(step, 1, 2, 3, 4, 5, NOW_NS)
            waiting.append(step)
            continue
        rows = reader.drain()
        assert (rows is None) == (len(waiting) >= slots)
        assert rows is None or rows.tolist() == waiting
        waiting.clear()
        assert (rows is None) or len(reader.drain()) == 0  # type: ignore[arg-type]


def test_a_ring_is_drained_in_batches_and_invalid_rows_are_announced_too() -> None:
    image = plain_image()
    writer, reader = live_writer(image), RingReader(image, 0, batch=2)
    writer.write_row(0, 1, 2, 3, 4, 5, NOW_NS)
    writer.mark_invalid(2, RowStatus.CROSSED)
    writer.write_row(1, 1, 2, 3, 4, 5, NOW_NS)
    for rows in ([0, 2], [1], []):
        batch = reader.drain()
        assert batch is not None
        assert batch.tolist() == rows


def test_readers_cannot_write_and_writers_need_a_writable_buffer() -> None:
    image = plain_image()
    with pytest.raises(ValueError, match="read-only"):
        image.rows[0] = 1
    mapped = BookImage(bytes(image._words.tobytes()))
    assert mapped.read_row(0) == image.read_row(0)
    with pytest.raises(ImageError, match="read-only"):
        FeedWriter(mapped, 0, 1)


def test_what_is_no_image_is_refused_by_name() -> None:
    size = layout(4, 1, 8).n_bytes
    with pytest.raises(ImageError, match="no magic"):
        BookImage(bytearray(size))
    with pytest.raises(ImageError, match="no magic"):
        BookImage(b"")
    good = bytearray(size)
    format_image(good, (0,) * 4, 1, 8, symbols_digest=42)
    assert BookImage(good).symbols_digest == 42
    with pytest.raises(ImageError, match="cut off"):
        BookImage(bytes(good[:-8]))
    with pytest.raises(ImageError, match="not zeroed"):
        format_image(good, (0,) * 4, 1, 8)
    good[8] = 99
    with pytest.raises(ImageError, match="layout version 99"):
        BookImage(good)
    for wrong in (lambda: layout(0, 1), lambda: layout(1, 0), lambda: layout(1, 1, 3)):
        with pytest.raises(ImageError):
            wrong()
    with pytest.raises(ImageError, match="feed"):
        format_image(bytearray(size), (0, 0, 0, 1), 1, 8)
    with pytest.raises(ImageError, match="needs"):
        format_image(bytearray(size - 8), (0,) * 4, 1, 8)


def test_indices_outside_the_image_are_refused() -> None:
    image = plain_image()
    for act in (lambda: image.read_row(4), lambda: image.read_row(-1), lambda: image.read_header(2)):
        with pytest.raises(IndexError):
            act()
    assert image.rows_of(1).tolist() == [3]
    assert image.rows_of(0).dtype == np.int32
