"""The watch over a running engine's figures: looks in, the suspicions that stand out, each by name and with evidence.

One instance is one watcher's. It is told what every role counts and how the rows stand, about once a second, and says
what is suspicious now. A suspicion stands from the look that found it until the first that does not.

Full: at most `STANDING_MAX` stand at once; what would be more is counted (`suspicions_dropped`), those that stand stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from kernels.row_watch import InvalidRow, SilentRow
from kernels.suspicion import (
    Blocked,
    Growth,
    Lag,
    Late,
    Repeats,
    Stage,
    StageLimits,
    Suspicion,
    counts_degraded_path,
)

STANDING_MAX: Final = 100
NAMES_SHOWN_MAX: Final = 8
_S_NS: Final = 1_000_000_000

ROWS_INVALID: Final = "rows_stay_invalid"
ROWS_SILENT: Final = "rows_silent"
CLAMPED: Final = "quantity_capped_on_major"
REFERENCE: Final = "reference_disagrees"
LAG: Final = "lag"
STAGE: Final = "stage_blocked"
REPEATS: Final = "repeats"

STAGES: Final = (
    ("frames", "feed.", "frames", "parsed", "feed.", "parsed", True),
    ("parsed", "feed.", "parsed", "changed rows", "evaluator", "changes", True),
    ("changed rows", "evaluator", "changes", "evaluations", "evaluator", "evaluations", True),
    ("evaluations", "evaluator", "evaluations", "candidates", "evaluator", "candidates", False),
    ("candidates", "evaluator", "candidates", "opportunities", "evaluator", "opportunities.*", False),
    ("opportunities", "evaluator", "opportunities.*", "told", "evaluator", "opportunities.told", False),
    ("told", "evaluator", "opportunities.told", "written down", "evaluator", "opportunities", True),
)
"""From what to what, each as name, role (or the head of roles' names) and counter (`x.*`: all below `x`); must it pass.

Where something must pass, a stage that never did is blocked too: there is no history to know it by.
"""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """When figures are suspicious. `majors` empty: the `majors_top` busiest. `repeats_ignored`: parts of names."""

    window_ns: int = 60 * _S_NS
    stages: StageLimits = StageLimits()
    majors: tuple[str, ...] = ()
    majors_top: int = 20
    invalid_ns: int = 60 * _S_NS
    silent_ns: int = 10 * _S_NS
    silent_expected_min: float = 30.0
    lag_ms_max: float = 1_000.0
    lag_factor: float = 20.0
    lag_floor_ms: float = 100.0
    repeats_windows: int = 5
    repeats_ignored: tuple[str, ...] = ("evaluator.skipped.aged", "evaluator.refused.")


LIMITS: Final = Limits()


class Counted(msgspec.Struct, frozen=True):
    """What one role counts, and which incarnation of it."""

    role: str
    incarnation: int
    counters: Mapping[str, int]


class MarketWatch:
    """See the module."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.suspicions_dropped = 0
        self._limits = limits
        self._growth = Growth()
        self._stages = [Stage(must_pass, limits.stages) for *_, must_pass in STAGES]
        self._lags: dict[str, Lag] = {}
        self._repeats = Repeats(limits.repeats_windows)
        self._capped: Counter[str] = Counter()
        self._capped_before: Counter[str] = Counter()
        self._mismatched = 0
        self._mismatched_ns = 0
        self._window = 0
        self._standing: dict[str, Suspicion] = {}

    def take(
        self,
        now_ns: int,
        counted: Sequence[Counted],
        invalid: Sequence[tuple[str, InvalidRow]] = (),
        silent: Sequence[tuple[str, SilentRow]] = (),
        busiest: Sequence[str] = (),
    ) -> tuple[Suspicion, ...]:
        """Take a look; return what stands now, oldest first.

        `invalid`, `silent` and `busiest` are rows by their symbol, as `kernels.row_watch` finds them.
        """
        grown = {one.role: self._growth.of(one.role, one.incarnation, one.counters) for one in counted}
        self._add(grown)
        for one in counted:
            if "lag_us" in one.counters:
                self._lag_of(one.role).add(one.counters["lag_us"] / 1_000)
        window = now_ns // self._limits.window_ns
        if self._window and window != self._window:
            self._end_window()
        self._window = window
        found = [
            *self._judge_stages(),
            *self._judge_rows(now_ns, invalid, silent),
            *self._judge_capped(self._limits.majors or tuple(busiest)),
            *self._judge_reference(now_ns, grown),
            *self._judge_lags(),
            *self._judge_repeats(),
        ]
        return self._settle(found, now_ns)

    # ---- what is counted

    def _add(self, grown: Mapping[str, Mapping[str, int]]) -> None:
        for stage, (_, role_in, name_in, _, role_out, name_out, _) in zip(self._stages, STAGES, strict=True):
            stage.add(_sum(grown, role_in, name_in), _sum(grown, role_out, name_out))
        for role, counters in grown.items():
            for name, by in counters.items():
                if name.startswith("capped."):
                    self._capped[name.removeprefix("capped.")] += by
                elif counts_degraded_path(name):
                    self._add_degraded(f"{role}.{name}", by)

    def _add_degraded(self, name: str, by: int) -> None:
        if not any(part in name for part in self._limits.repeats_ignored):
            self._repeats.add(name, by)

    def _end_window(self) -> None:
        for stage in self._stages:
            stage.end_window()
        for lag in self._lags.values():
            lag.end_window()
        self._repeats.end_window()
        self._capped_before, self._capped = self._capped, Counter()

    def _lag_of(self, role: str) -> Lag:
        limits = self._limits
        known = self._lags.get(role)
        if known is None:
            known = self._lags[role] = Lag(limits.lag_ms_max, limits.lag_factor, limits.lag_floor_ms)
        return known

    # ---- what is found: (name, severity, evidence)

    def _judge_stages(self) -> list[tuple[str, str, str]]:
        found = []
        for stage, (what_in, _, _, what_out, _, _, _) in zip(self._stages, STAGES, strict=True):
            blocked = stage.judge()
            if blocked is not None:
                name = f"{STAGE}.{what_in}_to_{what_out}".replace(" ", "_")
                found.append((name, "critical", _blocked_text(blocked, what_in, what_out)))
        return found

    def _judge_rows(
        self, now_ns: int, invalid: Sequence[tuple[str, InvalidRow]], silent: Sequence[tuple[str, SilentRow]]
    ) -> list[tuple[str, str, str]]:
        found = []
        if invalid:
            names = [
                f"{symbol} ({row.status.name.lower()}, {(now_ns - row.since_ns) / _S_NS:.0f} s)"
                for symbol, row in invalid
            ]
            found.append((ROWS_INVALID, "warning", f"{len(invalid)} rows stay invalid: {_shown(names)}"))
        if silent:
            names = [
                f"{symbol} ({(now_ns - row.since_ns) / _S_NS:.0f} s, {row.expected:.0f} updates were to be expected)"
                for symbol, row in silent
            ]
            text = f"{len(silent)} rows stand still though their connection lives: {_shown(names)}"
            found.append((ROWS_SILENT, "critical", text))
        return found

    def _judge_capped(self, majors: Sequence[str]) -> list[tuple[str, str, str]]:
        frames = {name: self._capped[name] + self._capped_before[name] for name in majors}
        capped = [f"{name} ({count} frames)" for name, count in frames.items() if count]
        if not capped:
            return []
        return [(CLAMPED, "warning", f"quantities beyond Fixed8 on symbols that matter: {_shown(capped)}")]

    def _judge_reference(self, now_ns: int, grown: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str, str]]:
        """It stands for ten windows after the last disagreement: what is right rarely disagrees at all."""
        more = sum(by for counters in grown.values() for name, by in counters.items() if name == "reference.mismatched")
        if more:
            self._mismatched += more
            self._mismatched_ns = now_ns
        if not self._mismatched_ns or now_ns - self._mismatched_ns > 10 * self._limits.window_ns:
            self._mismatched = 0
            return []
        text = f"{self._mismatched} decisions differ from the reference evaluator's; incidents.jsonl has the figures"
        return [(REFERENCE, "critical", text)]

    def _judge_lags(self) -> list[tuple[str, str, str]]:
        judged = [(role, lag.judge()) for role, lag in self._lags.items()]
        return [(f"{LAG}.{role}", "warning", _late_text(late)) for role, late in judged if late is not None]

    def _judge_repeats(self) -> list[tuple[str, str, str]]:
        return [
            (f"{REPEATS}.{name}", "info", f"{name} grew in each of the last {len(by)} windows, by {_listed(by)}")
            for name, by in self._repeats.judge().items()
        ]

    def _settle(self, found: Sequence[tuple[str, str, str]], now_ns: int) -> tuple[Suspicion, ...]:
        known = self._standing
        standing: dict[str, Suspicion] = {}
        # Those that stood come first: what is new makes no room for itself.
        for name, severity, text in sorted(found, key=lambda one: one[0] not in known):
            if len(standing) >= STANDING_MAX:
                self.suspicions_dropped += 1
                continue
            since_ns = known[name].since_ns if name in known else now_ns
            standing[name] = Suspicion(name, severity, text, since_ns)
        self._standing = standing
        return tuple(sorted(standing.values(), key=lambda one: (one.since_ns, one.name)))


