"""Frames that the gateway sends, made from what it knows. Pure; each function returns the fields of one message."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from venues.gateway import contracts, layout
from venues.gateway.account import Position
from venues.gateway.contracts import Stock
from venues.gateway.messages import COMPLETED_ORDER, CONTRACT_DETAILS, EXECUTION, OPEN_ORDER
from venues.gateway.model import Execution, Order, StatusTold, Ticket, WhatIfTold
from venues.gateway.wire import UNSET_DOUBLE, flag, text_of

Fields = Sequence[str]
EXCHANGE_ZONE = "US/Eastern"
_ZONE = ZoneInfo(EXCHANGE_ZONE)
_UNSET_LONG = "9223372036854775807"
_TEXT_PRICE_ZERO = "0.0"


def time_text(time_ns: int) -> str:
    """IB's form of a time, in the exchange's zone, whole seconds."""
    moment = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).astimezone(_ZONE)
    return f"{moment:%Y%m%d %H:%M:%S} {EXCHANGE_ZONE}"


def error(version: int, req_id: int, code: int, text: str) -> Fields:
    """error (4); from version 166 on with an empty advanced reject text."""
    fields = ["4", "2", str(req_id), str(code), text]
    return [*fields, ""] if version >= 166 else fields


def order_status(order: Order, status: str, why_held: str) -> Fields:
    """orderStatus (3) with a status that may differ from the order's own."""
    ticket = order.ticket
    return [
        "3",
        str(ticket.order_id),
        status,
        text_of(order.filled),
        text_of(order.remaining),
        text_of(order.avg_px),
        str(order.perm_id),
        str(ticket.parent_id),
        text_of(order.last_px),
        str(ticket.client_id),
        why_held,
        "0",
    ]


def status_told(told: StatusTold) -> Fields:
    """The orderStatus (3) of a cancel on its way or done."""
    return order_status(told.order, told.status, "" if told.status == "Cancelled" else told.order.why_held)


def _contract_values(stock: Stock, exchange: str) -> dict[str, str]:
    return {
        "conId": str(stock.con_id),
        "symbol": stock.symbol,
        "secType": "STK",
        "exchange": exchange,
        "currency": "USD",
        "localSymbol": stock.symbol,
        "tradingClass": stock.trading_class,
    }


def _ticket_values(ticket: Ticket, stock: Stock, account: str) -> dict[str, str]:
    return {
        **ticket.echo,
        **_contract_values(stock, ticket.exchange or "SMART"),
        "orderId": str(ticket.order_id),
        "clientId": str(ticket.client_id),
        "action": ticket.action,
        "totalQuantity": text_of(ticket.qty),
        "orderType": ticket.order_type,
        "lmtPrice": _px_text(ticket.limit_px),
        "auxPrice": _px_text(ticket.stop_px),
        "tif": ticket.tif or "DAY",
        "account": account,
        "orderRef": ticket.order_ref,
        "parentId": str(ticket.parent_id),
    }


def _px_text(px: Decimal | None) -> str:
    return _TEXT_PRICE_ZERO if px is None else text_of(px)


def _order_values(order: Order, stock: Stock, account: str) -> dict[str, str]:
    return {
        **_ticket_values(order.ticket, stock, account),
        "totalQuantity": text_of(order.qty),
        "permId": str(order.perm_id),
        "ocaGroup": order.oca_group,
        "ocaType": str(order.oca_type or 3),
    }


def open_order(version: int, order: Order, stock: Stock, account: str, status: str) -> Fields:
    """openOrder (5)."""
    values = {**_order_values(order, stock, account), "status": status}
    return ["5", *layout.write(OPEN_ORDER, version, values)]


def completed_order(version: int, order: Order, stock: Stock, account: str) -> Fields:
    """completedOrder (101) of an order that is done."""
    values = {
        **_order_values(order, stock, account),
        "status": order.status,
        "filledQuantity": text_of(order.filled),
        "parentPermId": str(order.parent_perm_id) if order.parent_perm_id else _UNSET_LONG,
        "shareholder": "Not an insider or substantial shareholder",
        "completedTime": time_text(order.done_ns),
        "completedStatus": order.done_reason,
    }
    return ["101", *layout.write(COMPLETED_ORDER, version, values)]


