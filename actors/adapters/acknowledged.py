"""Persons' words on alarms: `lines/acknowledged.jsonl` of the run directory, from the command line to the actors.

Written durably and only by commands, read by each host a few times a second (a stat) and whole when its actor begins.
The actor's own state says which words still mean something, so that none has to be taken out again. Bounded by two
files of `BYTES_MAX`; a line that cannot be read is no word, and the next one is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from actors.adapters.line_file import LineFile
from actors.messages import AlarmAcknowledged

BYTES_MAX: Final = 256 * 1024
NAME: Final = "acknowledged.jsonl"


class AlarmWord(msgspec.Struct, frozen=True):
    """A line: whose alarm, and what is told to that role."""

    role: str
    word: AlarmAcknowledged


class AcknowledgedFile:
    """The file of one run directory, as one process sees it."""

    def __init__(self, run_dir: Path | str) -> None:
        self.path = Path(run_dir) / "lines" / NAME
        self._stamp: tuple[int, int, int] | None = None

    def append(self, words: list[AlarmWord]) -> None:
        """Write them down; on disk on return. Raises OSError."""
        file = LineFile(self.path, BYTES_MAX)
        file.append(b"".join(msgspec.json.encode(word) + b"\n" for word in words))
        file.close()
        for path in (self.path, self.path.parent):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def news(self, role: str) -> list[AlarmAcknowledged]:
        """All words on a role's alarms if the file changed since the last call, oldest first; else nothing."""
        try:
            found = os.stat(self.path)
        except OSError:
            return []
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        if stamp == self._stamp:
            return []
        self._stamp = stamp
        return [one.word for one in self.read() if one.role == role]

    def read(self) -> list[AlarmWord]:
        """All that is kept, oldest first."""
        words = []
        for path in (self.path.with_name(NAME + ".1"), self.path):
            try:
                text = path.read_bytes()
            except OSError:
                continue
            for line in text.splitlines():
                try:
                    words.append(msgspec.json.decode(line, type=AlarmWord))
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    continue
        return words