def _sum(grown: Mapping[str, Mapping[str, int]], role: str, name: str) -> int:
    """Return the growth of a counter over a role, or over all roles whose names begin so."""
    chosen = [counters for one, counters in grown.items() if one == role or (role[-1] == "." and one.startswith(role))]
    if not name.endswith(".*"):
        return sum(counters.get(name, 0) for counters in chosen)
    head = name[:-1]
    return sum(by for counters in chosen for one, by in counters.items() if one.startswith(head))


def _blocked_text(blocked: Blocked, what_in: str, what_out: str) -> str:
    if not blocked.usual_share:
        return f"of {blocked.went_in} {what_in} none became {what_out}, ever"
    expected = blocked.went_in * blocked.usual_share
    return (
        f"of {blocked.went_in} {what_in} {blocked.came_out} became {what_out}; "
        f"{expected:.0f} would be usual (a share of {blocked.usual_share:.2g})"
    )


def _late_text(late: Late) -> str:
    usual = f", {late.usual_ms:.1f} ms is usual" if late.usual_ms else ""
    return f"{late.lag_ms:.1f} ms and more in each of the last looks; the limit is {late.limit_ms:.1f} ms{usual}"


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN_MAX} more" if len(names) > NAMES_SHOWN_MAX else ""
    return ", ".join(names[:NAMES_SHOWN_MAX]) + more


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers)
