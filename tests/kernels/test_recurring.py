"""Spans of every day and every week: their edges, over midnight, and against a calendar read step by step."""

from __future__ import annotations

import datetime
import random
from zoneinfo import ZoneInfo

import pytest

from actors.adapters.zone import zone_offsets
from kernels.recurring import DAY_NS, SECOND_NS, Span, begun_ns, covered_ns, next_edge_ns

STEP = 5
HOUR, MINUTE = 3_600 * SECOND_NS, 60 * SECOND_NS
NEW_YORK = zone_offsets("America/New_York")
ZONES = {"UTC": (), "America/New_York": NEW_YORK, "Europe/Berlin": zone_offsets("Europe/Berlin")}


@pytest.mark.parametrize(
    ("hour", "inside"), [(22.99, False), (23, True), (23.99, True), (0, True), (0.99, True), (1, False), (12, False)]
)
def test_a_span_over_midnight_has_its_beginning_and_not_its_end(hour: float, inside: bool) -> None:
    span = Span(23 * HOUR, 2 * HOUR)
    assert (begun_ns(span, 20_000 * DAY_NS + int(hour * HOUR)) is not None) is inside


def test_no_length_is_no_span_and_a_day_is_always() -> None:
    for hour in range(24):
        assert begun_ns(Span(5 * HOUR, 0), hour * HOUR) is None
        assert begun_ns(Span(5 * HOUR, DAY_NS), hour * HOUR) is not None
    assert covered_ns([Span(0, 0)], 0, DAY_NS) == 0
    assert next_edge_ns([Span(0, 0)], 0) is None
    assert next_edge_ns([], 0) is None


def test_a_time_that_the_clock_jumps_over_is_the_moment_of_the_jump_and_one_shown_twice_the_first() -> None:
    span = Span(2 * HOUR + 30 * MINUTE, HOUR, offsets=NEW_YORK)
    jump = _ns(datetime.datetime(2026, 3, 8, 7, tzinfo=datetime.UTC))
    assert begun_ns(span, jump) == jump
    assert begun_ns(span, jump - 1) is None
    assert begun_ns(span, jump + HOUR) is None
    span = Span(HOUR + 30 * MINUTE, HOUR // 2, offsets=NEW_YORK)
    first = _ns(datetime.datetime(2026, 11, 1, 5, 30, tzinfo=datetime.UTC))
    assert begun_ns(span, first) == first
    assert begun_ns(span, first + HOUR) is None, "the second 1:30 of that night"


def test_the_nightly_restart_of_a_gateway_follows_its_own_zone_over_both_changes_of_clocks() -> None:
    span = Span(23 * HOUR + 55 * MINUTE, 10 * MINUTE, offsets=NEW_YORK)
    in_utc = {}
    for month, day in ((3, 6), (3, 9), (10, 30), (11, 2)):
        local = datetime.datetime(2026, month, day, 23, 55, tzinfo=ZoneInfo("America/New_York"))
        assert begun_ns(span, _ns(local)) == _ns(local)
        assert begun_ns(span, _ns(local) + 10 * MINUTE) is None
        in_utc[month, day] = local.astimezone(datetime.UTC).hour
    assert in_utc == {(3, 6): 4, (3, 9): 3, (10, 30): 3, (11, 2): 4}


@pytest.mark.parametrize(
    ("zone", "begin"),
    [
        ("America/New_York", (2026, 3, 6)),
        ("Europe/Berlin", (2026, 3, 27)),
        ("Europe/Berlin", (2026, 10, 23)),
        ("America/New_York", (2026, 10, 30)),
        ("UTC", (2026, 12, 31)),
    ],
)
@pytest.mark.parametrize("weekday", [-1, 5, 6])
def test_it_agrees_with_the_calendar_step_by_step(zone: str, begin: tuple[int, int, int], weekday: int) -> None:
    """In steps of five: every edge is a multiple of them."""
    at, length = datetime.time(23, 55), 75
    span = Span((23 * 60 + 55) * MINUTE, length * MINUTE, weekday, ZONES[zone])
    moment = datetime.datetime(*begin, tzinfo=datetime.UTC)
    started: datetime.datetime | None = None
    inside, begins = 0, set()
    previous = moment - datetime.timedelta(days=2)
    while previous < moment + datetime.timedelta(days=5):
        previous += datetime.timedelta(minutes=STEP)
        local = previous.astimezone(ZoneInfo(zone))
        if local.time() == at and (weekday < 0 or local.weekday() == weekday):
            started = previous
        expected = started is not None and previous - started < datetime.timedelta(minutes=length)
        if previous < moment:
            continue
        found = begun_ns(span, _ns(previous))
        assert (found is not None) is expected, previous
        assert found is None or started is None or found == _ns(started)
        inside += expected * STEP
        begins |= {found} if found is not None else set()
    whole = (_ns(moment), _ns(previous) + STEP * MINUTE)
    assert covered_ns([span], *whole) == inside * MINUTE
    assert covered_ns([span, span], *whole) == inside * MINUTE
    assert begins


@pytest.mark.parametrize("seed", range(6))
def test_what_spans_cover_and_their_next_edge_are_what_looking_at_each_minute_finds(seed: int) -> None:
    print(f"seed {seed}")
    chosen = random.Random(seed)
    zone = chosen.choice(sorted(ZONES))
    spans = [
        Span(
            chosen.randrange(24 * 60) * MINUTE,
            chosen.choice([0, 1, 10, 600, 1440]) * MINUTE,
            chosen.randrange(-1, 7),
            ZONES[zone],
        )
        for _ in range(chosen.randint(1, 3))
    ]
    start = _ns(datetime.datetime(2026, chosen.choice([3, 7, 10, 11]), 1, tzinfo=datetime.UTC))
    from_ns = start + chosen.randrange(5 * 1440) * MINUTE
    minutes = chosen.randrange(1, 4 * 1440)
    held = [any(begun_ns(span, from_ns + k * MINUTE) is not None for span in spans) for k in range(minutes)]
    assert covered_ns(spans, from_ns, from_ns + minutes * MINUTE) == sum(held) * MINUTE
    edge = next_edge_ns(spans, from_ns)
    changed = [k for k in range(1, minutes) if held[k] != held[k - 1]]
    if changed:
        assert edge is not None
        assert from_ns < edge <= from_ns + changed[0] * MINUTE


def _ns(moment: datetime.datetime) -> int:
    return int(moment.timestamp()) * SECOND_NS
