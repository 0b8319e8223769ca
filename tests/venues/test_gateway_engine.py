"""The order engine by hand-worked stories: who is told what, in which order."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.venues.gateway_bench import Bench
from venues.gateway.model import ErrorTold
from venues.gateway.settings import Manners


def test_a_market_order_is_told_in_ibs_order() -> None:
    said = Bench().place(1, "BUY", "10")
    assert said == ["1 PreSubmitted", "1 fill 10@100.01", "1 Filled", "1 commission"]


def test_a_resting_limit_fills_at_its_limit_and_a_crossing_one_at_the_touch() -> None:
    bench = Bench()
    assert bench.place(1, "BUY", "10", "LMT", limit="99.00") == ["1 Submitted"]
    assert bench.quote("98.00", "98.02") == ["1 fill 10@99.00", "1 Filled", "1 commission"]
    assert bench.place(2, "SELL", "10", "LMT", limit="90.00")[1] == "2 fill 10@98.00"


def test_manners_choose_between_recorded_behaviours() -> None:
    bench = Bench(Manners(presubmit_first=True, pending_cancel=True))
    assert bench.place(1, "BUY", "10", "LMT", limit="90") == ["1 PreSubmitted", "1 Submitted"]
    assert bench.cancel(1) == ["1 PendingCancel", "1 Cancelled", "1 error 202"]


def test_staged_legs_say_nothing_until_the_last_one_releases_the_family() -> None:
    bench = Bench()
    assert bench.bracket(1, "10", "99", "105", "95") == [
        "1 Submitted",
        "2 PreSubmitted child",
        "3 PreSubmitted child,trigger",
    ]
    parent = bench.order(1)
    assert {bench.order(n).oca_group for n in (2, 3)} == {str(parent.perm_id)}
    assert {bench.order(n).oca_type for n in (2, 3)} == {3}


def test_a_filled_parent_frees_its_children_and_a_filled_child_cancels_its_sibling() -> None:
    bench = Bench()
    bench.bracket(1, "10", "99", "105", "95")
    assert bench.quote("98.98", "98.99") == [
        *("1 fill 10@99", "1 Filled", "1 commission"),
        *("2 Submitted", "3 PreSubmitted trigger"),
    ]
    assert bench.quote("105.10", "105.12") == [
        *("2 fill 10@105", "2 Filled", "2 commission"),
        *("3 Cancelled", "3 error 202"),
    ]
    assert bench.store.working_orders() == []


def test_an_elected_stop_is_told_as_submitted_before_it_fills() -> None:
    bench = Bench()
    bench.place(1, "BUY", "10")
    bench.place(2, "SELL", "10", "STP", stop="95")
    assert bench.quote("94.98", "95.02", "95.01") == []
    assert bench.quote("94.97", "95.02", "95.00") == ["2 Submitted", "2 fill 10@94.97", "2 Filled", "2 commission"]


def test_a_gap_through_the_stop_fills_where_the_market_is() -> None:
    bench = Bench()
    bench.place(1, "BUY", "10")
    bench.place(2, "SELL", "10", "STP", stop="95")
    bench.quote("80.00", "80.10")
    assert bench.order(2).avg_px == Decimal("80.00")


def test_an_inert_stop_is_accepted_and_never_elected() -> None:
    bench = Bench()
    bench.place(2, "SELL", "10", "STP", stop="95")
    assert bench.engine.set_inert(bench.order(2).perm_id, True)
    assert bench.quote("80.00", "80.10") == []
    assert (bench.order(2).status, bench.order(2).why_held) == ("PreSubmitted", "trigger")


def test_a_cancelled_unfilled_parent_takes_its_children() -> None:
    bench = Bench()
    bench.bracket(1, "10", "99", "105", "95")
    assert bench.cancel(1) == [f"{n} {word}" for n in (1, 2, 3) for word in ("Cancelled", "error 202")]


def test_a_parent_that_ends_partly_filled_frees_children_of_that_size() -> None:
    bench = Bench()
    bench.engine.conduct.fill_qty_max = Decimal(4)
    bench.bracket(1, "10", "99", "105", "95")
    bench.quote("98.98", "98.99")
    assert [bench.order(n).held for n in (2, 3)] == [True, True]
    assert bench.cancel(1) == ["1 Cancelled", "1 error 202", "2 Submitted", "3 PreSubmitted trigger"]
    assert [bench.order(n).qty for n in (2, 3)] == [Decimal(4), Decimal(4)]


def test_children_may_follow_a_partly_filled_parent_and_never_sell_more_than_it_bought() -> None:
    bench = Bench(Manners(partial_parent="follow"))
    bench.engine.conduct.fill_qty_max = Decimal(4)
    bench.bracket(1, "10", "99", "105", "95")
    assert bench.quote("98.98", "98.99")[-2:] == ["2 Submitted", "3 PreSubmitted trigger"]
    bench.engine.conduct.fill_qty_max = None
    bench.quote("94.00", "110.00", "94.50")
    assert (bench.order(3).filled, bench.order(2).qty, bench.order(1).filled) == (Decimal(4), Decimal(6), Decimal(4))
    bench.cancel(1)
    assert bench.order(2).status == "Cancelled"
    assert bench.account.positions[bench.order(1).ticket.con_id].qty == 0


def test_a_partial_fill_of_one_child_reduces_the_other() -> None:
    bench = Bench()
    bench.bracket(1, "10", "100.01", "105", "95")
    bench.engine.conduct.fill_qty_max = Decimal(3)
    assert bench.quote("105.10", "105.12") == ["2 fill 3@105", "2 Submitted", "2 commission", "3 PreSubmitted trigger"]
    assert (bench.order(3).qty, bench.order(2).remaining) == (Decimal(7), Decimal(7))


@pytest.mark.parametrize(("oca_type", "qty_left"), [(1, None), (2, 6), (3, 6)])
def test_an_explicit_oca_group_cancels_or_reduces_on_a_partial_fill(oca_type: int, qty_left: int | None) -> None:
    bench = Bench()
    bench.engine.conduct.fill_qty_max = Decimal(4)
    bench.place(1, "BUY", "10", "LMT", limit="90", oca_group="pair", oca_type=oca_type)
    bench.place(2, "BUY", "10", "LMT", limit="99", oca_group="pair", oca_type=oca_type)
    bench.quote("98.98", "98.99")
    if qty_left is None:
        assert bench.order(1).status == "Cancelled"
    else:
        assert (bench.order(1).status, bench.order(1).qty) == ("Submitted", Decimal(qty_left))
    bench.engine.conduct.fill_qty_max = None
    bench.quote("98.98", "98.99")
    assert (bench.order(1).status, bench.order(2).status) == ("Cancelled", "Filled")


def test_transmitting_a_staged_order_by_its_own_id_releases_it_once() -> None:
    bench = Bench()
    assert bench.place(1, "BUY", "10", "LMT", limit="13.26", transmit=False) == []
    assert bench.place(1, "BUY", "10", "LMT", limit="13.27") == ["1 Submitted"]
    assert (len(bench.store.orders), bench.order(1).ticket.limit_px) == (1, Decimal("13.27"))


def test_cancelling_a_staged_parent_drops_its_staged_children() -> None:
    bench = Bench()
    bench.place(1, "BUY", "10", "LMT", limit="99", transmit=False)
    bench.place(2, "SELL", "10", "LMT", limit="105", parent_id=1, transmit=False)
    assert bench.cancel(1) == ["1 error 202", "2 error 202"]
    assert bench.place(3, "SELL", "10", "STP", stop="95", parent_id=1) == ["3 error 10006"]


def test_a_child_of_a_done_parent_is_refused() -> None:
    bench = Bench()
    bench.place(1, "BUY", "10")
    assert bench.place(2, "SELL", "10", "LMT", limit="105", parent_id=1) == ["2 error 135"]
    bench.place(3, "BUY", "10", "LMT", limit="90")
    bench.cancel(3)
    assert bench.place(4, "SELL", "10", "LMT", limit="105", parent_id=3) == ["4 error 201"]


def test_changing_a_child_after_its_parent_filled_needs_the_parent_id_cleared() -> None:
    bench = Bench()
    bench.bracket(1, "10", "100.01", "105", "95")
    assert bench.place(3, "SELL", "10", "STP", stop="96", parent_id=1) == ["3 error 135"]
    assert bench.order(3).ticket.stop_px == Decimal(95)
    assert bench.place(3, "SELL", "10", "STP", stop="96") == ["3 PreSubmitted trigger"]
    assert (bench.order(3).ticket.stop_px, bench.order(3).oca_group) == (Decimal(96), str(bench.order(1).perm_id))


def test_a_modify_that_is_not_transmitted_changes_nothing() -> None:
    bench = Bench()
    bench.place(1, "BUY", "10", "LMT", limit="90")
    assert bench.place(1, "BUY", "10", "LMT", limit="91", transmit=False) == []
    assert bench.order(1).ticket.limit_px == Decimal(90)


def test_ids_are_duplicates_once_used_filled_or_cancelled() -> None:
    bench = Bench()
    bench.place(1, "BUY", "10")
    bench.place(2, "BUY", "10", "LMT", limit="90")
    bench.cancel(2)
    assert bench.place(1, "BUY", "10") == ["1 error 104"]
    assert bench.place(2, "BUY", "10") == ["2 error 103"]
    assert bench.engine.next_order_id(1) == 3
    assert bench.engine.next_order_id(2) == 1


def test_ids_that_rolled_back_are_given_out_again_but_a_working_order_keeps_its_own() -> None:
    bench = Bench()
    bench.place(1, "BUY", "10")
    bench.place(2, "BUY", "10", "LMT", limit="90")
    bench.engine.reset_ids(1, 1)
    assert bench.engine.next_order_id(1) == 1
    assert bench.place(1, "BUY", "5")[-2:] == ["1 Filled", "1 commission"]
    assert bench.place(2, "BUY", "10", "LMT", limit="91") == ["2 Submitted"]
    assert [order.ticket.order_id for order in bench.store.orders.values()] == [1, 2, 1]
    assert len({order.perm_id for order in bench.store.orders.values()}) == 3


def test_a_dropped_orders_id_stays_used() -> None:
    bench = Bench()
    bench.place(1, "BUY", "10")
    bench.store.forget([bench.order(1).perm_id])
    assert bench.place(1, "BUY", "10") == ["1 error 103"]


def test_another_clients_order_is_not_found_by_cancel() -> None:
    bench = Bench()
    bench.place(1, "BUY", "10", "LMT", limit="90")
    bench.engine.cancel(2, 1, bench.now_ns)
    _, [notice] = bench.engine.take()
    assert isinstance(notice, ErrorTold)
    assert (notice.client_id, notice.code) == (2, 10147)


def test_held_fills_wait_and_delayed_fills_come_when_their_time_is_due() -> None:
    bench = Bench()
    bench.engine.conduct.hold_fills = True
    assert bench.place(1, "BUY", "10") == ["1 PreSubmitted"]
    bench.engine.conduct.hold_fills = False
    bench.engine.match_everything(bench.now_ns)
    assert bench.take()[0] == "1 fill 10@100.01"
    bench.engine.conduct.fill_delay_ns = 500
    assert bench.place(2, "BUY", "10") == ["2 PreSubmitted"]
    assert bench.engine.next_due_ns() == bench.now_ns + 500
    bench.now_ns += 499
    bench.engine.advance(bench.now_ns)
    assert bench.take() == []
    bench.now_ns += 1
    bench.engine.advance(bench.now_ns)
    assert bench.take()[0] == "2 fill 10@100.01"
    assert bench.engine.next_due_ns() is None


def test_immediate_or_cancel_and_fill_or_kill_end_at_once() -> None:
    bench = Bench()
    bench.engine.conduct.fill_qty_max = Decimal(4)
    assert bench.place(1, "BUY", "10", "LMT", limit="101", tif="IOC")[1:] == [
        *("1 fill 4@100.01", "1 Submitted", "1 commission", "1 Cancelled", "1 error 202")
    ]
    assert bench.place(2, "BUY", "10", "LMT", limit="101", tif="FOK") == ["2 Inactive"]
    assert bench.place(3, "BUY", "4", "LMT", limit="101", tif="FOK")[-2:] == ["3 Filled", "3 commission"]
    assert bench.place(4, "BUY", "4", "LMT", limit="90", tif="IOC") == ["4 PendingCancel", "4 Cancelled"]
    assert bench.store.open_orders() == []


def test_the_end_of_the_day_cancels_day_orders_only() -> None:
    bench = Bench()
    bench.place(1, "BUY", "10", "LMT", limit="90", tif="DAY")
    bench.place(2, "BUY", "10", "LMT", limit="90", tif="GTC")
    bench.place(3, "BUY", "10", "LMT", limit="90")
    bench.engine.cancel_all(bench.now_ns, tif="DAY")
    assert [bench.order(n).status for n in (1, 2, 3)] == ["Cancelled", "Submitted", "Cancelled"]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"kind": "LMT"}, 321),
        ({"kind": "LMT", "limit": "99.005"}, 110),
        ({"kind": "STP"}, 321),
        ({"kind": "STP LMT", "limit": "99"}, 321),
        ({"kind": "MIT"}, 387),
        ({"kind": "TRAIL"}, 321),
        ({"kind": "TRAIL", "trail_percent": Decimal(100)}, 321),
        ({"kind": "TRAIL LIMIT", "stop": "1"}, 321),
        ({"trigger_method": 5}, 321),
        ({"tif": "GTD", "good_till_ns": -1}, 391),
        ({"kind": "WISH"}, 321),
        ({"qty": "0"}, 321),
        ({"qty": "1e14"}, 321),
        ({"qty": "0.00001"}, 321),
        ({"kind": "LMT", "limit": "1e14"}, 321),
        ({"action": "HOLD"}, 321),
        ({"tif": "GTD"}, 321),
        ({"account": "DU2"}, 321),
        ({"has_conditions": True}, 321),
        ({"parent_id": 77}, 10006),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(more: dict[str, object], code: int) -> None:
    bench = Bench()
    given = {"action": "BUY", "qty": "10", **more}
    assert bench.place(1, **given) == [f"1 error {code}"]  # type: ignore[arg-type]
    assert (bench.records, bench.store.orders, bench.engine.staged) == ([], {}, {})


def test_commissions_have_their_minimum_once_an_order() -> None:
    bench = Bench()
    bench.engine.conduct.fill_qty_max = Decimal(150)
    bench.place(1, "BUY", "500", "LMT", limit="101")
    for _ in range(3):
        bench.quote("99.99", "100.01")
    fees = [fill.commission for fill in bench.store.executions.values()]
    assert fees == [Decimal("1"), Decimal("0.500"), Decimal("0.750"), Decimal("0.250")]
    assert sum(fees) == Decimal("2.5")
