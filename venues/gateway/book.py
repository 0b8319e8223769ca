"""Accepted orders: matching, fills, and what an order's fill or end does to its family and its OCA group. Pure.

A child is held until its parent has filled. Children without an OCA group of their own get their parent's permId as
group, type 3. Every call leaves records, which must be durable before anything else happens, and notices for the
clients that own the orders.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from msgspec.structs import replace

from venues.gateway import checks
from venues.gateway.account import Account
from venues.gateway.contracts import Instrument
from venues.gateway.hours import Timetable, time_text
from venues.gateway.matching import Quote, fill_px, hits_needed, touches, trailed_px, trigger_method
from venues.gateway.model import (
    ZERO,
    CommissionTold,
    ErrorTold,
    Execution,
    ExecutionTold,
    Notice,
    Order,
    OrderTold,
    Record,
    State,
    StatusTold,
    Ticket,
)
from venues.gateway.settings import Manners
from venues.gateway.store import OrderStore

BY_TRADER = "Cancelled by Trader"
BY_SYSTEM = "Cancelled by System:"
EXPIRED = "Expired"


@dataclass(frozen=True, slots=True)
class Arrival:
    """Fault: how an order is accepted. `surfaces_ns`, `hold`: as in Order; `inactive`: code and text of a refusal."""

    surfaces_ns: int = 0
    hold: str = ""
    inactive: checks.Refusal | None = None
    error_first: bool = True


@dataclass(slots=True)
class Conduct:
    """What faults may change while it runs."""

    hold_fills: bool = False
    fill_qty_max: Decimal | None = None
    fill_delay_ns: int = 0
    inert_stops: bool = False
    late_fills: int = 0
    """Coming cancels after which the order fills all the same."""
    late_fill_qty: Decimal | None = None
    arrivals: dict[tuple[int, int], Arrival] = field(default_factory=dict)
    """By client id and order id; each is used up when its order is accepted."""


@dataclass(slots=True)
class Tape:
    """What calls have left to be written and told."""

    records: list[Record] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)


class OrderBook:
    """Owns what happens to accepted orders. Not for threads."""

    def __init__(
        self,
        store: OrderStore,
        account: Account,
        manners: Manners,
        account_name: str,
        instrument_of: Callable[[int], Instrument],
        timetable: Timetable,
    ) -> None:
        self.store = store
        self.account = account
        self.manners = manners
        self.account_name = account_name
        self.instrument_of = instrument_of
        self.timetable = timetable
        self.conduct = Conduct()
        self.quotes: dict[int, Quote] = {}
        self.staged: dict[tuple[int, int], Ticket] = {}
        self.tape = Tape()
        self._due: list[tuple[int, int]] = []
        self._noted: set[tuple[int, int]] = set()
        """What `_due` holds."""
        self._untold: set[int] = set()
        """Orders that fill or die at once, of which nothing has been told yet."""

    # ---- acceptance

    def accept(self, ticket: Ticket, now_ns: int) -> Order:
        """Give a ticket its permId and its place; tell of it. The caller matches it afterwards."""
        parent = self.store.find(ticket.client_id, ticket.parent_id) if ticket.parent_id else None
        held = parent is not None and not parent.is_done and not self.frees_children(parent)
        group, group_type = ticket.oca_group, ticket.oca_type or (3 if ticket.oca_group else 0)
        if parent is not None and not group:
            group, group_type = str(parent.perm_id), 3
        arrival = self.conduct.arrivals.pop(ticket.key, Arrival())
        order = Order(
            perm_id=self.store.next_perm_id,
            ticket=ticket,
            qty=ticket.qty,
            parent_perm_id=parent.perm_id if parent is not None else 0,
            oca_group=group,
            oca_type=group_type,
            state=State.INACTIVE if arrival.inactive else State.WORKING,
            held=held,
            hold=arrival.hold,
            surfaces_ns=arrival.surfaces_ns,
            inert=self.conduct.inert_stops and ticket.is_stop,
            accepted_ns=now_ns,
            eligible_ns=now_ns + self.conduct.fill_delay_ns if self.conduct.fill_delay_ns else 0,
            opens_ns=self.opens_ns(ticket, now_ns),
            expires_ns=self.expires_ns(ticket, now_ns),
        )
        self.put(order)
        if arrival.inactive:
            self._tell_inactive(order, arrival)
        elif not order.is_hidden:
            self._acknowledge(order)
        return order

    def opens_ns(self, ticket: Ticket, now_ns: int) -> int:
        """Return until when a ticket is held: its market is closed, or its time has not come; 0: it is not."""
        instrument = self.instrument_of(ticket.con_id)
        after_ns = max(now_ns, ticket.good_after_ns)
        opens_ns = self.timetable.opens_ns(instrument, after_ns, ticket.outside_rth)
        return opens_ns or (after_ns if after_ns > now_ns else 0)

    def expires_ns(self, ticket: Ticket, now_ns: int) -> int:
        """Return when a ticket ends by itself; 0: never."""
        if ticket.tif == "GTD":
            return ticket.good_till_ns
        if ticket.tif in ("", "DAY"):
            instrument = self.instrument_of(ticket.con_id)
            return self.timetable.day_ends_ns(instrument, max(now_ns, ticket.good_after_ns), ticket.outside_rth)
        return 0

    def _acknowledge(self, order: Order) -> None:
        ticket = order.ticket
        if ticket.tif in ("IOC", "FOK") and not order.held and order.status == "Submitted" and not order.eligible_ns:
            self._untold.add(order.perm_id)
            return
        limit_first = self.manners.presubmit_first and ticket.order_type == "LMT"
        if order.status == "Submitted" and (ticket.order_type == "MKT" or limit_first):
            self.tape.notices.append(OrderTold(order, "PreSubmitted", ""))
        if order.status == "PreSubmitted" or ticket.order_type != "MKT":
            self.tell(order)
        if order.opens_ns:
            self._warn(order, 399, self._held_text(order))
        if order.hold == "locate":
            self._warn(order, 404, "Order held while securities are located.")

    def _held_text(self, order: Order) -> str:
        ticket, instrument = order.ticket, self.instrument_of(order.ticket.con_id)
        what = f"{ticket.action} {ticket.qty.normalize():f} {instrument.symbol}"
        opens = time_text(order.opens_ns)
        return f"Order Message:\n{what}\nWarning: your order will not be placed at the exchange until {opens}"

    def _warn(self, order: Order, code: int, text: str) -> None:
        self.tape.notices.append(ErrorTold(*order.ticket.key, code, text))

    def _tell_inactive(self, order: Order, arrival: Arrival) -> None:
        assert arrival.inactive is not None
        if arrival.error_first:
            self._warn(order, *arrival.inactive)
        self.tell(order)
        if not arrival.error_first:
            self._warn(order, *arrival.inactive)

    def unstage(self, client_id: int, order_id: int) -> None:
        """Drop a ticket that waits for its transmission, and the children that wait behind it."""
        del self.staged[client_id, order_id]
        self.tape.notices.append(ErrorTold(client_id, order_id, *checks.CANCELLED))
        for owner, child_id in [key for key, staged in self.staged.items() if staged.parent_id == order_id]:
            if owner == client_id and (owner, child_id) in self.staged:
                self.unstage(client_id, child_id)

    # ---- the market and the clock

    def quote(self, con_id: int, quote: Quote, now_ns: int) -> None:
        self.quotes[con_id] = quote
        for perm_id in list(self.store.working.get(con_id, {})):
            self.match(perm_id, now_ns, fresh=True)

    def advance(self, now_ns: int) -> None:
        """Do what is due: orders surface, open, expire, and match when their delay has passed."""
        while self._due and self._due[0][0] <= now_ns:
            perm_id = self._pop_due()
            order = self.store.orders.get(perm_id)
            if order is None or order.is_done:
                continue
            if 0 < order.surfaces_ns <= now_ns:
                self.surface(order, now_ns)
            order = self.store.orders[perm_id]
            if 0 < order.expires_ns <= now_ns:
                self.cancel(order, EXPIRED, now_ns)
            elif 0 < order.opens_ns <= now_ns:
                self.open(order)
            self.match(perm_id, now_ns)

    def next_due_ns(self) -> int | None:
        while self._due:
            order = self.store.orders.get(self._due[0][1])
            if order is not None and not order.is_done:
                return self._due[0][0]
            self._pop_due()
        return None

    def _pop_due(self) -> int:
        entry = heapq.heappop(self._due)
        self._noted.discard(entry)
        return entry[1]

    def open(self, order: Order) -> None:
        """The market has opened for an order that was held."""
        order = self.put(replace(order, opens_ns=0))
        if not order.is_hidden:
            self.tell(order)

    def surface(self, order: Order, now_ns: int) -> None:
        """An order that nobody knew of is there."""
        order = self.put(replace(order, surfaces_ns=0))
        self._acknowledge(order)
        self.match(order.perm_id, now_ns)

    def match_everything(self, now_ns: int) -> None:
        """Look at every open order again: after a start, or when a fault ends that held fills back.

        What became due in the meantime happens first: an order that expired while the gateway was down must not fill.
        """
        for order in [*self.store.working_orders(), *self.store.open_orders()]:
            self._note_due(order)
        self.advance(now_ns)
        self.match_all([order.perm_id for order in self.store.working_orders()], now_ns)

    # ---- matching

    def match_all(self, perm_ids: Iterable[int] | Mapping[int, None], now_ns: int) -> None:
        for perm_id in list(perm_ids):
            self.match(perm_id, now_ns)

    def match(self, perm_id: int, now_ns: int, *, fresh: bool = False) -> None:
        """Fill what an order can have now. `fresh`: the quote is a new one, which the double triggers count."""
        order = self.store.orders.get(perm_id)
        if order is None or not order.is_working or order.held or order.hold or order.is_hidden or order.opens_ns:
            return
        quote = self.quotes.get(order.ticket.con_id)
        instrument = self.instrument_of(order.ticket.con_id)
        if quote is None or not self.timetable.is_open(instrument, now_ns, order.ticket.outside_rth):
            return
        if order.eligible_ns > now_ns:
            return
        if order.waits_for_trigger and not self.conduct.hold_fills:
            order = self._trigger(order, quote, instrument, fresh=fresh)
        if order.waits_for_trigger:
            return
        px = None if self.conduct.hold_fills else fill_px(order, quote)
        self._match_at(order, px, now_ns)

    def _match_at(self, order: Order, px: Decimal | None, now_ns: int) -> None:
        """Fill at a price, or rest; what may not rest dies."""
        tif, room = order.ticket.tif, self._room(order)
        if tif == "FOK" and (px is None or room < order.remaining):
            self._kill(order, now_ns)
            return
        if px is not None and room > 0:
            if order.perm_id in self._untold:
                self._untold.discard(order.perm_id)
                self.tape.notices.append(OrderTold(order, "PreSubmitted", ""))
            order = self._fill(order, room, px, now_ns)
        if not order.is_working:
            return
        if tif == "IOC":
            self._kill(order, now_ns)
        elif not order.resting and px is None and not self.conduct.hold_fills:
            self.put(replace(order, resting=True))

    def _trigger(self, order: Order, quote: Quote, instrument: Instrument, *, fresh: bool) -> Order:
        """Move a trailing stop with the market, and elect a stop that has been touched often enough."""
        method = trigger_method(order, instrument.sec_type)
        if order.ticket.is_trailing:
            px = trailed_px(order, quote, method, instrument.min_tick)
            if px != order.trail_px:
                order = self.put(replace(order, trail_px=px))
        if order.inert:
            return order
        first = order.hits == 0
        hits = order.hits + (fresh or first) if touches(order, quote, method) else 0
        if hits >= hits_needed(method):
            order = self.put(replace(order, triggered=True, hits=hits))
            self.tell(order)
        elif hits != order.hits:
            order = self.put(replace(order, hits=hits))
        return order

    def _kill(self, order: Order, now_ns: int) -> None:
        """End an order that may not rest, as was recorded: FOK becomes Inactive; IOC is cancelled without error 202."""
        untold = order.perm_id in self._untold
        self._untold.discard(order.perm_id)
        if order.ticket.tif == "FOK":
            order = self.put(replace(order, state=State.INACTIVE, done_ns=now_ns, done_reason=BY_SYSTEM))
            self.tell(order)
            self._touch_ended(order, BY_SYSTEM, now_ns)
            return
        if untold:
            self.tape.notices.append(OrderTold(order, "PendingCancel", ""))
        self.cancel(order, BY_SYSTEM, now_ns, pending=False, error=not untold)

    def _room(self, order: Order) -> Decimal:
        """How much of an order may fill now."""
        room = order.remaining
        if self.conduct.fill_qty_max is not None:
            room = min(room, self.conduct.fill_qty_max)
        parent = self.store.orders.get(order.parent_perm_id)
        if parent is not None and parent.is_working:
            siblings = self.store.children.get(parent.perm_id, [])
            spent = sum((self.store.orders[perm_id].filled for perm_id in siblings), ZERO)
            room = min(room, parent.filled - spent)
        return room

    def _fill(self, order: Order, qty: Decimal, px: Decimal, now_ns: int) -> Order:
        filled = order.filled + qty
        is_whole = filled >= order.qty
        order = replace(
            order,
            filled=filled,
            notional=order.notional + qty * px,
            last_px=px,
            state=State.FILLED if is_whole else order.state,
            done_ns=now_ns if is_whole else order.done_ns,
            done_reason=f"Filled Size: {filled}" if is_whole else order.done_reason,
        )
        self.put(order)
        execution = self._execution(order, qty, px, now_ns)
        self.store.add(execution)
        self.account.apply(execution)
        self.tape.records.append(execution)
        self.tape.notices.append(ExecutionTold(execution))
        self.tell(order)
        self.tape.notices.append(CommissionTold(execution))
        self._touch_group(order, qty, now_ns)
        self._touch_children(order, now_ns)
        return self.store.orders[order.perm_id]

    def _execution(self, order: Order, qty: Decimal, px: Decimal, now_ns: int) -> Execution:
        ticket, instrument = order.ticket, self.instrument_of(order.ticket.con_id)
        commission, realized = self.account.preview(instrument, ticket.is_buy, qty, px, order.filled)
        return Execution(
            exec_id=f"0000e0d5.{self.store.next_exec:08x}.01.01",
            perm_id=order.perm_id,
            client_id=ticket.client_id,
            order_id=ticket.order_id,
            con_id=ticket.con_id,
            symbol=ticket.symbol,
            account=self.account_name,
            exchange=instrument.exchange,
            is_buy=ticket.is_buy,
            qty=qty,
            px=px,
            cum_qty=order.filled,
            avg_px=order.avg_px,
            commission=commission,
            realized_pnl=realized,
            order_ref=ticket.order_ref,
            time_ns=now_ns,
            sec_type=instrument.sec_type,
            multiplier=instrument.multiplier,
        )

    def fill_late(self, order: Order, now_ns: int) -> None:
        """Fault: an order that was cancelled fills all the same, at the touch or its limit."""
        quote = self.quotes.get(order.ticket.con_id)
        if quote is None or not order.remaining:
            return
        touch = quote.ask if order.ticket.is_buy else quote.bid
        qty = min(order.remaining, self.conduct.late_fill_qty or order.remaining)
        self._fill(order, qty, order.limit_px or touch, now_ns)

    # ---- what an order's end or fill does to others

    def _touch_group(self, order: Order, qty: Decimal, now_ns: int) -> None:
        """A fill cancels the group's others (type 1, or when it is complete) or reduces them by what filled."""
        if not order.oca_group:
            return
        ends = order.oca_type == 1 or not order.is_working
        for perm_id in list(self.store.groups.get(order.oca_group, [])):
            other = self.store.orders[perm_id]
            if perm_id == order.perm_id or not other.is_working:
                continue
            if ends or other.remaining <= qty:
                self.cancel(other, BY_SYSTEM, now_ns)
            else:
                self.tell(self.put(replace(other, qty=other.qty - qty)))

    def frees_children(self, parent: Order) -> bool:
        """True when this parent's children may work: it has filled, or part of it has and they follow or it ended."""
        if parent.state is State.FILLED:
            return True
        return parent.filled > 0 and (self.manners.partial_parent == "follow" or parent.is_done)

    def _touch_children(self, parent: Order, now_ns: int) -> None:
        """After a fill or the end of a parent: set its children free, resized where less than all has filled."""
        children = [self.store.orders[perm_id] for perm_id in self.store.children.get(parent.perm_id, [])]
        freed = []
        if self.frees_children(parent):
            for child in children:
                if child.is_working and child.held:
                    ended = parent.is_done and parent.state is not State.FILLED
                    resize = ended and self.manners.partial_parent != "keep"
                    qty = min(child.qty, parent.filled) if resize else child.qty
                    self.tell(self.put(replace(child, held=False, qty=qty)))
                    freed.append(child.perm_id)
        following = [child.perm_id for child in children if not child.held and child.perm_id not in freed]
        self.match_all([*freed, *following], now_ns)

    def cancel(self, order: Order, reason: str, now_ns: int, *, pending: bool = True, error: bool = True) -> None:
        """End an order; a parent that never filled takes its children with it."""
        if self.manners.pending_cancel and pending:
            self.tape.notices.append(StatusTold(order, "PendingCancel"))
        order = self.put(replace(order, state=State.CANCELLED, surfaces_ns=0, done_ns=now_ns, done_reason=reason))
        self.tape.notices.append(StatusTold(order, "Cancelled"))
        if error:
            self.tape.notices.append(ErrorTold(*order.ticket.key, *checks.CANCELLED))
        self._touch_ended(order, reason, now_ns)

    def _touch_ended(self, order: Order, reason: str, now_ns: int) -> None:
        if order.filled and self.manners.partial_parent == "keep":
            self._touch_children(order, now_ns)
            return
        if order.filled:
            self._shrink_children(order, now_ns)
            return
        for perm_id in list(self.store.children.get(order.perm_id, [])):
            child = self.store.orders[perm_id]
            if not child.is_done:
                self.cancel(child, reason, now_ns)
        for key, staged in list(self.staged.items()):
            if staged.client_id == order.ticket.client_id and staged.parent_id == order.ticket.order_id:
                self.unstage(*key)

    def _shrink_children(self, parent: Order, now_ns: int) -> None:
        """A parent ended partly filled: what already works of its children is cut to what it filled."""
        siblings = [self.store.orders[perm_id] for perm_id in self.store.children.get(parent.perm_id, [])]
        spent = sum((child.filled for child in siblings), ZERO)
        for child in siblings:
            if child.is_working and not child.held:
                left = parent.filled - spent
                if left <= 0:
                    self.cancel(child, BY_SYSTEM, now_ns)
                elif child.remaining > left:
                    self.tell(self.put(replace(child, qty=child.filled + left)))
        self._touch_children(parent, now_ns)

    def put(self, order: Order) -> Order:
        self.store.put(order)
        self.tape.records.append(order)
        self._note_due(order)
        return order

    def _note_due(self, order: Order) -> None:
        """Remember when to look at an order again; a time that no longer holds does nothing when it comes."""
        if order.is_done:
            return
        for due_ns in {order.eligible_ns, order.opens_ns, order.expires_ns, order.surfaces_ns} - {0}:
            if (due_ns, order.perm_id) not in self._noted:
                self._noted.add((due_ns, order.perm_id))
                heapq.heappush(self._due, (due_ns, order.perm_id))

    def tell(self, order: Order) -> None:
        self.tape.notices.append(OrderTold(order, order.status, order.why_held))
