"""The causal chain of an order, out of journal records: which input led to which message, back to the first.

Pure. A record names its cause by `causation_id`; a venue's report has no cause of ours and is joined to the order it
speaks of by client_order_id or intent_id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from actors.messages import JournalRecord

LINKS_MAX = 5_000
"""Records of one chain; beyond it the chain is cut and says so."""

_FIELDS = re.compile(rb'"(signal_id|intent_id|client_order_id|exec_id|correlation_id)":"([^"]+)"')
_LOCAL = re.compile(r":e\d+\.")
_LEG = re.compile(rb"-\d+[a-z]$")


class Link(msgspec.Struct, frozen=True):
    """One journaled input: in whose journal, which, and how it came about."""

    role: str
    seq: int
    at_ns: int
    message_id: str
    causation_id: str
    source: str
    sent_ns: int
    body: str
    text: str


class Entry(msgspec.Struct, frozen=True):
    """A journal entry as stored."""

    role: str
    payload: bytes


def chain_of(wanted: str, entries: Iterable[Entry]) -> list[Link]:
    """All records that belong with `wanted` (signal, intent, order, execution or correlation id), oldest first.

    Ids are gathered to a fixed point: what one record names, others are looked for by; except for a record that names
    several intents (what the venue was read to hold), which belongs to it and leads nowhere. O(rounds x entries).
    """
    stored = list(entries)
    ids, taken = {wanted.encode()}, [False] * len(stored)
    grew = True
    while grew:
        grew = False
        for index, entry in enumerate(stored):
            if taken[index] or not any(_names(entry.payload, one) for one in ids):
                continue
            taken[index] = grew = True
            found = _FIELDS.findall(entry.payload)
            if len(_intents(found)) > 1:
                continue
            named = {value for _, value in found}
            # A driver's event that correlates with nothing but itself names no chain.
            ids |= {value for value in named if not _LOCAL.search(value.decode())}
    decoder = msgspec.json.Decoder(JournalRecord)
    links = [
        _link(entry.role, decoder.decode(entry.payload)) for entry, is_in in zip(stored, taken, strict=True) if is_in
    ]
    links.sort(key=lambda link: (link.at_ns, link.role, link.seq))
    return links[:LINKS_MAX]


def _names(payload: bytes, wanted: bytes) -> bool:
    """Whether a value begins with this id and is not merely a longer number of its kind (`a-1` is not `a-10`)."""
    at = payload.find(b'"' + wanted)
    while at >= 0:
        if not payload[at + 1 + len(wanted) : at + 2 + len(wanted)].isdigit():
            return True
        at = payload.find(b'"' + wanted, at + 1)
    return False


def _intents(found: list[tuple[bytes, bytes]]) -> set[bytes]:
    """The intents that fields speak of; a client order id is its intent's and a letter for the leg."""
    whole = {value for name, value in found if name == b"intent_id"}
    return whole | {value[:-1] for name, value in found if name == b"client_order_id" and _LEG.search(value)}


def chain_text(links: list[Link]) -> str:
    """The chain as an indented tree: a message below the input that caused it."""
    depth: dict[str, int] = {}
    lines = []
    for link in links:
        level = depth.get(link.causation_id, -1) + 1
        depth[link.message_id] = level
        delay_ms = (link.at_ns - links[0].at_ns) / 1e6
        hop = f"{link.source} → {link.role}" if link.source not in ("driver", "timer", "shell") else link.role
        lines.append(f"{delay_ms:>12.3f} ms  {'   ' * level}{hop} #{link.seq}  {link.body}  {link.text}")
    return "\n".join(lines)


def chrome_trace(links: list[Link]) -> bytes:
    """The chain in the Trace Event Format (JSON object form), for chrome://tracing or Perfetto: a row a role."""
    rows = {role: number for number, role in enumerate(sorted({link.role for link in links}), 1)}
    events: list[dict[str, object]] = [
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": number, "args": {"name": role}}
        for role, number in rows.items()
    ]
    by_id = {link.message_id: link for link in links}
    for link in links:
        began_us = link.sent_ns / 1e3
        span = max(1.0, link.at_ns / 1e3 - began_us)
        arguments = {"id": link.message_id, "cause": link.causation_id, "detail": link.text}
        event = {"ph": "X", "name": link.body, "pid": 1, "tid": rows[link.role], "ts": began_us, "dur": span}
        events.append({**event, "args": arguments})
        cause = by_id.get(link.causation_id)
        if cause is not None:
            flow = {"name": "cause", "cat": "cause", "id": link.message_id, "pid": 1}
            events.append({**flow, "ph": "s", "tid": rows[cause.role], "ts": cause.at_ns / 1e3})
            events.append({**flow, "ph": "f", "bp": "e", "tid": rows[link.role], "ts": began_us + span})
    return msgspec.json.encode({"traceEvents": events, "displayTimeUnit": "ms"})


def _link(role: str, record: JournalRecord) -> Link:
    envelope = record.input
    body = msgspec.to_builtins(envelope.body)
    shown = {name: value for name, value in body.items() if name not in ("type", "orders", "positions", "read")}
    return Link(
        role=role,
        seq=record.seq,
        at_ns=record.now_ns,
        message_id=envelope.message_id,
        causation_id=envelope.causation_id,
        source=envelope.source,
        sent_ns=envelope.ts_init_ns,
        body=type(envelope.body).__name__,
        text=msgspec.json.encode(shown).decode()[:400],
    )
