"""A zone's offsets from UTC as a table, so that a reducer needs no zone file and every fold has the same days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

FIRST_YEAR, LAST_YEAR = 2015, 2060


def zone_offsets(zone: str) -> tuple[tuple[int, int], ...]:
    """Return (from second UTC, offset in s), ascending, one entry a change, to the hour.

    Raises ZoneInfoNotFoundError.
    """
    info = ZoneInfo(zone)
    at, end = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC), datetime(LAST_YEAR, 1, 1, tzinfo=UTC)
    found = [(int(at.timestamp()), _offset(at, info))]
    day, hour = timedelta(days=1), timedelta(hours=1)
    while at < end:
        if _offset(at + day, info) != found[-1][1]:
            while _offset(at, info) == found[-1][1]:
                at += hour
            found.append((int(at.timestamp()), _offset(at, info)))
        else:
            at += day
    return tuple(found)


def _offset(at: datetime, info: ZoneInfo) -> int:
    offset = at.astimezone(info).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())
