"""The book for people: a conflated copy of the image in a Redis hash, about once a second.

A field a symbol, JSON with decimal strings. Never read back as prices: it says how the rows stood when it was written.
At most `ROWS_A_TIME_MAX` rows that changed are written at a time, the rest the next time; while one write is under way
or the bus is away, there is none (counted).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import orjson
import redis

from actors.keys import ALL, KeyType, key
from actors.ports import Clock
from kernels.book_image import BookImage, Verdict
from kernels.fixed8 import format_fixed8

ROWS_A_TIME_MAX: Final = 2_000


class BookSnapshot:
    """One image into one hash; the client is used by one thread at a time."""

    def __init__(
        self,
        image: BookImage,
        names: tuple[str, ...],
        open_client: Callable[[], redis.Redis],
        clock: Clock,
        age_ns_max: npt.NDArray[np.int64],
        liveness_ns_max: int,
    ) -> None:
        """`age_ns_max`: int64 [rows]."""
        self.counts = {"snapshots": 0, "snapshot_rows": 0, "snapshots_lost": 0}
        self._image, self._names, self._clock = image, names, clock
        self._age_ns_max, self._liveness_ns_max = age_ns_max, liveness_ns_max
        self._client = open_client()
        self._written: dict[int, tuple[int, Verdict]] = {}
        self._next = 0

    async def write(self) -> None:
        """Write what changed. Never raises for a bus that is away: it is tried again, whole, the next time."""
        fields, marks = self._changed()
        if not fields:
            return
        try:
            await asyncio.to_thread(self._put, fields, not self._written)
        except redis.RedisError:
            self.counts["snapshots_lost"] += 1
            self._written.clear()
            return
        self._written |= marks
        self.counts["snapshots"] += 1
        self.counts["snapshot_rows"] += len(fields)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _changed(self) -> tuple[dict[str, bytes], dict[int, tuple[int, Verdict]]]:
        """Return fields and marks of changed rows, going round the table from where the last write ended."""
        fields: dict[str, bytes] = {}
        marks: dict[int, tuple[int, Verdict]] = {}
        now_ns, n_rows, first = self._clock.now_ns(), len(self._names), self._next
        for step in range(n_rows):
            number = (first + step) % n_rows
            verdict, row = self._image.read_live_row(
                number, now_ns, int(self._age_ns_max[number]), self._liveness_ns_max
            )
            mark = (row.sequence if row is not None else -1, verdict)
            if self._written.get(number) == mark:
                continue
            marks[number] = mark
            fields[self._names[number]] = orjson.dumps(
                {"state": verdict.name.lower()}
                if row is None
                else {
                    "bid": format_fixed8(row.bid_px),
                    "bid_qty": format_fixed8(row.bid_qty),
                    "ask": format_fixed8(row.ask_px),
                    "ask_qty": format_fixed8(row.ask_qty),
                    "state": row.status.name.lower() if verdict is Verdict.INVALID else verdict.name.lower(),
                    "quantity_capped": row.quantity_capped,
                    "update_id": row.venue_update_id,
                    "received_ns": row.received_ns,
                    "written_ns": now_ns,
                }
            )
            if len(fields) == ROWS_A_TIME_MAX:
                self._next = (number + 1) % n_rows
                break
        return fields, marks

    def _put(self, fields: dict[str, bytes], whole: bool) -> None:
        name = key(KeyType.BOOK, ALL)
        pipe = self._client.pipeline(transaction=True)
        if whole:
            pipe.delete(name)
        pipe.hset(name, mapping=fields)  # type: ignore[arg-type]
        pipe.execute()
