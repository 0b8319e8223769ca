"""Orders, trades and the account in the exchange's JSON: replies of REST and events of the user stream.

Forms: the exchange's spot REST and user data stream documentation, as of 2025.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from venues.exchange.market import format_fixed8
from venues.exchange.order_checks import ResponseType
from venues.exchange.orders import Balance, Order, Trade, Transferred
from venues.exchange.trading import Step

_NO_TRADE: Final = -1
_STP: Final = "NONE"
ACCOUNT_UID: Final = 354_937_868
"""The account's number on this exchange; there is one account."""


class _Ack(msgspec.Struct, rename="camel"):
    symbol: str
    order_id: int
    order_list_id: int
    client_order_id: str
    transact_time: int


class _Fill(msgspec.Struct, rename="camel"):
    price: str
    qty: str
    commission: str
    commission_asset: str
    trade_id: int


class _Result(msgspec.Struct, rename="camel", omit_defaults=True):
    symbol: str
    order_id: int
    order_list_id: int
    client_order_id: str
    transact_time: int
    price: str
    orig_qty: str
    executed_qty: str
    orig_quote_order_qty: str
    cummulative_quote_qty: str
    status: str
    time_in_force: str
    type: str
    side: str
    working_time: int
    self_trade_prevention_mode: str
    fills: list[_Fill] | None = None
    orig_client_order_id: str = ""


class _Order(msgspec.Struct, rename="camel"):
    symbol: str
    order_id: int
    order_list_id: int
    client_order_id: str
    price: str
    orig_qty: str
    executed_qty: str
    cummulative_quote_qty: str
    status: str
    time_in_force: str
    type: str
    side: str
    stop_price: str
    iceberg_qty: str
    time: int
    update_time: int
    is_working: bool
    working_time: int
    orig_quote_order_qty: str
    self_trade_prevention_mode: str


class _Trade(msgspec.Struct, rename="camel"):
    symbol: str
    id: int
    order_id: int
    order_list_id: int
    price: str
    qty: str
    quote_qty: str
    commission: str
    commission_asset: str
    time: int
    is_buyer: bool
    is_maker: bool
    is_best_match: bool


class _AccountBalance(msgspec.Struct):
    asset: str
    free: str
    locked: str


class _Rates(msgspec.Struct):
    maker: str
    taker: str
    buyer: str
    seller: str


class _Account(msgspec.Struct, rename="camel"):
    maker_commission: int
    taker_commission: int
    buyer_commission: int
    seller_commission: int
    commission_rates: _Rates
    can_trade: bool
    can_withdraw: bool
    can_deposit: bool
    brokered: bool
    require_self_trade_prevention: bool
    prevent_sor: bool
    update_time: int
    account_type: str
    balances: list[_AccountBalance]
    permissions: tuple[str, ...]
    uid: int


class _Discount(msgspec.Struct, rename="camel"):
    enabled_for_account: bool
    enabled_for_symbol: bool
    discount_asset: str
    discount: str


class _Commission(msgspec.Struct, rename="camel"):
    symbol: str
    standard_commission: _Rates
    special_commission: _Rates
    tax_commission: _Rates
    discount: _Discount


def placed(steps: Sequence[Step], response_type: ResponseType) -> bytes:
    """Return the reply to a new order."""
    order = steps[-1].order
    if response_type == "ACK":
        ack = _Ack(order.symbol, order.order_id, -1, order.client_order_id, order.created_ms)
        return msgspec.json.encode(ack)
    result = _result(order)
    if response_type == "FULL":
        result.fills = [
            _Fill(_text(one.price), _text(one.qty), _text(one.commission), one.commission_asset, one.trade_id)
            for step in steps
            if (one := step.trade) is not None
        ]
    return msgspec.json.encode(result)


def cancelled(step: Step) -> bytes:
    """Return the reply to a cancel: the order under the cancel's own name, and the order's beside it."""
    result = _result(step.order)
    result.client_order_id, result.orig_client_order_id = step.cancel_id, step.order.client_order_id
    return msgspec.json.encode(result)


def order(one: Order) -> bytes:
    """Return an order as a query shows it."""
    return msgspec.json.encode(
        _Order(
            symbol=one.symbol,
            order_id=one.order_id,
            order_list_id=-1,
            client_order_id=one.client_order_id,
            price=_text(one.price),
            orig_qty=_text(one.qty),
            executed_qty=_text(one.executed_qty),
            cummulative_quote_qty=_text(one.executed_quote),
            status=one.status,
            time_in_force=one.time_in_force,
            type=one.type,
            side=one.side,
            stop_price=_text(0),
            iceberg_qty=_text(0),
            time=one.created_ms,
            update_time=one.updated_ms,
            is_working=True,
            working_time=one.created_ms,
            orig_quote_order_qty=_text(one.quote_qty),
            self_trade_prevention_mode=_STP,
        )
    )


def trade(one: Trade) -> bytes:
    """Return a trade as myTrades shows it."""
    return msgspec.json.encode(
        _Trade(
            symbol=one.symbol,
            id=one.trade_id,
            order_id=one.order_id,
            order_list_id=-1,
            price=_text(one.price),
            qty=_text(one.qty),
            quote_qty=_text(one.quote_qty),
            commission=_text(one.commission),
            commission_asset=one.commission_asset,
            time=one.time_ms,
            is_buyer=one.is_buyer,
            is_maker=one.is_maker,
            is_best_match=True,
        )
    )


