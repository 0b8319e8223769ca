"""A depth market three ways: over a real socket through feed, image and evaluator; offline from the captures; and the
plain way. What must agree, bit for bit, after each single thing that happened:

- The opportunities that were found: cycles, rows, ladders with ids and times, sizes, every step of the arithmetic.
- The captures' records: as many of each kind, in the order in which they took effect.
- In the end, rows and ladders: of the live image, and of an image that `feed.replay.0` played the captures into.

Where captures rolled over, what is left of them is the last part of it all, and must come to the same.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple

from actors.adapters.capture_file import previous
from actors.adapters.clock import SystemClock
from actors.adapters.depth_snapshots import DepthSnapshots
from actors.adapters.evaluator_driver import EvaluatorOptions
from actors.adapters.feed_connection import FeedConnection
from actors.adapters.feed_driver import FeedDriver
from actors.adapters.image_file import FeedSlot, find_image, open_image, remove_image
from actors.adapters.recorded_stream import recorded_lines, recorded_slots
from actors.adapters.replay_driver import OVER, ReplayDriver, ReplayOptions
from actors.adapters.venue_budget import VenueLimits
from actors.market_rows import REPLAY_ROLE
from actors.messages import EvaluatorReady, FeedStatus, StartEvaluator, StartFeed
from actors.offline import replay_command
from kernels.book_image import BookImage, RowStatus
from kernels.capture_records import decode_snapshot
from kernels.cycles import build_index
from kernels.depth_fold import DepthFold
from kernels.evaluate import Decision
from kernels.exchange_info import parse_exchange_info
from kernels.fees import FeeTable
from kernels.latency_histogram import BUCKETS
from kernels.recorded_line import LineKind, RecordedLine
from kernels.reference import Answer, Reference
from kernels.reference_check import answer_of
from kernels.replay import Replay
from kernels.seqlock import ring_head
from tests.actors.market_stage import Stage
from tests.replay.agreement import AGES_MS, NOTE_BITS, TappedDriver
from tests.replay.depth_script import DEEP, MARKER, NAMES, Book, DepthServer, rates, until
from tests.replay.listing import PAIRS, exchange_info
from tests.replay.naive_depth import NaiveDepth

LEVELS: Final = 8
TERMS: Final = {"fees": FeeTable(30_000), "net_return_min": Fraction(10_002, 10_000), "start_max": 50_000 * 10**8}
Found = dict[tuple[str, ...], tuple[object, ...]]


class Step(NamedTuple):
    """One thing that happened, as a record of a capture, what was found at it, and how rows and ladders then stood."""

    kind: LineKind
    found: Found
    standing: list[tuple[object, ...]]


class DepthAgreed(NamedTuple):
    """What was compared."""

    steps: int
    replayed: int
    opportunities: int
    deep: int
    outcomes: dict[str, int]


class LiveRun:
    """Server, feed and evaluator in lockstep: a step is over when all that it changed has been looked at."""

    def __init__(self, run_dir: Path) -> None:
        self.server = DepthServer()
        self.stage = Stage(run_dir, f"http://127.0.0.1:{self.server.port}", f"ws://127.0.0.1:{self.server.port}")
        symbols = parse_exchange_info(exchange_info(PAIRS[:3]))
        slots = [FeedSlot("spot.0.0", "feed.spot.0"), FeedSlot("depth.0.0", "feed.spot.0")]
        ladders = [(NAMES.index(name), 1) for name in DEEP]
        mapped, _ = open_image(
            run_dir,
            symbols,
            [0] * len(NAMES),
            slots,
            "venue",
            ring_slots=1 << 16,
            ladders=ladders,
            ladder_levels=LEVELS,
        )
        self.image: BookImage = mapped.image
        options = EvaluatorOptions(
            role="evaluator", run_dir=str(run_dir), starts=None, age_ms_max=AGES_MS, header_stale_ms=AGES_MS, **TERMS
        )
        self.driver = TappedDriver(options)
        evaluator = self.stage.host(self.driver, StartEvaluator(1))
        self.stage.until(lambda: evaluator.last(EvaluatorReady) is not None, 60, "the evaluator does not begin")
        limits = VenueLimits(connects_per_5_min_max=10_000, weight_per_min_max=1_000_000)
        self.feed = self.stage.feed(rest_url=self.stage.rest_url, capture_mb_max=64, limits=limits)
        self.stage.until(lambda: getattr(self.feed.last(FeedStatus), "up", False), 60, "the feed does not come up")
        assert isinstance(self.feed.driver, FeedDriver)
        self.connections: dict[str, FeedConnection] = self.feed.driver._connections
        self.snapshots: DepthSnapshots = self.feed.driver._snapshots[0]
        self.steps: list[Step] = []
        self._sent = {"spot.0.0": 0, "depth.0.0": 0}
        self.settle()
        self._looks = len(self.driver.looks)

    def close(self) -> None:
        self.stage.close()
        self.server.close()

    def send(self, frame: bytes, deep: bool) -> None:
        """Send a frame; it is a step."""
        self._tell(frame, deep)
        self._step(LineKind.DEPTH if deep else LineKind.FRAME)

    def cut(self) -> None:
        """Cut the stream of depth; the begin of the next is a step."""
        self.server.cut()
        self._tell(MARKER, True)
        self._step(LineKind.EPOCH)
        self._step(LineKind.DEPTH)

    def answer(self, name: str, body: bytes) -> None:
        """Answer a snapshot; it is a step unless it is of an epoch that is over."""
        before, spliced = self.snapshots.counts["snapshots"], self._outcomes()
        self.server.answer(name, body)
        until(lambda: self.snapshots.counts["snapshots"] > before, "no snapshot is taken")
        # Whatever came of it is done before the next frame is read.
        self._tell(MARKER, True)
        if self._outcomes() != spliced:
            self._step(LineKind.SNAPSHOT)
        self._step(LineKind.DEPTH)

    def settle(self) -> None:
        """Wait until every frame is folded and every change looked at."""
        for name, sent in self._sent.items():
            latency = self.connections[name].latency
            until(lambda sent=sent, latency=latency: latency[:BUCKETS].sum() >= sent, f"{name}: not folded")  # type: ignore[misc]
        announced = sum(int(ring_head(self.image.ring(feed))) for feed in range(2))
        self.driver.wait_for_changes(announced)

    @property
    def void(self) -> bool:
        """Whether a ladder does not count."""
        fold = self.connections["depth.0.0"].fold_in_use
        return not isinstance(fold, DepthFold) or bool(fold.wanted())

    def _tell(self, frame: bytes, deep: bool) -> None:
        self._sent["depth.0.0" if deep else "spot.0.0"] += 1
        self.server.tell(frame, deep)
        self.settle()

    def _outcomes(self) -> int:
        fold = self.connections["depth.0.0"].fold_in_use
        assert isinstance(fold, DepthFold)
        return sum(count for name, count in fold.outcomes.items() if name.startswith("snapshot_"))

    def _step(self, kind: LineKind) -> None:
        """Take what was looked at since the last one; looks at everything are the evaluator's own affair."""
        looks, self._looks = self.driver.looks[self._looks :], len(self.driver.looks)
        found = {}
        for look in looks:
            if len(look.changed) < len(NAMES):
                found |= {one.path(): figures(one) for one in look.decisions if one.refusal is None}
        self.steps.append(Step(kind, found, standing(self.image)))


