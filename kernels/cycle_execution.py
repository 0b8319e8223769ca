"""The execution of one cycle: which order comes next, from what the orders before it really did. Exact integers.

A plan has three or four legs; leg k turns asset k - 1 into asset k, the last back into the start asset. An attempt is
the plan and the orders placed for it; everything else follows from these two, so that whoever has them can go on.

**In sequence** each leg is sized by what the one before really gave, commissions taken off in whatever asset they were
charged, down to the lot; before each, the legs left are looked at again (`chain`): all live, and the cycle still
above its least return at the prices as they are now. A leg that was short goes on with what it gave. **At once**
every leg goes out with its planned quantity, out of balances held.

What is then not in the start asset is unwound, an order at a time (`kernels.cycle_unwind`); what no order may carry,
because it is below lot, minimum quantity or minimum notional, is dust: kept, and told as a residual.

Derived here; the arithmetic of a leg is `kernels.evaluate`'s: a BUY's cost rounded up, a SELL's proceeds down.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final

import msgspec

from kernels.fixed8 import SCALE

BUY: Final = "BUY"
SELL: Final = "SELL"
UNWIND_LEG: Final = "unwind"


class PlannedLeg(msgspec.Struct, frozen=True, gc=False):
    """One leg of a decision: market, limits, and what is expected of it. Counts of 1e-8.

    `side`: BUY or SELL. `fee_e8`: the fee's share of what the leg receives; `fee_taken`: it is taken from that, and
    not paid in a token. `spent`, `received`: of the leg's input and output asset, a fee that is taken off `received`.
    `top_px`: of the book it was decided on, where `limit_px` lies behind it because levels were walked; else 0.
    """

    symbol: str
    side: str
    base: str
    quote: str
    limit_px: int
    qty: int
    spent: int
    fee: int
    received: int
    fee_e8: int
    tick_size: int
    lot_size: int
    min_qty: int
    max_qty: int
    min_notional: int
    fee_taken: bool = True
    top_px: int = 0

    @property
    def taken_e8(self) -> int:
        """The fee's share that what it receives is less by."""
        return self.fee_e8 if self.fee_taken else 0

    @property
    def gives(self) -> str:
        """The asset it spends."""
        return self.quote if self.side == BUY else self.base

    @property
    def takes(self) -> str:
        """The asset it receives."""
        return self.base if self.side == BUY else self.quote


class Mode(enum.StrEnum):
    """How the legs go out."""

    SEQUENCE = "sequence"
    AT_ONCE = "at_once"


class Unwind(enum.StrEnum):
    """What to do with what a leg that failed or was short leaves."""

    BACK = "back"
    """Return along the path to the start asset."""
    FORWARD = "forward"
    """Complete the cycle where that loses less than going back, by the prices at the first step."""
    HOLD = "hold"
    """Keep it."""


class Top(msgspec.Struct, frozen=True, gc=False):
    """A market's top as it was read. `live`: it may open risk; else it is known but stale, or (zero) not known."""

    bid_px: int
    ask_px: int
    live: bool


class Policy(msgspec.Struct, frozen=True, gc=False):
    """`net_return_min`: strictly above it. `slippage_e4`: how far an unwinding price may lie off the top, in 1e-4."""

    mode: Mode
    unwind: Unwind
    net_return_min: Fraction
    slippage_e4: int
    unwind_orders_max: int


