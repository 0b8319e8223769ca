"""The market's actors on a stage: real drivers under the shell, against a paper exchange of the test's own."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actors.adapters.assembly import BeatReturned, HostedDriver
from actors.adapters.book_driver import BookDriver, BookOptions
from actors.adapters.clock import SystemClock
from actors.adapters.evaluator_driver import EvaluatorDriver, EvaluatorOptions
from actors.adapters.feed_driver import FeedDriver, FeedOptions
from actors.messages import AnyMessage, OpenImage, StartEvaluator, StartFeed


class Hosted:
    """A driver and what it has emitted, as its host would take it."""

    def __init__(self, driver: HostedDriver, first: AnyMessage) -> None:
        self.driver = driver
        self.events: list[AnyMessage | BeatReturned] = []
        driver.post(first)
        driver.start()

    def pump(self, seconds_max: float = 0.0) -> None:
        """Take what waits; wait for it at most so long."""
        if select.select([self.driver.fileno()], [], [], seconds_max)[0]:
            self.events += self.driver.drain()

    def all(self, kind: type[Any]) -> list[Any]:
        """Return the events of a type so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def last(self, kind: type[Any]) -> Any:
        """Return the newest of a type, None where there is none."""
        return next((event for event in reversed(self.events) if isinstance(event, kind)), None)


class Stage:
    """Drivers in this process; `until` pumps them all while it waits."""

    def __init__(self, run_dir: Path, rest_url: str, ws_url: str) -> None:
        run_dir.mkdir(exist_ok=True, parents=True)
        self.run_dir, self.rest_url, self.ws_url = run_dir, rest_url, ws_url
        self.hosted: list[Hosted] = []

    def host(self, driver: HostedDriver, first: AnyMessage) -> Hosted:
        """Start a driver."""
        hosted = Hosted(driver, first)
        self.hosted.append(hosted)
        return hosted

    def book(self, epoch: int = 1, **options: Any) -> Hosted:
        """Start a book."""
        given = BookOptions(role="book", run_dir=str(self.run_dir), rest_url=self.rest_url, **options)
        return self.host(BookDriver(given, SystemClock(), lambda: 0.5), OpenImage(epoch))

    def feed(self, shard: int = 0, epoch: int = 1, **options: Any) -> Hosted:
        """Start a feed."""
        given = FeedOptions(role=f"feed.spot.{shard}", run_dir=str(self.run_dir), ws_url=self.ws_url, **options)
        return self.host(FeedDriver(given, SystemClock(), lambda: 0.5), StartFeed(epoch))

    def evaluator(self, epoch: int = 1, **options: Any) -> Hosted:
        """Start an evaluator."""
        given = EvaluatorOptions(role="evaluator", run_dir=str(self.run_dir), **options)
        return self.host(EvaluatorDriver(given, SystemClock()), StartEvaluator(epoch))

    def until(self, condition: Callable[[], bool], seconds_max: float = 60.0, say: str = "") -> None:
        """Pump all until it holds. Raises AssertionError, with the last events, where it does not come to."""
        deadline = time.monotonic() + seconds_max
        while not condition():
            assert time.monotonic() < deadline, f"{say} {[hosted.events[-2:] for hosted in self.hosted]}"
            for hosted in self.hosted:
                hosted.pump(0.005)

    def stop(self, hosted: Hosted) -> None:
        """Stop one."""
        hosted.pump()
        hosted.driver.stop()
        self.hosted.remove(hosted)

    def close(self) -> None:
        """Stop all, last first."""
        for hosted in reversed(list(self.hosted)):
            self.stop(hosted)
