"""Evaluator, executor and spot broker under every fault, against a model exchange: the world `cycles`."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from actors.broker_spot import SpotBroker
from actors.evaluator import Evaluator
from actors.executor import Executor
from actors.executor_state import ExecutorSettings
from actors.spot_state import SpotSettings
from kernels.breaker import BreakerLimits
from kernels.cycle_execution import Mode, Policy, Unwind
from tests.sim.scheduler import MS, SECOND, Violation
from tests.sim.spot_drivers import CycleFile, EvaluatorSimDriver, ExecutorSimDriver, SpotDriver
from tests.sim.spot_venue import SpotVenue
from tests.sim.world import Laws, Simulation

BROKER, EXECUTOR = "broker.spot", "executor"


class CycleLaws(Laws):
    """What must hold of cycles, by journals, lines and the exchange's own books."""

    def __init__(self, simulation: CycleSimulation) -> None:
        self.simulation = simulation
        self.asked: set[str] = set()
        self.placed: dict[str, str] = {}

    def appended(self, role: str, record: dict[str, Any]) -> None:
        """Remember what was asked and placed."""
        body = record["input"]["body"]
        if role == EXECUTOR and body["type"] == "ExecuteCycle":
            self.asked.add(body["attempt_id"])
        if role == BROKER and body["type"] == "PlaceSpotOrder":
            self.placed[body["client_order_id"]] = body["attempt_id"]

    def after_event(self) -> None:
        """No order without its intent in the broker's journal."""
        for name in self.simulation.venue.orders:
            if name not in self.placed:
                raise Violation("no order leaves without a durable intent", name)

    def at_the_end(self) -> None:
        """All is settled: one outcome each, no order unknown, and our sums are the exchange's."""
        simulation, venue = self.simulation, self.simulation.venue
        broker, executor = simulation.state(BROKER), simulation.state(EXECUTOR)
        lines = {line.attempt_id: line for line in simulation.file.lines}
        if executor.open:
            raise Violation("an attempt ends", f"{sorted(executor.open)} are in work")
        if set(lines) != self.asked or len(lines) != len(simulation.file.lines) or executor.unwritten:
            raise Violation("an ExecuteCycle has exactly one line", f"{set(lines) ^ self.asked}")
        if any(order.state.value == "unknown" for order in broker.live.values()) or broker.live:
            raise Violation("no order stays unknown", str({name: one.state for name, one in broker.live.items()}))
        changed = {asset: venue.balances[asset] - venue.first.get(asset, 0) for asset in venue.balances}
        if simulation.surfaced():
            raise Violation("what is given up is over", "an order did something after it was given up")
        for what, flows in (("broker", broker.flows), ("lines", self._summed(lines.values()))):
            wrong = {
                a: (flows.get(a, 0), changed.get(a, 0))
                for a in {*flows, *changed}
                if flows.get(a, 0) != changed.get(a, 0)
            }
            if wrong:
                raise Violation("our sums are the exchange's", f"{what}: {wrong}")
        residuals = {asset: amount for asset, amount in executor.residuals.items() if amount}
        if residuals != {asset: amount for asset, amount in changed.items() if amount and asset != "USDT"}:
            raise Violation("residuals are what the exchange shows", f"{residuals} {changed}")
        if executor.tally.realized.get("USDT", 0) != changed["USDT"]:
            raise Violation("the realized result is what the exchange shows", f"{executor.tally} {changed}")
        if broker.diverged:
            raise Violation("the account is ours", broker.diverged)

    def _summed(self, lines: Any) -> dict[str, int]:
        total: dict[str, int] = {}
        for line in lines:
            for asset, amount in line.flows.items():
                total[asset] = total.get(asset, 0) + amount
        return total


class CycleSimulation(Simulation):
    """With a venue, and a file of lines."""

    def __init__(self, seed: int, steps: int) -> None:
        super().__init__(seed, steps)
        self.quiet_ns = 60 * SECOND
        self.venue = SpotVenue(self.scheduler)
        self.file = CycleFile()

    def state(self, role: str) -> Any:
        """A role's state, of the incarnation that lives."""
        current = self.hosts[role].current
        assert current is not None, f"{role} does not live"
        return current.shell.core.role

    def surfaced(self) -> bool:
        """Whether an order did something after it was given up."""
        return any("cycle_order_surfaced" in host.alarms.standing for host in self.hosts.values())


def cycle_simulation(seed: int, steps: int = 1500) -> Simulation:
    """The roles of cycle execution alone. `simulation.laws[0]` are their laws."""
    simulation = CycleSimulation(seed, steps)
    random, venue = simulation.scheduler.random, simulation.venue
    policy = Policy(
        mode=random.choice(list(Mode)),
        unwind=random.choice((Unwind.BACK, Unwind.FORWARD, Unwind.HOLD)),
        net_return_min=Fraction(98, 100),
        slippage_e4=random.choice((30, 200)),
        unwind_orders_max=random.choice((3, 12)),
    )
    limits = BreakerLimits(slip_e4_max=200, window=20, failures_max=15, consecutive_max=8, loss_max=60 * 10**8)
    settings = ExecutorSettings(
        policy=policy,
        limits=limits,
        start_amount_max=2_000 * 10**8,
        cycles_open_max=random.choice((1, 3)),
        decision_age_ns_max=2 * SECOND,
        done_max=random.choice((20, 2_000)),
    )
    simulation.add(SpotBroker(SpotSettings()), lambda one: SpotDriver(one, simulation, venue))
    executor = simulation.add(
        Executor(settings), lambda one: ExecutorSimDriver(one, simulation, venue, simulation.file)
    )
    simulation.add(Evaluator(dry_run=False), lambda one: EvaluatorSimDriver(one, simulation, venue))
    simulation.laws.append(CycleLaws(simulation))

    def move() -> None:
        simulation.scheduler.after(simulation.scheduler.between(10 * MS, 300 * MS), "market moves", move)
        venue.move()

    def resume() -> None:
        current = executor.current
        if simulation.faulty and simulation.scheduler.chance(0.1) and current is not None and executor.ready:
            assert isinstance(current.driver, ExecutorSimDriver)
            current.driver.resume()

    def quiet() -> None:
        venue.fill_whole = True

    simulation.scheduler.after(MS, "market moves", move)
    simulation.every_second.append(resume)
    simulation.quiet_starts.append(quiet)
    return simulation
