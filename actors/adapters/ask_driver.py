"""The reconciler's driver: hands it a person's wish for a read at once, left as a file in the run directory.

As the halt latch and the word to the executor are: it needs no server, and a wish that nobody hears is simply old.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from actors.adapters.driver_thread import DriverThread
from actors.messages import ReconcileNow
from actors.ports import Clock

NAME = "reconcile_now.json"
BYTES_MAX = 4_096
LOOK_S = 0.1
OLD_NS = 60_000_000_000
"""A wish of before is not taken up by an engine that started since."""


class AskDriver(DriverThread):
    """`HostedDriver`; it takes no commands and tells each wish once."""

    def __init__(self, name: str, run_dir: Path, clock: Clock) -> None:
        super().__init__(name)
        self._run_dir, self._clock = run_dir, clock
        self._told_ns = 0

    @property
    def counters(self) -> dict[str, int]:
        """What this thread counted, for the health board."""
        return dict(self.worker.progress)

    def start(self) -> None:
        """Begin to look."""
        self._told_ns = self._clock.now_ns() - OLD_NS
        super().start()

    async def _main(self) -> None:
        while True:
            ask = read_ask(self._run_dir)
            if ask is not None and ask.asked_ns > self._told_ns:
                self._told_ns = ask.asked_ns
                self.worker.count("asks")
                self.worker.emit(ask)
            await asyncio.sleep(LOOK_S)


def read_ask(run_dir: Path) -> ReconcileNow | None:
    """Return the last wish, None where there is none (or none that can be read)."""
    try:
        with open(run_dir / NAME, "rb") as file:
            return msgspec.json.decode(file.read(BYTES_MAX), type=ReconcileNow)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_ask(run_dir: Path, ask: ReconcileNow) -> None:
    """Leave a wish. Raises OSError."""
    draft = run_dir / f"{NAME}.{os.getpid()}"
    draft.write_bytes(msgspec.json.encode(ask))
    os.replace(draft, run_dir / NAME)
