"""Which symbols have rows, and which feed owns each: a function of what the venue lists and of the settings alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kernels.book_image import NO_FEED
from kernels.exchange_info import Symbol


class SymbolNotListed(ValueError):
    """The settings name a symbol that the venue does not list."""


class Assignment(NamedTuple):
    """`symbols` in row order; `feeds` (name, role) by slot; `row_feed`: each row's slot, NO_FEED where not TRADING."""

    symbols: tuple[Symbol, ...]
    feeds: tuple[tuple[str, str], ...]
    row_feed: tuple[int, ...]


def feed_role(shard: int) -> str:
    """Return the role of a shard of the spot feed."""
    return f"feed.spot.{shard}"


def assign_rows(
    listed: Sequence[Symbol], wanted: Sequence[str] | None, shards: int, symbols_per_connection_max: int
) -> Assignment:
    """Give every wanted listed symbol (None: all) a row, and every TRADING one a slot: one connection of one shard.

    Symbols go round the shards, and within a shard round its connections, so that all carry about the same. A symbol
    that halts keeps its row and has no feed. A shard without symbols has no slot. Raises SymbolNotListed; ValueError
    where no symbol trades.
    """
    by_name = {symbol.name: symbol for symbol in listed}
    absent = [name for name in wanted or () if name not in by_name]
    if absent:
        raise SymbolNotListed(f"exchange.symbols names what the venue does not list: {', '.join(absent[:10])}")
    symbols = tuple(listed) if wanted is None else tuple(by_name[name] for name in dict.fromkeys(wanted))
    trading = [row for row, symbol in enumerate(symbols) if symbol.trading]
    if not trading:
        raise ValueError("none of the symbols is TRADING: there is nothing to follow")
    feeds: list[tuple[str, str]] = []
    row_feed = [NO_FEED] * len(symbols)
    for shard in range(shards):
        rows = trading[shard::shards]
        connections = -(-len(rows) // symbols_per_connection_max)
        for position, row in enumerate(rows):
            row_feed[row] = len(feeds) + position % connections
        feeds += [(f"spot.{shard}.{connection}", feed_role(shard)) for connection in range(connections)]
    return Assignment(symbols, tuple(feeds), tuple(row_feed))
