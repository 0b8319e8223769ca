"""One record made durable by the ledger's script; the baseline is a bare XADD of the same bytes to the same server."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from actors.adapters.identity import IdentityFile
from actors.adapters.redis_ledger import RedisLedger
from actors.adapters.redis_server import EmbeddedRedis, Purpose, ServerKind, connect
from actors.ports import Entry
from benchmarks.report import Measured, compared

RECORD = b"x" * 900
ROLE = "appender"
BARE = "bare"


def append(quick: bool) -> list[Measured]:
    """Appends and XADDs in turn."""
    directory = Path(tempfile.mkdtemp(prefix="apex-bench-"))
    server = EmbeddedRedis(ServerKind.LEDGER, directory)
    try:
        server.start()
        client = connect(server.url, Purpose.LEDGER)
        ledger = RedisLedger(client, ROLE, "a benchmark", IdentityFile(directory / "identity.json"))
        ledger.acquire()
        appends, bare = [], []
        for seq in range(1, (200 if quick else 5_000) + 1):
            began_ns = time.perf_counter_ns()
            ledger.append([Entry(seq, RECORD)])
            between_ns = time.perf_counter_ns()
            client.xadd(BARE, {"r": RECORD})
            appends.append((between_ns - began_ns) / 1e6)
            bare.append((time.perf_counter_ns() - between_ns) / 1e6)
        client.close()
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)
    note = f"fsync each, {len(RECORD)} bytes"
    return compared("ledger.append", "ms", appends, "bare XADD, fsynced too", bare, {0.5: None, 0.99: None}, note)
