"""A small role and the ports around it, for tests of the ledger through the real shell."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actors.effects import AppendLine, Effect, Project, Publish, Send, Severity
from actors.kept_alarms import KeptAlarm
from actors.messages import AnyMessage, Envelope, PriceSeen
from actors.ports import Entry, Ledger, Ports, Stored


class Counter(msgspec.Struct, frozen=True):
    """What the role has seen."""

    total: int = 0
    inputs: int = 0
    last_ns: int = 0
    epochs: tuple[int, ...] = ()


class CounterRole:
    """Adds up prices; owes a listener every third one; ignores a price of 0; remembers what it was told last."""

    def __init__(self, name: str = "counter", schema_version: int = 1) -> None:
        self._name = name
        self._schema_version = schema_version

    @property
    def name(self) -> str:
        return self._name

    @property
    def schema_version(self) -> int:
        return self._schema_version

    @property
    def state_type(self) -> type[Counter]:
        return Counter

    def initial(self) -> Counter:
        return Counter()

    def reduce(self, state: Counter, envelope: Envelope, now_ns: int) -> tuple[Counter, tuple[Effect, ...]]:
        body = envelope.body
        if not isinstance(body, PriceSeen) or body.last_px == 0:
            return state, ()
        after = msgspec.structs.replace(
            state,
            total=state.total + body.last_px,
            inputs=state.inputs + 1,
            last_ns=now_ns,
            epochs=tuple(dict.fromkeys((*state.epochs, envelope.source_epoch))),
        )
        shown = Project("positions", body.symbol, "total", str(after.total).encode())
        if after.inputs % 3 == 0:
            return after, (Send("listener", body, owed=True), shown)
        return after, (shown,)

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        return state


class FakePorts:
    """Every port but the ledger: remembers what went out; its clock ticks by one."""

    def __init__(self) -> None:
        self.sent_envelopes: list[Envelope] = []
        self._now_ns = 1_000

    def now_ns(self) -> int:
        self._now_ns += 1
        return self._now_ns

    def send(self, envelope: Envelope) -> bool:
        self.sent_envelopes.append(envelope)
        return True

    def start(self, name: str, after_ns: int) -> None: ...

    def cancel(self, name: str) -> None: ...

    def post(self, command: AnyMessage) -> None: ...

    def publish(self, effect: Publish, envelope: Envelope) -> None: ...

    def acknowledge(self, stream: str, entry_id: str) -> None: ...

    def append_line(self, effect: AppendLine, envelope: Envelope) -> None: ...

    def raise_alarm(self, name: str, severity: Severity, text: str) -> None: ...

    def keep_alarm(self, name: str, kept: KeptAlarm) -> None: ...

    def clear_alarm(self, name: str, why: str = "") -> None: ...

    def hop(self, envelope: Envelope, received_ns: int, handled_ns: int, outcome: str) -> None: ...

    def sent(self, envelope: Envelope, sent_ns: int) -> None: ...


def ports_with(ledger: Ledger) -> Ports:
    """Return ports whose ledger is `ledger` and whose others are fakes."""
    fake = FakePorts()
    return Ports(
        ledger=ledger, transport=fake, timers=fake, driver=fake, bus=fake, alarms=fake, clock=fake, tracer=fake
    )


class UntrimmedLedger:
    """Passes everything on, and keeps every record that was appended: the journal as if nothing were ever trimmed."""

    def __init__(self, ledger: Ledger, records: dict[int, bytes]) -> None:
        self._ledger = ledger
        self.records = records

    def acquire(self) -> int:
        return self._ledger.acquire()

    def load(self) -> Stored:
        return self._ledger.load()

    def tail(self, after_seq: int):  # type: ignore[no-untyped-def]
        return self._ledger.tail(after_seq)

    def append(self, entries: Sequence[Entry]) -> None:
        self._ledger.append(entries)
        self.records.update({entry.seq: entry.record for entry in entries})

    def save_snapshot(self, seq: int, payload: bytes) -> None:
        self._ledger.save_snapshot(seq, payload)
