"""The base of every message body, and the few that belong to no actor's trade: those of shell and supervision."""

from __future__ import annotations

import msgspec


class Message(msgspec.Struct, frozen=True, gc=False, tag=True, omit_defaults=True):
    """Base of all message bodies; the tag is the class name, which journals and traces show.

    Outside the garbage collector, as states and effects are: what is frozen holds no cycle, and a collection that
    walks all of a state takes tens of milliseconds from whatever goes on.
    """

    def __str__(self) -> str:
        return type(self).__name__


class Recovered(Message, frozen=True):
    """First input of every incarnation, after the fold: re-arm timers, re-open what is volatile."""

    epoch: int


class TimerFired(Message, frozen=True):
    """A timer of this incarnation came due."""

    name: str


class Acknowledged(Message, frozen=True):
    """All owed messages from the receiver of this to its sender, up to `delivery_seq`, are in its journal."""

    delivery_seq: int


class AlarmAcknowledged(Message, frozen=True):
    """A person has looked at an alarm that waits for one, as it stood when it was raised last (`raised_ns`).

    One raised again since then stands on: its newer text has not been seen.
    """

    name: str
    raised_ns: int
    why: str
    by: str
    at_ns: int


class HaltChanged(Message, frozen=True):
    """The halt latch was read and differs from what this actor last knew. Empty `reason`: cleared.

    `flatten`: why positions are to be closed too, ordered at `flatten_ns`; empty and 0: they are not.
    """

    reason: str
    latched_ns: int
    flatten: str = ""
    flatten_ns: int = 0
