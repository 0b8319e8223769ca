"""The judgements behind the alarms: by hand, on their boundaries, and against oracles that count everything anew."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.suspicion import (
    NAMES_MAX,
    Fall,
    Growth,
    Jump,
    Lag,
    RateLimits,
    Repeats,
    Stage,
    StageLimits,
    counts_degraded_path,
    find_most,
    judge_rate,
)

NAMES = st.lists(st.sampled_from("abcd"), max_size=30)


@given(NAMES, st.integers(1, 12), st.sampled_from([0.25, 0.5, 0.6, 1.0]))
def test_the_name_that_takes_most_is_the_one_a_count_of_each_finds(
    names: list[str], count_min: int, share: float
) -> None:
    found = find_most(names, count_min, share)
    by_hand = sorted(((names.count(name), -names.index(name), name) for name in set(names)), reverse=True)
    enough = len(names) >= count_min and Fraction(by_hand[0][0], len(names)) >= Fraction(str(share)) if names else False
    assert (found is not None) == enough
    if found is not None:
        assert (found.taken, found.name, found.total) == (by_hand[0][0], by_hand[0][2], len(names))


# ---- a rate against its own history


@pytest.mark.parametrize(
    ("history", "in_window", "finds"),
    [
        ((), 1_000, None),
        ((30, 30), 1_000, None),
        ((30, 30, 30), 299, None),
        ((30, 30, 30), 300, Jump(300, 30.0)),
        ((0, 0, 0), 9, None),
        ((0, 0, 0), 10, Jump(10, 0.0)),
        ((0, 1, 0, 0), 15, Jump(15, 0.25)),  # the stale leg: fifteen a minute where there was next to none
        ((30, 30, 30, 0), 0, Fall(1, 30.0)),
        ((30, 30, 30, 0), 1, None),
        ((30, 30, 30), 0, None),  # the window in progress proves nothing yet
        ((5, 5, 5, 0, 0, 0), 0, None),  # 15 expected
        ((5, 5, 5, 0, 0, 0, 0), 0, Fall(4, 5.0)),  # 20 expected
        ((100, 0, 0, 100, 0, 0), 0, None),  # never steady
        ((30, 30, 0), 0, None),  # two windows are no history
        ((0, 0, 0, 0), 0, None),
    ],
)
def test_a_rate_is_judged_by_the_windows_before_it(
    history: tuple[int, ...], in_window: int, finds: Jump | Fall | None
) -> None:
    assert judge_rate(history, in_window) == finds


@given(st.lists(st.integers(0, 50), min_size=3, max_size=30))
def test_what_repeats_its_own_history_is_never_a_jump(history: list[int]) -> None:
    assert not isinstance(judge_rate(history, max(history), RateLimits(jump_count_min=51)), Jump)


def test_a_new_rate_is_called_out_until_it_has_become_usual() -> None:
    history = [1] * 30
    verdicts = []
    for _ in range(30):
        verdicts.append(isinstance(judge_rate(history, 100), Jump))
        history = [*history[1:], 100]
    assert verdicts[0]
    assert not verdicts[-1]
    assert verdicts == sorted(verdicts, reverse=True), "once usual, it stays so"


# ---- a stage


def run_windows(stage: Stage, *windows: tuple[int, int]) -> None:
    for went_in, came_out in windows:
        stage.add(went_in, came_out)
        stage.end_window()


def test_a_stage_whose_pass_rate_falls_to_nothing_is_blocked_as_soon_as_twenty_should_have_passed() -> None:
    stage = Stage(must_pass=False)
    run_windows(stage, *[(1_000, 100)] * 5)
    stage.add(199, 0)
    assert stage.judge() is None
    stage.add(1, 0)
    blocked = stage.judge()
    assert blocked is not None
    assert (blocked.went_in, blocked.came_out, blocked.usual_share) == (200, 0, 0.1)
    stage.add(1, 1)
    assert stage.judge() is None, "one that passed ends it"


def test_the_score_that_left_its_bounds_dropped_every_signal_in_silence_and_is_called_out() -> None:
    """Field note 1: a pass rate of 0 % from the first on, so that there is no history to know it by."""
    must, may = Stage(must_pass=True), Stage(must_pass=False)
    for stage in (must, may):
        stage.add(900, 0)
        stage.end_window()
        stage.add(99, 0)
        stage.end_window()
        assert stage.judge() is None
        stage.add(1, 0)
    assert must.judge() == (1_000, 0, 0.0)
    assert may.judge() is None


def test_what_comes_out_may_begin_a_window_later_than_what_goes_in() -> None:
    stage = Stage(must_pass=True)
    stage.add(50_000, 0)
    assert stage.judge() is None
    stage.end_window()
    stage.add(50_000, 0)
    assert stage.judge() is None
    stage.end_window()
    assert stage.judge() == (100_000, 0, 0.0)
    stage.add(1, 1)
    assert stage.judge() is None


def test_a_trickle_of_less_than_a_hundredth_is_as_good_as_nothing() -> None:
    stage = Stage(must_pass=True)
    run_windows(stage, *[(10_000, 9_000)] * 4, (10_000, 80))
    blocked = stage.judge()
    assert blocked is not None
    assert (blocked.went_in, blocked.came_out) == (10_000, 80)
    stage.add(1_000, 900)
    assert stage.judge() is None


def test_a_stage_into_which_nothing_goes_is_not_blocked() -> None:
    stage = Stage(must_pass=True)
    run_windows(stage, *[(1_000, 900)] * 4, *[(0, 0)] * 40)
    assert stage.judge() is None
    stage.add(100, 0)
    assert stage.judge() is not None, "and its history stands, however long ago"


def test_for_any_course_a_stage_that_passed_something_now_is_not_dry_and_one_that_must_is_found() -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    source = random.Random(seed)
    limits = StageLimits(expected_min=20, never_passed_min=300)
    for _ in range(200):
        stage = Stage(must_pass=True, limits=limits)
        course = [(source.randrange(200), source.choice([0, 0, 1, 5])) for _ in range(20)]
        dry = 0
        for went_in, came_out in course:
            came_out = min(came_out, went_in)
            stage.add(went_in, came_out)
            dry = 0 if came_out else dry + went_in
            assert stage.judge() is None, "no window has ended: nothing is known yet"
        stage.add(300, 0)
        for _ in range(2):
            stage.end_window()
        assert stage.judge() == (dry + 300, 0, 0.0)


# ---- lag


def test_a_lag_is_too_long_by_its_limit_only_if_it_lasts() -> None:
    lag = Lag(1_000.0, 20.0, 100.0)
    for value in (1_500.0, 1_500.0, 1_500.0, 1_500.0):
        lag.add(value)
        assert lag.judge() is None
    lag.add(1_001.0)
    late = lag.judge()
    assert late is not None
    assert (late.lag_ms, late.usual_ms, late.limit_ms) == (1_001.0, 0.0, 1_000.0)
    lag.add(1_000.0)
    assert lag.judge() is None


def test_a_lag_far_beyond_its_own_history_is_too_long_below_the_limit() -> None:
    lag = Lag(1_000.0, 20.0, 100.0)
    for window in range(3):
        for value in (8.0, 10.0, 900.0):
            lag.add(value)
        lag.end_window()
        assert lag.judge() is None, window
    for value in (201.0,) * 5:
        lag.add(value)
    late = lag.judge()
    assert late is not None
    assert (late.usual_ms, late.limit_ms) == (10.0, 200.0)


def test_a_tiny_lag_may_grow_a_hundredfold_below_the_floor() -> None:
    lag = Lag(1_000.0, 20.0, 100.0)
    for _ in range(3):
        lag.add(0.2)
        lag.end_window()
    for _ in range(5):
        lag.add(90.0)
    assert lag.judge() is None


# ---- what repeats


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=4), max_size=12), st.integers(1, 4))
def test_what_grew_in_each_of_the_last_windows_repeats_and_nothing_else(windows: list[list[str]], length: int) -> None:
    repeats = Repeats(length)
    for window in windows:
        for name in window:
            repeats.add(name, 2)
        repeats.add("d", 0)
        repeats.end_window()
    last = windows[-length:]
    expected = {
        name: tuple(2 * window.count(name) for window in last)
        for name in "abc"
        if len(last) == length and all(name in window for window in last)
    }
    assert repeats.judge() == expected


def test_more_names_than_are_watched_are_counted() -> None:
    repeats = Repeats(1)
    for number in range(NAMES_MAX + 3):
        repeats.add(f"name {number}", 1)
    repeats.add("name 0", 1)
    assert repeats.names_dropped == 3
    repeats.end_window()
    assert len(repeats.judge()) == NAMES_MAX


@pytest.mark.parametrize(
    "name",
    ["rejected.not_json", "refused.http_429", "quantity_capped", "skipped.busy", "overruns", "ticks_late", "bus_lost",
     "opportunities.suppressed", "opportunities.unconfirmed", "beats_withheld", "held_down", "audit_mismatches",
     "ignored_unknown", "trace_lines_failed", "resent_owed", "audit_venue_away", "snapshot_still_writing",
     "reference.mismatched", "events_full", "reconnects", "unexpected", "unaddressed"],
)  # fmt: skip
def test_a_degraded_path_is_known_by_its_counters_name(name: str) -> None:
    assert counts_degraded_path(name)


@pytest.mark.parametrize(
    "name",
    ["frames", "parsed", "evaluations", "candidates", "opportunities.told", "wakes", "changes", "standing", "lag_us",
     "rows_valid", "audited", "snapshots", "events", "commands", "beats", "owed", "feeds_up", "rescans", "looks"],
)  # fmt: skip
def test_what_goes_well_is_no_warning(name: str) -> None:
    assert not counts_degraded_path(name)


# ---- growth over incarnations


def test_growth_is_the_difference_and_a_successor_counts_from_zero() -> None:
    growth = Growth()
    assert growth.of("feed", 1, {"frames": 50}) == {}, "before the first look nothing is known"
    assert growth.of("feed", 1, {"frames": 70, "new": 3}) == {"frames": 20, "new": 3}
    assert growth.of("feed", 2, {"frames": 5}) == {"frames": 5}
    assert growth.of("feed", 2, {"frames": 4}) == {"frames": 0}, "a gauge may fall"
    assert growth.of("book", 9, {"frames": 4}) == {}
