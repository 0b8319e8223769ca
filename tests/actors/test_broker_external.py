"""Orders that are not ours, at our account: left alone in every policy, followed in one. And the row of each fill."""

from __future__ import annotations

import msgspec
import pytest

from actors.broker import Broker
from actors.broker_state import BrokerSettings, BrokerState, OrderView
from actors.effects import Drive, Project, RaiseAlarm
from actors.external_orders import ExternalOrders, FillView
from actors.messages import (
    CommissionReported,
    ExecutionReported,
    OrderReported,
    PicturesTaken,
    PlaceBracket,
    PositionChanged,
    ReadVenue,
    Recovered,
    SessionLost,
    Side,
)
from kernels.order_state import OrderState
from tests.actors.broker_bench import counted, working
from tests.actors.money_bench import START, UNIT, Bench, execution, intent, opened, report, venue_read

HAND = OrderReported(
    "S1", "", 0, 77, 0, "Submitted", symbol="ACME", side="BUY", order_type="LMT", qty=10 * UNIT, limit_px=99 * UNIT
)
"""Placed by a person at the screen: no reference, no order id, client 0."""
BOUND = ExecutionReported("S1", "x.1.01", "", 0, 77, 0, "DU1", "ACME", Side.BUY, 4 * UNIT, 99 * UNIT, 4 * UNIT, START)


def at(policy: str, **settings: int) -> Bench[BrokerState]:
    role = Broker(BrokerSettings(external_orders=ExternalOrders(policy), **settings))
    bench: Bench[BrokerState] = Bench(role)
    bench.feed(Recovered(1))
    bench.feed(opened())
    return bench


def shown(bench: Bench[BrokerState], kind: str) -> dict[str, object]:
    return {row.field: row.value for row in bench.did(Project) if row.key_type == kind}


@pytest.mark.parametrize(("policy", "alarmed"), [("alert", True), ("ignore", False)])
def test_an_order_of_others_is_alarmed_or_only_counted_and_never_kept(policy: str, alarmed: bool) -> None:
    bench = at(policy)
    before = bench.state
    for body in (HAND, BOUND, msgspec.structs.replace(HAND, client_order_id="of another program")):
        bench.feed(body)
        assert counted(bench)["external"] == 1
        assert bool(bench.did(RaiseAlarm)) is alarmed
        assert bench.state is before
        assert not bench.did(Drive)


def test_an_adopted_order_is_followed_by_its_reports_over_a_restart_and_its_fills_move_our_position() -> None:
    """Field note 12: working brackets came back after a restart as unknown external orders, unmanaged."""
    bench = at("adopt")
    bench.feed(HAND)
    assert not bench.did(RaiseAlarm)
    (row,) = shown(bench, "orders").values()
    assert isinstance(row, OrderView)
    assert (row.client_order_id, row.leg, row.state, row.leaves_qty) == ("perm:77", "external", "submitted", 10 * UNIT)
    bench.feed(BOUND)
    assert bench.told(PositionChanged) == [PositionChanged("ACME", 4 * UNIT, 99 * UNIT)] * 1
    assert bench.state.externals["perm:77"].state is OrderState.PARTIALLY_FILLED
    bench.feed(BOUND)
    assert bench.state.positions["ACME"].qty == 4 * UNIT  # told again, counted once
    bench.feed(SessionLost("S1", "gone"))
    bench.feed(Recovered(2))
    bench.feed(opened("S2"))
    bench.feed(msgspec.structs.replace(BOUND, session_id="S2"))
    bench.feed(msgspec.structs.replace(HAND, session_id="S2", status="Cancelled", completed=True, filled_qty=4 * UNIT))
    assert bench.state.externals["perm:77"].state is OrderState.CANCELLED
    assert bench.state.positions["ACME"].qty == 4 * UNIT
    assert not [effect for effect in bench.effects if isinstance(effect, Drive)]
    bench.check_replay()


def test_a_correction_of_an_adopted_fill_corrects_the_position() -> None:
    bench = at("adopt")
    bench.feed(BOUND)
    bench.feed(msgspec.structs.replace(BOUND, exec_id="x.1.02", last_qty=3 * UNIT))
    assert bench.state.positions["ACME"].qty == 3 * UNIT
    (row,) = shown(bench, "fills").values()
    assert isinstance(row, FillView)
    assert (row.corrected, row.external, row.exec_id) == (True, True, "x.1.02")


