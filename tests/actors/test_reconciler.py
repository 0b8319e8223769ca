"""The reconciler's reducer: when the gate opens, what is proven absent, which divergences stand."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.effects import AppendLine, ClearAlarm, Count, RaiseAlarm, StartTimer
from actors.messages import (
    BrokerSessionChanged,
    GrantGate,
    HaltChanged,
    Leg,
    OrderPicture,
    PicturesTaken,
    ReadVenue,
    Recovered,
    Resolution,
    ResolveIntent,
    RevokeGate,
    Side,
    TimerFired,
    VenuePosition,
    VenueRead,
)
from actors.reconciler import Reconciler, ReconcilerSettings, ReconcilerState
from kernels import ids
from tests.actors.money_bench import SECOND, START, UNIT, Bench, execution, order_id, report, venue_read

LEGS = ("entry", "take_profit", "stop_loss")
OPENED = BrokerSessionChanged("S1", "DU1", 100)


def fresh(**settings: object) -> Bench[ReconcilerState]:
    bench = Bench(Reconciler(ReconcilerSettings(**settings)))  # type: ignore[arg-type]
    bench.feed(Recovered(3))
    return bench


def picture(leg: str = "entry", state: str = "submitted", **changed: int) -> OrderPicture:
    place = LEGS.index(leg)
    figures = {"resends": 0, "cum_qty": 0, "since_ns": START, "expires_ns": START + 60 * SECOND} | changed
    return OrderPicture(
        client_order_id=order_id(leg),
        intent_id=ids.family_id("apex", "s1"),
        symbol="ACME",
        side=Side.BUY,
        leg=Leg(leg),
        state=state,
        qty=100 * UNIT,
        venue_order_id=100 + place,
        perm_id=0 if state in ("unknown", "pre_sent", "pending") else 900 + place,
        generation="DU1/7/1",
        **figures,
    )


def family(state: str, **changed: int) -> tuple[OrderPicture, ...]:
    return tuple(picture(leg, state, **changed) for leg in LEGS)


def position(qty: int) -> VenuePosition:
    return VenuePosition("DU1", "ACME", qty * UNIT, 100 * UNIT)


def look(
    bench: Bench[ReconcilerState],
    orders: tuple[OrderPicture, ...] = (),
    holdings: tuple[VenuePosition, ...] = (),
    /,
    session: str = "S1",
    **parts: Any,
) -> None:
    """Pictures of a read taken now."""
    read: VenueRead = venue_read(session, bench.now_ns, **parts)
    bench.feed(PicturesTaken(read, orders, holdings))


def opened(**settings: object) -> Bench[ReconcilerState]:
    """With a session, a good first read, and so an open gate."""
    bench = fresh(**settings)
    bench.feed(OPENED)
    look(bench)
    assert bench.state.gate_open
    return bench


def alarms(bench: Bench[ReconcilerState]) -> dict[str, str]:
    return {alarm.name: alarm.severity.value for alarm in bench.did(RaiseAlarm)}


# ---- the gate


def test_a_session_is_read_at_once_and_the_gate_opens_for_broker_and_allocator() -> None:
    bench = fresh()
    bench.feed(OPENED)
    assert [(read.session_id, read.positions_only) for read in bench.told(ReadVenue)] == [("S1", False)]
    assert not bench.told(GrantGate)
    look(bench)
    assert bench.told(GrantGate) == [GrantGate("S1", 3, bench.now_ns + 15 * SECOND)] * 2
    assert StartTimer("gate", 5 * SECOND) in bench.effects
    bench.check_replay()


def test_the_lease_is_renewed_without_a_journal_entry_while_reads_succeed() -> None:
    bench = opened()
    before = bench.core
    bench.wait(5)
    bench.feed(TimerFired("gate"))
    assert [grant.expires_ns for grant in bench.told(GrantGate)] == [bench.now_ns + 15 * SECOND] * 2
    assert bench.core is before
    bench.wait(71)
    bench.feed(TimerFired("gate"))
    assert not bench.told(GrantGate)
    assert len(bench.told(RevokeGate)) == 2
    assert len(bench.told(ReadVenue)) == 1
    look(bench, positions_only=True)
    assert not bench.told(GrantGate)  # a complete read is needed to open again
    look(bench)
    assert bench.told(GrantGate)


@pytest.mark.parametrize("failed", ["open_orders", "completed_orders", "executions", "positions"])
def test_a_failed_query_is_neither_flat_nor_absence_and_opens_nothing(failed: str) -> None:
    bench = fresh()
    bench.feed(OPENED)
    for _ in range(3):
        look(bench, family("unknown"), (position(5),), failed=(failed,))
        assert not bench.told(GrantGate)
        assert not bench.told(ResolveIntent)
        assert not bench.state.findings
        assert not bench.state.absences
        assert alarms(bench) == {"venue_read": "warning"}
        bench.wait(10)
    bench.feed(TimerFired("again"))
    assert len(bench.told(ReadVenue)) == 1


def test_a_read_that_is_never_answered_is_an_alarm_and_asked_again() -> None:
    bench = fresh()
    bench.feed(OPENED)
    bench.feed(TimerFired("read_timeout"))
    assert alarms(bench) == {"venue_read": "warning"}
    assert len(bench.told(ReadVenue)) == 1
    assert not bench.told(GrantGate)


def test_a_lost_session_shuts_the_gate_and_stops_reading() -> None:
    bench = opened()
    bench.feed(BrokerSessionChanged("", ""))
    assert bench.told(RevokeGate) == [RevokeGate("S1", "session changed")] * 2
    bench.feed(TimerFired("gate"))
    assert not bench.told(GrantGate)
    bench.feed(TimerFired("positions"))
    assert not bench.told(ReadVenue)
    look(bench)
    assert bench.effects == [Count("pictures_of_another_session")]


def test_a_recovery_vouches_for_nothing_it_has_not_read_itself() -> None:
    bench = opened()
    bench.feed(Recovered(4))
    assert not bench.state.gate_open
    assert not bench.told(GrantGate)
    assert [read.positions_only for read in bench.told(ReadVenue)] == [False]
    bench.feed(TimerFired("gate"))
    assert not bench.told(GrantGate)
    look(bench)
    assert [grant.reconciler_epoch for grant in bench.told(GrantGate)] == [4, 4]


def test_positions_are_read_every_30_s_and_orders_every_5_min() -> None:
    bench = opened()
    bench.feed(TimerFired("positions"))
    assert [read.positions_only for read in bench.told(ReadVenue)] == [True]
    assert StartTimer("positions", 30 * SECOND) in bench.effects
    bench.feed(TimerFired("orders"))
    assert [read.positions_only for read in bench.told(ReadVenue)] == [False]
    assert StartTimer("orders", 300 * SECOND) in bench.effects


# ---- what nobody was sure of


def test_an_intent_is_settled_only_after_two_absences_with_grace_between() -> None:
    """Field note 11: reconciliation itself placed duplicate orders; so did treating a timeout as a failure."""
    bench = fresh()
    bench.feed(OPENED)
    look(bench, family("unknown"))
    assert not bench.told(ResolveIntent)
    assert not bench.told(GrantGate)
    bench.wait(2)
    look(bench, family("unknown"))
    assert not bench.told(ResolveIntent)
    bench.wait(2)
    look(bench, family("unknown"))
    resolve = bench.told(ResolveIntent)[0]
    assert (resolve.session_id, resolve.resolution) == ("S1", Resolution.RESEND_SAME_ID)
    assert bench.owed[0].target == "broker.paper"
    bench.wait(1)
    look(bench, family("unknown"))  # the count begins anew
    assert not bench.told(ResolveIntent)
    assert not bench.told(GrantGate)
    look(bench, family("expired"))
    assert bench.told(GrantGate)
    bench.check_replay()


def test_orders_of_the_last_second_lost_in_the_nightly_restart_are_settled_in_the_new_session() -> None:
    """Field note 9: orders sent in the second of the nightly restart vanished."""
    bench = opened()
    look(bench, family("unknown"))
    bench.feed(BrokerSessionChanged("", ""))
    bench.feed(BrokerSessionChanged("S2", "DU1", 50))
    bench.wait(60)
    look(bench, family("unknown"), session="S2")
    assert not bench.told(ResolveIntent)  # an absence of another session does not count
    bench.wait(3)
    look(bench, family("unknown"), session="S2")
    assert [resolve.session_id for resolve in bench.told(ResolveIntent)] == ["S2"]


@pytest.mark.parametrize("known_by", ["open", "completed", "execution"])
def test_an_intent_that_the_venue_knows_in_any_record_is_never_settled_as_absent(known_by: str) -> None:
    bench = fresh()
    bench.feed(OPENED)
    records: dict[str, dict[str, Any]] = {
        "open": {"open_orders": tuple(report(leg) for leg in LEGS)},
        "completed": {"completed_orders": tuple(report(leg, "Cancelled", completed=True) for leg in LEGS)},
        "execution": {"executions": tuple(execution(f"e.{leg}.01", 1, leg=leg) for leg in LEGS)},
    }
    parts = records[known_by]
    for _ in range(3):
        look(bench, family("unknown"), **parts)
        assert not bench.told(ResolveIntent)
        bench.wait(5)


@pytest.mark.parametrize("why", ["resent before", "expired", "partly there"])
def test_what_cannot_be_sent_again_is_given_up(why: str) -> None:
    bench = fresh()
    bench.feed(OPENED)
    orders = family("unknown", resends=int(why == "resent before"))
    parts: dict[str, Any] = {}
    if why == "partly there":
        orders = (picture("entry", "submitted"), *orders[1:])
        parts = {"open_orders": (report("entry", qty=100 * UNIT),)}
    if why == "expired":
        bench.wait(60)
    look(bench, orders, **parts)
    bench.wait(3)
    look(bench, orders, **parts)
    assert [resolve.resolution for resolve in bench.told(ResolveIntent)] == [Resolution.EXPIRE]


def test_an_order_in_flight_neither_shuts_the_gate_nor_counts_as_absent_before_the_grace() -> None:
    bench = opened()
    look(bench, family("pending", since_ns=bench.now_ns))
    assert bench.state.gate_open
    assert not bench.state.absences
    bench.wait(3)
    look(bench, family("pending", since_ns=START), positions_only=True)
    assert StartTimer("again", 2 * SECOND) in bench.effects
    look(bench, family("pending", since_ns=START))
    assert bench.state.absences
    assert bench.state.gate_open


# ---- divergences


def test_a_position_divergence_is_raised_at_once_confirmed_and_shuts_the_gate() -> None:
    """Field note 14: it is confirmed flat at the broker, not here, that counts; resting orders refill."""
    bench = opened()
    look(bench, (), (position(5),), positions_only=True)
    assert alarms(bench)["divergence.position_missing_there.ACME"] == "warning"
    assert bench.state.gate_open
    bench.wait(2)
    look(bench, (), (position(5),))
    assert alarms(bench)["divergence.position_missing_there.ACME"] == "critical"
    assert len(bench.told(RevokeGate)) == 2
    assert not bench.state.gate_open
    bench.wait(3)
    look(bench, (), (position(5),))
    assert not bench.told(GrantGate)
    assert not bench.did(AppendLine)
    look(bench, (), (position(5),), positions=(position(5),))
    assert ClearAlarm("divergence.position_missing_there.ACME") in bench.effects
    assert bench.told(GrantGate)
    bench.check_replay()


def test_a_divergence_that_the_next_read_clears_shuts_nothing() -> None:
    bench = opened()
    look(bench, (), (position(5),))
    look(bench, (), (position(5),), positions=(position(5),))
    assert bench.state.gate_open
    assert not bench.state.findings
    assert not bench.told(RevokeGate)


def test_by_config_a_divergence_only_alarms() -> None:
    bench = opened(divergence_shuts_gate=False)
    for _ in range(3):
        look(bench, (), (position(5),))
    assert bench.state.gate_open
    assert bench.state.findings


def test_a_divergence_survives_a_restart_and_a_read_that_cannot_speak_of_it() -> None:
    bench = opened()
    look(bench, (picture(),))
    assert alarms(bench) == {f"divergence.missing_there.{order_id()}": "warning"}
    bench.feed(Recovered(4))
    assert alarms(bench) == {f"divergence.missing_there.{order_id()}": "warning"}
    look(bench, (picture(),), positions_only=True)
    assert len(bench.state.findings) == 1
    look(bench, (picture(),), open_orders=(report("entry", qty=100 * UNIT),))
    assert not bench.state.findings


def test_nothing_is_ever_placed_or_cancelled_to_correct_a_divergence() -> None:
    bench = opened()
    look(
        bench,
        (picture(),),
        (position(5),),
        open_orders=(report("entry", qty=40 * UNIT), msgspec.structs.replace(report(), client_order_id="by hand")),
        positions=(position(9),),
    )
    assert len(bench.state.findings) == 3
    sent = {type(envelope.body) for envelope in bench.owed}
    assert sent == set()


def test_divergences_are_bounded() -> None:
    bench = opened(findings_max=2)
    strangers = tuple(msgspec.structs.replace(report(), client_order_id="by hand", perm_id=n) for n in range(5))
    look(bench, open_orders=strangers)
    assert len(bench.state.findings) == 2
    assert bench.did(Count).count(Count("finding_untracked")) == 3


def test_a_halt_is_not_the_reconcilers_to_obey() -> None:
    bench = opened()
    before = bench.core
    bench.feed(HaltChanged("test", START))
    assert bench.core is before
