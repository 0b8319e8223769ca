"""Settings of the alarms that call out what is suspicious (`kernels.market_watch`, `actors.evaluator`)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from config.limits import Fraction, Milliseconds, PositiveCount, Seconds
from config.section import Section

Factor = Annotated[float, Meta(gt=1, le=1_000_000)]
Windows = Annotated[int, Meta(ge=1, le=1_000)]
MajorSymbols = Annotated[tuple[str, ...], Meta(max_length=1_000)]


class Alarms(Section, frozen=True):
    """A window is what rates and shares are taken over; histories are of 30 windows.

    `expected_min`: how many should have come by the subject's own history, where none did. `majors` empty: the
    `majors_top` symbols with the most updates. `repeats_ignored`: parts of counters' names that may grow for ever: a
    quiet symbol ages, and a candidate is refused when it gains nothing.
    """

    window_s: Seconds = 60.0
    one_cycle_count_min: PositiveCount = 10
    one_cycle_share: Fraction = 0.6
    stands_s: Seconds = 30.0
    rate_jump_factor: Factor = 10.0
    rate_jump_count_min: PositiveCount = 10
    expected_min: PositiveCount = 20
    never_passed_min: PositiveCount = 1_000
    majors: MajorSymbols = ()
    majors_top: PositiveCount = 20
    invalid_s: Seconds = 60.0
    silent_s: Seconds = 10.0
    silent_expected_min: PositiveCount = 30
    lag_ms_max: Milliseconds = 1_000
    lag_floor_ms: Milliseconds = 100
    lag_factor: Factor = 20.0
    repeats_windows: Windows = 5
    repeats_ignored: tuple[str, ...] = ("evaluator.skipped.aged", "evaluator.refused.")
