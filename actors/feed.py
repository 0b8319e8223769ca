"""A feed: frames of one shard of the spot exchange's symbols into their rows of the book image.

Owns: when it went up and down; rows, headers and connections are its driver's. Consumes: `FeedStatus` of its driver.
Emits: `StartFeed` to it, an alarm while it is down. Invariants: the journal grows by an entry a change of up or
down, never by one a second. Recovery: the driver starts anew under the new epoch, which makes every row of the old
one count for nothing until a frame comes. Dropped: a status that a later one overtakes (they carry totals).
"""

from __future__ import annotations

import msgspec

from actors.effects import ClearAlarm, Count, Drive, Effect, RaiseAlarm, Severity
from actors.messages import Envelope, FeedStatus, HaltChanged, Recovered, StartFeed

DOWN_ALARM = "feed_down"


class FeedState(msgspec.Struct, frozen=True):
    """`since_ns`: of the last change; the changes are over all incarnations."""

    up: bool = False
    reason: str = "not started yet"
    since_ns: int = 0
    ups: int = 0
    downs: int = 0


Reduced = tuple[FeedState, tuple[Effect, ...]]


class Feed:
    """The role of one shard; holds nothing but its name."""

    schema_version = 1
    state_type = FeedState

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        """Role name."""
        return self._name

    def initial(self) -> FeedState:
        """Never up."""
        return FeedState()

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        """There is no earlier version."""
        raise ValueError(f"{self.name}: no migration from schema version {schema_version}")

    def reduce(self, state: FeedState, envelope: Envelope, now_ns: int) -> Reduced:
        """Fold one input."""
        match envelope.body:
            case Recovered(epoch=epoch):
                return state, (Drive(StartFeed(epoch)),)
            case FeedStatus() as status:
                return self._status(state, status, now_ns)
            case HaltChanged():
                return state, ()
            case _:
                return state, (Count("unexpected"),)

    def show(self, state: FeedState, now_ns: int) -> dict[str, str]:
        """Return what the console shows."""
        shown = {"feed": "up" if state.up else f"down: {state.reason}"}
        if state.since_ns:
            shown["since"] = f"{max(0, now_ns - state.since_ns) / 1e9:.0f} s"
        return shown | {"downs": str(state.downs)}

    def _status(self, state: FeedState, status: FeedStatus, now_ns: int) -> Reduced:
        if status.up == state.up:
            alarm: tuple[Effect, ...] = () if status.up else (_down(status.reason),)
            return state, alarm
        if status.up:
            up = FeedState(True, "", now_ns, state.ups + 1, state.downs)
            return up, (ClearAlarm(DOWN_ALARM), Count("up"))
        down = FeedState(False, status.reason, now_ns, state.ups, state.downs + 1)
        return down, (_down(status.reason), Count("down"))


def _down(reason: str) -> RaiseAlarm:
    return RaiseAlarm(DOWN_ALARM, Severity.WARNING, f"no live market data: {reason or 'no connection'}")
