"""Compile every kernel, or load it from numba's cache, before the first frame: at install and at an actor's start."""

from __future__ import annotations

import numpy as np

from kernels.book_image import FeedWriter, RingReader, RowStatus, format_image, layout
from kernels.cycles import build_index
from kernels.depth_book import DepthBook
from kernels.evaluator import Evaluator
from kernels.exchange_info import TRADING, Symbol
from kernels.fixed8_bytes import parse_fixed8
from kernels.fold import FeedFold
from kernels.frame_scan import N_FIGURES, TEXT_PADDING, scan_frame
from kernels.frames import SymbolTable
from kernels.image_copy import ImageCopy
from kernels.latency_histogram import new_histogram, record
from kernels.record_index import index_capture, index_lines
from kernels.replay import Replay, Stretch
from kernels.row_watch import RowWatch

_MARKETS = (("B", "A"), ("C", "A"), ("C", "B"))


def warm() -> None:
    """Call each compiled function with the types that the engine calls it with. Tens of milliseconds once cached."""
    symbols = [Symbol(base + quote, TRADING, base, quote) for base, quote in _MARKETS]
    buffer = bytearray(layout(3, 1, 2, n_ladders=1, ladder_levels=1).n_bytes)
    image = format_image(buffer, [0, 0, 0], 1, 2, ladders=[(0, 0)], ladder_levels=1)
    writer, reader = FeedWriter(image, 0, 1), RingReader(image, 0)
    writer.beat(1)
    for row in range(3):
        writer.write_row(row, 1, 1, 1, 1, 1, 1)
    writer.mark_invalid(0, RowStatus.GAP)
    book, level = DepthBook(1, 1), np.ones((1, 2), dtype=np.int64)
    book.apply_snapshot(1, level, level + 1, 1)
    writer.write_ladder(0, book.bids, book.asks, 1, 1)
    image.read_live_ladder(0, 1)
    changed = reader.drain()
    evaluator = Evaluator(build_index(symbols), image)
    evaluator.on_rows(np.zeros(1, dtype=np.int32) if changed is None else changed, 1)
    evaluator.scan(1)
    evaluator.on_turn(1)
    evaluator.screen.record(1)
    table = SymbolTable(symbols)
    FeedFold(writer, table).apply_frame(b"{}", 1)
    text = np.zeros(TEXT_PADDING, dtype=np.uint8)
    scan_frame(text, 0, 0, *table.scan, np.zeros(N_FIGURES, dtype=np.int64))
    index_capture(text, 0, *(np.zeros(1, dtype=np.int64) for _ in range(3)), np.zeros(1, dtype=np.uint8))
    lines = np.frombuffer(b"{}\n" + bytes(TEXT_PADDING), dtype=np.uint8).copy()
    times, starts, lengths = (np.zeros(1, dtype=np.int64) for _ in range(3))
    kinds = np.zeros(1, dtype=np.uint8)
    index_lines(lines, 3, times, starts, lengths, kinds)
    stretch = Stretch(times, np.zeros(1, dtype=np.int64), starts, lengths, kinds, [lines], [0])
    list(Replay(build_index(symbols)).apply_stretch(stretch))
    ImageCopy(image).refresh()
    image.read_row(0)
    image.read_live_row(0, 1)
    image.read_header(0)
    image.hold_down(0)
    parse_fixed8(text, 0, 3)
    RowWatch(image, 1).look(2)
    record(new_histogram(), 1)
