"""A client's request, answered: everything that is not placing an order. No I/O; replies go to the outbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from venues.gateway import replies, reports
from venues.gateway.checks import NO_CONTRACT
from venues.gateway.core import GatewayCore
from venues.gateway.requests import (
    Cancel,
    CancelOrder,
    PlaceOrder,
    Plain,
    ReqAccountSummary,
    ReqAccountUpdates,
    ReqAccountUpdatesMulti,
    ReqContractDetails,
    ReqExecutions,
    ReqHistoricalData,
    ReqMktData,
    ReqOpenOrders,
    ReqPnl,
    Request,
    Unknown,
    read_request,
)
from venues.gateway.session import Client
from venues.gateway.wire import WireError, text_of

MARKET_DATA_MAX = 100
"""Lines of market data a session may hold, as IB allows by default; error 101 beyond it."""
SUBSCRIPTIONS_MAX = 100
"""Account, summary and profit subscriptions a session may hold; error 322 beyond it."""
COMPLETED_REPORTED_MAX = 1_000


def handle(core: GatewayCore, client: Client, texts: list[str]) -> None:
    """Answer one frame. What cannot be read is answered with error 320 and counted; the session goes on."""
    try:
        request = read_request(texts, client.version, client.client_id)
        if isinstance(request, PlaceOrder) or not core.faults.swallows(client.client_id, int(texts[0])):
            answer(core, client, request)
    except WireError as error:
        core.counters["unreadable_requests"] += 1
        req_id = _id_of(texts)
        core.send_error(client, req_id, 320, f"Server error when reading an API client request. {error}")


def _id_of(texts: list[str]) -> int:
    """Return the order id of an unreadable placeOrder, so that its client learns which one; else -1."""
    if len(texts) > 1 and texts[0] == "3" and texts[1].isascii() and texts[1].isdigit():
        return int(texts[1])
    return -1


def answer(core: GatewayCore, client: Client, request: Request) -> None:
    """Carry out one request; what it replies waits in the outbox. Raises WireError for a filter it cannot read."""
    match request:
        case PlaceOrder():
            core.place(client, request)
        case CancelOrder(order_id=order_id):
            core.engine.cancel(client.client_id, order_id, core.clock_ns())
            core.settle()
        case ReqOpenOrders(all_clients=all_clients):
            _open_orders(core, client, all_clients)
        case ReqExecutions():
            _executions(core, client, request)
        case ReqContractDetails(req_id=req_id, wanted=wanted):
            stock = core.listed.find(wanted)
            if stock is None:
                core.send_error(client, req_id, *NO_CONTRACT)
                return
            client.send(list(replies.contract_details(client.version, stock, req_id)))
            client.send(["52", "1", str(req_id)])
        case ReqMktData():
            _market_data(core, client, request)
        case ReqHistoricalData(req_id=req_id):
            text = "Historical Market Data Service error message:HMDS query returned no data"
            core.send_error(client, req_id, 162, text)
        case ReqAccountUpdates():
            _account_updates(core, client, request)
        case ReqAccountUpdatesMulti() | ReqAccountSummary() | ReqPnl() if _is_full(client, request.req_id):
            core.send_error(client, request.req_id, 322, "Error processing request.: too many subscriptions")
        case ReqAccountUpdatesMulti(req_id=req_id, model=model):
            for key, value, currency in _values(core):
                client.send(["73", "1", str(req_id), core.settings.account, model, key, value, currency])
            client.send(["74", "1", str(req_id)])
            client.account_multi[req_id] = model
        case ReqAccountSummary(req_id=req_id, tags=tags):
            for key, value, currency in _values(core):
                if key in tags or "All" in tags:
                    client.send(["63", "1", str(req_id), core.settings.account, key, value, currency])
            client.send(["64", "1", str(req_id)])
            client.summaries[req_id] = tags
        case ReqPnl(req_id=req_id):
            client.pnl.add(req_id)
            client.send(list(reports.pnl_fields(req_id, core.account, core.engine.quotes)))
        case Cancel(what=what, req_id=req_id):
            _CANCELS[what](client, req_id)
        case Plain(what=what):
            _PLAIN[what](core, client)
        case Unknown(message_id=message_id):
            core.counters["unknown_requests"] += 1
            core.send_error(client, -1, 505, f"Fatal Error: Unknown message id.: {message_id}")
        case _:
            assert_never(request)


def _is_full(client: Client, req_id: int) -> bool:
    held = client.account_multi.keys() | client.summaries.keys() | client.pnl
    return len(held) >= SUBSCRIPTIONS_MAX and req_id not in held


def _values(core: GatewayCore) -> list[tuple[str, str, str]]:
    return reports.account_values(core.account, core.engine.quotes, core.settings.currency)


def _open_orders(core: GatewayCore, client: Client, all_clients: bool) -> None:
    for order in core.store.working_orders():
        if all_clients or order.ticket.client_id == client.client_id:
            stock = core.listing.by_con_id[order.ticket.con_id]
            account = core.settings.account
            client.send(list(replies.open_order(client.version, order, stock, account, order.status)))
            client.send(list(replies.order_status(order, order.status, order.why_held)))
    client.send(["53", "1"])


def _completed_orders(core: GatewayCore, client: Client) -> None:
    done = [order for order in core.store.orders.values() if not order.is_working]
    done.sort(key=lambda order: order.done_ns)
    for order in done[-COMPLETED_REPORTED_MAX:]:
        stock = core.listing.by_con_id[order.ticket.con_id]
        client.send(list(replies.completed_order(client.version, order, stock, core.settings.account)))
    client.send(["102"])


def _executions(core: GatewayCore, client: Client, request: ReqExecutions) -> None:
    fills = core.store.executions.values()
    for fill in reports.executions_for(request, fills, core.clock_ns()):
        stock = core.listing.by_con_id[fill.con_id]
        client.send(list(replies.execution(client.version, fill, stock, request.req_id)))
        client.send(list(replies.commission(fill)))
    client.send(["55", "1", str(request.req_id)])


def _market_data(core: GatewayCore, client: Client, request: ReqMktData) -> None:
    stock = core.listed.find(request.wanted)
    req_id = request.req_id
    if stock is None:
        core.send_error(client, req_id, *NO_CONTRACT)
        return
    if len(client.market_data) >= MARKET_DATA_MAX and req_id not in client.market_data:
        core.send_error(client, req_id, 101, "Max number of tickers has been reached")
        return
    client.send(["58", "1", str(req_id), "1"])
    client.send(["81", str(req_id), text_of(stock.min_tick), "9c0001", "3"])
    market = core.market
    day = ((14, market.opens), (6, market.highs), (7, market.lows), (9, market.opens))
    core.send_ticks(client, req_id, market.quotes[stock.symbol])
    for kind, pxs in day:
        client.send(list(replies.tick_price(req_id, kind, pxs[stock.symbol], 0)))
    client.send(["46", "6", str(req_id), "45", str(core.clock_ns() // 1_000_000_000)])
    if request.snapshot:
        client.told_quotes.pop(req_id, None)
        client.send(["57", "1", str(req_id)])
    else:
        client.market_data[req_id] = stock.symbol


def _account_updates(core: GatewayCore, client: Client, request: ReqAccountUpdates) -> None:
    client.account_updates = request.subscribe
    if not request.subscribe:
        return
    account = core.settings.account
    for key, value, currency in _values(core):
        client.send(["6", "2", key, value, currency, account])
    for con_id, held in core.account.positions.items():
        if held.qty:
            core.send_portfolio(client, con_id)
    client.send(["8", "1", replies.time_text(core.clock_ns())[9:14]])
    client.send(["54", "1", account])


def _positions(core: GatewayCore, client: Client) -> None:
    for con_id, held in core.account.positions.items():
        if held.qty:
            core.send_position(client, con_id)
    client.send(["62", "1"])
    client.positions = True


def _cancel_positions(core: GatewayCore, client: Client) -> None:
    client.positions = False


def _global_cancel(core: GatewayCore, client: Client) -> None:
    core.engine.cancel_all(core.clock_ns())
    core.settle()


def _ids(core: GatewayCore, client: Client) -> None:
    client.send(["9", "1", str(core.engine.next_order_id(client.client_id))])


def _current_time(core: GatewayCore, client: Client) -> None:
    client.send(["49", "1", str(core.clock_ns() // 1_000_000_000)])


def _managed_accounts(core: GatewayCore, client: Client) -> None:
    client.send(["15", "1", core.settings.account])


def _accept_silently(core: GatewayCore, client: Client) -> None:
    """The log level, the market data type, and binding of manual orders, of which a paper gateway has none."""


_PLAIN: dict[str, Callable[[GatewayCore, Client], None]] = {
    "ids": _ids,
    "log_level": _accept_silently,
    "auto_open_orders": _accept_silently,
    "managed_accounts": _managed_accounts,
    "current_time": _current_time,
    "global_cancel": _global_cancel,
    "market_data_type": _accept_silently,
    "positions": _positions,
    "cancel_positions": _cancel_positions,
    "completed_orders": _completed_orders,
}


def _cancel_market_data(client: Client, req_id: int) -> None:
    client.market_data.pop(req_id, None)
    client.told_quotes.pop(req_id, None)


_CANCELS: dict[str, Callable[[Client, int], object]] = {
    "market_data": _cancel_market_data,
    "historical_data": lambda client, req_id: None,
    "account_summary": lambda client, req_id: client.summaries.pop(req_id, None),
    "account_updates_multi": lambda client, req_id: client.account_multi.pop(req_id, None),
    "pnl": lambda client, req_id: client.pnl.discard(req_id),
}
