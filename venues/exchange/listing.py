"""Made-up listings: which assets trade against which, from a few symbols to a hundred times the original's 1,392.

Below `CLUSTER_SYMBOLS_FROM` symbols: three hubs against each other, and every other asset against two or three of them.
From there on: clusters of 1,392 symbols, each with twelve hubs that all trade against each other and 502 other assets
against one to ten of its hubs, most of them against one or two, as on a real exchange. Such a cluster has 2,598
triangles, so 5,196 directed cycles: what the original traded. No symbol joins two clusters, so the degree of an asset
and of a symbol is distributed alike in a listing of 1,392 symbols and in one of 139,200.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, chain, count, islice
from random import Random
from typing import Final

CLUSTER_SYMBOLS: Final = 1_392
CLUSTER_SYMBOLS_FROM: Final = 500

Pair = tuple[str, str]
"""Base and quote asset."""

# fmt: off
_NAMES: Final = (
    "SOL", "XRP", "ADA", "DOGE", "TRX", "DOT", "MATIC", "LTC", "LINK", "AVAX", "ATOM", "XLM", "UNI",
    "ETC", "FIL", "NEAR", "ALGO", "VET", "ICP", "APT", "ARB", "OP", "INJ", "GRT", "AAVE", "SAND",
)
# fmt: on
# The real exchange lists names outside ASCII; one is always there, so that nobody can forget it.
_NON_ASCII_NAME: Final = "币安人生"
_SMALL_HUB_PAIRS: Final = (
    ("BTC", "USDT"),
    ("ETH", "USDT"),
    ("ETH", "BTC"),
    ("BNB", "USDT"),
    ("BNB", "BTC"),
    ("BNB", "ETH"),
)
# Of two hubs the one named first is the base of their symbol. Values in millionths of a USDT.
_HUBS: Final = {
    "BNB": 600_000_000,
    "ETH": 3_000_000_000,
    "BTC": 60_000_000_000,
    "EUR": 1_100_000,
    "TUSD": 1_000_000,
    "FDUSD": 1_000_000,
    "USDC": 1_000_000,
    "USDT": 1_000_000,
    "PLN": 250_000,
    "BRL": 180_000,
    "TRY": 30_000,
    "JPY": 6_500,
}
_STABLE: Final = "USDT"
# How likely an asset is to trade against each.
_HUB_WEIGHTS: Final = {
    "USDT": 20, "BTC": 10, "USDC": 6, "FDUSD": 6, "TRY": 6, "ETH": 4, "BNB": 4, "EUR": 4, "BRL": 2, "TUSD": 2, "JPY": 2,
    "PLN": 1,
}  # fmt: skip
# How many assets of a cluster trade against 1, 2, … 10 hubs: with the hubs' own 66 symbols 1,392 symbols, and with the
# hubs' own 220 triangles 2,598. Those with two markets are where a true opportunity can be made.
_ASSETS_BY_MARKETS: Final = (227, 104, 50, 33, 24, 18, 15, 12, 10, 9)


def made_up_pairs(symbols: int) -> list[Pair]:
    """Return that many (base, quote) pairs, the same for every seed."""
    names = _asset_names()
    if symbols < CLUSTER_SYMBOLS_FROM:
        return list(islice(chain(_SMALL_HUB_PAIRS, _small_pairs(names)), symbols))
    whole, rest = divmod(symbols, CLUSTER_SYMBOLS)
    clusters = [_cluster(number, names) for number in range(whole)]
    # By rank and not by cluster: the busiest symbols are those listed first.
    pairs = [pair for rank in zip(*clusters, strict=True) for pair in rank]
    return pairs + _cluster(whole, names)[:rest]


def hub_value_millionths(asset: str) -> int | None:
    """Return what a hub of any cluster is worth in millionths of a USDT; None for another asset."""
    return _HUBS.get(asset.rstrip("0123456789"))


def is_stable(asset: str) -> bool:
    """Whether an asset is the one that its cluster's values are told in."""
    return asset.rstrip("0123456789") == _STABLE


def _asset_names() -> Iterator[str]:
    return chain(_NAMES[:4], [_NON_ASCII_NAME], _NAMES[4:], (f"A{index:05d}" for index in count(len(_NAMES) + 1)))


def _small_pairs(names: Iterator[str]) -> Iterator[Pair]:
    for index, base in enumerate(names):
        for hub in ("USDT", "BTC", "ETH") if index % 4 == 3 else ("USDT", "BTC"):
            yield base, hub


def _cluster(number: int, names: Iterator[str]) -> list[Pair]:
    """Return a cluster's 1,392 pairs: its hubs' first, then asset after asset in an order that mixes their degrees."""
    rng = Random(f"exchange-listing/{number}")
    suffix = str(number) if number else ""
    hubs = list(_HUBS)
    pairs = [(base + suffix, quote + suffix) for at, base in enumerate(hubs) for quote in hubs[at + 1 :]]
    degrees = [degree for degree, assets in enumerate(_ASSETS_BY_MARKETS, start=1) for _ in range(assets)]
    while degrees:
        degree = degrees.pop(int(rng.random() * len(degrees)))
        base = next(names)
        pairs.extend((base, hub + suffix) for hub in _chosen_hubs(rng, degree))
    return pairs


def _chosen_hubs(rng: Random, degree: int) -> list[str]:
    left, chosen = dict(_HUB_WEIGHTS), []
    for _ in range(degree):
        at = int(rng.random() * sum(left.values()))
        upto = accumulate(left.values())
        hub = next(hub for hub, end in zip(left, upto, strict=True) if at < end)
        chosen.append(hub)
        del left[hub]
    return chosen
