"""A span of every day, in UTC."""

from __future__ import annotations

SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS


def within(now_ns: int, from_ns: int, length_ns: int) -> bool:
    """Whether the moment lies in the span that begins `from_ns` after each midnight; it may reach into the next day.

    The beginning is in it, the end is not. A length of 0 is no span, one of a day or more is always.
    """
    return (now_ns - from_ns) % DAY_NS < length_ns
