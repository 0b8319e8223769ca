"""Closed paths over a graph of markets: triangles, and simple paths over four assets. Markets may be parallel.

A graph is two int32 [E], the assets that each market stands between, never the same twice. What is found is undirected:
corners (assets, in the order of the path) and markets (from each corner to the next), each choice of markets once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


def triangles(base: Int32s, quote: Int32s, n_assets: int) -> tuple[Int32s, Int32s]:
    """Return the triangles of the multigraph: corners (assets a, b, c) and markets (a-b, b-c, c-a), each int32 [T, 3].

    Assets are ranked by degree, and an edge leads from the lower rank to the higher, which bounds the wedges at its
    tail: O(E log E + W) for W wedges, at most E^1.5. Source: the forward algorithm (Schank and Wagner 2005, section 2).
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


class Squares:
    """The simple closed paths over four assets, counted before they are made.

    A path is found at its corner of highest rank, as two wedges from there to the opposite corner over two different
    assets. O(W log W) for W wedges whose end is of lower rank than their beginning. Source: Chiba and Nishizeki 1985,
    section 4.
    """

    def __init__(self, base: Int32s, quote: Int32s, n_assets: int, starts: Int32s | None) -> None:
        """`starts`: assets of which a path must hold one, in order of preference; None: any path."""
        rank = _ranked(base, quote, n_assets, starts)
        edge = np.tile(np.arange(len(base), dtype=np.int64), 2)
        begin, end = np.concatenate((base, quote)).astype(np.int64), np.concatenate((quote, base)).astype(np.int64)
        order = np.argsort(begin, kind="stable")
        begin, end, edge = begin[order], end[order], edge[order]
        from_asset = np.searchsorted(begin, np.arange(n_assets + 1))
        firsts = np.nonzero(rank[begin] > rank[end])[0]
        if starts is not None:
            firsts = firsts[np.isin(begin[firsts], starts)]
        middle = end[firsts]
        onward = from_asset[middle + 1] - from_asset[middle]
        first = np.repeat(firsts, onward)
        second = np.repeat(from_asset[middle], onward) + _ramps(onward)
        lower = rank[end[second]] < rank[begin[first]]
        first, second = first[lower], second[lower]
        # Wedges of the same ends stand together, and among them those over the same asset.
        key = (begin[first] * n_assets + end[second]) * n_assets + end[first]
        order = np.argsort(key, kind="stable")
        key, first, second = key[order], first[order], second[order]
        self._ends = (begin[first], end[first], end[second])
        self._edges = (edge[first], edge[second])
        self._next_middle = np.searchsorted(key, key, side="right")
        pair = key // n_assets
        self._partners = np.searchsorted(pair, pair, side="right") - self._next_middle

    def __len__(self) -> int:
        return int(self._partners.sum())

    def find(self) -> tuple[Int32s, Int32s]:
        """Return corners and markets, each int32 [len, 4]."""
        left = np.repeat(np.arange(len(self._partners)), self._partners)
        right = np.repeat(self._next_middle, self._partners) + _ramps(self._partners)
        top, middle, opposite = self._ends
        out, onward = self._edges
        corners = np.stack((top[left], middle[left], opposite[left], middle[right]), axis=1)
        markets = np.stack((out[left], onward[left], onward[right], out[right]), axis=1)
        return corners.astype(np.int32), markets.astype(np.int32)


def _ranked(base: Int32s, quote: Int32s, n_assets: int, starts: Int32s | None) -> Int64s:
    """Return each asset's rank: by degree, and above all others the starts, the preferred highest."""
    weight = np.bincount(np.concatenate((base, quote)), minlength=n_assets).astype(np.int64)
    if starts is not None:
        weight[starts] = 2 * len(base) + len(starts) - np.arange(len(starts))
    rank = np.empty(n_assets, dtype=np.int64)
    rank[np.argsort(weight, kind="stable")] = np.arange(n_assets)
    return rank


def _ramps(lengths: Int64s) -> Int64s:
    """Return 0, 1, … length - 1 for each length, one after another."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
