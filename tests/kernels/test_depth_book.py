"""The depth book against a venue that keeps every level of its own in a dict."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.capture_records import BookState, decode_book_state, decode_snapshot, encode
from kernels.depth_book import DIFFS_KEPT_MAX, DepthBook, Diff, Int64s, Outcome

MID = 1_000


def pairs(levels: Sequence[tuple[int, int]]) -> Int64s:
    return np.array(levels, dtype=np.int64).reshape(-1, 2)


def plain(levels: Int64s) -> list[tuple[int, int]]:
    return [(price, quantity) for price, quantity in levels.tolist()]


class Venue:
    """The whole truth: dicts of levels, an update id that each change raises, and diffs that gather changes."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.update_id = chance.randrange(1, 1_000)
        self.bids = {MID - 1 - offset: 1 + offset for offset in range(30)}
        self.asks = {MID + 1 + offset: 1 + offset for offset in range(30)}

    def diff(self) -> Diff:
        """Change some levels, never crossing, and tell it as the stream does."""
        first_id = self.update_id + 1
        changed: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for _ in range(self.chance.randrange(1, 6)):
            side = self.chance.randrange(2)
            price = MID + self.chance.randrange(1, 40) * (1 if side else -1)
            quantity = self.chance.choice((0, 0, self.chance.randrange(1, 100)))
            changed[side][price] = quantity
            book = (self.bids, self.asks)[side]
            if quantity:
                book[price] = quantity
            else:
                book.pop(price, None)
            self.update_id += 1
        return Diff(first_id, self.update_id, pairs(list(changed[0].items())), pairs(list(changed[1].items())))

    def side(self, bids: bool) -> list[tuple[int, int]]:
        return sorted((self.bids if bids else self.asks).items(), reverse=bids)

    def snapshot(self, limit: int) -> tuple[int, Int64s, Int64s, int]:
        return self.update_id, pairs(self.side(True)[:limit]), pairs(self.side(False)[:limit]), limit


def is_prefix_of_truth(book: DepthBook, venue: Venue) -> None:
    """Every level held is right, and none better than the last held is missing."""
    for held, truth in ((plain(book.bids), venue.side(True)), (plain(book.asks), venue.side(False))):
        assert held == truth[: len(held)]
        if not book.wants_snapshot:
            assert len(held) >= min(book.levels_wanted, len(truth))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(5, 60), st.integers(3, 45))
def test_whatever_is_lost_and_whenever_the_snapshot_comes_a_valid_book_is_the_venues_own(
    seed: int, limit: int, room: int
) -> None:
    chance = random.Random(seed)
    venue, book = Venue(chance), DepthBook(room, min(room, 3))
    asked: list[tuple[int, Int64s, Int64s, int]] = []
    for _ in range(120):
        act = chance.random()
        if act < 0.65:
            diff = venue.diff()
            if chance.random() < 0.04:
                continue
            outcome = book.apply_diff(diff)
            assert (outcome is Outcome.APPLIED) == book.is_valid
            if chance.random() < 0.1:
                assert book.apply_diff(diff) is Outcome.OLD
        elif act < 0.8 and book.wants_snapshot and not asked:
            book.begin_filling()
            asked.append(venue.snapshot(limit))
        elif asked:
            assert book.apply_snapshot(*asked.pop()) is not Outcome.CROSSED
        if book.is_valid and book.update_id == venue.update_id:
            is_prefix_of_truth(book, venue)
    # In the end everything is told, and the book comes to be valid.
    for _ in range(10):
        book.apply_diff(venue.diff())
        if book.wants_snapshot:
            book.begin_filling()
            book.apply_snapshot(*venue.snapshot(limit))
    assert book.is_valid
    assert book.update_id == venue.update_id
    is_prefix_of_truth(book, venue)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(5, 40), st.integers(3, 40))
def test_a_book_that_knows_what_another_knew_goes_on_as_that_does(seed: int, limit: int, room: int) -> None:
    """Whenever it is taken over: void, waiting with diffs, valid, being filled up; edges too."""
    chance = random.Random(seed)
    venue, book = Venue(chance), DepthBook(room, min(room, 3))
    for _ in range(chance.randrange(1, 60)):
        diff = venue.diff()
        if chance.random() < 0.95:
            book.apply_diff(diff)
        if chance.random() < 0.2 and book.wants_snapshot:
            book.begin_filling()
            if chance.random() < 0.7:
                book.apply_snapshot(*venue.snapshot(limit))
    payload = encode(book.state("BTCUSDT"))
    state = decode_book_state(payload)
    assert state is not None
    other = DepthBook(room, min(room, 3))
    assert other.restore(state)
    assert other.restore(state) is not state.is_valid
    for _ in range(30):
        diff = venue.diff()
        if chance.random() < 0.97:
            assert book.apply_diff(diff) is other.apply_diff(diff)
        if chance.random() < 0.2:
            assert book.wants_snapshot == other.wants_snapshot
            snapshot = venue.snapshot(limit)
            assert book.apply_snapshot(*snapshot) is other.apply_snapshot(*snapshot)
        assert encode(book.state("BTCUSDT")) == encode(other.state("BTCUSDT"))


