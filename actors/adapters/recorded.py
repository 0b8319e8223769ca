"""Recorded files as they lie: plain or gzip, told by their first bytes. Opens and reads; understands nothing."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, cast

FILE_BYTES_MAX: Final = 1 << 30
LINE_BYTES_MAX: Final = 1 << 26
_GZIP_MAGIC: Final = b"\x1f\x8b"


class RecordedFileError(RuntimeError):
    """A file that cannot be read, or not to its end; the text names it and says what to do.

    Raised after everything before the damage was given out.
    """


def read_whole(path: Path) -> bytes:
    """Return a file's content, unpacked. Raises RecordedFileError: absent, unreadable, damaged, over FILE_BYTES_MAX."""
    with named_errors(path), open_recorded(path) as file:
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise RecordedFileError(f"{path}: more than {FILE_BYTES_MAX} bytes; give a smaller file")
    return content


def is_json_array(path: Path) -> bool:
    """Say whether the content begins with `[`, which is how a snapshot is told from a stream."""
    with named_errors(path), open_recorded(path) as file:
        return file.read(64).lstrip().startswith(b"[")


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines, one in memory at a time. Raises RecordedFileError at the damage, after the lines before it.

    The cut-off last line of a gzip file that breaks off is not given out; that of a plain file cannot be told from a
    whole one and is.
    """
    with named_errors(path), open_recorded(path) as file:
        while line := file.readline(LINE_BYTES_MAX + 1):
            if len(line) > LINE_BYTES_MAX:
                raise RecordedFileError(f"{path}: a line of more than {LINE_BYTES_MAX} bytes; is it a recording?")
            yield line


class named_errors:  # noqa: N801 - used like a function
    """Turn what opening and unpacking may raise into RecordedFileError with the file's name."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, EOFError | gzip.BadGzipFile | zlib.error):
            reason = f"{self._path}: the gzip data break off or are damaged ({error}); copy or record the file again"
            raise RecordedFileError(reason) from error
        if isinstance(error, OSError):
            reason = f"{self._path}: {error.strerror or error}; check the path"
            raise RecordedFileError(reason) from error


def open_recorded(path: Path) -> IO[bytes]:
    """Open a file, unpacked where it is gzip. Raises OSError."""
    with path.open("rb") as probe:
        packed = probe.read(2) == _GZIP_MAGIC
    return cast(IO[bytes], gzip.open(path, "rb")) if packed else path.open("rb")
