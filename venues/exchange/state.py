"""What outlives the process: update ids that only rise, the epoch of the seed, the ledger of true opportunities."""

from __future__ import annotations

import fcntl
import os
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

import msgspec

# Ids are reserved on disk a block ahead: after kill -9 the next run begins above every id that may have been sent.
ID_BLOCK: Final = 1_000_000
# About 120,000 opportunities: three days at one every two seconds.
LEDGER_BYTES_MAX: Final = 64 * 1024 * 1024


class StateError(RuntimeError):
    """The state folder cannot be used; the text says why and what to do."""


class _Progress(msgspec.Struct, frozen=True):
    starts: int
    update_id_reserved: int


class OpportunityRecord(msgspec.Struct, frozen=True):
    """A line of opportunities.jsonl. The last line with an id is the one that counts.

    `opened` is written before the first frame of the opportunity leaves; `closed` after its last moment is over;
    `interrupted` by the next start, for one that stood when the process died (closed_ns is then that start's time,
    closed_update_id 0: no frame ever closed it).
    """

    id: int
    state: Literal["opened", "closed", "interrupted"]
    cycle: list[str]
    gross_return: str
    gross_return_exact: str
    symbol: str
    opened_ns: int
    closed_ns: int
    opened_update_id: int
    closed_update_id: int
    epoch: int


class StateFolder:
    """The folder of one exchange, held by an exclusive lock for as long as the process lives.

    Raises StateError where another process holds it or a file in it cannot be read. The lock falls with the process.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(
                f"the state folder {folder} cannot be made: {error.strerror}. Remedy: name another with --state DIR"
            ) from error
        self.folder = folder
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise StateError(f"{folder} is in use by another exchange; stop that one or give another --state") from None
        self._progress_path = folder / "progress.json"
        progress = self._load_progress()
        self.epoch = progress.starts
        self._next_update_id = progress.update_id_reserved + 1
        self._reserved = progress.update_id_reserved
        self._reserve()

    def next_update_id(self) -> int:
        """Return an id above every id that this folder ever gave out, in this run or an earlier one."""
        if self._next_update_id > self._reserved:
            self._reserve()
        self._next_update_id += 1
        return self._next_update_id - 1

    @property
    def last_update_id(self) -> int:
        """The id given out last."""
        return self._next_update_id - 1

    def write_address(self, address: bytes) -> None:
        """Write exchange.json whole, so that a reader never sees half of it."""
        replace_file(self.folder / "exchange.json", address)

    def close(self) -> None:
        """Take exchange.json away and let the folder go."""
        (self.folder / "exchange.json").unlink(missing_ok=True)
        os.close(self._lock)

    def _load_progress(self) -> _Progress:
        try:
            return msgspec.json.decode(self._progress_path.read_bytes(), type=_Progress)
        except FileNotFoundError:
            return _Progress(0, 0)
        except msgspec.DecodeError as error:
            raise StateError(f"{self._progress_path} cannot be read ({error}); give another --state") from None

    def _reserve(self) -> None:
        self._reserved += ID_BLOCK
        progress = _Progress(self.epoch + 1, self._reserved)
        replace_file(self._progress_path, msgspec.json.encode(progress))


class OpportunityLedger:
    """opportunities.jsonl: appended to, never rewritten; a torn last line of a killed process is cut off.

    Memory: one record, the one that stands. On disk at most twice `bytes_max`: past it the file becomes
    opportunities.old.jsonl, in place of the one before, and a new one begins with the line written last.
    """

    def __init__(self, folder: Path, epoch: int, now_ns: int, bytes_max: int = LEDGER_BYTES_MAX) -> None:
        self.path = folder / "opportunities.jsonl"
        self._epoch = epoch
        self._bytes_max = bytes_max
        # Of the lines in the file and of this run; what an older file held is not counted again.
        self.counts = {"opened": 0, "closed": 0, "interrupted": 0}
        self.standing: OpportunityRecord | None = None
        self._last_id = 0
        lost = self._read()
        self._file = self.path.open("ab", buffering=0)
        if lost is not None:
            self._append(msgspec.structs.replace(lost, state="interrupted", closed_ns=now_ns))

    def opened(
        self, cycle: list[str], symbol: str, gross: Fraction, opened_ns: int, update_id: int
    ) -> OpportunityRecord:
        """Record that one opened, before its frame is sent."""
        record = OpportunityRecord(
            id=self._last_id + 1,
            state="opened",
            cycle=cycle,
            gross_return=decimal_12(gross),
            gross_return_exact=f"{gross.numerator}/{gross.denominator}",
            symbol=symbol,
            opened_ns=opened_ns,
            closed_ns=0,
            opened_update_id=update_id,
            closed_update_id=0,
            epoch=self._epoch,
        )
        self._append(record)
        self.standing, self._last_id = record, record.id
        return record

    def closed(self, closed_ns: int, update_id: int) -> None:
        """Record that the standing one closed. Raises AssertionError where none stands."""
        assert self.standing is not None, "no opportunity stands"
        record = msgspec.structs.replace(self.standing, state="closed", closed_ns=closed_ns, closed_update_id=update_id)
        self._append(record)
        self.standing = None
        if self._file.tell() > self._bytes_max:
            self._file.close()
            os.replace(self.path, self.path.with_name("opportunities.old.jsonl"))
            self._file = self.path.open("ab", buffering=0)
            self._file.write(msgspec.json.encode(record) + b"\n")

    @property
    def count(self) -> int:
        """How many ever opened in this folder."""
        return self._last_id

    def close(self) -> None:
        """Close the file; one that stands stays open and is called interrupted at the next start."""
        self._file.close()

    def _append(self, record: OpportunityRecord) -> None:
        self._file.write(msgspec.json.encode(record) + b"\n")
        self.counts[record.state] += 1

    def _read(self) -> OpportunityRecord | None:
        """Count what is there, cut a torn last line off, and return the record that was left standing."""
        if not self.path.exists():
            return None
        content = self.path.read_bytes()
        if content and not content.endswith(b"\n"):
            whole = content.rfind(b"\n") + 1
            os.truncate(self.path, whole)
            content = content[:whole]
        standing: OpportunityRecord | None = None
        for line in content.splitlines():
            record = msgspec.json.decode(line, type=OpportunityRecord)
            self.counts[record.state] += 1
            self._last_id = max(self._last_id, record.id)
            standing = record if record.state == "opened" else None
        return standing


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that after a crash at any moment it holds the old content or the new, whole."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def decimal_12(value: Fraction) -> str:
    """Return a positive fraction with 12 places, rounded down."""
    whole, part = divmod(value.numerator * 10**12 // value.denominator, 10**12)
    return f"{whole}.{part:012d}"
