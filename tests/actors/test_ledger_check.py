"""Whether a start accepts the ledger it finds; and what the ledger says of its own size."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from actors.adapters.identity import IdentityFile
from actors.adapters.ledger_check import (
    LedgerRefused,
    check_ledger,
    find_orphans,
    ledger_memory,
    purge_orphans,
)
from actors.adapters.redis_ledger import RedisLedger
from actors.keys import ALL, KeyType, key
from actors.ports import Entry, Projection
from tests.actors.redis_fixture import RedisPair

ID = key(KeyType.IDENTITY, ALL)


@pytest.fixture
def identity(tmp_path: Path) -> IdentityFile:
    return IdentityFile(tmp_path / "identity.json")


@pytest.fixture
def client(embedded_redis: RedisPair) -> Iterator[redis.Redis]:
    with embedded_redis.ledger_client() as opened:
        yield opened


def used(identity: IdentityFile, client: redis.Redis, role: str = "counter", entries: int = 5) -> RedisLedger:
    ledger = RedisLedger(client, role, "test", identity)
    ledger.acquire()
    for seq in range(1, entries + 1):
        ledger.append([Entry(seq, b"x" * 100)])
    return ledger


def test_a_first_start_gives_file_and_ledger_one_id_and_later_starts_agree(
    identity: IdentityFile, client: redis.Redis
) -> None:
    ledger_id = check_ledger(identity, client)
    assert str(uuid.UUID(ledger_id)) == ledger_id
    assert client.get(ID) == ledger_id.encode()
    used(identity, client)
    assert check_ledger(identity, client) == ledger_id
    assert check_ledger(IdentityFile(identity.path), client) == ledger_id


def test_an_empty_ledger_is_refused_where_the_file_knows_one(identity: IdentityFile, client: redis.Redis) -> None:
    check_ledger(identity, client)
    client.flushall()
    with pytest.raises(LedgerRefused, match=r"is empty.*Remedy"):
        check_ledger(identity, client)


def test_another_ledger_is_refused(identity: IdentityFile, client: redis.Redis) -> None:
    check_ledger(identity, client)
    client.set(ID, str(uuid.uuid4()))
    with pytest.raises(LedgerRefused, match=r"is another.*Remedy"):
        check_ledger(identity, client)


def test_a_ledger_that_knows_another_run_directory_is_refused_by_a_new_one(
    identity: IdentityFile, client: redis.Redis, tmp_path: Path
) -> None:
    check_ledger(identity, client)
    with pytest.raises(LedgerRefused, match=r"belongs to the run directory.*Remedy"):
        check_ledger(IdentityFile(tmp_path / "new" / "identity.json"), client)


def test_a_ledger_with_journals_and_no_id_is_refused_by_a_new_run_directory(
    identity: IdentityFile, client: redis.Redis, tmp_path: Path
) -> None:
    check_ledger(identity, client)
    used(identity, client)
    client.delete(ID)
    with pytest.raises(LedgerRefused, match=r"already has journals.*Remedy"):
        check_ledger(IdentityFile(tmp_path / "new" / "identity.json"), client)


def test_a_ledger_that_went_back_is_refused_by_its_lease(identity: IdentityFile, client: redis.Redis) -> None:
    check_ledger(identity, client)
    used(identity, client)
    used_again = RedisLedger(client, "counter", "test", identity)
    assert (used_again.acquire(), used_again.acquire()) == (2, 3)
    client.set(key(KeyType.LEASE, "counter"), "1 test")
    with pytest.raises(LedgerRefused, match=r"is older.*epoch 1 .*epoch 2.*Remedy"):
        check_ledger(identity, client)


def test_a_ledger_that_went_back_is_refused_by_its_journal(identity: IdentityFile, client: redis.Redis) -> None:
    check_ledger(identity, client)
    used(identity, client).save_snapshot(4, b"snapshot")
    client.xtrim(key(KeyType.JOURNAL, "counter"), maxlen=0)
    with pytest.raises(LedgerRefused, match=r"is older.*0 entries.* and 4\."):
        check_ledger(identity, client)


def test_an_epoch_drawn_and_never_taken_is_not_mistaken_for_an_older_ledger(
    identity: IdentityFile, client: redis.Redis
) -> None:
    check_ledger(identity, client)
    used(identity, client)
    assert identity.draw_epoch("counter", 1, 5) == 2  # and then a crash, before the lease was written
    check_ledger(identity, client)


@pytest.mark.parametrize("written", [False, True])
def test_a_first_start_that_died_in_the_middle_is_taken_up(
    identity: IdentityFile, client: redis.Redis, written: bool
) -> None:
    ledger_id = identity.propose_ledger_id().ledger_id
    if written:
        client.set(ID, ledger_id)
    assert check_ledger(identity, client) == ledger_id
    assert identity.read().confirmed


def test_memory_is_told_for_each_key_type(identity: IdentityFile, client: redis.Redis) -> None:
    one, other = used(identity, client, "one", 3), used(identity, client, "other", 4)
    projections = (Projection("orders", "AAPL", "o1", b"v"), Projection("orders", "MSFT", "o2", b"v"))
    one.append([Entry(4, b"x", projections)])
    other.save_snapshot(4, b"snapshot")
    usage = ledger_memory(client)
    assert {kind: (found.keys, found.entries) for kind, found in usage.items()} == {
        KeyType.JOURNAL: (2, 8),
        KeyType.LEASE: (2, 2),
        KeyType.ORDERS: (2, 2),
        KeyType.SNAPSHOT: (1, 1),
    }
    assert all(found.memory_bytes > 0 for found in usage.values())


def test_orphans_are_found_and_purged_but_never_an_epoch(identity: IdentityFile, client: redis.Redis) -> None:
    check_ledger(identity, client)
    used(identity, client, "kept")
    used(identity, client, "gone").save_snapshot(5, b"snapshot")
    purged = purge_orphans(identity, client, {"kept"})
    assert (KeyType.JOURNAL, "gone") in purged
    assert (KeyType.SNAPSHOT, "gone") in purged
    assert find_orphans(client, {"kept"}) == ((KeyType.LEASE, "gone"),)
    assert client.xlen(key(KeyType.JOURNAL, "kept")) == 5
    check_ledger(identity, client)
    again = RedisLedger(client, "gone", "test", identity)
    assert again.acquire() == 2
    again.append([Entry(1, b"from the beginning")])
