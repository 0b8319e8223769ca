"""The gateway without sockets: sessions' requests, the market's ticks and the control port's commands come in as calls.

A call changes the engine and fills outboxes. Nothing of it may leave the process before `commit` has made the
records durable; the shell calls `commit` at the end of every burst of calls and only then writes the outboxes.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Protocol, assert_never

from msgspec.structs import replace

from venues.gateway import replies, reports
from venues.gateway.account import Account, AccountBase
from venues.gateway.checks import NO_CONTRACT, refusal_of
from venues.gateway.contracts import Listing, Stock, stocks_of
from venues.gateway.engine import OrderEngine
from venues.gateway.faults import MESSAGE_TEXTS, Fault, Faults
from venues.gateway.journal import SCHEMA_VERSION, Journal, Snapshot, StateError
from venues.gateway.matching import Quote
from venues.gateway.model import (
    CommissionTold,
    ErrorTold,
    Execution,
    ExecutionTold,
    IdsReset,
    Notice,
    Order,
    OrderTold,
    PriceSet,
    Record,
    StatusTold,
    Ticket,
    WhatIfTold,
    owner_of,
)
from venues.gateway.prices import Market
from venues.gateway.requests import PlaceOrder
from venues.gateway.session import Client
from venues.gateway.settings import GatewaySettings
from venues.gateway.store import OrderStore

log = logging.getLogger("gateway")
_MARGIN_RATE = Decimal("0.25")


class Shell(Protocol):
    """What the core asks of the process around it. Each takes effect after the commit of the running call."""

    def close(self, client: Client, *, silently: bool) -> None:
        """Close the session; `silently` throws away what it has not been sent yet."""

    def freeze(self, client: Client, seconds: float) -> None:
        """Neither read nor write any more, and leave the socket open; close it after so long."""

    def thaw(self) -> None:
        """Close every frozen session."""

    def refuse(self, seconds: float) -> None:
        """Close the listening socket for so long; every session is closed too."""

    def die(self, *, committed: bool) -> None:
        """Kill this process as kill -9 does, before or after the commit of the running call."""


class GatewayCore:
    """State, engine, market, faults and sessions of one gateway, joined. Not for threads."""

    def __init__(self, settings: GatewaySettings, journal: Journal, clock_ns: Callable[[], int]) -> None:
        """Rebuild the state from the journal. Raises StateError when it belongs to another account."""
        self.settings = settings
        self.clock_ns = clock_ns
        self.journal = journal
        self.clients: dict[int, Client] = {}
        self.faults = Faults()
        self.counters: Counter[str] = Counter()
        self.walking = settings.walk
        self.shell: Shell | None = None
        stocks = stocks_of(settings.symbols)
        snapshot, records = journal.load()
        if snapshot is not None and snapshot.account != settings.account:
            raise StateError(
                f"the state in {journal.folder} is of account {snapshot.account}, not {settings.account}. "
                f"Remedy: use --account {snapshot.account}, or another --state DIR."
            )
        self.market = Market(stocks.values(), settings.volatility_bps, settings.seed)
        self._stocks = stocks_of([*settings.symbols, *_symbols_in(snapshot, records)])
        self.listing = Listing(self._stocks)
        self.listed = Listing(stocks)
        self._base = snapshot.base if snapshot else AccountBase(cash=settings.cash_start)
        self.account = Account(self._base, settings.commission_per_share, settings.commission_min)
        self.store = OrderStore()
        self._restore(snapshot, records)
        self.engine = OrderEngine(self.store, self.account, settings.manners, settings.account, self._exchange_of)
        self.engine.conduct.fill_delay_ns = settings.manners.fill_delay_ms * 1_000_000
        for stock in stocks.values():
            self.engine.quotes[stock.con_id] = self.market.quotes[stock.symbol]
        self._pending: list[Record] = []
        self._moved: set[int] = set()
        if journal.torn_lines:
            self.counters["torn_lines"] = journal.torn_lines
            log.warning("cut a torn last line off the journal: it was never acknowledged to anyone")
        if snapshot is None:
            self.compact()
        self.engine.match_everything(clock_ns())
        self.settle()

    # ---- state

    def _restore(self, snapshot: Snapshot | None, records: list[Record]) -> None:
        if snapshot is not None:
            for order in snapshot.orders:
                self.store.put(order)
            self.store.next_ids.update(snapshot.next_ids)
            self.store.forgotten_ids.update(snapshot.forgotten_ids)
            self.store.next_perm_id, self.store.next_exec = snapshot.next_perm_id, snapshot.next_exec
            records = [*snapshot.executions, *snapshot.prices, *records]
        for record in records:
            match record:
                case Order():
                    self.store.put(record)
                case Execution():
                    self.store.add(record)
                    self.account.apply(record)
                case IdsReset():
                    self.store.reset_ids(record)
                case PriceSet(symbol=symbol, bid=bid, ask=ask, last=last):
                    if symbol in self.market.quotes:
                        self.market.place(symbol, Quote(bid, ask, last))
                case _:
                    assert_never(record)

    def commit(self) -> None:
        """Make durable what the calls since the last commit recorded. An error ends the gateway."""
        self.settle()
        if self._pending:
            records, self._pending = self._pending, []
            self.journal.append(records)
            if self.journal.bytes_written > self.settings.journal_bytes_max:
                self.compact()

    def compact(self) -> None:
        """Write the whole state as the next snapshot, dropping what is beyond the kept numbers."""
        self._drop_oldest()
        quotes = self.market.quotes.items()
        self.journal.compact(
            Snapshot(
                schema_version=SCHEMA_VERSION,
                generation=self.journal.next_generation,
                account=self.settings.account,
                base=self._base,
                orders=tuple(self.store.orders.values()),
                executions=tuple(self.store.executions.values()),
                prices=tuple(PriceSet(symbol=s, bid=q.bid, ask=q.ask, last=q.last) for s, q in quotes),
                next_ids=tuple(self.store.next_ids.items()),
                forgotten_ids=tuple(self.store.forgotten_ids.items()),
                next_perm_id=self.store.next_perm_id,
                next_exec=self.store.next_exec,
            )
        )
        self.counters["compactions"] += 1

    def _drop_oldest(self) -> None:
        done = [order.perm_id for order in self.store.orders.values() if not order.is_working]
        surplus = done[: max(0, len(done) - self.settings.completed_kept_max)]
        self.store.forget(surplus)
        self.counters["orders_dropped"] += len(surplus)
        excess = len(self.store.executions) - self.settings.executions_kept_max
        if excess > 0:
            folded = Account(self._base, self.settings.commission_per_share, self.settings.commission_min)
            for exec_id in list(self.store.executions)[:excess]:
                folded.apply(self.store.executions.pop(exec_id))
            self._base = folded.base()
            self.counters["executions_dropped"] += excess

    # ---- sessions

    def start(self, client_id: int, version: int) -> Client | None:
        """Open a session, or return None where the client id is taken (error 326)."""
        if client_id in self.clients:
            return None
        client = Client(client_id, version)
        self.clients[client_id] = client
        client.send(["15", "1", self.settings.account])
        client.send(["9", "1", str(self.engine.next_order_id(client_id))])
        for code in (2104, 2106, 2158):
            self.send_error(client, -1, code, MESSAGE_TEXTS[code])
        return client

    def stop(self, client: Client) -> None:
        """The session is gone; its orders live on."""
        self.clients.pop(client.client_id, None)
        for key in [key for key in self.faults.silenced if key[0] == client.client_id]:
            self.faults.silenced.discard(key)

    def send_error(self, client: Client, req_id: int, code: int, text: str) -> None:
        client.send(list(replies.error(client.version, req_id, code, text)))
        self.counters[f"error_{code}"] += 1

    # ---- orders

    def place(self, client: Client, request: PlaceOrder) -> None:
        fault = self.faults.on_place(client.client_id)
        if fault is None:
            self._place(client, request)
            return
        assert self.shell is not None, "a shell is set before sessions start"
        ticket = request.ticket
        match fault.kind:
            case "reject":
                code = fault.code or 201
                text = fault.text or "Order rejected - reason:Scripted by the control port"
                self.send_error(client, ticket.order_id, code, text)
            case "silence":
                if fault.accepted:
                    self.faults.silenced.add(ticket.key)
                    self._place(client, request)
            case "drop_at_place":
                if fault.when == "after":
                    self._place(client, request)
                self.shell.close(client, silently=True)
            case "die_at_place":
                if fault.when == "after":
                    self._place(client, request)
                self.shell.die(committed=fault.when == "after")
            case _:
                raise AssertionError(f"{fault.kind} is not a fault of placeOrder")

    def _place(self, client: Client, request: PlaceOrder) -> None:
        stock = self.listed.find(request.wanted)
        if stock is None:
            self.send_error(client, request.ticket.order_id, *NO_CONTRACT)
            return
        ticket = replace(request.ticket, con_id=stock.con_id, symbol=stock.symbol)
        if ticket.what_if:
            self._what_if(client, ticket, stock)
        else:
            self.engine.place(ticket, stock.min_tick, self.clock_ns())
        self.settle()

    def _what_if(self, client: Client, ticket: Ticket, stock: Stock) -> None:
        refusal = refusal_of(ticket, stock.min_tick, self.settings.account)
        if refusal is not None:
            self.send_error(client, ticket.order_id, *refusal)
            return
        px = ticket.limit_px or ticket.stop_px or self.market.quotes[stock.symbol].ask
        commission, _ = self.account.preview(stock.con_id, stock.symbol, ticket.is_buy, ticket.qty, px, ticket.qty)
        self.tell(WhatIfTold(ticket, ticket.qty * px * _MARGIN_RATE, commission))

    # ---- the market

    def walk(self) -> None:
        """One tick of every symbol's walk."""
        if self.walking:
            for stock in self.listed.by_symbol.values():
                self._quote(stock, self.market.step(stock.symbol))
            self.settle()
            self._tell_pnl()

    def set_quote(self, symbol: str, quote: Quote) -> None:
        """Put a price from outside, durable as an order is. Raises KeyError for an unknown symbol."""
        stock = self.listed.by_symbol[symbol]
        self.market.place(symbol, quote)
        self.engine.record_price(PriceSet(symbol=symbol, bid=quote.bid, ask=quote.ask, last=quote.last))
        self._quote(stock, quote)
        self.settle()
        self._tell_pnl()

    def record_prices(self) -> None:
        """Note where the walk is, so that a restart goes on from near there."""
        for symbol, quote in self.market.quotes.items():
            self.engine.record_price(PriceSet(symbol=symbol, bid=quote.bid, ask=quote.ask, last=quote.last))
        self.settle()

    def advance(self) -> None:
        self.engine.advance(self.clock_ns())
        self.settle()

    def _quote(self, stock: Stock, quote: Quote) -> None:
        self.engine.quote(stock.con_id, quote, self.clock_ns())
        if self.faults.lost_connectivity:
            return
        for client in self.clients.values():
            for req_id, symbol in client.market_data.items():
                if symbol == stock.symbol:
                    self.send_ticks(client, req_id, quote)

    def send_ticks(self, client: Client, req_id: int, quote: Quote) -> None:
        for fields in reports.quote_ticks(req_id, client.told_quotes.get(req_id), quote):
            client.send(list(fields))
        client.told_quotes[req_id] = quote

    # ---- telling

    def settle(self) -> None:
        """Move what the engine left to the pending records and to the outboxes of those it concerns."""
        records, notices = self.engine.take()
        self._pending += records
        for notice in notices:
            self.tell(notice)
        if self._moved:
            moved, self._moved = self._moved, set()
            self._tell_positions(moved)

    def tell(self, notice: Notice) -> None:
        if isinstance(notice, ExecutionTold):
            self.counters["executions"] += 1
            self._moved.add(notice.execution.con_id)
        client = self.clients.get(owner_of(notice))
        if client is None or self.faults.lost_connectivity or _key_of(notice) in self.faults.silenced:
            self.counters["notices_untold"] += 1
            return
        version, account = client.version, self.settings.account
        match notice:
            case OrderTold(order=order, status=status, why_held=why_held):
                client.send(list(replies.open_order(version, order, self._stock(order.ticket), account, status)))
                client.send(list(replies.order_status(order, status, why_held)))
            case StatusTold():
                client.send(list(replies.status_told(notice)))
            case ExecutionTold(execution=fill):
                client.send(list(replies.execution(version, fill, self.listing.by_con_id[fill.con_id], -1)))
                if self.faults.duplicate_executions:
                    self.faults.duplicate_executions -= 1
                    self.faults.struck["duplicate_execution"] += 1
                    client.outbox.append(client.outbox[-1])
            case CommissionTold(execution=fill):
                client.send(list(replies.commission(fill)))
            case ErrorTold(order_id=order_id, code=code, text=text):
                self.send_error(client, order_id, code, text)
            case WhatIfTold(ticket=ticket):
                client.send(list(replies.what_if(version, notice, self._stock(ticket), account)))
            case _:
                assert_never(notice)

    def _tell_positions(self, con_ids: set[int]) -> None:
        """After fills: every session that watches positions or account values is told, whoever's order it was."""
        if self.faults.lost_connectivity:
            return
        values = reports.account_values(self.account, self.engine.quotes, self.settings.currency)
        for client in self.clients.values():
            for con_id in sorted(con_ids):
                if client.positions:
                    self.send_position(client, con_id)
                if client.account_updates:
                    self.send_portfolio(client, con_id)
            self.send_account_values(client, values)
        self._tell_pnl()

    def send_position(self, client: Client, con_id: int) -> None:
        held, stock = self.account.positions[con_id], self.listing.by_con_id[con_id]
        client.send(list(replies.position(held, stock, self.settings.account)))

    def send_portfolio(self, client: Client, con_id: int) -> None:
        held, stock = self.account.positions[con_id], self.listing.by_con_id[con_id]
        last = reports.last_px(self.engine.quotes, con_id)
        client.send(list(replies.portfolio(held, stock, self.settings.account, last)))

    def send_account_values(self, client: Client, values: list[tuple[str, str, str]]) -> None:
        """Send the rows to each of this client's subscriptions that wants them."""
        account = self.settings.account
        for key, value, currency in values:
            if client.account_updates:
                client.send(["6", "2", key, value, currency, account])
            for req_id, model in client.account_multi.items():
                client.send(["73", "1", str(req_id), account, model, key, value, currency])
            for req_id, tags in client.summaries.items():
                if key in tags or "All" in tags:
                    client.send(["63", "1", str(req_id), account, key, value, currency])

    def _tell_pnl(self) -> None:
        for client in self.clients.values():
            for req_id in client.pnl:
                client.send(list(reports.pnl_fields(req_id, self.account, self.engine.quotes)))

    # ---- faults that are not about one placeOrder

    def message(self, fault: Fault) -> None:
        """Tell sessions a system message; 1100 stops order reports until 1101 or 1102."""
        if fault.code == 1100:
            self.faults.lost_connectivity = True
        elif fault.code in (1101, 1102):
            self.faults.lost_connectivity = False
        for client in self.clients.values():
            if fault.client_id in (None, client.client_id):
                if fault.code == 1101:
                    client.market_data.clear()
                    client.told_quotes.clear()
                self.send_error(client, -1, fault.code, fault.text or MESSAGE_TEXTS.get(fault.code, "Scripted message"))
        self.faults.struck["message"] += 1

    def _exchange_of(self, con_id: int) -> str:
        return self.listing.by_con_id[con_id].primary_exchange

    def _stock(self, ticket: Ticket) -> Stock:
        return self.listing.by_con_id[ticket.con_id]


def _key_of(notice: Notice) -> tuple[int, int]:
    match notice:
        case OrderTold(order=order) | StatusTold(order=order):
            return order.ticket.key
        case ExecutionTold(execution=fill) | CommissionTold(execution=fill):
            return fill.client_id, fill.order_id
        case ErrorTold(client_id=client_id, order_id=order_id):
            return client_id, order_id
        case WhatIfTold(ticket=ticket):
            return ticket.key


def _symbols_in(snapshot: Snapshot | None, records: list[Record]) -> list[str]:
    """The symbols that the state knows: a position stays, though its symbol is not traded any more."""
    found: dict[str, None] = {}
    if snapshot is not None:
        found |= dict.fromkeys(position.symbol for position in snapshot.base.positions)
        found |= dict.fromkeys(order.ticket.symbol for order in snapshot.orders)
        found |= dict.fromkeys(fill.symbol for fill in snapshot.executions)
    for record in records:
        if isinstance(record, Order):
            found.setdefault(record.ticket.symbol)
    return list(found)