def figures(decision: Decision) -> tuple[object, ...]:
    """Return all that a decision says but its clock and how often rows and ladders were written."""
    legs = []
    for leg in decision.legs:
        row, ladder = leg.row, leg.ladder
        told = (*row[1:-1], row.flags & NOTE_BITS)
        behind = ladder and (ladder.venue_update_id, decision.evaluated_ns - ladder.age_ns, ladder.levels)
        legs.append((leg.symbol, leg.side, told, behind))
    return (*legs, answer_of(decision))


def agree_on_depth(run_dir: Path, steps: int, seed: int) -> DepthAgreed:
    """Play so many steps and hold all to each other. Raises AssertionError."""
    live = LiveRun(run_dir / "live")
    try:
        _play(live, steps, random.Random(seed))
        connection = live.connections["depth.0.0"]
        outcomes = dict(connection.sum_totals().depth)
        ending = standing(live.image, timed=False)
        live.stage.stop(live.feed)
    finally:
        live.close()
        remove_image(run_dir / "live")
    paths = [run_dir / "live" / "capture" / f"{name}.cap" for name in ("spot.0.0", "depth.0.0")]
    records = _hold_to_offline(paths, live.steps, run_dir)
    assert _played(run_dir, paths) == ending, "what is played anew is what stood in the end"
    found = [answer for step in live.steps for answer in step.found.values()]
    deep = sum(any(leg[3] for leg in one[:-1] if isinstance(leg, tuple)) for one in found)
    return DepthAgreed(len(live.steps), records, len(found), deep, outcomes)


