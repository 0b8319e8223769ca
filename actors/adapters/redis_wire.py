"""Lua scripts, and their calls over a connection of their own, packed here.

What redis-py does around a command (its pool, retries, callbacks and records) takes as long as a durable append does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol, cast

import redis


class Script:
    """A Lua script, run by its hash and loaded where the server does not know it (which means: it has not run)."""

    def __init__(self, body: str) -> None:
        self.body = body
        self.sha = hashlib.sha1(body.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: redis.Redis, keys: list[str], arguments: list[bytes | str | int]) -> bytes:
        """Return the script's answer; raises what redis-py raises."""
        try:
            return cast("bytes", client.evalsha(self.sha, len(keys), *keys, *arguments))
        except redis.exceptions.NoScriptError:
            return cast("bytes", client.eval(self.body, len(keys), *keys, *arguments))


class RawConnection(Protocol):
    """What redis-py's connection is by itself."""

    def can_read(self, timeout: float = 0) -> bool: ...

    def send_packed_command(self, command: list[bytes], check_health: bool = True) -> None: ...

    def send_command(self, *arguments: str) -> None: ...

    def read_response(self) -> object: ...

    def disconnect(self) -> None: ...


def raw_connection(client: redis.Redis) -> RawConnection:
    """Take a connection out of the client's pool."""
    return cast("RawConnection", client.connection_pool.get_connection())


def packed(parts: list[bytes | str | int]) -> bytes:
    """Return a command in Redis's protocol."""
    pieces = [b"*%d\r\n" % len(parts)]
    for part in parts:
        value = part if isinstance(part, bytes) else str(part).encode()
        pieces.append(b"$%d\r\n%b\r\n" % (len(value), value))
    return b"".join(pieces)


Call = tuple[list[str], list[bytes | str | int]]
"""A script's keys and arguments."""


def _answer(connection: RawConnection) -> object:
    """Return an answer, or the error that the server gave in its place; raises where the connection itself fails."""
    try:
        return connection.read_response()
    except redis.exceptions.ResponseError as refusal:
        return refusal


class ScriptWire:
    """For one thread. The connection is made at the first call, and anew where the server has closed it since."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._connection: RawConnection | None = None

    def run(self, script: Script, keys: list[str], arguments: list[bytes | str | int]) -> bytes:
        """Return the script's answer; raises what redis-py raises. Not repeated: a lost answer leaves it unknown."""
        return self.run_all(script, [(keys, arguments)])[0]

    def run_all(self, script: Script, calls: Sequence[Call]) -> list[bytes]:
        """Return the answers of calls that are sent at once and run in their order, each refused unless those before it
        ran. The first error is raised, once all have been answered.
        """
        connection = self._ready()
        try:
            packed_calls = [packed(["EVALSHA", script.sha, len(keys), *keys, *values]) for keys, values in calls]
            connection.send_packed_command([b"".join(packed_calls)], check_health=False)
            answers = [_answer(connection) for _ in calls]
        except BaseException:
            # An answer may still be on its way: nobody is to take it for another's.
            connection.disconnect()
            raise
        if isinstance(answers[0], redis.exceptions.NoScriptError):
            # The script may have been loaded by another client meanwhile: what ran then was refused, by our terms.
            return [script.run(self._client, keys, values) for keys, values in calls]
        for answer in answers:
            if isinstance(answer, Exception):
                connection.disconnect()
                raise answer
        return cast("list[bytes]", answers)

    def _ready(self) -> RawConnection:
        """Return the connection; one that the server closed while nothing was asked of it is made anew by the send."""
        connection = self._connection
        if connection is None:
            connection = self._connection = raw_connection(self._client)
            return connection
        try:
            stale = connection.can_read()
        except redis.exceptions.ConnectionError:
            stale = True
        if stale:
            connection.disconnect()
        return connection
