"""The tally of rows, against reading each row by itself."""

from __future__ import annotations

import random
from collections import Counter

from kernels.book_image import LIVENESS_NS_MAX, NO_FEED, FeedWriter, RowStatus, Verdict, format_image, layout
from kernels.row_tally import tally_rows

NOW_NS = 10**18
AGE_NS_MAX = 5_000_000_000


def test_every_row_is_counted_once_as_reading_it_alone_judges_it() -> None:
    rng = random.Random(7)
    n_rows, n_feeds = 60, 3
    row_feed = [rng.choice([NO_FEED, 0, 1, 2]) for _ in range(n_rows)]
    image = format_image(bytearray(layout(n_rows, n_feeds, 2).n_bytes), row_feed, n_feeds, 2)
    writers = [FeedWriter(image, feed, 1) for feed in range(n_feeds)]
    for row, feed in enumerate(row_feed):
        if feed == NO_FEED:
            continue
        if rng.random() < 0.7:
            writers[feed].write_row(row, 1, 1, 2, 1, 1, NOW_NS - rng.choice([0, 2 * AGE_NS_MAX]))
        if rng.random() < 0.3:
            writers[feed].mark_invalid(row, rng.choice([RowStatus.CROSSED, RowStatus.GAP, RowStatus.PARSE_FAILURE]))
    writers[0].beat(NOW_NS)
    writers[1].beat(NOW_NS - LIVENESS_NS_MAX - 1)
    tally = tally_rows(image, NOW_NS, AGE_NS_MAX)
    expected: Counter[str] = Counter()
    for number in range(n_rows):
        verdict, found = image.read_live_row(number, NOW_NS, AGE_NS_MAX)
        assert found is not None
        expected[found.status.name.lower() if verdict is Verdict.INVALID else verdict.name.lower()] += 1
    assert tally.live == expected.pop("live")
    assert tally.reasons == expected
    assert tally.live + tally.not_live == n_rows
    assert {"feed_dead", "aged", "never_seen", "crossed"} <= tally.reasons.keys()
