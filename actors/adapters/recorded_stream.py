"""The frames of a recording with their times, whichever form it has: a capture file, or lines of `<time> <frame>`; and
whose frames they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from actors.adapters.capture_file import frame_kind, is_capture, previous, read_capture, read_slot
from actors.adapters.recorded import RecordedFileError, read_lines
from kernels.capture_records import SlotRecord
from kernels.record_index import FRAME
from kernels.recorded_line import LINE_KINDS, RecordedLine, parse_line


def recorded_lines(path: Path, warn: Callable[[str], None]) -> Iterator[RecordedLine]:
    """Yield a recording's lines, with times that never fall, so that a line keeps its place in its file.

    Of a capture file the one before it, where it lies beside, comes first. A file that breaks off is read as far as it
    goes, and `warn` is told. Raises RecordedFileError where it cannot be opened.
    """
    latest_ns = 0
    try:
        for line in _captured(path) if _is_capture(path) else map(parse_line, read_lines(path)):
            latest_ns = max(latest_ns, line.received_ns)
            yield line._replace(received_ns=latest_ns)
    except RecordedFileError as damage:
        warn(str(damage))


def recordings(paths: Sequence[Path]) -> list[Path]:
    """Return the recordings that these files are: each once, and a capture's file before it not for itself."""
    before = {previous(path) for path in paths}
    return [path for path in dict.fromkeys(paths) if path not in before]


def recorded_slots(paths: Sequence[Path]) -> dict[int, SlotRecord]:
    """Return whose frames each recording holds, by its number, where it says so; one that cannot be read does not."""
    slots: dict[int, SlotRecord] = {}
    for number, path in enumerate(paths):
        try:
            slot = read_slot(path)
        except OSError:
            continue  # whoever reads its lines says so
        if slot is not None:
            slots[number] = slot
    return slots


def _is_capture(path: Path) -> bool:
    try:
        return is_capture(path)
    except OSError as error:
        raise RecordedFileError(f"{path}: {error.strerror or error}; check the path") from error


def _captured(path: Path) -> Iterator[RecordedLine]:
    before = previous(path)
    for part in (before, path) if before.exists() else (path,):
        of_frames = frame_kind(part)
        for kind, received_ns, payload in read_capture(part):
            yield RecordedLine(LINE_KINDS[of_frames if kind == FRAME else kind], received_ns, payload)
