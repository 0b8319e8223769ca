"""The bus on a real server: bounds that drop nothing unread, retries in order, and readers that miss nothing."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import orjson
import pytest
import redis

from actors.adapters import bus_streams, redis_bus
from actors.adapters.bus_streams import BusFull, publish_message, publish_signal
from actors.adapters.redis_bus import RedisBus
from actors.adapters.redis_server import Purpose
from actors.adapters.signal_reader import SignalReader
from actors.effects import AppendLine, Publish
from actors.keys import ALL, KeyType, key
from actors.messages import (
    AnyMessage,
    Envelope,
    Outcome,
    PriceSeen,
    Side,
    Signal,
    SignalOutcome,
    SignalReceived,
    SignalUnreadable,
)
from tests.actors.redis_fixture import RedisPair
from tests.conftest import ROOT

SIGNALS = key(KeyType.SIGNALS, ALL)
Handed = queue.SimpleQueue[SignalReceived | SignalUnreadable]


def a_signal(number: int) -> Signal:
    return Signal(f"s{number}", "demo", "AAPL", Side.BUY, 3, 1, 2, ts_event_ns=5, expires_ns=6)


def cause(body: AnyMessage | None = None) -> Envelope:
    return Envelope("timer:1", "market:1", "", "timer", "source.momentum", 1, 9, body or PriceSeen("AAPL", 1, 9))


class Reading:
    """A reader and what it handed over."""

    def __init__(self, pair: RedisPair, consumer: str, redeliver_ms: int = 60_000, in_flight_max: int = 1_000) -> None:
        self.handed: Handed = queue.SimpleQueue()
        self.beats: queue.SimpleQueue[tuple[int, dict[str, int]]] = queue.SimpleQueue()
        self.reader = SignalReader(
            lambda: pair.bus_client(Purpose.READER),
            "allocator",
            consumer,
            self.handed.put,
            lambda nonce, progress: self.beats.put((nonce, progress)),
            redeliver_ms=redeliver_ms,
            in_flight_max=in_flight_max,
        )
        self.reader.start()

    def take(self, count: int, within_s: float = 60.0) -> list[SignalReceived | SignalUnreadable]:
        return [self.handed.get(timeout=within_s) for _ in range(count)]

    def ids(self, count: int) -> list[str]:
        return [one.signal.signal_id for one in self.take(count) if isinstance(one, SignalReceived)]


@pytest.fixture
def reading(embedded_redis: RedisPair) -> Iterator[Callable[..., Reading]]:
    made: list[Reading] = []

    def make(consumer: str = "one", **options: int) -> Reading:
        made.append(Reading(embedded_redis, consumer, **options))
        return made[-1]

    yield make
    for one in made:
        assert one.reader.stop()


@pytest.fixture
def client(embedded_redis: RedisPair) -> Iterator[redis.Redis]:
    with embedded_redis.bus_client() as opened:
        yield opened


def a_bus(pair: RedisPair, run_dir: Path, monotonic_s: Callable[[], float] = time.monotonic) -> RedisBus:
    return RedisBus(pair.bus_client(), "allocator", run_dir, monotonic_s=monotonic_s)


def wait_until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


# What a stream holds


def test_what_no_group_has_acknowledged_is_never_trimmed(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_streams, "ACKNOWLEDGED_KEPT", 5)
    ids = [publish_signal(client, a_signal(n)) for n in range(10)]
    for group in ("gate", "logger"):
        client.xgroup_create(SIGNALS, group, id="0")
        client.xreadgroup(group, "c", {SIGNALS: ">"}, count=8)
    client.xack(SIGNALS, "gate", *ids[:8])
    client.xack(SIGNALS, "logger", *ids[:3], *ids[4:8])
    publish_signal(client, a_signal(10))
    assert len(client.xrange(SIGNALS)) == 8  # from the fourth on, which one group has not acknowledged
    client.xack(SIGNALS, "logger", ids[3])
    publish_signal(client, a_signal(11))
    assert len(client.xrange(SIGNALS)) == 5  # the last one taken, two not yet taken, and two new ones


def test_a_stream_full_of_unread_entries_refuses_and_says_so(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_streams, "ACKNOWLEDGED_KEPT", 5)
    monkeypatch.setattr(bus_streams, "ENTRIES_MAX", 8)
    client.xgroup_create(SIGNALS, "gate", id="0", mkstream=True)
    for n in range(8):
        publish_signal(client, a_signal(n))
    with pytest.raises(BusFull, match="Remedy"):
        publish_signal(client, a_signal(8))
    assert client.xlen(SIGNALS) == 8


def test_a_ring_loses_its_oldest(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bus_streams.RING_ENTRIES_MAX, KeyType.COUNTERFACTUAL, 100)
    for _ in range(1_000):
        publish_message(client, KeyType.COUNTERFACTUAL, cause())
    assert 100 <= client.xlen(key(KeyType.COUNTERFACTUAL, ALL)) < 300


# The actor's bus


def test_a_published_signal_carries_the_correlation_of_its_cause(
    embedded_redis: RedisPair, tmp_path: Path, reading: Callable[..., Reading]
) -> None:
    bus = a_bus(embedded_redis, tmp_path)
    bus.publish(Publish("signals", a_signal(1)), cause())
    (found,) = reading().take(1)
    assert isinstance(found, SignalReceived)
    assert found.signal == msgspec.structs.replace(a_signal(1), correlation_id="market:1")
    bus.close()


def test_any_other_message_is_published_whole_with_its_ids(
    embedded_redis: RedisPair, client: redis.Redis, tmp_path: Path
) -> None:
    bus = a_bus(embedded_redis, tmp_path)
    outcome = SignalOutcome("s1", Outcome.REFUSED, "cap", {"max": "1"})
    bus.publish(Publish("verdicts", outcome), cause())
    bus.close()
    ((_, fields),) = client.xrange(key(KeyType.VERDICTS, ALL))
    found = msgspec.json.decode(fields[b"message"], type=Envelope)
    assert (found.body, found.source, found.causation_id) == (outcome, "source.momentum", "timer:1")


def test_an_absent_bus_is_counted_and_caught_up_with_in_order(
    embedded_redis: RedisPair, tmp_path: Path, reading: Callable[..., Reading]
) -> None:
    now_s = 0.0
    bus = a_bus(embedded_redis, tmp_path, lambda: now_s)
    embedded_redis.bus.stop()
    for number in range(5):
        bus.publish(Publish("signals", a_signal(number)), cause())
    assert bus.counters == {"bus_away": 1}  # the others did not even try: it is too early
    now_s = 1.0
    assert bus.flush() == 5
    assert bus.counters == {"bus_away": 2}
    embedded_redis.bus.start()
    assert bus.flush() == 5
    now_s = 2.0
    assert bus.flush() == 0
    assert reading().ids(5) == [f"s{number}" for number in range(5)]
    bus.close()


def test_what_does_not_fit_the_retry_memory_is_lost_and_counted(
    embedded_redis: RedisPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_bus, "RETRY_ITEMS_MAX", 3)
    bus = a_bus(embedded_redis, tmp_path)
    embedded_redis.bus.stop()
    for number in range(5):
        bus.publish(Publish("signals", a_signal(number)), cause())
    assert bus.counters["bus_lost"] == 2
    bus.close()
    assert bus.counters["bus_lost"] == 5


def test_a_line_is_flat_json_with_the_ids_of_its_cause(embedded_redis: RedisPair, tmp_path: Path) -> None:
    bus = a_bus(embedded_redis, tmp_path)
    bus.append_line(AppendLine("outcomes", SignalOutcome("s1", Outcome.SUBMITTED)), cause())
    bus.append_line(AppendLine("outcomes", SignalOutcome("s2", Outcome.EXPIRED)), cause())
    bus.close()
    first, second = (orjson.loads(line) for line in (tmp_path / "lines" / "outcomes.jsonl").read_bytes().splitlines())
    assert (first["signal_id"], second["signal_id"], second["outcome"]) == ("s1", "s2", "expired")
    assert (first["type"], first["correlation_id"], first["causation_id"]) == ("SignalOutcome", "market:1", "timer:1")


def test_a_disk_that_takes_no_line_is_counted(embedded_redis: RedisPair, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("a file where the folder should be")
    bus = a_bus(embedded_redis, tmp_path)
    bus.append_line(AppendLine("outcomes", SignalOutcome("s1", Outcome.SUBMITTED)), cause())
    assert bus.counters == {"line_lost": 1}
    bus.close()


# The reader


def test_a_signal_sent_before_there_was_a_reader_is_read(client: redis.Redis, reading: Callable[..., Reading]) -> None:
    for number in range(150):
        publish_signal(client, a_signal(number))
    one = reading()
    assert one.ids(150) == [f"s{number}" for number in range(150)]
    publish_signal(client, a_signal(150))
    assert one.ids(1) == ["s150"]


def test_what_is_no_signal_is_handed_over_as_unreadable(client: redis.Redis, reading: Callable[..., Reading]) -> None:
    client.xadd(SIGNALS, {"signal": '{"signal_id": "x", "sid": 3}'})
    client.xadd(SIGNALS, {"something": "else"})
    publish_signal(client, a_signal(1))
    wrong, other, right = reading().take(3)
    assert isinstance(wrong, SignalUnreadable)
    assert "sid is no field" in wrong.error
    assert wrong.payload == '{"signal_id": "x", "sid": 3}'
    assert isinstance(other, SignalUnreadable)
    assert "no field 'signal'" in other.error
    assert isinstance(right, SignalReceived)


def test_a_new_incarnation_gets_what_the_old_one_did_not_acknowledge(
    embedded_redis: RedisPair, client: redis.Redis, tmp_path: Path, reading: Callable[..., Reading]
) -> None:
    bus = a_bus(embedded_redis, tmp_path)
    for number in range(5):
        publish_signal(client, a_signal(number))
    old = reading()
    handed = old.take(5)
    bus.acknowledge("signals", handed[0].entry_id)
    bus.acknowledge("signals", handed[3].entry_id)
    bus.close()
    assert old.reader.stop()
    new = reading()
    assert new.take(3) == [handed[1], handed[2], handed[4]]  # the same messages, not merely the same entries
    assert new.handed.empty()


def test_a_second_reader_takes_over_what_a_dead_one_left_pending(
    client: redis.Redis, reading: Callable[..., Reading]
) -> None:
    for number in range(100):
        publish_signal(client, a_signal(number))
    dead = reading("dead")
    dead.ids(100)
    assert dead.reader.stop()
    heir = reading("heir")
    publish_signal(client, a_signal(100))
    assert heir.ids(101) == [f"s{number}" for number in range(101)]  # at once, in order, before what is new
    assert heir.reader.progress()["taken_over"] == 100
    assert [one["name"] for one in client.xinfo_consumers(SIGNALS, "allocator")] == [b"heir"]


def test_entries_that_were_trimmed_unread_are_acknowledged_and_counted(
    client: redis.Redis, reading: Callable[..., Reading]
) -> None:
    for number in range(3):
        publish_signal(client, a_signal(number))
    old = reading("old")
    old.ids(3)
    assert old.reader.stop()
    client.xtrim(SIGNALS, maxlen=1, approximate=False)
    new = reading("new")
    assert new.ids(1) == ["s2"]
    assert new.reader.progress()["trimmed"] == 2
    assert client.xpending(SIGNALS, "allocator")["pending"] == 1


def test_a_receiver_that_takes_nothing_is_not_given_more_than_its_bound(
    embedded_redis: RedisPair, client: redis.Redis
) -> None:
    for number in range(100):
        publish_signal(client, a_signal(number))
    handed: Handed = queue.SimpleQueue()
    beats: queue.SimpleQueue[int] = queue.SimpleQueue()
    reader = SignalReader(
        lambda: embedded_redis.bus_client(Purpose.READER),
        "allocator",
        "one",
        handed.put,
        lambda nonce, _: beats.put(nonce),
        in_flight_max=10,
        waiting=handed.qsize,
    )
    reader.start()
    wait_until(lambda: handed.qsize() == 10)
    reader.beat(1)
    assert beats.get(timeout=60) == 1  # alive, though it waits
    assert handed.qsize() == 10
    handed.get()
    wait_until(lambda: handed.qsize() == 10)
    assert reader.stop()


@pytest.mark.process
def test_a_reader_killed_in_its_work_loses_nothing(
    embedded_redis: RedisPair, client: redis.Redis, reading: Callable[..., Reading]
) -> None:
    program = (
        "import sys, time\n"
        "from actors.adapters.redis_server import Purpose, connect\n"
        "from actors.adapters.signal_reader import SignalReader\n"
        "emit = lambda message: print(message.signal.signal_id, flush=True)\n"
        "SignalReader(lambda: connect(sys.argv[1], Purpose.READER), 'allocator', 'victim', emit).start()\n"
        "time.sleep(60)\n"
    )
    for number in range(30):
        publish_signal(client, a_signal(number))
    victim = subprocess.Popen(
        [sys.executable, "-c", program, embedded_redis.bus.url], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert victim.stdout is not None
    assert victim.stdout.readline() == "s0\n"
    victim.kill()
    victim.communicate(timeout=60)
    assert sorted(reading("heir").ids(30)) == sorted(f"s{number}" for number in range(30))


def test_an_acknowledgement_that_was_lost_brings_the_entry_again(
    client: redis.Redis, reading: Callable[..., Reading]
) -> None:
    publish_signal(client, a_signal(1))
    one = reading(redeliver_ms=50)
    first, again = one.take(2)
    assert first == again
    client.xack(SIGNALS, "allocator", first.entry_id)


def test_with_too_many_unacknowledged_no_more_are_read(client: redis.Redis, reading: Callable[..., Reading]) -> None:
    for number in range(500):
        publish_signal(client, a_signal(number))
    one = reading(in_flight_max=100)
    handed = one.take(100)
    rounds = one.reader.progress()["rounds"]
    wait_until(lambda: one.reader.progress()["rounds"] > rounds + 2)
    read = one.reader.progress()["signals"]
    assert 100 <= read < 200
    client.xack(SIGNALS, "allocator", *(found.entry_id for found in handed))
    one.take(100)
    assert one.reader.progress()["signals"] > read


def test_a_reader_outlives_its_server(
    embedded_redis: RedisPair, client: redis.Redis, reading: Callable[..., Reading]
) -> None:
    one = reading()
    publish_signal(client, a_signal(1))
    assert one.ids(1) == ["s1"]
    os.kill(embedded_redis.bus.pid, signal.SIGKILL)
    wait_until(lambda: not embedded_redis.bus.alive())
    wait_until(lambda: one.reader.progress()["reconnects"] > 1)
    embedded_redis.bus.start()
    with embedded_redis.bus_client() as again:
        publish_signal(again, a_signal(2))
    seen = one.ids(1)
    while seen[-1] != "s2":  # what was not acknowledged comes again first
        seen += one.ids(1)


def test_a_stream_that_was_deleted_is_begun_anew(client: redis.Redis, reading: Callable[..., Reading]) -> None:
    one = reading()
    publish_signal(client, a_signal(1))
    assert one.ids(1) == ["s1"]
    client.flushall()
    publish_signal(client, a_signal(2))
    assert one.ids(1) == ["s2"]


def test_a_heartbeat_goes_through_the_thread_even_while_the_bus_is_away(
    embedded_redis: RedisPair, reading: Callable[..., Reading]
) -> None:
    one = reading()
    one.reader.beat(7)
    nonce, progress = one.beats.get(timeout=60)
    assert (nonce, progress["rounds"] > 0) == (7, True)
    embedded_redis.bus.stop()
    one.reader.beat(8)
    assert one.beats.get(timeout=60)[0] == 8
