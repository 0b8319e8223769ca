"""The health actor's driver: looks at the board and at the book image once a second and says what is suspicious.

Commands: `StartWatch`. Events: `SuspicionsFound`, once a second. A board that does not answer is counted and read again
the next time; without an image (yet) the rows are not looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from actors.adapters.driver_thread import DriverThread
from actors.adapters.health import HealthReport
from actors.adapters.image_file import MappedImage, find_image
from actors.adapters.inspection import ServerAway
from actors.broker_watch import UPTIME_DETAIL
from actors.messages import AnyMessage, StartWatch, SuspicionsFound
from actors.ports import Clock
from kernels.book_image import ImageError
from kernels.market_watch import Counted, Limits, MarketWatch
from kernels.row_watch import RowWatch
from kernels.uptime import Figures

LOOK_S: Final = 1.0

ReadBoard = Callable[[], Sequence[HealthReport]]


class HealthOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`liveness_ms_max`: of a feed's header."""

    role: str
    run_dir: str
    limits: Limits = Limits()
    liveness_ms_max: int = 250
    look_s: float = LOOK_S


class HealthDriver(DriverThread):
    """`HostedDriver`; see the module."""

    def __init__(self, options: HealthOptions, clock: Clock, read_board: ReadBoard) -> None:
        """`read_board` returns every role's last report; it may block, and raise what a server that is away does."""
        super().__init__(options.role)
        self._options, self._clock, self._read_board = options, clock, read_board
        self._watch = MarketWatch(options.limits)
        self._mapped: MappedImage | None = None
        self._rows: RowWatch | None = None
        self._window = 0
        self._written_ns: dict[str, int] = {}
        self._begun = False

    @property
    def counters(self) -> dict[str, int]:
        """What this thread counted, for the health board."""
        return dict(self.worker.progress)

    # ---- on the loop

    def handle(self, command: AnyMessage) -> None:
        """Take `StartWatch`, once."""
        assert isinstance(command, StartWatch), f"health takes no {type(command).__name__}"
        assert not self._begun, "started twice"
        self._begun = True
        self.worker.spawn(self._run(), "health")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._options.look_s)
            try:
                reports = await asyncio.to_thread(self._read_board)
            except ServerAway:
                self.worker.count("board_away")
                continue
            self._look(reports)

    def _look(self, reports: Sequence[HealthReport]) -> None:
        now_ns, limits = self._clock.now_ns(), self._options.limits
        counted = [Counted(one.role, one.epoch, one.counters) for one in reports if self._is_news(one)]
        rows = self._look_at_rows(now_ns)
        if rows is None:
            standing = self._watch.take(now_ns, counted)
        else:
            assert self._mapped is not None
            names = [symbol.name for symbol in self._mapped.record.symbols]
            standing = self._watch.take(
                now_ns,
                counted,
                [(names[one.row], one) for one in rows.find_invalid(now_ns, limits.invalid_ns)],
                [
                    (names[one.row], one)
                    for one in rows.find_silent(now_ns, limits.silent_ns, limits.silent_expected_min)
                ],
                [names[row] for row in rows.rank_busiest(limits.majors_top)],
            )
        progress = self.worker.progress
        progress |= {"suspicions": len(standing), "suspicions_dropped": self._watch.suspicions_dropped}
        progress |= _uptimes(reports)
        self.worker.count("looks")
        self.worker.emit(SuspicionsFound(standing), key="suspicions")

    def _is_news(self, report: HealthReport) -> bool:
        """Whether it was written since the last look: a dead role's last figures are no figures of now."""
        news = self._written_ns.get(report.role) != report.written_ns
        self._written_ns[report.role] = report.written_ns
        return news

    def _look_at_rows(self, now_ns: int) -> RowWatch | None:
        if self._mapped is not None and not self._mapped.is_current():
            self._mapped = self._rows = None
        if self._mapped is None:
            try:
                self._mapped = find_image(Path(self._options.run_dir), writable=False)
            except ImageError:
                self.worker.count("image_unreadable")
            if self._mapped is None:
                return None
            self._rows = RowWatch(self._mapped.image, now_ns, self._options.liveness_ms_max * 1_000_000)
        rows, window = self._rows, now_ns // self._options.limits.window_ns
        assert rows is not None
        rows.look(now_ns)
        if self._window and window != self._window:
            rows.end_window(now_ns)
        self._window = window
        return rows


def _uptimes(reports: Sequence[HealthReport]) -> dict[str, int]:
    """The week of each broker's gateway as gauges: up of a million, unplanned seconds down, losses."""
    told = {one.role: one.detail[UPTIME_DETAIL] for one in reports if UPTIME_DETAIL in one.detail}
    gauges: dict[str, int] = {}
    for role, text in told.items():
        found = msgspec.json.decode(text, type=Figures)
        gauges |= {f"gateway_down_s.{role}": round(found.down_s), f"gateway_losses.{role}": found.losses}
        if found.up_fraction is not None:
            gauges[f"gateway_up_ppm.{role}"] = int(found.up_fraction * 1_000_000)
    return gauges
