"""The fold of executions against a slow ledger in fractions, and what must hold of any of them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.positions import (
    FLAT,
    Fill,
    Position,
    apply_fill,
    average_px,
    cum_and_average,
    divide_half_even,
    fold,
    split_exec_id,
    supersedes,
)

UNIT = 10**8


def fill(base: str, buy: bool, qty: int, px: int, revision: int = 1, commission: int = 0) -> Fill:
    return Fill(base, revision, "id", "ACME", buy, qty, px, 0, commission)


FILLS = st.lists(
    st.builds(
        lambda n, buy, qty, px, commission: fill(str(n), buy, qty, px, 1, commission),
        st.integers(0, 10**6),
        st.booleans(),
        st.integers(1, 10**12),
        st.integers(1, 10**12),
        st.integers(0, 10**9),
    ),
    max_size=30,
)


def oracle(fills: list[Fill]) -> tuple[int, Fraction, Fraction]:
    """Quantity, average price and realized P&L share by share in effect: exact fractions, no shared code."""
    qty, average, realized = 0, Fraction(0), Fraction(0)
    for each in fills:
        signed = each.qty if each.buy else -each.qty
        if qty == 0 or (qty > 0) == (signed > 0):
            average = (average * abs(qty) + Fraction(each.px) * each.qty) / (abs(qty) + each.qty)
            qty += signed
            continue
        closed = min(abs(qty), each.qty)
        realized += closed * (each.px - average) * (1 if qty > 0 else -1)
        crossed = each.qty > abs(qty)
        qty += signed
        if crossed:
            average = Fraction(each.px)
        elif qty == 0:
            average = Fraction(0)
    return qty, average, realized


@given(FILLS)
def test_the_fold_is_the_average_cost_method_to_within_its_stated_rounding(fills: list[Fill]) -> None:
    position = fold(FLAT, fills)
    qty, average, realized = oracle(fills)
    assert position.qty == qty
    assert abs(position.realized - realized) <= len(fills)
    assert abs(position.cost - average * qty) <= len(fills)
    assert position.commission == sum(each.commission for each in fills)


@given(FILLS)
def test_cash_is_conserved_exactly(fills: list[Fill]) -> None:
    position = fold(FLAT, fills)
    cash = sum((-1 if each.buy else 1) * each.qty * each.px for each in fills)
    assert position.realized - position.cost == cash
    if position.qty == 0:
        assert position.cost == 0


@given(FILLS, FILLS)
def test_folding_in_two_parts_is_folding_at_once(first: list[Fill], second: list[Fill]) -> None:
    assert fold(fold(FLAT, first), second) == fold(FLAT, [*first, *second])


def test_a_worked_example_of_a_position_that_turns() -> None:
    long = fold(FLAT, [fill("a", True, 100 * UNIT, 10 * UNIT), fill("b", True, 50 * UNIT, 13 * UNIT)])
    assert (long.qty, average_px(long)) == (150 * UNIT, 11 * UNIT)
    turned = apply_fill(long, fill("c", False, 200 * UNIT, 12 * UNIT))
    assert turned == Position(-50 * UNIT, -50 * 12 * UNIT * UNIT, 150 * UNIT * UNIT, 0)
    assert average_px(turned) == 12 * UNIT


def test_an_average_rounds_half_to_even() -> None:
    assert [divide_half_even(n, 2) for n in (1, 3, 5, -1, -3)] == [0, 2, 2, 0, -2]
    assert divide_half_even(3, -2) == -2
    assert cum_and_average([fill("a", True, 1, 1), fill("b", True, 1, 2)]) == (2, 2)
    assert cum_and_average([]) == (0, 0)


@pytest.mark.parametrize(
    ("exec_id", "parts"),
    [("0000e0d5.61.01.02", ("0000e0d5.61.01", 2)), ("plain", ("plain", 0)), ("a.b", ("a.b", 0)), ("", ("", 0))],
)
def test_an_execution_is_known_by_what_stands_before_the_last_dot(exec_id: str, parts: tuple[str, int]) -> None:
    assert split_exec_id(exec_id) == parts


def test_the_latest_correction_wins_and_a_duplicate_says_nothing_new() -> None:
    known = {"a": fill("a", True, 5, 5, revision=2)}
    assert supersedes(known, fill("a", True, 4, 5, revision=3))
    assert not supersedes(known, fill("a", True, 5, 5, revision=2))
    assert not supersedes(known, fill("a", True, 9, 9, revision=1))
    assert supersedes(known, fill("b", True, 5, 5))
