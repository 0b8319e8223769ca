"""Acknowledged orders that a venue took back: what proves it, what becomes of them, and what if they surface again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.broker_state import BrokerState, Surfaced
from actors.effects import AppendLine, ClearAlarm, RaiseAlarm, StartTimer
from actors.messages import (
    BracketClosed,
    BrokerSessionChanged,
    CancelOrders,
    CancelVenueOrder,
    OrderChanged,
    OrderReported,
    OrderTicket,
    PicturesTaken,
    PlaceExit,
    Recovered,
    Resolution,
    ResolveIntent,
    SessionLost,
    Side,
    SubmitOrders,
    TimerFired,
)
from actors.reconciler import ReconcilerState
from kernels.order_state import OrderState
from tests.actors.broker_bench import LEGS, counted, states, working
from tests.actors.money_bench import SECOND, UNIT, Bench, execution, intent, opened, order_id, report, venue_read
from tests.actors.test_broker_exits import way_out
from tests.actors.test_broker_protection import look as exits_look
from tests.actors.test_broker_readback import held
from tests.actors.test_reconciler import family, look, picture, position
from tests.actors.test_reconciler import opened as comparing

S = OrderState
GRACE = 10
ORDERS = tuple(order_id(leg) for leg in LEGS)


def verdicts(bench: Bench[ReconcilerState]) -> list[ResolveIntent]:
    return bench.told(ResolveIntent)


# ---- the reconciler: what proves it


def test_working_orders_are_settled_by_two_complete_reads_a_grace_apart_with_what_was_read_when() -> None:
    bench = comparing()
    bench.wait(1)
    first_ns = bench.now_ns
    look(bench, family("submitted"))
    assert not verdicts(bench)
    assert set(bench.state.absences) == set(ORDERS)
    assert StartTimer("again", 2 * SECOND) in bench.effects, "the divergence is read again first"
    bench.wait(2)
    look(bench, family("submitted"))
    assert StartTimer("again", 8 * SECOND) in bench.effects
    assert not verdicts(bench)
    bench.wait(8)
    look(bench, family("submitted"))
    (verdict,) = verdicts(bench)
    assert (verdict.resolution, verdict.session_id) == (Resolution.EXPIRE, "S1")
    assert verdict.client_order_ids == ORDERS
    for word in (str(first_ns), str(bench.now_ns), "session S1", "position in ACME was ours"):
        assert word in verdict.evidence
    assert bench.owed[0].target == "broker.paper"
    assert not bench.state.absences
    look(bench, family("expired"))
    assert {one.finding.kind.value for one in bench.state.cleared} == {"missing_there"}
    assert not bench.state.findings
    bench.check_replay()


@pytest.mark.parametrize("failed", ["open_orders", "completed_orders", "executions", "positions"])
def test_a_failed_query_is_no_evidence_and_takes_none_away(failed: str) -> None:
    bench = comparing()
    bench.wait(1)
    for _ in range(4):
        look(bench, family("submitted"), failed=(failed,))
        assert not bench.state.absences
        bench.wait(GRACE)
    look(bench, family("submitted"))
    bench.wait(GRACE)
    look(bench, family("submitted"), failed=(failed,))
    assert not verdicts(bench)
    look(bench, family("submitted"), positions_only=True)
    assert not verdicts(bench)
    look(bench, family("submitted"))
    assert verdicts(bench)


def test_reads_of_two_sessions_or_two_incarnations_are_made_again() -> None:
    bench = comparing()
    bench.wait(1)
    look(bench, family("submitted"))
    bench.feed(BrokerSessionChanged("S2", "DU1", 100))
    bench.wait(GRACE)
    look(bench, family("submitted"), session="S2")
    assert not verdicts(bench)
    bench.feed(Recovered(4))
    bench.wait(GRACE)
    look(bench, family("submitted"), session="S2")
    assert not verdicts(bench)
    bench.wait(GRACE)
    look(bench, family("submitted"), session="S2")
    assert verdicts(bench)


def test_a_read_that_began_before_the_grace_was_over_proves_nothing_however_late_it_ended() -> None:
    bench = comparing()
    bench.wait(1)
    first_ns = bench.now_ns
    look(bench, family("submitted"))
    bench.wait(60)
    look(bench, family("submitted"), begun_ns=first_ns + GRACE * SECOND - 1)
    assert not verdicts(bench)
    look(bench, family("submitted"), begun_ns=first_ns + GRACE * SECOND)
    assert verdicts(bench)


def test_an_order_that_began_to_work_while_the_read_was_under_way_is_not_called_absent() -> None:
    bench = comparing()
    bench.wait(5)
    look(bench, family("submitted", since_ns=bench.now_ns - SECOND), begun_ns=bench.now_ns - SECOND)
    assert not bench.state.absences


@pytest.mark.parametrize("known_by", ["open", "completed"])
def test_an_order_that_stands_in_a_list_is_not_absent_and_the_count_begins_anew(known_by: str) -> None:
    bench = comparing()
    bench.wait(1)
    look(bench, family("submitted"))
    bench.wait(GRACE)
    parts: dict[str, Any] = {"open_orders": tuple(report(leg) for leg in LEGS)}
    if known_by == "completed":
        parts = {"completed_orders": tuple(report(leg, "Cancelled", completed=True) for leg in LEGS)}
    look(bench, family("submitted"), **parts)
    assert not bench.state.absences
    look(bench, family("submitted"))
    assert not verdicts(bench)


def test_what_is_listed_without_our_reference_is_known_by_its_perm_id() -> None:
    bench = comparing()
    bench.wait(1)
    nameless = tuple(msgspec.structs.replace(report(leg), client_order_id="") for leg in LEGS)
    look(bench, family("submitted"), open_orders=nameless)
    assert not bench.state.absences


def test_one_leg_alone_can_be_gone() -> None:
    bench = comparing()
    there = (report("entry", "Filled", completed=True), report("take_profit"))
    orders = (picture("entry", "filled"), picture("take_profit"), picture("stop_loss"))
    for _ in range(2):
        bench.wait(GRACE)
        look(bench, orders, (), open_orders=there[1:], completed_orders=there[:1])
    assert [verdict.client_order_ids for verdict in verdicts(bench)] == [(order_id("stop_loss"),)]


def test_executions_so_far_are_no_sign_of_life_but_one_between_the_reads_is() -> None:
    bench = comparing()
    held_now = (position(40),)
    told = {"positions": held_now, "executions": (execution("e1.01", 40),)}
    bench.wait(1)
    look(bench, (picture("entry", "partially_filled", cum_qty=30 * UNIT),), held_now, **told)
    bench.wait(GRACE)
    look(bench, (picture("entry", "partially_filled", cum_qty=40 * UNIT),), held_now, **told)
    assert not verdicts(bench)
    bench.wait(GRACE)
    look(bench, (picture("entry", "partially_filled", cum_qty=40 * UNIT),), held_now, **told)
    assert [verdict.client_order_ids for verdict in verdicts(bench)] == [(order_id("entry"),)]


def test_where_the_venues_position_is_not_ours_the_order_may_have_filled_unseen_and_is_not_given_up() -> None:
    """A stop that fills on a day that the gateway tells no executions of is in no list: its position tells."""
    bench = comparing()
    for _ in range(4):
        bench.wait(GRACE)
        look(bench, (picture("stop_loss"),), (position(100),))
        assert not verdicts(bench)
        assert not bench.state.absences
    for _ in range(2):
        bench.wait(GRACE)
        look(bench, (picture("stop_loss"),), (position(100),), positions=(position(100),))
    assert verdicts(bench)


# ---- the broker: what becomes of it


def verdict(legs: tuple[str, ...] = LEGS, session: str = "S1") -> ResolveIntent:
    names = tuple(order_id(leg) for leg in legs)
    return ResolveIntent(intent().intent_id, session, Resolution.EXPIRE, "read twice", names)


def unlisted(**settings: object) -> Bench[BrokerState]:
    """A working bracket that a complete read does not list."""
    bench = working(**settings)
    bench.wait(1)
    bench.feed(venue_read(taken_ns=bench.now_ns))
    return bench


def bare(**settings: object) -> Bench[BrokerState]:
    """A filled entry whose exits the venue has taken back."""
    bench = working(**settings)
    for leg in ("take_profit", "stop_loss"):
        bench.feed(held(leg))
    bench.feed(execution("e.01", 100))
    bench.wait(1)
    bench.feed(venue_read(taken_ns=bench.now_ns))
    bench.feed(verdict(("take_profit", "stop_loss")))
    assert states(bench) == [S.FILLED, S.EXPIRED, S.EXPIRED]
    return bench


def alarms(bench: Bench[BrokerState]) -> dict[str, str]:
    return {one.name: one.text for one in bench.did(RaiseAlarm)}


def cleared(bench: Bench[BrokerState]) -> set[str]:
    return {one.name for one in bench.did(ClearAlarm)}


def test_a_whole_bracket_expires_with_an_alarm_for_each_order_and_its_slot_is_free() -> None:
    bench = unlisted()
    bench.feed(verdict())
    assert states(bench) == [S.EXPIRED] * 3
    assert set(alarms(bench)) == {f"vanished.{name}" for name in ORDERS}
    assert all("read twice" in text and "permId 90" in text for text in alarms(bench).values())
    assert bench.told(BracketClosed)
    assert {change.state for change in bench.told(OrderChanged)} == {"expired"}
    assert [line.body.kind for line in bench.did(AppendLine)] == ["vanished"] * 3  # type: ignore[attr-defined]
    bench.feed(verdict())
    assert not alarms(bench), "raised once"
    bench.feed(Recovered(2))
    assert {f"vanished.{name}" for name in ORDERS} <= set(alarms(bench))
    bench.feed(opened("S2", 200))
    bench.feed(venue_read("S2", bench.now_ns))
    assert {f"vanished.{name}" for name in ORDERS} <= cleared(bench), "it held nothing: nothing is left to do"
    bench.check_replay()


@pytest.mark.parametrize("how", ["never unlisted", "report", "execution", "session", "done"])
def test_a_verdict_that_facts_have_overtaken_does_nothing(how: str) -> None:
    bench = working() if how == "never unlisted" else unlisted()
    if how == "report":
        for leg in LEGS:
            bench.feed(report(leg, "Submitted" if leg == "entry" else "PreSubmitted"))
    if how == "execution":
        bench.feed(execution("e.01", 40))
    if how == "session":
        bench.feed(SessionLost("S1", "reset"))
        bench.feed(opened("S2", 200))
    if how == "done":
        for leg in LEGS:
            bench.feed(report(leg, "Cancelled"))
    before = states(bench)
    bench.feed(verdict(("entry",), session="S2" if how == "session" else "S1"))
    bench.feed(verdict(("entry",), session="another"))
    assert states(bench) == before
    assert not alarms(bench)


def test_a_failed_read_leaves_nothing_unlisted() -> None:
    bench = working()
    bench.wait(1)
    bench.feed(venue_read(taken_ns=bench.now_ns, failed=("completed_orders",)))
    bench.feed(verdict())
    assert states(bench) == [S.SUBMITTED] * 3


def test_a_partly_filled_order_keeps_what_it_filled_and_a_late_fill_still_counts() -> None:
    bench = working()
    bench.feed(execution("e.01", 40))
    bench.wait(1)
    bench.feed(venue_read(taken_ns=bench.now_ns))
    bench.feed(verdict(("entry",)))
    (entry, *_) = bench.state.families[intent().intent_id].orders
    assert (entry.state, entry.cum_qty) == (S.EXPIRED, 40 * UNIT)
    bench.feed(execution("e2.01", 10))
    (entry, *_) = bench.state.families[intent().intent_id].orders
    assert (entry.state, entry.cum_qty) == (S.PARTIALLY_FILLED, 50 * UNIT)
    assert bench.state.positions["ACME"].qty == 50 * UNIT
    assert f"vanished.{order_id('entry')}" in cleared(bench)
    assert "surfaced" in alarms(bench)
    bench.feed(execution("e3.01", 50))
    assert states(bench)[0] is S.FILLED
    bench.check_replay()


def test_an_order_that_surfaces_is_known_again_as_far_as_it_had_filled() -> None:
    bench = working()
    bench.feed(execution("e.01", 40))
    bench.wait(1)
    bench.feed(venue_read(taken_ns=bench.now_ns))
    bench.feed(verdict())
    bench.feed(report("entry", "Submitted"))
    assert states(bench)[0] is S.PARTIALLY_FILLED
    assert {"surfaced"} == set(alarms(bench))
    bench.feed(report("take_profit", "PreSubmitted"))
    assert states(bench)[1] is S.SUBMITTED


def test_an_order_whose_cancel_was_under_way_is_asked_for_no_more() -> None:
    bench = working()
    bench.feed(CancelOrders((order_id("entry"),), "test"))
    bench.wait(30)
    bench.feed(TimerFired("cancel"))
    assert "cancel_unconfirmed" in alarms(bench)
    bench.feed(venue_read(taken_ns=bench.now_ns))
    bench.feed(verdict())
    assert not bench.state.cancels
    bench.feed(TimerFired("cancel"))
    assert "cancel_unconfirmed" in cleared(bench)
    assert not bench.driven(CancelVenueOrder)


# ---- the protective stop


def again(bench: Bench[BrokerState]) -> tuple[OrderTicket, OrderReported]:
    """The stop that is put back, and the report of it at work."""
    exits_look(bench)
    (command,) = bench.driven(SubmitOrders)
    (ticket,) = command.tickets
    told = held("stop_loss", qty=ticket.qty, parent_order_id=0, oca_group=ticket.oca_group)
    named = {"client_order_id": ticket.client_order_id, "venue_order_id": ticket.venue_order_id, "perm_id": 990}
    return ticket, msgspec.structs.replace(told, **named)


def protected_again() -> tuple[Bench[BrokerState], OrderReported]:
    """A stop was put back in place of one that vanished, and works."""
    bench = bare()
    _, shown = again(bench)
    bench.feed(shown)
    assert not bench.state.defects
    return bench, shown


def surfaces(bench: Bench[BrokerState], leg: str = "stop_loss") -> None:
    bench.feed(held(leg, parent_order_id=0))


def mended(bench: Bench[BrokerState]) -> list[str]:
    exits_look(bench)
    return [command.client_order_id for command in bench.driven(CancelVenueOrder)]


def test_a_lost_stop_is_put_back_once_for_what_is_left_and_its_alarm_goes_when_that_works() -> None:
    bench = bare()
    name = f"vanished.{order_id('stop_loss')}"
    bench.feed(venue_read(taken_ns=bench.now_ns))
    assert name not in cleared(bench), "the position is bare"
    ticket, shown = again(bench)
    assert (ticket.qty, ticket.stop_px, ticket.side, ticket.oca_group) == (100 * UNIT, 95 * UNIT, Side.SELL, "")
    bench.feed(venue_read(taken_ns=bench.now_ns))
    assert name not in cleared(bench), "the new one does not work yet"
    bench.feed(shown)
    bench.feed(venue_read(taken_ns=bench.now_ns, open_orders=(shown,)))
    assert {name, f"vanished.{order_id('take_profit')}"} <= cleared(bench)
    bench.wait(2)
    bench.feed(TimerFired("exits"))
    assert not bench.driven(SubmitOrders)
    bench.check_replay()


def test_of_two_stops_the_brackets_own_stays_and_the_one_that_was_put_back_is_cancelled() -> None:
    bench, shown = protected_again()
    surfaces(bench)
    assert intent().intent_id in bench.state.defects
    assert mended(bench) == [shown.client_order_id]
    assert not bench.state.defects
    assert mended(bench) == []
    bench.feed(msgspec.structs.replace(shown, status="Cancelled"))
    assert not bench.state.defects, "the bracket's own stop protects"
    bench.check_replay()


def test_the_one_that_was_given_up_for_another_is_put_back_should_that_vanish_too() -> None:
    bench, shown = protected_again()
    surfaces(bench)
    mended(bench)
    bench.feed(msgspec.structs.replace(shown, status="Cancelled"))
    bench.wait(1)
    bench.feed(venue_read(taken_ns=bench.now_ns))
    bench.feed(verdict(("stop_loss",)))
    ticket, _ = again(bench)
    assert ticket.client_order_id != shown.client_order_id
    assert ticket.qty == 100 * UNIT


def test_a_stop_that_is_held_back_is_not_sent_once_the_lost_one_has_surfaced() -> None:
    bench = bare(intents_per_s_max=1)
    bench.wait(2)
    bench.feed(PlaceExit(way_out()))
    exits_look(bench, 0)
    assert bench.state.held, "another intent has taken this second's place"
    surfaces(bench)
    bench.wait(1)
    bench.feed(TimerFired("held"))
    assert not bench.state.held
    assert not bench.driven(SubmitOrders)
    assert counted(bench)["intent_superseded.stop_stands"] == 1


def test_a_stop_of_which_nobody_is_sure_is_not_sent_again_once_the_lost_one_has_surfaced() -> None:
    bench = bare()
    ticket, _ = again(bench)
    bench.feed(SessionLost("S1", "reset"))
    bench.feed(opened("S2", 103))
    surfaced = msgspec.structs.replace(held("stop_loss", parent_order_id=0), session_id="S2")
    bench.feed(venue_read("S2", bench.now_ns, open_orders=(surfaced,)))
    bench.feed(ResolveIntent(ticket.client_order_id[:-1], "S2", Resolution.RESEND_SAME_ID, "absent twice"))
    assert not bench.driven(SubmitOrders)
    assert counted(bench)["resend_impossible.stop_stands"] == 1


def test_a_lost_stop_that_fills_late_closes_the_position_and_the_one_put_back_goes() -> None:
    bench, shown = protected_again()
    bench.feed(execution("x.01", 100, 95, "stop_loss", Side.SELL))
    assert states(bench)[2] is S.FILLED
    assert mended(bench) == [shown.client_order_id]


def test_two_stops_that_both_filled_are_an_incident_once_and_nothing_is_traded_to_undo_it() -> None:
    bench, shown = protected_again()
    bench.feed(execution("x.01", 100, 95, "stop_loss", Side.SELL))
    second = execution("y.01", 100, 95, side=Side.SELL, client_order_id=shown.client_order_id)
    bench.feed(msgspec.structs.replace(second, perm_id=shown.perm_id))
    exits_look(bench)
    assert "closed 100.00000000 more than was opened" in alarms(bench)["incident.closed_twice"]
    assert not bench.driven(SubmitOrders)
    assert not bench.state.defects
    bench.wait(2)
    bench.feed(TimerFired("exits"))
    assert not alarms(bench)
    bench.check_replay()


def test_exits_of_an_entry_that_vanished_unfilled_are_cancelled() -> None:
    bench = unlisted()
    bench.feed(report("take_profit", "PreSubmitted"))
    bench.feed(report("stop_loss", "PreSubmitted"))
    bench.feed(verdict(("entry",)))
    gone = [*mended(bench), *mended(bench)]
    assert set(gone) == {order_id("take_profit"), order_id("stop_loss")}


def test_an_exit_that_was_of_no_use_when_it_vanished_is_looked_at_anew_when_it_surfaces() -> None:
    bench = working()
    for leg in ("take_profit", "stop_loss"):
        bench.feed(held(leg))
    bench.feed(execution("e.01", 100))
    bench.feed(execution("x.01", 100, 95, "stop_loss", Side.SELL))
    assert mended(bench) == [order_id("take_profit")], "nothing is left that it would close"
    bench.feed(verdict(("take_profit",)))
    assert states(bench)[1] is S.EXPIRED
    assert not bench.state.cancels
    surfaces(bench, "take_profit")
    assert mended(bench) == [order_id("take_profit")]


def test_an_order_that_somebody_wanted_gone_is_asked_to_go_again_when_it_surfaces() -> None:
    bench = unlisted()
    bench.feed(CancelOrders((order_id("entry"),), "test"))
    bench.feed(verdict())
    assert not bench.state.cancels
    bench.feed(report("entry", "Submitted"))
    assert [command.client_order_id for command in bench.driven(CancelVenueOrder)] == [order_id("entry")]
    assert order_id("entry") in bench.state.cancels


@pytest.mark.parametrize("config", list(Surfaced))
def test_a_stop_that_surfaces_stays_also_where_an_entry_would_be_cancelled(config: Surfaced) -> None:
    bench = bare(surfaced=config)
    surfaces(bench)
    assert not bench.driven(CancelVenueOrder)
    assert mended(bench) == []
    assert states(bench)[2] is S.SUBMITTED


def test_pictures_of_a_bracket_that_vanished_are_shown_no_more() -> None:
    bench = unlisted()
    bench.feed(verdict())
    bench.feed(venue_read(taken_ns=bench.now_ns))
    (pictures,) = bench.told(PicturesTaken)
    assert not pictures.orders
