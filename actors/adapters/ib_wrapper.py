# ruff: noqa: N802 (the method names are the library's; it passes their arguments by position)
"""What ib_insync hands to our side of a connection, raw: its own picture of orders is neither used nor kept.

That picture (`Trade`) is set to Cancelled by an error code while the order lives, is restored with order id 0 and
filled 0, and costs memory for every order. Here each message becomes one of ours and goes to an observer at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Protocol, TypeVar

from ib_insync import IB
from ib_insync.contract import Contract
from ib_insync.objects import CommissionReport, Execution
from ib_insync.order import Order, OrderState
from ib_insync.wrapper import RequestError, Wrapper

from actors.adapters import ib_forms
from actors.messages import CommissionReported, ExecutionReported, OrderReported, VenueHolding, VenuePosition

REFERENCES_MAX = 50_000
"""Beyond it the oldest are forgotten: their orderStatus then names no reference, only order id and perm id."""

R = TypeVar("R")
Guard = Callable[[Callable[..., None]], Callable[..., None]]


class Observer:
    """What a link tells, in the order in which it arrived. Override what is needed; never send from within."""

    def order_reported(self, report: OrderReported) -> None:
        """An openOrder, orderStatus or (`completed`) completedOrder."""

    def execution_reported(self, request_id: int, report: ExecutionReported) -> None:
        """An execution; `request_id` is negative for a live one."""

    def commission_reported(self, report: CommissionReported) -> None:
        """A commission, live or after the executions that were asked for."""

    def position_reported(self, report: VenuePosition) -> None:
        """A position, live or asked for."""

    def error_reported(self, request_id: int, code: int, text: str) -> None:
        """An error or notice. `request_id` is an order id, a request id or negative."""

    def undecodable(self, text: str) -> None:
        """A message that says what cannot be; nothing of it was reported."""

    def price_reported(self, request_id: int, tick_type: int, price: float) -> None:
        """A price tick of a subscription."""

    def account_value_reported(self, account: str, key: str, value: str, currency: str) -> None:
        """A value of the account, asked for or live."""

    def holding_reported(self, account: str, holding: VenueHolding) -> None:
        """A position of the account's portfolio, with the venue's price of it."""


class Owner(Protocol):
    """The link that a wrapper belongs to."""

    session_id: str
    next_order_id: int

    def note_error(self, code: int, text: str) -> None:
        """Take note of every error and notice, before the observer."""


class RawWrapper(Wrapper):
    """The library's wrapper with its order book-keeping replaced; request futures are kept."""

    def __init__(self, ib: IB, link: Owner, observer: Observer, guard: Guard) -> None:
        super().__init__(ib)
        self._link = link
        self._observer = observer
        self._references: dict[tuple[int, int] | int, str] = {}
        for name in _OBSERVED:
            setattr(self, name, guard(getattr(self, name)))

    def remember(self, order: Order) -> None:
        """An orderStatus names no reference: keep which order id, and which perm id, is whose, for this link."""
        if not order.orderRef:
            return
        if order.orderId > 0:
            self._references[(order.clientId, order.orderId)] = order.orderRef
        if order.permId:
            self._references[order.permId] = order.orderRef
        while len(self._references) > REFERENCES_MAX:
            del self._references[next(iter(self._references))]

    def nextValidId(self, request_id: int) -> None:
        self._link.next_order_id = request_id
        self._endReq("nextValidId", request_id)

    def openOrder(self, order_id: int, contract: Contract, order: Order, state: OrderState) -> None:
        if not order.whatIf:
            self.remember(order)
            self._hand_on(self._observer.order_reported, ib_forms.open_order, order_id, contract, order, state)

    def orderStatus(
        self,
        order_id: int,
        status: str,
        filled: float,
        remaining: float,
        average_px: float,
        perm_id: int,
        parent_id: int,
        last_px: float,
        client_id: int,
        why_held: str,
        cap_px: float = 0.0,
    ) -> None:
        reference = self._references.get(perm_id) or self._references.get((client_id, order_id), "")
        told = (order_id, reference, status, filled, perm_id, parent_id, client_id, why_held)
        self._hand_on(self._observer.order_reported, ib_forms.order_status, *told)

    def completedOrder(self, contract: Contract, order: Order, state: OrderState) -> None:
        self._hand_on(self._observer.order_reported, ib_forms.completed_order, contract, order, state)

    def execDetails(self, request_id: int, contract: Contract, told: Execution) -> None:
        deliver = functools.partial(self._observer.execution_reported, request_id)
        self._hand_on(deliver, ib_forms.execution, contract, told)

    def commissionReport(self, told: CommissionReport) -> None:
        self._hand_on(self._observer.commission_reported, ib_forms.commission, told)

    def position(self, account: str, contract: Contract, qty: float, average_cost: float) -> None:
        self._hand_on(self._observer.position_reported, ib_forms.position, account, contract, qty, average_cost)

    def updateAccountValue(self, key: str, value: str, currency: str, account: str) -> None:
        self._observer.account_value_reported(account, key, value, currency)

    def updatePortfolio(
        self,
        contract: Contract,
        qty: float,
        px: float,
        value: float,
        average_cost: float,
        unrealized: float,
        realized: float,
        account: str,
    ) -> None:
        deliver = functools.partial(self._observer.holding_reported, account)
        self._hand_on(deliver, ib_forms.holding, contract, qty, px)

    def priceSizeTick(self, request_id: int, tick_type: int, price: float, size: float) -> None:
        self._observer.price_reported(request_id, tick_type, price)

    def tickSize(self, request_id: int, tick_type: int, size: float) -> None:
        """Not needed."""

    def tickString(self, request_id: int, tick_type: int, value: str) -> None:
        """Not needed."""

    def error(self, request_id: int, code: int, text: str, advanced_json: str) -> None:
        self._link.note_error(code, text)
        if request_id in self._futures and not 2100 <= code < 2200:
            self._endReq(request_id, RequestError(request_id, code, text), success=False)
        self._observer.error_reported(request_id, code, text)

    def _hand_on(self, deliver: Callable[[R], None], build: Callable[..., R], *told: object) -> None:
        try:
            report = build(self._link.session_id, *told)
        except ib_forms.FormError as error:
            self._observer.undecodable(f"{build.__name__}: {error}")
            return
        deliver(report)


_OBSERVED = (
    "openOrder",
    "orderStatus",
    "completedOrder",
    "execDetails",
    "commissionReport",
    "position",
    "updateAccountValue",
    "updatePortfolio",
    "priceSizeTick",
    "error",
)
