"""The latency histogram against a sorted list of all values, which knows every quantile exactly."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.latency_histogram import (
    BUCKETS,
    RELATIVE_ERROR,
    VALUE_NS_MAX,
    WORDS,
    bounds_ns,
    count_of,
    from_sparse,
    merge,
    new_histogram,
    quantile_ns,
    record,
    to_sparse,
)

VALUES = st.lists(st.integers(0, VALUE_NS_MAX) | st.integers(0, 200), min_size=1, max_size=60)


def recorded(values: list[int]) -> np.ndarray:
    histogram = new_histogram()
    for value in values:
        record(histogram, value)
    return histogram


def exact(values: list[int], per_mille: int) -> int:
    return sorted(values)[max(1, -(-len(values) * per_mille // 1000)) - 1]


def test_the_buckets_follow_each_other_without_gap_or_overlap() -> None:
    expected = 0
    for bucket in range(BUCKETS):
        low, high = bounds_ns(bucket)
        assert low == expected
        assert high - low < max(1, low * RELATIVE_ERROR)
        expected = high + 1
    assert expected - 1 == VALUE_NS_MAX


@pytest.mark.parametrize("bucket", [0, 1, 63, 64, 95, 96, 500, BUCKETS - 1])
def test_both_ends_of_a_bucket_are_counted_in_it(bucket: int) -> None:
    for value in bounds_ns(bucket):
        histogram = recorded([value])
        assert histogram[bucket] == 1
        assert count_of(histogram) == 1


@given(VALUES, st.sampled_from([0, 1, 250, 500, 900, 990, 999, 1000]))
def test_a_quantile_is_never_below_the_true_one_nor_more_than_the_stated_share_above(
    values: list[int], per_mille: int
) -> None:
    true, told = exact(values, per_mille), quantile_ns(recorded(values), per_mille)
    assert true <= told <= max(values)
    assert told == true or told - true < true * RELATIVE_ERROR or told == max(values)


def test_many_values_of_all_sizes_keep_the_bound() -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    source = random.Random(seed)
    values = [int(10 ** source.uniform(0, 11)) for _ in range(5_000)]
    histogram = recorded(values)
    for per_mille in (1, 500, 900, 990, 999):
        true = exact(values, per_mille)
        assert true <= quantile_ns(histogram, per_mille) <= true * (1 + RELATIVE_ERROR)
    assert quantile_ns(histogram, 1000) == max(values)
    assert count_of(histogram) == len(values)


@given(VALUES, VALUES)
def test_merged_is_what_one_histogram_of_both_would_hold(first: list[int], second: list[int]) -> None:
    merged = recorded(first)
    merge(merged, recorded(second))
    assert (merged == recorded(first + second)).all()


@given(VALUES)
def test_the_form_that_travels_loses_nothing(values: list[int]) -> None:
    histogram = recorded(values)
    assert (from_sparse(to_sparse(histogram)) == histogram).all()
    assert to_sparse(new_histogram()) == {}
    assert (from_sparse({}) == new_histogram()).all()


def test_beyond_the_ends_values_are_counted_and_the_greatest_is_known() -> None:
    histogram = recorded([-5, VALUE_NS_MAX + 10, 2**60])
    assert histogram[0] == 1
    assert histogram[BUCKETS - 1] == 2
    assert quantile_ns(histogram, 1000) == 2**60
    assert quantile_ns(new_histogram(), 500) == 0


def test_a_value_may_be_counted_several_times_at_once() -> None:
    histogram = new_histogram()
    record(histogram, 1_000, 7)
    assert count_of(histogram) == 7


@pytest.mark.parametrize("sparse", [{str(WORDS): 1}, {"-1": 1}, {"3": -1}, {"x": 1}])
def test_a_form_that_is_no_histogram_is_refused(sparse: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"bucket|invalid literal"):
        from_sparse(sparse)


@pytest.mark.parametrize("per_mille", [-1, 1001])
def test_a_quantile_that_is_none_is_refused(per_mille: int) -> None:
    with pytest.raises(ValueError, match="per mille"):
        quantile_ns(new_histogram(), per_mille)
