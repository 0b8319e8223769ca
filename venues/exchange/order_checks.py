"""What an order must be before it is matched: its parameters read, and the symbol's filters kept to.

Forms: the exchange's spot REST documentation (new order, filters, error codes), as of 2025.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, TypeVar, get_args

import msgspec

from venues.exchange.api_error import ApiError, illegal, missing, not_required
from venues.exchange.market import UNIT, parse_fixed8
from venues.exchange.matching import quote_amount
from venues.exchange.orders import OrderType, Side, TimeInForce

ResponseType = Literal["ACK", "RESULT", "FULL"]
T = TypeVar("T", bound=str)

NEW_ORDER_FIELDS: Final = frozenset(
    {"symbol", "side", "type", "timeInForce", "quantity", "quoteOrderQty", "price"}
    | {"newClientOrderId", "newOrderRespType", "selfTradePreventionMode", "computeCommissionRates"}
)
_DECIMAL: Final = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
_DECIMAL_TOLD: Final = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
_CLIENT_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,36}")
_CLIENT_ID_TOLD: Final = "^[a-zA-Z0-9-_]{1,36}$"
_RESPONSE_TYPE_ILLEGAL: Final = "Illegal characters found in parameter 'newOrderRespType'."
_COUNT_MAX: Final = 2**63 - 1


class NewOrder(msgspec.Struct, frozen=True):
    """An order as it was asked for. Zero: not given; `client_order_id` empty: the exchange names it."""

    symbol: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    qty: int
    quote_qty: int
    price: int
    client_order_id: str
    response_type: ResponseType


class _Filter(msgspec.Struct, rename="camel"):
    filter_type: str
    min_price: str = "0"
    max_price: str = "0"
    tick_size: str = "0"
    min_qty: str = "0"
    max_qty: str = "0"
    step_size: str = "0"
    min_notional: str = "0"
    max_notional: str = "0"
    apply_to_market: bool = True
    apply_min_to_market: bool = True
    apply_max_to_market: bool = True
    max_num_orders: int = 0
    bid_multiplier_up: str = "0"
    bid_multiplier_down: str = "0"
    ask_multiplier_up: str = "0"
    ask_multiplier_down: str = "0"


class _Listing(msgspec.Struct, rename="camel"):
    symbol: str
    status: str
    base_asset: str
    quote_asset: str
    filters: list[_Filter] = []
    order_types: list[str] = []
    quote_order_qty_market_allowed: bool = False


class TradingRules:
    """A listing's filters as far as orders must keep to them; 0 everywhere means that the filter is off."""

    def __init__(self, entry: bytes) -> None:
        """Read an entry of the listing. Raises msgspec.DecodeError where it is none."""
        listing = msgspec.json.decode(entry, type=_Listing)
        self.symbol, self.base, self.quote = listing.symbol, listing.base_asset, listing.quote_asset
        self.is_trading = listing.status == "TRADING"
        self.order_types = frozenset(listing.order_types)
        self.quote_qty_allowed = listing.quote_order_qty_market_allowed
        self._filters = {one.filter_type: one for one in listing.filters}
        lot = self._filters.get("LOT_SIZE", _Filter(""))
        self.step = max(1, parse_fixed8(lot.step_size))

    def check(self, order: NewOrder, market_px: int, open_orders: int) -> None:
        """Raise ApiError for the first filter that the order fails. `market_px`: the middle of the book, 0 for none."""
        if order.price:
            self._check_price(order, market_px)
        if order.qty:
            self._check_lot("LOT_SIZE", order.qty)
            if order.type == "MARKET":
                self._check_lot("MARKET_LOT_SIZE", order.qty)
        self._check_notional(order, market_px)
        limit = self._filters.get("MAX_NUM_ORDERS")
        if limit is not None and limit.max_num_orders and open_orders >= limit.max_num_orders:
            raise _failure("MAX_NUM_ORDERS")

    def _check_price(self, order: NewOrder, market_px: int) -> None:
        one = self._filters.get("PRICE_FILTER", _Filter(""))
        low, high, tick = parse_fixed8(one.min_price), parse_fixed8(one.max_price), parse_fixed8(one.tick_size)
        if order.price < low or (high and order.price > high) or (tick and (order.price - low) % tick):
            raise _failure("PRICE_FILTER")
        by_side = self._filters.get("PERCENT_PRICE_BY_SIDE")
        if by_side is None or not market_px:
            return
        bid = order.side == "BUY"
        up = parse_fixed8(by_side.bid_multiplier_up if bid else by_side.ask_multiplier_up)
        down = parse_fixed8(by_side.bid_multiplier_down if bid else by_side.ask_multiplier_down)
        if (up and order.price * UNIT > market_px * up) or order.price * UNIT < market_px * down:
            raise _failure("PERCENT_PRICE_BY_SIDE")

    def _check_lot(self, name: str, qty: int) -> None:
        one = self._filters.get(name, _Filter(""))
        low, high, step = parse_fixed8(one.min_qty), parse_fixed8(one.max_qty), parse_fixed8(one.step_size)
        if qty < low or (high and qty > high) or (step and (qty - low) % step):
            raise _failure(name)

    def _check_notional(self, order: NewOrder, market_px: int) -> None:
        is_market = order.type == "MARKET"
        price = order.price or market_px
        if order.quote_qty:
            notional = order.quote_qty
        elif price:
            notional = quote_amount(price, order.qty)
        else:
            return
        for name in ("MIN_NOTIONAL", "NOTIONAL"):
            one = self._filters.get(name)
            if one is None:
                continue
            applies_low = not is_market or (one.apply_to_market and one.apply_min_to_market)
            applies_high = name == "NOTIONAL" and (not is_market or one.apply_max_to_market)
            high = parse_fixed8(one.max_notional)
            if (applies_low and notional < parse_fixed8(one.min_notional)) or (
                applies_high and high and notional > high
            ):
                raise _failure(name)


