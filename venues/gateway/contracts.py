"""What the paper gateway lists: stocks, indices, and the classes of options and futures on them. Pure.

conIds of the well-known stocks and indices are IB's; the rest of a row is plausible. A stock that is not in the list
can be traded too when the settings name it: it gets a conId of its own, derived from its letters. The conId of an
option or future says all about it (`derivative_con_id`), so that a restart needs no table of what was once asked for.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

ORDER_TYPES = "ACTIVETIM,ALLOC,AVGCOST,DAY,GTC,GTD,IOC,LMT,MKT,OCA,STP,STPLMT,TRAIL,TRAILLMT,WHATIF"
MARKET_RULE_ID = "26"
ONE = Decimal(1)
_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Instrument:
    """One thing that is listed. `exchange` is a stock's primary exchange, else where it trades."""

    con_id: int
    symbol: str
    sec_type: str
    local_symbol: str
    trading_class: str
    exchange: str
    long_name: str
    start_px: Decimal = ONE
    """Where the price of a stock or index starts; of no meaning for what is derived from one."""
    industry: str = ""
    min_tick: Decimal = _CENT
    stock_type: str = ""
    multiplier: Decimal = ONE
    expiry: str = ""
    """yyyymmdd of the last trading day."""
    strike: Decimal = Decimal(0)
    right: str = ""
    """C or P."""
    under_con_id: int = 0

    @property
    def is_derived(self) -> bool:
        """True when its price follows from another's."""
        return self.under_con_id != 0

    @property
    def is_tradable(self) -> bool:
        return self.sec_type != "IND"

    @property
    def multiplier_text(self) -> str:
        return str(self.multiplier) if self.is_derived else ""


@dataclass(frozen=True, slots=True)
class DerivedClass:
    """A class of options (`step` > 0) or futures on one symbol. Its place in CLASSES is part of conIds: only append."""

    name: str
    symbol: str
    under: str
    sec_type: str
    exchange: str
    multiplier: Decimal
    min_tick: Decimal
    expiries: str
    """daily, weekly, monthly, quarterly: which days it lists; each includes those behind it."""
    step: Decimal = Decimal(0)
    volatility: float = 0.0
    """A year's, from which options are priced."""


def _options(name: str, under: str, expiries: str, step: str, volatility: float) -> DerivedClass:
    is_index = under == "SPX"
    tick, exchange = ("0.05", "CBOE") if is_index else ("0.01", "SMART")
    return DerivedClass(
        name, under, under, "OPT", exchange, Decimal(100), Decimal(tick), expiries, Decimal(step), volatility
    )


def _futures(name: str, under: str, multiplier: int) -> DerivedClass:
    return DerivedClass(name, name, under, "FUT", "CME", Decimal(multiplier), Decimal("0.25"), "quarterly")


CLASSES: tuple[DerivedClass, ...] = (
    _options("SPX", "SPX", "monthly", "5", 0.16),
    _options("SPXW", "SPX", "daily", "5", 0.16),
    _options("SPY", "SPY", "daily", "1", 0.16),
    _options("QQQ", "QQQ", "daily", "1", 0.20),
    _options("IWM", "IWM", "daily", "1", 0.22),
    *(
        _options(symbol, symbol, "weekly", "2.5", 0.35)
        for symbol in ("AAPL", "MSFT", "NVDA", "AMD", "TSLA", "AMZN", "META", "GOOGL", "IBM", "JPM", "XOM")
    ),
    _futures("ES", "SPX", 50),
    _futures("MES", "SPX", 5),
    _futures("NQ", "NDX", 20),
    _futures("MNQ", "NDX", 2),
)
CLASS_BY_NAME: Mapping[str, DerivedClass] = {listed.name: listed for listed in CLASSES}
MONTH_CODES = "FGHJKMNQUVXZ"

DERIVED_CON_ID = 1_000_000_000
_EPOCH = date(2015, 1, 1)
_DAYS, _STRIKES = 8192, 2048


def derivative_con_id(listed: DerivedClass, expiry: date, strike: Decimal, right: str) -> int:
    """Return a number below 2**31 from which class, expiry, strike and right can be read back."""
    days = (expiry - _EPOCH).days
    place = int(strike / listed.step) if listed.step else 0
    assert 0 <= days < _DAYS, f"an expiry from {_EPOCH} on, for {_DAYS} days"
    assert 0 <= place < _STRIKES, f"a strike below {_STRIKES} steps"
    return DERIVED_CON_ID + ((CLASSES.index(listed) * _DAYS + days) * _STRIKES + place) * 2 + (right == "P")


def derivative_of(con_id: int, under_con_id: int) -> Instrument:
    """Return the option or future that a conId means; the caller knows the conId of its underlying."""
    listed, expiry, strike, right = derivative_parts(con_id)
    return derivative(listed, expiry, strike, right, under_con_id)


