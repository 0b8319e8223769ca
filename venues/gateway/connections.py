"""The two kinds of connection: a client of the TWS protocol, and one of the control port.

Both live in the server's one loop and call the core directly; what they wrote into the core is made durable by the
server's flush before anything of it reaches a socket.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import TYPE_CHECKING

from venues.gateway.control import LINE_BYTES_MAX, control
from venues.gateway.handlers import handle
from venues.gateway.hours import time_text
from venues.gateway.replies import error
from venues.gateway.session import Client, Frame, Negotiated, RateLimit, Session, Started
from venues.gateway.wire import WireError, join_fields

if TYPE_CHECKING:
    from venues.gateway.server import GatewayServer

log = logging.getLogger("gateway")
CONTROLS_MAX = 32
KEPT_OUT_BYTES_MAX = 64 << 10
START_S_MIN = 5.0
"""So long a connection may take for its greeting before one that finds no room takes its place."""
UNSENT_BYTES_MAX = 32 << 20
"""A client that reads nothing while so much waits for it is dropped and counted."""


class ClientConnection(asyncio.Protocol):
    """One client's socket. Bytes are answered as they come; a malformed stream closes this socket only."""

    def __init__(self, server: GatewayServer) -> None:
        self._server = server
        self._core = server.core
        self._session = Session()
        self._rate = RateLimit(server.settings.messages_per_s_max)
        self._transport: asyncio.Transport | None = None
        self._frozen = False
        self.made_s = time.monotonic()
        self._kept_out: bytearray | None = None
        """What came while the gateway waits for its own login."""
        self.client: Client | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self._server.sessions) >= self._server.settings.sessions_max and not self._make_room():
            self._core.counters["sessions_refused"] += 1
            transport.abort()
            return
        self._server.sessions.add(self)

    def _make_room(self) -> bool:
        """Close the oldest connection that never said who it is; False where all have, or came just now."""
        idle = [one for one in self._server.sessions if one.client is None and not one.is_closing]
        oldest = min(idle, key=lambda one: one.made_s, default=None)
        if oldest is None or self.made_s - oldest.made_s < START_S_MIN or self._core.faults.login_required:
            return False
        self._core.counters["silent_connections_closed"] += 1
        oldest.close(silently=True)
        return True

    @property
    def is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.sessions.discard(self)
        self._forget()

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._core.faults.login_required:
            self._keep_out(data)
            return
        try:
            for event in self._session.receive(data):
                match event:
                    case Negotiated(version=version):
                        greeting = [str(version), time_text(self._core.clock_ns())]
                        self._transport.write(join_fields(greeting))
                    case Started(client_id=client_id):
                        self._start(client_id)
                    case Frame(texts=texts):
                        self._frame(texts)
                # Bytes behind those that end a connection, or the process, are lost with it.
                if self._transport.is_closing() or self._server.is_leaving(self.client):
                    break
        except WireError as problem:
            self._core.counters["streams_broken"] += 1
            log.warning("closing a connection: %s", problem)
            self._transport.close()
        self._server.flush()

    def _keep_out(self, data: bytes) -> None:
        """Take what a peer sends and answer nothing; a peer that sends more than a greeting is closed."""
        self._kept_out = (self._kept_out or bytearray()) + data
        if len(self._kept_out) > KEPT_OUT_BYTES_MAX:
            assert self._transport is not None, "data comes from a transport"
            self._transport.abort()

    def let_in(self) -> None:
        """Answer what came while nobody was logged in."""
        if self._kept_out is not None:
            data, self._kept_out = bytes(self._kept_out), None
            self.data_received(data)

    def _start(self, client_id: int) -> None:
        client = self._core.start(client_id, self._session.version)
        if client is None:
            self._core.counters["error_326"] += 1
            text = "Unable to connect as the client id is already in use. Retry with a unique client id."
            self._last_words(326, text)
            return
        self.client = client
        self._server.connections[client_id] = self

    def _frame(self, texts: list[str]) -> None:
        if self.client is None:
            return
        if not self._rate.allow(time.monotonic_ns()):
            self._core.counters["error_100"] += 1
            limit = self._server.settings.messages_per_s_max
            self._last_words(100, f"Max rate of messages per second has been exceeded: max={limit}")
            return
        handle(self._core, self.client, texts)

    def _last_words(self, code: int, text: str) -> None:
        """Send an error and close; what the outbox holds by then goes out before it."""
        assert self._transport is not None
        self._server.core.commit()
        self.write_outbox()
        self._transport.write(join_fields(error(self._session.version, -1, code, text)))
        self._transport.close()

    def write_outbox(self) -> None:
        if self.client is None or not self.client.outbox:
            return
        frames = b"".join(self.client.outbox)
        self.client.outbox.clear()
        if self._frozen or self._transport is None or self._transport.is_closing():
            return
        self._core.told_ns[self.client.client_id] = time.time_ns()
        self._transport.write(frames)
        if self._transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            self._core.counters["slow_clients_dropped"] += 1
            self._transport.abort()

    @property
    def is_frozen(self) -> bool:
        return self._frozen

    def freeze(self) -> None:
        """Become half-open: the peer's writes are neither read nor refused, and its end is not noticed."""
        if self._frozen or self._transport is None:
            return
        self._frozen = True
        self._transport.pause_reading()

    def close(self, *, silently: bool) -> None:
        if self._transport is None:
            return
        if silently and self.client is not None:
            self.client.outbox.clear()
        self.write_outbox()
        self._forget()
        if silently:
            self._transport.abort()
        else:
            self._transport.close()

    def _forget(self) -> None:
        """Free the client id at once: a client that comes back in the same moment must not meet error 326."""
        if self.client is not None:
            if self._server.connections.get(self.client.client_id) is self:
                del self._server.connections[self.client.client_id]
                self._core.stop(self.client)
            self.client = None


class ControlConnection(asyncio.Protocol):
    """One connection of the control port: JSON lines, answered in order."""

    def __init__(self, server: GatewayServer) -> None:
        self._server = server
        self._pending = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if len(self._server.controls) >= CONTROLS_MAX:
            transport.abort()
            return
        self._server.controls.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.controls.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._pending += data
        *lines, rest = bytes(self._pending).split(b"\n")
        self._pending = bytearray(rest)
        answers = [control(self._server.core, line) for line in lines if line.strip()]
        self._server.flush()
        self._transport.write(b"".join(answers))
        if len(self._pending) > LINE_BYTES_MAX:
            self._transport.write(b'{"ok":false,"error":"a line is too long"}\n')
            self._transport.close()
