"""Every cycle of a market of the original's size (1,392 symbols, 5,196 cycles) screened at once, beside C and Decimal.

The C is compiled here, by `cc -O2`, and works on the same arrays with the same checks: each row read under its seqlock,
valid, of a live header's epoch, not too old; then each cycle's three factors. Without a compiler it is not measured.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.market import NOW_NS, SEED, image_of, made_up_symbols, settled_tops
from benchmarks.report import Measured, say, spread_of
from kernels import seqlock
from kernels.book_image import BookImage
from kernels.cycles import BUY, CycleIndex, build_index
from kernels.evaluator import Evaluator
from kernels.fees import FeeTable
from kernels.fixed8 import SCALE
from kernels.screen import kept_factors
from venues.exchange.universe import made_up_universe

SYMBOLS = 1_392
FEE_E8 = 75_000
AGE_NS_MAX = 5_000_000_000
LIVENESS_NS_MAX = 250_000_000
TIMES_C_MAX = 2.0
TIMES_DECIMAL_MIN = 1_000.0

_C = r"""
#include <stdint.h>
#define WORDS 8
#define LINE 16
static int64_t acquire(const int64_t *at) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
static int64_t relaxed(const int64_t *at) { return __atomic_load_n(at, __ATOMIC_RELAXED); }
static int feed_is_live(const int64_t *line, int64_t epoch, int64_t now, int64_t silence) {
  if (epoch == 0 || acquire(line) != epoch || acquire(line + 3) != 1 || acquire(line + 8) >= epoch) return 0;
  int64_t since = now - acquire(line + 1);
  return -silence <= since && since <= silence && acquire(line) == epoch;
}
static int read_row(const int64_t *row, int64_t *out) {
  for (int attempt = 0; attempt < 100; attempt++) {
    int64_t before = acquire(row);
    if (before & 1) continue;
    for (int word = 1; word < WORDS; word++) out[word] = relaxed(row + word);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (relaxed(row) == before) return 1;
  }
  return 0;
}
int64_t scan(const int64_t *rows, const int64_t *row_feed, const int64_t *feeds, int64_t n_rows, const int64_t *ages,
             int64_t silence, const double *kept_buy, const double *kept_sell, const int32_t *legs, const int8_t *sides,
             int64_t n_cycles, double threshold, int64_t now, double *factors, int32_t *out, int64_t *skipped) {
  int64_t found = 0, values[WORDS];
  for (int64_t row = 0; row < n_rows; row++) {
    int64_t feed = row_feed[row];
    int live = feed >= 0 && read_row(rows + row * WORDS, values) && (values[7] & 0xFF) == 1
      && feed_is_live(feeds + feed * LINE, values[7] >> 16, now, silence) && now - values[6] <= ages[row]
      && values[1] > 0 && values[3] > 0;
    factors[2 * row] = live ? kept_buy[row] / (double)values[3] : 0.0;
    factors[2 * row + 1] = live ? (double)values[1] * kept_sell[row] : 0.0;
  }
  for (int64_t cycle = 0; cycle < n_cycles; cycle++) {
    const int32_t *leg = legs + 3 * cycle;
    const int8_t *side = sides + 3 * cycle;
    double bound = factors[2 * leg[0] + side[0]] * factors[2 * leg[1] + side[1]] * factors[2 * leg[2] + side[2]];
    if (bound == 0.0) (*skipped)++;
    else if (bound >= threshold) out[found++] = (int32_t)cycle;
  }
  return found;
}
"""


def full_scan(quick: bool) -> list[Measured]:
    """The time of one scan, in turn with the others' in the same run."""
    universe = made_up_universe(SYMBOLS, SEED)
    index = build_index(made_up_symbols(universe))
    image = image_of(settled_tops(universe), len(index.symbols))
    evaluator = Evaluator(index, image, fees=FeeTable(FEE_E8), age_ns_max=AGE_NS_MAX, liveness_ns_max=LIVENESS_NS_MAX)
    plain = _plain(index, image, evaluator)
    decimal = _decimal(index, image)
    ours: list[float] = []
    in_c: list[float] = []
    in_decimal: list[float] = []
    for _ in range(5 if quick else 30):
        in_decimal.append(_us(decimal))
        # The other two go often, so that both are warm alike.
        for _ in range(20):
            ours.append(_us(lambda: len(evaluator.scan(NOW_NS))))
            if plain is not None:
                in_c.append(_us(plain))
    note = f"{len(index)} cycles over {len(index.symbols)} symbols, seed {SEED}; no candidate among them"
    figures = [_figure("full_scan.beside_decimal", ours, "the same cycles and checks in Decimal", in_decimal, note)]
    if plain is None:
        say("full_scan.beside_c: not measured, there is no C compiler")
        return figures
    return [
        _figure("full_scan.beside_c", ours, "a plain C loop, cc -O2, same arrays, same checks", in_c, note),
        *figures,
    ]


