"""Builders: from the settings to an actor with its adapters. `ChildSpec.actor` names them.

Each runs in the actor's own process, after the fork; nothing here is shared with another.
"""

from __future__ import annotations

import os
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

from actors.adapters import execution_wiring, health_wiring, ib_wiring, market_wiring
from actors.adapters.ask_driver import AskDriver
from actors.adapters.assembly import Assembly, BuildContext, HostedDriver
from actors.adapters.clock import SystemClock
from actors.adapters.fault_plan import FaultPlan
from actors.adapters.ib_driver import IbDriver, IbSettings
from actors.adapters.ib_last_prices import LastPrices
from actors.adapters.ib_prices import SYMBOLS_MAX, PriceDriver, PriceSettings
from actors.adapters.ib_prints import PrintsDriver
from actors.adapters.identity import IdentityFile
from actors.adapters.redis_bus import RedisBus
from actors.adapters.redis_client import Purpose, connect
from actors.adapters.redis_ledger import RedisLedger
from actors.adapters.signal_driver import SignalDriver
from actors.adapters.trace_file import NullTracer, TraceFile
from actors.adapters.zone import zone_offsets
from actors.allocator import Allocator, AllocatorSettings
from actors.broker import Broker
from actors.broker_state import BrokerSettings
from actors.external_orders import ExternalOrders
from actors.momentum import Momentum, MomentumSettings
from actors.reconciler import Reconciler, ReconcilerSettings
from actors.risk import Risk
from actors.risk_state import OnBreaker, RiskSettings
from actors.role import Role
from actors.sentinel import Sentinel
from actors.sentinel_state import OnInert, SentinelSettings
from config.pretrade import PreTrade
from kernels import pre_trade
from kernels.entry_checks import EntryRules
from kernels.market_collar import MarketCollar
from kernels.order_breaker import OrderLimits
from kernels.sizing import FIXED, Caps

BROKER = "broker.paper"
RISK = "risk"
PRICE_CLIENT_ID_OFFSET = 1
SENTINEL_CLIENT_ID_OFFSET = 2
BROKER_PRICES_CLIENT_ID_OFFSET = 3
"""Each market-data session is a client of its own: IB closes a second session with one id."""

WATCHERS = ("risk", "sentinel")
"""Roles that are told of every change of an order or a position, beside the allocator."""


def book(context: BuildContext) -> Assembly:
    """The owner of the book image."""
    return _assemble(context, *market_wiring.book(context))


def feed(context: BuildContext) -> Assembly:
    """One shard of the spot feed."""
    return _assemble(context, *market_wiring.feed(context))


def evaluator(context: BuildContext) -> Assembly:
    """Cycles over the image."""
    return _assemble(context, *market_wiring.evaluator(context))


def health(context: BuildContext) -> Assembly:
    """The watch over what everybody counts."""
    return _assemble(context, *health_wiring.health(context))


def broker_spot(context: BuildContext) -> Assembly:
    """The broker of the spot exchange."""
    return _assemble(context, *execution_wiring.broker_spot(context))


def executor(context: BuildContext) -> Assembly:
    """Opportunities into orders."""
    return _assemble(context, *execution_wiring.executor(context))


def broker(context: BuildContext) -> Assembly:
    """The one broker of the first form: IB, paper."""
    gateway, fund, exits = context.settings.gateway, context.settings.fund, context.settings.exits
    pre = context.settings.pre_trade
    role = Broker(
        BrokerSettings(
            name=context.role,
            fund=fund.name,
            account=gateway.account,
            watchers=WATCHERS,
            external_orders=ExternalOrders(context.settings.reconciler.external_orders),
            entry_time_in_force=pre.entry_time_in_force,
            entry_outside_rth=pre.entry_outside_rth,
            entries=_entry_rules(pre) if pre.contract else None,
            symbols=fund.symbols,
            exits_outside_rth=exits.outside_rth,
            stop_trigger_method=exits.stop_trigger_method,
            replace_missing_stop=exits.replace_missing_stop,
            exit_tries_max=exits.tries_max,
            restart=ib_wiring.restart_span(context.settings),
            login=ib_wiring.login_span(context.settings),
            away_ns=_ns(gateway.away_s_max),
        )
    )
    driver = IbDriver(
        IbSettings(
            host=gateway.host,
            port=gateway.port,
            client_id=gateway.client_id,
            run_prefix=f"{context.run_id[:8]}.{os.getpid()}.{context.incarnation}",
            account=gateway.account,
            mode=context.settings.run.mode,
            connect_s_max=gateway.connect_timeout_s,
            login=ib_wiring.login_span(context.settings),
            login_backoff_s=gateway.login_backoff_s,
        ),
        SystemClock(),
        _halted(context),
        random.Random().random,
        collar=_collar(pre),
        prices=_last_prices(context),
    )
    return _assemble(context, role, driver)


