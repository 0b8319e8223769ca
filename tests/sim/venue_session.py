"""Sessions with the model broker, and the broker actor's driver that keeps one open.

The wire is in order within a session, as TCP is; reports pass through a client library that loses, doubles, delays
and reorders some. When a session ends, a prefix of what was written and has not arrived still arrives, perhaps much
later; the rest never does. Neither side is told which.
"""

from __future__ import annotations

from collections.abc import Callable

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
    VenueErrorReported,
    VenuePosition,
    VenueRead,
)
from tests.sim.faults import FaultRates
from tests.sim.hosts import Incarnation
from tests.sim.scheduler import MS, SECOND, Event, Scheduler
from tests.sim.venue import DONE, Venue, VenueFill, VenueOrder

ACCOUNT = "DU0000001"
CLIENT_ID = 7
LATE_NS_MAX = 90 * SECOND
"""Long after any grace: what comes then finds its order resent, expired, or filled."""
PARTS = ("open_orders", "completed_orders", "executions", "positions")


class Session:
    """One connection, seen from the venue: what is on the wire, and who hears of it."""

    def __init__(self, venue: Venue, session_id: str, hear: Callable[[AnyMessage], None]) -> None:
        self.venue = venue
        self.session_id = session_id
        self.hear = hear
        self.generation = venue.generation
        self.up = True
        self.wire: list[tuple[Event, Callable[[], None], str]] = []
        self._wire_free_ns = 0

    def write(self, what: str, arrive: Callable[[], None]) -> None:
        """Put a message on the wire, behind all that is there."""
        scheduler = self.venue.scheduler
        if not self.up:
            scheduler.log("wire", f"{what} goes nowhere: {self.session_id} is half open")
            return
        due_ns = max(self._wire_free_ns, scheduler.now_ns + scheduler.between(50_000, 30 * MS))
        self._wire_free_ns = due_ns
        event = scheduler.after(due_ns - scheduler.now_ns, what, lambda: self._arrive(event, arrive))
        self.wire.append((event, arrive, what))

    def place(self, ticket: OrderTicket) -> None:
        """An order came off the wire; what was written before a restart of the venue is lost in it."""
        if self.generation == self.venue.generation:
            self.venue.place(CLIENT_ID, ticket, self.session_id)

    def _arrive(self, event: Event, arrive: Callable[[], None]) -> None:
        self.wire = [item for item in self.wire if item[0] is not event]
        arrive()

    def end(self, late: float) -> None:
        """End it at the venue. `late`: the chance that what still arrives does so only after a while."""
        if not self.up:
            return
        self.up = False
        scheduler = self.venue.scheduler
        scheduler.log("venue", f"session {self.session_id} ends with {len(self.wire)} messages on the wire")
        arriving = len(self.wire) if scheduler.chance(0.5) else scheduler.random.randint(0, len(self.wire))
        delay_ns = scheduler.between(100 * MS, LATE_NS_MAX) if scheduler.chance(late) else 0
        for event, _, _ in self.wire:
            event.cancelled = True
        for event, arrive, what in self.wire[:arriving]:
            due_ns = max(event.due_ns, scheduler.now_ns) + delay_ns
            scheduler.after(due_ns - scheduler.now_ns, f"{what} (after the end)", arrive)
        self.wire = []
        gone_ns = delay_ns + SECOND  # after the last arrival: the wire holds 30 ms at most
        scheduler.after(gone_ns, "forget untransmitted", lambda: self.venue.drop_parked(self.session_id))


