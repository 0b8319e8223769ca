"""The control port's faults, put into effect. No I/O: what concerns sockets is asked of the shell."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from venues.gateway.core import GatewayCore
from venues.gateway.faults import KINDS, Fault, FaultError, check
from venues.gateway.model import NEVER_NS, Order

HALF_OPEN_S = 60.0
"""How long a half-open session stays, where the fault does not say; its client id is taken as long."""
RESTART_S = 120.0
_MS = 1_000_000
Reply = dict[str, object]


def run_fault(core: GatewayCore, fault: Fault) -> Reply:
    """Arm or put into effect one fault; return what it hit. Raises FaultError, and then changes nothing."""
    check(fault)
    if KINDS[fault.kind].strikes in ("place", "request", "status", "commission"):
        core.faults.arm(fault)
        return {"armed": core.faults.armed()}
    reply = _AT_ONCE[fault.kind](core, fault)
    core.settle()
    return reply


def clear_faults(core: GatewayCore) -> None:
    """End every fault; orders, positions, prices and the clock stay as they are."""
    core.faults.clear()
    conduct = core.engine.conduct
    conduct.hold_fills, conduct.fill_qty_max, conduct.inert_stops, conduct.late_fills = False, None, False, 0
    conduct.fill_delay_ns = core.settings.manners.fill_delay_ms * _MS
    conduct.arrivals.clear()
    now_ns = core.clock_ns()
    for order in core.store.working_orders():
        if order.inert:
            core.engine.set_inert(order.perm_id, False)
        if order.hold or order.surfaces_ns >= NEVER_NS:
            core.engine.revive(core.store.orders[order.perm_id], now_ns)
    core.engine.match_everything(now_ns)
    core.settle()
    for client in core.clients.values():
        client.outbox += [frame for _, frame in client.late_frames]
        client.late_frames.clear()
    if core.shell is not None:
        core.shell.refuse(0.0)
        core.shell.let_in()
        core.shell.thaw()


def _message(core: GatewayCore, fault: Fault) -> Reply:
    core.message(fault)
    return {}


def _drop(core: GatewayCore, fault: Fault) -> Reply:
    assert core.shell is not None, "the control port is served by a shell"
    hit = [client for client in core.clients.values() if fault.client_id in (None, client.client_id)]
    for client in hit:
        if fault.kind == "drop":
            core.shell.close(client, silently=True)
        else:
            core.shell.freeze(client, fault.seconds or HALF_OPEN_S)
    core.faults.struck[fault.kind] += len(hit)
    return {"sessions": [client.client_id for client in hit]}


def _refuse(core: GatewayCore, fault: Fault) -> Reply:
    assert core.shell is not None, "the control port is served by a shell"
    core.shell.refuse(fault.seconds)
    core.faults.struck[fault.kind] += 1
    return {}


def _nightly_restart(core: GatewayCore, fault: Fault) -> Reply:
    loses_ms = core.settings.restart_loses_ms if fault.ms is None else fault.ms
    lost = core.restart_nightly(fault.seconds or RESTART_S, loses_ms)
    return {"lost": [order.perm_id for order in lost]}


def _login_required(core: GatewayCore, fault: Fault) -> Reply:
    assert core.shell is not None, "the control port is served by a shell"
    core.faults.login_required = True
    core.shell.shut_out(fault.seconds)
    core.faults.struck[fault.kind] += 1
    return {}


def _next_order_id(core: GatewayCore, fault: Fault) -> Reply:
    if fault.client_id is None:
        raise FaultError("client_id", None, "the client whose ids go back")
    core.engine.reset_ids(fault.client_id, fault.value)
    core.faults.struck[fault.kind] += 1
    return {}


def _duplicate_execution(core: GatewayCore, fault: Fault) -> Reply:
    core.faults.duplicate_executions += fault.count
    return {"left": core.faults.duplicate_executions}


def _correct_execution(core: GatewayCore, fault: Fault) -> Reply:
    """Correct the fill with that execId, or the last one of that order."""
    if fault.px is None:
        raise FaultError("px", None, "the corrected price")
    fills = [fill for fill in core.store.latest_executions() if fault.perm_id in (None, fill.perm_id)]
    if fault.exec_id is not None:
        fills = [fill for fill in fills if fill.root == fault.exec_id.rpartition(".")[0]]
    if not fills:
        raise FaultError("exec_id", fault.exec_id, "a fill of list_executions, or the perm_id of a filled order")
    corrected = core.engine.correct(fills[-1], fault.px, core.account_base)
    core.faults.struck[fault.kind] += 1
    return {"exec_id": corrected.exec_id}


def _fill_after_cancel(core: GatewayCore, fault: Fault) -> Reply:
    core.engine.conduct.late_fills += fault.count
    core.engine.conduct.late_fill_qty = fault.size
    return {"left": core.engine.conduct.late_fills}


def _inert(core: GatewayCore, fault: Fault) -> Reply:
    """Make one stop inert by permId or orderRef, or, with neither, every stop that comes from now on."""
    if fault.perm_id is None and fault.order_ref is None:
        core.engine.conduct.inert_stops = fault.on
        return {}

    hit = [order.perm_id for order in _meant(core, fault) if order.ticket.is_stop]
    if not hit:
        raise FaultError("perm_id", fault.perm_id, "the perm_id or order_ref of a working stop")
    for perm_id in hit:
        core.engine.set_inert(perm_id, fault.on)
    if not fault.on:
        core.engine.match_everything(core.clock_ns())
    core.faults.struck[fault.kind] += len(hit)
    return {"perm_ids": hit}


def _vanish(core: GatewayCore, fault: Fault) -> Reply:
    """Hide a working order, by permId or orderRef, until it surfaces."""
    hit = _meant(core, fault)
    if not hit:
        raise FaultError("perm_id", fault.perm_id, "the perm_id or order_ref of a working order")
    for order in hit:
        core.engine.hide(order, core.clock_ns() + fault.ms * _MS if fault.ms else NEVER_NS)
    core.faults.struck[fault.kind] += len(hit)
    return {"perm_ids": [order.perm_id for order in hit]}


def _meant(core: GatewayCore, fault: Fault) -> list[Order]:
    """Return the working orders with the fault's permId or orderRef."""

    def is_meant(order: Order) -> bool:
        by_perm_id = fault.perm_id is not None and order.perm_id == fault.perm_id
        return by_perm_id or (fault.order_ref is not None and order.ticket.order_ref == fault.order_ref)

    return [order for order in core.store.working_orders() if is_meant(order)]


