"""Health: watches what all roles count and how the rows stand, and calls out what is suspicious.

Owns: which suspicions stand. Consumes: `SuspicionsFound` of its driver. Emits: `StartWatch` to it, alarms, a line in
`suspicions.jsonl` a change. Invariants: an alarm stands exactly while its suspicion does; the journal grows by an entry
a change of their names, never by one a second. Recovery: the driver looks anew, and what is suspicious by its own
history is known again once there is one. Dropped: a look that a later one overtakes.
"""

from __future__ import annotations

import msgspec

from actors.effects import AppendLine, ClearAlarm, Count, Drive, Effect, RaiseAlarm, Severity
from actors.messages import Envelope, HaltChanged, Recovered, StartWatch, SuspicionsFound


class HealthState(msgspec.Struct, frozen=True):
    """Names of what stands, oldest first, and how often anything was raised."""

    standing: tuple[str, ...] = ()
    raised: int = 0


Reduced = tuple[HealthState, tuple[Effect, ...]]


class Health:
    """The role; holds nothing but its name."""

    schema_version = 1
    state_type = HealthState

    def __init__(self, name: str = "health") -> None:
        self._name = name

    @property
    def name(self) -> str:
        """Role name."""
        return self._name

    def initial(self) -> HealthState:
        """Nothing stands."""
        return HealthState()

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        """There is no earlier version."""
        raise ValueError(f"{self.name}: no migration from schema version {schema_version}")

    def reduce(self, state: HealthState, envelope: Envelope, now_ns: int) -> Reduced:
        """Fold one input."""
        match envelope.body:
            case Recovered(epoch=epoch):
                return state, (Drive(StartWatch(epoch)),)
            case SuspicionsFound() as found:
                return self._found(state, found)
            case HaltChanged():
                return state, ()
            case _:
                return state, (Count("unexpected"),)

    def show(self, state: HealthState, now_ns: int) -> dict[str, str]:
        """Return what the console shows."""
        names = ", ".join(state.standing) or "nothing suspicious"
        return {"suspicions": f"{len(state.standing)} stand: {names}" if state.standing else names}

    def _found(self, state: HealthState, found: SuspicionsFound) -> Reduced:
        effects: list[Effect] = [RaiseAlarm(one.name, Severity(one.severity), one.text) for one in found.standing]
        names = tuple(one.name for one in found.standing)
        effects += [ClearAlarm(name) for name in state.standing if name not in names]
        if names == state.standing:
            return state, tuple(effects)
        fresh = sum(name not in state.standing for name in names)
        if fresh:
            effects.append(Count("suspicions_raised", fresh))
        effects.append(AppendLine("suspicions", found))
        return HealthState(names, state.raised + fresh), tuple(effects)
