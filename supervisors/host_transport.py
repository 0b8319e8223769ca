"""A host's sends and timers, as the shell's ports."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from actors.adapters.fault_plan import Delayed, FaultPlan
from actors.messages import Acknowledged, AnyMessage, Envelope
from supervisors.lifecycle import Peer, Peers, Post, Seen
from supervisors.transport_credit import ReceiveCount, SendCredit

if TYPE_CHECKING:
    from supervisors.host import ActorHost


HELD_MAX = 32

BATCH_MAX = 32
"""Envelopes of one post: what the actor system costs, a post at a time, is then no longer what a backlog waits for."""


class Batch(msgspec.Struct):
    """Envelopes that wait for the end of the turn, under the credit that the first of them took."""

    address: object
    number: int
    envelopes: list[Envelope]


class HostTransport:
    """Sends envelopes to whoever holds a role by the newest table, within that peer's credit.

    The first of a turn to a peer leaves at once; those after it, in one post at `flush`, which ends the turn, or as
    soon as they are `BATCH_MAX`. An acknowledgement always waits, and takes the place of one before it: it speaks for
    all up to its number. A process that dies in between has lost what it would have lost a moment earlier.
    """

    def __init__(self, host: ActorHost, role: str, faults: FaultPlan | None = None) -> None:
        self._host = host
        self._role = role
        self._faults = faults
        self._version = 0
        self._table: dict[str, Peer] = {}
        self._held: list[Envelope] = []
        self.credit = SendCredit()
        self.received = ReceiveCount()
        self.refused: dict[str, int] = {}
        self._told: set[str] = set()
        self._batches: dict[str, Batch] = {}

    def learn(self, peers: Peers) -> list[str]:
        """Take a newer table; return the roles whose incarnation changed."""
        if peers.version <= self._version:
            return []
        self._version = peers.version
        self.flush()  # to those for whom it was numbered
        table = {peer.role: peer for peer in peers.table}
        changed = [
            role
            for role, peer in table.items()
            if role != self._role and (role not in self._table or self._table[role].epoch != peer.epoch)
        ]
        self._table = table
        for role in changed:
            self.credit.reset(role)
        held, self._held = self._held, []
        for envelope in held:
            if not self._hand_over(envelope):
                self.refused[envelope.target] = self.refused.get(envelope.target, 0) + 1
        return changed

    def _hold(self, envelope: Envelope) -> bool:
        """Until the first table is there keep what is not owed: nobody would send it again, and a recovery asks so."""
        if self._version or envelope.delivery_seq or len(self._held) >= HELD_MAX:
            return False
        self._held.append(envelope)
        return True

    def send(self, envelope: Envelope) -> bool:
        """Stamp the target's incarnation and hand over; False without a known peer or without credit.

        What a fault plan drops, holds or delays counts as sent: a network gives no sign of it either.
        """
        if self._faults is None:
            return self._hand_over(envelope)
        sent = True
        for one in self._faults.on_send(envelope):
            if one.after_s > 0:
                self._host.after(one.after_s, one)
            else:
                sent = self._hand_over(one.envelope) and sent
        return sent

    def due(self, payload: object) -> bool:
        """Whether the wake-up was an envelope that a fault plan had delayed; it is sent now."""
        if not isinstance(payload, Delayed):
            return False
        self._hand_over(payload.envelope)
        return True

    def _hand_over(self, envelope: Envelope) -> bool:
        peer = self._table.get(envelope.target)
        if peer is None:
            return self._hold(envelope)
        stamped = msgspec.structs.replace(envelope, target_epoch=peer.epoch)
        batch = self._batches.get(envelope.target)
        if batch is None:
            number = self.credit.take(envelope.target, time.monotonic_ns())
            if number is None:
                self.refused[envelope.target] = self.refused.get(envelope.target, 0) + 1
                return False
            batch = self._batches[envelope.target] = Batch(peer.address, number, [])
        waiting, is_ack = batch.envelopes, isinstance(envelope.body, Acknowledged)
        if is_ack and waiting and isinstance(waiting[-1].body, Acknowledged):
            waiting[-1] = stamped
            return True
        waiting.append(stamped)
        at_once = not is_ack and envelope.target not in self._told
        if at_once or len(waiting) >= BATCH_MAX:
            self._told.add(envelope.target)
            self._post(self._batches.pop(envelope.target))
        return True

    def flush(self) -> None:
        """End the turn: what waits leaves."""
        self._told.clear()
        for target in tuple(self._batches):
            self._post(self._batches.pop(target))

    def _post(self, batch: Batch) -> None:
        self._host.send(batch.address, Post(self._role, self._host.epoch, batch.number, tuple(batch.envelopes)))

    def handled(self, post: Post, sender: object) -> None:
        """Say so to its sender where that is due."""
        if self.received.due(post.sender, post.sender_epoch, post.number):
            self._host.send(sender, Seen(self._role, self._host.epoch, post.sender_epoch, post.number))

    def seen(self, seen: Seen) -> None:
        """Take a report, unless it is meant for, or made by, another incarnation."""
        peer = self._table.get(seen.role)
        if peer is not None and peer.epoch == seen.epoch and seen.sender_epoch == self._host.epoch:
            self.credit.seen(seen.role, seen.number)


class ShellTimer(msgspec.Struct, frozen=True):
    """Payload of a wake-up; only the newest generation of a name counts."""

    name: str
    generation: int

    def __str__(self) -> str:
        return f"ShellTimer({self.name})"


class HostTimers:
    """Named timers over the actor system's wake-ups, which cannot be cancelled: old generations are ignored."""

    def __init__(self, host: ActorHost) -> None:
        self._host = host
        self._generation = 0
        self._current: dict[str, int] = {}

    def start(self, name: str, after_ns: int) -> None:
        """Start or move."""
        self._generation += 1
        self._current[name] = self._generation
        self._host.after(after_ns / 1e9, ShellTimer(name, self._generation))

    def cancel(self, name: str) -> None:
        """Forget."""
        self._current.pop(name, None)

    def due(self, payload: object) -> str | None:
        """Name of the timer if this wake-up is its newest generation."""
        if not isinstance(payload, ShellTimer) or self._current.get(payload.name) != payload.generation:
            return None
        del self._current[payload.name]
        return payload.name


class NoDriver:
    """Driver of a role that has none: a command to it is a bug of its reducer."""

    def __init__(self, role: str) -> None:
        self._role = role

    def post(self, command: AnyMessage) -> None:
        """Refuse."""
        raise AssertionError(f"{self._role} has no driver, but its reducer drives {type(command).__name__}")