def _entry_rules(settings: PreTrade) -> EntryRules:
    return EntryRules(
        rounds=settings.rounding == "favour",
        checks_hours=settings.hours,
        outside_rth=settings.entry_outside_rth,
        waits_for_open=settings.entry_time_in_force == "GTC",
        checks_funds=settings.funds != "off",
        uses_buying_power=settings.funds == "buying_power",
        funds_age_ns_max=settings.funds_age_ms_max * 1_000_000,
        slippage_bps=round(settings.slippage_bps),
        commission_bps=round(settings.commission_bps),
    )


def _collar(settings: PreTrade) -> MarketCollar | None:
    if not settings.market_collar_bps:
        return None
    return MarketCollar(
        bps_max=round(settings.market_collar_bps),
        age_ns_max=settings.price_age_ms_max * 1_000_000,
        no_price=settings.no_price,
    )


def _last_prices(context: BuildContext) -> LastPrices:
    """Subscriptions are made anew well before silence alone makes a price too old."""
    gateway, age_s = context.settings.gateway, context.settings.pre_trade.price_age_ms_max / 1_000
    prices = PriceSettings(
        host=gateway.host,
        port=gateway.port,
        client_id=gateway.client_id + BROKER_PRICES_CLIENT_ID_OFFSET,
        symbols=context.settings.fund.symbols[:SYMBOLS_MAX],
        silent_s_max=max(1.0, age_s / 3),
    )
    return LastPrices(prices, SystemClock(), random.Random().random, Path(context.run_dir))


def reconciler(context: BuildContext) -> Assembly:
    """Compares the broker's pictures and grants the gate."""
    settings = context.settings.reconciler
    role = Reconciler(
        ReconcilerSettings(
            name=context.role,
            fund=context.settings.fund.name,
            broker=BROKER,
            risk=RISK,
            gate_ttl_ns=_ns(settings.gate_ttl_s),
            read_age_ns_max=_ns(settings.positions_every_s * 2.5),
            positions_every_ns=_ns(settings.positions_every_s),
            orders_every_ns=_ns(settings.orders_every_s),
            grace_ns=_ns(settings.grace_s),
            vanished_grace_ns=_ns(settings.vanished_grace_s),
            external_orders=ExternalOrders(settings.external_orders),
            external_positions_count=settings.external_positions == "diverge",
            ignored_symbols=settings.ignored_symbols,
            average_bps_max=settings.average_px_bps_max,
            commission_late_ns=_ns(settings.commission_late_s),
            compare_cash=settings.compare_cash,
            cash_tolerance=_fixed(settings.cash_tolerance),
            equity_bps_max=settings.equity_bps_max,
        )
    )
    return _assemble(context, role, AskDriver(context.role, Path(context.run_dir), SystemClock()))


def risk(context: BuildContext) -> Assembly:
    """Closes everything when it is told to."""
    settings = context.settings.risk
    role = Risk(
        RiskSettings(
            name=context.role,
            fund=context.settings.fund.name,
            broker=BROKER,
            flatten_external=settings.flatten_external,
            settle_ns=_ns(settings.settle_s),
            verify_every_ns=_ns(settings.verify_every_s),
            unverified_ns=_ns(settings.unverified_s_max),
            retry_ns=_ns(settings.retry_s),
            attempts_max=settings.attempts_max,
            limits=OrderLimits(
                rejects_max=settings.rejects_max,
                ack_ns_max=settings.ack_ms_max * 1_000_000,
                ack_slow_max=settings.ack_slow_max,
                divergence_ns_max=_ns(settings.divergence_s_max),
                drawdown_max=_fixed(settings.drawdown_max),
                daily_loss_max=_fixed(settings.daily_loss_max),
            ),
            on_breaker=OnBreaker(settings.on_breaker),
            zone_offsets=zone_offsets(settings.day_zone),
            day_begins_hour=settings.day_begins_hour,
        )
    )
    return _assemble(context, role, None)


