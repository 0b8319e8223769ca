"""Laws of journals, delivery and fencing, checked on raw bytes by bookkeeping of its own.

Nothing here uses the engine's decoding, its delivery rules or its fold, except for the one law whose content is that
fold: the state of a recovered actor equals the fold of its journal from the first entry.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from actors.core import advance, new_core
from actors.messages import Acknowledged, Envelope, JournalRecord
from tests.sim.hosts import Host, Incarnation
from tests.sim.ledger import Entry, LedgerStore
from tests.sim.scheduler import Violation

OUTBOX_BOUND = 400
"""More owed messages to one role than a run can honestly produce."""

_to_json = msgspec.json.Encoder().encode


class JournalLaws:
    """Watches the store and the network."""

    def __init__(self, store: LedgerStore) -> None:
        self.store = store
        self.near = True
        self.hosts: dict[str, Host] = {}
        self.raw: dict[str, list[dict[str, Any]]] = {}
        self.accepted: dict[tuple[str, str], int] = {}
        self.message_ids: dict[str, set[str]] = {}
        self.sent_owed: dict[str, bytes] = {}
        self.owed_number: dict[tuple[str, str, int], str] = {}
        self.shadow: dict[str, Any] = {}

    # ---- what is written

    def appended(self, role: str, entry: Entry) -> dict[str, Any]:
        """Check one accepted append; return its JSON."""
        record: dict[str, Any] = json.loads(entry.record)
        journal = self.raw.setdefault(role, [])
        if self.near and entry.writer_epoch != self.store.epochs[role]:
            raise Violation(
                "a role has one writer",
                f"{role}: entry {entry.seq} was written in epoch {entry.writer_epoch}, but {self.store.epochs[role]} "
                "holds the role",
            )
        if self.near and journal and record["epoch"] < journal[-1]["epoch"]:
            raise Violation("epochs only rise", f"{role}: {journal[-1]['epoch']} then {record['epoch']}")
        if record["epoch"] != entry.writer_epoch or record["seq"] != len(journal) + 1:
            raise Violation(
                "a role has one writer", f"{role}: entry {entry.seq} says {record['epoch']}:{record['seq']}"
            )
        journal.append(record)
        self.message_ids.setdefault(role, set()).add(record["input"]["message_id"])
        self._owed_came(role, record["input"])
        return record

    def _owed_came(self, role: str, envelope: dict[str, Any]) -> None:
        number = envelope.get("delivery_seq", 0)
        if not number:
            return
        pair = (envelope["source"], role)
        if number != self.accepted.get(pair, 0) + 1:
            raise Violation(
                "owed messages are applied once and in order",
                f"{role} took {pair[0]}'s number {number} after {self.accepted.get(pair, 0)}",
            )
        self.accepted[pair] = number
        sent = self.sent_owed.get(envelope["message_id"])
        if sent is None or json.loads(sent) != envelope:
            raise Violation("owed messages arrive as sent", f"{role} took {envelope['message_id']}, sent was {sent!r}")

    # ---- what is sent

    def sent(self, envelope: Envelope) -> None:
        """Check one envelope on its way out."""
        if envelope.delivery_seq:
            self._owed_left(envelope)
        elif isinstance(envelope.body, Acknowledged):
            durable = self.accepted.get((envelope.target, envelope.source), 0)
            if envelope.body.delivery_seq > durable:
                raise Violation(
                    "no acknowledgement before the journal",
                    f"{envelope.source} told {envelope.target} it has {envelope.body.delivery_seq}, but has {durable}",
                )

    def _owed_left(self, envelope: Envelope) -> None:
        encoded = _to_json(envelope)
        first = self.sent_owed.setdefault(envelope.message_id, encoded)
        if first != encoded:
            raise Violation("owed messages are the same at every replay", f"{first!r} became {encoded!r}")
        key = (envelope.source, envelope.target, envelope.delivery_seq)
        if self.owed_number.setdefault(key, envelope.message_id) != envelope.message_id:
            raise Violation(
                "owed messages are the same at every replay",
                f"{key} was {self.owed_number[key]} and is {envelope.message_id}",
            )
        cause_seq = int(envelope.message_id.rpartition(":")[2].partition(".")[0])
        if cause_seq > len(self.raw.get(envelope.source, [])):
            raise Violation("journal first, then act", f"{envelope.message_id} left before its cause was journaled")

    def must_be_journaled(self, incarnation: Incarnation, message_id: str, what: str) -> None:
        """Raise unless this input is in the role's journal."""
        if message_id not in self.message_ids.get(incarnation.host.name, ()):
            raise Violation(
                "journal first, then act", f"{incarnation} runs {what} for {message_id}, not in the journal"
            )

    # ---- what is remembered

    def fold(self, host: Host) -> Any:
        """Fold what is new in the role's journal into the shadow of it, and return it."""
        core = self.shadow.get(host.name)
        if core is None:
            core = new_core(host.role)
        for entry in self.store.journals.get(host.name, [])[core.seq :]:
            record = msgspec.json.decode(entry.record, type=JournalRecord)
            core = advance(host.role, core, record.input, record.now_ns, record.epoch).core
        self.shadow[host.name] = core
        return core

    def state_is_fold(self, host: Host) -> None:
        """The live state equals the fold of the whole journal."""
        incarnation = host.current
        if incarnation is None or not host.ready or incarnation.paused:
            return
        live, folded = incarnation.shell.core, self.fold(host)
        if self.near and live != folded:
            raise Violation("state equals the fold of the journal", f"{incarnation}: {_difference(live, folded)}")
        for target, owed in live.outbox.items():
            if len(owed) > OUTBOX_BOUND:
                raise Violation("everything has a bound", f"{host.name} owes {target} {len(owed)} messages")

    def recovered(self, incarnation: Incarnation) -> None:
        """Right after a recovery: the state equals the fold, unless a successor already writes."""
        if self.near and incarnation.host.current is incarnation:
            live, folded = incarnation.shell.core, self.fold(incarnation.host)
            if live != folded:
                raise Violation("state equals the fold of the journal", f"{incarnation}: {_difference(live, folded)}")

    def nothing_owed(self) -> None:
        """At the end of a run with a long quiet: every outbox is empty, and every number sent was accepted."""
        for name, host in self.hosts.items():
            core = self.fold(host)
            for target, owed in core.outbox.items():
                raise Violation(
                    "what is owed is delivered",
                    f"{name} still owes {target} {len(owed)} messages, first {owed[0].message_id} {owed[0].body}",
                )
            for target, count in core.sent.items():
                accepted = self.accepted.get((name, target), 0)
                if target in self.hosts and accepted != count:
                    raise Violation(
                        "what is owed is delivered",
                        f"{name} owed {target} {count} in all, {accepted} are in its journal",
                    )


def _difference(live: Any, folded: Any) -> str:
    """Name the first fields that differ."""
    left, right = msgspec.to_builtins(live), msgspec.to_builtins(folded)
    return "; ".join(_differences("", left, right)[:5])


def _differences(path: str, left: Any, right: Any) -> list[str]:
    if isinstance(left, dict) and isinstance(right, dict):
        found = []
        for key in [*left, *(key for key in right if key not in left)]:
            found += _differences(f"{path}.{key}", left.get(key), right.get(key))
        return found
    return [] if left == right else [f"{path}: live {str(left)[:200]}, folded {str(right)[:200]}"]
