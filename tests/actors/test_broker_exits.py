"""The broker's ways out: exits alone and within a group, and cancels that are asked for until they are done."""

from __future__ import annotations

import msgspec
import pytest

from actors.broker import Broker
from actors.broker_state import BrokerState
from actors.effects import ClearAlarm, RaiseAlarm, Send
from actors.messages import (
    BracketClosed,
    CancelOrders,
    CancelVenueOrder,
    CommissionReported,
    ExitIntent,
    FillBooked,
    HaltChanged,
    IntentOutcome,
    OrderChanged,
    Outcome,
    PicturesTaken,
    PlaceBracket,
    PlaceExit,
    PositionChanged,
    QueryVenue,
    ReadVenue,
    RevokeGate,
    SessionLost,
    Side,
    SubmitOrders,
    TimerFired,
)
from kernels import ids
from kernels.order_state import OrderState
from tests.actors.broker_bench import fresh, placed, ready, states, working
from tests.actors.money_bench import (
    FUND,
    SECOND,
    START,
    UNIT,
    Bench,
    execution,
    intent,
    opened,
    order_id,
    report,
    venue_read,
    wrote,
)

S = OrderState
GROUP = "900"


def way_out(within: str = "", **changed: object) -> ExitIntent:
    """Sell 100 shares at the market, for the role `risk`."""
    fields: dict[str, object] = {"qty": 100 * UNIT, "limit_px": 0, "expires_ns": START + 600 * SECOND, "attempt": 1}
    fields |= changed
    name = "flatten:1:ACME"
    exit_id = ids.family_id(FUND, name, int(str(fields["attempt"])))
    return ExitIntent(exit_id, name, "flatten", "ACME", Side.SELL, asked_by="risk", within=within, **fields)  # type: ignore[arg-type]


def protected(**settings: object) -> Bench[BrokerState]:
    """A bracket whose entry has filled, and whose exits the venue has put into one group."""
    bench = working(**settings)
    bench.feed(execution("e1.01", 100))
    for leg in ("take_profit", "stop_loss"):
        bench.feed(msgspec.structs.replace(report(leg, "PreSubmitted"), oca_group=GROUP))
    return bench


def test_while_risk_flattens_only_its_own_exits_go_out() -> None:
    bench = ready()
    bench.feed(HaltChanged("a person", START, "get out", START))
    other = msgspec.structs.replace(way_out(), asked_by="sentinel")
    bench.feed(PlaceExit(other))
    (outcome,) = bench.told(IntentOutcome)
    assert (outcome.outcome, outcome.guard, bench.driven(SubmitOrders)) == (Outcome.REFUSED, "flatten", [])
    bench.feed(PlaceExit(way_out(attempt=2)))
    assert bench.driven(SubmitOrders)
    bench.check_replay()


def test_risk_alone_asks_in_whichever_session_and_gets_the_pictures_while_it_flattens() -> None:
    bench = ready()
    bench.feed(ReadVenue("", "risk.1"))
    (query,) = bench.driven(QueryVenue)
    assert (query.session_id, query.request_id) == ("S1", "risk.1")
    bench.feed(venue_read())
    assert {effect.target for effect in bench.did(Send) if isinstance(effect.body, PicturesTaken)} == {"reconciler"}
    bench.feed(HaltChanged("a person", START, "get out", START))
    bench.feed(venue_read())
    told = {effect.target for effect in bench.did(Send) if isinstance(effect.body, PicturesTaken)}
    assert told == {"reconciler", "risk"}


@pytest.mark.parametrize("watched", [False, True])
def test_money_of_fills_is_told_to_risk_as_differences_where_it_watches(watched: bool) -> None:
    bench = working(watchers=("risk",) if watched else ())
    bench.feed(execution("e1.01", 100))
    bench.feed(CommissionReported("S1", "e1.01", UNIT, "USD"))
    assert [(one.realized_pnl, one.commission) for one in bench.told(FillBooked)] == [(0, UNIT)] * watched
    bench.feed(execution("x1.01", 100, 95, "stop_loss", Side.SELL))
    booked = [(one.realized_pnl, one.ts_event_ns) for one in bench.told(FillBooked)]
    assert booked == [(-500 * UNIT, START)] * watched
    bench.feed(execution("x1.02", 100, 96, "stop_loss", Side.SELL))
    assert [one.realized_pnl for one in bench.told(FillBooked)] == [100 * UNIT] * watched


