"""HTTP/1.1 to the spot exchange, of our own where orders go: it must be known whether a byte has left.

A request goes out in one write, in the same step as the last check before it, over a connection that was open and idle
until then. What comes back is a whole reply, or `Unanswered`: then the request may have arrived. A connection that
failed, timed out or said anything unasked is closed and never used again, so that no late answer is taken for another
request's. Nothing here repeats a request.

Bounds: a reply's head has at most 64 KiB, its body `BODY_BYTES_MAX`; more is `Unanswered`. At most `connections_max`
connections are open; who comes later waits in turn.
"""

from __future__ import annotations

import asyncio
import ssl
import urllib.parse
from collections.abc import Callable
from typing import Final

import msgspec

BODY_BYTES_MAX: Final = 16 * 1024 * 1024
_HEAD_BYTES_MAX: Final = 64 * 1024
_HEADERS_MAX: Final = 200


class NotConnected(RuntimeError):
    """No connection in time: not one byte of the request left."""


class Unanswered(RuntimeError):
    """The request was written, and no whole reply came: nobody here can know what became of it."""


class Reply(msgspec.Struct, frozen=True):
    """A whole reply; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Address(msgspec.Struct, frozen=True):
    """Where a base URL points."""

    host: str
    port: int
    tls: bool
    path: str

    @property
    def authority(self) -> str:
        """As the Host header names it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def parse_base(base_url: str) -> Address:
    """Return the address of an http or https URL. Raises ValueError, with the remedy, for anything else."""
    parts = urllib.parse.urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"rest_url {base_url!r}: must be http://HOST:PORT or https://HOST. Remedy: correct it")
    tls = parts.scheme == "https"
    return Address(parts.hostname, parts.port or (443 if tls else 80), tls, parts.path.rstrip("/"))


def request_bytes(address: Address, method: str, target: str, headers: dict[str, str]) -> bytes:
    """Return a request without a body. `target` is path and query, percent-encoded."""
    lines = [f"{method} {address.path}{target} HTTP/1.1", f"Host: {address.authority}", "Accept: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if method in ("POST", "PUT"):
        lines.append("Content-Length: 0")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


class Connection:
    """One open connection, used by one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._spoiled = False

    @property
    def usable(self) -> bool:
        """Whether nothing has come of it since the last reply, not even its end."""
        waiting = bool(getattr(self._reader, "_buffer", b""))
        return not (self._spoiled or waiting or self._reader.at_eof() or self._writer.transport.is_closing())

    def write(self, request: bytes) -> None:
        """Hand the whole request to the socket, in this step."""
        self._spoiled = True  # until its reply was read whole
        self._writer.write(request)

    async def reply(self, seconds_max: float) -> Reply:
        """Return the reply to what was written. Raises Unanswered."""
        try:
            async with asyncio.timeout(seconds_max):
                reply, keeps = await self._read()
        except TimeoutError:
            self.close()
            raise Unanswered(f"no reply within {seconds_max:g} s") from None
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            self.close()
            raise Unanswered(f"{type(error).__name__}: {error}"[:200]) from None
        except asyncio.CancelledError:
            self.close()
            raise
        if keeps:
            self._spoiled = False
        else:
            self.close()
        return reply

    def close(self) -> None:
        """Drop it."""
        self._spoiled = True
        self._writer.transport.abort()

    async def _read(self) -> tuple[Reply, bool]:
        version, status = self._status_line(await self._reader.readuntil(b"\r\n"))
        headers: dict[str, str] = {}
        while (line := await self._reader.readuntil(b"\r\n")) != b"\r\n":
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or len(headers) >= _HEADERS_MAX:
                raise ValueError("the reply's head is no HTTP")
            headers[name.strip().lower()] = value.strip()
        if status == 204:
            body = b""
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            body = await self._chunks()
        else:
            body = await self._reader.readexactly(_length(headers.get("content-length", ""), 10))
        keeps = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        return Reply(status, headers, body), keeps

    def _status_line(self, line: bytes) -> tuple[str, int]:
        version, _, rest = line.decode("latin-1").partition(" ")
        text = rest[:3]
        if not version.startswith("HTTP/1.") or not (text.isascii() and text.isdigit()):
            raise ValueError("the reply's first line is no HTTP")
        return version, int(text)

    async def _chunks(self) -> bytes:
        body = bytearray()
        while size := _length((await self._reader.readuntil(b"\r\n")).decode("latin-1").partition(";")[0].strip(), 16):
            if len(body) + size > BODY_BYTES_MAX:
                raise ValueError(f"the reply has more than {BODY_BYTES_MAX} bytes")
            body += await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        while await self._reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return bytes(body)


def _length(text: str, base: int) -> int:
    length = int(text, base)
    if not 0 <= length <= BODY_BYTES_MAX:
        raise ValueError(f"the reply has {length} bytes, at most {BODY_BYTES_MAX}")
    return length


class Connections:
    """The idle connections to one address. On one loop."""

    def __init__(self, address: Address, connect_s_max: float, connections_max: int) -> None:
        self.address = address
        self._connect_s_max = connect_s_max
        self._idle: list[Connection] = []
        self._places = asyncio.Semaphore(connections_max)

    async def take(self) -> Connection:
        """Return an idle connection, or open one; give it back with `give_back`. Raises NotConnected."""
        try:
            async with asyncio.timeout(self._connect_s_max):
                await self._places.acquire()
        except TimeoutError:
            raise NotConnected("every connection is in use") from None
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            connection.close()
        try:
            return await self._open()
        except BaseException:
            self._places.release()
            raise

    def give_back(self, connection: Connection) -> None:
        """Return what `take` gave, whatever became of it."""
        self._places.release()
        if connection.usable:
            self._idle.append(connection)
        else:
            connection.close()

    async def warm(self, count: int) -> None:
        """Open so many connections ahead of their use. Raises NotConnected."""
        taken: list[Connection] = []
        try:
            for _ in range(count):
                taken.append(await self.take())
        finally:
            for connection in taken:
                self.give_back(connection)

    async def exchange(self, request: Callable[[], bytes], seconds_max: float) -> Reply:
        """Send a request made at the last moment and return its reply. Raises NotConnected, Unanswered."""
        connection = await self.take()
        try:
            connection.write(request())
            return await connection.reply(seconds_max)
        finally:
            self.give_back(connection)

    def close(self) -> None:
        """Drop the idle ones."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _open(self) -> Connection:
        address = self.address
        try:
            async with asyncio.timeout(self._connect_s_max):
                reader, writer = await asyncio.open_connection(
                    address.host,
                    address.port,
                    limit=_HEAD_BYTES_MAX,
                    ssl=ssl.create_default_context() if address.tls else None,
                )
        except (OSError, TimeoutError) as error:
            raise NotConnected(f"{type(error).__name__}: {error}"[:200]) from None
        return Connection(reader, writer)
