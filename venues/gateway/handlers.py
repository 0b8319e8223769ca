"""A client's request about orders and the account, answered; questions about the market go to `data_handlers`.

No I/O; replies go to the outbox.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from venues.gateway import data_handlers, replies, reports
from venues.gateway.account import Position
from venues.gateway.asked import (
    AutoBind,
    Cancel,
    CancelOrder,
    PlaceOrder,
    Plain,
    ReqAccountSummary,
    ReqAccountUpdates,
    ReqAccountUpdatesMulti,
    ReqCompletedOrders,
    ReqExecutions,
    ReqOpenOrders,
    ReqPnl,
    ReqPnlSingle,
    ReqPositionsMulti,
    Request,
    Unknown,
    Unserved,
)
from venues.gateway.checks import INVALID_ACCOUNT
from venues.gateway.core import GatewayCore
from venues.gateway.faults import MESSAGE_TEXTS
from venues.gateway.hours import time_text
from venues.gateway.requests import PLACES_OF_IDS, read_request
from venues.gateway.session import Client
from venues.gateway.wire import WireError, to_int

SUBSCRIPTIONS_MAX = 100
"""Account, summary, position and profit subscriptions a session may hold; error 322 beyond it."""
COMPLETED_REPORTED_MAX = 1_000
Handler = Callable[[GatewayCore, Client, Request], None]


def handle(core: GatewayCore, client: Client, texts: list[str]) -> None:
    """Answer one frame. What cannot be read is answered with error 320 and counted; the session goes on."""
    try:
        request = read_request(texts, client.version, client.client_id)
        fault = None
        if not isinstance(request, PlaceOrder):
            fault = core.faults.on_request(client.client_id, to_int(texts[0], "message id"))
        if fault is None:
            answer(core, client, request)
        elif fault.kind == "request_error":
            text = fault.text or MESSAGE_TEXTS.get(fault.code, "Scripted")
            core.send_error(client, getattr(request, "req_id", -1), fault.code, text)
        elif fault.kind == "no_end":
            client.without_end = True
            answer(core, client, request)
    except WireError as error:
        core.counters["unreadable_requests"] += 1
        req_id = _id_of(texts)
        core.send_error(client, req_id, 320, f"Server error when reading an API client request. {error}")
    finally:
        client.without_end = False


def _id_of(texts: list[str]) -> int:
    """Return the request's or order's id where it can be read, so that its client learns which one failed; else -1."""
    try:
        place = PLACES_OF_IDS[to_int(texts[0], "message id")]
        return to_int(texts[place], "id")
    except (WireError, LookupError):
        return -1


def answer(core: GatewayCore, client: Client, request: Request) -> None:
    """Carry out one request; what it replies waits in the outbox. Raises WireError for a filter it cannot read."""
    handler = _HANDLERS.get(type(request)) or data_handlers.HANDLERS.get(type(request))
    assert handler is not None, f"{type(request).__name__} has a handler"
    handler(core, client, request)


def _place(core: GatewayCore, client: Client, request: PlaceOrder) -> None:
    core.place(client, request)


def _cancel_order(core: GatewayCore, client: Client, request: CancelOrder) -> None:
    core.engine.cancel(client.client_id, request.order_id, core.clock_ns())
    core.settle()


def _open_orders(core: GatewayCore, client: Client, request: ReqOpenOrders) -> None:
    if client.client_id == 0 and not request.all_clients:
        core.bind(client)
        core.settle()
    for order in core.store.open_orders():
        if request.all_clients or order.ticket.client_id == client.client_id:
            core.send_open_order(client, order)
    client.send(["53", "1"])


def _auto_bind(core: GatewayCore, client: Client, request: AutoBind) -> None:
    """Only client 0 can bind orders by hand; another's request says nothing, as with IB."""
    client.binds_manual = request.on and client.client_id == 0
    if client.binds_manual:
        core.bind(client)
        core.settle()


def _completed_orders(core: GatewayCore, client: Client, request: ReqCompletedOrders) -> None:
    done = [order for order in core.store.orders.values() if order.is_done]
    done = [order for order in done if not (request.api_only and order.ticket.is_by_hand)]
    done.sort(key=lambda order: order.done_ns)
    for order in done[-COMPLETED_REPORTED_MAX:]:
        instrument = core.listing.known(order.ticket.con_id)
        client.send(replies.completed_order(client.version, order, instrument, core.settings.account))
    client.send(["102"])


def _executions(core: GatewayCore, client: Client, request: ReqExecutions) -> None:
    fills = core.store.executions.values()
    for fill in reports.executions_for(request, fills, core.clock_ns()):
        instrument = core.listing.known(fill.con_id)
        client.send(replies.execution(client.version, fill, instrument, request.req_id))
        client.send(replies.commission(fill))
    client.send(["55", "1", str(request.req_id)])


# Account


def _values(core: GatewayCore) -> list[tuple[str, str, str]]:
    return reports.account_values(core.account, core.engine.quotes, core.settings.currency)


def _held(core: GatewayCore) -> list[Position]:
    return [held for held in core.account.positions.values() if held.qty]


def _has_room(core: GatewayCore, client: Client, req_id: int) -> bool:
    """Whether one more subscription may be held; error 322 where not."""
    held = client.account_multi.keys() | client.summaries.keys() | client.pnl
    held |= client.pnl_single.keys() | client.positions_multi.keys()
    if len(held) < SUBSCRIPTIONS_MAX or req_id in held:
        return True
    core.send_error(client, req_id, 322, "Error processing request.: too many subscriptions")
    return False


