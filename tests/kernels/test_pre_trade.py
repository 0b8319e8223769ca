"""Pre-trade guards: each at its edge, in order, with its figures; and against a naive oracle in fractions."""

from __future__ import annotations

import random
from fractions import Fraction

import msgspec
import pytest

from kernels.pre_trade import Recent, Rules, Wish, refusal

UNIT = 10**8
CENT = 10**6
RULES = Rules(collar_bps=500, exit_collar_bps=2_000, duplicate_ns=10)
WISH = Wish("ACME", True, 5 * UNIT, 100 * UNIT, 110 * UNIT, 95 * UNIT, 100 * UNIT)


def guard(rules: Rules = RULES, recent: tuple[Recent, ...] = (), **changed: object) -> str:
    found = refusal(msgspec.structs.replace(WISH, **changed), rules, recent, 100)
    return found.guard if found is not None else ""


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ""),
        ({"limit_px": 0}, ""),
        ({"limit_px": 105 * UNIT}, ""),
        ({"limit_px": 105 * UNIT + CENT}, "collar"),
        ({"limit_px": 95 * UNIT - CENT}, "collar"),
        ({"take_profit_px": 120 * UNIT}, ""),
        ({"take_profit_px": 120 * UNIT + CENT}, "collar"),
        ({"stop_px": 80 * UNIT - CENT}, "collar"),
    ],
)
def test_each_price_guard_objects_from_its_edge_on(changed: dict[str, object], expected: str) -> None:
    assert guard(**changed) == expected


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (Recent("ACME", True, 5 * UNIT, 91), "duplicate"),
        (Recent("ACME", True, 5 * UNIT, 90), ""),
        (Recent("ACME", True, 4 * UNIT, 99), ""),
        (Recent("ACME", False, 5 * UNIT, 99), ""),
        (Recent("ACNE", True, 5 * UNIT, 99), ""),
    ],
)
def test_the_same_again_is_refused_for_a_while(one: Recent, expected: str) -> None:
    assert guard(recent=(one,)) == expected


def test_a_refusal_says_what_was_asked_and_what_it_was_held_against() -> None:
    found = refusal(msgspec.structs.replace(WISH, limit_px=110 * UNIT), RULES, (), 100)
    assert found is not None
    assert found.figures == {"limit_px": str(110 * UNIT), "last_px": str(100 * UNIT), "bps_max": "500"}


def test_a_limit_of_zero_switches_its_guard_off() -> None:
    again = Recent("ACME", True, 5 * UNIT, 99)
    assert guard(Rules(), (again,), limit_px=999 * UNIT + 1) == ""


def test_price_guards_agree_with_fractions() -> None:
    seed = 11
    chance = random.Random(seed)
    print(f"seed {seed}")
    objected = 0
    for _ in range(3_000):
        last = chance.randint(1, 10**11)
        px = max(1, last + chance.randint(-last // 8, last // 8))
        found = guard(Rules(collar_bps=500), limit_px=px, last_px=last)
        expected = abs(Fraction(px, last) - 1) > Fraction(5, 100)
        assert found == ("collar" if expected else "")
        objected += expected
    assert 0 < objected < 3_000
