"""When an instrument trades: sessions by date, for orders, contract details and bars. Pure.

Times are the exchange's, US/Eastern. A stock has a liquid session and a longer trading session; an index option trades
until 16:15; a future's session starts at 18:00 of the day before. `always` is for play and tests: everything trades at
any time, and DAY orders live until somebody ends the day.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from venues.gateway.contracts import Instrument
from venues.gateway.exchange_days import closes_early, is_trading_day

EXCHANGE_ZONE = "US/Eastern"
ZONE = ZoneInfo(EXCHANGE_ZONE)
Hours = Literal["always", "exchange"]
_NS = 1_000_000_000
_DAY = timedelta(days=1)
_DAYS_TOLD = 6
_DAYS_SEARCHED = 12
"""No run of closed days is longer."""


def moment_of(time_ns: int) -> datetime:
    """Return a time in the exchange's zone, whole seconds."""
    return datetime.fromtimestamp(time_ns // _NS, UTC).astimezone(ZONE)


def time_text(time_ns: int) -> str:
    """IB's form of a time, in the exchange's zone, whole seconds."""
    return f"{moment_of(time_ns):%Y%m%d %H:%M:%S} {EXCHANGE_ZONE}"


def ns_of(moment: datetime) -> int:
    """Return a moment in nanoseconds since 1970, whole seconds."""
    return int(moment.timestamp()) * _NS


_TIME = re.compile(r"(\d{8})(?:([- ])\s*(\d\d:\d\d(?::\d\d)?)(?: (\S+))?)?")


def read_time_ns(text: str) -> int:
    """Read `yyyymmdd-hh:mm:ss` (UTC), `yyyymmdd hh:mm:ss [zone]` or `yyyymmdd` (exchange's). Raises ValueError."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not yyyymmdd hh:mm:ss zone, yyyymmdd-hh:mm:ss or yyyymmdd")
    try:
        zone = ZoneInfo(match[4] or ("UTC" if match[2] == "-" else EXCHANGE_ZONE))
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"{match[4]!r} is not a time zone") from error
    clock = match[3] or "00:00:00"
    moment = datetime.strptime(f"{match[1]} {clock}:00"[:17], "%Y%m%d %H:%M:%S").replace(tzinfo=zone)
    return ns_of(moment)


def session_of(instrument: Instrument, day: date, *, liquid: bool) -> tuple[datetime, datetime] | None:
    """Return the session of a date, or None where it has none."""
    if not is_trading_day(day):
        return None
    early = closes_early(day)
    late = instrument.sec_type == "OPT" and instrument.symbol in ("SPX", "SPY", "QQQ", "IWM")
    opens, closes = time(9, 30), time(16, 15) if late else time(16, 0)
    if early:
        closes = time(13, 15) if late else time(13, 0)
    start, end = datetime.combine(day, opens, ZONE), datetime.combine(day, closes, ZONE)
    if not liquid and instrument.sec_type == "STK":
        return datetime.combine(day, time(4, 0), ZONE), datetime.combine(day, time(17 if early else 20, 0), ZONE)
    if not liquid and instrument.sec_type == "FUT":
        return datetime.combine(day - _DAY, time(18, 0), ZONE), datetime.combine(day, time(17, 0), ZONE)
    return start, end


class Timetable:
    """Sessions of one gateway, with the last answer for each kind of instrument kept."""

    def __init__(self, hours: Hours) -> None:
        self.hours: Hours = hours
        self._kept: dict[tuple[str, str, bool], tuple[int, int]] = {}

    def is_open(self, instrument: Instrument, now_ns: int, outside_rth: bool) -> bool:
        if self.hours == "always":
            return True
        start_ns, end_ns = self._current_or_next(instrument, now_ns, outside_rth)
        return start_ns <= now_ns < end_ns

    def opens_ns(self, instrument: Instrument, now_ns: int, outside_rth: bool) -> int:
        """Return when an order may trade: 0 where it may now."""
        if self.hours == "always":
            return 0
        start_ns, _ = self._current_or_next(instrument, now_ns, outside_rth)
        return start_ns if start_ns > now_ns else 0

    def day_ends_ns(self, instrument: Instrument, now_ns: int, outside_rth: bool) -> int:
        """Return when a DAY order that is given now expires; 0: it does not."""
        if self.hours == "always":
            return 0
        return self._current_or_next(instrument, now_ns, outside_rth)[1]

    def text(self, instrument: Instrument, now_ns: int, *, liquid: bool) -> str:
        """Return the hours of the coming days as contract details tell them."""
        today = moment_of(now_ns).date()
        days = [today + number * _DAY for number in range(_DAYS_TOLD)]
        if self.hours == "always":
            return ";".join(f"{day:%Y%m%d}:0000-{day + _DAY:%Y%m%d}:0000" for day in days)
        return ";".join(_day_text(instrument, day, liquid=liquid) for day in days)

    def _current_or_next(self, instrument: Instrument, now_ns: int, outside_rth: bool) -> tuple[int, int]:
        key = instrument.sec_type, instrument.symbol, outside_rth
        kept = self._kept.get(key)
        if kept is not None and kept[0] <= now_ns < kept[1]:
            return kept
        day = moment_of(now_ns).date()
        for number in range(_DAYS_SEARCHED):
            session = session_of(instrument, day + number * _DAY, liquid=not outside_rth)
            if session is not None and ns_of(session[1]) > now_ns:
                self._kept[key] = ns_of(session[0]), ns_of(session[1])
                return self._kept[key]
        raise AssertionError("the market is closed for no longer than a few days")


def _day_text(instrument: Instrument, day: date, *, liquid: bool) -> str:
    session = session_of(instrument, day, liquid=liquid)
    if session is None:
        return f"{day:%Y%m%d}:CLOSED"
    return f"{session[0]:%Y%m%d:%H%M}-{session[1]:%Y%m%d:%H%M}"
