"""Bars: what the gateway itself has printed, and before that a past that is made up and always the same. Pure.

The past of an instrument is a sum of smooth noises with periods from a minute to a year, hashed from seed and symbol:
any moment's price can be asked for without walking there, two questions for one bar agree, and the price at the
gateway's first start is where its walk began. Futures and options follow from their underlying, as their quotes do.
Bars that the gateway lived through come from its own prices, for the last LIVE_MINUTES.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache

from venues.gateway.contracts import Instrument
from venues.gateway.exchange_days import trading_day_at_or_before
from venues.gateway.hours import ZONE, session_of
from venues.gateway.matching import Quote
from venues.gateway.prices import derived_quote

LIVE_MINUTES = 1440
"""Minutes of its own prices that are kept for each stock and index."""
BARS_MAX = 20_000
HEAD = date(2004, 1, 23)
"""The first day of every instrument."""
_S = 1_000_000_000
_YEAR_S = 365.0 * 86_400
_PERIODS_S = (60, 600, 3_600, 21_600, 86_400, 5 * 86_400, 30 * 86_400, 250 * 86_400)
_SIGMA = 0.18
"""Of a year, in log prices."""

BAR_SIZES_S = {
    "1 secs": 1,
    **{f"{n} secs": n for n in (5, 10, 15, 30)},
    "1 min": 60,
    **{f"{n} mins": 60 * n for n in (2, 3, 5, 10, 15, 20, 30)},
    "1 hour": 3600,
    **{f"{n} hours": 3600 * n for n in (2, 3, 4, 8)},
    "1 day": 86_400,
    "1W": 7 * 86_400,
    "1 week": 7 * 86_400,
    "1M": 30 * 86_400,
    "1 month": 30 * 86_400,
}
SHOWN = ("TRADES", "MIDPOINT", "BID", "ASK", "ADJUSTED_LAST")
_DURATION = re.compile(r"(\d{1,6}) ([SDWMY])")


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `volume` is -1 where what is shown has none. `is_day`: it is told by its date."""

    start: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int
    wap: Decimal
    count: int
    is_day: bool = False


class HistoryError(ValueError):
    """What was asked for cannot be: the text is that of error 162 or 321."""


@lru_cache(maxsize=50_000)
def _lattice(name: str, octave: int, place: int) -> float:
    """A number between -1 and 1 that looks random."""
    word = zlib.crc32(f"{name}:{octave}:{place}".encode())
    return (zlib.crc32(word.to_bytes(4, "big")) / 0xFFFFFFFF) * 2 - 1


def noise(name: str, at_s: float) -> float:
    """Return the log price of a name at a time, up to a constant."""
    total = 0.0
    for octave, period_s in enumerate(_PERIODS_S):
        place, share = divmod(at_s / period_s, 1.0)
        weight = share * share * (3 - 2 * share)
        low, high = _lattice(name, octave, int(place)), _lattice(name, octave, int(place) + 1)
        total += _SIGMA * math.sqrt(period_s / _YEAR_S) * (low + (high - low) * weight)
    return total


