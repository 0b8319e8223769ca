"""A bracket's exits against what its entry has filled: resized, cancelled, a stop put back, and where it ends."""

from __future__ import annotations

import msgspec
import pytest

from actors.broker_state import BrokerState
from actors.effects import ClearAlarm, Count, RaiseAlarm
from actors.messages import (
    CancelOrders,
    CancelVenueOrder,
    HaltChanged,
    ModifyOrder,
    OrderReported,
    OrderType,
    QueryVenue,
    Recovered,
    SessionLost,
    Side,
    SubmitOrders,
    TimerFired,
    VenueErrorReported,
)
from tests.actors.broker_bench import working
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
from tests.actors.test_broker_readback import held

ALARM = f"exits_wrong.{intent().intent_id}"


def partly(filled: int = 40, **settings: object) -> Bench[BrokerState]:
    """An entry of 100 that was cancelled when `filled` had, in a session in which the venue was read."""
    bench = working(**settings)
    bench.feed(venue_read())
    for leg in ("take_profit", "stop_loss"):
        bench.feed(held(leg))
    bench.feed(execution("e.01", filled))
    bench.feed(report("entry", "Cancelled"))
    return bench


def look(bench: Bench[BrokerState], seconds: float = 2.0, *there: OrderReported) -> None:
    """Let time pass; the read that is asked for before anything is mended lists `there`."""
    bench.wait(seconds)
    bench.feed(TimerFired("exits"))
    if {effect.name for effect in bench.did(Count)} & {"exits_looked_up"}:
        session = bench.state.session
        assert session is not None
        bench.feed(venue_read(session.session_id, bench.now_ns, open_orders=there))


def shows(bench: Bench[BrokerState], leg: str, qty: int) -> None:
    bench.feed(held(leg, qty=qty * UNIT, parent_order_id=0))


def without_stop(**settings: object) -> Bench[BrokerState]:
    """An entry filled whole, whose stop the venue has dropped."""
    bench = working(**settings)
    bench.feed(venue_read())
    for leg in ("take_profit", "stop_loss"):
        bench.feed(held(leg))
    bench.feed(execution("e.01", 100))
    bench.feed(report("stop_loss", "Cancelled"))
    return bench


# ---- sizes


def test_children_that_the_venue_resized_by_itself_are_left_alone() -> None:
    bench = partly()
    for leg in ("take_profit", "stop_loss"):
        shows(bench, leg, 40)
    look(bench)
    assert not bench.driven(ModifyOrder)
    assert not bench.state.defects


