"""The bus's streams: how an entry is written, bounded and read back, for actors and for `run.py signal` alike."""

from __future__ import annotations

from typing import cast

import msgspec
import redis

from actors.adapters.redis_wire import Script
from actors.keys import ALL, KeyType, key
from actors.messages import Envelope, Signal, SignalReceived, SignalUnreadable
from actors.signal_form import SignalFormError, format_signal, parse_signal

ACKNOWLEDGED_KEPT = 10_000
"""Acknowledged entries kept in a stream that has groups, for people to look at."""

ENTRIES_MAX = 100_000
"""Entries in such a stream, acknowledged or not; beyond it a publish is refused, and nothing is trimmed unread."""

RING_ENTRIES_MAX = {KeyType.COUNTERFACTUAL: 10_000, KeyType.ALERTS: 10_000, KeyType.BOOK: 1_000}
"""Streams that are rings: the oldest go, read or not."""

SIGNAL_FIELD = "signal"
MESSAGE_FIELD = "message"
PAYLOAD_CHARS_KEPT = 2_000


class BusFull(RuntimeError):
    """A stream holds as many unacknowledged entries as it may."""


# KEYS: stream. ARGV: kept, most, field, value. Trimmed only below what every group has taken and acknowledged.
_PUBLISH = Script("""
local length = redis.call('XLEN', KEYS[1])
if length >= tonumber(ARGV[1]) then
  local low, low_ms, low_n = nil, nil, nil
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local facts = {}
    for i = 1, #group, 2 do facts[group[i]] = group[i + 1] end
    local id = facts['last-delivered-id']
    if tonumber(facts['pending']) > 0 then id = redis.call('XPENDING', KEYS[1], facts['name'])[2] end
    local ms, n = string.match(id, '^(%d+)-(%d+)$')
    ms, n = tonumber(ms), tonumber(n)
    if not low or ms < low_ms or (ms == low_ms and n < low_n) then low, low_ms, low_n = id, ms, n end
  end
  if low then length = length - redis.call('XTRIM', KEYS[1], 'MINID', low) end
  if length >= tonumber(ARGV[2]) then return 'FULL' end
end
return redis.call('XADD', KEYS[1], '*', ARGV[3], ARGV[4])
""")


def publish_signal(client: redis.Redis, signal: Signal) -> str:
    """Append a signal to the stream and return its entry id. Raises BusFull, redis.RedisError."""
    return publish_entry(client, KeyType.SIGNALS, SIGNAL_FIELD, format_signal(signal))


def publish_message(client: redis.Redis, stream: KeyType, envelope: Envelope) -> str:
    """Append an envelope to a stream: a signal in its own form, all else whole. Raises BusFull, redis.RedisError."""
    if isinstance(envelope.body, Signal):
        signal = envelope.body
        if not signal.correlation_id:
            signal = msgspec.structs.replace(signal, correlation_id=envelope.correlation_id)
        return publish_entry(client, stream, SIGNAL_FIELD, format_signal(signal))
    return publish_entry(client, stream, MESSAGE_FIELD, msgspec.json.encode(envelope))


def publish_entry(client: redis.Redis, stream: KeyType, field: str, value: bytes) -> str:
    """Append one entry, within the stream's bound, and return its id. Raises BusFull, redis.RedisError."""
    name = key(stream, ALL)
    if stream in RING_ENTRIES_MAX:
        entry_id = client.xadd(name, {field: value}, maxlen=RING_ENTRIES_MAX[stream], approximate=True)
        return cast("bytes", entry_id).decode()
    answer = _PUBLISH.run(client, [name], [ACKNOWLEDGED_KEPT, ENTRIES_MAX, field, value])
    if answer == b"FULL":
        raise BusFull(
            f"stream {name} holds {ENTRIES_MAX} entries that its readers have not acknowledged. "
            "Remedy: see whether its readers run (run.py status)"
        )
    return answer.decode()


def read_signal(entry_id: str, fields: dict[bytes, bytes]) -> SignalReceived | SignalUnreadable:
    """Turn an entry into a message, the same at every reading: its own time stands for when it was received."""
    payload = fields.get(SIGNAL_FIELD.encode())
    if payload is None:
        shown = repr(fields)[:PAYLOAD_CHARS_KEPT]
        return SignalUnreadable(entry_id, f"the entry has no field {SIGNAL_FIELD!r}", shown)
    received_ns = int(entry_id.partition("-")[0]) * 1_000_000
    try:
        return SignalReceived(parse_signal(payload, received_ns), entry_id)
    except SignalFormError as error:
        return SignalUnreadable(entry_id, str(error), payload.decode(errors="replace")[:PAYLOAD_CHARS_KEPT])
