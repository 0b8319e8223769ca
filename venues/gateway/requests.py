"""Frames of a client, read into typed requests. Pure.

A request whose number is not a number, that is too short, or (placeOrder) that has a field left over raises
WireError: the session answers error 320 and goes on, since the frame's end is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from venues.gateway import layout
from venues.gateway.asked import (
    AutoBind,
    Cancel,
    CancelOrder,
    PlaceOrder,
    Plain,
    ReqAccountSummary,
    ReqAccountUpdates,
    ReqAccountUpdatesMulti,
    ReqCompletedOrders,
    ReqContractDetails,
    ReqEmptyList,
    ReqExecutions,
    ReqHeadTimestamp,
    ReqHistoricalData,
    ReqMarketRule,
    ReqMatchingSymbols,
    ReqMktData,
    ReqOpenOrders,
    ReqOptionParams,
    ReqPnl,
    ReqPnlSingle,
    ReqPositionsMulti,
    ReqRealTimeBars,
    Request,
    SetMarketDataType,
    Unknown,
    Unserved,
)
from venues.gateway.hours import read_time_ns
from venues.gateway.listing import Wanted
from venues.gateway.messages import COMPLETED_ORDER, CONTRACT_12, OPEN_ORDER, PLACE_ORDER
from venues.gateway.model import Ticket
from venues.gateway.wire import WireError, to_decimal, to_int

_PLAIN: Mapping[int, str] = {
    8: "ids",
    14: "log_level",
    17: "managed_accounts",
    49: "current_time",
    58: "global_cancel",
    61: "positions",
    64: "cancel_positions",
}
_CANCELS: Mapping[int, tuple[str, int]] = {
    2: ("market_data", 2),
    25: ("historical_data", 2),
    51: ("real_time_bars", 2),
    63: ("account_summary", 2),
    75: ("positions_multi", 2),
    77: ("account_updates_multi", 2),
    90: ("head_timestamp", 1),
    93: ("pnl", 1),
    95: ("pnl_single", 1),
}
"""Message id → name and place of the request id."""
PLACES_OF_IDS: Mapping[int, int] = {
    **dict.fromkeys((3, 20, 22, 78, 79, 81, 83, 84, 86, 87, 88, 92, 94, 96, 97, 104), 1),
    **dict.fromkeys((1, 4, 7, 9, 10, 50, 52, 54, 55, 62, 74, 76), 2),
}
"""Message id → place of the id that an error about it names."""

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
        expiry=values["expiry"],
        strike=to_decimal(values["strike"], "strike") or Decimal(0),
        right=values["right"] if values["right"] not in ("0", "?") else "",
        multiplier=values["multiplier"],
        exchange=values["exchange"],
        primary_exchange=values["primaryExchange"],
        currency=values["currency"],
        local_symbol=values["localSymbol"],
        trading_class=values["tradingClass"],
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


def _historical_data(fields: _Fields) -> Request:
    req_id, wanted = fields.whole("reqId"), fields.wanted()
    fields.text("includeExpired")
    end, bar_size, duration = fields.text("endDateTime"), fields.text("barSize"), fields.text("duration")
    use_rth, shown, format_date = fields.flag("useRTH"), fields.text("whatToShow"), fields.whole("formatDate")
    if wanted.sec_type == "BAG":
        fields.skip(4 * fields.whole("comboLegs"))
    keep = fields.flag("keepUpToDate")
    return ReqHistoricalData(req_id, wanted, end, bar_size, duration, use_rth, shown.upper(), format_date, keep)


def _head_timestamp(fields: _Fields) -> Request:
    req_id, wanted = fields.whole("reqId"), fields.wanted()
    fields.skip(3)
    return ReqHeadTimestamp(req_id, wanted, fields.whole("formatDate"))


def _real_time_bars(fields: _Fields) -> Request:
    fields.skip(1)
    req_id, wanted = fields.whole("reqId"), fields.wanted()
    fields.text("barSize")
    return ReqRealTimeBars(req_id, wanted, fields.text("whatToShow").upper())


def _option_params(fields: _Fields) -> Request:
    req_id = fields.whole("reqId")
    fields.skip(3)
    return ReqOptionParams(req_id, fields.whole("underlyingConId"))


def _positions_multi(fields: _Fields) -> Request:
    fields.skip(1)
    return ReqPositionsMulti(fields.whole("reqId"), fields.text("account"), fields.text("model"))


def _pnl_single(fields: _Fields) -> Request:
    req_id, account = fields.whole("reqId"), fields.text("account")
    fields.skip(1)
    return ReqPnlSingle(req_id, account, fields.whole("conId"))


def _auto_bind(fields: _Fields) -> Request:
    fields.skip(1)
    return AutoBind(fields.flag("autoBind"))


def _market_data_type(fields: _Fields) -> Request:
    fields.skip(1)
    return SetMarketDataType(fields.whole("marketDataType"))


def _empty_list(message_id: int) -> Callable[[_Fields], Request]:
    return lambda fields: ReqEmptyList(message_id)


def _empty_list_by_id(message_id: int) -> Callable[[_Fields], Request]:
    return lambda fields: ReqEmptyList(message_id, (str(fields.whole("reqId")),))


def _unserved(message_id: int, code: int, text: str) -> Callable[[_Fields], Request]:
    def read(fields: _Fields) -> Request:
        fields.skip(PLACES_OF_IDS[message_id] - 1)
        return Unserved(fields.whole("reqId"), code, text)

    return read


_NOT_HERE = "Error validating request.-'bF' : cause - not supported by this paper gateway"
_UNSERVED: Mapping[int, tuple[int, str]] = {
    10: (10092, "Deep market data is not supported for this combination of security type/exchange"),
    22: (162, "Historical Market Data Service error message:no market scanner here"),
    52: (430, "The fundamentals data for the security specified is not available."),
    54: (321, _NOT_HERE),
    55: (321, _NOT_HERE),
    84: (10172, "Failed to request news article"),
    86: (321, _NOT_HERE),
    88: (10188, "Failed to request histogram data:not supported by this paper gateway"),
    96: (10187, "Failed to request historical ticks:not supported by this paper gateway"),
    97: (10189, "Failed to request tick-by-tick data:not supported by this paper gateway"),
    104: (321, _NOT_HERE),
}
"""Message id → IB's error code and text."""

