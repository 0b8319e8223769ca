"""State on disk: a snapshot and an append-only journal of JSON lines, one writer at a time.

    DIR/lock                    held (fcntl.lockf) while a gateway runs on the folder; its pid is inside
    DIR/snapshot.json           the whole state at the start of a generation
    DIR/journal-00000007.jsonl  the records since the snapshot of generation 7; a line is what one append wrote

`append` returns after fsync: a caller may tell the world. What one append wrote counts whole or not at all: an order
that is filled and its execution are one line. A compaction writes the next snapshot beside the old one,
renames it over, and only then starts the next journal, so a crash between any two steps loses nothing. A torn last
line is what a crash in mid-write leaves: it was never told to anyone, it is cut off and counted. A torn line
elsewhere means damage, and the start is refused.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from venues.gateway.account import AccountBase
from venues.gateway.model import Execution, Order, PriceSet, Record

SCHEMA_VERSION = 1


class StateError(Exception):
    """The state folder cannot be used; the message says which, why, and what to do."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The whole state at the start of a generation of the journal."""

    schema_version: int
    generation: int
    account: str
    base: AccountBase
    """Cash and positions before the first of `executions`."""
    orders: tuple[Order, ...] = ()
    executions: tuple[Execution, ...] = ()
    prices: tuple[PriceSet, ...] = ()
    next_ids: tuple[tuple[int, int], ...] = ()
    forgotten_ids: tuple[tuple[int, int], ...] = ()
    next_perm_id: int
    next_exec: int
    began_ns: int = 0
    """When this state first began; bars before it are made up."""
    ahead_ns: int = 0


_ENCODER = msgspec.json.Encoder(decimal_format="string")
_BATCHES = msgspec.json.Decoder(list[Record])
_SNAPSHOTS = msgspec.json.Decoder(Snapshot)


class Journal:
    """Owns the state folder from construction to `close`. Not for threads."""

    def __init__(self, folder: Path) -> None:
        """Take the folder. Raises StateError when another gateway has it."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(
                f"the state folder {folder} cannot be made: {error.strerror}. Remedy: name another with --state DIR."
            ) from error
        self.folder = folder
        self.torn_lines = 0
        self.bytes_written = 0
        self._lock = self._take_lock()
        self._generation = 0
        self._file: int | None = None

    def load(self) -> tuple[Snapshot | None, list[Record]]:
        """Return the last snapshot, if any, and the records after it, and open the journal for appending."""
        snapshot = self._read_snapshot()
        self._generation = snapshot.generation if snapshot else 0
        path = self._journal_path(self._generation)
        records = list(self._read_records(path)) if path.exists() else []
        self._open(path)
        self._remove_others()
        return snapshot, records

    @property
    def next_generation(self) -> int:
        return self._generation + 1

    def append(self, records: Sequence[Record]) -> None:
        """Write the records as one line and return once it is on disk. An error here must end the gateway."""
        if records:
            self._write(_ENCODER.encode(records) + b"\n")

    def compact(self, snapshot: Snapshot) -> None:
        """Replace snapshot and journal by this snapshot and an empty journal. Raises OSError."""
        assert snapshot.generation == self.next_generation, "a snapshot starts the next generation"
        replace_file(self.folder / "snapshot.json", _ENCODER.encode(snapshot))
        assert self._file is not None
        os.close(self._file)
        self._generation = snapshot.generation
        self._open(self._journal_path(self._generation))
        self._remove_others()

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        os.close(self._lock)

    def _write(self, data: bytes) -> None:
        assert self._file is not None, "load comes before append"
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        os.fsync(self._file)
        self.bytes_written += len(data)

    def _take_lock(self) -> int:
        path = self.folder / "lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise StateError(
                f"the state folder {self.folder} is in use by a gateway with pid {holder}. "
                f"Remedy: stop that one, or give this one a folder of its own with --state DIR."
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock

    def _journal_path(self, generation: int) -> Path:
        return self.folder / f"journal-{generation:08d}.jsonl"

    def _open(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        sync_folder(self.folder)
        self.bytes_written = os.fstat(self._file).st_size

    def _remove_others(self) -> None:
        keep = self._journal_path(self._generation)
        for path in self.folder.glob("journal-*.jsonl"):
            if path != keep:
                path.unlink()

    def _read_snapshot(self) -> Snapshot | None:
        path = self.folder / "snapshot.json"
        if not path.exists():
            return None
        try:
            snapshot = _SNAPSHOTS.decode(path.read_bytes())
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StateError(
                f"{path} cannot be read: {error}. Remedy: restore it, or start anew with --state DIR."
            ) from error
        if snapshot.schema_version != SCHEMA_VERSION:
            raise StateError(
                f"{path} has schema version {snapshot.schema_version}, this gateway reads {SCHEMA_VERSION}. "
                f"Remedy: start anew with --state DIR."
            )
        return snapshot

    def _read_records(self, path: Path) -> Iterator[Record]:
        lines = path.read_bytes().split(b"\n")
        torn = lines.pop()
        whole = sum(len(line) + 1 for line in lines)
        for number, line in enumerate(lines, start=1):
            try:
                yield from _BATCHES.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise StateError(
                    f"{path} line {number} cannot be read: {error}. Remedy: restore it, or start anew with --state DIR."
                ) from error
        if torn:
            self.torn_lines += 1
            os.truncate(path, whole)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, whole. Raises OSError."""
    beside = path.with_name(path.name + ".new")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(beside, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: a rename or a new file counts only after this. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