def account(balances: Iterable[Balance], rate: int, updated_ms: int, *, omit_zero: bool) -> bytes:
    """Return the account."""
    bps = rate * 10_000 // 10**8
    shown = [
        _AccountBalance(one.asset, _text(one.free), _text(one.locked))
        for one in sorted(balances, key=lambda one: one.asset)
        if one.free or one.locked or not omit_zero
    ]
    return msgspec.json.encode(
        _Account(
            maker_commission=bps,
            taker_commission=bps,
            buyer_commission=0,
            seller_commission=0,
            commission_rates=_rates(rate),
            can_trade=True,
            can_withdraw=True,
            can_deposit=True,
            brokered=False,
            require_self_trade_prevention=False,
            prevent_sor=False,
            update_time=updated_ms,
            account_type="SPOT",
            balances=shown,
            permissions=("SPOT",),
            uid=ACCOUNT_UID,
        )
    )


def commission(symbol: str, rate: int, discount_pays: bool, discount_asset: str, discount: int) -> bytes:
    """Return the commission of a symbol. `discount` is told as what remains to be paid, as the exchange tells it."""
    told = _Discount(discount_pays, discount_pays, discount_asset, _text(10**8 - discount))
    return msgspec.json.encode(_Commission(symbol, _rates(rate), _rates(0), _rates(0), told))


def execution_report(step: Step, event_ms: int, execution_id: int) -> bytes:
    """Return the event of one step. `c` of a CANCELED one is the cancel's own name, and `C` the order's."""
    one, fill = step.order, step.trade
    was_cancelled = step.execution == "CANCELED"
    at_ms = fill.time_ms if fill else one.updated_ms
    fields: dict[str, object] = {
        "e": "executionReport",
        "E": event_ms,
        "s": one.symbol,
        "c": step.cancel_id if was_cancelled else one.client_order_id,
        "S": one.side,
        "o": one.type,
        "f": one.time_in_force,
        "q": _text(one.qty),
        "p": _text(one.price),
        "P": _text(0),
        "F": _text(0),
        "g": -1,
        "C": one.client_order_id if was_cancelled else "",
        "x": step.execution,
        "X": one.status,
        "r": "NONE",
        "i": one.order_id,
        "l": _text(fill.qty if fill else 0),
        "z": _text(one.executed_qty),
        "L": _text(fill.price if fill else 0),
        "n": _text(fill.commission) if fill else "0",
        "N": fill.commission_asset if fill else None,
        "T": at_ms,
        "t": fill.trade_id if fill else _NO_TRADE,
        "I": execution_id,
        "w": one.is_open and (fill is None or one.type != "MARKET"),
        "m": fill.is_maker if fill else False,
        "M": fill is not None,
        "O": one.created_ms,
        "Z": _text(one.executed_quote),
        "Y": _text(fill.quote_qty if fill else 0),
        "Q": _text(one.quote_qty),
        "W": one.created_ms,
        "V": _STP,
    }
    return msgspec.json.encode(fields)


def account_position(balances: Iterable[Balance], event_ms: int, updated_ms: int) -> bytes:
    """Return the event that states the balances which may have changed."""
    told = [{"a": one.asset, "f": _text(one.free), "l": _text(one.locked)} for one in balances]
    return msgspec.json.encode({"e": "outboundAccountPosition", "E": event_ms, "u": updated_ms, "B": told})


def balance_update(transfer: Transferred, event_ms: int) -> bytes:
    """Return the event of a deposit or a withdrawal."""
    sign = "-" if transfer.amount < 0 else ""
    told = {"a": transfer.asset, "d": sign + _text(abs(transfer.amount)), "T": transfer.time_ms}
    return msgspec.json.encode({"e": "balanceUpdate", "E": event_ms, **told})


def listen_key_expired(key: str, event_ms: int) -> bytes:
    """Return the last event of a user stream."""
    return msgspec.json.encode({"e": "listenKeyExpired", "E": event_ms, "listenKey": key})


def array(parts: Iterable[bytes]) -> bytes:
    """Return encoded values as one JSON array."""
    return b"[" + b",".join(parts) + b"]"


def _result(one: Order) -> _Result:
    return _Result(
        symbol=one.symbol,
        order_id=one.order_id,
        order_list_id=-1,
        client_order_id=one.client_order_id,
        transact_time=one.updated_ms,
        price=_text(one.price),
        orig_qty=_text(one.qty),
        executed_qty=_text(one.executed_qty),
        orig_quote_order_qty=_text(one.quote_qty),
        cummulative_quote_qty=_text(one.executed_quote),
        status=one.status,
        time_in_force=one.time_in_force,
        type=one.type,
        side=one.side,
        working_time=one.created_ms,
        self_trade_prevention_mode=_STP,
    )


def _rates(rate: int) -> _Rates:
    return _Rates(_text(rate), _text(rate), _text(0), _text(0))


def _text(count: int) -> str:
    return format_fixed8(count)
