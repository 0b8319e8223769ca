"""When and at which price an order fills against the top of the book. Pure.

The book is one quote deep and endless in size unless a fault caps the size of a fill. An order that is marketable
when it comes fills at the touch; one that was resting fills at its limit, since the market came to it. A stop is
elected by the last price (IB's default trigger method for US stocks).
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from venues.gateway.model import Order


class Quote(msgspec.Struct, frozen=True):
    """The top of the book of one stock, and its last price."""

    bid: Decimal
    ask: Decimal
    last: Decimal

    @property
    def mid(self) -> Decimal:
        return (self.bid + self.ask) / 2


def elects(order: Order, quote: Quote) -> bool:
    """True when the last price touches or passes the stop."""
    stop_px = order.ticket.stop_px
    assert stop_px is not None, "a stop order has a stop price: it was checked when it was accepted"
    return quote.last >= stop_px if order.ticket.is_buy else quote.last <= stop_px


def fill_px(order: Order, quote: Quote) -> Decimal | None:
    """Return the price of a fill now, never worse than the limit, or None where the order is not marketable."""
    touch = quote.ask if order.ticket.is_buy else quote.bid
    limit = order.ticket.limit_px
    if order.ticket.order_type in ("MKT", "STP"):
        return touch
    assert limit is not None, "a limit order has a limit price: it was checked when it was accepted"
    marketable = touch <= limit if order.ticket.is_buy else touch >= limit
    if not marketable:
        return None
    return limit if order.resting else touch
