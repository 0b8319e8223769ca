"""The signal stream and the driver that reads it: at least once, until acknowledged."""

from __future__ import annotations

import msgspec

from actors.messages import AnyMessage, Signal, SignalReceived, SignalUnreadable
from tests.sim.hosts import Incarnation
from tests.sim.scheduler import MS, SECOND, Scheduler

STREAM = "signals"
REDELIVER_NS = 5 * SECOND


class SignalStream:
    """All entries ever published, and those not yet acknowledged."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.entries: dict[str, Signal | None] = {}
        self.pending: dict[str, Signal | None] = {}
        self.reader: SignalReader | None = None

    def publish(self, signal: Signal | None) -> str:
        """Append a signal (None: an entry nobody can read) and wake the reader."""
        entry_id = f"{self.scheduler.now_ns // MS}-{len(self.entries)}"
        self.entries[entry_id] = signal
        self.pending[entry_id] = signal
        if self.reader is not None:
            self.reader.deliver_soon(entry_id)
        return entry_id

    def acknowledge(self, entry_id: str) -> None:
        """Take an entry off the pending list; once more is no error."""
        self.pending.pop(entry_id, None)


class SignalReader:
    """The allocator's driver: gives it what is pending at its start, then what comes, again until acknowledged."""

    def __init__(self, incarnation: Incarnation, stream: SignalStream) -> None:
        self.incarnation = incarnation
        self.stream = stream
        self.dead = False

    def start(self) -> None:
        """Read on from the oldest entry that is not acknowledged."""
        self.stream.reader = self
        for entry_id in self.stream.pending:
            self.deliver_soon(entry_id)

    def post(self, command: AnyMessage) -> None:
        """It knows no commands."""
        raise AssertionError(f"a signal reader got {command}")

    def die(self) -> None:
        """Stop reading."""
        self.dead = True
        if self.stream.reader is self:
            self.stream.reader = None

    def deliver_soon(self, entry_id: str) -> None:
        """Give the entry to the actor after a moment, and again later if it is still pending."""
        scheduler = self.stream.scheduler
        scheduler.after(scheduler.between(MS // 10, 20 * MS), f"signal {entry_id}", lambda: self._deliver(entry_id))

    def _deliver(self, entry_id: str) -> None:
        if self.dead or entry_id not in self.stream.pending:
            return
        signal = self.stream.pending[entry_id]
        body: AnyMessage
        if signal is None:
            body = SignalUnreadable(entry_id=entry_id, error="not a signal", payload="{")
        else:
            body = SignalReceived(signal=msgspec.structs.replace(signal), entry_id=entry_id)
        shell = self.incarnation.shell
        self.incarnation.input(f"reads {entry_id} {body}", lambda: shell.driver_event(body))
        self.stream.scheduler.after(REDELIVER_NS, f"redeliver {entry_id}", lambda: self._deliver(entry_id))
