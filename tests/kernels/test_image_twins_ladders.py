"""Twins and ladders of the book image: which of two rows is taken, and ladders never torn, against plain Python."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.book_image import (
    BookImage,
    FeedWriter,
    Fenced,
    ImageError,
    Ladder,
    RingReader,
    RowNotOwned,
    RowStatus,
    Verdict,
    format_image,
    layout,
)

NOW_NS = 10**15
STALE_NS = 250_000_000
AGE_NS = 5_000_000_000
LEVELS = 4
PRIMARY, TWIN, OTHER = 0, 1, 2


def twin_image() -> BookImage:
    """Two rows of a feed with a twin, one of a feed without; ladders on rows 1 and 2."""
    size = layout(3, 3, 8, replicas=2, n_ladders=2, ladder_levels=LEVELS).n_bytes
    ladders = [(1, PRIMARY), (2, OTHER)]
    return format_image(
        bytearray(size), [PRIMARY, PRIMARY, OTHER], 3, 8, twins={PRIMARY: TWIN}, ladders=ladders, ladder_levels=LEVELS
    )


def levels(*pairs: tuple[int, int]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


# Of one replica: whether it beats, and what its row is.
STATES = st.tuples(st.booleans(), st.sampled_from(("never", "live", "invalid", "aged")))


def put(writer: FeedWriter, bid_px: int, beats: bool, state: str) -> bool:
    """Bring a replica into a state; return whether its row is live then."""
    if state != "never":
        received_ns = NOW_NS - (AGE_NS + 1 if state == "aged" else 0)
        writer.write_row(0, bid_px, 1, bid_px + 1, 1, 7, received_ns)
    if state == "invalid":
        writer.mark_invalid(0, RowStatus.PARSE_FAILURE)
    if beats:
        writer.beat(NOW_NS)
    return beats and state == "live"


@given(STATES, STATES, st.booleans())
def test_a_live_row_of_either_is_taken_the_preferred_one_first_and_never_a_dead_one(
    primary: tuple[bool, str], twin: tuple[bool, str], stood_down: bool
) -> None:
    image = twin_image()
    lives = [
        put(FeedWriter(image, PRIMARY, 5), 100, *primary),
        put(FeedWriter(image, TWIN, 5), 200, *twin),
    ]
    image.stand_down(PRIMARY, stood_down)
    assert image.is_stood_down(PRIMARY) == stood_down
    order = [1, 0] if stood_down else [0, 1]
    wanted = next((replica for replica in order if lives[replica]), None)
    verdict, row = image.read_live_row(0, NOW_NS, AGE_NS, STALE_NS)
    assert row is not None
    if wanted is None:
        assert verdict is not Verdict.LIVE
        assert row.of_twin == stood_down
    else:
        assert verdict is Verdict.LIVE
        assert (row.bid_px, row.of_twin) == ((200, True) if wanted else (100, False))


def test_a_twin_writes_rows_of_its_own_under_the_same_numbers_and_announces_them_on_its_own_ring() -> None:
    image = twin_image()
    rings = [RingReader(image, feed) for feed in range(3)]
    primary, twin = FeedWriter(image, PRIMARY, 3), FeedWriter(image, TWIN, 3)
    assert primary.owned == twin.owned == {0, 1}
    primary.write_row(1, 10, 1, 11, 1, 1, NOW_NS)
    twin.write_row(1, 20, 1, 21, 1, 2, NOW_NS)
    assert [ring.drain().tolist() for ring in rings] == [[1], [1], []]  # type: ignore[union-attr]
    own = image.read_row(1)
    assert own is not None
    assert (own.bid_px, own.sequence) == (10, 2)
    image.stand_down(PRIMARY, True)
    twin.beat(NOW_NS)
    row = image.read_live_row(1, NOW_NS)[1]
    assert row is not None
    assert (row.bid_px, row.venue_update_id, row.of_twin) == (20, 2, True)
    assert row.sequence != own.sequence
    with pytest.raises(RowNotOwned):
        twin.write_row(2, 1, 1, 2, 1, 1, 1)
    assert (image.twin(PRIMARY), image.twin(OTHER), image.primary(TWIN)) == (TWIN, -1, PRIMARY)
    assert image.announced_by(TWIN).tolist() == [0, 1]
    assert image.announced_by(OTHER).tolist() == [2]


@pytest.mark.parametrize("twins", [{0: 0}, {0: 2}, {0: 3}, {0: 1, 1: 0}])
def test_a_twin_with_rows_of_its_own_or_out_of_range_is_refused(twins: dict[int, int]) -> None:
    buffer = bytearray(layout(3, 3, 8, replicas=2).n_bytes)
    with pytest.raises(ImageError, match="twin"):
        format_image(buffer, [0, 0, 2], 3, 8, twins=twins)


def test_an_image_without_twins_is_as_large_as_its_rows() -> None:
    assert layout(5, 1, 8).ladders_at * 8 == layout(5, 1, 8).n_bytes
    assert layout(5, 1, 8, replicas=2).n_bytes - layout(5, 1, 8).n_bytes == 5 * 64


counts = st.integers(1, 2**63 - 1)
sides = st.lists(st.tuples(counts, counts), max_size=7)


@settings(deadline=None)
@given(sides, sides, counts, counts)
def test_a_ladder_reads_as_it_was_written_as_far_as_there_is_room(
    bids: list[tuple[int, int]], asks: list[tuple[int, int]], update_id: int, received_ns: int
) -> None:
    image = twin_image()
    writer = FeedWriter(image, OTHER, 9)
    assert image.read_live_ladder(2, NOW_NS)[0] is Verdict.INVALID
    writer.write_ladder(2, levels(*bids), levels(*asks), update_id, received_ns)
    writer.beat(NOW_NS)
    verdict, ladder = image.read_live_ladder(2, NOW_NS)
    assert verdict is Verdict.LIVE
    assert ladder is not None
    assert [tuple(one) for one in ladder.bids.tolist()] == bids[:LEVELS]
    assert [tuple(one) for one in ladder.asks.tolist()] == asks[:LEVELS]
    assert (ladder.venue_update_id, ladder.received_ns, ladder.epoch) == (update_id, received_ns, 9)


def ladder_verdict(image: BookImage, row: int, now_ns: int = NOW_NS) -> Verdict:
    return image.read_live_ladder(row, now_ns, AGE_NS, STALE_NS)[0]


def test_a_ladder_lives_and_dies_with_its_feed_as_a_row_does() -> None:
    image = twin_image()
    writer = FeedWriter(image, OTHER, 1)
    writer.write_ladder(2, levels((9, 1)), levels((10, 1)), 5, NOW_NS)
    assert ladder_verdict(image, 2) is Verdict.FEED_DEAD
    writer.beat(NOW_NS)
    assert ladder_verdict(image, 2) is Verdict.LIVE
    assert ladder_verdict(image, 2, NOW_NS + STALE_NS + 1) is Verdict.FEED_DEAD
    writer.beat(NOW_NS + AGE_NS + 1)
    assert ladder_verdict(image, 2, NOW_NS + AGE_NS + 1) is Verdict.AGED
    writer.write_ladder(2, levels(), levels(), 5, NOW_NS, RowStatus.GAP)
    verdict, ladder = image.read_live_ladder(2, NOW_NS + AGE_NS + 1)
    assert (verdict, ladder.status if ladder else None) == (Verdict.INVALID, RowStatus.GAP)
    assert image.read_live_ladder(0, NOW_NS) == (Verdict.INVALID, None)
    successor = FeedWriter(image, OTHER, 2)
    successor.beat(NOW_NS)
    with pytest.raises(Fenced):
        writer.write_ladder(2, levels((9, 1)), levels((10, 1)), 6, NOW_NS)
    with pytest.raises(RowNotOwned):
        successor.write_ladder(1, levels(), levels(), 6, NOW_NS)


def test_the_twins_ladder_is_taken_where_the_feeds_own_is_not_live() -> None:
    image = twin_image()
    primary, twin = FeedWriter(image, PRIMARY, 1), FeedWriter(image, TWIN, 1)
    for writer, price in ((primary, 100), (twin, 200)):
        writer.write_ladder(1, levels((price, 1)), levels((price + 1, 1)), 5, NOW_NS)
        writer.beat(NOW_NS)

    def best_bid() -> tuple[Verdict, int]:
        verdict, ladder = image.read_live_ladder(1, NOW_NS)
        assert ladder is not None
        return verdict, int(ladder.bids[0, 0])

    assert best_bid() == (Verdict.LIVE, 100)
    image.stand_down(PRIMARY, True)
    assert best_bid() == (Verdict.LIVE, 200)
    twin.down()
    assert best_bid() == (Verdict.LIVE, 100)
    primary.down()
    assert best_bid() == (Verdict.FEED_DEAD, 200)


def test_a_ladder_is_never_torn_while_another_thread_writes() -> None:
    """Each write fills the ladder with one number: whatever a reader gets is of one write."""
    image = twin_image()
    writer = FeedWriter(image, OTHER, 1)
    writer.beat(NOW_NS)
    stop = threading.Event()
    written = [0]

    def write() -> None:
        while not stop.is_set():
            number = written[0] = written[0] + 1
            depth = 1 + number % LEVELS
            full = np.full((depth, 2), number, dtype=np.int64)
            writer.write_ladder(2, full, full, number, NOW_NS)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        seen: list[Ladder] = []
        reader = BookImage(image._words)
        while len(seen) < 5_000 or written[0] < 5_000:
            ladder = reader.read_live_ladder(2, NOW_NS)[1]
            if ladder is not None and ladder.venue_update_id:
                seen.append(ladder)
    finally:
        stop.set()
        thread.join()
    latest = 0
    for ladder in seen:
        number = ladder.venue_update_id
        assert number >= latest
        latest = number
        assert len(ladder.bids) == len(ladder.asks) == 1 + number % LEVELS
        assert (ladder.bids == number).all()
        assert (ladder.asks == number).all()


def test_a_successor_of_a_writer_killed_within_a_ladder_opens_no_even_window() -> None:
    image = twin_image()
    first = FeedWriter(image, OTHER, 1)
    first.write_ladder(2, levels((9, 1)), levels((10, 1)), 5, NOW_NS)
    at = image.layout.ladders_at + 1 * (8 + 4 * LEVELS)
    image._words[at] |= 1  # killed after its first store
    assert ladder_verdict(image, 2) is Verdict.BUSY
    second = FeedWriter(image, OTHER, 2)
    second.beat(NOW_NS)
    assert ladder_verdict(image, 2) is Verdict.BUSY
    second.write_ladder(2, levels((8, 1)), levels((9, 1)), 6, NOW_NS)
    assert ladder_verdict(image, 2) is Verdict.LIVE
    assert image._words[at] % 2 == 0
