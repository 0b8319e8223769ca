"""Bytes of the wire: bookTicker payloads in the real form and WebSocket frames of a server (RFC 6455, unmasked).

Frames are built here and not by aiohttp's writer: one frame serves every subscriber, and many leave in one write.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

TEXT: Final = 0x1
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA


class Row(NamedTuple):
    """The top of a symbol's book as it is written: decimal strings, and the update id that set it."""

    update_id: int
    bid: str
    bid_qty: str
    ask: str
    ask_qty: str


Texts = tuple[str, str, str, str]
"""Bid, its quantity, ask, its quantity."""

ZERO: Final = "0.00000000"
EMPTY_ROW: Final = Row(0, ZERO, ZERO, ZERO, ZERO)


def stream_of(symbol: str) -> str:
    """Return the name of a symbol's bookTicker stream (names are lower case on the wire)."""
    return f"{symbol.lower()}@bookTicker"


def book_ticker(symbol: str, row: Row) -> bytes:
    """Return the payload of an individual symbol's bookTicker stream, in the real order of fields."""
    return ticker_with_id(row.update_id, ticker_tail(symbol, row[1:]))


def ticker_tail(symbol: str, texts: Texts) -> bytes:
    """Return what follows the update id in a bookTicker payload."""
    bid, bid_qty, ask, ask_qty = texts
    return f',"s":"{symbol}","b":"{bid}","B":"{bid_qty}","a":"{ask}","A":"{ask_qty}"}}'.encode()


def ticker_with_id(update_id: int, tail: bytes) -> bytes:
    """Return a bookTicker payload from its update id and the rest."""
    return b'{"u":%d%b' % (update_id, tail)


def combined(stream: str, payload: bytes) -> bytes:
    """Return a payload wrapped as a combined stream wraps it."""
    return b'{"stream":"%b","data":%b}' % (stream.encode(), payload)


def frame(opcode: int, payload: bytes) -> bytes:
    """Return one final, unmasked WebSocket frame."""
    length = len(payload)
    if length < 126:
        return bytes((0x80 | opcode, length)) + payload
    if length < 65536:
        return struct.pack("!BBH", 0x80 | opcode, 126, length) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, length) + payload


def close_frame(code: int, reason: str) -> bytes:
    """Return a close frame. `reason` must be at most 123 bytes."""
    return frame(CLOSE, struct.pack("!H", code) + reason.encode())
