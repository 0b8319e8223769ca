"""Sizes against a search that tries every lot."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from kernels.sizing import FIXED, Caps, Exposure, Refused, Size, size_order

WIDE = Caps(10**18, 10**18, 10**18, 10**18)
NOTHING = Exposure(0, 0)


def oracle(equity: int, bps: int, px: int, lot: int, caps: Caps, exposure: Exposure) -> int:
    """The largest number of lots that fits, by trying them one after another, in fractions."""
    budget = min(
        Fraction(equity * bps, 10_000),
        Fraction(caps.order_notional_max),
        Fraction(caps.symbol_notional_max - exposure.symbol_notional),
        Fraction(caps.gross_notional_max - exposure.gross_notional),
    )
    lots = 0
    while (lots + 1) * lot <= caps.order_qty_max and Fraction((lots + 1) * lot * px, FIXED) <= budget:
        lots += 1
    return lots * lot


AMOUNT = st.integers(0, 300 * FIXED)


@given(
    AMOUNT.filter(bool),
    st.integers(1, 10_000),
    st.integers(FIXED // 3, 50 * FIXED),
    st.integers(FIXED, 3 * FIXED),
    st.builds(Caps, AMOUNT, AMOUNT, AMOUNT, st.integers(0, 200 * FIXED)),
    st.builds(Exposure, AMOUNT, AMOUNT),
)
def test_a_size_is_the_largest_that_every_cap_allows(
    equity: int, bps: int, px: int, lot: int, caps: Caps, exposure: Exposure
) -> None:
    sized = size_order(equity, bps, px, lot, caps, exposure)
    qty = sized.qty if isinstance(sized, Size) else 0
    # The kernel floors the budget and the quotient to 1e-8 first; with lots of at least one unit nothing is lost
    # unless a lot sits exactly on a boundary between two such units, and then it may only be smaller by one lot.
    expected = oracle(equity, bps, px, lot, caps, exposure)
    assert expected - lot <= qty <= expected
    if isinstance(sized, Size):
        assert sized.notional * FIXED >= qty * px > (sized.notional - 1) * FIXED


def test_a_fixed_fraction_of_equity_in_whole_shares() -> None:
    assert size_order(100_000 * FIXED, 500, 333 * FIXED, FIXED, WIDE, NOTHING) == Size(
        15 * FIXED, 4995 * FIXED, "fraction"
    )


def test_a_cap_that_binds_is_named() -> None:
    caps = Caps(10**18, 1_000 * FIXED, 10**18, 10**18)
    sized = size_order(100_000 * FIXED, 500, 100 * FIXED, FIXED, caps, Exposure(700 * FIXED, 700 * FIXED))
    assert sized == Size(3 * FIXED, 300 * FIXED, "symbol_notional_max")


def test_a_refusal_has_its_figures() -> None:
    refused = size_order(100_000 * FIXED, 1, 100 * FIXED, FIXED, WIDE, NOTHING)
    assert isinstance(refused, Refused)
    assert refused.guard == "fraction"
    assert refused.figures["fraction"] == str(10 * FIXED)
    assert refused.figures["px"] == str(100 * FIXED)


def test_a_figure_that_cannot_be_right_is_refused_by_name() -> None:
    for equity, px in ((0, FIXED), (FIXED, 0), (FIXED, -1)):
        refused = size_order(equity, 500, px, FIXED, WIDE, NOTHING)
        assert isinstance(refused, Refused)
        assert refused.guard == "figures"


def test_a_cap_already_exceeded_refuses_rather_than_going_negative() -> None:
    caps = Caps(10**18, 100 * FIXED, 10**18, 10**18)
    refused = size_order(100_000 * FIXED, 500, FIXED, FIXED, caps, Exposure(500 * FIXED, 500 * FIXED))
    assert isinstance(refused, Refused)
    assert refused.guard == "symbol_notional_max"
