"""Which days US exchanges are open, and when they close early. Pure.

Source: the exchanges' holiday rules as published (nine full holidays and Good Friday; Juneteenth since 2022; early
closes at 13:00 on July 3, the day after Thanksgiving and Christmas Eve). Unscheduled closings are not known here.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache

_DAY = timedelta(days=1)
_WEEK = timedelta(days=7)


@lru_cache(maxsize=64)
def holidays(year: int) -> frozenset[date]:
    """Return the weekdays of a year on which nothing trades."""
    fixed = [date(year, 1, 1), date(year, 7, 4), date(year, 12, 25)]
    if year >= 2022:
        fixed.append(date(year, 6, 19))
    observed = {_observed(day) for day in fixed}
    # A Saturday New Year is not kept on the Friday before, which ends a year's books.
    observed.discard(date(year - 1, 12, 31))
    moving = {
        _nth_weekday(year, 1, 0, 3),
        _nth_weekday(year, 2, 0, 3),
        _easter(year) - 2 * _DAY,
        _last_monday(year, 5),
        _nth_weekday(year, 9, 0, 1),
        _nth_weekday(year, 11, 3, 4),
    }
    return frozenset(observed | moving)


def is_trading_day(day: date) -> bool:
    """True on a weekday that is no holiday."""
    return day.weekday() < 5 and day not in holidays(day.year)


def closes_early(day: date) -> bool:
    """True on a trading day that ends at 13:00."""
    if not is_trading_day(day):
        return False
    after_thanksgiving = _nth_weekday(day.year, 11, 3, 4) + _DAY
    return day == after_thanksgiving or (day.month, day.day) in ((7, 3), (12, 24))


def next_trading_day(day: date) -> date:
    """Return the first trading day after this one."""
    day += _DAY
    while not is_trading_day(day):
        day += _DAY
    return day


def trading_day_at_or_before(day: date) -> date:
    """Return this day, or the last trading day before it."""
    while not is_trading_day(day):
        day -= _DAY
    return day


def third_friday(year: int, month: int) -> date:
    """Return the monthly expiry: the third Friday, or the trading day before where that is a holiday."""
    return trading_day_at_or_before(_nth_weekday(year, month, 4, 3))


def _observed(day: date) -> date:
    return day - _DAY if day.weekday() == 5 else day + _DAY if day.weekday() == 6 else day


def _nth_weekday(year: int, month: int, weekday: int, nth: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7) + (nth - 1) * _WEEK


def _last_monday(year: int, month: int) -> date:
    last = date(year, month + 1, 1) - _DAY
    return last - timedelta(days=last.weekday())


def _easter(year: int) -> date:
    """Return Easter Sunday (the anonymous Gregorian computus, Meeus, Astronomical Algorithms, chapter 8)."""
    a, b, c = year % 19, year // 100, year % 100
    d, e, f = b // 4, b % 4, (b + 8) // 25
    g = (b - f + 1) // 3
    h = (19 * a + b - d - g + 15) % 30
    i, k = c // 4, c % 4
    m = (32 + 2 * e + 2 * i - h - k) % 7
    n = (a + 11 * h + 22 * m) // 451
    month, day = divmod(h + m - 7 * n + 114, 31)
    return date(year, month, day + 1)
