"""What one run started, written down so that the next run can clear exactly that and nothing else.

A pid alone proves nothing: every process is named with its start, and killed only if pid, start and session are those
recorded. Processes that were not recorded one by one (actors) are known by the run's *mark*: a file in the run
directory that the guardian holds open, so that whatever is forked from it, at whatever depth, holds it too.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]

from supervisors.lifeline import ProcessIdentity, ProcessWatch, kill_if_same

RECORD_NAME = "session.json"
MARKS_NAME = "marks"
RUN_ID_VARIABLE = "APEX_RUN_ID"
"""Set it in the environment of programs that are executed, not forked: they do not hold the mark."""
CLEAR_PASSES_MAX = 10
GONE_TIMEOUT_S = 5.0


class StaleProcessesRemain(RuntimeError):
    """Some of an earlier run's processes cannot be ended; the text names them."""


class RecordedProcess(msgspec.Struct, frozen=True):
    """A process and the session it was in when it was written down."""

    identity: ProcessIdentity
    session: int


class Cleared(msgspec.Struct, frozen=True):
    """One process that was ended, and how it was known to be the old run's."""

    pid: int
    known_by: str
    command: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command}), known by {self.known_by}"


class SessionRecord(msgspec.Struct, frozen=True):
    """What the guardian has started, as of the last `save`."""

    run_id: str
    guardian: ProcessIdentity | None
    processes: tuple[RecordedProcess, ...]
    marks: tuple[str, ...] = ()
    """Absolute paths of files that this run's forked processes hold open."""

    @classmethod
    def of(
        cls, run_id: str, engine: tuple[ProcessIdentity, ...], outside: tuple[ProcessIdentity, ...] = ()
    ) -> SessionRecord:
        """These processes of the calling guardian's; one that is gone already is left out."""
        recorded = []
        for identity in (*engine, *outside):
            with contextlib.suppress(ProcessLookupError):
                recorded.append(RecordedProcess(identity, os.getsid(identity.pid)))
        return cls(run_id, ProcessIdentity.of(os.getpid()), tuple(recorded))

    def save(self, run_dir: Path) -> None:
        """Replace the record on disk, so that after any crash either the old or the new one is there."""
        record = self
        if self.guardian is not None:
            record = msgspec.structs.replace(self, marks=(str(mark_path(run_dir, self.guardian)),))
        temporary = run_dir / f".{RECORD_NAME}.{os.getpid()}"
        with temporary.open("wb") as file:
            file.write(msgspec.json.encode(record))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(run_dir / RECORD_NAME)
        _sync_folder(run_dir)

    @classmethod
    def load(cls, run_dir: Path) -> SessionRecord | None:
        """What earlier runs left; None if nothing. To be called by the holder of the lock.

        Marks count even without a record: a run may have died before it wrote one. A record that cannot be read is
        as good as none.
        """
        marks = {str(path) for path in (run_dir / MARKS_NAME).glob("*")}
        marks.discard(str(mark_path(run_dir, ProcessIdentity.of(os.getpid()))))
        try:
            record = msgspec.json.decode((run_dir / RECORD_NAME).read_bytes(), type=cls)
        except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
            return cls("", None, (), tuple(sorted(marks))) if marks else None
        return msgspec.structs.replace(record, marks=tuple(sorted(marks | set(record.marks))))

    @staticmethod
    def clear(run_dir: Path) -> None:
        """Forget the record: everything it named has been stopped."""
        (run_dir / RECORD_NAME).unlink(missing_ok=True)
        _sync_folder(run_dir)


def mark_path(run_dir: Path, guardian: ProcessIdentity) -> Path:
    """The mark of this guardian's run."""
    # The end of the start time tells runs with the same pid apart; the boot id at its front does not matter here.
    return run_dir.resolve() / MARKS_NAME / f"{guardian.pid}-{guardian.started_at[-12:].replace(':', '_')}"


def clear_stale(record: SessionRecord) -> tuple[Cleared, ...]:
    """Kill what is left of the recorded run and wait until it is gone; return what was killed, in that order.

    The guardian itself is not among it: it holds the lock while it lives. Marks of runs that have nothing left are
    removed.

    Raises:
        StaleProcessesRemain: something survives SIGKILL for five seconds, or new ones keep appearing.
    """
    cleared: list[Cleared] = []
    for _ in range(CLEAR_PASSES_MAX):
        found = _left_of(record)
        if not found:
            for mark in record.marks:
                Path(mark).unlink(missing_ok=True)
            return tuple(cleared)
        for identity, known_by in found.items():
            cleared.append(Cleared(identity.pid, known_by, _command(identity.pid)))
            kill_if_same(identity, signal.SIGKILL)
        await_gone(tuple(found))
    raise StaleProcessesRemain(f"processes of an earlier run keep appearing; so far: {'; '.join(map(str, cleared))}")


def await_gone(identities: tuple[ProcessIdentity, ...]) -> None:
    """Wait for the end of processes that were killed. Raises StaleProcessesRemain."""
    for identity in identities:
        watch = ProcessWatch(identity)
        try:
            if not watch.wait(GONE_TIMEOUT_S):
                raise StaleProcessesRemain(f"pid {identity.pid} ({_command(identity.pid)}) does not end by SIGKILL")
        finally:
            watch.close()


def _left_of(record: SessionRecord) -> dict[ProcessIdentity, str]:
    found: dict[ProcessIdentity, str] = {}
    for process in record.processes:
        with contextlib.suppress(ProcessLookupError):
            if process.identity.is_alive() and os.getsid(process.identity.pid) == process.session:
                found[process.identity] = "the record"
    untouchable = _self_and_ancestors()
    for pid in psutil.pids():
        known_by = _evidence(pid, record)
        if known_by and pid not in untouchable:
            with contextlib.suppress(ProcessLookupError):
                identity = ProcessIdentity.of(pid)
                if identity.is_alive():
                    found.setdefault(identity, known_by)
    return found


def _evidence(pid: int, record: SessionRecord) -> str:
    """Why this process is the recorded run's; empty if nothing proves it."""
    if any(holds_open(pid, mark) for mark in record.marks):
        return "the mark"
    try:
        started_by = psutil.Process(pid).environ().get(RUN_ID_VARIABLE)
    except (psutil.Error, OSError):
        return ""
    return "its environment" if record.run_id and started_by == record.run_id else ""


def holds_open(pid: int, name: str) -> bool:
    """Whether the process has this file open (deleted or not), or this pipe (`pipe:[inode]`, Linux only).

    False for processes of others, and for those that are gone.
    """
    wanted = (name, f"{name} (deleted)")
    if os.path.isdir("/proc/self/fd"):
        try:
            entries = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            return False
        return any(_link(f"/proc/{pid}/fd/{entry}") in wanted for entry in entries)
    try:
        return any(file.path in wanted for file in psutil.Process(pid).open_files())
    except (psutil.Error, OSError):
        return False


def _link(path: str) -> str:
    """Where it leads; nowhere if it was closed meanwhile, which says nothing of the others."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _self_and_ancestors() -> set[int]:
    mine = psutil.Process()
    return {mine.pid, *(parent.pid for parent in mine.parents())}


def _command(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        return " ".join(process.cmdline())[:80] or str(process.name())
    except psutil.Error:
        return "gone"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
