"""What supervisors and the hosts of actors say to one another. Volatile: a tree that restarts says it all again.

Addresses of the actor system travel only here; everything else names roles.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from actors.messages import Envelope
from config.schema import Settings
from supervisors.lifeline import ProcessIdentity
from supervisors.spec import ChildSpec, SupervisorSpec


class Control(msgspec.Struct, frozen=True):
    """Base: cheap text, because the actor system asks for it several times a message."""

    def __str__(self) -> str:
        return type(self).__name__

    __repr__ = __str__


class RunContext(Control, frozen=True):
    """What one run of the engine is: its settings, where its files are, and whose death ends it."""

    settings: Settings
    run_id: str
    run_dir: str
    guardian: ProcessIdentity
    admin_pid: int = 0


class StartSupervisor(Control, frozen=True):
    """Begin to supervise. `parent_pid` is the process whose death must end this one at once."""

    spec: SupervisorSpec
    context: RunContext
    incarnation: int
    parent_pid: int


class StartActor(Control, frozen=True):
    """Become a role: recover its state, start its driver, report `Serving`."""

    spec: ChildSpec
    context: RunContext
    incarnation: int
    parent_pid: int


class Hatched(Control, frozen=True):
    """The process is there (nothing recovered yet): from now on it can be killed by its pid."""

    role: str
    incarnation: int
    process: ProcessIdentity


class Serving(Control, frozen=True):
    """Recovered and taking messages. For a supervisor: all its children serve, `epoch` is 0."""

    role: str
    incarnation: int
    epoch: int
    replayed: int


class Beat(Control, frozen=True):
    """Are you alive? At most one is outstanding for each child. Addresses are ports and may be another's by now, so
    this and `StopActor` name whom they mean."""

    role: str
    incarnation: int
    nonce: int


class BeatAnswered(Control, frozen=True):
    """Came through the actor's loop and, where it has one, its worker thread."""

    role: str
    incarnation: int
    nonce: int


class StopActor(Control, frozen=True):
    """End in order; the sender kills by pid what has not ended within `shutdown_s`."""

    role: str
    incarnation: int
    shutdown_s: float


class Peer(msgspec.Struct, frozen=True):
    """Where a role lives now."""

    role: str
    address: object
    epoch: int


class PeerUp(Control, frozen=True):
    """A leaf serves; passed up to the root, which keeps the table."""

    peer: Peer


class Peers(Control, frozen=True):
    """The whole table, passed down to every leaf; an older version never replaces a newer."""

    version: int
    table: tuple[Peer, ...]


class Post(Control, frozen=True):
    """Envelopes on their way between two hosts, in order, with what transport credit is counted by.

    `number` counts all that this incarnation of the sender sent to this one of the target, from 1. The envelope's own
    epoch will not do: one that is owed since before a restart carries the old.
    """

    sender: str
    sender_epoch: int
    number: int
    envelopes: tuple[Envelope, ...]

    def __reduce__(self) -> tuple[Callable[[bytes], Post], tuple[bytes]]:
        """Pickled as the journal writes it, which takes a tenth of pickling each message's class by name."""
        return _post, (_encode(self),)


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Post)


def _post(written: bytes) -> Post:
    return _decoder.decode(written)


class Seen(Control, frozen=True):
    """Transport credit: of your posts in `sender_epoch` to this epoch of `role`, all up to `number` are handled."""

    role: str
    epoch: int
    sender_epoch: int
    number: int


class Ask(Control, frozen=True):
    """From outside the tree (the guardian's start-up): answer `Answer` once everything serves."""


class Answer(Control, frozen=True):
    """The whole tree serves."""

    root: ProcessIdentity
    admin_pid: int
