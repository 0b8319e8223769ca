"""Frames: every form gives its figures, everything else a reason by name, and nothing raises."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.exchange_info import Symbol
from kernels.fixed8 import COUNT_MAX, SCALE
from kernels.frames import (
    NO_ROW,
    Reason,
    Rejected,
    RowUpdate,
    SymbolTable,
    parse_frame,
    parse_snapshot_entry,
)

TABLE = SymbolTable([Symbol(name, "TRADING", "B", "Q") for name in ("BTCUSDT", "ETHUSDT", "币安人生USDT")])
FIGURES = {"u": 7, "s": "ETHUSDT", "b": "2683.80000000", "B": "3.02920000", "a": "2683.81000000", "A": "31.43950000"}
GOOD = RowUpdate(1, 268_380_000_000, 302_920_000, 268_381_000_000, 3_143_950_000, 7, False)


def payload(**changes: object) -> dict[str, object]:
    return {key: value for key, value in (FIGURES | changes).items() if value is not ...}


def combined(stream: object = "ethusdt@bookTicker", **changes: object) -> bytes:
    return json.dumps({"stream": stream, "data": payload(**changes)}).encode()


@pytest.mark.parametrize(
    "frame",
    [
        combined(),
        combined("!bookTicker"),
        json.dumps(payload()).encode(),
        json.dumps(payload(e="bookTicker", E=1, T=2)).encode(),
        json.dumps({"data": payload(), "stream": "ethusdt@bookTicker"}).encode(),
        b" " + combined() + b"\n",
    ],
)
def test_each_form_of_a_book_ticker_gives_its_figures(frame: bytes) -> None:
    assert parse_frame(frame, TABLE) == GOOD


def test_a_snapshot_entry_gives_its_figures_without_an_update_id() -> None:
    entry = {"symbol": "ETHUSDT", "bidPrice": "1.5", "bidQty": "2", "askPrice": "1.6", "askQty": "3"}
    expected = RowUpdate(1, 150_000_000, 2 * SCALE, 160_000_000, 3 * SCALE, 0, False)
    assert parse_snapshot_entry(entry, TABLE) == expected


def test_a_name_beyond_ascii_is_found_by_stream_and_symbol() -> None:
    frame = combined("币安人生usdt@bookTicker", s="币安人生USDT")
    assert parse_frame(frame, TABLE) == GOOD._replace(row=2)


@pytest.mark.parametrize(
    ("frame", "reason", "row"),
    [
        (b"", Reason.NOT_JSON, NO_ROW),
        (b"hello", Reason.NOT_JSON, NO_ROW),
        (b'\xff{"s":', Reason.NOT_JSON, NO_ROW),
        (b'{"stream":"ethusdt@bookTicker","data":{"u":1', Reason.NOT_JSON, 1),
        (b'{"stream":"ethusdt@depth@100ms","data":{"u":1', Reason.NOT_BOOK_TICKER, 1),
        (b'{"u":1,"s":"ETHUSDT","b":"1.', Reason.NOT_JSON, 1),
        (b'{"stream":"ethusdt@bookTi', Reason.NOT_JSON, NO_ROW),
        (b"[]", Reason.NOT_BOOK_TICKER, NO_ROW),
        (b"7", Reason.NOT_BOOK_TICKER, NO_ROW),
        (b'{"lastUpdateId": 5, "bids": [], "asks": []}', Reason.NOT_BOOK_TICKER, NO_ROW),
        (b'{"e": "trade", "s": "ETHUSDT"}', Reason.NOT_BOOK_TICKER, NO_ROW),
        (b"{}", Reason.NOT_BOOK_TICKER, NO_ROW),
        (b'{"result": null, "id": 1}', Reason.CONTROL, NO_ROW),
        (b'{"code": 2, "msg": "no"}', Reason.CONTROL, NO_ROW),
        (combined("ethusdt@depth@100ms"), Reason.NOT_BOOK_TICKER, 1),
        (combined("ethusdt"), Reason.UNKNOWN_STREAM, NO_ROW),
        (combined(5), Reason.UNKNOWN_STREAM, NO_ROW),
        (combined("dogeusdt@bookTicker", s="DOGEUSDT"), Reason.UNKNOWN_SYMBOL, NO_ROW),
        (combined("!bookTicker", s="DOGEUSDT"), Reason.UNKNOWN_SYMBOL, NO_ROW),
        (combined(s="BTCUSDT"), Reason.SYMBOL_MISMATCH, NO_ROW),
        (b'{"stream":"ethusdt@bookTicker"}', Reason.MISSING_FIELD, 1),
        (b'{"stream":"ethusdt@bookTicker","data":[]}', Reason.MISSING_FIELD, 1),
        *((combined(**{field: ...}), Reason.MISSING_FIELD, 1) for field in "usbBaA"),
        *((combined(**{field: None}), Reason.MISSING_FIELD, 1) for field in "bBaA"),
        *((combined(u=value), Reason.BAD_UPDATE_ID, 1) for value in ("7", 7.5, True, None, 0, -1, 2**63)),
        *((combined(b=value), Reason.BAD_PRICE, 1) for value in ("", "1e5", "-1", "nan", "0.123456789", 1.5, "9" * 12)),
        *((combined(A=value), Reason.BAD_QTY, 1) for value in ("", "1e5", "-1", "+1", "1_0", 1.5, [], "١")),
        (combined(b="0.00000000", B="0.00000000"), Reason.ONE_SIDED, 1),
        (combined(a="0", A="0"), Reason.ONE_SIDED, 1),
        (combined(B="0"), Reason.ONE_SIDED, 1),
        (combined(b="0", B="0", a="0", A="0"), Reason.EMPTY_BOOK, 1),
        (combined(b="2683.82"), Reason.CROSSED, 1),
        (combined(b="2683.81"), Reason.CROSSED, 1),
    ],
)
def test_what_sets_no_row_is_rejected_by_name_and_says_whose_it_was(frame: bytes, reason: Reason, row: int) -> None:
    assert parse_frame(frame, TABLE) == Rejected(reason, row)


@pytest.mark.parametrize(
    ("entry", "reason", "row"),
    [
        (7, Reason.NOT_BOOK_TICKER, NO_ROW),
        ({"bidPrice": "1"}, Reason.MISSING_FIELD, NO_ROW),
        ({"symbol": "DOGE"}, Reason.UNKNOWN_SYMBOL, NO_ROW),
        ({"symbol": ["ETHUSDT"]}, Reason.UNKNOWN_SYMBOL, NO_ROW),
        ({"symbol": "ETHUSDT", "bidPrice": "1"}, Reason.MISSING_FIELD, 1),
    ],
)
def test_a_bad_snapshot_entry_is_rejected_by_name(entry: object, reason: Reason, row: int) -> None:
    assert parse_snapshot_entry(entry, TABLE) == Rejected(reason, row)


def test_a_quantity_that_does_not_fit_is_capped_and_its_frame_is_good() -> None:
    assert parse_frame(combined(A="999999999999999999"), TABLE) == GOOD._replace(
        ask_qty=COUNT_MAX, quantity_capped=True
    )


def test_every_truncation_of_a_good_frame_is_rejected_and_named_as_soon_as_it_can_be() -> None:
    frame = combined()
    for length in range(len(frame)):
        outcome = parse_frame(frame[:length], TABLE)
        named = length >= len(b'{"stream": "ethusdt@bookTicker"')
        assert outcome == Rejected(Reason.NOT_JSON, 1 if named else NO_ROW)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_raise(noise: bytes) -> None:
    assert isinstance(parse_frame(noise, TABLE), Rejected)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from("usbBaAe"), json_values), st.none() | json_values | st.just("ethusdt@bookTicker")
)
def test_no_json_raises_whatever_stands_in_its_fields(changes: dict[str, object], stream: object) -> None:
    data = FIGURES | changes
    frame = json.dumps(data if stream is None else {"stream": stream, "data": data}).encode("utf-8", "replace")
    outcome = parse_frame(frame, TABLE)
    assert isinstance(outcome, Rejected | RowUpdate)
    parse_snapshot_entry(changes, TABLE)


decimals = st.decimals(min_value=0, max_value=Decimal(10) ** 12, places=8).map(lambda value: f"{value:f}")


@settings(max_examples=300, deadline=None)
@given(decimals, decimals, decimals, decimals, st.integers(1, 2**63 - 1))
def test_decimal_figures_agree_with_a_naive_parse(
    bid: str, bid_qty: str, ask: str, ask_qty: str, update_id: int
) -> None:
    outcome = parse_frame(combined(b=bid, B=bid_qty, a=ask, A=ask_qty, u=update_id), TABLE)
    px = [int(Decimal(text) * SCALE) for text in (bid, ask)]
    qty = [int(Decimal(text) * SCALE) for text in (bid_qty, ask_qty)]
    sides = (px[0] * qty[0] > 0) + (px[1] * qty[1] > 0)
    if max(px) > COUNT_MAX:
        assert outcome == Rejected(Reason.BAD_PRICE, 1)
    elif sides < 2:
        assert outcome == Rejected(Reason.ONE_SIDED if sides else Reason.EMPTY_BOOK, 1)
    elif px[0] >= px[1]:
        assert outcome == Rejected(Reason.CROSSED, 1)
    else:
        kept = [min(count, COUNT_MAX) for count in qty]
        assert outcome == RowUpdate(1, px[0], kept[0], px[1], kept[1], update_id, max(qty) > COUNT_MAX)


def test_names_that_differ_by_case_alone_are_refused() -> None:
    with pytest.raises(ValueError, match="case"):
        SymbolTable([Symbol(name, "TRADING", "B", "Q") for name in ("AB", "Ab")])
