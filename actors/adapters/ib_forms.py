"""Translation between the engine's messages and ib_insync's objects; pure, without a session.

Doubles become Fixed8 by their shortest decimal, rounded half to even at 1e-8; the unset double and the unset int
mean "not said" and become 0 (or None where the message can say so). A double that is not finite or too large for
Fixed8, or a side that is none, raises FormError: a guess would be a price.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal

from ib_insync.contract import Contract
from ib_insync.objects import CommissionReport, Execution
from ib_insync.order import Order, OrderState
from ib_insync.util import UNSET_DOUBLE, UNSET_INTEGER

from actors.messages import (
    CommissionReported,
    ExecutionReported,
    OrderReported,
    OrderTicket,
    OrderType,
    Side,
    VenueHolding,
    VenuePosition,
)
from kernels.fixed8 import COUNT_MAX, SCALE

OCA_TYPE_REDUCE = 3
"""Reduce the rest of the group by what one fills, without overfill protection: what a bracket's children use."""

_SIDES = {"BOT": Side.BUY, "BUY": Side.BUY, "SLD": Side.SELL, "SELL": Side.SELL}


class FormError(ValueError):
    """The venue said something that cannot be; names it."""


def fixed8_of(value: float) -> int:
    """Return the Fixed8 count; 0 for the unset double. Raises FormError (not finite, too large)."""
    if value == UNSET_DOUBLE:
        return 0
    exact = Decimal(repr(float(value)))
    if not exact.is_finite():
        raise FormError(f"{value!r} is no amount")
    count = int(exact.scaleb(8).to_integral_value(ROUND_HALF_EVEN))
    if abs(count) > COUNT_MAX:
        raise FormError(f"{value!r} does not fit Fixed8")
    return count


def number_of(count: int) -> float:
    """Return what goes on the wire: an int where whole (IB writes `100`, not `100.0`), else the nearest double."""
    return count // SCALE if count % SCALE == 0 else count / SCALE


def order_of(ticket: OrderTicket, client_id: int) -> Order:
    """Return the complete order of a ticket. A price that its type does not use stays unset."""
    order = Order(
        orderId=ticket.venue_order_id,
        clientId=client_id,
        action=ticket.side.value,
        totalQuantity=number_of(ticket.qty),
        orderType=ticket.order_type.value,
        tif=ticket.time_in_force,
        account=ticket.account,
        orderRef=ticket.client_order_id,
        parentId=ticket.parent_order_id,
        transmit=ticket.transmit,
    )
    if ticket.order_type in (OrderType.LIMIT, OrderType.STOP_LIMIT):
        order.lmtPrice = number_of(ticket.limit_px)
    if ticket.order_type in (OrderType.STOP, OrderType.STOP_LIMIT):
        order.auxPrice = number_of(ticket.stop_px)
    order.outsideRth, order.triggerMethod = ticket.outside_rth, ticket.trigger_method
    if ticket.oca_group:
        order.ocaGroup, order.ocaType = ticket.oca_group, OCA_TYPE_REDUCE
    return order


def ticket_fault(ticket: OrderTicket) -> str:
    """Say why a ticket cannot be written as it is; empty if it can."""
    if ticket.venue_order_id <= 0 or not ticket.client_order_id:
        return f"order id {ticket.venue_order_id}, reference {ticket.client_order_id!r}"
    if not 0 < ticket.qty <= COUNT_MAX:
        return f"quantity {ticket.qty}"
    if ticket.order_type in (OrderType.LIMIT, OrderType.STOP_LIMIT) and ticket.limit_px <= 0:
        return f"limit price {ticket.limit_px}"
    if ticket.order_type in (OrderType.STOP, OrderType.STOP_LIMIT) and ticket.stop_px <= 0:
        return f"stop price {ticket.stop_px}"
    texts = (ticket.client_order_id, ticket.symbol, ticket.account, ticket.time_in_force, ticket.oca_group)
    # A NUL ends a field of the protocol: it would shift every field after it.
    return next((f"text {text!r}" for text in texts if "\0" in text or not text.isascii()), "")


def tickets_fault(tickets: Sequence[OrderTicket]) -> str:
    """Say why this family cannot be written; empty if it can."""
    if not tickets:
        return "no tickets"
    return next((f"{ticket.client_order_id}: {fault}" for ticket in tickets if (fault := ticket_fault(ticket))), "")


