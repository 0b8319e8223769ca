"""The trading side of the exchange as one object: the account and its key, its orders, its user stream, its faults."""

from __future__ import annotations

from pathlib import Path

from venues.exchange.api_error import INVALID_SYMBOL, ApiError
from venues.exchange.commission import CommissionPlan
from venues.exchange.exchange import Exchange
from venues.exchange.matching import Level
from venues.exchange.order_faults import (
    ClockSkew,
    HaltSymbol,
    ListenKeyExpiry,
    OrderFault,
    OrderFaultTable,
    UserStreamDrop,
)
from venues.exchange.order_journal import OrderJournal
from venues.exchange.order_limits import OrderLimit
from venues.exchange.signing import load_or_make_key, random_text
from venues.exchange.trading import Book, Trading
from venues.exchange.user_stream import UserStream


class Desk:
    """Made once, when the exchange is there; recovers the account from its folder."""

    def __init__(self, exchange: Exchange) -> None:
        """Read key and journal, or make them. Raises StateError."""
        settings, folder = exchange.settings.trading, exchange.settings.state_dir
        self.exchange = exchange
        self.key_path: Path = folder / "api_key.json"
        self.key = load_or_make_key(self.key_path)
        self.plan = CommissionPlan(settings.rate(), settings.rates(), settings.bnb_discount)
        self.limit = OrderLimit(settings.orders_per_10s_max, settings.orders_per_day_max)
        self.faults = OrderFaultTable(exchange.faults.counters)
        self.journal = OrderJournal(folder)
        self.trading = Trading(
            self.journal,
            exchange.market.entries,
            self.book_of,
            self.plan,
            exchange.now_ms,
            lambda: random_text(22),
            exchange.hub.counters,
        )
        self.trading.open_account(settings.start_balances())
        self.stream = UserStream(
            exchange.hub, self.faults, settings.listen_key_s, exchange.monotonic_s, exchange.now_ms
        )
        self.trading.tell = self.stream.tell
        exchange.on_book_changed = self.trading.book_changed

    def book_of(self, symbol: str) -> Book:
        """Return what stands in a symbol. Raises KeyError where it is not listed."""
        bids, asks = self.exchange.standing(symbol)
        version = self.exchange.rows[symbol].update_id
        return Book(version, [Level(*level) for level in bids], [Level(*level) for level in asks])

    def apply(self, fault: OrderFault) -> int:
        """Put a fault in force; return how many orders, connections, keys or symbols it touches. Raises ApiError."""
        counters = self.exchange.faults.counters
        match fault:
            case UserStreamDrop():
                counters[fault.name] += 1
                chosen = self.stream.connections()
                for connection in chosen:
                    if fault.half_open:
                        connection.is_mute = True
                    else:
                        self.exchange.hub.drop(connection, "fault")
                return len(chosen)
            case ListenKeyExpiry():
                counters[fault.name] += 1
                return self.stream.expire(everything=True)
            case ClockSkew():
                counters[fault.name] += 1
                self.exchange.skew_ms = fault.ms
                return 1
            case HaltSymbol():
                if fault.symbol not in self.exchange.market.entries:
                    raise ApiError(*INVALID_SYMBOL)
                counters[fault.name] += 1
                (self.trading.halted.add if fault.halted else self.trading.halted.discard)(fault.symbol)
                return 1
            case _:
                return self.faults.put(fault)

    def close(self) -> None:
        """Close the journal."""
        self.journal.close()
