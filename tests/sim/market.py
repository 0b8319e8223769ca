"""The book image under feeds that die, hang, are succeeded and die in mid-write, and a consumer that decides on rows.

Truth is kept apart from the image, in plain records of what each feed really wrote and when it really lived. The
consumer goes through the engine's own functions: a row is judged when it is read, and judged again, with its feed's
header, when the decision is consumed.
"""

from __future__ import annotations

from fractions import Fraction

import msgspec
import numpy as np
import numpy.typing as npt

from actors.opportunity_gate import OpportunityGate
from kernels import seqlock
from kernels.book_image import (
    BookImage,
    FeedWriter,
    Fenced,
    RingReader,
    Row,
    RowStatus,
    Verdict,
    format_image,
    layout,
    row_is_live,
)
from kernels.cycles import build_index
from kernels.evaluate import Decision
from kernels.evaluator import Evaluator
from kernels.exchange_info import Symbol
from tests.sim.scheduler import MS, SECOND, Violation
from tests.sim.world import Laws, Simulation

N_FEEDS = 2
ROWS_OF_FEED = 3
RING_SLOTS = 64
LIVENESS_NS = 250 * MS
AGE_NS_MAX = 2 * SECOND
UNIT = 10**8
SYMBOLS = (
    Symbol("BTCUSDT", "TRADING", "BTC", "USDT"),
    Symbol("ETHUSDT", "TRADING", "ETH", "USDT"),
    Symbol("ETHBTC", "TRADING", "ETH", "BTC"),
    Symbol("BNBUSDT", "TRADING", "BNB", "USDT"),
    Symbol("BNBBTC", "TRADING", "BNB", "BTC"),
    Symbol("BNBETH", "TRADING", "BNB", "ETH"),
)
ROW_OF = {symbol.name: row for row, symbol in enumerate(SYMBOLS)}


class Quote(msgspec.Struct, frozen=True):
    """What a feed really wrote to a row: `good` says that it was a whole, valid frame."""

    feed: int
    epoch: int
    bid_px: int
    ask_px: int
    written_ns: int
    good: bool


class FeedTruth(msgspec.Struct):
    """What is really so of a feed: the epoch in force, and when its holder last said that it lives."""

    epoch: int = 0
    beat_ns: int = 0
    up: bool = False
    held_down: bool = False


class SimFeed:
    """One life of a feed. A hung one goes on later, and must find itself fenced."""

    def __init__(self, market: Market, feed: int, epoch: int) -> None:
        self.market = market
        self.feed = feed
        self.epoch = epoch
        self.dead = False
        self.hung_until_ns = 0
        self.writer = FeedWriter(market.image, feed, epoch)
        market.truth[feed] = FeedTruth(epoch=epoch, up=True)
        market.scheduler.after(MS, "feed begins", self._beat)
        market.scheduler.after(2 * MS, "feed begins", self._frame)

    def _beat(self) -> None:
        if self._not_now(self._beat):
            return
        market = self.market
        try:
            self.writer.beat(market.scheduler.now_ns)
        except Fenced:
            self.dead = True
            return
        market.truth[self.feed].beat_ns = market.scheduler.now_ns
        market.scheduler.after(40 * MS, "beat", self._beat)

    def _frame(self) -> None:
        if self._not_now(self._frame):
            return
        market, random = self.market, self.market.scheduler.random
        row = random.choice(sorted(self.writer.owned))
        market.scheduler.after(market.scheduler.between(2 * MS, 200 * MS), "frame", self._frame)
        now_ns = market.scheduler.now_ns
        market.price += 1
        bid_px, ask_px = UNIT + market.price * 10, UNIT + market.price * 10 + 5
        try:
            if random.random() < 0.1:
                self.writer.mark_invalid(row, random.choice((RowStatus.PARSE_FAILURE, RowStatus.GAP)))
                market.quotes[row] = Quote(self.feed, self.epoch, 0, 0, now_ns, good=False)
            else:
                self.writer.write_row(row, bid_px, 1000 * UNIT, ask_px, 1000 * UNIT, market.price, now_ns)
                market.quotes[row] = Quote(self.feed, self.epoch, bid_px, ask_px, now_ns, good=True)
        except Fenced:
            self.dead = True

    def die_in_mid_write(self, row: int) -> None:
        """Leave a row as a writer killed between its stores leaves it."""
        self.dead = True
        words = self.writer._rows
        at = row * seqlock.ROW_WORDS
        words[at + seqlock.SEQUENCE] |= 1
        words[at + seqlock.BID_PX] = UNIT + self.market.price * 10 + 3
        old = self.market.quotes.get(row)
        if old is not None:
            self.market.quotes[row] = msgspec.structs.replace(old, good=False)

    def _not_now(self, again: object) -> bool:
        if self.dead:
            return True
        now_ns = self.market.scheduler.now_ns
        if now_ns < self.hung_until_ns:
            resume = self._beat if again == self._beat else self._frame
            self.market.scheduler.after(self.hung_until_ns - now_ns, "feed goes on", resume)
            return True
        return False


