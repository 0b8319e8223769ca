"""The watch over rows against an oracle that keeps every write, and the field's frozen price by name."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from kernels.book_image import BookImage, FeedWriter, RowStatus, format_image, layout
from kernels.row_watch import RowWatch

S = 1_000_000_000
BEGAN = 1_000 * S


def made(n_rows: int = 4, slots: tuple[int, ...] | None = None) -> tuple[BookImage, list[FeedWriter]]:
    owners = list(slots or (0,) * n_rows)
    n_feeds = max(owners) + 1
    image = format_image(bytearray(layout(n_rows, n_feeds, 8).n_bytes), owners, n_feeds, 8)
    return image, [FeedWriter(image, feed, 1) for feed in range(n_feeds)]


def write(writer: FeedWriter, row: int, now_ns: int) -> None:
    writer.write_row(row, 100, 1, 101, 1, now_ns, now_ns)


class Market:
    """Rows that speak once a second each, but for those in `quiet`."""

    def __init__(self, n_rows: int = 4, windows: int = 2) -> None:
        self.image, (self.writer,) = made(n_rows)
        self.now_ns = BEGAN
        self.watch = RowWatch(self.image, self.now_ns)
        self.quiet: set[int] = set()
        for _ in range(windows):
            self.pass_seconds(60)
            self.watch.end_window(self.now_ns)

    def pass_seconds(self, seconds: int, beats: bool = True) -> None:
        for _ in range(seconds):
            self.now_ns += S
            if beats:
                self.writer.beat(self.now_ns)
            for row in range(self.image.layout.n_rows):
                if row not in self.quiet:
                    write(self.writer, row, self.now_ns)
            self.watch.look(self.now_ns)

    def silent(self) -> list[int]:
        return [one.row for one in self.watch.find_silent(self.now_ns, 10 * S, 30)]


def test_a_frozen_price_is_found_while_its_connection_beats_and_the_others_move() -> None:
    """Field note 8: quoted for 45 minutes while heartbeats were fine. Here it is found in half a minute."""
    market = Market()
    market.quiet = {2}
    market.pass_seconds(29)
    assert market.silent() == []
    market.pass_seconds(2)
    (found,) = market.watch.find_silent(market.now_ns, 10 * S, 30)
    assert found.row == 2
    assert market.now_ns - found.since_ns == 31 * S
    assert found.expected == pytest.approx(31, rel=0.05)
    market.quiet = set()
    market.pass_seconds(1)
    assert market.silent() == []


def test_a_symbol_that_is_quiet_by_its_own_history_is_not_silent() -> None:
    market = Market(windows=0)
    market.quiet = {1}
    for minute in range(4):
        write(market.writer, 1, market.now_ns)
        market.pass_seconds(60)
        market.watch.end_window(market.now_ns)
        assert market.silent() == [], minute
    market.pass_seconds(120)
    assert market.silent() == []


def test_silence_of_a_dead_feed_is_the_feeds_affair() -> None:
    market = Market()
    market.quiet = {0, 1, 2, 3}
    market.pass_seconds(60, beats=False)
    assert market.silent() == []
    market.pass_seconds(1)
    assert market.silent() == [], "and time in which it was dead is not the rows' silence"
    market.pass_seconds(31)
    assert market.silent() == [0, 1, 2, 3]


def test_a_twin_that_takes_over_is_no_burst_of_writes_and_its_silence_is_seen() -> None:
    image = format_image(bytearray(layout(2, 2, 8, 2).n_bytes), [0, 0], 2, 8, twins={0: 1})
    first, twin = FeedWriter(image, 0, 1), FeedWriter(image, 1, 1)
    watch, now_ns = RowWatch(image, BEGAN), BEGAN
    for second in range(240):
        now_ns += S
        twin.beat(now_ns)
        write(twin, 0, now_ns)
        if second < 200:
            write(twin, 1, now_ns)
        if second < 100:
            first.beat(now_ns)
            for row in range(2):
                write(first, row, now_ns)
        elif second == 100:
            first.down()
        watch.look(now_ns)
        if second % 60 == 59:
            watch.end_window(now_ns)
    (silent,) = watch.find_silent(now_ns, 10 * S, 30)
    assert silent.row == 1
    assert silent.expected == pytest.approx(40 * 200 / 240, rel=0.05)


def test_a_row_that_never_comes_back_after_a_reconnect_is_silent() -> None:
    market = Market()
    market.writer = FeedWriter(market.image, 0, 2)
    market.quiet = {3}
    market.pass_seconds(20)
    assert market.silent() == []
    market.pass_seconds(15)
    assert market.silent() == [3]


def test_rows_that_stay_invalid_are_told_with_why_and_since_when() -> None:
    market = Market()
    market.quiet = {0, 1}
    market.writer.mark_invalid(1, RowStatus.CROSSED)
    market.writer.mark_invalid(0, RowStatus.PARSE_FAILURE)
    market.pass_seconds(1)
    first_ns = market.now_ns
    market.pass_seconds(60)
    assert market.watch.find_invalid(market.now_ns, 60 * S) == []
    market.pass_seconds(1)
    found = market.watch.find_invalid(market.now_ns, 60 * S)
    assert [(one.row, one.status, one.since_ns) for one in found] == [
        (0, RowStatus.PARSE_FAILURE, first_ns),
        (1, RowStatus.CROSSED, first_ns),
    ]
    write(market.writer, 0, market.now_ns)
    market.pass_seconds(1)
    assert [one.row for one in market.watch.find_invalid(market.now_ns, 60 * S)] == [1]


def test_a_row_that_was_never_seen_is_not_called_invalid() -> None:
    market = Market(windows=0)
    market.quiet = {3}
    market.pass_seconds(200)
    assert market.watch.find_invalid(market.now_ns, 60 * S) == []


def test_the_busiest_rows_are_those_with_the_most_writes_as_an_oracle_counts_them() -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    source = random.Random(seed)
    image, writers = made(8, (0, 0, 0, 0, 1, 1, 1, 1))
    watch, counted, now_ns = RowWatch(image, BEGAN), defaultdict(int), BEGAN
    for look in range(60):
        now_ns += S
        for _ in range(source.randrange(200)):
            row = min(source.randrange(8), source.randrange(8))
            write(writers[row // 4], row, now_ns)
            counted[row] += 1
        watch.look(now_ns)
        if look % 20 == 19:
            watch.end_window(now_ns)
    ranked = sorted(counted, key=lambda row: (-counted[row], row))
    assert watch.rank_busiest(3) == ranked[:3]
    assert watch.rank_busiest(100) == ranked


def test_a_watch_on_a_market_in_which_nothing_happens_finds_nothing() -> None:
    image, _ = made()
    watch = RowWatch(image, BEGAN)
    for minute in range(40):
        watch.look(BEGAN + minute * 60 * S)
        watch.end_window(BEGAN + minute * 60 * S)
    assert watch.rank_busiest(5) == []
    assert watch.find_silent(BEGAN + 3_000 * S, S) == []
    assert watch.find_invalid(BEGAN + 3_000 * S, S) == []
