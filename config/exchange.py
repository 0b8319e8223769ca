"""The spot exchange's section of the settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta

from config.limits import (
    AMOUNT_MAX,
    Bps,
    Cpu,
    FeedShards,
    Milliseconds,
    PositiveCount,
    Seconds,
    Symbols,
    SymbolsPerConnection,
)
from config.market import AgeClass, CaptureMegabytes, ConnectionLife, DepthLevels, Replay
from config.section import Section

ANY_START = "*"

RecvWindow = Annotated[int, Meta(ge=100, le=5_000)]
"""Milliseconds. The longest is what the executor's grace between two absences counts on."""

Percent = Annotated[float, Meta(ge=0, le=100)]


class Exchange(Section, frozen=True):
    """The spot exchange: where, what of it, and what makes a cycle worth reporting.

    No URL: the paper exchange's, as it wrote it down. Liveness: a feed writes its header at least every
    `header_write_ms`, and its rows count for nothing once it is `header_stale_ms` old. A row counts up to `age_ms_max`,
    or to that of the first `age_class` that matches its symbol.

    `feed_cpus`: shard N reads and writes on the processor at place N, going round; none: wherever the system puts it.

    `start_asset`: an asset, several in the order of preference, or `*`: any. `start_amount_max`: the most that a cycle
    puts in, in its start asset; one figure for all, or a table by asset (with `*`, cycles then begin at the first of
    its assets that they pass through, and those that pass through none are left out).

    `fees`: basis points by symbol, or by pattern such as `*FDUSD`; `fee_bps` for all others. With `fee_token` the fees
    are paid in that asset, `fee_discount_percent` less; its balance is taken to cover them.

    `depth_symbols`: those whose order book is followed, `depth_levels_max` levels a side. `connection_life_s`: after so
    long the next connection takes over, before the venue ends the first. The limits are the venue's, by address.

    `redundancy` 2: every symbol is followed twice, in processes of their own; a feed that is down, or lags by more than
    `lag_ms_max`, stands behind its twin until it has been well for `failback_s`.

    Orders: `api_key_file` holds {"api_key", "secret"} and is its owner's alone (mode 0600); no file: the paper
    exchange's. A request that is not answered within `request_s_max` is of unknown outcome, and the venue takes none
    that is older than `recv_window_ms`.
    """

    rest_url: str = ""
    ws_url: str = ""
    api_key_file: str = ""
    request_s_max: Seconds = 4.0
    recv_window_ms: RecvWindow = 3_000
    orders_per_10s_max: PositiveCount = 100
    symbols: Literal["all"] | Symbols = "all"
    start_asset: str | Symbols = "USDT"
    fee_bps: Bps = 10.0
    fees: Mapping[str, Bps] = {}
    fee_token: str = ""
    fee_discount_percent: Percent = 0.0
    net_return_bps_min: Bps = 5.0
    start_amount_max: Decimal | Mapping[str, Decimal] = Decimal(1_000)
    feed_shards: FeedShards = 1
    feed_cpus: tuple[Cpu, ...] = ()
    symbols_per_connection_max: SymbolsPerConnection = 200
    header_write_ms: Milliseconds = 50
    header_stale_ms: Milliseconds = 250
    age_ms_max: Milliseconds = 5_000
    age_class: tuple[AgeClass, ...] = ()
    depth_symbols: tuple[str, ...] = ()
    depth_levels_max: DepthLevels = 20
    redundancy: Literal[1, 2] = 1
    failback_s: Seconds = 10.0
    lag_ms_max: Milliseconds = 400
    capture_mb_max: CaptureMegabytes = 0
    replay: Replay = Replay()
    connection_life_s: ConnectionLife = 82_800.0
    connects_per_5_min_max: PositiveCount = 300
    weight_per_min_max: PositiveCount = 6_000


def faults_of(exchange: Exchange) -> Iterator[str]:
    """Say what no single value shows: each as key, value, what is allowed and the remedy."""
    if exchange.header_write_ms * 2 > exchange.header_stale_ms:
        yield (
            f"exchange.header_stale_ms is {exchange.header_stale_ms}; allowed: at least twice "
            f"exchange.header_write_ms ({exchange.header_write_ms}). Remedy: raise the one or lower the other"
        )
    for dotted, fee in (("fee_bps", exchange.fee_bps), *((f"fees.{name}", one) for name, one in exchange.fees.items())):
        if fee >= 10_000 or (Decimal(str(fee)) * 10_000) % 1:
            yield (
                f"exchange.{dotted} is {fee}; allowed: 0 to below 10000, in steps of 0.0001. Remedy: correct it there"
            )
    if exchange.fee_discount_percent and not exchange.fee_token:
        yield (
            f"exchange.fee_discount_percent is {exchange.fee_discount_percent:g}, and exchange.fee_token is empty; "
            "allowed: a discount for fees paid in a token. Remedy: name the token, or set the discount to 0"
        )
    if (Decimal(str(exchange.fee_discount_percent)) * 10**6) % 1:
        yield (
            f"exchange.fee_discount_percent is {exchange.fee_discount_percent}; allowed: steps of 0.000001. "
            "Remedy: correct it there"
        )
    yield from _start_faults(exchange)
    yield from _feed_faults(exchange)


def _feed_faults(exchange: Exchange) -> Iterator[str]:
    if len(set(exchange.depth_symbols)) < len(exchange.depth_symbols):
        yield f"exchange.depth_symbols is {exchange.depth_symbols}; allowed: each once. Remedy: drop the repeated"
    if exchange.replay.paths and not exchange.replay.exchange_info:
        yield (
            "exchange.replay.exchange_info is '', and exchange.replay.paths has "
            f"{len(exchange.replay.paths)} recordings; allowed: the file of their listing. Remedy: name it"
        )
    if exchange.replay.paths and (exchange.redundancy > 1 or exchange.depth_symbols or exchange.feed_shards > 1):
        yield (
            f"exchange.replay.paths has {len(exchange.replay.paths)} recordings, and exchange.redundancy is "
            f"{exchange.redundancy}, exchange.feed_shards {exchange.feed_shards}, exchange.depth_symbols "
            f"{exchange.depth_symbols}; allowed: 1, 1 and none. Remedy: play recordings without these"
        )
    if exchange.symbols != "all":
        absent = [name for name in exchange.depth_symbols if name not in exchange.symbols]
        if absent:
            yield (
                f"exchange.depth_symbols names {', '.join(absent)}, which exchange.symbols does not; allowed: symbols "
                "that are followed. Remedy: add them to exchange.symbols, or take them out"
            )


def _start_faults(exchange: Exchange) -> Iterator[str]:
    limits = exchange.start_amount_max
    named = {f".{asset}": amount for asset, amount in limits.items()} if isinstance(limits, Mapping) else {"": limits}
    for suffix, amount in named.items():
        if not (amount.is_finite() and 0 < amount <= AMOUNT_MAX):
            yield (
                f"exchange.start_amount_max{suffix} is {amount}; allowed: above 0, at most {AMOUNT_MAX}. "
                "Remedy: correct it there"
            )
    if not isinstance(limits, Mapping):
        return
    if not limits:
        yield "exchange.start_amount_max is an empty table. Remedy: give the most that a cycle may put in, by asset"
    starts = (exchange.start_asset,) if isinstance(exchange.start_asset, str) else exchange.start_asset
    for asset in starts:
        if asset != ANY_START and asset not in limits:
            yield (
                f"exchange.start_asset is {asset!r}, and exchange.start_amount_max has no figure for it; it has "
                f"{', '.join(limits)}. Remedy: add one"
            )
