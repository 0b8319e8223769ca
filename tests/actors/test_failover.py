"""Failover and failback of a pair of feeds: a table of health, and the law that a dead one is never preferred."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.failover import FailoverTerms, Health, Pair, decide_pair, health_of
from kernels.book_image import FeedHeader

TERMS = FailoverTerms(lag_ns_max=100, failback_ns=1_000)
WELL, LATE, DEAD = Health(True, 10), Health(True, 101), Health(False, 0)


@pytest.mark.parametrize("feed", [LATE, DEAD])
@pytest.mark.parametrize("twin", [WELL, LATE, DEAD])
def test_a_feed_is_stood_down_exactly_while_its_twin_is_better(feed: Health, twin: Health) -> None:
    decided = decide_pair(Pair(), feed, twin, TERMS, 5)
    assert decided.is_stood_down == (twin == WELL)
    assert decided.failovers == (twin == WELL)
    assert decide_pair(Pair(), WELL, twin, TERMS, 5) == Pair()


def test_it_stands_first_again_only_after_a_time_without_a_break() -> None:
    pair = decide_pair(Pair(), DEAD, WELL, TERMS, 0)
    for now_ns in (10, 500, 1_009):
        pair = decide_pair(pair, WELL, WELL, TERMS, now_ns)
        assert pair.is_stood_down
    pair = decide_pair(pair, LATE, WELL, TERMS, 1_010)
    for now_ns in (1_020, 2_019):
        pair = decide_pair(pair, WELL, WELL, TERMS, now_ns)
        assert pair.is_stood_down
    pair = decide_pair(pair, WELL, WELL, TERMS, 2_020)
    assert (pair.is_stood_down, pair.failovers, pair.failbacks) == (False, 1, 1)


def test_it_stands_first_again_at_once_where_the_twin_is_dead() -> None:
    pair = decide_pair(Pair(), DEAD, WELL, TERMS, 0)
    pair = decide_pair(pair, WELL, DEAD, TERMS, 1)
    assert (pair.is_stood_down, pair.failovers, pair.failbacks) == (False, 2, 0)


HEALTHS = st.sampled_from((WELL, LATE, DEAD))


@given(st.lists(st.tuples(HEALTHS, HEALTHS, st.integers(1, 700)), max_size=40))
def test_whenever_one_is_well_the_preferred_one_is(steps: list[tuple[Health, Health, int]]) -> None:
    pair, now_ns = Pair(), 1
    for feed, twin, step_ns in steps:
        now_ns += step_ns
        before = pair
        pair = decide_pair(pair, feed, twin, TERMS, now_ns)
        preferred = twin if pair.is_stood_down else feed
        if WELL in (feed, twin):
            assert preferred == WELL
        changed = pair.is_stood_down != before.is_stood_down
        moves = pair.failovers + pair.failbacks - before.failovers - before.failbacks
        assert moves == changed


def test_a_header_that_is_down_held_down_or_old_is_no_life() -> None:
    header = FeedHeader(5, 1_000, 3, True, 0, 0, 0, 0, 0)
    assert health_of(header, 1_250, 250) == Health(True, 3)
    assert not health_of(header, 1_251, 250).lives
    assert not health_of(header._replace(up=False), 1_000, 250).lives
    assert not health_of(header._replace(held_down_epoch=5), 1_000, 250).lives
