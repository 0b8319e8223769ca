"""Where prices come from: the generator at its rate, or recordings at their pace. Thin: all thinking is elsewhere."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from venues.exchange.depth import FAST_MS, SLOW_MS, DepthStreams
from venues.exchange.exchange import Exchange
from venues.exchange.frames import Row
from venues.exchange.generator import Closed, Generator, Opened, OpportunityPlan
from venues.exchange.recorded import (
    BOOK_TICKER_SUFFIX,
    DEPTH_REPLY_SUFFIX,
    RecordedFrame,
    RecordingCounters,
    read_depth_replies,
    read_frames,
    read_snapshots,
    row_of,
)
from venues.exchange.recorded_depth import RecordedBooks
from venues.exchange.settings import ExchangeSettings
from venues.exchange.steps import LiveSteps, PreparedSteps, texts_of

# The rate that opportunity times are turned into steps at where the rate itself is "as fast as read".
_NOMINAL_RATE_PER_S: Final = 2_000.0
_SLEEP_S_MIN: Final = 0.001
_BATCH_MAX: Final = 256
# After a stall longer than this the lost time is skipped, and counted, instead of being sent as one burst.
_LAG_S_MAX: Final = 0.5
_UNREAD_BYTES_MAX: Final = 256 * 1024
_STALLED_S_MAX: Final = 5.0


def opportunity_plan(settings: ExchangeSettings) -> OpportunityPlan:
    """Return the plan in steps of the settings' times."""
    rate = settings.rate_per_s or _NOMINAL_RATE_PER_S
    return OpportunityPlan(
        interval_steps=round(settings.opportunity_every_s * rate),
        duration_steps=max(1, round(settings.opportunity_ms / 1e3 * rate)),
        fee_bps=settings.opportunity_fee_bps,
        net_bps_min=settings.opportunity_net_bps_min,
        net_bps_max=settings.opportunity_net_bps_max,
    )


class GeneratedSource:
    """Steps the generator, gives each update its id, keeps the ledger ahead of the wire."""

    def __init__(self, exchange: Exchange, generator: Generator) -> None:
        self._exchange = exchange
        self._universe = generator.universe
        self._symbols = [pair.rules.symbol for pair in generator.universe.pairs]
        for symbol, top in zip(self._symbols, generator.tops, strict=True):
            exchange.rows[symbol] = Row(exchange.state.next_update_id(), *texts_of(top))
        prepared = exchange.settings.prepared
        self._steps = PreparedSteps(generator, prepared) if prepared else LiveSteps(generator)
        self._steps_done = 0
        rate = exchange.settings.rate_per_s or _NOMINAL_RATE_PER_S
        self._interval_steps = {speed_ms: max(1, round(rate * speed_ms / 1e3)) for speed_ms in (FAST_MS, SLOW_MS)}

    async def run(self) -> None:
        """Run for ever, at the rate set, or with rate 0 as fast as the slowest consumer reads."""
        rate = self._exchange.settings.rate_per_s
        await (self._run_at(rate) if rate else self._run_as_read())

    async def _run_at(self, rate_per_s: float) -> None:
        clock, hub = self._exchange.monotonic_s, self._exchange.hub
        due_s = clock()
        while True:
            now_s = clock()
            if now_s - due_s > _LAG_S_MAX:
                hub.counters["pace_resets"] += 1
                due_s = now_s
            sent = 0
            while due_s <= now_s:
                self._advance()
                due_s += 1.0 / rate_per_s
                sent += 1
                if sent % _BATCH_MAX == 0:
                    hub.flush()
            hub.flush()
            await asyncio.sleep(max(_SLEEP_S_MIN, due_s - clock()))

    async def _run_as_read(self) -> None:
        hub = self._exchange.hub
        while True:
            if not hub.is_anything_heard():
                hub.subscribed.clear()
                await hub.subscribed.wait()
            for _ in range(_BATCH_MAX):
                self._advance()
            hub.flush()
            await until_read(self._exchange)

    def _advance(self) -> None:
        exchange = self._exchange
        told = self._steps.next()
        self._steps_done += 1
        if told is None:
            exchange.hub.counters["steps_without_update"] += 1
        else:
            update_id = exchange.state.next_update_id()
            if told.event is not None:
                self._record(told.event, told.symbol_index, update_id)
            exchange.hub.counters["updates"] += 1
            exchange.show(self._symbols[told.symbol_index], Row(update_id, *told.texts), told.tail)
        if exchange.depth is not None and exchange.depth.watched:
            self._end_intervals(exchange.depth)

    def _end_intervals(self, depth: DepthStreams) -> None:
        """End the depth intervals that end with this step: by steps and not by the clock, so that a seed repeats."""
        for speed_ms, steps in self._interval_steps.items():
            if self._steps_done % steps == 0:
                depth.end_interval(speed_ms)

    def _record(self, event: Opened | Closed, moved: int, update_id: int) -> None:
        ledger = self._exchange.ledger
        match event:
            case Opened(_, legs, gross_return):
                from_numeraire = self._universe.from_numeraire(legs)
                cycle = [f"{self._symbols[leg.symbol_index]}:{leg.side}" for leg in from_numeraire]
                ledger.opened(cycle, self._symbols[moved], gross_return, time.time_ns(), update_id)
            case Closed():
                ledger.closed(time.time_ns(), update_id)


