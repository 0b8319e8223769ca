"""Connections to a Redis server: by URL or Unix socket, with bounded waits and no retry of their own."""

from __future__ import annotations

import enum
import os
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

if TYPE_CHECKING:
    from config.schema import Settings

PASSWORD_VARIABLE = "APEX_REDIS_PASSWORD"
PROBE_TIMEOUT_S = 0.25
READ_BLOCK_MS = 250
"""Longest wait for new entries at once: a reader that is told to stop, or asked for a beat, hears it within this."""

VERSION_MIN = (6, 2)


class Purpose(enum.StrEnum):
    """What a connection is for, which bounds its waits."""

    LEDGER = "ledger"
    BUS = "bus"
    HEALTH = "health"
    READER = "reader"
    TOOL = "tool"
    PROBE = "probe"


TIMEOUT_S: Mapping[Purpose, float] = {
    Purpose.LEDGER: 2.0,
    Purpose.BUS: 1.0,
    Purpose.HEALTH: 0.5,
    Purpose.READER: 2.0,
    Purpose.TOOL: 5.0,
    Purpose.PROBE: PROBE_TIMEOUT_S,
}


class ServerKind(enum.StrEnum):
    """The two servers; one server whose settings satisfy both may be given as both."""

    LEDGER = "ledger"
    BUS = "bus"


class SettingsRefused(RuntimeError):
    """The server does not keep what is written as this kind must, or will not say whether it does."""


def connect(
    url_or_socket: str | Path, purpose: Purpose | str, settings: Settings | None = None, password_file: str | Path = ""
) -> redis.Redis:
    """Return a client that connects at its first command, for one thread of one process (open it after any fork).

    Takes a path, `unix://`, `redis://` or `rediss://`. No command is repeated inside: a lost connection or a timeout
    raises redis.ConnectionError or redis.TimeoutError, after which the outcome of a write is unknown. The password is
    the URL's own (an empty one: none), else of `password_file` (by default the settings'), else of APEX_REDIS_PASSWORD.
    Raises ValueError for another scheme, SettingsRefused where that file cannot be read.
    """
    timeout_s = TIMEOUT_S[Purpose(purpose)]
    url = str(url_or_socket)
    if "://" not in url:
        url = "unix://" + urllib.parse.quote(url)
    if not url.startswith(("unix://", "redis://", "rediss://")):
        raise ValueError(
            f"Redis URL {redacted(url)!r} must be a socket's path or begin with unix://, redis:// or rediss://"
        )
    password = (
        None
        if urllib.parse.urlsplit(url).password is not None
        else _password(password_file or (settings.ledger.password_file if settings else ""))
    )
    options = {"password": password} if password else {}
    return redis.Redis.from_url(
        url,
        protocol=2,
        driver_info=None,
        socket_timeout=timeout_s,
        socket_connect_timeout=min(timeout_s, 2.0),
        retry=Retry(NoBackoff(), 0),
        **options,
    )


def probe(url_or_socket: str | Path, settings: Settings | None = None, password_file: str | Path = "") -> bool:
    """Whether the server serves now, within 0.25 s or so. False while it still loads its file."""
    client = connect(url_or_socket, Purpose.PROBE, settings, password_file)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def redacted(url: str) -> str:
    """Return the URL as it may be shown: without its password."""
    parts = urllib.parse.urlsplit(url)
    if not parts.password:
        return url
    return parts._replace(netloc=f"{parts.username or ''}:***@{parts.netloc.rpartition('@')[2]}").geturl()


# What a kind must be set to; the first of the allowed values is the one to ask for.
_DURABILITY: Mapping[ServerKind, Mapping[str, tuple[str, ...]]] = {
    ServerKind.LEDGER: {"appendonly": ("yes",), "appendfsync": ("always",), "no-appendfsync-on-rewrite": ("no",)},
    ServerKind.BUS: {"appendonly": ("yes",), "appendfsync": ("everysec", "always")},
}
_ALWAYS: Mapping[str, tuple[str, ...]] = {"maxmemory-policy": ("noeviction",)}


def check_settings(client: redis.Redis, kind: ServerKind, accept_less: bool = False) -> tuple[str, ...]:
    """Check that the server keeps what is written; return what it lacks and was accepted all the same.

    `accept_less` accepts lesser durability, or a server that refuses CONFIG; never one that evicts, or is older than
    6.2. Raises SettingsRefused with every shortfall and its remedy; redis.RedisError if it is away.
    """
    version = str(client.info("server")["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < VERSION_MIN:
        raise SettingsRefused(f"{kind} server is Redis {version}; 6.2 or newer is needed. Remedy: use a newer server")
    try:
        lacking = _lacking(client, _DURABILITY[kind])
        evicting = _lacking(client, _ALWAYS)
    except (redis.exceptions.NoPermissionError, redis.exceptions.ResponseError) as error:
        unverified = f"{kind} server does not let its settings be read ({error})"
        if accept_less:
            return (unverified,)
        raise SettingsRefused(
            f"{unverified}. Remedy: allow the user CONFIG GET (ACL SETUSER … +config|get), or, if you know that it has "
            f"{_wanted(kind)}, set ledger.accept_less_durability = true"
        ) from error
    if evicting:
        raise SettingsRefused(f"{kind} server may evict what was written: {_remedied(evicting)}")
    if lacking and not accept_less:
        raise SettingsRefused(
            f"{kind} server is less durable than its kind must be: {_remedied(lacking)}; "
            "or set ledger.accept_less_durability = true and accept the loss of the last writes"
        )
    return tuple(f"{kind} server has {name} {value!r}" for name, (value, _) in lacking.items())


def _lacking(client: redis.Redis, required: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, str]]:
    lacking = {}
    for name, allowed in required.items():
        answer = {_text(k): _text(v) for k, v in client.config_get(name).items()}
        value = answer.get(name, "")
        if value not in allowed:
            lacking[name] = (value, allowed[0])
    return lacking


def _remedied(lacking: Mapping[str, tuple[str, str]]) -> str:
    return "; ".join(
        f"{name} is {value!r}. Remedy: CONFIG SET {name} {wanted}, and write it to its configuration file"
        for name, (value, wanted) in lacking.items()
    )


def _wanted(kind: ServerKind) -> str:
    return ", ".join(f"{name} {allowed[0]}" for name, allowed in {**_DURABILITY[kind], **_ALWAYS}.items())


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


def _password(password_file: str | Path) -> str:
    if password_file:
        try:
            return Path(password_file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsRefused(
                f"ledger.password_file is {str(password_file)!r}, which cannot be read: {error}. "
                f"Remedy: name a text file that this user may read, or leave it empty and set {PASSWORD_VARIABLE}"
            ) from error
    return os.environ.get(PASSWORD_VARIABLE, "")
