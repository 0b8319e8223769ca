"""A naive venue and the driver before it, for the stateful test: keeps its own books, trusts nobody's.

An order lives under its order id; a second write of an id is a modify, unless the ids have rolled back in between:
then nothing ties it to the first. Nothing is acknowledged until the last leg of a family transmits. What is on the
wire when a session ends may arrive at once, much later, or never. Reports leave in `up`, from which the test
delivers, drops, doubles and reorders.
"""

from __future__ import annotations

import dataclasses
import enum

import msgspec

from actors.messages import (
    AnyMessage,
    CancelVenueOrder,
    CommissionReported,
    ExecutionReported,
    ModifyOrder,
    OrderReported,
    OrderTicket,
    QueryVenue,
    SessionLost,
    SessionOpened,
    Side,
    SubmitNotSent,
    SubmitOrders,
    SubmitWritten,
    VenuePosition,
    VenueRead,
)

UNIT = 10**8


class Wire(enum.Enum):
    """What becomes of tickets on the wire when the session ends."""

    LOST = "lost"
    ARRIVES = "arrives"
    ARRIVES_LATER = "arrives later"


@dataclasses.dataclass
class VenueOrder:
    ticket: OrderTicket
    perm_id: int
    generation: int
    status: str = ""
    cum_qty: int = 0

    @property
    def open(self) -> bool:
        return self.status in ("PreSubmitted", "Submitted")


@dataclasses.dataclass
class Trade:
    order: VenueOrder
    exec_base: str
    revision: int
    qty: int
    px: int
    ts_ns: int

    @property
    def exec_id(self) -> str:
        return f"{self.exec_base}.{self.revision:02d}"


