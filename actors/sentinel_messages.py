"""What the stop sentinel and its driver, and the sentinel and the broker, say to each other."""

from __future__ import annotations

from actors.message import Message
from actors.order_messages import OrderPicture
from actors.venue_messages import VenuePosition


class WatchPrices(Message, frozen=True):
    """Sentinel to driver: have market data for these symbols and no others."""

    symbols: tuple[str, ...]


class PrintsSeen(Message, frozen=True):
    """The extremes that a market printed since the last such message of this symbol, with their times; Fixed8.

    Waiting ones of a symbol merge, so nothing that crossed a level is lost to conflation.
    """

    symbol: str
    low_px: int
    low_ns: int
    high_px: int
    high_ns: int
    last_px: int
    ts_event_ns: int
    count: int = 1


class PricesLost(Message, frozen=True):
    """There is no market data now, and why: until prices come again nothing is concluded from silence."""

    reason: str


class ShowOrders(Message, frozen=True):
    """To the broker: tell me what you hold now. Answered once, with nothing owed."""

    asked_by: str
    request_id: str


class OrdersShown(Message, frozen=True):
    """Broker: orders of open families and positions as it holds them, with the session that it has (or none)."""

    request_id: str
    session_id: str
    orders: tuple[OrderPicture, ...]
    positions: tuple[VenuePosition, ...]
