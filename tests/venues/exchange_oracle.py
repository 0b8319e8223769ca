"""A naive evaluator in Fractions: every directed triangle, from scratch. It shares nothing with the exchange."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import permutations

Cycle = tuple[str, str, str]
# symbol -> (bid, ask)
Prices = Mapping[str, tuple[Fraction, Fraction]]


def directed_triangles(pairs: Mapping[str, tuple[str, str]]) -> list[Cycle]:
    """Return each directed cycle of three symbols once, as ("BTCUSDT:BUY", …), from its least asset on."""
    conversions: dict[tuple[str, str], list[str]] = {}
    for symbol, (base, quote) in pairs.items():
        conversions.setdefault((quote, base), []).append(f"{symbol}:BUY")
        conversions.setdefault((base, quote), []).append(f"{symbol}:SELL")
    neighbours: dict[str, set[str]] = {}
    for spent, got in conversions:
        neighbours.setdefault(spent, set()).add(got)
    found = []
    for first, around in neighbours.items():
        for second, third in permutations(sorted(around), 2):
            if first < second and first < third and third in neighbours[second]:
                found.extend(
                    (one, two, three)
                    for one in conversions[first, second]
                    for two in conversions[second, third]
                    for three in conversions[third, first]
                )
    return found


def gross_return(cycle: tuple[str, ...], prices: Prices) -> Fraction:
    """Return what one unit comes back as, at no fee."""
    product = Fraction(1)
    for leg in cycle:
        symbol, side = leg.split(":")
        bid, ask = prices[symbol]
        product *= 1 / ask if side == "BUY" else bid
    return product


def by_symbol(cycles: list[Cycle]) -> dict[str, list[Cycle]]:
    """Return the cycles that each symbol is a leg of."""
    touched: dict[str, list[Cycle]] = {}
    for cycle in cycles:
        for leg in cycle:
            touched.setdefault(leg.split(":")[0], []).append(cycle)
    return touched


def same_cycle(one: tuple[str, ...] | list[str], other: tuple[str, ...] | list[str]) -> bool:
    """Whether two cycles are one, begun at different legs."""
    return turned(one) == turned(other)


def turned(cycle: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Return the cycle begun at its least leg: one form for all its turns."""
    least = min(range(len(cycle)), key=lambda position: cycle[position])
    return tuple(cycle[least:]) + tuple(cycle[:least])
