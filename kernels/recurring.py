"""Spans that come again every day or week at a time of a clock on a wall, in a zone given as a table of offsets."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS
WEEK_DAYS = 7
EVERY_DAY = -1
_EPOCH_WEEKDAY = 3
"""1970-01-01 was a Thursday; Monday is 0."""


class Span(msgspec.Struct, frozen=True, gc=False):
    """Begins at `at_ns` after local midnight, on `weekday` (0 Monday; -1 every day), and lasts `length_ns` (0: never).

    `length_ns` is time that passes, at most a day: where clocks change in it, its end is another time of the clock. A
    beginning that the clock jumps over is the moment of the jump, one that it shows twice is the first of the two.
    `offsets`: (from second UTC, offset from UTC in s), ascending; before the first its offset counts; empty is UTC.
    """

    at_ns: int
    length_ns: int
    weekday: int = EVERY_DAY
    offsets: tuple[tuple[int, int], ...] = ()


def begun_ns(span: Span, now_ns: int) -> int | None:
    """Return when the occurrence that `now_ns` lies in began; None if it lies in none.

    The beginning is in it, the end is not. Of two that overlap (a day's, on a day of 23 hours) the later.
    """
    found = [begin for begin in _beginnings(span, now_ns, now_ns) if begin <= now_ns < begin + span.length_ns]
    return max(found, default=None)


def next_edge_ns(spans: Sequence[Span], now_ns: int) -> int | None:
    """Return the first beginning or end of any of them after `now_ns`; None if there are none."""
    edges = (
        edge
        for span in spans
        if span.length_ns
        for begin in _beginnings(span, now_ns, now_ns + WEEK_DAYS * DAY_NS)
        for edge in (begin, begin + span.length_ns)
        if edge > now_ns
    )
    return min(edges, default=None)


def covered_ns(spans: Sequence[Span], from_ns: int, to_ns: int) -> int:
    """Return how much of [from, to) lies in at least one of them. Linear in the days between."""
    inside = sorted(
        (max(begin, from_ns), min(begin + span.length_ns, to_ns))
        for span in spans
        for begin in _beginnings(span, from_ns, to_ns)
    )
    total, reached = 0, from_ns
    for begin, end in inside:
        total += max(0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def _beginnings(span: Span, from_ns: int, to_ns: int) -> Iterator[int]:
    """Every beginning of an occurrence that may touch [from, to], and a few around it."""
    if not span.length_ns:
        return
    # A day either side for the zone, and one before for the length.
    for day in range(from_ns // DAY_NS - 2, to_ns // DAY_NS + 2):
        if span.weekday in (EVERY_DAY, (day + _EPOCH_WEEKDAY) % WEEK_DAYS):
            yield _instant(span, day * DAY_NS + span.at_ns)


def _instant(span: Span, wall_ns: int) -> int:
    """Return the first moment at which the local clock shows `wall_ns`, or the jump that leaves it out.

    Derived here: t is right where t + offset(t) = wall; changes of offset are more than two days apart.
    """
    before, after = _offset_ns(span, wall_ns - DAY_NS), _offset_ns(span, wall_ns + DAY_NS)
    if before == after:
        return wall_ns - before
    early, late = sorted((wall_ns - before, wall_ns - after))
    for found in (early, late):
        if found + _offset_ns(span, found) == wall_ns:
            return found
    return next(to for _, to in pairwise(_changes(span)) if to > wall_ns - DAY_NS)


def _changes(span: Span) -> Iterator[int]:
    return (at_s * SECOND_NS for at_s, _ in span.offsets)


def _offset_ns(span: Span, at_ns: int) -> int:
    if not span.offsets:
        return 0
    found = max(bisect_right(span.offsets, at_ns // SECOND_NS, key=lambda one: one[0]) - 1, 0)
    return span.offsets[found][1] * SECOND_NS
