"""The data plane's kernels on made-up prices of a made-up listing."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import numpy as np
import orjson

from benchmarks.market import NOW_NS, SEED, image_of, made_up_frames, made_up_symbols, settled_tops
from benchmarks.report import Measured, compared, spread_of
from kernels.book_image import FeedWriter, format_image, layout
from kernels.cycles import BUY, CycleIndex, build_index
from kernels.evaluator import Evaluator
from kernels.exchange_info import Symbol
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
MARKET_SYMBOLS = 1_392
MEDIAN_US_MAX = 1.0
INDEX_MS_MAX = 5.0


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
    """One changed row: of a symbol that lies in the median number of cycles, in a market of the original's size and in
    ten and a hundred times that with the same degrees; and of the symbol that lies in most.
    """
    rounds = 200 if quick else 5_000
    figures = []
    for times in (1, 10) if quick else (1, 10, 100):
        universe = made_up_universe(MARKET_SYMBOLS * times, SEED)
        symbols = made_up_symbols(universe)
        index = build_index(symbols)
        touched = np.diff(index.row_start)
        by_cycles = np.argsort(touched, kind="stable")
        by_cycles = by_cycles[touched[by_cycles] > 0]
        tops = settled_tops(universe)
        evaluator = Evaluator(index, image_of(tops, len(symbols)), fees=FeeTable(75_000))
        name = "evaluate.median_symbol" + (f".{times}_times" if times > 1 else "")
        middle = int(by_cycles[len(by_cycles) // 2])
        figures += _evaluated(name, evaluator, middle, tops, rounds, MEDIAN_US_MAX)
        if times == 1:
            figures += _evaluated("evaluate.busiest_symbol", evaluator, int(by_cycles[-1]), tops, rounds // 5, None)
    return figures


def _evaluated(
    name: str, evaluator: Evaluator, row: int, tops: list[Top], rounds: int, goal_us: float | None
) -> list[Measured]:
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
    return compared(name, "µs", ours, baseline, bare, {0.5: goal_us, 0.99: None}, note)


def _bare_best(index: CycleIndex, cycles: list[int], tops: list[Top]) -> float:
    best = 0.0
    for cycle in cycles:
        gross = 1.0
        for row, side in zip(index.legs[cycle].tolist(), index.sides[cycle].tolist(), strict=True):
            top = tops[row]
            gross *= SCALE / top.ask if side == BUY else top.bid / SCALE
        best = max(best, gross)
    return best


def cycle_index(quick: bool) -> list[Measured]:
    """The index of the original's 5,196 cycles from parsed symbols, beside a dict of pairs and three loops."""
    symbols = made_up_symbols(made_up_universe(MARKET_SYMBOLS, SEED))
    index = build_index(symbols)
    ours, bare = [], []
    for _ in range(3 if quick else 40):
        began = time.perf_counter()
        index = build_index(symbols)
        between = time.perf_counter()
        found = _bare_cycles(symbols)
        ours.append((between - began) * 1e3)
        bare.append((time.perf_counter() - between) * 1e3)
        assert len(index) == len(found)
    note = f"{len(index)} cycles over {len(symbols)} symbols, seed {SEED}; with what each symbol touches"
    baseline = "plain Python: a dict of pairs, sets of neighbours, a list a symbol"
    return compared("cycle_index.build", "ms", ours, baseline, bare, {0.5: INDEX_MS_MAX, 0.99: None}, note)


def _bare_cycles(symbols: Sequence[Symbol]) -> list[tuple[str, ...]]:
    """Every directed cycle, begun at the asset whose name sorts first, and a list of them for each symbol."""
    markets: dict[tuple[str, str], list[str]] = {}
    neighbours: dict[str, set[str]] = {}
    for one in symbols:
        if one.trading and one.base != one.quote:
            markets.setdefault((one.base, one.quote), []).append(f"{one.name}:SELL")
            markets.setdefault((one.quote, one.base), []).append(f"{one.name}:BUY")
            neighbours.setdefault(one.base, set()).add(one.quote)
            neighbours.setdefault(one.quote, set()).add(one.base)
    cycles: list[tuple[str, ...]] = []
    touched: dict[str, list[int]] = {}
    for first, around in neighbours.items():
        for second in around:
            if second <= first:
                continue
            for third in around & neighbours[second]:
                if third <= first:
                    continue
                for legs in itertools.product(markets[first, second], markets[second, third], markets[third, first]):
                    for leg in legs:
                        touched.setdefault(leg, []).append(len(cycles))
                    cycles.append(legs)
    return cycles
