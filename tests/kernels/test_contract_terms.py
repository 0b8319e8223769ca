"""Price steps by level and sessions, against oracles that try every price and every moment."""

from __future__ import annotations

import random

import pytest

from kernels.contract_terms import PriceStep, is_open, next_open_ns, rounded_px, step_at

LEVELS = (PriceStep(0, 1), PriceStep(100, 5), PriceStep(1_003, 10))
"""The last level begins off its own steps."""


def fitting(steps: tuple[PriceStep, ...], highest: int) -> list[int]:
    """Every price that stands on a step, found by looking at each."""
    found = []
    for px in range(highest):
        step = 0
        for level in steps:
            if px >= level.low_px:
                step = level.step
        if px % step == 0:
            found.append(px)
    return found


@pytest.mark.parametrize(("px", "step"), [(0, 1), (99, 1), (100, 5), (1_002, 5), (1_003, 10), (9_999, 10)])
def test_a_level_holds_from_its_low_price_on(px: int, step: int) -> None:
    assert step_at(LEVELS, px) == step


@pytest.mark.parametrize(
    ("px", "down", "up"),
    [(99, 99, 99), (101, 100, 105), (1_001, 1_000, 1_010), (1_003, 1_000, 1_010), (1_010, 1_010, 1_010)],
)
def test_rounding_finds_the_nearest_price_on_a_step_across_levels(px: int, down: int, up: int) -> None:
    assert (rounded_px(LEVELS, px, up=False), rounded_px(LEVELS, px, up=True)) == (down, up)


def test_rounding_agrees_with_trying_every_price() -> None:
    seed = 5
    chance = random.Random(seed)
    print(f"seed {seed}")
    for _ in range(60):
        lows = [0, *sorted(chance.sample(range(1, 400), chance.randint(0, 3)))]
        steps = tuple(PriceStep(low, chance.choice([1, 2, 5, 7, 10, 25])) for low in lows)
        prices = fitting(steps, 700)
        for px in (chance.randint(0, 500) for _ in range(40)):
            assert rounded_px(steps, px, up=False) == max(price for price in prices if price <= px), (steps, px)
            assert rounded_px(steps, px, up=True) == min(price for price in prices if price >= px), (steps, px)


def test_a_session_is_open_from_its_start_up_to_its_end() -> None:
    sessions = ((10, 20), (30, 40))
    opens = [now for now in range(50) if is_open(sessions, now)]
    assert opens == [*range(10, 20), *range(30, 40)]
    assert [next_open_ns(sessions, now) for now in (0, 10, 25, 30, 45)] == [10, 30, 30, 0, 0]
