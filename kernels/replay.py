"""Recorded frames folded into a book and evaluated on every change: what the engine would have seen, without the
engine.

The rows, the fold of frames and the evaluation are the live ones (`kernels.fold`, `kernels.evaluator`); only the
buffer is plain memory and the clock is the recording's. Nothing coalesces: each frame that changes a row is evaluated
before the next is read.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from kernels.address_block import Block
from kernels.book_image import NO_AGE_LIMIT, FeedWriter, format_image, layout
from kernels.cycles import CycleIndex
from kernels.evaluate import Decision
from kernels.evaluator import NO_FEES, EvaluationCounters, Evaluator, StartMax
from kernels.fees import FeeTable
from kernels.fixed8 import format_ratio
from kernels.fold import ALL_CHANGED, NOTHING_CHANGED, FeedFold
from kernels.frames import SymbolTable
from kernels.record_index import EPOCH, FRAME
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


class LineKind(enum.Enum):
    """What a line of a recording is: a frame with its time, the begin of a connection, a note, or none of these."""

    FRAME = enum.auto()
    EPOCH = enum.auto()
    NOTE = enum.auto()
    BAD = enum.auto()


class RecordedLine(NamedTuple):
    """One line. `received_ns` is 0 where the line has no time."""

    kind: LineKind
    received_ns: int
    frame: bytes


class ReplayReport(msgspec.Struct, frozen=True):
    """What a replay came to; the fields and their order are a fixed form.

    `frames` = `parsed` + the sum of `rejected`. `evaluations`: cycles evaluated over all changes (a cycle with a leg
    that was not live is not one). `above_one_gross`, `best_gross_return` (decimal text with 12 places, because a JSON
    number would not be exact; null where no cycle is complete) and `best_cycle` are of the final book, at its prices
    alone. `opportunities`: evaluations whose exact net return, after fees, lots and minimum notional, was above 1.
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


class Stretch(NamedTuple):
    """Entries of recordings in the order in which they are to be applied.

    `times` int64 [n], received; `sources` int64 [n]: which of `texts` an entry lies in, at `starts`, `lengths` (int64
    [n]) bytes long; `kinds` uint8 [n], of `kernels.record_index`. Behind a text's last entry lie TEXT_PADDING bytes.
    """

    times: npt.NDArray[np.int64]
    sources: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.uint8]
    texts: list[npt.NDArray[np.uint8]]

    def line(self, entry: int) -> RecordedLine:
        """Return one entry by itself. An OTHER line is parsed; its time is the entry's, which may be a later one."""
        kind, received_ns, start = int(self.kinds[entry]), int(self.times[entry]), int(self.starts[entry])
        if kind == EPOCH:
            return RecordedLine(LineKind.EPOCH, received_ns, b"")
        text = self.texts[int(self.sources[entry])][start : start + int(self.lengths[entry])].tobytes()
        if kind == FRAME:
            return RecordedLine(LineKind.FRAME, received_ns, text)
        return parse_line(text)._replace(received_ns=received_ns)


def parse_line(line: bytes) -> RecordedLine:
    """Take a recorded line apart. Never raises.

    `<time> <frame>` with the time in whole nanoseconds; `<time>: <frame>` or a time with a point, in seconds;
    `<address> -> <time>: <reply>` for a REST reply; a bare frame. Notes: a blank line, `<address> <-> <time>`, and
    `configuration: …`.
    """
    text = line.strip()
    if text.startswith(b"{"):
        return RecordedLine(LineKind.FRAME, 0, text)
    if b"://" in text[:16]:
        _, arrow, rest = text.partition(b" -> ")
        if not arrow:
            return RecordedLine(LineKind.NOTE if b" <-> " in text else LineKind.BAD, 0, b"")
        text = rest
    stamp, _, frame = text.partition(b" ")
    if not text or stamp == b"configuration:":
        return RecordedLine(LineKind.NOTE, 0, b"")
    received_ns = _nanoseconds(stamp)
    if received_ns is None or not frame:
        return RecordedLine(LineKind.BAD, received_ns or 0, b"")
    return RecordedLine(LineKind.FRAME, received_ns, frame.strip())


class Replay:
    """One replay: give it snapshots and lines in their order, then ask for the report.

    The clock is the latest receive time given; a snapshot has none of its own, so its rows are as old as the
    `received_ns` they are given with. The one feed beats with every frame: offline, no feed dies.
    """

    def __init__(
        self,
        index: CycleIndex,
        *,
        fees: FeeTable = NO_FEES,
        start_max: StartMax = None,
        age_ns_max: int = NO_AGE_LIMIT,
    ) -> None:
        """Build an empty book over the index's symbols. Raises ValueError if there are none."""
        n_rows = len(index.symbols)
        if n_rows == 0:
            raise ValueError("the exchangeInfo lists no symbols: there is no book to replay into")
        buffer = bytearray(layout(n_rows, 1, _RING_SLOTS).n_bytes)
        image = format_image(buffer, [0] * n_rows, 1, _RING_SLOTS)
        self._writer = FeedWriter(image, 0, _EPOCH)
        self._fold = FeedFold(self._writer, SymbolTable(index.symbols))
        self._evaluator = Evaluator(index, image, fees=fees, start_max=start_max, age_ns_max=age_ns_max)
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

    def apply_line(self, line: RecordedLine) -> list[Decision]:
        """Apply one line; return the opportunities that it opened."""
        if line.kind is LineKind.NOTE:
            self.notes += 1
            return []
        if line.kind is LineKind.BAD:
            self._fold.reject_line()
            return []
        if line.kind is LineKind.EPOCH:
            self._fold.begin_anew()
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
                yield from self._opened(self._evaluator.decided(found, self._now_ns))
            else:
                yield from self.apply_line(stretch.line(entry))
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
        fold = self._fold
        return ReplayReport(
            frames=fold.frames,
            parsed=fold.parsed,
            rejected={reason.value: count for reason, count in sorted(fold.rejected.items())},
            quantity_capped=fold.quantity_capped,
            directed_cycles=len(self._index),
            evaluations=self._evaluator.counters.evaluated,
            above_one_gross=sum(one > Fraction(1) for one in gross.values()),
            best_gross_return=None if best is None else format_ratio(gross[best]),
            best_cycle=() if best is None else self._index.describe(best),
            opportunities=self.opportunities,
        )

    def _tick(self, received_ns: int) -> int:
        self._now_ns = max(self._now_ns, received_ns)
        self._writer.beat(self._now_ns)
        return self._now_ns

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


def _nanoseconds(stamp: bytes) -> int | None:
    """Return a recorded time in nanoseconds, exactly; None if it is none (a sign, an exponent, over 40 characters)."""
    in_seconds = stamp.endswith(b":") or b"." in stamp
    text = stamp.removesuffix(b":")
    if not text.isascii() or len(text) > 40 or not text.replace(b".", b"", 1).isdigit():
        return None
    received_ns = int(Decimal(text.decode()) * 10**9) if in_seconds else int(text)
    return received_ns if received_ns < 2**62 else None
