"""Recorded frames folded into a book and evaluated on every change: what the engine would have seen, without the
engine.

The rows, the fold of frames and the evaluation are the live ones (`kernels.fold`, `kernels.evaluator`); only the
buffer is plain memory and the clock is the recording's. Nothing coalesces: each frame that changes a row is evaluated
before the next is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from kernels.address_block import Block
from kernels.book_image import NO_AGE_LIMIT, FeedWriter, format_image, layout
from kernels.capture_records import SlotRecord
from kernels.cycles import CycleIndex
from kernels.depth_fold import DepthFold
from kernels.depth_replay import RecordedDepth, plan_depth
from kernels.evaluate import Decision
from kernels.evaluator import NO_FEES, EvaluationCounters, Evaluator, StartMax
from kernels.fees import FeeTable
from kernels.fixed8 import format_ratio
from kernels.fold import ALL_CHANGED, NOTHING_CHANGED, FeedFold
from kernels.frames import NO_ROW, Reason, SymbolTable
from kernels.record_index import OTHER
from kernels.recorded_line import LINE_KINDS, LineKind, RecordedLine, parse_line
from kernels.replay_run import (
    BY_HAND,
    CANDIDATES,
    CLOCK,
    END,
    KINDS,
    LENGTHS,
    SOURCES,
    STARTS,
    TEXTS,
    TIMES,
    run_stretch,
)

_RING_SLOTS: Final = 2
_EPOCH: Final = 1


class ReplayReport(msgspec.Struct, frozen=True):
    """What a replay came to; the fields and their order are a fixed form.

    `frames` = `parsed` + the sum of `rejected`. `evaluations`: cycles evaluated over all changes (a cycle with a leg
    that was not live is not one). `above_one_gross`, `best_gross_return` (decimal text with 12 places, because a JSON
    number would not be exact; null where no cycle is complete) and `best_cycle` are of the final book, at its prices
    alone. `opportunities`: evaluations whose exact net return, after fees, lots and minimum notional, was above the
    least asked for (1). `depth`, only where a recording is one of depth: `ladders`, of those `never_spliced`, and what
    diffs and snapshots came to, by name.
    """

    frames: int
    parsed: int
    rejected: dict[str, int]
    quantity_capped: int
    directed_cycles: int
    evaluations: int
    above_one_gross: int
    best_gross_return: str | None
    best_cycle: tuple[str, ...]
    opportunities: int
    depth: dict[str, int] | msgspec.UnsetType = msgspec.UNSET


class Stretch(NamedTuple):
    """Entries of recordings in the order in which they are to be applied.

    `times` int64 [n], received; `sources` int64 [n]: which of `texts` an entry lies in, at `starts`, `lengths` (int64
    [n]) bytes long; `kinds` uint8 [n], of `kernels.record_index`. Behind a text's last entry lie TEXT_PADDING bytes.
    `origins`: the number of the recording that each text is of.
    """

    times: npt.NDArray[np.int64]
    sources: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.uint8]
    texts: list[npt.NDArray[np.uint8]]
    origins: list[int]

    def line(self, entry: int) -> RecordedLine:
        """Return one entry by itself. An OTHER line is parsed; its time is the entry's, which may be a later one."""
        kind, received_ns, start = int(self.kinds[entry]), int(self.times[entry]), int(self.starts[entry])
        text = self.texts[int(self.sources[entry])][start : start + int(self.lengths[entry])].tobytes()
        if kind == OTHER:
            return parse_line(text)._replace(received_ns=received_ns)
        return RecordedLine(LINE_KINDS[kind], received_ns, text)

    def origin(self, entry: int) -> int:
        """Return the number of the recording that an entry is of."""
        return self.origins[int(self.sources[entry])]


