"""What a client can ask, as types: one for each kind of request. Reading them from frames is `requests`' business."""

from __future__ import annotations

from dataclasses import dataclass

from venues.gateway.listing import Wanted
from venues.gateway.model import Ticket


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """placeOrder (3): a new order or the change of one."""

    ticket: Ticket
    """With conId and symbol as the client gave them: `wanted` says which stock it is."""
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """cancelOrder (4)."""

    order_id: int


@dataclass(frozen=True, slots=True)
class ReqOpenOrders:
    """reqOpenOrders (5) or reqAllOpenOrders (16)."""

    all_clients: bool


@dataclass(frozen=True, slots=True)
class ReqExecutions:
    """reqExecutions (7) with its filter."""

    req_id: int
    client_id: int
    account: str
    time: str
    symbol: str
    sec_type: str
    exchange: str
    side: str


@dataclass(frozen=True, slots=True)
class ReqCompletedOrders:
    """reqCompletedOrders (99); `api_only`: without those entered by hand."""

    api_only: bool


@dataclass(frozen=True, slots=True)
class ReqContractDetails:
    """reqContractDetails (9)."""

    req_id: int
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class ReqMktData:
    """reqMktData (1)."""

    req_id: int
    wanted: Wanted
    snapshot: bool


@dataclass(frozen=True, slots=True)
class ReqHistoricalData:
    """reqHistoricalData (20)."""

    req_id: int
    wanted: Wanted
    end: str
    bar_size: str
    duration: str
    use_rth: bool
    shown: str
    format_date: int
    keep_up_to_date: bool


@dataclass(frozen=True, slots=True)
class ReqHeadTimestamp:
    """reqHeadTimeStamp (87)."""

    req_id: int
    wanted: Wanted
    format_date: int


@dataclass(frozen=True, slots=True)
class ReqRealTimeBars:
    """reqRealTimeBars (50)."""

    req_id: int
    wanted: Wanted
    shown: str


@dataclass(frozen=True, slots=True)
class ReqOptionParams:
    """reqSecDefOptParams (78)."""

    req_id: int
    under_con_id: int


@dataclass(frozen=True, slots=True)
class ReqMatchingSymbols:
    """reqMatchingSymbols (81)."""

    req_id: int
    pattern: str


@dataclass(frozen=True, slots=True)
class ReqMarketRule:
    """reqMarketRule (91)."""

    rule_id: int


@dataclass(frozen=True, slots=True)
class ReqPositionsMulti:
    """reqPositionsMulti (74)."""

    req_id: int
    account: str
    model: str


@dataclass(frozen=True, slots=True)
class ReqPnlSingle:
    """reqPnLSingle (94)."""

    req_id: int
    account: str
    con_id: int


@dataclass(frozen=True, slots=True)
class SetMarketDataType:
    """reqMarketDataType (59): 1 live, 2 frozen, 3 delayed, 4 delayed and frozen."""

    kind: int


@dataclass(frozen=True, slots=True)
class AutoBind:
    """reqAutoOpenOrders (15)."""

    on: bool


@dataclass(frozen=True, slots=True)
class ReqEmptyList:
    """A question to which this gateway's answer is an empty list: `message_id` is the answer's, `ids` go before it."""

    message_id: int
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReqAccountUpdates:
    """reqAccountUpdates (6), on or off."""

    subscribe: bool
    account: str


@dataclass(frozen=True, slots=True)
class ReqAccountUpdatesMulti:
    """reqAccountUpdatesMulti (76), which clients send at connect."""

    req_id: int
    account: str
    model: str


@dataclass(frozen=True, slots=True)
class ReqAccountSummary:
    """reqAccountSummary (62) for these tags."""

    req_id: int
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReqPnl:
    """reqPnL (92)."""

    req_id: int
    account: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """The end of a subscription: `what` is the request's name in `_CANCELS`."""

    what: str
    req_id: int


@dataclass(frozen=True, slots=True)
class Plain:
    """A request that has no fields that matter: `what` is its name in `_PLAIN`."""

    what: str


@dataclass(frozen=True, slots=True)
class Unserved:
    """A question that IB answers and this gateway does not: error `code` to its own id, so that nobody waits for it."""

    req_id: int
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message id that this gateway does not know; answered by error 505."""

    message_id: int


Request = (
    PlaceOrder
    | CancelOrder
    | ReqOpenOrders
    | ReqExecutions
    | ReqCompletedOrders
    | ReqContractDetails
    | ReqMktData
    | ReqHistoricalData
    | ReqHeadTimestamp
    | ReqRealTimeBars
    | ReqOptionParams
    | ReqMatchingSymbols
    | ReqMarketRule
    | ReqPositionsMulti
    | ReqPnlSingle
    | SetMarketDataType
    | AutoBind
    | ReqEmptyList
    | ReqAccountUpdates
    | ReqAccountUpdatesMulti
    | ReqAccountSummary
    | ReqPnl
    | Cancel
    | Plain
    | Unserved
    | Unknown
)
