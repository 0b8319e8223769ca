"""Uptime over seven days: worked by hand, and against a list that has a word for every single second."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest

from kernels.recurring import DAY_NS, SECOND_NS, Span
from kernels.uptime import GAP_NS_MAX, HOUR_NS, HOURS_KEPT, Figures, Standing, Uptime, advance, enter, figures, resume

S = Standing
START = 20_000 * DAY_NS + 9 * HOUR_NS
MINUTE = 60 * SECOND_NS
NIGHT = (Span(23 * HOUR_NS + 55 * MINUTE, 10 * MINUTE),)


def watched(record: Uptime, until_ns: int, planned: tuple[Span, ...] = ()) -> Uptime:
    """Look once a minute until then."""
    while record.as_of_ns < until_ns:
        record = advance(record, min(until_ns, record.as_of_ns + MINUTE), planned)
    return record


def parts(found: Figures) -> tuple[float, float, float, float]:
    return found.up_s, found.down_s, found.planned_s, found.unknown_s


def test_nothing_is_known_before_the_first_word_and_no_share_is_made_of_nothing() -> None:
    assert figures(Uptime(), START, ()) == Figures(S.UNKNOWN, 0.0, 0.0, 0.0, 0.0, 0.0, 0, None)
    begun = resume(Uptime(), START)
    found = figures(watched(begun, START + HOUR_NS), START + HOUR_NS, ())
    assert (parts(found), found.up_fraction, found.watched_s) == ((0, 0, 0, 3_600), None, 3_600)


def test_an_hour_up_with_six_minutes_down_is_nine_tenths_and_one_loss() -> None:
    record = watched(enter(Uptime(), S.UP, START, ()), START + 30 * MINUTE)
    record = watched(enter(record, S.DOWN, START + 30 * MINUTE, ()), START + 36 * MINUTE)
    record = enter(record, S.DOWN, START + 36 * MINUTE, ())
    assert record.since_ns == START + 30 * MINUTE
    record = watched(enter(record, S.UP, START + 36 * MINUTE, ()), START + HOUR_NS)
    found = figures(record, START + HOUR_NS, ())
    assert (parts(found), found.losses, found.up_fraction) == ((3_240, 360, 0, 0), 1, 0.9)


def test_what_is_down_in_a_planned_span_is_told_apart_and_is_no_loss_but_what_lasts_past_it_is_down() -> None:
    before = 20_000 * DAY_NS + 23 * HOUR_NS + 50 * MINUTE
    record = watched(enter(Uptime(), S.UP, before, NIGHT), before + 6 * MINUTE, NIGHT)
    record = watched(enter(record, S.DOWN, before + 6 * MINUTE, NIGHT), before + 20 * MINUTE, NIGHT)
    found = figures(record, before + 20 * MINUTE, NIGHT)
    assert (parts(found), found.losses) == ((360, 300, 540, 0), 0)
    assert found.up_fraction == pytest.approx(360 / 660)
    early = enter(watched(enter(Uptime(), S.UP, before, NIGHT), before + MINUTE), S.DOWN, before + 4 * MINUTE, NIGHT)
    found = figures(watched(early, before + 10 * MINUTE, NIGHT), before + 10 * MINUTE, NIGHT)
    assert (parts(found), found.losses) == ((240, 60, 300, 0), 1)


def test_time_in_which_nobody_watched_is_neither_up_nor_down() -> None:
    record = watched(enter(Uptime(), S.UP, START, ()), START + 10 * MINUTE)
    record = resume(record, START + 40 * MINUTE)
    record = watched(record, START + 41 * MINUTE)
    record = watched(enter(record, S.UP, START + 41 * MINUTE, ()), START + HOUR_NS)
    found = figures(record, START + HOUR_NS, ())
    assert (parts(found), found.losses) == ((29 * 60, 0, 0, 31 * 60), 0)


def test_a_gap_between_looks_that_is_too_long_to_have_been_watched_is_not_known() -> None:
    record = enter(Uptime(), S.UP, START, ())
    assert parts(figures(advance(record, START + GAP_NS_MAX, ()), START + GAP_NS_MAX, ())) == (180, 0, 0, 0)
    late = START + GAP_NS_MAX + SECOND_NS
    assert parts(figures(advance(record, late, ()), late, ())) == (0, 0, 0, 181)


def test_what_is_older_than_seven_days_leaves_by_the_hour_and_the_memory_is_bounded() -> None:
    record = enter(Uptime(), S.DOWN, START, ())
    record = enter(watched(record, START + HOUR_NS), S.UP, START + HOUR_NS, ())
    end = START + (HOURS_KEPT + 1) * HOUR_NS
    almost = watched(record, end - 1)
    assert figures(almost, end - 1, ()).down_s == 3_600
    assert len(almost.hours) == HOURS_KEPT + 1
    assert len(msgspec.json.encode(almost)) < 12_000
    found = figures(watched(almost, end), end, ())
    assert (parts(found), found.up_fraction) == ((HOURS_KEPT * 3_600, 0, 0, 0), 1.0)


def test_a_clock_set_back_a_little_counts_no_moment_twice_and_one_set_back_far_forgets_those_hours() -> None:
    record = watched(enter(Uptime(), S.UP, START, ()), START + HOUR_NS + 30 * MINUTE)
    little = advance(record, record.as_of_ns - MINUTE, ())
    assert little is record
    assert parts(figures(advance(little, record.as_of_ns + MINUTE, ()), record.as_of_ns + MINUTE, ()))[0] == 5_460
    far = advance(record, START + HOUR_NS + 10 * MINUTE, ())
    assert parts(figures(far, far.as_of_ns, ())) == (3_600, 0, 0, 600)
    assert parts(figures(watched(far, START + 2 * HOUR_NS), START + 2 * HOUR_NS, ())) == (3_600 + 3_000, 0, 0, 600)


def test_a_clock_set_forward_far_and_back_leaves_what_was_before_or_nothing_and_goes_on() -> None:
    record = watched(enter(Uptime(), S.UP, START, ()), START + HOUR_NS)
    ahead = advance(record, START + 900 * DAY_NS, ())
    assert ahead.hours == ()
    back = advance(ahead, START + 2 * HOUR_NS, ())
    found = figures(watched(back, START + 3 * HOUR_NS), START + 3 * HOUR_NS, ())
    assert parts(found) == (3_600, 0, 0, 7_200)


UNKNOWN, UP, DOWN, PLANNED = range(4)
LABELS = {S.UNKNOWN: UNKNOWN, S.UP: UP, S.DOWN: DOWN}


class EverySecond:
    """The oracle: a word for each second of twelve days, and a list of losses; sums are counted anew each time."""

    def __init__(self, start_s: int, windows: list[tuple[int, int]]) -> None:
        self.start_s, self.now_s = start_s, start_s
        self.first_s = start_s
        self.words = np.zeros(12 * 86_400, np.int8)
        seconds = start_s + np.arange(len(self.words))
        self.planned = np.any([(seconds - begin) % 86_400 < length for begin, length in windows], axis=0)
        self.losses: list[int] = []
        self.standing = S.UNKNOWN

    def pass_to(self, now_s: int) -> None:
        if self.now_s - now_s > 180:
            hour = now_s // 3_600 * 3_600
            self.words[max(0, hour - self.start_s) :] = UNKNOWN
            self.losses = [at for at in self.losses if at < hour]
            self.now_s, self.first_s = now_s, min(self.first_s, now_s)
        elif now_s > self.now_s:
            if now_s - self.now_s <= 180 and self.standing is not S.UNKNOWN:
                here = slice(self.now_s - self.start_s, now_s - self.start_s)
                self.words[here] = LABELS[self.standing]
                if self.standing is S.DOWN:
                    self.words[here][self.planned[here]] = PLANNED
            self.now_s = now_s
            left = now_s // 3_600 * 3_600 - HOURS_KEPT * 3_600
            self.words[: max(0, left - self.start_s)] = UNKNOWN  # and does not come back if the clock does
            self.losses = [at for at in self.losses if at >= left]

    def stand(self, standing: Standing, now_s: int) -> None:
        self.pass_to(now_s)
        lost = self.standing is S.UP and standing is S.DOWN
        if lost and not self.planned[now_s - self.start_s]:
            self.losses.append(self.now_s)
        self.standing = standing

    def away_until(self, now_s: int) -> None:
        self.standing = S.UNKNOWN
        self.pass_to(now_s)

    def sums(self) -> tuple[int, int, int, int, int]:
        begin = max(self.first_s, self.now_s // 3_600 * 3_600 - HOURS_KEPT * 3_600)
        seen = self.words[begin - self.start_s : self.now_s - self.start_s]
        up, down, planned, unknown = (int((seen == word).sum()) for word in (UP, DOWN, PLANNED, UNKNOWN))
        return up, down, planned, unknown, sum(at >= begin for at in self.losses)


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_a_list_that_has_a_word_for_every_second(seed: int) -> None:
    print(f"seed {seed}")
    chosen = random.Random(seed)
    # A day's head start, so that a clock set back stays in the list.
    now_s = 20_000 * 86_400 + 86_400 + chosen.randrange(86_400)
    windows = [(chosen.randrange(86_400), chosen.choice([0, 60, 600, 7_200])) for _ in range(2)]
    planned = tuple(Span(begin * SECOND_NS, length * SECOND_NS) for begin, length in windows)
    oracle = EverySecond(now_s - 86_400, windows)
    oracle.now_s = oracle.first_s = now_s
    record = resume(Uptime(), now_s * SECOND_NS)
    busy = chosen.choice([0.05, 0.5])
    end_s = now_s + 9 * 86_400
    while now_s < end_s:
        what = chosen.random()
        if what < 0.002 and now_s - oracle.start_s > 90_000:
            now_s -= chosen.choice([1, 90, 180, 181, 3_000, 20_000])
        elif what < 0.004:
            now_s += chosen.choice([181, 5_000, 50_000])
        else:
            now_s += chosen.choice([0, 1, 60, 120, 180])
        if what > 0.997:
            oracle.away_until(now_s)
            record = resume(record, now_s * SECOND_NS)
        elif what < busy:
            standing = chosen.choice([S.UP, S.UP, S.DOWN])
            oracle.stand(standing, now_s)
            record = enter(record, standing, now_s * SECOND_NS, planned)
        else:
            oracle.pass_to(now_s)
            record = advance(record, now_s * SECOND_NS, planned)
        if chosen.random() < 0.02:
            found = figures(record, now_s * SECOND_NS, planned)
            assert (*parts(found), found.losses) == oracle.sums(), now_s
            assert found.watched_s == sum(parts(found))
            assert len(record.hours) <= HOURS_KEPT + 1
    assert record.hours == tuple(sorted(record.hours, key=lambda hour: hour.number))
    record = msgspec.json.decode(msgspec.json.encode(record), type=Uptime)
    found = figures(record, now_s * SECOND_NS, planned)
    assert (*parts(found), found.losses) == oracle.sums()
