"""The circuit breaker of cycle execution: what came of the last attempts against limits. Latched; a person clears it.

An attempt counts if an order of it left. Failed is any that did not fill every leg: one that is never filled is as
suspicious as one that loses, because opportunities that nobody can take are what a stale leg looks like.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

LOSS = "loss"
SLIP = "slip"
FAILURES = "failures"
CONSECUTIVE = "consecutive"


class BreakerLimits(msgspec.Struct, frozen=True, gc=False):
    """Beyond (not at) these it trips.

    `slip_e4_max`: expected less observed over spent, 1e-4, of one attempt that filled; `failures_max` among the last
    `window` attempts; `consecutive_max` in a row; `loss_max`: below the highest point since it was cleared, a count of
    1e-8 of a start asset (each start asset by itself).
    """

    slip_e4_max: int
    window: int
    failures_max: int
    consecutive_max: int
    loss_max: int


class Result(msgspec.Struct, frozen=True, gc=False):
    """What an attempt came to. `spent` above zero where anything filled; all counts of 1e-8 of the start asset."""

    start_asset: str
    filled: bool
    spent: int
    expected: int
    realized: int


class Breaker(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """`failures`: of the last attempts, oldest first; `below_peak`: by start asset, at most 0.

    `tripped`: the limit that was passed first, with its figures; empty: closed, cycles go on.
    """

    failures: tuple[bool, ...] = ()
    consecutive: int = 0
    below_peak: Mapping[str, int] = {}
    tripped: str = ""
    tripped_ns: int = 0


def slip_e4(result: Result) -> int:
    """Expected less observed over spent in 1e-4, rounded away from zero where it is a loss; 0 if nothing was spent."""
    return -((result.realized - result.expected) * 10_000 // result.spent) if result.spent else 0


def judge(breaker: Breaker, limits: BreakerLimits, result: Result, now_ns: int) -> Breaker:
    """Take one attempt's result. One that is tripped goes on counting, and keeps what tripped it."""
    failed = not result.filled
    failures = (*breaker.failures, failed)[-limits.window :]
    consecutive = breaker.consecutive + 1 if failed else 0
    below = min(0, breaker.below_peak.get(result.start_asset, 0) + result.realized)
    slip = slip_e4(result) if result.filled else 0
    passed = (
        (LOSS, -below, limits.loss_max),
        (SLIP, slip, limits.slip_e4_max),
        (FAILURES, sum(failures), limits.failures_max),
        (CONSECUTIVE, consecutive, limits.consecutive_max),
    )
    tripped, tripped_ns = breaker.tripped, breaker.tripped_ns
    if not tripped:
        tripped = next((f"{name}: {figure} above {limit}" for name, figure, limit in passed if figure > limit), "")
        tripped_ns = now_ns if tripped else 0
    return Breaker(failures, consecutive, {**breaker.below_peak, result.start_asset: below}, tripped, tripped_ns)


def trip(breaker: Breaker, reason: str, now_ns: int) -> Breaker:
    """Trip it for another reason; what tripped it first stays."""
    if breaker.tripped:
        return breaker
    return msgspec.structs.replace(breaker, tripped=reason, tripped_ns=now_ns)


def clear(breaker: Breaker, at_ns: int) -> Breaker:
    """A person's word given at `at_ns`: begin anew, unless it tripped at that time or later."""
    return Breaker() if breaker.tripped and breaker.tripped_ns < at_ns else breaker