def _hold_fills(core: GatewayCore, fault: Fault) -> Reply:
    core.engine.conduct.hold_fills = fault.on
    core.faults.struck[fault.kind] += 1
    if not fault.on:
        core.engine.match_everything(core.clock_ns())
    return {}


def _partial_fills(core: GatewayCore, fault: Fault) -> Reply:
    if fault.on and fault.size is None:
        raise FaultError("size", None, "a positive size, or on = false")
    core.engine.conduct.fill_qty_max = fault.size if fault.on else None
    core.faults.struck[fault.kind] += 1
    return {}


def _delay_fills(core: GatewayCore, fault: Fault) -> Reply:
    core.engine.conduct.fill_delay_ns = (fault.ms or 0) * _MS if fault.on else 0
    core.faults.struck[fault.kind] += 1
    return {}


def _competing_session(core: GatewayCore, fault: Fault) -> Reply:
    core.compete(fault.on)
    core.faults.struck[fault.kind] += 1
    return {}


def _pacing(core: GatewayCore, fault: Fault) -> Reply:
    core.faults.pacing = fault.on
    core.faults.struck[fault.kind] += 1
    return {}


_AT_ONCE: Mapping[str, Callable[[GatewayCore, Fault], Reply]] = {
    "message": _message,
    "drop": _drop,
    "half_open": _drop,
    "refuse": _refuse,
    "nightly_restart": _nightly_restart,
    "vanish": _vanish,
    "login_required": _login_required,
    "next_order_id": _next_order_id,
    "duplicate_execution": _duplicate_execution,
    "correct_execution": _correct_execution,
    "fill_after_cancel": _fill_after_cancel,
    "inert_stop": _inert,
    "hold_fills": _hold_fills,
    "partial_fills": _partial_fills,
    "delay_fills": _delay_fills,
    "competing_session": _competing_session,
    "pacing": _pacing,
}
