"""Compiled kernels: all are compiled by `warm`, none at import, none again later, and the cache is never stale."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

KERNELS = ROOT / "kernels"
COMPILED = [path for path in sorted(KERNELS.glob("*.py")) if re.search(r"@njit|import intrinsic", path.read_text())]
CALLERS = [path for path in COMPILED if re.search(r"^COMPILED_WITH", path.read_text(), re.MULTILINE)]

SCRIPT = """
ENTRIES = ("_fold_frames", "screen_rows", "_screen_all", "_turn", "_record")
import sys
from numba.core.registry import CPUDispatcher
from kernels import depth_book, evaluator, fees, fixed8_bytes, frame_fold, frame_scan, ladder
from kernels import record_index, replay_run, screen, seqlock, warm

def compiled():
    found = {}
    for module in (depth_book, fixed8_bytes, frame_fold, frame_scan, ladder, record_index, replay_run, screen, seqlock):
        for name, value in vars(module).items():
            here = isinstance(value, CPUDispatcher) and value.py_func.__module__ == module.__name__
            if here and (name[0] != "_" or name in ENTRIES):
                found[f"{module.__name__}.{name}"] = len(value.signatures)
    return found

assert set(compiled().values()) == {0}, f"compiled at import: {compiled()}"
warm.warm()
first = compiled()
# What only other kernels call is compiled into them.
called = {name for name, count in first.items() if count}
called |= {f"kernels.seqlock.{name}" for name in ("push", "feed_is_live", "judge_row")} | {"kernels.ladder.read_ladder"}
called |= {"kernels.frame_fold.fold_frame"}
assert called == set(first) and max(first.values()) == 1, f"not compiled once by warm: {first}"

import numpy as np
from kernels.book_image import BookImage, FeedWriter, RingReader, format_image, layout
from kernels.cycles import build_index
from kernels.exchange_info import Symbol
from kernels.fold import FeedFold
from kernels.frames import SymbolTable
from kernels.replay import Replay, Stretch

symbols = [Symbol(base + quote, "TRADING", base, quote) for base, quote in (("B", "A"), ("C", "A"), ("C", "B"))]
buffer = bytearray(layout(3, 2, 8, n_ladders=1, ladder_levels=4).n_bytes)
image = format_image(buffer, [0, 1, 1], 2, 8, ladders=[(2, 1)], ladder_levels=4)
writer, ring = FeedWriter(image, 1, 7), RingReader(image, 1)
writer.beat(5)
writer.write_row(np.int32(2), 1, 1, 2, 1, 1, 1)
FeedFold(writer, SymbolTable(symbols)).apply_frames([b"{}", b"[]"], 1)
reading = BookImage(memoryview(buffer).toreadonly())
watcher = evaluator.Evaluator(build_index(symbols, "A"), reading, fees=fees.FeeTable(10), age_ns_max=7)
watcher.on_rows(ring.drain(), 1)
watcher.scan(2)
writer.write_row(2, 1, 1, 2, 1, 2, 2)
watcher.on_turn(3)
watcher.screen.record(4)
texts = [np.zeros(80, dtype=np.uint8)]
entry, kinds = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.uint8)
list(Replay(build_index(symbols, "A")).apply_stretch(Stretch(entry, entry, entry, entry, kinds, texts, [0])))
watcher.gross_returns(2)
image.read_live_row(2, 1)
pairs = np.ones((5, 2), dtype=np.int64)
book = depth_book.DepthBook(4, 2)
book.apply_snapshot(1, pairs[:1], pairs[:1] + 1, 100)
book.apply_diff(depth_book.Diff(2, 3, pairs, pairs[:0]))
writer.write_ladder(2, book.bids[:3], book.asks[:3], 1, 1)
writer.write_ladder(2, pairs, pairs[:0], 1, 1)
reading.read_live_ladder(2, 1)
image.read_live_ladder(2, 1)
assert compiled() == first, f"compiled again for the engine's own types: {compiled()}"
"""


@pytest.mark.timeout(600)
def test_warm_compiles_every_kernel_for_the_types_that_the_engine_uses_and_import_none() -> None:
    # Without a cache what a kernel calls is compiled on its own too, for the types of that call: those are not counted.
    for script in ("from kernels import warm; warm.warm()", SCRIPT):
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, done.stderr


def compiled_imports(path: Path) -> list[Path]:
    names = re.findall(r"^from kernels\.(\w+) import|^from kernels import (\w+)", path.read_text(), re.MULTILINE)
    return [other for other in COMPILED if other.stem in {one or two for one, two in names}]


@pytest.mark.parametrize("path", CALLERS, ids=lambda path: path.stem)
def test_a_kernel_file_changes_whenever_one_that_it_compiles_in_does(path: Path) -> None:
    """numba's cache asks only whether the function's own file changed, not those of the functions that it calls.

    So a kernel file that calls another's names a digest of it: mend the digest, and the cache is renewed everywhere.
    """
    called = compiled_imports(path)
    digest = hashlib.sha256(b"".join(other.read_bytes() for other in called)).hexdigest()[:16]
    wanted = f'COMPILED_WITH: Final = "{digest}"'
    assert wanted in path.read_text(), f"{path.name} calls {[one.name for one in called]}; it must say: {wanted}"


def test_a_kernel_file_that_compiles_in_another_s_functions_names_a_digest() -> None:
    without = [path.name for path in COMPILED if compiled_imports(path) and path not in CALLERS]
    assert not without, f"these need a COMPILED_WITH: {without}"
