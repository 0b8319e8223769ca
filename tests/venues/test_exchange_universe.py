"""Large made-up listings: the original's size, a hundred times it, one shape; and prices as consistent as ever."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest

from tests.venues.exchange_oracle import Cycle, by_symbol, directed_triangles, gross_return, turned
from venues.exchange.generator import Closed, Generator, Opened, OpportunityPlan
from venues.exchange.listing import CLUSTER_SYMBOLS, made_up_pairs
from venues.exchange.market import UNIT
from venues.exchange.universe import Universe, made_up_universe

OFTEN = OpportunityPlan(120, 40, 10, 30, 60)


def triangles_of(universe: Universe) -> list[Cycle]:
    return directed_triangles({pair.rules.symbol: (pair.rules.base, pair.rules.quote) for pair in universe.pairs})


def cycles_per_symbol(universe: Universe) -> list[int]:
    """How many directed cycles each symbol is a leg of, ascending."""
    touched = by_symbol(triangles_of(universe))
    return sorted(len(touched.get(pair.rules.symbol, [])) for pair in universe.pairs)


def test_the_original_universe_has_1392_symbols_and_5196_directed_cycles() -> None:
    universe = made_up_universe(1_392, 3)
    assert len(universe.pairs) == len({pair.rules.symbol for pair in universe.pairs}) == 1_392
    assert len(triangles_of(universe)) == 5_196
    assert any(not pair.rules.symbol.isascii() for pair in universe.pairs)


def test_ten_times_the_symbols_is_ten_times_the_cycles_at_the_same_degrees() -> None:
    one, ten = (cycles_per_symbol(made_up_universe(count, 1)) for count in (1_392, 13_920))
    assert (len(ten), sum(ten)) == (13_920, 3 * 51_960)
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert one[int(share * 1_392)] == ten[int(share * 13_920)]
    assert max(ten) <= 1.25 * max(one)


def test_a_hundred_times_the_symbols_have_no_hub_larger_than_one_times() -> None:
    def degrees(count: int) -> list[int]:
        return sorted(Counter(asset for pair in made_up_pairs(count) for asset in pair).values())

    one, hundred = degrees(1_392), degrees(139_200)
    assert len(set(made_up_pairs(139_200))) == 139_200
    assert len(hundred) == 100 * len(one)
    assert max(hundred) <= 1.15 * max(one)


@pytest.mark.parametrize("count", [3, 60, 499, 500, 1_391, 1_393, 3_000])
def test_any_number_of_symbols_can_be_listed_each_once(count: int) -> None:
    pairs = made_up_pairs(count)
    assert len(pairs) == len({base + quote for base, quote in pairs}) == count


def test_every_cluster_has_its_own_true_opportunities_from_its_own_stable_asset() -> None:
    universe = made_up_universe(3 * CLUSTER_SYMBOLS, 1)
    assert {universe.assets[asset] for asset in universe.numeraires} == {"USDT", "USDT1", "USDT2"}
    begun: Counter[str] = Counter()
    for legs in universe.openings:
        index, side = universe.from_numeraire(legs)[0]
        pair = universe.pairs[index]
        begun[universe.assets[pair.quote if side == "BUY" else pair.base]] += 1
    assert set(begun) == {"USDT", "USDT1", "USDT2"}
    assert min(begun.values()) >= 150


@pytest.mark.parametrize(("count", "seed"), [(1_392, 1), (1_392, 2), (2_784, 3)])
def test_no_cycle_but_the_announced_is_above_one_after_any_update_of_a_large_listing(count: int, seed: int) -> None:
    universe = made_up_universe(count, seed)
    generator = Generator(universe, OFTEN, seed, 0)
    names = [pair.rules.symbol for pair in universe.pairs]
    prices = {
        name: (Fraction(top.bid, UNIT), Fraction(top.ask, UNIT))
        for name, top in zip(names, generator.tops, strict=True)
    }
    cycles = triangles_of(universe)
    touched = by_symbol(cycles)
    assert all(gross_return(cycle, prices) < 1 for cycle in cycles), f"at the start of seed {seed}"
    announced: tuple[str, ...] | None = None
    opened = 0
    for _ in range(1_500):
        step = generator.step()
        assert step is not None
        if isinstance(step.event, Opened):
            announced = turned([f"{names[leg.symbol_index]}:{leg.side}" for leg in step.event.legs])
            opened += 1
        elif isinstance(step.event, Closed):
            announced = None
        name, top = names[step.symbol_index], generator.tops[step.symbol_index]
        prices[name] = (Fraction(top.bid, UNIT), Fraction(top.ask, UNIT))
        above = {turned(cycle) for cycle in touched.get(name, []) if gross_return(cycle, prices) >= 1}
        said = {announced} if isinstance(step.event, Opened) else set()
        assert above == said, f"seed {seed}, step {generator.steps_done}"
    assert opened >= 8
    above = {turned(cycle) for cycle in cycles if gross_return(cycle, prices) >= 1}
    assert above == ({announced} if announced else set()), f"at the end of seed {seed}"
