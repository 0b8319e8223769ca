"""Laws of signals: one outcome each, durable before its entry is acknowledged, and none vanishes."""

from __future__ import annotations

from tests.sim.hosts import Incarnation
from tests.sim.scheduler import Violation
from tests.sim.world import Laws, Simulation

OUTCOMES = ("outcomes", "all")


class SignalLaws(Laws):
    """Reads the outcomes' projection, which is written with the journal entry that settles the signal."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.settled: dict[str, bytes] = {}

    def after_event(self) -> None:
        """What is recorded stays as it was recorded."""
        rows = self.simulation.store.projections.get(OUTCOMES, {})
        if len(rows) == len(self.settled) and all(rows.get(key) == value for key, value in self.settled.items()):
            return
        for signal_id, outcome in self.settled.items():
            if rows.get(signal_id) != outcome:
                text = f"{signal_id} was {outcome!r} and is {rows.get(signal_id)!r}"
                raise Violation("a signal has one outcome", text)
        self.settled = dict(rows)

    def acknowledged(self, incarnation: Incarnation, stream: str, entry_id: str) -> None:
        """Its outcome must be in the ledger already."""
        key = self._key(entry_id)
        if self.near and key not in self.simulation.store.projections.get(OUTCOMES, {}):
            text = f"{incarnation} acknowledges {entry_id}, and {key} has no outcome in the ledger"
            raise Violation("no acknowledgement before the outcome", text)

    def at_the_end(self) -> None:
        """Every entry ever published has its outcome, and none waits in the stream."""
        rows = self.simulation.store.projections.get(OUTCOMES, {})
        missing = [entry_id for entry_id in self.simulation.stream.entries if self._key(entry_id) not in rows]
        if missing:
            raise Violation("a signal has one outcome", f"none at the end for {[self._key(m) for m in missing]}")
        if self.simulation.stream.pending:
            text = f"entries {list(self.simulation.stream.pending)} are settled and were never acknowledged"
            raise Violation("what is settled is acknowledged", text)

    def _key(self, entry_id: str) -> str:
        signal = self.simulation.stream.entries[entry_id]
        return signal.signal_id if signal is not None else f"unreadable:{entry_id}"
