"""Frames of a client, read into typed requests. Pure.

A request whose number is not a number, that is too short, or (placeOrder) that has a field left over raises
WireError: the session answers error 320 and goes on, since the frame's end is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from venues.gateway import layout
from venues.gateway.contracts import Wanted
from venues.gateway.messages import COMPLETED_ORDER, CONTRACT_12, OPEN_ORDER, PLACE_ORDER
from venues.gateway.model import Ticket
from venues.gateway.wire import WireError, to_decimal, to_int


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
    """reqHistoricalData (20), of which only the id is read."""

    req_id: int


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
class Unknown:
    """A message id that this gateway does not know; answered by error 505."""

    message_id: int


Request = (
    PlaceOrder
    | CancelOrder
    | ReqOpenOrders
    | ReqExecutions
    | ReqContractDetails
    | ReqMktData
    | ReqHistoricalData
    | ReqAccountUpdates
    | ReqAccountUpdatesMulti
    | ReqAccountSummary
    | ReqPnl
    | Cancel
    | Plain
    | Unknown
)

_PLAIN: Mapping[int, str] = {
    8: "ids",
    14: "log_level",
    15: "auto_open_orders",
    17: "managed_accounts",
    49: "current_time",
    58: "global_cancel",
    59: "market_data_type",
    61: "positions",
    64: "cancel_positions",
    99: "completed_orders",
}
_CANCELS: Mapping[int, tuple[str, int]] = {
    2: ("market_data", 2),
    25: ("historical_data", 2),
    63: ("account_summary", 2),
    77: ("account_updates_multi", 2),
    93: ("pnl", 1),
}
"""Message id → name and place of the request id."""

_ECHOED = (layout.defaults(OPEN_ORDER).keys() | layout.defaults(COMPLETED_ORDER).keys()) - {
    *("orderId", "action", "totalQuantity", "orderType", "lmtPrice", "auxPrice", "tif", "ocaGroup", "ocaType"),
    *("account", "orderRef", "clientId", "permId", "parentId", "whatIf", "status"),
    *(field.name for field in CONTRACT_12),
}
_REPEATED = ("algoParams", "smartComboRoutingParams", "comboLegs", "orderComboLegs", "conditions")


class _Fields:
    """The fields of one frame, read from the front; errors name the field."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._at = 0

    def text(self, name: str) -> str:
        if self._at >= len(self._texts):
            raise WireError(f"message ends before field {name}")
        self._at += 1
        return self._texts[self._at - 1]

    def whole(self, name: str) -> int:
        return to_int(self.text(name), name)

    def flag(self, name: str) -> bool:
        return self.whole(name) != 0

    def skip(self, count: int) -> None:
        self._at += count

    def wanted(self) -> Wanted:
        return wanted_of({field.name: self.text(field.name) for field in CONTRACT_12})


def wanted_of(values: Mapping[str, str]) -> Wanted:
    """Return what a contract's twelve fields choose. Raises WireError."""
    return Wanted(
        con_id=to_int(values["conId"], "conId"),
        symbol=values["symbol"],
        sec_type=values["secType"],
        exchange=values["exchange"],
        primary_exchange=values["primaryExchange"],
        currency=values["currency"],
        local_symbol=values["localSymbol"],
    )


def read_request(texts: Sequence[str], version: int, client_id: int) -> Request:
    """Return what a frame asks for. Raises WireError, naming what is wrong with it."""
    if not texts:
        raise WireError("an empty message")
    message_id = to_int(texts[0], "message id")
    if message_id == 3:
        return _place_order(texts[1:], version, client_id)
    if message_id in _PLAIN:
        return Plain(_PLAIN[message_id])
    fields = _Fields(texts)
    if message_id in _CANCELS:
        what, place = _CANCELS[message_id]
        fields.skip(place)
        return Cancel(what, fields.whole("reqId"))
    reader = _READERS.get(message_id)
    if reader is None:
        return Unknown(message_id)
    fields.skip(1)
    return reader(fields)


