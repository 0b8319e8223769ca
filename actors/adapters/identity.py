"""The identity file: what must outlive the loss of Redis, in one small fsynced JSON file.

Holds the ledger's id, each role's highest epoch and the halt latch. Any process of the run directory may update it:
under a lock on a sidecar file, then temporary file, fsync, rename, fsync of the directory. A file that is damaged is
never recreated: that would clear a halt and let epochs fall.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

SCHEMA_VERSION = 1
LOCK_WAIT_S = 5.0
REASON_CHARS_MAX = 2_000

_UNREAD = (0, 0, 0)
"""Stamp of a file that is known to be there and has not been read since."""

_thread_lock = threading.Lock()  # a POSIX lock belongs to the process: its threads need one of their own


class IdentityDamaged(RuntimeError):
    """The file cannot be believed, or is gone though it was there."""


class IdentityBusy(RuntimeError):
    """Another process has held the lock for longer than an update can take."""


class Halt(msgspec.Struct, frozen=True):
    """The latch: why, who, when. Only a person clears it.

    `flatten`: positions are to be closed too, by whose word and since when; it goes when the latch goes.
    """

    reason: str
    by: str
    latched_ns: int
    flatten: str = ""
    flatten_by: str = ""
    flatten_ns: int = 0


class RoleMark(msgspec.Struct, frozen=True):
    """Highest `epoch` ever drawn, and what the ledger was last seen to hold: a lease of `lease_epoch`, entry `seq`."""

    epoch: int
    lease_epoch: int
    seq: int


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file's content. `confirmed`: the ledger is known to carry `ledger_id` too."""

    schema_version: int
    """Required, so that a file which lost its content is never taken for one that knows nothing."""
    ledger_id: str = ""
    confirmed: bool = False
    roles: dict[str, RoleMark] = {}
    halt: Halt | None = None
    last_cleared_by: str = ""
    last_cleared_ns: int = 0


