"""Faults on demand: a table of what `POST /paper/fault` can do, one type a fault, each counted by its name.

A fault of a frame changes the wire and not the book: the frame goes out at once, with an update id of its own, and
the symbol's next true frame (and REST at any time) shows the truth again.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from venues.exchange.frames import ZERO, Row, book_ticker

# Beyond the 92,233,720,368.54775807 that an int64 count of 1e-8 can hold.
_OVERFLOWING: Final = "99999999999999.12345678"


StreamKind = Literal["bookTicker", "depth"]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=3_600)]
FrameCount = Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class _Fault(msgspec.Struct, frozen=True, tag_field="fault", forbid_unknown_fields=True):
    pass


class OverflowQuantity(_Fault, frozen=True, tag="overflow_quantity"):
    """Frames with a quantity too large for an int64 count of 1e-8."""

    symbol: str
    side: Literal["bid", "ask"] = "bid"
    n: FrameCount = 1


class MalformedFrame(_Fault, frozen=True, tag="malformed_frame"):
    """Frames whose JSON does not parse."""

    symbol: str
    n: FrameCount = 1


class TruncatedFrame(_Fault, frozen=True, tag="truncated_frame"):
    """Whole WebSocket frames whose text ends in the middle."""

    symbol: str
    n: FrameCount = 1


class OneSided(_Fault, frozen=True, tag="one_sided"):
    """Frames with one side empty: price and quantity zero."""

    symbol: str
    side: Literal["bid", "ask"] = "bid"
    n: FrameCount = 1


class Crossed(_Fault, frozen=True, tag="crossed"):
    """Frames with bid and ask exchanged."""

    symbol: str
    n: FrameCount = 1


class Duplicate(_Fault, frozen=True, tag="duplicate"):
    """The frame that was sent last of the symbol, once more, byte for byte, to who had it: what a duplicate is.

    Not the standing row: while the symbol is silenced, that is news to who listens.
    """

    symbol: str
    n: FrameCount = 1


class Gap(_Fault, frozen=True, tag="gap"):
    """The next `n` frames of the symbol are withheld, of each stream of that kind that is heard.

    Of bookTicker an update is missing; of depth the next diff's `U` is above the last one's `u` + 1.
    """

    symbol: str
    stream: StreamKind = "bookTicker"
    n: FrameCount = 1


class Reorder(_Fault, frozen=True, tag="reorder"):
    """The symbol's next frame comes right after the one that follows it: an older update id late, `n` times over."""

    symbol: str
    stream: StreamKind = "bookTicker"
    n: FrameCount = 1


class Silence(_Fault, frozen=True, tag="silence"):
    """Frames are withheld for some seconds: of the symbol, whose book goes on so that only REST tells; or of a
    connection (of all, where neither is named).

    A silent connection still answers pings and requests. 0 seconds ends it.
    """

    seconds: Seconds
    symbol: str | None = None
    connection: int | None = None

    def __post_init__(self) -> None:
        """Refuse both at once."""
        if self.symbol is not None and self.connection is not None:
            raise ValueError("silence takes a symbol or a connection, not both")


class Drop(_Fault, frozen=True, tag="drop"):
    """Connections are cut off without a close frame: the one numbered, or all."""

    connection: int | None = None


class DailyDisconnect(_Fault, frozen=True, tag="daily_disconnect"):
    """Connections are closed as after their 24 hours, with a close frame: the one numbered, or all."""

    connection: int | None = None


class HalfOpen(_Fault, frozen=True, tag="half_open"):
    """A connection stays open and says nothing more, not even pongs: the one numbered, or all."""

    connection: int | None = None


class Backlog(_Fault, frozen=True, tag="backlog"):
    """All that is said to a connection is held back for some seconds, then comes at once, in order, pongs too."""

    seconds: Seconds
    connection: int | None = None


class StopReading(_Fault, frozen=True, tag="stop_reading"):
    """The exchange reads nothing of what a connection says for some seconds, and goes on to speak."""

    seconds: Seconds
    connection: int | None = None


class HttpStatus(_Fault, frozen=True, tag="http_status"):
    """The next `n` requests and upgrades (not /paper) are answered 429 or 418, with Retry-After."""

    status: Literal[429, 418]
    n: int = 1
    retry_after_s: int = 1


FrameFault = OverflowQuantity | MalformedFrame | TruncatedFrame | OneSided | Crossed
ConnectionFault = Drop | DailyDisconnect | HalfOpen | Backlog | StopReading
Fault = FrameFault | Duplicate | Gap | Reorder | Silence | ConnectionFault | HttpStatus


def faulty_payload(fault: FrameFault, symbol: str, row: Row) -> bytes:
    """Return the text of a faulty frame made from a true row (its update id already the one to send)."""
    match fault:
        case OverflowQuantity(side="bid"):
            return book_ticker(symbol, row._replace(bid_qty=_OVERFLOWING))
        case OverflowQuantity():
            return book_ticker(symbol, row._replace(ask_qty=_OVERFLOWING))
        case MalformedFrame():
            return book_ticker(symbol, row).replace(b'"b":', b'"b"=')
        case TruncatedFrame():
            whole = book_ticker(symbol, row)
            return whole[: len(whole) * 2 // 3]
        case OneSided(side="bid"):
            return book_ticker(symbol, row._replace(bid=ZERO, bid_qty=ZERO))
        case OneSided():
            return book_ticker(symbol, row._replace(ask=ZERO, ask_qty=ZERO))
        case Crossed():
            return book_ticker(symbol, row._replace(bid=row.ask, ask=row.bid))


def name_of(fault: Fault) -> str:
    """Return the name that `POST /paper/fault` knows it by."""
    return str(fault.__struct_config__.tag)
