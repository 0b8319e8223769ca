"""Benches of a broker at the stages of one bracket's life."""

from __future__ import annotations

from actors.broker import Broker
from actors.broker_state import BrokerSettings, BrokerState
from actors.effects import Count
from actors.messages import (
    PlaceBracket,
    Resolution,
    ResolveIntent,
    SessionLost,
    SubmitNotSent,
    SubmitOrders,
)
from kernels import ids
from kernels.order_state import OrderState
from tests.actors.money_bench import (
    Bench,
    grant,
    intent,
    opened,
    report,
    wrote,
)

S = OrderState
LEGS = ("entry", "take_profit", "stop_loss")


def fresh(**settings: object) -> Bench[BrokerState]:
    return Bench(Broker(BrokerSettings(**settings)))  # type: ignore[arg-type]


def ready(**settings: object) -> Bench[BrokerState]:
    """With a session and an open gate."""
    bench = fresh(**settings)
    bench.feed(opened())
    bench.feed(grant(bench))
    return bench


def placed(**settings: object) -> Bench[BrokerState]:
    """One bracket written, not yet reported on."""
    bench = ready(**settings)
    bench.feed(PlaceBracket(intent()))
    bench.feed(wrote(bench.driven(SubmitOrders)[0]))
    return bench


def working(**settings: object) -> Bench[BrokerState]:
    """One bracket that the venue has acknowledged."""
    bench = placed(**settings)
    for leg in LEGS:
        bench.feed(report(leg, "Submitted" if leg == "entry" else "PreSubmitted"))
    return bench


def states(bench: Bench[BrokerState], signal_id: str = "s1") -> list[OrderState]:
    return [order.state for order in bench.state.families[ids.family_id("apex", signal_id)].orders]


def resolution(kind: Resolution, session: str = "S2") -> ResolveIntent:
    return ResolveIntent(intent().intent_id, session, kind, "absent twice")


def counted(bench: Bench[BrokerState]) -> dict[str, int]:
    return {effect.name: effect.by for effect in bench.did(Count)}


def lost(**settings: object) -> Bench[BrokerState]:
    """A written bracket whose session was lost, and a new session with the gate still shut."""
    bench = placed(**settings)
    bench.feed(SessionLost("S1", "reset"))
    bench.feed(opened("S2", 100))
    return bench


def not_sent(command: SubmitOrders, legs: int = 3) -> SubmitNotSent:
    names = tuple(ticket.client_order_id for ticket in command.tickets[:legs])
    return SubmitNotSent(command.session_id, command.intent_id, names, "test")
