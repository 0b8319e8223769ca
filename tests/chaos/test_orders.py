"""One process killed at a chosen moment of each of a few brackets' lives: a share of `make chaos-orders`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.order_plan import BATCH, PLACES, STEPS, VICTIMS, plan
from tests.chaos.orders import Told, run_orders

SEED = 20241121
SHARE = 9


@pytest.mark.process
@pytest.mark.timeout(600)
def test_brackets_of_which_each_saw_a_death_are_whole_and_the_books_the_gateways(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    told = Told(say=True)
    run_orders(tmp_path / "run", plan(SEED, SHARE), SEED, told)
    assert told.struck.total() * 3 >= SHARE * 2, f"hardly a moment was met: {told}"
    assert told.outcomes["submitted"] * 2 >= SHARE, f"most signals went nowhere: {told}"


def test_a_batch_has_each_victim_at_each_step_once_and_a_seed_is_a_plan() -> None:
    strikes = plan(7)
    assert Counter((one.step, one.victim) for one in strikes) == {(s, v): 1 for s in STEPS for v in VICTIMS}
    assert strikes == plan(7, BATCH) != plan(8, BATCH)


def test_every_moment_is_chosen_and_every_victim_dies_by_itself_or_while_another_stands_still() -> None:
    strikes = [strike for seed in range(400) for strike in plan(seed)]
    chosen = {(strike.step, strike.place) for strike in strikes}
    assert chosen == {(step, place) for step in STEPS for place in PLACES[step]}
    for strike in strikes:
        rule = strike.rule()
        if rule is None:
            assert strike.victim == "gateway"
        else:
            assert (rule.action == "crash") == (strike.victim == rule.role)
