"""The pure step of every actor: delivery bookkeeping around a role's reducer. Live, in recovery and in simulation.

Invariants: owed messages from one role to another are accepted exactly once and in order (a gap is refused and comes
again, a duplicate is acknowledged again); message ids and delivery numbers are functions of the journal alone; the
same object comes back exactly if there is nothing to journal.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

from actors.effects import Effect, Send
from actors.kept_alarms import Kept, KeptAlarm, acknowledge, keep
from actors.messages import Acknowledged, AlarmAcknowledged, Envelope
from actors.role import Role

S = TypeVar("S")

OUTBOX_MAX = 20_000
"""Owed and unacknowledged messages to one role; beyond it the actor stops: what is owed is never dropped."""


class OutboxFull(RuntimeError):
    """A role has taken nothing for so long that going on would lose what it is owed."""


class Core(msgspec.Struct, Generic[S], frozen=True, gc=False):
    """Everything an actor is: its role's state, what it owes to whom, what it has accepted from whom, and what
    waits for a person (`alarms`)."""

    seq: int
    role: S
    outbox: Mapping[str, tuple[Envelope, ...]]
    sent: Mapping[str, int]
    accepted: Mapping[str, int]
    alarms: Mapping[str, KeptAlarm] = {}


class Admission(enum.Enum):
    """What the delivery rules say of an envelope before the reducer sees it."""

    ADMIT = "admit"
    DUPLICATE = "duplicate"
    GAP = "gap"
    STALE = "stale"
    MISDIRECTED = "misdirected"


class Step(msgspec.Struct, Generic[S], frozen=True, gc=False):
    """Result of one input. `owed` are already in `core`'s outbox; `effects` are all others, in order."""

    core: Core[S]
    effects: tuple[Effect, ...]
    owed: tuple[Envelope, ...]


def new_core(role: Role[S]) -> Core[S]:
    """State of an actor that has never taken an input."""
    return Core(seq=0, role=role.initial(), outbox={}, sent={}, accepted={})


def admit(core: Core[S], envelope: Envelope, epoch: int) -> Admission:
    """Judge an envelope of this role by its target epoch and delivery number."""
    if envelope.target_epoch not in (0, epoch):
        return Admission.STALE
    if envelope.delivery_seq == 0:
        return Admission.ADMIT
    last = core.accepted.get(envelope.source, 0)
    if envelope.delivery_seq <= last:
        return Admission.DUPLICATE
    return Admission.ADMIT if envelope.delivery_seq == last + 1 else Admission.GAP


def advance(role: Role[S], core: Core[S], envelope: Envelope, now_ns: int, epoch: int) -> Step[S]:
    """Fold one admitted envelope.

    The returned core is the given object if nothing is to be journaled; otherwise its `seq` is one higher.
    """
    if isinstance(envelope.body, Acknowledged):
        return Step(core=_trim(core, envelope.source, envelope.body.delivery_seq), effects=(), owed=())
    if isinstance(envelope.body, AlarmAcknowledged):
        kept, told = acknowledge(core.alarms, envelope.body)
        return Step(core=_with_alarms(core, kept), effects=told, owed=())
    state, effects = role.reduce(core.role, envelope, now_ns)
    owed_sends = [effect for effect in effects if isinstance(effect, Send) and effect.owed]
    alarms, made_room = keep(core.alarms, effects, now_ns)
    effects = (*effects, *made_room) if made_room else effects
    if state is core.role and alarms is core.alarms and not owed_sends and envelope.delivery_seq == 0:
        return Step(core=core, effects=effects, owed=())
    seq = core.seq + 1
    accepted = core.accepted
    if envelope.delivery_seq:
        accepted = {**accepted, envelope.source: envelope.delivery_seq}
    outbox, sent, owed = _owe(role.name, core, owed_sends, envelope, seq, now_ns, epoch)
    others = tuple(effect for effect in effects if not (isinstance(effect, Send) and effect.owed))
    advanced = Core(seq=seq, role=state, outbox=outbox, sent=sent, accepted=accepted, alarms=alarms)
    return Step(core=advanced, effects=others, owed=owed)


def _with_alarms(core: Core[S], kept: Kept) -> Core[S]:
    return core if kept is core.alarms else msgspec.structs.replace(core, seq=core.seq + 1, alarms=kept)


def _trim(core: Core[S], target: str, delivery_seq: int) -> Core[S]:
    owed = core.outbox.get(target, ())
    left = tuple(envelope for envelope in owed if envelope.delivery_seq > delivery_seq)
    if len(left) == len(owed):
        return core
    outbox = {**core.outbox, target: left}
    if not left:
        del outbox[target]
    return msgspec.structs.replace(core, seq=core.seq + 1, outbox=outbox)


def _owe(
    name: str,
    core: Core[S],
    sends: list[Send],
    cause: Envelope,
    seq: int,
    now_ns: int,
    epoch: int,
) -> tuple[Mapping[str, tuple[Envelope, ...]], Mapping[str, int], tuple[Envelope, ...]]:
    if not sends:
        return core.outbox, core.sent, ()
    outbox, sent, owed = dict(core.outbox), dict(core.sent), []
    for k, send in enumerate(sends):
        number = sent.get(send.target, 0) + 1
        envelope = Envelope(
            message_id=f"{name}:{seq}.{k}",
            correlation_id=send.correlation_id or cause.correlation_id or cause.message_id,
            causation_id=cause.message_id,
            source=name,
            target=send.target,
            source_epoch=epoch,
            ts_init_ns=now_ns,
            ts_event_ns=cause.ts_event_ns,
            delivery_seq=number,
            body=send.body,
        )
        waiting = outbox.get(send.target, ())
        if len(waiting) >= OUTBOX_MAX:
            raise OutboxFull(f"{name} owes {send.target} {len(waiting)} messages; is {send.target} running?")
        outbox[send.target] = (*waiting, envelope)
        sent[send.target] = number
        owed.append(envelope)
    return outbox, sent, tuple(owed)
