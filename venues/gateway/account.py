"""Positions, cash, commissions and realized profit, exact, as a fold of executions.

IB's average cost contains the commissions of what opened the position. A closing fill therefore realizes
`proceeds - share of the cost - its own commission`, and whenever a position is flat, the sum of what was realized on
it equals the change in cash that its trades made: nothing is lost to rounding, because the last fill that closes
takes the whole cost that is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal

import msgspec

from venues.gateway.model import ZERO, Execution

_COST_STEP = Decimal("1e-8")


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """What is held of one stock and what it cost, commissions included."""

    con_id: int
    symbol: str
    qty: Decimal = ZERO
    """Signed: negative is short."""
    cost: Decimal = ZERO
    """Signed as qty: what was paid for a long with commissions, minus what was received for a short after them."""
    realized_pnl: Decimal = ZERO

    @property
    def avg_cost(self) -> Decimal:
        return (self.cost / self.qty).quantize(_COST_STEP) if self.qty else ZERO


def commission_of(cum_qty: Decimal, last_qty: Decimal, per_share: Decimal, minimum: Decimal) -> Decimal:
    """Return the commission of a fill of `last_qty` that brings its order to `cum_qty`.

    The minimum is owed once an order: the first fill pays it, later ones only what goes beyond it.
    """
    before = cum_qty - last_qty
    due = max(minimum, cum_qty * per_share)
    return due - (max(minimum, before * per_share) if before else ZERO)


def fill_position(
    position: Position, is_buy: bool, qty: Decimal, px: Decimal, commission: Decimal
) -> tuple[Position, Decimal | None]:
    """Return the position after a fill, and what the fill realized (None when it closed nothing).

    A fill that goes through zero closes first and opens with the rest; its commission is shared by quantity, the
    opening part taking what rounding leaves.
    """
    signed = qty if is_buy else -qty
    closing = min(qty, abs(position.qty)) if position.qty * signed < 0 else ZERO
    opening = qty - closing
    closing_fee = commission if not opening else (commission * closing / qty).quantize(_COST_STEP, ROUND_HALF_EVEN)
    direction = 1 if is_buy else -1
    realized: Decimal | None = None
    held, cost = position.qty, position.cost
    if closing:
        share = cost if closing == abs(held) else (cost * closing / abs(held)).quantize(_COST_STEP, ROUND_HALF_EVEN)
        realized = -direction * closing * px - share - closing_fee
        cost -= share
        held += direction * closing
    held += direction * opening
    cost += direction * opening * px + ((commission - closing_fee) if opening else ZERO)
    total = position.realized_pnl + (realized or ZERO)
    return msgspec.structs.replace(position, qty=held, cost=cost, realized_pnl=total), realized


class AccountBase(msgspec.Struct, frozen=True, kw_only=True):
    """What the executions before the kept ones came to."""

    cash: Decimal
    commissions: Decimal = ZERO
    positions: tuple[Position, ...] = ()
    executions: int = 0


class Account:
    """Cash and positions of one account; `preview` and `apply` are the only ways in."""

    def __init__(self, base: AccountBase, per_share: Decimal, minimum: Decimal) -> None:
        self.cash = base.cash
        self.commissions = base.commissions
        self.executions = base.executions
        self._positions = {position.con_id: position for position in base.positions}
        self._per_share = per_share
        self._minimum = minimum

    @property
    def positions(self) -> Mapping[int, Position]:
        """By conId, flat ones included once they were traded."""
        return self._positions

    def position(self, con_id: int, symbol: str) -> Position:
        return self._positions.get(con_id) or Position(con_id=con_id, symbol=symbol)

    def preview(
        self, con_id: int, symbol: str, is_buy: bool, qty: Decimal, px: Decimal, cum_qty: Decimal
    ) -> tuple[Decimal, Decimal | None]:
        """Return the commission and the realized profit that such a fill would have."""
        commission = commission_of(cum_qty, qty, self._per_share, self._minimum)
        _, realized = fill_position(self.position(con_id, symbol), is_buy, qty, px, commission)
        return commission, realized

    def apply(self, execution: Execution) -> None:
        before = self.position(execution.con_id, execution.symbol)
        after, _ = fill_position(before, execution.is_buy, execution.qty, execution.px, execution.commission)
        self._positions[execution.con_id] = after
        paid = execution.qty * execution.px if execution.is_buy else -execution.qty * execution.px
        self.cash -= paid + execution.commission
        self.commissions += execution.commission
        self.executions += 1

    def base(self) -> AccountBase:
        return AccountBase(
            cash=self.cash,
            commissions=self.commissions,
            positions=tuple(self._positions.values()),
            executions=self.executions,
        )
