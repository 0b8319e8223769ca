"""The control plane: envelopes that get lost, late, doubled and out of order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from actors.messages import Envelope
from tests.sim.faults import FaultRates
from tests.sim.scheduler import MS, SECOND, Scheduler


class Endpoint(Protocol):
    """Where a role can be reached."""

    ready: bool

    def deliver(self, envelope: Envelope) -> None:
        """Take an envelope."""


class Network:
    """Knows the roles by name. A copy of each owed envelope ever sent is shown to `tap`."""

    def __init__(self, scheduler: Scheduler, rates: Callable[[], FaultRates]) -> None:
        self.scheduler = scheduler
        self.rates = rates
        self.endpoints: dict[str, Endpoint] = {}
        self.tap: Callable[[Envelope], None] = lambda envelope: None

    def send(self, envelope: Envelope) -> bool:
        """Send; False if nobody holds the role."""
        self.tap(envelope)
        endpoint = self.endpoints.get(envelope.target)
        if endpoint is None or not endpoint.ready:
            return False
        rates, scheduler = self.rates(), self.scheduler
        if scheduler.chance(rates.drop):
            scheduler.log(
                "network", f"dropped {envelope.message_id} {type(envelope.body).__name__} → {envelope.target}"
            )
            return True
        for _ in range(2 if scheduler.chance(rates.duplicate) else 1):
            slow = scheduler.chance(rates.delay)
            delay_ns = scheduler.between(MS, 3 * SECOND) if slow else scheduler.between(50_000, 2 * MS)
            scheduler.after(delay_ns, f"deliver {envelope.message_id}", lambda: endpoint.deliver(envelope))
        return True
