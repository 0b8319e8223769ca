"""The index of arbitrage cycles: closed paths over three or four assets, and which of them each market touches.

A *leg* is a market and a side: BUY spends its quote asset for its base, SELL its base for its quote. A *directed
cycle* is three or four legs that lead from an asset through others, none twice, back to it. Where two markets stand
between the same two assets each choice of market is a cycle of its own. A *triangle* is the unordered set of three
assets, counted once whatever its directions and markets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from kernels.closed_paths import Squares, triangles
from kernels.exchange_info import Symbol

BUY: Final = 0
SELL: Final = 1
SIDE_NAMES: Final = ("BUY", "SELL")
LENGTHS: Final = (3, 4)
LENGTH_MAX: Final = 4
CYCLES_MAX: Final = 2_000_000
NO_LEG: Final = -1

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


class UnknownStart(ValueError):
    """The start asset is in no trading market; the text names it."""


class TooManyCycles(ValueError):
    """The universe has more cycles than were allowed; the text says how many, and which settings matter."""


@dataclass(frozen=True, slots=True, eq=False)
class CycleIndex:
    """Every directed cycle once, in an order that depends on the symbols alone, shorter ones first. Read-only arrays.

    `legs` int32 [n, w], w the greatest length asked for: row id of each leg's market, which is its position in the
    symbols given to `build_index`; NO_LEG beyond a cycle's length. `sides` int8 [n, w]: BUY or SELL (0 beyond).
    `lengths` int8 [n]. `row_start` int64 [rows + 1] and `row_cycles` int32 [sum of lengths]: the cycles of row r are
    `row_cycles[row_start[r]:row_start[r + 1]]`, ascending. `start_assets`: int32 [n], index into `assets` of the asset
    that each cycle begins and ends at.
    """

    symbols: tuple[Symbol, ...]
    assets: tuple[str, ...]
    legs: Int32s
    sides: Int8s
    lengths: Int8s
    start_assets: Int32s
    row_start: Int64s
    row_cycles: Int32s
    triangles: int

    def __len__(self) -> int:
        return len(self.legs)

    def start_asset(self, cycle: int) -> str:
        """Return the asset that a cycle begins and ends at."""
        return self.assets[self.start_assets[cycle]]

    def legs_of(self, cycle: int) -> tuple[list[int], list[int]]:
        """Return a cycle's rows and sides, in its order."""
        length = self.lengths[cycle]
        return self.legs[cycle, :length].tolist(), self.sides[cycle, :length].tolist()

    def describe(self, cycle: int) -> tuple[str, ...]:
        """Return a cycle as its legs in order, each `SYMBOL:SIDE`."""
        return tuple(
            f"{self.symbols[row].name}:{SIDE_NAMES[side]}" for row, side in zip(*self.legs_of(cycle), strict=True)
        )


def build_index(
    symbols: Sequence[Symbol],
    start: str | Sequence[str] | None = None,
    lengths: Sequence[int] = (3,),
    cycles_max: int = CYCLES_MAX,
) -> CycleIndex:
    """Index the cycles over the markets whose status is TRADING.

    With `start`, an asset or several, the cycles that pass through one of them, begun at the first of them in the order
    given; without it every directed cycle, begun at its asset whose name sorts first. Both directions, each in this one
    rotation. `lengths`: any of LENGTHS. `triangles` counts over all markets, whatever `start` and `lengths` are. A
    market of an asset against itself is in none. No symbols, or none that close: zero cycles.

    Complexity: `kernels.closed_paths`. Raises UnknownStart, and TooManyCycles before cycles of four are made.
    """
    if not lengths or not set(lengths) <= set(LENGTHS):
        raise ValueError(f"cycle lengths are {list(lengths)}; allowed: one or more of {list(LENGTHS)}")
    rows, base, quote, names = _graph(symbols)
    starts = None if start is None else _numbers([start] if isinstance(start, str) else start, names)
    preferred = np.arange(len(names), dtype=np.int64)
    if starts is not None:
        preferred += len(starts)
        preferred[starts] = np.arange(len(starts))
    corners, markets = triangles(base, quote, len(names))
    n_triangles = len(np.unique(np.sort(corners, axis=1), axis=0))
    paths: list[tuple[Int32s, Int32s]] = []
    if 3 in lengths:
        kept = slice(None) if starts is None else (preferred[corners] < len(starts)).any(axis=1)
        paths.append((corners[kept], markets[kept]))
    if 4 in lengths:
        squares = Squares(base, quote, len(names), starts)
        _check_count(2 * (len(squares) + sum(len(found) for found, _ in paths)), cycles_max)
        paths.append(squares.find())
    _check_count(2 * sum(len(found) for found, _ in paths), cycles_max)
    directed = [_directed(*path, preferred, rows, base, max(lengths)) for path in paths]
    legs, sides, starting = (np.concatenate(parts) for parts in zip(*directed, strict=True))
    row_start, row_cycles = _touched(legs, len(symbols))
    counted = (legs != NO_LEG).sum(axis=1).astype(np.int8)
    for array in (legs, sides, counted, starting, row_start, row_cycles):
        array.flags.writeable = False
    return CycleIndex(tuple(symbols), tuple(names), legs, sides, counted, starting, row_start, row_cycles, n_triangles)