def derivative_parts(con_id: int) -> tuple[DerivedClass, date, Decimal, str]:
    """Raises ValueError for a number that is not the conId of an option or future."""
    code = con_id - DERIVED_CON_ID
    place, is_put = divmod(code, 2)
    days, step = divmod(place, _STRIKES)
    index, day = divmod(days, _DAYS)
    if code < 0 or index >= len(CLASSES):
        raise ValueError(f"{con_id} is not the conId of an option or future")
    listed = CLASSES[index]
    right = ("P" if is_put else "C") if listed.step else ""
    return listed, _EPOCH + timedelta(days=day), listed.step * step, right


def derivative(listed: DerivedClass, expiry: date, strike: Decimal, right: str, under_con_id: int) -> Instrument:
    """Return one option or future."""
    if listed.step:
        local = f"{listed.name:<6}{expiry:%y%m%d}{right}{int(strike * 1000):08d}"
    else:
        local = f"{listed.name}{MONTH_CODES[expiry.month - 1]}{expiry.year % 10}"
    return Instrument(
        con_id=derivative_con_id(listed, expiry, strike, right),
        symbol=listed.symbol,
        sec_type=listed.sec_type,
        local_symbol=local,
        trading_class=listed.name,
        exchange=listed.exchange,
        long_name=LISTED[listed.under].long_name if listed.step else f"{listed.name} FUTURE ON {listed.under}",
        min_tick=listed.min_tick,
        multiplier=listed.multiplier,
        expiry=f"{expiry:%Y%m%d}",
        strike=strike,
        right=right,
        under_con_id=under_con_id,
    )


def _stock(con_id: int, symbol: str, name: str, primary: str, industry: str, px: str) -> Instrument:
    return Instrument(
        con_id=con_id,
        symbol=symbol,
        sec_type="STK",
        local_symbol=symbol,
        trading_class="NMS" if primary == "NASDAQ" else symbol,
        exchange=primary,
        long_name=name,
        start_px=Decimal(px),
        industry=industry,
        stock_type="ETF" if industry == "ETF" else "COMMON",
    )


def _index(con_id: int, symbol: str, name: str, exchange: str, px: str) -> Instrument:
    return Instrument(con_id, symbol, "IND", symbol, symbol, exchange, name, Decimal(px), industry="Indices")


LISTED: Mapping[str, Instrument] = {
    listed.symbol: listed
    for listed in (
        _stock(756733, "SPY", "SPDR S&P 500 ETF TRUST", "ARCA", "ETF", "500.00"),
        _stock(320227571, "QQQ", "INVESCO QQQ TRUST SERIES 1", "NASDAQ", "ETF", "430.00"),
        _stock(9579970, "IWM", "ISHARES RUSSELL 2000 ETF", "ARCA", "ETF", "205.00"),
        _stock(265598, "AAPL", "APPLE INC", "NASDAQ", "Technology", "190.00"),
        _stock(272093, "MSFT", "MICROSOFT CORP", "NASDAQ", "Technology", "415.00"),
        _stock(4815747, "NVDA", "NVIDIA CORP", "NASDAQ", "Technology", "120.00"),
        _stock(4391, "AMD", "ADVANCED MICRO DEVICES", "NASDAQ", "Technology", "160.00"),
        _stock(76792991, "TSLA", "TESLA INC", "NASDAQ", "Consumer, Cyclical", "250.00"),
        _stock(3691937, "AMZN", "AMAZON.COM INC", "NASDAQ", "Communications", "180.00"),
        _stock(107113386, "META", "META PLATFORMS INC-CLASS A", "NASDAQ", "Communications", "480.00"),
        _stock(208813719, "GOOGL", "ALPHABET INC-CL A", "NASDAQ", "Communications", "165.00"),
        _stock(8314, "IBM", "INTL BUSINESS MACHINES CORP", "NYSE", "Technology", "185.00"),
        _stock(1520593, "JPM", "JPMORGAN CHASE & CO", "NYSE", "Financial", "195.00"),
        _stock(13977, "XOM", "EXXON MOBIL CORP", "NYSE", "Energy", "112.00"),
        _index(416904, "SPX", "S&P 500 Stock Index", "CBOE", "6000.00"),
        _index(416843, "NDX", "NASDAQ 100 Stock Index", "NASDAQ", "21000.00"),
    )
}

DEFAULT_SYMBOLS = ("SPY", "QQQ", "AAPL", "MSFT", "NVDA", "AMD", "TSLA", "AMZN", "META", "IBM")
INDEX_SYMBOLS = ("SPX", "NDX")
"""Always there: futures and index options are priced from them."""


def spots_of(symbols: Iterable[str]) -> dict[str, Instrument]:
    """Return stocks and indices by symbol, in order. Raises ValueError for a symbol that is not A to Z and dots."""
    found: dict[str, Instrument] = {}
    for symbol in symbols:
        if not symbol.replace(".", "").isalpha() or not symbol.isascii() or not symbol.isupper():
            raise ValueError(f"symbols: {symbol!r} is no stock symbol (capital letters and dots)")
        found[symbol] = LISTED.get(symbol) or _stock(
            900_000_000 + zlib.crc32(symbol.encode()) % 90_000_000, symbol, symbol, "NASDAQ", "Technology", "100.00"
        )
    return found
