"""Generated prices: consistent by construction, with true opportunities on a schedule known from the seed.

Why no cycle is above one. Let every asset have a fair value v > 0. After each step every symbol base/quote satisfies

    bid < v[base] / v[quote] < ask                                                                              (1)

Selling the base yields bid < v[base] / v[quote] of the quote asset for one base, buying it yields
1 / ask < v[quote] / v[base]. Around any closed cycle, of any length, the fair ratios multiply to exactly one, so
the product of the rates is below one. (1) holds at the start, and a step keeps it: it moves the value of one asset
only within the open interval in which (1) still holds for *every* symbol of that asset, and then quotes one symbol
anew on both sides of the new ratio, the bid rounded down to a tick, the ask up. All of it in integers.

(1) is kept not only for the quotes that stand but for all that stood within the last `window_steps`, so that a
consumer who sees two connections some 100 ms apart still sees no cycle above one.

A true opportunity moves one symbol, which lies in one triangle only, off its fair price so that this triangle in
this direction returns what the plan says; the triangle's three symbols then say nothing more until it closes, so its
gross return is one exact figure. No other triangle changes. Longer cycles through the moved symbol are above one too.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from math import ceil, floor
from random import Random
from typing import Final, NamedTuple

from venues.exchange.market import UNIT, SymbolRules
from venues.exchange.universe import VALUE_UNIT, Leg, Universe

_PPM: Final = 10**6
_MOVE_PPM: Final = 100
_HALF_SPREAD_PPM_MIN: Final = 100
_HALF_SPREAD_PPM_MAX: Final = 500
_QUANTITY_ONLY: Final = 0.3
_NOTIONAL_MIN: Final = 2_000
_NOTIONAL_MAX: Final = 60_000
_PICKS_MAX: Final = 64
_DEGREE_CHEAP: Final = 64


@dataclass(frozen=True, slots=True)
class OpportunityPlan:
    """How often, how long (in steps) and how good; `interval_steps` 0 means never. Net of `fee_bps` on each leg."""

    interval_steps: int
    duration_steps: int
    fee_bps: int
    net_bps_min: int
    net_bps_max: int


class Top(NamedTuple):
    """Best bid and ask, Fixed8; a quantity of zero means that the side is empty."""

    bid: int
    bid_qty: int
    ask: int
    ask_qty: int


class Opened(NamedTuple):
    """A true opportunity begins with this step's update."""

    number: int
    legs: tuple[Leg, Leg, Leg]
    gross_return: Fraction


class Closed(NamedTuple):
    """The opportunity ends with this step's update."""

    number: int


class Step(NamedTuple):
    """One update: the symbol whose top changed, and whether it opened or closed an opportunity."""

    symbol_index: int
    event: Opened | Closed | None


class ScheduledOpportunity(NamedTuple):
    """What the seed says of an opportunity before anything has run."""

    opens_at_step: int
    opening_index: int
    net_bps: int


def scheduled(plan: OpportunityPlan, openings: int, seed: int, epoch: int, number: int) -> ScheduledOpportunity:
    """Return when opportunity `number` opens, on which of `openings`, and its net return. Pure."""
    rng = Random(f"exchange-opportunity/{seed}/{epoch}/{number}")
    interval = plan.interval_steps
    opens_at = number * interval + interval // 4 + int(rng.random() * interval / 2)
    spread_bps = plan.net_bps_max - plan.net_bps_min + 1
    return ScheduledOpportunity(
        opens_at, int(rng.random() * openings), plan.net_bps_min + int(rng.random() * spread_bps)
    )