def test_bytes_that_are_no_state_are_none() -> None:
    payload = encode(DepthBook(3, 1).state("BTCUSDT"))
    assert decode_book_state(payload[:-1]) is None
    assert decode_book_state(b"") is None
    assert decode_book_state(encode(BookState("X", True, 1, False, (1, 2), b"odd", b"", ()))) is None
    assert decode_snapshot(payload) is None


def test_a_lost_diff_voids_the_book_at_the_next_one_and_a_snapshot_before_the_gap_does_not_mend_it() -> None:
    venue, book = Venue(random.Random(1)), DepthBook(50, 5)
    before = venue.snapshot(50)
    assert book.apply_snapshot(*before) is Outcome.APPLIED
    venue.diff()
    assert book.apply_diff(venue.diff()) is Outcome.GAP
    assert not book.is_valid
    assert len(book.bids) == len(book.asks) == 0
    assert book.apply_snapshot(*before) is Outcome.TOO_OLD
    assert not book.is_valid
    assert book.apply_diff(venue.diff()) is Outcome.KEPT
    assert book.apply_snapshot(*venue.snapshot(50)) is Outcome.APPLIED
    is_prefix_of_truth(book, venue)


def test_the_diff_that_reaches_over_the_snapshot_is_applied_whole() -> None:
    """Its first id is at or below the snapshot's: its levels are the latest all the same."""
    book = DepthBook(5, 1)
    assert book.apply_diff(Diff(8, 9, pairs([(10, 1)]), pairs([]))) is Outcome.KEPT
    assert book.apply_diff(Diff(10, 14, pairs([(11, 7)]), pairs([(13, 0)]))) is Outcome.KEPT
    outcome = book.apply_snapshot(12, pairs([(11, 5), (10, 2)]), pairs([(13, 3), (14, 4)]), 100)
    assert outcome is Outcome.APPLIED
    assert (book.update_id, plain(book.bids), plain(book.asks)) == (14, [(11, 7), (10, 2)], [(14, 4)])


def test_what_lies_behind_the_last_level_of_a_full_snapshot_is_not_guessed() -> None:
    book = DepthBook(10, 2)
    book.apply_snapshot(1, pairs([(9, 1), (8, 1)]), pairs([(11, 1), (12, 1)]), 2)
    assert not book.wants_snapshot
    # 7 may have neighbours that nobody told: it is left out, and with 8 gone one level is all that is known.
    book.apply_diff(Diff(2, 3, pairs([(7, 5), (8, 0)]), pairs([])))
    assert plain(book.bids) == [(9, 1)]
    assert book.is_valid
    assert book.wants_snapshot
    book.begin_filling()
    book.apply_diff(Diff(4, 4, pairs([(9, 6)]), pairs([])))
    assert book.apply_snapshot(3, pairs([(9, 1), (7, 5)]), pairs([(11, 1), (12, 1)]), 2) is Outcome.APPLIED
    assert plain(book.bids) == [(9, 6), (7, 5)]
    assert book.update_id == 4


def test_a_crossed_book_is_void() -> None:
    book = DepthBook(10, 1)
    book.apply_snapshot(1, pairs([(9, 1)]), pairs([(11, 1)]), 100)
    assert book.apply_diff(Diff(2, 2, pairs([(11, 1)]), pairs([]))) is Outcome.CROSSED
    assert not book.is_valid
    assert book.wants_snapshot


def test_more_diffs_than_may_wait_are_dropped_and_a_snapshot_from_before_them_is_too_old() -> None:
    book = DepthBook(10, 1)
    nothing = pairs([])
    for number in range(1, DIFFS_KEPT_MAX + 1):
        assert book.apply_diff(Diff(number, number, nothing, nothing)) is Outcome.KEPT
    latest = DIFFS_KEPT_MAX + 1
    assert book.apply_diff(Diff(latest, latest, nothing, nothing)) is Outcome.FULL
    assert book.apply_snapshot(5, pairs([(9, 1)]), pairs([(11, 1)]), 100) is Outcome.TOO_OLD
    assert book.apply_snapshot(latest, pairs([(9, 1)]), pairs([(11, 1)]), 100) is Outcome.APPLIED


@pytest.mark.parametrize(("room", "wanted"), [(0, 0), (5, 0), (5, 6)])
def test_levels_that_cannot_be_are_refused(room: int, wanted: int) -> None:
    with pytest.raises(ValueError, match="levels_wanted"):
        DepthBook(room, wanted)
