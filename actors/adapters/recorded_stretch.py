"""Recordings in stretches: read in large pieces, their entries found in compiled code, several files merged by time.

The entries, their times and their order are those of `recorded_lines` merged by receive time (of equal times the file
named first comes first); only the form is another, for `kernels.replay.Replay.apply_stretch`. Times never fall within a
file. Memory: a piece a file, CHUNK_BYTES or the longest line.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from actors.adapters.capture_file import MAGIC, frame_kind, is_capture, previous
from actors.adapters.recorded import LINE_BYTES_MAX, RecordedFileError, named_errors, open_recorded
from kernels.frame_scan import TEXT_PADDING
from kernels.record_index import FRAME, OTHER, index_capture, index_lines
from kernels.recorded_line import parse_line
from kernels.replay import Stretch

CHUNK_BYTES: Final = 1 << 21
ENTRIES_MAX: Final = 1 << 15

Int64s = npt.NDArray[np.int64]
Uint8s = npt.NDArray[np.uint8]


class Piece(NamedTuple):
    """Entries of one file, in its order; see `Stretch`."""

    times: Int64s
    starts: Int64s
    lengths: Int64s
    kinds: Uint8s
    text: Uint8s

    def split(self, count: int) -> tuple[Piece, Piece]:
        """Return the first entries and the rest, of the same text."""
        first = Piece(self.times[:count], self.starts[:count], self.lengths[:count], self.kinds[:count], self.text)
        rest = Piece(self.times[count:], self.starts[count:], self.lengths[count:], self.kinds[count:], self.text)
        return first, rest


def recorded_stretches(paths: Sequence[Path], warn: Callable[[str], None]) -> Iterator[Stretch]:
    """Yield all entries of the files. A file that breaks off is read as far as it goes, and `warn` is told of it.

    Raises RecordedFileError for one that cannot be opened, when it is first read.
    """
    files = [_pieces(path, warn) for path in paths]
    waiting: list[Piece | None] = [next(file, None) for file in files]
    while any(piece is not None for piece in waiting):
        taken = _due([piece for piece in waiting if piece is not None])
        numbers = [number for number, piece in enumerate(waiting) if piece is not None]
        parts: list[Piece] = []
        for number, count in zip(numbers, taken, strict=True):
            piece = waiting[number]
            assert piece is not None
            part, rest = piece.split(count)
            parts.append(part)
            waiting[number] = rest if len(rest.times) else next(files[number], None)
        yield _merged(parts, numbers)


def _due(pieces: list[Piece]) -> list[int]:
    """Return how many entries of each can be merged now: nothing that a file still holds back may come before them."""
    if len(pieces) == 1:
        return [len(pieces[0].times)]
    limit = min(int(piece.times[-1]) for piece in pieces)
    counts = [int(np.searchsorted(piece.times, limit, side="left")) for piece in pieces]
    if any(counts):
        return counts
    # All begin at the limit or later: of equal times the first file's come first, whatever it still holds back.
    first = next(number for number, piece in enumerate(pieces) if piece.times[0] == limit)
    counts[first] = int(np.searchsorted(pieces[first].times, limit, side="right"))
    return counts


def _merged(parts: list[Piece], numbers: list[int]) -> Stretch:
    sources = np.repeat(np.arange(len(parts)), [len(part.times) for part in parts])
    columns = [np.concatenate(column) for column in list(zip(*parts, strict=True))[:4]]
    if sum(len(part.times) > 0 for part in parts) > 1:
        order = np.argsort(columns[0], kind="stable")
        sources, columns = sources[order], [column[order] for column in columns]
    times, starts, lengths, kinds = columns
    return Stretch(times, sources, starts, lengths, kinds, [part.text for part in parts], numbers)


def _pieces(path: Path, warn: Callable[[str], None]) -> Iterator[Piece]:
    """Yield a recording piece by piece, with times that never fall."""
    latest_ns = 0
    try:
        with named_errors(path):
            captured = is_capture(path)
        parts = [part for part in (previous(path), path) if part == path or part.exists()] if captured else [path]
        for part in parts:
            with named_errors(part):
                of_frames = frame_kind(part) if captured else FRAME
            for piece in _indexed(part, captured):
                if len(piece.times):
                    piece.kinds[piece.kinds == FRAME] = of_frames
                    piece.times[0] = max(piece.times[0], latest_ns)
                    np.maximum.accumulate(piece.times, out=piece.times)
                    latest_ns = int(piece.times[-1])
                    yield piece
    except RecordedFileError as damage:
        warn(str(damage))


def _indexed(path: Path, captured: bool) -> Iterator[Piece]:
    """Yield the entries of one file as they lie there. Raises RecordedFileError at the damage, after what is before."""
    find = index_capture if captured else index_lines
    with named_errors(path), open_recorded(path) as file:
        if captured:
            file.read(len(MAGIC))
        left, more, damage = b"", 0, None
        while True:
            content, is_over, damage = _filled(file, left, max(CHUNK_BYTES, more))
            if is_over and damage is None and not captured and content and not content.endswith(b"\n"):
                content += b"\n"
            text = np.frombuffer(content + bytes(TEXT_PADDING), dtype=np.uint8).copy()
            columns = tuple(np.zeros(ENTRIES_MAX, dtype=np.int64) for _ in range(3))
            kinds = np.zeros(ENTRIES_MAX, dtype=np.uint8)
            count = int(find(text, len(content), *columns, kinds))
            if count == 0 and damage is not None:
                raise damage
            if count == 0 and is_over:
                return  # what is left is cut off
            if count == 0 and len(content) > LINE_BYTES_MAX:
                raise RecordedFileError(f"{path}: a line of more than {LINE_BYTES_MAX} bytes; is it a recording?")
            times, starts, lengths = (column[:count] for column in columns)
            left = content[int(starts[-1] + lengths[-1]) + (not captured) :] if count else content
            more = 0 if count else 2 * len(content)
            for entry in np.flatnonzero(kinds[:count] == OTHER).tolist():
                times[entry] = parse_line(content[starts[entry] : starts[entry] + lengths[entry]]).received_ns
            if count:
                yield Piece(times, starts, lengths, kinds[:count], text)


def _filled(file: IO[bytes], left: bytes, bytes_min: int) -> tuple[bytes, bool, Exception | None]:
    """Return what was left over with more to `bytes_min` at least, whether the file is over, and what damaged it."""
    parts, size = [left], len(left)
    while size < bytes_min:
        try:
            part = file.read1(CHUNK_BYTES)  # type: ignore[attr-defined]
        except (EOFError, OSError, zlib.error) as damage:
            return b"".join(parts), True, damage
        if not part:
            return b"".join(parts), True, None
        parts.append(part)
        size += len(part)
    return b"".join(parts), False, None
