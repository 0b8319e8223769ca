"""What the venue said, folded: order reports, executions, commissions, whole reads. Idempotent, in any order.

Executions alone fill orders and move positions. Reports move states by the table. An error code is evidence for a
person and nothing else. What is not ours is alarmed and kept out of our state.
"""

from __future__ import annotations

import msgspec

from actors.broker_cancels import cancel_surfaced
from actors.broker_entries import take_account
from actors.broker_exits import mend_exits, shown
from actors.broker_external import fold_external_fill, is_external, settle_unlisted, takes_execution, takes_order
from actors.broker_readback import read_back
from actors.broker_state import EarlyCommission, Family, Order, Surfaced
from actors.broker_turn import Turn
from actors.broker_vanished import clear_vanished, heard_of, note_unlisted
from actors.effects import ClearAlarm, Drive, RaiseAlarm, Severity
from actors.external_orders import external_key
from actors.messages import (
    CancelVenueOrder,
    CommissionReported,
    ExecutionReported,
    Leg,
    OrderReported,
    Side,
    VenueErrorReported,
    VenueRead,
)
from kernels import ids
from kernels.order_state import OrderEvent, OrderState, fill_event, venue_event
from kernels.positions import FLAT, Fill, apply_fill, fold, split_exec_id, supersedes


def fold_read(turn: Turn, read: VenueRead) -> None:
    """Fold a whole read: executions first, so that a completed order's fills are known when its end is."""
    for execution in read.executions:
        fold_execution(turn, execution, listed=True)
    for commission in read.commissions:
        fold_commission(turn, commission)
    for report in (*read.open_orders, *read.completed_orders):
        fold_report(turn, report, listed=True)
    take_account(turn, read.account)
    if not read.failed and not read.positions_only:
        _settle_inactive(turn, read)
        settle_unlisted(turn, read)
        note_unlisted(turn, read)
        clear_vanished(turn)
        turn.read_session, turn.read_begun_ns = read.session_id, read.begun_ns
        # The venue's whole records are the word on both: on each order, and on whether another's is there still.
        turn.effects.append(ClearAlarm("venue_error"))
        if not turn.strangers:
            turn.effects.append(ClearAlarm("external_order"))
        mend_exits(turn)


def fold_report(turn: Turn, report: OrderReported, listed: bool = False) -> None:
    """Fold one claim about one order; `listed`: from the venue's own list rather than a live callback."""
    found = _find(turn, report.client_order_id, report.perm_id)
    if found is None:
        if not takes_order(turn, report, listed):
            _stranger(turn, report.client_order_id, report.perm_id, f"order {report.symbol} {report.status}")
        return
    family, order = found
    if _another_perm_id(turn, order, report.perm_id):
        return
    heard_of(turn, order)
    before = order
    order = shown(turn, order, report, listed)
    event = venue_event(report.status, report.perm_id, listed or report.completed)
    order = _with_venue_facts(turn, order, report)
    if event is None:
        turn.count("report_proves_nothing")
    else:
        order = turn.moved(order, event)
        order = msgspec.structs.replace(order, inactive=_is_inactive(order, event, report.completed))
        acknowledge_id(turn, family, order)
        family = turn.gone_out(family)
    if order.cum_qty and (order.cum_qty >= order.qty or order.state is OrderState.SUBMITTED):
        order = turn.moved(order, fill_event(order.qty, order.cum_qty))
    _store(turn, family, order)
    if report.whole and order.may_trade:
        read_back(turn, family, order, report)
    if before.state is OrderState.EXPIRED and order.state is not OrderState.EXPIRED:
        _surfaced(turn, order)


def fold_execution(turn: Turn, report: ExecutionReported, listed: bool = False) -> None:
    """Fold one execution: once for each id before its last dot, the latest correction winning.

    `listed`: in the venue's list of its day, where one that is no longer kept is no news; positions are compared.
    """
    found = _find(turn, report.client_order_id, report.perm_id)
    external = found is None and is_external(turn, report.client_order_id)
    taken = takes_execution(turn, report) if external else True
    if taken is None:
        _stranger(turn, report.client_order_id, report.perm_id, f"execution {report.symbol} {report.exec_id}")
    if not taken:
        return
    known_as = external_key(report.perm_id) if external else report.client_order_id
    fill = _fill(report, found[1].client_order_id if found else known_as)
    if not supersedes(turn.fills, fill):
        turn.count("execution_again")
        return
    old = turn.fills.get(fill.exec_base)
    if old is None and fill.ts_event_ns <= turn.absorbed_ts_ns:
        if listed:
            turn.count("execution_absorbed")
            return
        turn.incident("execution_too_old", fill.exec_base, f"{fill.symbol} qty {fill.qty}: older than any kept fill")
        return
    _move_position(turn, _with_early_commission(turn, fill, old), old)
    if external:
        fold_external_fill(turn, report)
        return
    if found is None:
        _stranger(turn, report.client_order_id, report.perm_id, f"execution {report.exec_id}")
        return
    family, order = found
    _another_perm_id(turn, order, report.perm_id)
    heard_of(turn, order)
    revived = order.state is OrderState.EXPIRED
    order = _filled(turn, order, fill, old)
    if not order.perm_id:
        order = msgspec.structs.replace(order, perm_id=report.perm_id)
    acknowledge_id(turn, family, order)
    _store(turn, turn.gone_out(family), order)
    if revived:
        _surfaced(turn, order)


