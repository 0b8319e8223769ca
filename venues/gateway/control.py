"""The control port's commands: one JSON object a line in, one JSON line with "ok" out. No I/O.

`{"ok": true, …}` or `{"ok": false, "error": "…"}`. docs/venues_gateway.md has them all.
"""

from __future__ import annotations

from decimal import Decimal
from typing import assert_never

import msgspec

from venues.gateway import reports
from venues.gateway.checks import PX_MAX, QTY_MAX, refusal_of
from venues.gateway.contracts import Instrument
from venues.gateway.control_faults import clear_faults, run_fault
from venues.gateway.core import GatewayCore
from venues.gateway.faults import KINDS, Fault, FaultKind
from venues.gateway.hours import read_time_ns, time_text
from venues.gateway.matching import Quote
from venues.gateway.model import Execution, Order, Ticket
from venues.gateway.wire import text_of

LINE_BYTES_MAX = 64 << 10
FORWARD_S_MAX = 400 * 86_400
LISTED_MAX = 10_000
"""Rows of one list reply, newest kept; `total` tells how many there are."""


class SetPrice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="cmd", tag="set_price"):
    """Put a price; without `last`, the last price is the middle, rounded down to a tick.

    `symbol` is a local symbol (a stock's is its symbol); `con_id` may be given instead.
    """

    symbol: str = ""
    con_id: int = 0
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


class PlaceByHand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="cmd", tag="manual_order"):
    """Enter an order as a user of the gateway's own screen does: it belongs to no client."""

    symbol: str
    action: str
    qty: Decimal
    order_type: str = "MKT"
    limit_px: Decimal | None = None
    stop_px: Decimal | None = None
    tif: str = "DAY"
    order_ref: str = ""


class ReviveOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="cmd", tag="revive_order"):
    """Put an inactive order on the book, release a held one, let a hidden one surface."""

    perm_id: int


class SetClock(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="cmd", tag="set_clock"):
    """Let the gateway's clock show `time` from now on, or jump by `forward_s`; 0 and no time: the machine's clock."""

    time: str = ""
    forward_s: float = 0.0


class AskFaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="cmd", tag="list_faults"):
    """Ask which faults there are and what each reads."""


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
    | PlaceByHand
    | ReviveOrder
    | SetClock
    | AskFaults
    | Clear
    | Fault
)
Reply = dict[str, object]
_COMMANDS = msgspec.json.Decoder(Command)
_REPLIES = msgspec.json.Encoder()
_REMEDY = "docs/venues_gateway.md lists the commands with their fields; list_faults lists the faults"


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
    except msgspec.DecodeError as error:
        reply = {"ok": False, "error": f"{error}. Remedy: {_REMEDY}"}
    except ValueError as error:
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
            prices = {
                core.listing.known(con_id).local_symbol: {"bid": q.bid, "ask": q.ask, "last": q.last}
                for con_id, q in quotes
            }
            return {"prices": prices}
        case AskAccount():
            return _account(core)
        case CancelByBroker(perm_id=perm_id):
            return _cancel(core, perm_id)
        case EndDay():
            core.engine.cancel_all(core.clock_ns(), "Cancelled by System:", tif="DAY")
            core.settle()
            return {}
        case PlaceByHand():
            return _place_by_hand(core, command)
        case ReviveOrder(perm_id=perm_id):
            return _revive(core, perm_id)
        case SetClock():
            return _set_clock(core, command)
        case AskFaults():
            rows = {
                name: {"strikes": k.strikes, "fields": list(k.fields), "about": k.about} for name, k in KINDS.items()
            }
            return {"faults": rows}
        case Clear():
            clear_faults(core)
            return {}
        case Fault():
            return run_fault(core, command)
        case _:
            assert_never(command)


def _kind_row(kind: FaultKind) -> Reply:
    return {"strikes": kind.strikes, "fields": list(kind.fields), "about": kind.about}


def _instrument(core: GatewayCore, name: str, con_id: int = 0) -> Instrument:
    """Return what a command names. Raises ValueError."""
    found = core.listing.get(con_id) if con_id else core.listed.named(name, core.trade_date())
    if found is None:
        known = f"one of {', '.join(core.listed.by_symbol)}, or the local symbol of an option or future"
        raise ValueError(f"symbol: {name or con_id!r} is not listed. Remedy: {known}")
    return found