class Gateway:
    """The venue's front: one session a client id, reports to whoever is connected."""

    def __init__(self, venue: Venue, rates: Callable[[], FaultRates]) -> None:
        self.venue = venue
        self.rates = rates
        self.session: Session | None = None
        self.sessions = 0
        self.halted: Callable[[], bool] = lambda: False
        self.written: Callable[[Incarnation, SubmitOrders, OrderTicket], None] = lambda *written: None
        venue.changed = lambda order: self._tell(order_report(order))
        venue.filled = self._tell_fill
        venue.refused = lambda client_id, order_id, code, text: self._tell(VenueErrorReported("", order_id, code, text))

    def connect(self, hear: Callable[[AnyMessage], None]) -> Session | None:
        """Open a session; None if another holds the client id (it is thrown out now and then)."""
        scheduler = self.venue.scheduler
        if self.session is not None and self.session.up:
            if scheduler.chance(0.5):
                return None
            self.drop()
        self.sessions += 1
        self.session = Session(self.venue, f"session-{self.sessions}", hear)
        scheduler.log("venue", f"session {self.session.session_id} opens")
        return self.session

    def drop(self) -> None:
        """End the session at the venue; its client notices by itself, later. The venue may restart with it."""
        if self.session is not None:
            self.session.end(self.rates().submit_late)
            if self.venue.scheduler.chance(self.rates().ids_rolled_back):
                self.venue.restart()
                self.venue.scheduler.log("venue", f"restarts; next order id is {self.venue.highest_id + 1}")

    def report(self, session: Session, body: AnyMessage) -> None:
        """Send a report into a session, with whatever the client library does to it."""
        scheduler, rates = self.venue.scheduler, self.rates()
        if scheduler.chance(rates.report_lost):
            scheduler.log("venue", f"report lost: {body}")
            return
        for _ in range(2 if scheduler.chance(rates.report_duplicated) else 1):
            slow = scheduler.chance(rates.report_late)
            delay_ns = scheduler.between(10 * MS, 8 * SECOND) if slow else scheduler.between(MS // 10, 5 * MS)
            scheduler.after(delay_ns, f"report {body}", lambda: self._hear(session, body))

    def _hear(self, session: Session, body: AnyMessage) -> None:
        if session.up:
            session.hear(body)

    def _tell(self, body: AnyMessage) -> None:
        if self.session is not None and self.session.up:
            self.report(self.session, in_session(body, self.session.session_id))

    def _tell_fill(self, fill: VenueFill) -> None:
        self._tell(execution_report(fill))
        self._tell(commission_report(fill))


class BrokerDriver:
    """Keeps a session open, carries commands to it and reports from it."""

    def __init__(self, incarnation: Incarnation, gateway: Gateway) -> None:
        self.incarnation = incarnation
        self.gateway = gateway
        self.scheduler: Scheduler = gateway.venue.scheduler
        self.session: Session | None = None
        self.dead = False
        self._queue: list[AnyMessage] = []
        self._free_ns = 0

    def start(self) -> None:
        """Connect soon."""
        self.scheduler.after(self.scheduler.between(MS, 200 * MS), "connect", self._connect)

    def die(self) -> None:
        """The process and its socket are gone, and so are the commands its worker had not yet written.

        The worker is a thread of its own: it may have written one or more while the actor was dying.
        """
        while self._queue and not self.dead and self.scheduler.chance(self.gateway.rates().worker_ahead):
            self._take(self._queue[0], from_queue=True)
        self.dead = True
        if self.session is not None:
            self.session.end(self.gateway.rates().submit_late)

    def post(self, command: AnyMessage) -> None:
        """Queue a command; the worker takes it a moment later, in order."""
        due_ns = max(self._free_ns, self.scheduler.now_ns + self.scheduler.between(10_000, 3 * MS))
        self._free_ns = due_ns
        self._queue.append(command)
        self.scheduler.after(due_ns - self.scheduler.now_ns, f"take {command}", lambda: self._take(command))

    # ---- the session

    def _connect(self) -> None:
        if self.dead:
            return
        session = self.gateway.connect(lambda body: self._event(body))
        if session is None:
            self.scheduler.after(self.scheduler.between(500 * MS, 2 * SECOND), "connect", self._connect)
            return
        self.session = session
        opened = SessionOpened(session.session_id, ACCOUNT, CLIENT_ID, self.gateway.venue.highest_id + 1)
        self.scheduler.after(self.scheduler.between(MS, 100 * MS), "opened", lambda: self._opened(session, opened))
        self._watch(session)

    def _opened(self, session: Session, opened: SessionOpened) -> None:
        if self.session is session and session.up:
            self._event(opened)

    def _watch(self, session: Session) -> None:
        """Look after the session every now and then; a half-open one is noticed only so."""
        if self.dead or self.session is not session:
            return
        if session.up:
            self.scheduler.after(self.scheduler.between(50 * MS, 3 * SECOND), "watch", lambda: self._watch(session))
            return
        self.session = None
        self._event(SessionLost(session.session_id, "connection lost"))
        self.scheduler.after(self.scheduler.between(10 * MS, 3 * SECOND), "connect", self._connect)

    def _event(self, body: AnyMessage) -> None:
        if not self.dead:
            shell = self.incarnation.shell
            self.incarnation.input(f"← venue {body}", lambda: shell.driver_event(body))

    # ---- commands

    def _take(self, command: AnyMessage, from_queue: bool = False) -> None:
        if self.dead or not any(command is queued for queued in self._queue):
            return
        if self.incarnation.paused and not from_queue:  # a stopped process writes nothing
            self.scheduler.after(MS, f"take {command} (paused)", lambda: self._take(command))
            return
        self._queue = [queued for queued in self._queue if queued is not command]
        match command:
            case SubmitOrders():
                self._submit(command)
            case CancelVenueOrder():
                self._cancel(command)
            case ModifyOrder():
                self._modify(command)
            case QueryVenue():
                self._query(command)
            case _:
                raise AssertionError(f"the broker's driver got {command}")

    def _submit(self, command: SubmitOrders) -> None:
        ids = tuple(ticket.client_order_id for ticket in command.tickets)
        session = self.session
        reason = ""
        if session is None or session.session_id != command.session_id:
            reason = "another session"
        elif self.gateway.halted() and not ids[0].endswith("s"):
            reason = "halted"
        elif 0 < command.not_after_ns <= self.scheduler.now_ns:
            reason = "too late"
        if reason or session is None:
            self._event(SubmitNotSent(command.session_id, command.intent_id, ids, reason))
            return
        for ticket in command.tickets:
            self.gateway.written(self.incarnation, command, ticket)
            session.write(
                f"placeOrder {ticket.venue_order_id} {ticket.client_order_id}",
                lambda ticket=ticket: session.place(ticket),  # type: ignore[misc]
            )
        if self.scheduler.chance(self.gateway.rates().drop_on_submit):
            self.gateway.drop()
        written = SubmitWritten(session.session_id, command.intent_id, ids, self.scheduler.now_ns)
        self.scheduler.after(self.scheduler.between(1000, 2 * MS), "written", lambda: self._event(written))

    def _cancel(self, command: CancelVenueOrder) -> None:
        session, venue = self.session, self.gateway.venue
        if session is not None and session.session_id == command.session_id:
            order_id = command.venue_order_id
            session.write(f"cancelOrder {order_id}", lambda: venue.cancel(CLIENT_ID, order_id))

    def _modify(self, command: ModifyOrder) -> None:
        session, venue, ticket = self.session, self.gateway.venue, command.ticket
        if session is not None and session.session_id == command.session_id:
            order_id = ticket.venue_order_id
            session.write(
                f"placeOrder {order_id}, changed", lambda: venue.modify(CLIENT_ID, ticket, command.session_id)
            )

    def _query(self, command: QueryVenue) -> None:
        session = self.session
        if session is None or session.session_id != command.session_id or not session.up:
            return
        VenueQuery(self, session, command).begin()


class VenueQuery:
    """The parts of one answer, read one after the other while the venue goes on trading."""

    def __init__(self, driver: BrokerDriver, session: Session, command: QueryVenue) -> None:
        self.driver = driver
        self.session = session
        self.command = command
        self.left = ["positions"] if command.positions_only else list(PARTS)
        self.failed: list[str] = []
        self.open_orders: tuple[OrderReported, ...] = ()
        self.completed: tuple[OrderReported, ...] = ()
        self.executions: tuple[ExecutionReported, ...] = ()
        self.commissions: tuple[CommissionReported, ...] = ()
        self.positions: tuple[VenuePosition, ...] = ()
        self.begun_ns = driver.scheduler.now_ns

    def begin(self) -> None:
        """Ask for the next part."""
        scheduler = self.driver.scheduler
        scheduler.after(scheduler.between(MS, 40 * MS), "query part", self._part)

    def _part(self) -> None:
        driver, session = self.driver, self.session
        if driver.dead or driver.session is not session:
            return
        part = self.left.pop(0)
        if not session.up or driver.scheduler.chance(driver.gateway.rates().query_fails):
            self.failed.append(part)
        else:
            self._read(part)
        if self.left:
            self.begin()
            return
        answer = VenueRead(
            session_id=session.session_id,
            request_id=self.command.request_id,
            open_orders=self.open_orders,
            completed_orders=self.completed,
            executions=self.executions,
            commissions=self.commissions,
            positions=self.positions,
            taken_ns=driver.scheduler.now_ns,
            positions_only=self.command.positions_only,
            failed=tuple(self.failed),
            begun_ns=self.begun_ns,
        )
        delay_ns = driver.scheduler.between(MS, 20 * MS)
        driver.scheduler.after(delay_ns, "query answer", lambda: driver._event(answer))

    def _read(self, part: str) -> None:
        venue, session_id = self.driver.gateway.venue, self.session.session_id
        match part:
            case "open_orders":
                live = (order for order in venue.orders.values() if order.status not in DONE)
                self.open_orders = tuple(order_report(order, session_id) for order in live)
            case "completed_orders":
                done = (order for order in venue.orders.values() if order.status in DONE)
                self.completed = tuple(completed_report(order, session_id) for order in done)
            case "executions":
                self.executions = tuple(execution_report(fill, session_id) for fill in venue.fills)
                self.commissions = tuple(commission_report(fill, session_id) for fill in venue.fills)
            case _:
                self.positions = tuple(VenuePosition(ACCOUNT, s, qty, 0) for s, qty in venue.positions().items() if qty)


def order_report(order: VenueOrder, session_id: str = "") -> OrderReported:
    """An openOrder and orderStatus in one."""
    ticket = order.ticket
    return OrderReported(
        session_id=session_id,
        client_order_id=ticket.client_order_id,
        venue_order_id=ticket.venue_order_id,
        perm_id=order.perm_id,
        client_id=order.client_id,
        status=order.status,
        symbol=ticket.symbol,
        side=ticket.side.value,
        order_type=ticket.order_type.value,
        qty=order.qty,
        filled_qty=order.filled_qty,
        limit_px=ticket.limit_px,
        stop_px=ticket.stop_px,
        parent_order_id=ticket.parent_order_id,
        why_held=order.why_held,
        oca_group=order.oca_group,
        whole=True,
        oca_type=3 if order.oca_group else 0,
        time_in_force=ticket.time_in_force,
        outside_rth=ticket.outside_rth,
        trigger_method=ticket.trigger_method,
        account=ACCOUNT,
    )


def completed_report(order: VenueOrder, session_id: str) -> OrderReported:
    """A completedOrder: it carries neither order id nor client id."""
    ticket = order.ticket
    return OrderReported(
        session_id=session_id,
        client_order_id=ticket.client_order_id,
        venue_order_id=0,
        perm_id=order.perm_id,
        client_id=0,
        status=order.status,
        symbol=ticket.symbol,
        side=ticket.side.value,
        order_type=ticket.order_type.value,
        qty=order.qty,
        filled_qty=order.filled_qty,
        limit_px=ticket.limit_px,
        stop_px=ticket.stop_px,
        completed=True,
    )


def execution_report(fill: VenueFill, session_id: str = "") -> ExecutionReported:
    """An execDetails."""
    return ExecutionReported(
        session_id=session_id,
        exec_id=fill.exec_id,
        client_order_id=fill.ticket.client_order_id,
        venue_order_id=fill.ticket.venue_order_id,
        perm_id=fill.perm_id,
        client_id=fill.client_id,
        account=ACCOUNT,
        symbol=fill.ticket.symbol,
        side=Side(fill.ticket.side),
        last_qty=fill.qty,
        last_px=fill.px,
        cum_qty=fill.cum_qty,
        ts_event_ns=fill.ts_event_ns,
    )


def commission_report(fill: VenueFill, session_id: str = "") -> CommissionReported:
    """A commissionReport."""
    return CommissionReported(session_id=session_id, exec_id=fill.exec_id, commission=35_000_000, currency="USD")


def in_session(body: AnyMessage, session_id: str) -> AnyMessage:
    """Stamp a report with the session it is heard in."""
    match body:
        case OrderReported() | ExecutionReported() | CommissionReported() | VenueErrorReported():
            return type(body)(**{**{f: getattr(body, f) for f in body.__struct_fields__}, "session_id": session_id})
        case _:
            return body
