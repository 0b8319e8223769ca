"""The book's driver: what the venue lists, the image file, the watch on feeds' headers, the audit, the copy for people.

Commands: `OpenImage`. Events: `ImageOpened`, `AuditFinished`, `BookStatus` about once a second. While the venue is away
at the start, the last good listing in the run directory is used after `COPY_AFTER_S`, marked as such; without a copy
the process ends after `LISTING_S_MAX`. The venue is asked again, often where a copy is used and else every
`RELIST_S`; if it lists otherwise (a symbol halted or new, another tick or lot), this process ends and its successor
makes the image anew.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import redis

from actors.adapters.backoff import Backoff
from actors.adapters.book_audit import BookAudit
from actors.adapters.book_snapshot import BookSnapshot
from actors.adapters.driver_thread import DriverThread
from actors.adapters.image_file import FeedSlot, MappedImage, open_image, remove_dead_folders, withdraw_record
from actors.adapters.recorded import read_whole
from actors.adapters.recorded_stream import recorded_slots, recordings
from actors.adapters.venue_budget import VenueBudget, VenueLimits
from actors.adapters.venue_rest import LISTING_WEIGHT, VenueAway, VenueRest
from actors.age_limits import AgeClasses, age_limits_ns
from actors.failover import FailoverTerms, Pair, decide_pair, health_of
from actors.market_rows import Assignment, assign_rows, replay_rows
from actors.messages import AnyMessage, BookStatus, ImageOpened, OpenImage
from actors.ports import Clock
from kernels.book_image import NO_FEED, BookImage
from kernels.exchange_info import ExchangeInfoError, parse_exchange_info
from kernels.frames import SymbolTable
from kernels.row_tally import tally_rows

COPY_NAME: Final = "exchange_info.json"
COPY_AFTER_S: Final = 3.0
LISTING_S_MAX: Final = 60.0
ASK_AGAIN_S: Final = 5.0
RELIST_S: Final = 300.0
SECOND_LOOK_S: Final = 1.0
STATUS_S: Final = 1.0
WATCH_S: Final = 0.05
HOLD_DOWN_STALES: Final = 4
"""A header this many times as old as a stale one is held down: its feed is hung or gone, and must begin anew."""

FROM_VENUE: Final = "venue"
FROM_COPY: Final = "kept_copy"
FROM_FILE: Final = "file"
_PATH: Final = "/api/v3/exchangeInfo"


class ListingChanged(RuntimeError):
    """The venue lists otherwise than what is used: end, and let the successor use it."""


class BookOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`symbols` None: all that the venue lists. `replayed_info`: the recordings' listing; no venue is asked.

    `replayed_paths`: the recordings, some of which may be of depth.
    """

    role: str
    run_dir: str
    rest_url: str
    symbols: tuple[str, ...] | None = None
    shards: int = 1
    symbols_per_connection_max: int = 200
    age_ms_max: int = 5_000
    age_classes: AgeClasses = ()
    header_stale_ms: int = 250
    audit_every_s: float = 30.0
    depth_symbols: tuple[str, ...] = ()
    depth_levels_max: int = 20
    redundancy: int = 1
    replayed_info: str = ""
    replayed_paths: tuple[str, ...] = ()
    failback_s: float = 10.0
    lag_ms_max: int = 400
    limits: VenueLimits = VenueLimits()