def _set_price(core: GatewayCore, command: SetPrice) -> Reply:
    instrument = _instrument(core, command.symbol, command.con_id)
    bid, ask, tick = command.bid, command.ask, instrument.min_tick
    for name, px in (("bid", bid), ("ask", ask), ("last", command.last)):
        if px is not None and not (px.is_finite() and 0 < px < PX_MAX and not px % tick):
            raise ValueError(
                f"{name}: {px} is no price. Remedy: prices are whole ticks of {tick}, above 0 and below {PX_MAX:f}"
            )
    if bid > ask:
        raise ValueError(f"bid: {bid} is above ask {ask}. Remedy: a bid at or below the ask")
    last = command.last if command.last is not None else ((bid + ask) / 2 // tick) * tick
    core.set_quote(instrument, Quote(bid, ask, last))
    return {"symbol": instrument.local_symbol, "con_id": instrument.con_id, "bid": bid, "ask": ask, "last": last}


def _place_by_hand(core: GatewayCore, command: PlaceByHand) -> Reply:
    for name, number in (("qty", command.qty), ("limit_px", command.limit_px), ("stop_px", command.stop_px)):
        if number is not None and not (number.is_finite() and abs(number) < QTY_MAX):
            raise ValueError(f"{name}: {number} is no size or price. Remedy: a number below {QTY_MAX:f}")
    instrument = _instrument(core, command.symbol)
    core.look_at(instrument)
    ticket = Ticket(
        client_id=0,
        order_id=0,
        con_id=instrument.con_id,
        symbol=instrument.symbol,
        exchange="SMART",
        action=command.action.upper(),
        qty=command.qty,
        order_type=command.order_type.upper(),
        limit_px=command.limit_px,
        stop_px=command.stop_px,
        tif=command.tif.upper(),
        order_ref=command.order_ref,
    )
    refusal = refusal_of(ticket, instrument, core.settings.account)
    if refusal is not None:
        raise ValueError(f"the order is refused by {refusal[0]}: {refusal[1]}")
    order = core.place_by_hand(ticket)
    assert order is not None, "what is not refused is accepted"
    return {"order": _order_row(order)}


def _revive(core: GatewayCore, perm_id: int) -> Reply:
    order = core.store.orders.get(perm_id)
    if order is None or order.is_done:
        raise ValueError(f"perm_id: {perm_id} is no open order's. Remedy: one of list_orders")
    core.engine.revive(order, core.clock_ns())
    core.settle()
    return {"order": _order_row(core.store.orders[perm_id])}


def _set_clock(core: GatewayCore, command: SetClock) -> Reply:
    if command.time and command.forward_s:
        raise ValueError("forward_s: given together with time. Remedy: one of them")
    if not 0 <= command.forward_s <= FORWARD_S_MAX:
        raise ValueError(f"forward_s: {command.forward_s} is out of range. Remedy: from 0 to {FORWARD_S_MAX}")
    if command.time:
        try:
            now_ns = read_time_ns(command.time)
        except ValueError as problem:
            raise ValueError(f"time: {problem}. Remedy: as 20261123 09:29:50 US/Eastern") from problem
    elif command.forward_s:
        now_ns = core.clock_ns() + int(command.forward_s * 1e9)
    else:
        now_ns = core.clock_ns() - core.ahead_ns
    core.set_clock(now_ns)
    return {"time": time_text(core.clock_ns()), "ahead_s": core.ahead_ns / 1e9}


def _status(core: GatewayCore) -> Reply:
    conduct = core.engine.conduct
    return {
        "account": core.settings.account,
        "time": time_text(core.clock_ns()),
        "hours": core.timetable.hours,
        "clients": sorted(core.clients),
        "walk": core.walking,
        "symbols": list(core.listed.by_symbol),
        "orders_working": len(core.store.working_orders()),
        "orders_staged": len(core.engine.staged),
        "orders_total": len(core.store.orders),
        "executions_total": core.account.executions,
        "counters": dict(core.counters),
        "told_ns": {str(client_id): at_ns for client_id, at_ns in core.told_ns.items()},
        "faults_armed": core.faults.armed(),
        "faults_struck": dict(core.faults.struck),
        "faults_standing": {
            "hold_fills": conduct.hold_fills,
            "partial_fills": conduct.fill_qty_max,
            "delay_fills_ms": conduct.fill_delay_ns // 1_000_000,
            "inert_stops": conduct.inert_stops,
            "connectivity_lost": core.faults.lost_connectivity,
            "login_required": core.faults.login_required,
            "competing_session": core.faults.competing_session,
            "pacing": core.faults.pacing,
            "fills_after_cancel": conduct.late_fills,
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
        "con_id": ticket.con_id,
        "action": ticket.action,
        "order_type": ticket.order_type,
        "qty": order.qty,
        "limit_px": order.limit_px,
        "stop_px": order.stop_px,
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
        "hidden": order.is_hidden,
        "opens_ns": order.opens_ns,
        "expires_ns": order.expires_ns,
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
        "con_id": fill.con_id,
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
            "sec_type": held.sec_type,
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
        "cash": core.account.cash_told,
        "cash_start": core.settings.cash_start,
        "commissions": core.account.commissions,
        "unrealized_pnl": unrealized,
        "realized_pnl": realized,
        "values": {key: value for key, value, _ in values},
    }


def _cancel(core: GatewayCore, perm_id: int) -> Reply:
    order = core.store.orders.get(perm_id)
    if order is None or order.is_done:
        raise ValueError(f"perm_id: no working order with permId {perm_id}. Remedy: one of list_orders")
    core.engine.cancel_by_broker(order, core.clock_ns())
    core.settle()
    return {}
