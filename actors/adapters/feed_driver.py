"""A feed's driver: the connections of one shard, in one thread with one loop, whose timer is what beats.

The beat comes from the loop that reads, so that a loop that hangs goes stale by itself. Commands: `StartFeed`. Events:
`FeedStatus`, about once a second and at every change. It waits for the book actor's image, at most `IMAGE_S_MAX`, and
ends when the image is replaced: its successor maps the new one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from actors.adapters.capture_file import CaptureFile
from actors.adapters.depth_snapshots import DepthSnapshots
from actors.adapters.driver_thread import DriverThread
from actors.adapters.feed_connection import FeedConnection, Fold, SlotTerms, ticker_streams
from actors.adapters.image_file import MappedImage, find_image
from actors.adapters.pinning import pin_thread
from actors.adapters.venue_budget import VenueBudget, VenueLimits
from actors.adapters.venue_rest import VenueRest
from actors.adapters.wake import WakeSender
from actors.messages import AnyMessage, FeedStatus, StartFeed
from actors.ports import Clock
from kernels.book_image import FeedCounters, FeedWriter, RowStatus, format_image, layout
from kernels.capture_records import SlotRecord
from kernels.depth_book import DepthBook
from kernels.depth_fold import DepthFold
from kernels.depth_frames import DEPTH_KIND
from kernels.fold import FeedFold
from kernels.frames import SymbolTable
from kernels.latency_histogram import FRAME_TO_ROW, merge, new_histogram, quantile_ns, record, to_sparse

IMAGE_S_MAX: Final = 30.0
CAPPED_SHOWN_MAX: Final = 100
"""Symbols with clamped quantities that are counted by name; the total has all."""

STATUS_NS: Final = 1_000_000_000
_LOOK_S: Final = 0.05


class ImageLost(RuntimeError):
    """There is no image, or another now: end, and let a successor map it."""


class FeedOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`capture_mb_max` 0: no capture files. `rest_url` is for depth snapshots. `limits`: this process's share."""

    role: str
    run_dir: str
    ws_url: str
    rest_url: str = ""
    header_write_ms: int = 50
    header_stale_ms: int = 250
    capture_mb_max: int = 0
    connection_life_s: float = 82_800.0
    limits: VenueLimits = VenueLimits()
    cpu: int | None = None


