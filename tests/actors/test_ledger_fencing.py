"""The journal in a real Redis: numbering, fencing, projections, and what happens when the server is away or full."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from actors.adapters.identity import IdentityDamaged, IdentityFile
from actors.adapters.ledger_check import release_owners
from actors.adapters.redis_ledger import LedgerFull, RedisLedger
from actors.adapters.redis_server import Purpose
from actors.keys import KeyType, key
from actors.ports import Entry, Fenced, Ledger, LedgerAway, LedgerCorrupt, Projection
from tests.actors.redis_fixture import RedisPair

MakeLedger = Callable[..., RedisLedger]


@pytest.fixture
def identity(tmp_path: Path) -> IdentityFile:
    return IdentityFile(tmp_path / "identity.json")


@pytest.fixture
def ledger_of(embedded_redis: RedisPair, identity: IdentityFile) -> Iterator[MakeLedger]:
    clients: list[redis.Redis] = []

    def make(role: str = "counter", owner: str = "test") -> RedisLedger:
        client = embedded_redis.ledger_client()
        clients.append(client)
        return RedisLedger(client, role, owner, identity)

    yield make
    for client in clients:
        client.close()


def records(ledger: Ledger, after_seq: int = 0) -> list[tuple[int, bytes]]:
    return list(ledger.tail(after_seq))


def append_until_refused(ledger: Ledger, seq: int) -> None:
    for number in range(seq, seq + 1_000):
        ledger.append([Entry(number, b"%d" % number)])


def test_entries_come_back_in_order_after_the_one_asked_for(ledger_of: MakeLedger) -> None:
    ledger = ledger_of()
    assert ledger.acquire() == 1
    for seq in range(1, 2_501):
        ledger.append([Entry(seq, b"%d" % seq)])
    assert records(ledger) == [(seq, b"%d" % seq) for seq in range(1, 2_501)]
    assert records(ledger, 2_499) == [(2_500, b"2500")]
    assert records(ledger, 2_500) == []


def test_a_tail_that_is_left_half_read_does_not_spoil_the_connection(ledger_of: MakeLedger) -> None:
    ledger = ledger_of()
    ledger.acquire()
    for seq in range(1, 2_201):
        ledger.append([Entry(seq, b"x")])
    half = ledger.tail(0)
    assert next(half) == (1, b"x")
    half.close()  # type: ignore[attr-defined]
    assert len(records(ledger)) == 2_200
    ledger.append([Entry(2_201, b"y")])


@pytest.mark.parametrize("seq", [0, 1, 2, 4, 100])
def test_an_entry_that_is_not_the_next_is_refused(ledger_of: MakeLedger, seq: int) -> None:
    ledger = ledger_of()
    ledger.acquire()
    ledger.append([Entry(1, b"a")])
    ledger.append([Entry(2, b"b")])
    with pytest.raises(LedgerCorrupt, match="does not follow the journal's last, 2"):
        ledger.append([Entry(seq, b"c")])
    assert records(ledger) == [(1, b"a"), (2, b"b")]


def test_a_stale_incarnation_can_write_nothing(ledger_of: MakeLedger, embedded_redis: RedisPair) -> None:
    old, new = ledger_of(owner="old"), ledger_of(owner="new")
    assert old.acquire() == 1
    old.append([Entry(1, b"a")])
    assert new.acquire() == 2
    with pytest.raises(Fenced, match="held by new"):
        old.append([Entry(2, b"stale", (Projection("positions", "AAPL", "qty", b"9"),))])
    with pytest.raises(Fenced):
        old.save_snapshot(1, b"stale")
    assert records(new) == [(1, b"a")]
    assert new.load().snapshots == ()
    with embedded_redis.ledger_client(Purpose.TOOL) as client:
        assert not client.exists(key(KeyType.POSITIONS, "AAPL"))


def test_a_writer_that_never_drew_an_epoch_is_refused(ledger_of: MakeLedger) -> None:
    ledger_of().acquire()
    with pytest.raises(Fenced):
        ledger_of().append([Entry(1, b"a")])


def test_entries_of_one_call_are_whole_up_to_the_first_that_is_refused(ledger_of: MakeLedger) -> None:
    ledger = ledger_of()
    ledger.acquire()
    ledger.append([Entry(number, b"%d" % number) for number in (1, 2, 3)])
    with pytest.raises(LedgerCorrupt, match="entry 6 does not follow the journal's last, 4"):
        ledger.append([Entry(4, b"4"), Entry(6, b"6"), Entry(7, b"7")])
    assert [record for _, record in records(ledger)] == [b"1", b"2", b"3", b"4"]
    ledger.append([Entry(5, b"5")])
    ledger_of().acquire()
    with pytest.raises(Fenced):
        ledger.append([Entry(6, b"6"), Entry(7, b"7")])
    assert len(records(ledger)) == 5


def test_entries_of_one_call_are_appended_where_the_server_does_not_know_the_script_any_more(
    embedded_redis: RedisPair, ledger_of: MakeLedger
) -> None:
    ledger = ledger_of()
    ledger.acquire()
    ledger.append([Entry(1, b"1")])
    with embedded_redis.ledger_client(Purpose.TOOL) as client:
        client.script_flush()
    ledger.append([Entry(number, b"%d" % number) for number in (2, 3, 4)])
    assert [record for _, record in records(ledger)] == [b"1", b"2", b"3", b"4"]


def test_two_roles_share_nothing(ledger_of: MakeLedger) -> None:
    one, other = ledger_of("broker.paper"), ledger_of("broker.live")
    assert (one.acquire(), one.acquire(), other.acquire()) == (1, 2, 1)
    one.append([Entry(1, b"one")])
    other.append([Entry(1, b"other")])
    one.save_snapshot(1, b"one's")
    assert records(other) == [(1, b"other")]
    assert other.load().snapshots == ()


def test_projections_are_written_and_deleted_with_the_append(ledger_of: MakeLedger, embedded_redis: RedisPair) -> None:
    ledger = ledger_of()
    ledger.acquire()
    ledger.append(
        [Entry(1, b"a", (Projection("orders", "AAPL", "o1", b"new"), Projection("positions", "BRK B", "q", b"1")))]
    )
    ledger.append(
        [Entry(2, b"b", (Projection("orders", "AAPL", "o2", b"new"), Projection("orders", "AAPL", "o1", b"")))]
    )
    with embedded_redis.ledger_client(Purpose.TOOL) as client:
        assert client.hgetall(key(KeyType.ORDERS, "AAPL")) == {b"o2": b"new"}
        assert client.hgetall(key(KeyType.POSITIONS, "BRK B")) == {b"q": b"1"}


def test_an_acknowledged_entry_outlives_kill_9_of_the_server(ledger_of: MakeLedger, embedded_redis: RedisPair) -> None:
    ledger = ledger_of()
    ledger.acquire()
    for seq in range(1, 51):
        ledger.append([Entry(seq, b"%d" % seq, (Projection("orders", "AAPL", "last", b"%d" % seq),))])
    os.kill(embedded_redis.ledger.pid, signal.SIGKILL)
    with pytest.raises(LedgerAway):
        append_until_refused(ledger, 51)
    embedded_redis.ledger.start()
    again = ledger_of()
    assert again.acquire() == 2
    found = records(again)
    assert found[:50] == [(seq, b"%d" % seq) for seq in range(1, 51)]


def test_the_server_being_away_is_said_by_every_call(ledger_of: MakeLedger, embedded_redis: RedisPair) -> None:
    ledger = ledger_of()
    ledger.acquire()
    embedded_redis.ledger.stop()
    for call in (ledger.acquire, ledger.load, lambda: records(ledger), lambda: ledger.append([Entry(1, b"")])):
        with pytest.raises(LedgerAway):
            call()


def test_a_server_that_does_not_answer_in_time_is_away(ledger_of: MakeLedger, embedded_redis: RedisPair) -> None:
    ledger = ledger_of()
    ledger.acquire()
    os.kill(embedded_redis.ledger.pid, signal.SIGSTOP)
    try:
        with pytest.raises(LedgerAway, match="Timeout"):
            ledger.append([Entry(1, b"a")])
    finally:
        os.kill(embedded_redis.ledger.pid, signal.SIGCONT)
    successor = ledger_of()
    assert successor.acquire() == 2
    # The entry whose answer never came may be there or not, but it is not there twice, and nothing follows it unseen.
    assert records(successor) in ([], [(1, b"a")])


def test_a_full_server_takes_nothing_and_names_the_remedy(ledger_of: MakeLedger, embedded_redis: RedisPair) -> None:
    ledger = ledger_of()
    ledger.acquire()
    with embedded_redis.ledger_client(Purpose.TOOL) as client:
        client.config_set("maxmemory", 1)
        try:
            with pytest.raises(LedgerFull, match="Remedy: raise maxmemory"):
                ledger.append([Entry(1, b"a", (Projection("orders", "AAPL", "o1", b"x"),))])
        finally:
            client.config_set("maxmemory", "1gb")
        assert not client.exists(key(KeyType.ORDERS, "AAPL"))
    ledger.append([Entry(1, b"a")])


def test_scripts_are_loaded_again_where_the_server_forgot_them(
    ledger_of: MakeLedger, embedded_redis: RedisPair
) -> None:
    ledger = ledger_of()
    ledger.acquire()
    ledger.append([Entry(1, b"a")])
    with embedded_redis.ledger_client(Purpose.TOOL) as client:
        client.script_flush()
    ledger.append([Entry(2, b"b")])
    assert len(records(ledger)) == 2


def test_an_epoch_is_above_the_identity_files_and_the_leases(
    ledger_of: MakeLedger, identity: IdentityFile, embedded_redis: RedisPair
) -> None:
    for _ in range(41):  # drawn by incarnations that died before the lease had it
        identity.draw_epoch("counter", 0, 0)
    assert ledger_of().acquire() == 42
    with embedded_redis.ledger_client(Purpose.TOOL) as client:
        client.set(key(KeyType.LEASE, "counter"), "90 somebody")
    assert ledger_of().acquire() == 91
    assert identity.read().roles["counter"].epoch == 91


def test_an_epoch_is_in_the_file_before_the_lease_has_it(
    ledger_of: MakeLedger, identity: IdentityFile, embedded_redis: RedisPair
) -> None:
    ledger = ledger_of()
    with embedded_redis.ledger_client(Purpose.TOOL) as client:
        client.set(key(KeyType.LEASE, "counter"), "3 somebody")
    identity.note_epoch("counter", 3)
    drawn = identity.draw_epoch("counter", 3, 0)  # one that crashed between file and lease
    assert (drawn, ledger.acquire()) == (4, 5)


def test_a_lost_identity_file_is_noticed_by_the_lease(ledger_of: MakeLedger, identity: IdentityFile) -> None:
    ledger_of().acquire()
    identity.path.unlink()
    unknowing = ledger_of()
    unknowing._identity = IdentityFile(identity.path)  # a new process, which never saw the file
    with pytest.raises(IdentityDamaged, match="is gone"):
        unknowing.acquire()


def test_a_server_that_lost_the_lease_is_corrupt_and_not_merely_fenced(
    ledger_of: MakeLedger, embedded_redis: RedisPair
) -> None:
    ledger = ledger_of()
    ledger.acquire()
    with embedded_redis.ledger_client(Purpose.TOOL) as client:
        client.flushall()
    with pytest.raises(LedgerCorrupt, match="lost what it had acknowledged"):
        ledger.append([Entry(1, b"a")])


def test_a_server_that_came_back_empty_is_refused_by_the_next_incarnation(
    ledger_of: MakeLedger, embedded_redis: RedisPair
) -> None:
    ledger = ledger_of()
    ledger.acquire()
    ledger.append([Entry(1, b"a")])
    ledger.acquire()
    with embedded_redis.ledger_client(Purpose.TOOL) as client:
        client.flushall()
    with pytest.raises(LedgerCorrupt, match=r"has epoch 0 and 0 entries, and had epoch 1 and 1"):
        ledger_of().acquire()


def test_clearing_owners_fences_them_and_keeps_the_epochs(ledger_of: MakeLedger, embedded_redis: RedisPair) -> None:
    ledger = ledger_of()
    ledger.acquire()
    with embedded_redis.ledger_client(Purpose.TOOL) as client:
        assert (release_owners(client), release_owners(client)) == (1, 0)
    with pytest.raises(Fenced, match="nobody"):
        ledger.append([Entry(1, b"a")])
    assert ledger_of().acquire() == 2


def test_of_two_incarnations_that_hammer_no_stale_write_ever_lands(
    ledger_of: MakeLedger, embedded_redis: RedisPair
) -> None:
    """Two writers take the role from each other: epochs in the journal may only rise, each number is there once."""
    appended: dict[int, list[int]] = {0: [], 1: []}
    wrong: list[Exception] = []

    def hammer(writer: int) -> None:
        try:
            for _ in range(15):
                ledger = ledger_of(owner=f"writer {writer}")
                try:
                    epoch = ledger.acquire()
                    last = max((seq for seq, _ in ledger.tail(0)), default=0)
                    for seq in range(last + 1, last + 40):
                        ledger.append([Entry(seq, b"%d" % epoch)])
                        appended[writer].append(seq)
                except Fenced:
                    continue
        except (LedgerCorrupt, LedgerAway, redis.RedisError, OSError) as error:
            wrong.append(error)

    threads = [threading.Thread(target=hammer, args=(writer,)) for writer in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    journal = records(ledger_of())
    epochs = [int(record) for _, record in journal]
    assert epochs == sorted(epochs)
    acknowledged = sorted(appended[0] + appended[1])
    assert acknowledged == [seq for seq, _ in journal] == list(range(1, len(journal) + 1))
