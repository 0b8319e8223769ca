"""A worker killed → serving again, with its journal's tail replayed: real Redis, real actor system, kill -9 by pid.

From the kill to the first turn of the new incarnation's loop: notice, policy, fork, epoch, fold. The baseline is a
bare fork that reads the same entries through redis-py; both trees stand at the same time and are killed in turn, so
that whatever else the machine does meets both.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import redis

from actors.adapters.redis_server import EmbeddedRedis, Purpose, ServerKind, connect
from actors.keys import ALL, KeyType, key
from actors.messages import Envelope, JournalRecord, PriceSeen
from benchmarks.replay_role import ROLE, SOCKET, Served
from benchmarks.report import ROOT, Measured, compared

BASELINE = "bare fork, same entries by redis-py"
SETTLE_S = 0.1
"""Between a restart and the next kill: the supervisor has taken the news by then."""
ANSWER_S_MAX = 60.0
BATCH = 500


class Trial:
    """A tree (or the bare loop) in a process of its own, and its worker's announcements."""

    def __init__(self, run_dir: Path, ledger_url: str, bus_url: str, entries: int, kind: str) -> None:
        run_dir.mkdir()
        self._entries = entries
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._listener.bind(str(run_dir / SOCKET))
        self._listener.settimeout(ANSWER_S_MAX)
        with (run_dir / "output.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.replay_tree", run_dir, ledger_url, bus_url, str(entries), kind],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        self._served = self._next()

    def killed_s(self) -> float:
        """Kill the worker; return how long it took until the next incarnation served."""
        time.sleep(SETTLE_S)
        began_ns = time.time_ns()
        os.kill(self._served.pid, signal.SIGKILL)
        self._served = self._next()
        return (self._served.at_ns - began_ns) / 1e9

    def close(self) -> None:
        """End it, and wait until it has ended what it started."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            self._listener.close()

    def _next(self) -> Served:
        served = msgspec.json.decode(self._listener.recv(4096), type=Served)
        assert served.entries == self._entries, f"{served.entries} entries replayed, not {self._entries}"
        return served


def worker_restart(quick: bool) -> list[Measured]:
    """Tails of 2,000 and of 100,000 entries."""
    short, long_ = (5, 1) if quick else (100, 20)
    goals: dict[float, float | None] = {0.5: 0.1, 0.99: 0.5}
    figures = _tail("worker_restart.tail_2000", 2_000, short, goals)
    if quick:
        return figures
    return figures + _tail("worker_restart.tail_100000", 100_000, long_, {0.5: None, 0.99: 2.0})


def _tail(name: str, entries: int, kills: int, goals: dict[float, float | None]) -> list[Measured]:
    with _servers() as (directory, ledger, bus), ExitStack() as stack:
        with connect(ledger.url, Purpose.TOOL) as client:
            bytes_each = write_journal(client, entries)
        trials = []
        for kind in ("tree", "bare"):
            trial = Trial(directory / kind, ledger.url, bus.url, entries, kind)
            stack.callback(trial.close)
            trials.append(trial)
        tree, bare = trials
        pairs = [(tree.killed_s(), bare.killed_s()) for _ in range(kills)]
    note = f"{entries} entries of {bytes_each} bytes; kill -9 → first turn of the new incarnation's loop"
    return compared(name, "s", [pair[0] for pair in pairs], BASELINE, [pair[1] for pair in pairs], goals, note)


@contextmanager
def _servers() -> Iterator[tuple[Path, EmbeddedRedis, EmbeddedRedis]]:
    directory = Path(tempfile.mkdtemp(prefix="apex-bench-"))
    servers = [EmbeddedRedis(kind, directory) for kind in (ServerKind.LEDGER, ServerKind.BUS)]
    try:
        for server in servers:
            server.start()
        yield directory, servers[0], servers[1]
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def write_journal(client: redis.Redis, entries: int) -> int:
    """Fill the role's journal as its own shell would have, many entries an fsync; return an entry's size."""
    name, size = key(KeyType.JOURNAL, ROLE), 0
    client.sadd(key(KeyType.INDEX, ALL), f"{KeyType.JOURNAL}:{ROLE}")
    for first in range(1, entries + 1, BATCH):
        with client.pipeline(transaction=False) as pipe:
            for seq in range(first, min(first + BATCH, entries + 1)):
                record = _record(seq)
                size = len(record)
                pipe.xadd(name, {"r": record}, id=f"{seq}-0")
            pipe.execute()
    return size


def _record(seq: int) -> bytes:
    now_ns = 1_760_000_000_000_000_000 + seq * 1_000_000
    envelope = Envelope(
        message_id=f"{ROLE}:e1.driver.{seq}",
        correlation_id=f"{ROLE}:e1.driver.{seq}",
        causation_id=f"source.momentum:{seq}.0",
        source="driver",
        target=ROLE,
        source_epoch=1,
        ts_init_ns=now_ns,
        ts_event_ns=now_ns,
        body=PriceSeen("AAPL", 21_734_000_000 + seq, now_ns),
    )
    return msgspec.json.encode(JournalRecord(seq=seq, now_ns=now_ns, epoch=1, input=envelope))
