"""The ledger in Redis: journal, snapshots, projections and lease of one role, fenced inside the server.

Every write is one Lua script that compares the lease with the writer's before it touches anything, so that a stale
incarnation cannot write between check and act. Stream ids are `<seq>-0`: the journal's numbers are the server's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import cast

import redis

from actors.adapters.identity import IdentityFile, RoleMark
from actors.adapters.redis_wire import Script, ScriptWire, raw_connection
from actors.keys import ALL, KeyType, key
from actors.ports import Entry, Fenced, LedgerAway, LedgerCorrupt, Stored

PAGE_ENTRIES = 1_000
"""Entries a read of the tail asks for at once; two pages at most are in memory."""


class LedgerFull(LedgerAway):
    """The server is at its memory limit and took nothing of this write."""


# KEYS: lease, index. ARGV: epoch, owner, role. A lease only ever rises.
_ACQUIRE = Script("""
local held = redis.call('GET', KEYS[1])
if held and tonumber(string.match(held, '^(%d+) ') or '0') >= tonumber(ARGV[1]) then return 'FENCED ' .. held end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2])
redis.call('SADD', KEYS[2], 'lease:' .. ARGV[3])
return 'OK'
""")

# KEYS: lease, journal, index, then a projection's hash for each pair. ARGV: lease, seq, record, role,
# then for each projection: its index name, field, value (empty: delete).
_APPEND = Script("""
local held = redis.call('GET', KEYS[1])
if held ~= ARGV[1] then return 'FENCED ' .. (held or '') end
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
local seq = 0
if last[1] then seq = tonumber(string.match(last[1][1], '^(%d+)%-0$') or '-1') end
if tonumber(ARGV[2]) ~= seq + 1 then return 'LAST ' .. seq end
if seq == 0 then redis.call('SADD', KEYS[3], 'journal:' .. ARGV[4]) end
redis.call('XADD', KEYS[2], ARGV[2] .. '-0', 'r', ARGV[3])
for i = 4, #KEYS do
  local at = 5 + (i - 4) * 3
  if ARGV[at + 2] == '' then
    redis.call('HDEL', KEYS[i], ARGV[at + 1])
  else
    redis.call('SADD', KEYS[3], ARGV[at])
    redis.call('HSET', KEYS[i], ARGV[at + 1], ARGV[at + 2])
  end
end
return 'OK'
""")

# KEYS: lease, journal, index, snapshot, previous. ARGV: lease, seq, payload, role. A stored snapshot is a line
# `<seq>-0 <sha1 of the rest>` and the payload; one that is no longer what was written is not kept as the older one,
# and nothing is trimmed that a kept one might need.
_SAVE = Script("""
local held = redis.call('GET', KEYS[1])
if held ~= ARGV[1] then return 'FENCED ' .. (held or '') end
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
local seq = 0
if last[1] then seq = tonumber(string.match(last[1][1], '^(%d+)%-0$') or '-1') end
if tonumber(ARGV[2]) > seq then return 'LAST ' .. seq end
local function covered(stored)
  if not stored then return nil end
  local id, sum, at = string.match(stored, '^(%d+)%-0 (%x+)\\n()')
  if not id or redis.sha1hex(string.sub(stored, at)) ~= sum then return nil end
  return tonumber(id)
