"""A role that does little, in a real host: what its restart costs is the supervisor's, the shell's and the ledger's."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import msgspec

from actors.adapters.assembly import Assembly, BeatReturned, BuildContext
from actors.adapters.identity import IdentityFile
from actors.adapters.redis_bus import RedisBus
from actors.adapters.redis_client import Purpose, connect
from actors.adapters.redis_ledger import RedisLedger
from actors.adapters.trace_file import TraceFile
from actors.effects import Effect
from actors.messages import AnyMessage, Envelope, PriceSeen

ROLE = "replayed"
SOCKET = "serving.sock"
NEVER = 1_000_000_000


class Served(msgspec.Struct, frozen=True):
    """An incarnation takes inputs now: its process, the wall clock, and how many entries it folded."""

    pid: int
    at_ns: int
    entries: int


class Replayed(msgspec.Struct, frozen=True):
    """The last price and a count of all, so that the fold does something and its result can be checked."""

    entries: int = 0
    last_px: int = 0


class ReplayRole:
    """Folds prices."""

    name = ROLE
    schema_version = 1
    state_type = Replayed

    def initial(self) -> Replayed:
        """Nothing folded."""
        return Replayed()

    def reduce(self, state: Replayed, envelope: Envelope, now_ns: int) -> tuple[Replayed, tuple[Effect, ...]]:
        """Count a price; all else changes nothing, so that a restart adds nothing to the journal."""
        if not isinstance(envelope.body, PriceSeen):
            return state, ()
        return Replayed(state.entries + 1, envelope.body.last_px), ()

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        """There is no earlier version."""
        raise ValueError(f"{self.name}: no migration from {schema_version}")


class AnnouncingDriver:
    """Tells the benchmark once the actor's loop has turned for the first time after the fold."""

    def __init__(self, path: Path, entries: int) -> None:
        self._path = path
        self._entries = entries
        self._reader, self._writer = socket.socketpair()

    def start(self) -> None:
        """Readable at once: the loop's first turn drains."""
        self._writer.send(b"!")

    def post(self, command: AnyMessage) -> None:
        """It takes none."""
        raise AssertionError(f"no command for it: {type(command).__name__}")

    def fileno(self) -> int:
        """The pair's reading end."""
        return self._reader.fileno()

    def drain(self) -> list[AnyMessage | BeatReturned]:
        """Announce."""
        self._reader.recv(16)
        announce(self._path, self._entries)
        return []

    def beat(self, nonce: int) -> None:
        """Nothing to go through: the trial is shorter than a heartbeat's patience."""

    def stop(self) -> None:
        """Nothing runs."""


def announce(path: Path, entries: int) -> None:
    """Send a `Served` to the benchmark."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(msgspec.json.encode(Served(os.getpid(), time.time_ns(), entries)), str(path))


def build(context: BuildContext) -> Assembly:
    """Named by the trial's tree."""
    settings, run_dir = context.settings, Path(context.run_dir)
    identity = IdentityFile(run_dir / "identity.json")
    return Assembly(
        role=ReplayRole(),
        ledger=RedisLedger(
            connect(settings.ledger.url, Purpose.LEDGER, settings), ROLE, f"pid {os.getpid()}", identity
        ),
        bus=RedisBus(connect(settings.ledger.bus_url, Purpose.BUS, settings), ROLE, str(run_dir), 1),
        tracer=TraceFile(run_dir, ROLE, 1),
        driver=AnnouncingDriver(run_dir / SOCKET, int(context.options["entries"])),
        snapshot_every=NEVER,
    )
