"""Frames that the gateway sends, made from what it knows. Pure; each function returns the fields of one message."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from venues.gateway import contracts, layout
from venues.gateway.account import Position
from venues.gateway.contracts import DerivedClass, Instrument
from venues.gateway.history import Bar, bar_time
from venues.gateway.hours import EXCHANGE_ZONE, time_text
from venues.gateway.messages import COMPLETED_ORDER, CONTRACT_11, CONTRACT_DETAILS, EXECUTION, OPEN_ORDER
from venues.gateway.model import Execution, Order, StatusTold, Ticket, WhatIfTold
from venues.gateway.wire import UNSET_DOUBLE, flag, text_of

Fields = Sequence[str]
_UNSET_LONG = "9223372036854775807"
_TEXT_PRICE_ZERO = "0.0"


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


def _contract_values(stock: Instrument, exchange: str) -> dict[str, str]:
    values = {
        "conId": str(stock.con_id),
        "symbol": stock.symbol,
        "secType": stock.sec_type,
        "exchange": exchange,
        "currency": "USD",
        "localSymbol": stock.local_symbol,
        "tradingClass": stock.trading_class,
    }
    if stock.is_derived:
        values |= {"expiry": stock.expiry, "multiplier": stock.multiplier_text}
    if stock.right:
        values |= {"strike": text_of(stock.strike), "right": stock.right}
    return values


def _ticket_values(ticket: Ticket, stock: Instrument, account: str) -> dict[str, str]:
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


def _order_values(order: Order, stock: Instrument, account: str) -> dict[str, str]:
    return {
        **_ticket_values(order.ticket, stock, account),
        "totalQuantity": text_of(order.qty),
        "permId": str(order.perm_id),
        "ocaGroup": order.oca_group,
        "ocaType": str(order.oca_type or 3),
        **_trail_values(order),
    }


def _trail_values(order: Order) -> dict[str, str]:
    if not order.ticket.is_trailing:
        return {}
    names = ("trailStopPrice", "adjustedTrailStopPrice")
    values = {} if order.trail_px is None else dict.fromkeys(names, text_of(order.trail_px))
    if order.ticket.order_type == "TRAIL LIMIT":
        values["lmtPrice"] = text_of(order.limit_px, _TEXT_PRICE_ZERO)
    return values


def open_order(version: int, order: Order, stock: Instrument, account: str, status: str) -> Fields:
    """openOrder (5)."""
    values = {**_order_values(order, stock, account), "status": status}
    return ["5", *layout.write(OPEN_ORDER, version, values)]


def completed_order(version: int, order: Order, stock: Instrument, account: str) -> Fields:
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


def what_if(version: int, told: WhatIfTold, stock: Instrument, account: str) -> Fields:
    """The openOrder (5) that answers a what-if order: margins, equity and commission."""
    margins = told.margin_before, told.margin_change, told.margin_before + told.margin_change
    equities = told.equity_before, -told.commission, told.equity_before - told.commission
    values = {
        **_ticket_values(told.ticket, stock, account),
        "whatIf": "1",
        "status": "PreSubmitted",
        "commission": text_of(told.commission),
        "commissionCurrency": "USD",
    }
    for kind, amounts in (("initMargin", margins), ("maintMargin", margins), ("equityWithLoan", equities)):
        for when, amount in zip(("Before", "Change", "After"), amounts, strict=True):
            values[kind + when] = text_of(amount)
    return ["5", *layout.write(OPEN_ORDER, version, values)]


def execution(version: int, fill: Execution, stock: Instrument, req_id: int) -> Fields:
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


def contract_details(
    version: int, stock: Instrument, req_id: int, hours: tuple[str, str], under: Instrument | None
) -> Fields:
    """contractData (10); `hours`: trading and liquid hours, `under`: what it is derived from."""
    home = "" if stock.is_derived else stock.exchange
    is_routed = stock.sec_type in ("STK", "OPT")
    values = {
        **_contract_values(stock, "SMART" if is_routed else stock.exchange),
        "lastTrade": stock.expiry,
        "reqId": str(req_id),
        "marketName": stock.trading_class,
        "minTick": text_of(stock.min_tick),
        "orderTypes": contracts.ORDER_TYPES if stock.is_tradable else "",
        "validExchanges": ",".join(dict.fromkeys(["SMART", stock.exchange]))
        if stock.sec_type in ("STK", "OPT")
        else home,
        "longName": stock.long_name,
        "primaryExchange": home,
        "contractMonth": stock.expiry[:6],
        "industry": stock.industry,
        "timeZoneId": EXCHANGE_ZONE,
        "tradingHours": hours[0],
        "liquidHours": hours[1],
        "secIds": "0",
        "marketRuleIds": contracts.MARKET_RULE_ID,
        "realExpirationDate": stock.expiry,
        "stockType": stock.stock_type,
    }
    if under is not None:
        values |= {"underConId": str(under.con_id), "underSymbol": under.symbol, "underSecType": under.sec_type}
    return ["10", *layout.write(CONTRACT_DETAILS, version, values)]


def symbol_samples(version: int, req_id: int, found: Sequence[tuple[Instrument, list[str]]]) -> Fields:
    """symbolSamples (79)."""
    fields = ["79", str(req_id), str(len(found))]
    for spot, kinds in found:
        fields += [str(spot.con_id), spot.symbol, spot.sec_type, spot.exchange, "USD", str(len(kinds)), *kinds]
        if version >= 176:
            fields += [spot.long_name, ""]
    return fields


def option_params(
    req_id: int,
    exchange: str,
    under_con_id: int,
    listed: DerivedClass,
    expiries: Sequence[date],
    strikes: Sequence[Decimal],
) -> Fields:
    """securityDefinitionOptionParameter (75) of one class at one exchange."""
    return [
        *("75", str(req_id), exchange, str(under_con_id), listed.name, text_of(listed.multiplier)),
        *(str(len(expiries)), *(f"{day:%Y%m%d}" for day in expiries)),
        *(str(len(strikes)), *(text_of(strike) for strike in strikes)),
    ]


def _held_values(stock: Instrument) -> dict[str, str]:
    """A contract as positions tell it: with its exchange for stocks only, and a strike of 0.0."""
    return {"strike": "0.0", **_contract_values(stock, "" if stock.is_derived else stock.exchange)}


_POSITION = tuple(field.name for field in CONTRACT_11)


def position(held: Position, stock: Instrument, account: str) -> Fields:
    """position (61); a flat one is told with quantity 0, which is how a client learns of it."""
    contract = _held_values(stock)
    texts = [contract.get(name, "") for name in _POSITION]
    return ["61", "3", account, *texts, text_of(held.qty), text_of(held.avg_cost)]


def position_multi(req_id: int, held: Position, stock: Instrument, account: str, model: str) -> Fields:
    """positionMulti (71)."""
    return ["71", "1", str(req_id), *position(held, stock, account)[2:], model]


def portfolio(held: Position, stock: Instrument, account: str, last: Decimal) -> Fields:
    """portfolioValue (7), valued at the last price."""
    contract = _held_values(stock)
    value = held.qty * last * held.multiplier
    names = ("conId", "symbol", "secType", "expiry", "strike", "right", "multiplier")
    return [
        *("7", "8", *(contract.get(name, "") for name in names), "" if stock.is_derived else stock.exchange, "USD"),
        *(stock.local_symbol, stock.trading_class, text_of(held.qty), text_of(last), text_of(value)),
        *(text_of(held.avg_cost), text_of(value - held.cost), text_of(held.realized_pnl), account),
    ]


def historical_data(req_id: int, start: str, end: str, bars: Sequence[Bar], format_date: int) -> Fields:
    """historicalData (17)."""
    fields = ["17", str(req_id), start, end, str(len(bars))]
    for bar in bars:
        fields += [bar_time(bar, format_date), *(text_of(px) for px in (bar.open, bar.high, bar.low, bar.close))]
        fields += [str(bar.volume), text_of(bar.wap), str(bar.count)]
    return fields


def tick_price(req_id: int, kind: int, px: Decimal, size: int) -> Fields:
    """tickPrice (1) of an IB tick type; bid and ask can be traded on, others not."""
    return ["1", "6", str(req_id), str(kind), text_of(px), str(size), flag(kind in (1, 2, 66, 67))]


def tick_size(req_id: int, kind: int, size: int) -> Fields:
    """tickSize (2) of an IB tick type."""
    return ["2", "6", str(req_id), str(kind), str(size)]


def option_computation(req_id: int, kind: int, greeks: Sequence[float]) -> Fields:
    """tickOptionComputation (21): volatility, delta, price, dividends, gamma, vega, theta, underlying price."""
    return ["21", str(req_id), str(kind), "0", *(format(value, ".10g") for value in greeks)]
