"""The allocator's driver: signals of the bus, handed from the reader's thread to the actor's loop."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Callable

import redis

from actors.adapters.assembly import BeatReturned
from actors.adapters.signal_reader import IN_FLIGHT_MAX, SignalReader
from actors.messages import AnyMessage


class SignalDriver:
    """`HostedDriver` around a `SignalReader`.

    Bounded by the reader itself: it has at most `IN_FLIGHT_MAX` entries unacknowledged, so no more can wait here.
    """

    def __init__(self, open_client: Callable[[], redis.Redis], group: str, consumer: str) -> None:
        self._events: deque[AnyMessage | BeatReturned] = deque()
        self._reader_end, self._writer_end = socket.socketpair()
        self._reader_end.setblocking(False)
        self._writer_end.setblocking(False)
        self._reader = SignalReader(
            open_client, group, consumer, self._put, self._put_beat, waiting=lambda: len(self._events)
        )

    @property
    def counters(self) -> dict[str, int]:
        """Totals of the reader."""
        return self._reader.progress()

    def start(self) -> None:
        """Begin to read."""
        self._reader.start()

    def post(self, command: AnyMessage) -> None:
        """It takes none: a command to it is a bug of the reducer."""
        raise AssertionError(f"the signal reader takes no commands, got {type(command).__name__}")

    def fileno(self) -> int:
        """Readable while anything waits."""
        return self._reader_end.fileno()

    def drain(self) -> list[AnyMessage | BeatReturned]:
        """Everything that waits. The byte is taken first: what comes after it writes another."""
        with contextlib.suppress(BlockingIOError):
            self._reader_end.recv(4096)
        drained = []
        while self._events:
            drained.append(self._events.popleft())
        assert len(drained) <= 2 * IN_FLIGHT_MAX, "the reader hands over more than it may have in flight"
        return drained

    def beat(self, nonce: int) -> None:
        """Through the reader's thread."""
        self._reader.beat(nonce)

    def stop(self) -> None:
        """End the thread."""
        self._reader.stop()

    def _put(self, event: AnyMessage | BeatReturned) -> None:
        self._events.append(event)
        with contextlib.suppress(BlockingIOError):
            self._writer_end.send(b"!")

    def _put_beat(self, nonce: int, progress: dict[str, int]) -> None:
        self._put(BeatReturned(nonce, progress))
