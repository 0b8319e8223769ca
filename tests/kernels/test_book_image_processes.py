"""The image between real processes: writers killed at any instant, successors, and no read ever torn."""

from __future__ import annotations

import mmap
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kernels import seqlock
from kernels.book_image import BookImage, FeedWriter, RingReader, RowStatus, Verdict, format_image, layout
from tests.conftest import ROOT
from tests.kernels.image_hammer import N_ROWS, figures

pytestmark = pytest.mark.process

KILLS = 40
READS_A_LIFE_MAX = 2000
RING_SLOTS = 1 << 14


def mapped(path: Path, writable: bool) -> BookImage:
    access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
    with path.open("r+b") as file:
        return BookImage(memoryview(mmap.mmap(file.fileno(), 0, access=access)))


@pytest.fixture
def image_path(tmp_path: Path) -> Path:
    path = tmp_path / "book.image"
    size = layout(N_ROWS, 1, RING_SLOTS).n_bytes
    path.write_bytes(bytes(size))
    with path.open("r+b") as file:
        format_image(memoryview(mmap.mmap(file.fileno(), 0)), [0] * N_ROWS, 1, RING_SLOTS)
    return path


class Writers:
    """The process that forks writers; each `start` is followed by a `kill`."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-m", "tests.kernels.image_hammer", str(path)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._writer = 0

    def start(self, epoch: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{epoch}\n")
        self._process.stdin.flush()
        self._writer = int(self._answer())

    def kill(self) -> None:
        os.kill(self._writer, signal.SIGKILL)
        self._writer = 0
        assert self._answer() == "dead"

    def close(self) -> None:
        if self._writer:
            os.kill(self._writer, signal.SIGKILL)
        self._process.kill()
        self._process.communicate(timeout=10)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.fixture
def writers(image_path: Path) -> Iterator[Writers]:
    made = Writers(image_path)
    yield made
    made.close()


def test_no_read_is_torn_while_writers_are_killed_in_mid_write_and_succeeded(
    image_path: Path, writers: Writers
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    image = mapped(image_path, writable=False)
    reader = RingReader(image, 0)
    died_within_a_write = live_epoch = announced = out_of_turn = 0
    last = np.zeros(0, dtype=np.int32)
    for epoch in range(1, KILLS + 1):
        writers.start(epoch)
        deadline = time.monotonic() + 60
        enough = chance.randrange(1, READS_A_LIFE_MAX)
        reads = 0
        while reads < enough:
            assert time.monotonic() < deadline, "the writer does not write"
            for row in range(N_ROWS):
                verdict, values = image.read_live_row(row, time.monotonic_ns())
                if values is None or not values.bid_px:
                    continue
                assert values[1:7] == figures(values.bid_px)
                if verdict is Verdict.LIVE:
                    assert values.bid_px >> 40 == values.epoch
                    assert live_epoch <= values.epoch <= epoch, "what was succeeded is not live again"
                    live_epoch = values.epoch
                    reads += live_epoch == epoch
            rows = reader.drain()
            announced += 0 if rows is None else len(rows)
            # A writer goes through its rows in turn: only its successor's first announcement may be out of turn.
            in_turn = np.zeros(0, dtype=np.int32) if rows is None else np.concatenate((last, rows))
            out_of_turn += int(np.count_nonzero(np.diff(in_turn) % N_ROWS != 1))
            last = in_turn[-1:]
        writers.kill()
        died_within_a_write += any(image.read_row(row) is None for row in range(N_ROWS))
    print(f"{died_within_a_write} of {KILLS} died within a write; {announced} announced, {reader.overruns} overruns")
    assert announced > 0
    assert out_of_turn <= KILLS
    assert died_within_a_write > 0


def test_rows_of_a_killed_writer_stop_counting_by_themselves_after_250_ms(image_path: Path, writers: Writers) -> None:
    image = mapped(image_path, writable=False)
    writers.start(1)
    deadline = time.monotonic() + 60
    while image.read_live_row(0, time.monotonic_ns())[0] is not Verdict.LIVE:
        assert time.monotonic() < deadline
    writers.kill()
    dead_ns = time.monotonic_ns()
    for row in range(N_ROWS):
        assert image.read_live_row(row, dead_ns + 250_000_001)[0] in (Verdict.FEED_DEAD, Verdict.BUSY)


def test_a_successor_of_a_writer_that_died_within_a_write_opens_no_window_on_mixed_figures(image_path: Path) -> None:
    image = mapped(image_path, writable=True)
    first = FeedWriter(image, 0, 1)
    first.write_row(0, *figures(1))
    # Stands for a death after each store of a write: the words as they would have been left.
    at = image.layout.rows_at
    for epoch, reached in enumerate(range(8), start=2):
        image._words[at + seqlock.SEQUENCE] |= 1
        for word in range(1, reached + 1):
            image._words[at + word] = 999
        assert image.read_row(0) is None
        successor = FeedWriter(image, 0, epoch)
        assert image.read_row(0) is None, "beginning an epoch does not make the row whole"
        successor.write_row(0, *figures(epoch))
        values = image.read_row(0)
        assert values is not None
        assert values[1:7] == figures(epoch)
        assert values.status is RowStatus.VALID


def test_a_reader_that_is_killed_leaves_the_image_as_it_was(image_path: Path) -> None:
    image = mapped(image_path, writable=True)
    FeedWriter(image, 0, 1).write_row(0, *figures(5))
    ready = "import sys; print('ready', flush=True); sys.stdin.read()"
    code = f"import mmap; file = open({str(image_path)!r}, 'rb'); m = mmap.mmap(file.fileno(), 0, access=1); {ready}"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    finally:
        process.kill()
        process.communicate(timeout=10)
    values = mapped(image_path, writable=False).read_row(0)
    assert values is not None
    assert values[1:7] == figures(5)