end
local current = redis.call('GET', KEYS[4])
local current_seq = covered(current)
if current_seq and current_seq < tonumber(ARGV[2]) then redis.call('SET', KEYS[5], current) end
redis.call('SET', KEYS[4], ARGV[2] .. '-0 ' .. redis.sha1hex(ARGV[3]) .. '\\n' .. ARGV[3])
redis.call('SADD', KEYS[3], 'snapshot:' .. ARGV[4], 'snapshot_previous:' .. ARGV[4])
local older = covered(redis.call('GET', KEYS[5]))
if older then redis.call('XTRIM', KEYS[2], 'MINID', older .. '-0') end
return 'OK'
""")


class RedisLedger:
    """`ports.Ledger` of one role and one incarnation, for one thread. `owner` says who holds the lease, for people."""

    def __init__(self, client: redis.Redis, role: str, owner: str, identity: IdentityFile) -> None:
        self.role = role
        self.owner = " ".join(owner.split())
        self.epoch = 0
        self._client = client
        self._wire = ScriptWire(client)
        self._identity = identity
        self._lease = ""
        self._keys = {kind: key(kind, role) for kind in _ROLE_KEYS}
        self._index = key(KeyType.INDEX, ALL)

    def acquire(self) -> int:
        """Draw the role's next epoch: fsynced in the identity file, then in the lease.

        Raises LedgerAway; Fenced if another incarnation drew a later one in between; LedgerCorrupt if the ledger
        holds less of this role than it is known to have held (emptied, or replaced while the engine ran).
        """
        known = self._identity.read().roles.get(self.role, RoleMark(0, 0, 0))  # first: what is there only grows
        with _translated(self.role, "acquire"):
            held = cast("bytes | None", self._client.get(self._keys[KeyType.LEASE]))
            last = self._last_seq()
        found = parse_lease(held)[0]
        if found < known.lease_epoch or last < known.seq:
            raise LedgerCorrupt(
                f"{self.role}: the ledger has epoch {found} and {last} entries, and had epoch {known.lease_epoch} and "
                f"{known.seq}: it is empty, another or older. Remedy: restore its append-only file"
            )
        epoch = self._identity.draw_epoch(self.role, found, last)
        with _translated(self.role, "acquire"):
            keys = [self._keys[KeyType.LEASE], self._index]
            answer = _ACQUIRE.run(self._client, keys, [epoch, self.owner, self.role])
        self._judge(answer, epoch)
        self.epoch, self._lease = epoch, f"{epoch} {self.owner}"
        return epoch

    def load(self) -> Stored:
        """Return the kept snapshots, newest first; whether they are whole is for the reader to check."""
        kinds = (KeyType.SNAPSHOT, KeyType.SNAPSHOT_PREVIOUS)
        with _translated(self.role, "load"):
            stored = cast("list[bytes | None]", self._client.mget([self._keys[kind] for kind in kinds]))
        return Stored(tuple(_unframed(payload) for payload in stored if payload is not None))

    def tail(self, after_seq: int) -> Iterator[tuple[int, bytes]]:
        """Yield what is there after `after_seq`; the page after the one being folded is already on its way."""
        with _translated(self.role, "tail"):
            last = self._last_seq()
            connection = raw_connection(self._client)
        clean = False
        try:
            pages = list(range(after_seq + 1, last + 1, PAGE_ENTRIES))
            for ahead, _ in enumerate(pages):
                with _translated(self.role, "tail"):
                    for start in pages[:2] if ahead == 0 else pages[ahead + 1 : ahead + 2]:
                        end = min(start + PAGE_ENTRIES - 1, last)
                        connection.send_command("XRANGE", self._keys[KeyType.JOURNAL], f"{start}-0", f"{end}-0")
                    page = cast("list[tuple[bytes, list[bytes]]]", connection.read_response())
                for entry_id, fields in page:
                    yield self._seq(entry_id), fields[1]
            clean = True
        finally:
            if not clean:  # an answer may still be on its way: this connection must not be used again
                connection.disconnect()
            self._client.connection_pool.release(cast("redis.Connection", connection))

    def append(self, entries: Sequence[Entry]) -> None:
        """Make the records, and their projections, durable before returning: a script each, sent at once.

        Each follows the one before it or is refused, so what stands is always the first of them. The server fsyncs once
        for all that it reads at once. Not repeated inside: after LedgerAway only reading tells what is there; after
        LedgerFull the first that was refused is not.
        """
        calls = [self._call(entry) for entry in entries]
        with _translated(self.role, "append"):
            answers = self._wire.run_all(_APPEND, calls)
        for entry, answer in zip(entries, answers, strict=True):
            self._judge(answer, self.epoch, entry.seq)

    def _call(self, entry: Entry) -> tuple[list[str], list[bytes | str | int]]:
        keys = [self._keys[KeyType.LEASE], self._keys[KeyType.JOURNAL], self._index]
        arguments: list[bytes | str | int] = [self._lease, entry.seq, entry.record, self.role]
        for projection in entry.projections:
            keys.append(key(projection.key_type, projection.symbol))
            arguments += [f"{projection.key_type}:{projection.symbol}", projection.field, projection.value]
        return keys, arguments

    def save_snapshot(self, seq: int, payload: bytes) -> None:
        """Keep it and the one before, trim the journal below the older, and note how far the ledger is."""
        kinds = (KeyType.LEASE, KeyType.JOURNAL, KeyType.SNAPSHOT, KeyType.SNAPSHOT_PREVIOUS)
        lease, journal, snapshot, previous = (self._keys[kind] for kind in kinds)
        keys = [lease, journal, self._index, snapshot, previous]
        with _translated(self.role, "snapshot"):
            answer = self._wire.run(_SAVE, keys, [self._lease, seq, payload, self.role])
        self._judge(answer, self.epoch, seq)
        self._identity.note_epoch(self.role, self.epoch, seq)

    def _last_seq(self) -> int:
        newest = self._client.xrevrange(self._keys[KeyType.JOURNAL], count=1)
        return self._seq(cast("bytes", newest[0][0])) if newest else 0

    def _seq(self, entry_id: bytes) -> int:
        number, _, rest = entry_id.partition(b"-")
        if rest != b"0":
            raise LedgerCorrupt(f"{self.role}: journal entry {entry_id!r} was not written by this program")
        return int(number)

    def _judge(self, answer: bytes, epoch: int, seq: int = 0) -> None:
        if answer == b"OK":
            return
        verdict, _, detail = answer.decode().partition(" ")
        if verdict == "LAST":
            raise LedgerCorrupt(
                f"{self.role}: entry {seq} does not follow the journal's last, {detail}. "
                "Remedy: restart the actor, which reads what is there"
            )
        held, owner = parse_lease(detail.encode())
        if held < epoch:
            raise LedgerCorrupt(
                f"{self.role}: the ledger holds a lease of epoch {held}, older than this incarnation's {epoch}: "
                "it lost what it had acknowledged. Remedy: restore its append-only file"
            )
        raise Fenced(f"{self.role}: epoch {epoch} is over; the lease is at {held}, held by {owner or 'nobody'}")


_ROLE_KEYS = (KeyType.LEASE, KeyType.JOURNAL, KeyType.SNAPSHOT, KeyType.SNAPSHOT_PREVIOUS)


def parse_lease(lease: bytes | None) -> tuple[int, str]:
    """Return (epoch, owner) of a lease's text; (0, "") where there is none. Raises LedgerCorrupt."""
    if not lease:
        return 0, ""
    epoch, _, owner = lease.decode(errors="replace").partition(" ")
    if not epoch.isdecimal():
        raise LedgerCorrupt(f"lease {lease!r} was not written by this program")
    return int(epoch), owner


def _unframed(stored: bytes) -> bytes:
    return stored.partition(b"\n")[2]


@contextlib.contextmanager
def _translated(role: str, doing: str) -> Iterator[None]:
    """Turn the client's errors into the port's: all mean that the ledger did not do what was asked, as far as known."""
    try:
        yield
    except redis.exceptions.RedisError as error:
        text = str(error)
        # Redis 7 gives the code to redis-py's error class; 6.2 wraps it in the text of a script's error.
        if isinstance(error, redis.exceptions.OutOfMemoryError) or "-OOM " in text:
            raise LedgerFull(
                f"{role}: the ledger is at its memory limit and takes no writes. Remedy: raise maxmemory (CONFIG SET "
                "maxmemory …), or purge the journals of roles that are gone"
            ) from error
        raise LedgerAway(f"{role}: the ledger did not {doing}: {type(error).__name__}: {text}") from error
