"""Depth of generated books: snapshots for REST, and the diff and partial streams of those symbols that anyone hears.

A diff holds the absolute quantity of every level that took more than one value within its interval, in whichever
order: so a snapshot taken anywhere within it, with the diff applied, is the book at the diff's end. `U` is one above
the `u` of the diff before it, `u` the update id of the last change: a snapshot's `lastUpdateId` lies within or just
before one.

A symbol that no depth stream is heard of costs one look into a dictionary an update.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from venues.exchange.frames import Row
from venues.exchange.hub import Hub
from venues.exchange.ladder import EMPTY_BOOK, Book, Ladder, Level
from venues.exchange.market import UNIT, format_fixed8
from venues.exchange.universe import VALUE_UNIT, Universe

FAST_MS: Final = 100
SLOW_MS: Final = 1_000
_SPEEDS: Final = {"@100ms": FAST_MS, "": SLOW_MS}
_PARTIAL_LEVELS: Final = (5, 10, 20)
# About what a level holds, in the numéraire.
_NOTIONAL: Final = 15_000

# Side (0 bid, 1 ask), price, quantity.
_Held = tuple[int, int, int]


class DepthStream(NamedTuple):
    """What a stream's name asks for; `levels` 0: diffs."""

    symbol: str
    levels: int
    speed_ms: int


def parse_stream(stream: str) -> DepthStream | None:
    """Return what `<symbol>@depth[5|10|20][@100ms]` asks for; None for any other name."""
    symbol, mark, rest = stream.partition("@depth")
    count, at, speed = rest.partition("@")
    speed_ms = _SPEEDS.get(at + speed)
    if not mark or speed_ms is None or count not in ("", *map(str, _PARTIAL_LEVELS)):
        return None
    return DepthStream(symbol.upper(), int(count or 0), speed_ms)


