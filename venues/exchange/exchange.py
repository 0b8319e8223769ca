"""The exchange as one object: what is listed, what stands, who listens, what is at fault. Neither HTTP nor pacing."""

from __future__ import annotations

import time
from collections.abc import Callable

from venues.exchange.connection import Connection
from venues.exchange.depth import DepthStreams, GeneratedBooks, snapshot
from venues.exchange.fault_table import FaultTable
from venues.exchange.faults import ConnectionFault, Duplicate, Fault, Gap, HttpStatus, Reorder, Silence
from venues.exchange.frames import EMPTY_ROW, Row, book_ticker, stream_of, ticker_with_id
from venues.exchange.hub import Hub
from venues.exchange.ladder import Book
from venues.exchange.market import Market, parse_fixed8
from venues.exchange.recorded_depth import RecordedBooks
from venues.exchange.settings import ExchangeSettings
from venues.exchange.state import OpportunityLedger, StateFolder


class UnknownSymbolError(ValueError):
    """A symbol that is not listed."""


class Exchange:
    """Rows are the truth that REST shows; frames are what the wire was told. Faults part the two, on purpose."""

    def __init__(
        self,
        settings: ExchangeSettings,
        market: Market,
        state: StateFolder,
        ledger: OpportunityLedger,
        books: GeneratedBooks | RecordedBooks,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.market = market
        self.state = state
        self.ledger = ledger
        self.monotonic_s = monotonic_s
        self.hub = Hub(settings, monotonic_s)
        self.faults = FaultTable(self.hub)
        self.rows: dict[str, Row] = {rules.symbol: EMPTY_ROW for rules in market.rules}
        # Streams whose symbols never change by themselves: told once to each new listener.
        self.told_on_subscribe: dict[str, str] = {}
        self.books = books
        self.depth = DepthStreams(books, self.send, self.hub) if isinstance(books, GeneratedBooks) else None
        # Whoever must know that a symbol's book is another now: the account's resting orders.
        self.on_book_changed: Callable[[str], None] = _nobody_asks
        self.skew_ms = 0
        self.streams = {rules.symbol: stream_of(rules.symbol) for rules in market.rules}

    def now_ms(self) -> int:
        """Return the exchange's clock, which a fault may have set wrong."""
        return time.time_ns() // 10**6 + self.skew_ms

    def show(self, symbol: str, row: Row, tail: bytes) -> None:
        """Set a symbol's row and queue its frame, of which `tail` is what follows the update id, for who listens."""
        self.rows[symbol] = row
        stream = self.streams.get(symbol) or stream_of(symbol)
        if self.hub.is_heard(stream):
            self.send(symbol, stream, ticker_with_id(row.update_id, tail))
        if self.depth is not None and symbol in self.depth.watched:
            self.depth.note(symbol, row)
        self.on_book_changed(symbol)

    def send(self, symbol: str, stream: str, payload: bytes, wrapped: bytes | None = None) -> None:
        """Queue a frame of a symbol for who listens, as far as the faults in force let it pass."""
        if self.faults.touches_streams:
            self.faults.pass_on(symbol, stream, payload, wrapped, self.monotonic_s())
        else:
            self.hub.publish(stream, payload, wrapped)

    def standing(self, symbol: str) -> Book:
        """Return the book that orders meet: with depth where it is generated, of a recording the top only."""
        row = self.rows[symbol]
        return self.books.book(symbol, row) if isinstance(self.books, GeneratedBooks) else _top_only(row)

    def depth_reply(self, symbol: str, levels: int) -> bytes:
        """Return a symbol's book as REST tells it; of a recording without depth the top only, as bookTicker has it."""
        row = self.rows[symbol]
        if isinstance(self.books, GeneratedBooks):
            return snapshot(row.update_id, self.books.book(symbol, row), levels)
        reply = self.books.reply(symbol, levels)
        return reply or snapshot(row.update_id, _top_only(row), levels)

    def subscribe(self, connection: Connection, streams: list[str]) -> None:
        """Subscribe a connection, and tell it at once the rows that no later frame would bring."""
        for stream in self.hub.subscribe(connection, streams):
            if self.depth is not None:
                self.depth.watch(stream, self.rows)
            symbol = self.told_on_subscribe.get(stream)
            if symbol is not None:
                self.hub.publish_to(connection, stream, book_ticker(symbol, self.rows[symbol]))
        self.hub.flush()

    def apply(self, fault: Fault) -> int:
        """Put a fault in force; return how many frames, connections or requests it touches.

        Raises UnknownSymbolError.
        """
        if isinstance(fault, HttpStatus):
            return self.faults.refuse(fault)
        if isinstance(fault, ConnectionFault):
            return self.faults.disturb_connections(fault)
        if isinstance(fault, Silence) and fault.symbol is None:
            return self.faults.silence(fault, self.monotonic_s())
        symbol = fault.symbol
        if symbol is None or symbol not in self.rows:
            raise UnknownSymbolError(symbol)
        if isinstance(fault, Silence):
            return self.faults.silence(fault, self.monotonic_s())
        if isinstance(fault, Gap | Reorder):
            return self.faults.disturb(fault)
        if isinstance(fault, Duplicate):
            return self.faults.repeat(fault)
        row = self.rows[symbol]
        # A recording's ids may stand far above this exchange's own.
        above = max(self.state.next_update_id(), row.update_id + 1)
        return self.faults.send_frames(
            fault, symbol, row, [above] + [self.state.next_update_id() for _ in range(fault.n - 1)]
        )


def _top_only(row: Row) -> Book:
    bid, bid_qty, ask, ask_qty = map(parse_fixed8, row[1:])
    return Book([(bid, bid_qty)] if bid_qty else [], [(ask, ask_qty)] if ask_qty else [])


def _nobody_asks(symbol: str) -> None:
    """Until there is an account."""
