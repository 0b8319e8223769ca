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
