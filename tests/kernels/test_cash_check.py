"""Cash and equity against fills: what agrees, what does not, and an oracle that keeps a purse."""

from __future__ import annotations

import random

import msgspec

from kernels.cash_check import Baseline, Worth, compare_cash, compare_equity, value_of
from kernels.positions import FIXED, FLAT, Fill, apply_fill

UNIT = 10**8
BASE = Baseline("DU1", "USD", 1_000 * UNIT, 50 * UNIT, 7 * UNIT, 5)


def test_cash_that_moved_as_our_flow_did_is_no_finding_within_the_tolerance() -> None:
    worth = Worth(900 * UNIT, 0, {})
    assert compare_cash(BASE, worth, -50 * UNIT, 0) is None
    assert compare_cash(BASE, worth, -51 * UNIT, UNIT) is None
    found = compare_cash(BASE, worth, -52 * UNIT, UNIT)
    assert found is not None
    assert (found.key, str(898 * UNIT) in found.evidence, str(900 * UNIT) in found.evidence) == (
        "cash.DU1.USD",
        True,
        True,
    )


def test_equity_is_cash_positions_at_the_venues_prices_and_what_was_there_beside_them() -> None:
    held = [("A", 2 * UNIT), ("B", -UNIT), ("C", 0)]
    worth = Worth(0, 1_000 * UNIT + 2 * 30 * UNIT - 10 * UNIT + 7 * UNIT, {"A": 30 * UNIT, "B": 10 * UNIT})
    assert value_of(held, worth.px) == (50 * UNIT, 70 * UNIT)
    assert compare_equity(BASE, worth, 50 * UNIT, held, 0, 0) is None
    off = msgspec.structs.replace(worth, net_liquidation=worth.net_liquidation + UNIT)
    found = compare_equity(BASE, off, 50 * UNIT, held, 0, 0)
    assert found is not None
    assert found.key == "equity.DU1.USD"
    # 70 held, of which 150 bps are 1.05
    assert compare_equity(BASE, off, 50 * UNIT, held, 0, 150) is None


def test_equity_is_not_compared_without_a_price_or_a_baseline_of_it() -> None:
    held = [("A", UNIT)]
    assert compare_equity(BASE, Worth(0, 0, {}), 0, held, 0, 0) is None
    without = msgspec.structs.replace(BASE, other=None)
    assert compare_equity(without, Worth(0, 0, {"A": UNIT}), 0, held, 0, 0) is None


def test_the_flow_of_folded_fills_is_what_a_purse_lost_and_won() -> None:
    seed = 23
    chance = random.Random(seed)
    print(f"seed {seed}")
    position, purse = FLAT, 0
    for k in range(400):
        buy, qty, px = chance.random() < 0.5, chance.randint(1, 90) * UNIT, chance.randint(1, 10**11)
        fee = chance.randint(0, UNIT)
        position = apply_fill(position, Fill(f"e{k}", 1, "x", "A", buy, qty, px, 0, fee))
        purse += (-1 if buy else 1) * qty * px - fee * FIXED
    assert position.realized - position.cost - position.commission * FIXED == purse
