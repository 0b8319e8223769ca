"""The broker's reducer on intents: state × message, and the field's failures that belong to pure logic, by name."""

from __future__ import annotations

import msgspec
import pytest

from actors.broker_state import Surfaced
from actors.effects import RaiseAlarm, StartTimer
from actors.messages import (
    BracketClosed,
    BrokerSessionChanged,
    CancelVenueOrder,
    HaltChanged,
    IntentOutcome,
    OrderChanged,
    OrderType,
    Outcome,
    PicturesTaken,
    PlaceBracket,
    PositionChanged,
    Recovered,
    Resolution,
    RevokeGate,
    SessionLost,
    Side,
    SubmitOrders,
    TimerFired,
)
from kernels import ids
from kernels.recurring import DAY_NS, Span
from tests.actors.broker_bench import (
    LEGS,
    S,
    counted,
    fresh,
    lost,
    not_sent,
    placed,
    ready,
    resolution,
    states,
    working,
)
from tests.actors.money_bench import (
    SECOND,
    START,
    UNIT,
    execution,
    grant,
    intent,
    opened,
    order_id,
    report,
    venue_read,
    wrote,
)

# ---- placing


def test_an_intent_is_journaled_as_pre_sent_with_all_its_ids_before_anything_is_driven() -> None:
    bench = ready()
    bench.feed(PlaceBracket(intent()))
    family = bench.state.families[intent().intent_id]
    assert states(bench) == [S.PRE_SENT] * 3
    assert (family.account, family.client_id, family.generation) == ("DU1", 7, "DU1/7/1")
    assert [order.venue_order_id for order in family.orders] == [100, 101, 102]
    assert bench.records[-1].count(b"PlaceBracket") == 1
    command = bench.driven(SubmitOrders)[0]
    assert [ticket.transmit for ticket in command.tickets] == [False, False, True]
    assert [ticket.parent_order_id for ticket in command.tickets] == [0, 100, 100]
    assert [ticket.order_type for ticket in command.tickets] == [OrderType.MARKET, OrderType.LIMIT, OrderType.STOP]
    assert [ticket.side for ticket in command.tickets] == [Side.BUY, Side.SELL, Side.SELL]
    assert [ticket.client_order_id for ticket in command.tickets] == [order_id(leg) for leg in LEGS]
    assert not command.resend
    bench.check_replay()


def test_a_submission_carries_the_end_of_its_lease_or_of_its_intent_whichever_comes_first() -> None:
    """A process may stand still between decision and socket for longer than the lease that let the order go."""
    bench = ready()
    bench.feed(PlaceBracket(intent()))
    assert bench.state.gate is not None
    ends = {bench.state.gate.expires_ns, intent().expires_ns}
    assert len(ends) == 2
    assert bench.driven(SubmitOrders)[0].not_after_ns == min(ends)


def test_all_that_is_told_of_an_intent_carries_the_correlation_of_what_began_it() -> None:
    bench = fresh()
    bench.feed(PlaceBracket(intent()), correlation_id="frame-7")
    bench.feed(opened())
    bench.feed(grant(bench))
    owed = list(bench.owed)
    bench.feed(wrote(bench.driven(SubmitOrders)[0]))
    owed += bench.owed
    for leg in LEGS:
        bench.feed(report(leg, "Cancelled"))
        owed += bench.owed
    assert {type(envelope.body) for envelope in owed} == {OrderChanged, IntentOutcome, BracketClosed}
    assert {envelope.correlation_id for envelope in owed} == {"frame-7"}


def test_an_intent_seen_before_in_any_form_is_ignored() -> None:
    bench = placed()
    before = bench.core
    bench.feed(PlaceBracket(intent()))
    assert bench.core is before
    assert counted(bench) == {"intent_again": 1}
    held = fresh()
    held.feed(PlaceBracket(intent()))
    before = held.core
    held.feed(PlaceBracket(intent()))
    assert held.core.role is before.role
    halted = fresh()
    halted.feed(HaltChanged("test", START))
    halted.feed(PlaceBracket(intent()))
    halted.feed(PlaceBracket(intent()))
    assert not halted.owed


