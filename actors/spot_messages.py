"""Messages between `broker.spot` and its driver, and between the executor and `broker.spot`.

Commands to the spot exchange, its claims (reports), and what the executor asks for and is told. Amounts are counts of
1e-8. `client_order_id` travels as newClientOrderId; the exchange holds it unique among its *open* orders only, so an
order whose fate is not known is never written again: it is looked up by origClientOrderId, with its trades.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from actors.message import Message
from actors.order_terms import Side


class SpotBalance(msgspec.Struct, frozen=True, gc=False):
    """What the account holds of an asset, as the exchange states it."""

    free: int
    locked: int


# ---- broker.spot to its driver


class SpotTicket(msgspec.Struct, frozen=True, gc=False):
    """One limit order, immediate-or-cancel, complete as it goes to the exchange (`newOrderRespType=FULL`)."""

    client_order_id: str
    symbol: str
    side: Side
    qty: int
    limit_px: int


class SubmitSpotOrder(Message, frozen=True):
    """Write this order, in this session and no other, at most once ever.

    Answered by `SpotOrderNotSent`, or by `SpotOrderWritten` and then exactly one of: reports of the order and its
    executions (from the reply), `SpotOrderRefused`, `SpotOutcomeUnknown`. Before the first byte leaves: the session is
    open, nobody has latched a halt unless `reduces_risk`, and it is before `not_after_ns`; the request's `timestamp` is
    taken then and not before. The driver repeats nothing by itself, not after a 5xx, a reset or a time-out either.
    """

    session_id: str
    ticket: SpotTicket
    reduces_risk: bool
    not_after_ns: int


class CancelSpotOrder(Message, frozen=True):
    """Ask the exchange to cancel what should not be open; its reports tell whether it did."""

    session_id: str
    symbol: str
    client_order_id: str


class QuerySpotOrder(Message, frozen=True):
    """Look an order up by origClientOrderId, and where there is one, its trades (myTrades by its orderId)."""

    session_id: str
    request_id: str
    symbol: str
    client_order_id: str


class ReadSpotAccount(Message, frozen=True):
    """Read balances and every open order of the account."""

    session_id: str
    request_id: str


# ---- the driver to broker.spot


class SpotSessionOpened(Message, frozen=True):
    """The user stream is connected and heard, the venue answered, its clock is known. Ids are unique for ever.

    Whatever the stream said before is not said again. `account`: what the venue calls the account (its uid).
    """

    session_id: str
    account: str


class SpotSessionLost(Message, frozen=True):
    """The user stream is over or silent. What was written in it and not answered is UNKNOWN."""

    session_id: str
    reason: str


class SpotOrderWritten(Message, frozen=True):
    """The request's bytes were handed to the socket, which is not proof of arrival."""

    session_id: str
    client_order_id: str
    written_ns: int


class SpotOrderNotSent(Message, frozen=True):
    """Known for certain: not one byte of it left (halted, another session, too late, no token, no connection)."""

    session_id: str
    client_order_id: str
    reason: str


class SpotOrderRefused(Message, frozen=True):
    """The exchange's own word that it did not take the order: a 4xx with a code that says so for certain.

    A 5xx, -1006, -1007 and a duplicate's -2010 are not this: they are `SpotOutcomeUnknown`. `http_status` 429, 418 and
    403 are.
    """

    session_id: str
    client_order_id: str
    http_status: int
    code: int
    reason: str


class SpotOutcomeUnknown(Message, frozen=True):
    """Written, and nobody here can know: no reply in time, the connection broke, a 5xx, -1006, -1007, unreadable."""

    session_id: str
    client_order_id: str
    reason: str


class SpotOrderReported(Message, frozen=True):
    """What a reply, the user stream or a query said of an order. `status` is the exchange's own word.

    `cum_qty`, `cum_quote_qty`: executedQty and cummulativeQuoteQty (the stream's z and Z).
    """

    session_id: str
    symbol: str
    client_order_id: str
    venue_order_id: int
    status: str
    side: Side
    qty: int
    limit_px: int
    cum_qty: int
    cum_quote_qty: int
    ts_event_ns: int


class SpotExecutionReported(Message, frozen=True):
    """One trade of ours; the same from reply, stream and myTrades, told apart by (symbol, trade_id).

    `quote_qty`: as the exchange states it; where it does not (`fills` of a reply), price × quantity, truncated.
    """

    session_id: str
    symbol: str
    trade_id: int
    client_order_id: str
    venue_order_id: int
    side: Side
    last_qty: int
    last_px: int
    quote_qty: int
    commission: int
    commission_asset: str
    ts_event_ns: int


class SpotBalancesReported(Message, frozen=True):
    """The user stream's outboundAccountPosition: the balances that changed, whole."""

    session_id: str
    balances: Mapping[str, SpotBalance]
    ts_event_ns: int


class SpotOrderRead(Message, frozen=True):
    """Answer to `QuerySpotOrder`. `order` None with nothing in `failed`: the exchange says that there is none.

    `failed` names the requests that were not answered; then absence proves nothing.
    """

    session_id: str
    request_id: str
    symbol: str
    client_order_id: str
    order: SpotOrderReported | None
    trades: tuple[SpotExecutionReported, ...]
    taken_ns: int
    failed: tuple[str, ...] = ()


class SpotAccountRead(Message, frozen=True):
    """Answer to `ReadSpotAccount`: every asset that is not zero. `failed` as above."""

    session_id: str
    request_id: str
    balances: Mapping[str, SpotBalance]
    open_orders: tuple[SpotOrderReported, ...]
    can_trade: bool
    taken_ns: int
    failed: tuple[str, ...] = ()


# ---- executor and broker.spot


class PlaceSpotOrder(Message, frozen=True):
    """Executor to broker, owed: write it at most once, and tell its end.

    `reduces_risk`: an unwinding order, which goes out under a halt too. From `expires_ns` on (0: no end) it is not
    written any more.
    """

    client_order_id: str
    attempt_id: str
    symbol: str
    side: Side
    qty: int
    limit_px: int
    base: str
    quote: str
    reduces_risk: bool
    expires_ns: int


class SpotOrderDone(Message, frozen=True):
    """Broker to executor, owed: the order can trade no more, and this is all that it did.

    `commissions`: by asset. `revision` 1 is the end; a higher one replaces it whole: a fact that came later.
    `reason`: who ended it, where it was not the exchange by filling it.
    """

    client_order_id: str
    attempt_id: str
    revision: int
    state: str
    cum_qty: int
    cum_quote_qty: int
    commissions: Mapping[str, int]
    written_ns: int
    done_ns: int
    reason: str = ""


class SpotGateReason(enum.StrEnum):
    """Why `broker.spot` takes no order that opens risk."""

    OPEN = ""
    NO_SESSION = "no_session"
    ACCOUNT_NOT_READ = "account_not_read"
    UNRESOLVED = "unresolved"
    MAY_NOT_TRADE = "may_not_trade"
    DIVERGED = "diverged"


class SpotGateChanged(Message, frozen=True):
    """Broker to executor, owed: whether orders that open risk may go out, in which session, and what is free then."""

    session_id: str
    reason: SpotGateReason
    free: Mapping[str, int]
    account: str = ""


class SpotBalancesChanged(Message, frozen=True):
    """Broker to executor: what is free, by asset, of what the exchange said last. Assets that are not in it: zero."""

    session_id: str
    free: Mapping[str, int]


class RebaseSpotAccount(Message, frozen=True):
    """Executor to broker, owed: a person takes the account as it is now for right; compare with that from now on."""

    reason: str
