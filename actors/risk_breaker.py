"""Circuit breakers of orders: what the broker and the reconciler tell, folded into `kernels.order_breaker`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actors.messages import DivergenceChanged, FillBooked, Leg, OrderChanged
from actors.risk_state import RiskState
from kernels.order_breaker import OrderBreaker, OrderLimits, agreed, booked, diverged, forgotten, reported, written
from kernels.order_state import OrderState
from kernels.trading_day import trading_day

JUDGED_LEGS = frozenset({Leg.ENTRY, Leg.EXIT})
"""One order of a family: a refused parent takes its children along, and that is one refusal."""

Offsets = Sequence[tuple[int, int]]


def order_told(state: RiskState, limits: OrderLimits, told: OrderChanged, now_ns: int) -> RiskState:
    """Follow an order from its bytes to the venue's word."""
    known = state.orders.get(told.client_order_id)
    if told.leg not in JUDGED_LEGS or (known is not None and known.state == told.state):
        return state
    name, at_ns = told.client_order_id, told.since_ns or now_ns
    match OrderState(told.state):
        case OrderState.PENDING:
            breaker = written(state.breaker, name, at_ns)
        case OrderState.REJECTED:
            breaker = reported(state.breaker, limits, name, at_ns, rejected=True)
        case OrderState.SUBMITTED | OrderState.PARTIALLY_FILLED | OrderState.FILLED | OrderState.CANCELLED:
            breaker = reported(state.breaker, limits, name, at_ns, rejected=False)
        case _:
            breaker = forgotten(state.breaker, name)
    return _with(state, breaker)


def fill_booked(state: RiskState, told: FillBooked, offsets: Offsets, begins_hour: int) -> RiskState:
    """Book what a fill, its correction or its commission changed, in the fill's own day."""
    day = trading_day(told.ts_event_ns, offsets, begins_hour)
    return _with(state, booked(state.breaker, day, told.realized_pnl, told.commission))


def divergence_told(state: RiskState, told: DivergenceChanged) -> RiskState:
    """Confirmed ones stand; a first look may have met a fill on its way."""
    key = f"{told.kind} {told.subject}"
    if told.change == "cleared":
        return _with(state, agreed(state.breaker, key))
    return _with(state, diverged(state.breaker, key, told.first_ns)) if told.change == "confirmed" else state


def _with(state: RiskState, breaker: OrderBreaker) -> RiskState:
    return state if breaker is state.breaker else msgspec.structs.replace(state, breaker=breaker)