class BookDriver(DriverThread):
    """`HostedDriver`; see the module."""

    def __init__(
        self,
        options: BookOptions,
        clock: Clock,
        random_unit: Callable[[], float],
        open_bus: Callable[[], redis.Redis] | None = None,
    ) -> None:
        """Without a bus there is no copy for people."""
        super().__init__(options.role)
        self._options, self._clock, self._random_unit = options, clock, random_unit
        self._open_bus = open_bus
        self._run_dir = Path(options.run_dir)
        self._rest: VenueRest | None = None
        self._mapped: MappedImage | None = None
        self._audit: BookAudit
        self._ages: npt.NDArray[np.int64]
        self._pairs: dict[int, Pair] = {}
        self._snapshot: BookSnapshot | None = None
        self._writing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin. The record of the image is withdrawn before anybody who starts after this actor can look for it."""
        withdraw_record(self._run_dir)
        super().start()

    @property
    def counters(self) -> dict[str, int]:
        """What this thread counted, for the health board."""
        return dict(self.worker.progress)

    # ---- on the loop

    def handle(self, command: AnyMessage) -> None:
        """Take `OpenImage`, once."""
        assert isinstance(command, OpenImage), f"a book takes no {type(command).__name__}"
        assert self._rest is None, "started twice"
        self._rest = VenueRest(self._options.rest_url, VenueBudget(self._options.limits, self._random_unit))
        self.worker.spawn(self._run(self._rest), "book")

    async def _run(self, rest: VenueRest) -> None:
        options = self._options
        self.worker.progress["dead_folders_removed"] = remove_dead_folders()
        try:
            assignment, source = await self._listing(rest)
            mapped = self._mapped = self._open(assignment, source)
            image, stale_ns = mapped.image, options.header_stale_ms * 1_000_000
            self._audit = BookAudit(image, SymbolTable(assignment.symbols), rest, self._clock, stale_ns)
            names = tuple(symbol.name for symbol in assignment.symbols)
            self._ages = age_limits_ns(names, options.age_ms_max, options.age_classes)
            if self._open_bus is not None:
                self._snapshot = BookSnapshot(image, names, self._open_bus, self._clock, self._ages, stale_ns)
            if source != FROM_FILE:
                self.worker.spawn(self._audits(), "book.audit")
                self.worker.spawn(self._ask_again(rest, assignment, source), "book.ask_again")
            while True:
                self._report(mapped)
                self._write_snapshot()
                for _ in range(round(STATUS_S / WATCH_S)):
                    await asyncio.sleep(WATCH_S)
                    self._watch(image, stale_ns)
                    self._prefer(image, stale_ns)
        finally:
            await rest.close()
            if self._snapshot is not None:
                self._snapshot.close()

    # ---- what the venue lists

    async def _listing(self, rest: VenueRest) -> tuple[Assignment, str]:
        if self._options.replayed_info:
            listed = parse_exchange_info(read_whole(Path(self._options.replayed_info)))
            slots = recorded_slots(recordings([Path(path) for path in self._options.replayed_paths]))
            return replay_rows(listed, self._options.symbols, slots), FROM_FILE
        loop = asyncio.get_running_loop()
        backoff = Backoff(0.05, 2.0, self._random_unit)
        copy, began = self._run_dir / COPY_NAME, loop.time()
        while True:
            waited_s = loop.time() - began
            try:
                return await self._fetch(rest), FROM_VENUE
            except (VenueAway, ExchangeInfoError) as error:
                self.worker.count("listing_failed")
                told_s = error.stay_away_s if isinstance(error, VenueAway) else 0.0
                if copy.exists() and (waited_s >= COPY_AFTER_S or told_s > COPY_AFTER_S):
                    return self._assigned(copy.read_bytes()), FROM_COPY
                if waited_s > LISTING_S_MAX:
                    raise
            await asyncio.sleep(max(backoff.next_s(), told_s))

    async def _fetch(self, rest: VenueRest) -> Assignment:
        body = await rest.get(_PATH, LISTING_WEIGHT)
        assignment = self._assigned(body)
        draft = self._run_dir / (COPY_NAME + ".draft")
        draft.write_bytes(body)
        os.replace(draft, self._run_dir / COPY_NAME)
        return assignment

    def _assigned(self, body: bytes) -> Assignment:
        options = self._options
        return assign_rows(
            parse_exchange_info(body),
            options.symbols,
            options.shards,
            options.symbols_per_connection_max,
            options.depth_symbols,
            options.redundancy,
        )

    async def _ask_again(self, rest: VenueRest, used: Assignment, source: str) -> None:
        delay_s = ASK_AGAIN_S if source == FROM_COPY else RELIST_S
        while True:
            await asyncio.sleep(delay_s)
            try:
                listed = await self._fetch(rest)
            except (VenueAway, ExchangeInfoError) as error:
                self.worker.count("listing_failed")
                told_s = error.stay_away_s if isinstance(error, VenueAway) else 0.0
                delay_s = max(ASK_AGAIN_S, told_s)
                continue
            if listed != used:
                raise ListingChanged(
                    f"{self._options.role}: the venue lists otherwise than before; the image is made anew"
                )
            if source == FROM_COPY:
                source = FROM_VENUE
                self._open(used, source)
            delay_s = RELIST_S

    def _open(self, assignment: Assignment, source: str) -> MappedImage:
        withdraw_record(self._run_dir)
        feeds = [FeedSlot(*slot) for slot in assignment.feeds]
        mapped, created = open_image(
            self._run_dir,
            assignment.symbols,
            assignment.row_feed,
            feeds,
            source,
            ladders=assignment.ladders,
            ladder_levels=assignment.ladder_levels or self._options.depth_levels_max,
        )
        names = tuple(slot.name for slot in assignment.feeds)
        self.worker.emit(ImageOpened(mapped.record.image_id, len(assignment.symbols), names, created, source))
        return mapped

    # ---- every second

    def _watch(self, image: BookImage, stale_ns: int) -> None:
        """Hold down the header of a feed that has not beaten for long; it begins a new epoch if it lives after all."""
        now_ns = self._clock.now_ns()
        for feed in range(image.layout.n_feeds):
            header = image.read_header(feed)
            silent = header.live_ns and now_ns - header.live_ns > HOLD_DOWN_STALES * stale_ns
            if header.up and silent and header.held_down_epoch < header.epoch:
                image.hold_down(feed)
                self.worker.count("feeds_held_down")

    def _prefer(self, image: BookImage, stale_ns: int) -> None:
        """Say of each feed with a twin which of the two readers look at first."""
        options, now_ns = self._options, self._clock.now_ns()
        terms = FailoverTerms(options.lag_ms_max * 1_000_000, int(options.failback_s * 1e9))
        for feed in range(image.layout.n_feeds):
            twin = image.twin(feed)
            if twin == NO_FEED:
                continue
            # What an earlier incarnation of this actor preferred goes on.
            pair = self._pairs.get(feed) or Pair(image.is_stood_down(feed))
            healths = [health_of(image.read_header(one), now_ns, stale_ns) for one in (feed, twin)]
            decided = decide_pair(pair, healths[0], healths[1], terms, now_ns)
            if decided.is_stood_down != pair.is_stood_down:
                image.stand_down(feed, decided.is_stood_down)
            self._pairs[feed] = decided
        if self._pairs:
            pairs = self._pairs.values()
            self.worker.progress |= {
                "failovers": sum(pair.failovers for pair in pairs),
                "failbacks": sum(pair.failbacks for pair in pairs),
                "stood_down": sum(pair.is_stood_down for pair in pairs),
            }

    def _report(self, mapped: MappedImage) -> None:
        options, now_ns = self._options, self._clock.now_ns()
        stale_ns = options.header_stale_ms * 1_000_000
        tally = tally_rows(mapped.image, now_ns, self._ages, stale_ns)
        up: list[str] = []
        down: list[str] = []
        for number, slot in enumerate(mapped.record.feeds):
            header = mapped.image.read_header(number)
            lives = header.up and header.held_down_epoch < header.epoch and abs(now_ns - header.live_ns) <= stale_ns
            (up if lives else down).append(slot.name)
        status = BookStatus(
            rows_valid=tally.live,
            rows_invalid=tally.not_live,
            reasons=tally.reasons,
            feeds_up=tuple(up),
            feeds_down=tuple(down),
            audited=self._audit.checked,
            audit_mismatches=self._audit.mismatches,
        )
        progress = self.worker.progress
        progress |= {"rows_valid": tally.live, "rows_invalid": tally.not_live, "feeds_up": len(up)}
        progress |= {"audit_proved": self._audit.proved, "audit_held_down": self._audit.held_down}
        progress |= {"feeds_down": len(down), "audited": status.audited, "audit_mismatches": status.audit_mismatches}
        if self._snapshot is not None:
            progress |= self._snapshot.counts
        self.worker.emit(status, key="status")

    def _write_snapshot(self) -> None:
        if self._snapshot is None:
            return
        if self._writing is not None and not self._writing.done():
            self.worker.count("snapshot_still_writing")
            return
        self._writing = self.worker.spawn(self._snapshot.write(), "book.snapshot")

    async def _audits(self) -> None:
        delay_s = min(self._options.audit_every_s, ASK_AGAIN_S)
        while True:
            await asyncio.sleep(delay_s)
            delay_s = self._options.audit_every_s
            try:
                finished = await self._audit.look()
            except VenueAway as error:
                self.worker.count("audit_venue_away")
                delay_s = max(delay_s, error.stay_away_s)
                continue
            self.worker.emit(finished)
            if self._audit.is_suspicious:
                delay_s = min(delay_s, SECOND_LOOK_S)
