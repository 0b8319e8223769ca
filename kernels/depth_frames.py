"""A depth frame's bytes become a diff, or a reason by name; a depth snapshot's become levels.

Forms: `{"stream": "btcusdt@depth@100ms", "data": {"e": "depthUpdate", "E", "s", "U", "u", "b": [["px", "qty"]], "a"}}`
and the REST reply `{"lastUpdateId", "bids", "asks"}`. Source: the spot exchange's documentation, "Diff. Depth Stream"
and "Order book", as of 2025.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec
import numpy as np

from kernels.depth_book import Diff, Int64s
from kernels.fixed8 import Fixed8Error, parse_price, parse_quantity
from kernels.frames import NO_ROW, Reason, Rejected, SymbolTable

DEPTH_KIND: Final = "depth@100ms"
_HEAD: Final = re.compile(rb'^\s*\{\s*"stream"\s*:\s*"([^"\\@]*)@depth')
_Pairs = list[tuple[str, str]]


class DepthUpdate(NamedTuple):
    """A whole diff of one row. `quantity_capped`: a quantity stood for more than Fixed8 holds."""

    row: int
    diff: Diff
    quantity_capped: bool


class DepthSnapshot(NamedTuple):
    """A REST reply's levels, best first."""

    update_id: int
    bids: Int64s
    asks: Int64s


class _Data(msgspec.Struct, gc=False):
    first_id: int = msgspec.field(name="U")
    final_id: int = msgspec.field(name="u")
    symbol: str = msgspec.field(name="s")
    bids: _Pairs = msgspec.field(name="b")
    asks: _Pairs = msgspec.field(name="a")


class _Frame(msgspec.Struct, gc=False):
    stream: str
    data: _Data


class _Control(msgspec.Struct, gc=False):
    id: int | None = None
    code: int | None = None
    stream: str | None = None


class _Reply(msgspec.Struct, gc=False):
    last_update_id: int = msgspec.field(name="lastUpdateId")
    bids: _Pairs
    asks: _Pairs


_decode_frame: Final = msgspec.json.Decoder(_Frame).decode
_decode_control: Final = msgspec.json.Decoder(_Control).decode
_decode_reply: Final = msgspec.json.Decoder(_Reply).decode


def parse_depth_frame(frame: bytes, table: SymbolTable) -> DepthUpdate | Rejected:
    """Parse one frame of diff depth. Never raises; a frame that is none is its row's where its head still names it."""
    try:
        value = _decode_frame(frame)
    except msgspec.DecodeError as error:
        return _unread(frame, table, isinstance(error, msgspec.ValidationError))
    name, _, kind = value.stream.partition("@")
    row, data = table.row_of_stream(name), value.data
    if not kind.startswith("depth"):
        return Rejected(Reason.NOT_BOOK_TICKER, NO_ROW)
    if row == NO_ROW:
        return Rejected(Reason.UNKNOWN_SYMBOL, NO_ROW)
    if table.row(data.symbol) != row:
        return Rejected(Reason.SYMBOL_MISMATCH, NO_ROW)
    if not 0 < data.first_id <= data.final_id < 2**63:
        return Rejected(Reason.BAD_UPDATE_ID, row)
    bids, asks = _levels(data.bids), _levels(data.asks)
    if isinstance(bids, Reason) or isinstance(asks, Reason):
        return Rejected(bids if isinstance(bids, Reason) else Reason.BAD_PRICE, row)
    return DepthUpdate(row, Diff(data.first_id, data.final_id, bids[0], asks[0]), bids[1] or asks[1])


def names_depth(frame: bytes) -> bool:
    """Whether a frame's head names a stream of depth."""
    return _HEAD.match(frame) is not None


def parse_depth_snapshot(body: bytes) -> DepthSnapshot | None:
    """Parse a REST reply; None where it is no snapshot with an update id and strictly ordered levels."""
    try:
        reply = _decode_reply(body)
    except msgspec.DecodeError:
        return None
    bids, asks = _levels(reply.bids), _levels(reply.asks)
    if isinstance(bids, Reason) or isinstance(asks, Reason) or not 0 <= reply.last_update_id < 2**63:
        return None
    if (np.diff(bids[0][:, 0]) >= 0).any() or (np.diff(asks[0][:, 0]) <= 0).any():
        return None
    return DepthSnapshot(reply.last_update_id, bids[0], asks[0])


def _levels(pairs: _Pairs) -> tuple[Int64s, bool] | Reason:
    """Return int64 [n, 2] and whether a quantity was capped, or why not."""
    levels = np.empty((len(pairs), 2), dtype=np.int64)
    capped = False
    for place, (price, quantity) in enumerate(pairs):
        try:
            count = parse_price(price)
        except Fixed8Error:
            return Reason.BAD_PRICE
        if count <= 0:
            return Reason.BAD_PRICE
        try:
            amount, is_capped = parse_quantity(quantity)
        except Fixed8Error:
            return Reason.BAD_QTY
        levels[place] = count, amount
        capped |= is_capped
    return levels, capped


def _unread(frame: bytes, table: SymbolTable, is_json: bool) -> Rejected:
    head = _HEAD.match(frame)
    row = table.row_of_stream(head.group(1).decode("utf-8", "replace")) if head else NO_ROW
    if not is_json:
        return Rejected(Reason.NOT_JSON, row)
    if head is None:
        try:
            control = _decode_control(frame)
        except msgspec.DecodeError:
            return Rejected(Reason.NOT_BOOK_TICKER, NO_ROW)
        if control.stream is None and (control.id is not None or control.code is not None):
            return Rejected(Reason.CONTROL, NO_ROW)
        return Rejected(Reason.NOT_BOOK_TICKER, NO_ROW)
    return Rejected(Reason.MISSING_FIELD, row)
