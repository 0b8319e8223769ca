"""A made-up market for the benchmarks: its listing, its prices, its frames. The same for the same seed."""

from __future__ import annotations

from kernels.book_image import BookImage, FeedCounters, FeedWriter, format_image, layout
from kernels.exchange_info import Symbol, parse_exchange_info
from venues.exchange.frames import Row, book_ticker, combined, stream_of
from venues.exchange.generator import Generator, OpportunityPlan, Top
from venues.exchange.market import format_fixed8
from venues.exchange.universe import Universe, made_up_universe

SEED = 7
NEVER = OpportunityPlan(0, 1, 10, 1, 1)
NOW_NS = 1_760_000_000_000_000_000
_SETTLING_STEPS = 5_000


def made_up_symbols(universe: Universe) -> tuple[Symbol, ...]:
    """Return the listing as the book actor reads it."""
    names = [pair.rules.symbol for pair in universe.pairs]
    return parse_exchange_info(universe.market.info_reply(names, 0, 1))


def settled_tops(universe: Universe) -> list[Top]:
    """Return prices in which no cycle pays."""
    generator = Generator(universe, NEVER, SEED, 1)
    for _ in range(_SETTLING_STEPS):
        generator.step()
    return generator.tops


def made_up_frames(symbols: int, seed: int, count: int, first_id: int = 1) -> list[tuple[str, bytes]]:
    """Return frames of a combined stream as the venue writes them, each with its symbol; no cycle pays in them."""
    universe = made_up_universe(symbols, seed)
    generator = Generator(universe, NEVER, seed, 1)
    frames: list[tuple[str, bytes]] = []
    while len(frames) < count:
        step = generator.step()
        if step is None:
            continue
        name, top = universe.pairs[step.symbol_index].rules.symbol, generator.tops[step.symbol_index]
        row = Row(
            first_id + len(frames), *(format_fixed8(value) for value in (top.bid, top.bid_qty, top.ask, top.ask_qty))
        )
        frames.append((name, combined(stream_of(name), book_ticker(name, row))))
    return frames


def image_of(tops: list[Top], rows: int) -> BookImage:
    """Return an image of one feed with these prices, all received at NOW_NS."""
    image = format_image(bytearray(layout(rows, 1).n_bytes), [0] * rows, 1)
    writer = FeedWriter(image, 0, 1)
    for row, top in enumerate(tops):
        writer.write_row(row, top.bid, top.bid_qty, top.ask, top.ask_qty, row + 1, NOW_NS)
    writer.beat(NOW_NS, 0, FeedCounters(rows, rows, 0, 0))
    return image
