"""Bugs put in on purpose, in the simulation only: each must be seen by the laws, or the laws see nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from actors.core import Core
from actors.effects import Drive, Effect
from actors.messages import (
    Envelope,
    HaltChanged,
    PicturesTaken,
    Recovered,
    SessionLost,
    SessionOpened,
    SignalReceived,
    SubmitNotSent,
    SubmitOrders,
)
from actors.opportunity_gate import OpportunityGate
from actors.ports import Ports
from actors.role import Role
from actors.shell import Shell
from kernels.book_image import Row
from kernels.evaluate import Decision
from tests.sim.bus import STREAM
from tests.sim.hosts import Host
from tests.sim.market import Consumer, Market
from tests.sim.plants_cycles import CYCLE_PLANTS
from tests.sim.world import Simulation

ORDER_ID_STRIDE = 500
HOUR = 3_600_000_000_000


class SendsFirst(Shell[Any]):
    """Gives commands to the driver, and only then writes the journal."""

    def __init__(self, role: Role[Any], ports: Ports, snapshot_every: int) -> None:
        super().__init__(role, ports, snapshot_every)
        self._driven: list[Effect] = []

    def _append(self, envelope: Envelope, core: Core[Any], effects: tuple[Effect, ...], now_ns: int) -> None:
        self._driven = []
        for effect in effects:
            if isinstance(effect, Drive):
                super()._run(effect, envelope)
                self._driven.append(effect)
        super()._append(envelope, core, effects, now_ns)

    def _run(self, effect: Effect, cause: Envelope) -> None:
        if not any(effect is driven for driven in self._driven):
            super()._run(effect, cause)


class AcknowledgesFirst(Shell[Any]):
    """Acknowledges a signal when it reads it."""

    def take(self, envelope: Envelope) -> None:
        """Acknowledge, then handle."""
        if isinstance(envelope.body, SignalReceived):
            self.ports.bus.acknowledge(STREAM, envelope.body.entry_id)
        super().take(envelope)


class ForgetsOutbox(Shell[Any]):
    """Recovers everything but what it owes."""

    def _fold_ledger(self) -> Core[Any]:
        return msgspec.structs.replace(super()._fold_ledger(), outbox={})


class Wrapped:
    """A role that does as the real one, but for what a subclass spoils."""

    def __init__(self, role: Role[Any]) -> None:
        self.role = role
        self.name = role.name
        self.schema_version = role.schema_version
        self.state_type = role.state_type
        self.unsure: SubmitOrders | None = None

    def initial(self) -> Any:
        """As the real one."""
        return self.role.initial()

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        """As the real one."""
        return self.role.migrate(schema_version, state)

    def reduce(self, state: Any, envelope: Envelope, now_ns: int) -> tuple[Any, tuple[Effect, ...]]:
        """As the real one."""
        return self.role.reduce(state, envelope, now_ns)


class IgnoresHalts(Wrapped):
    """A broker that does not hear of halts."""

    def reduce(self, state: Any, envelope: Envelope, now_ns: int) -> tuple[Any, tuple[Effect, ...]]:
        """As the real one, but for halts."""
        return (state, ()) if isinstance(envelope.body, HaltChanged) else self.role.reduce(state, envelope, now_ns)


class TakesLostForRejected(Wrapped):
    """A broker that takes a session's end for proof that what was not yet confirmed in it never left."""

    def reduce(self, state: Any, envelope: Envelope, now_ns: int) -> tuple[Any, tuple[Effect, ...]]:
        """As the real one, after it was told so of each such intent."""
        effects: tuple[Effect, ...] = ()
        if isinstance(envelope.body, SessionLost | Recovered):
            for intent_id, family in state.families.items():
                if all(order.state == "pre_sent" for order in family.orders):
                    names = tuple(order.client_order_id for order in family.orders)
                    rejected = SubmitNotSent(family.session_id, intent_id, names, "timeout")
                    state, more = self.role.reduce(state, msgspec.structs.replace(envelope, body=rejected), now_ns)
                    effects += more
        state, more = self.role.reduce(state, envelope, now_ns)
        return state, (*effects, *more)


