"""The process around the core: two listening sockets, the walk's timer, signals, and the one loop they share.

Everything runs in one thread of one asyncio loop. A burst of bytes from one client is answered in one go: its
frames change the core, one commit makes that durable, and only then are the outboxes written to the sockets.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path

import orjson

from venues.gateway.connections import ClientConnection, ControlConnection
from venues.gateway.core import GatewayCore
from venues.gateway.journal import Journal, StateError, replace_file
from venues.gateway.session import Client
from venues.gateway.settings import GatewaySettings

log = logging.getLogger("gateway")
LOOPBACK = "127.0.0.1"
_PRICES_EVERY_S = 5.0
_LOOK_S_MAX = 3600.0
"""A timer is never set for longer: the machine's clock may be changed."""


class PortBusy(Exception):
    """A port is taken; the message names it and what to do."""


def listen_on(port: int, option: str) -> socket.socket:
    """Return a listening socket of the loopback. Raises PortBusy."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except OSError as busy:
        listener.close()
        raise PortBusy(
            f"port {port} on {LOOPBACK} cannot be used: {busy.strerror}. "
            f"Remedy: stop what listens there, or choose another with {option} PORT (0 takes a free one)."
        ) from busy
    listener.listen(64)
    listener.setblocking(False)
    return listener


class GatewayServer:
    """Implements core.Shell. Effects that a call asks for wait in `_after` until that call's commit is done."""

    def __init__(self, settings: GatewaySettings, journal: Journal) -> None:
        self.settings = settings
        self.core = GatewayCore(settings, journal, time.time_ns)
        self.core.shell = self
        self.connections: dict[int, ClientConnection] = {}
        self.sessions: set[ClientConnection] = set()
        self.controls: set[ControlConnection] = set()
        self.port = 0
        self.control_port = 0
        self._journal = journal
        self._closing: list[tuple[Client, bool]] = []
        self._dying = False
        self._refuse_s: float | None = None
        self._reopening: asyncio.TimerHandle | None = None
        self._logging_in: asyncio.TimerHandle | None = None
        self._due: asyncio.TimerHandle | None = None
        self._server: asyncio.Server | None = None
        self._stopped = asyncio.Event()

    # ---- core.Shell

    def close(self, client: Client, *, silently: bool) -> None:
        self._closing.append((client, silently))

    def freeze(self, client: Client, seconds: float) -> None:
        connection = self.connections[client.client_id]
        connection.freeze()
        asyncio.get_running_loop().call_later(seconds, lambda: connection.close(silently=True))

    def thaw(self) -> None:
        for connection in list(self.sessions):
            if connection.is_frozen:
                connection.close(silently=True)

    def refuse(self, seconds: float) -> None:
        self._refuse_s = seconds

    def shut_out(self, seconds: float) -> None:
        for connection in list(self.sessions):
            connection.close(silently=True)
        if self._logging_in is not None:
            self._logging_in.cancel()
            self._logging_in = None
        if seconds:
            self._logging_in = asyncio.get_running_loop().call_later(seconds, self.let_in)

    def let_in(self) -> None:
        self.core.faults.login_required = False
        for connection in list(self.sessions):
            connection.let_in()

    def die(self, *, committed: bool) -> None:
        if not committed:
            os.kill(os.getpid(), signal.SIGKILL)
        self._dying = True

    # ---- the loop

    def is_leaving(self, client: Client | None) -> bool:
        """Whether a call has asked for the end of this client's connection, or of the process."""
        return self._dying or any(closing is client for closing, _ in self._closing)

    def flush(self) -> None:
        """Commit, then write every outbox, then do what the calls asked of the process."""
        self.core.commit()
        if self._dying:
            os.kill(os.getpid(), signal.SIGKILL)
        closing, self._closing = self._closing, []
        for client, silently in closing:
            connection = self.connections.get(client.client_id)
            if connection is not None and connection.client is client:
                connection.close(silently=silently)
        for connection in list(self.connections.values()):
            connection.write_outbox()
        if self._refuse_s is not None:
            seconds, self._refuse_s = self._refuse_s, None
            self._refuse(seconds)
        self._schedule_due()

    def _schedule_due(self) -> None:
        due_ns = self.core.next_due_ns()
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if due_ns is not None:
            delay_s = min(_LOOK_S_MAX, max(0.0, (due_ns - self.core.clock_ns()) / 1e9))
            self._due = asyncio.get_running_loop().call_later(delay_s, self._advance)

    def _advance(self) -> None:
        self._due = None
        self.core.advance()
        self.flush()

    def _walk(self) -> None:
        self.core.walk()
        self.flush()
        asyncio.get_running_loop().call_later(self.settings.tick_ms / 1000, self._walk)

    def _record_prices(self) -> None:
        if self.core.walking:
            self.core.record_prices()
            self.flush()
        asyncio.get_running_loop().call_later(_PRICES_EVERY_S, self._record_prices)

    async def run(self, listener: socket.socket, control_listener: socket.socket) -> None:
        """Serve until SIGTERM or SIGINT, or until the journal fails."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._fail)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopped.set)
        if self.settings.lifeline_fd is not None:
            loop.add_reader(self.settings.lifeline_fd, self._lifeline_moved)
        self.port = int(listener.getsockname()[1])
        self.control_port = int(control_listener.getsockname()[1])
        self._server = await loop.create_server(lambda: ClientConnection(self), sock=listener)
        control_server = await loop.create_server(lambda: ControlConnection(self), sock=control_listener)
        self.flush()
        self._announce()
        loop.call_later(self.settings.tick_ms / 1000, self._walk)
        loop.call_later(_PRICES_EVERY_S, self._record_prices)
        await self._stopped.wait()
        self._server.close()
        control_server.close()
        for connection in list(self.sessions):
            connection.close(silently=False)
        self.core.record_prices()
        self.core.commit()
        await asyncio.sleep(0)

    def _lifeline_moved(self) -> None:
        """Something was written (ignored) or the other end is closed, which ends the gateway."""
        assert self.settings.lifeline_fd is not None
        if not os.read(self.settings.lifeline_fd, 64):
            asyncio.get_running_loop().remove_reader(self.settings.lifeline_fd)
            self._stopped.set()

    def _fail(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """A bug or a failing disk: what is not durable must not be told, so the process ends here."""
        cause = context.get("exception")
        if str(context.get("message", "")).startswith("socket.accept()"):
            self.core.counters["accepts_failed"] += 1
            log.error("cannot accept a connection: %s", cause)
            return
        log.critical(
            "gateway ends: %s", context.get("message"), exc_info=cause if isinstance(cause, Exception) else None
        )
        os._exit(70)

    def _announce(self) -> None:
        report = {
            "port": self.port,
            "control_port": self.control_port,
            "pid": os.getpid(),
            "account": self.settings.account,
            "host": LOOPBACK,
        }
        data = orjson.dumps(report) + b"\n"
        replace_file(self.settings.state_dir / "gateway.json", data)
        if self.settings.ready_file is not None:
            replace_file(self.settings.ready_file, data)
        if self.settings.ready_fd is not None:
            os.write(self.settings.ready_fd, data)
            os.close(self.settings.ready_fd)
        words = f"gateway ready host={LOOPBACK} port={self.port} control={self.control_port} pid={os.getpid()}"
        print(f"{words} account={self.settings.account} state={self.settings.state_dir}", flush=True)

    # ---- refusing connections

    def _refuse(self, seconds: float) -> None:
        """Close the listening socket and every session; open it again on the same port after `seconds`."""
        loop = asyncio.get_running_loop()
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None
        if seconds <= 0:
            if self._server is None:
                self._reopen()
            return
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self.sessions):
            connection.close(silently=True)
        self._reopening = loop.call_later(seconds, self._reopen)

    def _reopen(self) -> None:
        self._reopening = None
        try:
            listener = listen_on(self.port, "--port")
        except PortBusy as busy:
            log.warning("%s; tried again in 1 s", busy)
            self._reopening = asyncio.get_running_loop().call_later(1.0, self._reopen)
            return
        self._opening = asyncio.ensure_future(self._open(listener))

    async def _open(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: ClientConnection(self), sock=listener)


def serve(settings: GatewaySettings) -> int:
    """Run a gateway in the main thread until SIGTERM or SIGINT; return 0 in the end, 2 where it cannot start.

    Reasons not to start (a busy port, a state folder in use or unreadable) are told on stderr with a remedy.
    """
    listeners: list[socket.socket] = []
    journal: Journal | None = None
    try:
        journal = Journal(settings.state_dir)
        listeners.append(listen_on(settings.port, "--port"))
        listeners.append(listen_on(settings.control_port, "--control"))
        asyncio.run(_serve(settings, journal, listeners))
    except (PortBusy, StateError) as problem:
        print(f"gateway: {problem}", file=sys.stderr)
        return 2
    finally:
        for listener in listeners:
            listener.close()
        if journal is not None:
            journal.close()
    return 0


async def _serve(settings: GatewaySettings, journal: Journal, listeners: list[socket.socket]) -> None:
    server = GatewayServer(settings, journal)
    await server.run(listeners[0], listeners[1])


def read_ready(path: Path) -> dict[str, object]:
    """Return what a running gateway wrote into its `gateway.json`. Raises FileNotFoundError."""
    report: dict[str, object] = orjson.loads(path.read_bytes())
    return report
