"""What an actor is to the shell: a frozen state and a pure reducer."""

from __future__ import annotations

from typing import Protocol, TypeVar

from actors.effects import Effect
from actors.messages import Envelope

S = TypeVar("S")


class Role(Protocol[S]):
    """One actor's behaviour, without I/O, clock or randomness.

    `reduce` gets every input in an envelope: messages of other roles, and those of the actor's own driver
    (`source == "driver"`), timers (`"timer"`) and shell (`"shell"`). It returns the *same* state object when nothing
    durable changed: the shell journals an input exactly if the state changed or something is owed. Anything it
    cannot make sense of from another role is counted; anything impossible raises, and the supervisor restarts it.
    """

    @property
    def name(self) -> str:
        """Role name, the last part of its keys, e.g. `broker.paper`."""

    @property
    def schema_version(self) -> int:
        """Version of `state_type`'s meaning; a snapshot of the version before is migrated, others are refused."""

    @property
    def state_type(self) -> type[S]:
        """Type to decode a snapshot into."""

    def initial(self) -> S:
        """State before the first input ever."""

    def reduce(self, state: S, envelope: Envelope, now_ns: int) -> tuple[S, tuple[Effect, ...]]:
        """The one step."""

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        """Rewrite the JSON of a state of `schema_version` (the one before the current) into the current form."""