class Replay:
    """One replay: give it snapshots and lines in their order, then ask for the report.

    The clock is the latest receive time given; a snapshot has none of its own, so its rows are as old as the
    `received_ns` they are given with. The feeds beat with every frame: offline, no feed dies. One fold takes the
    tickers of all recordings, each recording of depth has its own.
    """

    def __init__(
        self,
        index: CycleIndex,
        *,
        fees: FeeTable = NO_FEES,
        start_max: StartMax = None,
        net_return_min: Fraction = Fraction(1),
        age_ns_max: int | npt.NDArray[np.int64] = NO_AGE_LIMIT,
        slots: Mapping[int, SlotRecord] | None = None,
    ) -> None:
        """Build an empty book over the index's symbols. `slots`: by number, of the recordings that say whose they are.

        Raises ValueError if there are no symbols.
        """
        n_rows = len(index.symbols)
        if n_rows == 0:
            raise ValueError("the exchangeInfo lists no symbols: there is no book to replay into")
        table, slots = SymbolTable(index.symbols), slots or {}
        plan = plan_depth(slots, table)
        n_feeds, ladders = 1 + len(plan.sources), [(row, 1 + place) for row, place in plan.ladders]
        parts = layout(n_rows, n_feeds, _RING_SLOTS, n_ladders=len(ladders), ladder_levels=plan.levels)
        image = format_image(
            bytearray(parts.n_bytes), [0] * n_rows, n_feeds, _RING_SLOTS, ladders=ladders, ladder_levels=plan.levels
        )
        self._writer = FeedWriter(image, 0, _EPOCH)
        self._fold = FeedFold(self._writer, table)
        self._depth = {
            number: RecordedDepth(FeedWriter(image, 1 + place, _EPOCH), table)
            for place, number in enumerate(plan.sources)
        }
        self._rows = {
            number: [table.row(name) for name in slot.symbols if table.row(name) != NO_ROW]
            for number, slot in slots.items()
        }
        self._evaluator = Evaluator(
            index, image, fees=fees, start_max=start_max, net_return_min=net_return_min, age_ns_max=age_ns_max
        )
        self._index = index
        self._changed = np.zeros(1, dtype=np.int32)
        self._now_ns = 0
        self._clock = np.zeros(1, dtype=np.int64)
        self.notes = 0
        self.opportunities = 0

    def apply_snapshot(self, payload: bytes, received_ns: int = 0) -> list[Decision]:
        """Apply each entry of a bookTicker snapshot (a JSON array) as a frame; return the opportunities met on the way.

        Bytes that are no such array count as one bad line.
        """
        found: list[Decision] = []
        for entry in self._fold.snapshot_entries(payload) or ():
            now_ns = self._tick(received_ns)
            found += self._evaluate(self._fold.apply_entry(entry, received_ns), now_ns)
        return found

    def apply_line(self, line: RecordedLine, origin: int = 0) -> list[Decision]:
        """Apply one line of recording number `origin`; return the opportunities that it opened."""
        if origin in self._depth:
            return self._apply_depth(self._depth[origin], line)
        if line.kind is LineKind.NOTE:
            self.notes += 1
            return []
        if line.kind is not LineKind.FRAME:
            self._fold.apply_mark(line, max(self._now_ns, line.received_ns), self._rows.get(origin))
            return []
        now_ns = self._tick(line.received_ns)
        return self._evaluate(self._fold.apply_frame(line.frame, now_ns), now_ns)

    def apply_stretch(self, stretch: Stretch) -> Iterator[Decision]:
        """Apply recorded entries in their order, as `apply_line` would one by one; yield the opportunities met.

        Nothing is applied but by asking for the next.
        """
        self._clock[0] = self._now_ns
        block = Block({TIMES: stretch.times, SOURCES: stretch.sources, STARTS: stretch.starts,
                       LENGTHS: stretch.lengths, KINDS: stretch.kinds, CLOCK: self._clock,
                       **{TEXTS + source: text for source, text in enumerate(stretch.texts)}})  # fmt: skip
        entry, why = 0, BY_HAND
        while True:
            entry, why, found = run_stretch(
                self._fold.block, self._evaluator.screen.block, block.words, self._changed, entry
            )
            self._now_ns = int(self._clock[0])
            if why == END:
                return
            if why == CANDIDATES:
                self._beat_depth()
                yield from self._opened(self._evaluator.decided(found, self._now_ns))
            else:
                yield from self.apply_line(stretch.line(entry), stretch.origin(entry))
                self._clock[0] = self._now_ns
            entry += 1

    @property
    def evaluation_counters(self) -> EvaluationCounters:
        """What was evaluated and what was skipped, by verdict."""
        return self._evaluator.counters

    def report(self) -> ReplayReport:
        """Return the report so far. The gross figures take each live cycle exactly: linear in the cycles."""
        gross = self._evaluator.gross_returns(self._now_ns)
        # The first of equals, in the index's order.
        best = max(gross, key=lambda cycle: (gross[cycle], -cycle), default=None)
        folds: list[FeedFold | DepthFold] = [self._fold, *(one.fold for one in self._depth.values())]
        rejected = sum((fold.rejected for fold in folds), Counter[Reason]())
        return ReplayReport(
            frames=sum(fold.frames for fold in folds),
            parsed=sum(fold.parsed for fold in folds),
            rejected={reason.value: count for reason, count in sorted(rejected.items())},
            quantity_capped=sum(fold.quantity_capped for fold in folds),
            directed_cycles=len(self._index),
            evaluations=self._evaluator.counters.evaluated,
            above_one_gross=sum(one > Fraction(1) for one in gross.values()),
            best_gross_return=None if best is None else format_ratio(gross[best]),
            best_cycle=() if best is None else self._index.describe(best),
            opportunities=self.opportunities,
            depth=self._depth_counts() if self._depth else msgspec.UNSET,
        )

    def _depth_counts(self) -> dict[str, int]:
        outcomes: Counter[str] = Counter()
        for one in self._depth.values():
            outcomes.update(one.fold.outcomes)
        ladders = sum(len(one.fold.rows) for one in self._depth.values())
        never = sum(one.never_spliced for one in self._depth.values())
        return {"ladders": ladders, "never_spliced": never, **dict(sorted(outcomes.items()))}

    def _apply_depth(self, source: RecordedDepth, line: RecordedLine) -> list[Decision]:
        now_ns = self._tick(line.received_ns)
        rows = source.apply(line, now_ns)
        if not rows:
            return []
        return self._opened(self._evaluator.on_rows(np.array(rows, dtype=np.int32), now_ns))

    def _tick(self, received_ns: int) -> int:
        self._now_ns = max(self._now_ns, received_ns)
        self._writer.beat(self._now_ns)
        self._beat_depth()
        return self._now_ns

    def _beat_depth(self) -> None:
        """Ladders are read where a cycle is decided, and nowhere else: they need no beat before."""
        for one in self._depth.values():
            one.writer.beat(self._now_ns)

    def _evaluate(self, changed: int, now_ns: int) -> list[Decision]:
        if changed == NOTHING_CHANGED:
            return []
        if changed == ALL_CHANGED:
            decisions = self._evaluator.scan(now_ns)
        else:
            self._changed[0] = changed
            decisions = self._evaluator.on_rows(self._changed, now_ns)
        return self._opened(decisions)

    def _opened(self, decisions: list[Decision]) -> list[Decision]:
        found = [decision for decision in decisions if decision.refusal is None]
        self.opportunities += len(found)
        return found
