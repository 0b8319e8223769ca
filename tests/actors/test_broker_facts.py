"""The broker's reducer on the venue's claims: executions, reports, commissions, sessions, and the bounds."""

from __future__ import annotations

import msgspec
import pytest

from actors.broker_state import BrokerState, OrderView
from actors.effects import ClearAlarm, Project, RaiseAlarm
from actors.external_orders import FillView
from actors.messages import (
    AnyMessage,
    BracketClosed,
    CommissionReported,
    Leg,
    OrderChanged,
    PlaceBracket,
    PositionChanged,
    QueryVenue,
    ReadVenue,
    SessionLost,
    Side,
    SubmitOrders,
    TimerFired,
    VenueErrorReported,
)
from kernels import ids
from tests.actors.broker_bench import (
    LEGS,
    S,
    counted,
    fresh,
    placed,
    ready,
    states,
    working,
)
from tests.actors.money_bench import (
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


def test_a_bracket_lives_from_fill_to_exit_and_closes_once() -> None:
    bench = working()
    bench.feed(execution("e.1.01", 60))
    assert [(told.state, told.cum_qty) for told in bench.told(OrderChanged)] == [("partially_filled", 60 * UNIT)]
    bench.feed(execution("e.2.01", 40, px=101))
    told = bench.told(OrderChanged)[0]
    assert (told.state, told.avg_px, told.leg) == ("filled", 10_040_000_000, Leg.ENTRY)
    bench.feed(execution("e.3.01", 100, 110, "take_profit", Side.SELL))
    assert not bench.told(BracketClosed)
    assert bench.told(PositionChanged) == [PositionChanged("ACME", 0, 0)]
    bench.feed(report("stop_loss", "Cancelled"))
    assert bench.told(BracketClosed) == [BracketClosed(intent().intent_id, "ACME")]
    assert bench.state.positions["ACME"].realized == 960 * UNIT * UNIT
    bench.feed(report("stop_loss", "Cancelled"))
    assert not bench.owed
    bench.check_replay()


def test_a_duplicate_execution_changes_nothing_and_is_counted() -> None:
    bench = working()
    bench.feed(execution("e.1.01", 60))
    before = bench.core
    bench.feed(execution("e.1.01", 60))
    bench.feed(execution("e.1.01", 60, session="S0"))
    assert bench.core is before
    assert counted(bench) == {"execution_again": 1}


def test_a_correction_replaces_its_execution_and_an_older_one_is_ignored() -> None:
    bench = working()
    bench.feed(execution("e.1.01", 100))
    bench.feed(execution("e.1.02", 40, px=99))
    assert states(bench)[0] is S.PARTIALLY_FILLED
    assert bench.state.positions["ACME"].qty == 40 * UNIT
    bench.feed(execution("e.1.01", 100))
    assert bench.state.positions["ACME"].qty == 40 * UNIT
    assert bench.state.families[intent().intent_id].orders[0].notional == 40 * 99 * UNIT * UNIT
    bench.check_replay()


def test_a_fill_after_cancelled_counts() -> None:
    bench = working()
    bench.feed(report("entry", "Cancelled"))
    bench.feed(execution("e.1.01", 100))
    assert states(bench)[0] is S.FILLED
    bench.feed(report("entry", "Cancelled"))
    assert states(bench)[0] is S.FILLED
    assert bench.state.incidents == ()


def test_the_venues_word_filled_fills_nothing_without_executions() -> None:
    bench = placed()
    bench.feed(report("entry", "Filled", filled_qty=100 * UNIT))
    assert states(bench)[0] is S.SUBMITTED
    assert bench.state.positions == {}


@pytest.mark.parametrize("code", [103, 104, 105, 135, 161, 201, 202, 321, 10147, 10148, 10311, 10349])
def test_an_error_code_never_changes_a_state(code: int) -> None:
    bench = working()
    before = bench.core
    bench.feed(VenueErrorReported("S1", 100, code, "text"))
    assert bench.core is before


def test_an_inactive_order_may_be_revived_and_closes_its_bracket_only_when_it_is_no_longer_listed() -> None:
    bench = working()
    bench.feed(report("entry", "Inactive"))
    for leg in LEGS[1:]:
        bench.feed(report(leg, "Cancelled"))
    assert not bench.told(BracketClosed)
    bench.feed(report("entry", "Submitted"))
    assert states(bench)[0] is S.SUBMITTED
    bench.feed(report("entry", "Inactive"))
    bench.feed(venue_read(open_orders=(report("entry", "Inactive"),)))
    assert not bench.told(BracketClosed)
    bench.feed(venue_read(failed=("open_orders",)))
    assert not bench.told(BracketClosed)
    bench.feed(venue_read())
    assert len(bench.told(BracketClosed)) == 1
    assert states(bench)[0] is S.REJECTED


def test_a_child_that_the_venue_reduced_is_filled_at_its_reduced_size() -> None:
    """Field note 13: partial fills left children of the wrong size."""
    bench = working()
    bench.feed(execution("e.1.01", 40))
    bench.feed(report("entry", "Cancelled"))
    bench.feed(report("take_profit", "Submitted", qty=40 * UNIT))
    bench.feed(execution("e.2.01", 40, 110, "take_profit", Side.SELL))
    assert states(bench) == [S.CANCELLED, S.FILLED, S.SUBMITTED]
    assert bench.state.positions["ACME"].qty == 0


def test_executions_beyond_the_size_are_an_incident_and_count_all_the_same() -> None:
    bench = working()
    bench.feed(execution("e.1.01", 150))
    assert [note.kind for note in bench.state.incidents] == ["overfilled"]
    assert bench.state.positions["ACME"].qty == 150 * UNIT


def test_an_illegal_transition_is_an_incident_recorded_once() -> None:
    bench = working()
    bench.feed(report("entry", "Cancelled"))
    bench.feed(report("entry", "Submitted"))
    assert [note.kind for note in bench.state.incidents] == ["illegal_transition"]
    assert states(bench)[0] is S.CANCELLED
    before = bench.core
    bench.feed(report("entry", "Submitted"))
    assert bench.core is before
    assert counted(bench) == {"incident.illegal_transition": 1}


def test_a_second_perm_id_for_one_reference_is_an_incident_and_moves_nothing() -> None:
    bench = working()
    bench.feed(report("entry", "Cancelled", perm_id=999))
    assert states(bench)[0] is S.SUBMITTED
    assert [note.kind for note in bench.state.incidents] == ["two_perm_ids"]


def test_a_report_without_reference_is_known_by_its_perm_id_alone() -> None:
    bench = working()
    bench.feed(msgspec.structs.replace(report("entry", "Cancelled"), client_order_id="", venue_order_id=0))
    assert states(bench)[0] is S.CANCELLED
    before = bench.core
    # The same order id with another permId and no reference is somebody else's.
    bench.feed(msgspec.structs.replace(report("stop_loss", "Cancelled"), client_order_id="", perm_id=1))
    assert bench.core is before


@pytest.mark.parametrize("order", ["late", "first", "again"])
def test_a_commission_counts_once_whenever_it_comes(order: str) -> None:
    bench = working()
    commission = CommissionReported("S1", "e.1.01", 1_00_000_000, "USD")
    fill = execution("e.1.01", 100)
    orders: dict[str, tuple[AnyMessage, ...]] = {
        "late": (fill, commission),
        "first": (commission, fill),
        "again": (fill, commission, commission),
    }
    for message in orders[order]:
        bench.feed(message)
    assert bench.state.positions["ACME"].commission == 1_00_000_000
    assert bench.state.early_commissions == {}
    bench.check_replay()


def test_what_a_fill_realized_is_kept_as_told_and_left_open_where_the_venue_left_it_unset() -> None:
    bench = working()
    bench.feed(execution("e.1.01", 100))
    bench.feed(CommissionReported("S1", "e.1.01", 1_00_000_000, "USD", None))
    assert shown_fill(bench).realized_pnl is None
    bench.feed(execution("e.2.01", 100, 110, "take_profit", Side.SELL))
    bench.feed(CommissionReported("S1", "e.2.01", 0, "", None))
    assert bench.state.fills["e.2"].currency == "", "a commission left unset is not told yet"
    bench.feed(CommissionReported("S1", "e.2.01", 1_50_000_000, "USD", 975 * UNIT))
    view = shown_fill(bench)
    assert (view.commission, view.currency, view.realized_pnl) == (1_50_000_000, "USD", 975 * UNIT)
    assert bench.state.positions["ACME"].commission == 2_50_000_000
    bench.check_replay()


def shown_fill(bench: Bench[BrokerState]) -> FillView:
    """The row of the fill that the last input changed."""
    (view,) = [one.value for one in bench.did(Project) if one.key_type == "fills"]
    assert isinstance(view, FillView)
    return view


# ---- between sessions: docs/orders.md


def test_a_fill_that_is_reported_between_sessions_counts_at_once() -> None:
    bench = working()
    bench.feed(SessionLost("S1", "reset"))
    bench.feed(execution("e.1.01", 60))
    assert bench.state.positions["ACME"].qty == 60 * UNIT
    assert states(bench)[0] is S.PARTIALLY_FILLED
    bench.feed(opened("S2", 200))
    bench.feed(execution("e.2.01", 40))
    assert states(bench)[0] is S.FILLED
    bench.feed(
        venue_read("S2", executions=(execution("e.1.01", 60, session="S2"), execution("e.2.01", 40, session="S2")))
    )
    assert bench.state.positions["ACME"].qty == 100 * UNIT, "read again, it is the same fill"
    bench.check_replay()


def test_a_commission_that_is_reported_between_sessions_counts_at_once() -> None:
    bench = working()
    bench.feed(execution("e.1.01", 100))
    bench.feed(SessionLost("S1", "reset"))
    bench.feed(CommissionReported("S1", "e.1.01", 1_00_000_000, "USD"))
    assert bench.state.positions["ACME"].commission == 1_00_000_000
    bench.check_replay()


@pytest.mark.parametrize("lists", ["open_orders", "completed_orders"])
def test_an_order_report_that_comes_between_sessions_is_dropped_and_the_next_sessions_read_says_it(lists: str) -> None:
    bench = working()
    bench.feed(SessionLost("S1", "reset"))
    before = bench.core
    bench.feed(report("stop_loss", "Cancelled", "S1"))
    assert bench.core is before
    assert counted(bench) == {"another_session": 1}
    bench.feed(opened("S2", 200))
    bench.feed(venue_read("S2", **{lists: (report("stop_loss", "Cancelled", "S2"),)}))
    assert states(bench)[2] is S.CANCELLED
    bench.check_replay()


def test_a_fill_whose_every_report_was_lost_with_its_session_comes_with_the_next_read() -> None:
    bench = working()
    bench.feed(SessionLost("S1", "reset"))
    bench.feed(opened("S2", 200))
    bench.feed(venue_read("S2", executions=(execution("e.1.01", 100, session="S2"),)))
    assert states(bench)[0] is S.FILLED
    assert bench.state.positions["ACME"].qty == 100 * UNIT
    bench.check_replay()


def test_every_state_that_an_order_enters_is_shown_with_its_time() -> None:
    bench = working()
    bench.feed(execution("e.1.01", 60))
    bench.feed(execution("e.2.01", 40))
    (view,) = [one.value for one in bench.did(Project) if one.key_type == "orders"]
    assert isinstance(view, OrderView)
    assert [step.state for step in view.history] == [S.PRE_SENT, S.PENDING, S.SUBMITTED, S.PARTIALLY_FILLED, S.FILLED]
    times = [step.at_ns for step in view.history]
    assert times == sorted(times)
    assert times[-1] == bench.now_ns == view.since_ns


# ---- an order without the venue's word


@pytest.mark.parametrize("state", [S.PRE_SENT, S.PENDING, S.UNKNOWN])
def test_an_order_that_stays_without_the_venues_word_is_raised_once_and_cleared_once_it_is_settled(state: S) -> None:
    bench = ready()
    bench.feed(PlaceBracket(intent()))
    if state is not S.PRE_SENT:
        bench.feed(wrote(bench.driven(SubmitOrders)[0]))
    if state is S.UNKNOWN:
        bench.feed(SessionLost("S1", "reset"))
        bench.feed(opened("S2", 100))
    assert set(states(bench)) == {state}
    bench.feed(TimerFired("stuck"))
    assert not bench.did(RaiseAlarm), "not before its time"
    bench.wait(11)
    for _ in range(3):  # a standing alarm, under one name, however often it is looked at
        bench.feed(TimerFired("stuck"))
        assert [one.name for one in bench.did(RaiseAlarm)] == ["order_stuck"]
    bench.feed(venue_read(bench.state.session.session_id, open_orders=tuple(report(leg) for leg in LEGS)))  # type: ignore[union-attr]
    bench.feed(TimerFired("stuck"))
    assert bench.effects == [ClearAlarm("order_stuck")]


# ---- sessions, reads, bounds


def test_a_session_of_the_right_account_ends_the_alarm_of_a_wrong_one() -> None:
    bench = fresh(account="DU2")
    bench.feed(opened())
    assert [alarm.name for alarm in bench.did(RaiseAlarm)] == ["account"]
    bench.feed(msgspec.structs.replace(opened("S2"), account="DU2"))
    assert ClearAlarm("account") in bench.effects


def test_a_whole_read_ends_what_told_of_others_orders_unless_it_names_one_still() -> None:
    bench = working()
    stranger = msgspec.structs.replace(report("entry"), client_order_id="by hand", perm_id=4_242)
    bench.feed(stranger)
    assert [alarm.name for alarm in bench.did(RaiseAlarm)] == ["external_order"]
    ours = tuple(report(leg) for leg in LEGS)
    bench.feed(venue_read("S1", open_orders=(*ours, stranger)))
    assert ClearAlarm("external_order") not in bench.effects
    bench.feed(venue_read("S1", open_orders=ours, positions_only=True))
    assert ClearAlarm("external_order") not in bench.effects, "it says nothing of orders"
    bench.feed(venue_read("S1", open_orders=ours))
    assert {ClearAlarm("external_order"), ClearAlarm("venue_error")} <= set(bench.effects)


def test_another_sessions_reports_and_reads_are_counted_and_left() -> None:
    bench = working()
    before = bench.core
    messages: tuple[AnyMessage, ...] = (
        report("entry", "Cancelled", "S0"),
        venue_read("S0", open_orders=(report("entry", "Cancelled", "S0"),)),
        ReadVenue("S0", "r"),
        SessionLost("S0", "old"),
    )
    for message in messages:
        bench.feed(message)
        assert bench.core is before
        assert counted(bench) == {"another_session": 1}


def test_a_read_is_asked_of_the_driver_without_a_journal_entry() -> None:
    bench = working()
    before = bench.core
    bench.feed(ReadVenue("S1", "r7", positions_only=True))
    assert bench.core is before
    assert bench.driven(QueryVenue) == [QueryVenue("S1", "r7", True)]


def test_a_session_of_another_account_is_not_used() -> None:
    bench = fresh(account="DU2")
    bench.feed(opened())
    assert bench.state.session is None
    assert [alarm.name for alarm in bench.did(RaiseAlarm)] == ["account"]


def test_orders_without_the_venues_word_raise_an_alarm_that_clears() -> None:
    bench = placed()
    bench.wait(10)
    bench.feed(TimerFired("stuck"))
    assert [alarm.name for alarm in bench.did(RaiseAlarm)] == ["order_stuck"]
    for leg in LEGS:
        bench.feed(report(leg))
    bench.feed(TimerFired("stuck"))
    assert bench.effects == [ClearAlarm("order_stuck")]


def test_closed_families_are_pruned_oldest_first_and_never_placed_again() -> None:
    bench = ready(families_max=2, intents_per_s_max=100)
    for n in range(4):
        bench.feed(PlaceBracket(intent(f"s{n}")))
        for leg in LEGS:
            bench.feed(report(leg, "Cancelled", signal_id=f"s{n}", perm_id=10 * n + LEGS.index(leg) + 1))
    assert list(bench.state.families) == [ids.family_id("apex", name) for name in ("s2", "s3")]
    assert list(bench.state.done) == [ids.family_id("apex", name) for name in ("s0", "s1")]
    deleted = [effect.field for effect in bench.did(Project) if not effect.value]
    assert deleted == []
    bench.feed(PlaceBracket(intent("s0")))
    assert not bench.driven(SubmitOrders)
    bench.feed(report("entry", "Cancelled", signal_id="s0", perm_id=1))
    assert counted(bench) == {"report_of_pruned": 1}
    bench.check_replay()


def test_open_families_at_their_bound_hold_further_intents_back() -> None:
    bench = ready(families_max=1)
    bench.feed(PlaceBracket(intent("s1")))
    bench.feed(PlaceBracket(intent("s2")))
    assert not bench.driven(SubmitOrders)
    assert counted(bench)["held.families"] == 1


def test_fills_beyond_the_bound_are_folded_away_without_moving_the_position() -> None:
    bench = working(fills_max=2)
    for n in range(5):
        fill = msgspec.structs.replace(execution(f"e.{n}.01", 10, 100 + n), ts_event_ns=START + n)
        bench.feed(fill)
    assert len(bench.state.fills) == 2
    assert bench.state.positions["ACME"].qty == 50 * UNIT
    listed = msgspec.structs.replace(execution("e.1.01", 10, 101), ts_event_ns=START + 1)
    bench.feed(venue_read(executions=(listed,)))
    assert not bench.state.incidents, "the day's list names what is no longer kept"
    bench.feed(execution("e.0.01", 10))
    assert [note.kind for note in bench.state.incidents] == ["execution_too_old"]
    assert bench.state.positions["ACME"].qty == 50 * UNIT
    bench.feed(msgspec.structs.replace(execution("e.4.02", 5, 100), ts_event_ns=START + 4))
    assert bench.state.positions["ACME"].qty == 45 * UNIT
    bench.check_replay()


def test_projections_follow_orders_and_positions() -> None:
    bench = working()
    bench.feed(execution("e.1.01", 60))
    fields = {(effect.key_type, effect.field): msgspec.to_builtins(effect.value) for effect in bench.did(Project)}
    order = fields["orders", order_id()]
    assert (order["cum_qty"], order["leaves_qty"], order["state"]) == (60 * UNIT, 40 * UNIT, "partially_filled")
    assert fields["positions", "ACME"]["qty"] == 60 * UNIT
