"""A file of lines that several processes may append to, bounded by two files of a size each."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class LineFile:
    """Appends to `path`; at `bytes_max` it becomes `path.1` (over the one before) and a new one begins.

    A call writes whole lines at once, so that lines of two processes never mix. Raises OSError.
    """

    def __init__(self, path: Path, bytes_max: int) -> None:
        self.path = path
        self.bytes_max = bytes_max
        self._descriptor = -1
        self._inode = 0

    def append(self, lines: bytes) -> None:
        """Write `lines`, which end in a newline."""
        size = self._current()
        if size and size + len(lines) > self.bytes_max:
            self._rotate(len(lines))
        rest = memoryview(lines)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def close(self) -> None:
        """Close; the next append opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _current(self) -> int:
        """Size of what stands under the name now, which is open on return: another process may have rotated it."""
        if self._descriptor >= 0:
            try:
                found = os.stat(self.path)
            except FileNotFoundError:
                self.close()
            else:
                if found.st_ino == self._inode:
                    return found.st_size
                self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        opened = os.fstat(self._descriptor)
        self._inode = opened.st_ino
        return opened.st_size

    def _rotate(self, coming: int) -> None:
        with open(self.path.parent / ".lock", "ab") as sidecar:
            fcntl.lockf(sidecar.fileno(), fcntl.LOCK_EX)
            if self._current() + coming > self.bytes_max:
                os.replace(self.path, self.path.with_name(self.path.name + ".1"))
                self._current()
