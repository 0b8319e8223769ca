"""Which faults are in force: what they withhold, repeat and reorder of each stream, and do to each connection."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import NamedTuple

from venues.exchange.connection import Connection
from venues.exchange.faults import (
    Backlog,
    ConnectionFault,
    DailyDisconnect,
    Drop,
    Duplicate,
    FrameFault,
    Gap,
    HalfOpen,
    HttpStatus,
    Reorder,
    Silence,
    StopReading,
    faulty_payload,
    name_of,
)
from venues.exchange.frames import Row, stream_of
from venues.exchange.hub import DAY_OVER, GOING_AWAY, Hub


class _Frame(NamedTuple):
    payload: bytes
    wrapped: bytes | None


class FaultTable:
    """Each fault is counted by its name, and each frame it keeps from a stream by stream and cause (`withheld`)."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._silent_until_s: dict[str, float] = {}
        # Frames still to be withheld, or exchanged with the one after them, by stream; and the one that waits.
        self._gaps: Counter[str] = Counter()
        self._reorders: Counter[str] = Counter()
        self._late: dict[str, _Frame] = {}
        self._http = HttpStatus(status=429, n=0)
        self._http_left = 0
        self.counters: Counter[str] = Counter()
        self.withheld: dict[str, Counter[str]] = {}
        self.touches_streams = False

    def pass_on(self, symbol: str, stream: str, payload: bytes, wrapped: bytes | None, now_s: float) -> None:
        """Publish a frame as the faults in force let it: now, later, or not at all. Asked while `touches_streams`."""
        if not self._hub.is_heard(stream):
            return
        if self._silences(symbol, now_s):
            self._withhold(stream, "silence")
        elif self._take_one(self._gaps, stream):
            self._withhold(stream, "gap")
        elif stream in self._late:
            self._hub.publish(stream, payload, wrapped)
            self._hub.publish(stream, *self._late.pop(stream))
            self.counters["frames_reordered"] += 1
        elif self._take_one(self._reorders, stream):
            self._late[stream] = _Frame(payload, wrapped)
        else:
            self._hub.publish(stream, payload, wrapped)
        self.touches_streams = bool(self._silent_until_s or self._gaps or self._reorders or self._late)

    def frames_late(self) -> dict[str, int]:
        """Return by stream the frames that wait for the one that is to come before them."""
        return dict.fromkeys(self._late, 1)

    def take_http_status(self) -> HttpStatus | None:
        """Return the answer that a request gets instead of its own, using one up; None for no fault."""
        if self._http_left <= 0:
            return None
        self._http_left -= 1
        self.counters["requests_refused"] += 1
        return self._http

    def send_frames(self, fault: FrameFault, symbol: str, row: Row, update_ids: list[int]) -> int:
        """Send a faulty frame for each id at once; return how many."""
        for update_id in update_ids:
            payload = faulty_payload(fault, symbol, row._replace(update_id=update_id))
            self._hub.publish(stream_of(symbol), payload)
        self._hub.flush()
        self.counters[name_of(fault)] += len(update_ids)
        return len(update_ids)

    def repeat(self, fault: Duplicate) -> int:
        """Send the symbol's last frame again; return how often: 0 where nobody listens who had one."""
        count = self._hub.repeat(stream_of(fault.symbol), fault.n)
        self.counters[name_of(fault)] += count
        return count

    def disturb(self, fault: Gap | Reorder) -> int:
        """Withhold or exchange the next frames of those streams that are heard; return of how many streams."""
        name = fault.symbol.lower()
        kinds = ("@bookTicker",) if fault.stream == "bookTicker" else ("@depth", "@depth@100ms")
        streams = [name + kind for kind in kinds if self._hub.is_heard(name + kind)]
        left = self._gaps if isinstance(fault, Gap) else self._reorders
        for stream in streams:
            left[stream] += fault.n
        self.touches_streams |= bool(streams)
        self.counters[name_of(fault)] += len(streams)
        return len(streams)

    def refuse(self, fault: HttpStatus) -> int:
        """Answer the next requests with a refusal."""
        self.counters[name_of(fault)] += 1
        self._http, self._http_left = fault, fault.n
        return fault.n

    def silence(self, fault: Silence, now_s: float) -> int:
        """Withhold frames of a symbol or of a connection; return how many of either."""
        self.counters[name_of(fault)] += 1
        if fault.symbol is not None:
            self._silent_until_s[fault.symbol] = now_s + fault.seconds
            self.touches_streams = True
            return 1
        chosen = self._chosen(fault.connection)
        for connection in chosen:
            connection.silent_until_s = now_s + fault.seconds
        return len(chosen)

    def disturb_connections(self, fault: ConnectionFault) -> int:
        """Do something to the connection numbered or to all; return to how many. On the event loop only."""
        chosen = self._chosen(fault.connection)
        self.counters[name_of(fault)] += 1
        for connection in chosen:
            match fault:
                case Drop():
                    self._hub.drop(connection, "fault")
                case DailyDisconnect():
                    self._hub.part(connection, GOING_AWAY, DAY_OVER)
                case HalfOpen():
                    connection.is_mute = True
                case Backlog(seconds=seconds):
                    connection.hold()
                    asyncio.get_running_loop().call_later(seconds, self._hub.let_go, connection)
                case StopReading(seconds=seconds):
                    connection.transport.pause_reading()
                    asyncio.get_running_loop().call_later(seconds, _read_again, connection)
        return len(chosen)

    def _silences(self, symbol: str, now_s: float) -> bool:
        until_s = self._silent_until_s.get(symbol)
        if until_s is None:
            return False
        if now_s < until_s:
            return True
        del self._silent_until_s[symbol]
        return False

    def _withhold(self, stream: str, cause: str) -> None:
        self.counters["frames_withheld"] += 1
        self.withheld.setdefault(stream, Counter())[cause] += 1

    def _take_one(self, left: Counter[str], stream: str) -> bool:
        if stream not in left:
            return False
        left[stream] -= 1
        if not left[stream]:
            del left[stream]
        return True

    def _chosen(self, number: int | None) -> list[Connection]:
        connections = self._hub.connections
        return [one for one in list(connections.values()) if number is None or one.number == number]


def _read_again(connection: Connection) -> None:
    if not connection.transport.is_closing():
        connection.transport.resume_reading()
