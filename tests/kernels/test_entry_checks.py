"""Entries against contract, hours and money: each guard at its edge, exact, with field, value and remedy."""

from __future__ import annotations

import random
from decimal import ROUND_CEILING, Decimal

import msgspec
import pytest

from kernels.contract_terms import ContractTerms, PriceStep
from kernels.entry_checks import Entry, EntryRules, Funds, fitted, funds_refusal, hours_refusal, worst_cost
from kernels.sizing import Refused

UNIT = 10**8
CENT = 10**6
TERMS = ContractTerms(
    symbol="ACME",
    currency="USD",
    multiplier=UNIT,
    price_steps=(PriceStep(0, CENT // 100), PriceStep(UNIT, CENT)),
    size_min=2 * UNIT,
    size_step=UNIT,
    trading=((50, 300),),
    liquid=((100, 200),),
    hours_until_ns=1_000,
    read_ns=0,
)
RULES = EntryRules()
BUY = Entry("ACME", True, 5 * UNIT, 100 * UNIT, 110 * UNIT, 95 * UNIT, 100 * UNIT)
SELL = Entry("ACME", False, 5 * UNIT, 100 * UNIT, 90 * UNIT, 105 * UNIT, 100 * UNIT)
FUNDS = Funds("USD", 1_000 * UNIT, 4_000 * UNIT, 0)


def checked(entry: Entry, rules: EntryRules = RULES, **terms: object) -> Entry | Refused:
    return fitted(entry, msgspec.structs.replace(TERMS, **terms), rules)


def guard_of(found: object) -> str:
    return found.guard if isinstance(found, Refused) else ""


@pytest.mark.parametrize(
    ("changed", "guard", "field"),
    [
        ({}, "", ""),
        ({"limit_px": 0}, "", ""),
        ({"limit_px": 100 * UNIT + 1}, "tick", "limit_px"),
        ({"take_profit_px": 110 * UNIT + CENT // 2}, "tick", "take_profit_px"),
        ({"stop_px": 95 * UNIT - 1}, "tick", "stop_px"),
        ({"stop_px": UNIT - CENT // 100}, "", ""),
        ({"stop_px": UNIT + CENT // 100}, "tick", "stop_px"),
        ({"qty": 5 * UNIT + 1}, "lot", "qty"),
        ({"qty": 2 * UNIT}, "", ""),
        ({"qty": UNIT}, "size_min", "qty"),
    ],
)
def test_what_fits_no_step_is_refused_by_field_value_and_remedy(
    changed: dict[str, int], guard: str, field: str
) -> None:
    found = checked(msgspec.structs.replace(BUY, **changed))
    assert guard_of(found) == guard
    if isinstance(found, Refused):
        assert (found.figures["field"], found.figures["value"]) == (field, str(changed[field]))
        assert found.figures["remedy"]


@pytest.mark.parametrize("entry", [BUY, SELL])
def test_rounding_is_in_our_favour_on_both_sides(entry: Entry) -> None:
    off = msgspec.structs.replace(
        entry,
        qty=entry.qty + UNIT // 2,
        limit_px=entry.limit_px + CENT // 4,
        take_profit_px=entry.take_profit_px + CENT // 4,
        stop_px=entry.stop_px + CENT // 4,
    )
    found = checked(off, EntryRules(rounds=True))
    assert isinstance(found, Entry)
    assert found.qty == entry.qty
    better = 1 if entry.buy else -1
    assert (found.limit_px - off.limit_px) * better < 0
    assert (found.take_profit_px - off.take_profit_px) * better > 0
    assert (found.stop_px - off.stop_px) * better > 0
    assert not [px for px in (found.limit_px, found.take_profit_px, found.stop_px) if px % CENT]


def test_rounding_that_would_put_an_exit_on_the_wrong_side_refuses() -> None:
    tight = msgspec.structs.replace(BUY, limit_px=100 * UNIT + CENT // 2, stop_px=100 * UNIT + CENT // 4)
    assert guard_of(checked(tight, EntryRules(rounds=True))) == "bracket_sides"


def test_another_currency_or_a_multiplier_is_not_traded() -> None:
    assert guard_of(checked(BUY, currency="EUR")) == "currency"
    assert guard_of(checked(BUY, multiplier=100 * UNIT)) == "multiplier"


@pytest.mark.parametrize(
    ("now_ns", "rules", "guard"),
    [
        (99, RULES, "hours"),
        (100, RULES, ""),
        (199, RULES, ""),
        (200, RULES, "hours"),
        (99, EntryRules(outside_rth=True), ""),
        (49, EntryRules(outside_rth=True), "hours"),
        (99, EntryRules(waits_for_open=True), ""),
        (250, EntryRules(waits_for_open=True), "hours"),
        (1_000, RULES, "hours_unknown"),
        (1_000, EntryRules(waits_for_open=True), "hours_unknown"),
        (1_000, EntryRules(checks_hours=False), ""),
    ],
)
def test_outside_the_hours_an_entry_is_refused_unless_it_may_wait_or_trade_there(
    now_ns: int, rules: EntryRules, guard: str
) -> None:
    assert guard_of(hours_refusal(TERMS, rules, now_ns)) == guard


def test_the_worst_cost_is_never_below_the_exact_one_and_at_most_one_count_above() -> None:
    seed = 3
    chance = random.Random(seed)
    print(f"seed {seed}")
    for _ in range(500):
        limit = chance.choice([0, chance.randint(1, 10**12)])
        reference = chance.randint(1, 10**12)
        entry = Entry("A", chance.random() < 0.5, chance.randint(1, 10**12), limit, 2 * 10**12, 1, reference)
        rules = EntryRules(slippage_bps=chance.randint(0, 500), commission_bps=chance.randint(0, 50))
        px = Decimal(limit) if limit else Decimal(reference) * (1 + Decimal(rules.slippage_bps) / 10_000)
        exact = Decimal(entry.qty) * px * (1 + Decimal(rules.commission_bps) / 10_000) / UNIT
        assert worst_cost(entry, rules) == int(exact.to_integral_value(ROUND_CEILING))


def test_an_entry_without_a_reference_is_reckoned_by_its_farther_exit() -> None:
    entry = msgspec.structs.replace(SELL, limit_px=0, reference_px=0)
    assert worst_cost(entry, EntryRules(slippage_bps=0, commission_bps=0)) == 5 * 105 * UNIT


@pytest.mark.parametrize(
    ("cost", "reserved", "funds", "rules", "guard"),
    [
        (1_000, 0, FUNDS, RULES, ""),
        (1_001, 0, FUNDS, RULES, "funds"),
        (900, 100, FUNDS, RULES, ""),
        (900, 101, FUNDS, RULES, "funds"),
        (4_000, 0, FUNDS, EntryRules(uses_buying_power=True), ""),
        (4_001, 0, FUNDS, EntryRules(uses_buying_power=True), "funds"),
        (1, 0, None, RULES, "account_unknown"),
        (1, 0, msgspec.structs.replace(FUNDS, currency=""), RULES, "account_currency"),
        (1, 0, msgspec.structs.replace(FUNDS, currency="EUR"), RULES, "account_currency"),
        (1, 0, FUNDS, EntryRules(funds_age_ns_max=9), "account_stale"),
        (1, 0, FUNDS, EntryRules(funds_age_ns_max=10), ""),
        (9_999, 0, None, EntryRules(checks_funds=False), ""),
    ],
)
def test_money_that_is_not_there_or_not_known_refuses(
    cost: int, reserved: int, funds: Funds | None, rules: EntryRules, guard: str
) -> None:
    found = funds_refusal(cost * UNIT, funds, reserved * UNIT, rules, 10)
    assert guard_of(found) == guard
    assert found is None or found.figures["remedy"]
