"""What a cycle returns, exactly: integer arithmetic on Fixed8 counts, every rounding against us.

**A leg.** BUY takes base at the asks and pays quote, SELL gives base at the bids and gets quote. The limit price is
that of the worst level used, rounded to the tick against us (a BUY up, a SELL down). The quantity is in whole lots, at
most what stands at the levels used and the symbol's maximum (`kernels.leg`). Without a ladder the top of the book is
the one level.

**The fee** is a share of what a leg receives and is taken from it; or, where fees are paid in a token, from the token's
balance (`kernels.fees` says what is assumed of that): the leg then receives the whole amount, and the fee counts
against the cycle with what it is worth in the start asset, carried there over the remaining legs at the tops of
their books (which are never worse than what those legs get), rounded up once: `fee_cost`.

**The size** is that which gains most over all the levels there are (`kernels.cycle_size`), of those whose net return is
above the least asked for, where there is one; without ladders the largest that the tops and the cap on the start asset
let through. What is left over in an intermediate asset counts as nothing in `net_return`, which is (received -
fee_cost) / spent in the start asset.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import msgspec

from kernels.book_image import Row, Verdict
from kernels.cycle_size import walk
from kernels.cycles import BUY, SIDE_NAMES
from kernels.exchange_info import Symbol
from kernels.fixed8 import SCALE, format_ratio
from kernels.leg import Leg, leg_of


class Refusal(enum.StrEnum):
    """Why a cycle is no opportunity."""

    LEG_NOT_LIVE = "leg_not_live"
    BELOW_TICK = "below_tick"
    BELOW_LOT = "below_lot"
    BELOW_MIN_QTY = "below_min_qty"
    BELOW_MIN_NOTIONAL = "below_min_notional"
    NO_GAIN = "no_gain"


class Terms(NamedTuple):
    """What a cycle is evaluated under. Counts of 1e-8; `fees_e8`, a leg each: the fee's share of what it receives.

    `fee_token`: the asset that fees are paid in; empty: each from what its leg receives.
    """

    fees_e8: tuple[int, ...]
    start_max: int | None
    net_return_min: Fraction
    fee_token: str = ""


class LadderUsed(msgspec.Struct, frozen=True):
    """A ladder's side as it stood: (price, quantity) best first, and which it was. It is live."""

    sequence: int
    venue_update_id: int
    age_ns: int
    levels: tuple[tuple[int, int], ...]


class LegQuote(msgspec.Struct, frozen=True):
    """One leg as it stood: market, side, the row it was read from, the verdict on that row and its age then.

    `ladder`: what stood behind the top, where there is a live one.
    """

    symbol: str
    side: str
    row: Row
    verdict: Verdict
    age_ns: int
    ladder: LadderUsed | None = None


class Step(msgspec.Struct, frozen=True, gc=False):
    """One leg's arithmetic, in counts: `qty` of base at `limit_px` or better, over the best `levels`.

    `residual` is what of its input is left over. `fee` is in the asset received, and taken off `received` unless the
    decision names a token that it is paid in.
    """

    limit_px: int
    qty: int
    spent: int
    fee: int
    received: int
    residual: int
    levels: int = 1


class Decision(msgspec.Struct, frozen=True):
    """A cycle evaluated exactly, with everything it was evaluated on.

    `gross_return`: of the book's prices alone, no fee, no rounding; `net_return`: (received - fee_cost) / spent. Both
    decimal text, 12 places, to nearest; compare with `net_gain`, not with these. Empty where a leg was not live or no
    size was legal. `refusal` is None for an opportunity. `steps` is empty, and the amounts 0, where no size was
    legal. `fee_cost`: what fees paid in `fee_token` are worth in the start asset; 0 without a token.
    """

    cycle: int
    start_asset: str
    legs: tuple[LegQuote, ...]
    evaluated_ns: int
    refusal: Refusal | None
    gross_return: str = ""
    net_return: str = ""
    spent: int = 0
    received: int = 0
    steps: tuple[Step, ...] = ()
    fee_token: str = ""
    fee_cost: int = 0

    @property
    def net_gain(self) -> int:
        """What the start asset gains, the fees' worth taken off, as a count; negative for a loss."""
        return self.received - self.fee_cost - self.spent

    def path(self) -> tuple[str, ...]:
        """Return the legs as `SYMBOL:SIDE`."""
        return tuple(f"{leg.symbol}:{leg.side}" for leg in self.legs)


def gross_return(quotes: Sequence[tuple[int, int, int]]) -> Fraction:
    """Return the exact product of the rates of (side, bid_px, ask_px) legs, prices above zero."""
    numerator = denominator = 1
    for side, bid_px, ask_px in quotes:
        numerator *= SCALE if side == BUY else bid_px
        denominator *= ask_px if side == BUY else SCALE
    return Fraction(numerator, denominator)


