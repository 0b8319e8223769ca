"""Fixed8 against Decimal: the same numbers, the same refusals, in Python and in compiled bytes."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.fixed8 import (
    COUNT_MAX,
    SCALE,
    TEXT_LENGTH_MAX,
    Fault,
    Fixed8Error,
    format_fixed8,
    format_ratio,
    parse_price,
    parse_quantity,
    parse_rate_bps,
)
from kernels.fixed8_bytes import CAPPED, INEXACT, MALFORMED, parse_fixed8

GRAMMAR = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)
LARGEST = "92233720368.54775807"

NOT_NUMBERS = [
    "", " ", ".", "1.", ".5", "+1", "-1", "-0", "1e5", "1E-8", "1_0", " 1", "1 ", "1\n", "1.2.3", "nan", "NaN", "inf",
    "Infinity", "0x10", "1,5", "١٢", "１", "²", "1.٣", "1" * 65, "0." + "0" * 63,
    ".00000001", "1..00000001", "1.2.00000001", "-1.00000001", "1.0000000٣", "0" * 56 + ".00000001",
]  # fmt: skip

decimal_text = st.from_regex(r"[0-9]{1,24}(\.[0-9]{1,16})?", fullmatch=True)
nearly_decimal = st.one_of(
    st.text(alphabet="0123456789.+-eE_ n٣", max_size=20),
    st.from_regex(r"[0-9.+٣]{0,60}\.[0-9٣.]{7,9}", fullmatch=True),
)


def in_bytes(text: str) -> tuple[int, int]:
    raw = np.frombuffer(b"<" + text.encode() + b">", dtype=np.uint8)
    count, status = parse_fixed8(raw, 1, len(raw) - 1)
    return int(count), status


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0), ("0.00000000", 0), ("0.00000001", 1), ("1", SCALE), ("007.5", 750_000_000), (LARGEST, COUNT_MAX),
        ("61730.17000000", 6_173_017_000_000), ("0.000000010000", 1), ("92233720368.547758070000", COUNT_MAX),
    ],
)  # fmt: skip
def test_hand_worked_prices_parse_exactly(text: str, count: int) -> None:
    assert parse_price(text) == parse_price(text.encode()) == count
    assert in_bytes(text) == (count, 0)


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_what_is_not_plain_decimal_is_refused_by_name(text: str) -> None:
    for parse in (parse_price, parse_quantity):
        for form in (text, text.encode()):
            with pytest.raises(Fixed8Error, match="plain decimal") as caught:
                parse(form)
            assert caught.value.fault is Fault.MALFORMED

    assert in_bytes(text) == (0, MALFORMED)


def test_a_refusal_names_the_value() -> None:
    with pytest.raises(Fixed8Error, match=r"'1e5'"):
        parse_price("1e5")


def test_a_price_that_does_not_fit_or_is_too_precise_is_an_error() -> None:
    with pytest.raises(Fixed8Error) as large:
        parse_price("92233720368.54775808")
    assert large.value.fault is Fault.TOO_LARGE
    with pytest.raises(Fixed8Error) as fine:
        parse_price("1.000000001")
    assert fine.value.fault is Fault.TOO_PRECISE


def test_a_quantity_that_does_not_fit_is_capped_and_says_so() -> None:
    assert parse_quantity("92233720368.54775808") == (COUNT_MAX, True)
    assert parse_quantity("999999999999999999.99") == (COUNT_MAX, True)
    assert parse_quantity(LARGEST) == (COUNT_MAX, False)
    assert parse_quantity("92233720368.547758079") == (COUNT_MAX, False)
    assert in_bytes("92233720368.547758079") == (COUNT_MAX, INEXACT)
    assert in_bytes("999999999999999999.99") == (COUNT_MAX, CAPPED)


def test_a_quantity_is_truncated_below_a_hundred_millionth() -> None:
    assert parse_quantity("0.000000019") == (1, False)


@settings(deadline=None)
@given(decimal_text)
def test_every_decimal_text_agrees_with_decimal(text: str) -> None:
    exact = Fraction(Decimal(text)) * SCALE
    count = min(int(exact), COUNT_MAX)
    capped, inexact = int(exact) > COUNT_MAX, exact.denominator != 1
    assert parse_quantity(text) == (count, capped)
    assert in_bytes(text) == (count, (CAPPED if capped else 0) | (INEXACT if inexact else 0))
    if capped or inexact:
        with pytest.raises(Fixed8Error):
            parse_price(text)
    else:
        assert parse_price(text) == count


@settings(deadline=None)
@given(nearly_decimal)
def test_the_grammar_is_exactly_digits_and_an_optional_part(text: str) -> None:
    good = GRAMMAR.fullmatch(text) is not None and len(text) <= TEXT_LENGTH_MAX
    assert (in_bytes(text)[1] != MALFORMED) == good
    if not good:
        with pytest.raises(Fixed8Error):
            parse_quantity(text)


@settings(deadline=None)
@given(st.integers(0, COUNT_MAX))
def test_formatting_and_parsing_are_inverse(count: int) -> None:
    assert parse_price(format_fixed8(count)) == count


@settings(deadline=None)
@given(st.integers(-(10**25), 10**25))
def test_formatting_any_count_is_exact(count: int) -> None:
    assert Fraction(Decimal(format_fixed8(count))) * SCALE == count


@settings(deadline=None)
@given(st.fractions(min_value=-10, max_value=10), st.integers(1, 15))
def test_a_formatted_ratio_is_the_nearest_decimal(ratio: Fraction, places: int) -> None:
    assert abs(Fraction(Decimal(format_ratio(ratio, places))) - ratio) <= Fraction(1, 2 * 10**places)


def test_basis_points_are_exact_counts() -> None:
    assert parse_rate_bps("7.5") == parse_rate_bps(7.5) == 75_000
    assert parse_rate_bps(0) == parse_rate_bps(0.0) == 0
    for bad in ("-1", "0.00001", "10000", "x"):
        with pytest.raises(Fixed8Error):
            parse_rate_bps(bad)
