"""The order path's HTTP against servers that answer well, badly, half, late or not at all. Real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from actors.adapters.spot_http import (
    BODY_BYTES_MAX,
    Address,
    Connections,
    NotConnected,
    Reply,
    Unanswered,
    parse_base,
    request_bytes,
)

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Mbx-Used-Weight-1M: 7\r\n\r\n{}"


class Server:
    """A server on the loopback that does with each connection what the test says."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self.connections = 0
        self.requests: list[bytes] = []

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        self.http = Connections(Address("127.0.0.1", self.port, False, ""), 5.0, 4)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.http.close()
        self._server.close()

    async def ask(self, seconds_max: float = 30.0) -> Reply:
        return await self.http.exchange(lambda: request_bytes(self.http.address, "GET", "/x", {}), seconds_max)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def heard(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def answering(*replies: bytes, then_waits: bool = False) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in replies:
            await heard(reader)
            writer.write(reply)
            await writer.drain()
        if then_waits:
            await reader.read()

    return serve


def check(serve: Serve, ask: Callable[[Server], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(60), Server(serve) as server:
            await ask(server)

    asyncio.run(run())


def test_a_connection_is_used_again_while_it_keeps_to_the_rules() -> None:
    async def ask(server: Server) -> None:
        for _ in range(3):
            reply = await server.ask()
            assert (reply.status, reply.body, reply.headers["x-mbx-used-weight-1m"]) == (200, b"{}", "7")
        assert server.connections == 1

    check(answering(OK, OK, OK, then_waits=True), ask)


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\n\r\nnope", 400, b"nope"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", 200, b"abcde"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 504 Gateway Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 504, b""),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
    ],
)
def test_whole_replies_are_read_in_each_form(raw: bytes, status: int, body: bytes) -> None:
    async def ask(server: Server) -> None:
        reply = await server.ask()
        assert (reply.status, reply.body) == (status, body)
        again = await server.ask()
        assert again.status == status

    check(answering(raw, raw), ask)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\nabc" % (BODY_BYTES_MAX + 1),
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 2OO OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    ],
)
def test_half_a_reply_or_none_or_nonsense_is_unanswered_and_the_connection_is_not_used_again(raw: bytes) -> None:
    async def ask(server: Server) -> None:
        with pytest.raises(Unanswered):
            await server.ask()
        with pytest.raises(Unanswered):
            await server.ask()
        assert server.connections == 2

    check(answering(raw), ask)


def test_a_late_answer_is_never_taken_for_another_requests() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await heard(reader)
        if b"GET /slow" in request:
            await reader.read()  # until the client has given up
        writer.write(OK)
        await writer.drain()

    async def ask(server: Server) -> None:
        with pytest.raises(Unanswered, match="no reply within"):
            await server.http.exchange(lambda: request_bytes(server.http.address, "GET", "/slow", {}), 0.3)
        assert (await server.ask()).body == b"{}"
        assert server.connections == 2

    check(serve, ask)


def test_a_connection_that_ended_or_spoke_unasked_while_idle_is_not_used() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale")
        await writer.drain()
        await reader.read()

    async def ask(server: Server) -> None:
        assert (await server.ask()).body == b"{}"
        assert (await server.ask()).body == b"{}"
        assert server.connections == 2

    check(serve, ask)


def test_a_venue_that_is_not_there_is_not_connected_and_nothing_left() -> None:
    async def ask(server: Server) -> None:
        gone = Connections(Address("127.0.0.1", server.port, False, ""), 5.0, 1)
        server._server.close()
        await server._server.wait_closed()
        made: list[str] = []

        def request() -> bytes:
            made.append("request")
            return b""

        with pytest.raises(NotConnected):
            await gone.exchange(request, 1.0)
        assert made == []
        # The place is free again: the next one is refused for the same reason, and not for want of a place.
        with pytest.raises(NotConnected, match="Error"):
            await gone.exchange(request, 1.0)

    check(answering(OK), ask)


def test_who_comes_when_every_connection_is_in_use_waits_in_turn_and_not_for_ever() -> None:
    async def run() -> None:
        async with Server(answering(OK, then_waits=True)) as server:
            few = Connections(server.http.address, 0.2, 1)
            held = await few.take()
            with pytest.raises(NotConnected, match="in use"):
                await few.take()
            few.give_back(held)
            few.give_back(await few.take())
            few.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080", ""),
        ("https://api.example.com", "api.example.com", ""),
        ("https://api.example.com:8443/base/", "api.example.com:8443", "/base"),
        ("http://[::1]:80", "[::1]", ""),
    ],
)
def test_a_base_url_is_taken_apart(url: str, authority: str, path: str) -> None:
    address = parse_base(url)
    assert (address.authority, address.path) == (authority, path)
    assert request_bytes(address, "POST", "/x?y=1", {"A": "b"}).startswith(f"POST {path}/x?y=1 HTTP/1.1\r\n".encode())


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ws://127.0.0.1", "https://"])
def test_what_is_no_base_url_is_refused_with_the_remedy(url: str) -> None:
    with pytest.raises(ValueError, match=r"rest_url .*Remedy"):
        parse_base(url)
