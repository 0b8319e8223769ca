"""The rules of a cycle written down a second time, slowly and plainly, to check the evaluator against.

Shares nothing with `kernels.cycles`, `screen`, `evaluate`, `cycle_size`, `leg` and `fees` but the form of what is read:
money is Fractions, cycles are found by walking from asset to asset, and no cycle is passed over. The rules:

- A cycle is a walk over markets that are TRADING from an asset through 2 or 3 others, none twice, back to it. It begins
  at the first of the start assets that it passes through, or without any at the one whose name sorts first.
- An order eats its side of the book from the best level on: the row's top, then what its ladder has behind that. Prices
  are rounded to the tick against us. A ladder newer than the row limits what stands at the top's price.
- Whole lots, at least the market's minimum (in quantity, and in notional at the worst price that a SELL may get, at
  the best that a BUY may get), at most its maximum. Money is rounded to 1e-8 against us, level by level; fees too.
- Each leg spends what the one before received, and each but the last takes the fewest lots that still do.
- Level by level: while the deepest levels pay, the leg that limits gets one more. The size that gains most is taken, of
  those above the least return where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Final, NamedTuple

import msgspec

from kernels.book_image import Row
from kernels.exchange_info import Symbol
from kernels.fees import FeeTable

UNIT: Final = Fraction(1, 10**8)
PLACES: Final = 12

Hop = tuple[int, str]
"""A row and `BUY` or `SELL`."""

Level = tuple[Fraction, Fraction]


class Depth(msgspec.Struct, frozen=True):
    """A ladder's side, as read: (price, quantity) counts best first, and the venue's update id."""

    levels: Sequence[tuple[int, int]]
    update_id: int


class Answer(msgspec.Struct, frozen=True):
    """What a cycle comes to. Amounts and `steps` (limit, qty, spent, fee, received, residual, levels) are counts."""

    refusal: str
    gross_return: str = ""
    net_return: str = ""
    spent: int = 0
    received: int = 0
    fee_cost: int = 0
    steps: tuple[tuple[int, ...], ...] = ()


class _Market(NamedTuple):
    base: str
    quote: str
    trading: bool
    tick: Fraction
    lot: Fraction
    qty_min: Fraction
    qty_max: Fraction
    notional_min: Fraction
    fee: Fraction


class _Order(NamedTuple):
    """A leg with the book that it would eat."""

    buy: bool
    book: list[Level]
    market: _Market


class _Fill(NamedTuple):
    qty: Fraction
    paid: Fraction
    fee: Fraction
    received: Fraction
    limit: Fraction
    levels: int


class _Size(NamedTuple):
    fills: list[_Fill]
    fee_cost: Fraction

    @property
    def back(self) -> Fraction:
        return self.fills[-1].received - self.fee_cost

    @property
    def gain(self) -> Fraction:
        return self.back - self.fills[0].paid


class Reference:
    """One market's rules under one set of terms, as `kernels.evaluator.Evaluator` takes them."""

    def __init__(
        self,
        symbols: Sequence[Symbol],
        *,
        starts: Sequence[str] | None,
        lengths: Sequence[int],
        fees: FeeTable,
        start_max: int | Mapping[str, int] | None,
        net_return_min: Fraction,
    ) -> None:
        self._names = [one.name for one in symbols]
        self._markets = [_market(one, fees) for one in symbols]
        self._starts = None if starts is None else list(starts)
        self._lengths = set(lengths)
        self._start_max = start_max
        self._least = net_return_min
        self._in_token = bool(fees.token)
        self._hops: dict[str, list[tuple[int, str, str]]] = {}
        for row, one in enumerate(self._markets):
            if one.trading and one.base != one.quote:
                self._hops.setdefault(one.quote, []).append((row, "BUY", one.base))
                self._hops.setdefault(one.base, []).append((row, "SELL", one.quote))

    def path(self, hops: Sequence[Hop]) -> tuple[str, ...]:
        """Return a cycle as `SYMBOL:SIDE` texts."""
        return tuple(f"{self._names[row]}:{side}" for row, side in hops)

    def walks(self) -> Iterator[tuple[Hop, ...] | None]:
        """Yield every cycle once; and None now and then, so that the caller can stop in between."""
        for begin in sorted(self._hops) if self._starts is None else self._starts:
            yield from self._from(begin, begin, (), [begin])

    def _from(self, begin: str, at: str, hops: tuple[Hop, ...], visited: list[str]) -> Iterator[tuple[Hop, ...] | None]:
        yield None
        for row, side, to in self._hops.get(at, ()):
            taken = (*hops, (row, side))
            if to == begin and len(taken) in self._lengths and self._begins_right(begin, visited):
                yield taken
            elif to not in visited and len(taken) < max(self._lengths):
                yield from self._from(begin, to, taken, [*visited, to])

    def _begins_right(self, begin: str, visited: list[str]) -> bool:
        if self._starts is None:
            return begin == min(visited)
        return begin == next(asset for asset in self._starts if asset in visited)

    def answer(self, hops: Sequence[Hop], rows: Sequence[Row | None], depths: Sequence[Depth | None]) -> Answer:
        """Say what a cycle comes to on its legs' rows (None: not live) and ladders (None: none that is live)."""
        if any(row is None or row.bid_px <= 0 or row.ask_px <= 0 for row in rows):
            return Answer("leg_not_live")
        tops: list[Fraction] = []
        orders: list[_Order] = []
        for (number, side), row, depth in zip(hops, rows, depths, strict=True):
            assert row is not None
            px = Fraction(row.ask_px if side == "BUY" else row.bid_px) * UNIT
            tops.append(1 / px if side == "BUY" else px)
            market = self._markets[number]
            orders.append(_Order(side == "BUY", _book(side == "BUY", row, depth, market.tick), market))
        gross = _text(math.prod(tops, start=Fraction(1)))
        if any(not order.book for order in orders):
            return Answer("below_tick", gross)
        first = self._markets[hops[0][0]]
        cap = self._cap(first.quote if hops[0][1] == "BUY" else first.base)
        best = self._best(orders, tops, cap)
        if isinstance(best, str):
            return Answer(best, gross)
        net = best.back / best.fills[0].paid
        return Answer(
            refusal="" if net > self._least else "no_gain",
            gross_return=gross,
            net_return=_text(net),
            spent=_count(best.fills[0].paid),
            received=_count(best.fills[-1].received),
            fee_cost=_count(best.fee_cost),
            steps=_steps(best.fills),
        )

    def _cap(self, asset: str) -> Fraction | None:
        cap = self._start_max[asset] if isinstance(self._start_max, Mapping) else self._start_max
        return None if cap is None else cap * UNIT

    def _best(self, orders: list[_Order], tops: list[Fraction], cap: Fraction | None) -> _Size | str:
        levels = [1] * len(orders)
        sizes: list[_Size] = []
        refusal = ""
        while True:
            fills, limits, refused = self._most(orders, levels, cap)
            refusal = refused or refusal
            if not refused:
                fills = self._trimmed(orders, levels, fills)
                sizes.append(_Size(fills, self._fee_cost(fills, tops)))
            deepest = [order.book[depth - 1][0] for order, depth in zip(orders, levels, strict=True)]
            margins = (_rate(one, px) * (1 - one.market.fee) for one, px in zip(orders, deepest, strict=True))
            pays = math.prod(margins, start=Fraction(1)) > 1
            if limits is None or (not refused and not pays):
                break
            limited = orders[limits]
            standing = sum(qty for _, qty in limited.book[: levels[limits]])
            if levels[limits] == len(limited.book) or standing >= limited.market.qty_max:
                break
            levels[limits] += 1
        good = [one for one in sizes if one.back / one.fills[0].paid > self._least] or sizes
        return max(good, key=lambda one: one.gain) if good else refusal

    def _most(
        self, orders: list[_Order], levels: list[int], cap: Fraction | None
    ) -> tuple[list[_Fill], int | None, str]:
        """Return the largest fills forwards, the leg whose levels limit them, and why they are not legal."""
        have, limits = cap, None
        fills: list[_Fill] = []
        for at, (order, depth) in enumerate(zip(orders, levels, strict=True)):
            book, market = order.book[:depth], order.market
            all_of_it = _in_lots(min(sum((qty for _, qty in book), Fraction(0)), market.qty_max), market.lot)
            qty = all_of_it if have is None else min(all_of_it, _in_lots(_eaten(order, book, have), market.lot))
            fill = self._fill(order, qty)
            one_lot = _up(market.lot * book[-1][0]) if order.buy else market.lot
            if have is None or (qty == all_of_it and have - fill.paid >= one_lot):
                limits = at
            if qty < _legal(order, depth):
                small = "below_min_qty" if qty < market.qty_min else "below_min_notional"
                return fills, limits, small if qty else "below_lot"
            fills.append(fill)
            have = fill.received
        return fills, limits, ""

    def _trimmed(self, orders: list[_Order], levels: list[int], fills: list[_Fill]) -> list[_Fill]:
        """Cut each leg but the last to the fewest lots that still pay the next."""
        trimmed = list(fills)
        for at in reversed(range(len(orders) - 1)):
            order, needed = orders[at], trimmed[at + 1].paid
            whole = needed if self._in_token else _up(needed / (1 - order.market.fee))
            qty = whole if order.buy else _sold(order.book, whole)
            lots = -(-qty // order.market.lot) * order.market.lot
            trimmed[at] = self._fill(order, max(lots, _legal(order, levels[at])))
        return trimmed

    def _fill(self, order: _Order, qty: Fraction) -> _Fill:
        left, money, used, limit = qty, Fraction(0), 0, order.book[0][0]
        for px, standing in order.book:
            part = min(left, standing)
            money += _up(part * px) if order.buy else _down(part * px)
            left, used, limit = left - part, used + 1, px
            if not left:
                break
        paid, whole = (money, qty) if order.buy else (qty, money)
        fee = _up(whole * order.market.fee)
        return _Fill(qty, paid, fee, whole if self._in_token else whole - fee, limit, used)

    def _fee_cost(self, fills: list[_Fill], tops: list[Fraction]) -> Fraction:
        if not self._in_token:
            return Fraction(0)
        onward = [math.prod(tops[at + 1 :], start=Fraction(1)) for at in range(len(tops))]
        return _up(sum((fill.fee * rate for fill, rate in zip(fills, onward, strict=True)), Fraction(0)))


def _market(one: Symbol, fees: FeeTable) -> _Market:
    listed = [fee for name, fee in fees.by_symbol if name == one.name]
    listed += [fee for name, fee in fees.by_symbol if fnmatchcase(one.name, name)]
    fee = Fraction([*listed, fees.default_e8][0]) * UNIT
    if fees.token:
        fee = _up(fee * (1 - fees.discount_e8 * UNIT))
    return _Market(
        base=one.base,
        quote=one.quote,
        trading=one.status == "TRADING",
        tick=one.tick_size * UNIT,
        lot=one.lot_size * UNIT,
        qty_min=one.min_qty * UNIT,
        qty_max=one.max_qty * UNIT,
        notional_min=one.min_notional * UNIT,
        fee=fee,
    )


def _book(buy: bool, row: Row, depth: Depth | None, tick: Fraction) -> list[Level]:
    """Return the levels that an order eats, best first, on the tick."""
    top, standing = (row.ask_px, row.ask_qty) if buy else (row.bid_px, row.bid_qty)
    ladder = list(depth.levels) if depth is not None else []
    if depth is not None and ladder and depth.update_id > row.venue_update_id:
        there = [qty for px, qty in ladder if px == top]
        standing = min([standing, *there]) if there else 0
    worse = [level for level in ladder if (level[0] > top if buy else level[0] < top)]
    levels = [(top, standing)] if standing or not worse else []
    rounded = []
    for px, qty in levels + worse:
        ticks = px * UNIT / tick
        on_tick = (math.ceil(ticks) if buy else math.floor(ticks)) * tick
        if on_tick > 0:
            rounded.append((on_tick, qty * UNIT))
    return rounded


def _eaten(order: _Order, book: list[Level], have: Fraction) -> Fraction:
    """Return how much of these levels `have` pays."""
    if not order.buy:
        return have
    eaten = Fraction(0)
    for px, standing in book:
        if _up(standing * px) > have:
            return eaten + _down(have / px)
        eaten, have = eaten + standing, have - _up(standing * px)
    return eaten


def _sold(book: list[Level], wanted: Fraction) -> Fraction:
    """Return the least quantity that brings `wanted` before fees."""
    sold = Fraction(0)
    for px, standing in book:
        if _down(standing * px) >= wanted:
            return sold + _up(wanted / px)
        sold, wanted = sold + standing, wanted - _down(standing * px)
    return sold


def _legal(order: _Order, depth: int) -> Fraction:
    market = order.market
    px = order.book[0][0] if order.buy else order.book[depth - 1][0]
    least = max(market.qty_min, _up(market.notional_min / px))
    return math.ceil(least / market.lot) * market.lot


def _rate(order: _Order, px: Fraction) -> Fraction:
    return 1 / px if order.buy else px


def _in_lots(qty: Fraction, lot: Fraction) -> Fraction:
    return qty // lot * lot


def _up(amount: Fraction) -> Fraction:
    return math.ceil(amount / UNIT) * UNIT


def _down(amount: Fraction) -> Fraction:
    return math.floor(amount / UNIT) * UNIT


def _count(amount: Fraction) -> int:
    count = amount / UNIT
    assert count.denominator == 1
    return count.numerator


def _steps(fills: list[_Fill]) -> tuple[tuple[int, ...], ...]:
    found = []
    carried: Fraction | None = None
    for fill in fills:
        residual = Fraction(0) if carried is None else carried - fill.paid
        amounts = (fill.limit, fill.qty, fill.paid, fill.fee, fill.received, residual)
        found.append((*map(_count, amounts), fill.levels))
        carried = fill.received
    return tuple(found)


def _text(ratio: Fraction) -> str:
    """Return a ratio as decimal text of 12 places, to nearest."""
    nearest = round(ratio * 10**PLACES)
    digits = f"{abs(nearest):0{PLACES + 1}d}"
    return f"{'-' if nearest < 0 else ''}{digits[:-PLACES]}.{digits[-PLACES:]}"
