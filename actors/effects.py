"""What a reducer wants done, as data. The shell runs effects after the append, in order, and only then.

Effects are volatile: a crash between append and effect loses them. What must survive is either owed (`Send` with
`owed=True`, kept in the outbox until acknowledged), part of the append itself (`Project`), or asked for again by the
reducer when it sees `Recovered`. A submission to a venue is never asked for again by anybody but the reconciler.
"""

from __future__ import annotations

import enum

import msgspec

from actors.messages import AnyMessage


class Severity(enum.StrEnum):
    """How loud an alarm is."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Send(msgspec.Struct, frozen=True, gc=False):
    """A message to a role. Owed: delivered exactly once and in order, across crashes of both. Else at most once."""

    target: str
    body: AnyMessage
    owed: bool = False
    correlation_id: str = ""


class StartTimer(msgspec.Struct, frozen=True, gc=False):
    """`TimerFired(name)` after this long; starting a name again moves it. Timers die with their incarnation."""

    name: str
    after_ns: int


class CancelTimer(msgspec.Struct, frozen=True, gc=False):
    """Forget a timer; one that is not running is no error."""

    name: str


class Drive(msgspec.Struct, frozen=True, gc=False):
    """A command for the actor's own driver (venue session, socket, …)."""

    command: AnyMessage


class Project(msgspec.Struct, frozen=True, gc=False):
    """Write one field of a projection hash, in the same script as the append. `value` empty: delete the field.

    A row is written as JSON, by the shell: a fold, which writes nothing, is not to pay for its text.
    """

    key_type: str
    symbol: str
    field: str
    value: bytes | msgspec.Struct


class AckStream(msgspec.Struct, frozen=True, gc=False):
    """Acknowledge a bus entry: its outcome is in the journal."""

    stream: str
    entry_id: str


class Publish(msgspec.Struct, frozen=True, gc=False):
    """Append a message to a bus stream."""

    stream: str
    body: AnyMessage


class AppendLine(msgspec.Struct, frozen=True, gc=False):
    """Append a message to a JSON-lines file of the run directory, `<file>.jsonl`."""

    file: str
    body: AnyMessage


class Count(msgspec.Struct, frozen=True, gc=False):
    """Add to a named counter of this actor."""

    name: str
    by: int = 1


class RaiseAlarm(msgspec.Struct, frozen=True, gc=False):
    """Set an alarm; raising one that stands updates its text and its count.

    `for_a_person`: what it tells of has happened, and no later fact undoes it. It stands until a person acknowledges it
    (or the role clears it), as part of the actor's state: through a crash, a restart and the loss of the bus.
    """

    name: str
    severity: Severity
    text: str
    for_a_person: bool = False


class ClearAlarm(msgspec.Struct, frozen=True, gc=False):
    """The condition is over; clearing what is not raised is no error. `why`: a person's word, where that cleared it."""

    name: str
    why: str = ""


class LatchHalt(msgspec.Struct, frozen=True, gc=False):
    """Latch the halt, and with `flatten` order positions closed; durable when the next effect runs.

    The role learns that it stands by `HaltChanged`, as everybody does; until then it asks again when it recovers.
    """

    reason: str
    flatten: bool = False


Effect = (
    Send
    | StartTimer
    | CancelTimer
    | Drive
    | Project
    | AckStream
    | Publish
    | AppendLine
    | Count
    | RaiseAlarm
    | ClearAlarm
    | LatchHalt
)
