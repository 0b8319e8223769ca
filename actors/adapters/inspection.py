"""Reading a running engine from outside: its board, projections and streams. Reads only, by known keys only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import msgspec
import redis

from actors.adapters.health import HealthReport, ProcessReport, SupervisorReport
from actors.adapters.redis_client import Purpose, ServerKind, SettingsRefused, check_settings, connect, redacted
from actors.chain import Entry
from actors.keys import ALL, KeyType, key
from config.schema import Settings

JOURNAL_PAGE = 1_000

Page = list[tuple[bytes, dict[bytes, bytes]]]

ServerAway = redis.RedisError
"""What a read of this module raises where its server does not answer."""


class EngineAway(RuntimeError):
    """The engine's Redis does not answer: it is not running, or is starting again."""

    exit_code = 69


class Board(msgspec.Struct, frozen=True):
    """Everything the tree says of itself."""

    supervisors: tuple[SupervisorReport, ...]
    leaves: tuple[HealthReport, ...]


class Inspector:
    """One short look, for a `with`. What a server does not answer leaves it as EngineAway."""

    def __init__(self, settings: Settings) -> None:
        self._bus = connect(settings.ledger.bus_url, Purpose.TOOL, settings)
        self._ledger = connect(settings.ledger.url, Purpose.TOOL, settings)

    def __enter__(self) -> Inspector:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._bus.close()
        self._ledger.close()
        if isinstance(error, ServerAway):
            raise EngineAway(
                f"the engine's Redis does not answer ({error}). Remedy: start the engine with `make run`, or wait "
                "until it has started again"
            ) from error

    def board(self) -> Board:
        """Read both halves of the health board; a report this program cannot read is left out of the table."""
        tree = self._fields(self._bus, KeyType.TREE)
        return Board(
            supervisors=tuple(msgspec.json.decode(tree[name], type=SupervisorReport) for name in sorted(tree)),
            leaves=self.leaves(),
        )

    def leaves(self) -> tuple[HealthReport, ...]:
        """Read the last report of every leaf actor there ever was, by role."""
        health = self._fields(self._bus, KeyType.HEALTH)
        return tuple(msgspec.json.decode(health[name], type=HealthReport) for name in sorted(health))

    def projection(self, key_type: KeyType, symbol: str = ALL) -> dict[str, dict[str, object]]:
        """One projection hash (orders, positions, outcomes): field → its JSON object."""
        fields = self._fields(self._ledger, key_type, symbol)
        return {name: msgspec.json.decode(value, type=dict[str, object]) for name, value in sorted(fields.items())}

    def stream_length(self, key_type: KeyType) -> int:
        """Entries a bus stream holds."""
        return int(self._bus.xlen(key(key_type, ALL)))

    def alerts(self, count: int) -> list[tuple[int, bytes]]:
        """Return the last entries of the alert stream, newest first: (time in ms, JSON)."""
        page = cast("Page", self._bus.xrevrange(key(KeyType.ALERTS, ALL), count=count))
        return [(int(entry_id.split(b"-")[0]), next(iter(fields.values()))) for entry_id, fields in page]

    def journals(self, roles: Iterable[str], count: int = JOURNAL_PAGE) -> Iterator[Entry]:
        """Every journal entry that is kept of these roles, a page at a time."""
        for role in roles:
            name, first = key(KeyType.JOURNAL, role), "-"
            while True:
                page = cast("Page", self._ledger.xrange(name, first, "+", count))
                for _, fields in page:
                    yield Entry(role, next(iter(fields.values())))
                if len(page) < count:
                    break
                first = f"({page[-1][0].decode()}"

    @staticmethod
    def _fields(client: redis.Redis, key_type: KeyType, symbol: str = ALL) -> dict[str, bytes]:
        raw: dict[bytes, bytes] = client.hgetall(key(key_type, symbol))  # type: ignore[assignment]
        return {name.decode(): value for name, value in raw.items()}


def all_processes(board: Board) -> list[ProcessReport]:
    """Every process of the tree, as its supervisor reported it."""
    return [child for supervisor in board.supervisors for child in supervisor.children]


def server_faults(kind: str, url: str, settings: Settings) -> str:
    """Why this server cannot serve as ledger or bus; empty if it can. A lesser one that is accepted is no fault."""
    client = connect(url, Purpose.TOOL, settings)
    try:
        check_settings(client, ServerKind(kind), settings.ledger.accept_less_durability)
    except (SettingsRefused, ServerAway) as error:
        return f"{redacted(url)}: {error}"
    finally:
        client.close()
    return ""
