"""Real Redis servers for tests: one ledger and one bus a session, each in a directory of its own, emptied between."""

from __future__ import annotations

import tempfile
from pathlib import Path

import redis

from actors.adapters.redis_server import EmbeddedRedis, Purpose, ServerKind, connect


class RedisPair:
    """A running ledger and bus. `fresh()` empties both, so that each test begins with nothing."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="apex-redis-")
        self.directory = Path(self._directory.name)
        self.ledger = EmbeddedRedis(ServerKind.LEDGER, self.directory)
        self.bus = EmbeddedRedis(ServerKind.BUS, self.directory)
        self.ledger.start()
        self.bus.start()

    def ledger_client(self, purpose: Purpose = Purpose.LEDGER) -> redis.Redis:
        """A new client of the ledger; close it."""
        return connect(self.ledger.url, purpose)

    def bus_client(self, purpose: Purpose = Purpose.BUS) -> redis.Redis:
        """A new client of the bus; close it."""
        return connect(self.bus.url, purpose)

    def fresh(self) -> None:
        """Delete everything on both; start either again if a test ended it."""
        for server in (self.ledger, self.bus):
            if not server.alive():
                server.start()
            with connect(server.url, Purpose.TOOL) as client:
                client.flushall()

    def close(self) -> None:
        """Stop both and remove their files."""
        self.ledger.stop()
        self.bus.stop()
        self._directory.cleanup()
