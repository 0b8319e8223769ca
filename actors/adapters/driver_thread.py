"""What the drivers of the market's actors share: a worker thread, and commands kept until it runs."""

from __future__ import annotations

import asyncio

from actors.adapters.assembly import BeatReturned
from actors.adapters.worker import COMMANDS_MAX, Worker
from actors.messages import AnyMessage


class DriverThread:
    """`HostedDriver` around a `Worker`; the loop's side is `handle` and `ended`.

    The shell posts commands while it recovers, before the host calls `start`: they wait here, in order.
    """

    def __init__(self, name: str) -> None:
        self.worker: Worker[AnyMessage, AnyMessage | BeatReturned] = Worker(name)
        self._early: list[AnyMessage] | None = []

    # ---- on the actor's thread

    def start(self) -> None:
        """Begin, with the commands that came before."""
        self.worker.start(self._main, self.handle, BeatReturned)
        early, self._early = self._early or [], None
        for command in early:
            self.worker.post(command)

    def post(self, command: AnyMessage) -> None:
        """Hand over a command; never blocks."""
        if self._early is None:
            self.worker.post(command)
            return
        assert len(self._early) < COMMANDS_MAX, "more commands before the start than the thread may have"
        self._early.append(command)

    def fileno(self) -> int:
        """Readable while events wait."""
        return self.worker.fileno()

    def drain(self) -> list[AnyMessage | BeatReturned]:
        """Everything that waits, in order."""
        return self.worker.drain()

    def beat(self, nonce: int) -> None:
        """Through the loop."""
        self.worker.beat(nonce)

    def stop(self) -> None:
        """End the thread."""
        self.worker.stop()

    # ---- on the loop

    def handle(self, command: AnyMessage) -> None:
        """Take a command."""
        raise AssertionError(f"no command is known here, got {type(command).__name__}")

    def ended(self) -> None:
        """Close what this driver opened."""

    async def _main(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.ended()
