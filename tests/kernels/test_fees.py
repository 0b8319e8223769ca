"""The table of fees: which fee a market has, what a token takes off, and what is refused."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.exchange_info import Symbol
from kernels.fees import FeeTable
from kernels.fixed8 import SCALE


def test_the_name_comes_before_the_patterns_and_they_in_their_order_before_the_default() -> None:
    table = FeeTable(100, (("*USD", 30), ("BTC*", 20), ("BTCUSD", 10)))
    names = ["BTCUSD", "BTCEUR", "ETHUSD", "ETHEUR", "btceur"]
    assert [table.fee_e8(name) for name in names] == [10, 20, 30, 100, 100]
    assert table.of(Symbol(name, "TRADING", "B", "Q") for name in names).tolist() == [10, 20, 30, 100, 100]


@given(st.integers(0, SCALE - 1), st.integers(0, SCALE))
def test_the_discount_is_rounded_against_us_and_never_beyond_the_fee(fee_e8: int, discount_e8: int) -> None:
    exact = Fraction(fee_e8) * (1 - Fraction(discount_e8, SCALE))
    with_token = FeeTable(fee_e8, token="BNB", discount_e8=discount_e8).fee_e8("X")
    assert exact <= with_token < exact + 1
    assert with_token <= fee_e8
    assert FeeTable(fee_e8, discount_e8=discount_e8).fee_e8("X") == fee_e8, "without a token there is no discount"


def test_figures_out_of_their_range_are_refused_by_name() -> None:
    for table in ((SCALE,), (0, (("BTC*", -1),)), (0, (), "BNB", SCALE + 1)):
        with pytest.raises(ValueError, match=r"\(the default\)|\(BTC\*\)|a discount"):
            FeeTable(*table)  # type: ignore[arg-type]
