"""One virtual clock, one queue of events, one source of randomness: everything a run does follows from its seed.

Events run one at a time on the calling thread. `run_until` may be called inside an event: that is how an actor is
paused in the middle of its handler while the rest of the world goes on without it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from random import Random

START_NS = 1_700_000_000_000_000_000
MS = 1_000_000
SECOND = 1_000_000_000
LOG_LINES_MAX = 4000


class Violation(BaseException):
    """A law was broken. A BaseException, so that nothing in an engine's handler can swallow it."""

    def __init__(self, law: str, text: str) -> None:
        super().__init__(f"{law}: {text}")
        self.law = law
        self.text = text


class Event:
    """Something that will happen, unless cancelled."""

    __slots__ = ("cancelled", "due_ns", "order", "run", "what")

    def __init__(self, due_ns: int, order: int, what: str, run: Callable[[], None]) -> None:
        self.due_ns = due_ns
        self.order = order
        self.what = what
        self.run = run
        self.cancelled = False

    def __lt__(self, other: Event) -> bool:
        return (self.due_ns, self.order) < (other.due_ns, other.order)


class Scheduler:
    """Clock and queue. `step` counts the events that ran."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now_ns = START_NS
        self.step = 0
        self.after_event: Callable[[], None] = lambda: None
        self._heap: list[Event] = []
        self._order = 0
        self._lines: deque[str] = deque(maxlen=LOG_LINES_MAX)

    def after(self, delay_ns: int, what: str, run: Callable[[], None]) -> Event:
        """Let `run` happen `delay_ns` from now; events of the same instant happen in the order they were asked for."""
        self._order += 1
        event = Event(self.now_ns + max(0, delay_ns), self._order, what, run)
        heapq.heappush(self._heap, event)
        return event

    def run_one(self, until_ns: int) -> bool:
        """Run the next event that is due by `until_ns`; False (with the clock there) if there is none."""
        while self._heap and self._heap[0].due_ns <= until_ns:
            event = heapq.heappop(self._heap)
            if event.cancelled:
                continue
            self.now_ns = max(self.now_ns, event.due_ns)
            self.step += 1
            event.run()
            self.after_event()
            return True
        self.now_ns = max(self.now_ns, until_ns)
        return False

    def run_until(self, until_ns: int) -> None:
        """Run all that is due by then."""
        while self.run_one(until_ns):
            pass

    def run_steps(self, steps: int, until_ns: int) -> None:
        """Run until `step` has reached `steps`, or the clock `until_ns`."""
        while self.step < steps and self.run_one(until_ns):
            pass

    def chance(self, probability: float) -> bool:
        """Throw a coin. Draws nothing for a probability of 0, so that a switched-off fault costs no randomness."""
        return probability > 0 and self.random.random() < probability

    def between(self, low_ns: int, high_ns: int) -> int:
        """A duration, log-uniform: short ones are as likely as long ones."""
        low, high = max(1, low_ns), max(2, high_ns)
        return int(low * (high / low) ** self.random.random())

    def log(self, who: str, text: str) -> None:
        """Keep a readable line; the newest few thousand are kept."""
        elapsed_ms = (self.now_ns - START_NS) / MS
        self._lines.append(f"{self.step:6d} {elapsed_ms:12.3f} ms  {who:<22} {text}")

    def lines(self, last: int) -> list[str]:
        """The newest lines, oldest first."""
        return list(self._lines)[-last:]
