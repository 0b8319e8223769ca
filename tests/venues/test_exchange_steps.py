"""A prepared stretch, played to and fro: the same market states, the same opportunities, never a cycle above one."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from tests.venues.exchange_oracle import by_symbol, directed_triangles, gross_return, turned
from venues.exchange.generator import Closed, Generator, Opened, OpportunityPlan
from venues.exchange.steps import LiveSteps, PreparedSteps, Told
from venues.exchange.universe import made_up_universe

OFTEN = OpportunityPlan(120, 40, 10, 30, 60)
COUNT = 500


def generator(seed: int) -> Generator:
    return Generator(made_up_universe(15, seed), OFTEN, seed, 0, window_steps=64)


def test_the_first_pass_is_what_is_told_live_and_the_second_undoes_it() -> None:
    prepared, live = PreparedSteps(generator(4), COUNT), LiveSteps(generator(4))
    forth = [told for _ in range(COUNT) if (told := live.next()) is not None]
    assert [prepared.next() for _ in forth] == forth
    back = [prepared.next() for _ in forth]
    assert [told.symbol_index for told in back] == [told.symbol_index for told in reversed(forth)]
    assert [prepared.next() for _ in forth] == forth


def test_each_update_tells_its_row_and_changes_it() -> None:
    prepared = PreparedSteps(generator(2), COUNT)
    last: dict[int, Told] = {}
    for _ in range(3 * COUNT):
        told = prepared.next()
        frame = json.loads(b'{"u":1' + told.tail)
        assert (frame["b"], frame["B"], frame["a"], frame["A"]) == told.texts
        before = last.get(told.symbol_index)
        assert before is None or before.texts != told.texts
        last[told.symbol_index] = told


@pytest.mark.parametrize("seed", range(4))
def test_to_and_fro_exactly_the_announced_cycle_is_above_one_and_only_while_announced(seed: int) -> None:
    made = generator(seed)
    pairs = made.universe.pairs
    names = [pair.rules.symbol for pair in pairs]
    prices = {
        name: (Fraction(top.bid, 10**8), Fraction(top.ask, 10**8)) for name, top in zip(names, made.tops, strict=True)
    }
    prepared = PreparedSteps(made, COUNT)
    touched = by_symbol(directed_triangles({pair.rules.symbol: (pair.rules.base, pair.rules.quote) for pair in pairs}))
    standing: Opened | None = None
    opened = 0
    for number in range(4 * COUNT):
        told = prepared.next()
        if isinstance(told.event, Opened):
            assert standing is None
            standing, opened = told.event, opened + 1
        elif isinstance(told.event, Closed):
            assert standing is not None
            assert standing.number == told.event.number
            standing = None
        name = names[told.symbol_index]
        prices[name] = (Fraction(told.texts[0]), Fraction(told.texts[2]))
        above = [cycle for cycle in touched[name] if gross_return(cycle, prices) > 1]
        if isinstance(told.event, Opened):
            announced = [f"{names[leg.symbol_index]}:{leg.side}" for leg in told.event.legs]
            assert [turned(cycle) for cycle in above] == [turned(announced)], f"seed {seed}, update {number}"
            assert gross_return(above[0], prices) == told.event.gross_return
        else:
            assert above == [], f"seed {seed}, update {number}"
    assert opened >= 12
