"""Orders, trades and balances as the exchange keeps them, and the state that their records fold to.

All amounts are Fixed8 integers. A record states the whole of what it is about, so that the fold is an assignment:
the same `apply` runs behind every request and over the journal at a start.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

UNIT: Final = 10**8

Side = Literal["BUY", "SELL"]
OrderType = Literal["LIMIT", "MARKET", "LIMIT_MAKER"]
TimeInForce = Literal["GTC", "IOC", "FOK"]
Status = Literal["NEW", "PARTIALLY_FILLED", "FILLED", "CANCELED", "EXPIRED"]

OPEN: Final = frozenset({"NEW", "PARTIALLY_FILLED"})


class Record(msgspec.Struct, frozen=True, tag=True, tag_field="record", omit_defaults=True):
    """Base of what a line of the journal holds."""


class Order(Record, frozen=True):
    """One order as of its last change. `locked` is what it still holds back, of the asset that it gives."""

    symbol: str
    order_id: int
    client_order_id: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    price: int
    qty: int
    quote_qty: int
    status: Status
    created_ms: int
    updated_ms: int
    executed_qty: int = 0
    executed_quote: int = 0
    locked: int = 0

    @property
    def is_open(self) -> bool:
        """Whether it can still trade."""
        return self.status in OPEN

    @property
    def key(self) -> tuple[str, int]:
        """Order ids are a symbol's own."""
        return self.symbol, self.order_id


class Trade(Record, frozen=True):
    """One execution of ours; `trade_id` is the symbol's own, and rises."""

    symbol: str
    trade_id: int
    order_id: int
    is_buyer: bool
    is_maker: bool
    price: int
    qty: int
    quote_qty: int
    commission: int
    commission_asset: str
    time_ms: int


class Balance(Record, frozen=True):
    """An asset's balance from here on."""

    asset: str
    free: int
    locked: int


class Transferred(Record, frozen=True):
    """A deposit, or with a negative amount a withdrawal; its `Balance` follows in the same line."""

    asset: str
    amount: int
    time_ms: int


class Forgotten(Record, frozen=True):
    """Ids up to these were given out in a symbol, by orders and trades that are no longer kept."""

    symbol: str
    order_id: int
    trade_id: int


AnyRecord = Order | Trade | Balance | Transferred | Forgotten


class TradingState:
    """Everything that the journal says. Changed by `apply` and `forget` only."""

    def __init__(self) -> None:
        self.orders: dict[tuple[str, int], Order] = {}
        self.open: dict[str, dict[int, Order]] = {}
        """Symbol → its open orders by id, oldest first; a symbol without any is absent."""
        self.trades: dict[str, dict[int, Trade]] = {}
        self.balances: dict[str, Balance] = {}
        self.last_order_id: dict[str, int] = {}
        self.last_trade_id: dict[str, int] = {}
        self.updated_ms = 0
        self._by_client: dict[tuple[str, str], list[int]] = {}

    def apply(self, records: Iterable[AnyRecord]) -> None:
        """Fold records in."""
        for record in records:
            match record:
                case Order():
                    self._put(record)
                case Trade():
                    self.trades.setdefault(record.symbol, {})[record.trade_id] = record
                    self._seen(record.symbol, 0, record.trade_id)
                case Balance():
                    self.balances[record.asset] = record
                case Transferred():
                    self.updated_ms = max(self.updated_ms, record.time_ms)
                case Forgotten():
                    self._seen(record.symbol, record.order_id, record.trade_id)

    def balance(self, asset: str) -> Balance:
        """Return an asset's balance; nothing of it where it was never held."""
        return self.balances.get(asset) or Balance(asset, 0, 0)

    def by_client_order_id(self, symbol: str, client_order_id: str) -> Order | None:
        """Return the newest order of that name: a name is free again once its order is done."""
        ids = self._by_client.get((symbol, client_order_id))
        return self.orders[(symbol, ids[-1])] if ids else None

    def orders_of(self, symbol: str) -> list[Order]:
        """All orders of a symbol, by id."""
        return [order for order in self.orders.values() if order.symbol == symbol]

    def trades_of_order(self, order: Order) -> list[Trade]:
        """An order's trades, by id."""
        return [trade for trade in self.trades.get(order.symbol, {}).values() if trade.order_id == order.order_id]

    def forget(self, orders_kept_max: int) -> int:
        """Drop the oldest orders that are done, with their trades, beyond the bound; return how many."""
        excess = len(self.orders) - orders_kept_max
        gone = [order for order in self.orders.values() if not order.is_open][: max(0, excess)]
        keys = {order.key for order in gone}
        for order in gone:
            del self.orders[order.key]
            ids = self._by_client[(order.symbol, order.client_order_id)]
            ids.remove(order.order_id)
            if not ids:
                del self._by_client[(order.symbol, order.client_order_id)]
        for symbol in {order.symbol for order in gone}:
            kept = {i: one for i, one in self.trades.get(symbol, {}).items() if (symbol, one.order_id) not in keys}
            self.trades[symbol] = kept
        return len(gone)

    def records(self) -> list[AnyRecord]:
        """Return what folds to this state."""
        symbols = sorted(self.last_order_id.keys() | self.last_trade_id.keys())
        ids = [Forgotten(name, self.last_order_id.get(name, 0), self.last_trade_id.get(name, 0)) for name in symbols]
        trades = [trade for of_symbol in self.trades.values() for trade in of_symbol.values()]
        return [*self.balances.values(), *ids, *self.orders.values(), *trades]

    def _put(self, order: Order) -> None:
        if order.key not in self.orders:
            self._by_client.setdefault((order.symbol, order.client_order_id), []).append(order.order_id)
        self.orders[order.key] = order
        self._seen(order.symbol, order.order_id, 0)
        self.updated_ms = max(self.updated_ms, order.updated_ms)
        if order.is_open:
            self.open.setdefault(order.symbol, {})[order.order_id] = order
        elif order.symbol in self.open:
            self.open[order.symbol].pop(order.order_id, None)
            if not self.open[order.symbol]:
                del self.open[order.symbol]

    def _seen(self, symbol: str, order_id: int, trade_id: int) -> None:
        self.last_order_id[symbol] = max(self.last_order_id.get(symbol, 0), order_id)
        self.last_trade_id[symbol] = max(self.last_trade_id.get(symbol, 0), trade_id)
