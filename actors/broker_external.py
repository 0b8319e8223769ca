"""Orders at our account that are not ours: counted, alarmed or followed, as `BrokerSettings.external_orders` says.

One that is followed is known by its permId, because its order id is of another client's numbers (0 where a person
placed it). Its state is what reports say; nothing here ever cancels or modifies it.
"""

from __future__ import annotations

import msgspec

from actors.broker_state import OrderView
from actors.broker_turn import Turn
from actors.effects import Project
from actors.external_orders import ExternalOrder, ExternalOrders, external_key
from actors.messages import ExecutionReported, OrderReported, VenueRead
from kernels import ids
from kernels.order_state import UNRESOLVED, WORKING, OrderEvent, OrderState, venue_event

_STATES = {
    OrderEvent.CANCELLED: OrderState.CANCELLED,
    OrderEvent.FILL_CLAIMED: OrderState.FILLED,
    OrderEvent.INACTIVE: OrderState.REJECTED,
}


def is_external(turn: Turn, client_order_id: str) -> bool:
    """Whether a reference is none of this fund's."""
    parsed = ids.parse(client_order_id)
    return parsed is None or parsed.fund_tag != ids.fund_tag(turn.settings.fund)


def takes_order(turn: Turn, report: OrderReported, listed: bool) -> bool:
    """Deal with an order of nobody here; False: it is to be alarmed."""
    policy = turn.settings.external_orders
    if policy is ExternalOrders.ALERT or not is_external(turn, report.client_order_id):
        return False
    turn.count("external")
    if policy is ExternalOrders.IGNORE:
        return True
    if not report.perm_id:
        turn.count("external_without_perm_id")  # nothing to know it by when it is told of again
        return False
    known = turn.externals.get(external_key(report.perm_id))
    if known is None and report.completed:
        return True  # over before it was ever followed: its executions speak for it
    _put(turn, _told(turn, known, report, listed))
    return True


def takes_execution(turn: Turn, report: ExecutionReported) -> bool | None:
    """Deal with an execution of nobody here. True: it moves our positions; False: it does not; None: alarm it."""
    policy = turn.settings.external_orders
    if policy is ExternalOrders.ALERT:
        return None
    turn.count("external")
    account = turn.settings.account or (turn.session.account if turn.session is not None else "")
    if account and report.account and report.account != account:
        turn.count("external_of_another_account")
        return False
    return policy is ExternalOrders.ADOPT


def fold_external_fill(turn: Turn, report: ExecutionReported) -> None:
    """Take an adopted order's progress from its execution; its order may have been told before, later or never."""
    known = turn.externals.get(external_key(report.perm_id))
    if known is None or report.cum_qty <= known.cum_qty:
        return
    state = known.state
    if state in WORKING:
        state = OrderState.FILLED if report.cum_qty >= known.qty > 0 else OrderState.PARTIALLY_FILLED
    _put(turn, msgspec.structs.replace(known, cum_qty=report.cum_qty, state=state, since_ns=turn.now_ns))


def settle_unlisted(turn: Turn, read: VenueRead) -> None:
    """A complete read that lists an adopted order no more: it is over, and how is not known."""
    listed = {report.perm_id for report in (*read.open_orders, *read.completed_orders)}
    for external in tuple(turn.externals.values()):
        if external.state in WORKING and external.perm_id not in listed:
            turn.count("external_unlisted")
            _put(turn, msgspec.structs.replace(external, state=OrderState.UNKNOWN, since_ns=turn.now_ns))


def _told(turn: Turn, known: ExternalOrder | None, report: OrderReported, listed: bool) -> ExternalOrder:
    cum_qty = max(report.filled_qty, known.cum_qty if known is not None else 0)
    event = venue_event(report.status, report.perm_id, listed or report.completed)
    working = OrderState.PARTIALLY_FILLED if cum_qty else OrderState.SUBMITTED
    state = known.state if known is not None else OrderState.UNKNOWN
    if event is not None:
        state = _STATES.get(event, working)
    if known is None:
        return ExternalOrder(
            perm_id=report.perm_id,
            reference=report.client_order_id,
            client_id=report.client_id,
            venue_order_id=report.venue_order_id,
            symbol=report.symbol,
            side=report.side,
            order_type=report.order_type,
            state=state,
            qty=report.qty,
            cum_qty=cum_qty,
            limit_px=report.limit_px,
            stop_px=report.stop_px,
            first_ns=turn.now_ns,
            since_ns=turn.now_ns,
        )
    return msgspec.structs.replace(
        known,
        symbol=report.symbol or known.symbol,
        side=report.side or known.side,
        order_type=report.order_type or known.order_type,
        state=state,
        qty=report.qty or known.qty,
        cum_qty=cum_qty,
        limit_px=report.limit_px or known.limit_px,
        stop_px=report.stop_px or known.stop_px,
        since_ns=known.since_ns if state is known.state else turn.now_ns,
    )


def _put(turn: Turn, external: ExternalOrder) -> None:
    """Add or replace; full: the oldest that is over makes room, and where none is, this one is not followed."""
    if turn.externals.get(external.key) == external:
        return
    if external.key not in turn.externals and len(turn.externals) >= turn.settings.externals_max:
        over = next((key for key, one in turn.externals.items() if one.state not in WORKING), None)
        if over is None:
            turn.count("external_not_followed")
            return
        turn.externals = {key: one for key, one in turn.externals.items() if key != over}
        turn.effects.append(Project("orders", "all", over, b""))
    turn.externals = {**turn.externals, external.key: external}
    turn.effects.append(Project("orders", "all", external.key, _view(external)))


def _view(external: ExternalOrder) -> OrderView:
    leaves = external.qty - external.cum_qty if external.state in WORKING | UNRESOLVED else 0
    return OrderView(
        client_order_id=external.key,
        intent_id="",
        signal_id="",
        strategy=external.reference,
        symbol=external.symbol,
        leg="external",
        side=external.side,
        order_type=external.order_type,
        state=external.state.value,
        qty=external.qty,
        cum_qty=external.cum_qty,
        leaves_qty=max(leaves, 0),
        avg_px=0,
        limit_px=external.limit_px,
        stop_px=external.stop_px,
        venue_order_id=external.venue_order_id,
        perm_id=external.perm_id,
        placed_ns=external.first_ns,
        since_ns=external.since_ns,
    )
