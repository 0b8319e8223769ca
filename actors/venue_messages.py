"""Messages between the broker actor and its driver: commands to a venue, and a venue's claims, which are reports."""

from __future__ import annotations

import msgspec

from actors.account_messages import AccountFigures
from actors.message import Message
from actors.order_terms import OrderType, Side


class OrderTicket(msgspec.Struct, frozen=True, gc=False):
    """One order, complete, as it goes to the venue. `parent_order_id` 0: no parent."""

    client_order_id: str
    venue_order_id: int
    parent_order_id: int
    symbol: str
    side: Side
    order_type: OrderType
    qty: int
    limit_px: int
    stop_px: int
    account: str
    transmit: bool
    time_in_force: str = "GTC"
    oca_group: str = ""
    outside_rth: bool = False
    trigger_method: int = 0


class SubmitOrders(Message, frozen=True):
    """Write these orders, in this order, in this session and no other. Never repeated blindly.

    From `not_after_ns` on (0: no end) not one byte may leave: a lease that opened the gate, or the intent, is over
    by then, however long the command lay between decision and socket. `reference_px`: what an entry was sized at, for
    the guard at the socket that holds it against the market (0: not known).
    """

    intent_id: str
    session_id: str
    tickets: tuple[OrderTicket, ...]
    resend: bool = False
    not_after_ns: int = 0
    reference_px: int = 0


class ModifyOrder(Message, frozen=True):
    """Give an open order of ours these terms, under its own order id. Only an openOrder shows that it has them.

    The ticket names no parent: one that has filled is not found any more (135). Refused before the write: an error
    report of that order says so.
    """

    session_id: str
    ticket: OrderTicket


class CancelVenueOrder(Message, frozen=True):
    """Ask the venue to cancel; only its reports tell whether it did."""

    session_id: str
    client_order_id: str
    venue_order_id: int


class QueryVenue(Message, frozen=True):
    """Read open orders, completed orders, executions and positions, all of them, and report them together."""

    session_id: str
    request_id: str
    positions_only: bool = False


class SessionOpened(Message, frozen=True):
    """Connected and read. `session_id` is unique for ever; order ids are drawn from `next_order_id` on.

    `venue_next_order_id` is what the venue itself said, where a driver has raised the other above ids that it has
    seen in use: a roll-back shows only in the venue's own word. 0: it is `next_order_id`.
    """

    session_id: str
    account: str
    client_id: int
    next_order_id: int
    venue_next_order_id: int = 0


class SessionLost(Message, frozen=True):
    """The session is over. Nothing sent in it and not yet reported is known to have failed."""

    session_id: str
    reason: str


class SubmitWritten(Message, frozen=True):
    """The bytes of these orders were handed to the socket (which is not proof of arrival).

    `degraded` names a guard that had to let them through by less than it should have.
    """

    session_id: str
    intent_id: str
    client_order_ids: tuple[str, ...]
    written_ns: int
    degraded: str = ""


class SubmitNotSent(Message, frozen=True):
    """Known for certain: not one byte of these orders left (halted, another session, refused before the write)."""

    session_id: str
    intent_id: str
    client_order_ids: tuple[str, ...]
    reason: str


class OrderReported(Message, frozen=True):
    """What openOrder, orderStatus or completedOrder said of one order. Zero or empty: not said.

    `whole`: an openOrder, which says every term of the order; there zero and empty are said too.
    """

    session_id: str
    client_order_id: str
    venue_order_id: int
    perm_id: int
    client_id: int
    status: str
    symbol: str = ""
    side: str = ""
    order_type: str = ""
    qty: int = 0
    filled_qty: int = 0
    limit_px: int = 0
    stop_px: int = 0
    parent_order_id: int = 0
    why_held: str = ""
    completed: bool = False
    oca_group: str = ""
    whole: bool = False
    oca_type: int = 0
    time_in_force: str = ""
    outside_rth: bool = False
    trigger_method: int = 0
    account: str = ""


class ExecutionReported(Message, frozen=True):
    """One execution. `exec_id` whole; a correction shares all before its last dot and has a higher suffix."""

    session_id: str
    exec_id: str
    client_order_id: str
    venue_order_id: int
    perm_id: int
    client_id: int
    account: str
    symbol: str
    side: Side
    last_qty: int
    last_px: int
    cum_qty: int
    ts_event_ns: int


class CommissionReported(Message, frozen=True):
    """Commission of one execution; `realized_pnl` is None where the venue left it unset."""

    session_id: str
    exec_id: str
    commission: int
    currency: str
    realized_pnl: int | None = None


class VenueErrorReported(Message, frozen=True):
    """An error callback. Evidence only: an error code never changes an order's state by itself."""

    session_id: str
    venue_order_id: int
    code: int
    text: str


class VenuePosition(msgspec.Struct, frozen=True, gc=False):
    """A position as the venue states it, or as we do: then with the `commission` that was ever paid on it."""

    account: str
    symbol: str
    qty: int
    avg_px: int
    commission: int = 0


class VenueRead(Message, frozen=True):
    """Answer to `QueryVenue`. `failed` names the requests that were not answered: then absence proves nothing.

    `begun_ns`: before its first request was written, by our clock (0: not known); `taken_ns`: after the last answer.
    `account` None: its values were not told whole. That alone is no failure: nothing but money hangs on it.
    """

    session_id: str
    request_id: str
    open_orders: tuple[OrderReported, ...]
    completed_orders: tuple[OrderReported, ...]
    executions: tuple[ExecutionReported, ...]
    commissions: tuple[CommissionReported, ...]
    positions: tuple[VenuePosition, ...]
    taken_ns: int
    positions_only: bool = False
    failed: tuple[str, ...] = ()
    begun_ns: int = 0
    account: AccountFigures | None = None
