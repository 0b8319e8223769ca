"""Who listens to what: connections, their subscriptions, their bounded buffers, and what is sent to them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final

from venues.exchange.connection import Connection, FrameAccount
from venues.exchange.frames import PING, TEXT, close_frame, combined, frame
from venues.exchange.settings import ExchangeSettings

GOING_AWAY: Final = 1001
POLICY: Final = 1008
DAY_OVER: Final = "24h limit"
# How many connections that are over are still accounted for.
_ENDED_MAX: Final = 256


class Hub:
    """Every connection and the index from stream to its listeners. Not thread-safe: the event loop's own."""

    def __init__(self, settings: ExchangeSettings, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._monotonic_s = monotonic_s
        self._listeners: dict[str, dict[int, Connection]] = {}
        self._dirty: dict[int, Connection] = {}
        # The last payload of each stream that anyone listens to: what a duplicate repeats.
        self._last: dict[str, bytes] = {}
        self._numbers = 0
        self.connections: dict[int, Connection] = {}
        self.counters: Counter[str] = Counter()
        self.subscribed = asyncio.Event()
        self._ended: deque[FrameAccount] = deque(maxlen=_ENDED_MAX)

    def add(self, transport: asyncio.Transport, is_combined: bool, now_s: float) -> Connection:
        """Register a connection that has upgraded."""
        self._numbers += 1
        ping_due_s = now_s + self._settings.ping_interval_s
        connection = Connection(self._numbers, transport, is_combined, now_s, ping_due_s)
        self.connections[connection.number] = connection
        self.counters["connections_opened"] += 1
        return connection

    def remove(self, connection: Connection, reason: str = "left") -> None:
        """Forget a connection and its subscriptions; its frames stay accounted for. Doing it twice does nothing."""
        if self.connections.pop(connection.number, None) is None:
            return
        self._dirty.pop(connection.number, None)
        connection.lose_pending()
        self._ended.append(connection.account(reason))
        self.unsubscribe(connection, list(connection.streams))
        self.counters["connections_closed"] += 1

    def accounts(self) -> list[FrameAccount]:
        """Return where the frames of each connection went: of the last 256 that are over, and of those that live."""
        return [*self._ended, *(one.account() for one in self.connections.values())]

    def subscribe(self, connection: Connection, streams: Iterable[str]) -> list[str]:
        """Subscribe and return the streams that are new to the connection. The caller checks the limit.

        A name that nothing is ever published under is accepted, as the real exchange does: it stays silent.
        """
        if connection.number not in self.connections:
            return []  # it was cut off while it asked
        new = [stream for stream in dict.fromkeys(streams) if stream not in connection.streams]
        for stream in new:
            connection.streams[stream] = 0
            self._listeners.setdefault(stream, {})[connection.number] = connection
        if any("@" in stream for stream in new):  # a user stream is nobody who waits for the market
            self.subscribed.set()
        return new

    def unsubscribe(self, connection: Connection, streams: Iterable[str]) -> None:
        """Unsubscribe; a stream that was not subscribed to is no error, as on the real exchange."""
        for stream in streams:
            connection.leave(stream)
            listeners = self._listeners.get(stream)
            if listeners is not None:
                listeners.pop(connection.number, None)
                if not listeners:
                    del self._listeners[stream]
                    self._last.pop(stream, None)

    def is_heard(self, stream: str) -> bool:
        """Whether anyone listens: encoding for nobody is skipped."""
        return stream in self._listeners

    def publish(self, stream: str, payload: bytes, wrapped: bytes | None = None) -> None:
        """Queue a stream's payload for its listeners until `flush`. `wrapped` is its combined form, if known."""
        listeners = self._listeners.get(stream)
        if listeners is None:
            return
        self._last[stream] = payload
        plain_frame = combined_frame = b""
        for connection in listeners.values():
            if connection.is_combined:
                combined_frame = combined_frame or frame(TEXT, wrapped or combined(stream, payload))
                connection.pending.append(combined_frame)
            else:
                plain_frame = plain_frame or frame(TEXT, payload)
                connection.pending.append(plain_frame)
            connection.streams[stream] += 1
            self._dirty[connection.number] = connection

    def repeat(self, stream: str, times: int) -> int:
        """Send the last frame of a stream again to those listeners who had it; return how many times: 0 if none had."""
        had = [one for one in self._listeners.get(stream, {}).values() if one.streams[stream]]
        for connection in had:
            for _ in range(times):
                self.publish_to(connection, stream, self._last[stream])
        self.flush()
        return times if had else 0

    def publish_to(self, connection: Connection, stream: str, payload: bytes) -> None:
        """Queue a stream's payload for one listener only."""
        data = combined(stream, payload) if connection.is_combined else payload
        connection.pending.append(frame(TEXT, data))
        connection.streams[stream] += 1
        self._last[stream] = payload
        self._dirty[connection.number] = connection

    def flush(self) -> None:
        """Write what is queued; cut off who has more than the bound unread."""
        if not self._dirty:
            return
        dirty, self._dirty = self._dirty, {}
        now_s = self._monotonic_s()
        for connection in dirty.values():
            waiting = len(connection.pending)
            sent = connection.send_pending(now_s)
            self.counters["frames_sent"] += sent
            if sent != waiting:
                self.counters["frames_muted" if connection.is_mute else "frames_kept_back"] += waiting - sent
            if connection.unread_bytes > self._settings.buffer_bytes_max or connection.has_too_much_held:
                self.drop(connection, "slow_consumer")

    def let_go(self, connection: Connection) -> None:
        """Send what a backlog held back of a connection. One that is gone is left alone."""
        if connection.number in self.connections:
            self.counters["frames_sent"] += connection.let_go()

    def drop(self, connection: Connection, reason: str) -> None:
        """Cut a connection off without a close frame, as a dead peer would; counted under `dropped_<reason>`.

        One that is gone already is left alone.
        """
        if connection.number not in self.connections:
            return
        self.counters[f"dropped_{reason}"] += 1
        self.remove(connection, f"dropped_{reason}")
        connection.transport.abort()

    def part(self, connection: Connection, code: int, reason: str) -> None:
        """Close a connection with a close frame; counted under `closed_<code>`. One that is gone is left alone."""
        if connection.number not in self.connections:
            return
        self.counters[f"closed_{code}"] += 1
        self.let_go(connection)
        connection.write(close_frame(code, reason))
        self.remove(connection, f"closed_{code}")
        connection.transport.close()

    def is_anything_heard(self) -> bool:
        """Whether any stream has a listener."""
        return bool(self._listeners)

    def unread_bytes_max(self) -> int:
        """The longest queue among all connections."""
        return max((one.unread_bytes for one in self.connections.values()), default=0)

    def drop_unread(self, bytes_max: int) -> None:
        """Cut off every connection with more than this unread."""
        for connection in list(self.connections.values()):
            if connection.unread_bytes > bytes_max:
                self.drop(connection, "slow_consumer")

    def keep_alive(self, now_s: float) -> None:
        """Ping who is due, drop who left a ping unanswered too long, close who has lived its day."""
        settings = self._settings
        for connection in list(self.connections.values()):
            if now_s - connection.opened_s >= settings.connection_life_s:
                self.part(connection, GOING_AWAY, DAY_OVER)
            elif (
                connection.unanswered_ping_s is not None
                and now_s - connection.unanswered_ping_s > settings.pong_timeout_s
            ):
                self.drop(connection, "no_pong")
            elif now_s >= connection.ping_due_s:
                connection.ping_due_s = now_s + settings.ping_interval_s
                if connection.unanswered_ping_s is None:
                    connection.unanswered_ping_s = now_s
                connection.write(frame(PING, str(int(now_s * 1e3)).encode()))
                self.counters["pings_sent"] += 1
