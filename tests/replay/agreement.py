"""The same frames three ways: over a real socket through feed, image and evaluator; offline from the capture; the
reference. What must agree, bit for bit:

- The capture holds every frame as it was sent, in order.
- Every row that a live decision used is the one that the offline fold of the capture has under that sequence.
- Every live decision, ages included, is what those rows come to offline, and the reference says the same of them.
- Offline, the reference agrees with each decision, and calls nothing an opportunity that was not decided.
- In lockstep, where each frame is sent when the one before has been evaluated and nothing coalesces, the live
  decisions are the offline ones: as many, in the same order, of the same rows and sequences. Their clocks alone differ.
- Free-running, where the live path may coalesce, the last look at all cycles is the same.

`python -m tests.replay.agreement` plays an hour of a generated market, and the recorded streams, wholly in lockstep.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from aiohttp import web

from actors.adapters.capture_file import read_capture
from actors.adapters.clock import SystemClock
from actors.adapters.evaluator_driver import EvaluatorDriver, EvaluatorOptions
from actors.adapters.image_file import FeedSlot, open_image, remove_image
from actors.messages import AnyMessage, EvaluatorReady, FeedStatus, OpportunityFound, StartEvaluator
from kernels.book_image import FeedWriter, Row, Verdict, format_image, layout
from kernels.cycles import build_index
from kernels.evaluate import Decision, Terms, decide
from kernels.evaluator import Evaluator
from kernels.exchange_info import Symbol, parse_exchange_info
from kernels.fees import FeeTable
from kernels.fold import NOTHING_CHANGED, FeedFold
from kernels.frames import SymbolTable
from kernels.record_index import FRAME
from kernels.reference import Reference
from kernels.reference_check import answer_of
from tests.actors.market_stage import Stage
from tests.conftest import ROOT
from venues.exchange.frames import Row as Update
from venues.exchange.frames import book_ticker, combined, stream_of
from venues.exchange.generator import Generator, OpportunityPlan
from venues.exchange.market import format_fixed8
from venues.exchange.universe import made_up_universe

AGES_MS: Final = 86_400_000
"""Nothing ages and no feed falls silent here: the clock decides nothing."""
NOTE_BITS: Final = 0xFFFF
"""Of a row's flags, what the frame decides; the epoch above is the connection's."""


class Market(NamedTuple):
    """Frames and the terms that they are evaluated under."""

    symbols: tuple[Symbol, ...]
    frames: list[bytes]
    fees: FeeTable
    net_return_min: Fraction
    start_max: int | None = None
    lengths: tuple[int, ...] = (3,)

    def terms(self) -> dict[str, Any]:
        return {"fees": self.fees, "net_return_min": self.net_return_min, "start_max": self.start_max}


class Look(NamedTuple):
    """One look of an evaluator: at which rows, and what it decided."""

    changed: tuple[int, ...]
    decisions: list[Decision]


class Agreed(NamedTuple):
    """What was compared."""

    frames: int
    live_looks: int
    live_decisions: int
    told: int
    offline_decisions: int
    referenced: int


class FrameServer:
    """A stream server of one connection, in a thread of its own, that sends what it is given."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._socket: web.WebSocketResponse | None = None
        self._ready = threading.Event()
        self.port = 0
        self._thread = threading.Thread(target=self._run, name="frames", daemon=True)
        self._thread.start()
        assert self._ready.wait(20), "the frame server does not come up"

    def send(self, frames: Sequence[bytes]) -> None:
        """Send these, one text frame each; return once they are on their way."""
        self.on_loop(lambda: self._send(frames))

    def on_loop(self, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have this done in the server's thread; return when it is."""
        asyncio.run_coroutine_threadsafe(call(), self._loop).result(120)

    def routes(self, app: web.Application) -> None:
        """Say what is served."""
        app.router.add_get("/stream", self._stream)

    def close(self) -> None:
        """Close the connection and end the thread."""
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.run_forever()

    async def _serve(self) -> None:
        app = web.Application()
        self.routes(app)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._ready.set()

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        self._socket = web.WebSocketResponse()
        await self._socket.prepare(request)
        async for _ in self._socket:
            pass
        return self._socket

    async def _send(self, frames: Sequence[bytes]) -> None:
        assert self._socket is not None, "nobody is connected"
        for frame in frames:
            await self._socket.send_str(frame.decode())


class TappedDriver(EvaluatorDriver):
    """The evaluator's driver, with a record of every look that it takes."""

    def __init__(self, options: EvaluatorOptions) -> None:
        super().__init__(options, SystemClock())
        self.looks: list[Look] = []
        self.rows_seen = 0
        self.seen = threading.Condition()

    def handle(self, command: AnyMessage) -> None:
        """Begin; told so once more: take a last look at everything."""
        if self._mapped is None:
            super().handle(command)
        else:
            self._scan()

    def _tell(self, changed: npt.NDArray[np.int32], decisions: list[Decision]) -> None:
        self.looks.append(Look(tuple(changed.tolist()), decisions))
        super()._tell(changed, decisions)
        with self.seen:
            self.rows_seen = self._changes
            self.seen.notify_all()

    def wait_for_changes(self, count: int) -> None:
        """Wait until so many announced rows have been looked at."""
        with self.seen:
            assert self.seen.wait_for(lambda: self.rows_seen >= count, 60), f"{self.rows_seen} of {count} changes"


class Offline:
    """The fold and the evaluation without an engine, and every row that ever was."""

    def __init__(self, market: Market) -> None:
        n_rows = len(market.symbols)
        self.image = format_image(bytearray(layout(n_rows, 1, 2).n_bytes), [0] * n_rows, 1, 2)
        self._writer = FeedWriter(self.image, 0, 1)
        self._fold = FeedFold(self._writer, SymbolTable(market.symbols))
        self.index = build_index(market.symbols, None, market.lengths)
        self.evaluator = Evaluator(self.index, self.image, **market.terms())
        self.history: list[list[Row]] = [[] for _ in market.symbols]

    def apply(self, received_ns: int, frame: bytes) -> Look | None:
        """Fold a frame and look at what it changed."""
        self._writer.beat(received_ns)
        changed = self._fold.apply_frame(frame, received_ns)
        if changed == NOTHING_CHANGED:
            return None
        assert changed >= 0, "every row at once is no part of these markets"
        row = self.image.read_row(changed)
        assert row is not None
        self.history[changed].append(row)
        found = self.evaluator.on_rows(np.array([changed], dtype=np.int32), received_ns)
        return Look((changed,), found)


def agree(market: Market, run_dir: Path, lockstep: bool, one_in: int = 1) -> Agreed:
    """Play it and hold all three to each other; of cycles that were not decided the reference looks at one in so many.

    Raises AssertionError.
    """
    driver, told = _play(market, run_dir, lockstep)
    records = read_capture(run_dir / "capture" / "spot.0.0.cap")
    captured = [(one.received_ns, one.payload) for one in records if one.kind == FRAME]
    assert [frame for _, frame in captured] == market.frames, "the capture is not what was sent"
    offline = Offline(market)
    looks, referenced = _hold_to_reference(market, offline, captured, one_in)
    n_rows = len(market.symbols)
    for look in driver.looks:
        for decision in look.decisions:
            _hold_to_rows(market, offline, decision)
    assert driver.looks[-1].changed == tuple(range(n_rows)), "a last look at everything"
    last = offline.evaluator.scan(captured[-1][0])
    assert _figures(driver.looks[-1].decisions) == _figures(last)
    if lockstep:
        live = [look for look in driver.looks if len(look.changed) == 1]
        assert [look.changed for look in live] == [look.changed for look in looks]
        for one, other in zip(live, looks, strict=True):
            assert _figures(one.decisions) == _figures(other.decisions)
    decided = {(one.path(), one.evaluated_ns): one for look in driver.looks for one in look.decisions}
    for opportunity in told:
        one = decided[opportunity.cycle, opportunity.evaluated_ns]
        assert (one.refusal, one.net_return) == (None, opportunity.net_return)
        assert [leg.row.sequence for leg in one.legs] == [leg.sequence for leg in opportunity.legs]
        assert [step.qty for step in one.steps] == [leg.qty for leg in opportunity.legs]
    return Agreed(
        frames=len(captured),
        live_looks=len(driver.looks),
        live_decisions=sum(len(look.decisions) for look in driver.looks),
        told=len(told),
        offline_decisions=sum(len(look.decisions) for look in looks),
        referenced=referenced,
    )


def _play(market: Market, run_dir: Path, lockstep: bool) -> tuple[TappedDriver, list[OpportunityFound]]:
    """Play the frames over a socket through feed, image and evaluator; return every look, and what was told."""
    pre = Offline(market._replace(net_return_min=Fraction(10**6)))
    changes = [pre.apply(number + 1, frame) is not None for number, frame in enumerate(market.frames)]
    server = FrameServer()
    stage = Stage(run_dir, "", f"ws://127.0.0.1:{server.port}")
    slots = [FeedSlot("spot.0.0", "feed.spot.0")]
    open_image(run_dir, market.symbols, [0] * len(market.symbols), slots, "venue", ring_slots=1 << 16)
    try:
        options = EvaluatorOptions(
            role="evaluator", run_dir=str(run_dir), starts=None, cycle_lengths=market.lengths, age_ms_max=AGES_MS,
            header_stale_ms=AGES_MS, **market.terms(),
        )  # fmt: skip
        driver = TappedDriver(options)
        evaluator = stage.host(driver, StartEvaluator(1))
        feed = stage.feed(capture_mb_max=1_024)
        stage.until(lambda: evaluator.last(EvaluatorReady) is not None, 60, "the evaluator does not begin")
        stage.until(lambda: getattr(feed.last(FeedStatus), "up", False), 60, "the feed does not come up")
        # The driver looks at everything when a feed comes to live: let that be over.
        stage.until(lambda: len(driver.looks) >= 2, 60, "no look at a feed that came to live")
        if lockstep:
            seen = 0
            for frame, is_change in zip(market.frames, changes, strict=True):
                server.send([frame])
                seen += is_change
                if is_change:
                    driver.wait_for_changes(seen)
        else:
            chance, at, most = Random(2), 0, max(40, len(market.frames) // 400)
            while at < len(market.frames):
                count = chance.randrange(1, most)
                server.send(market.frames[at : at + count])
                at += count
            driver.wait_for_changes(sum(changes))
        stage.until(lambda: feed.last(FeedStatus).frames == len(market.frames), 60, "frames are missing")
        looks = len(driver.looks)
        driver.post(StartEvaluator(2))
        stage.until(lambda: len(driver.looks) > looks, 60, "no last look")
        evaluator.pump()
        return driver, evaluator.all(OpportunityFound)
    finally:
        stage.close()
        server.close()
        remove_image(run_dir)


def _hold_to_rows(market: Market, offline: Offline, decision: Decision) -> None:
    """Hold a live decision to the offline rows of its sequences, to what they come to, and to the reference."""
    rows, sides = offline.index.legs_of(decision.cycle)
    assert decision.path() == offline.index.describe(decision.cycle)
    for row, leg in zip(rows, decision.legs, strict=True):
        then = offline.history[row][leg.row.sequence // 2 - 1]
        assert _values(leg.row) == _values(then)
    terms = Terms(
        tuple(market.fees.fee_e8(leg.symbol) for leg in decision.legs), market.start_max, market.net_return_min
    )
    again = decide(
        decision.cycle, decision.start_asset, [market.symbols[row] for row in rows], sides,
        [(leg.verdict, leg.row) for leg in decision.legs], terms, decision.evaluated_ns,
    )  # fmt: skip
    assert again == decision


def _hold_to_reference(
    market: Market, offline: Offline, captured: list[tuple[int, bytes]], one_in: int
) -> tuple[list[Look], int]:
    """Fold the capture; hold every decision to the reference, and what was not decided to being no opportunity there.

    Return the looks, and how many answers of the reference were compared.
    """
    index, image = offline.index, offline.image
    reference = Reference(market.symbols, starts=None, lengths=market.lengths, **market.terms())
    walked = {reference.path(hops) for hops in reference.walks() if hops}
    assert walked == {index.describe(cycle) for cycle in range(len(index))}
    chance, counted, looks = Random(1), 0, []
    for received_ns, frame in captured:
        look = offline.apply(received_ns, frame)
        if look is None:
            continue
        looks.append(look)
        (changed,) = look.changed
        decided = {one.cycle: one for one in look.decisions}
        for cycle in index.row_cycles[index.row_start[changed] : index.row_start[changed + 1]].tolist():
            one = decided.get(cycle)
            if one is None and chance.randrange(one_in):
                continue
            rows, sides = index.legs_of(cycle)
            hops = [(row, ("BUY", "SELL")[side]) for row, side in zip(rows, sides, strict=True)]
            read = [image.read_live_row(row, received_ns, liveness_ns_max=AGES_MS * 1_000_000) for row in rows]
            live = [found if verdict is Verdict.LIVE else None for verdict, found in read]
            answer = reference.answer(hops, live, [None] * len(rows))
            counted += 1
            if one is None:
                assert answer.refusal, index.describe(cycle)
            else:
                assert answer == answer_of(one), index.describe(cycle)
    return looks, counted


def _figures(decisions: list[Decision]) -> list[tuple[object, ...]]:
    """Return all that a decision says but its clock."""
    return [(one.path(), *(_values(leg.row) for leg in one.legs), answer_of(one)) for one in decisions]


def _values(row: Row) -> tuple[int, ...]:
    return (*row[:-1], row.flags & NOTE_BITS)


def recorded_market(paths: Sequence[Path], listing: Path, frames_max: int | None = None) -> Market:
    """Return the recorded frames of BTCUSDT and ETHUSDT by their times, and an ETHBTC of ours that follows them.

    The cross is quoted anew every 20 frames, off its fair price by up to a tenth of a percent, so that now one
    direction pays and now the other.
    """
    listed = {one.name: one for one in parse_exchange_info(gzip.decompress(listing.read_bytes()))}
    symbols = tuple(listed[name] for name in ("BTCUSDT", "ETHUSDT", "ETHBTC"))
    lines = [line.split(b" ", 1) for path in paths for line in gzip.decompress(path.read_bytes()).splitlines()]
    stamped = sorted((int(line[0]), line[1]) for line in lines if len(line) == 2 and line[0].isdigit())
    chance, frames = Random(5), []
    table = SymbolTable(symbols)
    book = Offline(Market(symbols, [], FeeTable(), Fraction(10**6)))
    assert len(table) == len(symbols)
    for number, (_, frame) in enumerate(stamped[:frames_max]):
        frames.append(frame)
        book.apply(number + 1, frame)
        btc, eth = (history[-1:] for history in book.history[:2])
        if btc and eth and number % 20 == 0:
            fair = eth[0].bid_px / btc[0].bid_px * (1 + chance.uniform(-0.001, 0.001))
            bid = f"{fair:.5f}"
            ask = f"{float(bid) + 0.00001:.5f}"
            quantity = f"{chance.uniform(0.01, 5):.3f}"
            frames.append(
                combined(stream_of("ETHBTC"), book_ticker("ETHBTC", Update(number + 1, bid, quantity, ask, "3.1")))
            )
    return Market(symbols, frames, FeeTable(), Fraction(10_008, 10_000))


def generated_market(seconds: int, per_s: float, symbols: int = 60, seed: int = 1) -> Market:
    """Return so much generated time: with true opportunities every 30 s for 2 s, net of 10 bps a leg."""
    universe = made_up_universe(symbols, seed)
    names = [pair.rules.symbol for pair in universe.pairs]
    listed = parse_exchange_info(universe.market.info_reply(names, 0, 1))
    plan = OpportunityPlan(max(8, round(30 * per_s)), max(1, round(2 * per_s)), 10, 5, 60)
    generator, frames = Generator(universe, plan, seed, 1), []
    while len(frames) < seconds * per_s:
        step = generator.step()
        if step is None:
            continue
        name, top = names[step.symbol_index], generator.tops[step.symbol_index]
        amounts = (format_fixed8(value) for value in (top.bid, top.bid_qty, top.ask, top.ask_qty))
        frames.append(combined(stream_of(name), book_ticker(name, Update(len(frames) + 1, *amounts))))
    fees = FeeTable(100_000, (("*BTC", 90_000), ("ETH*", 95_000)))
    return Market(listed, frames, fees, Fraction(9_995, 10_000), start_max=1_000 * 10**8, lengths=(3, 4))


def main(arguments: Sequence[str] | None = None) -> None:
    """Play everything wholly in lockstep, and then free-running; print what was compared."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=int, default=3_600, help="of generated market (default %(default)s)")
    parser.add_argument("--per-s", type=float, default=20.0, help="generated frames a second (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--one-in", type=int, default=20, help="undecided cycles that the reference looks at (1: all)")
    given = parser.parse_args(arguments)
    for name, market in _markets(given.seconds, given.per_s, given.seed):
        for lockstep in (True, False):
            began = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                agreed = agree(market, Path(folder), lockstep, given.one_in)
            took_s = time.perf_counter() - began
            print(f"{name}, {'lockstep' if lockstep else 'free-running'}: {agreed} in {took_s:.0f} s", flush=True)


def _markets(seconds: int, per_s: float, seed: int) -> Iterator[tuple[str, Market]]:
    data = ROOT.parent / "shared" / "data" / "binance"
    streams = [data / "streams" / f"spot_{name}_20240808.gz" for name in ("btcusdt", "ethusdt")]
    if all(path.exists() for path in streams):
        yield "recorded", recorded_market(streams, data / "exchange_info" / "exchangeInfo_2021-08-26_full.json.gz")
    else:
        print("recorded: skipped, the data folder is not there")
    yield f"{seconds} s generated", generated_market(seconds, per_s, seed=seed)


if __name__ == "__main__":
    main()