def what_if(version: int, told: WhatIfTold, stock: Stock, account: str) -> Fields:
    """The openOrder (5) that answers a what-if order: margins and commission."""
    margin, commission = text_of(told.margin), text_of(told.commission)
    names = "initMarginBefore maintMarginBefore equityWithLoanBefore equityWithLoanChange equityWithLoanAfter"
    values = {
        **_ticket_values(told.ticket, stock, account),
        **dict.fromkeys(names.split(), "0"),
        "whatIf": "1",
        "status": "PreSubmitted",
        "initMarginChange": margin,
        "maintMarginChange": margin,
        "initMarginAfter": margin,
        "maintMarginAfter": margin,
        "commission": commission,
        "commissionCurrency": "USD",
    }
    return ["5", *layout.write(OPEN_ORDER, version, values)]


def execution(version: int, fill: Execution, stock: Stock, req_id: int) -> Fields:
    """execDetails (11); `req_id` is -1 for a live fill."""
    values = {
        **_contract_values(stock, fill.exchange),
        "reqId": str(req_id),
        "orderId": str(fill.order_id),
        "execId": fill.exec_id,
        "time": time_text(fill.time_ns),
        "account": fill.account,
        "exchange": fill.exchange,
        "side": "BOT" if fill.is_buy else "SLD",
        "shares": text_of(fill.qty),
        "price": text_of(fill.px),
        "permId": str(fill.perm_id),
        "clientId": str(fill.client_id),
        "cumQty": text_of(fill.cum_qty),
        "avgPrice": text_of(fill.avg_px),
        "orderRef": fill.order_ref,
    }
    return ["11", *layout.write(EXECUTION, version, values)]


def commission(fill: Execution) -> Fields:
    """commissionReport (59); a fill that closed nothing has an unset profit."""
    return ["59", "1", fill.exec_id, text_of(fill.commission), "USD", text_of(fill.realized_pnl), UNSET_DOUBLE, ""]


def contract_details(version: int, stock: Stock, req_id: int) -> Fields:
    """contractData (10) of a stock."""
    values = {
        **_contract_values(stock, "SMART"),
        "reqId": str(req_id),
        "marketName": stock.trading_class,
        "minTick": text_of(stock.min_tick),
        "orderTypes": contracts.ORDER_TYPES,
        "validExchanges": f"SMART,{stock.primary_exchange}",
        "longName": stock.long_name,
        "primaryExchange": stock.primary_exchange,
        "industry": stock.industry,
        "timeZoneId": EXCHANGE_ZONE,
        "secIds": "0",
        "marketRuleIds": contracts.MARKET_RULE_ID,
        "stockType": stock.stock_type,
    }
    return ["10", *layout.write(CONTRACT_DETAILS, version, values)]


def position(held: Position, stock: Stock, account: str) -> Fields:
    """position (61); a flat one is told with quantity 0, which is how a client learns of it."""
    contract = _contract_values(stock, stock.primary_exchange)
    names = ("conId", "symbol", "secType", "", "strike", "", "", "exchange", "currency", "localSymbol", "tradingClass")
    texts = [contract.get(name, "0.0" if name == "strike" else "") for name in names]
    return ["61", "3", account, *texts, text_of(held.qty), text_of(held.avg_cost)]


def portfolio(held: Position, stock: Stock, account: str, last: Decimal) -> Fields:
    """portfolioValue (7), valued at the last price."""
    contract = _contract_values(stock, "")
    value = held.qty * last
    return [
        *("7", "8", contract["conId"], stock.symbol, "STK", "", "0.0", "", "", stock.primary_exchange, "USD"),
        *(stock.symbol, stock.trading_class, text_of(held.qty), text_of(last), text_of(value)),
        *(text_of(held.avg_cost), text_of(value - held.cost), text_of(held.realized_pnl), account),
    ]


def tick_price(req_id: int, kind: int, px: Decimal, size: int) -> Fields:
    """tickPrice (1) of an IB tick type; bid and ask can be traded on, others not."""
    return ["1", "6", str(req_id), str(kind), text_of(px), str(size), flag(kind in (1, 2))]


def tick_size(req_id: int, kind: int, size: int) -> Fields:
    """tickSize (2) of an IB tick type."""
    return ["2", "6", str(req_id), str(kind), str(size)]