def _play(live: LiveRun, steps: int, chance: random.Random) -> None:
    books = [Book(name, chance) for name in NAMES]
    by_name = {book.name: book for book in books}
    last = dict.fromkeys(DEEP, b"")
    for book in books:
        live.send(book.ticker(), False)
    while len(live.steps) < steps:
        book = chance.choice(books)
        rates(chance, books)
        dice = chance.random()
        if dice < 0.01:
            live.cut()
        elif dice < 0.03 and live.server.asked:
            live.answer(next(iter(live.server.asked)), chance.choice((b"", b'{"lastUpdateId": 1', b"[]")))
        elif (dice < 0.10 and live.server.asked) or (dice < 0.25 and live.void):
            until(lambda: bool(live.server.asked), "nobody asks for the snapshot of a void ladder")
            name = next(iter(live.server.asked))
            live.answer(name, chance.choice((by_name[name].past[-1],) * 3 + (by_name[name].past[0],)))
        for book in chance.sample(books, len(books)):
            _tell(live, book, chance, last)


def _tell(live: LiveRun, book: Book, chance: random.Random, last: dict[str, bytes]) -> None:
    """Tell what changed of a market by one stream or both, now and then badly."""
    deep, dice = book.name in DEEP, chance.random()
    if deep and book.sent_id < book.update_id and dice < 0.8:
        frame = last[book.name] = book.diff()
        if dice < 0.012:
            return
        live.send(frame, True)
        if dice < 0.03:
            live.send(frame, True)
        elif dice < 0.045:
            live.send(frame[: chance.choice((len(frame) // 2, 12))], True)
    if dice > 0.2:
        live.send(book.ticker(), False)


def _hold_to_offline(paths: list[Path], steps: list[Step], run_dir: Path) -> int:
    """Hold the captures to the steps, by the replay and the plain way; return how many records that is."""
    listing = run_dir / "listing.json"
    listing.write_bytes(exchange_info(PAIRS[:3]))
    symbols = parse_exchange_info(listing.read_bytes())
    index = build_index(symbols)
    whole = not any(previous(path).exists() for path in paths)
    replay = Replay(index, slots=recorded_slots(paths), **TERMS)  # type: ignore[arg-type]
    naive = NaiveDepth(Reference(symbols, starts=None, lengths=(3,), **TERMS), LEVELS)  # type: ignore[arg-type]
    records = list(_records(paths))
    # What happened is in the captures of both from where the later begins; in whole ones that is the mark of an epoch.
    begun = max(_begins(records, origin) for origin in range(len(paths))) + whole
    happened, found = [], []
    for at, (line, origin) in enumerate(records):
        decisions = {one.path(): figures(one) for one in replay.apply_line(line, origin)}
        found += list(decisions.values())
        plain = _plainly(naive, line, origin) if whole else None
        if line.kind in (LineKind.SLOT, LineKind.STATE, LineKind.ASKED) or at < begun:
            assert not decisions or at < begun
            continue
        happened.append(Step(line.kind, decisions, standing(replay._evaluator.image)))
        if plain is not None:
            assert {path: one[-1] for path, one in decisions.items()} == plain
    if whole:
        assert len(happened) == len(steps)
    for number, (mine, lived) in enumerate(zip(reversed(happened), reversed(steps), strict=False)):
        assert mine == lived, f"{number} from the end"
    told: list[Decision] = []
    report = replay_command(
        paths, listing, fee_bps="3", start_max="50000", net_return_min=TERMS["net_return_min"],  # type: ignore[arg-type]
        on_opportunity=told.append,
    )  # fmt: skip
    assert [figures(one) for one in told] == found
    assert report == replay.report()
    return len(happened)


def _begins(records: list[tuple[RecordedLine, int]], origin: int) -> int:
    head = (LineKind.SLOT, LineKind.STATE)
    return next(at for at, (line, one) in enumerate(records) if one == origin and line.kind not in head)


def _records(paths: list[Path]) -> Iterator[tuple[RecordedLine, int]]:
    tagged = [[(line, number) for line in recorded_lines(path, print)] for number, path in enumerate(paths)]
    return heapq.merge(*tagged, key=lambda one: one[0].received_ns)


def _plainly(naive: NaiveDepth, line: RecordedLine, origin: int) -> dict[tuple[str, ...], Answer]:
    match line.kind:
        case LineKind.FRAME:
            return naive.ticker(line.frame, line.received_ns)
        case LineKind.DEPTH:
            return naive.depth(line.frame, line.received_ns)
        case LineKind.SNAPSHOT:
            snapshot = decode_snapshot(line.frame)
            assert snapshot is not None
            return naive.snapshot(snapshot.symbol, snapshot.body, line.received_ns)
        case LineKind.EPOCH if origin == 1:
            return naive.epoch()
    return {}


def standing(image: BookImage, timed: bool = True) -> list[tuple[object, ...]]:
    """Return rows and ladders as they stand, without sequences and epochs."""
    found: list[tuple[object, ...]] = []
    for number, name in enumerate(NAMES):
        row = image.read_row(number)
        assert row is not None
        found.append((*row[1:6], row.status, timed and row.received_ns))
        _, ladder = image.read_live_ladder(number, 0)
        assert (ladder is not None) == (name in DEEP)
        if ladder is not None:
            levels: list[Any] = [ladder.bids.tolist(), ladder.asks.tolist()]
            found.append((ladder.venue_update_id, RowStatus(ladder.status), timed and ladder.received_ns, levels))
    return found


def _played(run_dir: Path, paths: list[Path]) -> list[tuple[object, ...]]:
    """Return how an image stands that the role of replays has played these into, under a book of its own."""
    stage = Stage(run_dir / "played", "http://127.0.0.1:1", "ws://127.0.0.1:1")
    texts = tuple(map(str, paths))
    try:
        stage.book(replayed_info=str(run_dir / "listing.json"), replayed_paths=texts)
        options = ReplayOptions(role=REPLAY_ROLE, run_dir=str(stage.run_dir), paths=texts, pace=0.0)
        feed = stage.host(ReplayDriver(options, SystemClock()), StartFeed(1))
        stage.until(lambda: getattr(feed.last(FeedStatus), "reason", "") == OVER, 60, "it is never over")
        mapped = find_image(stage.run_dir, writable=False)
        assert mapped is not None
        return standing(mapped.image, timed=False)
    finally:
        stage.close()
        remove_image(stage.run_dir)
