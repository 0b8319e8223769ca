"""The engine's own roles in the simulation: allocator, broker, reconciler, a model venue and a stream of signals."""

from __future__ import annotations

from actors.allocator import Allocator, AllocatorSettings
from actors.broker import Broker
from actors.broker_state import BrokerSettings
from actors.reconciler import Reconciler, ReconcilerSettings
from tests.sim.bus import SignalReader
from tests.sim.order_laws import OrderLaws
from tests.sim.scheduler import MS, SECOND
from tests.sim.signal_laws import SignalLaws
from tests.sim.toys import NoDriver
from tests.sim.venue import FIXED8, Venue
from tests.sim.venue_session import BrokerDriver, Gateway
from tests.sim.world import SYMBOLS, Simulation

BROKER, ALLOCATOR, RECONCILER = "broker.paper", "allocator", "reconciler"
START_PX = 100 * FIXED8
TICK_NS = 250 * MS
QUIET_NS = 900 * SECOND
"""Longer than two whole readings of the venue five minutes apart, and then some."""


class Engine(Simulation):
    """A simulation with a venue."""

    def __init__(self, seed: int, steps: int) -> None:
        super().__init__(seed, steps)
        self.venue = Venue(self.scheduler, SYMBOLS, START_PX)
        self.venue.refusal_rate = self.rates.venue_rejects
        self.gateway = Gateway(self.venue, lambda: self.rates)
        self.gateway.halted = lambda: self.halt_reason() != ""
        self.quiet_ns = QUIET_NS
        self.moving = True
        self.every_second.append(self._trouble)
        self.quiet_starts.append(self._settle)
        self.scheduler.after(TICK_NS, "tick", self._tick)

    def reference_px(self, symbol: str) -> int:
        """Signals are made from the venue's prices."""
        return self.venue.prices[symbol]

    def _tick(self) -> None:
        if self.moving:
            random = self.scheduler.random
            self.venue.move(random.choice(SYMBOLS), 1.0 + random.uniform(-0.006, 0.006))
            self.scheduler.after(TICK_NS, "tick", self._tick)

    def _trouble(self) -> None:
        if self.faulty and self.scheduler.chance(self.rates.session_drop_per_s):
            self.gateway.drop()
        if self.faulty and self.venue.fills and self.scheduler.chance(self.rates.fill_corrected):
            self.venue.correct(self.scheduler.random.choice(self.venue.fills[-5:]))

    def _settle(self) -> None:
        self.venue.refusal_rate = 0.0
        self.scheduler.after(30 * SECOND, "prices stand still", self._stand_still)

    def _stand_still(self) -> None:
        self.moving = False


def engine_simulation(seed: int, steps: int = 600) -> Engine:
    """Assemble it."""
    engine = Engine(seed, steps)
    engine.add(Allocator(AllocatorSettings()), lambda incarnation: SignalReader(incarnation, engine.stream))
    # What puts a stop back is tried in `tests/actors/test_order_failures.py`; here an intent is the allocator's alone.
    engine.add(
        Broker(BrokerSettings(replace_missing_stop=False)),
        lambda incarnation: BrokerDriver(incarnation, engine.gateway),
    )
    engine.add(Reconciler(ReconcilerSettings()), lambda incarnation: NoDriver())
    engine.laws.append(OrderLaws(engine, engine.gateway, BROKER, ALLOCATOR))
    engine.laws.append(SignalLaws(engine))
    return engine
