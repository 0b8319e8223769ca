"""What outlives a kill: every order, trade and balance, in a journal that is on disk before anybody is told.

    DIR/trading.snapshot.json      every record as of the start of a generation
    DIR/trading-00000007.jsonl     the changes since, a line a transaction

A line counts whole or not at all. `append` returns after fsync. A torn last line was never told to anyone: it is cut
off at the next start, and counted. Damage elsewhere refuses the start. A compaction writes the next snapshot beside
the old one, renames it over, and only then begins the next journal: a crash between any two steps loses nothing.
The folder is locked by its owner, `StateFolder`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from venues.exchange.orders import AnyRecord
from venues.exchange.state import StateError

SCHEMA_VERSION: Final = 1
COMPACT_BYTES: Final = 64 * 1024 * 1024

_encode: Final = msgspec.json.Encoder().encode
_lines: Final = msgspec.json.Decoder(list[AnyRecord])


class _Snapshot(msgspec.Struct):
    schema_version: int
    generation: int
    records: list[AnyRecord]


class OrderJournal:
    """One writer, one thread. `step` is called before every single thing done to the disk, named, for tests."""

    def __init__(self, folder: Path, step: Callable[[str], None] = lambda _name: None) -> None:
        self.folder = folder
        self.torn_lines = 0
        self.bytes_written = 0
        self._step = step
        self._generation = 0
        self._file: int | None = None

    def load(self) -> list[AnyRecord]:
        """Return every record in order, and open for appending. Raises StateError where a file is damaged."""
        snapshot = self._read_snapshot()
        records = list(snapshot.records) if snapshot else []
        self._generation = snapshot.generation if snapshot else 0
        records += self._read_lines()
        self._open()
        self._remove_others()
        return records

    def append(self, records: Sequence[AnyRecord]) -> None:
        """Write a transaction and return once it is on disk. An OSError must end the exchange."""
        assert self._file is not None, "load comes before append"
        data = _encode(records) + b"\n"
        view = memoryview(data)
        self._step("write")
        while view:
            view = view[os.write(self._file, view) :]
        self._step("fsync")
        os.fsync(self._file)
        self._step("appended")
        self.bytes_written += len(data)

    def compact(self, records: Sequence[AnyRecord]) -> None:
        """Begin a new generation from records that say everything."""
        self._step("snapshot")
        snapshot = _Snapshot(SCHEMA_VERSION, self._generation + 1, list(records))
        path = self.folder / "trading.snapshot.json"
        beside = path.with_name(path.name + ".new")
        with beside.open("wb") as file:
            file.write(_encode(snapshot))
            file.flush()
            os.fsync(file.fileno())
        self._step("rename")
        os.replace(beside, path)
        _sync_folder(self.folder)
        self._step("begin")
        assert self._file is not None, "load comes before compact"
        os.close(self._file)
        self._generation += 1
        self._open()
        self._step("remove")
        self._remove_others()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @property
    def _path(self) -> Path:
        return self.folder / f"trading-{self._generation:08d}.jsonl"

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.bytes_written = os.fstat(self._file).st_size
        _sync_folder(self.folder)

    def _remove_others(self) -> None:
        for path in self.folder.glob("trading-*.jsonl"):
            if path != self._path:
                path.unlink()

    def _read_snapshot(self) -> _Snapshot | None:
        path = self.folder / "trading.snapshot.json"
        if not path.exists():
            return None
        try:
            snapshot = msgspec.json.decode(path.read_bytes(), type=_Snapshot)
        except msgspec.DecodeError as error:
            raise _damaged(path, str(error)) from None
        if snapshot.schema_version != SCHEMA_VERSION:
            raise _damaged(path, f"schema version {snapshot.schema_version}, this exchange reads {SCHEMA_VERSION}")
        return snapshot

    def _read_lines(self) -> list[AnyRecord]:
        if not self._path.exists():
            return []
        lines = self._path.read_bytes().split(b"\n")
        torn = lines.pop()
        records: list[AnyRecord] = []
        for number, line in enumerate(lines, start=1):
            try:
                records += _lines.decode(line)
            except msgspec.DecodeError as error:
                raise _damaged(self._path, f"line {number}: {error}") from None
        if torn:
            self.torn_lines += 1
            os.truncate(self._path, sum(len(line) + 1 for line in lines))
        return records


def _damaged(path: Path, why: str) -> StateError:
    return StateError(f"{path} cannot be read ({why}); restore it, or give another --state")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
