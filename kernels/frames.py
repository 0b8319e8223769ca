"""A frame's bytes become a row's figures, or a reason by name: nothing a venue sends raises here, and nothing is lost.

Forms known: a combined-stream frame `{"stream": "btcusdt@bookTicker", "data": {…}}`, a raw bookTicker `{"u", "s", "b",
"B", "a", "A"}` (with `"e": "bookTicker"` or without), and an entry of the REST snapshot `{"symbol", "bidPrice", …}`.
Source: the spot exchange's WebSocket and REST documentation, "Individual Symbol Book Ticker Streams" and "Symbol order
book ticker"; and the recorded frames.

This is the whole rule. `kernels.frame_scan` reads the usual good frame in compiled code, with the same answer.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import orjson

from kernels.book_image import RowStatus
from kernels.exchange_info import Symbol
from kernels.fixed8 import Fixed8Error, parse_price, parse_quantity
from kernels.frame_scan import scan_table

BOOK_TICKER: Final = "bookTicker"
NO_ROW: Final = -1
_TICKER_FIELDS: Final = frozenset(("s", "b", "B", "a", "A"))


class Reason(enum.StrEnum):
    """Why a frame was rejected. Each is counted under its name."""

    NOT_JSON = "not_json"
    NOT_BOOK_TICKER = "not_book_ticker"
    UNKNOWN_STREAM = "unknown_stream"
    UNKNOWN_SYMBOL = "unknown_symbol"
    SYMBOL_MISMATCH = "symbol_mismatch"
    MISSING_FIELD = "missing_field"
    BAD_UPDATE_ID = "bad_update_id"
    BAD_PRICE = "bad_price"
    BAD_QTY = "bad_qty"
    EMPTY_BOOK = "empty_book"
    ONE_SIDED = "one_sided"
    CROSSED = "crossed"
    STALE_UPDATE_ID = "stale_update_id"
    CONTROL = "control"
    BAD_LINE = "bad_line"
    DEPTH_WITHOUT_SNAPSHOT = "depth_without_snapshot"


# What each reason says of the row (or rows) that the frame was about. The absent say nothing: the frame was whole, and
# no top of book that we follow.
ROW_STATUS: Final[Mapping[Reason, RowStatus]] = {
    Reason.NOT_JSON: RowStatus.PARSE_FAILURE,
    Reason.SYMBOL_MISMATCH: RowStatus.PARSE_FAILURE,
    Reason.MISSING_FIELD: RowStatus.PARSE_FAILURE,
    Reason.BAD_UPDATE_ID: RowStatus.PARSE_FAILURE,
    Reason.BAD_PRICE: RowStatus.PARSE_FAILURE,
    Reason.BAD_QTY: RowStatus.PARSE_FAILURE,
    Reason.EMPTY_BOOK: RowStatus.ONE_SIDED,
    Reason.ONE_SIDED: RowStatus.ONE_SIDED,
    Reason.CROSSED: RowStatus.CROSSED,
}


class RowUpdate(NamedTuple):
    """A good frame. Counts of 1e-8; `update_id` is 0 where the form has none (a snapshot)."""

    row: int
    bid_px: int
    bid_qty: int
    ask_px: int
    ask_qty: int
    update_id: int
    quantity_capped: bool


class Rejected(NamedTuple):
    """A frame that sets no row. `row` is whose frame it was; NO_ROW where that cannot be told.

    With a reason in ROW_STATUS the row turns invalid; and with NO_ROW it may have been any row's, so that every row of
    the connection does.
    """

    reason: Reason
    row: int


class SymbolTable:
    """The row of each symbol, by its name and by its stream's name (lower case). Row numbers are positions given."""

    __slots__ = ("_by_name", "_by_stream", "names", "scan")

    def __init__(self, symbols: Iterable[Symbol]) -> None:
        """Number the symbols. Raises ValueError where two names differ by case alone: a stream could not tell them."""
        self.names = tuple(symbol.name for symbol in symbols)
        self._by_name = {name: row for row, name in enumerate(self.names)}
        self._by_stream = {name.lower(): row for row, name in enumerate(self.names)}
        if len(self._by_stream) != len(self.names):
            raise ValueError("two symbols differ by case alone, so that their streams have one name; drop one of them")
        self.scan = scan_table(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def row(self, name: object) -> int:
        """Return the row of a symbol's name, NO_ROW if there is none."""
        return self._by_name.get(name, NO_ROW) if isinstance(name, str) else NO_ROW

    def row_of_stream(self, lower: str) -> int:
        """Return the row of the symbol part of a stream's name, NO_ROW if there is none."""
        return self._by_stream.get(lower, NO_ROW)


def parse_frame(frame: bytes, table: SymbolTable) -> RowUpdate | Rejected:
    """Parse one frame of a stream. Never raises; whether its update id is stale is the fold's to say.

    A truncated frame is attributed by what is left of its head, where that names stream or symbol whole.
    """
    try:
        value = orjson.loads(frame)
    except orjson.JSONDecodeError:
        return _salvaged(frame, table)
    if not isinstance(value, dict):
        return Rejected(Reason.NOT_BOOK_TICKER, NO_ROW)
    if "stream" in value:
        return _combined(value, table)
    if value.get("e", BOOK_TICKER) != BOOK_TICKER or "lastUpdateId" in value:
        return Rejected(Reason.NOT_BOOK_TICKER, NO_ROW)
    if _TICKER_FIELDS.isdisjoint(value):
        control = "result" in value or "error" in value or "code" in value
        return Rejected(Reason.CONTROL if control else Reason.NOT_BOOK_TICKER, NO_ROW)
    return _ticker(value, table, NO_ROW)


def parse_snapshot_entry(entry: object, table: SymbolTable) -> RowUpdate | Rejected:
    """Parse one entry, already decoded, of a bookTicker snapshot. Never raises."""
    if not isinstance(entry, dict):
        return Rejected(Reason.NOT_BOOK_TICKER, NO_ROW)
    if "symbol" not in entry:
        return Rejected(Reason.MISSING_FIELD, NO_ROW)
    row = table.row(entry["symbol"])
    if row == NO_ROW:
        return Rejected(Reason.UNKNOWN_SYMBOL, NO_ROW)
    texts = tuple(entry.get(field) for field in ("bidPrice", "bidQty", "askPrice", "askQty"))
    return _figures(row, texts, 0)


def _combined(value: dict[str, object], table: SymbolTable) -> RowUpdate | Rejected:
    stream, data = value["stream"], value.get("data")
    if not isinstance(stream, str):
        return Rejected(Reason.UNKNOWN_STREAM, NO_ROW)
    name, at, kind = stream.partition("@")
    if stream == "!" + BOOK_TICKER:
        row = NO_ROW
    elif not at:
        return Rejected(Reason.UNKNOWN_STREAM, NO_ROW)
    else:
        row = table.row_of_stream(name)
        if kind != BOOK_TICKER:
            return Rejected(Reason.NOT_BOOK_TICKER, row)
        if row == NO_ROW:
            return Rejected(Reason.UNKNOWN_SYMBOL, NO_ROW)
    if not isinstance(data, dict):
        return Rejected(Reason.MISSING_FIELD, row)
    return _ticker(data, table, row)


def _ticker(data: dict[str, object], table: SymbolTable, stream_row: int) -> RowUpdate | Rejected:
    """Parse a bookTicker's payload; `stream_row` is the row that its stream named, NO_ROW where none did."""
    if "s" not in data:
        return Rejected(Reason.MISSING_FIELD, stream_row)
    row = table.row(data["s"])
    if stream_row not in (NO_ROW, row):
        return Rejected(Reason.SYMBOL_MISMATCH, NO_ROW)
    if row == NO_ROW:
        return Rejected(Reason.UNKNOWN_SYMBOL, NO_ROW)
    if "u" not in data:
        return Rejected(Reason.MISSING_FIELD, row)
    update_id = data["u"]
    if type(update_id) is not int or not 0 < update_id < 2**63:
        return Rejected(Reason.BAD_UPDATE_ID, row)
    return _figures(row, (data.get("b"), data.get("B"), data.get("a"), data.get("A")), update_id)


def _figures(row: int, texts: tuple[object, ...], update_id: int) -> RowUpdate | Rejected:
    """Parse bid, bid quantity, ask, ask quantity. A side is there when its price and its quantity are above zero.

    Numbers must stand as JSON strings: a JSON number may have been rounded on its way.
    """
    if None in texts:
        return Rejected(Reason.MISSING_FIELD, row)
    bid, bid_quantity, ask, ask_quantity = texts
    if not (isinstance(bid, str) and isinstance(ask, str)):
        return Rejected(Reason.BAD_PRICE, row)
    if not (isinstance(bid_quantity, str) and isinstance(ask_quantity, str)):
        return Rejected(Reason.BAD_QTY, row)
    try:
        bid_px, ask_px = parse_price(bid), parse_price(ask)
    except Fixed8Error:
        return Rejected(Reason.BAD_PRICE, row)
    try:
        (bid_qty, bid_capped), (ask_qty, ask_capped) = parse_quantity(bid_quantity), parse_quantity(ask_quantity)
    except Fixed8Error:
        return Rejected(Reason.BAD_QTY, row)
    has_bid, has_ask = bid_px > 0 and bid_qty > 0, ask_px > 0 and ask_qty > 0
    if not (has_bid and has_ask):
        return Rejected(Reason.ONE_SIDED if has_bid or has_ask else Reason.EMPTY_BOOK, row)
    if bid_px >= ask_px:
        return Rejected(Reason.CROSSED, row)
    return RowUpdate(row, bid_px, bid_qty, ask_px, ask_qty, update_id, bid_capped or ask_capped)


_STREAM_HEAD: Final = re.compile(rb'^\s*\{\s*"stream"\s*:\s*"([^"\\]*)"')
_SYMBOL_FIELD: Final = re.compile(rb'[{,]\s*"s"\s*:\s*"([^"\\]*)"')


def _salvaged(frame: bytes, table: SymbolTable) -> Rejected:
    """Attribute a frame that is no JSON by its head: its stream's name first, else its symbol's."""
    head = _STREAM_HEAD.match(frame)
    if head:
        name, at, kind = head.group(1).decode("utf-8", "replace").partition("@")
        row = table.row_of_stream(name)
        if at and (row != NO_ROW or kind != BOOK_TICKER):
            return Rejected(Reason.NOT_JSON if kind == BOOK_TICKER else Reason.NOT_BOOK_TICKER, row)
    symbol = _SYMBOL_FIELD.search(frame)
    return Rejected(Reason.NOT_JSON, table.row(symbol.group(1).decode("utf-8", "replace")) if symbol else NO_ROW)
