"""A generator's updates as they are told: one after another as they are made, or a stretch made ahead and rendered.

Rendering an update costs several times what sending it does. A stretch that was prepared is played forwards, then
backwards, then forwards again, for ever. Backwards each update puts a symbol back to what it was before: so every state
of the market is one that the generator made, no cycle is above one that was not announced, and an opportunity that
closed opens again with the same return. Only the update ids go on rising.
"""

from __future__ import annotations

from typing import NamedTuple

from venues.exchange.frames import Texts, ticker_tail
from venues.exchange.generator import Closed, Generator, Opened, Top
from venues.exchange.market import format_fixed8


class Told(NamedTuple):
    """One update: the symbol, its row as text, the rest of its frame behind the update id, what opened or closed."""

    symbol_index: int
    texts: Texts
    tail: bytes
    event: Opened | Closed | None


class LiveSteps:
    """Updates made as they are asked for."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._symbols = [pair.rules.symbol for pair in generator.universe.pairs]

    def next(self) -> Told | None:
        """Return the next update; None where every symbol is held still."""
        step = self._generator.step()
        if step is None:
            return None
        index = step.symbol_index
        texts = texts_of(self._generator.tops[index])
        return Told(index, texts, ticker_tail(self._symbols[index], texts), step.event)


class PreparedSteps:
    """`count` updates made at once, played to and fro. Steps in which nothing moves are left out."""

    def __init__(self, generator: Generator, count: int) -> None:
        symbols = [pair.rules.symbol for pair in generator.universe.pairs]
        last = [Told(at, texts_of(top), b"", None) for at, top in enumerate(generator.tops)]
        last = [told._replace(tail=ticker_tail(symbols[at], told.texts)) for at, told in enumerate(last)]
        live = LiveSteps(generator)
        self._forth: list[Told] = []
        self._back: list[Told] = []
        standing: Opened | None = None
        for _ in range(count):
            told = live.next()
            if told is None:
                continue
            undone: Opened | Closed | None = None
            if isinstance(told.event, Opened):
                standing, undone = told.event, Closed(told.event.number)
            elif isinstance(told.event, Closed):
                undone = standing
            self._forth.append(told)
            self._back.append(last[told.symbol_index]._replace(event=undone))
            last[told.symbol_index] = told
        self._at = 0
        self._is_forth = True

    def next(self) -> Told:
        """Return the next update, turning round at either end."""
        if self._is_forth:
            told = self._forth[self._at]
            self._at += 1
            self._is_forth = self._at < len(self._forth)
            return told
        self._at -= 1
        self._is_forth = self._at == 0
        return self._back[self._at]


def texts_of(top: Top) -> Texts:
    """Return a top as the exchange writes it."""
    bid, bid_qty, ask, ask_qty = top
    return format_fixed8(bid), format_fixed8(bid_qty), format_fixed8(ask), format_fixed8(ask_qty)
