"""A second opinion of the paper exchange's account: one lot at a time, in Fractions. Shares no logic with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor

UNIT = 10**8
Fill = tuple[int, int]
"""Price and quantity, counts of 1e-8."""


@dataclass
class Resting:
    """An order of ours that waits."""

    number: int
    side: str
    price: int
    left: int


@dataclass
class NaiveExchange:
    """One symbol of one account: what stands, what rests, what every asset comes to."""

    step: int
    rate: Fraction
    base: int
    quote: int
    standing: dict[str, dict[int, int]] = field(default_factory=lambda: {"BUY": {}, "SELL": {}})
    """Side of an order → price → what it can take there."""
    resting: list[Resting] = field(default_factory=list)
    fills: dict[int, list[Fill]] = field(default_factory=lambda: defaultdict(list))

    def take(self, side: str, limit: int, lots: int, budget: Fraction | None = None) -> list[Fill]:
        """Take lot after lot at whatever price is best then."""
        got: dict[int, int] = {}
        spent = Fraction(0)
        while lots > 0:
            prices = [price for price, left in self.standing[side].items() if left >= self.step]
            if not prices:
                break
            best = min(prices) if side == "BUY" else max(prices)
            if limit and (best > limit if side == "BUY" else best < limit):
                break
            cost = Fraction(best * self.step, UNIT)
            if budget is not None and spent + cost > budget:
                break
            spent += cost
            self.standing[side][best] -= self.step
            got[best] = got.get(best, 0) + self.step
            lots -= 1
        return list(got.items())

    def give_back(self, side: str, fills: list[Fill]) -> None:
        """What was only tried stands again."""
        for price, qty in fills:
            self.standing[side][price] += qty

    def book(self, side: str, price: int, qty: int) -> None:
        """Settle a fill."""
        quote = floor(Fraction(price * qty, UNIT))
        if side == "BUY":
            self.quote -= quote
            self.base += qty - floor(qty * self.rate)
        else:
            self.base -= qty
            self.quote += quote - floor(quote * self.rate)

    def turn(self, bids: Mapping[int, int], asks: Mapping[int, int]) -> None:
        """A new book, and what rests meets it: best price first, then oldest."""
        self.standing = {"BUY": dict(asks), "SELL": dict(bids)}
        for side in ("BUY", "SELL"):
            mine = [one for one in self.resting if one.side == side]
            for one in sorted(mine, key=lambda one: (-one.price if side == "BUY" else one.price, one.number)):
                got = sum(qty for _, qty in self.take(side, one.price, one.left // self.step))
                if got:
                    one.left -= got
                    self.fills[one.number].append((one.price, got))
                    self.book(side, one.price, got)
        self.resting = [one for one in self.resting if one.left]

    def locked(self) -> tuple[int, int]:
        """What is held back: base, quote."""
        base = sum(one.left for one in self.resting if one.side == "SELL")
        quote = sum(ceil(Fraction(one.price * one.left, UNIT)) for one in self.resting if one.side == "BUY")
        return base, quote