def fold_commission(turn: Turn, report: CommissionReported) -> None:
    """Fold a commission: late, first, or again. The latest revision of an execution's commission wins."""
    base, revision = split_exec_id(report.exec_id)
    fill = turn.fills.get(base)
    if fill is None or fill.revision < revision:
        early = EarlyCommission(revision, report.commission, report.currency, report.realized_pnl)
        if turn.early_commissions.get(base) != early:
            kept = {**turn.early_commissions, base: early}
            while len(kept) > turn.settings.early_commissions_max:
                del kept[next(iter(kept))]
                turn.count("early_commission_dropped")
            turn.early_commissions = kept
        return
    if revision < fill.revision:
        turn.count("commission_superseded")
        return
    told = msgspec.structs.replace(
        fill, commission=report.commission, currency=report.currency, realized_pnl=report.realized_pnl
    )
    if told == fill:
        turn.count("commission_again")
        return
    turn.put_fill(told)
    position = turn.positions.get(fill.symbol, FLAT)
    commission = position.commission + told.commission - fill.commission
    turn.move(told, msgspec.structs.replace(position, commission=commission))


PLAIN_NOTICES = frozenset({202, 399})
"""Order cancelled, order held until the open: the order's own report says the same."""


def fold_error(turn: Turn, report: VenueErrorReported) -> None:
    """Count and show; never a change of state."""
    turn.count("venue_error")
    if report.venue_order_id > 0 and report.code not in PLAIN_NOTICES:
        text = f"order {report.venue_order_id}: {report.code} {report.text}"
        turn.effects.append(RaiseAlarm("venue_error", Severity.INFO, text))


def acknowledge_id(turn: Turn, family: Family, order: Order) -> None:
    """Remember the highest id of this generation that the venue has shown to know.

    An order of an earlier session whose id is not below the next id that this session began with was either not
    there then or is proof that the ids rolled back unseen: from here on it is the next generation.
    """
    generation, session = turn.generation, turn.session
    if generation is None or session is None or family.generation != generation.text:
        return
    if family.session_id != session.session_id and order.venue_order_id >= generation.venue_next_id:
        turn.count("generation_changed")
        number = generation.number + 1
        turn.generation = msgspec.structs.replace(generation, number=number, acknowledged_id=0)
        return
    if order.venue_order_id > generation.acknowledged_id:
        turn.generation = msgspec.structs.replace(generation, acknowledged_id=order.venue_order_id)


# ---- identity


def _find(turn: Turn, client_order_id: str, perm_id: int) -> tuple[Family, Order] | None:
    family = turn.family_of(client_order_id, perm_id)
    if family is None:
        return None
    for order in family.orders:
        if order.client_order_id == client_order_id or (not client_order_id and order.perm_id == perm_id):
            return family, order
    return None


def _stranger(turn: Turn, client_order_id: str, perm_id: int, what: str) -> None:
    """Something of no order that we keep: pruned, another's, or ours and missing from the journal."""
    parsed = ids.parse(client_order_id)
    if parsed is None or parsed.fund_tag != ids.fund_tag(turn.settings.fund):
        turn.count("external")
        text = f"{what}, permId {perm_id}, reference {client_order_id!r}: not ours, left alone"
        turn.strangers += 1
        turn.alarm("external_order", Severity.WARNING, text)
    elif parsed.family in turn.done:
        turn.count("report_of_pruned")
    else:
        turn.incident("missing_here", client_order_id, f"{what}: our reference, but the journal does not know it")


def _another_perm_id(turn: Turn, order: Order, perm_id: int) -> bool:
    if not perm_id or not order.perm_id or perm_id == order.perm_id:
        return False
    turn.incident("two_perm_ids", order.client_order_id, f"permIds {order.perm_id} and {perm_id}")
    return True


# ---- orders


