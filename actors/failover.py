"""Which of a pair of feeds readers look at first: a pure decision on what their headers say.

Readers take the twin's row wherever the preferred one's is not live, in the same read (`kernels.seqlock`), so
nothing here keeps a dead row from being used. This settles who is preferred: a feed that is down or lags is stood down
while its twin is well, and stands first again once it has been well for `failback_ns` without a break, or at once
where the twin is not.
"""

from __future__ import annotations

from typing import NamedTuple

from kernels.book_image import FeedHeader


class Health(NamedTuple):
    """Of one feed, by its header: whether it beats, and how late what it says is."""

    lives: bool
    lag_ns: int


class Pair(NamedTuple):
    """`well_since_ns`: of the feed while it is stood down; 0: it is not well."""

    is_stood_down: bool = False
    well_since_ns: int = 0
    failovers: int = 0
    failbacks: int = 0


class FailoverTerms(NamedTuple):
    """`lag_ns_max`: a feed whose pings take longer than this is stood down. `failback_ns`: see the module."""

    lag_ns_max: int
    failback_ns: int


def health_of(header: FeedHeader, now_ns: int, stale_ns: int) -> Health:
    """Judge a header as readers do."""
    beats = header.up and header.held_down_epoch < header.epoch and abs(now_ns - header.live_ns) <= stale_ns
    return Health(beats, header.lag_ns)


def decide_pair(pair: Pair, feed: Health, twin: Health, terms: FailoverTerms, now_ns: int) -> Pair:
    """Return the pair as of now. A twin that is no better is no reason to change."""
    feed_well = feed.lives and feed.lag_ns <= terms.lag_ns_max
    twin_well = twin.lives and twin.lag_ns <= terms.lag_ns_max
    if not pair.is_stood_down:
        if feed_well or not twin_well:
            return pair
        return pair._replace(is_stood_down=True, well_since_ns=0, failovers=pair.failovers + 1)
    if not feed_well:
        return pair._replace(well_since_ns=0)
    if not twin_well:
        return pair._replace(is_stood_down=False, well_since_ns=0, failovers=pair.failovers + 1)
    since_ns = pair.well_since_ns or now_ns
    if now_ns - since_ns >= terms.failback_ns:
        return pair._replace(is_stood_down=False, well_since_ns=0, failbacks=pair.failbacks + 1)
    return pair._replace(well_since_ns=since_ns)
