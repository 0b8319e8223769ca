"""Every port of a shell in memory, and a small role, for tests of the shell alone."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actors.effects import AppendLine, Count, Effect, Publish, Send, Severity
from actors.kept_alarms import KeptAlarm
from actors.messages import Acknowledged, AnyMessage, Envelope, PriceSeen
from actors.ports import Entry, LedgerAway, Ports, Stored
from actors.shell import Shell


class Told(msgspec.Struct, frozen=True):
    """Prices in the order they came."""

    prices: tuple[int, ...] = ()


class Teller:
    """Owes `listener` every price above 0, mentions those below without owing them, ignores 0."""

    name = "teller"
    state_type = Told

    def __init__(self, schema_version: int = 1) -> None:
        self.schema_version = schema_version

    def initial(self) -> Told:
        return Told()

    def reduce(self, state: Told, envelope: Envelope, now_ns: int) -> tuple[Told, tuple[Effect, ...]]:
        match envelope.body:
            case PriceSeen(last_px=0):
                return state, (Count("zero"),)
            case PriceSeen(last_px=px) as seen if px < 0:
                return state, (Send("listener", seen),)
            case PriceSeen(last_px=px) as seen:
                return Told((*state.prices, px)), (Send("listener", seen, owed=True),)
            case _:
                return state, ()

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        """Version 1 called its field `seen`."""
        before = msgspec.json.decode(state)
        assert set(before) == {"seen"}, before
        return msgspec.json.encode({"prices": before["seen"]})


class World:
    """Every port, in memory; outlives an incarnation as a ledger does."""

    def __init__(self) -> None:
        self.now = 1_000
        self.epoch = 0
        self.journal: dict[int, bytes] = {}
        self.snapshots: tuple[bytes, ...] = ()
        self.out: list[Envelope] = []
        self.timers: list[tuple[str, int]] = []
        self.hops: list[str] = []
        self.away: set[str] = set()
        self.full: set[str] = set()
        self.appends = 0

    def ports(self) -> Ports:
        return Ports(
            ledger=self, transport=self, timers=self, driver=self, bus=self, alarms=self, clock=self, tracer=self
        )

    def now_ns(self) -> int:
        self.now += 1
        return self.now

    def acquire(self) -> int:
        self.epoch += 1
        return self.epoch

    def load(self) -> Stored:
        return Stored(self.snapshots)

    def tail(self, after_seq: int):  # type: ignore[no-untyped-def]
        return iter([(seq, payload) for seq, payload in sorted(self.journal.items()) if seq > after_seq])

    def append(self, entries: Sequence[Entry]) -> None:
        if "ledger" in self.away:
            raise LedgerAway("not there")
        self.appends += 1
        for entry in entries:
            assert entry.seq == len(self.journal) + 1
            self.journal[entry.seq] = entry.record

    def save_snapshot(self, seq: int, payload: bytes) -> None:
        self.snapshots = (payload, *self.snapshots)[:2]

    def send(self, envelope: Envelope) -> bool:
        if envelope.target in self.away:
            return False
        self.out.append(envelope)
        return True

    def start(self, name: str, after_ns: int) -> None:
        self.timers.append((name, after_ns))

    def cancel(self, name: str) -> None: ...

    def post(self, command: AnyMessage) -> None: ...

    def publish(self, effect: Publish, envelope: Envelope) -> None: ...

    def acknowledge(self, stream: str, entry_id: str) -> None: ...

    def append_line(self, effect: AppendLine, envelope: Envelope) -> None: ...

    def raise_alarm(self, name: str, severity: Severity, text: str) -> None: ...

    def keep_alarm(self, name: str, kept: KeptAlarm) -> None: ...

    def clear_alarm(self, name: str, why: str = "") -> None: ...

    def hop(self, envelope: Envelope, received_ns: int, handled_ns: int, outcome: str) -> None:
        self.hops.append(outcome)

    def sent(self, envelope: Envelope, sent_ns: int) -> None: ...

    def life(self, snapshot_every: int = 1_000) -> Shell[Told]:
        """A new incarnation, recovered."""
        shell = Shell(Teller(), self.ports(), snapshot_every)
        shell.recover()
        return shell

    def owed(self) -> list[tuple[int, int]]:
        """Delivery number and price of each owed message that went out, in order."""
        found = [(one.delivery_seq, one.body) for one in self.out if one.delivery_seq]
        return [(number, body.last_px) for number, body in found if isinstance(body, PriceSeen)]


def price(px: int) -> PriceSeen:
    return PriceSeen("AAPL", px, px)


def acknowledged(up_to: int) -> Envelope:
    return from_other(Acknowledged(up_to), source="listener")


def from_other(
    body: AnyMessage, source: str = "other", delivery_seq: int = 0, target: str = "teller", target_epoch: int = 0
) -> Envelope:
    return Envelope(
        message_id=f"{source}:{delivery_seq}",
        correlation_id="c",
        causation_id="",
        source=source,
        target=target,
        source_epoch=1,
        ts_init_ns=1,
        body=body,
        target_epoch=target_epoch,
        delivery_seq=delivery_seq,
    )