class Generator:
    """The price process. Same universe, plan, seed and epoch: the same steps, on every Python that runs this."""

    def __init__(
        self, universe: Universe, plan: OpportunityPlan, seed: int, epoch: int, window_steps: int = 500
    ) -> None:
        self.universe = universe
        self._plan = plan
        self._seed = seed
        self._epoch = epoch
        # Only random() is used of it: that sequence is promised to stay the same from one Python to the next.
        self._rng = Random(f"exchange-prices/{seed}/{epoch}")
        self._values = list(universe.start_values)
        pairs = universe.pairs
        self._as_base: list[list[int]] = [[] for _ in universe.assets]
        self._as_quote: list[list[int]] = [[] for _ in universe.assets]
        for index, pair in enumerate(pairs):
            self._as_base[pair.base].append(index)
            self._as_quote[pair.quote].append(index)
        # Activity falls off with rank, as on a real exchange: the first symbols speak often, the last seldom. A large
        # made-up listing has one symbol of each cluster after another: all of those are of one rank.
        alike = len(universe.numeraires)
        self._activity = list(accumulate(1.0 / (place // alike + 8) for place in range(len(pairs))))
        self.steps_done = 0
        self._fair: list[Top] = [self._quote(index) for index in range(len(pairs))]
        self.tops: list[Top] = list(self._fair)
        # Highest bid and lowest ask of this window and of the one before: what (1) is kept for.
        self._window_steps = max(window_steps, len(pairs))
        self._bid_now = [top.bid for top in self._fair]
        self._ask_now = [top.ask for top in self._fair]
        self._bid_guard = list(self._bid_now)
        self._ask_guard = list(self._ask_now)
        self._frozen: frozenset[int] = frozenset()
        self._opened: Opened | None = None
        self._closes_at = 0
        self._next_number = 0
        self._next = self._schedule()

    def step(self) -> Step | None:
        """Advance by one update, which is never equal to the top it replaces; None where every symbol is held still."""
        self.steps_done += 1
        if self.steps_done % self._window_steps == 0:
            self._turn_window()
        if self._opened is not None and self.steps_done >= self._closes_at:
            return self._close(self._opened)
        if self._opened is None and self._next is not None and self.steps_done >= self._next.opens_at_step:
            return self._open(self._next)
        index = self._pick()
        if index is None:
            return None
        if self._rng.random() >= _QUANTITY_ONLY:
            self._move(self.universe.pairs[index].base)
            self._requote(index)
        else:
            self._requantify(index)
        self.tops[index] = self._fair[index]
        return Step(index, None)

    def _schedule(self) -> ScheduledOpportunity | None:
        openings = len(self.universe.openings)
        if not openings or not self._plan.interval_steps:
            return None
        return scheduled(self._plan, openings, self._seed, self._epoch, self._next_number)

    def _pick(self) -> int | None:
        for _ in range(_PICKS_MAX):
            index = bisect_right(self._activity, self._rng.random() * self._activity[-1])
            if index < len(self._activity) and index not in self._frozen:
                return index
        return next((index for index in range(len(self._activity)) if index not in self._frozen), None)

    def _move(self, asset: int) -> None:
        """Move one value by a few ppm, within (1); drift is turned back at half and double the start value."""
        if asset in self.universe.numeraires:
            return
        # To move a hub costs a look at each of its symbols: the larger it is, the rarer, so that a step's cost is flat.
        degree = len(self._as_base[asset]) + len(self._as_quote[asset])
        if degree > _DEGREE_CHEAP and self._rng.random() * degree > _DEGREE_CHEAP:
            return
        value, start = self._values[asset], self.universe.start_values[asset]
        ppm = int((2 * self._rng.random() - 1) * (_MOVE_PPM + 1))
        if (2 * value < start and ppm < 0) or (value > 2 * start and ppm > 0):
            ppm = -ppm
        low, high = self._interval(asset)
        self._values[asset] = min(max(value + value * ppm // _PPM, low), high)

    def _interval(self, asset: int) -> tuple[int, int]:
        """Return the lowest and highest integer value with which (1) holds strictly for every symbol of the asset."""
        pairs, values, bids, asks = self.universe.pairs, self._values, self._bid_guard, self._ask_guard
        low, high = 1, 10**40
        for index in self._as_base[asset]:
            quote_value = values[pairs[index].quote]
            if (above := bids[index] * quote_value // UNIT + 1) > low:
                low = above
            if (below := (asks[index] * quote_value - 1) // UNIT) < high:
                high = below
        for index in self._as_quote[asset]:
            base_value = values[pairs[index].base] * UNIT
            if (above := base_value // asks[index] + 1) > low:
                low = above
            if (below := (base_value - 1) // bids[index]) < high:
                high = below
        return low, high

    def _requote(self, index: int) -> None:
        before, top = self._fair[index], self._quote(index)
        if top == before:
            top = top._replace(bid_qty=self._other_quantity(index, top.bid_qty))
        self._fair[index] = top
        self._bid_now[index] = max(self._bid_now[index], top.bid)
        self._ask_now[index] = min(self._ask_now[index], top.ask)
        self._bid_guard[index] = max(self._bid_guard[index], top.bid)
        self._ask_guard[index] = min(self._ask_guard[index], top.ask)

    def _requantify(self, index: int) -> None:
        top = self._fair[index]
        if self._rng.random() < 0.5:
            self._fair[index] = top._replace(bid_qty=self._other_quantity(index, top.bid_qty))
        else:
            self._fair[index] = top._replace(ask_qty=self._other_quantity(index, top.ask_qty))

    def _quote(self, index: int) -> Top:
        """Return a fresh top around the fair ratio: strictly below and above it, on ticks."""
        rules, base, quote = self.universe.pairs[index]
        numerator = self._values[base] * UNIT
        denominator = self._values[quote] * _PPM * rules.tick
        half_ppm = _HALF_SPREAD_PPM_MIN + int(self._rng.random() * (_HALF_SPREAD_PPM_MAX - _HALF_SPREAD_PPM_MIN + 1))
        bid = numerator * (_PPM - half_ppm) // denominator * rules.tick
        ask = -(-numerator * (_PPM + half_ppm) // denominator) * rules.tick
        return Top(bid, self._quantity(rules, base), ask, self._quantity(rules, base))

    def _quantity(self, rules: SymbolRules, base: int) -> int:
        notional = _NOTIONAL_MIN + int(self._rng.random() * (_NOTIONAL_MAX - _NOTIONAL_MIN))
        step = rules.step
        quantity = notional * VALUE_UNIT * UNIT // (self._values[base] * step) * step
        if rules.min_qty <= quantity <= rules.max_qty and quantity:
            return quantity
        least = max(-(-rules.min_qty // step), 1) * step
        return least if quantity < least else max(least, rules.max_qty // step * step)

    def _other_quantity(self, index: int, than: int) -> int:
        rules, base, _ = self.universe.pairs[index]
        quantity = self._quantity(rules, base)
        return quantity if quantity != than else quantity + rules.step

    def _turn_window(self) -> None:
        self._bid_guard = self._bid_now
        self._ask_guard = self._ask_now
        self._bid_now = [top.bid for top in self._fair]
        self._ask_now = [top.ask for top in self._fair]
        self._bid_guard = [max(pair) for pair in zip(self._bid_guard, self._bid_now, strict=True)]
        self._ask_guard = [min(pair) for pair in zip(self._ask_guard, self._ask_now, strict=True)]

    def _open(self, due: ScheduledOpportunity) -> Step:
        legs = self.universe.openings[due.opening_index]
        index, side = legs[0]
        tick = self.universe.pairs[index].rules.tick
        fair = self._fair[index]
        others = _rate(self.tops, legs[1]) * _rate(self.tops, legs[2])
        fee = Fraction(10_000 - self._plan.fee_bps, 10_000)
        wanted = Fraction(10_000 + due.net_bps, 10_000) / fee**3
        if side == "BUY":
            ask = floor(others * UNIT / (wanted * tick)) * tick
            bid = max(tick, ask - (fair.ask - fair.bid))
        else:
            bid = ceil(wanted * UNIT / (others * tick)) * tick
            ask = bid + (fair.ask - fair.bid)
        self.tops[index] = fair._replace(bid=bid, ask=ask)
        gross_return = others * _rate(self.tops, legs[0])
        self._opened = Opened(self._next_number, legs, gross_return)
        self._closes_at = self.steps_done + self._plan.duration_steps
        self._frozen = frozenset(leg.symbol_index for leg in legs)
        return Step(index, self._opened)

    def _close(self, opened: Opened) -> Step:
        index = opened.legs[0].symbol_index
        self._requote(index)
        self.tops[index] = self._fair[index]
        self._opened, self._frozen = None, frozenset()
        self._next_number += 1
        self._next = self._schedule()
        return Step(index, Closed(opened.number))


def _rate(tops: list[Top], leg: Leg) -> Fraction:
    top = tops[leg.symbol_index]
    return Fraction(UNIT, top.ask) if leg.side == "BUY" else Fraction(top.bid, UNIT)
