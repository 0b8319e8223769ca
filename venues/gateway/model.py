"""What the gateway knows: tickets (what a client asked), orders (what was accepted), executions, and what it tells.

All are frozen; a change makes a new value. Quantities and prices are exact decimals. The same types are written to
the journal, so a new field needs a default.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

ZERO = Decimal(0)
STOP_TYPES = ("STP", "STP LMT", "TRAIL", "TRAIL LIMIT")
NEVER_NS = 1 << 62


class State(StrEnum):
    """Whether an accepted order may still change. IB has more words: `Order.status`."""

    WORKING = "Working"
    INACTIVE = "Inactive"
    """Refused by a destination, or killed: not on the book. It may be revived until it is done (`Order.is_done`)."""
    FILLED = "Filled"
    CANCELLED = "Cancelled"


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """One placeOrder as asked. `echo` holds the fields that the engine ignores and that openOrder repeats."""

    client_id: int
    order_id: int
    con_id: int
    symbol: str
    exchange: str
    action: str
    qty: Decimal
    order_type: str
    limit_px: Decimal | None = None
    stop_px: Decimal | None = None
    tif: str = "DAY"
    oca_group: str = ""
    oca_type: int = 0
    parent_id: int = 0
    order_ref: str = ""
    account: str = ""
    transmit: bool = True
    what_if: bool = False
    has_conditions: bool = False
    trigger_method: int = 0
    outside_rth: bool = False
    good_till_ns: int = 0
    """0: no such time; -1: it could not be read."""
    good_after_ns: int = 0
    trail_px: Decimal | None = None
    """Where a trailing stop starts; None: at its distance from the market."""
    trail_percent: Decimal | None = None
    limit_offset: Decimal | None = None
    """Of a TRAIL LIMIT: how far its limit lies behind its stop."""
    echo: dict[str, str] = {}

    @property
    def key(self) -> tuple[int, int]:
        return self.client_id, self.order_id

    @property
    def is_buy(self) -> bool:
        return self.action == "BUY"

    @property
    def is_stop(self) -> bool:
        return self.order_type in STOP_TYPES

    @property
    def is_trailing(self) -> bool:
        return self.order_type in ("TRAIL", "TRAIL LIMIT")

    @property
    def is_by_hand(self) -> bool:
        return self.order_id <= 0

    @property
    def is_unbound(self) -> bool:
        """Entered by hand and bound to no client's ids yet."""
        return self.order_id == 0


class Order(msgspec.Struct, frozen=True, kw_only=True, tag="order"):
    """An accepted order: it has a permId, lives in the journal and outlives its client's session."""

    perm_id: int
    ticket: Ticket
    qty: Decimal
    """The quantity that is asked now: an OCA group may have reduced what the ticket says."""
    parent_perm_id: int = 0
    oca_group: str = ""
    oca_type: int = 0
    state: State = State.WORKING
    held: bool = False
    """Waits for its parent to fill."""
    triggered: bool = False
    """A stop that was elected: it is now a market or limit order."""
    inert: bool = False
    """Fault: a stop that is never elected."""
    resting: bool = False
    """Was on the book, not marketable, at an earlier price: it fills at its limit, not at the touch."""
    filled: Decimal = ZERO
    notional: Decimal = ZERO
    last_px: Decimal = ZERO
    accepted_ns: int
    eligible_ns: int = 0
    """Not matched before this time (a delay that a fault or setting asked for)."""
    opens_ns: int = 0
    """Held until then: the market is closed, or goodAfterTime has not come; 0 once it has."""
    expires_ns: int = 0
    """Cancelled then; 0: never."""
    surfaces_ns: int = 0
    """Fault: accepted, and unknown to everyone and every question until then; 0 once it has surfaced."""
    hold: str = ""
    """Fault: held for this reason (`locate`: no shares to short) until it is released."""
    trail_px: Decimal | None = None
    """Where a trailing stop is now."""
    hits: int = 0
    """Consecutive quotes that touched the stop, for the double trigger methods."""
    done_ns: int = 0
    done_reason: str = ""

    @property
    def remaining(self) -> Decimal:
        return max(ZERO, self.qty - self.filled)

    @property
    def avg_px(self) -> Decimal:
        return (self.notional / self.filled).quantize(Decimal("1e-8")) if self.filled else ZERO

    @property
    def is_working(self) -> bool:
        return self.state is State.WORKING

    @property
    def is_done(self) -> bool:
        """True when it cannot change any more, save for a fill that comes late."""
        return self.state in (State.FILLED, State.CANCELLED) or (self.state is State.INACTIVE and self.done_ns > 0)

    @property
    def is_hidden(self) -> bool:
        return self.surfaces_ns > 0

    @property
    def stop_px(self) -> Decimal | None:
        """The price that elects it."""
        return self.trail_px if self.ticket.is_trailing else self.ticket.stop_px

    @property
    def limit_px(self) -> Decimal | None:
        """The price it never does worse than; None for an order that takes the market's."""
        if self.ticket.order_type != "TRAIL LIMIT":
            return self.ticket.limit_px if self.ticket.order_type in ("LMT", "STP LMT") else None
        if self.trail_px is None:
            return None
        behind = self.ticket.limit_offset
        if behind is None:
            start = self.ticket.trail_px or self.trail_px
            behind = abs(start - (self.ticket.limit_px or start))
        return self.trail_px + behind if self.ticket.is_buy else self.trail_px - behind

    @property
    def waits_for_trigger(self) -> bool:
        return self.ticket.is_stop and not self.triggered

    @property
    def status(self) -> str:
        """IB's word for it: PreSubmitted, Submitted, Inactive, Filled or Cancelled."""
        if not self.is_working:
            return self.state.value
        waits = self.held or self.waits_for_trigger or self.opens_ns or self.hold
        return "PreSubmitted" if waits else "Submitted"

    @property
    def why_held(self) -> str:
        if not self.is_working:
            return ""
        reasons = ("child", self.held), ("trigger", self.waits_for_trigger), (self.hold, bool(self.hold))
        return ",".join(word for word, holds in reasons if holds)


