"""What a cycle returns, exactly: integer arithmetic on Fixed8 counts, every rounding against us.

**A leg.** BUY takes base at the ask and pays quote, SELL gives base at the bid and gets quote. The limit price is the
book's, rounded to the tick against us (a BUY up, a SELL down). The quantity is in whole lots, at most what stands at
the top of the book and the symbol's maximum. A BUY's cost is rounded up, a SELL's proceeds down, and the fee up; each
to 1e-8.

**The fee** is a share of what a leg receives and is taken from it; or, where fees are paid in a token, from the token's
balance (`kernels.fees` says what is assumed of that): the leg then receives the whole amount, and the fee counts
against the cycle with what it is worth in the start asset, carried there over the remaining legs at the tops of
their books (which are never worse than what those legs get), rounded up once: `fee_cost`.

**The size** is the largest that the three tops of book and the cap on the start asset let through. Found forwards:
each leg takes as many lots as its input buys or its book holds. Then backwards: each earlier leg is cut to the fewest
lots that still feed the next (and are legal), so that what is left over in an intermediate asset is less than a lot's
worth. What is left over counts as nothing in `net_return`, which is (received - fee_cost) / spent in the start asset.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import msgspec

from kernels.book_image import Row, Verdict
from kernels.cycles import BUY, SIDE_NAMES
from kernels.exchange_info import Symbol
from kernels.fixed8 import SCALE, format_ratio


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


class LegQuote(msgspec.Struct, frozen=True, gc=False):
    """One leg as it stood: market, side, the row it was read from, the verdict on that row and its age then."""

    symbol: str
    side: str
    row: Row
    verdict: Verdict
    age_ns: int


class Step(msgspec.Struct, frozen=True, gc=False):
    """One leg's arithmetic, in counts: `qty` of base at `limit_px`; `residual` is what of its input is left over.

    `fee` is in the asset received, and taken off `received` unless the decision names a token that it is paid in.
    """

    limit_px: int
    qty: int
    spent: int
    fee: int
    received: int
    residual: int


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


class _Leg(NamedTuple):
    """A leg ready for arithmetic: limit price, lots available, least legal quantity; counts all.

    `taken_e8`: the fee's share that is taken from what is received, `fee_e8` unless a token pays it.
    """

    buy: bool
    limit_px: int
    qty_max: int
    qty_min: int
    lot_size: int
    fee_e8: int
    taken_e8: int


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
) -> Decision:
    """Evaluate one cycle exactly, of any length. Never raises for what the market says; a refusal names the first
    reason met.

    A leg that is not LIVE, or whose price on either side is not above zero, ends it before any arithmetic.
    """
    legs = tuple(
        LegQuote(symbol.name, SIDE_NAMES[side], row, verdict, now_ns - row.received_ns)
        for symbol, side, (verdict, row) in zip(symbols, sides, rows, strict=True)
    )
    if any(leg.verdict is not Verdict.LIVE or leg.row.bid_px <= 0 or leg.row.ask_px <= 0 for leg in legs):
        return Decision(cycle, start_asset, legs, now_ns, Refusal.LEG_NOT_LIVE)
    prices = [(side, row.bid_px, row.ask_px) for side, (_, row) in zip(sides, rows, strict=True)]
    gross_text = format_ratio(gross_return(prices))
    paid_in_token = bool(terms.fee_token)
    ready = [
        _ready(symbol, side, row, fee_e8, paid_in_token)
        for symbol, side, (_, row), fee_e8 in zip(symbols, sides, rows, terms.fees_e8, strict=True)
    ]
    quantities = _sized(ready, symbols, terms.start_max)
    if isinstance(quantities, Refusal):
        return Decision(cycle, start_asset, legs, now_ns, quantities, gross_text)
    steps = _steps(ready, quantities)
    spent, received = steps[0].spent, steps[-1].received
    fee_cost = _fee_cost(steps, prices) if paid_in_token else 0
    net = Fraction(received - fee_cost, spent)
    return Decision(
        cycle=cycle,
        start_asset=start_asset,
        legs=legs,
        evaluated_ns=now_ns,
        refusal=None if net > terms.net_return_min else Refusal.NO_GAIN,
        gross_return=gross_text,
        net_return=format_ratio(net),
        spent=spent,
        received=received,
        steps=steps,
        fee_token=terms.fee_token,
        fee_cost=fee_cost,
    )


def _fee_cost(steps: Sequence[Step], prices: Sequence[tuple[int, int, int]]) -> int:
    """Return what the steps' fees are worth in the start asset, at the tops of the legs that follow each."""
    worth = Fraction(0)
    for step, price in zip(steps, prices, strict=True):
        worth = worth * gross_return([price]) + step.fee
    return _ceil_div(worth.numerator, worth.denominator)


