"""Reading a running engine from outside: its board, projections and streams. Reads only, by known keys only."""

from __future__ import annotations

import msgspec
import redis

from actors.adapters.health import HealthReport, ProcessReport, SupervisorReport
from actors.adapters.redis_client import Purpose, connect
from actors.keys import ALL, KeyType, key
from config.schema import Settings

ServerAway = redis.RedisError
"""What a read of this module raises where its server does not answer."""


class Board(msgspec.Struct, frozen=True):
    """Everything the tree says of itself."""

    supervisors: tuple[SupervisorReport, ...]
    leaves: tuple[HealthReport, ...]


class Inspector:
    """One short look; open, read, close. Every read raises redis.RedisError where its server is away."""

    def __init__(self, settings: Settings) -> None:
        self._bus = connect(settings.ledger.bus_url, Purpose.TOOL, settings)
        self._ledger = connect(settings.ledger.url, Purpose.TOOL, settings)

    def board(self) -> Board:
        """Read both halves of the health board; a report this program cannot read is left out of the table."""
        tree = self._fields(self._bus, KeyType.TREE)
        health = self._fields(self._bus, KeyType.HEALTH)
        return Board(
            supervisors=tuple(msgspec.json.decode(tree[name], type=SupervisorReport) for name in sorted(tree)),
            leaves=tuple(msgspec.json.decode(health[name], type=HealthReport) for name in sorted(health)),
        )

    def projection(self, key_type: KeyType) -> dict[str, dict[str, object]]:
        """One projection hash (orders, positions, outcomes): field → its JSON object."""
        fields = self._fields(self._ledger, key_type)
        return {name: msgspec.json.decode(value, type=dict[str, object]) for name, value in sorted(fields.items())}

    def stream_length(self, key_type: KeyType) -> int:
        """Entries a bus stream holds."""
        return int(self._bus.xlen(key(key_type, ALL)))

    def close(self) -> None:
        """Let go of both connections."""
        self._bus.close()
        self._ledger.close()

    @staticmethod
    def _fields(client: redis.Redis, key_type: KeyType) -> dict[str, bytes]:
        raw: dict[bytes, bytes] = client.hgetall(key(key_type, ALL))  # type: ignore[assignment]
        return {name.decode(): value for name, value in raw.items()}


def all_processes(board: Board) -> list[ProcessReport]:
    """Every process of the tree, as its supervisor reported it."""
    return [child for supervisor in board.supervisors for child in supervisor.children]
