"""What an order takes from the levels that stand against it. Pure; Fixed8 integers; rounding never in our favour."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from venues.exchange.orders import UNIT, Side


class Level(NamedTuple):
    """A price and what stands at it."""

    price: int
    qty: int


def crosses(side: Side, limit: int, price: int) -> bool:
    """Whether an order of this limit trades at a price of the other side; a limit of 0 takes any."""
    return limit == 0 or (price <= limit if side == "BUY" else price >= limit)


def walk(side: Side, limit: int, qty: int, levels: Iterable[Level]) -> list[Level]:
    """Return what an order of `qty` takes, best level first, within its limit; less than `qty` where less stands."""
    taken: list[Level] = []
    for price, standing in levels:
        if qty <= 0 or not crosses(side, limit, price):
            break
        part = min(qty, standing)
        if part > 0:
            taken.append(Level(price, part))
            qty -= part
    return taken


def walk_quote(budget: int, step: int, levels: Iterable[Level]) -> list[Level]:
    """Return what a market order for an amount of the quote asset takes: never more than it, in whole steps."""
    taken: list[Level] = []
    for price, standing in levels:
        affordable = budget * UNIT // price // step * step
        part = min(affordable, standing // step * step)
        if part <= 0:
            break
        taken.append(Level(price, part))
        budget -= quote_amount(price, part)
        if part < standing // step * step:
            break
    return taken


def quote_amount(price: int, qty: int) -> int:
    """Return price times quantity in the quote asset, rounded down: both sides of a trade book this amount."""
    return price * qty // UNIT


def quote_needed(price: int, qty: int) -> int:
    """Return what a limit order to buy holds back, rounded up: no sequence of its fills can cost more."""
    return -(-price * qty // UNIT)


class Consumption:
    """What was taken of the standing levels since the book last changed. Of one exchange; in memory only.

    A book that changes is a new book: what it shows then stands in full again.
    """

    def __init__(self) -> None:
        self._taken: dict[tuple[str, Side], tuple[int, dict[int, int]]] = {}

    def left(self, symbol: str, side: Side, version: int, levels: Iterable[Level]) -> list[Level]:
        """Return the levels of a side with what is left of each, empty ones left out."""
        known = self._taken.get((symbol, side))
        if known is None or known[0] != version:
            return [level for level in levels if level.qty > 0]
        taken = known[1]
        return [Level(price, rest) for price, qty in levels if (rest := qty - taken.get(price, 0)) > 0]

    def take(self, symbol: str, side: Side, version: int, taken: Iterable[Level]) -> None:
        """Note what was taken of the side that an order traded against."""
        known = self._taken.get((symbol, side))
        if known is None or known[0] != version:
            known = self._taken[(symbol, side)] = (version, {})
        for price, qty in taken:
            known[1][price] = known[1].get(price, 0) + qty
