"""From the settings to the health actor, and to the limits of all that call out what is suspicious."""

from __future__ import annotations

from actors.adapters.assembly import BuildContext
from actors.adapters.clock import SystemClock
from actors.adapters.health_driver import HealthDriver, HealthOptions
from actors.adapters.inspection import Inspector
from actors.evaluator import OpportunityLimits
from actors.health import Health
from config.alarms import Alarms
from kernels.market_watch import Limits
from kernels.suspicion import RateLimits, StageLimits

_S_NS = 1_000_000_000


def opportunity_limits(alarms: Alarms) -> OpportunityLimits:
    """Return when opportunities are suspicious."""
    return OpportunityLimits(
        window_ns=round(alarms.window_s * _S_NS),
        one_cycle_count_min=alarms.one_cycle_count_min,
        one_cycle_share=alarms.one_cycle_share,
        stands_ns=round(alarms.stands_s * _S_NS),
        rate=RateLimits(alarms.rate_jump_factor, alarms.rate_jump_count_min, alarms.expected_min),
    )


def health(context: BuildContext) -> tuple[Health, HealthDriver]:
    """The watch over everything that is counted."""
    settings = context.settings
    options = HealthOptions(
        role=context.role,
        run_dir=context.run_dir,
        limits=watch_limits(settings.alarms),
        liveness_ms_max=settings.exchange.header_stale_ms,
    )
    inspector = Inspector(settings)
    return Health(context.role), HealthDriver(options, SystemClock(), inspector.leaves)


def watch_limits(alarms: Alarms) -> Limits:
    """Return when what is counted is suspicious."""
    return Limits(
        window_ns=round(alarms.window_s * _S_NS),
        stages=StageLimits(alarms.expected_min, alarms.never_passed_min),
        majors=alarms.majors,
        majors_top=alarms.majors_top,
        invalid_ns=round(alarms.invalid_s * _S_NS),
        silent_ns=round(alarms.silent_s * _S_NS),
        silent_expected_min=alarms.silent_expected_min,
        lag_ms_max=alarms.lag_ms_max,
        lag_factor=alarms.lag_factor,
        lag_floor_ms=alarms.lag_floor_ms,
        repeats_windows=alarms.repeats_windows,
        repeats_ignored=alarms.repeats_ignored,
    )