def open_order(session_id: str, order_id: int, contract: Contract, order: Order, state: OrderState) -> OrderReported:
    """What an openOrder says. It does not say what has filled."""
    return OrderReported(
        session_id=session_id,
        client_order_id=order.orderRef,
        venue_order_id=_id(order_id),
        perm_id=_id(order.permId),
        client_id=_id(order.clientId),
        status=state.status,
        symbol=contract.symbol,
        side=order.action,
        order_type=order.orderType,
        qty=fixed8_of(order.totalQuantity),
        limit_px=fixed8_of(order.lmtPrice),
        stop_px=fixed8_of(order.auxPrice),
        parent_order_id=_id(order.parentId),
        oca_group=order.ocaGroup,
        whole=True,
        oca_type=_id(order.ocaType),
        time_in_force=order.tif,
        outside_rth=order.outsideRth,
        trigger_method=_id(order.triggerMethod),
        account=order.account,
    )


def order_status(
    session_id: str,
    order_id: int,
    reference: str,
    status: str,
    filled: float,
    perm_id: int,
    parent_id: int,
    client_id: int,
    why_held: str,
) -> OrderReported:
    """What an orderStatus says; the reference is our own knowledge, the message has none."""
    return OrderReported(
        session_id=session_id,
        client_order_id=reference,
        venue_order_id=_id(order_id),
        perm_id=_id(perm_id),
        client_id=_id(client_id),
        status=status,
        filled_qty=fixed8_of(filled),
        parent_order_id=_id(parent_id),
        why_held=why_held,
    )


def completed_order(session_id: str, contract: Contract, order: Order, state: OrderState) -> OrderReported:
    """What a completedOrder says: no order id and no client id, but what has filled."""
    return OrderReported(
        session_id=session_id,
        client_order_id=order.orderRef,
        venue_order_id=0,
        perm_id=_id(order.permId),
        client_id=0,
        status=state.status,
        symbol=contract.symbol,
        side=order.action,
        order_type=order.orderType,
        # A done order is told with a total of 0: what filled and what was asked for are not the same.
        qty=fixed8_of(order.totalQuantity),
        filled_qty=fixed8_of(order.filledQuantity),
        limit_px=fixed8_of(order.lmtPrice),
        stop_px=fixed8_of(order.auxPrice),
        completed=True,
        time_in_force=order.tif,
    )


def execution(session_id: str, contract: Contract, told: Execution) -> ExecutionReported:
    """What an execDetails says."""
    if told.side not in _SIDES:
        raise FormError(f"execution {told.execId}: side {told.side!r}")
    return ExecutionReported(
        session_id=session_id,
        exec_id=told.execId,
        client_order_id=told.orderRef,
        venue_order_id=_id(told.orderId),
        perm_id=_id(told.permId),
        client_id=_id(told.clientId),
        account=told.acctNumber,
        symbol=contract.symbol,
        side=_SIDES[told.side],
        last_qty=fixed8_of(told.shares),
        last_px=fixed8_of(told.price),
        cum_qty=fixed8_of(told.cumQty),
        ts_event_ns=int(told.time.timestamp()) * 1_000_000_000,
    )


def commission(session_id: str, told: CommissionReport) -> CommissionReported:
    """What a commissionReport says; an opening fill has no realized profit.

    A commission that is left unset is none that was told: without a currency it counts as not told yet.
    """
    return CommissionReported(
        session_id=session_id,
        exec_id=told.execId,
        commission=fixed8_of(told.commission),
        currency="" if told.commission == UNSET_DOUBLE else told.currency,
        realized_pnl=None if told.realizedPNL == UNSET_DOUBLE else fixed8_of(told.realizedPNL),
    )


def position(session_id: str, account: str, contract: Contract, qty: float, average_cost: float) -> VenuePosition:
    """What a position message says; quantity 0 where it was closed. A position belongs to no session."""
    return VenuePosition(account, contract.symbol, fixed8_of(qty), fixed8_of(average_cost))


def holding(session_id: str, contract: Contract, qty: float, px: float) -> VenueHolding:
    """What a portfolio message says. It belongs to no session."""
    return VenueHolding(contract.symbol, fixed8_of(qty), fixed8_of(px))


def _id(number: int) -> int:
    return 0 if number == UNSET_INTEGER else int(number)
