"""The gateway without sockets: sessions' requests, the market's ticks and the control port's commands come in as calls.

A call changes the engine and fills outboxes. Nothing of it may leave the process before `commit` has made the
records durable; the shell calls `commit` at the end of every burst of calls and only then writes the outboxes.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from datetime import date
from typing import Protocol

from msgspec.structs import replace

from venues.gateway import replies, reports, state
from venues.gateway.account import Account, AccountBase
from venues.gateway.asked import PlaceOrder
from venues.gateway.book import Arrival
from venues.gateway.checks import NO_CONTRACT, NO_SUCH_ID, refusal_of
from venues.gateway.contracts import Instrument
from venues.gateway.engine import OrderEngine
from venues.gateway.faults import MESSAGE_TEXTS, Fault, Faults
from venues.gateway.feeds import Feeds
from venues.gateway.history import History
from venues.gateway.hours import Timetable, moment_of
from venues.gateway.journal import Journal
from venues.gateway.listing import Listing, Wanted
from venues.gateway.matching import Quote
from venues.gateway.model import (
    NEVER_NS,
    ClockSet,
    ExecutionTold,
    Order,
    PriceSet,
    Record,
    Ticket,
)
from venues.gateway.prices import Market
from venues.gateway.session import Client
from venues.gateway.settings import GatewaySettings
from venues.gateway.telling import Teller

log = logging.getLogger("gateway")
_MS = 1_000_000
_DERIVED_KEPT_MAX = 1_000
"""Options and futures that are quoted though nobody holds, orders or watches them."""


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

    def shut_out(self, seconds: float) -> None:
        """Close every session; take connections and answer nothing for so long (0: until let in)."""

    def let_in(self) -> None:
        """Answer those who wait, and those who come."""

    def die(self, *, committed: bool) -> None:
        """Kill this process as kill -9 does, before or after the commit of the running call."""


class GatewayCore:
    """State, engine, market, faults and sessions of one gateway, joined. Not for threads."""

    def __init__(self, settings: GatewaySettings, journal: Journal, clock_ns: Callable[[], int]) -> None:
        """Rebuild the state from the journal. Raises StateError when it belongs to another account."""
        self.settings = settings
        self.journal = journal
        self.clients: dict[int, Client] = {}
        self.faults = Faults()
        self.counters: Counter[str] = Counter()
        self.told_ns: dict[int, int] = {}
        """When each client was last written to, by the machine's own clock."""
        self.walking = settings.walk
        self.shell: Shell | None = None
        self._machine_ns = clock_ns
        loaded = state.load(journal, settings)
        self.ahead_ns = loaded.ahead_ns
        self.listed = Listing(settings.symbols)
        self.listing = Listing([*settings.symbols, *loaded.symbols])
        """What is listed, and what was: a position stays, though its symbol is not traded any more."""
        self.market = Market(self.listed.by_symbol.values(), settings.volatility_bps, settings.seed)
        self.began_ns = loaded.began_ns or self.clock_ns()
        self.history = History(self.listing.known, settings.seed, self.began_ns)
        self._base = loaded.base
        self.account = Account(loaded.base, settings.fees)
        self.store = loaded.store
        for fill in self.store.latest_executions():
            self.account.apply(fill)
        self.timetable = Timetable(settings.hours)
        self.engine = OrderEngine(
            self.store, self.account, settings.manners, settings.account, self.listing.known, self.timetable
        )
        self.engine.conduct.fill_delay_ns = settings.manners.fill_delay_ms * _MS
        self.teller = Teller(self.clients, self.faults, self.listing, settings.account, self.counters, self.clock_ns)
        self.feeds = Feeds(self.market, self.listing)
        self._pending: list[Record] = []
        self._moved: set[int] = set()
        self._restart_ns = self._next_restart_ns()
        self._restore_prices(loaded.prices)
        if journal.torn_lines:
            self.counters["torn_lines"] = journal.torn_lines
            log.warning("cut a torn last line off the journal: it was never acknowledged to anyone")
        if loaded.is_new:
            self.compact()
        self.engine.match_everything(self.clock_ns())
        self.settle()

    def clock_ns(self) -> int:
        """Return the gateway's own time: the machine's, and what was set ahead of it."""
        return self._machine_ns() + self.ahead_ns

    def trade_date(self) -> date:
        """Return the date in the exchange's zone, by the gateway's clock."""
        return moment_of(self.clock_ns()).date()

    @property
    def account_base(self) -> AccountBase:
        """Cash and positions before the first of the kept executions."""
        return self._base

    # ---- state

    def _restore_prices(self, prices: list[PriceSet]) -> None:
        for price in prices:
            instrument = self.listing.get(price.con_id) or self.listed.by_symbol.get(price.symbol)
            if instrument is not None and (instrument.is_derived or instrument.con_id in self.market.quotes):
                self.market.place(instrument, Quote(price.bid, price.ask, price.last))
        for con_id in self._in_use():
            instrument = self.listing.known(con_id)
            if instrument.is_derived and instrument.under_con_id in self.market.quotes:
                self.market.look_at(instrument, self.clock_ns())
        self.engine.quotes.update(self.market.quotes)

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
        self._base, dropped = state.drop_oldest(self.store, self._base, self.settings)
        self.counters.update(dropped)
        self.journal.compact(
            state.snapshot_of(
                self.journal,
                self.settings,
                self._base,
                self.store,
                began_ns=self.began_ns,
                ahead_ns=self.ahead_ns,
                prices=self._prices(),
            )
        )
        self.counters["compactions"] += 1

    def _prices(self) -> tuple[PriceSet, ...]:
        """The prices that a restart goes on from: those that walk, and those that were set."""
        con_ids = [*self.market.spots, *self.market.pinned]
        return tuple(self._price_of(con_id) for con_id in con_ids)

    def _price_of(self, con_id: int) -> PriceSet:
        quote, name = self.market.quotes[con_id], self.listing.known(con_id).local_symbol
        return PriceSet(symbol=name, con_id=con_id, bid=quote.bid, ask=quote.ask, last=quote.last)

    def set_clock(self, now_ns: int) -> None:
        """Let the gateway's time be this from now on, durably; what became due by it happens."""
        self.ahead_ns = now_ns - self._machine_ns()
        self._pending.append(ClockSet(ahead_ns=self.ahead_ns))
        self.advance()
        self._restart_ns = self._next_restart_ns()

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
        self.teller.error(client, req_id, code, text)

    # ---- orders

    def find(self, wanted: Wanted) -> Instrument | None:
        """Return what a contract means, quoted from now on; None where it is nothing, or more than one thing."""
        instrument = self.listed.find(wanted, self.trade_date())
        if instrument is not None:
            self.look_at(instrument)
        return instrument

    def look_at(self, instrument: Instrument) -> Quote:
        quote = self.market.look_at(instrument, self.clock_ns())
        self.engine.quotes.setdefault(instrument.con_id, quote)
        return quote

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
                self.send_error(client, ticket.order_id, code, fault.text or MESSAGE_TEXTS.get(code, "Scripted"))
            case "warn":
                self._place(client, request)
                text = fault.text or MESSAGE_TEXTS.get(fault.code, "Scripted")
                self.send_error(client, ticket.order_id, fault.code, text)
            case "silence":
                if fault.accepted:
                    self.faults.silenced.add(ticket.key)
                    self._place(client, request)
            case "surface_late" | "inactive" | "no_shares":
                self.engine.conduct.arrivals[ticket.key] = self._arrival(fault)
                self._place(client, request)
                if ticket.key not in self.engine.staged:
                    self.engine.conduct.arrivals.pop(ticket.key, None)
            case "two_perm_ids":
                self._place(client, request, beside=True)
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

    def _arrival(self, fault: Fault) -> Arrival:
        if fault.kind == "surface_late":
            return Arrival(surfaces_ns=self.clock_ns() + fault.ms * _MS if fault.ms else NEVER_NS)
        if fault.kind == "no_shares":
            return Arrival(hold="locate")
        code = fault.code or 201
        return Arrival(
            inactive=(code, fault.text or MESSAGE_TEXTS.get(code, "Scripted")), error_first=fault.first == "error"
        )

    def _place(self, client: Client, request: PlaceOrder, *, beside: bool = False) -> None:
        if request.ticket.order_id == 0:
            self.send_error(client, 0, *NO_SUCH_ID)
            return
        instrument = self.find(request.wanted)
        if instrument is None:
            self.send_error(client, request.ticket.order_id, *NO_CONTRACT)
            return
        ticket = replace(request.ticket, con_id=instrument.con_id, symbol=instrument.symbol)
        if ticket.outside_rth and ticket.order_type == "MKT" and self.timetable.hours == "exchange":
            ticket = replace(ticket, outside_rth=False)
            self.send_error(client, ticket.order_id, 2109, MESSAGE_TEXTS[2109])
        if ticket.what_if:
            self._what_if(client, ticket, instrument)
        elif beside:
            self.engine.place_beside(ticket, self.clock_ns())
        else:
            self.engine.place(ticket, self.clock_ns())
        self.settle()

    def _what_if(self, client: Client, ticket: Ticket, instrument: Instrument) -> None:
        refusal = refusal_of(ticket, instrument, self.settings.account)
        if refusal is not None:
            self.send_error(client, ticket.order_id, *refusal)
            return
        px = ticket.limit_px or ticket.stop_px or self.market.quotes[instrument.con_id].ask
        commission, _ = self.account.preview(instrument, ticket.is_buy, ticket.qty, px, ticket.qty)
        told = reports.what_if(self.account, self.engine.quotes, ticket, instrument, px, commission)
        self.teller.tell(told)

    def place_by_hand(self, ticket: Ticket) -> Order | None:
        """Enter an order as a user of the gateway's own screen does; None: it was refused."""
        before = set(self.store.orders)
        self.engine.place(ticket, self.clock_ns())
        binder = self.clients.get(0)
        if binder is not None and binder.binds_manual:
            self.bind(binder)
        self.settle()
        return next((order for perm_id, order in self.store.orders.items() if perm_id not in before), None)

    def bind(self, client: Client) -> None:
        """Tell client 0 of orders by hand that no client knew, under ids of its own (100 orderBound)."""
        for order in self.engine.bind():
            client.send(["100", str(order.perm_id), "0", str(order.ticket.order_id)])
            self.send_open_order(client, order)

    def send_open_order(self, client: Client, order: Order) -> None:
        account, instrument = self.settings.account, self.listing.known(order.ticket.con_id)
        client.send(replies.open_order(client.version, order, instrument, account, order.status))
        client.send(replies.order_status(order, order.status, order.why_held))

    # ---- the market and the clock

    def walk(self) -> None:
        """One tick: prices walk where their market is open, and bars that are over are told."""
        now_ns = self.clock_ns()
        if self.walking:
            for con_id, spot in self.market.spots.items():
                if self.timetable.is_open(spot, now_ns, outside_rth=True):
                    self._quote(con_id, self.market.step(con_id))
            self.settle()
            self._tell_pnl()
        if not self.faults.lost_connectivity:
            self.feeds.tick(self.clients.values(), now_ns)
        if len(self.market.derived) > _DERIVED_KEPT_MAX:
            self._forget_derived()

    def set_quote(self, instrument: Instrument, quote: Quote) -> None:
        """Put a price from outside, durable as an order is."""
        self.market.place(instrument, quote)
        self._pending.append(self._price_of(instrument.con_id))
        self._quote(instrument.con_id, quote)
        self.settle()
        self._tell_pnl()

    def record_prices(self) -> None:
        """Note where the walk is, so that a restart goes on from near there."""
        self._pending += self._prices()
        self.settle()

    def advance(self) -> None:
        """Do what is due by the clock."""
        now_ns = self.clock_ns()
        self.engine.advance(now_ns)
        self.teller.advance(now_ns)
        if self._restart_ns is not None and self._restart_ns <= now_ns:
            self._restart_ns = self._next_restart_ns()
            self.restart_nightly(self.settings.restart_s, self.settings.restart_loses_ms)
        self.settle()

    def next_due_ns(self) -> int | None:
        dues = (self.engine.next_due_ns(), self.teller.next_due_ns(), self._restart_ns)
        return min((due_ns for due_ns in dues if due_ns is not None), default=None)

    def _next_restart_ns(self) -> int | None:
        if not self.settings.restart_at:
            return None
        hour, minute = (int(part) for part in self.settings.restart_at.split(":"))
        day_ns = 86_400 * 1_000_000_000
        now_ns = self.clock_ns()
        due_ns = now_ns // day_ns * day_ns + (hour * 60 + minute) * 60 * 1_000_000_000
        return due_ns if due_ns > now_ns else due_ns + day_ns

    def restart_nightly(self, seconds: float, loses_ms: int) -> list[Order]:
        """Be gone for a while and come back without the last moments: every session ends, ids go back."""
        assert self.shell is not None, "a shell is set before time passes"
        lost = self.engine.lose(self.clock_ns() - loses_ms * _MS)
        self.settle()
        self.shell.refuse(seconds)
        self.faults.struck["nightly_restart"] += 1
        return lost

    def _quote(self, con_id: int, quote: Quote) -> None:
        now_ns = self.clock_ns()
        changed = [(con_id, quote), *self.market.follow(con_id, now_ns)]
        if con_id in self.market.spots:
            self.history.note(con_id, quote, now_ns)
        for changed_id, new in changed:
            self.engine.quote(changed_id, new, now_ns)
            if not self.faults.lost_connectivity and not self.faults.competing_session:
                self.feeds.quoted(self.clients.values(), changed_id, new, now_ns)

    def _in_use(self) -> set[int]:
        held = {con_id for con_id, position in self.account.positions.items() if position.qty}
        ordered = {con_id for con_id, on_book in self.store.working.items() if on_book}
        return held | ordered | self.market.pinned | self.feeds.in_use(self.clients.values())

    def _forget_derived(self) -> None:
        unused = set(self.market.derived) - self._in_use()
        self.market.forget(unused)
        for con_id in unused:
            self.engine.quotes.pop(con_id, None)

    # ---- telling

    def settle(self) -> None:
        """Move what the engine left to the pending records and to the outboxes of those it concerns."""
        records, notices = self.engine.take()
        self._pending += records
        for notice in notices:
            if isinstance(notice, ExecutionTold):
                self.counters["executions"] += 1
                self._moved.add(notice.execution.con_id)
            self.teller.tell(notice)
        if self._moved:
            moved, self._moved = self._moved, set()
            self._tell_positions(moved)

    def _tell_positions(self, con_ids: set[int]) -> None:
        """After fills: every session that watches positions or account values is told, whoever's order it was."""
        if self.faults.lost_connectivity:
            return
        values = reports.account_values(self.account, self.engine.quotes, self.settings.currency)
        for client in self.clients.values():
            for con_id in sorted(con_ids):
                self._tell_position(client, con_id)
            self.send_account_values(client, values)
        self._tell_pnl()

    def _tell_position(self, client: Client, con_id: int) -> None:
        if client.positions:
            self.send_position(client, con_id)
        if client.account_updates:
            self.send_portfolio(client, con_id)
        held, instrument = self.account.positions[con_id], self.listing.known(con_id)
        for req_id, model in client.positions_multi.items():
            client.send(replies.position_multi(req_id, held, instrument, self.settings.account, model))

    def send_position(self, client: Client, con_id: int) -> None:
        held, instrument = self.account.positions[con_id], self.listing.known(con_id)
        client.send(replies.position(held, instrument, self.settings.account))

    def send_portfolio(self, client: Client, con_id: int) -> None:
        held, instrument = self.account.positions[con_id], self.listing.known(con_id)
        last = reports.last_px(self.engine.quotes, con_id)
        client.send(replies.portfolio(held, instrument, self.settings.account, last))

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
                client.send(reports.pnl_fields(req_id, self.account, self.engine.quotes))
            for req_id, con_id in client.pnl_single.items():
                self.send_pnl_single(client, req_id, con_id)

    def send_pnl_single(self, client: Client, req_id: int, con_id: int) -> None:
        held = self.account.positions.get(con_id)
        if held is not None:
            client.send(reports.pnl_single_fields(req_id, held, self.engine.quotes))

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
                    for lines in (client.market_data, client.real_time_bars, client.kept_bars):
                        lines.clear()
                self.send_error(client, -1, fault.code, fault.text or MESSAGE_TEXTS.get(fault.code, "Scripted message"))
        self.faults.struck["message"] += 1

    def compete(self, on: bool) -> None:
        """Start or end a competing session: every line of market data is told 10197 and gets no ticks."""
        self.faults.competing_session = on
        if on:
            for client, req_id, code, text in self.feeds.compete(self.clients.values()):
                self.send_error(client, req_id, code, text)
