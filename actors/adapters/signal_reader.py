"""The driver that reads the signal stream: one daemon thread, one connection, one consumer of a group."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import cast

import redis

from actors.adapters.bus_streams import read_signal
from actors.adapters.redis_client import READ_BLOCK_MS
from actors.adapters.redis_wire import Script, packed, raw_connection
from actors.keys import ALL, KeyType, key
from actors.messages import SignalReceived, SignalUnreadable

READ_ENTRIES = 64
IN_FLIGHT_MAX = 1_000
REDELIVER_MS = 30_000
BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 2.0
BEATS_MAX = 16

Fields = dict[bytes, bytes]
Entry = tuple[bytes, Fields | None]

# KEYS: stream. ARGV: group, consumer, where to begin, how many. Answers where to go on; `0-0` is the end.
_CLAIM = Script("return redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'COUNT', ARGV[4], 'JUSTID')[1]")

# KEYS: stream. ARGV: group, consumer. In one step with the look at what is pending: deleting a consumer drops that.
_FORGET = Script("""
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local facts = {}
  for i = 1, #consumer, 2 do facts[consumer[i]] = consumer[i + 1] end
  if facts['name'] ~= ARGV[2] and tonumber(facts['pending']) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], facts['name'])
  end
end
return 'OK'
""")


class SignalReader:
    """Hands each entry to `emit`, on its own thread: first this consumer's own pending ones, then all new ones.

    A group has one live reader, so what any other consumer of it left pending is taken over at the start. An entry
    that stays unacknowledged for `redeliver_ms` is handed over again: nothing is lost between hand-over and journal,
    duplicates are for the receiver to know. Full: with `in_flight_max` entries of this consumer unacknowledged, or as
    many `waiting` to be taken by the receiver, it reads no further until there are fewer. Redis away: it connects again
    with backoff, for ever; `progress` counts it. `emit` must not raise and should not block.
    """

    def __init__(
        self,
        open_client: Callable[[], redis.Redis],
        group: str,
        consumer: str,
        emit: Callable[[SignalReceived | SignalUnreadable], None],
        emit_beat: Callable[[int, dict[str, int]], None] | None = None,
        redeliver_ms: int = REDELIVER_MS,
        in_flight_max: int = IN_FLIGHT_MAX,
        waiting: Callable[[], int] = lambda: 0,
    ) -> None:
        self._open_client = open_client
        self._group = group
        self._consumer = consumer
        self._emit = emit
        self._emit_beat = emit_beat
        self._redeliver_ms = redeliver_ms
        self._in_flight_max = in_flight_max
        self._waiting = waiting
        self._stream = key(KeyType.SIGNALS, ALL)
        self._room = 0
        """Entries that may be handed over before it has to be asked again how many are unacknowledged."""
        self._counters = {
            "rounds": 0,
            "signals": 0,
            "unreadable": 0,
            "redelivered": 0,
            "taken_over": 0,
            "trimmed": 0,
            "reconnects": 0,
        }
        self._beats: deque[int] = deque(maxlen=BEATS_MAX)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"signals-{group}", daemon=True)

    def start(self) -> None:
        """Begin; once, after any fork."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> bool:
        """End the thread; it notices within a read's wait. False if it still runs after `timeout_s`."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def beat(self, nonce: int) -> None:
        """Have the thread answer by `emit_beat(nonce, progress)` at its next round."""
        self._beats.append(nonce)

    def progress(self) -> dict[str, int]:
        """Totals since `start`."""
        return dict(self._counters)

    # ---- on the thread

    def _run(self) -> None:
        backoff_s = BACKOFF_FIRST_S
        while not self._stopping.is_set():
            client = self._open_client()
            before = self._counters["rounds"]
            try:
                self._read(client)
            except redis.exceptions.RedisError:
                self._counters["reconnects"] += 1
            finally:
                client.close()
            if self._counters["rounds"] > before + 1:
                backoff_s = BACKOFF_FIRST_S
            self._answer_beats()
            self._stopping.wait(backoff_s)
            backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)

    def _read(self, client: redis.Redis) -> None:
        self._create_group(client)
        self._inherit(client)
        self._own_pending(client)
        sweep_s = time.monotonic() + self._redeliver_ms / 2_000
        wait_ms = min(READ_BLOCK_MS, max(self._redeliver_ms // 2, 50))
        asking: list[bytes | str | int] = ["XREADGROUP", "GROUP", self._group, self._consumer, "COUNT", READ_ENTRIES]
        asking += ["BLOCK", wait_ms, "STREAMS", self._stream, ">"]
        connection, command = raw_connection(client), packed(asking)
        while not self._stopping.is_set():
            self._round()
            if time.monotonic() >= sweep_s:
                self._redeliver(client)
                sweep_s = time.monotonic() + max(self._redeliver_ms / 2_000, 0.05)
            if self._full(client):
                self._stopping.wait(0.05)
                continue
            connection.send_packed_command([command], check_health=False)
            self._hand_over(client, _new_entries(connection.read_response()))

    def _create_group(self, client: redis.Redis) -> None:
        """From the stream's very first entry, so that a signal sent before there was a reader is read too."""
        try:
            client.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except redis.exceptions.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def _own_pending(self, client: redis.Redis) -> None:
        after = "0"
        while not self._stopping.is_set():
            self._round()
            answer = client.xreadgroup(self._group, self._consumer, {self._stream: after}, count=READ_ENTRIES)
            entries = _entries(answer)
            if not entries:
                return
            self._hand_over(client, entries)
            after = entries[-1][0].decode()

    def _redeliver(self, client: redis.Redis) -> None:
        start = b"0-0"
        while not self._stopping.is_set():
            answer = client.xautoclaim(
                self._stream, self._group, self._consumer, self._redeliver_ms, start_id=start, count=READ_ENTRIES
            )
            start, claimed = cast("tuple[bytes, list[tuple[bytes | None, Fields | None]]]", tuple(answer)[:2])
            entries = [(entry_id, fields) for entry_id, fields in claimed if entry_id is not None]
            self._counters["redelivered"] += len(entries)
            self._hand_over(client, entries)
            if start == b"0-0":
                return

    def _inherit(self, client: redis.Redis) -> None:
        """Make everything that is pending in the group this consumer's, and forget the consumers it was."""
        others = sum(pending for name, pending in self._pending(client).items() if name != self._consumer)
        start: bytes | str = "0-0" if others else ""
        while start and not self._stopping.is_set():
            claimed = _CLAIM.run(client, [self._stream], [self._group, self._consumer, start, READ_ENTRIES])
            start = b"" if claimed == b"0-0" else claimed
        self._counters["taken_over"] += others
        _FORGET.run(client, [self._stream], [self._group, self._consumer])

    def _pending(self, client: redis.Redis) -> dict[str, int]:
        consumers = cast("list[dict[str, object]]", client.xpending(self._stream, self._group)["consumers"])
        return {cast("bytes", one["name"]).decode(): cast("int", one["pending"]) for one in consumers}

    def _full(self, client: redis.Redis) -> bool:
        """Asked of the server only where as many were handed over since as would then have had room."""
        if self._room <= 0:
            self._room = self._in_flight_max - self._pending(client).get(self._consumer, 0)
        return self._room <= 0

    def _hand_over(self, client: redis.Redis, entries: list[Entry]) -> None:
        for entry_id, fields in entries:
            while self._waiting() >= self._in_flight_max and not self._stopping.wait(0.01):
                self._answer_beats()
            if not fields:  # somebody trimmed what was not acknowledged: nothing is left to read
                self._counters["trimmed"] += 1
                client.xack(self._stream, self._group, entry_id)
                continue
            message = read_signal(entry_id.decode(), fields)
            self._counters["signals" if isinstance(message, SignalReceived) else "unreadable"] += 1
            self._room -= 1
            self._emit(message)

    def _round(self) -> None:
        self._counters["rounds"] += 1
        self._answer_beats()

    def _answer_beats(self) -> None:
        while self._beats:
            nonce = self._beats.popleft()
            if self._emit_beat is not None:
                self._emit_beat(nonce, self.progress())


def _new_entries(answer: object) -> list[Entry]:
    """The same from the server's own form, in which fields and values take turns."""
    streams = cast("list[tuple[bytes, list[tuple[bytes, list[bytes]]]]]", answer)
    entries = streams[0][1] if streams else []
    return [(entry_id, dict(zip(flat[::2], flat[1::2], strict=True))) for entry_id, flat in entries]


def _entries(answer: object) -> list[Entry]:
    """The entries of the one stream that was asked for; none after a wait in vain."""
    streams = cast("list[tuple[bytes, list[Entry]]]", answer)
    return list(streams[0][1]) if streams else []
