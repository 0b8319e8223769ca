"""The collar around the market's own price: its edges, the age of a price, and what is done without one."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from kernels.market_collar import BY_REFERENCE, MarketCollar, held_against
from kernels.sizing import Refused

UNIT = 10**8
COLLAR = MarketCollar(bps_max=500, age_ns_max=100)


def verdict(collar: MarketCollar = COLLAR, limit: int = 0, reference: int = 100, last: int = 100, age: int = 0) -> str:
    found = held_against(collar, limit * UNIT, reference * UNIT, last * UNIT, 1_000 - age, 1_000)
    if isinstance(found, Refused):
        assert found.figures["remedy"]
        return found.guard
    return found


@pytest.mark.parametrize(
    ("limit", "reference", "expected"),
    [
        (105, 100, ""),
        (106, 100, "market_collar"),
        (95, 100, ""),
        (94, 100, "market_collar"),
        (0, 105, ""),
        (0, 106, "market_collar"),
        (0, 0, "market_collar"),
    ],
)
def test_a_limit_or_the_reference_of_a_market_entry_lies_within_the_collar(
    limit: int, reference: int, expected: str
) -> None:
    assert verdict(limit=limit, reference=reference) == expected


@pytest.mark.parametrize(
    ("policy", "market", "limited"),
    [
        ("refuse_market", "no_price", BY_REFERENCE),
        ("refuse", "no_price", "no_price"),
        ("reference", BY_REFERENCE, BY_REFERENCE),
    ],
)
def test_without_a_price_that_counts_the_setting_decides(policy: str, market: str, limited: str) -> None:
    collar = MarketCollar(bps_max=500, age_ns_max=100, no_price=policy)  # type: ignore[arg-type]
    for last, age in ((0, 0), (100, 101)):
        assert verdict(collar, last=last, age=age) == market
        assert verdict(collar, limit=100, last=last, age=age) == limited


def test_a_price_counts_up_to_its_age_limit_and_one_of_the_future_is_of_now() -> None:
    assert verdict(age=100) == ""
    assert verdict(age=101) == "no_price"
    assert verdict(age=-50) == ""


def test_a_market_entry_without_price_and_reference_is_always_refused() -> None:
    assert verdict(MarketCollar(bps_max=500, age_ns_max=100, no_price="reference"), reference=0, last=0) == "no_price"


def test_the_collar_agrees_with_fractions() -> None:
    seed = 17
    chance = random.Random(seed)
    print(f"seed {seed}")
    objected = 0
    for _ in range(2_000):
        last = chance.randint(1, 10**11)
        px = max(1, last + chance.randint(-last // 8, last // 8))
        found = held_against(COLLAR, px, 0, last, 1_000, 1_000)
        expected = abs(Fraction(px, last) - 1) > Fraction(5, 100)
        assert isinstance(found, Refused) == expected
        objected += expected
    assert 0 < objected < 2_000
