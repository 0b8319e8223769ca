"""A model broker: brackets, OCA groups, fills by a random price path, and its own truth about all of it.

It deduplicates as IB does: (client id, order id) again is a modify of that order, or an error if it is done. It does
not look at orderRef: two order ids under one reference are two orders, which is exactly what must never happen.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from actors.messages import OrderTicket, OrderType, Side
from tests.sim.scheduler import Scheduler

FIXED8 = 100_000_000
CENT = FIXED8 // 100
Key = tuple[int, int, int]
"""Generation, client id, order id."""
DONE = ("Filled", "Cancelled", "Inactive")


class VenueOrder(msgspec.Struct):
    """One order as the venue holds it. `waiting`: its parent has not filled. `away_since_ns`: since when it is lost
    (0: never was); `away_ns`: for how long it was until it surfaced.
    """

    client_id: int
    ticket: OrderTicket
    perm_id: int
    status: str
    qty: int
    filled_qty: int = 0
    generation: int = 0
    waiting: bool = False
    triggered: bool = False
    modified: int = 0
    oca_group: str = ""
    away_since_ns: int = 0
    away_ns: int = 0

    @property
    def key(self) -> Key:
        """What the venue knows it by, for as long as it does not restart."""
        return self.generation, self.client_id, self.ticket.venue_order_id

    @property
    def leaves_qty(self) -> int:
        """What can still trade."""
        return 0 if self.status in DONE else self.qty - self.filled_qty

    @property
    def why_held(self) -> str:
        """As IB words it."""
        stop = self.ticket.order_type in (OrderType.STOP, OrderType.STOP_LIMIT) and not self.triggered
        if self.status != "PreSubmitted":
            return ""
        return ",".join(["child"] * self.waiting + ["trigger"] * stop)


class VenueFill(msgspec.Struct, frozen=True):
    """One execution; a correction is another with the same id but its last part."""

    exec_id: str
    client_id: int
    perm_id: int
    ticket: OrderTicket
    qty: int
    px: int
    cum_qty: int
    ts_event_ns: int


class Venue:
    """The truth. `changed` and `filled` tell whoever is connected; `refused` carries error callbacks."""

    def __init__(self, scheduler: Scheduler, symbols: tuple[str, ...], start_px: int) -> None:
        self.scheduler = scheduler
        self.orders: dict[Key, VenueOrder] = {}
        self.away: dict[Key, VenueOrder] = {}
        self.parked: dict[Key, tuple[str, OrderTicket]] = {}
        self.fills: list[VenueFill] = []
        self.prices: dict[str, int] = dict.fromkeys(symbols, start_px)
        self.highest_id = 0
        self.generation = 0
        self.perm_id = 1_000_000
        self.refusal_rate = 0.0
        self.changed: Callable[[VenueOrder], None] = lambda order: None
        self.filled: Callable[[VenueFill], None] = lambda fill: None
        self.refused: Callable[[int, int, int, str], None] = lambda client_id, order_id, code, text: None
        self.born: Callable[[VenueOrder], None] = lambda order: None
        self.overwritten: Callable[[VenueOrder, OrderTicket], None] = lambda order, ticket: None

    # ---- orders in

    def place(self, client_id: int, ticket: OrderTicket, session_id: str) -> None:
        """Take one placeOrder message off the wire of a session."""
        key = (self.generation, client_id, ticket.venue_order_id)
        self.highest_id = max(self.highest_id, ticket.venue_order_id)
        if key in self.away:
            self.refused(client_id, ticket.venue_order_id, 103, "Duplicate order id")
        elif key in self.orders:
            self._modify(self.orders[key], ticket)
        elif not ticket.transmit:
            self.parked[key] = (session_id, ticket)
        else:
            self._release(client_id, ticket)

    def drop_parked(self, session_id: str) -> None:
        """A session ended: what it had not transmitted is gone."""
        for key in [key for key, (session, _) in self.parked.items() if session == session_id]:
            del self.parked[key]

    def restart(self) -> None:
        """The nightly restart: order ids roll back, and the ids of before it mean nothing any more."""
        self.generation += 1
        self.parked.clear()
        self.highest_id = max(0, self.highest_id - self.scheduler.random.randint(0, 9))

    def cancel(self, client_id: int, order_id: int) -> None:
        """Take one cancelOrder message off the wire."""
        order = self.orders.get((self.generation, client_id, order_id))
        if order is None:
            self.refused(client_id, order_id, 10147, "OrderId that needs to be cancelled is not found")
        elif order.status in DONE:
            self.refused(client_id, order_id, 10148, f"cannot be cancelled, state: {order.status}")
        else:
            self._end(order, "Cancelled")

    def modify(self, client_id: int, ticket: OrderTicket, session_id: str) -> None:
        """Take one placeOrder message that is meant to change an order; under an id that is free it is a new one."""
        order = self.orders.get((self.generation, client_id, ticket.venue_order_id))
        if order is None or order.ticket.client_order_id != ticket.client_order_id or order.status in DONE:
            self.place(client_id, ticket, session_id)
            return
        terms = {"qty": ticket.qty, "limit_px": ticket.limit_px, "stop_px": ticket.stop_px}
        order.ticket = msgspec.structs.replace(order.ticket, **terms)
        order.qty = max(ticket.qty, order.filled_qty)
        if order.qty == order.filled_qty:
            order.status = "Filled"
        self.changed(order)

    def _modify(self, order: VenueOrder, ticket: OrderTicket) -> None:
        if order.status in DONE:
            self.refused(order.client_id, ticket.venue_order_id, 104, f"Cannot modify a {order.status} order")
            return
        order.modified += 1
        self.overwritten(order, ticket)
        order.ticket = ticket
        self.changed(order)

    def _release(self, client_id: int, last: OrderTicket) -> None:
        """The family's last leg came: all parked legs of it become orders, parents first."""
        family = last.parent_order_id or last.venue_order_id
        mine = [
            ticket
            for key, (_, ticket) in self.parked.items()
            if key[1] == client_id and family in (ticket.venue_order_id, ticket.parent_order_id)
        ]
        for ticket in [*mine, last]:
            self.parked.pop((self.generation, client_id, ticket.venue_order_id), None)
            parent_key = (self.generation, client_id, ticket.parent_order_id)
            if ticket.parent_order_id and parent_key not in self.orders:
                self.refused(client_id, ticket.venue_order_id, 10006, "Missing parent order")
                continue
            self._admit(client_id, ticket)
        parent = self.orders.get((self.generation, client_id, family))
        if parent is not None and self.scheduler.chance(self.refusal_rate):
            self.refused(client_id, family, 201, "Order rejected")
            self._end(parent, "Inactive" if self.scheduler.chance(0.5) else "Cancelled")

    def _admit(self, client_id: int, ticket: OrderTicket) -> None:
        self.perm_id += 1
        parent = self.orders.get((self.generation, client_id, ticket.parent_order_id))
        waiting = parent is not None and parent.status != "Filled"
        stop = ticket.order_type in (OrderType.STOP, OrderType.STOP_LIMIT)
        order = VenueOrder(
            client_id=client_id,
            ticket=ticket,
            perm_id=self.perm_id,
            status="PreSubmitted" if waiting or stop else "Submitted",
            qty=ticket.qty,
            generation=self.generation,
            waiting=waiting,
            oca_group=ticket.oca_group or (str(parent.perm_id) if parent is not None else ""),
        )
        self.orders[order.key] = order
        self.born(order)
        self.changed(order)
        if parent is not None and parent.status in ("Cancelled", "Inactive") and not parent.filled_qty:
            self._end(order, "Cancelled")

    # ---- ends

    def _end(self, order: VenueOrder, status: str) -> None:
        """Cancel or refuse an order; its waiting children go with it, or shrink to what it filled."""
        if order.status in DONE:
            return
        order.status = status
        self.changed(order)
        for child in self._children(order):
            if not order.filled_qty:
                self._end(child, "Cancelled")
            elif child.waiting:
                child.qty = min(child.qty, order.filled_qty)
                self._activate(child)

    def _children(self, order: VenueOrder) -> list[VenueOrder]:
        order_id = order.ticket.venue_order_id
        return [
            child
            for child in self.orders.values()
            if child.key[:2] == order.key[:2] and child.ticket.parent_order_id == order_id
        ]

    def _activate(self, child: VenueOrder) -> None:
        child.waiting = False
        if child.status not in DONE:
            stop = child.ticket.order_type in (OrderType.STOP, OrderType.STOP_LIMIT)
            child.status = "PreSubmitted" if stop else "Submitted"
            self.changed(child)

    # ---- orders that it loses

    def lose(self, order: VenueOrder) -> None:
        """Take back an order that was acknowledged: in no list, not cancelled, not traded, and nobody is told.

        Children of one that had filled in part live on with what it filled; those of one that had not wait for ever.
        """
        order.away_since_ns = self.scheduler.now_ns
        self.away[order.key] = self.orders.pop(order.key)
        for child in self._children(order):
            if order.filled_qty and child.waiting:
                child.qty = min(child.qty, order.filled_qty)
                self._activate(child)

    def surface(self, order: VenueOrder, trades: bool) -> None:
        """It is there again. `trades`: it has traded meanwhile, and that is told now."""
        order.away_ns = self.scheduler.now_ns - order.away_since_ns
        self.orders[order.key] = self.away.pop(order.key)
        parent = self.orders.get((order.generation, order.client_id, order.ticket.parent_order_id))
        if order.waiting and parent is not None and parent.status == "Filled":
            order.waiting = False
        self.changed(order)
        if trades and not order.waiting:
            self._trade(order)

    # ---- prices and fills

    def move(self, symbol: str, factor: float) -> None:
        """Move a price and trade what it reaches."""
        self.prices[symbol] = max(CENT, int(self.prices[symbol] * factor) // CENT * CENT)
        for order in list(self.orders.values()):
            if (
                order.ticket.symbol == symbol
                and order.status not in DONE
                and not order.waiting
                and self._reached(order)
            ):
                self._trade(order)

    def _reached(self, order: VenueOrder) -> bool:
        price, ticket = self.prices[order.ticket.symbol], order.ticket
        buy = ticket.side is Side.BUY
        match ticket.order_type:
            case OrderType.MARKET:
                return True
            case OrderType.LIMIT:
                return price <= ticket.limit_px if buy else price >= ticket.limit_px
            case _:
                if price >= ticket.stop_px if buy else price <= ticket.stop_px:
                    order.triggered = True
                return order.triggered

    def _trade(self, order: VenueOrder) -> None:
        lots = order.leaves_qty // FIXED8
        part = self.scheduler.random.randint(1, lots) if lots > 1 and self.scheduler.chance(0.4) else 0
        qty = part * FIXED8 or order.leaves_qty
        order.filled_qty += qty
        if order.filled_qty == order.qty:
            order.status = "Filled"
        ticket, number = order.ticket, len(self.fills) + 1
        fill = VenueFill(
            exec_id=f"0000e0d5.{order.perm_id:08x}.{number:06x}.01",
            client_id=order.client_id,
            perm_id=order.perm_id,
            ticket=ticket,
            qty=qty,
            px=self.prices[ticket.symbol],
            cum_qty=order.filled_qty,
            ts_event_ns=self.scheduler.now_ns,
        )
        self.fills.append(fill)
        self.filled(fill)
        self.changed(order)
        self._after_trade(order, qty)

    def _after_trade(self, order: VenueOrder, qty: int) -> None:
        """Children come to life with a filled parent; a fill reduces or ends the rest of its group (OCA type 3)."""
        for other in [one for one in self.orders.values() if order.oca_group and one.oca_group == order.oca_group]:
            if other is not order and other.status not in DONE:
                other.qty -= qty
                if other.qty <= other.filled_qty:
                    other.qty += qty
                    self._end(other, "Cancelled")
                else:
                    self.changed(other)
        if not order.ticket.parent_order_id and order.status == "Filled":
            for child in self._children(order):
                if child.waiting:
                    self._activate(child)

    def correct(self, fill: VenueFill) -> None:
        """Say that an execution was at another price: the same id with a higher last part, in place of the first."""
        base, _, revision = fill.exec_id.rpartition(".")
        corrected = msgspec.structs.replace(fill, exec_id=f"{base}.{int(revision) + 1:02d}", px=fill.px + CENT)
        self.fills[self.fills.index(fill)] = corrected
        self.filled(corrected)

    # ---- the truth

    def positions(self) -> dict[str, int]:
        """Signed quantity a symbol, zero where it was traded and is flat."""
        held: dict[str, int] = {}
        for fill in self.fills:
            signed = fill.qty if fill.ticket.side is Side.BUY else -fill.qty
            held[fill.ticket.symbol] = held.get(fill.ticket.symbol, 0) + signed
        return held
