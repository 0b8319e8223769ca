"""The simulated ledger: the semantics of the Redis scripts (epoch, seq, two snapshots, trim), in memory.

The store keeps every entry ever accepted, also those a role can no longer read because they were trimmed: the checkers
read them, and `dump` gives the bytes that two runs of one seed must have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from actors import ports
from actors.ports import Fenced, LedgerAway, LedgerCorrupt, Projection, Stored
from tests.sim.scheduler import SECOND, Scheduler


class Entry(msgspec.Struct, frozen=True):
    """One accepted append, and the epoch whose script call wrote it."""

    seq: int
    writer_epoch: int
    record: bytes


class KeptSnapshot(msgspec.Struct, frozen=True, array_like=True):
    """A stored snapshot; `whole` stands for the sum the real script compares."""

    seq: int
    payload: bytes
    whole: bool


class LedgerFaults(msgspec.Struct):
    """How the ledger misbehaves; all probabilities are for each call."""

    lost: float = 0.0
    applied_but_silent: float = 0.0
    late: float = 0.0
    damaged_snapshot: float = 0.0


class LedgerStore:
    """Everything every role has written."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.faults = LedgerFaults()
        self.away = False
        self.fencing = True
        self.journals: dict[str, list[Entry]] = {}
        self.trimmed: dict[str, int] = {}
        self.snapshots: dict[str, list[KeptSnapshot]] = {}
        self.epochs: dict[str, int] = {}
        self.projections: dict[tuple[str, str], dict[str, bytes]] = {}
        self.appended: Callable[[str, Entry], None] = lambda role, entry: None

    def write(self, role: str, epoch: int, seq: int, record: bytes, projections: tuple[Projection, ...]) -> None:
        """The append script: fence, sequence, entry, projections, in one step."""
        self._fence(role, epoch)
        journal = self.journals.setdefault(role, [])
        if seq != len(journal) + 1:
            raise LedgerCorrupt(f"{role}: append of {seq} after {len(journal)}")
        entry = Entry(seq, epoch, record)
        journal.append(entry)
        for projection in projections:
            fields = self.projections.setdefault((projection.key_type, projection.symbol), {})
            if projection.value:
                fields[projection.field] = projection.value
            else:
                fields.pop(projection.field, None)
        self.appended(role, entry)

    def keep_snapshot(self, role: str, epoch: int, seq: int, payload: bytes) -> None:
        """The snapshot script: fence, keep two (a damaged one is not kept as the older), trim what the older covers."""
        self._fence(role, epoch)
        kept = self.snapshots.setdefault(role, [])
        if seq > len(self.journals.get(role, [])):
            raise LedgerCorrupt(f"{role}: snapshot of {seq} after {len(self.journals.get(role, []))}")
        if kept and kept[0].whole and kept[0].seq < seq:
            kept[1:] = [kept[0]]
        kept[:1] = [KeptSnapshot(seq, payload, True)]
        if len(kept) == 2:
            self.trimmed[role] = max(self.trimmed.get(role, 0), kept[1].seq - 1)

    def damage_newest_snapshot(self, role: str) -> None:
        """Flip a byte of the newest of two: the older one and a longer tail must serve."""
        kept = self.snapshots.get(role, [])
        if len(kept) == 2 and kept[0].whole:
            payload = kept[0].payload
            at = self.scheduler.random.randrange(len(payload))
            damaged = payload[:at] + bytes([payload[at] ^ 0x55]) + payload[at + 1 :]
            kept[0] = KeptSnapshot(kept[0].seq, damaged, False)

    def _fence(self, role: str, epoch: int) -> None:
        if self.fencing and epoch < self.epochs.get(role, 0):
            raise Fenced(f"{role}: epoch {epoch} is over; {self.epochs[role]} holds the role")

    def dump(self) -> bytes:
        """All of it, in one order."""
        journals = {role: [[e.seq, e.writer_epoch, e.record] for e in kept] for role, kept in self.journals.items()}
        projections = [[*key, sorted(fields.items())] for key, fields in sorted(self.projections.items())]
        everything = {
            "journals": dict(sorted(journals.items())),
            "snapshots": dict(sorted(self.snapshots.items())),
            "epochs": dict(sorted(self.epochs.items())),
            "projections": projections,
        }
        return msgspec.json.encode(everything)


class SimLedger:
    """One incarnation's port to the store."""

    def __init__(self, role: str, store: LedgerStore) -> None:
        self.role = role
        self.store = store
        self.epoch = 0

    def acquire(self) -> int:
        """Draw an epoch."""
        self._answer()
        self.epoch = self.store.epochs.get(self.role, 0) + 1
        self.store.epochs[self.role] = self.epoch
        return self.epoch

    def load(self) -> Stored:
        """Give the kept snapshots, newest first; now and then the newest comes back damaged."""
        self._answer()
        if self.store.scheduler.chance(self.store.faults.damaged_snapshot):
            self.store.damage_newest_snapshot(self.role)
        return Stored(tuple(kept.payload for kept in self.store.snapshots.get(self.role, [])))

    def tail(self, after_seq: int) -> Iterator[tuple[int, bytes]]:
        """Give what is left after trimming; the caller must notice a gap by itself."""
        self._answer()
        first = max(after_seq, self.store.trimmed.get(self.role, 0))
        for entry in self.store.journals.get(self.role, [])[first:]:
            yield entry.seq, entry.record

    def append(self, entries: Sequence[ports.Entry]) -> None:
        """Write one entry after the other, until one fails in one of the ways a remote store fails."""
        for entry in entries:
            self._append(entry.seq, entry.record, entry.projections)

    def _append(self, seq: int, record: bytes, projections: tuple[Projection, ...]) -> None:
        store, faults = self.store, self.store.faults
        self._answer()
        if store.scheduler.chance(faults.lost):
            raise LedgerAway(f"{self.role}: append of {seq} got no answer")
        if store.scheduler.chance(faults.late):
            store.scheduler.after(
                store.scheduler.between(1000, SECOND), "late append", lambda: self._late(seq, record, projections)
            )
            raise LedgerAway(f"{self.role}: append of {seq} got no answer and is still on its way")
        store.write(self.role, self.epoch, seq, record, projections)
        if store.scheduler.chance(faults.applied_but_silent):
            raise LedgerAway(f"{self.role}: append of {seq} was written, but its answer was lost")

    def save_snapshot(self, seq: int, payload: bytes) -> None:
        """Keep a snapshot."""
        self._answer()
        self.store.keep_snapshot(self.role, self.epoch, seq, payload)

    def _late(self, seq: int, record: bytes, projections: tuple[Projection, ...]) -> None:
        """A command that was in the socket when its sender gave up: applied only if nobody else came before it."""
        try:
            self.store.write(self.role, self.epoch, seq, record, projections)
            self.store.scheduler.log(self.role, f"late append of {seq} (epoch {self.epoch}) was applied")
        except (Fenced, LedgerCorrupt) as refusal:
            self.store.scheduler.log(self.role, f"late append refused: {refusal}")

    def _answer(self) -> None:
        if self.store.away:
            raise LedgerAway(f"{self.role}: the ledger is away")
