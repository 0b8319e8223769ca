"""The account's orders against the standing books: placed, filled, cancelled; on disk before anybody is told.

One account. Its orders trade with what the books show and never with each other. What an order takes is gone from the
levels until the book next changes; the books' own frames are not changed by it. A resting order fills, at its own
price, when the other side of the book comes to it.

Every change is a transaction: its records are worked out first, written to the journal, and only then folded into the
state and told. A failure of the journal ends the exchange.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from venues.exchange import matching
from venues.exchange.api_error import (
    DUPLICATE_ORDER,
    INSUFFICIENT_BALANCE,
    INVALID_SYMBOL,
    MARKET_CLOSED,
    NO_SUCH_ORDER,
    UNKNOWN_CANCEL,
    WOULD_TAKE,
    ApiError,
)
from venues.exchange.commission import DISCOUNT_ASSET, CommissionPlan, commission
from venues.exchange.matching import Consumption, Level
from venues.exchange.order_checks import NewOrder, TradingRules
from venues.exchange.order_journal import COMPACT_BYTES, OrderJournal
from venues.exchange.orders import AnyRecord, Balance, Order, Side, Trade, TradingState, Transferred

ORDERS_KEPT_MAX = 50_000
ORDERS_OPEN_MAX = 1_000

Execution = Literal["NEW", "TRADE", "CANCELED", "EXPIRED"]


class Book(NamedTuple):
    """What stands: levels best first, and a number that changes whenever they do."""

    version: int
    bids: Sequence[Level]
    asks: Sequence[Level]

    def against(self, side: Side) -> Sequence[Level]:
        """What an order of this side takes from."""
        return self.asks if side == "BUY" else self.bids

    @property
    def mid(self) -> int:
        """The middle of the best two; 0 for a book that is not two-sided."""
        return (self.bids[0].price + self.asks[0].price) // 2 if self.bids and self.asks else 0


class Step(NamedTuple):
    """One thing that happened to an order: the order after it, the trade where it was one, the name of a cancel."""

    execution: Execution
    order: Order
    trade: Trade | None = None
    cancel_id: str = ""


class Told(Protocol):
    """Who is told of what has happened, after it is on disk."""

    def __call__(self, steps: Sequence[Step], balances: Sequence[Balance], transfer: Transferred | None) -> None: ...


class Trading:
    """On the event loop's thread only; nothing here waits."""

    def __init__(
        self,
        journal: OrderJournal,
        entries: dict[str, bytes],
        book_of: Callable[[str], Book],
        plan: CommissionPlan,
        now_ms: Callable[[], int],
        name_order: Callable[[], str],
        counters: Counter[str],
        orders_kept_max: int = ORDERS_KEPT_MAX,
    ) -> None:
        """Recover from the journal, which may be fresh. Raises StateError."""
        self.state = TradingState()
        self.counters = counters
        self.halted: set[str] = set()
        self.tell: Told = _tell_nobody
        self._journal, self._entries, self._book_of, self._plan = journal, entries, book_of, plan
        self._now_ms, self._name_order, self._orders_kept_max = now_ms, name_order, orders_kept_max
        self._rules: dict[str, TradingRules] = {}
        self._consumption = Consumption()
        self.state.apply(journal.load())
        if journal.torn_lines:
            self.counters["torn_lines"] += journal.torn_lines

    def open_account(self, balances: dict[str, int]) -> None:
        """Give a new account what it begins with, all of it or nothing; one that was ever opened is left alone."""
        if self.state.updated_ms:
            return
        records: list[AnyRecord] = []
        for asset, amount in balances.items():
            records += [Transferred(asset, amount, self._now_ms()), Balance(asset, amount, 0)]
        self._journal.append(records)
        self.state.apply(records)

    # ---- what an account may ask

    def rules(self, symbol: str) -> TradingRules:
        """Return a symbol's rules. Raises ApiError where it is not listed."""
        known = self._rules.get(symbol)
        if known is None:
            entry = self._entries.get(symbol)
            if entry is None:
                raise ApiError(*INVALID_SYMBOL)
            known = self._rules[symbol] = TradingRules(entry)
        return known

    def check(self, new: NewOrder) -> None:
        """Raise ApiError where the order would be refused before it meets the book."""
        rules = self.rules(new.symbol)
        if not rules.is_trading or new.symbol in self.halted:
            raise ApiError(*MARKET_CLOSED)
        if sum(len(of_symbol) for of_symbol in self.state.open.values()) >= ORDERS_OPEN_MAX:
            raise ApiError(-1013, "Filter failure: EXCHANGE_MAX_NUM_ORDERS")
        open_orders = self.state.open.get(new.symbol, {})
        rules.check(new, self._book_of(new.symbol).mid, len(open_orders))
        if any(order.client_order_id == new.client_order_id for order in open_orders.values()):
            raise ApiError(*DUPLICATE_ORDER)

    def place(self, new: NewOrder, fill_percent: int = 100) -> list[Step]:
        """Place an order and match it; return all that happened at once, NEW first. Raises ApiError.

        `fill_percent`: a fault; so much of what it would take is taken.
        """
        self.check(new)
        turn = _Turn(self)
        book = self._book_of(new.symbol)
        taken = self._taken_by(new, book, fill_percent)
        if new.type == "LIMIT_MAKER" and taken:
            raise ApiError(*WOULD_TAKE)
        turn.open(new, taken)
        for level in taken:
            turn.fill(level, is_maker=False)
        order = turn.order
        rests = order.type == "LIMIT_MAKER" or (order.type == "LIMIT" and order.time_in_force == "GTC")
        if order.is_open and not rests:
            turn.end("EXPIRED")
        self._consumption.take(new.symbol, new.side, book.version, taken)
        self._commit(turn.steps, list(turn.balances.values()))
        self.counters["orders_placed"] += 1
        return turn.steps

    def cancel(self, symbol: str, order_id: int, client_order_id: str, cancel_id: str = "") -> Step:
        """Cancel an open order, under a name for the cancel itself. Raises ApiError where there is none."""
        order = self.find(symbol, order_id, client_order_id)
        if order is None or not order.is_open or (client_order_id and order.client_order_id != client_order_id):
            raise ApiError(*UNKNOWN_CANCEL)
        return self._cancel([order], cancel_id)[0]

    def cancel_all(self, symbol: str) -> list[Step]:
        """Cancel a symbol's open orders. Raises ApiError where there are none."""
        self.rules(symbol)
        if symbol not in self.state.open:
            raise ApiError(*UNKNOWN_CANCEL)
        return self._cancel(list(self.state.open[symbol].values()))

    def find(self, symbol: str, order_id: int, client_order_id: str) -> Order | None:
        """Return an order by its id, else by its name (the newest of it). Raises ApiError on an unknown symbol."""
        self.rules(symbol)
        if order_id:
            return self.state.orders.get((symbol, order_id))
        return self.state.by_client_order_id(symbol, client_order_id)

    def get(self, symbol: str, order_id: int, client_order_id: str) -> Order:
        """As `find`. Raises ApiError where there is none."""
        order = self.find(symbol, order_id, client_order_id)
        if order is None:
            raise ApiError(*NO_SUCH_ORDER)
        return order

    def transfer(self, asset: str, amount: int) -> Balance:
        """Deposit, or with a negative amount withdraw. Raises ApiError where not so much is free."""
        before = self.state.balance(asset)
        if before.free + amount < 0:
            raise ApiError(*INSUFFICIENT_BALANCE)
        after = Balance(asset, before.free + amount, before.locked)
        self._commit([], [after], Transferred(asset, amount, self._now_ms()))
        return after

    # ---- what the market does

    def book_changed(self, symbol: str) -> None:
        """Fill what rests in a symbol as far as its book has come to it: best price first, then oldest."""
        resting = self.state.open.get(symbol)
        if not resting or symbol in self.halted:
            return
        orders = sorted(
            resting.values(), key=lambda one: (-one.price if one.side == "BUY" else one.price, one.order_id)
        )
        book = self._book_of(symbol)
        for order in orders:
            against = book.against(order.side)
            if not against or not matching.crosses(order.side, order.price, against[0].price):
                continue
            left = self._consumption.left(symbol, order.side, book.version, against)
            taken = matching.walk(order.side, order.price, order.qty - order.executed_qty, left)
            if not taken:
                continue
            turn = _Turn(self)
            turn.order = order
            turn.fill(Level(order.price, sum(level.qty for level in taken)), is_maker=True)
            self._consumption.take(symbol, order.side, book.version, taken)
            self._commit(turn.steps, list(turn.balances.values()))
            self.counters["resting_fills"] += 1

    # ---- inside

    def charge(self, symbol: str, asset: str, amount: int, bnb_free: int) -> tuple[int, str]:
        """Return what a trade costs, and in which asset."""
        return commission(self._plan, symbol, asset, amount, bnb_free, self._mid)

    def now_ms(self) -> int:
        """The exchange's clock."""
        return self._now_ms()

    def new_name(self) -> str:
        """A name for an order whose owner gave none."""
        return self._name_order()

    def _mid(self, symbol: str) -> int:
        return self._book_of(symbol).mid if symbol in self._entries else 0

    def _taken_by(self, new: NewOrder, book: Book, fill_percent: int) -> list[Level]:
        step = self.rules(new.symbol).step
        left = self._consumption.left(new.symbol, new.side, book.version, book.against(new.side))
        if new.quote_qty:
            taken = matching.walk_quote(new.quote_qty, step, left)
        else:
            taken = matching.walk(new.side, new.price, new.qty, left)
        total = sum(level.qty for level in taken)
        if fill_percent < 100:
            total = total * fill_percent // 100 // step * step
            taken = matching.walk(new.side, 0, total, taken)
        if new.time_in_force == "FOK" and total < new.qty:
            return []
        return taken

    def _cancel(self, orders: list[Order], cancel_id: str = "") -> list[Step]:
        turn = _Turn(self)
        for order in orders:
            turn.order = order
            turn.end("CANCELED", cancel_id or self.new_name())
        self._commit(turn.steps, list(turn.balances.values()))
        self.counters["orders_cancelled"] += len(orders)
        return turn.steps

    def _commit(self, steps: list[Step], balances: list[Balance], transfer: Transferred | None = None) -> None:
        orders = {step.order.key: step.order for step in steps}
        trades = [step.trade for step in steps if step.trade is not None]
        records: list[AnyRecord] = [*orders.values(), *trades, *([transfer] if transfer else []), *balances]
        assert all(one.free >= 0 and one.locked >= 0 for one in balances), "a balance below zero"
        self._journal.append(records)
        self.state.apply(records)
        self.counters["trades"] += len(trades)
        if self._journal.bytes_written > COMPACT_BYTES or len(self.state.orders) > 2 * self._orders_kept_max:
            self.compact()
        self.tell(steps, balances, transfer)

    def compact(self) -> None:
        """Forget the oldest done orders beyond the bound, and begin a new generation of the journal."""
        self.counters["orders_forgotten"] += self.state.forget(self._orders_kept_max)
        self.counters["compactions"] += 1
        self._journal.compact(self.state.records())