class Venue:
    """Books, wire, and the session of the driver."""

    def __init__(self) -> None:
        self.session = ""
        self.sessions = 0
        self.next_id = 1
        self.now_ns = 0
        self.wire: list[OrderTicket] = []
        self.limbo: list[tuple[int, OrderTicket]] = []
        self.generation = 0
        self.orders: dict[tuple[int, int], VenueOrder] = {}
        self.ever: dict[str, set[int]] = {}
        self.trades: list[Trade] = []
        self.up: list[AnyMessage] = []
        self.fail_next_read = False

    # ---- session

    def open_session(self, rolled_back: bool) -> SessionOpened:
        self.sessions += 1
        self.session = f"S{self.sessions}"
        if rolled_back and self.next_id > 1:
            self.next_id = max(1, self.next_id - 4)
            self.generation += 1
        in_use = [order_id for (_, order_id), order in self.orders.items() if order.open or order.cum_qty]
        raised = max([self.next_id, *(order_id + 1 for order_id in in_use)])
        return SessionOpened(self.session, "DU1", 7, raised, self.next_id)

    def lose_session(self, wire: Wire) -> SessionLost:
        lost, self.session = self.session, ""
        self.up = [message for message in self.up if isinstance(message, SubmitWritten)]
        if wire is Wire.ARRIVES:
            self.drain_wire()
        if wire is Wire.ARRIVES_LATER:
            self.limbo += [(self.generation, ticket) for ticket in self.wire]
        self.wire.clear()
        return SessionLost(lost, "reset")

    # ---- the driver

    def obey(self, command: AnyMessage) -> None:
        match command:
            case SubmitOrders(session_id=session_id, intent_id=intent_id, tickets=tickets):
                names = tuple(ticket.client_order_id for ticket in tickets)
                if session_id != self.session:
                    self.up.append(SubmitNotSent(session_id, intent_id, names, "another session"))
                    return
                self.wire.extend(tickets)
                self.up.append(SubmitWritten(session_id, intent_id, names, self.now_ns))
            case CancelVenueOrder(venue_order_id=order_id):
                if (self.generation, order_id) in self.orders:
                    self.cancel(self.orders[self.generation, order_id])
            case ModifyOrder(session_id=session_id, ticket=ticket):
                if session_id == self.session:
                    self.modify(ticket)
            case QueryVenue(session_id=session_id, request_id=request_id, positions_only=positions_only):
                if session_id == self.session:
                    self.up.append(self.read(request_id, positions_only))
            case _:
                raise AssertionError(f"no such command: {command!r}")

    # ---- the books

    def drain_wire(self, count: int = 10_000) -> None:
        for ticket in self.wire[:count]:
            self.receive(self.generation, ticket)
        del self.wire[:count]

    def drain_limbo(self) -> None:
        for generation, ticket in self.limbo:
            self.receive(generation, ticket)
        self.limbo.clear()

    def receive(self, generation: int, ticket: OrderTicket) -> None:
        known = self.orders.get((generation, ticket.venue_order_id))
        if known is None:
            perm_id = 1_000 + sum(len(perm_ids) for perm_ids in self.ever.values())
            known = VenueOrder(ticket, perm_id, generation)
            self.orders[generation, ticket.venue_order_id] = known
            self.ever.setdefault(ticket.client_order_id, set()).add(perm_id)
            self.next_id = max(self.next_id, ticket.venue_order_id + 1)
        if ticket.transmit:
            for order in self.family(known):
                if not order.status:
                    order.status = "PreSubmitted" if order.ticket.parent_order_id else "Submitted"
                    self.tell(order)

    def modify(self, ticket: OrderTicket) -> None:
        """Take it at once. What is done, or would be smaller than what has filled, stays as it is."""
        order = self.orders.get((self.generation, ticket.venue_order_id))
        if order is not None and order.open and ticket.qty > order.cum_qty:
            assert order.ticket.client_order_id == ticket.client_order_id, "a change of another order"
            parent = order.ticket.parent_order_id
            order.ticket = msgspec.structs.replace(ticket, parent_order_id=parent)
            self.tell(order)

    def tell(self, order: VenueOrder) -> None:
        if self.session:
            self.up.append(self.report(order))

    def report(self, order: VenueOrder, completed: bool = False) -> OrderReported:
        ticket = order.ticket
        return OrderReported(
            session_id=self.session,
            client_order_id=ticket.client_order_id,
            venue_order_id=0 if completed else ticket.venue_order_id,
            perm_id=order.perm_id,
            client_id=7,
            status=order.status,
            symbol=ticket.symbol,
            qty=ticket.qty,
            filled_qty=order.cum_qty,
            completed=completed,
            whole=not completed,
            side=ticket.side.value,
            order_type=ticket.order_type.value,
            limit_px=ticket.limit_px,
            stop_px=ticket.stop_px,
            parent_order_id=ticket.parent_order_id,
            time_in_force=ticket.time_in_force,
            account=ticket.account,
            oca_group=ticket.oca_group,
            oca_type=3 if ticket.oca_group else 0,
        )

    def family(self, order: VenueOrder) -> list[VenueOrder]:
        root = order.ticket.parent_order_id or order.ticket.venue_order_id
        return [
            each
            for each in self.orders.values()
            if each.generation == order.generation and root in (each.ticket.venue_order_id, each.ticket.parent_order_id)
        ]

    def can_trade(self, order: VenueOrder) -> bool:
        parent = self.orders.get((order.generation, order.ticket.parent_order_id))
        return order.open and (parent is None or parent.status == "Filled")

    def trade(self, order: VenueOrder, qty: int) -> None:
        """Execute; a full fill of an exit cancels its sibling. On a cancelled order it is the late fill."""
        ticket = order.ticket
        qty = min(qty, ticket.qty - order.cum_qty)
        px = ticket.limit_px or ticket.stop_px or 100 * UNIT
        trade = Trade(order, f"0000.{len(self.trades)}.01", 1, qty, px, self.now_ns)
        self.trades.append(trade)
        order.cum_qty += qty
        if order.cum_qty == ticket.qty:
            order.status = "Filled"
        if self.session:
            self.up += [self.execution(trade), self.report(order), self.commission(trade)]
        if order.status == "Filled" and ticket.parent_order_id:
            for sibling in self.family(order):
                if sibling is not order and sibling.ticket.parent_order_id:
                    self.cancel(sibling)

    def correct(self, trade: Trade) -> None:
        """Take one share back by a correction; a filled order stays at its status, as venues leave it."""
        trade.revision += 1
        trade.qty -= 1
        trade.order.cum_qty -= 1
        if self.session:
            self.up.append(self.execution(trade))

    def cancel(self, order: VenueOrder) -> None:
        if order.open:
            order.status = "Cancelled"
            self.tell(order)
            if not order.ticket.parent_order_id and not order.cum_qty:
                for child in self.family(order):
                    self.cancel(child)

    def execution(self, trade: Trade) -> ExecutionReported:
        ticket = trade.order.ticket
        return ExecutionReported(
            session_id=self.session,
            exec_id=trade.exec_id,
            client_order_id=ticket.client_order_id,
            venue_order_id=ticket.venue_order_id,
            perm_id=trade.order.perm_id,
            client_id=7,
            account="DU1",
            symbol=ticket.symbol,
            side=ticket.side,
            last_qty=trade.qty,
            last_px=trade.px,
            cum_qty=trade.order.cum_qty,
            ts_event_ns=trade.ts_ns,
        )

    def commission(self, trade: Trade) -> CommissionReported:
        return CommissionReported(self.session, trade.exec_id, UNIT, "USD")

    def positions(self) -> dict[str, int]:
        held: dict[str, int] = {}
        for trade in self.trades:
            ticket = trade.order.ticket
            held[ticket.symbol] = held.get(ticket.symbol, 0) + (trade.qty if ticket.side is Side.BUY else -trade.qty)
        return {symbol: qty for symbol, qty in held.items() if qty}

    def read(self, request_id: str, positions_only: bool) -> VenueRead:
        failed, self.fail_next_read = self.fail_next_read, False
        shown = [order for order in self.orders.values() if order.status and not positions_only and not failed]
        trades = [] if positions_only or failed else self.trades
        return VenueRead(
            session_id=self.session,
            request_id=request_id,
            open_orders=tuple(self.report(order) for order in shown if order.open),
            completed_orders=tuple(self.report(order, True) for order in shown if not order.open),
            executions=tuple(self.execution(trade) for trade in trades),
            commissions=tuple(self.commission(trade) for trade in trades),
            positions=tuple(VenuePosition("DU1", *item, 0) for item in self.positions().items()),
            taken_ns=self.now_ns,
            positions_only=positions_only,
            failed=("open_orders",) if failed else (),
            begun_ns=self.now_ns,
        )
