"""What the spot exchange says, folded into what we know: executions alone fill, and each counts once."""

from __future__ import annotations

import msgspec

from actors.effects import Drive, Send
from actors.messages import (
    CancelSpotOrder,
    SpotAccountRead,
    SpotBalancesChanged,
    SpotBalancesReported,
    SpotExecutionReported,
    SpotOrderNotSent,
    SpotOrderRead,
    SpotOrderRefused,
    SpotOrderReported,
    SpotOrderWritten,
    SpotOutcomeUnknown,
)
from actors.spot_state import SpotOrder
from actors.spot_turn import Turn
from kernels import ids
from kernels.fixed8 import format_fixed8
from kernels.order_state import SPOT_ENDED, OrderEvent, OrderState, fill_event, spot_event

_NEVER_KNOWN = frozenset({OrderState.PRE_SENT, OrderState.PENDING, OrderState.UNKNOWN})


def fold_written(turn: Turn, told: SpotOrderWritten) -> None:
    """The bytes are on the socket."""
    order = _ours(turn, told.client_order_id)
    if order is not None:
        written = msgspec.structs.replace(order, written_ns=told.written_ns)
        turn.put(turn.moved(written, OrderEvent.WRITTEN))


def fold_not_sent(turn: Turn, told: SpotOrderNotSent) -> None:
    """Not one byte left: it is over, and never written again under this id."""
    order = _ours(turn, told.client_order_id)
    if order is None:
        return
    if order.state not in (OrderState.PRE_SENT, OrderState.UNKNOWN):
        turn.incident("not_sent_but_known", told.client_order_id, f"{told.reason} in state {order.state}")
        return
    turn.count("not_sent")
    turn.put(turn.gave_up(turn.moved(order, OrderEvent.NOT_SENT), f"not_sent: {told.reason}"))


def fold_refused(turn: Turn, told: SpotOrderRefused) -> None:
    """The exchange did not take it."""
    order = _ours(turn, told.client_order_id)
    if order is None:
        return
    turn.count("refused")
    refused = turn.moved(order, OrderEvent.INACTIVE)
    if refused.state is OrderState.REJECTED:
        refused = msgspec.structs.replace(refused, ended=f"refused {told.http_status} {told.code}: {told.reason}"[:300])
    turn.put(refused)


def fold_unknown(turn: Turn, told: SpotOutcomeUnknown) -> None:
    """Nobody here can know; it is looked up from now on."""
    order = _ours(turn, told.client_order_id)
    if order is not None:
        turn.count("outcome_unknown")
        turn.put(turn.moved(order, OrderEvent.LOST))


def fold_order(turn: Turn, report: SpotOrderReported) -> None:
    """Believe a status; what is said of an order that is over, by a slower way, is not."""
    order = _ours(turn, report.client_order_id)
    if order is None:
        return
    if (order.place.symbol, order.place.side) != (report.symbol, report.side):
        turn.incident("another_order", report.client_order_id, f"{report.symbol} {report.side} under our id")
        return
    order = msgspec.structs.replace(
        order, venue_order_id=report.venue_order_id, claimed_qty=max(order.claimed_qty, report.cum_qty)
    )
    event, ended = spot_event(report.status), report.status in SPOT_ENDED
    if event is None:
        turn.incident("status_unknown", report.client_order_id, report.status)
    elif event is not OrderEvent.WORKING or not order.ended:
        if order.ended and order.state is OrderState.EXPIRED:
            turn.incident("surfaced", report.client_order_id, f"{report.status} after {order.ended}")
        order = turn.moved(order, event)
    turn.put(msgspec.structs.replace(order, ended=report.status) if ended else order)


def fold_execution(turn: Turn, report: SpotExecutionReported) -> None:
    """Count a trade, once, whichever way and in whichever session it is told."""
    key = f"{report.symbol}:{report.trade_id}"
    known = turn.trades.get(key)
    if known is not None:
        if _terms(known) != _terms(report):
            turn.incident("trade_differs", key, f"{_terms(known)} and {_terms(report)}")
        return
    order = _ours(turn, report.client_order_id)
    if order is None:
        return
    turn.trades = turn.trades.put(key, report)
    place, sign = order.place, 1 if report.side == "BUY" else -1
    changes = [
        (place.base, sign * report.last_qty),
        (place.quote, -sign * report.quote_qty),
        (report.commission_asset, -report.commission),
    ]
    flows = dict(turn.flows)
    for asset, change in changes:
        if change:
            flows[asset] = flows.get(asset, 0) + change
    turn.flows = flows
    commissions = dict(order.commissions)
    if report.commission:
        commissions[report.commission_asset] = commissions.get(report.commission_asset, 0) + report.commission
    filled = msgspec.structs.replace(
        order,
        cum_qty=order.cum_qty + report.last_qty,
        cum_quote_qty=order.cum_quote_qty + report.quote_qty,
        commissions=commissions,
        venue_order_id=report.venue_order_id,
    )
    if filled.cum_qty > place.qty:
        turn.incident("overfilled", place.client_order_id, f"{filled.cum_qty} of {place.qty}")
    turn.put(turn.moved(filled, fill_event(place.qty, filled.cum_qty)))


