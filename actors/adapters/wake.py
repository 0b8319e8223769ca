"""Waking the evaluator: a datagram socket of the run's. A wake says nothing but "look"; what changed is in the rings.

Many wakes are one: where the receiver's queue is full a further one is dropped, because it will look anyway. Where
nobody listens the wake is lost, counted, and sent again by the feed's next beat.
"""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from actors.adapters.image_file import make_memory_folder, memory_folder

_WAKE = b"\0"
_AT_ONCE_MAX = 1_024
_SOCKET_NAME = "evaluator.wake"


class WakeReceiver:
    """The evaluator's end. A new one takes the place of the last incarnation's."""

    def __init__(self, run_dir: Path) -> None:
        """Bind. Raises OSError."""
        self.path = make_memory_folder(run_dir) / _SOCKET_NAME
        self.path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(self.path))

    def fileno(self) -> int:
        """Readable while a wake waits."""
        return self._socket.fileno()

    def clear(self) -> None:
        """Take the wakes that wait (at most 1,024 now: the descriptor stays readable for the rest)."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(_AT_ONCE_MAX):
                self._socket.recv(1)

    def close(self) -> None:
        """Close; the path stays, for a successor to replace."""
        self._socket.close()


class WakeSender:
    """A feed's end; for one thread."""

    def __init__(self, run_dir: Path) -> None:
        self._path = str(memory_folder(run_dir) / _SOCKET_NAME)
        self._socket: socket.socket | None = None
        self.owed = False
        """A wake was wanted and did not go out because nobody listened."""

    def send(self) -> None:
        """Wake, if anybody listens. Never blocks, never raises."""
        if self._socket is None:
            self.owed = True
            return
        try:
            self._socket.send(_WAKE)
        except BlockingIOError:
            return  # full of wakes it has not looked at
        except OSError:
            self._socket.close()
            self._socket = None
            self.owed = True

    def retry(self) -> None:
        """Connect where that is due, and send what is owed; called with each beat, which bounds how often."""
        if self._socket is None:
            fresh = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            fresh.setblocking(False)
            try:
                fresh.connect(self._path)
            except OSError:
                fresh.close()
                return
            self._socket = fresh
        if self.owed:
            self.owed = False
            self.send()

    def close(self) -> None:
        """Close."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
