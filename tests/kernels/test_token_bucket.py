"""The token bucket, by hand, against a naive oracle in Fractions, and by what must hold of any window."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from kernels.token_bucket import TokenBucket, full, lowered, refilled, take

SECOND = 10**9


def test_a_full_bucket_gives_its_capacity_at_once_and_then_says_how_long_to_wait() -> None:
    bucket = full(5, 10, SECOND, 0)
    for _ in range(5):
        bucket, wait_ns = take(bucket, 1, 0)
        assert wait_ns == 0
    bucket, wait_ns = take(bucket, 1, 0)
    assert wait_ns == SECOND // 10
    assert take(bucket, 3, 0)[1] == 3 * SECOND // 10
    assert take(bucket, 1, SECOND // 10 - 1)[1] == 1
    assert take(bucket, 1, SECOND // 10)[1] == 0


def test_nothing_is_taken_while_the_whole_is_not_there() -> None:
    bucket, _ = take(full(4, 1, SECOND, 0), 3, 0)
    waiting, wait_ns = take(bucket, 2, 0)
    assert (waiting, wait_ns) == (bucket, SECOND)
    assert take(waiting, 1, 0)[1] == 0


def test_a_refill_that_does_not_divide_the_period_loses_nothing() -> None:
    bucket, _ = take(full(7, 3, 7, 0), 7, 0)
    for now_ns in range(1, 8):
        bucket = refilled(bucket, now_ns)
    assert bucket.units == 3 * 7
    assert take(bucket, 3, 7)[1] == 0
    assert take(bucket, 4, 7)[1] == 3


def test_a_clock_that_goes_back_adds_nothing_and_the_wait_counts_from_its_new_time() -> None:
    bucket, _ = take(full(1, 1, SECOND, 10 * SECOND), 1, 10 * SECOND)
    assert refilled(bucket, 3 * SECOND) == bucket
    wait_ns = take(bucket, 1, 9 * SECOND)[1]
    assert wait_ns == 2 * SECOND
    assert take(bucket, 1, 9 * SECOND + wait_ns)[1] == 0


def test_the_other_side_may_lower_the_level_and_never_raises_it() -> None:
    bucket = full(10, 1, SECOND, 0)
    assert take(lowered(bucket, 2, 0), 3, 0)[1] == SECOND
    assert lowered(lowered(bucket, 2, 0), 9, 0) == lowered(bucket, 2, 0)
    assert lowered(bucket, -5, 0).units == 0


@pytest.mark.parametrize(("capacity", "refill", "period_ns"), [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-1, 1, 1)])
def test_a_bucket_that_could_never_give_is_refused(capacity: int, refill: int, period_ns: int) -> None:
    with pytest.raises(ValueError, match="allowed: above 0"):
        full(capacity, refill, period_ns, 0)


@pytest.mark.parametrize("tokens", [-1, 6])
def test_more_than_the_capacity_is_refused_rather_than_waited_for_for_ever(tokens: int) -> None:
    with pytest.raises(ValueError, match="capacity, 5"):
        take(full(5, 1, 1, 0), tokens, 0)


@pytest.mark.parametrize("seed", range(20))
def test_the_kernel_agrees_with_a_naive_bucket_of_fractions(seed: int) -> None:
    print("seed", seed)
    rng = random.Random(seed)
    capacity, refill, period_ns = rng.randint(1, 50), rng.randint(1, 200), rng.choice([1, 7, 1000, SECOND])
    bucket, level, seen_ns, now_ns = full(capacity, refill, period_ns, 0), Fraction(capacity), 0, 0
    taken: list[tuple[int, int]] = []
    for _ in range(400):
        now_ns += rng.randint(0, 3 * period_ns // refill + 2)
        level = min(Fraction(capacity), level + Fraction((now_ns - seen_ns) * refill, period_ns))
        seen_ns = now_ns
        wanted = rng.randint(0, capacity)
        bucket, wait_ns = take(bucket, wanted, now_ns)
        if wanted <= level:
            assert wait_ns == 0
            level -= wanted
            taken.append((now_ns, wanted))
        else:
            exact = (wanted - level) * period_ns / refill
            assert exact <= wait_ns < exact + 1
        assert Fraction(bucket.units, period_ns) == level
    assert_no_window_gave_more_than_it_may(bucket, taken)


def assert_no_window_gave_more_than_it_may(bucket: TokenBucket, taken: list[tuple[int, int]]) -> None:
    for first in range(len(taken)):
        total = 0
        for at_ns, tokens in taken[first:]:
            total += tokens
            assert total <= bucket.capacity + Fraction((at_ns - taken[first][0]) * bucket.refill, bucket.period_ns)
