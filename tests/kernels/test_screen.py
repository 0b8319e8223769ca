"""The float screen never misses what exact arithmetic would pass, and counts every cycle that it skips."""

from __future__ import annotations

import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import seqlock
from kernels.book_image import BookImage, FeedWriter, RowStatus, Verdict, format_image, layout
from kernels.cycles import BUY, build_index
from kernels.evaluate import Refusal
from kernels.evaluator import Evaluator
from kernels.exchange_info import Symbol
from kernels.fees import FeeTable
from kernels.fixed8 import COUNT_MAX, SCALE
from kernels.screen import RELATIVE_ERROR, Screen, kept_factors, screen_threshold

PAIRS = [("BTC", "USDT"), ("ETH", "USDT"), ("ETH", "BTC"), ("BNB", "USDT"), ("BNB", "BTC"), ("BNB", "ETH")]
SYMBOLS = [Symbol(base + quote, "TRADING", base, quote) for base, quote in PAIRS]
INDEX = build_index(SYMBOLS, None, (3, 4))
NOW_NS = 10**15


def image_of(prices: list[tuple[int, int]]) -> tuple[BookImage, FeedWriter]:
    image = format_image(bytearray(layout(len(prices), 1, 8).n_bytes), [0] * len(prices), 1, 8)
    writer = FeedWriter(image, 0, 1)
    writer.beat(NOW_NS)
    for row, (bid, ask) in enumerate(prices):
        writer.write_row(row, bid, COUNT_MAX, ask, COUNT_MAX, 1, NOW_NS)
    return image, writer


def screened(image: BookImage, fees_e8: list[int], threshold: float) -> set[int]:
    ages = np.full(len(SYMBOLS), 2**62)
    screen = Screen(INDEX, image, kept_factors(np.array(fees_e8)), ages, 250_000_000, threshold)
    found = screen.candidates(screen.rows(np.arange(len(SYMBOLS), dtype=np.int32), NOW_NS))
    assert screen.tally.tolist() == [len(INDEX), 0, 0, 0, 0]
    assert len(found) == len(set(found))
    assert screen.candidates(screen.all(NOW_NS)) == sorted(found)
    assert screen.tally.tolist() == [2 * len(INDEX), 0, 0, 0, 0]
    return set(found)


def exact(cycle: int, prices: list[tuple[int, int]], fees_e8: list[int]) -> Fraction:
    """Return the product of rate and kept share over the legs."""
    bound = Fraction(1)
    for row, side in zip(*INDEX.legs_of(cycle), strict=True):
        bid, ask = prices[row]
        bound *= Fraction(SCALE, ask) if side == BUY else Fraction(bid, SCALE)
        bound *= 1 - Fraction(fees_e8[row], SCALE)
    return bound


# Counts that float64 cannot hold, and those where a rounding is worst: halfway between two floats.
awkward = st.one_of(
    st.integers(1, 100),
    st.integers(1, COUNT_MAX),
    st.integers(53, 62).flatmap(lambda power: st.integers(2**power - 3, 2**power + 3)),
    st.integers(2**53, 2**62).map(lambda count: count | 1),
    st.just(COUNT_MAX),
)
books = st.lists(st.tuples(awkward, awkward), min_size=6, max_size=6)
fee_rates = st.one_of(st.sampled_from([0, 1, 75_000, 100_000, SCALE - 1]), st.integers(0, SCALE - 1))
fee_lists = st.one_of(st.just([0] * 6), st.lists(fee_rates, min_size=6, max_size=6))


@settings(max_examples=300, deadline=None)
@given(books, fee_lists, st.integers(0, len(INDEX) - 1), st.sampled_from([0, 1, -1, 10**3, -(10**3)]))
def test_no_cycle_at_or_above_the_threshold_is_missed(
    prices: list[tuple[int, int]], fees_e8: list[int], at: int, off: int
) -> None:
    image, _ = image_of(prices)
    # The threshold lies on one cycle's exact return, or within 1e-18 (far below a float's step) or 1e-15 of it.
    least = exact(at, prices, fees_e8) * (1 + Fraction(off, 10**18))
    found = screened(image, fees_e8, screen_threshold(least))
    for cycle in range(len(INDEX)):
        if exact(cycle, prices, fees_e8) >= least:
            assert cycle in found
        if cycle in found:
            assert exact(cycle, prices, fees_e8) >= least * (1 - 3 * RELATIVE_ERROR), (
                "and little is let through for nothing"
            )