class CycleOrder(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One order of an attempt. `key` is its place in it: `1` to `4` for a leg, `u1` and on for unwinding.

    `leg` is the index of the leg in whose market it is. The fields from `done` on are what became of it, whole.
    """

    key: str
    leg: int
    side: str
    qty: int
    limit_px: int
    expected_px: int
    done: bool = False
    cum_qty: int = 0
    cum_quote_qty: int = 0
    commissions: Mapping[str, int] = {}

    @property
    def unwinds(self) -> bool:
        """Whether it reduces risk."""
        return self.key.startswith("u")


class Attempt(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A cycle in work. `stopped`: why no further leg is tried; `route`: the way of unwinding, once it is chosen."""

    legs: tuple[PlannedLeg, ...]
    orders: tuple[CycleOrder, ...] = ()
    stopped: str = ""
    route: str = ""

    @property
    def start_asset(self) -> str:
        """Where it begins and ends."""
        return self.legs[0].gives


class Place(msgspec.Struct, frozen=True, gc=False):
    """These orders are to go out now; they are in the attempt already."""

    orders: tuple[CycleOrder, ...]


class Finish(msgspec.Struct, frozen=True, gc=False):
    """Nothing more is to be done. `left`: what is not dust and stays, by asset; `reason` where there is any."""

    left: Mapping[str, int] = {}
    reason: str = ""


Act = Place | Finish


def check_plan(legs: Sequence[PlannedLeg]) -> str:
    """Return what is wrong with a plan, empty where nothing is: it closes, and its figures are an order's."""
    if len(legs) not in (3, 4):
        return f"{len(legs)} legs; a cycle has 3 or 4"
    for before, leg in zip((legs[-1], *legs[:-1]), legs, strict=True):
        if before.takes != leg.gives:
            return f"{leg.symbol} {leg.side} spends {leg.gives}, the leg before it gives {before.takes}"
        if leg.side not in (BUY, SELL):
            return f"{leg.symbol} has side {leg.side!r}"
        if min(leg.limit_px, leg.qty, leg.tick_size, leg.lot_size) <= 0 or not 0 <= leg.fee_e8 < SCALE:
            return f"{leg.symbol}: limit_px {leg.limit_px}, qty {leg.qty}, tick, lot and fee must be an order's"
        if leg.qty % leg.lot_size or leg.limit_px % leg.tick_size or not leg.min_qty <= leg.qty <= leg.max_qty:
            return f"{leg.symbol}: qty {leg.qty} at {leg.limit_px} is off lot, tick or the limits of quantity"
    if len({leg.gives for leg in legs}) != len(legs):
        return "an asset is crossed twice"
    return ""


# ---- arithmetic


def spends(leg: PlannedLeg, side: str, qty: int, px: int) -> int:
    """What an order in the leg's market gives at most, of its input asset."""
    return ceil_div(qty * px, SCALE) if side == BUY else qty


def receives(leg: PlannedLeg, side: str, qty: int, px: int) -> int:
    """What it gets at least, fee off, if it fills whole at `px`."""
    amount = qty if side == BUY else qty * px // SCALE
    return amount * (SCALE - leg.taken_e8) // SCALE


def size(leg: PlannedLeg, side: str, have: int, px: int) -> int:
    """Return the largest legal quantity that `have` of the input asset pays for at `px`; 0 where none is."""
    if px <= 0 or have <= 0:
        return 0
    qty = min(have * SCALE // px if side == BUY else have, leg.max_qty) // leg.lot_size * leg.lot_size
    return qty if is_legal(leg, qty, px) else 0


def is_legal(leg: PlannedLeg, qty: int, px: int) -> bool:
    """Whether the exchange takes this quantity at this price: minimum quantity and minimum notional."""
    return qty >= max(leg.min_qty, 1) and qty * px >= leg.min_notional * SCALE


def order_flows(leg: PlannedLeg, order: CycleOrder) -> dict[str, int]:
    """What an order changed of each asset: base, quote, and each commission where it was charged."""
    sign = 1 if order.side == BUY else -1
    flows = {leg.base: sign * order.cum_qty, leg.quote: -sign * order.cum_quote_qty}
    for asset, amount in order.commissions.items():
        flows[asset] = flows.get(asset, 0) - amount
    return flows


def flows_of(attempt: Attempt) -> dict[str, int]:
    """What the attempt changed of each asset so far, without those that stand at zero."""
    total: dict[str, int] = {}
    for order in attempt.orders:
        for asset, amount in order_flows(attempt.legs[order.leg], order).items():
            total[asset] = total.get(asset, 0) + amount
    return {asset: amount for asset, amount in total.items() if amount}


def observed_px(order: CycleOrder) -> int:
    """Average price, to nearest, half up; 0 where nothing filled."""
    if not order.cum_qty:
        return 0
    return (2 * order.cum_quote_qty * SCALE + order.cum_qty) // (2 * order.cum_qty)


# ---- the legs


def bounded_px(leg: PlannedLeg, top: Top) -> int:
    """Return the limit for a leg now: the planned one while the top is as good, else the top, rounded against us."""
    if leg.side == BUY:
        return max(leg.limit_px, round_up(top.ask_px, leg.tick_size))
    return min(leg.limit_px, top.bid_px // leg.tick_size * leg.tick_size)


def chain(
    legs: Sequence[PlannedLeg],
    have: int,
    cost: int,
    tops: Mapping[str, Top],
    return_min: Fraction,
    *,
    planned: bool = False,
) -> tuple[tuple[int, int], ...] | str:
    """Return (limit price, quantity) of each leg left, sized by the one before; or why they are not to be tried.

    `have` of the first one's input cost `cost` of the start asset; the end must be above `return_min` times that. What
    is left over between two legs counts as nothing. `planned`: no leg takes more than its plan says. While every book
    is as good as it was decided on, the end is the plan's, or its share; else each leg is taken to fill at its limit.
    """
    as_decided = all(_as_decided(leg, tops.get(leg.symbol)) for leg in legs)
    share = Fraction(min(have, legs[0].spent), legs[0].spent)
    found: list[tuple[int, int]] = []
    for leg in legs:
        top = tops.get(leg.symbol)
        if top is None or not top.live or min(top.bid_px, top.ask_px) <= 0:
            return f"not_live:{leg.symbol}"
        px = bounded_px(leg, top)
        if planned and as_decided:
            qty = leg.qty
        else:
            qty = size(leg, leg.side, have, px)
            qty = min(qty, leg.qty) if planned else qty
        if not qty or not is_legal(leg, qty, px):
            return f"too_small:{leg.symbol}"
        found.append((px, qty))
        have = receives(leg, leg.side, qty, px)
    end = legs[-1].received * share if as_decided else have
    return tuple(found) if end > cost * return_min else "no_gain"


def first_orders(attempt: Attempt, tops: Mapping[str, Top], policy: Policy) -> tuple[CycleOrder, ...] | str:
    """Return the orders that begin it, or why it is not begun: the plan looked at once more as the market is now."""
    spent = attempt.legs[0].spent
    found = chain(attempt.legs, spent, spent, tops, return_min(attempt, policy), planned=True)
    if isinstance(found, str):
        return found
    number = len(attempt.legs) if policy.mode is Mode.AT_ONCE else 1
    return tuple(_leg_order(attempt, leg, px, qty) for leg, (px, qty) in enumerate(found[:number]))


def next_leg(attempt: Attempt, tops: Mapping[str, Top], policy: Policy) -> CycleOrder | str:
    """Return the next leg's order, in sequence; or why there is none. Some leg is left, and the one before filled."""
    number = sum(not order.unwinds for order in attempt.orders)
    left = attempt.legs[number:]
    have = flows_of(attempt).get(left[0].gives, 0)
    found = chain(left, have, cost_of(attempt), tops, return_min(attempt, policy))
    return found if isinstance(found, str) else _leg_order(attempt, number, *found[0])


def return_min(attempt: Attempt, policy: Policy) -> Fraction:
    """The least return before the fees that a token pays: what they are worth is counted against the cycle."""
    least = policy.net_return_min
    for leg in attempt.legs:
        if not leg.fee_taken:
            least /= Fraction(SCALE - leg.fee_e8, SCALE)
    return least


def cost_of(attempt: Attempt) -> int:
    """What of the start asset stands behind what the last leg gave: all of it, less the share of legs cut short."""
    orders = [order for order in attempt.orders if not order.unwinds]
    cost = Fraction(-min(0, flows_of(attempt).get(attempt.start_asset, 0)))
    for order in orders[1:]:
        cost *= Fraction(order.cum_qty, order.qty)
    return -(-cost.numerator // cost.denominator)


def _as_decided(leg: PlannedLeg, top: Top | None) -> bool:
    if top is None or not top.live or min(top.bid_px, top.ask_px) <= 0:
        return False
    decided_px = leg.top_px or leg.limit_px
    return top.ask_px <= decided_px if leg.side == BUY else top.bid_px >= decided_px


def _leg_order(attempt: Attempt, leg: int, px: int, qty: int) -> CycleOrder:
    planned = attempt.legs[leg]
    return CycleOrder(str(leg + 1), leg, planned.side, qty, px, planned.limit_px)


def ceil_div(numerator: int, denominator: int) -> int:
    """Divide, up."""
    return -(-numerator // denominator)


def round_up(count: int, step: int) -> int:
    """The next multiple of `step`."""
    return ceil_div(count, step) * step