def _cancel_order(fields: _Fields) -> Request:
    fields.skip(1)
    return CancelOrder(fields.whole("orderId"))


def _contract_details(fields: _Fields) -> Request:
    fields.skip(1)
    return ReqContractDetails(fields.whole("reqId"), fields.wanted())


def _market_data(fields: _Fields) -> Request:
    fields.skip(1)
    req_id, wanted = fields.whole("reqId"), fields.wanted()
    if wanted.sec_type == "BAG":
        fields.skip(4 * fields.whole("comboLegs"))
    if fields.flag("deltaNeutralContract"):
        fields.skip(3)
    fields.text("genericTickList")
    return ReqMktData(req_id, wanted, fields.flag("snapshot"))


def _executions(fields: _Fields) -> Request:
    fields.skip(1)
    req_id, client_id = fields.whole("reqId"), fields.whole("clientId")
    names = ("account", "time", "symbol", "secType", "exchange", "side")
    account, time, symbol, sec_type, exchange, side = (fields.text(name) for name in names)
    return ReqExecutions(req_id, client_id, account, time, symbol, sec_type, exchange, side)


def _account_updates(fields: _Fields) -> Request:
    fields.skip(1)
    return ReqAccountUpdates(fields.flag("subscribe"), fields.text("account"))


def _account_updates_multi(fields: _Fields) -> Request:
    fields.skip(1)
    return ReqAccountUpdatesMulti(fields.whole("reqId"), fields.text("account"), fields.text("model"))


def _account_summary(fields: _Fields) -> Request:
    fields.skip(1)
    req_id, _group = fields.whole("reqId"), fields.text("group")
    tags = tuple(tag.strip() for tag in fields.text("tags").split(",") if tag.strip())
    return ReqAccountSummary(req_id, tags)


_READERS: Mapping[int, Callable[[_Fields], Request]] = {
    1: _market_data,
    4: _cancel_order,
    5: lambda fields: ReqOpenOrders(all_clients=False),
    6: _account_updates,
    7: _executions,
    9: _contract_details,
    16: lambda fields: ReqOpenOrders(all_clients=True),
    20: lambda fields: ReqHistoricalData(fields.whole("reqId")),
    62: _account_summary,
    76: _account_updates_multi,
    92: lambda fields: ReqPnl(fields.whole("reqId"), fields.text("account")),
}


def _place_order(texts: Sequence[str], version: int, client_id: int) -> PlaceOrder:
    values = layout.read(PLACE_ORDER, version, texts)
    ticket = Ticket(
        client_id=client_id,
        order_id=to_int(values["orderId"], "orderId"),
        con_id=to_int(values["conId"], "conId"),
        symbol=values["symbol"],
        exchange=values["exchange"],
        action=values["action"].upper(),
        qty=to_decimal(values["totalQuantity"], "totalQuantity") or Decimal(0),
        order_type=values["orderType"].upper(),
        limit_px=to_decimal(values["lmtPrice"], "lmtPrice"),
        stop_px=to_decimal(values["auxPrice"], "auxPrice"),
        tif=values["tif"].upper(),
        oca_group=values["ocaGroup"],
        oca_type=to_int(values["ocaType"], "ocaType"),
        parent_id=to_int(values["parentId"], "parentId"),
        order_ref=values["orderRef"],
        account=values["account"],
        transmit=to_int(values["transmit"], "transmit") != 0,
        what_if=to_int(values["whatIf"], "whatIf") != 0,
        has_conditions=values["conditions"] != "0",
        echo=_echo(values),
    )
    return PlaceOrder(ticket, wanted_of(values))


def _echo(values: Mapping[str, str]) -> dict[str, str]:
    """Keep what openOrder repeats unchanged and the engine does not know; empty texts are every field's default."""
    return {
        name: text for name, text in values.items() if text and (name in _ECHOED or name.split(".")[0] in _REPEATED)
    }