def _ready(symbol: Symbol, side: int, row: Row, fee_e8: int, paid_in_token: bool) -> _Leg:
    tick, lot = symbol.tick_size, symbol.lot_size
    limit_px = _up(row.ask_px, tick) if side == BUY else row.bid_px // tick * tick
    available = min(row.ask_qty if side == BUY else row.bid_qty, symbol.max_qty) // lot * lot
    notional_qty = _ceil_div(symbol.min_notional * SCALE, limit_px) if limit_px else 0
    least = _up(max(symbol.min_qty, notional_qty), lot)
    return _Leg(side == BUY, limit_px, available, least, lot, fee_e8, 0 if paid_in_token else fee_e8)


def _sized(legs: list[_Leg], symbols: Sequence[Symbol], start_max: int | None) -> list[int] | Refusal:
    """Return the quantity of each leg, forwards to the largest and backwards to the least that feeds it."""
    if any(leg.limit_px == 0 for leg in legs):
        return Refusal.BELOW_TICK
    have = start_max if start_max is not None else _spends(legs[0], legs[0].qty_max)
    quantities: list[int] = []
    for leg, symbol in zip(legs, symbols, strict=True):
        bought = min(leg.qty_max, have * SCALE // leg.limit_px if leg.buy else have)
        qty = bought // leg.lot_size * leg.lot_size
        if qty < leg.qty_min:
            return _too_small(qty, symbol)
        quantities.append(qty)
        have = _receives(leg, qty)[1]
    for at in range(len(legs) - 2, -1, -1):
        quantities[at] = _least(legs[at], _spends(legs[at + 1], quantities[at + 1]))
    return quantities


def _too_small(qty: int, symbol: Symbol) -> Refusal:
    if qty == 0:
        return Refusal.BELOW_LOT
    return Refusal.BELOW_MIN_QTY if qty < symbol.min_qty else Refusal.BELOW_MIN_NOTIONAL


def _steps(legs: list[_Leg], quantities: list[int]) -> tuple[Step, ...]:
    steps: list[Step] = []
    for leg, qty in zip(legs, quantities, strict=True):
        spent = _spends(leg, qty)
        fee, received = _receives(leg, qty)
        residual = steps[-1].received - spent if steps else 0
        steps.append(Step(leg.limit_px, qty, spent, fee, received, residual))
    return tuple(steps)


def _spends(leg: _Leg, qty: int) -> int:
    return _ceil_div(qty * leg.limit_px, SCALE) if leg.buy else qty


def _receives(leg: _Leg, qty: int) -> tuple[int, int]:
    """Return (fee, received), the fee rounded up."""
    amount = qty if leg.buy else qty * leg.limit_px // SCALE
    fee = _ceil_div(amount * leg.fee_e8, SCALE)
    return fee, amount - fee if leg.taken_e8 else amount


def _least(leg: _Leg, needed: int) -> int:
    """Return the fewest whole lots, legal ones, that receive at least `needed`.

    x - ceil(x f / S) = floor(x k / S) with k = S - f; that is >= n exactly when x >= n S / k, and floor(q p / S) >= x
    exactly when q >= x S / p: two ceilings.
    """
    amount = _ceil_div(needed * SCALE, SCALE - leg.taken_e8)
    qty = amount if leg.buy else _ceil_div(amount * SCALE, leg.limit_px)
    return max(_up(qty, leg.lot_size), leg.qty_min)


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def _up(count: int, step: int) -> int:
    return _ceil_div(count, step) * step
