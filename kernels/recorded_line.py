"""One entry of a recording by itself, whichever form it has: a line of text, or a record of a capture file."""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import Final, NamedTuple

from kernels.record_index import ASKED, DEPTH, EPOCH, FRAME, SLOT, SNAPSHOT, STATE, UNKNOWN, UNSPLICED


class LineKind(enum.Enum):
    """What an entry is. Those from SLOT on come from capture files alone (`kernels.capture_records`)."""

    FRAME = enum.auto()
    EPOCH = enum.auto()
    """The begin of a connection: nothing of it that was known before counts."""
    NOTE = enum.auto()
    BAD = enum.auto()
    SLOT = enum.auto()
    ASKED = enum.auto()
    SNAPSHOT = enum.auto()
    STATE = enum.auto()
    DEPTH = enum.auto()
    """A frame of a connection of depth."""
    UNSPLICED = enum.auto()
    """A frame of a connection of depth whose recording has no snapshots."""


LINE_KINDS: Final = {
    FRAME: LineKind.FRAME,
    EPOCH: LineKind.EPOCH,
    SLOT: LineKind.SLOT,
    ASKED: LineKind.ASKED,
    SNAPSHOT: LineKind.SNAPSHOT,
    STATE: LineKind.STATE,
    UNKNOWN: LineKind.BAD,
    DEPTH: LineKind.DEPTH,
    UNSPLICED: LineKind.UNSPLICED,
}
"""Of the records of a capture file."""


class RecordedLine(NamedTuple):
    """One entry. `received_ns` is 0 where it has no time; `frame` is a record's payload where it is no frame."""

    kind: LineKind
    received_ns: int
    frame: bytes


def parse_line(line: bytes) -> RecordedLine:
    """Take a recorded line apart. Never raises.

    `<time> <frame>` with the time in whole nanoseconds; `<time>: <frame>` or a time with a point, in seconds;
    `<address> -> <time>: <reply>` for a REST reply; a bare frame. Notes: a blank line, `<address> <-> <time>`, and
    `configuration: …`.
    """
    text = line.strip()
    if text.startswith(b"{"):
        return RecordedLine(LineKind.FRAME, 0, text)
    if b"://" in text[:16]:
        _, arrow, rest = text.partition(b" -> ")
        if not arrow:
            return RecordedLine(LineKind.NOTE if b" <-> " in text else LineKind.BAD, 0, b"")
        text = rest
    stamp, _, frame = text.partition(b" ")
    if not text or stamp == b"configuration:":
        return RecordedLine(LineKind.NOTE, 0, b"")
    received_ns = _nanoseconds(stamp)
    if received_ns is None or not frame:
        return RecordedLine(LineKind.BAD, received_ns or 0, b"")
    return RecordedLine(LineKind.FRAME, received_ns, frame.strip())


def _nanoseconds(stamp: bytes) -> int | None:
    """Return a recorded time in nanoseconds, exactly; None if it is none (a sign, an exponent, over 40 characters)."""
    in_seconds = stamp.endswith(b":") or b"." in stamp
    text = stamp.removesuffix(b":")
    if not text.isascii() or len(text) > 40 or not text.replace(b".", b"", 1).isdigit():
        return None
    received_ns = int(Decimal(text.decode()) * 10**9) if in_seconds else int(text)
    return received_ns if received_ns < 2**62 else None
