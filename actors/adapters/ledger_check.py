"""Whether the ledger is the one that this run directory knows, and what it holds: asked at start and by tools."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import cast

import msgspec
import redis

from actors.adapters.identity import IdentityFile
from actors.adapters.redis_ledger import parse_lease
from actors.adapters.redis_wire import Script
from actors.keys import ALL, KeyType, key

# The id is set only in a ledger that is empty, in one step.
_CLAIM = Script("""
if redis.call('EXISTS', KEYS[2]) == 1 then return redis.call('GET', KEYS[1]) or '' end
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
""")

# KEYS: lease. ARGV: the lease as it was read. The epoch stays: it only ever rises.
_RELEASE = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) end
return 'OK'
""")


class LedgerRefused(RuntimeError):
    """The ledger is empty, another's, or older than the identity file says."""


class Usage(msgspec.Struct, frozen=True):
    """What the keys of one type hold: bytes as the server counts them, entries of all its keys together."""

    keys: int
    memory_bytes: int
    entries: int


def check_ledger(identity: IdentityFile, client: redis.Redis) -> str:
    """Return the ledger's id; on a first start, give it one, in the file and in the ledger.

    Raises LedgerRefused, IdentityDamaged, redis.RedisError.
    """
    known, name = identity.read(), key(KeyType.IDENTITY, ALL)
    found = (cast("bytes | None", client.get(name)) or b"").decode()
    if not known.ledger_id and found:
        raise LedgerRefused(
            f"the ledger belongs to the run directory with id {found}, and {identity.path} does not know it. Remedy: "
            "start in that run directory, restore the identity file from a backup, or name another server in ledger.url"
        )
    if known.confirmed and not found:
        raise LedgerRefused(
            f"the ledger is empty, but {identity.path} knows it as {known.ledger_id}: the wrong server, or its "
            "append-only file was lost or opened by an older Redis. Remedy: start the server on its own directory with "
            "the version that wrote it, restore its append-only file, or start with --fresh"
        )
    if found and found != known.ledger_id:
        raise LedgerRefused(
            f"the ledger is another: its id is {found}, {identity.path} knows {known.ledger_id}. Remedy: correct "
            "ledger.url, or start in the run directory that this ledger belongs to"
        )
    if not known.confirmed:
        _claim(identity, client, name)
    _refuse_older(identity, client)
    return identity.read().ledger_id


def release_owners(client: redis.Redis) -> int:
    """Clear who owns each lease, and fence them by that; epochs stay. For a start that found no earlier run alive."""
    released = 0
    for role in _roles(client, KeyType.LEASE):
        name = key(KeyType.LEASE, role)
        held = cast("bytes | None", client.get(name))
        epoch, owner = parse_lease(held)
        if held and owner:
            _RELEASE.run(client, [name], [held, f"{epoch} "])
            released += 1
    return released


def ledger_memory(client: redis.Redis) -> Mapping[KeyType, Usage]:
    """Measure each key type of the ledger, by the keys that the index knows."""
    usage: dict[KeyType, Usage] = {}
    for key_type, symbol in _index(client):
        name = key(key_type, symbol)
        memory = client.memory_usage(name)
        if memory is None:
            continue
        before = usage.get(key_type, Usage(0, 0, 0))
        entries = before.entries + _entries(client, key_type, name)
        usage[key_type] = Usage(before.keys + 1, before.memory_bytes + int(memory), entries)
    return usage


def find_orphans(client: redis.Redis, roles: Collection[str]) -> tuple[tuple[KeyType, str], ...]:
    """Journals, snapshots and leases of roles that are not among `roles`, and index entries whose key is gone."""
    of_role = (KeyType.JOURNAL, KeyType.SNAPSHOT, KeyType.SNAPSHOT_PREVIOUS, KeyType.LEASE)
    return tuple(
        (key_type, symbol)
        for key_type, symbol in _index(client)
        if (key_type in of_role and symbol not in roles) or not client.exists(key(key_type, symbol))
    )


def purge_orphans(
    identity: IdentityFile, client: redis.Redis, roles: Collection[str]
) -> tuple[tuple[KeyType, str], ...]:
    """Delete what `find_orphans` finds, on a person's word: what a role that is gone owed to others goes with it.

    Leases stay: the epoch of a role that comes back must be above all it ever had.
    """
    purged = tuple(orphan for orphan in find_orphans(client, roles) if orphan[0] is not KeyType.LEASE)
    for key_type, symbol in purged:
        if key_type is KeyType.JOURNAL:
            identity.forget_entries(symbol)
        client.delete(key(key_type, symbol))
        client.srem(key(KeyType.INDEX, ALL), f"{key_type}:{symbol}")
    return purged


def _claim(identity: IdentityFile, client: redis.Redis, name: str) -> None:
    """File first, unconfirmed; then the ledger; then confirmed: a crash between any two is taken up here again."""
    ledger_id = identity.propose_ledger_id().ledger_id
    claimed = _CLAIM.run(client, [name, key(KeyType.INDEX, ALL)], [ledger_id])
    if claimed.decode() != ledger_id:
        raise LedgerRefused(
            f"the ledger already has journals and {identity.path} is new. Remedy: start in the run directory that this "
            "ledger belongs to, or name another server in ledger.url"
        )
    identity.confirm_ledger_id(ledger_id)


def _refuse_older(identity: IdentityFile, client: redis.Redis) -> None:
    for role, mark in identity.read().roles.items():
        epoch, _ = parse_lease(cast("bytes | None", client.get(key(KeyType.LEASE, role))))
        newest = client.xrevrange(key(KeyType.JOURNAL, role), count=1)
        seq = int(cast("bytes", newest[0][0]).partition(b"-")[0]) if newest else 0
        if epoch < mark.lease_epoch or seq < mark.seq:
            raise LedgerRefused(
                f"the ledger is older than {identity.path} says: {role} has epoch {epoch} and {seq} entries there, and "
                f"had epoch {mark.lease_epoch} and {mark.seq}. Orders may have gone out that it does not know. Remedy: "
                "restore the newer append-only file, or start with --fresh and settle with the broker by hand"
            )


def _index(client: redis.Redis) -> list[tuple[KeyType, str]]:
    members = cast("set[bytes]", client.smembers(key(KeyType.INDEX, ALL)))
    split = (member.decode().partition(":") for member in members)
    return sorted((KeyType(key_type), symbol) for key_type, _, symbol in split)


def _roles(client: redis.Redis, key_type: KeyType) -> list[str]:
    return [symbol for found, symbol in _index(client) if found is key_type]


def _entries(client: redis.Redis, key_type: KeyType, name: str) -> int:
    if key_type is KeyType.JOURNAL:
        return int(client.xlen(name))
    if key_type in (KeyType.ORDERS, KeyType.POSITIONS, KeyType.OUTCOMES, KeyType.FILLS, KeyType.RECONCILE):
        return int(client.hlen(name))
    return 1
