"""The spot exchange's section of the settings."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from config.limits import Bps, FeedShards, Milliseconds, Symbols, SymbolsPerConnection
from config.section import Section


class Exchange(Section, frozen=True):
    """The spot exchange: where, what of it, and what makes a cycle worth reporting.

    No URL: the paper exchange's, as it wrote it down. `start_asset` `*`: any. Liveness: a feed writes its header at
    least every `header_write_ms`, and its rows count for nothing once it is `header_stale_ms` old.
    """

    rest_url: str = ""
    ws_url: str = ""
    symbols: Literal["all"] | Symbols = "all"
    start_asset: str = "USDT"
    fee_bps: Bps = 10.0
    net_return_bps_min: Bps = 5.0
    start_amount_max: Decimal = Decimal(1_000)
    feed_shards: FeedShards = 1
    symbols_per_connection_max: SymbolsPerConnection = 200
    header_write_ms: Milliseconds = 50
    header_stale_ms: Milliseconds = 250
    age_ms_max: Milliseconds = 5_000
