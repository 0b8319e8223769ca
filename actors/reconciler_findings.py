"""The reconciler's comparison of two pictures, and what becomes of a divergence from read to read."""

from __future__ import annotations

import msgspec

from actors.effects import AppendLine, ClearAlarm, Count, Effect, RaiseAlarm, Send, Severity, StartTimer
from actors.external_orders import ExternalOrders
from actors.messages import DivergenceChanged, ExecutionReported, OrderPicture, PicturesTaken, VenueRead
from actors.reconciler_state import BLOCKING, LINES, Cleared, ReconcilerSettings, ReconcilerState, Tracked
from kernels import ids
from kernels.order_state import OrderState
from kernels.positions import split_exec_id
from kernels.reconcile import (
    OF_MONEY,
    OF_POSITIONS,
    Finding,
    FindingKind,
    Holding,
    OurOrder,
    TheirFill,
    TheirOrder,
    compare_fills,
    compare_orders,
    compare_positions,
)

AGAIN_TIMER = "again"


def compare(settings: ReconcilerSettings, state: ReconcilerState, pictures: PicturesTaken) -> tuple[Finding, ...]:
    """Find everything that the read can speak of. No query of it failed."""
    read = pictures.read
    positions = _compare_positions(settings, state, pictures)
    if read.positions_only:
        return positions
    tag = ids.fund_tag(settings.fund)
    orders = compare_orders((our_order(order) for order in pictures.orders), their_orders(read), tag)
    fills = compare_fills(
        pictures.fills,
        map(_their_fill, read.executions),
        tag,
        pictures.fills_known_from_ns,
        read.taken_ns - settings.commission_late_ns,
    )
    return (*_without_external(settings, pictures, orders), *fills, *positions)


def _compare_positions(
    settings: ReconcilerSettings, state: ReconcilerState, pictures: PicturesTaken
) -> tuple[Finding, ...]:
    here = [
        Holding(one.symbol, one.qty, one.avg_px, abs(one.commission * 10**8 // one.qty) if one.qty else 0)
        for one in pictures.positions
    ]
    there = [
        Holding(one.symbol, one.qty, one.avg_px)
        for one in pictures.read.positions
        if not (one.account and state.account) or one.account == state.account
    ]
    ignored = frozenset(settings.ignored_symbols)
    found = compare_positions(here, there, ignored, settings.average_bps_max)
    if settings.external_positions_count:
        return found
    return tuple(finding for finding in found if finding.kind is not FindingKind.POSITION_MISSING_HERE)


def _without_external(
    settings: ReconcilerSettings, pictures: PicturesTaken, found: tuple[Finding, ...]
) -> tuple[Finding, ...]:
    """Leave out the orders of others that are ignored, or followed by the broker."""
    if settings.external_orders is ExternalOrders.ALERT:
        return found
    followed = {f"perm:{perm_id}" for perm_id in pictures.externals}
    ignores = settings.external_orders is ExternalOrders.IGNORE
    return tuple(
        finding
        for finding in found
        if finding.kind is not FindingKind.EXTERNAL_ORDER or not (ignores or finding.subject in followed)
    )


def track(
    settings: ReconcilerSettings,
    state: ReconcilerState,
    read: VenueRead,
    compared: tuple[Finding, ...],
    money: tuple[Finding, ...] | None,
    now_ns: int,
) -> tuple[ReconcilerState, tuple[Effect, ...]]:
    """Raise what is new in `compared` and `money` (None: not compared), confirm what still stands, clear the rest."""
    found = {finding.key: finding for finding in (*compared, *(money or ()))}
    about = OF_POSITIONS if read.positions_only else frozenset(FindingKind) - OF_MONEY
    if money is not None:
        about |= OF_MONEY
    findings: dict[str, Tracked] = {}
    cleared: list[Cleared] = []
    effects: list[Effect] = []
    for key, old in state.findings.items():
        if old.finding.kind not in about:
            findings[key] = old
        elif key not in found:
            gone = Cleared(old.finding, old.since_ns, old.last_ns, now_ns, old.confirmed, read.request_id)
            cleared.append(gone)
            effects += [ClearAlarm(f"divergence.{key}"), *_told(settings, "cleared", old, now_ns), Count("cleared")]
    for key, finding in found.items():
        known = state.findings.get(key)
        if known is None and len(findings) >= settings.findings_max:
            effects.append(Count("finding_untracked"))
            continue
        since_ns = known.since_ns if known is not None else now_ns
        findings[key] = one = Tracked(finding, since_ns, known is not None, now_ns, read.request_id)
        if known is None:
            effects += [*_told(settings, "raised", one, now_ns), Count(f"divergence.{finding.kind}")]
        elif not known.confirmed:
            effects += _told(settings, "confirmed", one, now_ns)
        if known is None or not known.confirmed or known.finding != finding:
            effects.append(alarm_of(one))
    if any(not one.confirmed for one in findings.values()):
        effects.append(StartTimer(AGAIN_TIMER, settings.recheck_ns))
    if findings == state.findings:
        return state, tuple(effects)
    kept = (*state.cleared, *cleared)[-settings.cleared_max :]
    return msgspec.structs.replace(state, findings=findings, cleared=kept), tuple(effects)


def alarm_of(tracked: Tracked) -> RaiseAlarm:
    """Return the alarm of a divergence that stands."""
    finding = tracked.finding
    severity = Severity.CRITICAL if tracked.confirmed else Severity.WARNING
    return RaiseAlarm(f"divergence.{finding.key}", severity, finding.evidence)


def _told(settings: ReconcilerSettings, change: str, tracked: Tracked, now_ns: int) -> tuple[Effect, ...]:
    finding = tracked.finding
    line = DivergenceChanged(
        change=change,
        kind=finding.kind.value,
        subject=finding.subject,
        evidence=finding.evidence,
        request_id=tracked.request_id,
        first_ns=tracked.since_ns,
        last_ns=tracked.last_ns,
        at_ns=now_ns,
    )
    tells = settings.risk and finding.kind in BLOCKING
    return (AppendLine(LINES, line), *((Send(settings.risk, line, owed=True),) if tells else ()))


# ---- the pictures, as the kernel takes them


def our_order(order: OrderPicture) -> OurOrder:
    """As the broker actor keeps it."""
    return OurOrder(
        client_order_id=order.client_order_id,
        state=OrderState(order.state),
        symbol=order.symbol,
        qty=order.qty,
        cum_qty=order.cum_qty,
        perm_id=order.perm_id,
        limit_px=order.limit_px,
        stop_px=order.stop_px,
        side=order.side.value,
        order_type=order.order_type,
        time_in_force=order.time_in_force,
    )


def their_orders(read: VenueRead) -> tuple[TheirOrder, ...]:
    """Open ones, then completed ones."""
    return tuple(
        TheirOrder(
            client_order_id=report.client_order_id,
            perm_id=report.perm_id,
            status=report.status,
            symbol=report.symbol,
            qty=report.qty,
            filled_qty=report.filled_qty,
            completed=completed,
            limit_px=report.limit_px,
            stop_px=report.stop_px,
            side=report.side,
            order_type=report.order_type,
            time_in_force=report.time_in_force,
        )
        for completed, reports in ((False, read.open_orders), (True, read.completed_orders))
        for report in reports
    )


def _their_fill(told: ExecutionReported) -> TheirFill:
    base, revision = split_exec_id(told.exec_id)
    return TheirFill(base, revision, told.client_order_id, told.symbol, told.last_qty, told.last_px, told.ts_event_ns)
