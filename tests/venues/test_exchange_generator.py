"""Generated prices: consistent after every single update, true opportunities exactly as announced, always the same."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.venues.exchange_oracle import by_symbol, directed_triangles, gross_return, same_cycle, turned
from venues.exchange.generator import Closed, Generator, Opened, OpportunityPlan, Top, scheduled
from venues.exchange.market import UNIT, Filter, Listing, load_market, market_of
from venues.exchange.universe import Universe, made_up_universe, universe_of

NEVER = OpportunityPlan(0, 1, 10, 30, 60)
OFTEN = OpportunityPlan(120, 40, 10, 30, 60)


def names_of(universe: Universe) -> list[str]:
    return [pair.rules.symbol for pair in universe.pairs]


def pairs_of(universe: Universe) -> dict[str, tuple[str, str]]:
    return {pair.rules.symbol: (pair.rules.base, pair.rules.quote) for pair in universe.pairs}


def price_of(top: Top) -> tuple[Fraction, Fraction]:
    return Fraction(top.bid, UNIT), Fraction(top.ask, UNIT)


def prices_of(generator: Generator) -> dict[str, tuple[Fraction, Fraction]]:
    return dict(zip(names_of(generator.universe), map(price_of, generator.tops), strict=True))


def advance(generator: Generator) -> tuple[int, Opened | Closed | None]:
    """Step until something is said; a universe of one triangle says nothing while its opportunity stands."""
    while (step := generator.step()) is None:
        pass
    return step.symbol_index, step.event


def assert_never_above_one(universe: Universe, seed: int, steps: int) -> None:
    generator = Generator(universe, NEVER, seed, 0, window_steps=64)
    names, triangles = names_of(universe), directed_triangles(pairs_of(universe))
    touched, prices = by_symbol(triangles), prices_of(generator)
    assert all(gross_return(cycle, prices) < 1 for cycle in triangles), f"at the start of seed {seed}"
    for _ in range(steps):
        index, _ = advance(generator)
        name = names[index]
        prices[name] = price_of(generator.tops[index])
        assert prices[name][0] < prices[name][1]
        for cycle in touched.get(name, []):
            assert gross_return(cycle, prices) < 1, f"seed {seed}, step {generator.steps_done}, {cycle}"
    assert all(gross_return(cycle, prices) < 1 for cycle in triangles), f"at the end of seed {seed}"


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(seed=st.integers(0, 2**32), count=st.integers(3, 40))
def test_no_triangle_is_above_one_after_any_single_update(seed: int, count: int) -> None:
    assert_never_above_one(made_up_universe(count, seed), seed, 250)


@pytest.mark.parametrize("seed", range(4))
def test_no_triangle_is_above_one_after_any_of_thousands_of_updates(seed: int) -> None:
    assert_never_above_one(made_up_universe(9, seed), seed, 4_000)


@pytest.mark.parametrize("seed", range(4))
def test_consumers_that_see_their_connections_askew_still_see_no_cycle_above_one(seed: int) -> None:
    # At worst each leg is seen at its best price of the last window_steps updates, all at the same time.
    universe, window_steps = made_up_universe(6, seed), 800
    generator = Generator(universe, NEVER, seed, 0, window_steps)
    names, triangles = names_of(universe), directed_triangles(pairs_of(universe))
    history = deque([list(generator.tops)], maxlen=window_steps)
    for step in range(8_000):
        advance(generator)
        history.append(list(generator.tops))
        if step % 200 == 0:
            tops = [[past[index] for past in history] for index in range(len(names))]
            best = {
                name: (Fraction(max(top.bid for top in past), UNIT), Fraction(min(top.ask for top in past), UNIT))
                for name, past in zip(names, tops, strict=True)
            }
            assert max(gross_return(cycle, best) for cycle in triangles) < 1, f"seed {seed}, step {step}"


@pytest.mark.parametrize("seed", range(6))
def test_exactly_the_announced_cycle_is_above_one_and_only_while_announced(seed: int) -> None:
    universe = made_up_universe(15, seed)
    generator = Generator(universe, OFTEN, seed, 0, window_steps=64)
    names, triangles = names_of(universe), directed_triangles(pairs_of(universe))
    standing: Opened | None = None
    seen = 0
    for _ in range(1_200):
        _, event = advance(generator)
        if isinstance(event, Opened):
            standing, seen = event, seen + 1
        elif isinstance(event, Closed):
            assert standing is not None
            assert event.number == standing.number
            standing = None
        prices = prices_of(generator)
        above = [cycle for cycle in triangles if gross_return(cycle, prices) > 1]
        if standing is None:
            assert above == [], f"seed {seed}, step {generator.steps_done}"
        else:
            announced = [f"{names[leg.symbol_index]}:{leg.side}" for leg in standing.legs]
            assert [turned(cycle) for cycle in above] == [turned(announced)], f"seed {seed}"
            assert gross_return(above[0], prices) == standing.gross_return
            assert same_cycle(above[0], announced)
    assert seen >= 8


@pytest.mark.parametrize("count", [3, 15, 60])
def test_an_opportunity_returns_what_the_plan_says_after_the_stated_fee(count: int) -> None:
    universe = made_up_universe(count, 5)
    generator = Generator(universe, OFTEN, 5, 0, window_steps=64)
    kept = Fraction(9_990, 10_000)
    opened = [event for _ in range(2_000) if isinstance(event := advance(generator)[1], Opened)]
    assert len(opened) >= 10
    for one in opened:
        planned = scheduled(OFTEN, len(universe.openings), 5, 0, one.number)
        net = one.gross_return * kept**3 - 1
        # Rounded to the tick in the finder's favour; a tick is at most about a basis point.
        assert Fraction(planned.net_bps, 10_000) <= net < Fraction(planned.net_bps + 3, 10_000)
        assert 30 <= planned.net_bps <= 60


def test_opportunities_open_at_the_steps_that_the_seed_says_and_last_as_planned() -> None:
    universe = made_up_universe(20, 9)
    generator = Generator(universe, OFTEN, 9, 2, window_steps=64)
    opened: dict[int, int] = {}
    closed: dict[int, int] = {}
    while len(closed) < 6:
        _, event = advance(generator)
        if event is not None:
            (opened if isinstance(event, Opened) else closed)[event.number] = generator.steps_done
    for number, step in closed.items():
        assert opened[number] == scheduled(OFTEN, len(universe.openings), 9, 2, number).opens_at_step
        assert step == opened[number] + OFTEN.duration_steps


def first_updates(seed: int, epoch: int = 0, count: int = 2_000) -> list[tuple[int, Top]]:
    generator = Generator(made_up_universe(60, seed), OFTEN, seed, epoch, window_steps=500)
    updates = []
    for _ in range(count):
        index, _ = advance(generator)
        updates.append((index, generator.tops[index]))
    return updates


def test_the_same_seed_gives_the_same_updates_and_another_seed_or_epoch_gives_others() -> None:
    assert first_updates(3) == first_updates(3)
    assert first_updates(3) != first_updates(4)
    assert first_updates(3) != first_updates(3, epoch=1)


def test_the_updates_of_a_seed_are_the_same_on_every_python() -> None:
    digest = hashlib.sha256(repr([(index, tuple(top)) for index, top in first_updates(1)]).encode()).hexdigest()
    assert digest == "db4f895ba0e3f9ecaf62ebd944096aaa4dca440945598a5ffb54cbe891413e26"


def test_every_update_changes_its_top_and_keeps_to_tick_and_lot() -> None:
    universe = made_up_universe(30, 2)
    generator = Generator(universe, OFTEN, 2, 0, window_steps=64)
    before = list(generator.tops)
    for _ in range(3_000):
        index, _ = advance(generator)
        top, rules = generator.tops[index], universe.pairs[index].rules
        assert top != before[index]
        assert 0 < top.bid < top.ask
        assert top.bid % rules.tick == top.ask % rules.tick == 0
        assert min(top.bid_qty, top.ask_qty) >= rules.min_qty
        assert top.bid_qty % rules.step == top.ask_qty % rules.step == 0
        before[index] = top


def listing(base: str, quote: str, tick: str, status: str = "TRADING") -> Listing:
    filters = (Filter("PRICE_FILTER", tick_size=tick), Filter("LOT_SIZE", step_size="0.00100000", min_qty="0.00100000"))
    return Listing(base + quote, status, base, quote, filters)


HAND_MADE = [
    listing("BTC", "USDT", "0.01000000"),
    listing("ETH", "BTC", "0.00000100"),
    listing("ETH", "USDT", "0.01000000"),
    listing("USDT", "TRY", "0.00100000"),
    listing("BTC", "TRY", "1.00000000"),
    listing("币安人生", "USDT", "0.00010000"),
    listing("币安人生", "BTC", "0.00000001"),
    listing("OLD", "USDT", "0.00010000", status="BREAK"),
    listing("OLD", "BTC", "0.00000001", status="BREAK"),
    listing("ISLE", "LAND", "0.00010000"),
]


def test_a_listing_with_an_inverted_pair_an_island_and_halted_symbols_is_quoted_consistently() -> None:
    universe = universe_of(market_of(HAND_MADE), 1)
    assert names_of(universe) == [entry.symbol for entry in HAND_MADE if entry.status == "TRADING"]
    assert_never_above_one(universe, 1, 1_000)


def test_a_symbol_that_lies_in_several_triangles_is_never_moved() -> None:
    universe = universe_of(market_of(HAND_MADE), 1)
    names, triangles = names_of(universe), directed_triangles(pairs_of(universe))
    for legs in universe.openings:
        moved = f"{names[legs[0].symbol_index]}:{legs[0].side}"
        assert sum(moved in cycle for cycle in triangles) == 1
    assert universe.openings


def test_no_opportunity_is_made_where_two_symbols_trade_the_same_pair() -> None:
    twins = [*HAND_MADE[:3], Listing("ETHBTC2", "TRADING", "ETH", "BTC", HAND_MADE[1].filters)]
    assert universe_of(market_of(twins), 1).openings == ()


@pytest.mark.data
@pytest.mark.parametrize("day", ["2019-08-22", "2021-08-26"])
def test_the_recorded_listings_are_quoted_consistently(recorded: Callable[[str], Path], day: str) -> None:
    market = load_market(recorded(f"binance/exchange_info/exchangeInfo_{day}_full.json.gz"))
    universe = universe_of(market, 7)
    trading = sum(rules.trading for rules in market.rules)
    assert len(universe.pairs) >= trading * 0.99
    assert universe.openings
    assert_never_above_one(universe, 7, 1_000)
