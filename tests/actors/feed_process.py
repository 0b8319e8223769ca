"""A feed's driver as a process, to be stopped and killed: `python -m tests.actors.feed_process JSON EPOCH`."""

from __future__ import annotations

import select
import subprocess
import sys
from pathlib import Path

import msgspec

from actors.adapters.clock import SystemClock
from actors.adapters.feed_driver import FeedDriver, FeedOptions
from actors.messages import StartFeed

ROOT = Path(__file__).resolve().parent.parent.parent


def start_feed(options: FeedOptions, epoch: int) -> subprocess.Popen[bytes]:
    """Start one; the caller kills it."""
    command = [sys.executable, "-m", "tests.actors.feed_process", msgspec.json.encode(options).decode(), str(epoch)]
    return subprocess.Popen(command, cwd=ROOT)


def main() -> None:
    """Run until killed."""
    options = msgspec.json.decode(sys.argv[1], type=FeedOptions)
    driver = FeedDriver(options, SystemClock(), lambda: 0.5)
    driver.post(StartFeed(int(sys.argv[2])))
    driver.start()
    while True:
        select.select([driver.fileno()], [], [])
        driver.drain()


if __name__ == "__main__":
    main()