class GeneratedBooks:
    """The book of any generated symbol, made when asked for."""

    def __init__(self, universe: Universe, seed: int) -> None:
        self._universe = universe
        self._seed = seed
        self._pairs = {pair.rules.symbol: pair for pair in universe.pairs}
        self._ladders: dict[str, Ladder] = {}

    def __contains__(self, symbol: str) -> bool:
        """Whether the symbol is quoted at all."""
        return symbol in self._pairs

    def book(self, symbol: str, row: Row) -> Book:
        """Return the symbol's book at a row; an empty one for a symbol that is not quoted."""
        if symbol not in self._pairs or not row.update_id:
            return EMPTY_BOOK
        ladder = self._ladders.get(symbol) or self._make(symbol)
        return ladder.book(*(int(text.replace(".", "")) for text in row[1:]))

    def _make(self, symbol: str) -> Ladder:
        rules, base, quote = self._pairs[symbol]
        values = self._universe.start_values
        quantity = _NOTIONAL * VALUE_UNIT * UNIT // values[base]
        ladder = self._ladders[symbol] = Ladder(self._seed, rules, values[base] * UNIT // values[quote], quantity)
        return ladder


class _Interval:
    """What a symbol's book held since the last diff: every (side, price, quantity) that was, and those that stayed."""

    def __init__(self, update_id: int, book: Book) -> None:
        self.base_id = self.last_id = update_id
        self.ever = _held(book)
        self.always = set(self.ever)
        self.is_told = False  # partial streams tell the book once to whom it is new

    def add(self, update_id: int, held: set[_Held]) -> None:
        self.last_id = update_id
        self.ever |= held
        self.always &= held

    def changes(self, book: Book) -> tuple[list[Level], list[Level]]:
        """Return every level that took more than one value, with the one it has now: bids and asks from the best."""
        now = {(side, price): quantity for side, price, quantity in _held(book)}
        touched = {(side, price) for side, price, _ in self.ever - self.always}
        bids = [(price, now.get((0, price), 0)) for side, price in touched if side == 0]
        asks = [(price, now.get((1, price), 0)) for side, price in touched if side == 1]
        return sorted(bids, reverse=True), sorted(asks)


class _Watched:
    """A symbol that some depth stream is heard of: its streams by speed, and the interval in progress of each."""

    def __init__(self, update_id: int, book: Book) -> None:
        self.update_id = update_id
        self.book = book
        self.streams: dict[int, dict[str, int]] = {FAST_MS: {}, SLOW_MS: {}}
        self.intervals: dict[int, _Interval] = {}


class DepthStreams:
    """Who hears depth, and what each must be told at the end of an interval."""

    def __init__(self, books: GeneratedBooks, publish: Callable[[str, str, bytes], None], hub: Hub) -> None:
        self._books = books
        self._publish = publish
        self._hub = hub
        self.watched: dict[str, _Watched] = {}

    def watch(self, stream: str, rows: Mapping[str, Row]) -> None:
        """Begin to follow a stream that gained a listener, if it is a depth stream of a quoted symbol."""
        asked = parse_stream(stream)
        if asked is None or asked.symbol not in self._books:
            return
        row = rows[asked.symbol]
        watched = self.watched.get(asked.symbol)
        if watched is None:
            watched = self.watched[asked.symbol] = _Watched(row.update_id, self._books.book(asked.symbol, row))
        watched.streams[asked.speed_ms][stream] = asked.levels
        interval = watched.intervals.get(asked.speed_ms)
        if interval is None:
            interval = watched.intervals[asked.speed_ms] = _Interval(watched.update_id, watched.book)
        interval.is_told = False

    def note(self, symbol: str, row: Row) -> None:
        """Take a watched symbol's new row into every interval in progress."""
        watched = self.watched[symbol]
        watched.update_id, watched.book = row.update_id, self._books.book(symbol, row)
        held = _held(watched.book)
        for interval in watched.intervals.values():
            interval.add(row.update_id, held)

    def end_interval(self, speed_ms: int) -> None:
        """Tell the streams of this speed what changed, and forget those that nobody hears any more."""
        for symbol in list(self.watched):
            watched = self.watched[symbol]
            streams = watched.streams[speed_ms]
            for stream in [one for one in streams if not self._hub.is_heard(one)]:
                del streams[stream]
            if not streams:
                watched.intervals.pop(speed_ms, None)
                if not watched.intervals:
                    del self.watched[symbol]
                continue
            self._tell(symbol, watched, speed_ms)

    def _tell(self, symbol: str, watched: _Watched, speed_ms: int) -> None:
        interval = watched.intervals[speed_ms]
        has_changed = interval.last_id != interval.base_id
        if not has_changed and interval.is_told:
            return
        for stream, levels in watched.streams[speed_ms].items():
            if levels:
                self._publish(symbol, stream, snapshot(watched.update_id, watched.book, levels))
            elif has_changed:
                bids, asks = interval.changes(watched.book)
                self._publish(symbol, stream, _diff(symbol, interval.base_id + 1, interval.last_id, bids, asks))
        interval = watched.intervals[speed_ms] = _Interval(watched.update_id, watched.book)
        interval.is_told = True


def snapshot(update_id: int, book: Book, levels: int) -> bytes:
    """Return a book's best levels in the form of REST depth and of the partial streams."""
    sides = _levels_text(book.bids[:levels]), _levels_text(book.asks[:levels])
    return f'{{"lastUpdateId":{update_id},"bids":[{sides[0]}],"asks":[{sides[1]}]}}'.encode()


def _diff(symbol: str, first_id: int, last_id: int, bids: list[Level], asks: list[Level]) -> bytes:
    return (
        f'{{"e":"depthUpdate","E":{time.time_ns() // 10**6},"s":"{symbol}","U":{first_id},"u":{last_id},'
        f'"b":[{_levels_text(bids)}],"a":[{_levels_text(asks)}]}}'
    ).encode()


def _levels_text(levels: list[Level]) -> str:
    return ",".join(f'["{format_fixed8(price)}","{format_fixed8(quantity)}"]' for price, quantity in levels)


def _held(book: Book) -> set[_Held]:
    held = {(0, price, quantity) for price, quantity in book.bids}
    held.update((1, price, quantity) for price, quantity in book.asks)
    return held
