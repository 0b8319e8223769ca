"""Figures that clients ask for: account values, executions by filter, ticks of a quote. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from venues.gateway.account import Account
from venues.gateway.matching import Quote
from venues.gateway.model import ZERO, Execution
from venues.gateway.replies import EXCHANGE_ZONE, Fields, tick_price, tick_size
from venues.gateway.requests import ReqExecutions
from venues.gateway.wire import WireError, text_of

EXECUTIONS_REPORTED_NS = 24 * 3600 * 1_000_000_000
"""reqExecutions reports those of the last 24 h. A real gateway reports those since midnight."""
_CENT = Decimal("0.01")
_MARGIN_RATE = Decimal("0.25")
BID_SIZE = 300
ASK_SIZE = 400
LAST_SIZE = 100


def last_px(quotes: Mapping[int, Quote], con_id: int) -> Decimal:
    """Return the last price; 0 for a stock that is no longer listed here."""
    quote = quotes.get(con_id)
    return quote.last if quote else ZERO


def profits(account: Account, quotes: Mapping[int, Quote]) -> tuple[Decimal, Decimal]:
    """Return unrealized and realized profit, commissions inside."""
    held = account.positions.values()
    unrealized = sum((p.qty * last_px(quotes, p.con_id) - p.cost for p in held if p.qty), ZERO)
    return unrealized, sum((p.realized_pnl for p in held), ZERO)


def account_values(account: Account, quotes: Mapping[int, Quote], currency: str) -> list[tuple[str, str, str]]:
    """Return (key, value, currency) rows under IB's names."""
    held = [position for position in account.positions.values() if position.qty]
    worth = sum((p.qty * last_px(quotes, p.con_id) for p in held), ZERO)
    gross = sum((abs(p.qty) * last_px(quotes, p.con_id) for p in held), ZERO)
    unrealized, realized = profits(account, quotes)
    net = account.cash + worth
    margin = gross * _MARGIN_RATE
    money = {
        "NetLiquidation": net,
        "TotalCashValue": account.cash,
        "SettledCash": account.cash,
        "CashBalance": account.cash,
        "TotalCashBalance": account.cash,
        "StockMarketValue": worth,
        "GrossPositionValue": gross,
        "EquityWithLoanValue": net,
        "InitMarginReq": margin,
        "MaintMarginReq": margin,
        "AvailableFunds": net - margin,
        "ExcessLiquidity": net - margin,
        "BuyingPower": max(ZERO, (net - margin) * 4),
        "UnrealizedPnL": unrealized,
        "RealizedPnL": realized,
    }
    return [
        ("AccountReady", "true", ""),
        ("AccountType", "INDIVIDUAL", ""),
        ("Currency", currency, currency),
        *((key, format(value.quantize(_CENT), "f"), currency) for key, value in money.items()),
    ]


_TIME = re.compile(r"(\d{8})([- ])\s*(\d\d:\d\d:\d\d)(?: (\S+))?")


def _since_ns(text: str) -> int:
    """Read `yyyymmdd-hh:mm:ss` (UTC) or `yyyymmdd hh:mm:ss [zone]` (exchange's). Raises WireError."""
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError("no match")
        zone = ZoneInfo(match[4] or ("UTC" if match[2] == "-" else EXCHANGE_ZONE))
        moment = datetime.strptime(f"{match[1]} {match[3]}", "%Y%m%d %H:%M:%S").replace(tzinfo=zone)
    except (ValueError, ZoneInfoNotFoundError) as error:
        raise WireError(f"time: {text!r} is not yyyymmdd-hh:mm:ss") from error
    return int(moment.timestamp()) * 1_000_000_000


def executions_for(request: ReqExecutions, fills: Iterable[Execution], now_ns: int) -> Iterator[Execution]:
    """Yield the executions that a filter asks for, oldest first; an empty filter field does not matter."""
    since_ns = max(now_ns - EXECUTIONS_REPORTED_NS, _since_ns(request.time) if request.time else 0)
    wants_buy = {"BUY": True, "BOT": True, "SELL": False, "SLD": False}.get(request.side.upper())
    for fill in fills:
        if (
            fill.time_ns >= since_ns
            and request.client_id in (0, fill.client_id)
            and request.account in ("", fill.account)
            and request.symbol in ("", fill.symbol)
            and request.sec_type in ("", "STK")
            and request.exchange in ("", "SMART", fill.exchange)
            and wants_buy in (None, fill.is_buy)
        ):
            yield fill


def quote_ticks(req_id: int, before: Quote | None, now: Quote) -> Iterator[Fields]:
    """Yield the tick messages that bring a client from one quote to the next."""
    rows = (("bid", 1, 0, BID_SIZE), ("ask", 2, 3, ASK_SIZE), ("last", 4, 5, LAST_SIZE))
    for name, kind, size_kind, size in rows:
        px: Decimal = getattr(now, name)
        if before is None or getattr(before, name) != px:
            yield tick_price(req_id, kind, px, size)
            yield tick_size(req_id, size_kind, size)


def pnl_fields(req_id: int, account: Account, quotes: Mapping[int, Quote]) -> Fields:
    """pnl (94): daily (all there is), unrealized, realized."""
    unrealized, realized = profits(account, quotes)
    return ["94", str(req_id), text_of(unrealized + realized), text_of(unrealized), text_of(realized)]
