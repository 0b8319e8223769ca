"""`ports.Bus` in Redis and in files: what leaves the actor system. Losing it loses no truth."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec
import orjson
import redis

from actors.adapters.bus_streams import BusFull, publish_message, publish_signal
from actors.adapters.line_file import LineFile
from actors.adapters.signal_reader import SignalReader
from actors.effects import AppendLine, Publish
from actors.keys import ALL, KeyType, key
from actors.messages import Envelope

__all__ = ["BusFull", "RedisBus", "SignalReader", "publish_signal"]

RETRY_ITEMS_MAX = 10_000
RETRY_FIRST_S = 0.1
RETRY_MAX_S = 2.0


class _Pending(msgspec.Struct, frozen=True):
    """A write that has not succeeded: to publish if `envelope` is there, else to acknowledge `entry_id`."""

    stream: KeyType
    envelope: Envelope | None
    entry_id: str


class RedisBus:
    """One role's bus, for one thread. No method raises for a bus that is away.

    Order is kept: while anything waits, what comes later waits behind it. A write whose answer was lost is written
    again, so a stream may hold it twice; readers know a signal by its id. Full (10,000 waiting): new ones are lost and
    counted. `flush` tries again; every other call does too.
    """

    def __init__(
        self,
        client: redis.Redis,
        group: str,
        run_dir: Path | str,
        lines_mb_max: int = 64,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters: dict[str, int] = {}
        self._client = client
        self._group = group
        self._lines = Path(run_dir) / "lines"
        self._lines_bytes_max = lines_mb_max << 20
        self._files: dict[str, LineFile] = {}
        self._waiting: deque[_Pending] = deque()
        self._monotonic_s = monotonic_s
        self._retry_s = RETRY_FIRST_S
        self._not_before_s = 0.0

    def publish(self, effect: Publish, envelope: Envelope) -> None:
        """Append the effect's message, with its cause's ids, to a stream."""
        published = msgspec.structs.replace(
            envelope, body=effect.body, source=envelope.target, target=effect.stream, causation_id=envelope.message_id
        )
        self._put(_Pending(KeyType(effect.stream), published, ""))

    def acknowledge(self, stream: str, entry_id: str) -> None:
        """Acknowledge an entry for this role's group."""
        self._put(_Pending(KeyType(stream), None, entry_id))

    def append_line(self, effect: AppendLine, envelope: Envelope) -> None:
        """Append the effect's message as one flat JSON object, with its cause's ids where it has none of its own."""
        ids = {
            "type": type(effect.body).__name__,
            "ts_init_ns": envelope.ts_init_ns,
            "role": envelope.target,
            "causation_id": envelope.message_id,
            "correlation_id": envelope.correlation_id,
        }
        line = orjson.dumps({**ids, **msgspec.to_builtins(effect.body)}, option=orjson.OPT_APPEND_NEWLINE)
        file = self._files.get(effect.file)
        if file is None:
            file = LineFile(self._lines / f"{Path(effect.file).name}.jsonl", self._lines_bytes_max)
            self._files[effect.file] = file
        try:
            file.append(line)
        except OSError:
            self._count("line_lost")
            file.close()

    def flush(self) -> int:
        """Try again what waits, if it is time to; return how much still waits."""
        while self._waiting and self._monotonic_s() >= self._not_before_s:
            try:
                self._write(self._waiting[0])
            except BusFull:
                self._count("bus_full")
            except redis.exceptions.ResponseError:
                self._count("bus_refused")
            except redis.exceptions.RedisError:
                self._count("bus_away")
                self._not_before_s = self._monotonic_s() + self._retry_s
                self._retry_s = min(self._retry_s * 2, RETRY_MAX_S)
                break
            else:
                self._retry_s = RETRY_FIRST_S
            self._waiting.popleft()
        return len(self._waiting)

    def close(self) -> None:
        """Try what waits once more, close files and connection."""
        self._not_before_s = 0.0
        lost = self.flush()
        if lost:
            self._count("bus_lost", lost)
        for file in self._files.values():
            file.close()
        self._client.close()

    def _put(self, item: _Pending) -> None:
        if len(self._waiting) >= RETRY_ITEMS_MAX:
            self._count("bus_lost")
        else:
            self._waiting.append(item)
        self.flush()

    def _write(self, item: _Pending) -> None:
        if item.envelope is not None:
            publish_message(self._client, item.stream, item.envelope)
        else:
            self._client.xack(key(item.stream, ALL), self._group, item.entry_id)

    def _count(self, name: str, by: int = 1) -> None:
        self.counters[name] = self.counters.get(name, 0) + by