def test_an_execution_of_another_account_moves_nothing() -> None:
    bench = at("adopt")
    bench.feed(msgspec.structs.replace(BOUND, account="DU2"))
    assert counted(bench)["external_of_another_account"] == 1
    assert not bench.state.positions


def test_an_order_without_a_perm_id_cannot_be_followed_and_is_alarmed() -> None:
    bench = at("adopt")
    bench.feed(msgspec.structs.replace(HAND, perm_id=0))
    assert counted(bench)["external_without_perm_id"] == 1
    assert bench.did(RaiseAlarm)
    assert not bench.state.externals


def test_an_adopted_order_that_a_complete_read_lists_no_more_is_over() -> None:
    bench = at("adopt")
    bench.feed(HAND)
    bench.feed(venue_read("S1", bench.now_ns, failed=("open_orders",)))
    assert bench.state.externals["perm:77"].state is OrderState.SUBMITTED  # a failed query is not absence
    bench.feed(venue_read("S1", bench.now_ns, positions_only=True))
    assert bench.state.externals["perm:77"].state is OrderState.SUBMITTED
    bench.feed(venue_read("S1", bench.now_ns, open_orders=(HAND,)))
    assert bench.told(PicturesTaken)[0].externals == (77,)
    bench.feed(venue_read("S1", bench.now_ns))
    assert bench.state.externals["perm:77"].state is OrderState.UNKNOWN
    assert counted(bench)["external_unlisted"] == 1


def test_what_is_followed_is_bounded_and_the_oldest_that_is_over_makes_room() -> None:
    bench = at("adopt", externals_max=2)
    for perm_id, status in ((1, "Submitted"), (2, "Cancelled"), (3, "Submitted"), (4, "Submitted")):
        bench.feed(msgspec.structs.replace(HAND, perm_id=perm_id, status=status))
    assert list(bench.state.externals) == ["perm:1", "perm:3"]
    assert counted(bench)["external_not_followed"] == 1
    bench.check_replay()


def test_a_completed_order_of_before_is_not_taken_up() -> None:
    bench = at("adopt")
    bench.feed(venue_read("S1", bench.now_ns, completed_orders=(msgspec.structs.replace(HAND, completed=True),)))
    assert not bench.state.externals


# ---- rows of fills


def test_each_fill_has_a_row_that_says_what_is_not_told_yet() -> None:
    bench = working()
    bench.feed(execution("e.1.01", 60))
    (row,) = shown(bench, "fills").values()
    assert isinstance(row, FillView)
    assert (row.exec_id, row.qty, row.px, row.side) == ("e.1.01", 60 * UNIT, 100 * UNIT, "BUY")
    assert (row.commission, row.realized_pnl, row.corrected, row.external) == (None, None, False, False)
    bench.feed(CommissionReported("S1", "e.1.01", UNIT, "USD"))
    (row,) = shown(bench, "fills").values()
    assert isinstance(row, FillView)
    assert (row.commission, row.currency, row.realized_pnl) == (UNIT, "USD", None)


def test_rows_of_fills_are_bounded_as_the_fills_are() -> None:
    bench: Bench[BrokerState] = Bench(Broker(BrokerSettings(fills_max=2)))
    bench.feed(Recovered(1))
    bench.feed(opened())
    bench.feed(PlaceBracket(intent()))
    for number in range(4):
        bench.now_ns += 10**9
        told = msgspec.structs.replace(execution(f"e.{number}.01", 1), ts_event_ns=bench.now_ns)
        bench.feed(told)
    assert shown(bench, "fills")["e.1"] == b""
    assert set(bench.state.fills) == {"e.2", "e.3"}


def test_the_picture_has_the_fills_that_the_read_names_and_those_without_commission() -> None:
    bench = working()
    for number in range(3):
        bench.feed(execution(f"e.{number}.01", 1))
    bench.feed(CommissionReported("S1", "e.0.01", UNIT, "USD"))
    bench.feed(CommissionReported("S1", "e.1.01", UNIT, "USD"))
    bench.feed(ReadVenue("S1", "r1"))
    bench.feed(venue_read("S1", bench.now_ns, executions=(execution("e.1.01", 1),), open_orders=(report(),)))
    (pictures,) = bench.told(PicturesTaken)
    assert [(fill.exec_base, fill.commissioned) for fill in pictures.fills] == [("e.1", True), ("e.2", False)]
    assert {(order.order_type, order.time_in_force) for order in pictures.orders} >= {("MKT", "DAY"), ("STP", "GTC")}
