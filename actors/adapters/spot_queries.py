"""Questions to the spot exchange about orders and the account, one after the other, each answered exactly once.

An answer names what failed; absence then proves nothing. An order's trades that do not add up to what it filled are
such a failure too: the venue's records come together late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from actors.adapters import spot_forms
from actors.adapters.spot_rest import Away, SpotRest, VenueRefused
from actors.adapters.worker import Worker
from actors.messages import (
    QuerySpotOrder,
    ReadSpotAccount,
    SpotAccountRead,
    SpotBalance,
    SpotExecutionReported,
    SpotOrderRead,
    SpotOrderReported,
)
from actors.ports import Clock

QUERIES_MAX: Final = 256
ORDER: Final = "order"
TRADES: Final = "myTrades"
ACCOUNT: Final = "account"
OPEN_ORDERS: Final = "openOrders"
_FAILURES: Final = (Away, VenueRefused, spot_forms.Unreadable)
_TRADES_LIMIT: Final = "1000"


class SpotQueries:
    """On the loop's thread only."""

    def __init__(
        self, worker: Worker[Any, Any], rest: SpotRest, clock: Clock, current_session: Callable[[], str]
    ) -> None:
        self._worker, self._rest, self._clock, self._current_session = worker, rest, clock, current_session
        self._waiting: asyncio.Queue[QuerySpotOrder | ReadSpotAccount] = asyncio.Queue(QUERIES_MAX)

    def take(self, command: QuerySpotOrder | ReadSpotAccount) -> None:
        """Queue a question behind those before it."""
        if self._waiting.full():
            self._refuse(command)
        else:
            self._waiting.put_nowait(command)

    async def run(self) -> None:
        """Answer what was taken, in order, until cancelled."""
        while True:
            command = await self._waiting.get()
            if command.session_id != self._current_session():
                self._refuse(command)
                continue
            match command:
                case QuerySpotOrder():
                    await self._order(command)
                case ReadSpotAccount():
                    await self._account(command)

    async def _order(self, command: QuerySpotOrder) -> None:
        order: SpotOrderReported | None = None
        trades: tuple[SpotExecutionReported, ...] = ()
        failed: list[str] = []
        try:
            params = {"symbol": command.symbol, "origClientOrderId": command.client_order_id}
            body = await self._rest.call("GET", "/api/v3/order", params, 4, "signed")
            order = spot_forms.order_report(command.session_id, body)
        except VenueRefused as error:
            if error.code != spot_forms.NO_SUCH_ORDER:
                failed.append(ORDER)
        except (Away, spot_forms.Unreadable):
            failed.append(ORDER)
        if order is not None:
            try:
                trades = await self._trades(command, order)
            except _FAILURES:
                failed.append(TRADES)
            if not failed and sum(one.last_qty for one in trades) < order.cum_qty:
                failed.append(TRADES)
        self._answer_order(command, order, trades, tuple(failed))

    async def _trades(self, command: QuerySpotOrder, order: SpotOrderReported) -> tuple[SpotExecutionReported, ...]:
        params = {"symbol": command.symbol, "orderId": str(order.venue_order_id), "limit": _TRADES_LIMIT}
        body = await self._rest.call("GET", "/api/v3/myTrades", params, 20, "signed")
        found = spot_forms.trades(command.session_id, command.client_order_id, body)
        if any(one.venue_order_id != order.venue_order_id for one in found):
            raise spot_forms.Unreadable("trades of another order")
        return found

    async def _account(self, command: ReadSpotAccount) -> None:
        balances: dict[str, SpotBalance] = {}
        open_orders: tuple[SpotOrderReported, ...] = ()
        can_trade, failed = False, []
        try:
            params = {"omitZeroBalances": "true"}
            state = spot_forms.account(await self._rest.call("GET", "/api/v3/account", params, 20, "signed"))
            balances, can_trade = state.balances, state.can_trade
        except _FAILURES:
            failed.append(ACCOUNT)
        try:
            body = await self._rest.call("GET", "/api/v3/openOrders", {}, 80, "signed")
            open_orders = spot_forms.open_orders(command.session_id, body)
        except _FAILURES:
            failed.append(OPEN_ORDERS)
        self._answer_account(command, balances, open_orders, can_trade, tuple(failed))

    def _refuse(self, command: QuerySpotOrder | ReadSpotAccount) -> None:
        self._worker.count("queries_refused")
        match command:
            case QuerySpotOrder():
                self._answer_order(command, None, (), (ORDER, TRADES))
            case ReadSpotAccount():
                self._answer_account(command, {}, (), False, (ACCOUNT, OPEN_ORDERS))

    def _answer_order(
        self,
        command: QuerySpotOrder,
        order: SpotOrderReported | None,
        trades: tuple[SpotExecutionReported, ...],
        failed: tuple[str, ...],
    ) -> None:
        self._worker.count("queries_failed" if failed else "queries")
        self._worker.emit(
            SpotOrderRead(
                session_id=command.session_id,
                request_id=command.request_id,
                symbol=command.symbol,
                client_order_id=command.client_order_id,
                order=order,
                trades=trades,
                taken_ns=self._clock.now_ns(),
                failed=failed,
            )
        )

    def _answer_account(
        self,
        command: ReadSpotAccount,
        balances: dict[str, SpotBalance],
        open_orders: tuple[SpotOrderReported, ...],
        can_trade: bool,
        failed: tuple[str, ...],
    ) -> None:
        self._worker.count("queries_failed" if failed else "queries")
        self._worker.emit(
            SpotAccountRead(
                session_id=command.session_id,
                request_id=command.request_id,
                balances=balances,
                open_orders=open_orders,
                can_trade=can_trade,
                taken_ns=self._clock.now_ns(),
                failed=failed,
            )
        )
