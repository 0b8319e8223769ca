"""What the shell needs of the outside, as interfaces; real in `actors/adapters`, simulated in `tests/sim`.

All are called on the actor's own thread. None raises for an expected failure except where it says so.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from actors.effects import AppendLine, Publish, Severity
from actors.kept_alarms import KeptAlarm
from actors.messages import AnyMessage, Envelope


class LedgerAway(RuntimeError):
    """The ledger did not answer. Whether the last append is in it is unknown: stop, and recover from what it holds."""


class Fenced(RuntimeError):
    """Another incarnation holds this role now; this one must end without another effect."""


class LedgerCorrupt(RuntimeError):
    """The journal cannot be folded: a gap, a bad checksum in both snapshots, an unknown schema version."""


class Projection(msgspec.Struct, frozen=True):
    """A field to write (or, with an empty value, delete) in the same script as an append."""

    key_type: str
    symbol: str
    field: str
    value: bytes


class Entry(msgspec.Struct, frozen=True):
    """A journal record with its number, and the projections that become durable with it."""

    seq: int
    record: bytes
    projections: tuple[Projection, ...] = ()


class Stored(msgspec.Struct, frozen=True):
    """What the ledger holds of a role: up to two snapshots, newest first."""

    snapshots: tuple[bytes, ...]


class Ledger(Protocol):
    """One role's journal, snapshots and projections, fenced by the epoch that `acquire` drew."""

    def acquire(self) -> int:
        """Draw the role's next epoch; every write of an older one is refused from here on. Raises LedgerAway."""

    def load(self) -> Stored:
        """Return the kept snapshots. Raises LedgerAway."""

    def tail(self, after_seq: int) -> Iterator[tuple[int, bytes]]:
        """Yield (seq, record) in order, from the one after `after_seq`. Raises LedgerAway."""

    def append(self, entries: Sequence[Entry]) -> None:
        """Make them durable, in their order, before returning.

        Raises Fenced, LedgerAway, LedgerCorrupt (a seq is not the next): any number of the first may be durable then.
        """

    def save_snapshot(self, seq: int, payload: bytes) -> None:
        """Keep a snapshot that covers all up to `seq`; trim below the older of the two kept. Raises as append."""


class Transport(Protocol):
    """The control plane."""

    def send(self, envelope: Envelope) -> bool:
        """Hand over one envelope; False if nobody holds the target role now. True promises nothing."""


class Timers(Protocol):
    """Timers that call back into the shell on the actor's thread."""

    def start(self, name: str, after_ns: int) -> None:
        """Start or move."""

    def cancel(self, name: str) -> None:
        """Forget."""


class Driver(Protocol):
    """The actor's worker: a venue session, a socket, a stream reader. Its events come in through the shell."""

    def post(self, command: AnyMessage) -> None:
        """Hand over a command; waits a few milliseconds at most; the outcome comes as an event."""


class Bus(Protocol):
    """Streams and lines that leave the actor system. Losing them loses no truth; failures are counted."""

    def publish(self, effect: Publish, envelope: Envelope) -> None:
        """Append to a bus stream."""

    def acknowledge(self, stream: str, entry_id: str) -> None:
        """Acknowledge an entry for this role's group."""

    def append_line(self, effect: AppendLine, envelope: Envelope) -> None:
        """Append to a JSON-lines file."""


class Alarms(Protocol):
    """The alarm table of this actor."""

    def raise_alarm(self, name: str, severity: Severity, text: str) -> None:
        """Set or update."""

    def clear_alarm(self, name: str, why: str = "") -> None:
        """Clear; `why`: a person's word."""

    def keep_alarm(self, name: str, kept: KeptAlarm) -> None:
        """Set or update one that waits for a person, as the actor's state has it."""


class Latch(Protocol):
    """The halt latch."""

    def latch(self, reason: str, flatten: bool) -> None:
        """Latch it, durable on return; with `flatten`, order positions closed too. What stands already, stands."""


class Clock(Protocol):
    """Wall clock that never steps back within an incarnation."""

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""


class Tracer(Protocol):
    """The message trace. A record is one hop."""

    def hop(self, envelope: Envelope, received_ns: int, handled_ns: int, outcome: str) -> None:
        """Received and handled (or refused, and why)."""

    def sent(self, envelope: Envelope, sent_ns: int) -> None:
        """Handed to the transport."""


class FaultPoint(enum.StrEnum):
    """Where a fault plan may strike."""

    RECEIVE = "receive"
    BEFORE_APPEND = "before_append"
    AFTER_APPEND = "after_append"
    BEFORE_EFFECT = "before_effect"
    AFTER_EFFECT = "after_effect"
    BEFORE_SEND = "before_send"
    AFTER_SEND = "after_send"
    BEFORE_ACK = "before_ack"
    AFTER_ACK = "after_ack"


class Faults(Protocol):
    """A fault plan. Production has none (the shell is given None and pays nothing)."""

    def at(self, point: FaultPoint, envelope: Envelope | None, name: str) -> None:
        """Return, or end or hang the actor here. `name` is the type of the message or effect."""


class Ports(msgspec.Struct, frozen=True):
    """All of them, for one actor."""

    ledger: Ledger
    transport: Transport
    timers: Timers
    driver: Driver
    bus: Bus
    alarms: Alarms
    clock: Clock
    tracer: Tracer
    faults: Faults | None = None
    latch: Latch | None = None
    """None: nothing here may latch a halt."""
