"""One leg's arithmetic over the levels of its book: exact integers, every rounding against us. All are counts of 1e-8.

A BUY pays quote asset for base at the asks, a SELL base for quote at the bids, level by level from the best. Each
level's cost is rounded up, its proceeds down. The order's limit price is that of the worst level used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kernels.book_image import Row
from kernels.cycles import BUY
from kernels.exchange_info import Symbol
from kernels.fixed8 import SCALE

Level = tuple[int, int]
"""Price and quantity."""


class Leg(NamedTuple):
    """`levels`: best first, prices on the tick (a BUY's rounded up, a SELL's down) and above zero; none: no such price.

    `taken_e8`: the fee's share that is taken from what is received, `fee_e8` unless a token pays it.
    """

    buy: bool
    levels: tuple[Level, ...]
    symbol: Symbol
    fee_e8: int
    taken_e8: int

    def standing(self, depth: int) -> int:
        """Return what stands at the first `depth` levels."""
        return sum(qty for _, qty in self.levels[:depth])

    def available(self, depth: int) -> int:
        """Return the whole lots that the first `depth` levels and the symbol's maximum let through."""
        return _down(min(self.standing(depth), self.symbol.max_qty), self.symbol.lot_size)

    def qty_min(self, depth: int) -> int:
        """Return the least legal quantity, in whole lots, wherever in the first `depth` levels it ends.

        The venue multiplies the limit price for its minimum notional. A SELL's is at worst the last level's; a BUY's at
        least the best level's.
        """
        px = self.levels[0 if self.buy else depth - 1][0]
        return _up(max(self.symbol.min_qty, _ceil_div(self.symbol.min_notional * SCALE, px)), self.symbol.lot_size)

    def affords(self, have: int, depth: int) -> int:
        """Return the whole lots of the first `depth` levels that `have` of the input pays."""
        return _down(self._bought(have, depth) if self.buy else have, self.symbol.lot_size)

    def _bought(self, have: int, depth: int) -> int:
        bought = 0
        for px, qty in self.levels[:depth]:
            cost = _ceil_div(qty * px, SCALE)
            if cost > have:
                return bought + have * SCALE // px
            bought, have = bought + qty, have - cost
        return bought

    def lot_cost(self, depth: int) -> int:
        """Return what one lot takes of the input at the last of the first `depth` levels."""
        lot = self.symbol.lot_size
        return _ceil_div(lot * self.levels[depth - 1][0], SCALE) if self.buy else lot

    def spends(self, qty: int) -> int:
        """Return what `qty` takes of the input."""
        return sum(_ceil_div(part * px, SCALE) for px, part in self.fills(qty)) if self.buy else qty

    def receives(self, qty: int) -> tuple[int, int]:
        """Return (fee, received), the fee rounded up."""
        amount = qty if self.buy else sum(part * px // SCALE for px, part in self.fills(qty))
        fee = _ceil_div(amount * self.fee_e8, SCALE)
        return fee, amount - fee if self.taken_e8 else amount

    def fills(self, qty: int) -> list[Level]:
        """Return what `qty` takes of each level, best first; it must be there."""
        taken = []
        for px, standing in self.levels:
            part = min(qty, standing)
            taken.append((px, part))
            qty -= part
            if qty == 0:
                return taken
        raise AssertionError(f"{qty} more than the levels hold: {self}")

    def least(self, needed: int, depth: int) -> int:
        """Return the fewest whole lots, legal ones, that receive at least `needed`; they must be in `depth` levels.

        x - ceil(x f / S) = floor(x k / S) with k = S - f; that is >= n exactly when x >= n S / k, and floor(q p / S) >=
        x exactly when q >= x S / p: two ceilings.
        """
        amount = _ceil_div(needed * SCALE, SCALE - self.taken_e8)
        qty = amount if self.buy else self._sold_for(amount)
        return max(_up(qty, self.symbol.lot_size), self.qty_min(depth))

    def _sold_for(self, amount: int) -> int:
        """Return the least quantity whose proceeds, before the fee, reach `amount`."""
        sold = 0
        for px, qty in self.levels:
            proceeds = qty * px // SCALE
            if proceeds >= amount:
                return sold + _ceil_div(amount * SCALE, px)
            sold, amount = sold + qty, amount - proceeds
        raise AssertionError(f"{amount} more than the levels bring: {self}")


def leg_of(
    symbol: Symbol, side: int, row: Row, fee_e8: int, paid_in_token: bool, ladder: Sequence[Level], ladder_id: int
) -> Leg:
    """Return a leg over the top of its row and what stands behind it in a ladder of its side (none: ()).

    The row says what is best, so that no level is better than what the screen saw. Where the ladder is the newer
    (`ladder_id` above the row's update id) no more stands at the top's price than the ladder has there.
    """
    buy = side == BUY
    top_px, top_qty = (row.ask_px, row.ask_qty) if buy else (row.bid_px, row.bid_qty)
    if ladder and ladder_id > row.venue_update_id:
        top_qty = min(top_qty, next((qty for px, qty in ladder if px == top_px), 0))
    behind = [(px, qty) for px, qty in ladder if (px > top_px if buy else px < top_px)]
    tick = symbol.tick_size
    levels = tuple(
        (on_tick, qty)
        for px, qty in ((top_px, top_qty), *behind)
        if (on_tick := _up(px, tick) if buy else px // tick * tick) > 0 and (qty > 0 or (px == top_px and not behind))
    )
    return Leg(buy, levels, symbol, fee_e8, 0 if paid_in_token else fee_e8)


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def _down(count: int, step: int) -> int:
    return count // step * step


def _up(count: int, step: int) -> int:
    return _ceil_div(count, step) * step