@pytest.mark.parametrize("missing", ["session", "gate", "expired gate", "another session's gate"])
def test_without_session_or_gate_an_intent_is_held_and_expires(missing: str) -> None:
    bench = fresh()
    if missing != "session":
        bench.feed(opened())
    if missing == "expired gate":
        bench.feed(grant(bench))
        bench.wait(15)
    if missing == "another session's gate":
        bench.feed(grant(bench, "S0"))
    bench.feed(PlaceBracket(intent(expires_s=30)))
    assert not bench.driven(SubmitOrders)
    assert not bench.told(IntentOutcome)
    assert StartTimer("held", SECOND) in bench.effects
    bench.wait(31)
    bench.feed(TimerFired("held"))
    outcome = bench.told(IntentOutcome)[0]
    assert (outcome.outcome, outcome.guard) == (Outcome.EXPIRED, "expired")
    assert bench.state.held == {}
    bench.feed(opened("S9"))
    bench.feed(grant(bench, "S9"))
    assert not bench.driven(SubmitOrders)
    bench.check_replay()


def test_a_held_intent_goes_out_when_the_gate_opens() -> None:
    bench = fresh()
    bench.feed(PlaceBracket(intent()))
    bench.feed(opened())
    bench.feed(grant(bench))
    assert len(bench.driven(SubmitOrders)) == 1
    assert bench.state.held == {}


def test_held_intents_are_bounded_and_the_excess_is_refused_with_figures() -> None:
    bench = fresh(held_max=2)
    for n in range(3):
        bench.feed(PlaceBracket(intent(f"s{n}")))
    outcome = bench.told(IntentOutcome)[0]
    assert (outcome.outcome, outcome.guard, outcome.figures["held"]) == (Outcome.REFUSED, "held_full", "2")


def test_a_halt_refuses_new_and_held_intents_and_leaves_working_orders() -> None:
    """Field note 14, as far as it is this actor's: while the halt is latched nothing refills what was flattened."""
    bench = working()
    bench.feed(RevokeGate("S1", "test"))
    bench.feed(PlaceBracket(intent("s2")))
    bench.feed(HaltChanged("daily loss", START))
    assert [told.guard for told in bench.told(IntentOutcome)] == ["halt"]
    bench.feed(PlaceBracket(intent("s3")))
    assert [told.outcome for told in bench.told(IntentOutcome)] == [Outcome.REFUSED]
    assert states(bench) == [S.SUBMITTED] * 3
    assert not bench.driven(CancelVenueOrder)
    bench.check_replay()


def test_an_intent_whose_id_does_not_follow_from_its_signal_is_refused() -> None:
    bench = ready()
    bench.feed(PlaceBracket(msgspec.structs.replace(intent(), intent_id="mine")))
    assert [told.guard for told in bench.told(IntentOutcome)] == ["intent_id"]
    assert not bench.driven(SubmitOrders)


def test_intents_beyond_the_pace_wait_a_second() -> None:
    bench = ready(intents_per_s_max=2)
    sent = 0
    for n in range(5):
        bench.feed(PlaceBracket(intent(f"s{n}")))
        sent += len(bench.driven(SubmitOrders))
    assert (sent, len(bench.state.held)) == (2, 3)
    bench.wait(1)
    bench.feed(TimerFired("held"))
    assert (len(bench.driven(SubmitOrders)), len(bench.state.held)) == (2, 1)


def test_a_grant_of_an_older_reconciler_or_another_session_opens_nothing() -> None:
    bench = fresh()
    bench.feed(opened())
    bench.feed(grant(bench, epoch=5))
    bench.feed(RevokeGate("S1", "test"))
    before = bench.core
    bench.feed(grant(bench, epoch=4))
    bench.feed(grant(bench, session="S0", epoch=6))
    assert bench.core is before


# ---- what became of the write


def test_written_makes_orders_pending_and_gives_the_one_outcome() -> None:
    bench = placed()
    assert states(bench) == [S.PENDING] * 3
    assert [told.outcome for told in bench.told(IntentOutcome)] == [Outcome.SUBMITTED]
    for leg in LEGS:
        bench.feed(report(leg))
        assert not bench.told(IntentOutcome)
    assert states(bench) == [S.SUBMITTED] * 3


def test_a_report_that_overtakes_written_gives_the_outcome_once() -> None:
    bench = ready()
    bench.feed(PlaceBracket(intent()))
    command = bench.driven(SubmitOrders)[0]
    bench.feed(report())
    assert len(bench.told(IntentOutcome)) == 1
    bench.feed(wrote(command))
    assert not bench.told(IntentOutcome)
    assert states(bench) == [S.SUBMITTED, S.PENDING, S.PENDING]


