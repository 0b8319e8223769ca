"""The fold of frames into rows: every frame accounted for, and a row is valid only by its own last good frame."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.book_image import BookImage, FeedWriter, Fenced, RowStatus
from kernels.exchange_info import Symbol
from kernels.fixed8 import COUNT_MAX
from kernels.fold import ALL_CHANGED, NOTHING_CHANGED, FeedFold
from kernels.frames import Reason, SymbolTable
from tests.kernels.image_cases import plain_image

NAMES = ("AUSDT", "BUSDT", "CUSDT", "DUSDT")
TABLE = SymbolTable([Symbol(name, "TRADING", "B", "Q") for name in NAMES])


def ticker(name: str, update_id: int, bid: str = "1.0", ask: str = "2.0", qty: str = "3.0") -> bytes:
    data = {"u": update_id, "s": name, "b": bid, "B": qty, "a": ask, "A": qty}
    return json.dumps({"stream": f"{name.lower()}@bookTicker", "data": data}).encode()


def folded() -> tuple[BookImage, FeedFold]:
    image = plain_image((0, 0, 0, 1))
    return image, FeedFold(FeedWriter(image, 0, 1), TABLE)


def status(image: BookImage, row: int) -> RowStatus:
    values = image.read_row(row)
    assert values is not None
    return values.status


def test_a_good_frame_sets_its_row_and_no_other() -> None:
    image, fold = folded()
    assert fold.apply_frame(ticker("BUSDT", 5), 77) == 1
    values = image.read_row(1)
    assert values is not None
    assert values[1:7] == (100_000_000, 300_000_000, 200_000_000, 300_000_000, 5, 77)
    assert [status(image, row) for row in (0, 2, 3)] == [RowStatus.NEVER_SEEN] * 3
    assert fold.counters() == (1, 1, 0, 0)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (b'{"stream":"busdt@bookTicker","data":{"u":6,', RowStatus.PARSE_FAILURE),
        (ticker("BUSDT", 6, bid="1e5"), RowStatus.PARSE_FAILURE),
        (ticker("BUSDT", 6, qty="x"), RowStatus.PARSE_FAILURE),
        (ticker("BUSDT", 6, qty="0"), RowStatus.ONE_SIDED),
        (ticker("BUSDT", 6, bid="2.0"), RowStatus.CROSSED),
    ],
)
def test_a_bad_frame_makes_its_row_invalid_until_that_symbols_next_good_one(frame: bytes, expected: RowStatus) -> None:
    image, fold = folded()
    fold.apply_frame(ticker("AUSDT", 5), 1)
    fold.apply_frame(ticker("BUSDT", 5), 1)
    assert fold.apply_frame(frame, 2) == 1
    assert (status(image, 0), status(image, 1)) == (RowStatus.VALID, expected)
    fold.apply_frame(ticker("AUSDT", 9), 3)
    assert status(image, 1) is expected
    fold.apply_frame(ticker("BUSDT", 7), 3)
    assert status(image, 1) is RowStatus.VALID


def test_a_frame_that_could_be_anyones_makes_every_row_of_the_feed_invalid() -> None:
    image, fold = folded()
    for name in NAMES[:3]:
        fold.apply_frame(ticker(name, 5), 1)
    assert fold.apply_frame(b'{"str', 2) == ALL_CHANGED
    assert [status(image, row) for row in range(4)] == [RowStatus.PARSE_FAILURE] * 3 + [RowStatus.NEVER_SEEN]
    assert fold.rows_invalidated == 3


def test_an_older_or_equal_update_id_changes_nothing_and_is_counted() -> None:
    image, fold = folded()
    fold.apply_frame(ticker("AUSDT", 5, bid="1.5"), 1)
    for update_id in (5, 4):
        assert fold.apply_frame(ticker("AUSDT", update_id, bid="1.0"), 2) == NOTHING_CHANGED
    values = image.read_row(0)
    assert values is not None
    assert (values.bid_px, values.status) == (150_000_000, RowStatus.VALID)
    assert fold.rejected == {Reason.STALE_UPDATE_ID: 2}


def test_a_stale_good_frame_does_not_mend_an_invalid_row() -> None:
    image, fold = folded()
    fold.apply_frame(ticker("AUSDT", 5), 1)
    fold.apply_frame(ticker("AUSDT", 6, bid="x"), 1)
    fold.apply_frame(ticker("AUSDT", 5), 1)
    assert status(image, 0) is RowStatus.PARSE_FAILURE


def test_a_capped_quantity_is_valid_flagged_and_counted() -> None:
    image, fold = folded()
    fold.apply_frame(ticker("AUSDT", 5, qty="99999999999999999999"), 1)
    values = image.read_row(0)
    assert values is not None
    assert (values.status, values.quantity_capped, values.bid_qty) == (RowStatus.VALID, True, COUNT_MAX)
    assert (fold.quantity_capped, fold.parsed, fold.capped_rows) == (1, 1, {0: 1})
    fold.apply_frame(ticker("AUSDT", 6), 1)
    values = image.read_row(0)
    assert values is not None
    assert not values.quantity_capped


def test_capped_quantities_are_counted_by_row_whichever_way_their_frame_is_written() -> None:
    _, fold = folded()
    usual = '{"stream":"ausdt@bookTicker","data":{"u":%d,"s":"AUSDT","b":"1.0","B":"%s","a":"2.0","A":"1.0"}}'
    huge = "99999999999999999999.00000000"
    fold.apply_frames([(usual % (number, huge)).encode() for number in (1, 2)] + [(usual % (3, "1.0")).encode()], 1)
    fold.apply_frames([ticker("BUSDT", 5, qty=huge), ticker("AUSDT", 4, qty=huge)], 1)
    assert fold.capped_rows == {0: 3, 1: 1}
    assert fold.quantity_capped == 4


def test_a_symbol_of_another_feed_is_unknown_here_whatever_its_frame_holds() -> None:
    image, fold = folded()
    assert fold.apply_frame(ticker("DUSDT", 5), 1) == NOTHING_CHANGED
    assert fold.apply_frame(ticker("DUSDT", 5, bid="x"), 1) == NOTHING_CHANGED
    assert status(image, 3) is RowStatus.NEVER_SEEN
    assert fold.rejected == {Reason.UNKNOWN_SYMBOL: 1, Reason.BAD_PRICE: 1}


def test_other_streams_are_counted_and_touch_no_row() -> None:
    image, fold = folded()
    fold.apply_frame(ticker("AUSDT", 5), 1)
    assert fold.apply_frame(b'{"stream":"ausdt@trade","data":{}}', 1) == NOTHING_CHANGED
    assert status(image, 0) is RowStatus.VALID


def test_a_fold_of_a_succeeded_epoch_is_fenced() -> None:
    image, fold = folded()
    FeedWriter(image, 0, 2)
    with pytest.raises(Fenced):
        fold.apply_frame(ticker("AUSDT", 5), 1)


some_frames = st.one_of(
    st.builds(
        ticker,
        st.sampled_from([*NAMES, "XUSDT"]),
        st.integers(0, 9),
        st.sampled_from(["1.0", "2.0", "3", "x", "0"]),
        st.just("2.0"),
        st.sampled_from(["1", "0", "-1", "9" * 30]),
    ),
    st.sampled_from([b"", b"{", b"{}", b"[]", b'{"stream":"ausdt@trade","data":{}}', b'{"result":null}']),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(some_frames, max_size=30))
def test_every_frame_is_parsed_or_rejected_and_a_row_is_valid_only_by_its_last_good_frame(frames: list[bytes]) -> None:
    image, fold = folded()
    valid: dict[int, int] = {}
    for at, frame in enumerate(frames, start=1):
        parsed = fold.parsed
        changed = fold.apply_frame(frame, at)
        if fold.parsed > parsed:
            valid[changed] = at
        elif changed == ALL_CHANGED:
            valid.clear()
        elif changed != NOTHING_CHANGED:
            valid.pop(changed, None)
    assert fold.frames == len(frames) == fold.parsed + fold.rejected.total()
    for row in range(4):
        values = image.read_row(row)
        assert values is not None
        assert (values.status is RowStatus.VALID) == (row in valid)
        assert row not in valid or values.received_ns == valid[row]