def allocator(context: BuildContext) -> Assembly:
    """Turns signals into intents."""
    fund = context.settings.fund
    role = Allocator(
        AllocatorSettings(
            name=context.role,
            fund=fund.name,
            broker=BROKER,
            equity=_fixed(fund.equity),
            fraction_bps=round(fund.fraction * 10_000),
            caps=Caps(
                order_notional_max=_fixed(fund.max_position_notional),
                symbol_notional_max=_fixed(fund.max_position_notional),
                gross_notional_max=_fixed(fund.max_gross_notional),
                order_qty_max=_fixed(fund.max_position_notional),
            ),
            open_max=fund.max_open_brackets,
            rules=_rules(context.settings.pre_trade),
        )
    )
    settings = context.settings
    driver = SignalDriver(
        lambda: connect(settings.ledger.bus_url, Purpose.READER, settings),
        context.role,
        f"{context.role}.{os.getpid()}",
    )
    return _assemble(context, role, driver)


def _rules(settings: PreTrade) -> pre_trade.Rules:
    return pre_trade.Rules(
        collar_bps=round(settings.collar_bps),
        exit_collar_bps=round(settings.exit_collar_bps),
        duplicate_ns=_ns(settings.duplicate_s),
    )


def momentum(context: BuildContext) -> Assembly:
    """The built-in source of signals, on the gateway's own prices."""
    settings, gateway = context.settings.momentum, context.settings.gateway
    role = Momentum(
        MomentumSettings(
            name=context.role,
            window=max(2, round(settings.lookback_s)),
            threshold_bps=round(settings.threshold_bps),
            take_profit_bps=round(settings.take_profit_bps),
            stop_bps=round(settings.stop_bps),
            lifetime_ns=_ns(settings.ttl_s),
        )
    )
    driver = PriceDriver(
        PriceSettings(
            host=gateway.host,
            port=gateway.port,
            client_id=gateway.client_id + PRICE_CLIENT_ID_OFFSET,
            symbols=settings.symbols,
            login=ib_wiring.login_span(context.settings),
            login_backoff_s=gateway.login_backoff_s,
        ),
        SystemClock(),
        random.Random().random,
    )
    return _assemble(context, role, driver)


def sentinel(context: BuildContext) -> Assembly:
    """Checks stops against the gateway's own prices."""
    settings, gateway = context.settings.sentinel, context.settings.gateway
    role = Sentinel(
        SentinelSettings(
            name=context.role,
            fund=context.settings.fund.name,
            broker=BROKER,
            on_inert=OnInert(settings.on_inert),
            grace_ns=_ns(settings.grace_s),
            settle_ns=_ns(settings.settle_s),
            unprotected_ns_max=_ns(settings.unprotected_s_max),
            price_age_ns_max=_ns(settings.price_age_s_max),
        )
    )
    driver = PrintsDriver(
        PriceSettings(
            host=gateway.host,
            port=gateway.port,
            client_id=gateway.client_id + SENTINEL_CLIENT_ID_OFFSET,
            symbols=(),
            login=ib_wiring.login_span(context.settings),
            login_backoff_s=gateway.login_backoff_s,
        ),
        SystemClock(),
        random.Random().random,
    )
    return _assemble(context, role, driver)


def _assemble(context: BuildContext, role: Role[Any], driver: HostedDriver | None) -> Assembly:
    settings, run_dir = context.settings, context.run_dir
    identity = IdentityFile(Path(run_dir) / "identity.json")
    ledger_client = connect(settings.ledger.url, Purpose.LEDGER, settings)
    owner = f"{context.run_id[:8]} pid {os.getpid()}"
    rules = settings.faults.plan
    return Assembly(
        role=role,
        ledger=RedisLedger(ledger_client, context.role, owner, identity),
        bus=RedisBus(
            connect(settings.ledger.bus_url, Purpose.BUS, settings), context.role, run_dir, settings.run.lines_mb_max
        ),
        tracer=TraceFile(run_dir, context.role, settings.run.trace_mb_max) if settings.run.trace else NullTracer(),
        driver=driver,
        faults=FaultPlan(context.role, rules, settings.faults.seed, run_dir) if rules else None,
        snapshot_every=settings.run.snapshot_every,
    )


def _halted(context: BuildContext) -> _Halted:
    return _Halted(IdentityFile(Path(context.run_dir) / "identity.json"))


class _Halted:
    """The halt latch, read (cheaply) before every write to a venue."""

    def __init__(self, identity: IdentityFile) -> None:
        self._identity = identity

    def __call__(self) -> str:
        halt = self._identity.halt()
        return halt.reason if halt is not None else ""


def _ns(seconds: float) -> int:
    return round(seconds * 1_000_000_000)


def _fixed(amount: Decimal) -> int:
    return int(amount * FIXED)
