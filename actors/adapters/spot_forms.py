"""The spot exchange's JSON and our messages: replies, events of the user stream, and what a refusal proves. Pure.

Forms: the exchange's spot REST and user data stream documentation, as of 2025.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from actors.messages import (
    Side,
    SpotBalance,
    SpotBalancesReported,
    SpotExecutionReported,
    SpotOrderRefused,
    SpotOrderReported,
    SpotOutcomeUnknown,
    SpotTicket,
)
from kernels.fixed8 import SCALE, Fixed8Error, format_fixed8, parse_price

T = TypeVar("T")
MS_NS: Final = 1_000_000

NO_SUCH_ORDER: Final = -2013
UNKNOWN_CANCEL: Final = -2011
BAD_TIMESTAMP: Final = -1021
NO_SUCH_KEY: Final = -1125
UNKNOWN_CODES: Final = frozenset({-1000, -1001, -1006, -1007})
"""Codes that the venue gives where it does not itself know what became of an order."""
_NEW_ORDER_REJECTED: Final = -2010
_DUPLICATE: Final = "Duplicate order sent."
_CERTAIN_STATUSES: Final = frozenset({400, 401, 403, 418, 429})
_WITHOUT_A_CODE: Final = frozenset({403, 418, 429})
"""Answered before the venue's own program: what has no code there was not taken either."""


class Unreadable(ValueError):
    """A text that is not of the exchange's form."""


class Refusal(msgspec.Struct):
    """An error's body."""

    code: int = 0
    msg: str = ""


class _Fill(msgspec.Struct, rename="camel"):
    price: str
    qty: str
    commission: str
    commission_asset: str
    trade_id: int


class _Order(msgspec.Struct, rename="camel"):
    symbol: str
    order_id: int
    client_order_id: str
    price: str
    orig_qty: str
    executed_qty: str
    cummulative_quote_qty: str
    status: str
    side: str
    transact_time: int = 0
    update_time: int = 0
    orig_client_order_id: str = ""
    fills: list[_Fill] = []


class _Trade(msgspec.Struct, rename="camel"):
    symbol: str
    id: int
    order_id: int
    price: str
    qty: str
    quote_qty: str
    commission: str
    commission_asset: str
    time: int
    is_buyer: bool


class _Balance(msgspec.Struct):
    asset: str
    free: str
    locked: str


class _Account(msgspec.Struct, rename="camel"):
    balances: list[_Balance]
    can_trade: bool = False
    uid: int = 0


class AccountState(msgspec.Struct, frozen=True):
    """The account as a reading shows it."""

    account: str
    can_trade: bool
    balances: dict[str, SpotBalance]


class _Time(msgspec.Struct, rename="camel"):
    server_time: int


class _ListenKey(msgspec.Struct, rename="camel"):
    listen_key: str


class _Kind(msgspec.Struct):
    e: str = ""


class _Report(msgspec.Struct):
    s: str
    c: str
    S: str
    q: str
    p: str
    C: str
    x: str
    X: str
    i: int
    l: str  # noqa: E741  the exchange's own name
    z: str
    L: str
    n: str | None
    N: str | None
    T: int
    t: int
    Z: str
    Y: str


class _StreamBalance(msgspec.Struct):
    a: str
    f: str
    l: str  # noqa: E741  the exchange's own name


class _Position(msgspec.Struct):
    u: int
    B: list[_StreamBalance]


class ListenKeyExpired(msgspec.Struct, frozen=True):
    """The user stream says nothing more."""


class OtherEvent(msgspec.Struct, frozen=True):
    """An event that tells nothing of orders or balances as a whole."""

    kind: str


SpotNews = SpotOrderReported | SpotExecutionReported | SpotBalancesReported | SpotOrderRefused | SpotOutcomeUnknown
StreamNews = tuple[SpotNews, ...] | ListenKeyExpired | OtherEvent


