"""The shell over a real Redis: recovery folds to what was, whatever was trimmed, damaged or killed on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.adapters.identity import IdentityFile
from actors.adapters.redis_ledger import RedisLedger
from actors.adapters.redis_server import Purpose
from actors.core import Core, advance, new_core
from actors.keys import KeyType, key
from actors.messages import Acknowledged, Envelope, JournalRecord, PriceSeen
from actors.ports import LedgerCorrupt
from actors.shell import TRIM_TIMER, Shell
from actors.snapshot import encode_snapshot
from tests.actors.redis_fixture import RedisPair
from tests.actors.toy import Counter, CounterRole, UntrimmedLedger, ports_with

JOURNAL = key(KeyType.JOURNAL, "counter")
SNAPSHOT = key(KeyType.SNAPSHOT, "counter")
PREVIOUS = key(KeyType.SNAPSHOT_PREVIOUS, "counter")


class Bench:
    """Starts incarnations of the counter, one after another, on one ledger."""

    def __init__(self, client: redis.Redis, identity: IdentityFile) -> None:
        self.client = client
        self.identity = identity
        self.records: dict[int, bytes] = {}

    def start(self, snapshot_every: int = 10, role: CounterRole | None = None) -> Shell[Counter]:
        ledger = UntrimmedLedger(RedisLedger(self.client, "counter", "test", self.identity), self.records)
        shell = Shell(role or CounterRole(), ports_with(ledger), snapshot_every=snapshot_every)
        shell.recover()
        return shell

    def replayed(self) -> Core[Counter]:
        """Fold every record ever appended, by hand: no snapshot, no ledger, no shell."""
        core = new_core(CounterRole())
        for seq in sorted(self.records):
            record = msgspec.json.decode(self.records[seq], type=JournalRecord)
            core = advance(CounterRole(), core, record.input, record.now_ns, record.epoch).core
        return core


@pytest.fixture
def bench(embedded_redis: RedisPair, tmp_path: Path) -> Iterator[Bench]:
    client = embedded_redis.ledger_client()
    yield Bench(client, IdentityFile(tmp_path / "identity.json"))
    client.close()


def feed(shell: Shell[Counter], count: int, px: int = 1) -> None:
    for _ in range(count):
        shell.driver_event(PriceSeen("AAPL", px, 7))


def acknowledge(shell: Shell[Counter], delivery_seq: int) -> None:
    shell.take(Envelope("l:1", "", "", "listener", "counter", 1, 1, Acknowledged(delivery_seq)))


def entries(client: redis.Redis) -> list[int]:
    found = cast("list[tuple[bytes, object]]", client.xrange(JOURNAL))
    return [int(entry_id.partition(b"-")[0]) for entry_id, _ in found]


def test_a_new_incarnation_has_the_state_of_the_old_one(bench: Bench) -> None:
    first = bench.start()
    feed(first, 37)
    second = bench.start()
    assert second.core == first.core == bench.replayed()
    assert (second.epoch, second.replayed) == (2, 7)


def test_two_snapshots_are_kept_and_the_journal_begins_at_the_older(bench: Bench) -> None:
    shell = bench.start(snapshot_every=10)
    feed(shell, 9)
    assert not bench.client.exists(SNAPSHOT)
    feed(shell, 1)
    assert (bench.client.exists(SNAPSHOT), bench.client.exists(PREVIOUS)) == (1, 0)
    assert entries(bench.client) == list(range(1, 11))  # with one snapshot alone, all of it might be needed
    feed(shell, 25)
    assert entries(bench.client) == list(range(20, 36))
    newest, older = shell.ports.ledger.load().snapshots
    assert [msgspec.json.decode(one.partition(b"\n")[0])["seq"] for one in (newest, older)] == [30, 20]
    assert bench.identity.read().roles["counter"].seq == 30


@pytest.mark.parametrize("damage", ["flipped", "cut", "header", "empty"])
def test_a_damaged_newest_snapshot_falls_back_to_the_older_and_a_longer_tail(bench: Bench, damage: str) -> None:
    first = bench.start(snapshot_every=10)
    feed(first, 35)
    stored = bench.client.get(SNAPSHOT)
    assert isinstance(stored, bytes)
    damaged = {
        "flipped": stored[:-9] + bytes([stored[-9] ^ 1]) + stored[-8:],
        "cut": stored[: len(stored) // 2],
        "header": b"30-0 0\n{nonsense" + stored,
        "empty": b"",
    }[damage]
    bench.client.set(SNAPSHOT, damaged)
    second = bench.start(snapshot_every=10)
    assert second.core == first.core
    assert second.counters["snapshot_damaged"] == 1
    assert second.replayed == 15
    feed(second, 5)  # a snapshot was due at once: the damaged one must not become the older that trimming trusts
    assert entries(bench.client)[0] == 20
    bench.client.set(SNAPSHOT, b"damaged again")
    assert bench.start().core == second.core == bench.replayed()


def test_two_damaged_snapshots_over_a_trimmed_journal_are_refused(bench: Bench) -> None:
    feed(bench.start(snapshot_every=10), 35)
    bench.client.set(SNAPSHOT, b"x")
    bench.client.set(PREVIOUS, b"y")
    with pytest.raises(LedgerCorrupt, match="entries are missing"):
        bench.start()


def test_a_gap_in_the_journal_is_refused(bench: Bench) -> None:
    feed(bench.start(snapshot_every=1_000), 20)
    bench.client.xdel(JOURNAL, "7-0")
    with pytest.raises(LedgerCorrupt, match="goes from 6 to 8"):
        bench.start()


def test_the_version_before_is_migrated_and_any_other_refused(bench: Bench) -> None:
    first = bench.start(snapshot_every=10)
    feed(first, 10)
    assert bench.start(role=CounterRole(schema_version=2)).core.role == first.core.role
    for version in (0, 3, 9):
        with pytest.raises(LedgerCorrupt, match="schema version 1"):
            bench.start(role=CounterRole(schema_version=version))


def test_an_entry_of_another_program_is_refused(bench: Bench) -> None:
    feed(bench.start(), 2)
    bench.client.xadd(JOURNAL, {"r": "x"}, id="3-7")
    with pytest.raises(LedgerCorrupt, match="not written by this program"):
        bench.start()


def test_what_was_owed_at_death_is_still_owed(bench: Bench) -> None:
    first = bench.start(snapshot_every=10)
    feed(first, 31)
    acknowledge(first, 4)
    first.timer_fired(TRIM_TIMER)
    owed = [envelope.delivery_seq for envelope in bench.start().core.outbox["listener"]]
    assert owed == [5, 6, 7, 8, 9, 10]


def test_projections_say_what_the_last_append_said(bench: Bench) -> None:
    shell = bench.start()
    feed(shell, 12, px=3)
    assert bench.client.hgetall(key(KeyType.POSITIONS, "AAPL")) == {b"total": b"36"}


def test_a_restart_of_the_server_between_two_appends_is_survived(bench: Bench, embedded_redis: RedisPair) -> None:
    first = bench.start()
    feed(first, 5)
    embedded_redis.ledger.stop()
    embedded_redis.ledger.start()
    assert bench.start().core == first.core


steps = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), st.integers(0, 50)),
        st.tuples(st.just("acknowledge"), st.integers(1, 12)),
        st.tuples(st.just("snapshot"), st.just(0)),
        st.tuples(st.just("restart"), st.integers(1, 9)),
        st.tuples(st.just("damage"), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_replay_of_snapshot_and_tail_equals_replay_of_all(
    embedded_redis: RedisPair, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    embedded_redis.fresh()
    with embedded_redis.ledger_client() as client:
        bench = Bench(client, IdentityFile(tmp_path_factory.mktemp("run") / "identity.json"))
        shell = bench.start(snapshot_every=4)
        whole = True
        for step, argument in steps:
            match step:
                case "feed":
                    shell.driver_event(PriceSeen("AAPL", argument, argument))
                case "acknowledge":
                    acknowledge(shell, min(argument, shell.core.sent.get("listener", 0)))
                case "snapshot":
                    shell.snapshot()
                    whole = True
                case "damage" if whole and client.exists(SNAPSHOT):
                    client.set(SNAPSHOT, b"damaged")
                    whole = False
                case "restart":
                    shell = bench.start(snapshot_every=argument)
                case _:
                    pass
        assert bench.start().core == shell.core == bench.replayed()


def test_recovery_of_100_000_entries(bench: Bench, embedded_redis: RedisPair, report: Callable[[str], None]) -> None:
    shell = bench.start(snapshot_every=10**9)
    core = shell.core
    with embedded_redis.ledger_client(Purpose.TOOL) as client, client.pipeline(transaction=False) as pipe:
        for number in range(100_000):
            envelope = Envelope(f"m{number}", "c", "", "driver", "counter", 1, number, PriceSeen("AAPL", 1, number))
            core = advance(CounterRole(), core, envelope, number, 1).core
            if "listener" in core.outbox:  # as if acknowledged by a snapshot long ago: not what is timed here
                core = msgspec.structs.replace(core, outbox={}, sent={})
            record = JournalRecord(core.seq, number, 1, envelope)
            pipe.xadd(JOURNAL, {"r": msgspec.json.encode(record)}, id=f"{core.seq}-0")
            if number % 5_000 == 4_999:
                pipe.execute()
    began = time.perf_counter()
    ledger = RedisLedger(bench.client, "counter", "test", bench.identity)
    count = sum(1 for _ in ledger.tail(0))
    read = time.perf_counter()
    assert count == 100_000
    recovered = Shell(_Quiet(), ports_with(ledger))
    recovered.recover()
    assert recovered.core.role.total == 100_000
    done = time.perf_counter()
    report(f"100,000 entries: read {read - began:.2f} s, recovered {done - read:.2f} s")
    assert len(encode_snapshot(CounterRole(), recovered.core)) < 10_000


class _Quiet(CounterRole):
    """A counter that owes nothing."""

    def reduce(self, state: Counter, envelope: Envelope, now_ns: int):  # type: ignore[no-untyped-def]
        after, effects = super().reduce(state, envelope, now_ns)
        return after, effects[-1:]
