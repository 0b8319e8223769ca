"""Frames as they came, in a bounded binary file, so that any stretch can be replayed exactly.

A file begins with `MAGIC`; a record is the receive time and the length, little-endian int64 and uint32, then the
frame's bytes. A length of `EPOCH_MARK` is no frame: an epoch of the slot began then, and no row from before it counts.
Two files a slot: at `bytes_max` the current one takes the place of the one before, so that read one after the other
they are one stretch without a hole. A record cut off at the end (the writer died) is no record.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

MAGIC: Final = b"APEXCAP1"
EPOCH_MARK: Final = 0xFFFF_FFFF
_RECORD: Final = struct.Struct("<qI")


class CaptureFile:
    """Appends; buffered by the system alone after `flush`, which the owner calls about once a second."""

    def __init__(self, path: Path, bytes_max: int) -> None:
        self.path, self.bytes_max = path, bytes_max
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._fresh()

    def write(self, received_ns: int, frame: bytes) -> None:
        """Append a frame. Raises OSError."""
        if self._file.tell() + _RECORD.size + len(frame) > self.bytes_max:
            self._file.close()
            self._file = self._fresh()
        self._file.write(_RECORD.pack(received_ns, len(frame)))
        self._file.write(frame)

    def mark_epoch(self, now_ns: int) -> None:
        """Note that an epoch began. Raises OSError."""
        self._file.write(_RECORD.pack(now_ns, EPOCH_MARK))

    def flush(self) -> None:
        """Hand what is buffered to the system."""
        self._file.flush()

    def close(self) -> None:
        """Close."""
        self._file.close()

    def _fresh(self) -> BinaryIO:
        if self.path.exists():
            os.replace(self.path, previous(self.path))
        file = self.path.open("wb")
        file.write(MAGIC)
        return file


def previous(path: Path) -> Path:
    """Return where the file before the current one is."""
    return path.with_suffix(".1" + path.suffix)


def is_capture(path: Path) -> bool:
    """Whether a file is one, by its first bytes. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_capture(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Yield (received_ns, frame) in order, with None for the begin of an epoch. Raises ValueError: no capture file."""
    with open(path, "rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError(f"{path} is no capture file")
        while len(head := file.read(_RECORD.size)) == _RECORD.size:
            received_ns, length = _RECORD.unpack(head)
            if length == EPOCH_MARK:
                yield received_ns, None
                continue
            frame = file.read(length)
            if len(frame) < length:
                return
            yield received_ns, frame
