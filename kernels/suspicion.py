"""What makes figures suspicious: the judgements behind the alarms, each a pure rule on counts and their own history.

Field notes 1 (a stage that drops everything in silence), 4 (the stale leg), 8 (a frozen price) and 18 are the stories.
"Expected" is always the subject's own past rate times what went in, or how long it has been: if events came
independently, none where `n` were expected has the probability e^-n, so that 20 of them leave no room for chance.

Everything is bounded: histories have a fixed number of windows, tables a greatest size, and at it new names are
counted (`names_dropped`) and not watched.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

NAMES_MAX: Final = 4_096
HISTORY_WINDOWS: Final = 30
HISTORY_WINDOWS_MIN: Final = 3
EXPECTED_MIN: Final = 20
NEVER_PASSED_MIN: Final = 1_000
STEADY_PERCENT: Final = 80
COLLAPSE_SHARE: Final = 0.01
SUSTAINED_LOOKS: Final = 5

DEGRADED_WORDS: Final = frozenset((
    "away", "bad", "capped", "clamped", "closed", "credit", "damaged", "disconnected", "dropped", "failed", "full",
    "gap", "gaps", "held", "ignored", "invalid", "late", "lost", "mismatch", "mismatched", "mismatches", "misdirected",
    "overrun", "overruns", "reconnects", "refused", "rejected", "resent", "resync", "resyncs", "retried", "skipped",
    "stale", "still", "suppressed", "throttled", "unaddressed", "unconfirmed", "unexpected", "unreadable", "withheld",
))  # fmt: skip
"""A counter whose name has one of these words counts a degraded path: a clamp, skip, drop, retry or default."""


class Suspicion(msgspec.Struct, frozen=True, gc=False):
    """What stands: a name, how bad (`info`, `warning`, `critical`), the evidence and since when."""

    name: str
    severity: str
    text: str
    since_ns: int


class Most(NamedTuple):
    """The name that takes most, and how many of how many."""

    name: str
    taken: int
    total: int


def find_most(names: Sequence[str], count_min: int, share_min: float) -> Most | None:
    """Return the commonest name if there are `count_min` in all and it has at least `share_min` of them.

    Of equals the one that comes first.
    """
    if len(names) < count_min:
        return None
    name, count = Counter(names).most_common(1)[0]
    return Most(name, count, len(names)) if count >= share_min * len(names) else None


class RateLimits(NamedTuple):
    """How far from its own history a count a window is too far. `jump_count_min`: fewer are never a jump."""

    jump_factor: float = 10.0
    jump_count_min: int = 10
    fall_expected_min: float = EXPECTED_MIN
    windows_min: int = HISTORY_WINDOWS_MIN


RATE_LIMITS: Final = RateLimits()


class Jump(NamedTuple):
    """Many times what was usual: `came` in the window in progress, `usual` a window before."""

    came: int
    usual: float


class Fall(NamedTuple):
    """Nothing in the last `windows` whole windows (and the one in progress), where `usual` a window were steady."""

    windows: int
    usual: float


def judge_rate(history: Sequence[int], in_window: int, limits: RateLimits = RATE_LIMITS) -> Jump | Fall | None:
    """Judge a count against the counts of the whole windows before it, oldest first.

    Fewer than `windows_min` windows of history say nothing. A jump: `in_window` is at least `jump_count_min` and
    `jump_factor` times the mean. A fall: the windows before the empty ones at the end were steady (80 % of them had
    something) and by their mean at least `fall_expected_min` should have come in the empty ones. A new rate becomes
    usual as it fills the history.
    """
    if len(history) < limits.windows_min:
        return None
    usual = sum(history) / len(history)
    if in_window >= max(limits.jump_count_min, limits.jump_factor * usual):
        return Jump(in_window, usual)
    if in_window:
        return None
    empty = 0
    while empty < len(history) and history[-1 - empty] == 0:
        empty += 1
    before = history[: len(history) - empty]
    if len(before) < limits.windows_min:
        return None
    steady = 100 * sum(count > 0 for count in before) >= STEADY_PERCENT * len(before)
    mean = sum(before) / len(before)
    return Fall(empty, mean) if empty and steady and mean * empty >= limits.fall_expected_min else None


class StageLimits(NamedTuple):
    """When a stage passes too little. `never_passed_min`: so many in and none out is wrong without any history."""

    expected_min: float = EXPECTED_MIN
    never_passed_min: int = NEVER_PASSED_MIN
    windows_min: int = HISTORY_WINDOWS_MIN


STAGE_LIMITS: Final = StageLimits()


class Blocked(NamedTuple):
    """A stage that passes (nearly) nothing: `went_in` since it last did, `came_out` of them, `usual_share` before."""

    went_in: int
    came_out: int
    usual_share: float


class Stage:
    """One stage's pass rate, against its own history of windows.

    Blocked where, since anything last came out, `expected_min` should have by the history's share; or the last whole
    window passed less than 1 % of what it should. A stage that `must_pass` is also blocked where `never_passed_min`
    went in and nothing ever came out, over a whole window at least: what comes out begins later than what goes in.
    """

    def __init__(self, must_pass: bool, limits: StageLimits = STAGE_LIMITS) -> None:
        self._must_pass, self._limits = must_pass, limits
        self._history: deque[tuple[int, int]] = deque(maxlen=HISTORY_WINDOWS)
        self._window = (0, 0)
        self._dry_in = 0
        self._dry_ends = 0

    def add(self, went_in: int, came_out: int) -> None:
        """Take what passed since the last call."""
        self._window = self._window[0] + went_in, self._window[1] + came_out
        self._dry_in = 0 if came_out else self._dry_in + went_in
        self._dry_ends = 0 if came_out else self._dry_ends

    def end_window(self) -> None:
        """The window is over; an empty one says nothing of a share."""
        self._dry_ends += self._dry_in > 0
        if self._window[0]:
            self._history.append(self._window)
        self._window = (0, 0)

    def judge(self) -> Blocked | None:
        """Say whether it is blocked now."""
        history, limits = tuple(self._history), self._limits
        share = _share(history) if len(history) >= limits.windows_min else 0.0
        if share and self._dry_in * share >= limits.expected_min:
            return Blocked(self._dry_in, 0, share)
        before = _share(history[:-1]) if len(history) > limits.windows_min else 0.0
        if before and history[-1][0] * before * COLLAPSE_SHARE >= 1 and self._collapsed(history[-1], before):
            return Blocked(*history[-1], before)
        # Between two ends lies a whole window; before the first may be a moment only.
        if self._must_pass and not share and self._dry_ends >= 2 and self._dry_in >= limits.never_passed_min:
            return Blocked(self._dry_in, 0, 0.0)
        return None

    def _collapsed(self, window: tuple[int, int], usual_share: float) -> bool:
        """Whether that window, and what of the next there is, passed so little."""
        went_in, came_out = window[0] + self._window[0], window[1] + self._window[1]
        return came_out <= COLLAPSE_SHARE * went_in * usual_share


def _share(windows: Sequence[tuple[int, int]]) -> float:
    went_in = sum(window[0] for window in windows)
    return sum(window[1] for window in windows) / went_in if went_in else 0.0


class Late(NamedTuple):
    """A lag too long: the least of the last looks, what was usual, and the limit that it passed."""

    lag_ms: float
    usual_ms: float
    limit_ms: float


class Lag:
    """One lag against a limit and against its own history: too long if it is in each of the last five looks."""

    def __init__(self, limit_ms: float, factor: float, floor_ms: float) -> None:
        """`factor` times the median of past windows is too long too, if it is above `floor_ms`."""
        self._limit_ms, self._factor, self._floor_ms = limit_ms, factor, floor_ms
        self._looks: deque[float] = deque(maxlen=SUSTAINED_LOOKS)
        self._window: deque[float] = deque(maxlen=NAMES_MAX)
        self._history: deque[float] = deque(maxlen=HISTORY_WINDOWS)

    def add(self, lag_ms: float) -> None:
        """Take a look's."""
        self._looks.append(lag_ms)
        self._window.append(lag_ms)

    def end_window(self) -> None:
        """The window's median joins the history."""
        if self._window:
            self._history.append(_median(self._window))
        self._window.clear()

    def judge(self) -> Late | None:
        """Say whether it is too long now."""
        if len(self._looks) < SUSTAINED_LOOKS:
            return None
        known = len(self._history) >= HISTORY_WINDOWS_MIN
        usual_ms = _median(self._history) if known else 0.0
        own_ms = max(self._floor_ms, self._factor * usual_ms) if known else self._limit_ms
        limit_ms = min(self._limit_ms, own_ms)
        least_ms = min(self._looks)
        return Late(least_ms, usual_ms, limit_ms) if least_ms > limit_ms else None


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


