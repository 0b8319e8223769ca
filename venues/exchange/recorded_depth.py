"""Depth of recordings: each symbol's recorded REST reply, carried on by the diffs that were played since.

So a consumer that splices snapshot and diffs finds, at whatever moment of the playing, what the recording says. A reply
that no diff was played on is served value for value. Numbers stay the strings that they were recorded as.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal, InvalidOperation
from typing import Final

import msgspec

_RECENT_MAX: Final = 64
_SIDE = list[tuple[str, str]]


class DepthReply(msgspec.Struct, rename="camel"):
    """The body of a REST depth reply."""

    last_update_id: int
    bids: _SIDE
    asks: _SIDE


class _Diff(msgspec.Struct):
    s: str
    U: int
    u: int
    b: _SIDE
    a: _SIDE


_decode_diff: Final = msgspec.json.Decoder(_Diff).decode
_decode_reply: Final = msgspec.json.Decoder(DepthReply).decode


class _Book:
    def __init__(self, reply: DepthReply) -> None:
        self.last_update_id = reply.last_update_id
        self.bids = {Decimal(price): (price, quantity) for price, quantity in reply.bids}
        self.asks = {Decimal(price): (price, quantity) for price, quantity in reply.asks}


class RecordedBooks:
    """Books by symbol. One whose diffs have a gap is forgotten until the next recorded reply, and counted."""

    def __init__(self) -> None:
        self._books: dict[str, _Book] = {}
        # The last few diffs of each symbol, kept for a reply that was on its way while they came.
        self._recent: dict[str, deque[_Diff]] = {}
        self.gaps = 0

    def take_reply(self, symbol: str, payload: bytes) -> bool:
        """Begin a symbol's book with a recorded REST reply unless a later one stands; return whether it is one."""
        try:
            reply = _decode_reply(payload)
            book = _Book(reply)
        except (msgspec.DecodeError, InvalidOperation):
            return False
        standing = self._books.get(symbol)
        if standing is None or standing.last_update_id <= book.last_update_id:
            self._books[symbol] = book
            for diff in self._recent.get(symbol, ()):
                self._carry_on(diff)
        return True

    def take_diff(self, payload: bytes) -> None:
        """Apply a played diff; one that is malformed, or of a symbol without a book, changes nothing."""
        try:
            diff = _decode_diff(payload)
        except msgspec.DecodeError:
            return
        self._recent.setdefault(diff.s, deque(maxlen=_RECENT_MAX)).append(diff)
        self._carry_on(diff)

    def _carry_on(self, diff: _Diff) -> None:
        book = self._books.get(diff.s)
        if book is None or diff.u <= book.last_update_id:
            return
        if book.last_update_id + 1 < diff.U:
            del self._books[diff.s]
            self.gaps += 1
            return
        for side, changes in ((book.bids, diff.b), (book.asks, diff.a)):
            for price, quantity in changes:
                if Decimal(quantity):
                    side[Decimal(price)] = (price, quantity)
                else:
                    side.pop(Decimal(price), None)
        book.last_update_id = diff.u

    def reply(self, symbol: str, levels: int) -> bytes | None:
        """Return the symbol's best levels as REST tells them; None where no recorded book stands."""
        book = self._books.get(symbol)
        if book is None:
            return None
        bids = [book.bids[price] for price in sorted(book.bids, reverse=True)[:levels]]
        asks = [book.asks[price] for price in sorted(book.asks)[:levels]]
        return msgspec.json.encode(DepthReply(book.last_update_id, bids, asks))
