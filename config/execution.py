"""The section of the settings about carrying cycles out: how, with how much, and when to stop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta

from config.exchange import Exchange
from config.limits import AMOUNT_MAX, Bps, Milliseconds, PositiveCount, Seconds
from config.section import Section

UnwindOrders = Annotated[int, Meta(ge=1, le=100)]
CyclesOpen = Annotated[int, Meta(ge=1, le=16)]
SUBMIT_WITHIN_MS = 1_000
"""How long after its decision an order may still be signed and written."""


class Breaker(Section, frozen=True):
    """Beyond these no cycle is begun until a person clears it (`run.py cycles-resume`).

    `slip_bps_max`: expected less observed of one cycle that filled; `failures_max` of the last `window` attempts, and
    `consecutive_max` in a row, that did not fill every leg; `loss_max`: below the highest point since it was cleared,
    in the start asset.
    """

    slip_bps_max: Bps = 50.0
    window: PositiveCount = 20
    failures_max: PositiveCount = 12
    consecutive_max: PositiveCount = 6
    loss_max: Decimal = Decimal(10)


class Execution(Section, frozen=True):
    """Used only where `evaluator.dry_run` is false.

    `mode`: the legs one after the other, each sized by what the one before gave, or all at once out of balances.
    `unwind`: what a leg that fails or is short leaves goes back along the path, or forward where that loses less, or is
    kept; at prices at most `unwind_slippage_bps_max` off the top, in at most `unwind_orders_max` orders.
    `start_amount_max`: of the start asset, one figure or a table by asset (one without a figure is not begun at).
    `leg_wait_ms`: an order that opens risk leaves within it, or not at all. `absent_grace_ms`: between the two
    absences after which an order is given up.
    """

    mode: Literal["sequence", "at_once"] = "sequence"
    unwind: Literal["back", "forward", "hold"] = "back"
    unwind_slippage_bps_max: Bps = 50.0
    unwind_orders_max: UnwindOrders = 12
    unwind_retry_ms: Milliseconds = 250
    start_amount_max: Decimal | Mapping[str, Decimal] = Decimal(1_000)
    cycles_open_max: CyclesOpen = 1
    decision_age_ms_max: Milliseconds = 250
    leg_wait_ms: Milliseconds = 1_000
    absent_grace_ms: Milliseconds = 5_000
    account_every_s: Seconds = 30.0
    breaker: Breaker = Breaker()


EXPLICIT_TO_TRADE = (
    "exchange.api_key_file",
    "exchange.api_key_file",
    "execution.mode",
    "execution.unwind",
    "execution.unwind_slippage_bps_max",
    "execution.start_amount_max",
    "execution.breaker.slip_bps_max",
    "execution.breaker.failures_max",
    "execution.breaker.consecutive_max",
    "execution.breaker.loss_max",
)
"""Keys without a default once `run.mode` is `live` and `evaluator.dry_run` false."""


def faults_of(execution: Execution, exchange: Exchange) -> Iterator[str]:
    """Say what no single value shows: each as key, value, what is allowed and the remedy."""
    amounts: dict[str, Decimal] = {"breaker.loss_max": execution.breaker.loss_max}
    if isinstance(execution.start_amount_max, Mapping):
        amounts |= {f"start_amount_max.{asset}": amount for asset, amount in execution.start_amount_max.items()}
    else:
        amounts["start_amount_max"] = execution.start_amount_max
    for name, amount in amounts.items():
        if not (amount.is_finite() and 0 < amount <= AMOUNT_MAX):
            yield f"execution.{name} is {amount}; allowed: above 0, at most {AMOUNT_MAX}. Remedy: correct it there"
    least_ms = exchange.recv_window_ms + SUBMIT_WITHIN_MS
    if execution.absent_grace_ms <= least_ms:
        yield (
            f"execution.absent_grace_ms is {execution.absent_grace_ms}; allowed: above {least_ms}, "
            f"{SUBMIT_WITHIN_MS} more than exchange.recv_window_ms: for so long the exchange may still take a request "
            "that was lost. Remedy: raise it"
        )
    if execution.breaker.failures_max >= execution.breaker.window:
        yield (
            f"execution.breaker.failures_max is {execution.breaker.failures_max}; allowed: below "
            f"execution.breaker.window ({execution.breaker.window}), else it never trips. Remedy: lower it"
        )
    for name in ("unwind_slippage_bps_max", "breaker.slip_bps_max"):
        value = execution.unwind_slippage_bps_max if name[0] == "u" else execution.breaker.slip_bps_max
        if value >= 10_000 or value != int(value):
            yield f"execution.{name} is {value:g}; allowed: whole, below 10000. Remedy: correct it there"
