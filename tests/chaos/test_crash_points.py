"""Each role of a bracket's life killed at points of its loop, message by message, in the real engine: nothing is lost
or doubled. Every point at once takes minutes (`make chaos`); here a share of them, chosen by a seed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos.points import SENDS, crash_points, message_faults, run_plan

SEED = 20241121
SHARE = 9

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]


@pytest.mark.parametrize("role", sorted(SENDS))
def test_a_role_killed_at_points_of_its_loop_loses_and_doubles_nothing(role: str, tmp_path: Path) -> None:
    rules = random.Random(SEED).sample(crash_points(role, SEED), SHARE)
    print(f"seed {SEED}")
    met = run_plan(tmp_path / "run", rules, SEED, signals_max=30)
    assert len(met.struck) * 2 >= len(rules), f"hardly a point was met: {met.missed}"


def test_messages_that_are_dropped_delayed_doubled_and_reordered_lose_and_double_nothing(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    rules = message_faults(SEED, 40)
    met = run_plan(tmp_path / "run", rules, SEED, signals_max=20)
    assert len(met.struck) * 2 >= len(rules), f"hardly a fault was met: {met.missed}"