def decide(
    cycle: int,
    start_asset: str,
    symbols: Sequence[Symbol],
    sides: Sequence[int],
    rows: Sequence[tuple[Verdict, Row]],
    terms: Terms,
    now_ns: int,
    ladders: Sequence[LadderUsed | None] = (),
) -> Decision:
    """Evaluate one cycle exactly, of any length. Never raises for what the market says; a refusal names the first
    reason met.

    `ladders`: of each leg, of its own side, or None; no entry at all: none has one. A leg that is not LIVE, or whose
    price on either side is not above zero, ends it before any arithmetic.
    """
    behind = ladders or (None,) * len(sides)
    legs = tuple(
        LegQuote(symbol.name, SIDE_NAMES[side], row, verdict, now_ns - row.received_ns, ladder)
        for symbol, side, (verdict, row), ladder in zip(symbols, sides, rows, behind, strict=True)
    )
    if any(leg.verdict is not Verdict.LIVE or leg.row.bid_px <= 0 or leg.row.ask_px <= 0 for leg in legs):
        return Decision(cycle, start_asset, legs, now_ns, Refusal.LEG_NOT_LIVE)
    prices = [(side, row.bid_px, row.ask_px) for side, (_, row) in zip(sides, rows, strict=True)]
    gross_text = format_ratio(gross_return(prices))
    ready = [
        leg_of(
            symbol, side, row, fee_e8, bool(terms.fee_token),
            ladder.levels if ladder else (), ladder.venue_update_id if ladder else 0,
        )
        for symbol, side, (_, row), fee_e8, ladder in zip(symbols, sides, rows, terms.fees_e8, behind, strict=True)
    ]  # fmt: skip
    best = _best(ready, prices, terms)
    if isinstance(best, Refusal):
        return Decision(cycle, start_asset, legs, now_ns, best, gross_text)
    net = best.net
    return Decision(
        cycle=cycle,
        start_asset=start_asset,
        legs=legs,
        evaluated_ns=now_ns,
        refusal=None if net > terms.net_return_min else Refusal.NO_GAIN,
        gross_return=gross_text,
        net_return=format_ratio(net),
        spent=best.spent,
        received=best.received,
        steps=best.steps,
        fee_token=terms.fee_token,
        fee_cost=best.fee_cost,
    )


class _Sized(NamedTuple):
    """A plan's arithmetic."""

    steps: tuple[Step, ...]
    fee_cost: int

    @property
    def spent(self) -> int:
        return self.steps[0].spent

    @property
    def received(self) -> int:
        return self.steps[-1].received

    @property
    def net(self) -> Fraction:
        return Fraction(self.received - self.fee_cost, self.spent)


def _best(legs: list[Leg], prices: Sequence[tuple[int, int, int]], terms: Terms) -> _Sized | Refusal:
    """Return the plan that gains most, of those above `net_return_min` where one is; the first of equals."""
    if not all(leg.levels for leg in legs):
        return Refusal.BELOW_TICK
    best: _Sized | Refusal = Refusal.BELOW_LOT
    best_rank: tuple[bool, int] | None = None
    for quantities, failed in walk(legs, terms.start_max):
        if failed >= 0:
            best = best if best_rank else _too_small(quantities[-1], legs[failed].symbol)
            continue
        steps = _steps(legs, quantities)
        one = _Sized(steps, _fee_cost(steps, prices) if terms.fee_token else 0)
        rank = (one.net > terms.net_return_min, one.received - one.fee_cost - one.spent)
        if best_rank is None or rank > best_rank:
            best, best_rank = one, rank
    return best


def _fee_cost(steps: Sequence[Step], prices: Sequence[tuple[int, int, int]]) -> int:
    """Return what the steps' fees are worth in the start asset, at the tops of the legs that follow each."""
    worth = Fraction(0)
    for step, price in zip(steps, prices, strict=True):
        worth = worth * gross_return([price]) + step.fee
    return -(-worth.numerator // worth.denominator)


def _too_small(qty: int, symbol: Symbol) -> Refusal:
    if qty == 0:
        return Refusal.BELOW_LOT
    return Refusal.BELOW_MIN_QTY if qty < symbol.min_qty else Refusal.BELOW_MIN_NOTIONAL


def _steps(legs: list[Leg], quantities: list[int]) -> tuple[Step, ...]:
    steps: list[Step] = []
    for leg, qty in zip(legs, quantities, strict=True):
        fills, spent = leg.fills(qty), leg.spends(qty)
        fee, received = leg.receives(qty)
        residual = steps[-1].received - spent if steps else 0
        steps.append(Step(fills[-1][0], qty, spent, fee, received, residual, len(fills)))
    return tuple(steps)