class _Turn:
    """Works a transaction out: orders, trades and balances as they will be. Changes nothing of the state."""

    def __init__(self, trading: Trading) -> None:
        self._trading = trading
        self._state = trading.state
        self._now_ms = trading.now_ms()
        self._trade_ids: dict[str, int] = {}
        self.order: Order = _NO_ORDER
        self.steps: list[Step] = []
        self.balances: dict[str, Balance] = {}

    def open(self, new: NewOrder, taken: list[Level]) -> None:
        """Begin with a new order, and hold back what it may give. Raises ApiError where that is not free."""
        rules = self._trading.rules(new.symbol)
        cost = sum(matching.quote_amount(price, qty) for price, qty in taken)
        if new.side == "SELL":
            locked = new.qty if new.qty else sum(level.qty for level in taken)
        elif new.price:
            locked = matching.quote_needed(new.price, new.qty)
        else:
            locked = max(cost, new.quote_qty)
        asset = rules.base if new.side == "SELL" else rules.quote
        if locked > self._balance(asset).free:
            raise ApiError(*INSUFFICIENT_BALANCE)
        self._move(asset, -locked, locked)
        self.order = Order(
            symbol=new.symbol,
            order_id=self._state.last_order_id.get(new.symbol, 0) + 1,
            client_order_id=new.client_order_id or self._trading.new_name(),
            side=new.side,
            type=new.type,
            time_in_force=new.time_in_force,
            price=new.price,
            qty=new.qty or sum(level.qty for level in taken),
            quote_qty=new.quote_qty,
            status="NEW",
            created_ms=self._now_ms,
            updated_ms=self._now_ms,
            locked=locked,
        )
        self.steps.append(Step("NEW", self.order))

    def fill(self, level: Level, *, is_maker: bool) -> None:
        """Trade at a level: give, receive, pay commission, release what a better price leaves over."""
        order, rules = self.order, self._trading.rules(self.order.symbol)
        is_buyer = order.side == "BUY"
        quote = matching.quote_amount(level.price, level.qty)
        gives, receives = (rules.quote, rules.base) if is_buyer else (rules.base, rules.quote)
        given, received = (quote, level.qty) if is_buyer else (level.qty, quote)
        executed = order.executed_qty + level.qty
        still_locked = order.locked - given
        if is_buyer and order.price:
            still_locked = matching.quote_needed(order.price, order.qty - executed)
        elif executed == order.qty:
            still_locked = 0
        self._move(gives, order.locked - given - still_locked, still_locked - order.locked)
        self._move(receives, received, 0)
        fee, fee_asset = self._trading.charge(order.symbol, receives, received, self._balance(DISCOUNT_ASSET).free)
        self._move(fee_asset, -fee, 0)
        trade = Trade(
            symbol=order.symbol,
            trade_id=self._next_trade_id(order.symbol),
            order_id=order.order_id,
            is_buyer=is_buyer,
            is_maker=is_maker,
            price=level.price,
            qty=level.qty,
            quote_qty=quote,
            commission=fee,
            commission_asset=fee_asset,
            time_ms=self._now_ms,
        )
        self.order = msgspec.structs.replace(
            order,
            executed_qty=executed,
            executed_quote=order.executed_quote + quote,
            locked=still_locked,
            status="FILLED" if executed == order.qty else "PARTIALLY_FILLED",
            updated_ms=self._now_ms,
        )
        self.steps.append(Step("TRADE", self.order, trade))

    def end(self, how: Literal["CANCELED", "EXPIRED"], cancel_id: str = "") -> None:
        """End what is left of the order and release what it holds back."""
        rules = self._trading.rules(self.order.symbol)
        asset = rules.quote if self.order.side == "BUY" else rules.base
        self._move(asset, self.order.locked, -self.order.locked)
        self.order = msgspec.structs.replace(self.order, status=how, locked=0, updated_ms=self._now_ms)
        self.steps.append(Step(how, self.order, None, cancel_id))

    def _next_trade_id(self, symbol: str) -> int:
        last = self._trade_ids.get(symbol, self._state.last_trade_id.get(symbol, 0))
        self._trade_ids[symbol] = last + 1
        return last + 1

    def _balance(self, asset: str) -> Balance:
        return self.balances.get(asset) or self._state.balance(asset)

    def _move(self, asset: str, free: int, locked: int) -> None:
        before = self._balance(asset)
        self.balances[asset] = Balance(asset, before.free + free, before.locked + locked)


_NO_ORDER = Order("", 0, "", "BUY", "LIMIT", "GTC", 0, 0, 0, "CANCELED", 0, 0)


def _tell_nobody(steps: Sequence[Step], balances: Sequence[Balance], transfer: Transferred | None) -> None:
    """Until a user stream is there."""
