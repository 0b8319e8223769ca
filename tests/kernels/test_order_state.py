"""The transition table against what must hold of any order, stated apart from it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.order_state import (
    DONE,
    TRANSITIONS,
    UNRESOLVED,
    WORKING,
    Incident,
    OrderEvent,
    OrderState,
    fill_event,
    transition,
    venue_event,
)

S, E = OrderState, OrderEvent
PAIRS = list(itertools.product(OrderState, OrderEvent))

ILLEGAL = {
    # Bytes are known not to have left only before anything else is known.
    *((state, E.NOT_SENT) for state in OrderState if state not in (S.PRE_SENT, S.UNKNOWN)),
    # Sent again only while the venue has never been seen to have it; given up also where it took back what it had.
    *((state, E.RESENT) for state in OrderState if state not in UNRESOLVED),
    *((state, E.ABSENT) for state in OrderState if state not in UNRESOLVED | WORKING),
    (S.CANCELLED, E.WORKING),
}


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_each_pair_is_legal_or_an_incident_value_as_listed(state: OrderState, event: OrderEvent) -> None:
    result = transition(state, event)
    if (state, event) in ILLEGAL:
        assert result == Incident(state, event)
    else:
        assert isinstance(result, OrderState)


def test_the_table_names_every_state_and_no_pair_twice() -> None:
    assert set(TRANSITIONS) == set(OrderState)
    assert {(state, event) for state, row in TRANSITIONS.items() for event in row} == set(PAIRS) - ILLEGAL


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_every_legal_event_is_idempotent(state: OrderState, event: OrderEvent) -> None:
    once = transition(state, event)
    if isinstance(once, OrderState) and event is not E.RESENT:
        again = transition(once, event)
        assert again in (once, Incident(once, event))
        if event in (E.NOT_SENT, E.ABSENT):
            return
        assert again == once


@pytest.mark.parametrize("state", list(OrderState))
def test_executions_are_facts_in_every_state_and_a_full_fill_wins(state: OrderState) -> None:
    assert transition(state, E.FILLED_FULLY) is S.FILLED
    assert isinstance(transition(state, E.FILLED_PARTLY), OrderState)


def test_a_fill_after_cancelled_wins_and_a_later_cancelled_does_not_undo_it() -> None:
    filled = transition(S.CANCELLED, E.FILLED_FULLY)
    assert filled is S.FILLED
    assert transition(S.FILLED, E.CANCELLED) is S.FILLED


def test_inactive_is_not_terminal() -> None:
    assert transition(S.SUBMITTED, E.INACTIVE) is S.REJECTED
    assert S.REJECTED not in DONE
    assert transition(S.REJECTED, E.WORKING) is S.SUBMITTED


def test_an_expired_order_that_surfaces_is_adopted() -> None:
    assert transition(S.EXPIRED, E.WORKING) is S.SUBMITTED


@pytest.mark.parametrize("state", sorted(WORKING))
def test_a_working_order_that_the_venue_took_back_expires_and_what_becomes_known_of_it_later_counts(
    state: OrderState,
) -> None:
    assert transition(state, E.ABSENT) is S.EXPIRED
    assert transition(S.EXPIRED, E.FILLED_PARTLY) is S.PARTIALLY_FILLED
    assert transition(S.EXPIRED, E.FILLED_FULLY) is S.FILLED
    assert transition(S.EXPIRED, E.CANCELLED) is S.CANCELLED


@pytest.mark.parametrize("state", sorted(set(OrderState) - UNRESOLVED - WORKING))
def test_an_order_that_is_over_or_refused_is_never_given_up_for_being_absent(state: OrderState) -> None:
    assert transition(state, E.ABSENT) == Incident(state, E.ABSENT)


@given(st.lists(st.sampled_from(list(OrderEvent)), max_size=12))
def test_only_a_lost_session_makes_unknown_and_only_executions_make_filled(events: list[OrderEvent]) -> None:
    state = S.PRE_SENT
    for event in events:
        entered = transition(state, event)
        if isinstance(entered, Incident):
            continue
        if entered is S.FILLED and state is not S.FILLED:
            assert event is E.FILLED_FULLY
        if entered is S.UNKNOWN and state is not S.UNKNOWN:
            assert event is E.LOST
            assert state in UNRESOLVED
        state = entered


@given(st.integers(1, 10**12), st.integers(0, 2 * 10**12))
def test_a_fill_is_full_exactly_when_it_reaches_the_quantity(qty: int, cum_qty: int) -> None:
    assert (fill_event(qty, cum_qty) is E.FILLED_FULLY) == (cum_qty >= qty)


@pytest.mark.parametrize(
    ("status", "perm_id", "listed", "event"),
    [
        ("PreSubmitted", 0, False, E.WORKING),
        ("Submitted", 9, False, E.WORKING),
        ("PendingSubmit", 0, False, None),
        ("PendingSubmit", 9, False, E.WORKING),
        ("PendingSubmit", 0, True, E.WORKING),
        ("PendingCancel", 9, False, E.WORKING),
        ("Filled", 9, False, E.FILL_CLAIMED),
        ("Cancelled", 9, False, E.CANCELLED),
        ("ApiCancelled", 0, False, E.CANCELLED),
        ("Inactive", 9, False, E.INACTIVE),
        ("", 9, True, None),
        ("Something", 9, True, None),
    ],
)
def test_a_status_proves_no_more_than_it_says(
    status: str, perm_id: int, listed: bool, event: OrderEvent | None
) -> None:
    assert venue_event(status, perm_id, listed) is event