def test_each_child_is_changed_to_what_filled_under_its_own_id_without_a_parent_and_journaled_first() -> None:
    bench = partly()
    look(bench, 1.0)
    assert not bench.driven(ModifyOrder), "the venue has a while to do it by itself"
    look(bench, 1.0)
    change = bench.driven(ModifyOrder)[0]
    ticket = change.ticket
    assert (ticket.venue_order_id, ticket.client_order_id) == (101, order_id("take_profit"))
    assert (ticket.qty, ticket.limit_px, ticket.parent_order_id, ticket.oca_group) == (40 * UNIT, 110 * UNIT, 0, "900")
    assert ticket.transmit
    assert ticket.time_in_force == "GTC"
    changing = bench.state.families[intent().intent_id].orders[1].modifying
    assert changing is not None
    assert changing.qty == 40 * UNIT
    look(bench)
    assert not bench.driven(ModifyOrder), "not again while the venue has not shown it"
    shows(bench, "take_profit", 40)
    look(bench)
    assert bench.driven(ModifyOrder)[0].ticket.client_order_id == order_id("stop_loss")
    shows(bench, "stop_loss", 40)
    assert not bench.state.defects
    assert [order.qty // UNIT for order in bench.state.families[intent().intent_id].orders] == [100, 40, 40]
    bench.check_replay()


def test_a_fill_after_the_cancel_makes_the_children_larger_again() -> None:
    bench = partly()
    for leg in ("take_profit", "stop_loss"):
        shows(bench, leg, 40)
    bench.feed(execution("e2.01", 20))
    look(bench)
    assert bench.driven(ModifyOrder)[0].ticket.qty == 60 * UNIT


def test_a_change_that_does_not_show_is_looked_up_once_and_tried_again_only_when_the_list_denies_it() -> None:
    bench = partly()
    look(bench)
    look(bench, 10.0)
    assert len(bench.driven(QueryVenue)) == 1
    look(bench, 10.0)
    assert not bench.driven(QueryVenue)
    assert not bench.driven(ModifyOrder)
    there = (held("take_profit"), held("stop_loss"))
    bench.feed(venue_read(taken_ns=bench.now_ns, open_orders=there))
    assert len(bench.driven(ModifyOrder)) == 1


def test_nothing_is_changed_in_a_session_in_which_the_venue_was_not_read() -> None:
    bench = partly()
    bench.feed(SessionLost("S1", "reset"))
    look(bench)
    bench.feed(opened("S2", 103))
    bench.wait(2)
    bench.feed(TimerFired("exits"))
    assert not bench.driven(ModifyOrder)
    assert [query.session_id for query in bench.driven(QueryVenue)] == ["S2"]
    bench.feed(venue_read("S2", bench.now_ns, open_orders=(held("take_profit"), held("stop_loss"))))
    assert bench.driven(ModifyOrder)[0].session_id == "S2"


def test_nothing_is_mended_by_a_read_that_failed_or_was_begun_before_it_was_noticed_and_it_is_asked_for_again() -> None:
    bench = without_stop()
    bench.wait(2)
    bench.feed(TimerFired("exits"))
    assert bench.driven(QueryVenue)
    bench.feed(venue_read(taken_ns=bench.now_ns, begun_ns=START))
    assert not bench.driven(SubmitOrders)
    bench.feed(venue_read(taken_ns=bench.now_ns, failed=("executions",)))
    assert not bench.driven(SubmitOrders)
    bench.wait(9)
    bench.feed(TimerFired("exits"))
    assert not bench.driven(QueryVenue)
    bench.wait(1)
    bench.feed(TimerFired("exits"))
    assert len(bench.driven(QueryVenue)) == 1
    told = execution("t.01", 100, 110, "take_profit", Side.SELL)
    bench.feed(venue_read(taken_ns=bench.now_ns, executions=(told,)))
    assert not bench.driven(SubmitOrders), "a fill that nobody had told explains the missing stop"
    assert not bench.state.defects


def test_a_filled_exit_is_never_changed_and_its_sibling_is_cancelled_where_the_venue_did_not() -> None:
    bench = partly()
    bench.feed(execution("t.01", 40, leg="take_profit", side=Side.SELL))
    look(bench)
    assert not bench.driven(ModifyOrder)
    cancelled = {command.client_order_id for command in bench.driven(CancelVenueOrder)}
    assert cancelled <= {order_id("take_profit"), order_id("stop_loss")}
    assert cancelled


def test_after_so_many_tries_a_person_is_told_and_the_alarm_goes_when_the_sizes_are_right() -> None:
    bench = partly(exit_tries_max=1)
    look(bench)
    bench.feed(VenueErrorReported("S1", 101, 201, "no"))
    bench.feed(venue_read(open_orders=(held("take_profit"), held("stop_loss"))))
    look(bench)
    assert not bench.driven(ModifyOrder)
    assert [one.name for one in bench.did(RaiseAlarm)] == [ALARM]
    look(bench)
    assert not bench.did(RaiseAlarm)
    bench.feed(Recovered(2))
    assert ALARM in [one.name for one in bench.did(RaiseAlarm)]
    bench.feed(opened("S2", 103))
    for leg in ("take_profit", "stop_loss"):
        bench.feed(msgspec.structs.replace(held(leg, qty=40 * UNIT), session_id="S2"))
    assert ClearAlarm(ALARM) in bench.effects
    bench.check_replay()


def test_an_order_id_of_an_earlier_generation_is_not_used_for_a_change() -> None:
    bench = partly()
    bench.feed(SessionLost("S1", "nightly restart"))
    bench.feed(opened("S2", 50))
    bench.feed(venue_read("S2"))
    look(bench)
    assert not bench.driven(ModifyOrder)
    assert "generation DU1/7/1" in next(one.text for one in bench.did(RaiseAlarm) if one.name == ALARM)


# ---- the missing stop


def test_a_stop_that_the_venue_dropped_is_put_back_once_in_the_group_of_what_is_left() -> None:
    bench = without_stop()
    bench.feed(HaltChanged("daily loss", START))
    look(bench)
    command = bench.driven(SubmitOrders)[0]
    ticket = command.tickets[0]
    assert (ticket.order_type, ticket.side, ticket.stop_px) == (OrderType.STOP, Side.SELL, 95 * UNIT)
    assert (ticket.qty, ticket.oca_group, ticket.parent_order_id) == (100 * UNIT, "900", 0)
    assert ticket.client_order_id.endswith("s")
    bench.feed(wrote(command))
    assert not bench.state.defects
    look(bench)
    assert not bench.driven(SubmitOrders)
    bench.check_replay()


def test_a_stop_that_is_dropped_again_and_again_is_put_back_a_few_times_and_then_told() -> None:
    bench = without_stop(exit_tries_max=2)
    for _ in range(2):
        look(bench)
        command = bench.driven(SubmitOrders)[0]
        bench.feed(wrote(command))
        ticket = command.tickets[0]
        told = OrderReported("S1", ticket.client_order_id, ticket.venue_order_id, 990 + ticket.venue_order_id, 7, "")
        bench.feed(msgspec.structs.replace(told, status="Cancelled"))
    look(bench)
    assert not bench.driven(SubmitOrders)
    assert "put back 2 times" in next(one.text for one in bench.did(RaiseAlarm) if one.name == ALARM)


def test_a_stop_that_we_wanted_gone_is_not_put_back() -> None:
    bench = working()
    bench.feed(venue_read())
    bench.feed(execution("e.01", 100))
    bench.feed(CancelOrders((order_id("stop_loss"),), "inert stop"))
    bench.feed(report("stop_loss", "Cancelled"))
    look(bench)
    assert not bench.driven(SubmitOrders)
    assert not bench.state.defects


@pytest.mark.parametrize("why", ["setting", "inactive", "position"])
def test_where_a_stop_cannot_be_put_back_a_person_is_told_why(why: str) -> None:
    bench = working(replace_missing_stop=why != "setting")
    bench.feed(venue_read())
    bench.feed(execution("e.01", 100))
    bench.feed(report("stop_loss", "Inactive" if why == "inactive" else "Cancelled"))
    if why == "position":
        bench.feed(execution("x.01", 100, leg="entry", side=Side.SELL, client_order_id=order_id("exit", "s9")))
    look(bench, 2.0, *((report("stop_loss", "Inactive"),) if why == "inactive" else ()))
    assert not bench.driven(SubmitOrders)
    text = next(one.text for one in bench.did(RaiseAlarm) if one.name == ALARM)
    assert {"setting": "put none back", "inactive": "may be revived", "position": "is held that way"}[why] in text