_READERS: Mapping[int, Callable[[_Fields], Request]] = {
    1: _market_data,
    4: _cancel_order,
    5: lambda fields: ReqOpenOrders(all_clients=False),
    6: _account_updates,
    7: _executions,
    9: _contract_details,
    16: lambda fields: ReqOpenOrders(all_clients=True),
    15: _auto_bind,
    20: _historical_data,
    50: _real_time_bars,
    59: _market_data_type,
    62: _account_summary,
    74: _positions_multi,
    76: _account_updates_multi,
    78: _option_params,
    79: _empty_list_by_id(77),
    80: _empty_list(78),
    81: lambda fields: ReqMatchingSymbols(fields.whole("reqId"), fields.text("pattern")),
    82: _empty_list(80),
    83: _empty_list_by_id(82),
    85: _empty_list(85),
    87: _head_timestamp,
    91: lambda fields: ReqMarketRule(fields.whole("marketRuleId")),
    92: lambda fields: ReqPnl(fields.whole("reqId"), fields.text("account")),
    94: _pnl_single,
    **{message_id: _unserved(message_id, *error) for message_id, error in _UNSERVED.items()},
    99: lambda fields: ReqCompletedOrders(fields.flag("apiOnly")),
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
        trigger_method=to_int(values["triggerMethod"], "triggerMethod"),
        outside_rth=to_int(values["outsideRth"], "outsideRth") != 0,
        good_till_ns=_time_ns(values["goodTillDate"]),
        good_after_ns=_time_ns(values["goodAfterTime"]),
        trail_px=to_decimal(values["trailStopPrice"], "trailStopPrice"),
        trail_percent=to_decimal(values["trailingPercent"], "trailingPercent"),
        limit_offset=to_decimal(values["lmtPriceOffset"], "lmtPriceOffset"),
        echo=_echo(values),
    )
    return PlaceOrder(ticket, wanted_of(values))


def _time_ns(text: str) -> int:
    """0 for no time, -1 for one that cannot be read: the order is refused for it, and not the frame."""
    try:
        return read_time_ns(text) if text else 0
    except ValueError:
        return -1


def _echo(values: Mapping[str, str]) -> dict[str, str]:
    """Keep what openOrder repeats unchanged and the engine does not know; empty texts are every field's default."""
    return {
        name: text for name, text in values.items() if text and (name in _ECHOED or name.split(".")[0] in _REPEATED)
    }
