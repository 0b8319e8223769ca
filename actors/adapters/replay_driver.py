"""A feed that plays recordings into the image in place of a venue: the same parse, fold and writer, at a chosen pace.

Commands: `StartFeed`. Events: `FeedStatus` about once a second. The tickers of all recordings go into one slot, merged
by their times, each recording's depth into one of its own; each has a fold of its own, since each was a connection of
its own. Rows and ladders carry the time at which they are played. When the recordings are over, or while one cannot be
read, the slots are down; nothing is played a second time in one life of the process, a restart begins anew.

Full: at pace 0 frames are played as fast as they are folded, in batches between beats; who reads the image meanwhile
sees the latest of each row (an offline replay, `run.py replay`, is what leaves nothing out).
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from loguru import logger

from actors.adapters.driver_thread import DriverThread
from actors.adapters.feed_connection import CONNECTIONS_BITS
from actors.adapters.feed_driver import ImageLost, wait_for_image, warm_writer
from actors.adapters.image_file import MappedImage
from actors.adapters.recorded_stream import recorded_lines, recorded_slots, recordings
from actors.adapters.wake import WakeSender
from actors.messages import AnyMessage, FeedStatus, StartFeed
from actors.ports import Clock
from kernels.book_image import FeedCounters, FeedWriter
from kernels.depth_fold import DepthFold
from kernels.depth_replay import RecordedDepth, plan_depth
from kernels.fold import FeedFold
from kernels.frames import SymbolTable
from kernels.recorded_line import LineKind, RecordedLine

BATCH_MAX: Final = 500
STATUS_NS: Final = 1_000_000_000
OVER: Final = "the recording is over"


class ReplayOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`pace`: a multiple of the recorded one; 0: as fast as it goes."""

    role: str
    run_dir: str
    paths: tuple[str, ...]
    pace: float = 1.0
    header_write_ms: int = 50
    header_stale_ms: int = 250


class _Line(NamedTuple):
    line: RecordedLine
    source: int


