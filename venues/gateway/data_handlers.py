"""A client's question about contracts, prices and bars, answered. No I/O; replies go to the outbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time
from typing import cast

from venues.gateway import replies
from venues.gateway.asked import (
    ReqContractDetails,
    ReqEmptyList,
    ReqHeadTimestamp,
    ReqHistoricalData,
    ReqMarketRule,
    ReqMatchingSymbols,
    ReqMktData,
    ReqOptionParams,
    ReqRealTimeBars,
    Request,
    SetMarketDataType,
)
from venues.gateway.checks import NO_CONTRACT
from venues.gateway.contracts import CLASSES, MARKET_RULE_ID, Instrument
from venues.gateway.core import GatewayCore
from venues.gateway.faults import MESSAGE_TEXTS
from venues.gateway.feeds import REAL_TIME_BAR_S
from venues.gateway.history import BAR_SIZES_S, HEAD, SHOWN, HistoryError, duration_of, spans
from venues.gateway.hours import EXCHANGE_ZONE, ZONE, moment_of, read_time_ns, session_of
from venues.gateway.session import BarLine, Client, Line
from venues.gateway.wire import text_of

MARKET_DATA_MAX = 100
"""Lines of market data a session may hold, as IB allows by default; error 101 beyond it."""
BAR_LINES_MAX = 50
HISTORY_S, HISTORY_MAX = 600, 60
"""More questions for bars of 30 s and less, or for real-time bars, within ten minutes are a pacing violation."""
SMALL_BAR_S_MAX = 30
_HMDS = "Historical Market Data Service error message:"
_S = 1_000_000_000
_OfContract = ReqMktData | ReqRealTimeBars | ReqHistoricalData | ReqHeadTimestamp
Handler = Callable[[GatewayCore, Client, Request], None]


def _found(core: GatewayCore, client: Client, request: _OfContract) -> Instrument | None:
    """Return the one instrument that is meant; error 200 where there is none."""
    instrument = core.find(request.wanted)
    if instrument is None:
        core.send_error(client, request.req_id, *NO_CONTRACT)
    return instrument


# Contracts


def _contract_details(core: GatewayCore, client: Client, request: ReqContractDetails) -> None:
    found = list(core.listed.matches(request.wanted, core.trade_date()))
    if not found:
        core.send_error(client, request.req_id, *NO_CONTRACT)
        return
    now_ns = core.clock_ns()
    hours: dict[tuple[str, str], tuple[str, str]] = {}
    for one in found:
        key = one.sec_type, one.symbol
        if key not in hours:
            table = core.timetable
            hours[key] = table.text(one, now_ns, liquid=False), table.text(one, now_ns, liquid=True)
        under = core.listing.get(one.under_con_id) if one.is_derived else None
        client.send(replies.contract_details(client.version, one, request.req_id, hours[key], under))
    client.send(["52", "1", str(request.req_id)])


def _option_params(core: GatewayCore, client: Client, request: ReqOptionParams) -> None:
    for listed, expiries, strikes in core.listed.classes_on(request.under_con_id, core.trade_date()):
        for exchange in dict.fromkeys(["SMART", listed.exchange, "CBOE"]):
            client.send(
                replies.option_params(request.req_id, exchange, request.under_con_id, listed, expiries, strikes)
            )
    client.send(["76", str(request.req_id)])


def _matching_symbols(core: GatewayCore, client: Client, request: ReqMatchingSymbols) -> None:
    found = core.listed.samples(request.pattern)
    client.send(replies.symbol_samples(client.version, request.req_id, found))


def _market_rule(core: GatewayCore, client: Client, request: ReqMarketRule) -> None:
    ticks = sorted({text_of(listed.min_tick) for listed in CLASSES})
    if str(request.rule_id) != MARKET_RULE_ID:
        core.send_error(client, -1, 321, f"Error validating request.-'bF' : cause - no market rule {request.rule_id}")
        return
    client.send(["93", MARKET_RULE_ID, "1", "0", ticks[0]])


def _empty_list(core: GatewayCore, client: Client, request: ReqEmptyList) -> None:
    client.send([str(request.message_id), *request.ids, "0"])


# Market data


def _market_data_type(core: GatewayCore, client: Client, request: SetMarketDataType) -> None:
    client.data_type = request.kind if request.kind in (1, 2, 3, 4) else 1


def _market_data(core: GatewayCore, client: Client, request: ReqMktData) -> None:
    req_id, instrument = request.req_id, _found(core, client, request)
    if instrument is None:
        return
    if len(client.market_data) >= MARKET_DATA_MAX and req_id not in client.market_data:
        core.send_error(client, req_id, 101, "Max number of tickers has been reached")
        return
    if core.faults.competing_session:
        core.send_error(client, req_id, 10197, MESSAGE_TEXTS[10197])
        return
    line = _line(core, client, req_id, instrument)
    if line is None:
        return
    client.send(["58", "1", str(req_id), "3" if line.delayed else "1"])
    client.send(["81", str(req_id), text_of(instrument.min_tick), "9c0001", "3"])
    _send_day(core, client, req_id, line, instrument)
    if request.snapshot:
        client.send(["57", "1", str(req_id)])
    else:
        client.market_data[req_id] = line


def _line(core: GatewayCore, client: Client, req_id: int, instrument: Instrument) -> Line | None:
    """Return a line by what the account has subscribed to and the client asks for; tell why there is none."""
    subscribed = core.settings.manners.market_data
    if subscribed == "live":
        return Line(instrument.con_id)
    if subscribed == "delayed" and client.data_type in (3, 4):
        text = "Requested market data is not subscribed. Displaying delayed market data."
        core.send_error(client, req_id, 10167, text)
        return Line(instrument.con_id, delayed=True)
    text = "Requested market data is not subscribed."
    if subscribed == "delayed":
        text += " Delayed market data is available."
    core.send_error(client, req_id, 354, text)
    return None


def _send_day(core: GatewayCore, client: Client, req_id: int, line: Line, instrument: Instrument) -> None:
    market, con_id = core.market, instrument.con_id
    kinds = (76, 72, 73, 75) if line.delayed else (14, 6, 7, 9)
    core.feeds.send_quote(client, req_id, line, market.quotes[con_id], core.clock_ns())
    pxs = market.opens[con_id], market.highs[con_id], market.lows[con_id], market.opens[con_id]
    for kind, px in zip(kinds, pxs, strict=True):
        client.send(replies.tick_price(req_id, kind, px, 0))
    client.send(["46", "6", str(req_id), "88" if line.delayed else "45", str(core.clock_ns() // _S)])


# Bars


def _is_paced(core: GatewayCore, client: Client) -> bool:
    """Count a question for small bars; True when there were too many of them."""
    now_ns = core.clock_ns()
    client.history_asked_ns = [at_ns for at_ns in client.history_asked_ns if now_ns - at_ns < HISTORY_S * _S]
    if core.faults.pacing or len(client.history_asked_ns) >= HISTORY_MAX:
        return True
    client.history_asked_ns.append(now_ns)
    return False


def _historical_data(core: GatewayCore, client: Client, request: ReqHistoricalData) -> None:
    instrument = _found(core, client, request)
    if instrument is None:
        return
    size_s = BAR_SIZES_S.get(request.bar_size, 0)
    if core.faults.pacing or (0 < size_s <= SMALL_BAR_S_MAX and _is_paced(core, client)):
        core.send_error(client, request.req_id, 162, MESSAGE_TEXTS[162])
        return
    try:
        _answer_bars(core, client, request, instrument, size_s)
    except HistoryError as problem:
        core.send_error(client, request.req_id, 321, f"Error validating request.-'bF' : cause - {problem}")


def _answer_bars(
    core: GatewayCore, client: Client, request: ReqHistoricalData, instrument: Instrument, size_s: int
) -> None:
    end = _end_of(core, request)
    if request.shown == "SCHEDULE":
        _schedule(client, request, instrument, end)
        return
    if not size_s:
        raise HistoryError(f"bar size {request.bar_size!r} is not one of {', '.join(BAR_SIZES_S)}")
    if request.shown not in SHOWN:
        core.send_error(client, request.req_id, 162, f"{_HMDS}No historical market data for {request.shown}")
        return
    if request.keep_up_to_date and (request.end or size_s < REAL_TIME_BAR_S):
        raise HistoryError("bars that are kept up to date end now and have at least 5 secs")
    found = spans(instrument, end, duration_of(request.duration), size_s, liquid=request.use_rth)
    if not found:
        core.send_error(client, request.req_id, 162, f"{_HMDS}HMDS query returned no data")
        return
    bars = [
        core.history.bar(instrument, start, min(stop, end), request.shown, is_day=size_s >= 86_400)
        for start, stop in found
    ]
    told = [f"{moment:%Y%m%d %H:%M:%S} {EXCHANGE_ZONE}" for moment in (found[0][0], end)]
    client.send(replies.historical_data(request.req_id, told[0], told[1], bars, request.format_date))
    if request.keep_up_to_date:
        _keep(core, client, request, instrument, size_s)


def _end_of(core: GatewayCore, request: ReqHistoricalData) -> datetime:
    if not request.end:
        return moment_of(core.clock_ns())
    try:
        return moment_of(min(read_time_ns(request.end), core.clock_ns()))
    except ValueError as problem:
        raise HistoryError(f"end time {problem}") from problem


def _keep(core: GatewayCore, client: Client, request: ReqHistoricalData, instrument: Instrument, size_s: int) -> None:
    if len(client.kept_bars) >= BAR_LINES_MAX and request.req_id not in client.kept_bars:
        core.send_error(client, request.req_id, 162, f"{_HMDS}too many requests that are kept up to date")
        return
    line = BarLine(instrument.con_id, size_s, request.shown, request.format_date)
    client.kept_bars[request.req_id] = line


def _schedule(client: Client, request: ReqHistoricalData, instrument: Instrument, end: datetime) -> None:
    """historicalSchedule (106): sessions by date, oldest first."""
    days = spans(instrument, end, duration_of(request.duration), 86_400, liquid=request.use_rth)
    rows = [(f"{start:%Y%m%d-%H:%M:%S}", f"{stop:%Y%m%d-%H:%M:%S}", f"{stop:%Y%m%d}") for start, stop in days]
    if not rows:
        raise HistoryError("no session in that time")
    fields = ["106", str(request.req_id), rows[0][0], rows[-1][1], EXCHANGE_ZONE, str(len(rows))]
    client.send([*fields, *(text for row in rows for text in row)])


def _head_timestamp(core: GatewayCore, client: Client, request: ReqHeadTimestamp) -> None:
    instrument = _found(core, client, request)
    if instrument is None:
        return
    session = session_of(instrument, HEAD, liquid=True)
    first = session[0] if session else datetime.combine(HEAD, time(9, 30), ZONE)
    epoch = int(first.timestamp())
    text = str(epoch) if request.format_date == 2 else time_text_utc(epoch)
    client.send(["88", str(request.req_id), text])


def time_text_utc(epoch_s: int) -> str:
    """`yyyymmdd-hh:mm:ss`, which is UTC."""
    return f"{datetime.fromtimestamp(epoch_s, UTC):%Y%m%d-%H:%M:%S}"


def _real_time_bars(core: GatewayCore, client: Client, request: ReqRealTimeBars) -> None:
    instrument = _found(core, client, request)
    if instrument is None:
        return
    if _is_paced(core, client) or len(client.real_time_bars) >= BAR_LINES_MAX:
        core.send_error(client, request.req_id, 420, MESSAGE_TEXTS[420])
        return
    if request.shown not in ("TRADES", "BID", "ASK", "MIDPOINT"):
        core.send_error(client, request.req_id, 321, f"Error validating request.-'bF' : cause - {request.shown!r}")
        return
    client.real_time_bars[request.req_id] = BarLine(instrument.con_id, REAL_TIME_BAR_S, request.shown)


HANDLERS = cast(
    "Mapping[type[Request], Handler]",
    {
        ReqContractDetails: _contract_details,
        ReqOptionParams: _option_params,
        ReqMatchingSymbols: _matching_symbols,
        ReqMarketRule: _market_rule,
        ReqEmptyList: _empty_list,
        SetMarketDataType: _market_data_type,
        ReqMktData: _market_data,
        ReqHistoricalData: _historical_data,
        ReqHeadTimestamp: _head_timestamp,
        ReqRealTimeBars: _real_time_bars,
    },
)
