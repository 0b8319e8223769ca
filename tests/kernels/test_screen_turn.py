"""A turn of the screen: what every ring announced is taken, once, screened as `on_rows` would, and its age recorded."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np

from kernels.book_image import BookImage, FeedWriter, format_image, layout
from kernels.cycles import build_index
from kernels.evaluator import Evaluator
from kernels.exchange_info import Symbol
from kernels.fixed8 import SCALE
from kernels.latency_histogram import count_of, quantile_ns

PAIRS = [("BTC", "USDT"), ("ETH", "USDT"), ("ETH", "BTC"), ("BNB", "USDT"), ("BNB", "BTC"), ("BNB", "ETH")]
SYMBOLS = [Symbol(base + quote, "TRADING", base, quote) for base, quote in [*PAIRS, ("ALONE", "ELSE")]]
INDEX = build_index(SYMBOLS, None, (3, 4))
NOW_NS = 10**15
ROW_FEED = (0, 1, 0, 1, 0, 1, 0)


def market(ring_slots: int = 64) -> tuple[BookImage, list[FeedWriter]]:
    image = format_image(bytearray(layout(len(SYMBOLS), 2, ring_slots).n_bytes), ROW_FEED, 2, ring_slots)
    writers = [FeedWriter(image, feed, 1) for feed in (0, 1)]
    for writer in writers:
        writer.beat(NOW_NS)
    return image, writers


def write(writers: list[FeedWriter], row: int, bid: int, received_ns: int = NOW_NS) -> None:
    writers[ROW_FEED[row]].write_row(row, bid, SCALE, bid + 1, SCALE, 1, received_ns)


def test_turns_decide_what_the_same_changes_given_as_rows_decide() -> None:
    seed = 41
    print("seed", seed)
    chance = random.Random(seed)
    image, writers = market()
    by_turns = Evaluator(INDEX, image, net_return_min=Fraction(1, 2))
    by_rows = Evaluator(INDEX, image, net_return_min=Fraction(1, 2))
    for _ in range(300):
        rows = [chance.randrange(len(SYMBOLS)) for _ in range(chance.randrange(6))]
        for row in rows:
            write(writers, row, chance.randint(SCALE // 2, 2 * SCALE))
        found = by_turns.on_turn(NOW_NS)
        changed = by_turns.screen.changed.tolist()
        assert sorted(changed) == sorted(rows)
        # Feed by feed, each in its order.
        assert changed == [row for feed in (0, 1) for row in rows if ROW_FEED[row] == feed]
        expected = by_rows.on_rows(np.array(changed, dtype=np.int32), NOW_NS)
        assert [one.cycle for one in found] == [one.cycle for one in expected]
        assert by_turns.counters == by_rows.counters
        assert not by_turns.screen.is_more
        assert by_turns.screen.overrun == []


def test_what_was_announced_before_is_not_taken_and_a_turn_without_news_does_nothing() -> None:
    image, writers = market()
    write(writers, 0, SCALE)
    evaluator = Evaluator(INDEX, image)
    assert evaluator.on_turn(NOW_NS) == []
    assert len(evaluator.screen.changed) == 0
    write(writers, 0, SCALE)
    evaluator.on_turn(NOW_NS)
    assert evaluator.screen.changed.tolist() == [0]
    evaluator.on_turn(NOW_NS)
    assert len(evaluator.screen.changed) == 0
    assert evaluator.counters.evaluated + evaluator.counters.skipped == len(
        INDEX.row_cycles[INDEX.row_start[0] : INDEX.row_start[1]]
    )


def test_an_overrun_names_its_feed_and_the_next_turn_follows_again() -> None:
    image, writers = market(ring_slots=8)
    evaluator = Evaluator(INDEX, image)
    for _ in range(9):
        write(writers, 1, SCALE)
    write(writers, 0, SCALE)
    evaluator.on_turn(NOW_NS)
    assert evaluator.screen.overrun == [1]
    assert evaluator.screen.changed.tolist() == [0]
    write(writers, 3, SCALE)
    evaluator.on_turn(NOW_NS)
    assert evaluator.screen.overrun == []
    assert evaluator.screen.changed.tolist() == [3]


def test_more_than_a_turn_takes_is_taken_in_order_by_the_next_ones() -> None:
    image, writers = market(ring_slots=1 << 16)
    evaluator = Evaluator(INDEX, image)
    rows = [0, 2, 4] * 11_000
    for row in rows:
        write(writers, row, SCALE)
    taken: list[int] = []
    turns = 0
    while evaluator.screen.is_more or turns == 0:
        evaluator.on_turn(NOW_NS)
        turns += 1
        taken += evaluator.screen.changed.tolist()
    assert taken == rows
    assert turns > 1


def test_the_age_of_each_changed_row_is_recorded_and_of_one_in_no_cycle_is_not() -> None:
    image, writers = market()
    evaluator = Evaluator(INDEX, image)
    for row, age_ns in ((0, 1_000), (1, 1_000_000), (6, 5)):
        write(writers, row, SCALE, NOW_NS - age_ns)
    evaluator.on_turn(NOW_NS)
    evaluator.screen.record(NOW_NS + 10)
    found = evaluator.screen.latency
    assert count_of(found) == 2
    assert 1_010 <= quantile_ns(found, 500) <= 1_010 * 33 / 32
    assert quantile_ns(found, 1000) == 1_000_010