class IdentityFile:
    """One process's view of the file. Blocking (an update is two fsyncs); safe in threads and processes alike."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._stamp: tuple[int, int, int] | None = None
        self._cached = Identity(SCHEMA_VERSION)

    # ---- reading

    def read(self) -> Identity:
        """Return the content; an absent file is an identity that knows nothing. Raises IdentityDamaged."""
        try:
            stat = os.stat(self.path)
        except FileNotFoundError:
            if self._stamp is not None:
                raise IdentityDamaged(self._gone("it was there before")) from None
            return Identity(SCHEMA_VERSION)
        stamp = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if stamp != self._stamp:
            self._cached = self._decode(self.path.read_bytes())
            self._stamp = stamp
        return self._cached

    def halt(self) -> Halt | None:
        """Return the latch; cheap enough to ask at every message (one stat).

        A file that is gone or damaged reads as a halt: what cannot be read must not open risk.
        """
        try:
            return self.read().halt
        except (IdentityDamaged, OSError) as error:
            return Halt(reason=f"halt latch unreadable: {error}", by="identity file", latched_ns=0)

    # ---- updates

    def latch_halt(self, reason: str, by: str) -> Halt:
        """Latch; durable on return. The first reason stands if it is latched already."""
        if not reason:
            raise ValueError("a halt needs a reason")
        latch = Halt(reason[:REASON_CHARS_MAX], by, time.time_ns())

        def apply(identity: Identity) -> Identity:
            return identity if identity.halt else msgspec.structs.replace(identity, halt=latch)

        halted = self._update(apply).halt
        assert halted is not None
        return halted

    def order_flatten(self, reason: str, by: str) -> Halt:
        """Latch, and order that positions be closed; durable on return. A first reason, and a first order, stand."""
        if not reason:
            raise ValueError("a flatten needs a reason")
        text, now_ns = reason[:REASON_CHARS_MAX], time.time_ns()

        def apply(identity: Identity) -> Identity:
            halt = identity.halt or Halt(text, by, now_ns)
            if halt.flatten_ns:
                return identity
            ordered = msgspec.structs.replace(halt, flatten=text, flatten_by=by, flatten_ns=now_ns)
            return msgspec.structs.replace(identity, halt=ordered)

        halted = self._update(apply).halt
        assert halted is not None
        return halted

    def clear_halt(self, by: str) -> Halt | None:
        """Clear the latch on a person's word and return what stood."""
        stood: list[Halt | None] = []

        def apply(identity: Identity) -> Identity:
            stood.append(identity.halt)
            if identity.halt is None:
                return identity
            return msgspec.structs.replace(identity, halt=None, last_cleared_by=by, last_cleared_ns=time.time_ns())

        self._update(apply)
        return stood[-1]

    def draw_epoch(self, role: str, lease_epoch: int, seq: int) -> int:
        """Draw an epoch above every one known, given the lease and last entry that the ledger holds now."""

        def apply(identity: Identity) -> Identity:
            mark = identity.roles.get(role, RoleMark(0, 0, 0))
            if lease_epoch > 0 and not self.path.exists():
                raise IdentityDamaged(self._gone(f"the ledger has a lease of {role} of epoch {lease_epoch}"))
            drawn = max(mark.epoch, lease_epoch) + 1
            return _mark(identity, role, RoleMark(drawn, max(mark.lease_epoch, lease_epoch), max(mark.seq, seq)))

        return self._update(apply).roles[role].epoch

    def note_epoch(self, role: str, epoch: int, seq: int = 0) -> None:
        """Note that the ledger durably holds this lease and this entry."""

        def apply(identity: Identity) -> Identity:
            mark = identity.roles.get(role, RoleMark(0, 0, 0))
            noted = RoleMark(max(mark.epoch, epoch), max(mark.lease_epoch, epoch), max(mark.seq, seq))
            return identity if noted == mark else _mark(identity, role, noted)

        self._update(apply)

    def forget_entries(self, role: str) -> None:
        """Note that a person has the journal of this role deleted; its epochs stand."""

        def apply(identity: Identity) -> Identity:
            mark = identity.roles.get(role)
            return _mark(identity, role, msgspec.structs.replace(mark, seq=0)) if mark else identity

        self._update(apply)

    def propose_ledger_id(self) -> Identity:
        """Give an identity that has no ledger id one, unconfirmed until the ledger carries it too."""

        def apply(identity: Identity) -> Identity:
            if identity.ledger_id:
                return identity
            return msgspec.structs.replace(identity, ledger_id=str(uuid.uuid4()))

        return self._update(apply)

    def confirm_ledger_id(self, ledger_id: str) -> None:
        """Note that the ledger carries the id; from here on a ledger without it is refused."""

        def apply(identity: Identity) -> Identity:
            if identity.ledger_id != ledger_id:
                raise IdentityDamaged(
                    f"{self.path} changed its ledger id while the ledger was being checked; start again"
                )
            return identity if identity.confirmed else msgspec.structs.replace(identity, confirmed=True)

        self._update(apply)

    # ---- inside

    def _update(self, apply: Callable[[Identity], Identity]) -> Identity:
        with self._locked():
            before = self.read()
            after = apply(before)
            if after is not before:
                self._write(after)
            return after

    def _write(self, identity: Identity) -> None:
        temporary = self.path.with_name(self.path.name + ".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(identity)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)
        self._stamp = _UNREAD
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + LOCK_WAIT_S
        if not _thread_lock.acquire(timeout=LOCK_WAIT_S):
            raise IdentityBusy(f"a thread of this process holds {self.path} for {LOCK_WAIT_S:g} s")
        try:
            with open(self.path.with_name(self.path.name + ".lock"), "ab") as sidecar:
                _lock(sidecar.fileno(), deadline, self.path)
                yield  # closing the file releases the lock
        finally:
            _thread_lock.release()

    def _decode(self, payload: bytes) -> Identity:
        try:
            identity = msgspec.json.decode(payload, type=Identity, strict=True)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise IdentityDamaged(
                f"{self.path} is damaged ({error}); it holds the halt latch and the fencing epochs, so nothing starts "
                "without it. Remedy: restore it from a backup, or start with --fresh (a new run directory)"
            ) from error
        if identity.schema_version != SCHEMA_VERSION:
            raise IdentityDamaged(
                f"{self.path} has schema version {identity.schema_version}, this program reads {SCHEMA_VERSION}. "
                "Remedy: run the version that wrote it, or start with --fresh"
            )
        return identity

    def _gone(self, why: str) -> str:
        return (
            f"{self.path} is gone ({why}); it held the halt latch and the fencing epochs. "
            "Remedy: restore it from a backup, or start with --fresh (a new run directory)"
        )


def _mark(identity: Identity, role: str, mark: RoleMark) -> Identity:
    return msgspec.structs.replace(identity, roles={**identity.roles, role: mark})


def _lock(descriptor: int, deadline: float, path: Path) -> None:
    while True:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            if time.monotonic() > deadline:
                raise IdentityBusy(
                    f"another process holds the lock of {path} for {LOCK_WAIT_S:g} s; is one of the engine's stopped?"
                ) from error
        time.sleep(0.002)
