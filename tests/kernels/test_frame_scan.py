"""The compiled scan and the fold of many frames: they answer as the whole rule does, frame by frame, for any bytes."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.book_image import BookImage, FeedWriter, Fenced, RingReader
from kernels.exchange_info import Symbol
from kernels.fixed8 import COUNT_MAX
from kernels.fold import FeedFold
from kernels.frame_fold import FRAMES_MAX
from kernels.frame_scan import N_FIGURES, TEXT_PADDING, UNUSUAL, scan_frame, scan_table
from kernels.frames import NO_ROW, ROW_STATUS, Reason, Rejected, RowUpdate, SymbolTable, parse_frame
from tests.kernels.image_cases import plain_image

NAMES = ("BTCUSDT", "ETHUSDT", "币安人生USDT", "A", 'QUOTE"D', "1000SATSUSDT", "ÄÖUSDT", "AT@USDT")
TABLE = SymbolTable([Symbol(name, "TRADING", "B", "Q") for name in NAMES])
GOOD = b'{"stream":"ethusdt@bookTicker","data":{"u":7,"s":"ETHUSDT","b":"2683.80000000","B":"3.02920000","a":"2683.81000000","A":"31.43950000"}}'  # fmt: skip  # noqa: E501


def ticker(
    name: str = "ETHUSDT",
    update_id: object = 7,
    bid: str = "1.00000000",
    bid_qty: str = "3.00000000",
    ask: str = "2.00000000",
    ask_qty: str = "4.00000000",
    stream: str | None = None,
) -> bytes:
    data = {"u": update_id, "s": name, "b": bid, "B": bid_qty, "a": ask, "A": ask_qty}
    whole = {"stream": f"{name.lower()}@bookTicker" if stream is None else stream, "data": data}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


def scanned(frame: bytes, before: bytes = b"", after: bytes = b"") -> RowUpdate | None:
    """Scan a frame that lies between others."""
    text = np.frombuffer(before + frame + after + bytes(TEXT_PADDING), dtype=np.uint8)
    figures = np.full(N_FIGURES, -7, dtype=np.int64)
    row = int(scan_frame(text.copy(), len(before), len(before) + len(frame), *TABLE.scan, figures))
    if row == UNUSUAL:
        return None
    bid_px, bid_qty, ask_px, ask_qty, update_id, capped = figures.tolist()
    return RowUpdate(row, bid_px, bid_qty, ask_px, ask_qty, update_id, bool(capped))


def checked(frame: bytes, before: bytes = b"", after: bytes = b"") -> RowUpdate | None:
    """What the scan takes it takes as the whole rule does; what it leaves it leaves."""
    found = scanned(frame, before, after)
    assert found is None or found == parse_frame(frame, TABLE), frame
    return found


def test_the_frame_as_the_venue_writes_it_is_scanned() -> None:
    assert checked(GOOD) == RowUpdate(1, 268_380_000_000, 302_920_000, 268_381_000_000, 3_143_950_000, 7, False)


@pytest.mark.parametrize("row", [row for row, name in enumerate(NAMES) if not set('"@') & set(name)])
def test_every_symbol_is_found_by_the_bytes_of_its_stream_beyond_ascii_too(row: int) -> None:
    found = checked(ticker(NAMES[row]), before=GOOD, after=GOOD)
    assert found is not None
    assert found.row == row


@pytest.mark.parametrize("name", [NAMES[4], NAMES[7], "UNKNOWN", ""])
def test_a_name_that_is_not_plain_or_not_known_is_left_to_the_whole_rule(name: str) -> None:
    assert checked(ticker(name)) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"bid": "0.00000001", "ask": "0.00000002"}, (1, 300_000_000, 2, 400_000_000, False)),
        ({"bid": "1", "ask": "1.5"}, (100_000_000, 300_000_000, 150_000_000, 400_000_000, False)),
        ({"bid_qty": "9999999999.99999999"}, (100_000_000, 10**18 - 1, 200_000_000, 400_000_000, False)),
        ({"bid_qty": "12345678901.00000001"}, (100_000_000, 1234567890100000001, 200_000_000, 400_000_000, False)),
        ({"ask_qty": "999999999999999999"}, (100_000_000, 300_000_000, 200_000_000, COUNT_MAX, True)),
        ({"bid_qty": "92233720368.54775808"}, (100_000_000, COUNT_MAX, 200_000_000, 400_000_000, True)),
        ({"bid_qty": "0.000000019"}, (100_000_000, 1, 200_000_000, 400_000_000, False)),
        ({"ask": "92233720368.54775807"}, (100_000_000, 300_000_000, COUNT_MAX, 400_000_000, False)),
    ],
)
def test_the_extremes_of_figures_are_exact(changes: dict[str, str], expected: tuple[int, int, int, int, bool]) -> None:
    frame = ticker(**changes)  # type: ignore[arg-type]
    *figures, capped = expected
    assert checked(frame) == RowUpdate(1, *figures, 7, capped) == parse_frame(frame, TABLE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bid": "0.00000000", "bid_qty": "0.00000000"}, Reason.ONE_SIDED),
        ({"ask_qty": "0.00000000"}, Reason.ONE_SIDED),
        ({"bid": "0.0", "bid_qty": "0.0", "ask": "0.0", "ask_qty": "0.0"}, Reason.EMPTY_BOOK),
        ({"bid": "2.00000000"}, Reason.CROSSED),
        ({"bid": "2.00000001"}, Reason.CROSSED),
        ({"bid": "1.000000001"}, Reason.BAD_PRICE),
        ({"ask": "92233720368.54775808"}, Reason.BAD_PRICE),
        ({"ask": "9" * 65}, Reason.BAD_PRICE),
        ({"bid_qty": "1e5"}, Reason.BAD_QTY),
        ({"bid_qty": ""}, Reason.BAD_QTY),
        ({"ask_qty": "1."}, Reason.BAD_QTY),
        ({"ask_qty": ".00000001"}, Reason.BAD_QTY),
        ({"ask_qty": "-1.00000000"}, Reason.BAD_QTY),
        ({"ask_qty": "1.0000000٣"}, Reason.BAD_QTY),
        ({"update_id": 0}, Reason.BAD_UPDATE_ID),
        ({"update_id": -1}, Reason.BAD_UPDATE_ID),
        ({"update_id": "7"}, Reason.BAD_UPDATE_ID),
        ({"update_id": 2**63}, Reason.BAD_UPDATE_ID),
    ],
)
def test_what_is_no_good_top_of_book_is_left_to_the_whole_rule(changes: dict[str, str], reason: Reason) -> None:
    frame = ticker(**changes)  # type: ignore[arg-type]
    assert checked(frame) is None
    assert parse_frame(frame, TABLE) == Rejected(reason, 1)


def test_every_truncation_is_left_even_where_what_follows_would_complete_it() -> None:
    for length in range(len(GOOD)):
        assert checked(GOOD[:length], after=GOOD[length:] + GOOD) is None
        assert checked(GOOD[:length], before=GOOD) is None


def test_every_frame_with_one_byte_changed_added_or_removed_is_answered_as_by_the_whole_rule() -> None:
    for at in range(len(GOOD) + 1):
        for byte in b'0159"\\{}:,. @aAbBusz\x00\xff\n':
            one = bytes((byte,))
            checked(GOOD[:at] + one + GOOD[at:])
            checked(GOOD[:at] + one + GOOD[at + 1 :])
        checked(GOOD[:at] + GOOD[at + 1 :])


def test_many_names_are_each_found_and_nothing_else_is() -> None:
    names = [f"S{number}USDT" for number in range(5_000)]
    table = scan_table(names)
    figures = np.zeros(N_FIGURES, dtype=np.int64)
    for row in (*range(0, 5_000, 37), 4_999):
        for name, expected in ((names[row], row), (f"S{row}USDC", UNUSUAL)):
            frame = ticker(name)
            text = np.frombuffer(frame + bytes(TEXT_PADDING), dtype=np.uint8).copy()
            assert scan_frame(text, 0, len(frame), *table, figures) == expected


numbers = st.one_of(
    st.decimals(min_value=0, max_value=10**12, places=8).map(lambda value: f"{value:f}"),
    st.decimals(min_value=0, max_value=10**3, places=3).map(lambda value: f"{value:f}"),
    st.sampled_from(["0.00000000", "0.00000001", "12345678901.00000000", "9999999999.99999999", "999999999999999999"]),
    st.sampled_from(["-1.00000000", ".00000001", "1..00000000", "1.0000000٣", "²³.00000000", "1,00000000", " 1.0", ""]),
)
frames = st.builds(
    ticker,
    st.sampled_from([*NAMES, "X"]),
    st.sampled_from([1, 5, 9, 0, -5, 10**18 - 1, 10**18, 2**63 - 1, 2**63, 7.0, "7", None]),
    numbers,
    numbers,
    numbers,
    numbers,
    st.none() | st.sampled_from(["ethusdt@bookTicker", "ETHUSDT@bookTicker", "!bookTicker", "ethusdt@depth", "x", ""]),
)
others = st.sampled_from(
    [b"", b"{", b"{}", b"[]", GOOD + GOOD, GOOD + b" ", b" " + GOOD, GOOD.replace(b":", b": "), GOOD[:60], b"\xff",
     b'{"data":{"u":7},"stream":"ethusdt@bookTicker"}', b'{"result":null,"id":1}', GOOD.replace(b'"b"', b'"\\u0062"')]
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(frames, st.binary(max_size=3), st.sampled_from([b"", GOOD, b"0000", b'"}}']))
def test_any_frame_is_answered_as_by_the_whole_rule(frame: bytes, tail: bytes, after: bytes) -> None:
    checked(frame, before=GOOD, after=after)
    checked(frame + tail, after=after)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_left(noise: bytes) -> None:
    assert checked(noise) is None


class NaiveFold:
    """The rule, frame by frame and in plain words: what stands in each row, and what was counted."""

    def __init__(self, owned: set[int]) -> None:
        self.owned = owned
        self.rows: dict[int, tuple[object, ...]] = {}
        self.latest: dict[int, int] = {}
        self.parsed = self.capped = 0
        self.rejected: dict[Reason, int] = {}

    def apply(self, frame: bytes, received_ns: int) -> bool:
        outcome = parse_frame(frame, TABLE)
        if isinstance(outcome, RowUpdate):
            if outcome.row not in self.owned:
                outcome = Rejected(Reason.UNKNOWN_SYMBOL, NO_ROW)
            elif outcome.update_id <= self.latest.get(outcome.row, 0):
                outcome = Rejected(Reason.STALE_UPDATE_ID, outcome.row)
        if isinstance(outcome, RowUpdate):
            self.latest[outcome.row] = outcome.update_id
            self.rows[outcome.row] = ("valid", *outcome[1:6], received_ns, outcome.quantity_capped)
            self.parsed += 1
            self.capped += outcome.quantity_capped
            return True
        self.rejected[outcome.reason] = self.rejected.get(outcome.reason, 0) + 1
        status = ROW_STATUS.get(outcome.reason)
        if status is None:
            return False
        struck = self.owned if outcome.row == NO_ROW else self.owned & {outcome.row}
        for row in struck:
            self.rows[row] = (status.name.lower(), *self.rows.get(row, (0,) * 8)[1:7], None)
        return bool(struck)


def compare(image: BookImage, fold: FeedFold, naive: NaiveFold, frames_given: int) -> None:
    for row in range(len(NAMES)):
        found = image.read_row(row)
        assert found is not None
        if row not in naive.rows:
            assert found == (0,) * 8
            continue
        said, *figures, capped = naive.rows[row]
        assert (found.status.name.lower(), *found[1:7]) == (said, *figures)
        assert capped is None or found.quantity_capped == capped
    assert (fold.frames, fold.parsed, fold.quantity_capped) == (frames_given, naive.parsed, naive.capped)
    assert fold.rejected == naive.rejected
    assert fold.counters() == (frames_given, naive.parsed, sum(naive.rejected.values()), naive.capped)


@settings(max_examples=250, deadline=None)
@given(st.lists(st.lists(frames | others, max_size=12), max_size=6))
def test_a_batch_leaves_what_its_frames_one_by_one_would(batches: list[list[bytes]]) -> None:
    owned = {0, 1, 2, 5}
    image = plain_image(tuple(0 if row in owned else 1 for row in range(len(NAMES))), ring_slots=1 << 10)
    fold, naive = FeedFold(FeedWriter(image, 0, 1), TABLE), NaiveFold(owned)
    ring = RingReader(image, 0)
    for received_ns, batch in enumerate(batches, start=1):
        expected = [naive.apply(frame, received_ns) for frame in batch]
        assert fold.apply_frames(batch, received_ns) == any(expected)
        announced = ring.drain()
        assert announced is not None
        assert set(announced.tolist()) <= owned
        assert bool(len(announced)) == any(expected)
    compare(image, fold, naive, sum(map(len, batches)))


def test_a_batch_longer_than_one_call_with_every_kind_in_it_is_folded_whole() -> None:
    seed = 20_240_808
    print("seed", seed)
    chance = random.Random(seed)
    image = plain_image((0,) * len(NAMES), ring_slots=1 << 14)
    fold, naive = FeedFold(FeedWriter(image, 0, 1), TABLE), NaiveFold(set(range(len(NAMES))))
    batch = []
    for number in range(1, 3 * FRAMES_MAX):
        frame = ticker(chance.choice(NAMES), max(1, number - chance.randrange(9)), ask=f"{chance.randint(2, 9**9)}")
        if chance.random() < 0.05:
            at = chance.randrange(len(frame))
            frame = frame[:at] + bytes((chance.randrange(256),)) + frame[at + 1 :]
        batch.append(frame)
    batch.append(b"x" * (1 << 19))
    changed = [naive.apply(frame, 5) for frame in batch]
    assert fold.apply_frames(batch, 5) == any(changed)
    compare(image, fold, naive, len(batch))


def test_rows_are_announced_in_the_order_of_their_frames() -> None:
    image = plain_image((0,) * len(NAMES), ring_slots=64)
    fold, ring = FeedFold(FeedWriter(image, 0, 1), TABLE), RingReader(image, 0)
    fold.apply_frames([ticker("BTCUSDT", 1), ticker("A", 1), ticker("BTCUSDT", 2), b"{", ticker("ETHUSDT", 1)], 1)
    announced = ring.drain()
    assert announced is not None
    assert announced.tolist()[:3] == [0, 3, 0]
    assert announced.tolist()[-1] == 1
    assert set(announced.tolist()[3:-1]) == set(range(len(NAMES)))


def test_a_batch_of_a_succeeded_epoch_is_fenced_and_writes_nothing() -> None:
    image = plain_image((0,) * len(NAMES))
    fold = FeedFold(FeedWriter(image, 0, 1), TABLE)
    FeedWriter(image, 0, 2)
    with pytest.raises(Fenced, match="epoch 1"):
        fold.apply_frames([GOOD, GOOD], 1)
    assert image.read_row(1) == (0,) * 8


def test_an_empty_batch_changes_nothing() -> None:
    image = plain_image((0,) * len(NAMES))
    fold = FeedFold(FeedWriter(image, 0, 1), TABLE)
    assert fold.apply_frames([], 1) is False
    assert fold.frames == 0
