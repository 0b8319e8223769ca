"""Two feeds of the same symbols, as processes: whatever befalls the first, every row stays live, and none of a dead one
is taken."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from actors.adapters.feed_driver import FeedOptions
from actors.adapters.image_file import MappedImage, find_image, remove_image
from kernels import seqlock
from kernels.book_image import NO_AGE_LIMIT, Verdict
from kernels.row_tally import tally_rows
from tests.actors.feed_process import start_feed
from tests.actors.market_stage import Hosted, Stage
from tests.venues.exchange_process import ExchangeProcess

BUSY = ("--symbols", "12", "--rate", "400", "--opportunity-every-s", "0")
STALE_NS = 3_000_000_000
"""Far above the engine's own bound: what is judged here is which feed is taken, on a machine that may be slow."""


class Pair:
    """An exchange, a book, and two feeds."""

    def __init__(self, exchange: ExchangeProcess, run_dir: Path) -> None:
        self.exchange, self.run_dir = exchange, run_dir
        self.stage = Stage(run_dir, exchange.base_url, exchange.ws_url)
        self.book: Hosted = self.stage.book(redundancy=2, failback_s=1.0, audit_every_s=3_600, header_stale_ms=1_000)
        self.stage.until(lambda: find_image(run_dir, writable=False) is not None, 30)
        found = find_image(run_dir, writable=False)
        assert found is not None
        self.mapped: MappedImage = found
        self.primary = self.start("feed.spot.0", 1)
        self.stage.until(lambda: self.live_of(twin=False) == self.rows, 40)
        # Numbered as they come: the first connection is the primary's.
        self.connection = int(exchange.get("/paper/status")["connections"][0]["number"])
        self.backup = self.start("feed.backup.0", 1)
        self.stage.until(lambda: self.live_of(twin=True) == self.rows, 40)

    @property
    def rows(self) -> int:
        return self.mapped.image.layout.n_rows

    def start(self, role: str, epoch: int) -> subprocess.Popen[bytes]:
        return start_feed(FeedOptions(role=role, run_dir=str(self.run_dir), ws_url=self.exchange.ws_url), epoch)

    def live_of(self, *, twin: bool) -> int:
        """Count the rows of one of the two that are live by themselves."""
        image, out = self.mapped.image, np.zeros(seqlock.ROW_WORDS, dtype=np.int64)
        feed, behind = (image.twin(0), self.rows) if twin else (0, 0)
        return sum(
            seqlock.judge_row(image.rows, image.feeds, feed, row + behind, time.time_ns(), STALE_NS, NO_AGE_LIMIT, out)
            == seqlock.LIVE
            for row in range(self.rows)
        )

    def all_live(self) -> bool:
        return tally_rows(self.mapped.image, time.time_ns(), liveness_ns_max=STALE_NS).live == self.rows

    def counters(self) -> dict[str, int]:
        counters: dict[str, int] = self.book.driver.counters  # type: ignore[attr-defined]
        return counters

    def close(self) -> None:
        for process in (self.primary, self.backup):
            process.kill()
            process.wait(60)
        self.stage.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with ExchangeProcess(tmp_path / "x", *BUSY) as exchange:
        pair = Pair(exchange, tmp_path / "run")
        yield pair
        pair.close()
    remove_image(tmp_path / "run")


@pytest.mark.parametrize("fate", ["killed", "stopped", "half_open"])
def test_every_row_stays_live_and_comes_of_the_twin_until_the_feed_has_been_well_for_a_while(
    pair: Pair, fate: str
) -> None:
    image = pair.mapped.image
    match fate:
        case "killed":
            pair.primary.kill()
            pair.primary.wait(60)
        case "stopped":
            os.kill(pair.primary.pid, signal.SIGSTOP)
        case _:
            pair.exchange.fault("half_open", connection=pair.connection)

    def gone_and_replaced() -> bool:
        assert pair.all_live()
        # A half-open connection is given up, and made again, soon after its rows are too old.
        return image.is_stood_down(0) and (fate == "half_open" or pair.live_of(twin=False) == 0)

    pair.stage.until(gone_and_replaced, 30)
    assert pair.counters()["failovers"] >= 1
    for row in range(pair.rows):
        read = image.read_live_row(row, time.time_ns(), liveness_ns_max=STALE_NS)[1]
        assert read is not None
        assert read.of_twin
    match fate:
        case "killed":
            pair.primary = pair.start("feed.spot.0", 2)
        case "stopped":
            os.kill(pair.primary.pid, signal.SIGCONT)

    def back() -> bool:
        assert pair.all_live()
        return not image.is_stood_down(0)

    pair.stage.until(back, 40)
    assert pair.counters()["failbacks"] >= 1


def test_a_frame_that_neither_feed_can_read_makes_the_row_invalid_until_a_good_one(pair: Pair) -> None:
    pair.exchange.fault("silence", symbol="BTCUSDT", seconds=60)
    pair.exchange.fault("truncated_frame", symbol="BTCUSDT", n=1)
    row = next(at for at, one in enumerate(pair.mapped.record.symbols) if one.name == "BTCUSDT")

    def verdict() -> Verdict:
        return pair.mapped.image.read_live_row(row, time.time_ns(), liveness_ns_max=STALE_NS)[0]

    pair.stage.until(lambda: verdict() is Verdict.INVALID)
    assert not pair.all_live()
    pair.exchange.fault("silence", symbol="BTCUSDT", seconds=0)
    pair.stage.until(pair.all_live)
