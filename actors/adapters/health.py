"""What every process says of itself, on the bus, about once a second: what `status` and the console show.

Losing the bus loses no truth: a failed write is counted and the next one says it all again.
"""

from __future__ import annotations

import msgspec
import orjson
import redis
from loguru import logger

from actors.adapters.redis_client import Purpose, connect
from actors.effects import Severity
from actors.keys import ALL, KeyType, key
from config.schema import Settings

ALERTS_KEPT = 10_000


class StandingAlarm(msgspec.Struct, frozen=True):
    """An alarm that has not been cleared."""

    name: str
    severity: Severity
    text: str
    since_ns: int
    count: int
    for_a_person: bool = False
    """It stands until a person acknowledges it: `run.py alarms --ack`."""
    raised_ns: int = 0
    """When one of those was raised last: what an acknowledgement is about."""


class HealthReport(msgspec.Struct, frozen=True):
    """One leaf actor's word about itself. `detail` is what its role wants shown.

    `latencies`: by stage, since the incarnation began, in the sparse form of `kernels.latency_histogram`.
    """

    role: str
    pid: int
    epoch: int
    seq: int
    counters: dict[str, int]
    alarms: tuple[StandingAlarm, ...]
    written_ns: int
    detail: dict[str, str]
    latencies: dict[str, dict[str, int]] = {}


class ProcessReport(msgspec.Struct, frozen=True):
    """One process as its supervisor sees it. `last_beat_age_s` None: it has not been asked yet."""

    role: str
    pid: int
    parent: str
    state: str
    restarts: int
    incarnation: int
    last_beat_age_s: float | None
    last_exit: str


class SupervisorReport(msgspec.Struct, frozen=True):
    """One supervisor's children."""

    role: str
    pid: int
    written_ns: int
    children: tuple[ProcessReport, ...]


class HealthBoard:
    """Writes reports under their role in one hash, alerts to one bounded stream."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.ledger.bus_url
        self._settings = settings
        self._client: redis.Redis | None = None
        self.failures = 0

    def put(self, report: HealthReport) -> None:
        """Publish a leaf's report."""
        self._write(KeyType.HEALTH, report.role, msgspec.json.encode(report))

    def put_supervisor(self, report: SupervisorReport) -> None:
        """Publish a supervisor's report and let go of the connection: a process that forks keeps no socket."""
        self._write(KeyType.TREE, report.role, msgspec.json.encode(report))
        self.close()

    def alert(self, role: str, name: str, severity: Severity, text: str, raised: bool) -> None:
        """Log an alarm's beginning, end or news and append it to the alert stream."""
        level = {"info": "INFO", "warning": "WARNING", "critical": "CRITICAL"}[severity.value]
        logger.log(level if raised else "INFO", "alarm {} {}: {}", name, "raised" if raised else "cleared", text)
        entry = orjson.dumps({"role": role, "name": name, "severity": severity, "text": text, "raised": raised})
        try:
            self._connected().xadd(key(KeyType.ALERTS, ALL), {"alert": entry}, maxlen=ALERTS_KEPT, approximate=True)
        except redis.RedisError:
            self._failed()

    def close(self) -> None:
        """Drop the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _write(self, key_type: KeyType, field: str, value: bytes) -> None:
        try:
            self._connected().hset(key(key_type, ALL), field, value)
        except redis.RedisError:
            self._failed()

    def _connected(self) -> redis.Redis:
        if self._client is None:
            self._client = connect(self._url, Purpose.HEALTH, self._settings)
        return self._client

    def _failed(self) -> None:
        self.failures += 1
        self.close()
