"""Bugs put into cycle execution on purpose, in the simulation only."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from actors.broker_spot import SpotBroker
from actors.effects import Drive, Effect
from actors.executor import Executor
from actors.executor_state import ExecutorState
from actors.messages import Envelope, Recovered, SpotSessionOpened, SpotTicket, SubmitSpotOrder
from actors.spot_state import SECOND_NS, SpotSettings, SpotState
from kernels.order_state import OrderState
from tests.sim.world import Simulation

Spot = tuple[SpotState, tuple[Effect, ...]]
Executed = tuple[ExecutorState, tuple[Effect, ...]]


class WritesUnknownAgain(SpotBroker):
    """Takes an order that nobody knows for one that never left."""

    def reduce(self, state: SpotState, envelope: Envelope, now_ns: int) -> Spot:
        """At each new session."""
        after, effects = super().reduce(state, envelope, now_ns)
        if not isinstance(envelope.body, SpotSessionOpened):
            return after, effects
        unknown = [order.place for order in after.live.values() if order.state is OrderState.UNKNOWN]
        again = tuple(
            Drive(
                SubmitSpotOrder(
                    envelope.body.session_id,
                    SpotTicket(place.client_order_id, place.symbol, place.side, place.qty, place.limit_px),
                    reduces_risk=True,
                    not_after_ns=now_ns + SECOND_NS,
                )
            )
            for place in unknown
        )
        return after, (*effects, *again)


class CountsTradesTwice(SpotBroker):
    """Does not know a trade that it has seen."""

    def reduce(self, state: SpotState, envelope: Envelope, now_ns: int) -> Spot:
        """With no trades known."""
        return super().reduce(msgspec.structs.replace(state, trades={}), envelope, now_ns)


class ForgetsAttempts(Executor):
    """Begins anew after each death."""

    def reduce(self, state: ExecutorState, envelope: Envelope, now_ns: int) -> Executed:
        """At each recovery."""
        if isinstance(envelope.body, Recovered):
            state = msgspec.structs.replace(state, open={})
        return super().reduce(state, envelope, now_ns)


class WritesLinesOnce(Executor):
    """Gives a line to its driver and thinks no more of it."""

    def reduce(self, state: ExecutorState, envelope: Envelope, now_ns: int) -> Executed:
        """Whatever comes."""
        after, effects = super().reduce(state, envelope, now_ns)
        return (msgspec.structs.replace(after, unwritten={}) if after.unwritten else after), effects


def _broker(kind: type[SpotBroker], settings: SpotSettings | None = None) -> Callable[[Simulation], None]:
    def plant(simulation: Simulation) -> None:
        simulation.hosts["broker.spot"].role = kind(settings)

    return plant


def _executor(kind: type[Executor]) -> Callable[[Simulation], None]:
    def plant(simulation: Simulation) -> None:
        host = simulation.hosts["executor"]
        assert isinstance(host.role, Executor)
        host.role = kind(host.role.settings)

    return plant


CYCLE_PLANTS: dict[str, Callable[[Simulation], None]] = {
    "unknown_order_written_again": _broker(WritesUnknownAgain),
    "absence_believed_at_once": _broker(SpotBroker, SpotSettings(absent_grace_ns=0)),
    "trade_counted_twice": _broker(CountsTradesTwice),
    "attempt_forgotten": _executor(ForgetsAttempts),
    "line_not_confirmed": _executor(WritesLinesOnce),
}
