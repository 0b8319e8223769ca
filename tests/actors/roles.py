"""Giving a role its inputs one by one, as the shell would."""

from __future__ import annotations

from typing import TypeVar

from actors.effects import Effect
from actors.messages import AnyMessage, Envelope
from actors.role import Role

S = TypeVar("S")
SECOND_NS = 1_000_000_000


def envelope(body: AnyMessage, source: str = "driver", target: str = "role") -> Envelope:
    """Wrap a body."""
    return Envelope(
        message_id="m1",
        correlation_id="m1",
        causation_id="",
        source=source,
        target=target,
        source_epoch=1,
        ts_init_ns=1,
        body=body,
    )


def step(role: Role[S], state: S, body: AnyMessage, now_ns: int = SECOND_NS) -> tuple[S, tuple[Effect, ...]]:
    """Reduce one body."""
    return role.reduce(state, envelope(body), now_ns)


def fold(role: Role[S], *bodies: AnyMessage) -> S:
    """Return the state after these, a second apart."""
    state = role.initial()
    for at, body in enumerate(bodies, start=1):
        state, _ = step(role, state, body, at * SECOND_NS)
    return state