def test_an_exit_goes_out_while_halted_and_while_the_gate_is_shut() -> None:
    bench = ready()
    bench.feed(RevokeGate("S1", "test"))
    bench.feed(HaltChanged("a person", START))
    bench.feed(PlaceExit(way_out()))
    (command,) = bench.driven(SubmitOrders)
    (ticket,) = command.tickets
    assert (ticket.side, ticket.order_type.value, ticket.qty) == (Side.SELL, "MKT", 100 * UNIT)
    assert ids.parse(ticket.client_order_id) == ids.ParsedId(ids.fund_tag(FUND), way_out().intent_id, "exit", 1)
    assert (ticket.transmit, ticket.time_in_force, command.not_after_ns) == (True, "DAY", START + 600 * SECOND)
    bench.check_replay()


def test_an_exit_waits_for_a_session_and_its_outcome_goes_to_who_asked() -> None:
    bench = fresh()
    bench.feed(PlaceExit(way_out()))
    assert not bench.driven(SubmitOrders)
    bench.feed(opened())
    bench.feed(TimerFired("held"))
    (command,) = bench.driven(SubmitOrders)
    bench.feed(wrote(command))
    told = {envelope.target: envelope.body for envelope in bench.owed}
    assert [type(body) for body in told.values()] == [IntentOutcome]
    assert list(told) == ["risk"]
    bench.check_replay()


def test_an_exit_within_a_bracket_joins_the_group_that_the_venue_named() -> None:
    bench = protected()
    bench.feed(PlaceExit(way_out(within=intent().intent_id)))
    (ticket,) = bench.driven(SubmitOrders)[0].tickets
    assert ticket.oca_group == GROUP


def test_an_exit_within_a_bracket_whose_group_is_not_known_is_refused_and_says_so() -> None:
    bench = placed()
    bench.feed(PlaceExit(way_out(within=intent().intent_id)))
    (outcome,) = bench.told(IntentOutcome)
    assert (outcome.outcome, outcome.guard) == (Outcome.REFUSED, "no_oca_group")
    assert not bench.driven(SubmitOrders)
    bench.feed(PlaceExit(way_out(within=intent().intent_id)))
    assert not bench.owed
    bench.check_replay()


def test_an_exit_is_placed_once_however_often_it_is_asked_for() -> None:
    bench = protected()
    for _ in range(3):
        bench.feed(PlaceExit(way_out()))
    assert len(bench.state.families) == 2
    bench.feed(PlaceExit(way_out(attempt=2)))
    assert len(bench.state.families) == 3


def test_an_exit_whose_session_was_lost_is_unknown_and_never_sent_by_itself_again() -> None:
    bench = ready()
    bench.feed(PlaceExit(way_out()))
    bench.feed(SessionLost("S1", "reset"))
    bench.feed(opened("S2", 200))
    assert not bench.driven(SubmitOrders)
    (family,) = bench.state.families.values()
    assert family.orders[0].state is S.UNKNOWN
    bench.check_replay()


def test_an_exit_takes_no_room_from_brackets_and_is_not_the_allocators_affair() -> None:
    bench = ready(families_max=1)
    bench.feed(PlaceBracket(intent("s1")))
    bench.feed(PlaceExit(way_out()))
    (command,) = bench.driven(SubmitOrders)
    bench.feed(wrote(command))
    bench.feed(msgspec.structs.replace(report(), client_order_id=command.tickets[0].client_order_id, perm_id=77))
    assert not any(envelope.target == "allocator" for envelope in bench.owed)


