"""Faults on demand: a table of what `POST /paper/fault` can do, one type a fault, each counted by its name.

A fault of a frame changes the wire and not the book: the frame goes out at once, with an update id of its own, and
the symbol's next true frame (and REST at any time) shows the truth again.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Final, Literal

import msgspec

from venues.exchange.frames import ZERO, Row, book_ticker, stream_of
from venues.exchange.hub import Connection, Hub

# Beyond the 92,233,720,368.54775807 that an int64 count of 1e-8 can hold.
_OVERFLOWING: Final = "99999999999999.12345678"


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


class Silence(_Fault, frozen=True, tag="silence"):
    """The symbol's frames are withheld for some seconds while its book goes on: only REST tells."""

    symbol: str
    seconds: float


class Drop(_Fault, frozen=True, tag="drop"):
    """Connections are cut off without a close frame: the one numbered, or all."""

    connection: int | None = None


class HalfOpen(_Fault, frozen=True, tag="half_open"):
    """A connection stays open and says nothing more, not even pongs: the one numbered, or all."""

    connection: int | None = None


class HttpStatus(_Fault, frozen=True, tag="http_status"):
    """The next `n` requests and upgrades (not /paper) are answered 429 or 418, with Retry-After."""

    status: Literal[429, 418]
    n: int = 1
    retry_after_s: int = 1


FrameFault = OverflowQuantity | MalformedFrame | TruncatedFrame | OneSided | Crossed
Fault = FrameFault | Duplicate | Silence | Drop | HalfOpen | HttpStatus


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


class FaultTable:
    """Which faults are in force, and how often each was asked for and took effect."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._silent_until_s: dict[str, float] = {}
        self._http = HttpStatus(429, 0)
        self._http_left = 0
        self.counters: Counter[str] = Counter()

    def silences(self, symbol: str, now_s: float) -> bool:
        """Whether a frame of the symbol is to be withheld now; counts it if so."""
        until_s = self._silent_until_s.get(symbol)
        if until_s is None:
            return False
        if now_s >= until_s:
            del self._silent_until_s[symbol]
            return False
        self.counters["frames_withheld"] += 1
        return True

    def take_http_status(self) -> HttpStatus | None:
        """Return the answer that a request gets instead of its own, using one up; None for no fault."""
        if self._http_left <= 0:
            return None
        self._http_left -= 1
        self.counters["requests_refused"] += 1
        return self._http

    def send_frames(self, fault: FrameFault, symbol: str, row: Row, update_ids: list[int]) -> int:
        """Send a faulty frame for each id at once; return how many."""
        for update_id in update_ids:
            payload = faulty_payload(fault, symbol, row._replace(update_id=update_id))
            self._hub.publish(stream_of(symbol), payload)
        self._hub.flush()
        self.counters[_name(fault)] += len(update_ids)
        return len(update_ids)

    def repeat(self, fault: Duplicate) -> int:
        """Send the symbol's last frame again; return how often: 0 where nobody listens who had one."""
        count = self._hub.repeat(stream_of(fault.symbol), fault.n)
        self.counters[_name(fault)] += count
        return count

    def put_in_force(self, fault: Silence | Drop | HalfOpen | HttpStatus, now_s: float) -> int:
        """Apply a fault that is not of a frame; return how many things it touches."""
        self.counters[_name(fault)] += 1
        match fault:
            case Silence():
                self._silent_until_s[fault.symbol] = now_s + fault.seconds
                return 1
            case HttpStatus():
                self._http, self._http_left = fault, fault.n
                return fault.n
            case Drop():
                chosen = self._chosen(fault.connection)
                for connection in chosen:
                    self._hub.drop(connection, "fault")
                return len(chosen)
            case HalfOpen():
                chosen = self._chosen(fault.connection)
                for connection in chosen:
                    connection.is_mute = True
                return len(chosen)

    def _chosen(self, number: int | None) -> list[Connection]:
        connections = self._hub.connections
        return [one for one in list(connections.values()) if number is None or one.number == number]


def _name(fault: Fault) -> str:
    return str(fault.__struct_config__.tag)
