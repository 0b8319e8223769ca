"""The cycle index against a naive search over every ordered choice of three markets."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.cycles import CycleIndex, UnknownStart, build_index
from kernels.exchange_info import Symbol, parse_exchange_info


def market(base: str, quote: str, name: str = "", status: str = "TRADING") -> Symbol:
    return Symbol(name or base + quote, status, base, quote)


def naive_cycles(symbols: Sequence[Symbol], start: str | None) -> set[tuple[str, ...]]:
    """Walk every ordered triple of trading markets from every asset; keep one rotation of each closed walk."""
    usable = [one for one in symbols if one.status == "TRADING" and one.base != one.quote]
    found = set()
    for markets in itertools.permutations(usable, 3):
        for begin in {markets[0].base, markets[0].quote}:
            asset, path, visited = begin, [], []
            for one in markets:
                visited.append(asset)
                if asset == one.quote:
                    asset = one.base
                    path.append(f"{one.name}:BUY")
                elif asset == one.base:
                    asset = one.quote
                    path.append(f"{one.name}:SELL")
                else:
                    break
            closed = len(path) == 3 and asset == begin and len(set(visited)) == 3
            if closed and (begin == start if start is not None else begin == min(visited)):
                found.add(tuple(path))
    return found


def described(index: CycleIndex) -> list[tuple[str, ...]]:
    return [index.describe(cycle) for cycle in range(len(index))]


def naive_triangles(symbols: Sequence[Symbol]) -> int:
    usable = [frozenset((one.base, one.quote)) for one in symbols if one.status == "TRADING" and one.base != one.quote]
    assets = sorted({asset for pair in usable for asset in pair})
    return sum(
        all(frozenset(pair) in usable for pair in itertools.combinations(three, 2))
        for three in itertools.combinations(assets, 3)
    )


@st.composite
def listings(draw: st.DrawFn) -> list[Symbol]:
    assets = ["A", "B", "C", "D", "Ä", "币"]
    pairs = draw(st.lists(st.tuples(st.sampled_from(assets), st.sampled_from(assets)), max_size=10))
    statuses = draw(st.lists(st.sampled_from(["TRADING", "TRADING", "TRADING", "BREAK"]), min_size=10, max_size=10))
    return [
        market(base, quote, f"{base}{quote}{number}", statuses[number]) for number, (base, quote) in enumerate(pairs)
    ]


@settings(max_examples=200, deadline=None)
@given(listings(), st.sampled_from([None, "A", "C"]))
def test_the_index_holds_exactly_the_cycles_that_a_naive_search_finds(symbols: list[Symbol], start: str | None) -> None:
    try:
        index = build_index(symbols, start)
    except UnknownStart:
        assert not naive_cycles(symbols, start)
        return
    paths = described(index)
    assert len(paths) == len(set(paths))
    assert set(paths) == naive_cycles(symbols, start)
    assert index.triangles == naive_triangles(symbols)


@settings(max_examples=50, deadline=None)
@given(listings())
def test_each_market_maps_to_exactly_the_cycles_that_cross_it(symbols: list[Symbol]) -> None:
    index = build_index(symbols)
    assert len(index.row_start) == len(symbols) + 1
    for row in range(len(symbols)):
        touched = index.row_cycles[index.row_start[row] : index.row_start[row + 1]].tolist()
        assert touched == [cycle for cycle in range(len(index)) if row in index.legs[cycle]]


def test_one_triangle_has_two_directions_and_begins_at_the_start_asset() -> None:
    symbols = [market("BTC", "USDT"), market("ETH", "USDT"), market("ETH", "BTC")]
    index = build_index(symbols, "USDT")
    assert described(index) == [
        ("BTCUSDT:BUY", "ETHBTC:BUY", "ETHUSDT:SELL"),
        ("ETHUSDT:BUY", "ETHBTC:SELL", "BTCUSDT:SELL"),
    ]
    assert index.triangles == 1
    assert {index.start_asset(cycle) for cycle in range(2)} == {"USDT"}
    assert described(build_index(symbols)) == [
        ("BTCUSDT:SELL", "ETHUSDT:BUY", "ETHBTC:SELL"),
        ("ETHBTC:BUY", "ETHUSDT:SELL", "BTCUSDT:BUY"),
    ]


def test_a_market_that_is_not_trading_forms_no_cycle() -> None:
    symbols = [market("BTC", "USDT"), market("ETH", "USDT"), market("ETH", "BTC", status="BREAK")]
    index = build_index(symbols)
    assert (len(index), index.triangles) == (0, 0)


def test_a_second_market_between_the_same_assets_doubles_the_cycles_but_not_the_triangles() -> None:
    symbols = [market("BTC", "USDT"), market("ETH", "USDT"), market("ETH", "BTC"), market("USDT", "BTC", "USDTBTC")]
    index = build_index(symbols, "USDT")
    assert (len(index), index.triangles) == (4, 1)
    assert ("USDTBTC:SELL", "ETHBTC:BUY", "ETHUSDT:SELL") in described(index)


def test_a_market_of_an_asset_against_itself_is_in_no_cycle() -> None:
    symbols = [market("BTC", "USDT"), market("ETH", "USDT"), market("ETH", "BTC"), market("BTC", "BTC")]
    assert len(build_index(symbols)) == 2


def test_no_symbols_give_no_cycles_and_an_unknown_start_is_refused_by_name() -> None:
    assert len(build_index([])) == 0
    with pytest.raises(UnknownStart, match="'DOGE'"):
        build_index([market("BTC", "USDT")], "DOGE")


def test_the_arrays_have_the_stated_types_and_cannot_be_written() -> None:
    index = build_index([market("BTC", "USDT"), market("ETH", "USDT"), market("ETH", "BTC")])
    assert (index.legs.dtype, index.sides.dtype, index.row_cycles.dtype) == (np.int32, np.int8, np.int32)
    with pytest.raises(ValueError, match="read-only"):
        index.legs[0, 0] = 7


@pytest.mark.data
@pytest.mark.parametrize(
    ("day", "symbols", "trading", "triangles", "directed"),
    [
        ("2019-08-22", 595, 546, 833, 440),
        ("2021-08-26", 1608, 1207, 1869, 1578),
        ("2023-03-02", 2156, 1389, 2407, 1982),
    ],
)
def test_recorded_listings_have_the_known_counts(
    recorded: Callable[[str], Path], day: str, symbols: int, trading: int, triangles: int, directed: int
) -> None:
    packed = recorded(f"binance/exchange_info/exchangeInfo_{day}_full.json.gz").read_bytes()
    listed = parse_exchange_info(gzip.decompress(packed))
    assert (len(listed), sum(one.trading for one in listed)) == (symbols, trading)
    index = build_index(listed, "USDT")
    assert (index.triangles, len(index)) == (triangles, directed)
    everything = build_index(listed)
    assert (everything.triangles, len(everything)) == (triangles, 2 * triangles)
