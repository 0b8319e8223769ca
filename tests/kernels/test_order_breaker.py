"""Limits of orders: each trips at its own figure, says it, and begins anew by a person's word; money of a day stays."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from actors.adapters.zone import zone_offsets
from kernels.order_breaker import (
    STANDING_MAX,
    WAITING_MAX,
    OrderBreaker,
    OrderLimits,
    agreed,
    booked,
    cleared,
    diverged,
    forgotten,
    judge,
    reported,
    written,
)
from kernels.trading_day import trading_day

MS, SECOND, USD = 10**6, 10**9, 10**8
LIMITS = OrderLimits(
    rejects_max=3,
    ack_ns_max=500 * MS,
    ack_slow_max=2,
    divergence_ns_max=60 * SECOND,
    drawdown_max=50 * USD,
    daily_loss_max=100 * USD,
)


def test_refusals_count_in_a_row_only() -> None:
    breaker = OrderBreaker()
    for name in ("a", "b"):
        breaker = reported(breaker, LIMITS, name, 0, rejected=True)
    assert judge(breaker, LIMITS, 0, 0) == ""
    taken = reported(breaker, LIMITS, "c", 0, rejected=False)
    assert taken.rejects == 0
    assert judge(reported(breaker, LIMITS, "c", 0, rejected=True), LIMITS, 0, 0) == (
        "consecutive rejects: 3 orders refused in a row, last c, limit 3"
    )


def test_late_words_count_in_a_row_and_so_do_those_that_never_come() -> None:
    breaker = written(written(OrderBreaker(), "a", 0), "b", 0)
    breaker = reported(breaker, LIMITS, "a", 501 * MS, rejected=False)
    assert judge(breaker, LIMITS, 0, 500 * MS) == ""
    assert judge(breaker, LIMITS, 0, 501 * MS).startswith("acknowledgement latency: 2 in a row above 500 ms, 1 of them")
    prompt = reported(breaker, LIMITS, "b", 400 * MS, rejected=False)
    assert (prompt.slow, judge(prompt, LIMITS, 0, SECOND)) == (0, "")
    assert judge(forgotten(breaker, "b"), LIMITS, 0, SECOND) == ""


def test_a_divergence_trips_once_it_has_stood_and_not_when_it_cleared() -> None:
    breaker = diverged(diverged(OrderBreaker(), "position ACME", SECOND), "position ACME", 50 * SECOND)
    assert judge(breaker, LIMITS, 0, 60 * SECOND) == ""
    assert judge(breaker, LIMITS, 0, 61 * SECOND) == "divergence: position ACME has stood for 60 s, limit 60 s"
    assert judge(agreed(breaker, "position ACME"), LIMITS, 0, 90 * SECOND) == ""
    assert judge(cleared(breaker, 61 * SECOND), LIMITS, 0, 62 * SECOND) == ""


def test_a_days_loss_counts_commissions_and_is_not_taken_back_by_a_person_until_the_next_day() -> None:
    breaker = booked(OrderBreaker(), 7, -40 * USD, 0)
    assert judge(breaker, LIMITS, 7, 0) == ""
    breaker = booked(booked(cleared(breaker, 0), 7, -40 * USD, 0), 7, 0, 20 * USD)
    reason = judge(breaker, LIMITS, 7, 0)
    assert reason == "daily loss: P&L -100.00: realized -80.00, commissions 20.00, limit 100.00"
    assert judge(cleared(breaker, 0), LIMITS, 7, 0) == reason
    assert judge(breaker, LIMITS, 8, 0) == ""


def test_a_fall_from_the_days_highest_trips_and_is_measured_anew_after_a_persons_word() -> None:
    breaker = booked(booked(OrderBreaker(), 7, 80 * USD, 0), 7, -50 * USD, 0)
    assert judge(breaker, LIMITS, 7, 0).startswith("loss: 50.00 below the day's highest 80.00")
    assert judge(cleared(breaker, 0), LIMITS, 7, 0) == ""


def test_limits_of_nothing_are_off() -> None:
    breaker = diverged(booked(written(OrderBreaker(), "a", 0), 7, -(10**18), 0), "x", 0)
    breaker = reported(breaker, OrderLimits(), "b", 0, rejected=True)
    assert judge(breaker, OrderLimits(), 7, 10**18) == ""


def test_everything_kept_is_bounded() -> None:
    breaker = OrderBreaker()
    for k in range(WAITING_MAX + 10):
        breaker = booked(diverged(written(breaker, str(k), k), str(k), k), k, 1, 0)
    assert len(breaker.waiting) == WAITING_MAX
    assert len(breaker.standing) == STANDING_MAX
    assert max(breaker.days) == WAITING_MAX + 9


@pytest.mark.parametrize("zone", ["America/New_York", "UTC", "Asia/Tokyo", "Australia/Sydney"])
@pytest.mark.parametrize("begins_hour", [0, 17])
def test_a_trading_day_is_the_calendars(zone: str, begins_hour: int) -> None:
    chosen = random.Random(f"{zone} {begins_hour}")
    offsets, info = zone_offsets(zone), ZoneInfo(zone)
    begin = datetime(2016, 1, 1, tzinfo=UTC)
    for _ in range(500):
        at = begin + timedelta(seconds=chosen.randrange(30 * 365 * 86_400))
        wall = at.astimezone(info).replace(tzinfo=None) - timedelta(hours=begins_hour)
        expected = (wall.date() - date(1970, 1, 1)).days
        assert trading_day(int(at.timestamp()) * SECOND, offsets, begins_hour) == expected, at
