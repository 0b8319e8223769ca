"""A span of every day: its edges, over midnight, and against minutes counted one by one."""

from __future__ import annotations

import datetime

import pytest

from kernels.day_window import DAY_NS, SECOND_NS, within

HOUR = 3_600 * SECOND_NS


@pytest.mark.parametrize(
    ("hour", "inside"), [(22.99, False), (23, True), (23.99, True), (0, True), (0.99, True), (1, False), (12, False)]
)
def test_a_span_over_midnight_has_its_beginning_and_not_its_end(hour: float, inside: bool) -> None:
    assert within(20_000 * DAY_NS + int(hour * HOUR), 23 * HOUR, 2 * HOUR) is inside


def test_no_length_is_no_span_and_a_day_is_always() -> None:
    for hour in range(24):
        assert not within(hour * HOUR, 5 * HOUR, 0)
        assert within(hour * HOUR, 5 * HOUR, DAY_NS)


def test_it_agrees_with_the_calendar_minute_by_minute() -> None:
    start = datetime.datetime(2026, 3, 7, tzinfo=datetime.UTC)
    inside = 0
    for minute in range(3 * 1_440):
        moment = start + datetime.timedelta(minutes=minute)
        expected = (moment.hour, moment.minute) >= (23, 55) or (moment.hour, moment.minute) < (0, 5)
        now_ns = int(moment.timestamp()) * SECOND_NS
        assert within(now_ns, (23 * 60 + 55) * 60 * SECOND_NS, 600 * SECOND_NS) is expected
        inside += expected
    assert inside == 3 * 10
