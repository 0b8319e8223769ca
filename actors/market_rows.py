"""Which symbols have rows, and which feed owns each: a function of what the venue lists and of the settings alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from kernels.book_image import NO_FEED
from kernels.capture_records import SlotRecord
from kernels.depth_replay import plan_depth
from kernels.exchange_info import Symbol
from kernels.frames import SymbolTable


class SymbolNotListed(ValueError):
    """The settings name a symbol that the venue does not list."""


class Slot(NamedTuple):
    """A connection, and who runs it. `twin_of`: the slot whose symbols it follows a second time, empty for none."""

    name: str
    role: str
    twin_of: str = ""


class Assignment(NamedTuple):
    """`symbols` in row order; `feeds` by number; `row_feed`: each row's slot, NO_FEED where not TRADING.

    `ladders`: (row, slot) of the symbols whose depth is followed; `ladder_levels`: a side, 0: as the settings say.
    """

    symbols: tuple[Symbol, ...]
    feeds: tuple[Slot, ...]
    row_feed: tuple[int, ...]
    ladders: tuple[tuple[int, int], ...] = ()
    ladder_levels: int = 0


REPLAY_ROLE: Final = "feed.replay.0"


def feed_role(shard: int) -> str:
    """Return the role of a shard of the spot feed."""
    return f"feed.spot.{shard}"


def backup_role(shard: int) -> str:
    """Return the role that follows a shard's symbols a second time."""
    return f"feed.backup.{shard}"


def replay_rows(listed: Sequence[Symbol], wanted: Sequence[str] | None, slots: Mapping[int, SlotRecord]) -> Assignment:
    """Give all rows to one slot of the role that plays recordings, and the ladders of each recording of depth to one of
    its own. `slots`: whose the recordings are, by number. Raises as `assign_rows`.
    """
    assigned = assign_rows(listed, wanted, 1, max(1, len(listed)))
    plan = plan_depth(slots, SymbolTable(assigned.symbols))
    feeds = (Slot("replay.0", REPLAY_ROLE), *(Slot(f"replay.depth.{one}", REPLAY_ROLE) for one in plan.sources))
    ladders = tuple((row, 1 + place) for row, place in plan.ladders)
    return assigned._replace(feeds=feeds, ladders=ladders, ladder_levels=plan.levels)


def assign_rows(
    listed: Sequence[Symbol],
    wanted: Sequence[str] | None,
    shards: int,
    symbols_per_connection_max: int,
    depth_symbols: Sequence[str] = (),
    redundancy: int = 1,
) -> Assignment:
    """Give every wanted listed symbol (None: all) a row, and every TRADING one a slot: one connection of one shard.

    Symbols go round the shards, and within a shard round its connections, so that all carry about the same. A symbol
    that halts keeps its row and has no feed. A shard without symbols has no slot. Depth has slots of its own, in the
    shard of its row. With a redundancy of 2 each slot has a twin, in another role. Raises SymbolNotListed; ValueError
    where no symbol trades.
    """
    by_name = {symbol.name: symbol for symbol in listed}
    absent = [name for name in wanted or () if name not in by_name]
    if absent:
        raise SymbolNotListed(f"exchange.symbols names what the venue does not list: {', '.join(absent[:10])}")
    followed = set(by_name if wanted is None else wanted)
    if strange := [name for name in depth_symbols if name not in followed]:
        raise SymbolNotListed(
            f"exchange.depth_symbols names what is not followed: {', '.join(strange[:10])}. "
            "Remedy: list it in exchange.symbols, or take it out"
        )
    symbols = tuple(listed) if wanted is None else tuple(by_name[name] for name in dict.fromkeys(wanted))
    trading = [row for row, symbol in enumerate(symbols) if symbol.trading]
    if not trading:
        raise ValueError("none of the symbols is TRADING: there is nothing to follow")
    feeds: list[Slot] = []
    ladders: list[tuple[int, int]] = []
    row_feed = [NO_FEED] * len(symbols)
    for shard in range(shards):
        rows = trading[shard::shards]
        connections = -(-len(rows) // symbols_per_connection_max)
        for position, row in enumerate(rows):
            row_feed[row] = len(feeds) + position % connections
        feeds += [Slot(f"spot.{shard}.{connection}", feed_role(shard)) for connection in range(connections)]
        deep = [row for row in rows if symbols[row].name in depth_symbols]
        connections = -(-len(deep) // symbols_per_connection_max)
        ladders += [(row, len(feeds) + position % connections) for position, row in enumerate(deep)]
        feeds += [Slot(f"depth.{shard}.{connection}", feed_role(shard)) for connection in range(connections)]
    if redundancy > 1:
        backups = {feed_role(shard): backup_role(shard) for shard in range(shards)}
        feeds += [Slot(f"{slot.name}b", backups[slot.role], slot.name) for slot in feeds]
    return Assignment(symbols, tuple(feeds), tuple(row_feed), tuple(ladders))