@settings(max_examples=500, deadline=None)
@given(st.fractions(min_value=Fraction(1, 10**30), max_value=10**30))
def test_the_threshold_is_below_the_bound_and_close(least: Fraction) -> None:
    threshold = Fraction(screen_threshold(least))
    assert least * (1 - 2 * RELATIVE_ERROR) < threshold <= least * (1 - RELATIVE_ERROR)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(SCALE // 2, 2 * SCALE), st.integers(0, SCALE // 1000)), min_size=6, max_size=6),
    st.lists(st.sampled_from([0, 75_000, 5_000_000]), min_size=6, max_size=6),
    st.sampled_from(["", "BNB"]),
    st.sampled_from([Fraction(1), Fraction(101, 100), Fraction(9, 10)]),
)
def test_every_opportunity_that_deciding_all_cycles_finds_is_found_through_the_screen(
    books: list[tuple[int, int]], fees_e8: list[int], token: str, net_return_min: Fraction
) -> None:
    image, _ = image_of([(bid, bid + spread + 1) for bid, spread in books])
    by_symbol = tuple((symbol.name, fee) for symbol, fee in zip(SYMBOLS, fees_e8, strict=True))
    fees = FeeTable(SCALE // 2, by_symbol, token, SCALE // 4)
    evaluator = Evaluator(INDEX, image, fees=fees, net_return_min=net_return_min)
    everything = [evaluator.decide(cycle, NOW_NS) for cycle in range(len(INDEX))]
    expected = {one.cycle for one in everything if one.refusal is None}
    decisions = evaluator.scan(NOW_NS)
    assert {one.cycle for one in decisions if one.refusal is None} == expected
    assert evaluator.counters.evaluated == len(INDEX)
    assert evaluator.counters.candidates == len(decisions)


def test_a_changed_row_puts_exactly_its_own_cycles_to_the_test_and_each_once() -> None:
    image, _ = image_of([(SCALE, SCALE + 1)] * 6)
    evaluator = Evaluator(INDEX, image, net_return_min=Fraction(1, 2))
    for row in range(6):
        touched = set(INDEX.row_cycles[INDEX.row_start[row] : INDEX.row_start[row + 1]].tolist())
        decisions = evaluator.on_rows(np.array([row, row], dtype=np.int32), NOW_NS)
        assert {one.cycle for one in decisions} == touched
        assert len(decisions) == len(touched)
    assert len(evaluator.scan(NOW_NS)) == len(INDEX)


@pytest.mark.parametrize("seed", range(20))
def test_a_cycle_with_a_leg_that_is_not_live_is_skipped_and_counted_by_its_first_reason(seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    image, writer = image_of([(SCALE, SCALE + 1)] * 6)
    verdicts = []
    for row in range(6):
        verdict = chance.choice([Verdict.LIVE, Verdict.LIVE, Verdict.INVALID, Verdict.AGED, Verdict.BUSY])
        verdicts.append(verdict)
        if verdict is Verdict.INVALID:
            writer.mark_invalid(row, chance.choice([RowStatus.CROSSED, RowStatus.PARSE_FAILURE]))
        elif verdict is Verdict.AGED:
            writer.write_row(row, SCALE, 1, SCALE + 1, 1, 2, NOW_NS - 1001)
        elif verdict is Verdict.BUSY:
            image._words[image.layout.rows_at + row * seqlock.ROW_WORDS] |= 1
    evaluator = Evaluator(INDEX, image, age_ns_max=1000, net_return_min=Fraction(1, 2))
    changed = chance.randrange(6)
    decisions = evaluator.on_rows(np.array([changed], dtype=np.int32), NOW_NS)
    expected: Counter[Verdict] = Counter()
    for cycle in INDEX.row_cycles[INDEX.row_start[changed] : INDEX.row_start[changed + 1]].tolist():
        judged = [verdicts[row] for row in INDEX.legs_of(cycle)[0]]
        expected[next((one for one in judged if one is not Verdict.LIVE), Verdict.LIVE)] += 1
    counted = evaluator.counters
    assert counted[:5] == tuple(expected[verdict] for verdict in Verdict)
    assert counted.evaluated == len(decisions)
    assert counted.skipped == sum(expected.values()) - expected[Verdict.LIVE]


def test_a_dead_feed_skips_everything_by_itself() -> None:
    image, _ = image_of([(SCALE, SCALE + 1)] * 6)
    evaluator = Evaluator(INDEX, image, net_return_min=Fraction(1, 2))
    assert evaluator.scan(NOW_NS + 250_000_001) == []
    assert evaluator.counters.skipped_feed_dead == len(INDEX)


def test_a_decision_looks_at_the_rows_again_and_refuses_what_has_died_since() -> None:
    image, writer = image_of([(SCALE, SCALE + 1)] * 6)
    evaluator = Evaluator(INDEX, image, net_return_min=Fraction(1, 2))
    writer.down()
    assert evaluator.decide(0, NOW_NS).refusal is Refusal.LEG_NOT_LIVE


def test_wrong_terms_are_refused() -> None:
    image, _ = image_of([(SCALE, SCALE + 1)] * 6)
    with pytest.raises(ValueError, match="fee"):
        Evaluator(INDEX, image, fees=FeeTable(SCALE))
    small, _ = image_of([(SCALE, SCALE + 1)] * 5)
    with pytest.raises(ValueError, match="rows"):
        Evaluator(INDEX, small)
    with pytest.raises(ValueError, match=r"given for BNB, BTC$"):
        Evaluator(INDEX, image, start_max={"ETH": 1})


def test_each_start_asset_has_its_own_greatest_amount_and_refusals_are_counted_by_reason() -> None:
    image, writer = image_of([(SCALE, SCALE + 1)] * 6)
    writer.write_row(0, 2 * SCALE, COUNT_MAX, 2 * SCALE + 1, COUNT_MAX, 2, NOW_NS)
    limits = {"BNB": 7 * SCALE, "BTC": 5 * SCALE, "ETH": 3 * SCALE, "USDT": 0}
    evaluator = Evaluator(INDEX, image, start_max=limits)
    decisions = evaluator.scan(NOW_NS)
    assert {one.start_asset for one in decisions} == {"BNB", "BTC"}
    for one in decisions:
        assert limits[one.start_asset] - 1 <= one.spent <= limits[one.start_asset]
    assert sum(evaluator.refusals.values()) == sum(one.refusal is not None for one in decisions)
