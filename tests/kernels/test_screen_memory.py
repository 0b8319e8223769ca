"""What the screen remembers of rows between calls changes nothing: it answers as one that has just been made."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest

from kernels.address_block import Block
from kernels.book_image import BookImage, FeedWriter, RowStatus, format_image, layout
from kernels.cycles import build_index
from kernels.evaluator import Evaluator
from kernels.exchange_info import Symbol
from kernels.fixed8 import SCALE
from kernels.screen import _near

PAIRS = [("BTC", "USDT"), ("ETH", "USDT"), ("ETH", "BTC"), ("BNB", "USDT"), ("BNB", "BTC"), ("BNB", "ETH")]
SYMBOLS = [Symbol(base + quote, "TRADING", base, quote) for base, quote in PAIRS]
BEGAN_NS = 10**15
AGE_NS_MAX = 2_500
LIVENESS_NS_MAX = 1_500


class Market:
    """Two feeds, the first with a twin, that live, die, return, go bad and are succeeded."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        n_rows = len(SYMBOLS)
        row_feed = [row % 2 for row in range(n_rows)]
        buffer = bytearray(layout(n_rows, 3, 64, 2).n_bytes)
        self.image: BookImage = format_image(buffer, row_feed, 3, 64, twins={0: 2})
        self.row_feed = row_feed
        self.epochs = [0, 0, 0]
        self.now_ns = BEGAN_NS
        self.writers: list[FeedWriter] = [self.succeeded(feed) for feed in range(3)]

    def succeeded(self, feed: int) -> FeedWriter:
        self.epochs[feed] += 1
        writer = FeedWriter(self.image, feed, self.epochs[feed])
        writer.beat(self.now_ns)
        return writer

    def step(self) -> None:
        chance = self.chance
        self.now_ns += chance.choice([0, 1, 10, 100, 300])
        feed = chance.randrange(3)
        writer = self.writers[feed]
        row = chance.choice(sorted(writer.owned))
        dice = chance.random()
        if dice < 0.6:
            bid = chance.randint(SCALE // 2, 2 * SCALE) if chance.random() < 0.98 else 0
            writer.write_row(row, bid, SCALE, bid + 1, SCALE, 1, self.now_ns - chance.choice([0, 0, 500]))
        elif dice < 0.63:
            writer.mark_invalid(row, RowStatus.CROSSED)
        elif dice < 0.95:
            writer.beat(self.now_ns)
        elif dice < 0.96:
            writer.down()
        elif dice < 0.98:
            self.writers[feed] = self.succeeded(feed)
        elif dice < 0.985:
            self.image.hold_down(feed)
        else:
            self.image.stand_down(0, chance.random() < 0.5)


@pytest.mark.parametrize("seed", range(8))
def test_a_screen_that_remembers_answers_as_one_that_does_not(seed: int) -> None:
    print("seed", seed)
    market = Market(seed)
    index = build_index(SYMBOLS, None, (3, 4))
    limits = {"age_ns_max": AGE_NS_MAX, "liveness_ns_max": LIVENESS_NS_MAX, "net_return_min": Fraction(9, 10)}
    old = Evaluator(index, market.image, **limits)  # type: ignore[arg-type]
    seen = np.zeros(5, dtype=np.int64)
    for _ in range(400):
        for _ in range(market.chance.randrange(3)):
            market.step()
        fresh = Evaluator(index, market.image, **limits)  # type: ignore[arg-type]
        before = old.screen.tally.copy()
        if market.chance.random() < 0.3:
            found, expected = old.scan(market.now_ns), fresh.scan(market.now_ns)
        else:
            rows = np.array(market.chance.choices(range(len(SYMBOLS)), k=market.chance.randint(1, 3)), dtype=np.int32)
            found, expected = old.on_rows(rows, market.now_ns), fresh.on_rows(rows, market.now_ns)
        assert found == expected
        assert (old.screen.tally - before).tolist() == fresh.screen.tally.tolist()
        seen += fresh.screen.tally
    assert all(seen[:4]), f"live, invalid, dead and aged all occur: {seen}"


def test_the_rows_near_a_row_are_those_of_its_cycles_each_once() -> None:
    for lengths in ((3,), (3, 4)):
        index = build_index([*SYMBOLS, Symbol("XY", "TRADING", "X", "Y")], None, lengths)
        n_rows = len(index.symbols)
        codes = np.where(index.legs < 0, 2 * n_rows, 2 * index.legs + index.sides).astype(np.uint32)
        near_start, near = _near(index, codes)
        for row in range(n_rows):
            found = near[near_start[row] : near_start[row + 1]].tolist()
            cycles = [index.legs_of(cycle)[0] for cycle in range(len(index))]
            expected = {other for legs in cycles if row in legs for other in legs}
            assert len(found) == len(set(found))
            assert set(found) == expected


def test_an_array_that_is_not_contiguous_is_refused() -> None:
    with pytest.raises(ValueError, match="place 3"):
        Block({3: np.zeros(10, dtype=np.int64)[::2]})