def test_known_not_sent_goes_out_afresh_under_the_same_references_and_new_ids() -> None:
    bench = ready()
    bench.feed(PlaceBracket(intent()))
    first = bench.driven(SubmitOrders)[0]
    bench.feed(not_sent(first))
    assert not bench.told(IntentOutcome)
    bench.wait(1)
    bench.feed(TimerFired("held"))
    second = bench.driven(SubmitOrders)[0]
    assert [t.client_order_id for t in second.tickets] == [t.client_order_id for t in first.tickets]
    assert not {t.venue_order_id for t in second.tickets} & {t.venue_order_id for t in first.tickets}
    bench.check_replay()


def test_known_not_sent_ends_after_so_many_tries() -> None:
    bench = ready(not_sent_max=2)
    bench.feed(PlaceBracket(intent()))
    bench.feed(not_sent(bench.driven(SubmitOrders)[0]))
    bench.wait(1)
    bench.feed(TimerFired("held"))
    bench.feed(not_sent(bench.driven(SubmitOrders)[0]))
    assert [(told.outcome, told.guard) for told in bench.told(IntentOutcome)] == [(Outcome.REFUSED, "not_sent")]
    assert bench.state.held == {}


def test_known_not_sent_after_expiry_expires() -> None:
    bench = ready()
    bench.feed(PlaceBracket(intent(expires_s=1)))
    command = bench.driven(SubmitOrders)[0]
    bench.wait(2)
    bench.feed(not_sent(command))
    assert [told.outcome for told in bench.told(IntentOutcome)] == [Outcome.EXPIRED]


def test_not_sent_of_some_legs_only_proves_nothing_and_is_not_placed_again() -> None:
    bench = ready()
    bench.feed(PlaceBracket(intent()))
    bench.feed(not_sent(bench.driven(SubmitOrders)[0], legs=1))
    assert states(bench) == [S.UNKNOWN, S.PRE_SENT, S.PRE_SENT]
    bench.wait(1)
    bench.feed(TimerFired("held"))
    assert not bench.driven(SubmitOrders)


def test_a_lost_session_makes_unanswered_orders_unknown_and_shuts_the_gate() -> None:
    bench = placed()
    bench.feed(report())
    bench.feed(SessionLost("S1", "reset"))
    assert states(bench) == [S.SUBMITTED, S.UNKNOWN, S.UNKNOWN]
    assert bench.state.gate is None
    assert bench.told(BrokerSessionChanged) == [BrokerSessionChanged("", "")]
    bench.check_replay()


def test_a_recovery_ends_the_session_and_sends_nothing_again() -> None:
    bench = placed()
    bench.feed(Recovered(2))
    assert states(bench) == [S.UNKNOWN] * 3
    assert bench.state.session is None
    assert not bench.driven(SubmitOrders)
    bench.feed(opened("S2", 103))
    bench.feed(grant(bench, "S2"))
    bench.feed(PlaceBracket(intent()))
    assert not bench.driven(SubmitOrders)


def test_ids_are_never_drawn_twice_even_when_the_venue_rolls_them_back() -> None:
    """Field note 9: the next valid id rolled back, and callbacks went to the wrong orders."""
    bench = working()
    bench.feed(SessionLost("S1", "nightly restart"))
    bench.feed(opened("S2", 50))
    bench.feed(grant(bench, "S2"))
    bench.feed(PlaceBracket(intent("s2")))
    command = bench.driven(SubmitOrders)[0]
    assert [ticket.venue_order_id for ticket in command.tickets] == [103, 104, 105]
    assert bench.state.families[command.intent_id].generation == "DU1/7/2"
    # A report under an old order id, but with the new order's reference, moves the new order only.
    bench.feed(report("entry", "Submitted", "S2", "s2", venue_order_id=100, perm_id=990))
    assert states(bench, "s2") == [S.SUBMITTED, S.PRE_SENT, S.PRE_SENT]
    bench.feed(report("entry", "Cancelled", "S2", "s2", venue_order_id=100, perm_id=990))
    assert states(bench) == [S.SUBMITTED] * 3


def test_a_roll_back_that_the_driver_has_papered_over_still_ends_the_generation() -> None:
    bench = placed()
    bench.feed(SessionLost("S1", "nightly restart"))
    bench.feed(msgspec.structs.replace(opened("S2", 103), venue_next_order_id=50))
    bench.feed(resolution(Resolution.RESEND_SAME_ID))
    assert not bench.driven(SubmitOrders)
    assert states(bench) == [S.EXPIRED] * 3


