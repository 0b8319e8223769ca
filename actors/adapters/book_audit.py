"""The audit: rows that stood still are compared with the venue's own snapshot, which proves quiet rows right.

A row is compared only if the same write stood before the request and `SETTLE_S` after its answer: any frame that was on
its way has come by then. What differs is looked at again; the same write wrong in two looks is a mismatch. Quantities
count too. The snapshot has no update ids, so it corrects nothing: it only tells.
"""

from __future__ import annotations

import asyncio
from typing import Final

import orjson

from actors.adapters.venue_rest import TICKERS_WEIGHT, VenueAway, VenueRest
from actors.messages import AuditFinished
from actors.ports import Clock
from kernels.book_image import BookImage, Row, Verdict
from kernels.frames import NO_ROW, RowUpdate, SymbolTable, parse_snapshot_entry

SETTLE_S: Final = 0.5
AUDITABLE: Final = (Verdict.LIVE, Verdict.AGED)
_PATH: Final = "/api/v3/ticker/bookTicker"


class BookAudit:
    """One image against one venue."""

    def __init__(
        self, image: BookImage, table: SymbolTable, rest: VenueRest, clock: Clock, liveness_ns_max: int
    ) -> None:
        self.checked = 0
        self.mismatches = 0
        self._image, self._table, self._rest, self._clock = image, table, rest, clock
        self._liveness_ns_max = liveness_ns_max
        self._suspects: dict[int, int] = {}

    @property
    def is_suspicious(self) -> bool:
        """Whether the last look found something that a second one should settle soon."""
        return bool(self._suspects)

    async def look(self) -> AuditFinished:
        """Compare once. Raises VenueAway; a reply that is no snapshot is one too."""
        before = self._standing()
        entries = _entries(await self._rest.get(_PATH, TICKERS_WEIGHT))
        await asyncio.sleep(SETTLE_S)
        after = self._standing()
        checked, suspects = 0, {}
        for entry in entries:
            outcome = parse_snapshot_entry(entry, self._table)
            row = outcome.row
            if row == NO_ROW or row not in before or row not in after or before[row].sequence != after[row].sequence:
                continue
            checked += 1
            if not (isinstance(outcome, RowUpdate) and _same(outcome, after[row])):
                suspects[row] = after[row].sequence
        mismatched = tuple(self._table.names[row] for row in suspects if self._suspects.get(row) == suspects[row])
        self._suspects = suspects
        self.checked += checked
        self.mismatches += len(mismatched)
        return AuditFinished(checked, mismatched)

    def _standing(self) -> dict[int, Row]:
        now_ns, standing = self._clock.now_ns(), {}
        for number in range(self._image.layout.n_rows):
            verdict, row = self._image.read_live_row(number, now_ns, liveness_ns_max=self._liveness_ns_max)
            if verdict in AUDITABLE and row is not None:
                standing[number] = row
        return standing


def _same(update: RowUpdate, row: Row) -> bool:
    told = (update.bid_px, update.bid_qty, update.ask_px, update.ask_qty)
    return told == (row.bid_px, row.bid_qty, row.ask_px, row.ask_qty)


def _entries(body: bytes) -> list[object]:
    try:
        entries = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise VenueAway(f"GET {_PATH}: {error}") from error
    if not isinstance(entries, list):
        raise VenueAway(f"GET {_PATH}: no list")
    return entries