def test_watchers_are_told_of_orders_positions_and_ends_as_the_allocator_is() -> None:
    bench = working(watchers=("sentinel", "risk"))
    bench.feed(execution("e1.01", 100))
    for kind in (OrderChanged, PositionChanged):
        assert {e.target for e in bench.owed if isinstance(e.body, kind)} == {"allocator", "sentinel", "risk"}
    bench.feed(msgspec.structs.replace(report("stop_loss", "PreSubmitted"), oca_group=GROUP))
    (changed,) = set(bench.told(OrderChanged))
    assert (changed.oca_group, changed.stop_px, changed.perm_id) == (GROUP, 95 * UNIT, 902)
    for leg in ("take_profit", "stop_loss"):
        bench.feed(report(leg, "Cancelled"))
    assert {e.target for e in bench.owed if isinstance(e.body, BracketClosed)} == {"allocator", "sentinel", "risk"}
    bench.check_replay()


# ---- cancels


def test_a_cancel_is_driven_once_and_again_until_the_venue_shows_it_done() -> None:
    bench = working()
    wanted = CancelOrders((order_id("stop_loss"),), "inert")
    bench.feed(wanted)
    assert [command.venue_order_id for command in bench.driven(CancelVenueOrder)] == [102]
    bench.feed(wanted)
    assert not bench.driven(CancelVenueOrder)
    bench.wait(5)
    bench.feed(TimerFired("cancel"))
    assert len(bench.driven(CancelVenueOrder)) == 1
    bench.feed(report("stop_loss", "Cancelled"))
    assert not bench.state.cancels
    bench.feed(TimerFired("cancel"))
    assert not bench.driven(CancelVenueOrder)
    bench.check_replay()


def test_a_cancel_outlives_session_and_restart() -> None:
    bench = working()
    bench.feed(SessionLost("S1", "reset"))
    bench.feed(CancelOrders((order_id("stop_loss"),), "flatten"))
    assert not bench.driven(CancelVenueOrder)
    again: Bench[BrokerState] = Bench(Broker(bench.role.settings))  # type: ignore[attr-defined]
    again.core = bench.replayed()
    again.feed(opened("S2", 200))
    assert [command.session_id for command in again.driven(CancelVenueOrder)] == ["S2"]


def test_a_cancel_that_a_fill_overtook_is_over_and_the_fill_stands() -> None:
    bench = protected()
    bench.feed(CancelOrders((order_id("stop_loss"),), "flatten"))
    bench.feed(execution("e2.01", 100, leg="stop_loss", side=Side.SELL))
    assert not bench.state.cancels
    assert states(bench)[2] is S.FILLED
    bench.check_replay()


def test_a_cancel_of_what_is_done_or_unknown_here_is_left_alone() -> None:
    bench = protected()
    bench.feed(CancelOrders((order_id("entry"), "axnobody-1e"), "test"))
    assert not bench.driven(CancelVenueOrder)
    assert not bench.state.cancels


@pytest.mark.parametrize("confirmed", [False, True])
def test_a_cancel_that_stays_unconfirmed_is_an_alarm_until_it_is_done(confirmed: bool) -> None:
    bench = working()
    bench.feed(CancelOrders((order_id("stop_loss"),), "inert"))
    if confirmed:
        bench.feed(report("stop_loss", "Cancelled"))
    bench.wait(20)
    bench.feed(TimerFired("cancel"))
    assert bool(bench.did(RaiseAlarm)) is not confirmed
    bench.feed(report("stop_loss", "Cancelled"))
    bench.feed(TimerFired("cancel"))
    assert [effect.name for effect in bench.did(ClearAlarm)] == ["cancel_unconfirmed"]


# ---- the form before


def test_a_state_of_version_1_is_migrated_with_its_brackets_named() -> None:
    bench = working()
    bench.feed(RevokeGate("S1", "test"))
    bench.feed(PlaceBracket(intent("s2")))
    now = msgspec.json.encode({**msgspec.to_builtins(bench.state, enc_hook=lambda value: value.as_dict())})
    before = now.replace(b'"kind":"bracket",', b"")
    assert before != now
    role = bench.role
    assert msgspec.json.decode(role.migrate(1, before), type=BrokerState) == bench.state
    with pytest.raises(ValueError, match="version 0"):
        role.migrate(0, before)
