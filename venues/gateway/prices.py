"""The prices of the gateway's own market: a seeded random walk with trends, or what the control port sets. Pure.

A walk's drift fades over some thirty ticks, so that there is momentum for a newcomer's first strategy to find: at 1.5
basis points a tick a price moves about 1 % in 240 ticks. A weak pull towards the start keeps it within some 5 % of it
over days. Prices are whole ticks; the spread is one basis point and at least one tick.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal

from venues.gateway.contracts import Stock
from venues.gateway.matching import Quote

_DRIFT_MEMORY = 0.97
_DRIFT_SHARE = 0.12
_PULL = 1e-4
"""Share of the distance from the start that a tick takes back."""


class Walk:
    """One symbol's walk: `step` returns the next quote. A price set from outside is where it goes on."""

    def __init__(self, stock: Stock, volatility_bps: float, seed: int) -> None:
        self._tick = stock.min_tick
        self._start = math.log(float(stock.start_px))
        self._log_px = self._start
        self._drift = 0.0
        self._sigma = volatility_bps * 1e-4
        self._random = random.Random(f"{seed}:{stock.symbol}")

    def move_to(self, px: Decimal) -> None:
        self._log_px = math.log(float(px))
        self._drift = 0.0

    def step(self) -> Quote:
        shock = self._random.gauss(0.0, 1.0) * self._sigma * _DRIFT_SHARE
        self._drift = self._drift * _DRIFT_MEMORY + shock
        noise = self._random.gauss(0.0, 1.0) * self._sigma
        self._log_px += self._drift + noise - _PULL * (self._log_px - self._start)
        return quote_around(math.exp(self._log_px), self._tick)


def quote_around(mid: float, tick: Decimal) -> Quote:
    """Return a quote in whole ticks around a mid price; the last price is inside the spread."""
    half = max(tick, _to_ticks(Decimal(mid) * Decimal("0.0001"), tick)) / 2
    bid = max(tick, _to_ticks(Decimal(mid) - half, tick))
    ask = max(bid + tick, _to_ticks(Decimal(mid) + half, tick))
    return Quote(bid, ask, min(ask, max(bid, _to_ticks(Decimal(mid), tick))))


def _to_ticks(px: Decimal, tick: Decimal) -> Decimal:
    return (px / tick).quantize(Decimal(1), ROUND_HALF_EVEN) * tick


class Market:
    """Quotes of all stocks, by symbol, with what a day's summary needs."""

    def __init__(self, stocks: Iterable[Stock], volatility_bps: float, seed: int) -> None:
        self.walks = {stock.symbol: Walk(stock, volatility_bps, seed) for stock in stocks}
        self.quotes = {stock.symbol: quote_around(float(stock.start_px), stock.min_tick) for stock in stocks}
        self.opens = {symbol: quote.last for symbol, quote in self.quotes.items()}
        self.highs = dict(self.opens)
        self.lows = dict(self.opens)

    def set_quote(self, symbol: str, quote: Quote) -> None:
        self.quotes[symbol] = quote
        self.highs[symbol] = max(self.highs[symbol], quote.last)
        self.lows[symbol] = min(self.lows[symbol], quote.last)

    def place(self, symbol: str, quote: Quote) -> None:
        """Set a quote from outside; the walk goes on from there."""
        self.walks[symbol].move_to(quote.mid)
        self.set_quote(symbol, quote)

    def step(self, symbol: str) -> Quote:
        quote = self.walks[symbol].step()
        self.set_quote(symbol, quote)
        return quote
