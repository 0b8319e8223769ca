"""Comparisons of pictures: each class of divergence once, none where the pictures agree."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernels import ids
from kernels.order_state import OrderState
from kernels.reconcile import FindingKind, OurOrder, TheirOrder, absent, compare_orders, compare_positions

S, K = OrderState, FindingKind
TAG = ids.fund_tag("apex")
REF = ids.client_order_id("apex", "s", "entry")


def ours(state: OrderState = S.SUBMITTED, **changed: int) -> OurOrder:
    figures = {"qty": 100, "cum_qty": 0, "perm_id": 7, "limit_px": 10, "stop_px": 0} | changed
    return OurOrder(REF, state, "ACME", **figures)


def theirs(ref: str = REF, status: str = "Submitted", completed: bool = False, **changed: int) -> TheirOrder:
    figures = {"perm_id": 7, "qty": 100, "filled_qty": 0, "limit_px": 10, "stop_px": 0} | changed
    return TheirOrder(ref, symbol="ACME", status=status, completed=completed, **figures)


def kinds(mine: list[OurOrder], listed: list[TheirOrder]) -> list[FindingKind]:
    return [finding.kind for finding in compare_orders(mine, listed, TAG)]


def test_the_same_picture_has_no_finding() -> None:
    assert kinds([ours()], [theirs()]) == []
    assert kinds([ours(S.FILLED, cum_qty=100)], [theirs(status="Filled", completed=True, filled_qty=100)]) == []
    assert kinds([ours(S.CANCELLED)], [theirs(status="Cancelled", completed=True)]) == []
    assert kinds([ours(S.REJECTED)], [theirs(status="Inactive")]) == []
    assert kinds([ours(S.FILLED, cum_qty=100)], []) == []


def test_each_divergence_is_classified() -> None:
    assert kinds([ours()], []) == [K.MISSING_THERE]
    assert kinds([], [theirs()]) == [K.MISSING_HERE]
    assert kinds([], [theirs(ref="by hand")]) == [K.EXTERNAL_ORDER]
    assert kinds([ours()], [theirs(qty=60)]) == [K.QUANTITY]
    assert kinds([ours()], [theirs(limit_px=11)]) == [K.PRICE]
    assert kinds([ours()], [theirs(status="Cancelled", completed=True)]) == [K.STATE]
    assert kinds([ours(S.CANCELLED)], [theirs()]) == [K.STATE]


def test_one_modify_that_left_two_live_perm_ids_is_found() -> None:
    assert kinds([ours()], [theirs(), theirs(perm_id=8)]) == [K.TWO_PERM_IDS]
    assert kinds([ours()], [theirs(perm_id=8)]) == [K.TWO_PERM_IDS]


def test_partial_fills_that_left_a_child_of_the_wrong_size_are_found() -> None:
    assert kinds([ours(qty=40)], [theirs(qty=100)]) == [K.QUANTITY]
    assert kinds([ours(S.PARTIALLY_FILLED, cum_qty=40)], [theirs(filled_qty=60)]) == [K.QUANTITY]


def test_orders_of_other_days_that_the_venue_lists_as_done_are_no_finding() -> None:
    assert kinds([], [theirs(status="Filled", completed=True)]) == []


def test_an_order_that_ends_while_it_is_read_is_judged_by_its_end() -> None:
    listed = [theirs(), theirs(status="Filled", completed=True, filled_qty=100)]
    assert kinds([ours(S.FILLED, cum_qty=100)], listed) == []


def test_identity_is_reference_and_perm_id_never_the_order_id() -> None:
    assert kinds([ours()], [theirs(ref="")]) == []
    assert kinds([ours(perm_id=0)], [theirs(ref="", perm_id=9)]) == [K.EXTERNAL_ORDER, K.MISSING_THERE]


POSITIONS = st.dictionaries(st.sampled_from("ABCDE"), st.integers(-3, 3))


@given(POSITIONS, POSITIONS)
def test_positions_differ_exactly_where_their_quantities_do(here: dict[str, int], there: dict[str, int]) -> None:
    found = [finding.subject for finding in compare_positions(here.items(), there.items())]
    assert found == [symbol for symbol in "ABCDE" if here.get(symbol, 0) != there.get(symbol, 0)]


def test_an_ignored_symbol_is_not_compared() -> None:
    assert compare_positions([("A", 1)], [("A", 2)], frozenset({"A"})) == ()


def test_an_order_is_absent_only_if_neither_lists_nor_executions_know_it() -> None:
    assert absent(REF, 0, [], [])
    assert absent(REF, 0, [theirs(ref="other")], [("other", 7)])
    assert not absent(REF, 0, [theirs()], [])
    assert not absent(REF, 0, [], [(REF, 7)])
    assert not absent(REF, 7, [theirs(ref="")], [])
    assert not absent(REF, 7, [], [("", 7)])
    assert absent(REF, 0, [theirs(ref="", perm_id=0)], [("", 0)])
