"""Last prices of the stocks that a broker trades or holds, over a gateway session of their own client id.

Owner: a broker's driver, which asks here, without waiting, before it writes an entry; a thread of its own, so that
ticks hold up no order. A price is the last print, within the quote where that has moved on since (or between bid and
ask, where nothing was printed yet), and as old as the newest of them. What is known stands too in `last_prices.json`
of the run directory, for people.

Full: `SYMBOLS_MAX` symbols (market data lines); those beyond have no price, and say so once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from pathlib import Path

from actors.adapters import ib_forms
from actors.adapters.ib_prices import DELAYED_LAST, LAST, SYMBOLS_MAX, PriceDriver, PriceSettings
from actors.adapters.price_file import LastPrice, write_last_prices
from actors.adapters.worker import end_process
from actors.messages import AnyMessage, WatchPrices
from actors.ports import Clock

WRITE_EVERY_S = 1.0
KINDS = {1: "bid", 66: "bid", 2: "ask", 67: "ask", LAST: "print", DELAYED_LAST: "print"}
"""Tick types, live and delayed."""


class LastPrices(PriceDriver):
    """`start`, `stop`, `watch` and `last` are for the broker's driver, on its thread; all else is the loop's."""

    def __init__(
        self,
        settings: PriceSettings,
        clock: Clock,
        random_unit: Callable[[], float],
        run_dir: Path | None = None,
        die: Callable[[str], None] = end_process,
    ) -> None:
        super().__init__(settings, clock, random_unit, die)
        self._run_dir = run_dir
        self._last: dict[str, LastPrice] = {}
        self._heard: dict[tuple[str, str], int] = {}
        self._waiting_for: dict[str, concurrent.futures.Future[None]] = {}
        self._waiting_lock = threading.Lock()
        self._written_s = 0.0
        self._writes = False
        self._wanted = settings.symbols

    # ---- the broker's driver's side

    def last(self, symbol: str) -> LastPrice | None:
        """Return what is known now; its age is the caller's to judge."""
        return self._last.get(symbol)

    def watch(self, symbol: str) -> concurrent.futures.Future[None]:
        """Have this stock's price heard too, from now on; the future is done once there is one, or never will be."""
        if symbol not in self._wanted:
            wanted = (*self._wanted, symbol)
            self.post(WatchPrices(wanted))
            if len(wanted) > SYMBOLS_MAX:
                never: concurrent.futures.Future[None] = concurrent.futures.Future()
                never.set_result(None)
                return never
            self._wanted = wanted
        with self._waiting_lock:
            first = self._waiting_for.setdefault(symbol, concurrent.futures.Future())
            if symbol in self._last and not first.done():
                first.set_result(None)
        return first

    # ---- the loop's

    def _take(self, command: AnyMessage) -> None:
        match command:
            case WatchPrices(symbols=symbols):
                if len(symbols) > SYMBOLS_MAX:
                    self._worker.count("symbols_beyond_bound")
                    self._tell_once(f"{symbols[-1]}: {SYMBOLS_MAX} symbols have prices already; this one has none")
                elif symbols != self._symbols:
                    self._symbols = symbols
                    self._renew.set()
            case _:
                raise TypeError(f"no command for last prices: {command}")

    def price_reported(self, request_id: int, tick_type: int, price: float) -> None:
        """See Observer. IB tells -1 where it has no price."""
        symbol = self._symbol_of.get(request_id)
        self._ticks += 1
        if symbol is None or not price > 0:
            return
        kind = KINDS.get(tick_type)
        if kind is None:
            return
        try:
            self._heard[symbol, kind] = ib_forms.fixed8_of(price)
        except ib_forms.FormError as error:
            self._library_failed(f"{symbol}: {error}")
            return
        if (px := self._price_of(symbol)) is None:
            return
        self._last[symbol] = LastPrice(px, self._clock.now_ns())
        with self._waiting_lock:
            first = self._waiting_for.get(symbol)
            if first is not None and not first.done():
                first.set_result(None)
        if self._run_dir is not None and not self._writes:
            self._writes = True
            loop = asyncio.get_running_loop()
            loop.call_later(max(0.0, self._written_s + WRITE_EVERY_S - loop.time()), self._write, self._run_dir)

    def _price_of(self, symbol: str) -> int | None:
        printed, bid, ask = (self._heard.get((symbol, kind)) for kind in ("print", "bid", "ask"))
        if bid is None or ask is None or bid > ask:
            return printed
        return (bid + ask) // 2 if printed is None else min(max(printed, bid), ask)

    def _write(self, run_dir: Path) -> None:
        self._writes, self._written_s = False, asyncio.get_running_loop().time()
        try:
            write_last_prices(run_dir, self._last)
        except OSError as error:  # for people only: no order waits for it
            self._worker.count("prices_unwritten")
            self._tell_once(f"{run_dir}: {error}")
