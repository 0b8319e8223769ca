"""The data plane's kernels on made-up prices of a made-up listing."""

from __future__ import annotations

import time

import numpy as np
import orjson

from benchmarks.market import SEED, made_up_frames, made_up_symbols, settled_tops
from benchmarks.report import Measured, compared, spread_of
from kernels.book_image import BookImage, FeedCounters, FeedWriter, format_image, layout
from kernels.cycles import BUY, CycleIndex, build_index
from kernels.evaluator import Evaluator
from kernels.fees import FeeTable
from kernels.fixed8 import SCALE
from kernels.fold import FeedFold
from kernels.frames import SymbolTable
from kernels.warm import warm
from venues.exchange.generator import Top
from venues.exchange.universe import made_up_universe

SYMBOLS = 600
"""About what the recorded listing of 2019 has."""
FRAMES = 20_000
FRAMES_A_READ = 100
PARSED_MIN = 800_000.0
NOW_NS = 1_760_000_000_000_000_000


def parse(quick: bool) -> list[Measured]:
    """Combined-stream frames into rows of an image, as a feed folds the frames of a read: scanned, checked, compared
    with the last update id, written under the seqlock and announced. Against decoding and four floats alone.
    """
    warm()
    universe = made_up_universe(SYMBOLS, SEED)
    frames = [frame for _, frame in made_up_frames(SYMBOLS, SEED, FRAMES // 10 if quick else FRAMES)]
    table = SymbolTable(made_up_symbols(universe))
    reads = [frames[at : at + FRAMES_A_READ] for at in range(0, len(frames), FRAMES_A_READ)]
    batched, single, bare = [], [], []
    for _ in range(3 if quick else 25):
        batched.append(len(frames) / _folded_s(table, reads))
        single.append(len(frames) / _folded_s(table, [[frame] for frame in frames]))
        began = time.perf_counter()
        for frame in frames:
            _bare_row(frame)
        bare.append(len(frames) / (time.perf_counter() - began))
    about = f"{len(frames)} frames a round, seed {SEED}; exact Fixed8, every field checked, rows written"
    return [
        _rate("parse.frames", batched, bare, PARSED_MIN, f"{about}; {FRAMES_A_READ} a read"),
        _rate("parse.one_a_read", single, bare, None, f"{about}; one a read"),
    ]


def _folded_s(table: SymbolTable, reads: list[list[bytes]]) -> float:
    """Fold the reads into a fresh image, copied as a connection does on its way; return the seconds that it took."""
    image = format_image(bytearray(layout(len(table), 1).n_bytes), [0] * len(table), 1)
    fold = FeedFold(FeedWriter(image, 0, 1), table)
    began = time.perf_counter()
    for read in reads:
        pending: list[bytes] = []
        for frame in read:
            pending.append(frame)
        fold.apply_frames(pending, NOW_NS)
    took_s = time.perf_counter() - began
    assert fold.parsed == sum(map(len, reads)), "every frame is a good one"
    return took_s


def _rate(name: str, ours: list[float], bare: list[float], goal: float | None, note: str) -> Measured:
    return Measured(
        name=name,
        value=spread_of(ours).p50,
        unit="rows/s",
        baseline_name="orjson and four floats, nothing checked, nothing written",
        baseline=spread_of(bare).p50,
        goal=goal,
        less_is_better=False,
        spread=spread_of(ours),
        baseline_spread=spread_of(bare),
        note=note,
    )


def _bare_row(frame: bytes) -> tuple[str, float, float, float, float]:
    data = orjson.loads(frame)["data"]
    return data["s"], float(data["b"]), float(data["B"]), float(data["a"]), float(data["A"])


def evaluate(quick: bool) -> list[Measured]:
    """One changed row: of the symbol that lies in the median number of cycles, and of the one that lies in most."""
    universe = made_up_universe(SYMBOLS, SEED)
    symbols = made_up_symbols(universe)
    index = build_index(symbols)
    touched = np.diff(index.row_start)
    by_cycles = np.argsort(touched, kind="stable")
    by_cycles = by_cycles[touched[by_cycles] > 0]
    tops = settled_tops(universe)
    evaluator = Evaluator(index, _image(tops, len(symbols)), fees=FeeTable(75_000))
    rounds = 200 if quick else 5_000
    figures = _evaluated("evaluate.median_symbol", evaluator, int(by_cycles[len(by_cycles) // 2]), tops, rounds)
    return figures + _evaluated("evaluate.busiest_symbol", evaluator, int(by_cycles[-1]), tops, rounds // 5)


def _evaluated(name: str, evaluator: Evaluator, row: int, tops: list[Top], rounds: int) -> list[Measured]:
    index = evaluator.index
    changed = np.array([row], dtype=np.int32)
    cycles = index.row_cycles[index.row_start[row] : index.row_start[row + 1]].tolist()
    evaluator.on_rows(changed, NOW_NS)
    ours, bare = [], []
    for _ in range(rounds):
        began_ns = time.perf_counter_ns()
        found = evaluator.on_rows(changed, NOW_NS)
        between_ns = time.perf_counter_ns()
        best = _bare_best(index, cycles, tops)
        ours.append((between_ns - began_ns) / 1e3)
        bare.append((time.perf_counter_ns() - between_ns) / 1e3)
        assert not found, "no cycle pays in these prices"
        assert best < 1.0, "no cycle pays in these prices"
    note = f"{len(cycles)} cycles of {len(index)}, {len(index.symbols)} symbols, seed {SEED}; no candidate among them"
    baseline = "the same cycles in plain Python floats"
    return compared(name, "µs", ours, baseline, bare, {0.5: None, 0.99: None}, note)


def _bare_best(index: CycleIndex, cycles: list[int], tops: list[Top]) -> float:
    best = 0.0
    for cycle in cycles:
        gross = 1.0
        for row, side in zip(index.legs[cycle].tolist(), index.sides[cycle].tolist(), strict=True):
            top = tops[row]
            gross *= SCALE / top.ask if side == BUY else top.bid / SCALE
        best = max(best, gross)
    return best


def _image(tops: list[Top], rows: int) -> BookImage:
    image = format_image(bytearray(layout(rows, 1).n_bytes), [0] * rows, 1)
    writer = FeedWriter(image, 0, 1)
    for row, top in enumerate(tops):
        writer.write_row(row, top.bid, top.bid_qty, top.ask, top.ask_qty, row + 1, NOW_NS)
    writer.beat(NOW_NS, 0, FeedCounters(rows, rows, 0, 0))
    return image
