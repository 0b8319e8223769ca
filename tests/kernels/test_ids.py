"""Order ids: functions of their purpose, readable back, and never shared."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import ids

LEGS = st.sampled_from(list(ids.LEGS))
ATTEMPTS = st.integers(1, ids.ATTEMPT_MAX)


@given(st.text(), st.text(), LEGS, ATTEMPTS)
def test_an_id_is_short_printable_and_tells_its_leg_and_attempt(fund: str, signal: str, leg: str, attempt: int) -> None:
    order_id = ids.client_order_id(fund, signal, leg, attempt)
    assert len(order_id) <= 40
    assert re.fullmatch(r"[a-z0-9-]+", order_id)
    parsed = ids.parse(order_id)
    assert parsed is not None
    assert (parsed.leg, parsed.attempt) == (leg, attempt)
    assert parsed.family == ids.family_id(fund, signal, attempt)
    assert parsed.fund_tag == ids.fund_tag(fund)


@given(st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6), LEGS, ATTEMPTS), unique=True, max_size=40))
def test_different_purposes_get_different_ids(purposes: list[tuple[str, str, str, int]]) -> None:
    assert len({ids.client_order_id(*purpose) for purpose in purposes}) == len(purposes)


def test_the_same_purpose_gets_the_same_id_for_ever() -> None:
    # A change of this text would orphan every working order: old and new programs would not know each other's.
    assert ids.client_order_id("apex", "s-1", "entry") == "axqx5ust-pjpf7fwywruh5ozelk626vui-1e"


@pytest.mark.parametrize("text", ["", "manual", "ax-1e", "axaaaaaa-short-1e", "x" * 40])
def test_what_is_not_ours_is_not_parsed(text: str) -> None:
    assert ids.parse(text) is None


@pytest.mark.parametrize("attempt", [0, -1, ids.ATTEMPT_MAX + 1])
def test_an_attempt_out_of_range_is_refused(attempt: int) -> None:
    with pytest.raises(ValueError, match="attempt"):
        ids.family_id("apex", "s", attempt)


def test_a_cycles_order_id_is_a_function_of_fund_attempt_and_key_and_fits_the_exchange() -> None:
    # Written down for ever, as a bracket's: a restart under a new program must find its own orders.
    assert ids.cycle_order_id("apex", "evaluator:e1.1", "u999") == "axqx5ust-g652umfekfgggk6prbcc-u999"
    made = {
        ids.cycle_order_id(fund, attempt, key)
        for fund in ("apex", "ape", "x")
        for attempt in ("evaluator:e1.1", "evaluator:e1.11", "x", "apexx")
        for key in ("1", "2", "3", "4", "u1", "u12", "u999")
    }
    assert len(made) == 3 * 4 * 7
    assert all(re.fullmatch(r"[a-zA-Z0-9-_]{1,36}", one) for one in made)
    assert ids.is_cycle_order_id("apex", ids.cycle_order_id("apex", "x", "u7"))
    assert not ids.is_cycle_order_id("apex", ids.cycle_order_id("other", "x", "u7"))
    assert not ids.is_cycle_order_id("apex", ids.client_order_id("apex", "s", "entry"))
    assert not ids.is_cycle_order_id("apex", "web_1")


@pytest.mark.parametrize("key", ["", "0", "5", "u", "u0", "u1000", "1u"])
def test_a_key_that_is_no_place_in_an_attempt_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        ids.cycle_order_id("apex", "x", key)