def _failure(name: str) -> ApiError:
    return ApiError(-1013, f"Filter failure: {name}")


def read_new_order(query: Mapping[str, str], rules: TradingRules) -> NewOrder:
    """Return the order that a request asks for. Raises ApiError for what is missing, malformed or of no use."""
    side = _choice(query, "side", get_args(Side), -1117, "Invalid side.")
    kind = _choice(query, "type", get_args(OrderType), -1116, "Invalid orderType.")
    if kind not in rules.order_types:
        raise ApiError(-1014, "Unsupported order combination.")
    qty, quote_qty, price = (_amount(query, name) for name in ("quantity", "quoteOrderQty", "price"))
    time_in_force: TimeInForce = "GTC"
    match kind:
        case "LIMIT":
            time_in_force = _choice(query, "timeInForce", get_args(TimeInForce), -1115, "Invalid timeInForce.")
            _need(query, ("quantity", "price"), ("quoteOrderQty",))
        case "LIMIT_MAKER":
            _need(query, ("quantity", "price"), ("quoteOrderQty", "timeInForce"))
        case _:
            _need(query, (), ("price", "timeInForce"))
            if ("quantity" in query) == ("quoteOrderQty" in query):
                raise missing("quantity") if "quantity" not in query else not_required("quoteOrderQty")
            if "quoteOrderQty" in query and not rules.quote_qty_allowed:
                raise ApiError(-1106, "Quote order qty market orders are not supported for this symbol.")
    for name, value in (("quantity", qty), ("quoteOrderQty", quote_qty), ("price", price)):
        if name in query and value <= 0:
            raise ApiError(-1013, f"Invalid {'quantity' if name != 'price' else 'price'}.")
    told: ResponseType = "ACK" if kind == "LIMIT_MAKER" else "FULL"
    if "newOrderRespType" in query:
        told = _choice(query, "newOrderRespType", get_args(ResponseType), -1100, _RESPONSE_TYPE_ILLEGAL)
    return NewOrder(
        symbol=rules.symbol,
        side=side,
        type=kind,
        time_in_force=time_in_force,
        qty=qty,
        quote_qty=quote_qty,
        price=price,
        client_order_id=client_order_id(query, "newClientOrderId"),
        response_type=told,
    )


def client_order_id(query: Mapping[str, str], name: str) -> str:
    """Return a client's name for an order, empty where none was sent. Raises ApiError where it may not be one."""
    text = query.get(name)
    if text is None:
        return ""
    if not _CLIENT_ID.fullmatch(text):
        raise illegal(name, _CLIENT_ID_TOLD)
    return text


def _choice(query: Mapping[str, str], name: str, allowed: tuple[T, ...], code: int, message: str) -> T:
    text = query.get(name, "")
    if not text:
        raise missing(name)
    for choice in allowed:
        if text == choice:
            return choice
    raise ApiError(code, message)


def _amount(query: Mapping[str, str], name: str) -> int:
    text = query.get(name)
    if text is None:
        return 0
    if not text:
        raise missing(name)
    if not _DECIMAL.fullmatch(text):
        raise illegal(name, _DECIMAL_TOLD)
    whole, _, part = text.partition(".")
    if part[8:].strip("0"):
        raise ApiError(-1111, f"Parameter '{name}' has too much precision.")
    count = int(whole) * UNIT + int(part[:8].ljust(8, "0"))
    if count > _COUNT_MAX:
        raise ApiError(-1013, f"Invalid {'quantity' if name != 'price' else 'price'}.")
    return count


def _need(query: Mapping[str, str], needed: tuple[str, ...], refused: tuple[str, ...]) -> None:
    for name in needed:
        if name not in query:
            raise missing(name)
    for name in refused:
        if name in query:
            raise not_required(name)