class RecordedSource:
    """Plays recorded frames to who listens to their streams, and keeps the rows that REST shows.

    Frames leave byte for byte as they were recorded. Several recordings are merged by receive time.
    """

    def __init__(self, exchange: Exchange, books: RecordedBooks) -> None:
        self._exchange = exchange
        self._books = books
        self.counters = RecordingCounters()
        self.is_playing = asyncio.Event()
        self.has_ended = False
        for symbol, reply in read_depth_replies(exchange.settings.record):
            books.take_reply(symbol, reply)
        for symbol, row in read_snapshots(exchange.settings.record):
            exchange.rows[symbol] = row
            exchange.told_on_subscribe[exchange.streams.get(symbol) or symbol.lower() + BOOK_TICKER_SUFFIX] = symbol

    async def run(self) -> None:
        """Play once, from the moment that the settings say; then stand still."""
        settings, hub = self._exchange.settings, self._exchange.hub
        if settings.play_on == "start":
            self.is_playing.set()
        elif settings.play_on == "subscribe":
            await hub.subscribed.wait()
            self.is_playing.set()
        await self.is_playing.wait()
        begin_s, first_ns = self._exchange.monotonic_s(), 0
        for count, recorded in enumerate(read_frames(settings.record, self.counters)):
            first_ns = first_ns if count else recorded.received_ns
            if settings.pace:
                due_s = begin_s + (recorded.received_ns - first_ns) / 1e9 / settings.pace
                while (wait_s := due_s - self._exchange.monotonic_s()) > 0:
                    hub.flush()
                    await asyncio.sleep(wait_s)
            self._play(recorded)
            if count % _BATCH_MAX == 0:
                hub.flush()
                await (asyncio.sleep(0) if settings.pace else until_read(self._exchange))
        hub.flush()
        self.has_ended = True

    def _play(self, recorded: RecordedFrame) -> None:
        exchange = self._exchange
        symbol, _, kind = recorded.stream.partition("@")
        if recorded.stream.endswith(DEPTH_REPLY_SUFFIX):
            self._books.take_reply(symbol.upper(), recorded.payload)
            return
        if kind in ("depth", "depth@100ms"):
            self._books.take_diff(recorded.payload)
        elif recorded.stream.endswith(BOOK_TICKER_SUFFIX):
            read = row_of(recorded.payload)
            if read is None:
                exchange.hub.counters["recorded_rows_unread"] += 1
            else:
                exchange.rows[read[0]] = read[1]
                exchange.on_book_changed(read[0])
        exchange.hub.counters["updates"] += 1
        exchange.send(symbol.upper(), recorded.stream, recorded.payload, recorded.wrapped)


async def until_read(exchange: Exchange) -> None:
    """Wait until every connection has read most of what it was sent; one that stands still too long is cut off."""
    deadline_s = exchange.monotonic_s() + _STALLED_S_MAX
    await asyncio.sleep(0)
    while exchange.hub.unread_bytes_max() > _UNREAD_BYTES_MAX:
        if exchange.monotonic_s() > deadline_s:
            exchange.hub.drop_unread(_UNREAD_BYTES_MAX)
            return
        await asyncio.sleep(_SLEEP_S_MIN / 2)
