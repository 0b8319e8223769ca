"""Settings of what keeps orders safe."""

from __future__ import annotations

import zoneinfo
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta

from config.limits import AMOUNT_MAX, Count, Milliseconds, PositiveCount, Seconds, SecondsOrNone
from config.section import Section

TriggerMethod = Annotated[int, Meta(ge=0, le=8)]
Hour = Annotated[int, Meta(ge=0, le=23)]
IgnoredSymbols = Annotated[tuple[str, ...], Meta(max_length=1_000)]


class Reconciler(Section, frozen=True):
    """How often the broker is compared, how long a gate stands unrenewed, and the grace between two absences.

    `vanished_grace_s`: between two absences of an order that the broker had acknowledged, before it is taken for gone.
    `external_orders`: orders at the account that are not ours are counted only, followed, or alarmed.
    `external_positions`: a position in a symbol that is not held here is a divergence, or somebody else's affair.
    `ignored_symbols` are not compared at all. `average_px_bps_max`: by how much average prices may differ beyond
    commissions; 0 compares none. `commission_late_s`: how long a fill may be without its commission. `compare_cash`:
    hold the account's cash and net liquidation against our fills, within `cash_tolerance`, the latter with
    `equity_bps_max` of the positions' value on top.
    """

    positions_every_s: Seconds = 30.0
    orders_every_s: Seconds = 300.0
    gate_ttl_s: Seconds = 5.0
    grace_s: Seconds = 2.0
    vanished_grace_s: Seconds = 10.0
    external_orders: Literal["ignore", "adopt", "alert"] = "alert"
    external_positions: Literal["diverge", "ignore"] = "diverge"
    ignored_symbols: IgnoredSymbols = ()
    average_px_bps_max: Count = 5
    commission_late_s: Seconds = 120.0
    compare_cash: bool = True
    cash_tolerance: Decimal = Decimal(1)
    equity_bps_max: Count = 50


class Exits(Section, frozen=True):
    """How a bracket's exits are asked for and mended.

    `stop_trigger_method`: IB's number of the price that elects a stop, 0 its own choice. A stop that the venue dropped
    is put back where `replace_missing_stop`; so, and a wrong quantity, at most `tries_max` times, then an alarm.
    """

    outside_rth: bool = False
    stop_trigger_method: TriggerMethod = 0
    replace_missing_stop: bool = True
    tries_max: PositiveCount = 3


class Sentinel(Section, frozen=True):
    """The stop sentinel: every protective stop is checked against what the market printed.

    `on_inert`: what to do about a stop that was due for `grace_s` without a fill: tell a person, or cancel it, see that
    done, wait `settle_s` for a fill that is late, and close at the market what is left.
    """

    on_inert: Literal["alarm_only", "close"] = "alarm_only"
    grace_s: Seconds = 5.0
    settle_s: Seconds = 2.0
    unprotected_s_max: Seconds = 30.0
    price_age_s_max: Seconds = 600.0


class Risk(Section, frozen=True):
    """Circuit breakers and flattening. A limit of 0 is off; one that is reached halts, or flattens, by `on_breaker`.

    `rejects_max` orders refused in a row; `ack_slow_max` acknowledgements in a row later than `ack_ms_max`;
    `divergence_s_max`: a divergence that would open risk on a wrong picture stands for so long. Of a trading day, which
    begins at `day_begins_hour` in `day_zone`, by realized P&L less commissions: `daily_loss_max` below zero,
    `drawdown_max` below the highest.

    Flattening: how long a symbol is quiet before an exit of it is sized, and how often the broker's records are read
    while the latch stands.

    `retry_s`: the pace beyond `attempts_max` attempts. `flatten_external`: also what is at the account and not ours.
    """

    on_breaker: Literal["halt", "flatten"] = "halt"
    rejects_max: Count = 10
    ack_ms_max: Milliseconds = 10_000
    ack_slow_max: Count = 5
    divergence_s_max: SecondsOrNone = 120.0
    drawdown_max: Decimal = Decimal(0)
    daily_loss_max: Decimal = Decimal(5_000)
    day_zone: str = "America/New_York"
    day_begins_hour: Hour = 0
    flatten_external: bool = False
    settle_s: Seconds = 1.0
    verify_every_s: Seconds = 5.0
    unverified_s_max: Seconds = 20.0
    retry_s: Seconds = 30.0
    attempts_max: PositiveCount = 3


def faults_of_risk(risk: Risk) -> list[str]:
    """What one value's type cannot show, as texts with their remedy."""
    faults = []
    for name, amount in (("drawdown_max", risk.drawdown_max), ("daily_loss_max", risk.daily_loss_max)):
        if not amount.is_finite() or not 0 <= amount <= AMOUNT_MAX:
            faults.append(f"risk.{name} is {amount}; allowed: 0 (off) to {AMOUNT_MAX}. Remedy: correct it there")
    try:
        zoneinfo.ZoneInfo(risk.day_zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        faults.append(
            f"risk.day_zone is {risk.day_zone!r}; allowed: a zone of this machine, e.g. 'America/New_York' or 'UTC'. "
            "Remedy: correct it there"
        )
    return faults


def faults_of_reconciler(reconciler: Reconciler) -> list[str]:
    """What one value's type cannot show, as texts with their remedy."""
    amount = reconciler.cash_tolerance
    if amount.is_finite() and 0 <= amount <= AMOUNT_MAX:
        return []
    return [f"reconciler.cash_tolerance is {amount}; allowed: 0 (exact) to {AMOUNT_MAX}. Remedy: correct it there"]
