"""The stocks that the paper gateway trades, and how a client's contract finds its stock.

conIds of the well-known symbols are IB's; the rest of a row is plausible. A symbol that is not in the list can be
traded too when the settings name it: it gets a conId of its own, derived from its letters, stable over restarts.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

ORDER_TYPES = "ACTIVETIM,ALLOC,AVGCOST,DAY,GTC,IOC,LMT,MKT,OCA,STP,STPLMT,WHATIF"
MARKET_RULE_ID = "26"


@dataclass(frozen=True, slots=True)
class Stock:
    """One row of the listing: what contract details tell and where its walk starts."""

    con_id: int
    symbol: str
    long_name: str
    primary_exchange: str
    trading_class: str
    industry: str
    start_px: Decimal
    min_tick: Decimal = Decimal("0.01")
    stock_type: str = "COMMON"


def _stock(con_id: int, symbol: str, name: str, primary: str, industry: str, px: str) -> Stock:
    trading_class = "NMS" if primary == "NASDAQ" else symbol
    kind = "ETF" if industry == "ETF" else "COMMON"
    return Stock(con_id, symbol, name, primary, trading_class, industry, Decimal(px), stock_type=kind)


LISTED: Mapping[str, Stock] = {
    stock.symbol: stock
    for stock in (
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
    )
}

DEFAULT_SYMBOLS = ("SPY", "QQQ", "AAPL", "MSFT", "NVDA", "AMD", "TSLA", "AMZN", "META", "IBM")


def stocks_of(symbols: Iterable[str]) -> dict[str, Stock]:
    """Return the stocks of these symbols, in order. Raises ValueError for a symbol that is not A to Z and dots."""
    found: dict[str, Stock] = {}
    for symbol in symbols:
        if not symbol.replace(".", "").isalpha() or not symbol.isascii() or not symbol.isupper():
            raise ValueError(f"not a stock symbol: {symbol!r} (capital letters and dots)")
        found[symbol] = LISTED.get(symbol) or _stock(
            900_000_000 + zlib.crc32(symbol.encode()) % 90_000_000, symbol, symbol, "NASDAQ", "Technology", "100.00"
        )
    return found


@dataclass(frozen=True, slots=True)
class Wanted:
    """The parts of a client's contract that choose a stock; an empty part does not matter."""

    con_id: int
    symbol: str
    sec_type: str
    exchange: str
    primary_exchange: str
    currency: str
    local_symbol: str


class Listing:
    """The stocks of one gateway, by conId and by symbol."""

    def __init__(self, stocks: Mapping[str, Stock]) -> None:
        self.by_symbol = dict(stocks)
        self.by_con_id = {stock.con_id: stock for stock in stocks.values()}

    def find(self, wanted: Wanted) -> Stock | None:
        """Return the stock, or None where IB answers error 200: unknown, or parts that contradict each other."""
        if wanted.con_id:
            stock = self.by_con_id.get(wanted.con_id)
        else:
            stock = self.by_symbol.get(wanted.symbol or wanted.local_symbol)
        if stock is None or wanted.sec_type not in ("", "STK") or wanted.currency not in ("", "USD"):
            return None
        if not wanted.con_id and wanted.sec_type == "":
            return None
        names = {"", stock.symbol}
        if wanted.symbol not in names or wanted.local_symbol not in names:
            return None
        if wanted.primary_exchange not in ("", stock.primary_exchange, "ISLAND"):
            return None
        return stock
