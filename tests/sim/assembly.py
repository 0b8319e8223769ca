"""Which roles, drivers and laws make up a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.sim.bus import SignalReader
from tests.sim.cycles import cycle_simulation
from tests.sim.engine import engine_simulation
from tests.sim.market import market_simulation
from tests.sim.toys import Decider, Executor, NoDriver
from tests.sim.world import Laws, Simulation, Violation


class ToyLaws(Laws):
    """A signal's outcome is journaled before its entry is acknowledged, and each has one at the end."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.outcomes: dict[str, int] = {}

    def appended(self, role: str, record: dict[str, Any]) -> None:
        """Count outcomes."""
        body = record["input"]["body"]
        if role == "allocator" and body["type"] == "IntentOutcome":
            self.outcomes[body["signal_id"]] = self.outcomes.get(body["signal_id"], 0) + 1

    def acknowledged(self, incarnation: Any, stream: str, entry_id: str) -> None:
        """Compare."""
        signal = self.simulation.stream.entries[entry_id]
        if signal is not None and signal.signal_id not in self.outcomes:
            raise Violation("no acknowledgement before the outcome", f"{entry_id} {signal.signal_id}")

    def at_the_end(self) -> None:
        """Every signal ended once."""
        for signal in self.simulation.stream.entries.values():
            if signal is not None and self.outcomes.get(signal.signal_id) != 1:
                raise Violation(
                    "a signal has one outcome", f"{signal.signal_id}: {self.outcomes.get(signal.signal_id)}"
                )


def toy_simulation(seed: int, steps: int = 400) -> Simulation:
    """Shell and delivery alone."""
    simulation = Simulation(seed, steps)
    simulation.add(Decider(), lambda incarnation: SignalReader(incarnation, simulation.stream))
    simulation.add(Executor(), lambda incarnation: NoDriver())
    simulation.laws.append(ToyLaws(simulation))
    return simulation


ASSEMBLIES: dict[str, Callable[[int, int], Simulation]] = {
    "cycles": cycle_simulation,
    "engine": engine_simulation,
    "market": market_simulation,
    "toys": toy_simulation,
}
