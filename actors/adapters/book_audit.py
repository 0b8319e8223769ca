"""The audit: rows that stood still are held against the venue's own book, which proves quiet rows right, or wrong.

A look has two parts. The snapshot of all tops is cheap and has no update ids: it finds who is suspect. A snapshot of
one symbol's depth has `lastUpdateId`: at that id the top was this. A row of an id not above it, which still stands when
every frame sent before the snapshot has been read, is right if it says the same, and wrong if not: a frame between the
two ids never came. Suspects are settled so, and a few others by turns, those that have been quiet longest first.

That every earlier frame has been read is known by the header: it beats only while its pings are answered, so a beat
`PROOF_NS` after the reply is behind an answer to a ping that was sent after the reply.

What is proved wrong is told, and its feed held down: it begins a new epoch, in which a row counts by a later frame.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from typing import Final, NamedTuple

import orjson

from actors.adapters.feed_pulse import PING_EVERY_NS, PONG_NS_MAX
from actors.adapters.venue_rest import TICKERS_WEIGHT, VenueAway, VenueRest, depth_weight
from actors.messages import AuditFinished
from actors.ports import Clock
from kernels.book_image import NO_FEED, BookImage, Row, Verdict
from kernels.depth_frames import DepthSnapshot, parse_depth_snapshot
from kernels.frames import NO_ROW, RowUpdate, SymbolTable, parse_snapshot_entry

PROOF_NS: Final = PING_EVERY_NS + PONG_NS_MAX + 100_000_000
SETTLE_S: Final = 1.2
SUSPECTS_MAX: Final = 10
"""Settled in one look; the others in the next."""

SAMPLES: Final = 3
"""Of rows that nobody suspects, each look."""

LEVELS: Final = 1
AUDITABLE: Final = (Verdict.LIVE, Verdict.AGED)
_TICKERS: Final = "/api/v3/ticker/bookTicker"


class _Proof(NamedTuple):
    """What the venue said of a row, and when its reply was there."""

    snapshot: DepthSnapshot
    replied_ns: int


class BookAudit:
    """One image against one venue."""

    def __init__(
        self, image: BookImage, table: SymbolTable, rest: VenueRest, clock: Clock, liveness_ns_max: int
    ) -> None:
        self.checked = 0
        self.proved = 0
        self.mismatches = 0
        self.held_down = 0
        self._image, self._table, self._rest, self._clock = image, table, rest, clock
        self._liveness_ns_max = liveness_ns_max
        self._sampled: dict[int, int] = {}
        self._undecided = False

    @property
    def is_suspicious(self) -> bool:
        """Whether the last look found something that it could not settle."""
        return self._undecided

    async def look(self) -> AuditFinished:
        """Compare once. Raises VenueAway; a reply that is no snapshot is one too."""
        before = self._standing()
        tops = self._tops(await self._rest.get(_TICKERS, TICKERS_WEIGHT))
        now = self._standing()
        still = {row for row in before if row in tops and row in now and now[row].sequence == before[row].sequence}
        suspects = [row for row in still if not _same(tops[row], before[row])]
        asked = suspects[:SUSPECTS_MAX] + self._samples(before, suspects)
        proofs = {row: await self._proof(row) for row in asked}
        await asyncio.sleep(SETTLE_S)
        after = self._standing()
        stood = {row for row in still if row in after and after[row].sequence == before[row].sequence}
        wrong = [row for row in asked if row in after and self._is_wrong(before[row], after[row], proofs[row])]
        self._undecided = any(row in stood and row not in wrong for row in suspects)
        checked = len(stood)
        self.checked += checked
        self.mismatches += len(wrong)
        for row in wrong:
            self._hold_down(row, after[row])
        return AuditFinished(checked, tuple(self._table.names[row] for row in wrong))

    def _is_wrong(self, before: Row, after: Row, proof: _Proof | None) -> bool:
        """Say whether the venue's word proves the row wrong; counts it where it proves it right."""
        if proof is None or after.sequence != before.sequence or proof.snapshot.update_id < after.venue_update_id:
            return False
        slot = self._slot(after, proof)
        if slot == NO_FEED:
            return False
        if _top(proof.snapshot) == (after.bid_px, after.bid_qty, after.ask_px, after.ask_qty):
            self.proved += 1
            return False
        return True

    def _slot(self, row: Row, proof: _Proof) -> int:
        """Return whose row it is if all that was sent before the reply has been read, else NO_FEED."""
        for slot in range(self._image.layout.n_feeds):
            header = self._image.read_header(slot)
            is_twin = self._image.primary(slot) != slot
            if header.epoch == row.epoch and is_twin == row.of_twin and header.live_ns >= proof.replied_ns + PROOF_NS:
                return slot
        return NO_FEED

    def _hold_down(self, row: int, found: Row) -> None:
        slot = int(self._image.row_feed[row])
        slot = self._image.twin(slot) if found.of_twin else slot
        header = self._image.read_header(slot)
        if header.epoch == found.epoch and header.held_down_epoch < header.epoch:
            self._image.hold_down(slot)
            self.held_down += 1

    def _samples(self, standing: dict[int, Row], besides: list[int]) -> list[int]:
        """Return a few rows, those first that have not been settled since they were last written, the oldest first."""
        free = [row for row in standing if row not in besides]
        free.sort(key=lambda row: (self._sampled.get(row) == standing[row].sequence, standing[row].received_ns))
        chosen = free[:SAMPLES]
        self._sampled |= {row: standing[row].sequence for row in chosen}
        if all(self._sampled.get(row) == standing[row].sequence for row in free):
            self._sampled.clear()
        return chosen

    async def _proof(self, row: int) -> _Proof | None:
        name = urllib.parse.quote(self._table.names[row])
        body = await self._rest.get(f"/api/v3/depth?symbol={name}&limit={LEVELS}", depth_weight(LEVELS))
        snapshot = parse_depth_snapshot(body)
        return None if snapshot is None else _Proof(snapshot, self._clock.now_ns())

    def _standing(self) -> dict[int, Row]:
        now_ns, standing = self._clock.now_ns(), {}
        for number in range(self._image.layout.n_rows):
            verdict, row = self._image.read_live_row(number, now_ns, liveness_ns_max=self._liveness_ns_max)
            if verdict in AUDITABLE and row is not None:
                standing[number] = row
        return standing

    def _tops(self, body: bytes) -> dict[int, RowUpdate | None]:
        """Return each row's top by the venue, None where it has none that could be a row's."""
        try:
            entries = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise VenueAway(f"GET {_TICKERS}: {error}") from error
        if not isinstance(entries, list):
            raise VenueAway(f"GET {_TICKERS}: no list")
        outcomes = [parse_snapshot_entry(entry, self._table) for entry in entries]
        return {one.row: one if isinstance(one, RowUpdate) else None for one in outcomes if one.row != NO_ROW}


def _same(update: RowUpdate | None, row: Row) -> bool:
    if update is None:
        return False
    return (update.bid_px, update.bid_qty, update.ask_px, update.ask_qty) == row[1:5]


def _top(snapshot: DepthSnapshot) -> tuple[int, int, int, int] | None:
    if not (len(snapshot.bids) and len(snapshot.asks)):
        return None
    bid, ask = snapshot.bids[0].tolist(), snapshot.asks[0].tolist()
    return bid[0], bid[1], ask[0], ask[1]