def _with_venue_facts(turn: Turn, order: Order, report: OrderReported) -> Order:
    if report.perm_id and not order.perm_id:
        order = msgspec.structs.replace(order, perm_id=report.perm_id)
    if report.oca_group and report.oca_group != order.oca_group:
        order = msgspec.structs.replace(order, oca_group=report.oca_group)
    # One leg's partial fill reduces its sibling, and a partly filled parent its children: the venue's to decide. A
    # claim "Filled" reduces only to what executions have already shown, else it would run ahead of them; among the
    # completed orders it does so for an entry too (a correction took back what had filled it).
    reduced = report.qty
    if report.status == "Filled" and report.filled_qty == order.cum_qty:
        reduced = report.filled_qty
    final = report.completed and report.status == "Filled"
    if (final or order.leg is not Leg.ENTRY) and 0 < reduced < order.qty and reduced >= order.cum_qty:
        turn.count("leg_reduced")
        order = msgspec.structs.replace(order, qty=reduced)
    if report.filled_qty > order.cum_qty:
        turn.count("fill_claimed_before_execution")
    return order


def _is_inactive(order: Order, event: OrderEvent, completed: bool) -> bool:
    if order.state is not OrderState.REJECTED or completed:
        return False
    return order.inactive or event is OrderEvent.INACTIVE


def _settle_inactive(turn: Turn, read: VenueRead) -> None:
    """An Inactive order that a complete read no longer lists as open cannot be revived."""
    open_refs = {report.client_order_id for report in read.open_orders}
    open_perms = {report.perm_id for report in read.open_orders}
    for family in tuple(turn.families.values()):
        for order in family.orders:
            if order.inactive and order.client_order_id not in open_refs and order.perm_id not in open_perms:
                settled = msgspec.structs.replace(order, inactive=False)
                _store(turn, turn.families[family.intent.intent_id], settled)


def _filled(turn: Turn, order: Order, fill: Fill, old: Fill | None) -> Order:
    qty = order.cum_qty + fill.qty - (old.qty if old else 0)
    notional = order.notional + fill.qty * fill.px - (old.qty * old.px if old else 0)
    if qty > order.qty:
        turn.incident(
            "overfilled", order.client_order_id, f"executions of {qty} against an order of {order.qty} (1e-8)"
        )
    order = msgspec.structs.replace(order, cum_qty=qty, notional=notional, inactive=False)
    return turn.moved(order, fill_event(order.qty, qty))


def _store(turn: Turn, family: Family, order: Order) -> None:
    orders = tuple(order if each.client_order_id == order.client_order_id else each for each in family.orders)
    turn.put_family(msgspec.structs.replace(family, orders=orders))


def _surfaced(turn: Turn, order: Order) -> None:
    """An order that was given up is there after all: adopted, or cancelled where it still can be; never doubled.

    An exit is adopted in any case: whether it is needed, `broker_exits` says, anew. One that somebody wanted gone is
    asked to go again: that wish ended when it was given up.
    """
    turn.count("surfaced")
    text = f"{order.client_order_id} had expired here and is {order.state} there"
    turn.alarm("surfaced", Severity.CRITICAL, text, for_a_person=True)
    family = turn.family_of(order.client_order_id, 0)
    assert family is not None, "an order stands in its family"
    if order.superseded:
        _store(turn, family, msgspec.structs.replace(order, superseded=False))
    if order.cancel_asked and order.may_trade:
        cancel_surfaced(turn, order)
    cancels = turn.settings.surfaced is Surfaced.CANCEL and order.leg is Leg.ENTRY
    if cancels and order.may_trade and turn.session is not None:
        command = CancelVenueOrder(turn.session.session_id, order.client_order_id, order.venue_order_id)
        turn.effects.append(Drive(command))


# ---- positions


def _fill(report: ExecutionReported, client_order_id: str) -> Fill:
    base, revision = split_exec_id(report.exec_id)
    return Fill(
        exec_base=base,
        revision=revision,
        client_order_id=client_order_id,
        symbol=report.symbol,
        buy=report.side is Side.BUY,
        qty=report.last_qty,
        px=report.last_px,
        ts_event_ns=report.ts_event_ns,
    )


def _with_early_commission(turn: Turn, fill: Fill, old: Fill | None) -> Fill:
    early = turn.early_commissions.get(fill.exec_base)
    if early is not None and early.revision == fill.revision:
        turn.early_commissions = {
            base: entry for base, entry in turn.early_commissions.items() if base != fill.exec_base
        }
        return msgspec.structs.replace(
            fill, commission=early.commission, currency=early.currency, realized_pnl=early.realized_pnl
        )
    if old is not None:  # until the correction's own report comes
        return msgspec.structs.replace(
            fill, commission=old.commission, currency=old.currency, realized_pnl=old.realized_pnl
        )
    return fill


def _move_position(turn: Turn, fill: Fill, old: Fill | None) -> None:
    turn.put_fill(fill)  # a correction keeps its place in the order of arrival
    if old is None:
        position = apply_fill(turn.positions.get(fill.symbol, FLAT), fill)
    else:
        turn.count("execution_corrected")
        kept = (each for each in turn.fills.values() if each.symbol == fill.symbol)
        position = fold(turn.absorbed.get(fill.symbol, FLAT), kept)
    turn.move(fill, position)
