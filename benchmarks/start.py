"""`run.py` executed → its tree serves → the first evaluation of live prices; the baseline imports what it imports.

The first evaluation is the later of two moments, both seen from outside: the evaluator's first look at every row (the
journal's `EvaluatorReady`), and the first row of the book image that counts (polled every 2 ms). From then on each
changed row wakes the evaluator. What the evaluator says of itself comes once a second: it is only an upper bound.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import cast

import msgspec

from actors.adapters.image_file import MappedImage, find_image
from actors.adapters.redis_client import Purpose, connect
from actors.keys import KeyType, key
from actors.messages import EvaluatorReady, JournalRecord
from benchmarks.engine_watch import Watched, engine_directory, wait_for
from benchmarks.report import ROOT, Measured, compared
from kernels.row_tally import tally_rows
from tests.chaos.engine_process import EngineRun

Page = list[tuple[bytes, dict[bytes, bytes]]]

BASELINE = "bare interpreter with the engine's imports"
IMPORTS = "import supervisors.engine, supervisors.boot, supervisors.supervisor, actors.adapters.wiring"
SERVE_S_MAX = 60.0
LOOK_S = 0.002


def start(quick: bool) -> list[Measured]:
    """Start engines one after the other, each in a fresh directory."""
    served, evaluated, bare = [], [], []
    for _ in range(1 if quick else 10):
        bare.append(_bare_s())
        serve_s, evaluate_s = _started()
        served.append(serve_s)
        evaluated.append(evaluate_s)
    note = "fresh run directory, paper venues started too, compiled kernels cached"
    figures = compared("start.first_evaluation", "s", evaluated, BASELINE, bare, {0.5: 5.0, 0.99: 5.0}, note)
    return figures + compared("start.tree_serves", "s", served, BASELINE, bare, {0.5: None, 0.99: None}, note)


def _bare_s() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, check=True)
    return time.monotonic() - began


def _started() -> tuple[float, float]:
    with engine_directory() as directory:
        began = time.time()
        with EngineRun(directory / "run") as engine:
            watched = Watched(engine)
            first_row = _first_live_row(engine)
            wait_for(watched.has_served, SERVE_S_MAX, "a tree", engine)
            served = watched.trees_served()[-1][0]
            wait_for(lambda: _ready(watched) > 0, SERVE_S_MAX, "the evaluator is ready", engine)
            return served - began, max(first_row, _ready(watched)) - began


def _first_live_row(engine: EngineRun) -> float:
    """Map the image like any reader and wait for a row that counts."""
    found: list[MappedImage] = []

    def mapped() -> bool:
        image = find_image(engine.run_dir, writable=False)
        found[:] = [image] if image is not None else []
        return bool(found)

    wait_for(mapped, SERVE_S_MAX, "a book image", engine)
    stale_ns = engine.settings.exchange.header_stale_ms * 1_000_000
    image = found[0].image
    wait_for(
        lambda: tally_rows(image, time.time_ns(), liveness_ns_max=stale_ns).live > 0,
        SERVE_S_MAX,
        "a live row",
        engine,
        LOOK_S,
    )
    return time.time()


def _ready(watched: Watched) -> float:
    """When the evaluator had looked at every row for the first time; 0 while it has not."""
    with connect(watched.file().ledger_url, Purpose.TOOL) as client:
        for _, fields in cast("Page", client.xrange(key(KeyType.JOURNAL, "evaluator"), "-", "+", 20)):
            record = msgspec.json.decode(next(iter(fields.values())), type=JournalRecord)
            if isinstance(record.input.body, EvaluatorReady):
                return record.now_ns / 1e9
    return 0.0
