"""For how long of the last seven days something was there: up, down, down as planned, or not known.

A record is told its standing when that changes, and the time every now and then; it keeps sums by the hour, so it needs
the same memory however often the standing changes. All times are nanoseconds since the epoch by a clock that may step.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from kernels.recurring import SECOND_NS, Span, begun_ns, covered_ns

HOUR_NS = 3_600 * SECOND_NS
HOURS_KEPT = 7 * 24
"""Whole hours before the present one; what is older leaves by the hour."""

GAP_NS_MAX = 180 * SECOND_NS
"""Between two looks. More than that was not watched: the machine slept, the clock was set, the watcher was dead."""

FIGURES_OF = ("up_ns", "down_ns", "planned_ns", "losses")


class Standing(enum.StrEnum):
    """What is known of it now."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


class Hour(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Sums of an hour, by its number since the epoch; what is missing to the whole hour is not known."""

    number: int
    up_ns: int = 0
    down_ns: int = 0
    planned_ns: int = 0
    losses: int = 0


class Uptime(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The record. `since_ns`: when it came to stand as it does; `as_of_ns`: up to when time is counted.

    `first_ns`: the first look ever, 0 before it. `hours`: ascending, at most `HOURS_KEPT` + 1.
    """

    standing: Standing = Standing.UNKNOWN
    since_ns: int = 0
    as_of_ns: int = 0
    first_ns: int = 0
    hours: tuple[Hour, ...] = ()


class Figures(msgspec.Struct, frozen=True, gc=False):
    """The last seven days, or since the first look, in seconds. `planned_s`: down in a span in which that is expected.

    `unknown_s`: not watched. `up_fraction`: up of up and unplanned down; None where neither was seen.
    """

    standing: Standing
    watched_s: float
    up_s: float
    down_s: float
    planned_s: float
    unknown_s: float
    losses: int
    up_fraction: float | None


def enter(record: Uptime, standing: Standing, now_ns: int, planned: Sequence[Span]) -> Uptime:
    """Count up to now as it stood, then stand so. From up to down outside the planned spans is one loss.

    The same standing again only counts the time.
    """
    counted = advance(record, now_ns, planned)
    if standing is counted.standing:
        return counted
    lost = counted.standing is Standing.UP and standing is Standing.DOWN
    if lost and all(begun_ns(span, now_ns) is None for span in planned):
        counted = msgspec.structs.replace(counted, hours=_added(counted.hours, counted.as_of_ns // HOUR_NS, losses=1))
    return msgspec.structs.replace(counted, standing=standing, since_ns=now_ns)


def resume(record: Uptime, now_ns: int) -> Uptime:
    """The watcher was away since it last looked: that time, and until a standing is told, is not known."""
    found = _at(record, now_ns)
    since_ns = record.since_ns if record.standing is Standing.UNKNOWN and record.since_ns else now_ns
    return msgspec.structs.replace(
        found, standing=Standing.UNKNOWN, since_ns=since_ns, as_of_ns=max(now_ns, found.as_of_ns)
    )


def advance(record: Uptime, now_ns: int, planned: Sequence[Span]) -> Uptime:
    """Count up to now as it stands. Constant time; at most two hours are touched.

    A clock that went back by up to `GAP_NS_MAX` counts nothing until it is where it was, so no moment counts twice.
    One that went back further takes along what was counted at and after the hour to which it went.
    """
    found = _at(record, now_ns)
    if now_ns <= found.as_of_ns:
        return found
    hours = found.hours
    if found.standing is not Standing.UNKNOWN and now_ns - found.as_of_ns <= GAP_NS_MAX:
        begin = found.as_of_ns
        while begin < now_ns:
            end = min(now_ns, (begin // HOUR_NS + 1) * HOUR_NS)
            hours = _counted(hours, found.standing, begin, end, planned)
            begin = end
    oldest = now_ns // HOUR_NS - HOURS_KEPT
    if hours and hours[0].number < oldest:
        hours = tuple(hour for hour in hours if hour.number >= oldest)
    return msgspec.structs.replace(found, hours=hours, as_of_ns=now_ns)


def figures(record: Uptime, now_ns: int, planned: Sequence[Span]) -> Figures:
    """Return the sums up to now, of the present hour and the 168 before it."""
    found = advance(record, now_ns, planned)
    begin = max(found.first_ns, (found.as_of_ns // HOUR_NS - HOURS_KEPT) * HOUR_NS)
    up, down, away, losses = (sum(getattr(hour, name) for hour in found.hours) for name in FIGURES_OF)
    watched = found.as_of_ns - begin
    return Figures(
        standing=found.standing,
        watched_s=watched / SECOND_NS,
        up_s=up / SECOND_NS,
        down_s=down / SECOND_NS,
        planned_s=away / SECOND_NS,
        unknown_s=(watched - up - down - away) / SECOND_NS,
        losses=losses,
        up_fraction=up / (up + down) if up + down else None,
    )


def _at(record: Uptime, now_ns: int) -> Uptime:
    """The record with a beginning, and without what lies in the future of a clock that was set back far."""
    if not record.first_ns:
        return msgspec.structs.replace(record, first_ns=now_ns, as_of_ns=now_ns, since_ns=now_ns)
    if record.as_of_ns - now_ns <= GAP_NS_MAX:
        return record
    kept = tuple(hour for hour in record.hours if hour.number < now_ns // HOUR_NS)
    first_ns, since_ns = min(record.first_ns, now_ns), min(record.since_ns, now_ns)
    return msgspec.structs.replace(record, hours=kept, as_of_ns=now_ns, first_ns=first_ns, since_ns=since_ns)


def _counted(
    hours: tuple[Hour, ...], standing: Standing, begin: int, end: int, planned: Sequence[Span]
) -> tuple[Hour, ...]:
    """Add a time within one hour."""
    number = begin // HOUR_NS
    if standing is Standing.UP:
        return _added(hours, number, up_ns=end - begin)
    expected = covered_ns(planned, begin, end)
    return _added(hours, number, down_ns=end - begin - expected, planned_ns=expected)


def _added(hours: tuple[Hour, ...], number: int, **by: int) -> tuple[Hour, ...]:
    last = hours[-1] if hours and hours[-1].number == number else Hour(number)
    head = hours[:-1] if hours and hours[-1].number == number else hours
    return (*head, msgspec.structs.replace(last, **{name: getattr(last, name) + more for name, more in by.items()}))
