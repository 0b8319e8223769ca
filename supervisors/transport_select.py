"""Waiting for descriptors, as Thespian's transport asks for it: a selector made, filled and asked once, each turn.

Python's own takes a system call and a record for each descriptor, at each turn of every actor; `poll` takes one call.
"""

from __future__ import annotations

import errno
import math
import select
import selectors
from typing import NamedTuple

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Ready(NamedTuple):
    """What the transport reads of a selector's key."""

    fd: int


class TurnSelector:
    """Selector of one turn."""

    def __init__(self) -> None:
        self._wanted: dict[int, int] = {}

    def register(self, fd: int, events: int) -> None:
        """Add a descriptor. Raises ValueError (it is of a closed socket)."""
        if fd < 0:
            raise ValueError(f"invalid file descriptor: {fd}")
        self._wanted[fd] = self._wanted.get(fd, 0) | events

    def select(self, timeout_s: float | None = None) -> list[tuple[Ready, int]]:
        """Wait for any of them, for ever where there is no time limit. Raises OSError (EBADF: one is not open)."""
        poll = select.poll()
        for fd, wanted in self._wanted.items():
            poll.register(fd, (select.POLLIN if wanted & _READ else 0) | (select.POLLOUT if wanted & _WRITE else 0))
        found = []
        # Rounded up: a turn that ends a moment before it is due is a turn for nothing.
        for fd, told in poll.poll(None if timeout_s is None else math.ceil(timeout_s * 1e3)):
            if told & select.POLLNVAL:
                raise OSError(errno.EBADF, f"descriptor {fd} is not open")
            events = (_WRITE if told & ~select.POLLIN else 0) | (_READ if told & ~select.POLLOUT else 0)
            if events & self._wanted[fd]:
                found.append((Ready(fd), events & self._wanted[fd]))
        return found

    def close(self) -> None:
        """Nothing is held open."""


class Selectors:
    """Stands in for the module `selectors` in the transport."""

    DefaultSelector = TurnSelector
    EVENT_READ = _READ
    EVENT_WRITE = _WRITE
