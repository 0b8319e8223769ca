"""The trading day that a time belongs to, in a zone whose offsets are given as a table."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

SECOND_NS = 1_000_000_000
DAY_S = 86_400
HOUR_S = 3_600


def trading_day(ts_ns: int, offsets: Sequence[tuple[int, int]], begins_hour: int) -> int:
    """Return the number of the day, counted from 1970-01-01, that began last at `begins_hour` o'clock by local time.

    `offsets`: (from second UTC, offset from UTC in s), ascending; before the first its offset counts. A day that begins
    in the evening is named by the date on which it begins. Derived here: floor((t + offset - begins) / day).
    """
    seconds = ts_ns // SECOND_NS
    found = max(bisect_right(offsets, seconds, key=lambda one: one[0]) - 1, 0)
    return (seconds + offsets[found][1] - begins_hour * HOUR_S) // DAY_S