def order_params(ticket: SpotTicket) -> dict[str, str]:
    """Return the parameters of a new order."""
    return {
        "symbol": ticket.symbol,
        "side": "BUY" if ticket.side is Side.BUY else "SELL",
        "type": "LIMIT",
        "timeInForce": "IOC",
        "quantity": format_fixed8(ticket.qty),
        "price": format_fixed8(ticket.limit_px),
        "newClientOrderId": ticket.client_order_id,
        "newOrderRespType": "FULL",
    }


def outcome(session_id: str, ticket: SpotTicket, status: int, body: bytes) -> tuple[SpotNews, ...]:
    """Return what the reply to a new order proves: reports, that it was refused, or that nobody knows."""
    name = ticket.client_order_id
    if status == 200:
        try:
            found = order_reports(session_id, body, name)
        except Unreadable as error:
            return (SpotOutcomeUnknown(session_id, name, f"HTTP 200, and {error}"),)
        return found
    refusal = refusal_of(body)
    told = f"HTTP {status} {refusal.code} {refusal.msg}"[:200]
    certain = status in _CERTAIN_STATUSES and refusal.code not in UNKNOWN_CODES
    is_duplicate = refusal.code == _NEW_ORDER_REJECTED and refusal.msg == _DUPLICATE
    if not certain or is_duplicate or (refusal.code == 0 and status not in _WITHOUT_A_CODE):
        return (SpotOutcomeUnknown(session_id, name, told),)
    return (SpotOrderRefused(session_id, name, status, refusal.code, refusal.msg[:200]),)