def fold_order_read(turn: Turn, read: SpotOrderRead) -> None:
    """Take what a look-up found; count an absence where the exchange itself says so."""
    for trade in read.trades:
        fold_execution(turn, trade)
    if read.order is not None:
        fold_order(turn, read.order)
        _cancel_if_open(turn, read)
    elif read.failed:
        turn.count("look_up_failed")
    else:
        _absent(turn, read)


def fold_account(turn: Turn, read: SpotAccountRead) -> None:
    """Take balances and open orders, and where nothing was out since the request, compare the totals with ours."""
    assert turn.session is not None, "only of the session that is open"
    if read.failed:
        turn.count("account_read_failed")
        return
    for report in read.open_orders:
        _open(turn, report)
    turn.balances = {asset: balance for asset, balance in read.balances.items() if balance.free or balance.locked}
    if read.request_id == turn.quiet and not turn.out():
        _compare(turn)
        turn.session = msgspec.structs.replace(turn.session, read=True, can_trade=read.can_trade)
    _tell_free(turn)


def fold_balances(turn: Turn, report: SpotBalancesReported) -> None:
    """The stream's word: of these assets, whole."""
    merged = {**turn.balances, **report.balances}
    turn.balances = {asset: balance for asset, balance in merged.items() if balance.free or balance.locked}
    _tell_free(turn)


def _compare(turn: Turn) -> None:
    totals = {asset: balance.free + balance.locked for asset, balance in turn.balances.items()}
    if turn.baseline is None:
        turn.baseline = {
            asset: totals.get(asset, 0) - turn.flows.get(asset, 0) for asset in sorted({*totals, *turn.flows})
        }
        return
    baseline, flows = turn.baseline, turn.flows
    differences = {
        asset: totals.get(asset, 0) - baseline.get(asset, 0) - flows.get(asset, 0)
        for asset in sorted({*totals, *baseline, *flows})
    }
    text = ", ".join(f"{asset} {format_fixed8(off)}" for asset, off in differences.items() if off)
    turn.count("account_compared")
    turn.diverge(f"the account differs from our executions by {text}" if text else "")


def _tell_free(turn: Turn) -> None:
    if turn.session is not None:
        turn.effects.append(Send(turn.settings.executor, SpotBalancesChanged(turn.session.session_id, turn.free())))


def _open(turn: Turn, report: SpotOrderReported) -> None:
    """An order that stands open at the exchange: none of ours should."""
    if not ids.is_cycle_order_id(turn.settings.fund, report.client_order_id):
        turn.count("foreign_open_order")
        return
    order = turn.find(report.client_order_id)
    if order is None or order.done:
        turn.incident("surfaced", report.client_order_id, f"open at the exchange as {report.status}")
        assert turn.session is not None, "it was read in one"
        cancel = CancelSpotOrder(turn.session.session_id, report.symbol, report.client_order_id)
        turn.effects.append(Drive(cancel))
    if order is not None:
        fold_order(turn, report)


def _cancel_if_open(turn: Turn, read: SpotOrderRead) -> None:
    """Immediate-or-cancel, and still open when it is looked up: it must not stay so."""
    order = turn.find(read.client_order_id)
    if order is not None and not order.ended and turn.session is not None:
        turn.count("cancelled_open")
        turn.effects.append(Drive(CancelSpotOrder(turn.session.session_id, read.symbol, read.client_order_id)))


def _absent(turn: Turn, read: SpotOrderRead) -> None:
    order = turn.live.get(read.client_order_id)
    if order is None:
        return
    if order.venue_order_id or order.state not in _NEVER_KNOWN:
        turn.incident("vanished", read.client_order_id, f"the exchange knew it, as {order.state}, and does no more")
    elif not order.absent_ns:
        turn.put(msgspec.structs.replace(order, absent_ns=read.taken_ns))
    elif read.taken_ns - order.absent_ns >= turn.settings.absent_grace_ns:
        turn.count("absent_twice")
        turn.put(turn.gave_up(order, "absent"))


def _ours(turn: Turn, client_order_id: str) -> SpotOrder | None:
    order = turn.find(client_order_id)
    if order is None:
        if ids.is_cycle_order_id(turn.settings.fund, client_order_id):
            turn.incident("order_of_no_journal", client_order_id, "the exchange speaks of an order that we do not know")
        else:
            turn.count("foreign_order")
    return order


def _terms(report: SpotExecutionReported) -> tuple[object, ...]:
    return report.last_qty, report.quote_qty, report.commission, report.commission_asset, report.venue_order_id
