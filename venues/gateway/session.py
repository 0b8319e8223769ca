"""One client's connection as a state machine: bytes in, what happened out. Pure; the rate's clock comes in.

prefix → versions → start → running        any error of the peer raises WireError: the connection is closed
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from venues.gateway.matching import Quote
from venues.gateway.messages import SERVER_VERSION_MAX, SERVER_VERSION_MIN
from venues.gateway.wire import FrameReader, WireError, join_fields, split_fields, to_int

_PREFIX = b"API\0"
_VERSIONS = re.compile(rb"v(\d{1,4})(?:\.\.(\d{1,4}))?(?: .*)?", re.DOTALL)
_SECOND_NS = 1_000_000_000


class Phase(StrEnum):
    """How far a connection has come."""

    PREFIX = "prefix"
    VERSIONS = "versions"
    START = "start"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The server version is agreed: it is to be sent, with the time, before anything else."""

    version: int


@dataclass(frozen=True, slots=True)
class Started:
    """startApi came: the client says who it is."""

    client_id: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of a running session."""

    texts: list[str]


SessionEvent = Negotiated | Started | Frame


@dataclass(slots=True)
class Line:
    """One market data subscription. `told`: the quote that the client knows."""

    con_id: int
    delayed: bool = False
    told: Quote | None = None


@dataclass(slots=True)
class BarLine:
    """One subscription of bars that go on: `size_s` seconds each, `running` is open, high, low, close."""

    con_id: int
    size_s: int
    shown: str
    format_date: int = 1
    start_s: int = 0
    running: tuple[Decimal, Decimal, Decimal, Decimal] | None = None


@dataclass(slots=True)
class Client:
    """A started session: what it subscribed to, and the frames that wait for the next flush.

    The outbox holds what one call into the gateway produced; the shell empties it after every commit.
    """

    client_id: int
    version: int
    outbox: list[bytes] = field(default_factory=list)
    market_data: dict[int, Line] = field(default_factory=dict)
    data_type: int = 1
    real_time_bars: dict[int, BarLine] = field(default_factory=dict)
    kept_bars: dict[int, BarLine] = field(default_factory=dict)
    history_asked_ns: list[int] = field(default_factory=list)
    """When it asked for small bars in the last ten minutes."""
    positions: bool = False
    positions_multi: dict[int, str] = field(default_factory=dict)
    account_updates: bool = False
    account_multi: dict[int, str] = field(default_factory=dict)
    summaries: dict[int, tuple[str, ...]] = field(default_factory=dict)
    pnl: set[int] = field(default_factory=set)
    pnl_single: dict[int, int] = field(default_factory=dict)
    binds_manual: bool = False
    late_frames: list[tuple[int, bytes]] = field(default_factory=list)
    """Fault: orderStatus messages (by order id) that are told after the order's next one."""
    without_end: bool = False
    """Fault: the answer that is being made ends without its end message."""

    def send(self, fields: Sequence[str]) -> None:
        if not (self.without_end and fields[0] in END_MESSAGES):
            self.outbox.append(join_fields(fields))


END_MESSAGES = frozenset({"52", "53", "54", "55", "57", "62", "64", "72", "74", "76", "102"})
"""Ids of the messages that say that an answer is complete."""


def negotiate(offer: bytes) -> int:
    """Return the highest version that both speak. Raises WireError when there is none."""
    match = _VERSIONS.fullmatch(offer)
    if match is None:
        raise WireError(f"not a version offer: {offer[:40]!r}")
    lowest, highest = int(match[1]), int(match[2] or match[1])
    version = min(highest, SERVER_VERSION_MAX)
    if version < max(lowest, SERVER_VERSION_MIN):
        raise WireError(
            f"the client offers versions {lowest} to {highest}, this gateway speaks "
            f"{SERVER_VERSION_MIN} to {SERVER_VERSION_MAX}"
        )
    return version


class RateLimit:
    """A bucket that refills at the limit and holds two seconds' worth.

    IB counts within a second. A client may send its 50 just before and 50 just after a second's end, and what it
    paced may arrive in one piece: the second second's worth keeps such a client from being closed.
    """

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._level = float(2 * per_s)
        self._at_ns: int | None = None

    def allow(self, now_ns: int) -> bool:
        if not self._per_s:
            return True
        passed_s = 0.0 if self._at_ns is None else max(0, now_ns - self._at_ns) / _SECOND_NS
        self._at_ns = now_ns
        self._level = min(2.0 * self._per_s, self._level + passed_s * self._per_s)
        if self._level < 1:
            return False
        self._level -= 1
        return True


class Session:
    """Cut and check the bytes of one connection until it is running, then hand over frames."""

    def __init__(self) -> None:
        self.phase = Phase.PREFIX
        self.version = 0
        self._reader = FrameReader()

    def receive(self, chunk: bytes) -> Iterator[SessionEvent]:
        """Yield what this chunk completes. Raises WireError: the stream cannot be followed any further."""
        self._reader.push(chunk)
        if self.phase is Phase.PREFIX:
            if not self._reader.take_prefix(_PREFIX):
                return
            self.phase = Phase.VERSIONS
        while (payload := self._reader.next_frame()) is not None:
            yield self._event(payload)

    def _event(self, payload: bytes) -> SessionEvent:
        if self.phase is Phase.VERSIONS:
            self.version = negotiate(payload)
            self.phase = Phase.START
            return Negotiated(self.version)
        texts = split_fields(payload)
        if self.phase is Phase.START:
            if len(texts) < 3 or texts[0] != "71":
                raise WireError(f"expected startApi, got {texts[:3]!r}")
            self.phase = Phase.RUNNING
            return Started(to_int(texts[2], "clientId"))
        return Frame(texts)