class Repeats:
    """Which counters of degraded paths grew in each of the last `windows` windows: a warning that repeats."""

    def __init__(self, windows: int) -> None:
        self.names_dropped = 0
        self._windows = windows
        self._in_window: dict[str, int] = {}
        self._grown: dict[str, deque[int]] = {}

    def add(self, name: str, by: int) -> None:
        """Take how much a counter grew since the last call."""
        if by and name not in self._in_window and len(self._in_window) >= NAMES_MAX:
            self.names_dropped += 1
        elif by:
            self._in_window[name] = self._in_window.get(name, 0) + by

    def end_window(self) -> None:
        """A counter that did not grow begins anew."""
        self._grown = {
            name: deque((*self._grown.get(name, ()), by), maxlen=self._windows) for name, by in self._in_window.items()
        }
        self._in_window = {}

    def judge(self) -> dict[str, tuple[int, ...]]:
        """Return by name how much each grew in each of the last windows, oldest first, of those that repeat."""
        return {name: tuple(grown) for name, grown in self._grown.items() if len(grown) == self._windows}


def counts_degraded_path(name: str) -> bool:
    """Say by its name whether a counter counts a degraded path."""
    return not DEGRADED_WORDS.isdisjoint(name.replace(".", "_").split("_"))


class Growth:
    """How much counters grew from look to look, also where an incarnation ended and its successor counts from zero."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[int, Mapping[str, int]]] = {}

    def of(self, role: str, incarnation: int, counters: Mapping[str, int]) -> dict[str, int]:
        """Return the growth of each counter since the last look at this role; at the first look nothing has grown.

        A gauge that fell has grown by nothing.
        """
        known, before = self._before.get(role, (0, {}))
        self._before[role] = incarnation, dict(counters)
        if not known:
            return {}
        if known != incarnation:
            before = {}
        return {name: max(0, count - before.get(name, 0)) for name, count in counters.items()}
