"""Asks the venue for the snapshots that a depth connection's books want, one after the other, within the budget."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Final

from actors.adapters.backoff import Backoff
from actors.adapters.feed_connection import FeedConnection
from actors.adapters.venue_rest import VenueAway, VenueRest, depth_weight
from actors.ports import Clock
from kernels.capture_records import SnapshotRecord, encode
from kernels.depth_fold import SNAPSHOT_LEVELS, DepthFold
from kernels.fold import NOTHING_CHANGED
from kernels.record_index import ASKED, SNAPSHOT

LOOK_S: Final = 0.05
ROW_S_MIN: Final = 0.5
"""A row's snapshot is asked for at most so often: one too old needs the venue to have moved on."""

ROW_S_MAX: Final = 30.0


class DepthSnapshots:
    """One connection's. A snapshot is only for the epoch in which it was asked for; both moments are captured."""

    def __init__(
        self,
        connection: FeedConnection,
        names: Sequence[str],
        rest: VenueRest,
        clock: Clock,
        random_unit: Callable[[], float],
        on_rows: Callable[[], None],
    ) -> None:
        """`names`: of the symbols, by row."""
        self._connection, self._names, self._rest = connection, names, rest
        self._clock, self._random_unit, self._on_rows = clock, random_unit, on_rows
        self._backoffs: dict[int, Backoff] = {}
        self._not_before_s: dict[int, float] = {}
        self.counts = {"snapshots": 0, "snapshots_away": 0}

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_S)
            fold = self._connection.fold_in_use
            if not isinstance(fold, DepthFold) or not self._connection.is_live:
                continue
            for row in fold.wanted():
                if self._connection.fold_in_use is not fold:
                    break
                if loop.time() >= self._not_before_s.get(row, 0.0):
                    await self._ask(fold, row, loop)

    async def _ask(self, fold: DepthFold, row: int, loop: asyncio.AbstractEventLoop) -> None:
        backoff = self._backoffs.setdefault(row, Backoff(ROW_S_MIN, ROW_S_MAX, self._random_unit))
        self._not_before_s[row] = loop.time() + backoff.next_s()
        name = urllib.parse.quote(self._names[row])
        self._connection.capture(ASKED, self._clock.now_ns(), self._names[row].encode())
        fold.begin_snapshot(row)
        try:
            body = await self._rest.get(
                f"/api/v3/depth?symbol={name}&limit={SNAPSHOT_LEVELS}", depth_weight(SNAPSHOT_LEVELS)
            )
        except VenueAway:
            self.counts["snapshots_away"] += 1
            return
        self.counts["snapshots"] += 1
        if self._connection.fold_in_use is not fold:
            return  # of an epoch that is over
        now_ns = self._clock.now_ns()
        self._connection.capture(SNAPSHOT, now_ns, encode(SnapshotRecord(self._names[row], SNAPSHOT_LEVELS, body)))
        changed = fold.apply_snapshot(row, body, now_ns)
        if fold.is_valid(row):
            backoff.reset()
        if changed != NOTHING_CHANGED:
            self._on_rows()