class Execution(msgspec.Struct, frozen=True, kw_only=True, tag="execution"):
    """One fill. `realized_pnl` is None for a fill that only opened or added; commissions are inside the costs."""

    exec_id: str
    perm_id: int
    client_id: int
    order_id: int
    con_id: int
    symbol: str
    account: str
    exchange: str
    is_buy: bool
    qty: Decimal
    px: Decimal
    cum_qty: Decimal
    avg_px: Decimal
    commission: Decimal
    realized_pnl: Decimal | None
    order_ref: str
    time_ns: int
    sec_type: str = "STK"
    multiplier: Decimal = Decimal(1)

    @property
    def root(self) -> str:
        """What a fill and its corrections have in common: the execId before its last dot."""
        return self.exec_id.rpartition(".")[0]


class IdsReset(msgspec.Struct, frozen=True, kw_only=True, tag="ids_reset"):
    """The next valid id of a client went back to `next_id`, and done orders from there on were forgotten by id."""

    client_id: int
    next_id: int


class OrdersLost(msgspec.Struct, frozen=True, kw_only=True, tag="orders_lost"):
    """A restart forgot these orders: they never were, and their ids are free."""

    perm_ids: tuple[int, ...]


class ClockSet(msgspec.Struct, frozen=True, kw_only=True, tag="clock"):
    """The gateway's clock runs this far ahead of the machine's."""

    ahead_ns: int


class PriceSet(msgspec.Struct, frozen=True, kw_only=True, tag="price"):
    """Where the price of something is; a restart goes on from there. `symbol` is the local symbol."""

    symbol: str
    con_id: int = 0
    bid: Decimal
    ask: Decimal
    last: Decimal


Record = Order | Execution | IdsReset | OrdersLost | ClockSet | PriceSet
"""One line of the journal."""


class OrderTold(msgspec.Struct, frozen=True):
    """Send openOrder and then orderStatus; `status` differs from the order's own at a first acknowledgement."""

    order: Order
    status: str
    why_held: str


class StatusTold(msgspec.Struct, frozen=True):
    """Send orderStatus alone, as cancels do."""

    order: Order
    status: str


class ExecutionTold(msgspec.Struct, frozen=True):
    """Send execDetails, and tell those who watch positions."""

    execution: Execution


class CommissionTold(msgspec.Struct, frozen=True):
    """Send the commissionReport of a fill."""

    execution: Execution


class ErrorTold(msgspec.Struct, frozen=True):
    """Send an error about an order, or about what was not accepted as one."""

    client_id: int
    order_id: int
    code: int
    text: str


class WhatIfTold(msgspec.Struct, frozen=True):
    """The answer to an order that only asked what it would cost: margin and equity as they are, and their change."""

    ticket: Ticket
    margin_before: Decimal
    margin_change: Decimal
    equity_before: Decimal
    commission: Decimal


Notice = OrderTold | StatusTold | ExecutionTold | CommissionTold | ErrorTold | WhatIfTold


def owner_of(notice: Notice) -> int:
    """Return the client id that a notice is for: only the client that placed an order is told of it."""
    match notice:
        case OrderTold(order=order) | StatusTold(order=order):
            return order.ticket.client_id
        case ExecutionTold(execution=execution) | CommissionTold(execution=execution):
            return execution.client_id
        case ErrorTold(client_id=client_id):
            return client_id
        case WhatIfTold(ticket=ticket):
            return ticket.client_id
