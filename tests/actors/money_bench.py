"""A bench for the money roles: envelopes, a stepper that also replays its journal, and common messages."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from actors.core import Core, admit, advance, new_core
from actors.effects import Drive, Effect, Send
from actors.messages import (
    AnyMessage,
    BracketIntent,
    Envelope,
    ExecutionReported,
    GrantGate,
    JournalRecord,
    OrderReported,
    SessionOpened,
    Side,
    Signal,
    SubmitOrders,
    SubmitWritten,
    VenueRead,
)
from actors.role import Role
from actors.snapshot import decode_snapshot, encode_snapshot
from kernels import ids

S = TypeVar("S")
M = TypeVar("M")
SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
UNIT = 10**8
FUND = "apex"


class Bench(Generic[S]):
    """One role with its core; keeps every journal record, and all effects and owed messages of each step."""

    def __init__(self, role: Role[S]) -> None:
        self.role = role
        self.core: Core[S] = new_core(role)
        self.records: list[bytes] = []
        self.now_ns = START
        self.effects: list[Effect] = []
        self.owed: list[Envelope] = []
        self.steps = 0

    @property
    def state(self) -> S:
        return self.core.role

    def feed(self, body: AnyMessage, source: str = "test", correlation_id: str = "") -> list[Effect]:
        """Reduce one input; return its effects, those sends apart that are owed."""
        self.steps += 1
        envelope = Envelope(f"{source}:{self.steps}", correlation_id, "", source, self.role.name, 1, self.now_ns, body)
        assert admit(self.core, envelope, 1).value == "admit"
        step = advance(self.role, self.core, envelope, self.now_ns, 1)
        if step.core is not self.core:
            self.records.append(msgspec.json.encode(JournalRecord(step.core.seq, self.now_ns, 1, envelope)))
        self.core = step.core
        self.effects = list(step.effects)
        self.owed = list(step.owed)
        return self.effects

    def told(self, kind: type[M]) -> list[M]:
        """Bodies of that type owed or sent by the last step."""
        bodies: list[object] = [envelope.body for envelope in self.owed]
        bodies += [effect.body for effect in self.effects if isinstance(effect, Send)]
        return [body for body in bodies if isinstance(body, kind)]

    def driven(self, kind: type[M]) -> list[M]:
        """Driver commands of that type in the last step."""
        return [e.command for e in self.effects if isinstance(e, Drive) and isinstance(e.command, kind)]

    def did(self, kind: type[M]) -> list[M]:
        """Effects of that type in the last step."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now_ns += int(seconds * SECOND)

    def replayed(self) -> Core[S]:
        """Fold the journal from nothing, as recovery does."""
        core: Core[S] = new_core(self.role)
        for raw in self.records:
            record = msgspec.json.decode(raw, type=JournalRecord)
            core = advance(self.role, core, record.input, record.now_ns, record.epoch).core
        return core

    def check_replay(self) -> None:
        """The fold of the journal is the state, and so is the state through its snapshot."""
        assert self.replayed() == self.core
        assert decode_snapshot(self.role, encode_snapshot(self.role, self.core)) == self.core


def intent(signal_id: str = "s1", symbol: str = "ACME", expires_s: float = 60, **changed: int) -> BracketIntent:
    """A bracket of 100 shares at the market."""
    figures = {"qty": 100 * UNIT, "limit_px": 0, "take_profit_px": 110 * UNIT, "stop_px": 95 * UNIT} | changed
    return BracketIntent(
        intent_id=ids.family_id(FUND, signal_id),
        signal_id=signal_id,
        strategy="test",
        symbol=symbol,
        side=Side.BUY,
        expires_ns=START + int(expires_s * SECOND),
        **figures,
    )


def order_id(leg: str = "entry", signal_id: str = "s1") -> str:
    """Client order id of a leg."""
    return ids.client_order_id(FUND, signal_id, leg)


def opened(session: str = "S1", next_order_id: int = 100) -> SessionOpened:
    """A session of the paper account."""
    return SessionOpened(session, "DU1", 7, next_order_id)


def grant(bench: Bench[S], session: str = "S1", epoch: int = 1) -> GrantGate:
    """A lease of 15 s from now."""
    return GrantGate(session, epoch, bench.now_ns + 15 * SECOND)


def wrote(command: SubmitOrders) -> SubmitWritten:
    """All of it went to the socket."""
    names = tuple(ticket.client_order_id for ticket in command.tickets)
    return SubmitWritten(command.session_id, command.intent_id, names, START)


def report(
    leg: str = "entry", status: str = "Submitted", session: str = "S1", signal_id: str = "s1", **changed: int
) -> OrderReported:
    """A live report; permIds are 900 and up by leg."""
    place = ("entry", "take_profit", "stop_loss").index(leg)
    figures = {"venue_order_id": 100 + place, "perm_id": 900 + place, "client_id": 7} | changed
    return OrderReported(session, order_id(leg, signal_id), status=status, symbol="ACME", **figures)  # type: ignore[arg-type]


def execution(
    exec_id: str,
    qty: int,
    px: int = 100,
    leg: str = "entry",
    side: Side = Side.BUY,
    session: str = "S1",
    signal_id: str = "s1",
    client_order_id: str | None = None,
) -> ExecutionReported:
    """An execution in whole shares and dollars."""
    place = ("entry", "take_profit", "stop_loss").index(leg)
    return ExecutionReported(
        session_id=session,
        exec_id=exec_id,
        client_order_id=order_id(leg, signal_id) if client_order_id is None else client_order_id,
        venue_order_id=100 + place,
        perm_id=900 + place,
        client_id=7,
        account="DU1",
        symbol="ACME",
        side=side,
        last_qty=qty * UNIT,
        last_px=px * UNIT,
        cum_qty=0,
        ts_event_ns=START,
    )


def venue_read(session: str = "S1", taken_ns: int = START, **parts: object) -> VenueRead:
    """A complete read in which nothing is unless given."""
    fields: dict[str, object] = {
        "open_orders": (),
        "completed_orders": (),
        "executions": (),
        "commissions": (),
        "positions": (),
    }
    return VenueRead(session, "r1", taken_ns=taken_ns, **({"begun_ns": taken_ns} | fields | parts))  # type: ignore[arg-type]


def signal(signal_id: str = "s1", symbol: str = "ACME", **changed: object) -> Signal:
    """A wish to buy around 100."""
    fields: dict[str, object] = {
        "side": Side.BUY,
        "take_profit_px": 110 * UNIT,
        "stop_px": 95 * UNIT,
        "reference_px": 100 * UNIT,
        "ts_event_ns": START,
        "expires_ns": START + 60 * SECOND,
    }
    return Signal(signal_id, "test", symbol, **(fields | changed))  # type: ignore[arg-type]
