"""From the settings to the market's actors: role and driver of each, for the wiring to assemble."""

from __future__ import annotations

import random
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction

from actors.adapters.assembly import BuildContext
from actors.adapters.book_driver import BookDriver, BookOptions
from actors.adapters.clock import SystemClock
from actors.adapters.evaluator_driver import EvaluatorDriver, EvaluatorOptions
from actors.adapters.feed_driver import FeedDriver, FeedOptions
from actors.adapters.health_wiring import opportunity_limits
from actors.adapters.redis_client import Purpose, connect
from actors.adapters.replay_driver import ReplayDriver, ReplayOptions
from actors.adapters.venue_budget import VenueLimits
from actors.age_limits import AgeClasses
from actors.book import Book
from actors.evaluator import Evaluator
from actors.feed import Feed
from config.exchange import ANY_START, Exchange
from config.schema import Settings, SettingsError
from kernels.evaluator import StartMax
from kernels.fees import FeeTable
from kernels.fixed8 import SCALE, parse_rate_bps

_BPS = 10_000


def book(context: BuildContext) -> tuple[Book, BookDriver]:
    """The owner of the book image."""
    settings, exchange = context.settings, context.settings.exchange
    options = BookOptions(
        role=context.role,
        run_dir=context.run_dir,
        rest_url=exchange.rest_url,
        symbols=None if exchange.symbols == "all" else tuple(exchange.symbols),
        shards=exchange.feed_shards,
        symbols_per_connection_max=exchange.symbols_per_connection_max,
        age_ms_max=exchange.age_ms_max,
        age_classes=age_classes_of(exchange),
        header_stale_ms=exchange.header_stale_ms,
        audit_every_s=settings.evaluator.audit_every_s,
        depth_symbols=exchange.depth_symbols,
        depth_levels_max=exchange.depth_levels_max,
        redundancy=exchange.redundancy,
        replayed_paths=exchange.replay.paths,
        replayed_info=exchange.replay.exchange_info if exchange.replay.paths else "",
        failback_s=exchange.failback_s,
        lag_ms_max=exchange.lag_ms_max,
        limits=limits_of(exchange),
    )
    driver = BookDriver(
        options,
        SystemClock(),
        random.Random().random,
        lambda: connect(settings.ledger.bus_url, Purpose.BUS, settings),
    )
    return Book(context.role), driver


def feed(context: BuildContext) -> tuple[Feed, FeedDriver | ReplayDriver]:
    """One shard of the spot feed, or what plays recordings in its place."""
    exchange = context.settings.exchange
    if exchange.replay.paths:
        replayed = ReplayOptions(
            role=context.role,
            run_dir=context.run_dir,
            paths=exchange.replay.paths,
            pace=exchange.replay.pace,
            header_write_ms=exchange.header_write_ms,
            header_stale_ms=exchange.header_stale_ms,
        )
        return Feed(context.role), ReplayDriver(replayed, SystemClock())
    options = FeedOptions(
        role=context.role,
        run_dir=context.run_dir,
        ws_url=exchange.ws_url,
        rest_url=exchange.rest_url,
        header_write_ms=exchange.header_write_ms,
        header_stale_ms=exchange.header_stale_ms,
        capture_mb_max=exchange.capture_mb_max,
        connection_life_s=exchange.connection_life_s,
        limits=limits_of(exchange),
        cpu=feed_cpu(exchange, context.role),
    )
    return Feed(context.role), FeedDriver(options, SystemClock(), random.Random().random)


def age_classes_of(exchange: Exchange) -> AgeClasses:
    """Return the age classes, in their order."""
    return tuple((one.match, one.age_ms_max) for one in exchange.age_class)


def limits_of(exchange: Exchange) -> VenueLimits:
    """Return a process's share of the venue's limits, which are by address: book and feeds get as much each."""
    processes = 1 + exchange.feed_shards * exchange.redundancy
    return VenueLimits(
        connects_per_5_min_max=max(1, exchange.connects_per_5_min_max // processes),
        weight_per_min_max=max(1, exchange.weight_per_min_max // processes),
    )


def evaluator(context: BuildContext) -> tuple[Evaluator, EvaluatorDriver]:
    """Cycles over the image, to opportunities."""
    settings, exchange = context.settings, context.settings.exchange
    options = EvaluatorOptions(
        role=context.role,
        run_dir=context.run_dir,
        starts=starts_of(exchange),
        cycle_lengths=settings.evaluator.cycle_lengths,
        cycles_max=settings.evaluator.cycles_max,
        reference_every_s=settings.evaluator.reference_every_s,
        fees=fees_of(exchange),
        net_return_min=1 + Fraction(str(exchange.net_return_bps_min)) / _BPS,
        start_max=start_max_of(exchange),
        age_ms_max=exchange.age_ms_max,
        age_classes=age_classes_of(exchange),
        header_stale_ms=exchange.header_stale_ms,
        dry_run=settings.evaluator.dry_run,
        spin=settings.evaluator.spin,
        cpu=settings.evaluator.cpu,
    )
    return Evaluator(context.role, settings.evaluator.dry_run, opportunity_limits(settings.alarms)), EvaluatorDriver(
        options, SystemClock()
    )


def feed_cpu(exchange: Exchange, role: str) -> int | None:
    """Return the processor of a feed's shard, None for any."""
    shard = int(role.rpartition(".")[2])
    return exchange.feed_cpus[shard % len(exchange.feed_cpus)] if exchange.feed_cpus else None


def fees_of(exchange: Exchange) -> FeeTable:
    """Return what the settings say of fees."""
    return FeeTable(
        default_e8=parse_rate_bps(exchange.fee_bps),
        by_symbol=tuple((name, parse_rate_bps(fee)) for name, fee in exchange.fees.items()),
        token=exchange.fee_token,
        discount_e8=int(Decimal(str(exchange.fee_discount_percent)) * SCALE / 100),
    )


def starts_of(exchange: Exchange) -> tuple[str, ...] | None:
    """Return the assets that cycles begin at, the preferred first; None: any."""
    starts = (exchange.start_asset,) if isinstance(exchange.start_asset, str) else exchange.start_asset
    if ANY_START not in starts:
        return starts
    return tuple(exchange.start_amount_max) if isinstance(exchange.start_amount_max, Mapping) else None


def start_max_of(exchange: Exchange) -> StartMax:
    """Return the most that a cycle puts in, in counts: one figure, or a table by start asset."""
    return counts_of(exchange.start_amount_max)


def counts_of(limits: Decimal | Mapping[str, Decimal]) -> int | Mapping[str, int]:
    """Return an amount, or a table of them, in counts."""
    if isinstance(limits, Mapping):
        return {asset: int(amount * SCALE) for asset, amount in limits.items()}
    return int(limits * SCALE)


def check_replay(settings: Settings) -> None:
    """Raise SettingsError where a recording, or its listing, cannot be opened."""
    replay = settings.exchange.replay
    named = {f"paths[{number}]": path for number, path in enumerate(replay.paths)}
    if named:
        named["exchange_info"] = replay.exchange_info
    for field, path in named.items():
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise SettingsError(
                f"exchange.replay.{field} is {path!r}: {error.strerror}. Remedy: name a file that can be read"
            ) from error
