"""The writers of the hammer: one is forked for each epoch read from stdin, its pid printed, its death reported.

A writer is a compiled loop over the real protocol, so that it spends most of its life within a write. Every figure of a
row follows from one number; its upper bits are the epoch.
"""

from __future__ import annotations

import mmap
import os
import sys
import time

import numpy as np
from numba import njit

from kernels import seqlock
from kernels.book_image import BookImage, FeedWriter

N_ROWS = 7
BATCH = 50_000
MASK = 2**62 - 1


def figures(number: int) -> tuple[int, int, int, int, int, int]:
    """Return bid, its quantity, ask, its quantity, update id and time of a row that carries `number`."""
    return (
        number,
        (number * 3) & MASK,
        number ^ 0x5555,
        (number * 7 + 1) & MASK,
        (number * 11 + 2) & MASK,
        (number * 13 + 3) & MASK,
    )


_figures = njit(figures)


@njit
def storm(rows: np.ndarray, feeds: np.ndarray, ring: np.ndarray, epoch: int, number: int) -> int:
    """Write BATCH rows one after another."""
    for _ in range(BATCH):
        number += 1
        bid, bid_qty, ask, ask_qty, update_id, received_ns = _figures(number)
        seqlock.write_row(
            rows,
            feeds,
            ring,
            0,
            epoch,
            number % N_ROWS,
            bid,
            bid_qty,
            ask,
            ask_qty,
            update_id,
            received_ns,
            seqlock.VALID,
        )
    return number


def write_until_killed(image: BookImage, epoch: int) -> None:
    writer = FeedWriter(image, 0, epoch)
    number = epoch << 40
    while True:
        writer.beat(time.monotonic_ns())
        number = storm(writer._rows, writer._feeds, writer._ring, epoch, number)


def main(path: str) -> None:
    with open(path, "r+b") as file:
        image = BookImage(memoryview(mmap.mmap(file.fileno(), 0)))
    storm(np.zeros(8 * N_ROWS, np.int64), np.zeros(16, np.int64), np.zeros(10, np.int64), 0, 0)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            write_until_killed(image, int(line))
        print(child, flush=True)
        os.waitpid(child, 0)
        print("dead", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
