"""What the executor knows, as frozen types, and its settings. The rules are in `executor` and `executor_outcome`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from actors.messages import CycleOutcome, ExecuteCycle, SpotGateReason, SpotOrderDone
from kernels.breaker import Breaker, BreakerLimits
from kernels.cycle_execution import Attempt, Policy


class ExecutorSettings(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Amounts: counts of 1e-8 of the start asset. `leg_wait_ns`: an order that opens risk is written within it, or
    not at all. `done_max`: attempts that are kept, so that none is executed again and a late word finds its own."""

    policy: Policy
    limits: BreakerLimits
    start_amount_max: int | Mapping[str, int]
    cycles_open_max: int = 1
    decision_age_ns_max: int = 500_000_000
    leg_wait_ns: int = 2_000_000_000
    unwind_retry_ns: int = 250_000_000
    name: str = "executor"
    fund: str = "apex"
    broker: str = "broker.spot"
    evaluator: str = "evaluator"
    done_max: int = 2_000
    unwritten_max: int = 10_000


class Work(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An attempt in work, or (`ended`) one that is over.

    `request`: of the quotes it waits for; empty: it waits for orders, or for its retry. `placed_ns`, `told`: by the
    order's key in the attempt.
    """

    ask: ExecuteCycle
    attempt: Attempt
    taken_ns: int
    request: str = ""
    placed_ns: Mapping[str, int] = {}
    told: Mapping[str, SpotOrderDone] = {}
    correlation_id: str = ""
    ended: bool = False


class Tally(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Since the ledger began: ends by their word, realized result by start asset, and how many left dust."""

    ends: Mapping[str, int] = {}
    realized: Mapping[str, int] = {}
    dusty: int = 0


class ExecutorState(msgspec.Struct, frozen=True, gc=False):
    """All of it. `residuals`: what all attempts together changed of every asset that is not their start asset.

    `unwritten`: outcomes whose line is not known to be in the file. `done`: attempts that are over and were not
    refused, oldest first; `refused`: ids of those that were.
    """

    halt: str = ""
    gate: SpotGateReason = SpotGateReason.NO_SESSION
    free: Mapping[str, int] = {}
    breaker: Breaker = Breaker()
    resumed_ns: int = 0
    requests: int = 0
    open: Mapping[str, Work] = {}
    done: Mapping[str, Work] = {}
    refused: Mapping[str, int] = {}
    residuals: Mapping[str, int] = {}
    tally: Tally = Tally()
    unwritten: Mapping[str, CycleOutcome] = {}
