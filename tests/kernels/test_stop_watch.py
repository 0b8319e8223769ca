"""When a stop is due, against a reading of every print one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernels.stop_watch import (
    EVIDENCE_MAX,
    Crossing,
    Print,
    Range,
    closing_qty,
    crossing_print,
    is_inert,
    open_qty,
    unprotected_qty,
    with_print,
)

PRICES = st.integers(90, 110)
PRINTS = st.lists(PRICES, min_size=1, max_size=60)


def ranges(prices: list[int], every: int) -> list[Range]:
    """Conflate prints (print k at time k + 1) to extremes, the earlier of two equal ones keeping its time."""
    found = []
    for start in range(0, len(prices), every):
        part = list(enumerate(prices[start : start + every], start + 1))
        low = min(part, key=lambda one: (one[1], one[0]))
        high = max(part, key=lambda one: (one[1], -one[0]))
        found.append(Range(low[1], low[0], high[1], high[0], len(part)))
    return found


@given(PRINTS, PRICES, st.booleans(), st.integers(1, 7), st.integers(0, 30))
def test_a_stop_is_due_from_conflated_prints_exactly_when_a_single_print_went_through_it(
    prices: list[int], stop_px: int, is_sell: bool, every: int, active_ns: int
) -> None:
    active_ns -= active_ns % every  # a watch that begins within an interval sees that interval's extremes or the next's
    crossing: Crossing | None = None
    for seen in ranges(prices, every):
        found = crossing_print(is_sell, stop_px, seen, active_ns)
        if found is not None:
            crossing = with_print(crossing, is_sell, found)
    through = [
        (k, px) for k, px in enumerate(prices, 1) if k > active_ns and (px <= stop_px if is_sell else px >= stop_px)
    ]
    assert (crossing is not None) == bool(through)
    if crossing is not None:
        worst = min if is_sell else max
        assert crossing.worst_px == worst(px for _, px in through)
        assert through[0][0] <= crossing.since_ns <= through[0][0] + every - 1
        assert len(crossing.prints) <= EVIDENCE_MAX
        assert crossing.prints[0].at_ns == crossing.since_ns


def test_a_print_before_the_stop_stood_says_nothing() -> None:
    seen = Range(94, 10, 101, 12)
    assert crossing_print(True, 95, seen, active_ns=10) is None
    assert crossing_print(True, 95, seen, active_ns=9) == Print(94, 10)


def test_a_touch_is_a_crossing_on_both_sides() -> None:
    assert crossing_print(True, 95, Range(95, 1, 99, 2), 0) == Print(95, 1)
    assert crossing_print(False, 99, Range(95, 1, 99, 2), 0) == Print(99, 2)
    assert crossing_print(False, 100, Range(95, 1, 99, 2), 0) is None


def test_the_worst_print_is_always_among_the_evidence_however_many_there_were() -> None:
    crossing = None
    for k in range(100):
        crossing = with_print(crossing, True, Print(1000 - k, k))
    assert crossing is not None
    assert (crossing.since_ns, crossing.worst_px, len(crossing.prints)) == (0, 901, EVIDENCE_MAX)
    assert Print(901, 99) in crossing.prints


def test_grace_counts_from_the_crossing_and_anew_from_each_fill() -> None:
    crossing = Crossing(100, 94, (Print(94, 100),))
    assert not is_inert(None, 0, 10**9, 5)
    assert not is_inert(crossing, 0, 104, 5)
    assert is_inert(crossing, 0, 105, 5)
    assert not is_inert(crossing, 103, 105, 5)
    assert is_inert(crossing, 103, 108, 5)


@given(st.integers(-50, 50), st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=6))
def test_what_is_unprotected_is_what_is_left_after_every_closing_stop_has_filled(
    position: int, stops: list[tuple[bool, int]]
) -> None:
    left = position
    for is_sell, qty in stops:
        if left > 0 and is_sell:
            left = max(left - qty, 0)
        elif left < 0 and not is_sell:
            left = min(left + qty, 0)
    assert unprotected_qty(position, stops) == abs(left)


@given(st.integers(0, 100), st.lists(st.integers(0, 40), max_size=4))
def test_a_bracket_holds_what_entered_and_did_not_leave(entry: int, exits: list[int]) -> None:
    assert open_qty(entry, exits) == max(entry - sum(exits), 0)


@given(st.integers(0, 50), st.booleans(), st.integers(-60, 60), st.integers(-60, 60))
def test_a_close_never_turns_over_a_position_that_the_brackets_do_not_explain(
    held: int, is_sell: bool, position: int, explained: int
) -> None:
    qty = closing_qty(held, is_sell, position, {"ACME": explained}, "ACME")
    assert 0 <= qty <= held
    if explained != position and qty:
        after = position - qty if is_sell else position + qty
        assert position * after >= 0
    if explained == position:
        assert qty == held