def _is_ours(core: GatewayCore, client: Client, req_id: int, account: str) -> bool:
    """Whether the account is the gateway's; error 321 where it is another's, whose figures must not be taken for it."""
    if account in ("", "All", core.settings.account):
        return True
    core.send_error(client, req_id, *INVALID_ACCOUNT)
    return False


def _account_updates(core: GatewayCore, client: Client, request: ReqAccountUpdates) -> None:
    if not _is_ours(core, client, -1, request.account):
        return
    client.account_updates = request.subscribe
    if not request.subscribe:
        return
    account = core.settings.account
    for key, value, currency in _values(core):
        client.send(["6", "2", key, value, currency, account])
    for held in _held(core):
        core.send_portfolio(client, held.con_id)
    client.send(["8", "1", time_text(core.clock_ns())[9:14]])
    client.send(["54", "1", account])


def _account_updates_multi(core: GatewayCore, client: Client, request: ReqAccountUpdatesMulti) -> None:
    if not (_is_ours(core, client, request.req_id, request.account) and _has_room(core, client, request.req_id)):
        return
    req_id = str(request.req_id)
    for key, value, currency in _values(core):
        client.send(["73", "1", req_id, core.settings.account, request.model, key, value, currency])
    client.send(["74", "1", req_id])
    client.account_multi[request.req_id] = request.model


def _account_summary(core: GatewayCore, client: Client, request: ReqAccountSummary) -> None:
    """Rows are told in the order of their tags' letters, as recorded."""
    if not _has_room(core, client, request.req_id):
        return
    req_id = str(request.req_id)
    for key, value, currency in sorted(_values(core)):
        if key in request.tags or "All" in request.tags:
            client.send(["63", "1", req_id, core.settings.account, key, value, currency])
    client.send(["64", "1", req_id])
    client.summaries[request.req_id] = request.tags


def _pnl(core: GatewayCore, client: Client, request: ReqPnl) -> None:
    if _is_ours(core, client, request.req_id, request.account) and _has_room(core, client, request.req_id):
        client.pnl.add(request.req_id)
        client.send(reports.pnl_fields(request.req_id, core.account, core.engine.quotes))


def _pnl_single(core: GatewayCore, client: Client, request: ReqPnlSingle) -> None:
    if _is_ours(core, client, request.req_id, request.account) and _has_room(core, client, request.req_id):
        client.pnl_single[request.req_id] = request.con_id
        core.send_pnl_single(client, request.req_id, request.con_id)


def _positions(core: GatewayCore, client: Client) -> None:
    for held in _held(core):
        core.send_position(client, held.con_id)
    client.send(["62", "1"])
    client.positions = True


def _positions_multi(core: GatewayCore, client: Client, request: ReqPositionsMulti) -> None:
    if not (_is_ours(core, client, request.req_id, request.account) and _has_room(core, client, request.req_id)):
        return
    for held in _held(core):
        instrument, account = core.listing.known(held.con_id), core.settings.account
        client.send(replies.position_multi(request.req_id, held, instrument, account, request.model))
    client.send(["72", "1", str(request.req_id)])
    client.positions_multi[request.req_id] = request.model


# What has no fields, and ends of subscriptions


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


def _log_level(core: GatewayCore, client: Client) -> None:
    """Nothing is answered to it."""


_PLAIN: Mapping[str, Callable[[GatewayCore, Client], None]] = {
    "ids": _ids,
    "log_level": _log_level,
    "managed_accounts": _managed_accounts,
    "current_time": _current_time,
    "global_cancel": _global_cancel,
    "positions": _positions,
    "cancel_positions": _cancel_positions,
}
_CANCELS: Mapping[str, Callable[[Client, int], object]] = {
    "market_data": lambda client, req_id: client.market_data.pop(req_id, None),
    "historical_data": lambda client, req_id: client.kept_bars.pop(req_id, None),
    "head_timestamp": lambda client, req_id: None,
    "real_time_bars": lambda client, req_id: client.real_time_bars.pop(req_id, None),
    "account_summary": lambda client, req_id: client.summaries.pop(req_id, None),
    "account_updates_multi": lambda client, req_id: client.account_multi.pop(req_id, None),
    "positions_multi": lambda client, req_id: client.positions_multi.pop(req_id, None),
    "pnl": lambda client, req_id: client.pnl.discard(req_id),
    "pnl_single": lambda client, req_id: client.pnl_single.pop(req_id, None),
}


def _plain(core: GatewayCore, client: Client, request: Plain) -> None:
    _PLAIN[request.what](core, client)


def _cancel(core: GatewayCore, client: Client, request: Cancel) -> None:
    _CANCELS[request.what](client, request.req_id)


def _unserved(core: GatewayCore, client: Client, request: Unserved) -> None:
    core.counters["unserved_requests"] += 1
    core.send_error(client, request.req_id, request.code, request.text)


def _unknown(core: GatewayCore, client: Client, request: Unknown) -> None:
    core.counters["unknown_requests"] += 1
    core.send_error(client, -1, 505, f"Fatal Error: Unknown message id.: {request.message_id}")


_HANDLERS = cast(
    "Mapping[type[Request], Handler]",
    {
        PlaceOrder: _place,
        CancelOrder: _cancel_order,
        ReqOpenOrders: _open_orders,
        AutoBind: _auto_bind,
        ReqCompletedOrders: _completed_orders,
        ReqExecutions: _executions,
        ReqAccountUpdates: _account_updates,
        ReqAccountUpdatesMulti: _account_updates_multi,
        ReqAccountSummary: _account_summary,
        ReqPnl: _pnl,
        ReqPnlSingle: _pnl_single,
        ReqPositionsMulti: _positions_multi,
        Plain: _plain,
        Cancel: _cancel,
        Unserved: _unserved,
        Unknown: _unknown,
    },
)
