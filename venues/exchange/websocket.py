"""The WebSocket face: raw and combined streams, live subscription, pings, and the limits of the real exchange.

Forms: the exchange's spot WebSocket streams documentation, as of 2025; HTTP 414 from field note 6.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import WSMessage, WSMsgType, web

from venues.exchange.connection import Connection
from venues.exchange.exchange import Exchange
from venues.exchange.frames import PONG, TEXT, frame
from venues.exchange.hub import POLICY

_MESSAGE_BYTES_MAX: Final = 64 * 1024
_METHODS: Final = "`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"


class _Request(msgspec.Struct):
    method: str | None = None
    params: list[str | bool] = []
    id: int | str | None = None


class _Result(msgspec.Struct):
    result: list[str] | bool | None
    id: int | str | None


class _Error(msgspec.Struct):
    code: int
    msg: str
    id: int | str | None = None


class WebSocketFace:
    """Upgrades, and one task a connection that reads what the client says. Writing is the hub's."""

    def __init__(self, exchange: Exchange, refused: Callable[[], web.Response | None]) -> None:
        self._exchange = exchange
        self._refused = refused

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of raw and combined streams; both may begin with none."""
        return [
            web.get("/ws", self._raw),
            web.get("/ws/{streams:.*}", self._raw),
            web.get("/stream", self._combined),
        ]

    async def _raw(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, request.match_info.get("streams", ""), is_combined=False)

    async def _combined(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, request.query.get("streams", ""), is_combined=True)

    async def _serve(self, request: web.Request, names: str, *, is_combined: bool) -> web.StreamResponse:
        counters = self._exchange.hub.counters
        counters["upgrades"] += 1
        refused = self._refused()
        if refused is not None:
            return refused
        streams = [name for name in names.split("/") if name]
        if len(streams) > self._exchange.settings.streams_per_connection_max:
            counters["upgrades_414"] += 1
            return web.Response(status=414, text="Request-URI Too Large")
        socket = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=_MESSAGE_BYTES_MAX)
        if not socket.can_prepare(request).ok:
            return web.Response(status=400, text='Can "Upgrade" only to "WebSocket".')
        await socket.prepare(request)
        transport = request.transport
        if not isinstance(transport, asyncio.Transport):
            return socket  # the client left during the handshake
        connection = self._exchange.hub.add(transport, is_combined, self._exchange.monotonic_s())
        try:
            self._exchange.subscribe(connection, streams)
            async for message in socket:
                self._hear(connection, message)
        finally:
            self._exchange.hub.remove(connection)
        return socket

    def _hear(self, connection: Connection, message: WSMessage) -> None:
        if self._says_too_much(connection):
            self._exchange.hub.part(connection, POLICY, "Too many requests")
        elif message.type is WSMsgType.PING:
            connection.write(frame(PONG, message.data))
        elif message.type is WSMsgType.PONG:
            connection.unanswered_ping_s = None
        elif message.type is WSMsgType.TEXT:
            self._exchange.hub.counters["ws_requests"] += 1
            reply = self._answer(connection, message.data)
            # What is queued goes first, so that the reply to UNSUBSCRIBE is the last that is heard of a stream.
            self._exchange.hub.flush()
            connection.write(frame(TEXT, msgspec.json.encode(reply)))

    def _says_too_much(self, connection: Connection) -> bool:
        """Whether more came within a second than the limit: requests, pings and pongs together."""
        limit, now_s = self._exchange.settings.inbound_per_s_max, self._exchange.monotonic_s()
        connection.inbound_s.append(now_s)
        while connection.inbound_s[0] <= now_s - 1.0:
            connection.inbound_s.popleft()
        return 0 < limit < len(connection.inbound_s)

    def _answer(self, connection: Connection, text: str) -> _Result | _Error:
        try:
            request = msgspec.json.decode(text, type=_Request)
        except msgspec.ValidationError as error:
            told = "request ID must be an unsigned integer" if "$.id" in str(error) else str(error)
            return _Error(2, f"Invalid request: {told}")
        except msgspec.DecodeError as error:
            return _Error(3, f"Invalid JSON: {error}")
        streams = [param for param in request.params if isinstance(param, str)]
        if request.method in ("SUBSCRIBE", "UNSUBSCRIBE") and len(streams) != len(request.params):
            return _Error(2, "Invalid request: stream name must be a string", request.id)
        is_of_property = request.method in ("GET_PROPERTY", "SET_PROPERTY")
        if is_of_property and request.params and not isinstance(request.params[0], str):
            return _Error(2, "Invalid request: property name must be a string", request.id)
        match request.method:
            case "SUBSCRIBE":
                return self._subscribe(connection, streams, request.id)
            case "UNSUBSCRIBE":
                self._exchange.hub.unsubscribe(connection, streams)
                return _Result(None, request.id)
            case "LIST_SUBSCRIPTIONS":
                return _Result(list(connection.streams), request.id)
            case "GET_PROPERTY" if request.params == ["combined"]:
                return _Result(connection.is_combined, request.id)
            case "SET_PROPERTY" if len(request.params) == 2 and request.params[0] == "combined":
                if not isinstance(request.params[1], bool):
                    return _Error(1, "Invalid value type: expected Boolean", request.id)
                connection.is_combined = request.params[1]
                return _Result(None, request.id)
            case "GET_PROPERTY" | "SET_PROPERTY":
                return _Error(0, "Unknown property", request.id)
            case None:
                return _Error(2, "Invalid request: missing field `method`", request.id)
            case _:
                text = f"Invalid request: unknown variant {request.method}, expected one of {_METHODS}"
                return _Error(2, text, request.id)

    def _subscribe(self, connection: Connection, streams: list[str], request_id: int | str | None) -> _Result | _Error:
        limit = self._exchange.settings.streams_per_connection_max
        if len(connection.streams.keys() | set(streams)) > limit:
            self._exchange.hub.counters["subscribe_refused"] += 1
            return _Error(2, f"Invalid request: too many streams, at most {limit} a connection", request_id)
        self._exchange.subscribe(connection, streams)
        return _Result(None, request_id)
