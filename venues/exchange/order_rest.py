"""The REST face of the account: orders, trades, balances, user stream. Signed as on the real exchange.

Forms: the exchange's spot REST documentation (trading, account and user data stream endpoints), as of 2025.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal

import msgspec
from aiohttp import web

from venues.exchange import order_forms
from venues.exchange.api_error import ApiError, error_response, illegal, missing
from venues.exchange.commission import DISCOUNT_ASSET
from venues.exchange.desk import Desk
from venues.exchange.limits import Refusal, WeightLimit
from venues.exchange.order_checks import NEW_ORDER_FIELDS, NewOrder, client_order_id, read_new_order
from venues.exchange.order_faults import (
    How,
    LateAnswer,
    LateOrder,
    LostAnswer,
    OrderStatus,
    PartialFill,
    RejectOrders,
)
from venues.exchange.signing import KEY_HEADER, check_key, check_signed, parameters
from venues.exchange.trading import Step

Params = dict[str, str]
Security = Literal["signed", "key"]
Handler = Callable[[web.Request, Params], Awaitable[web.Response]]

_ROWS_DEFAULT: Final = 500
_ROWS_MAX: Final = 1_000
_SILENT_S_MAX: Final = 120.0
_ORDER_KEYS: Final = frozenset({"symbol", "orderId", "origClientOrderId"})


class OrderApi:
    """Handlers. `refused` is the answer that a fault puts in place of any, `refusal_response` the form of a refusal."""

    def __init__(
        self,
        desk: Desk,
        weight: WeightLimit,
        refused: Callable[[], web.Response | None],
        refusal_response: Callable[[Refusal], web.Response],
    ) -> None:
        self._desk, self._weight = desk, weight
        self._refused, self._refusal_response = refused, refusal_response
        self._late: set[asyncio.Task[None]] = set()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        order, stream = "/api/v3/order", "/api/v3/userDataStream"
        return [
            web.post(order, self._about_orders(1, self._place)),
            web.post(order + "/test", self._about_orders(1, self._test)),
            web.get(order, self._about_orders(4, self._get)),
            web.delete(order, self._about_orders(1, self._cancel)),
            web.get("/api/v3/openOrders", self._about_orders(6, self._open_orders)),
            web.delete("/api/v3/openOrders", self._about_orders(1, self._cancel_all)),
            web.get("/api/v3/allOrders", self._about_orders(20, self._all_orders)),
            web.get("/api/v3/myTrades", self._about_orders(20, self._my_trades)),
            web.get("/api/v3/account", self._guarded(20, "signed", self._account)),
            web.get("/api/v3/account/commission", self._guarded(20, "signed", self._commission)),
            web.post(stream, self._guarded(2, "key", self._open_stream)),
            web.put(stream, self._guarded(2, "key", self._keep_stream)),
            web.delete(stream, self._guarded(2, "key", self._close_stream)),
            web.post("/paper/transfer", self._transfer),
        ]

    # ---- what stands before every handler

    def _about_orders(self, weight: int, handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request, params: Params) -> web.Response:
            fault = self._desk.faults.strike(OrderStatus)
            if fault is not None:
                return self._refusal_response(Refusal(fault.status, fault.retry_after_s))
            return await handler(request, params)

        return self._guarded(weight, "signed", handle)

    def _guarded(
        self, weight: int, security: Security, handler: Handler
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            exchange = self._desk.exchange
            exchange.hub.counters["requests"] += 1
            if (refused := self._refused()) is not None:
                return refused
            refusal = self._weight.spend(weight, exchange.now_ms() / 1e3)
            if refusal is not None:
                exchange.hub.counters[f"requests_{refusal.status}"] += 1
                response = self._refusal_response(refusal)
            else:
                try:
                    response = await handler(request, await self._admitted(request, security))
                except ApiError as error:
                    exchange.hub.counters["requests_in_error"] += 1
                    response = error_response(error)
            response.headers["X-MBX-USED-WEIGHT"] = response.headers["X-MBX-USED-WEIGHT-1M"] = str(self._weight.used)
            return response

        return handle

    async def _admitted(self, request: web.Request, security: Security) -> Params:
        """Return the parameters of a request that may be answered. Raises ApiError."""
        check_key(self._desk.key, request.headers.get(KEY_HEADER))
        query = request.raw_path.partition("?")[2]
        try:
            body = (await request.read()).decode()
        except UnicodeDecodeError:
            raise ApiError(-1100, "Illegal characters found in a parameter.") from None
        if security == "key":
            return parameters(query, body)
        return check_signed(self._desk.key, query, body, self._desk.exchange.now_ms())

    # ---- orders

    async def _place(self, request: web.Request, params: Params) -> web.Response:
        desk = self._desk
        now_s = desk.exchange.now_ms() / 1e3
        new = self._new_order(params)
        desk.limit.check(now_s)
        if (rejected := desk.faults.strike(RejectOrders)) is not None:
            raise ApiError(rejected.code, rejected.msg)
        if (late := desk.faults.strike(LateOrder)) is not None:
            desk.trading.check(new)
            self._place_later(new, late.seconds)
            return await self._lost(request, late.how)
        lost = desk.faults.strike(LostAnswer)
        if lost is not None and not lost.placed:
            return await self._lost(request, lost.how)
        partial = desk.faults.strike(PartialFill)
        steps = desk.trading.place(new, partial.percent if partial is not None else 100)
        desk.limit.count(now_s)
        if lost is not None:
            return await self._lost(request, lost.how)
        if (slow := desk.faults.strike(LateAnswer)) is not None:
            await asyncio.sleep(slow.seconds)
        return _json(order_forms.placed(steps, new.response_type), desk.limit.headers(now_s))

    async def _test(self, _request: web.Request, params: Params) -> web.Response:
        self._desk.trading.check(self._new_order(params))
        return _json(b"{}")

    def _new_order(self, params: Params) -> NewOrder:
        _read_all(params, NEW_ORDER_FIELDS)
        return read_new_order(params, self._desk.trading.rules(_symbol(params)))

    def _place_later(self, new: NewOrder, seconds: float) -> None:
        async def place() -> None:
            await asyncio.sleep(seconds)
            try:
                self._desk.trading.place(new)
            except ApiError:
                self._desk.exchange.hub.counters["late_orders_refused"] += 1

        task = asyncio.get_running_loop().create_task(place(), name="late order")
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _lost(self, request: web.Request, how: How) -> web.Response:
        if how == "status_504":
            text = "Timeout waiting for response from backend server. Send status unknown; execution status unknown."
            raise ApiError(-1007, text, 504)
        if how == "silent":
            loop = asyncio.get_running_loop()
            until_s = loop.time() + _SILENT_S_MAX
            while request.transport is not None and loop.time() < until_s:
                await asyncio.sleep(0.05)
        if isinstance(request.transport, asyncio.Transport):
            request.transport.abort()
        return web.Response(status=504)

    async def _get(self, _request: web.Request, params: Params) -> web.Response:
        _read_all(params, _ORDER_KEYS)
        return _json(order_forms.order(self._desk.trading.get(*_order_named(params))))

    async def _cancel(self, _request: web.Request, params: Params) -> web.Response:
        _read_all(params, _ORDER_KEYS | {"newClientOrderId"})
        cancel_id = client_order_id(params, "newClientOrderId")
        return _json(order_forms.cancelled(self._desk.trading.cancel(*_order_named(params), cancel_id)))

    async def _cancel_all(self, _request: web.Request, params: Params) -> web.Response:
        _read_all(params, frozenset({"symbol"}))
        steps: list[Step] = self._desk.trading.cancel_all(_symbol(params))
        return _json(order_forms.array(order_forms.cancelled(step) for step in steps))

    async def _open_orders(self, _request: web.Request, params: Params) -> web.Response:
        _read_all(params, frozenset({"symbol"}))
        trading = self._desk.trading
        if "symbol" in params:
            trading.rules(_symbol(params))
            found = list(trading.state.open.get(params["symbol"], {}).values())
        else:
            found = [one for of_symbol in trading.state.open.values() for one in of_symbol.values()]
        return _json(order_forms.array(order_forms.order(one) for one in found))

    async def _all_orders(self, _request: web.Request, params: Params) -> web.Response:
        _read_all(params, frozenset({"symbol", "orderId", "startTime", "endTime", "limit"}))
        self._desk.trading.rules(_symbol(params))
        since, first_ms, last_ms, limit = _range(params, "orderId")
        found = [
            one
            for one in self._desk.trading.state.orders_of(params["symbol"])
            if one.order_id >= since and first_ms <= one.created_ms <= last_ms
        ]
        rows = found[:limit] if since or first_ms else found[-limit:]
        return _json(order_forms.array(order_forms.order(one) for one in rows))

    async def _my_trades(self, _request: web.Request, params: Params) -> web.Response:
        _read_all(params, frozenset({"symbol", "orderId", "startTime", "endTime", "fromId", "limit"}))
        self._desk.trading.rules(_symbol(params))
        since, first_ms, last_ms, limit = _range(params, "fromId")
        order_id = _number(params, "orderId", 0)
        found = [
            one
            for one in self._desk.trading.state.trades.get(params["symbol"], {}).values()
            if one.trade_id >= since and first_ms <= one.time_ms <= last_ms and order_id in (0, one.order_id)
        ]
        rows = found[:limit] if since or first_ms or order_id else found[-limit:]
        return _json(order_forms.array(order_forms.trade(one) for one in rows))

    # ---- the account

    async def _account(self, _request: web.Request, params: Params) -> web.Response:
        _read_all(params, frozenset({"omitZeroBalances"}))
        state = self._desk.trading.state
        omit_zero = params.get("omitZeroBalances", "false").lower() == "true"
        balances = state.balances.values()
        return _json(order_forms.account(balances, self._desk.plan.rate, state.updated_ms, omit_zero=omit_zero))

    async def _commission(self, _request: web.Request, params: Params) -> web.Response:
        _read_all(params, frozenset({"symbol"}))
        symbol, plan = _symbol(params), self._desk.plan
        self._desk.trading.rules(symbol)
        return _json(order_forms.commission(symbol, plan.of(symbol), plan.discount_pays, DISCOUNT_ASSET, plan.discount))

    async def _open_stream(self, _request: web.Request, _params: Params) -> web.Response:
        return _json(msgspec.json.encode({"listenKey": self._desk.stream.open()}))

    async def _keep_stream(self, _request: web.Request, params: Params) -> web.Response:
        self._desk.stream.keep(_listen_key(params))
        return _json(b"{}")

    async def _close_stream(self, _request: web.Request, params: Params) -> web.Response:
        self._desk.stream.close(_listen_key(params))
        return _json(b"{}")

    async def _transfer(self, request: web.Request) -> web.Response:
        """A deposit, or with a negative amount a withdrawal: for who runs the exchange, and not signed."""
        try:
            asked = msgspec.json.decode(await request.read(), type=_Transfer)
            whole, _, part = asked.amount.lstrip("-").partition(".")
            amount = int(whole) * 10**8 + int(part.ljust(8, "0"))
        except (msgspec.DecodeError, ValueError):
            return error_response(illegal("amount", r"^-?[0-9]{1,10}(\.[0-9]{1,8})?$"))
        try:
            after = self._desk.trading.transfer(asked.asset, -amount if asked.amount.startswith("-") else amount)
        except ApiError as error:
            return error_response(error)
        return _json(msgspec.json.encode(after))


class _Transfer(msgspec.Struct, forbid_unknown_fields=True):
    asset: str
    amount: str


def _json(body: bytes, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers=headers)


def _read_all(params: Params, known: frozenset[str]) -> None:
    """Raise ApiError where something was sent that nobody reads."""
    unread = params.keys() - known
    if unread:
        read = len(params) - len(unread)
        raise ApiError(
            -1104, f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{len(params)}'."
        )


def _symbol(params: Params) -> str:
    if not params.get("symbol"):
        raise missing("symbol")
    return params["symbol"]


def _listen_key(params: Params) -> str:
    if not params.get("listenKey"):
        raise missing("listenKey")
    return params["listenKey"]


def _order_named(params: Params) -> tuple[str, int, str]:
    symbol = _symbol(params)
    order_id = _number(params, "orderId", 0)
    name = client_order_id(params, "origClientOrderId")
    if not order_id and not name:
        raise ApiError(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
    return symbol, order_id, name


def _range(params: Params, first_id: str) -> tuple[int, int, int, int]:
    """Return first id, first and last millisecond, and how many rows."""
    limit = min(_number(params, "limit", _ROWS_DEFAULT), _ROWS_MAX)
    return _number(params, first_id, 0), _number(params, "startTime", 0), _number(params, "endTime", 2**62), limit


def _number(params: Params, name: str, default: int) -> int:
    text = params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise illegal(name, "^[0-9]{1,20}$")
    return int(text)
