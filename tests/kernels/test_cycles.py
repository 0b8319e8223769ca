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

from kernels.cycles import CycleIndex, TooManyCycles, UnknownStart, build_index
from kernels.exchange_info import Symbol, parse_exchange_info


def market(base: str, quote: str, name: str = "", status: str = "TRADING") -> Symbol:
    return Symbol(name or base + quote, status, base, quote)


def naive_cycles(symbols: Sequence[Symbol], start: str | Sequence[str] | None, length: int = 3) -> set[tuple[str, ...]]:
    """Walk every ordered choice of trading markets from every asset; keep one rotation of each closed walk."""
    starts = [start] if isinstance(start, str) else start
    usable = [one for one in symbols if one.status == "TRADING" and one.base != one.quote]
    found = set()
    for markets in itertools.permutations(usable, length):
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
            if not (len(path) == length and asset == begin and len(set(visited)) == length):
                continue
            wanted = min(visited) if starts is None else next((one for one in starts if one in visited), None)
            if begin == wanted:
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
def listings(draw: st.DrawFn, most: int = 10) -> list[Symbol]:
    assets = ["A", "B", "C", "D", "Ä", "币"]
    pairs = draw(st.lists(st.tuples(st.sampled_from(assets), st.sampled_from(assets)), max_size=most))
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


@settings(max_examples=150, deadline=None)
@given(
    listings(most=8),
    st.sampled_from([None, ["A"], ["C", "A"], ["D", "C", "B", "A"]]),
    st.sampled_from([(4,), (3, 4), (4, 3), (3,)]),
)
def test_cycles_of_four_are_exactly_those_that_a_naive_search_finds(
    symbols: list[Symbol], start: list[str] | None, lengths: tuple[int, ...]
) -> None:
    traded = {asset for one in symbols if one.trading and one.base != one.quote for asset in (one.base, one.quote)}
    start = None if start is None else [one for one in start if one in traded] or None
    index = build_index(symbols, start, lengths)
    paths = described(index)
    assert len(paths) == len(set(paths))
    assert set(paths) == {path for length in lengths for path in naive_cycles(symbols, start, length)}
    assert [len(path) for path in paths] == sorted(index.lengths.tolist())
    assert index.legs.shape == index.sides.shape == (len(index), max(lengths))
    assert index.triangles == naive_triangles(symbols)
    for cycle, path in enumerate(paths):
        name, _, side = path[0].partition(":")
        first = next(one for one in symbols if one.name == name)
        assert index.start_asset(cycle) == (first.quote if side == "BUY" else first.base)


def test_a_universe_with_more_cycles_than_allowed_is_refused_before_they_are_made() -> None:
    hubs = ["H1", "H2", "H3"]
    symbols = [market(f"C{number}", hub) for number in range(300) for hub in hubs]
    with pytest.raises(TooManyCycles, match=r"has 269100 cycles; evaluator\.cycles_max allows 1000") as refused:
        build_index(symbols, None, (3, 4), cycles_max=1_000)
    assert "evaluator.cycle_lengths" in str(refused.value)
    assert len(build_index(symbols, None, (3, 4), cycles_max=269_100)) == 3 * 300 * 299
    # From one coin there are far fewer: the bound is on what is kept.
    assert len(build_index(symbols, "C7", (4,), cycles_max=2_000)) == 2 * 3 * 299


def test_lengths_other_than_three_and_four_are_refused() -> None:
    for lengths in ((), (2,), (3, 5)):
        with pytest.raises(ValueError, match="cycle lengths are"):
            build_index([market("B", "A")], None, lengths)


@settings(max_examples=50, deadline=None)
@given(listings())
def test_each_market_maps_to_exactly_the_cycles_that_cross_it(symbols: list[Symbol]) -> None:
    index = build_index(symbols, None, (3, 4))
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
