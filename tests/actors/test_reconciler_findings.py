"""What becomes of a divergence from read to read, orders and positions of others, and a person's read."""

from __future__ import annotations

import msgspec
import pytest

from actors.effects import AppendLine, Project
from actors.external_orders import ExternalOrders
from actors.messages import DivergenceChanged, PicturesTaken, ReadVenue, ReconcileNow, Recovered, VenuePosition
from actors.reconciler_state import BLOCKING, ReconcilerState, ReconcileView, view_of
from kernels.reconcile import OurFill
from tests.actors.money_bench import SECOND, START, UNIT, Bench, execution, report, venue_read
from tests.actors.test_reconciler import fresh, look, opened, picture, position


def lines(bench: Bench[ReconcilerState]) -> list[DivergenceChanged]:
    return [line.body for line in bench.did(AppendLine) if isinstance(line.body, DivergenceChanged)]


def shown(bench: Bench[ReconcilerState]) -> ReconcileView:
    (row,) = bench.did(Project)
    assert isinstance(row.value, ReconcileView)
    return row.value


def test_a_divergence_has_its_times_its_read_and_a_line_for_each_change_over_a_restart() -> None:
    bench = opened()
    first_ns = bench.now_ns
    changes = []
    for _ in range(3):
        look(bench, (), (position(5),))
        changes += [line.change for line in lines(bench)]
        bench.wait(2)
    assert changes == ["raised", "confirmed"]
    bench.feed(Recovered(4))
    look(bench, (), (position(5),))
    assert not lines(bench)
    (one,) = shown(bench).findings
    assert (one.kind, one.subject, one.confirmed, one.blocks) == ("position_missing_there", "ACME", True, True)
    assert (one.first_ns, one.last_ns, one.request_id) == (first_ns, bench.now_ns, "r1")
    assert one.evidence == "ours 500000000, venue's 0 (1e-8)"
    bench.wait(7)
    look(bench)
    view = shown(bench)
    assert not view.findings
    assert [(gone.subject, gone.first_ns, gone.cleared_ns) for gone in view.cleared] == [
        ("ACME", first_ns, bench.now_ns)
    ]
    (line,) = lines(bench)
    assert (line.change, line.first_ns, line.at_ns) == ("cleared", first_ns, bench.now_ns)
    bench.check_replay()


@pytest.mark.parametrize("failed", ["open_orders", "completed_orders", "executions", "positions"])
def test_a_failed_query_neither_raises_nor_confirms_nor_clears(failed: str) -> None:
    bench = opened()
    look(bench, (), (position(5),))
    before = bench.state.findings
    look(bench, failed=(failed,))
    assert bench.state.findings == before
    assert shown(bench).failed == (failed,)
    look(bench, (picture(),), (position(9),), failed=(failed,))
    assert bench.state.findings == before
    look(bench)
    assert not bench.state.findings
    assert shown(bench).failed == ()


def test_a_fill_that_we_never_folded_shuts_the_gate_and_a_late_commission_does_not() -> None:
    bench = opened(commission_late_ns=10 * SECOND)
    told = msgspec.structs.replace(execution("e1.01", 5), ts_event_ns=START)
    own = OurFill("e2", 1, "ACME", 5 * UNIT, 100 * UNIT, START, False)
    bench.wait(11)
    for _ in range(2):
        bench.feed(PicturesTaken(venue_read("S1", bench.now_ns, executions=(told,)), (), (), (own,)))
        bench.wait(2)
    assert {one.kind: one.blocks for one in view_of(bench.state, BLOCKING).findings} == {
        "missing_fill": True,
        "commission": False,
    }
    assert not bench.state.gate_open
    bench.feed(PicturesTaken(venue_read("S1", bench.now_ns, executions=(told,)), (), (), (), bench.now_ns))
    assert not bench.state.findings
    assert bench.state.gate_open


def test_average_prices_are_compared_beyond_what_commissions_explain() -> None:
    bench = opened(average_bps_max=10)
    mine = VenuePosition("DU1", "ACME", 10 * UNIT, 100 * UNIT, UNIT)
    near, far = (VenuePosition("DU1", "ACME", 10 * UNIT, px) for px in (100 * UNIT + UNIT // 5, 101 * UNIT))
    look(bench, (), (mine,), positions=(near,))
    assert not bench.state.findings
    for _ in range(2):
        look(bench, (), (mine,), positions=(far,), positions_only=True)
    assert list(bench.state.findings) == ["average_price.ACME"]
    assert bench.state.gate_open


def test_a_position_of_another_account_is_not_ours_to_compare() -> None:
    bench = opened()
    look(bench, positions=(msgspec.structs.replace(position(5), account="DU2"),))
    assert not bench.state.findings


STRANGER = msgspec.structs.replace(report("entry", qty=40 * UNIT), client_order_id="by hand", perm_id=77)


@pytest.mark.parametrize(
    ("policy", "followed", "found"),
    [("alert", (), True), ("ignore", (), False), ("adopt", (77,), False), ("adopt", (), True)],
)
def test_orders_of_others_are_alarmed_ignored_or_followed(policy: str, followed: tuple[int, ...], found: bool) -> None:
    """Field note 12: working brackets came back after a restart as unknown external orders, unmanaged."""
    bench = opened(external_orders=ExternalOrders(policy))
    for _ in range(2):
        read = venue_read("S1", bench.now_ns, open_orders=(STRANGER,))
        bench.feed(PicturesTaken(read, (), (), externals=followed))
    assert list(bench.state.findings) == (["external_order.perm:77"] if found else [])
    assert bench.state.gate_open


@pytest.mark.parametrize(("counts", "gate_open"), [(True, False), (False, True)])
def test_a_position_that_somebody_else_has_shuts_the_gate_only_where_it_counts(counts: bool, gate_open: bool) -> None:
    bench = opened(external_positions_count=counts)
    for _ in range(2):
        look(bench, positions=(position(5),))
    assert bench.state.gate_open is gate_open
    for _ in range(2):
        look(bench, (), (position(3),), positions=(position(5),))
    assert not bench.state.gate_open  # what we hold ourselves is compared in any case


# ---- a person's read


def test_a_person_has_everything_read_at_once_and_is_answered_also_by_a_failure() -> None:
    bench = opened()
    bench.feed(ReconcileNow(START + 5))
    (read,) = bench.told(ReadVenue)
    assert (read.request_id, read.positions_only) == (f"asked.{START + 5}", False)
    failed = msgspec.structs.replace(venue_read("S1", bench.now_ns, failed=("executions",)), request_id=read.request_id)
    bench.feed(PicturesTaken(failed, (), ()))
    assert (shown(bench).answered_ns, shown(bench).failed) == (START + 5, ("executions",))
    bench.feed(ReconcileNow(START + 9))
    good = msgspec.structs.replace(failed, request_id=bench.told(ReadVenue)[0].request_id, failed=())
    bench.feed(PicturesTaken(good, (), ()))
    assert (shown(bench).answered_ns, shown(bench).failed) == (START + 9, ())
    bench.check_replay()


def test_a_person_who_asks_without_a_session_is_answered_at_once() -> None:
    bench = fresh()
    bench.feed(ReconcileNow(START + 5))
    assert not bench.told(ReadVenue)
    assert (shown(bench).answered_ns, shown(bench).gate) == (START + 5, "shut: no broker session")