def test_an_order_of_another_session_at_or_above_the_sessions_first_id_shows_that_ids_rolled_back_unseen() -> None:
    """Field note 9: the venue never told of ids above the first, so only the orders themselves betray it."""
    bench = placed()
    bench.feed(PlaceBracket(intent("s2")))
    bench.feed(SessionLost("S1", "nightly restart"))
    bench.feed(opened("S2", 100))
    assert bench.state.generation is not None
    assert bench.state.generation.number == 1
    bench.feed(venue_read("S2", open_orders=(report("entry", session="S2"),)))
    assert bench.state.generation.number == 2
    bench.feed(msgspec.structs.replace(resolution(Resolution.RESEND_SAME_ID), intent_id=intent("s2").intent_id))
    assert not bench.driven(SubmitOrders)
    assert states(bench, "s2") == [S.EXPIRED] * 3


# ---- resolution


def test_an_intent_absent_twice_is_sent_once_more_under_the_same_ids() -> None:
    """Field note 11: reconciliation itself placed duplicate orders; so did treating a timeout as a failure."""
    bench = lost()
    bench.feed(resolution(Resolution.RESEND_SAME_ID))
    command = bench.driven(SubmitOrders)[0]
    assert (command.resend, command.session_id) == (True, "S2")
    assert [ticket.venue_order_id for ticket in command.tickets] == [100, 101, 102]
    before = bench.core
    bench.feed(resolution(Resolution.RESEND_SAME_ID))
    assert not bench.driven(SubmitOrders)
    assert bench.core is before
    bench.feed(not_sent(command))
    assert states(bench) == [S.UNKNOWN] * 3
    bench.feed(resolution(Resolution.RESEND_SAME_ID))
    assert not bench.driven(SubmitOrders)
    bench.check_replay()


@pytest.mark.parametrize("obstacle", ["expired", "halt", "generation", "partly_there"])
def test_where_a_resend_is_not_possible_the_orders_expire_with_an_alarm(obstacle: str) -> None:
    bench = placed()
    if obstacle == "partly_there":
        bench.feed(report())
    bench.feed(SessionLost("S1", "reset"))
    bench.feed(opened("S2", 50 if obstacle == "generation" else 103))
    if obstacle == "expired":
        bench.wait(61)
    if obstacle == "halt":
        bench.feed(HaltChanged("test", START))
    bench.feed(resolution(Resolution.RESEND_SAME_ID))
    assert not bench.driven(SubmitOrders)
    assert counted(bench)[f"resend_impossible.{obstacle}"] == 1
    assert states(bench)[1:] == [S.EXPIRED] * 2
    assert "intent_expired" in [alarm.name for alarm in bench.did(RaiseAlarm)]
    assert not bench.told(IntentOutcome)  # it was given when the bytes left


def test_giving_up_an_intent_without_an_outcome_gives_it_expired() -> None:
    bench = ready()
    bench.feed(PlaceBracket(intent()))
    bench.feed(Recovered(2))
    bench.feed(opened("S2", 103))
    bench.feed(resolution(Resolution.EXPIRE))
    assert [told.outcome for told in bench.told(IntentOutcome)] == [Outcome.EXPIRED]
    assert len(bench.told(BracketClosed)) == 1
    bench.check_replay()


def test_a_resolution_that_facts_or_sessions_have_overtaken_does_nothing() -> None:
    bench = lost()
    for leg in LEGS:
        bench.feed(report(leg, session="S2"))
    before = bench.core
    for session in ("S1", "S2"):
        for kind in Resolution:
            bench.feed(resolution(kind, session))
            assert bench.core is before


def test_working_brackets_come_back_after_a_restart_as_ours() -> None:
    """Field note 12: working brackets came back after a restart as unknown external orders, unmanaged."""
    bench = placed()
    bench.feed(Recovered(2))
    bench.feed(opened("S2", 103))
    listed = tuple(report(leg, "PreSubmitted", "S2", venue_order_id=0) for leg in LEGS)
    bench.feed(venue_read("S2", open_orders=listed))
    assert states(bench) == [S.SUBMITTED] * 3
    assert "external_order" not in [alarm.name for alarm in bench.did(RaiseAlarm)]
    picture = bench.told(PicturesTaken)[0]
    assert [order.state for order in picture.orders] == ["submitted"] * 3
    assert [order.perm_id for order in picture.orders] == [900, 901, 902]


