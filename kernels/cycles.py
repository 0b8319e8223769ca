"""The index of arbitrage cycles: closed paths over three assets, and which of them each market touches.

A *leg* is a market and a side: BUY spends its quote asset for its base, SELL its base for its quote. A *directed
cycle* is three legs that lead from an asset through two others back to it. Where two markets stand between the same
two assets each choice of market is a cycle of its own. A *triangle* is the unordered set of its three assets, counted
once whatever its directions and markets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from kernels.exchange_info import Symbol

BUY: Final = 0
SELL: Final = 1
SIDE_NAMES: Final = ("BUY", "SELL")

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


class UnknownStart(ValueError):
    """The start asset is in no trading market; the text names it."""


@dataclass(frozen=True, slots=True, eq=False)
class CycleIndex:
    """Every directed cycle once, in an order that depends on the symbols alone. Arrays are read-only.

    `legs` int32 [n, 3]: row id of each leg's market, which is its position in the symbols given to `build_index`.
    `sides` int8 [n, 3]: BUY or SELL. `row_start` int64 [rows + 1] and `row_cycles` int32 [3 n]: the cycles of row r are
    `row_cycles[row_start[r]:row_start[r + 1]]`, ascending. `start_assets`: int32 [n], index into `assets` of the asset
    that each cycle begins and ends at.
    """

    symbols: tuple[Symbol, ...]
    assets: tuple[str, ...]
    legs: Int32s
    sides: Int8s
    start_assets: Int32s
    row_start: Int64s
    row_cycles: Int32s
    triangles: int

    def __len__(self) -> int:
        return len(self.legs)

    def start_asset(self, cycle: int) -> str:
        """Return the asset that a cycle begins and ends at."""
        return self.assets[self.start_assets[cycle]]

    def describe(self, cycle: int) -> tuple[str, str, str]:
        """Return a cycle as its three legs in order, each `SYMBOL:SIDE`."""
        first, second, third = (
            f"{self.symbols[row].name}:{SIDE_NAMES[side]}"
            for row, side in zip(self.legs[cycle].tolist(), self.sides[cycle].tolist(), strict=True)
        )
        return first, second, third


def build_index(symbols: Sequence[Symbol], start: str | None = None) -> CycleIndex:
    """Index the cycles over the markets whose status is TRADING.

    With `start` the cycles that begin and end there, both directions; without it every directed cycle in one of
    its three rotations, the one that begins at the asset whose name sorts first. `triangles` counts over all markets,
    whatever `start` is. A market of an asset against itself is in none. No symbols, or none that close: zero cycles.

    O(E log E + W) for E markets and W wedges of the graph oriented by degree (W is at most E^1.5).
    Raises UnknownStart. Source: the forward algorithm (Schank and Wagner 2005, section 2) on a multigraph.
    """
    rows, base, quote, names = _graph(symbols)
    if start is not None and start not in names:
        raise UnknownStart(
            f"no trading market has the asset {start!r}; give --start one of the listed assets, in its case"
        )
    corners, markets = _closed_wedges(base, quote, len(names))
    triangles = len(np.unique(np.sort(corners, axis=1), axis=0))
    if start is not None:
        kept = (corners == names.index(start)).any(axis=1)
        corners, markets = corners[kept], markets[kept]
        first = np.argmax(corners == names.index(start), axis=1)
    else:
        first = np.argmin(corners, axis=1)
    visited, edges = _both_directions(corners, markets, first)
    legs = rows[edges]
    sides = np.where(base[edges] == visited, SELL, BUY).astype(np.int8)
    order = np.lexsort((legs[:, 2], legs[:, 1], legs[:, 0]))
    legs, sides, starts = legs[order], sides[order], visited[order, 0].astype(np.int32)
    row_start, row_cycles = _touched(legs, len(symbols))
    for array in (legs, sides, starts, row_start, row_cycles):
        array.flags.writeable = False
    return CycleIndex(tuple(symbols), tuple(names), legs, sides, starts, row_start, row_cycles, triangles)


def _graph(symbols: Sequence[Symbol]) -> tuple[Int32s, Int32s, Int32s, list[str]]:
    """Return row, base and quote of each trading market (int32 [E]) and the names of the assets, sorted."""
    trading = [(row, one) for row, one in enumerate(symbols) if one.trading and one.base != one.quote]
    names = sorted({one.base for _, one in trading} | {one.quote for _, one in trading})
    number = {name: at for at, name in enumerate(names)}
    rows = np.array([row for row, _ in trading], dtype=np.int32)
    base = np.array([number[one.base] for _, one in trading], dtype=np.int32)
    quote = np.array([number[one.quote] for _, one in trading], dtype=np.int32)
    return rows, base, quote, names


def _closed_wedges(base: Int32s, quote: Int32s, n_assets: int) -> tuple[Int32s, Int32s]:
    """Return the triangles of the multigraph: corners (assets a, b, c) and markets (a-b, b-c, c-a), each int32 [T, 3].

    Every choice of three markets that close occurs once. Assets are ranked by degree, and an edge leads from the lower
    rank to the higher, which bounds the wedges at its tail.
    """
    degree = np.bincount(np.concatenate((base, quote)), minlength=n_assets)
    by_rank = np.argsort(degree, kind="stable").astype(np.int64)
    rank = np.empty(n_assets, dtype=np.int64)
    rank[by_rank] = np.arange(n_assets)
    tail, head = np.minimum(rank[base], rank[quote]), np.maximum(rank[base], rank[quote])
    key = tail * n_assets + head
    order = np.argsort(key, kind="stable")
    tail, head, key = tail[order], head[order], key[order]
    # A wedge: an edge, and a later one with the same tail.
    group_stop = np.searchsorted(tail, tail, side="right")
    later = group_stop - np.arange(len(tail)) - 1
    left = np.repeat(np.arange(len(tail)), later)
    right = left + 1 + _ramps(later)
    closing = head[left] * n_assets + head[right]
    low = np.searchsorted(key, closing, side="left")
    found = np.searchsorted(key, closing, side="right") - low
    # Two markets of the same pair give the closing key h * n + h, which no edge has: it finds nothing.
    across = np.repeat(low, found) + _ramps(found)
    left, right = np.repeat(left, found), np.repeat(right, found)
    corners = by_rank[np.stack((tail[left], head[left], head[right]), axis=1)]
    markets = order[np.stack((left, across, right), axis=1)]
    return corners.astype(np.int32), markets.astype(np.int32)


def _ramps(lengths: Int64s) -> Int64s:
    """Return 0, 1, … length - 1 for each length, one after another."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)


def _both_directions(corners: Int32s, markets: Int32s, first: Int64s) -> tuple[Int32s, Int32s]:
    """Return assets visited and markets crossed (int32 [2 T, 3] each), begun at corner `first`, in both directions."""
    at = (first[:, None] + np.arange(3)) % 3
    row = np.arange(len(corners))[:, None]
    visited, crossed = corners[row, at], markets[row, at]
    return (
        np.concatenate((visited, visited[:, [0, 2, 1]])),
        np.concatenate((crossed, crossed[:, ::-1])),
    )


def _touched(legs: Int32s, n_rows: int) -> tuple[Int64s, Int32s]:
    """Return the inverse of `legs` in compressed form: row_start and row_cycles."""
    flat = legs.ravel()
    row_start = np.zeros(n_rows + 1, dtype=np.int64)
    np.cumsum(np.bincount(flat, minlength=n_rows), out=row_start[1:])
    return row_start, (np.argsort(flat, kind="stable") // 3).astype(np.int32)
