"""The control port's commands: one JSON object a line in, one JSON line with "ok" out. No I/O.

`{"ok": true, …}` or `{"ok": false, "error": "…"}`. docs/venues_gateway.md has them all.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, assert_never

import msgspec

from venues.gateway import reports
from venues.gateway.checks import PX_MAX, QTY_MAX
from venues.gateway.core import GatewayCore
from venues.gateway.faults import Fault
from venues.gateway.matching import Quote
from venues.gateway.model import Execution, Order
from venues.gateway.replies import time_text
from venues.gateway.wire import text_of

LINE_BYTES_MAX = 64 << 10
LISTED_MAX = 10_000
"""Rows of one list reply, newest kept; `total` tells how many there are."""


HALF_OPEN_S = 60.0
"""How long a half-open session stays, where the fault does not say; its client id is taken as long."""


class SetPrice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="cmd", tag="set_price"):
    """Put a price; without `last`, the last price is the middle, rounded down to a tick."""

    symbol: str
    bid: Decimal
    ask: Decimal
    last: Decimal | None = None


class SetWalk(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="cmd", tag="walk"):
    """Let prices walk by themselves, or only when they are set."""

    on: bool


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="cmd", tag="status"):
    """Ask for sessions, counts, counters and faults."""


class ListOrders(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="cmd", tag="list_orders"):
    """Ask for all kept orders, or only those that work."""

    working_only: bool = False


class ListExecutions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="cmd", tag="list_executions"):
    """Ask for all kept executions."""


class ListPositions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="cmd", tag="list_positions"):
    """Ask for all positions, flat ones included."""


class ListPrices(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="cmd", tag="list_prices"):
    """Ask for the quotes of all symbols."""


class AskAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="cmd", tag="account"):
    """Ask for cash, commissions and profits."""


class CancelByBroker(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="cmd", tag="cancel_order"):
    """Cancel a working order without its client having asked."""

    perm_id: int


class EndDay(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="cmd", tag="end_day"):
    """Cancel the orders that are good for the day only."""


class Clear(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="cmd", tag="clear"):
    """End every fault; orders, positions and prices stay."""


Command = (
    SetPrice
    | SetWalk
    | Ask
    | ListOrders
    | ListExecutions
    | ListPositions
    | ListPrices
    | AskAccount
    | CancelByBroker
    | EndDay
    | Clear
    | Fault
)
Reply = dict[str, object]
_COMMANDS = msgspec.json.Decoder(Command)
_REPLIES = msgspec.json.Encoder()


def _plain(value: object) -> object:
    """Decimals as text without trailing zeros: the same number always has the same text."""
    match value:
        case Decimal():
            return text_of(value)
        case dict():
            return {key: _plain(part) for key, part in value.items()}
        case list():
            return [_plain(part) for part in value]
        case _:
            return value


def control(core: GatewayCore, line: bytes) -> bytes:
    """Carry out one command and return its reply line. A command that makes no sense changes nothing."""
    try:
        reply: Reply = {"ok": True, **_run(core, _COMMANDS.decode(line))}
    except (msgspec.DecodeError, msgspec.ValidationError, ValueError) as error:
        reply = {"ok": False, "error": str(error)}
    return _REPLIES.encode(_plain(reply)) + b"\n"


def _run(core: GatewayCore, command: Command) -> Reply:
    match command:
        case SetPrice():
            return _set_price(core, command)
        case SetWalk(on=on):
            core.walking = on
            return {"walk": on}
        case Ask():
            return _status(core)
        case ListOrders(working_only=working_only):
            orders = core.store.working_orders() if working_only else list(core.store.orders.values())
            return {"orders": [_order_row(order) for order in orders[-LISTED_MAX:]], "total": len(orders)}
        case ListExecutions():
            fills = list(core.store.executions.values())
            return {"executions": [_execution_row(fill) for fill in fills[-LISTED_MAX:]], "total": len(fills)}
        case ListPositions():
            return {"positions": _positions(core)}
        case ListPrices():
            quotes = core.market.quotes.items()
            return {"prices": {symbol: {"bid": q.bid, "ask": q.ask, "last": q.last} for symbol, q in quotes}}
        case AskAccount():
            return _account(core)
        case CancelByBroker(perm_id=perm_id):
            return _cancel(core, perm_id)
        case EndDay():
            core.engine.cancel_all(core.clock_ns(), "Cancelled by System:", tif="DAY")
            core.settle()
            return {}
        case Clear():
            return _clear(core)
        case Fault():
            return _fault(core, command)
        case _:
            assert_never(command)


def _set_price(core: GatewayCore, command: SetPrice) -> Reply:
    stock = core.listed.by_symbol.get(command.symbol)
    if stock is None:
        raise ValueError(f"unknown symbol {command.symbol!r}; known: {', '.join(core.listed.by_symbol)}")
    bid, ask, tick = command.bid, command.ask, stock.min_tick
    given = [px for px in (bid, ask, command.last) if px is not None]
    if not all(px.is_finite() and 0 < px < PX_MAX and not px % tick for px in given):
        raise ValueError(f"prices are whole ticks of {tick}, above 0 and below {PX_MAX:f}")
    if bid > ask:
        raise ValueError(f"bid {bid} is above ask {ask}")
    last = command.last if command.last is not None else ((bid + ask) / 2 // tick) * tick
    core.set_quote(command.symbol, Quote(bid, ask, last))
    return {"symbol": command.symbol, "bid": bid, "ask": ask, "last": last}


def _status(core: GatewayCore) -> Reply:
    conduct = core.engine.conduct
    return {
        "account": core.settings.account,
        "clients": sorted(core.clients),
        "walk": core.walking,
        "symbols": list(core.listed.by_symbol),
        "orders_working": len(core.store.working_orders()),
        "orders_staged": len(core.engine.staged),
        "orders_total": len(core.store.orders),
        "executions_total": core.account.executions,
        "counters": dict(core.counters),
        "faults_armed": core.faults.armed(),
        "faults_struck": dict(core.faults.struck),
        "faults_standing": {
            "hold_fills": conduct.hold_fills,
            "partial_fills": conduct.fill_qty_max,
            "delay_fills_ms": conduct.fill_delay_ns // 1_000_000,
            "inert_stops": conduct.inert_stops,
            "connectivity_lost": core.faults.lost_connectivity,
        },
    }


def _order_row(order: Order) -> Reply:
    ticket = order.ticket
    return {
        "perm_id": order.perm_id,
        "client_id": ticket.client_id,
        "order_id": ticket.order_id,
        "order_ref": ticket.order_ref,
        "symbol": ticket.symbol,
        "action": ticket.action,
        "order_type": ticket.order_type,
        "qty": order.qty,
        "limit_px": ticket.limit_px,
        "stop_px": ticket.stop_px,
        "tif": ticket.tif or "DAY",
        "status": order.status,
        "why_held": order.why_held,
        "filled": order.filled,
        "remaining": order.remaining,
        "avg_px": order.avg_px,
        "parent_perm_id": order.parent_perm_id,
        "oca_group": order.oca_group,
        "oca_type": order.oca_type,
        "inert": order.inert,
        "accepted_ns": order.accepted_ns,
        "done_ns": order.done_ns,
        "done_reason": order.done_reason,
    }


def _execution_row(fill: Execution) -> Reply:
    return {
        "exec_id": fill.exec_id,
        "perm_id": fill.perm_id,
        "client_id": fill.client_id,
        "order_id": fill.order_id,
        "order_ref": fill.order_ref,
        "symbol": fill.symbol,
        "side": "BOT" if fill.is_buy else "SLD",
        "qty": fill.qty,
        "px": fill.px,
        "cum_qty": fill.cum_qty,
        "commission": fill.commission,
        "realized_pnl": fill.realized_pnl,
        "time_ns": fill.time_ns,
        "time": time_text(fill.time_ns),
    }


def _positions(core: GatewayCore) -> list[Reply]:
    return [
        {
            "symbol": held.symbol,
            "con_id": held.con_id,
            "qty": held.qty,
            "cost": held.cost,
            "avg_cost": held.avg_cost,
            "realized_pnl": held.realized_pnl,
        }
        for held in core.account.positions.values()
    ]


def _account(core: GatewayCore) -> Reply:
    unrealized, realized = reports.profits(core.account, core.engine.quotes)
    values = reports.account_values(core.account, core.engine.quotes, core.settings.currency)
    return {
        "account": core.settings.account,
        "cash": core.account.cash,
        "cash_start": core.settings.cash_start,
        "commissions": core.account.commissions,
        "unrealized_pnl": unrealized,
        "realized_pnl": realized,
        "values": {key: value for key, value, _ in values},
    }


def _cancel(core: GatewayCore, perm_id: int) -> Reply:
    order = core.store.orders.get(perm_id)
    if order is None or not order.is_working:
        raise ValueError(f"no working order with permId {perm_id}")
    core.engine.cancel_by_broker(order, core.clock_ns())
    core.settle()
    return {}


def _clear(core: GatewayCore) -> Reply:
    """End every fault; orders, positions and prices stay as they are."""
    core.faults.clear()
    conduct = core.engine.conduct
    conduct.hold_fills, conduct.fill_qty_max, conduct.inert_stops = False, None, False
    conduct.fill_delay_ns = core.settings.manners.fill_delay_ms * 1_000_000
    for order in core.store.working_orders():
        if order.inert:
            core.engine.set_inert(order.perm_id, False)
    core.engine.match_everything(core.clock_ns())
    core.settle()
    if core.shell is not None:
        core.shell.refuse(0.0)
        core.shell.thaw()
    return {}


_SWITCH = Literal["hold_fills", "partial_fills", "delay_fills"]


def _fault(core: GatewayCore, fault: Fault) -> Reply:
    match fault.kind:
        case "drop_at_place" | "silence" | "reject" | "die_at_place" | "unanswered":
            core.faults.arm(fault)
            return {"armed": core.faults.armed()}
        case "message":
            if not fault.code:
                raise ValueError("message needs a code")
            core.message(fault)
        case "drop" | "half_open":
            return _on_sessions(core, fault)
        case "refuse":
            if core.shell is None or not 0 < fault.seconds <= 600:
                raise ValueError("refuse needs seconds, more than 0 and at most 600")
            core.shell.refuse(fault.seconds)
        case "inert_stop":
            return _inert(core, fault)
        case "hold_fills" | "partial_fills" | "delay_fills":
            _switch(core, fault.kind, fault)
        case "duplicate_execution":
            core.faults.duplicate_executions += fault.count
            return {"left": core.faults.duplicate_executions}
        case "next_order_id":
            if fault.client_id is None or fault.value < 1:
                raise ValueError("next_order_id needs client_id, and value from 1 on")
            core.engine.reset_ids(fault.client_id, fault.value)
            core.settle()
        case _:
            assert_never(fault.kind)
    core.faults.struck[fault.kind] += fault.kind != "message"
    return {}


def _on_sessions(core: GatewayCore, fault: Fault) -> Reply:
    assert core.shell is not None, "the control port is served by a shell"
    hit = [client for client in core.clients.values() if fault.client_id in (None, client.client_id)]
    for client in hit:
        if fault.kind == "drop":
            core.shell.close(client, silently=True)
        else:
            core.shell.freeze(client, fault.seconds or HALF_OPEN_S)
    core.faults.struck[fault.kind] += len(hit)
    return {"sessions": [client.client_id for client in hit]}


def _inert(core: GatewayCore, fault: Fault) -> Reply:
    """Make one stop inert by permId or orderRef, or, with neither, every stop that comes from now on."""
    if fault.perm_id is None and fault.order_ref is None:
        core.engine.conduct.inert_stops = fault.on
        return {}
    hit = [
        order.perm_id
        for order in core.store.working_orders()
        if order.ticket.is_stop and (order.perm_id == fault.perm_id or order.ticket.order_ref == fault.order_ref)
    ]
    if not hit:
        raise ValueError("no working stop with that perm_id or order_ref")
    for perm_id in hit:
        core.engine.set_inert(perm_id, fault.on)
    if not fault.on:
        core.engine.match_everything(core.clock_ns())
    core.settle()
    core.faults.struck["inert_stop"] += len(hit)
    return {"perm_ids": hit}


def _switch(core: GatewayCore, kind: _SWITCH, fault: Fault) -> None:
    """Turn a standing fault on or off. Ending a hold fills at once what was held; the others tell at the next price."""
    conduct = core.engine.conduct
    match kind:
        case "hold_fills":
            conduct.hold_fills = fault.on
            core.engine.match_everything(core.clock_ns())
            core.settle()
        case "partial_fills":
            size = fault.size
            if fault.on and (size is None or not size.is_finite() or not 0 < size < QTY_MAX):
                raise ValueError("partial_fills needs a positive size, or on = false")
            conduct.fill_qty_max = fault.size if fault.on else None
        case "delay_fills":
            if not 0 <= fault.ms <= 600_000:
                raise ValueError("delay_fills needs ms from 0 to 600000")
            conduct.fill_delay_ns = fault.ms * 1_000_000 if fault.on else 0
        case _:
            assert_never(kind)
