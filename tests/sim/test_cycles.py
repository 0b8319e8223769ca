"""Cycle execution under every fault: no order doubled, every attempt ended once, our sums are the exchange's."""

from __future__ import annotations

from collections import Counter

import pytest

from actors.messages import CycleEnd
from actors.ports import FaultPoint
from kernels.cycle_execution import Mode
from tests.sim.cycles import CycleSimulation, cycle_simulation
from tests.sim.runner import STEPS, command, simulate

SEEDS, COUNTED = 20, 60


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_fails_each_cycle_ends_once_and_the_books_are_the_exchanges(seed: int) -> None:
    result = simulate(seed, world="cycles")
    assert not result.law, f"{result.law}: {result.text}\n{command(result, STEPS, '', 'cycles')}"


def test_every_kind_of_fault_and_of_end_happens_within_the_seeds() -> None:
    """Seeds that pass because nothing ever happens would prove nothing."""
    struck: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for seed in range(COUNTED):
        simulation = cycle_simulation(seed, STEPS)
        assert isinstance(simulation, CycleSimulation)
        simulation.run()
        struck.update(simulation.struck)
        seen.update(line.end.value for line in simulation.file.lines)
        seen.update(line.mode for line in simulation.file.lines if line.end is CycleEnd.FILLED)
        seen.update(line.guard for line in simulation.file.lines)
        for host in simulation.hosts.values():
            assert host.current is not None
            seen.update(host.current.shell.counters)
    assert {f"crash {point.value}" for point in FaultPoint} | {"pause", "zombie"} <= set(struck)
    expected = {end.value for end in CycleEnd} | {mode.value for mode in Mode}
    expected |= {"halt", "breaker", "age", "gate", "no_gain", "not_live", "leg_not_filled"}
    expected |= {"absent_twice", "outcome_unknown", "refused", "session_lost", "looked_up", "resumed"}
    assert expected <= set(seen), expected - set(seen)
