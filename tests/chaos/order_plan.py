"""Which process dies at which moment of a bracket's life: a plan that a seed chooses, a bracket a strike.

A moment is a point of a role's loop (fault plan), or a leg on its way into the gateway. The victim is that role itself,
which crashes there, or another process, killed from outside while the role stands still at that point.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product

from config.schema import FaultRule

WHOLE = ("submit", "partial_fill", "entry_fill", "exit")
"""A bracket's life: signal to working legs; a part of the entry; its rest; an exit and its sibling's cancel."""
MENDED = ("resize", "put_back")
"""Of a life in which the broker has to mend the exits: the venue ends the entry partly filled and leaves them as large
as they were; it drops the stop."""
STEPS = (*WHOLE, *MENDED)
"""At which somebody dies."""

VICTIMS = ("allocator", "broker.paper", "reconciler", "sentinel", "redis.ledger", "gateway")
HANG_S = 1.5
"""How long a role stands still for another's death: long enough to see it and to kill, on a loaded machine too."""

COMES_AGAIN = {
    ("submit", "OrderReported"): 3,
    ("submit", "OrderChanged"): 3,
    ("exit", "OrderChanged"): 2,
    ("resize", "OrderReported"): 3,
    ("resize", "OrderChanged"): 3,
    ("put_back", "OrderReported"): 2,
}
"""How many of a message a step has at least; all have one."""
LEGS = {"submit": 3, "resize": 2, "put_back": 1}
"""How many orders, or changes of orders, come to the gateway at a step."""


def life(step: str) -> tuple[str, ...]:
    """Return the steps of the life in which somebody dies at this one."""
    return ("submit", "partial_fill", *MENDED, "exit") if step in MENDED else WHOLE


@dataclass(frozen=True)
class Place:
    """A moment: a point of a role's loop, or `before` or `after` the nth leg at the gateway (role `gateway`)."""

    role: str
    point: str
    message: str


@dataclass(frozen=True)
class Strike:
    """One death of one bracket's life."""

    step: str
    victim: str
    place: Place
    nth: int

    def rule(self) -> FaultRule | None:
        """What the fault plan holds for it; nothing where the gateway strikes by itself."""
        if self.place.role == "gateway":
            return None
        inside = self.victim == self.place.role
        return FaultRule(
            role=self.place.role,
            point=self.place.point,  # type: ignore[arg-type]
            message=self.place.message,
            nth=self.nth,
            action="crash" if inside else "hang",
            arg_s=0.0 if inside else HANG_S,
        )

    def __str__(self) -> str:
        where = f"{self.place.point} {self.place.message} #{self.nth}"
        at = where if self.victim == self.place.role else f"while {self.place.role} is at {where}"
        return f"{self.step}: {self.victim} {at}"


def _loop(role: str, *messages: str) -> list[Place]:
    """Receipt and append of inputs."""
    return [Place(role, p, m) for m in messages for p in ("receive", "before_append", "after_append")]


def _both(role: str, what: str, *messages: str) -> list[Place]:
    """Before and after: an effect, a send, an acknowledgement."""
    return [Place(role, f"{when}_{what}", m) for m in messages for when in ("before", "after")]


def _told(role: str, *messages: str) -> list[Place]:
    """A watcher's side of what the broker owes it."""
    return _loop(role, *messages) + _both(role, "ack", *messages)


# Of a fill an order's report changes nothing, and is not appended: its execution does. A cancel's is.
FILLS = [
    Place("broker.paper", "receive", "OrderReported"),
    *_loop("broker.paper", "ExecutionReported", "CommissionReported", "Acknowledged"),
    *_both("broker.paper", "send", "OrderChanged", "PositionChanged"),
    *_told("allocator", "OrderChanged", "PositionChanged"),
    *_told("sentinel", "OrderChanged", "PositionChanged"),
]
READS = [*_loop("reconciler", "PicturesTaken"), *_both("reconciler", "send", "ReadVenue")]
# What mends is decided at a timer, whose entry in the journal holds the change or the new stop before it is driven.
MENDING = [
    *[Place("broker.paper", point, "TimerFired") for point in ("before_append", "after_append")],
    *_loop("broker.paper", "OrderReported", "Acknowledged"),
    *_both("broker.paper", "effect", "Drive"),
    *_both("broker.paper", "send", "OrderChanged"),
    *_told("allocator", "OrderChanged"),
    *_told("sentinel", "OrderChanged"),
    *[Place("gateway", when, "leg") for when in ("before", "after")],
    *READS,
]
PLACES = {
    "submit": [
        *_loop("allocator", "SignalReceived", "Acknowledged"),
        *_both("allocator", "effect", "AckStream"),
        *_both("allocator", "send", "PlaceBracket"),
        *_told("allocator", "IntentOutcome", "OrderChanged"),
        *_told("broker.paper", "PlaceBracket"),
        *_loop("broker.paper", "SubmitWritten", "OrderReported", "Acknowledged"),
        *_both("broker.paper", "effect", "Drive"),
        *_both("broker.paper", "send", "IntentOutcome", "OrderChanged"),
        *_told("sentinel", "OrderChanged"),
        *[Place("gateway", when, "leg") for when in ("before", "after")],
        *READS,
    ],
    "partial_fill": [*FILLS, *READS],
    "entry_fill": [*FILLS, *READS],
    "exit": [
        *FILLS,
        *[Place("broker.paper", point, "OrderReported") for point in ("before_append", "after_append")],
        *_both("broker.paper", "send", "BracketClosed"),
        *_told("allocator", "BracketClosed"),
        *_told("sentinel", "BracketClosed"),
        *READS,
    ],
    "resize": MENDING,
    "put_back": [*MENDING, *_loop("broker.paper", "SubmitWritten")],
}
BATCH = len(STEPS) * len(VICTIMS)
"""Strikes on one engine: each victim at each step once."""


def plan(seed: int, count: int = BATCH) -> list[Strike]:
    """Strikes on one engine, in an order of the seed's; every `BATCH` of them have each victim at each step once."""
    chosen = random.Random(f"orders {seed}")
    strikes: list[Strike] = []
    while len(strikes) < count:
        pairs = list(product(STEPS, VICTIMS))
        chosen.shuffle(pairs)
        strikes += [_strike(chosen, step, victim) for step, victim in pairs]
    return strikes[:count]


def _strike(chosen: random.Random, step: str, victim: str) -> Strike:
    """Half of the time in its own loop, where it has one at this step, else at a moment of another's."""
    own = [place for place in PLACES[step] if place.role == victim]
    others = [p for p in PLACES[step] if p.role not in (victim, "gateway", "reconciler")]
    place = chosen.choice(own if own and chosen.random() < 0.5 else others)
    most = LEGS.get(step, 0) if place.role == "gateway" else COMES_AGAIN.get((step, place.message), 1)
    return Strike(step, victim, place, chosen.randint(1, most))
