"""The prices of the gateway's own market: a seeded random walk with trends, or what the control port sets. Pure.

A walk's drift fades over some thirty ticks, so that there is momentum for a newcomer's first strategy to find: at 1.5
basis points a tick a price moves about 1 % in 240 ticks. A weak pull towards the start keeps it within some 5 % of it
over days. Prices are whole ticks; the spread is one basis point and at least one tick.

Futures and options have no walk: their quotes follow from the price of their underlying, unless one was set.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal

from venues.gateway.contracts import CLASS_BY_NAME, Instrument
from venues.gateway.hours import ZONE, ns_of
from venues.gateway.matching import Quote

_DRIFT_MEMORY = 0.97
_DRIFT_SHARE = 0.12
_PULL = 1e-4
"""Share of the distance from the start that a tick takes back."""
_CARRY = 0.04
"""A year's, by which a future stands above its index."""
_YEAR_NS = 365 * 24 * 3600 * 1_000_000_000
_LAST_MOMENTS = 1e-6
"""Years that an option is given at least, so that its price is defined at its end."""


class Walk:
    """One symbol's walk: `step` returns the next quote. A price set from outside is where it goes on."""

    def __init__(self, spot: Instrument, volatility_bps: float, seed: int) -> None:
        self._tick = spot.min_tick
        self._start = math.log(float(spot.start_px))
        self._log_px = self._start
        self._drift = 0.0
        self._sigma = volatility_bps * 1e-4
        self._random = random.Random(f"{seed}:{spot.symbol}")

    def move_to(self, px: Decimal) -> None:
        self._log_px = math.log(float(px))
        self._drift = 0.0

    def step(self) -> Quote:
        shock = self._random.gauss(0.0, 1.0) * self._sigma * _DRIFT_SHARE
        self._drift = self._drift * _DRIFT_MEMORY + shock
        noise = self._random.gauss(0.0, 1.0) * self._sigma
        self._log_px += self._drift + noise - _PULL * (self._log_px - self._start)
        return quote_around(math.exp(self._log_px), self._tick)


def quote_around(mid: float, tick: Decimal, spread_share: str = "0.0001") -> Quote:
    """Return a quote in whole ticks around a mid price; the last price is inside the spread."""
    half = max(tick, _to_ticks(Decimal(mid) * Decimal(spread_share), tick)) / 2
    bid = max(tick, _to_ticks(Decimal(mid) - half, tick))
    ask = max(bid + tick, _to_ticks(Decimal(mid) + half, tick))
    return Quote(bid, ask, min(ask, max(bid, _to_ticks(Decimal(mid), tick))))


def _to_ticks(px: Decimal, tick: Decimal) -> Decimal:
    return (px / tick).quantize(Decimal(1), ROUND_HALF_EVEN) * tick


def derived_quote(instrument: Instrument, under_px: Decimal, now_ns: int) -> Quote:
    """Return the quote of a future or option from the price of its underlying."""
    years = max(_LAST_MOMENTS, (expiry_ns(instrument) - now_ns) / _YEAR_NS)
    spot = float(under_px)
    if instrument.sec_type == "FUT":
        return quote_around(spot * (1 + _CARRY * years), instrument.min_tick)
    value = option_value(
        spot, float(instrument.strike), years, CLASS_BY_NAME[instrument.trading_class].volatility, instrument.right
    )
    return quote_around(value, instrument.min_tick, "0.02")


def option_value(spot: float, strike: float, years: float, volatility: float, right: str) -> float:
    """Return Black and Scholes' value of a European option without interest (1973, equation 13, r = 0)."""
    spread = volatility * math.sqrt(years)
    d1 = math.log(spot / strike) / spread + spread / 2
    call = spot * _normal(d1) - strike * _normal(d1 - spread)
    return call if right == "C" else call - spot + strike


