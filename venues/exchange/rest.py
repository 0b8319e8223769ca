"""The REST face: /api/v3 in the real forms, and /paper for those who run the exchange.

Forms: the exchange's spot REST documentation (market data endpoints, error codes), as of 2025.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web

from venues.exchange.api_error import ApiError, error_response, illegal, missing
from venues.exchange.connection import FrameAccount
from venues.exchange.exchange import Exchange, UnknownSymbolError
from venues.exchange.faults import Fault
from venues.exchange.frames import Row
from venues.exchange.limits import Refusal, WeightLimit
from venues.exchange.order_faults import OrderFault
from venues.exchange.sources import RecordedSource
from venues.exchange.state import OpportunityRecord

# Of the documentation, which allows letters of every script but small Latin ones.
_SYMBOL_RANGE: Final = "^[\\w\\-._&&[^a-z]]{1,50}$"
_SYMBOL: Final = re.compile(r"(?:(?![a-z])[\w\-.]){1,50}")
_DEPTH_LIMIT_DEFAULT: Final = 100
_DEPTH_LIMIT_MAX: Final = 5_000
_WEIGHT_INFO: Final = 20
_INFO_PARAMETERS: Final = ("symbol", "symbols", "permissions", "showPermissionSets", "symbolStatus")


class _ErrorBody(msgspec.Struct):
    code: int
    msg: str


class _BookTicker(msgspec.Struct, rename="camel"):
    symbol: str
    bid_price: str
    bid_qty: str
    ask_price: str
    ask_qty: str


class _Opportunities(msgspec.Struct):
    count: int
    closed: int
    interrupted: int
    standing: OpportunityRecord | None
    ledger: str


class _ConnectionStatus(msgspec.Struct):
    number: int
    streams: int
    frames_sent: int
    unread_bytes: int
    muted: bool


class _Frames(msgspec.Struct):
    """Where every frame went: `withheld` from a whole stream by cause, `late` waits to be reordered; by connection."""

    withheld: dict[str, dict[str, int]]
    late: dict[str, int]
    connections: list[FrameAccount]


class _Status(msgspec.Struct):
    source: str
    symbols: int
    quoted: int
    epoch: int
    last_update_id: int
    weight_used: int
    counters: dict[str, int]
    faults: dict[str, int]
    connections: list[_ConnectionStatus]
    recording: dict[str, int]


class _FaultApplied(msgspec.Struct):
    fault: str
    touched: int


class _Fault(msgspec.Struct):
    fault: str


class RestApi:
    """Handlers, and the middleware that charges, refuses and puts errors in form."""

    def __init__(
        self,
        exchange: Exchange,
        recording: RecordedSource | None,
        apply_order_fault: Callable[[OrderFault], int],
    ) -> None:
        self._exchange = exchange
        self._recording = recording
        self._apply_order_fault = apply_order_fault
        self.weight = WeightLimit(exchange.settings.weight_per_minute_max)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes; a symbol that no route could carry is percent-encoded UTF-8."""
        return [
            web.get("/api/v3/ping", self._charged(lambda _: 1, self._ping, ())),
            web.get("/api/v3/time", self._charged(lambda _: 1, self._time, ())),
            web.get(
                "/api/v3/exchangeInfo", self._charged(lambda _: _WEIGHT_INFO, self._exchange_info, _INFO_PARAMETERS)
            ),
            web.get(
                "/api/v3/ticker/bookTicker", self._charged(_ticker_weight, self._book_ticker, ("symbol", "symbols"))
            ),
            web.get("/api/v3/depth", self._charged(_depth_weight, self._depth, ("symbol", "limit"))),
            web.get("/paper/status", self._status),
            web.get("/paper/frames", self._frames),
            web.get("/paper/opportunities", self._opportunities),
            web.post("/paper/fault", self._fault),
            web.post("/paper/play", self._play),
        ]

    def refused(self) -> web.Response | None:
        """Return the answer that a fault puts in place of any, for requests and upgrades alike."""
        fault = self._exchange.faults.take_http_status()
        return None if fault is None else self.refusal_response(Refusal(fault.status, fault.retry_after_s))

    def refusal_response(self, refusal: Refusal) -> web.Response:
        """Return the answer to a client that asks too much: 429, or 418 when banned."""
        until_ms = self._exchange.now_ms() + refusal.retry_after_s * 1_000
        text = (
            f"Way too much request weight used; IP banned until {until_ms}. "
            "Please use WebSocket Streams for live updates to avoid bans."
            if refusal.status == 418
            else "Too much request weight used; current limit is "
            f"{self._exchange.settings.weight_per_minute_max} request weight per 1 MINUTE. "
            "Please use WebSocket Streams for live updates to avoid polling the API."
        )
        return _json(_ErrorBody(-1003, text), refusal.status, {"Retry-After": str(refusal.retry_after_s)})

    def _charged(
        self,
        weight_of: Callable[[web.Request], int],
        handler: Callable[[web.Request], bytes],
        parameters: tuple[str, ...],
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            self._exchange.hub.counters["requests"] += 1
            refused = self.refused()
            if refused is not None:
                return refused
            refusal = self.weight.spend(weight_of(request), time.time())
            if refusal is not None:
                self._exchange.hub.counters[f"requests_{refusal.status}"] += 1
                response = self.refusal_response(refusal)
            else:
                try:
                    _check_parameters(request, parameters)
                    response = web.Response(body=handler(request), content_type="application/json")
                except ApiError as error:
                    response = error_response(error)
            response.headers["X-MBX-USED-WEIGHT"] = response.headers["X-MBX-USED-WEIGHT-1M"] = str(self.weight.used)
            return response

        return handle

    def _ping(self, _request: web.Request) -> bytes:
        return b"{}"

    def _time(self, _request: web.Request) -> bytes:
        return b'{"serverTime":%d}' % self._exchange.now_ms()

    def _exchange_info(self, request: web.Request) -> bytes:
        exchange = self._exchange
        symbols = self._symbols_asked(request)
        settings = exchange.settings
        orders = (settings.trading.orders_per_10s_max, settings.trading.orders_per_day_max)
        return exchange.market.info_reply(symbols, exchange.now_ms(), settings.weight_per_minute_max, orders)

    def _book_ticker(self, request: web.Request) -> bytes:
        rows = self._exchange.rows
        symbols = self._symbols_asked(request)
        if "symbol" in request.query and symbols:
            return msgspec.json.encode(_ticker(symbols[0], rows[symbols[0]]))
        return msgspec.json.encode([_ticker(symbol, rows[symbol]) for symbol in symbols or rows])

    def _depth(self, request: web.Request) -> bytes:
        symbols = self._symbols_asked(request)
        if not symbols or "symbol" not in request.query:
            raise missing("symbol")
        return self._exchange.depth_reply(symbols[0], _depth_limit(request))

    def _symbols_asked(self, request: web.Request) -> list[str] | None:
        """Return the symbols of ?symbol= or ?symbols=[…], None where neither was sent. Raises ApiError."""
        query = request.query
        if "symbol" in query and "symbols" in query:
            raise ApiError(-1128, "Combination of optional parameters invalid.")
        if "symbol" in query:
            asked = [query["symbol"]]
        elif "symbols" in query:
            try:
                asked = msgspec.json.decode(query["symbols"], type=list[str])
            except msgspec.DecodeError:
                raise ApiError(-1135, "JSON sent for parameter 'symbols' is not valid") from None
            if len(set(asked)) != len(asked):
                raise ApiError(-1151, "Symbol is present multiple times in the list.")
        else:
            return None
        if not all(asked):
            raise ApiError(-1105, "Parameter 'symbol' was empty.")
        if any(_SYMBOL.fullmatch(symbol) is None for symbol in asked):
            raise illegal("symbols" if "symbols" in query else "symbol", _SYMBOL_RANGE)
        if any(symbol not in self._exchange.market.entries for symbol in asked):
            raise ApiError(-1121, "Invalid symbol.")
        return asked

    async def _status(self, _request: web.Request) -> web.Response:
        exchange, recording = self._exchange, self._recording
        played = recording.counters if recording else None
        return _json(
            _Status(
                source="recorded" if recording else "generated",
                symbols=len(exchange.market.entries),
                quoted=sum(row.update_id > 0 for row in exchange.rows.values()),
                epoch=exchange.state.epoch,
                last_update_id=exchange.state.last_update_id,
                weight_used=self.weight.used,
                counters=dict(exchange.hub.counters),
                faults=dict(exchange.faults.counters),
                connections=[
                    _ConnectionStatus(
                        one.number,
                        len(one.streams),
                        one.frames_sent,
                        one.unread_bytes,
                        one.is_mute,
                    )
                    for one in exchange.hub.connections.values()
                ],
                recording={
                    "frames": played.frames,
                    "depth_replies": played.depth_replies,
                    "lines_not_frames": played.lines_not_frames,
                    "ended": int(recording.has_ended),
                }
                if recording and played
                else {},
            )
        )

    async def _frames(self, _request: web.Request) -> web.Response:
        faults = self._exchange.faults
        withheld = {stream: dict(causes) for stream, causes in faults.withheld.items()}
        return _json(_Frames(withheld, faults.frames_late(), self._exchange.hub.accounts()))

    async def _opportunities(self, _request: web.Request) -> web.Response:
        ledger = self._exchange.ledger
        counts = ledger.counts
        return _json(
            _Opportunities(ledger.count, counts["closed"], counts["interrupted"], ledger.standing, str(ledger.path))
        )

    async def _fault(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            fault = msgspec.json.decode(body, type=Fault | OrderFault)
            if isinstance(fault, OrderFault):
                touched = self._apply_order_fault(fault)
            else:
                touched = self._exchange.apply(fault)
        except msgspec.DecodeError as error:
            return _json(_ErrorBody(-1130, f"Not a fault of the table: {error}"), 400)
        except UnknownSymbolError:
            return _json(_ErrorBody(-1121, "Invalid symbol."), 400)
        except ApiError as error:
            return error_response(error)
        return _json(_FaultApplied(msgspec.json.decode(body, type=_Fault).fault, touched))

    async def _play(self, _request: web.Request) -> web.Response:
        if self._recording is None:
            return _json(_ErrorBody(-1020, "Nothing recorded to play: prices are generated."), 400)
        self._recording.is_playing.set()
        return web.Response(body=b"{}", content_type="application/json")


def _ticker(symbol: str, row: Row) -> _BookTicker:
    return _BookTicker(symbol, row.bid, row.bid_qty, row.ask, row.ask_qty)


def _ticker_weight(request: web.Request) -> int:
    return 2 if "symbol" in request.query else 4


def _depth_limit(request: web.Request) -> int:
    text = request.query.get("limit", str(_DEPTH_LIMIT_DEFAULT))
    if not (text.isascii() and text.isdigit()):
        raise illegal("limit", "^[0-9]{1,20}$")
    if not int(text):
        raise ApiError(-1130, "Data sent for parameter 'limit' is not valid.")
    return min(int(text), _DEPTH_LIMIT_MAX)


def _check_parameters(request: web.Request, known: tuple[str, ...]) -> None:
    """Refuse what the endpoint does not take. Raises ApiError."""
    sent = [name for name, _ in request.query.items()]
    if len(set(sent)) != len(sent):
        raise ApiError(-1101, "Duplicate values for a parameter detected.")
    if len(sent) > len(known):
        raise ApiError(-1101, f"Too many parameters; expected '{len(known)}' and received '{len(sent)}'.")
    read = sum(name in known for name in sent)
    if read != len(sent):
        raise ApiError(
            -1104, f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{len(sent)}'."
        )


def _depth_weight(request: web.Request) -> int:
    try:
        limit = _depth_limit(request)
    except ApiError:
        return 1
    return 5 if limit <= 100 else 25 if limit <= 500 else 50 if limit <= 1000 else 250


def _json(body: msgspec.Struct, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, headers=headers, content_type="application/json")