def test_fills_while_disconnected_are_recovered_from_the_executions_of_the_read() -> None:
    """Field note 10: fills that happened while 1100 held were never recovered."""
    bench = working()
    bench.feed(SessionLost("S1", "1100"))
    bench.feed(opened("S2", 103))
    done = report("entry", "Filled", "S2", completed=True, filled_qty=100 * UNIT)
    read = venue_read("S2", executions=(execution("e.1.01", 100, session="S2"),), completed_orders=(done,))
    bench.feed(read)
    assert states(bench) == [S.FILLED, S.SUBMITTED, S.SUBMITTED]
    assert bench.told(PositionChanged) == [PositionChanged("ACME", 100 * UNIT, 100 * UNIT)]
    before = bench.core
    bench.feed(read)
    assert bench.core is before
    bench.check_replay()


@pytest.mark.parametrize("config", list(Surfaced))
def test_an_order_that_surfaces_after_it_expired_is_adopted_or_cancelled_never_doubled(config: Surfaced) -> None:
    bench = lost(surfaced=config)
    bench.feed(resolution(Resolution.EXPIRE))
    assert states(bench) == [S.EXPIRED] * 3
    bench.feed(report("entry", "Submitted", "S2"))
    assert states(bench)[0] is S.SUBMITTED
    cancels = bench.driven(CancelVenueOrder)
    assert [cancel.venue_order_id for cancel in cancels] == ([100] if config is Surfaced.CANCEL else [])
    assert "surfaced" in [alarm.name for alarm in bench.did(RaiseAlarm)]
    assert not bench.driven(SubmitOrders)
    assert not bench.told(IntentOutcome)


def test_of_two_instances_with_one_client_id_the_others_orders_stay_out_of_our_state() -> None:
    """Field note 20: two instances with one client id."""
    bench = working()
    before = bench.core
    theirs = ids.client_order_id("other fund", "s1", "entry")
    bench.feed(msgspec.structs.replace(report(), client_order_id=theirs, perm_id=5))
    bench.feed(execution("x.1.01", 10, client_order_id=theirs))
    assert bench.core is before
    assert [alarm.name for alarm in bench.did(RaiseAlarm)] == ["external_order"]
    mine = ids.client_order_id("apex", "never seen", "entry")
    bench.feed(msgspec.structs.replace(report(), client_order_id=mine, perm_id=6))
    assert [note.kind for note in bench.state.incidents] == ["missing_here"]


def test_at_the_venues_nightly_restart_nothing_that_opens_risk_leaves_and_its_loss_is_expected() -> None:
    bench = ready(restart=Span(START % DAY_NS + 5 * SECOND, 600 * SECOND), stuck_after_ns=SECOND)
    bench.wait(5)
    bench.feed(PlaceBracket(intent()))
    assert not bench.driven(SubmitOrders)
    assert counted(bench) == {"held.restart_window": 1}
    bench.feed(SessionLost("S1", "the gateway restarts"))
    assert counted(bench) == {"session_lost_in_restart": 1}
    bench.feed(opened("S2", 1))
    bench.feed(grant(bench, "S2"))
    assert not bench.driven(SubmitOrders)
    bench.wait(61)
    bench.feed(TimerFired("held"))
    outcome = bench.told(IntentOutcome)[0]
    assert (outcome.outcome, outcome.figures["blocked_by"]) == (Outcome.EXPIRED, "restart_window")
    bench.wait(540)
    bench.feed(grant(bench, "S2"))
    late = msgspec.structs.replace(intent("s2"), expires_ns=bench.now_ns + 60 * SECOND)
    bench.feed(PlaceBracket(late))
    assert len(bench.driven(SubmitOrders)) == 1
    bench.check_replay()


def test_an_order_without_the_venues_word_is_no_alarm_while_the_venue_restarts() -> None:
    bench = placed(restart=Span(START % DAY_NS + 5 * SECOND, 60 * SECOND), stuck_after_ns=SECOND)
    bench.wait(6)
    bench.feed(TimerFired("stuck"))
    assert not bench.did(RaiseAlarm)
    bench.wait(60)
    bench.feed(TimerFired("stuck"))
    assert [one.name for one in bench.did(RaiseAlarm)] == ["order_stuck"]