def refusal_of(body: bytes) -> Refusal:
    """Return an error's code and message; code 0 where the body has none."""
    try:
        return msgspec.json.decode(body, type=Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Refusal()


def order_reports(session_id: str, body: bytes, client_order_id: str = "") -> tuple[SpotNews, ...]:
    """Return the report of an order's reply, and an execution for each of its fills. Raises Unreadable.

    With a name given, a reply to another order is unreadable.
    """
    order = _decode(body, _Order)
    report = _order_report(session_id, order)
    if client_order_id and report.client_order_id != client_order_id:
        raise Unreadable("the reply is of another order")
    fills = [
        SpotExecutionReported(
            session_id=session_id,
            symbol=order.symbol,
            trade_id=fill.trade_id,
            client_order_id=report.client_order_id,
            venue_order_id=order.order_id,
            side=report.side,
            last_qty=_fixed(fill.qty),
            last_px=_fixed(fill.price),
            quote_qty=_fixed(fill.qty) * _fixed(fill.price) // SCALE,
            commission=_fixed(fill.commission),
            commission_asset=fill.commission_asset,
            ts_event_ns=report.ts_event_ns,
        )
        for fill in order.fills
    ]
    return report, *fills


def order_report(session_id: str, body: bytes) -> SpotOrderReported:
    """Return the report of a query or a cancel. Raises Unreadable."""
    return _order_report(session_id, _decode(body, _Order))


def open_orders(session_id: str, body: bytes) -> tuple[SpotOrderReported, ...]:
    """Return a report of each open order. Raises Unreadable."""
    return tuple(_order_report(session_id, one) for one in _decode(body, list[_Order]))


def trades(session_id: str, client_order_id: str, body: bytes) -> tuple[SpotExecutionReported, ...]:
    """Return an execution for each trade of myTrades, all of the order so named. Raises Unreadable."""
    return tuple(
        SpotExecutionReported(
            session_id=session_id,
            symbol=one.symbol,
            trade_id=one.id,
            client_order_id=client_order_id,
            venue_order_id=one.order_id,
            side=Side.BUY if one.is_buyer else Side.SELL,
            last_qty=_fixed(one.qty),
            last_px=_fixed(one.price),
            quote_qty=_fixed(one.quote_qty),
            commission=_fixed(one.commission),
            commission_asset=one.commission_asset,
            ts_event_ns=one.time * MS_NS,
        )
        for one in _decode(body, list[_Trade])
    )


def account(body: bytes) -> AccountState:
    """Return the account, assets of zero left out. Raises Unreadable."""
    found = _decode(body, _Account)
    balances = {one.asset: SpotBalance(_fixed(one.free), _fixed(one.locked)) for one in found.balances}
    held = {asset: one for asset, one in balances.items() if one.free or one.locked}
    return AccountState(str(found.uid), found.can_trade, held)


def server_time_ms(body: bytes) -> int:
    """Return the venue's clock. Raises Unreadable."""
    return _decode(body, _Time).server_time


def listen_key(body: bytes) -> str:
    """Return the name of the user stream. Raises Unreadable."""
    key = _decode(body, _ListenKey).listen_key
    if not (key.isascii() and key.isalnum()):
        raise Unreadable("the listenKey is no plain name")
    return key


def stream_event(session_id: str, payload: bytes) -> StreamNews:
    """Return what an event of the user stream tells. Raises Unreadable."""
    kind = _decode(payload, _Kind).e
    match kind:
        case "executionReport":
            return _execution(session_id, _decode(payload, _Report))
        case "outboundAccountPosition":
            position = _decode(payload, _Position)
            balances = {one.a: SpotBalance(_fixed(one.f), _fixed(one.l)) for one in position.B}
            return (SpotBalancesReported(session_id, balances, position.u * MS_NS),)
        case "listenKeyExpired":
            return ListenKeyExpired()
        case "":
            raise Unreadable("an event without a kind")
        case _:
            return OtherEvent(kind)


def _execution(session_id: str, event: _Report) -> tuple[SpotNews, ...]:
    # A cancel has a name of its own, which then stands in `c`; the order's is in `C`.
    name = event.C or event.c
    side, ts_event_ns = _side(event.S), event.T * MS_NS
    report = SpotOrderReported(
        session_id=session_id,
        symbol=event.s,
        client_order_id=name,
        venue_order_id=event.i,
        status=event.X,
        side=side,
        qty=_fixed(event.q),
        limit_px=_fixed(event.p),
        cum_qty=_fixed(event.z),
        cum_quote_qty=_fixed(event.Z),
        ts_event_ns=ts_event_ns,
    )
    if event.x != "TRADE":
        return (report,)
    execution = SpotExecutionReported(
        session_id=session_id,
        symbol=event.s,
        trade_id=event.t,
        client_order_id=name,
        venue_order_id=event.i,
        side=side,
        last_qty=_fixed(event.l),
        last_px=_fixed(event.L),
        quote_qty=_fixed(event.Y),
        commission=_fixed(event.n or "0"),
        commission_asset=event.N or "",
        ts_event_ns=ts_event_ns,
    )
    return report, execution


def _order_report(session_id: str, order: _Order) -> SpotOrderReported:
    return SpotOrderReported(
        session_id=session_id,
        symbol=order.symbol,
        client_order_id=order.orig_client_order_id or order.client_order_id,
        venue_order_id=order.order_id,
        status=order.status,
        side=_side(order.side),
        qty=_fixed(order.orig_qty),
        limit_px=_fixed(order.price),
        cum_qty=_fixed(order.executed_qty),
        cum_quote_qty=_fixed(order.cummulative_quote_qty),
        ts_event_ns=(order.transact_time or order.update_time) * MS_NS,
    )


def _side(text: str) -> Side:
    if text not in ("BUY", "SELL"):
        raise Unreadable(f"side {text[:20]!r}")
    return Side.BUY if text == "BUY" else Side.SELL


def _fixed(text: str) -> int:
    try:
        return parse_price(text)
    except Fixed8Error as error:
        raise Unreadable(str(error)) from None


def _decode(body: bytes, form: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=form)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable(f"not a {getattr(form, '__name__', 'reply').strip('_')}: {error}"[:200]) from None