def option_greeks(instrument: Instrument, quote: Quote, under_px: Decimal, now_ns: int) -> tuple[float, ...]:
    """Return volatility, delta, price, dividends (0), gamma, vega, theta of a day, and the underlying's price."""
    spot, strike = float(under_px), float(instrument.strike)
    years = max(_LAST_MOMENTS, (expiry_ns(instrument) - now_ns) / _YEAR_NS)
    volatility = CLASS_BY_NAME[instrument.trading_class].volatility
    spread = volatility * math.sqrt(years)
    d1 = math.log(spot / strike) / spread + spread / 2
    density = math.exp(-d1 * d1 / 2) / math.sqrt(2 * math.pi)
    delta = _normal(d1) - (instrument.right == "P")
    theta = -spot * density * volatility / (2 * math.sqrt(years)) / 365
    vega = spot * density * math.sqrt(years) / 100
    return volatility, delta, float(quote.mid), 0.0, density / (spot * spread), vega, theta, spot


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def expiry_ns(instrument: Instrument) -> int:
    """Return the end of the last trading day's liquid session, 16:00."""
    return ns_of(datetime.strptime(f"{instrument.expiry} 16", "%Y%m%d %H").replace(tzinfo=ZONE))


class Market:
    """Quotes by conId, with what a day's summary needs. What is derived is quoted once somebody looks at it."""

    def __init__(self, spots: Iterable[Instrument], volatility_bps: float, seed: int) -> None:
        self.spots = {spot.con_id: spot for spot in spots}
        self.walks = {con_id: Walk(spot, volatility_bps, seed) for con_id, spot in self.spots.items()}
        self.quotes = {c: quote_around(float(spot.start_px), spot.min_tick) for c, spot in self.spots.items()}
        self.opens = {con_id: quote.last for con_id, quote in self.quotes.items()}
        self.highs = dict(self.opens)
        self.lows = dict(self.opens)
        self.derived: dict[int, Instrument] = {}
        self.pinned: set[int] = set()
        """Derived instruments whose price was set: they stay there."""

    def set_quote(self, con_id: int, quote: Quote) -> None:
        self.quotes[con_id] = quote
        self.opens.setdefault(con_id, quote.last)
        self.highs[con_id] = max(self.highs.get(con_id, quote.last), quote.last)
        self.lows[con_id] = min(self.lows.get(con_id, quote.last), quote.last)

    def place(self, instrument: Instrument, quote: Quote) -> None:
        """Set a quote from outside; a walk goes on from there, a derived price stays."""
        if instrument.is_derived:
            self.derived[instrument.con_id] = instrument
            self.pinned.add(instrument.con_id)
        else:
            self.walks[instrument.con_id].move_to(quote.mid)
        self.set_quote(instrument.con_id, quote)

    def step(self, con_id: int) -> Quote:
        quote = self.walks[con_id].step()
        self.set_quote(con_id, quote)
        return quote

    def look_at(self, instrument: Instrument, now_ns: int) -> Quote:
        """Return the quote of any instrument; from now on a derived one follows its underlying."""
        if instrument.is_derived and instrument.con_id not in self.derived:
            self.derived[instrument.con_id] = instrument
            self.set_quote(instrument.con_id, self._derive(instrument, now_ns))
        return self.quotes[instrument.con_id]

    def follow(self, under_con_id: int, now_ns: int) -> list[tuple[int, Quote]]:
        """Quote what follows from one price anew; return what changed."""
        changed = []
        for con_id, instrument in self.derived.items():
            if instrument.under_con_id == under_con_id and con_id not in self.pinned:
                quote = self._derive(instrument, now_ns)
                if quote != self.quotes[con_id]:
                    self.set_quote(con_id, quote)
                    changed.append((con_id, quote))
        return changed

    def forget(self, con_ids: Iterable[int]) -> None:
        """Quote these derived instruments no longer, until somebody looks again."""
        for con_id in con_ids:
            for kept in (self.quotes, self.opens, self.highs, self.lows):
                kept.pop(con_id, None)
            self.derived.pop(con_id, None)

    def _derive(self, instrument: Instrument, now_ns: int) -> Quote:
        return derived_quote(instrument, self.quotes[instrument.under_con_id].mid, now_ns)
