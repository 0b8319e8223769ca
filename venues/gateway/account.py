"""Positions, cash, commissions and realized profit, exact, as a fold of executions.

IB's average cost contains the commissions of what opened the position. A closing fill therefore realizes
`proceeds - share of the cost - its own commission`, and whenever a position is flat, the sum of what was realized on
it equals the change in cash that its trades made: nothing is lost to rounding, because the last fill that closes
takes the whole cost that is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal

import msgspec

from venues.gateway.contracts import Instrument
from venues.gateway.model import ZERO, Execution

_COST_STEP = Decimal("1e-8")


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """What is held of one instrument and what it cost, multiplied and with commissions."""

    con_id: int
    symbol: str
    sec_type: str = "STK"
    multiplier: Decimal = Decimal(1)
    qty: Decimal = ZERO
    """Signed: negative is short."""
    cost: Decimal = ZERO
    """Signed as qty: what was paid for a long with commissions, minus what was received for a short after them."""
    realized_pnl: Decimal = ZERO

    @property
    def avg_cost(self) -> Decimal:
        return (self.cost / self.qty).quantize(_COST_STEP) if self.qty else ZERO


class Fees(msgspec.Struct, frozen=True):
    """Commissions by kind of instrument: for a share or contract, and at least for an order."""

    per_share: Decimal = Decimal("0.005")
    share_min: Decimal = Decimal("1.00")
    per_option: Decimal = Decimal("0.65")
    option_min: Decimal = Decimal("1.00")
    per_future: Decimal = Decimal("2.25")

    def of(self, sec_type: str) -> tuple[Decimal, Decimal]:
        match sec_type:
            case "OPT":
                return self.per_option, self.option_min
            case "FUT":
                return self.per_future, ZERO
            case _:
                return self.per_share, self.share_min


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

    `px` is the price of one unit, multiplied. A fill that goes through zero closes first and opens with the rest; its
    commission is shared by quantity, the opening part taking what rounding leaves.
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
    """Cash and positions of one account; `preview` and `apply` are the only ways in.

    `cash` counts every fill as paid in full, futures too: `cash_told` gives the notional value of futures back, of
    which a real account pays only the variation.
    """

    def __init__(self, base: AccountBase, fees: Fees) -> None:
        self.cash = base.cash
        self.commissions = base.commissions
        self.executions = base.executions
        self._positions = {position.con_id: position for position in base.positions}
        self._fees = fees

    @property
    def positions(self) -> Mapping[int, Position]:
        """By conId, flat ones included once they were traded."""
        return self._positions

    @property
    def cash_told(self) -> Decimal:
        futures = (held.cost for held in self._positions.values() if held.sec_type == "FUT")
        return self.cash + sum(futures, ZERO)

    def preview(
        self, instrument: Instrument, is_buy: bool, qty: Decimal, px: Decimal, cum_qty: Decimal
    ) -> tuple[Decimal, Decimal | None]:
        """Return the commission and the realized profit that such a fill would have."""
        commission = commission_of(cum_qty, qty, *self._fees.of(instrument.sec_type))
        held = self._positions.get(instrument.con_id) or Position(con_id=instrument.con_id, symbol=instrument.symbol)
        _, realized = fill_position(held, is_buy, qty, px * instrument.multiplier, commission)
        return commission, realized

    def apply(self, fill: Execution) -> None:
        before = self._positions.get(fill.con_id) or Position(
            con_id=fill.con_id, symbol=fill.symbol, sec_type=fill.sec_type, multiplier=fill.multiplier
        )
        unit = fill.px * fill.multiplier
        self._positions[fill.con_id], _ = fill_position(before, fill.is_buy, fill.qty, unit, fill.commission)
        self.cash -= (fill.qty * unit if fill.is_buy else -fill.qty * unit) + fill.commission
        self.commissions += fill.commission
        self.executions += 1

    def restate(self, base: AccountBase, fills: Iterable[Execution]) -> None:
        """Count all fills anew: one of them was corrected."""
        anew = Account(base, self._fees)
        for fill in fills:
            anew.apply(fill)
        self.cash, self.commissions, self._positions = anew.cash, anew.commissions, anew._positions

    def base(self) -> AccountBase:
        return AccountBase(
            cash=self.cash,
            commissions=self.commissions,
            positions=tuple(self._positions.values()),
            executions=self.executions,
        )