class FeedDriver(DriverThread):
    """`HostedDriver` of one feed role; see the module."""

    def __init__(self, options: FeedOptions, clock: Clock, random_unit: Callable[[], float]) -> None:
        super().__init__(options.role)
        self._options, self._clock, self._random_unit = options, clock, random_unit
        self._run_dir = Path(options.run_dir)
        self._connections: dict[str, FeedConnection] = {}
        self._captures: list[CaptureFile] = []
        self._snapshots: list[DepthSnapshots] = []
        self._rest: VenueRest | None = None
        self._budget: VenueBudget
        self._wake = WakeSender(self._run_dir)
        self._mapped: MappedImage | None = None
        self._status_ns = 0
        self._was: tuple[tuple[bool, str], ...] = ()

    @property
    def latencies(self) -> dict[str, dict[str, int]]:
        """From a frame's receipt to its row, of all connections."""
        merged = new_histogram()
        for connection in tuple(self._connections.values()):
            merge(merged, connection.latency)
        return {FRAME_TO_ROW: to_sparse(merged)}

    @property
    def counters(self) -> dict[str, int]:
        """What this thread counted, for the health board."""
        return dict(self.worker.progress)

    # ---- on the loop

    def handle(self, command: AnyMessage) -> None:
        """Take `StartFeed`, once."""
        assert isinstance(command, StartFeed), f"a feed takes no {type(command).__name__}"
        assert self._mapped is None, "started twice"
        self.worker.spawn(self._run(command.epoch), "feed")

    async def _run(self, role_epoch: int) -> None:
        pin_thread(self._options.cpu)
        mapped = self._mapped = await wait_for_image(self._run_dir, writable=True)
        options, image = self._options, mapped.image
        table = SymbolTable(mapped.record.symbols)
        warm_writer()
        self._budget = VenueBudget(options.limits, self._random_unit)
        try:
            for number, slot in enumerate(mapped.record.feeds):
                if slot.role == options.role:
                    rows, deep = image.rows_of(number).tolist(), image.ladder_rows_of(number).tolist()
                    if rows:
                        self._connect(role_epoch, number, rows, table, lambda writer: FeedFold(writer, table))
                    if deep:
                        self._connect_depth(role_epoch, number, deep, table)
            await self._tick_on()
        finally:
            if self._rest is not None:
                await self._rest.close()

    def _connect(
        self,
        role_epoch: int,
        number: int,
        rows: Sequence[int],
        table: SymbolTable,
        make_fold: Callable[[FeedWriter], Fold],
        streams: tuple[str, ...] = (),
        levels: int = 0,
    ) -> FeedConnection:
        """Follow a slot's rows; `levels` of ladders, a side, where it is one of depth."""
        assert self._mapped is not None
        options, name = self._options, self._mapped.record.feeds[number].name
        terms = SlotTerms(
            slot=number,
            role_epoch=role_epoch,
            ws_url=options.ws_url,
            streams=streams or ticker_streams([table.names[row] for row in rows]),
            stale_ns=options.header_stale_ms * 1_000_000,
            life_s=options.connection_life_s,
        )
        connection = FeedConnection(
            terms,
            self._mapped.image,
            make_fold,
            self._budget,
            self._clock,
            self._random_unit,
            self._wake.send,
            self.worker.guard,
            self._capture(name, tuple(table.names[row] for row in rows), levels),
        )
        self._connections[name] = connection
        self.worker.spawn(connection.run(), f"feed.{name}")
        return connection

    def _connect_depth(self, role_epoch: int, number: int, rows: Sequence[int], table: SymbolTable) -> None:
        assert self._mapped is not None
        streams = tuple(f"{table.names[row].lower()}@{DEPTH_KIND}" for row in rows)
        levels = self._mapped.image.layout.ladder_levels
        connection = self._connect(
            role_epoch, number, rows, table, lambda writer: DepthFold(writer, table), streams, levels
        )
        if self._rest is None:
            self._rest = VenueRest(self._options.rest_url, self._budget)
        snapshots = DepthSnapshots(connection, table.names, self._rest, self._clock, self._random_unit, self._wake.send)
        self._snapshots.append(snapshots)
        self.worker.spawn(snapshots.run(), f"feed.snapshots.{number}")

    async def _tick_on(self) -> None:
        # Twice as often as asked for, so that one late turn of the loop is not a missed beat.
        every_s = self._options.header_write_ms / 2_000
        while True:
            self._tick()
            await asyncio.sleep(every_s)

    def _tick(self) -> None:
        now_ns = self._clock.now_ns()
        for connection in self._connections.values():
            connection.tick(now_ns)
        self._wake.retry()
        lives = tuple((connection.is_live, connection.reason) for connection in self._connections.values())
        if lives != self._was or now_ns - self._status_ns >= STATUS_NS:
            self._was, self._status_ns = lives, now_ns
            self._report()
            for capture in self._captures:
                capture.flush()
            if self._mapped is not None and not self._mapped.is_current():
                raise ImageLost(f"{self._options.role}: the book image was replaced; a successor maps the new one")

    def _report(self) -> None:
        connections = self._connections
        totals = [connection.sum_totals() for connection in connections.values()]
        down = [f"{name}: {one.reason}" for name, one in connections.items() if not one.is_live]
        rejected: Counter[str] = Counter()
        for total in totals:
            rejected.update(total.rejected)
        status = FeedStatus(
            feed=self._options.role,
            up=not down and bool(connections),
            reason="; ".join(down)[:500],
            frames=sum(total.frames for total in totals),
            parsed=sum(total.parsed for total in totals),
            rejected=dict(sorted(rejected.items())),
            quantity_capped=sum(total.quantity_capped for total in totals),
            reconnects=sum(max(0, total.connections - 1) for total in totals),
            lag_ns=max((one.lag_ns() for one in connections.values()), default=0),
        )
        progress = self.worker.progress
        progress |= {"frames": status.frames, "parsed": status.parsed, "quantity_capped": status.quantity_capped}
        progress |= {"reconnects": status.reconnects, "lag_us": status.lag_ns // 1_000}
        progress |= {f"rejected.{reason}": count for reason, count in rejected.items()}
        progress["beats_withheld"] = sum(total.beats_withheld for total in totals)
        progress["ticks_late"] = sum(total.gaps for total in totals)
        progress["held_down"] = sum(total.held_down for total in totals)
        for name, one in connections.items():
            for per_mille in (500, 990):
                progress[f"lag_us.{name}.p{per_mille // 10}"] = quantile_ns(one.lag, per_mille) // 1_000
        progress["capture_states_left_out"] = sum(capture.states_left_out for capture in self._captures)
        progress["handovers"] = sum(total.handovers for total in totals)
        progress |= {f"budget.{name}": count for name, count in self._budget.counts.items()}
        for name in ("snapshots", "snapshots_away"):
            progress[name] = sum(snapshots.counts[name] for snapshots in self._snapshots)
        outcomes: Counter[str] = Counter()
        for total in totals:
            outcomes.update(total.depth)
        progress |= {f"depth.{name}": count for name, count in outcomes.items()}
        for total in totals:
            progress |= {f"refused.{name}": count for name, count in total.refused.items()}
        capped = sum((total.capped_rows for total in totals), Counter[int]())
        assert self._mapped is not None
        symbols = self._mapped.record.symbols
        progress |= {f"capped.{symbols[row].name}": count for row, count in capped.most_common(CAPPED_SHOWN_MAX)}
        self.worker.emit(status, key="status")

    def _capture(self, slot: str, symbols: tuple[str, ...], levels: int) -> CaptureFile | None:
        if self._options.capture_mb_max == 0:
            return None
        path = self._run_dir / "capture" / f"{slot}.cap"
        capture = CaptureFile(path, self._options.capture_mb_max << 20, SlotRecord(symbols, levels))
        self._captures.append(capture)
        return capture

    def ended(self) -> None:
        """Leave nothing that looks alive."""
        for connection in self._connections.values():
            connection.close()
        for capture in self._captures:
            capture.close()
        self._wake.close()


async def wait_for_image(run_dir: Path, *, writable: bool) -> MappedImage:
    """Return the run's image as soon as its record stands. Raises ImageLost after `IMAGE_S_MAX`, ImageError."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + IMAGE_S_MAX
    while (mapped := find_image(run_dir, writable=writable)) is None:
        if loop.time() > deadline:
            raise ImageLost(f"no book image in {run_dir} within {IMAGE_S_MAX:.0f} s: does the book actor run?")
        await asyncio.sleep(_LOOK_S)
    return mapped


def warm_writer() -> None:
    """Compile what a writer calls, on an image of its own, so that no beat is late for it once frames come."""
    buffer = bytearray(layout(1, 1, 2, n_ladders=1, ladder_levels=1).n_bytes)
    image = format_image(buffer, [0], 1, 2, ladders=[(0, 0)], ladder_levels=1)
    writer = FeedWriter(image, 0, 1)
    book, level = DepthBook(1, 1), np.ones((1, 2), dtype=np.int64)
    book.apply_snapshot(1, level, level + 1, 1)
    writer.write_ladder(0, book.bids, book.asks, 1, 1)
    writer.write_row(0, 1, 1, 2, 1, 1, 1)
    writer.mark_invalid(0, RowStatus.GAP)
    writer.beat(1, 0, FeedCounters())
    image.read_header(0)
    record(new_histogram(), 1)
    writer.down()
    record(new_histogram(), 1, 1)
