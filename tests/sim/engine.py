"""The engine's own roles in the simulation: allocator, broker, reconciler, a model venue and a stream of signals."""

from __future__ import annotations

from random import Random

from actors.allocator import Allocator, AllocatorSettings
from actors.broker import Broker
from actors.broker_state import BrokerSettings
from actors.reconciler import Reconciler, ReconcilerSettings
from tests.sim.bus import SignalReader
from tests.sim.order_laws import WORKING, OrderLaws
from tests.sim.scheduler import MS, SECOND
from tests.sim.signal_laws import SignalLaws
from tests.sim.stop_laws import StopLaws
from tests.sim.toys import NoDriver
from tests.sim.venue import DONE, FIXED8, Venue
from tests.sim.venue_session import BrokerDriver, Gateway
from tests.sim.world import SYMBOLS, Simulation

BROKER, ALLOCATOR, RECONCILER = "broker.paper", "allocator", "reconciler"
START_PX = 100 * FIXED8
TICK_NS = 250 * MS
FOR_GOOD, FOR_MOMENTS, TRADED_AWAY = 0.4, 0.2, 0.3
"""Shares of the orders that a venue loses: for good, for less than a reading takes to prove it; and of the rest, those
that have traded when they surface."""
MOMENTS_S, LONG_S = (0.5, 6.0), (12.0, 120.0)
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
        self.order_laws = OrderLaws(self, self.gateway, BROKER, ALLOCATOR)
        # Of its own, so that what is lost is no matter of what else a seed does.
        self.losses = Random(f"losses {seed}")
        self.losses_per_s = self.losses.choice((0.0, 0.03, 0.1))
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

        if self.faulty and self.losses.random() < self.losses_per_s:
            self._lose_one()

    def _lose_one(self) -> None:
        """Have the venue lose an order that the engine knows to work: for moments, for long, or for good."""
        rows = self.order_laws.rows("orders")
        known = [
            order
            for order in self.venue.orders.values()
            if not order.away_since_ns
            and order.status not in DONE
            and rows.get(order.ticket.client_order_id, {}).get("state") in WORKING
        ]
        if not known:
            return
        order, fate = self.losses.choice(known), self.losses.random()
        self.scheduler.log("venue", f"loses {order}")
        self.venue.lose(order)
        for_good = fate < FOR_GOOD
        self.struck["lost for good" if for_good else "lost for a while"] = (
            self.struck.get("lost for good" if for_good else "lost for a while", 0) + 1
        )
        if not for_good:
            away_s = self.losses.uniform(*(MOMENTS_S if fate < FOR_GOOD + FOR_MOMENTS else LONG_S))
            trades = self.losses.random() < TRADED_AWAY
            self.scheduler.after(round(away_s * SECOND), "surfaces", lambda: self.venue.surface(order, trades))

    def _settle(self) -> None:
        self.venue.refusal_rate = 0.0
        self.scheduler.after(30 * SECOND, "prices stand still", self._stand_still)

    def _stand_still(self) -> None:
        self.moving = False


def engine_simulation(seed: int, steps: int = 600) -> Engine:
    """Assemble it."""
    engine = Engine(seed, steps)
    engine.add(Allocator(AllocatorSettings()), lambda incarnation: SignalReader(incarnation, engine.stream))
    engine.add(Broker(BrokerSettings()), lambda incarnation: BrokerDriver(incarnation, engine.gateway))
    engine.add(Reconciler(ReconcilerSettings()), lambda incarnation: NoDriver())
    engine.laws += [engine.order_laws, StopLaws(engine, engine.order_laws)]
    engine.laws.append(SignalLaws(engine))
    return engine
