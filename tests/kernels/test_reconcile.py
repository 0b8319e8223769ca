"""Comparisons of pictures: each class of divergence once, none where the pictures agree."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import ids
from kernels.order_state import OrderState
from kernels.reconcile import (
    FindingKind,
    Holding,
    OurFill,
    OurOrder,
    TheirFill,
    TheirOrder,
    absent,
    compare_fills,
    compare_orders,
    compare_positions,
)

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


def holdings(quantities: dict[str, int]) -> list[Holding]:
    return [Holding(symbol, qty) for symbol, qty in quantities.items()]


POSITIONS = st.dictionaries(st.sampled_from("ABCDE"), st.integers(-3, 3))


@given(POSITIONS, POSITIONS)
def test_positions_differ_exactly_where_their_quantities_do(here: dict[str, int], there: dict[str, int]) -> None:
    found = compare_positions(holdings(here), holdings(there))
    assert [finding.subject for finding in found] == [s for s in "ABCDE" if here.get(s, 0) != there.get(s, 0)]
    for finding in found:
        ours_is, theirs_is = here.get(finding.subject, 0), there.get(finding.subject, 0)
        assert (finding.kind is K.POSITION_MISSING_HERE) == (ours_is == 0)
        assert (finding.kind is K.POSITION_MISSING_THERE) == (theirs_is == 0)
        assert f"ours {ours_is}, venue's {theirs_is}" in finding.evidence


def test_an_ignored_symbol_is_not_compared() -> None:
    assert compare_positions([Holding("A", 1)], [Holding("A", 2)], frozenset({"A"})) == ()


@pytest.mark.parametrize(
    ("theirs_px", "slack_px", "bps_max", "differs"),
    [
        (10_004, 0, 5, False),
        (10_006, 0, 5, True),
        (9_994, 0, 5, True),
        (10_006, 1, 5, False),
        (20_000, 0, 0, False),
        (0, 0, 5, False),
    ],
)
def test_average_prices_may_differ_by_the_tolerance_and_the_commission(
    theirs_px: int, slack_px: int, bps_max: int, differs: bool
) -> None:
    mine = [Holding("A", 3, 10_000, slack_px)]
    found = compare_positions(mine, [Holding("A", 3, theirs_px)], average_bps_max=bps_max)
    assert [finding.kind for finding in found] == ([K.AVERAGE_PRICE] if differs else [])


def test_average_prices_of_other_quantities_are_not_compared() -> None:
    found = compare_positions([Holding("A", 3, 100)], [Holding("A", 2, 900)], average_bps_max=1)
    assert [finding.kind for finding in found] == [K.POSITION]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"side": "SELL"}, "side BUY here, SELL there"),
        ({"order_type": "STP"}, "type LMT here, STP there"),
        ({"time_in_force": "GTC"}, "time in force DAY here, GTC there"),
        ({"symbol": "OTHER"}, "symbol ACME here, OTHER there"),
    ],
)
def test_an_order_in_both_pictures_on_other_terms_is_found(changed: dict[str, str], words: str) -> None:
    terms = {"side": "BUY", "order_type": "LMT", "time_in_force": "DAY"}
    mine = msgspec.structs.replace(ours(), **terms)
    same = msgspec.structs.replace(theirs(), **terms)
    assert kinds([mine], [same]) == []
    assert kinds([mine], [theirs()]) == []  # what the venue does not say is not another thing
    found = compare_orders([mine], [msgspec.structs.replace(same, **changed)], TAG)
    assert [(finding.kind, finding.evidence) for finding in found] == [(K.TERMS, words)]


def own_fill(**changed: object) -> OurFill:
    return msgspec.structs.replace(OurFill("e1", 1, "ACME", 5, 100, 1_000, True), **changed)


def their_fill(**changed: object) -> TheirFill:
    return msgspec.structs.replace(TheirFill("e1", 1, REF, "ACME", 5, 100, 1_000), **changed)


def fill_kinds(mine: list[OurFill], listed: list[TheirFill], known_from_ns: int = 0) -> list[tuple[FindingKind, str]]:
    return [(one.kind, one.subject) for one in compare_fills(mine, listed, TAG, known_from_ns, 500)]


def test_an_execution_that_was_never_folded_is_found() -> None:
    assert fill_kinds([own_fill()], [their_fill()]) == []
    assert fill_kinds([], [their_fill()]) == [(K.MISSING_FILL, "e1")]
    assert fill_kinds([], [their_fill(client_order_id="by hand")]) == []
    assert fill_kinds([], [their_fill()], known_from_ns=1_000) == []  # of that age ours are positions only
    assert fill_kinds([own_fill()], [their_fill(), their_fill(revision=2)]) == [(K.MISSING_FILL, "e1")]
    assert fill_kinds([own_fill(revision=2)], [their_fill(), their_fill(revision=2)]) == []
    assert fill_kinds([own_fill()], []) == []  # the venue tells those of its day only


def test_a_commission_that_nobody_tells_is_found_after_its_time() -> None:
    assert fill_kinds([own_fill(commissioned=False, ts_event_ns=499)], []) == [(K.COMMISSION, "e1")]
    assert fill_kinds([own_fill(commissioned=False, ts_event_ns=500)], []) == []


def test_an_order_is_absent_only_if_neither_lists_nor_executions_know_it() -> None:
    assert absent(REF, 0, [], [])
    assert absent(REF, 0, [theirs(ref="other")], [("other", 7)])
    assert not absent(REF, 0, [theirs()], [])
    assert not absent(REF, 0, [], [(REF, 7)])
    assert not absent(REF, 7, [theirs(ref="")], [])
    assert not absent(REF, 7, [], [("", 7)])
    assert absent(REF, 0, [theirs(ref="", perm_id=0)], [("", 0)])
