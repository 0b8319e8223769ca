"""What stands below the top of a generated book: a function of the seed, the symbol and the top, and of nothing else.

So a book costs nothing until somebody asks for it, and is the same whenever it is asked for at the same update id.
Every symbol has two fixed lattices of prices, one a side; a lattice price holds an order or not, and how much, by a
hash. A book is the top and the next lattice prices behind it. As the top moves, levels appear, stand and go, as they
do on a real exchange. Bids lie below the best bid and asks above the best ask, so no book is ever crossed.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, NamedTuple

from venues.exchange.market import SymbolRules

LEVELS_MAX: Final = 20
"""Levels a side, the top among them. A side near price zero may have fewer."""

_MASK: Final = 2**64 - 1
_KNOWN_MAX: Final = 4_096
# A lattice price is about this many to the whole price, where the tick is not coarser than that.
_PITCHES: Final = 50_000

Level = tuple[int, int]
"""Price and quantity, Fixed8."""


class Book(NamedTuple):
    """Levels from the best outward."""

    bids: list[Level]
    asks: list[Level]


EMPTY_BOOK: Final = Book([], [])


class Ladder:
    """The lattices of one symbol. `price` and `quantity` (Fixed8) say how fine and how full they are."""

    def __init__(self, seed: int, rules: SymbolRules, price: int, quantity: int) -> None:
        digest = blake2b(f"exchange-depth/{seed}/{rules.symbol}".encode(), digest_size=16).digest()
        self._salts = (int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big"))
        self._pitch = rules.tick * max(1, price // (rules.tick * _PITCHES))
        self._step = rules.step
        self._least = max(1, -(-rules.min_qty // rules.step))
        self._most = max(self._least, rules.max_qty // rules.step)
        self._span = max(2, 2 * quantity // rules.step)
        self._known: tuple[dict[int, Level | None], dict[int, Level | None]] = ({}, {})

    def book(self, bid: int, bid_qty: int, ask: int, ask_qty: int) -> Book:
        """Return the book whose top this is; a side whose quantity is zero is empty."""
        bids = self._side(0, bid, bid_qty, (bid - 1) // self._pitch, -1) if bid_qty else []
        asks = self._side(1, ask, ask_qty, ask // self._pitch + 1, 1) if ask_qty else []
        return Book(bids, asks)

    def _side(self, side: int, price: int, quantity: int, number: int, step: int) -> list[Level]:
        known = self._known[side]
        if len(known) > _KNOWN_MAX:
            known.clear()
        levels = [(price, quantity)]
        while len(levels) < LEVELS_MAX and number > 0:
            if number in known:
                level = known[number]
            else:
                level = known[number] = self._level(side, number)
            if level is not None:
                levels.append(level)
            number += step
        return levels

    def _level(self, side: int, number: int) -> Level | None:
        """Return what stands at a lattice price; nothing at one in four."""
        mixed = (number * 0x9E3779B97F4A7C15 + self._salts[side]) & _MASK
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _MASK
        mixed ^= mixed >> 31
        if mixed & 3 == 0:
            return None
        lots = min(self._least + (mixed >> 2) % self._span, self._most)
        return number * self._pitch, lots * self._step
