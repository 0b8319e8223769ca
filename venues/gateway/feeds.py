"""What goes on by itself once a client has asked: market data lines, real-time bars, bars kept up to date. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from venues.gateway import replies, reports
from venues.gateway.contracts import Instrument
from venues.gateway.faults import MESSAGE_TEXTS
from venues.gateway.history import Bar, bar_time
from venues.gateway.hours import moment_of
from venues.gateway.listing import Listing
from venues.gateway.matching import Quote
from venues.gateway.prices import Market, option_greeks
from venues.gateway.session import BarLine, Client, Line
from venues.gateway.wire import text_of

REAL_TIME_BAR_S = 5
MODEL_OPTION, DELAYED_MODEL_OPTION = 13, 83
_VOLUME = 1_200
"""Of a real-time bar: the book is endless, so no figure is truer than another."""
_S = 1_000_000_000


def price_of(quote: Quote, shown: str) -> Decimal:
    """Return the price of a quote that bars show."""
    return {"BID": quote.bid, "ASK": quote.ask, "MIDPOINT": quote.mid}.get(shown, quote.last)


def count_in(line: BarLine, px: Decimal, now_ns: int) -> bool:
    """Put a price into the running bar of a line; return True where that began a new bar."""
    start_s = now_ns // _S // line.size_s * line.size_s
    if line.running is None or line.start_s != start_s:
        line.start_s, line.running = start_s, (px, px, px, px)
        return True
    opened, high, low, _ = line.running
    line.running = opened, max(high, px), min(low, px), px
    return False


class Feeds:
    """Sends to the clients that subscribed; the caller says when prices change and time passes."""

    def __init__(self, market: Market, listing: Listing) -> None:
        self._market = market
        self._listing = listing

    def quoted(self, clients: Iterable[Client], con_id: int, quote: Quote, now_ns: int) -> None:
        """A price has changed: tell every line on it."""
        for client in clients:
            for req_id, line in client.market_data.items():
                if line.con_id == con_id:
                    self.send_quote(client, req_id, line, quote, now_ns)
            for req_id, kept in client.kept_bars.items():
                if kept.con_id == con_id:
                    count_in(kept, price_of(quote, kept.shown), now_ns)
                    client.send(_update(req_id, kept))
            for line5 in client.real_time_bars.values():
                if line5.con_id == con_id and line5.start_s == now_ns // _S // REAL_TIME_BAR_S * REAL_TIME_BAR_S:
                    count_in(line5, price_of(quote, line5.shown), now_ns)

    def tick(self, clients: Iterable[Client], now_ns: int) -> None:
        """Time has passed: send the real-time bars that are over."""
        start_s = now_ns // _S // REAL_TIME_BAR_S * REAL_TIME_BAR_S
        for client in clients:
            for req_id, line in client.real_time_bars.items():
                if line.start_s != start_s:
                    if line.running is not None and line.start_s:
                        client.send(_real_time_bar(req_id, line))
                    instrument = self._listing.known(line.con_id)
                    count_in(line, price_of(self._market.look_at(instrument, now_ns), line.shown), now_ns)

    def send_quote(self, client: Client, req_id: int, line: Line, quote: Quote, now_ns: int) -> None:
        if line.told == quote:
            return
        for fields in reports.quote_ticks(req_id, line.told, quote, delayed=line.delayed):
            client.send(fields)
        line.told = quote
        instrument = self._listing.known(line.con_id)
        if instrument.sec_type == "OPT":
            client.send(self._greeks(req_id, line, instrument, quote, now_ns))

    def _greeks(self, req_id: int, line: Line, instrument: Instrument, quote: Quote, now_ns: int) -> replies.Fields:
        under_px = self._market.quotes[instrument.under_con_id].mid
        kind = DELAYED_MODEL_OPTION if line.delayed else MODEL_OPTION
        return replies.option_computation(req_id, kind, option_greeks(instrument, quote, under_px, now_ns))

    def compete(self, clients: Iterable[Client]) -> list[tuple[Client, int, int, str]]:
        """Return error 10197 for every market data line."""
        text = MESSAGE_TEXTS[10197]
        return [(client, req_id, 10197, text) for client in clients for req_id in client.market_data]

    def in_use(self, clients: Iterable[Client]) -> set[int]:
        """Return the conIds that some client watches."""
        return {
            line.con_id
            for client in clients
            for lines in (client.market_data, client.real_time_bars, client.kept_bars)
            for line in lines.values()
        }


def _real_time_bar(req_id: int, line: BarLine) -> replies.Fields:
    assert line.running is not None, "a bar that is over has begun"
    opened, high, low, closed = line.running
    wap = ((high + low + closed) / 3).quantize(Decimal("0.001"))
    pxs = [text_of(px) for px in (opened, high, low, closed)]
    return ["50", "3", str(req_id), str(line.start_s), *pxs, str(_VOLUME), text_of(wap), "12"]


def _update(req_id: int, line: BarLine) -> replies.Fields:
    """historicalDataUpdate (90) of the running bar: count, time, open, close, high, low, average price, volume."""
    assert line.running is not None, "a price was just counted in"
    opened, high, low, closed = line.running
    wap = ((high + low + closed) / 3).quantize(Decimal("0.001"))
    start = moment_of(line.start_s * _S)
    bar = Bar(start, opened, high, low, closed, _VOLUME, wap, 12, line.size_s >= 86_400)
    pxs = [text_of(px) for px in (opened, closed, high, low)]
    return ["90", str(req_id), "12", bar_time(bar, line.format_date), *pxs, text_of(wap), str(_VOLUME)]
