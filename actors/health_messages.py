"""Messages of the watch over the engine's figures."""

from __future__ import annotations

from actors.message import Message
from kernels.suspicion import Suspicion


class StartWatch(Message, frozen=True):
    """Health to its driver: begin to look."""

    epoch: int


class SuspicionsFound(Message, frozen=True):
    """Health's driver, about once a second: everything that is suspicious now, oldest first; empty is the good news."""

    standing: tuple[Suspicion, ...] = ()
