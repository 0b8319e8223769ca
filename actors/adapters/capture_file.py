"""Frames as they came, in a bounded binary file, so that any stretch can be replayed exactly.

A file begins with `MAGIC`; a record is a receive time and a length, little-endian int64 and uint32, then so many bytes:
a frame. A length of `EPOCH_MARK` is no frame: an epoch of the slot began then, and no row from before it counts. With
its highest bit set it is one of `kernels.capture_records`, of the kind in the next three bits. Files with `MAGIC_OLD`
have frames and marks alone.

Two files a slot: at `bytes_max` the current one takes the place of the one before, so that read one after the other
they are one stretch without a hole. The head of each says whose it is and, where it begins within an epoch, what the
fold knew then, so that it is a stretch by itself. A head takes half the file at most: what does not fit is left out
(`states_left_out`), and counts in a replay from there only by its next frame or snapshot. A record cut off at the end
(the writer died) is no record.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from kernels.capture_records import BookState, SlotRecord, TickerState, decode_slot, encode
from kernels.depth_frames import names_depth
from kernels.record_index import (
    DEPTH,
    EPOCH,
    EPOCH_MARK,
    FRAME,
    KIND_SHIFT,
    LENGTH_MASK,
    NO_FRAME,
    RECORD_HEAD_BYTES,
    SLOT,
    STATE,
    UNKNOWN,
    UNSPLICED,
)

MAGIC: Final = b"APEXCAP2"
MAGIC_OLD: Final = b"APEXCAP1"
_RECORD: Final = struct.Struct("<qI")
_KIND_BITS: Final = 7

States = Callable[[], Iterable[tuple[int, TickerState | BookState]]]
"""What a fold knows, each with its time; asked for where a file begins."""


class Record(NamedTuple):
    """One of a file's. `kind`: of `kernels.record_index`; an EPOCH has no payload."""

    kind: int
    received_ns: int
    payload: bytes


class CaptureFile:
    """Appends; buffered by the system alone after `flush`, which the owner calls about once a second."""

    def __init__(self, path: Path, bytes_max: int, slot: SlotRecord | None = None) -> None:
        """Without a `slot` the file does not say whose it is: of tickers."""
        self.path, self.bytes_max, self.states_left_out = path, bytes_max, 0
        self._slot = slot
        self._states: States = tuple
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._fresh()

    def follow(self, states: States) -> None:
        """Write what `states` gives to the head of each file from now on."""
        self._states = states

    def batches(self, frames: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
        """Split frames so that each part fits into the present file.

        Between two parts the file may be changed: each must have been written, and folded, before the next is asked
        for, since the head of the next file has what is known by then.
        """
        room = self.bytes_max - self._file.tell()
        if sum(map(len, frames)) + RECORD_HEAD_BYTES * len(frames) <= room:
            yield frames
            return
        begin = 0
        for at, frame in enumerate(frames):
            size = RECORD_HEAD_BYTES + len(frame)
            if size > room:
                if at > begin:
                    yield frames[begin:at]
                begin = at
                self._make_room(size)
                room = self.bytes_max - self._file.tell()
            room -= size
        yield frames[begin:]

    def write(self, received_ns: int, frame: bytes) -> None:
        """Append a frame. Raises OSError."""
        self._make_room(RECORD_HEAD_BYTES + len(frame))
        self._file.write(_RECORD.pack(received_ns, len(frame)))
        self._file.write(frame)

    def note(self, kind: int, received_ns: int, payload: bytes) -> None:
        """Append one of `kernels.capture_records` that is about to take effect. Raises OSError."""
        self._make_room(RECORD_HEAD_BYTES + len(payload))
        self._put(kind, received_ns, payload)

    def mark_epoch(self, now_ns: int) -> None:
        """Note that an epoch began. Raises OSError."""
        self._make_room(RECORD_HEAD_BYTES)
        self._file.write(_RECORD.pack(now_ns, EPOCH_MARK))

    def flush(self) -> None:
        """Hand what is buffered to the system."""
        self._file.flush()

    def close(self) -> None:
        """Close."""
        self._file.close()

    def _make_room(self, size: int) -> None:
        """Begin the next file where the present one is full; one that has only its head takes anything."""
        at = self._file.tell()
        if at + size > self.bytes_max and at > self._head_bytes:
            self._file.close()
            self._file = self._fresh()

    def _put(self, kind: int, received_ns: int, payload: bytes) -> None:
        self._file.write(_RECORD.pack(received_ns, NO_FRAME | kind - SLOT << KIND_SHIFT | len(payload)))
        self._file.write(payload)

    def _fresh(self) -> BinaryIO:
        if self.path.exists():
            os.replace(self.path, previous(self.path))
        file = self._file = self.path.open("wb")
        file.write(MAGIC)
        if self._slot is not None:
            self._put(SLOT, 0, encode(self._slot))
        room = self.bytes_max // 2 - file.tell()
        for received_ns, state in self._states():
            payload = encode(state)
            if RECORD_HEAD_BYTES + len(payload) > room:
                self.states_left_out += 1
                continue
            room -= RECORD_HEAD_BYTES + len(payload)
            self._put(STATE, received_ns, payload)
        self._head_bytes = file.tell()
        return file


def previous(path: Path) -> Path:
    """Return where the file before the current one is."""
    return path.with_suffix(".1" + path.suffix)


def is_capture(path: Path) -> bool:
    """Whether a file is one, by its first bytes. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) in (MAGIC, MAGIC_OLD)


def read_capture(path: Path) -> Iterator[Record]:
    """Yield the records in their order. Raises ValueError: no capture file."""
    with open(path, "rb") as file:
        if file.read(len(MAGIC)) not in (MAGIC, MAGIC_OLD):
            raise ValueError(f"{path} is no capture file")
        while len(head := file.read(_RECORD.size)) == _RECORD.size:
            received_ns, length = _RECORD.unpack(head)
            kind = FRAME
            if length == EPOCH_MARK:
                kind, length = EPOCH, 0
            elif length & NO_FRAME:
                kind = min(SLOT + (length >> KIND_SHIFT & _KIND_BITS), UNKNOWN)
            payload = file.read(length & LENGTH_MASK)
            if len(payload) < length & LENGTH_MASK:
                return
            yield Record(kind, received_ns, payload)


def frame_kind(path: Path) -> int:
    """Return what a capture file's frames are: FRAME, DEPTH, or UNSPLICED where it is of depth and has no snapshots.

    An old file does not say; its first frame does. Raises OSError; ValueError: no capture file.
    """
    for record in read_capture(path):
        if record.kind == SLOT:
            slot = decode_slot(record.payload)
            return DEPTH if slot is not None and slot.is_depth else FRAME
        if record.kind == FRAME:
            return UNSPLICED if names_depth(record.payload) else FRAME
    return FRAME


def read_slot(path: Path) -> SlotRecord | None:
    """Return whose frames a recording holds; None where it is no capture, or does not say. Raises OSError."""
    if not is_capture(path):
        return None
    first = next(read_capture(path), None)
    return decode_slot(first.payload) if first is not None and first.kind == SLOT else None
