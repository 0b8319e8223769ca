"""From an exact decision to the plan that an executor can carry out without the market's listing."""

from __future__ import annotations

from collections.abc import Sequence

from kernels.cycle_execution import PlannedLeg
from kernels.evaluate import Decision
from kernels.exchange_info import Symbol


def plan_of(decision: Decision, symbols: Sequence[Symbol], fees_e8: Sequence[int]) -> tuple[PlannedLeg, ...]:
    """Return the legs of an opportunity, with their markets' terms; `fees_e8`, a leg each."""
    return tuple(
        PlannedLeg(
            symbol=symbol.name,
            side=leg.side,
            base=symbol.base,
            quote=symbol.quote,
            limit_px=step.limit_px,
            qty=step.qty,
            spent=step.spent,
            fee=step.fee,
            received=step.received,
            fee_e8=fee_e8,
            tick_size=symbol.tick_size,
            lot_size=symbol.lot_size,
            min_qty=symbol.min_qty,
            max_qty=symbol.max_qty,
            min_notional=symbol.min_notional,
            fee_taken=not decision.fee_token,
            top_px=leg.row.ask_px if leg.side == "BUY" else leg.row.bid_px,
        )
        for leg, step, symbol, fee_e8 in zip(decision.legs, decision.steps, symbols, fees_e8, strict=True)
    )
