"""When and at which price an order fills against the top of the book. Pure.

The book is one quote deep and endless in size unless a fault caps the size of a fill. An order that is marketable
when it comes fills at the touch; one that was resting fills at its limit, since the market came to it.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import msgspec

from venues.gateway.model import Order

DOUBLE_BID_ASK, LAST, DOUBLE_LAST, BID_ASK, LAST_OR_BID_ASK, MIDPOINT = 1, 2, 3, 4, 7, 8
TRIGGER_METHODS = (0, DOUBLE_BID_ASK, LAST, DOUBLE_LAST, BID_ASK, LAST_OR_BID_ASK, MIDPOINT)


class Quote(msgspec.Struct, frozen=True):
    """The top of the book of one instrument, and its last price."""

    bid: Decimal
    ask: Decimal
    last: Decimal

    @property
    def mid(self) -> Decimal:
        return (self.bid + self.ask) / 2


def trigger_method(order: Order, sec_type: str) -> int:
    """Return the method that elects this stop: options' default is double bid/ask, everything else's is last."""
    return order.ticket.trigger_method or (DOUBLE_BID_ASK if sec_type == "OPT" else LAST)


def touches(order: Order, quote: Quote, method: int) -> bool:
    """True when this quote alone touches or passes the stop: a buy's by the bid, a sell's by the ask."""
    stop_px = order.stop_px
    if stop_px is None:
        return False
    side_px = quote.bid if order.ticket.is_buy else quote.ask
    pxs = {
        DOUBLE_BID_ASK: (side_px,),
        BID_ASK: (side_px,),
        LAST_OR_BID_ASK: (quote.last, side_px),
        MIDPOINT: (quote.mid,),
    }.get(method, (quote.last,))
    return any(px >= stop_px if order.ticket.is_buy else px <= stop_px for px in pxs)


def hits_needed(method: int) -> int:
    """How many quotes in a row have to touch the stop."""
    return 2 if method in (DOUBLE_BID_ASK, DOUBLE_LAST) else 1


def trailed_px(order: Order, quote: Quote, method: int, tick: Decimal) -> Decimal:
    """Return where a trailing stop is after this quote: it follows the market one way and never goes back."""
    ticket = order.ticket
    if method in (DOUBLE_BID_ASK, BID_ASK):
        market = quote.ask if ticket.is_buy else quote.bid
    else:
        market = quote.mid if method == MIDPOINT else quote.last
    if ticket.trail_percent is not None:
        behind = market * ticket.trail_percent / 100
    else:
        assert ticket.stop_px is not None, "a trailing stop has a distance: it was checked when it was accepted"
        behind = ticket.stop_px
    start = order.trail_px if order.trail_px is not None else ticket.trail_px
    if ticket.is_buy:
        px = ((market + behind) / tick).to_integral_value(ROUND_CEILING) * tick
        return px if start is None else min(start, px)
    px = ((market - behind) / tick).to_integral_value(ROUND_FLOOR) * tick
    return px if start is None else max(start, px)


def fill_px(order: Order, quote: Quote) -> Decimal | None:
    """Return the price of a fill now, never worse than the limit, or None where the order is not marketable."""
    touch = quote.ask if order.ticket.is_buy else quote.bid
    limit = order.limit_px
    if limit is None:
        return touch
    marketable = touch <= limit if order.ticket.is_buy else touch >= limit
    if not marketable:
        return None
    return limit if order.resting else touch
