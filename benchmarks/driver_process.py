"""One of the market's drivers in a process of its own, as its actor hosts it.

`python -m benchmarks.driver_process JSON` (`DriverProcess`). Statuses are written as lines, `KIND JSON`; for each line
on standard input it writes `Counted`.
"""

from __future__ import annotations

import os
import select
import sys

import msgspec

from actors.adapters.clock import SystemClock
from actors.adapters.evaluator_driver import EvaluatorDriver, EvaluatorOptions
from actors.adapters.feed_driver import FeedDriver, FeedOptions
from actors.messages import EvaluatorReady, EvaluatorStatus, FeedStatus, StartEvaluator, StartFeed

ROLE_OF_FEED = "feed.spot.0"
_SHOWN = (FeedStatus, EvaluatorStatus, EvaluatorReady)


class DriverProcess(msgspec.Struct, frozen=True):
    """What to host. `cpu`: the whole process; a driver that spins pins its own thread alone. -1: wherever the system
    puts it.
    """

    kind: str
    run_dir: str
    ws_url: str = ""
    cpu: int = -1
    spin: bool = False


class Counted(msgspec.Struct, frozen=True):
    """The answer to a line on standard input: counters as of the last status, histograms as of now."""

    counters: dict[str, int]
    latencies: dict[str, dict[str, int]]


def main() -> None:
    """Run until standard input ends."""
    asked = msgspec.json.decode(sys.argv[1], type=DriverProcess)
    if asked.spin:
        _leave_real_time()
    elif asked.cpu >= 0:
        os.sched_setaffinity(0, {asked.cpu})
    driver = _driver(asked)
    driver.start()
    while True:
        ready, _, _ = select.select([driver.fileno(), sys.stdin], [], [])
        for event in driver.drain():
            if isinstance(event, _SHOWN):
                _say(type(event).__name__, msgspec.json.encode(event))
        if sys.stdin in ready:
            line = sys.stdin.readline()
            if not line:
                break
            _say("Counted", msgspec.json.encode(Counted(driver.counters, driver.latencies)))
    driver.stop()


def _leave_real_time() -> None:
    """Under a real-time policy the kernel takes 50 ms of each second from a thread that never sleeps: the ordinary one
    instead, at its highest weight.
    """
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, -20)


def _driver(asked: DriverProcess) -> FeedDriver | EvaluatorDriver:
    if asked.kind == "feed":
        options = FeedOptions(role=ROLE_OF_FEED, run_dir=asked.run_dir, ws_url=asked.ws_url)
        feed = FeedDriver(options, SystemClock(), lambda: 0.5)
        feed.post(StartFeed(1))
        return feed
    evaluator = EvaluatorDriver(
        EvaluatorOptions(
            role="evaluator",
            run_dir=asked.run_dir,
            starts=None,
            spin=asked.spin,
            cpu=asked.cpu if asked.spin and asked.cpu >= 0 else None,
        ),
        SystemClock(),
    )
    evaluator.post(StartEvaluator(1))
    return evaluator


def _say(kind: str, body: bytes) -> None:
    sys.stdout.buffer.write(kind.encode() + b" " + body + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