def _figure(name: str, ours: list[float], baseline: str, beside: list[float], note: str) -> Measured:
    spread, of_baseline = spread_of(ours), spread_of(beside)
    goal = TIMES_C_MAX * of_baseline.p50 if name.endswith("_c") else of_baseline.p50 / TIMES_DECIMAL_MIN
    return Measured(
        name=name,
        value=spread.p50,
        unit="µs",
        baseline_name=baseline,
        baseline=of_baseline.p50,
        goal=goal,
        spread=spread,
        baseline_spread=of_baseline,
        note=note,
    )


def _us(run: Callable[[], int]) -> float:
    began_ns = time.perf_counter_ns()
    found = run()
    took_ns = time.perf_counter_ns() - began_ns
    assert found == 0, "no cycle pays in these prices"
    return took_ns / 1e3


def _plain(index: CycleIndex, image: BookImage, evaluator: Evaluator) -> Callable[[], int] | None:
    """Return the C loop over the evaluator's arrays, None where nothing compiles it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory(prefix="apex-bench-") as folder:
        source, library = Path(folder) / "scan.c", Path(folder) / "scan.so"
        source.write_text(_C, encoding="utf-8")
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source], check=True, timeout=120)
        scan = ctypes.CDLL(str(library)).scan
    scan.restype = ctypes.c_int64
    kept = kept_factors(evaluator.fees_e8)
    skipped = np.zeros(1, dtype=np.int64)
    arrays: list[npt.NDArray[np.generic]] = [
        image.rows, image.row_feed, image.feeds, evaluator.age_ns_max, *kept, index.legs, index.sides,
        np.zeros(2 * len(index.symbols)), np.zeros(len(index), dtype=np.int32), skipped,
    ]  # fmt: skip
    rows, row_feed, feeds, ages, buy, sell, legs, sides, factors, out, missed = (
        ctypes.c_void_p(array.ctypes.data) for array in arrays
    )
    count = ctypes.c_int64
    arguments = (
        rows, row_feed, feeds, count(len(index.symbols)), ages, count(LIVENESS_NS_MAX), buy, sell, legs, sides,
        count(len(index)), ctypes.c_double(float(evaluator.screen.bounds[0])), count(NOW_NS), factors, out, missed,
    )  # fmt: skip

    def run() -> int:
        assert arrays, "kept alive"
        found = int(scan(*arguments))
        assert not skipped[0], "every row is live"
        return found

    return run


def _decimal(index: CycleIndex, image: BookImage) -> Callable[[], int]:
    """Return the plain form: a record a symbol, its prices in Decimal, the checks at each leg."""
    records = []
    for row in range(len(index.symbols)):
        found = image.read_row(row)
        assert found is not None
        records.append(
            {
                "valid": found.flags & seqlock.STATUS_MASK == seqlock.VALID,
                "received_ns": found.received_ns,
                "feed": {"up": True, "live_ns": NOW_NS},
                "bid": Decimal(found.bid_px) / SCALE,
                "ask": Decimal(found.ask_px) / SCALE,
            }
        )
    kept = 1 - Decimal(FEE_E8) / SCALE
    cycles = [list(zip(*index.legs_of(cycle), strict=True)) for cycle in range(len(index))]

    def run() -> int:
        found = 0
        for legs in cycles:
            net = Decimal(1)
            for row, side in legs:
                record = records[row]
                feed = record["feed"]
                if (
                    not record["valid"]
                    or not feed["up"]  # type: ignore[index]
                    or abs(NOW_NS - feed["live_ns"]) > LIVENESS_NS_MAX  # type: ignore[index]
                    or NOW_NS - record["received_ns"] > AGE_NS_MAX  # type: ignore[operator]
                ):
                    break
                net = net / record["ask"] * kept if side == BUY else net * record["bid"] * kept  # type: ignore[operator]
            else:
                found += net > 1
        return found

    return run
