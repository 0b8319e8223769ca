"""From the settings to the actors that carry cycles out: the spot broker, the executor, and their drivers."""

from __future__ import annotations

from fractions import Fraction

from actors.adapters.assembly import BuildContext
from actors.adapters.clock import SystemClock
from actors.adapters.executor_driver import ExecutorDriver, ExecutorOptions
from actors.adapters.market_wiring import counts_of
from actors.adapters.spot_driver import SpotDriver
from actors.adapters.spot_wiring import spot_driver
from actors.broker_spot import SpotBroker
from actors.executor import Executor
from actors.executor_state import ExecutorSettings
from actors.spot_state import SpotSettings
from config.execution import SUBMIT_WITHIN_MS
from config.schema import Settings
from kernels.breaker import BreakerLimits
from kernels.cycle_execution import Mode, Policy, Unwind
from kernels.fixed8 import SCALE

_BPS = 10_000
_MS = 1_000_000
_SECOND = 1_000_000_000


def broker_spot(context: BuildContext) -> tuple[SpotBroker, SpotDriver]:
    """The broker of the spot exchange."""
    execution = context.settings.execution
    settings = SpotSettings(
        name=context.role,
        fund=context.settings.fund.name,
        submit_within_ns=SUBMIT_WITHIN_MS * _MS,
        absent_grace_ns=execution.absent_grace_ms * _MS,
        account_every_ns=round(execution.account_every_s * _SECOND),
    )
    return SpotBroker(settings), spot_driver(context)


def executor(context: BuildContext) -> tuple[Executor, ExecutorDriver]:
    """The executor of cycles."""
    settings, exchange = context.settings, context.settings.exchange
    options = ExecutorOptions(
        role=context.role,
        run_dir=context.run_dir,
        age_ms_max=exchange.age_ms_max,
        header_stale_ms=exchange.header_stale_ms,
        lines_mb_max=settings.run.lines_mb_max,
    )
    return Executor(executor_settings(settings, context.role)), ExecutorDriver(options, SystemClock())


def executor_settings(settings: Settings, role: str) -> ExecutorSettings:
    """Return what the settings say of it, in counts and nanoseconds."""
    execution, breaker = settings.execution, settings.execution.breaker
    return ExecutorSettings(
        name=role,
        fund=settings.fund.name,
        policy=Policy(
            mode=Mode(execution.mode),
            unwind=Unwind(execution.unwind),
            net_return_min=1 + Fraction(str(settings.exchange.net_return_bps_min)) / _BPS,
            slippage_e4=int(execution.unwind_slippage_bps_max),
            unwind_orders_max=execution.unwind_orders_max,
        ),
        limits=BreakerLimits(
            slip_e4_max=int(breaker.slip_bps_max),
            window=breaker.window,
            failures_max=breaker.failures_max,
            consecutive_max=breaker.consecutive_max,
            loss_max=int(breaker.loss_max * SCALE),
        ),
        start_amount_max=counts_of(execution.start_amount_max),
        cycles_open_max=execution.cycles_open_max,
        decision_age_ns_max=execution.decision_age_ms_max * _MS,
        leg_wait_ns=execution.leg_wait_ms * _MS,
        unwind_retry_ns=execution.unwind_retry_ms * _MS,
    )
