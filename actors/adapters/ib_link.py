"""One connection to an IB gateway: a new `IB`, opened once, observed raw, closed for good.

What arrives is handed to an observer as messages, on the loop's thread. Of the library only its wire code, its
decoding and its request futures are used.
Import this module on the main thread, before any thread: eventkit asks for the main thread's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from ib_insync import IB
from ib_insync.client import Client
from ib_insync.contract import Contract, ContractDetails, Stock
from ib_insync.objects import ExecutionFilter, PriceIncrement
from ib_insync.order import Order
from ib_insync.wrapper import RequestError

from actors.adapters.ib_pacing import Pacer
from actors.adapters.ib_wrapper import Guard, Observer, RawWrapper

REQUEST_IDS_FROM = 2_000_000_000
"""Request ids and order ids share one number space in error messages; ours are kept apart from any order id."""

CLIENT_ID_IN_USE = 326
FLUSH_S_MAX = 5.0


class LinkLost(ConnectionError):
    """The connection is over, or never came; the text says why."""


class Unanswered(TimeoutError):
    """A request got no answer in time; names it."""


class Link:
    """Use it once: `connect`, requests and writes, `close`. On the loop's thread only.

    Every callback of the library goes through `guard`, because the library swallows what they raise.
    """

    def __init__(self, observer: Observer, guard: Guard, messages_per_s_max: int) -> None:
        self.session_id = ""
        """Put on reports; the owner sets it when it opens a session, and again when it opens the next."""
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done as soon as the connection is known to be over, with the reason."""
        self.next_order_id = 0
        self.accounts: tuple[str, ...] = ()
        self.pacer = Pacer(messages_per_s_max)
        self.ib = IB()
        self._wrapper = RawWrapper(self.ib, self, observer, guard)
        self._client = Client(self._wrapper)
        self._client.MaxRequests = 0  # its throttle would queue orders, and lose them at a disconnect
        self._client.conn.disconnected += guard(self._disconnected)
        self.ib.wrapper, self.ib.client = self._wrapper, self._client
        self._flushed = asyncio.Event()
        self._last_error = ""

    async def connect(self, host: str, port: int, client_id: int, seconds_max: float) -> None:
        """Open the socket and the API. Raises LinkLost with a clear reason, within `seconds_max` or so."""
        self._wrapper.clientId = client_id
        opening = asyncio.ensure_future(self._client.connectAsync(host, port, client_id, seconds_max))
        try:
            waited: set[asyncio.Future[Any]] = {opening, self.lost}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if self.lost.done():
                raise LinkLost(self.lost.result())
            opening.result()
        except TimeoutError:
            raise LinkLost(f"{host}:{port} did not answer within {seconds_max} s{self._last_error}") from None
        except OSError as error:
            raise LinkLost(str(error)) from error
        finally:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
        self._client.updateReqId(REQUEST_IDS_FROM)
        self.accounts = tuple(self._client.getAccounts())
        connection, transport = self._client.conn, self._client.conn.transport
        transport.set_write_buffer_limits(high=0)
        connection.pause_writing = self._flushed.clear
        connection.resume_writing = self._flushed.set
        self._flushed.set()

    def usable(self) -> bool:
        """False as soon as the library or the socket is known to be closed. True proves nothing."""
        transport = self._client.conn.transport
        return not self.lost.done() and self._client.isReady() and transport is not None and not transport.is_closing()

    def close(self) -> None:
        """Drop the socket at once. Idempotent."""
        self.lose("closed by us")
        transport = self._client.conn.transport
        with contextlib.suppress(OSError):  # shutting down a socket that is gone already
            self._client.disconnect()
        if transport is not None:
            transport.abort()

    def lose(self, reason: str) -> None:
        """Declare the connection over; the first reason stands."""
        if not self.lost.done():
            self.lost.set_result(reason)

    # ---- requests: each raises LinkLost, Unanswered, or RequestError where the gateway refused it

    async def current_time(self, seconds_max: float) -> None:
        """Ask for the time: only an answer proves that the socket is alive both ways."""
        await self._ask("current time", self.ib.reqCurrentTimeAsync, seconds_max)

    async def order_ids(self, seconds_max: float) -> int:
        """Ask for the next valid order id."""

        def send() -> asyncio.Future[object]:
            future: asyncio.Future[object] = self._wrapper.startReq("nextValidId")
            self._client.reqIds(1)
            return future

        await self._ask("next order id", send, seconds_max)
        return self.next_order_id

    async def open_orders(self, seconds_max: float) -> None:
        """All clients' open orders; they come as reports before this returns."""
        await self._ask("open orders", self.ib.reqAllOpenOrdersAsync, seconds_max)

    async def completed_orders(self, seconds_max: float) -> None:
        """All completed orders, those placed by hand included; they come as reports before this returns."""
        await self._ask("completed orders", lambda: self.ib.reqCompletedOrdersAsync(False), seconds_max)

    async def executions(self, seconds_max: float) -> None:
        """All executions that the gateway still tells (those of its day); they come as reports."""
        await self._ask("executions", lambda: self.ib.reqExecutionsAsync(ExecutionFilter()), seconds_max)

    async def positions(self, seconds_max: float) -> None:
        """All positions; they come as reports, and go on coming when they change."""
        await self._ask("positions", self.ib.reqPositionsAsync, seconds_max)

    async def account_values(self, account: str, seconds_max: float) -> None:
        """Values and portfolio of an account; they come as reports before this returns, and then no more."""
        try:
            await self._ask("account values", lambda: self.ib.reqAccountUpdatesAsync(account), seconds_max)
        finally:
            if self.usable():
                await self.pacer.take(1)
                self._client.reqAccountUpdates(False, account)

    async def market_rule(self, rule_id: int, seconds_max: float) -> list[PriceIncrement]:
        """The price steps of a rule. Not twice at once for one rule: answers are known by it alone."""

        def send() -> asyncio.Future[object]:
            future: asyncio.Future[object] = self._wrapper.startReq(f"marketRule-{rule_id}")
            self._client.reqMarketRule(rule_id)
            return future

        found: list[PriceIncrement] = await self._ask(f"market rule {rule_id}", send, seconds_max)
        return found

    async def stock(self, symbol: str, seconds_max: float) -> Contract:
        """Resolve a US stock. Raises also LookupError: unknown or ambiguous."""
        return (await self.stock_details(symbol, seconds_max)).contract

    async def stock_details(self, symbol: str, seconds_max: float) -> ContractDetails:
        """Resolve a US stock, with its details. Raises also LookupError: unknown or ambiguous."""
        wanted = Stock(symbol, "SMART", "USD")
        found: list[ContractDetails] = await self._ask(
            f"contract of {symbol}", lambda: self.ib.reqContractDetailsAsync(wanted), seconds_max
        )
        if len(found) != 1:
            raise LookupError(f"{symbol}: {len(found)} contracts match")
        found[0].contract.exchange = "SMART"
        return found[0]

    async def _ask(self, name: str, send: Callable[[], asyncio.Future[Any]], seconds_max: float) -> Any:
        await self.pacer.take(1)
        if not self.usable():
            raise LinkLost(self.lost.result() if self.lost.done() else "not connected")
        answer = send()
        waited: set[asyncio.Future[Any]] = {answer, self.lost}
        try:
            await asyncio.wait(waited, timeout=seconds_max, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
        except RequestError:
            raise
        except ConnectionError as error:
            raise LinkLost(self.lost.result() if self.lost.done() else str(error)) from error
        finally:
            if not answer.cancel() and not answer.cancelled():
                answer.exception()  # seen: an exception that nobody retrieves would end the process
        if self.lost.done():
            raise LinkLost(self.lost.result())
        raise Unanswered(f"{name} not answered within {seconds_max} s")

    # ---- writes: pace them first, by `pacer.take`

    def write_orders(self, contracts: list[Contract], orders: list[Order]) -> None:
        """Write all, in order and without a pause; `flush` says what became of it.

        The caller checks `usable` in the same step, before.
        """
        for contract, order in zip(contracts, orders, strict=True):
            self._wrapper.remember(order)
            self._client.placeOrder(order.orderId, contract, order)

    def flushed(self) -> bool:
        """Whether nothing written waits for the socket."""
        return self._flushed.is_set()

    async def flush(self) -> bool:
        """Return whether every byte written was handed to the socket.

        False claims nothing: some, all or none may have left, and the link is lost.
        """
        if self._flushed.is_set():
            return self.usable()
        flushing = asyncio.ensure_future(self._flushed.wait())
        waited: set[asyncio.Future[Any]] = {flushing, self.lost}
        await asyncio.wait(waited, timeout=FLUSH_S_MAX, return_when=asyncio.FIRST_COMPLETED)
        flushing.cancel()
        if not self._flushed.is_set():
            self.lose(f"socket took no bytes for {FLUSH_S_MAX} s")
        return self.usable()

    def cancel_order(self, order_id: int) -> None:
        """Write a cancel."""
        self._client.cancelOrder(order_id, "")

    def subscribe_prices(self, contract: Contract) -> int:
        """Subscribe to live (or, without a subscription, delayed) prices; return the request id of the ticks."""
        request_id: int = self._client.getReqId()
        self._client.reqMktData(request_id, contract, "", False, False, [])
        return request_id

    def cancel_prices(self, request_id: int) -> None:
        """End a subscription."""
        self._client.cancelMktData(request_id)

    def request_delayed_prices(self) -> None:
        """Take delayed prices where the account has no live ones."""
        self._client.reqMarketDataType(3)

    # ---- told by the wrapper and the socket

    def note_error(self, code: int, text: str) -> None:
        """Remember what the gateway said last: it often says why before it closes."""
        if code == CLIENT_ID_IN_USE:
            self.lose(f"client id {self._wrapper.clientId} is in use at the gateway (326): {text}")
        elif not 2100 <= code < 2200:
            self._last_error = f"; last error: {code} {text}"

    def _disconnected(self, message: str) -> None:
        self.lose(f"socket closed by the gateway {message}".strip() + self._last_error)