class ResendsUnknown(Wrapped):
    """A broker that, in a new session, sends what was not answered in the old one again, under new order ids."""

    def reduce(self, state: Any, envelope: Envelope, now_ns: int) -> tuple[Any, tuple[Effect, ...]]:
        """As the real one, and the resend on top."""
        state, effects = self.role.reduce(state, envelope, now_ns)
        if isinstance(envelope.body, SessionOpened) and self.unsure is not None:
            again = _renumbered(self.unsure, envelope.body)
            self.unsure = None
            return state, (*effects, Drive(again))
        for effect in effects:
            if isinstance(effect, Drive) and isinstance(effect.command, SubmitOrders):
                self.unsure = effect.command
        return state, effects


class SettlesAfterOneRead(Wrapped):
    """A reconciler that takes one reading for two."""

    def reduce(self, state: Any, envelope: Envelope, now_ns: int) -> tuple[Any, tuple[Effect, ...]]:
        """As the real one, and for every reading of orders once more, as if it had been made long afterwards."""
        state, effects = self.role.reduce(state, envelope, now_ns)
        if not isinstance(envelope.body, PicturesTaken) or envelope.body.read.positions_only:
            return state, effects
        read = msgspec.structs.replace(envelope.body.read, begun_ns=now_ns + HOUR)
        again = msgspec.structs.replace(envelope, body=msgspec.structs.replace(envelope.body, read=read))
        state, more = self.role.reduce(state, again, now_ns)
        return state, (*effects, *more)


def _renumbered(command: SubmitOrders, opened: SessionOpened) -> SubmitOrders:
    first = command.tickets[0].venue_order_id
    moved = opened.next_order_id + ORDER_ID_STRIDE - first
    tickets = tuple(
        msgspec.structs.replace(
            ticket,
            venue_order_id=ticket.venue_order_id + moved,
            parent_order_id=ticket.parent_order_id + moved if ticket.parent_order_id else 0,
        )
        for ticket in command.tickets
    )
    return msgspec.structs.replace(command, session_id=opened.session_id, tickets=tickets, resend=True)


def _every_shell(shell: type[Shell[Any]]) -> Callable[[Simulation], None]:
    def plant(simulation: Simulation) -> None:
        for host in simulation.hosts.values():
            host.make_shell = shell

    return plant


def _no_fence(simulation: Simulation) -> None:
    simulation.store.fencing = False


def _role(name: str, wrapped: type[Wrapped]) -> Callable[[Simulation], None]:
    def plant(simulation: Simulation) -> None:
        host: Host = simulation.hosts[name]
        host.role = wrapped(host.role)

    return plant


class TrustsRows(Consumer):
    """Takes a row for good because it was good when it was read."""

    def still_live(self, leg: int, row: Row) -> bool:
        """Not looked at again."""
        return True


class TellsUnconfirmed(OpportunityGate):
    """Tells of an opportunity because it was one when it was decided."""

    def _confirmed(self, decision: Decision, now_ns: int) -> bool:
        return True


def _stale_row(simulation: Simulation) -> None:
    market = simulation.laws[0]
    assert isinstance(market, Market)
    market.consumer.__class__ = TrustsRows
    market.cycles.gate.__class__ = TellsUnconfirmed


PLANTS: dict[str, Callable[[Simulation], None]] = {
    "send_before_journal": _every_shell(SendsFirst),
    "ack_before_outcome": _every_shell(AcknowledgesFirst),
    "missing_fence": _no_fence,
    "discarded_outbox": _every_shell(ForgetsOutbox),
    "double_resend": _role("broker.paper", ResendsUnknown),
    "lost_taken_for_rejected": _role("broker.paper", TakesLostForRejected),
    "halt_ignored": _role("broker.paper", IgnoresHalts),
    "settled_after_one_read": _role("reconciler", SettlesAfterOneRead),
    "stale_row_used": _stale_row,
    **CYCLE_PLANTS,
}

PLANT_WORLDS = {"stale_row_used": "market", **dict.fromkeys(CYCLE_PLANTS, "cycles")}
"""Where a plant grows; all others in the engine's world."""
