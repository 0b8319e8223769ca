"""The end of an attempt, worked out: expected against observed for each order, and what it came to, exactly."""

from __future__ import annotations

from collections.abc import Mapping

from actors.executor_state import Work
from actors.messages import CycleEnd, CycleOutcome, ExecuteCycle, LegOutcome, Side
from kernels.breaker import Result, slip_e4
from kernels.cycle_execution import UNWIND_LEG, CycleOrder, Mode, flows_of, observed_px
from kernels.cycle_saga import completed
from kernels.fixed8 import SCALE

NEVER_LEFT = ("not_sent", "expired", "halt", "unfit")
"""How a reason begins that ends an order of which not a byte left."""


def refusal(ask: ExecuteCycle, mode: Mode, guard: str, figures: Mapping[str, str], now_ns: int) -> CycleOutcome:
    """Nothing left, and nothing will."""
    return CycleOutcome(
        attempt_id=ask.attempt_id,
        end=CycleEnd.REFUSED,
        mode=mode.value,
        start_asset=ask.start_asset,
        expected=ask.received - ask.spent,
        realized=0,
        guard=guard,
        figures=dict(figures),
        decided_ns=ask.decided_ns,
        ended_ns=now_ns,
    )


def outcome_of(work: Work, mode: Mode, left: Mapping[str, int], reason: str, now_ns: int) -> CycleOutcome:
    """What an attempt came to. `left`: what is not dust and stays."""
    ask, attempt = work.ask, work.attempt
    flows = flows_of(attempt)
    end = _end(work, left)
    realized = flows.get(ask.start_asset, 0)
    figures = {f"left.{asset}": str(amount) for asset, amount in left.items()}
    slip = slip_e4(result_of(work, end)) if end is CycleEnd.FILLED else None
    return CycleOutcome(
        attempt_id=ask.attempt_id,
        end=end,
        mode=mode.value,
        start_asset=ask.start_asset,
        expected=ask.received - ask.spent,
        realized=realized,
        guard=reason,
        figures=figures,
        flows=flows,
        residuals={asset: amount for asset, amount in flows.items() if asset != ask.start_asset},
        legs=tuple(_leg(work, order) for order in attempt.orders),
        slip_bps=slip,
        decided_ns=ask.decided_ns,
        ended_ns=now_ns,
    )


def result_of(work: Work, end: CycleEnd) -> Result:
    """What the breaker judges: an attempt that filled less than planned is expected to gain so much less."""
    ask, first = work.ask, work.attempt.orders[0]
    planned = work.attempt.legs[0].qty
    share = (first.cum_qty, planned)
    return Result(
        start_asset=ask.start_asset,
        filled=end is CycleEnd.FILLED,
        spent=ask.spent * share[0] // share[1],
        expected=(ask.received - ask.spent) * share[0] // share[1],
        realized=flows_of(work.attempt).get(ask.start_asset, 0),
    )


def _end(work: Work, left: Mapping[str, int]) -> CycleEnd:
    if left:
        return CycleEnd.HELD
    if completed(work.attempt):
        return CycleEnd.FILLED
    if any(order.cum_qty for order in work.attempt.orders):
        return CycleEnd.UNWOUND
    never_left = all(told.reason.startswith(NEVER_LEFT) for told in work.told.values())
    return CycleEnd.REFUSED if never_left else CycleEnd.NOT_FILLED


def _leg(work: Work, order: CycleOrder) -> LegOutcome:
    planned, told = work.attempt.legs[order.leg], work.told[order.key]
    unwinds = order.unwinds
    amount = order.qty if order.side == "BUY" else order.qty * order.expected_px // SCALE
    return LegOutcome(
        client_order_id=told.client_order_id,
        leg=UNWIND_LEG if unwinds else order.key,
        symbol=planned.symbol,
        side=Side(order.side),
        expected_px=order.expected_px,
        expected_qty=order.qty if unwinds else planned.qty,
        limit_px=order.limit_px,
        qty=order.qty,
        state=told.state,
        observed_px=observed_px(order),
        observed_qty=order.cum_qty,
        observed_quote_qty=order.cum_quote_qty,
        expected_fee=amount - amount * (SCALE - planned.fee_e8) // SCALE if unwinds else planned.fee,
        commissions=order.commissions,
        latency_ns=told.done_ns - work.placed_ns[order.key],
        reason=told.reason,
    )
