"""The executor's driver: how markets stand in the book image, the lines of outcomes, a person's word to go on.

Commands: `StartExecutor`, `ReadQuotes`, `WriteCycleLine`. Events: `QuotesRead` for each `ReadQuotes`, whatever the
image does: without one no market is live; `CycleLineWritten` once a line is in the file; `CyclesResumed` when
`cycles_resume.json` in the run directory says something new (looked for four times a second, and told anew by each
incarnation: the executor knows which it has had). A line is written once: on the first one the lines that are there
are looked through, and a half line that a crash left is ended.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

import msgspec

from actors.adapters.driver_thread import DriverThread
from actors.adapters.image_file import MappedImage, find_image
from actors.adapters.line_file import LineFile
from actors.age_limits import AgeClasses, age_limit_ns
from actors.messages import (
    AnyMessage,
    CycleLineWritten,
    CyclesResumed,
    Quote,
    QuotesRead,
    ReadQuotes,
    StartExecutor,
    WriteCycleLine,
)
from actors.ports import Clock
from kernels.book_image import ImageError, Verdict

LOOK_S: Final = 0.25
LINES_NAME: Final = "cycles.jsonl"
RESUME_NAME: Final = "cycles_resume.json"
NO_IMAGE: Final = "no_image"
NOT_LISTED: Final = "not_listed"
RESUME_BYTES_MAX: Final = 4_096


class ExecutorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`lines_mb_max`: as for all lines; then a second file begins, and the one before the last goes."""

    role: str
    run_dir: str
    age_ms_max: int = 5_000
    age_classes: AgeClasses = ()
    header_stale_ms: int = 250
    lines_mb_max: int = 64


class _Written(msgspec.Struct):
    """What is looked at of a line."""

    attempt_id: str


class CycleLines:
    """The file of outcomes. `write` is idempotent over restarts, as far back as the two files reach."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._file = LineFile(folder / LINES_NAME, bytes_max)
        self._known: set[str] | None = None

    def write(self, command: WriteCycleLine) -> bool:
        """Append the outcome's line unless it is there; return whether it was written. Raises OSError."""
        if self._known is None:
            self._known = self._read()
        if command.outcome.attempt_id in self._known:
            return False
        self._file.append(msgspec.json.encode(command.outcome) + b"\n")
        self._known.add(command.outcome.attempt_id)
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self) -> set[str]:
        known: set[str] = set()
        path = self._file.path
        for one in (path.with_name(path.name + ".1"), path):
            if not one.exists():
                continue
            with open(one, "rb") as lines:
                for line in lines:
                    try:
                        known.add(msgspec.json.decode(line, type=_Written).attempt_id)
                    except msgspec.DecodeError:
                        continue  # a half line: its outcome is written again, whole
        _end_half_line(path)
        return known


class ExecutorDriver(DriverThread):
    """`HostedDriver`; see the module."""

    def __init__(self, options: ExecutorOptions, clock: Clock) -> None:
        super().__init__(options.role)
        self._options, self._clock = options, clock
        self._run_dir = Path(options.run_dir)
        self._mapped: MappedImage | None = None
        self._rows: dict[str, int] = {}
        self._lines = CycleLines(self._run_dir / "lines", options.lines_mb_max << 20)
        self._resumed_ns = 0

    @property
    def counters(self) -> dict[str, int]:
        """What this thread counted, for the health board."""
        return dict(self.worker.progress)

    # ---- on the loop

    def handle(self, command: AnyMessage) -> None:
        """Take a command."""
        match command:
            case StartExecutor():
                self.worker.spawn(self._watch(), "executor")
            case ReadQuotes():
                self.worker.emit(self._read(command))
            case WriteCycleLine():
                self.worker.count("lines_written" if self._lines.write(command) else "lines_there_already")
                self.worker.emit(CycleLineWritten(command.outcome.attempt_id))
            case _:
                raise AssertionError(f"an executor's driver takes no {type(command).__name__}")

    def ended(self) -> None:
        """Close the file."""
        self._lines.close()

    async def _watch(self) -> None:
        while True:
            self._map()
            word = read_resume(self._run_dir)
            if word is not None and word.at_ns > self._resumed_ns:
                self._resumed_ns = word.at_ns
                self.worker.emit(word)
            await asyncio.sleep(LOOK_S)

    def _map(self) -> None:
        """Map the run's image; look each time whether another took its place."""
        try:
            if self._mapped is not None and self._mapped.is_current():
                return
            self._mapped, self._rows = None, {}
            mapped = find_image(self._run_dir, writable=False)
        except (ImageError, OSError):
            self._mapped = None
            self.worker.count("image_unreadable")  # the book makes it anew; until then nothing is live
            return
        if mapped is not None:
            self._mapped = mapped
            self._rows = {symbol.name: row for row, symbol in enumerate(mapped.record.symbols)}
            self.worker.count("images_mapped")
            if self._rows:
                mapped.image.read_live_row(0, self._clock.now_ns())  # compiled, or fetched, before it is waited for

    def _read(self, command: ReadQuotes) -> QuotesRead:
        self._map()
        now_ns = self._clock.now_ns()
        self.worker.count("quotes_read")
        return QuotesRead(command.request_id, tuple(self._quote(name, now_ns) for name in command.symbols), now_ns)

    def _quote(self, symbol: str, now_ns: int) -> Quote:
        if self._mapped is None:
            return Quote(symbol, NO_IMAGE, 0, 0, 0, 0, 0, 0)
        row = self._rows.get(symbol)
        if row is None:
            return Quote(symbol, NOT_LISTED, 0, 0, 0, 0, 0, 0)
        options = self._options
        age_ns_max = age_limit_ns(symbol, options.age_ms_max, options.age_classes)
        verdict, found = self._mapped.image.read_live_row(row, now_ns, age_ns_max, options.header_stale_ms * 1_000_000)
        if found is None:
            return Quote(symbol, verdict.name.lower(), 0, 0, 0, 0, 0, 0)
        if verdict is Verdict.INVALID:
            # One-sided, crossed or unparsed: its figures are no prices, not even stale ones.
            return Quote(symbol, "invalid", 0, 0, 0, 0, found.sequence, now_ns - found.received_ns)
        return Quote(
            symbol,
            verdict.name.lower(),
            found.bid_px,
            found.bid_qty,
            found.ask_px,
            found.ask_qty,
            found.sequence,
            now_ns - found.received_ns,
        )


def read_resume(run_dir: Path) -> CyclesResumed | None:
    """Return a person's word, None where there is none (or none that can be read)."""
    try:
        with open(run_dir / RESUME_NAME, "rb") as file:
            return msgspec.json.decode(file.read(RESUME_BYTES_MAX), type=CyclesResumed)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_resume(run_dir: Path, word: CyclesResumed) -> None:
    """Leave a person's word for the executor, durably. Raises OSError."""
    draft = run_dir / (RESUME_NAME + ".draft")
    with open(draft, "wb") as file:
        file.write(msgspec.json.encode(word))
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, run_dir / RESUME_NAME)


def _end_half_line(path: Path) -> None:
    try:
        with open(path, "r+b") as file:
            if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                file.write(b"\n")
    except FileNotFoundError:
        return