def index_one(symbols: Sequence[Symbol], rows: Sequence[int], sides: Sequence[int], start: str) -> CycleIndex:
    """Return an index that holds one cycle alone, as it is given: whether it closes is the caller's to know."""
    legs = np.array([rows], dtype=np.int32)
    row_start, row_cycles = _touched(legs, len(symbols))
    return CycleIndex(
        symbols=tuple(symbols),
        assets=(start,),
        legs=legs,
        sides=np.array([sides], dtype=np.int8),
        lengths=np.array([len(rows)], dtype=np.int8),
        start_assets=np.zeros(1, dtype=np.int32),
        row_start=row_start,
        row_cycles=row_cycles,
        triangles=0,
    )


def _graph(symbols: Sequence[Symbol]) -> tuple[Int32s, Int32s, Int32s, list[str]]:
    """Return row, base and quote of each trading market (int32 [E]) and the names of the assets, sorted."""
    trading = [(row, one) for row, one in enumerate(symbols) if one.trading and one.base != one.quote]
    names = sorted({one.base for _, one in trading} | {one.quote for _, one in trading})
    number = {name: at for at, name in enumerate(names)}
    rows = np.array([row for row, _ in trading], dtype=np.int32)
    base = np.array([number[one.base] for _, one in trading], dtype=np.int32)
    quote = np.array([number[one.quote] for _, one in trading], dtype=np.int32)
    return rows, base, quote, names


def _numbers(starts: Sequence[str], names: list[str]) -> Int32s:
    number = {name: at for at, name in enumerate(names)}
    for name in starts:
        if name not in number:
            raise UnknownStart(
                f"no trading market has the asset {name!r}; give --start one of the listed assets, in its case"
            )
    return np.array([number[name] for name in dict.fromkeys(starts)], dtype=np.int32)


def _check_count(count: int, cycles_max: int) -> None:
    if count > cycles_max:
        raise TooManyCycles(
            f"this universe has {count} cycles; evaluator.cycles_max allows {cycles_max}. Remedy: "
            "leave 4 out of evaluator.cycle_lengths, name fewer exchange.symbols or one exchange.start_asset, "
            "or raise evaluator.cycles_max (about 60 bytes a cycle)"
        )


def _directed(
    corners: Int32s, markets: Int32s, preferred: Int64s, rows: Int32s, base: Int32s, width: int
) -> tuple[Int32s, Int8s, Int32s]:
    """Return legs, sides [2 T, width] and start assets [2 T] of the paths in both directions, in the index's order."""
    length = corners.shape[1]
    first = np.argmin(preferred[corners], axis=1)
    at = (first[:, None] + np.arange(length)) % length
    path = np.arange(len(corners))[:, None]
    visited, crossed = corners[path, at], markets[path, at]
    back = [0, *range(length - 1, 0, -1)]
    visited = np.concatenate((visited, visited[:, back]))
    edges = np.concatenate((crossed, crossed[:, ::-1]))
    legs = np.full((len(edges), width), NO_LEG, dtype=np.int32)
    sides = np.zeros((len(edges), width), dtype=np.int8)
    legs[:, :length] = rows[edges]
    sides[:, :length] = base[edges] == visited  # SELL is 1
    order = np.lexsort(legs.T[::-1])
    return legs[order], sides[order], visited[order, 0].astype(np.int32)


def _touched(legs: Int32s, n_rows: int) -> tuple[Int64s, Int32s]:
    """Return the inverse of `legs` in compressed form: row_start and row_cycles."""
    is_leg = legs != NO_LEG
    flat = legs[is_leg]
    row_start = np.zeros(n_rows + 1, dtype=np.int64)
    np.cumsum(np.bincount(flat, minlength=n_rows), out=row_start[1:])
    return row_start, np.nonzero(is_leg)[0][np.argsort(flat, kind="stable")].astype(np.int32)
