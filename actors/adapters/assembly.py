"""How a role and its adapters are handed to the host that runs them as a process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from actors.adapters.fault_plan import FaultPlan
from actors.messages import AnyMessage
from actors.ports import Bus, Ledger, Tracer
from actors.role import Role
from config.schema import Settings


class BeatReturned(msgspec.Struct, frozen=True):
    """A heartbeat that went through the driver's thread and came back, with the thread's progress counters."""

    nonce: int
    progress: dict[str, int]


class HostedDriver(Protocol):
    """A driver as its host sees it. All methods run on the actor's thread; none blocks for long."""

    def start(self) -> None:
        """Begin; called once, after the fork and after the fold."""

    def post(self, command: AnyMessage) -> None:
        """Take a command."""

    def fileno(self) -> int:
        """Descriptor that is readable while `drain` has something to give."""

    def drain(self) -> list[AnyMessage | BeatReturned]:
        """Everything that waits, in order; clears the descriptor."""

    def beat(self, nonce: int) -> None:
        """Send a heartbeat through the thread; it comes back by `drain`."""

    def stop(self) -> None:
        """End the thread and its sockets, bounded."""


class BuildContext(msgspec.Struct, frozen=True):
    """What a builder may use."""

    role: str
    options: dict[str, str]
    settings: Settings
    run_dir: str
    run_id: str
    incarnation: int


class Assembly(msgspec.Struct, frozen=True):
    """An actor, ready to be hosted. `ledger` in-memory for roles that keep nothing."""

    role: Role[Any]
    ledger: Ledger
    bus: Bus
    tracer: Tracer
    driver: HostedDriver | None = None
    faults: FaultPlan | None = None
    snapshot_every: int = 1000


Builder = Callable[[BuildContext], Assembly]
"""Named by `ChildSpec.actor` as `module:function`."""