class ReplayDriver(DriverThread):
    """`HostedDriver` of the role that plays; see the module."""

    def __init__(self, options: ReplayOptions, clock: Clock) -> None:
        super().__init__(options.role)
        self._options, self._clock = options, clock
        self._paths = recordings([Path(path) for path in options.paths])
        self._wake = WakeSender(Path(options.run_dir))
        self._mapped: MappedImage | None = None
        self._writer: FeedWriter | None = None
        self._sources: list[FeedFold | RecordedDepth] = []
        self._notes = 0
        self._status_ns = 0
        self._beat_ns = 0
        self._reason = "not started yet"

    @property
    def counters(self) -> dict[str, int]:
        """What this thread counted, for the health board."""
        return dict(self.worker.progress)

    def handle(self, command: AnyMessage) -> None:
        """Take `StartFeed`, once."""
        assert isinstance(command, StartFeed), f"a feed takes no {type(command).__name__}"
        assert self._mapped is None, "started twice"
        self.worker.spawn(self._run(command.epoch), "replay")

    def ended(self) -> None:
        """Leave nothing that looks alive."""
        if self._reason != OVER:
            self._down()
        self._wake.close()

    # ---- on the loop

    async def _run(self, role_epoch: int) -> None:
        options = self._options
        mapped = self._mapped = await wait_for_image(Path(options.run_dir), writable=True)
        table, slots = SymbolTable(mapped.record.symbols), recorded_slots(self._paths)
        plan = plan_depth(slots, table)
        mine = [number for number, slot in enumerate(mapped.record.feeds) if slot.role == options.role]
        if len(mine) != 1 + len(plan.sources):
            raise ImageLost(f"{options.role}: the image has {len(mine)} slots for it; is exchange.replay as it was?")
        warm_writer()
        writer, *deep = (FeedWriter(mapped.image, slot, (role_epoch << CONNECTIONS_BITS) + 1) for slot in mine)
        self._writer = writer
        depth = {source: RecordedDepth(one, table) for source, one in zip(plan.sources, deep, strict=True)}
        self._sources = [depth.get(source) or FeedFold(writer, table) for source in range(len(self._paths))]
        self._reason = ""
        self._tick()
        lines = [self._lines(number, path) for number, path in enumerate(self._paths)]
        await self._play(heapq.merge(*lines, key=lambda one: one.line.received_ns))
        self._beat(self._clock.now_ns())
        self._down()
        self._reason = OVER
        while True:
            self._tick()
            await asyncio.sleep(0.2)

    async def _play(self, lines: Iterator[_Line]) -> None:
        pace, tick_s = self._options.pace, self._options.header_write_ms / 2_000
        loop = asyncio.get_running_loop()
        began_s, first_ns = loop.time(), -1
        batch: list[_Line] = []
        for one in lines:
            # What a state tells was so before the recording began.
            is_due = pace and one.line.received_ns and one.line.kind is not LineKind.STATE
            if first_ns < 0 and is_due:
                first_ns = one.line.received_ns
            due_s = began_s + (one.line.received_ns - first_ns) / 1e9 / pace if is_due else 0.0
            if len(batch) >= BATCH_MAX or due_s > loop.time():
                self._apply(batch)
                batch = []
                self._tick()
                await asyncio.sleep(0)
            while (wait_s := due_s - loop.time()) > 0:
                await asyncio.sleep(min(wait_s, tick_s))
                self._tick()
            batch.append(one)
        self._apply(batch)

    def _lines(self, source: int, path: Path) -> Iterator[_Line]:
        return (_Line(line, source) for line in recorded_lines(path, logger.warning))

    def _apply(self, batch: list[_Line]) -> None:
        now_ns, changed = self._clock.now_ns(), False
        run: list[bytes] = []
        for place, (line, number) in enumerate(batch):
            source = self._sources[number]
            if isinstance(source, RecordedDepth):
                changed |= bool(source.apply(line, now_ns))
            elif line.kind is LineKind.FRAME:
                run.append(line.frame)
                follows = batch[place + 1] if place + 1 < len(batch) else None
                if follows is None or follows.source != number or follows.line.kind is not LineKind.FRAME:
                    changed |= source.apply_frames(run, now_ns)
                    run = []
            elif line.kind is LineKind.NOTE:
                self._notes += 1
            else:
                source.apply_mark(line, now_ns)
                changed = True
        if changed:
            self._wake.send()

    def _beat(self, now_ns: int) -> None:
        """Beat for every slot; each tells what its own folds counted."""
        assert self._writer is not None
        tickers = [source.counters() for source in self._sources if isinstance(source, FeedFold)]
        self._writer.beat(now_ns, 0, _sum(tickers))
        for source in self._sources:
            if isinstance(source, RecordedDepth):
                source.writer.beat(now_ns, 0, source.fold.counters())

    def _down(self) -> None:
        if self._writer is not None:
            self._writer.down()
        for source in self._sources:
            if isinstance(source, RecordedDepth):
                source.writer.down()

    def _tick(self) -> None:
        now_ns = self._clock.now_ns()
        self._wake.retry()
        if self._reason != OVER and now_ns - self._beat_ns >= self._options.header_write_ms * 500_000:
            self._beat_ns = now_ns
            self._beat(now_ns)
        if now_ns - self._status_ns >= STATUS_NS or (self._reason == OVER and self.worker.progress.get("over", 0) == 0):
            self._status_ns = now_ns
            self._report()
            if self._mapped is not None and not self._mapped.is_current():
                raise ImageLost(f"{self._options.role}: the book image was replaced; a successor maps the new one")

    def _report(self) -> None:
        rejected: Counter[str] = Counter()
        folds = [source.fold if isinstance(source, RecordedDepth) else source for source in self._sources]
        outcomes: Counter[str] = Counter()
        for fold in folds:
            rejected.update({reason.value: count for reason, count in fold.rejected.items()})
            outcomes.update(fold.outcomes if isinstance(fold, DepthFold) else {})
        counters = _sum([fold.counters() for fold in folds])
        status = FeedStatus(
            feed=self._options.role,
            up=not self._reason,
            reason=self._reason,
            frames=counters.frames,
            parsed=counters.parsed,
            rejected=dict(sorted(rejected.items())),
            quantity_capped=counters.capped,
            reconnects=0,
            lag_ns=0,
        )
        progress = self.worker.progress
        progress |= {"frames": status.frames, "parsed": status.parsed, "quantity_capped": status.quantity_capped}
        progress |= {f"rejected.{reason}": count for reason, count in rejected.items()}
        progress |= {f"depth.{name}": count for name, count in outcomes.items()}
        never = sum(source.never_spliced for source in self._sources if isinstance(source, RecordedDepth))
        progress |= {"notes": self._notes, "depth.never_spliced": never, "over": int(self._reason == OVER)}
        self.worker.emit(status, key="status")


def _sum(counters: list[FeedCounters]) -> FeedCounters:
    return FeedCounters(*(sum(column) for column in zip(FeedCounters(), *counters, strict=True)))
