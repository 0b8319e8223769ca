"""What a gateway's market prints for symbols that change: extremes, with their times, so that no crossing is lost.

Owner: the stop sentinel. Takes `WatchPrices`; emits `PrintsSeen`, at most one a symbol in `interval_ms`, merged over
all ticks between, and `PricesLost` once where a connection ends or cannot be made. Times are those of arrival here.
"""

from __future__ import annotations

import asyncio

from actors.adapters import ib_forms
from actors.adapters.ib_link import Link
from actors.adapters.ib_prices import DELAYED_LAST, LAST, SYMBOLS_MAX, PriceDriver
from actors.messages import AnyMessage, PricesLost, PrintsSeen, WatchPrices


class PrintsDriver(PriceDriver):
    """See the module, and `PriceDriver` for sessions, subscriptions and the actor's side."""

    _lost_told = False

    def _take(self, command: AnyMessage) -> None:
        match command:
            case WatchPrices(symbols=symbols):
                if len(symbols) > SYMBOLS_MAX:
                    self._worker.count("symbols_beyond_bound", len(symbols) - SYMBOLS_MAX)
                    self._tell_once(f"{len(symbols)} symbols to watch, {SYMBOLS_MAX} at most: the last are unwatched")
                self._symbols = symbols[:SYMBOLS_MAX]
                self._renew.set()
            case _:
                raise TypeError(f"no command for a prints driver: {command}")

    async def _main(self) -> None:
        self._ranges: dict[str, PrintsSeen] = {}
        await super()._main()

    async def _serve(self, link: Link) -> None:
        self._lost_told = False
        await super()._serve(link)

    def _link_ended(self, reason: str) -> None:
        super()._link_ended(reason)
        if not self._lost_told:
            self._lost_told = True
            self._worker.emit(PricesLost(reason))

    def price_reported(self, request_id: int, tick_type: int, price: float) -> None:
        """See Observer. IB tells -1 where it has no price."""
        symbol = self._symbol_of.get(request_id)
        self._ticks += 1
        if symbol is None or tick_type not in (LAST, DELAYED_LAST) or not price > 0:
            return
        try:
            px, now_ns = ib_forms.fixed8_of(price), self._clock.now_ns()
        except ib_forms.FormError as error:
            self._library_failed(f"{symbol}: {error}")
            return
        waiting = self._ranges.get(symbol)
        self._ranges[symbol] = merged(waiting, symbol, px, now_ns)
        if waiting is None:
            loop = asyncio.get_running_loop()
            loop.call_later(max(0.0, self._due_s.get(symbol, 0.0) - loop.time()), self._tell_range, symbol)

    def _tell_range(self, symbol: str) -> None:
        self._due_s[symbol] = asyncio.get_running_loop().time() + self.settings.interval_ms / 1000
        self._worker.emit(self._ranges.pop(symbol))


def merged(waiting: PrintsSeen | None, symbol: str, px: int, now_ns: int) -> PrintsSeen:
    """Return the extremes with one more print; the earlier of two equal extremes keeps its time."""
    if waiting is None:
        return PrintsSeen(symbol, px, now_ns, px, now_ns, px, now_ns)
    low_px, low_ns = (px, now_ns) if px < waiting.low_px else (waiting.low_px, waiting.low_ns)
    high_px, high_ns = (px, now_ns) if px > waiting.high_px else (waiting.high_px, waiting.high_ns)
    return PrintsSeen(symbol, low_px, low_ns, high_px, high_ns, px, now_ns, waiting.count + 1)