class Consumer:
    """Reads some rows, decides on them, and looks again when the decision is used."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.skipped: dict[str, int] = {}
        self.used = 0
        market.scheduler.after(5 * MS, "look", self._look)

    def _look(self) -> None:
        market, scheduler = self.market, self.market.scheduler
        if market.over:
            return
        scheduler.after(scheduler.between(5 * MS, 60 * MS), "look", self._look)
        n_legs = scheduler.random.choice((1, 2, 3))
        legs = scheduler.random.sample(range(N_FEEDS * ROWS_OF_FEED), n_legs)
        rows = [self.read(leg) for leg in legs]
        if all(row is not None for row in rows):
            decided = [(leg, row) for leg, row in zip(legs, rows, strict=True) if row is not None]
            scheduler.after(scheduler.between(MS // 10, 600 * MS), "use", lambda: self._use(decided))

    def read(self, row: int) -> Row | None:
        """Read a row that may open risk, or count why not."""
        market = self.market
        verdict, found = market.image.read_live_row(row, market.scheduler.now_ns, AGE_NS_MAX)
        if verdict is Verdict.LIVE:
            return found
        self.skipped[verdict.name] = self.skipped.get(verdict.name, 0) + 1
        return None

    def still_live(self, leg: int, row: Row) -> bool:
        """Judge the values again where they are used."""
        market = self.market
        header = market.image.read_header(int(market.image.row_feed[leg]))
        return row_is_live(row, header, market.scheduler.now_ns, AGE_NS_MAX)

    def _use(self, decided: list[tuple[int, Row]]) -> None:
        if self.market.over or not all(self.still_live(leg, row) for leg, row in decided):
            return
        self.used += 1
        for leg, row in decided:
            self.market.used(leg, row.bid_px)


class CycleConsumer:
    """The engine's evaluator and opportunity gate on the same image: rings, screen, exact decision, confirmation."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.evaluator = Evaluator(
            build_index(SYMBOLS), market.image, net_return_min=Fraction(1, 2), age_ns_max=AGE_NS_MAX
        )
        self.gate = OpportunityGate(self.evaluator, "sim", dry_run=True)
        self.rings = [RingReader(market.image, feed) for feed in range(N_FEEDS)]
        self.told = 0
        market.scheduler.after(5 * MS, "evaluate", self._evaluate)

    def _evaluate(self) -> None:
        market, scheduler = self.market, self.market.scheduler
        if market.over:
            return
        # Now and then a reader sleeps so long that its ring overruns.
        asleep = scheduler.chance(0.02)
        scheduler.after(scheduler.between(5 * MS, (8 * SECOND) if asleep else 80 * MS), "evaluate", self._evaluate)
        now_ns = scheduler.now_ns
        drained = [ring.drain() for ring in self.rings]
        if any(rows is None for rows in drained):
            changed = np.arange(N_FEEDS * ROWS_OF_FEED, dtype=np.int32)
        else:
            changed = np.unique(np.concatenate([rows for rows in drained if rows is not None]))
        decisions = self.evaluator.on_rows(changed, now_ns)
        scheduler.after(scheduler.between(MS // 10, 500 * MS), "tell", lambda: self._tell(changed, decisions))

    def _tell(self, changed: npt.NDArray[np.int32], decisions: list[Decision]) -> None:
        market = self.market
        if market.over:
            return
        for found in self.gate.take(changed, decisions, market.scheduler.now_ns):
            self.told += 1
            for leg in found.legs:
                market.used(ROW_OF[leg.leg.partition(":")[0]], leg.bid_px)
        self.gate.recheck(market.scheduler.now_ns)


class Market(Laws):
    """Image, feeds, consumer, and the truth about them."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.scheduler = simulation.scheduler
        n_rows = N_FEEDS * ROWS_OF_FEED
        self.buffer = bytearray(layout(n_rows, N_FEEDS, RING_SLOTS).n_bytes)
        owners = [row // ROWS_OF_FEED for row in range(n_rows)]
        self.image: BookImage = format_image(self.buffer, owners, N_FEEDS, RING_SLOTS)
        self.quotes: dict[int, Quote] = {}
        self.history: dict[tuple[int, int], Quote] = {}
        self.truth = [FeedTruth() for _ in range(N_FEEDS)]
        self.epochs = [0] * N_FEEDS
        self.price = 1_000
        self.over = False
        self.feeds: list[SimFeed | None] = [None] * N_FEEDS
        for feed in range(N_FEEDS):
            self._start_after(self.scheduler.between(MS, 100 * MS), feed)
        self.consumer = Consumer(self)
        self.cycles = CycleConsumer(self)
        self.scheduler.after(100 * MS, "trouble", self._trouble)
        simulation.quiet_starts.append(self._stop)

    def _start_after(self, delay_ns: int, feed: int) -> None:
        self.scheduler.after(delay_ns, f"start feed {feed}", lambda: self._start(feed))

    def _start(self, feed: int) -> None:
        if self.over:
            return
        self.epochs[feed] += 1
        self.scheduler.log(f"feed.{feed}", f"begins epoch {self.epochs[feed]}")
        self.feeds[feed] = SimFeed(self, feed, self.epochs[feed])

    def _stop(self) -> None:
        self.over = True
        for living in self.feeds:
            if living is not None:
                living.dead = True

    def _trouble(self) -> None:
        """Ten times a second perhaps one feed dies, hangs, is taken for dead, is held down, or ends its epoch."""
        if self.over:
            return
        self.scheduler.after(100 * MS, "trouble", self._trouble)
        if not self.scheduler.chance(0.02 + self.simulation.rates.feed_dies_per_s):
            return
        random = self.scheduler.random
        feed = random.randrange(N_FEEDS)
        living = self.feeds[feed]
        if living is None or living.dead:
            return
        kind = random.choice(("dies", "dies in mid-write", "hangs", "hangs and is succeeded", "is held down", "ends"))
        self.scheduler.log(f"feed.{feed}", kind)
        again_ns = self.scheduler.between(20 * MS, 2 * SECOND)
        match kind:
            case "dies":
                living.dead = True
            case "dies in mid-write":
                living.die_in_mid_write(random.choice(sorted(living.writer.owned)))
            case "hangs" | "hangs and is succeeded":
                living.hung_until_ns = self.scheduler.now_ns + self.scheduler.between(50 * MS, 3 * SECOND)
            case "is held down":
                self.image.hold_down(feed)
                self.truth[feed].held_down = True
            case _:
                living.dead = True
                living.writer.down()
                self.truth[feed].up = False
        if kind != "hangs":
            self._start_after(again_ns, feed)

    # ---- the law

    def used(self, leg: int, bid_px: int) -> None:
        """A decision was taken on this row: every value must be true, recent, and of a feed that lives."""
        now_ns = self.scheduler.now_ns
        quote = self.history.get((leg, bid_px))
        feed = self.truth[leg // ROWS_OF_FEED]
        self.scheduler.log("consumer", f"uses row {leg} bid {bid_px}")
        law = "a stale, invalid or torn row opens no risk"
        if quote is None:
            raise Violation(law, f"row {leg}: bid {bid_px} was never written so")
        if quote.epoch != feed.epoch:
            raise Violation(law, f"row {leg} is of epoch {quote.epoch}, its feed is in {feed.epoch}")
        if not feed.up or feed.held_down or abs(now_ns - feed.beat_ns) > LIVENESS_NS:
            silence_ms = (now_ns - feed.beat_ns) / MS
            raise Violation(law, f"row {leg} used {silence_ms:.0f} ms after its feed's last sign: {feed}")
        if now_ns - quote.written_ns > AGE_NS_MAX:
            raise Violation(law, f"row {leg} used {(now_ns - quote.written_ns) / MS:.0f} ms old")

    def after_event(self) -> None:
        """Remember every good quote a row ever had: what was read a moment ago may have been followed by another."""
        for leg, quote in self.quotes.items():
            if quote.good:
                self.history[leg, quote.bid_px] = quote

    def left_behind(self) -> bytes:
        """The image."""
        return bytes(self.buffer)

    def at_the_end(self) -> None:
        """A market in which nothing was ever used would prove nothing."""
        if self.simulation.steps >= 1000 and not (self.consumer.used and self.cycles.told):
            text = f"used {self.consumer.used}, told {self.cycles.told}, skipped {self.consumer.skipped}"
            raise Violation("rows are used while feeds live", text)


def market_simulation(seed: int, steps: int = 600) -> Simulation:
    """Feeds and rows alone. `simulation.laws[0]` is the market."""
    simulation = Simulation(seed, steps * 3)
    simulation.laws.append(Market(simulation))
    simulation.quiet_ns = SECOND
    return simulation
