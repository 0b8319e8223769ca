"""Figures that clients ask for: account values, executions by filter, ticks of a quote. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal

from venues.gateway.account import Account, Position
from venues.gateway.asked import ReqExecutions
from venues.gateway.contracts import Instrument
from venues.gateway.hours import read_time_ns
from venues.gateway.matching import Quote
from venues.gateway.model import ZERO, Execution, Ticket, WhatIfTold
from venues.gateway.replies import Fields, tick_price, tick_size
from venues.gateway.wire import WireError, text_of

EXECUTIONS_REPORTED_NS = 24 * 3600 * 1_000_000_000
"""reqExecutions reports those of the last 24 h. A real gateway reports those since midnight."""
_CENT = Decimal("0.01")
_MARGIN_RATE = Decimal("0.25")
BID_SIZE = 300
ASK_SIZE = 400
LAST_SIZE = 100


def last_px(quotes: Mapping[int, Quote], con_id: int) -> Decimal:
    """Return the last price; 0 for what is no longer listed here."""
    quote = quotes.get(con_id)
    return quote.last if quote else ZERO


def worth(held: Position, quotes: Mapping[int, Quote]) -> Decimal:
    """Return what a position would bring at the last price, multiplied."""
    return held.qty * last_px(quotes, held.con_id) * held.multiplier


def profits(account: Account, quotes: Mapping[int, Quote]) -> tuple[Decimal, Decimal]:
    """Return unrealized and realized profit, commissions inside."""
    held = account.positions.values()
    unrealized = sum((worth(p, quotes) - p.cost for p in held if p.qty), ZERO)
    return unrealized, sum((p.realized_pnl for p in held), ZERO)


def what_if(
    account: Account,
    quotes: Mapping[int, Quote],
    ticket: Ticket,
    instrument: Instrument,
    px: Decimal,
    commission: Decimal,
) -> WhatIfTold:
    """Return what an order at this price would do to margin and equity: one that closes frees what is taken now."""
    values = {key: value for key, value, _ in account_values(account, quotes, "")}
    held = account.positions.get(instrument.con_id)
    before = held.qty if held else ZERO
    grown = abs(before + (ticket.qty if ticket.is_buy else -ticket.qty)) - abs(before)
    change = grown * px * instrument.multiplier * _MARGIN_RATE
    margin, equity = Decimal(values["InitMarginReq"]), Decimal(values["EquityWithLoanValue"])
    return WhatIfTold(ticket, margin, change, equity, commission)


def account_values(account: Account, quotes: Mapping[int, Quote], currency: str) -> list[tuple[str, str, str]]:
    """Return (key, value, currency) rows under IB's names."""
    held = [position for position in account.positions.values() if position.qty]
    values = {kind: sum((worth(p, quotes) for p in held if p.sec_type == kind), ZERO) for kind in ("STK", "OPT")}
    futures = sum((worth(p, quotes) - p.cost for p in held if p.sec_type == "FUT"), ZERO)
    gross = sum((abs(worth(p, quotes)) for p in held), ZERO)
    unrealized, realized = profits(account, quotes)
    cash = account.cash_told
    net = cash + values["STK"] + values["OPT"] + futures
    margin = gross * _MARGIN_RATE
    money = {
        "NetLiquidation": net,
        "TotalCashValue": cash,
        "SettledCash": cash,
        "CashBalance": cash,
        "TotalCashBalance": cash,
        "StockMarketValue": values["STK"],
        "OptionMarketValue": values["OPT"],
        "FuturesPNL": futures,
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


def _since_ns(text: str) -> int:
    """Raises WireError."""
    try:
        return read_time_ns(text)
    except ValueError as error:
        raise WireError(f"time: {error}") from error


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
            and request.sec_type in ("", fill.sec_type)
            and request.exchange in ("", "SMART", fill.exchange)
            and wants_buy in (None, fill.is_buy)
        ):
            yield fill


_LIVE_ROWS = (("bid", 1, 0, BID_SIZE), ("ask", 2, 3, ASK_SIZE), ("last", 4, 5, LAST_SIZE))
_DELAYED_ROWS = (("bid", 66, 69, BID_SIZE), ("ask", 67, 70, ASK_SIZE), ("last", 68, 71, LAST_SIZE))


def quote_ticks(req_id: int, before: Quote | None, now: Quote, *, delayed: bool = False) -> Iterator[Fields]:
    """Yield the tick messages that bring a client from one quote to the next."""
    for name, kind, size_kind, size in _DELAYED_ROWS if delayed else _LIVE_ROWS:
        px: Decimal = getattr(now, name)
        if before is None or getattr(before, name) != px:
            yield tick_price(req_id, kind, px, size)
            yield tick_size(req_id, size_kind, size)


def pnl_fields(req_id: int, account: Account, quotes: Mapping[int, Quote]) -> Fields:
    """pnl (94): daily (all there is), unrealized, realized."""
    unrealized, realized = profits(account, quotes)
    return ["94", str(req_id), text_of(unrealized + realized), text_of(unrealized), text_of(realized)]


def pnl_single_fields(req_id: int, held: Position, quotes: Mapping[int, Quote]) -> Fields:
    """pnlSingle (95) of one position: size, daily, unrealized, realized, value."""
    value = worth(held, quotes)
    unrealized = value - held.cost if held.qty else ZERO
    profit = text_of(unrealized + held.realized_pnl)
    return [
        "95",
        str(req_id),
        text_of(held.qty),
        profit,
        text_of(unrealized),
        text_of(held.realized_pnl),
        text_of(value),
    ]