class History:
    """Prices of the past by instrument, and the running minutes of the present."""

    def __init__(self, spot_of: Callable[[int], Instrument], seed: int, began_ns: int) -> None:
        """`began_ns`: when the gateway's state began, where the made-up past ends at the start price."""
        self._spot_of = spot_of
        self._seed = seed
        self._began_s = began_ns / _S
        self._minutes: dict[int, deque[list[float]]] = {}

    def note(self, con_id: int, quote: Quote, now_ns: int) -> None:
        """Count a price of a stock or index into its running minute."""
        minute, px = float(now_ns // (60 * _S) * 60), float(quote.last)
        kept = self._minutes.setdefault(con_id, deque(maxlen=LIVE_MINUTES))
        if kept and kept[-1][0] == minute:
            last = kept[-1]
            last[2], last[3], last[4] = max(last[2], px), min(last[3], px), px
        elif not kept or kept[-1][0] < minute:
            kept.append([minute, px, px, px, px])

    def px(self, instrument: Instrument, at_s: float) -> float:
        """Return the price at a moment of the made-up past."""
        if instrument.is_derived:
            under = self.px(self._spot_of(instrument.under_con_id), at_s)
            return float(derived_quote(instrument, Decimal(str(round(under, 4))), int(at_s) * _S).mid)
        name = f"{self._seed}:{instrument.symbol}"
        return float(instrument.start_px) * math.exp(noise(name, at_s) - noise(name, self._began_s))

    def bar(self, instrument: Instrument, start: datetime, end: datetime, shown: str, *, is_day: bool) -> Bar:
        """Return the bar of [start, end)."""
        first_s, last_s = start.timestamp(), end.timestamp()
        pxs = self._lived(instrument, first_s, last_s) or self._made_up(instrument, first_s, last_s)
        tick = instrument.min_tick
        away = {"BID": -tick, "ASK": tick}.get(shown, Decimal(0))
        opened, high, low, closed = (_in_ticks(px, tick) + away for px in pxs)
        if shown in ("TRADES", "ADJUSTED_LAST") and instrument.sec_type != "IND":
            word = zlib.crc32(f"{instrument.symbol}:{int(first_s)}".encode())
            volume = max(1, int((last_s - first_s) / 60 * (20_000 + word % 20_000)))
            wap = ((high + low + closed) / 3).quantize(Decimal("0.001"))
            return Bar(start, opened, high, low, closed, volume, wap, max(1, volume // 200), is_day)
        return Bar(start, opened, high, low, closed, -1, Decimal(-1), -1, is_day)

    def _made_up(self, instrument: Instrument, first_s: float, last_s: float) -> tuple[float, float, float, float]:
        step_s = max(1.0, (last_s - first_s) / 12)
        count = max(2, round((last_s - first_s) / step_s) + 1)
        pxs = [self.px(instrument, first_s + number * (last_s - first_s) / (count - 1)) for number in range(count)]
        return pxs[0], max(pxs), min(pxs), pxs[-1]

    def _lived(self, instrument: Instrument, first_s: float, last_s: float) -> tuple[float, float, float, float] | None:
        """Return open, high, low and close where the gateway was there for the whole of it."""
        kept = self._minutes.get(instrument.under_con_id or instrument.con_id)
        if not kept or kept[0][0] > first_s:
            return None
        found = [row for row in kept if first_s - 60 < row[0] < last_s]
        if not found:
            found = [[0.0, *[next(row[4] for row in reversed(kept) if row[0] <= first_s)] * 4]]
        pxs = found[0][1], max(row[2] for row in found), min(row[3] for row in found), found[-1][4]
        if not instrument.is_derived:
            return pxs
        opened, high, low, closed = (
            float(derived_quote(instrument, Decimal(str(round(px, 4))), int(last_s) * _S).mid) for px in pxs
        )
        return opened, max(opened, high, low, closed), min(opened, high, low, closed), closed


def _in_ticks(px: float, tick: Decimal) -> Decimal:
    return max(tick, (Decimal(str(px)) / tick).quantize(Decimal(1), ROUND_HALF_EVEN) * tick)


def duration_of(text: str) -> tuple[int, str]:
    """Return number and unit of `1 D`, `3600 S` … Raises HistoryError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not int(match[1]):
        raise HistoryError(f"Invalid duration {text!r}: a number and one of S, D, W, M, Y")
    return int(match[1]), match[2]


def spans(
    instrument: Instrument, end: datetime, duration: tuple[int, str], size_s: int, *, liquid: bool
) -> list[tuple[datetime, datetime]]:
    """Return start and end of every bar that ends by `end`, oldest first; the last one may be running.

    `N D` are the last N sessions; other units count back from the end. Raises HistoryError beyond BARS_MAX.
    """
    number, unit = duration
    first = _first_moment(instrument, end, number, unit, liquid=liquid)
    found: list[tuple[datetime, datetime]] = []
    for session in _sessions(instrument, first, end, liquid=liquid):
        cut = [session] if size_s >= 86_400 else list(_cut(*session, size_s))
        found += [span for span in cut if span[1] > first and span[0] < end]
        if len(found) > BARS_MAX:
            raise HistoryError(f"more than {BARS_MAX} bars; ask for a shorter duration or larger bars")
    return found if size_s <= 86_400 else list(_grouped(found, size_s))


def _first_moment(instrument: Instrument, end: datetime, number: int, unit: str, *, liquid: bool) -> datetime:
    if unit == "S":
        return end - timedelta(seconds=number)
    if unit != "D":
        return end - timedelta(days=number * {"W": 7, "M": 30, "Y": 365}[unit])
    if number > 3_000:
        raise HistoryError("Invalid duration: at most 3000 days")
    day = end.date() + timedelta(days=1)
    while True:
        day = trading_day_at_or_before(day)
        session = session_of(instrument, day, liquid=liquid)
        assert session is not None, "a trading day has a session"
        number -= session[0] < end
        if number == 0:
            return max(session[0], datetime.combine(HEAD, time(0), ZONE))
        day -= timedelta(days=1)


def _sessions(
    instrument: Instrument, first: datetime, end: datetime, *, liquid: bool
) -> Iterator[tuple[datetime, datetime]]:
    day = max(first.date(), HEAD)
    while day <= end.date() + timedelta(days=1):
        session = session_of(instrument, day, liquid=liquid)
        if session is not None and session[1] > first and session[0] < end:
            yield session
        day += timedelta(days=1)


def _cut(start: datetime, end: datetime, size_s: int) -> Iterator[tuple[datetime, datetime]]:
    """Cut a session at whole multiples of the bar size since midnight: the first bar may be a short one."""
    midnight = datetime.combine(start.date(), time(0), ZONE)
    while start < end:
        passed = int((start - midnight).total_seconds())
        stop = min(end, midnight + timedelta(seconds=(passed // size_s + 1) * size_s))
        yield start, stop
        start = stop


def _grouped(days: list[tuple[datetime, datetime]], size_s: int) -> Iterator[tuple[datetime, datetime]]:
    """Join sessions of one week or month."""
    running: tuple[datetime, datetime] | None = None
    for start, end in days:
        if running is not None and _period(running[1], size_s) == _period(end, size_s):
            running = running[0], end
            continue
        if running is not None:
            yield running
        running = start, end
    if running is not None:
        yield running


def _period(moment: datetime, size_s: int) -> tuple[int, int]:
    return moment.isocalendar()[:2] if size_s == 7 * 86_400 else (moment.year, moment.month)


def bar_time(bar: Bar, format_date: int) -> str:
    """Return a bar's time as a client asked for it: text, or seconds since 1970 (never for days)."""
    if bar.is_day:
        return f"{bar.start:%Y%m%d}"
    if format_date == 2:
        return str(int(bar.start.timestamp()))
    return f"{bar.start:%Y%m%d %H:%M:%S} US/Eastern"
