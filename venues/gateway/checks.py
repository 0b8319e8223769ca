"""Why a ticket is refused before anything is accepted: IB's error code and text, or nothing. Pure."""

from __future__ import annotations

from decimal import Decimal

from venues.gateway.contracts import Instrument
from venues.gateway.matching import TRIGGER_METHODS
from venues.gateway.model import Order, Ticket

Refusal = tuple[int, str]

DUPLICATE_ID: Refusal = (103, "Duplicate order id")
NO_SUCH_ID: Refusal = (321, "Error validating request.-'bF' : cause - A new order's id is above 0")
INVALID_ACCOUNT: Refusal = (321, "Error validating request.-'bF' : cause - Invalid account code")
FILLED: Refusal = (104, "Cannot modify a filled order.")
MISMATCH: Refusal = (105, "Order being modified does not match original order")
MISSING_PARENT: Refusal = (10006, "Missing parent order.")
NO_CONTRACT: Refusal = (200, "No security definition has been found for the request")
CANCELLED: Refusal = (202, "Order Canceled - reason:")
PRICE_VARIATION: Refusal = (110, "The price does not conform to the minimum price variation for this contract.")
TOO_MANY_STAGED: Refusal = (201, "Order rejected - reason:too many orders wait for their transmission")

_PRICES = {
    "MKT": (False, False),
    "LMT": (True, False),
    "STP": (False, True),
    "STP LMT": (True, True),
    "TRAIL": (False, False),
    "TRAIL LIMIT": (False, False),
}
"""Order type → needs a limit price, needs a stop price."""
_SINGLE_WORD = "MIT LIT MOC LOC REL MTL MIDPRICE VOL PEGMKT PEGMID BOX_TOP"
_OTHER_TYPES = {*_SINGLE_WORD.split(" "), "REL + LMT", "PEG BENCH", "PEG BEST", "PEG MID", "PEG MKT"}
QTY_MAX = Decimal(10) ** 8
PX_MAX = Decimal(10) ** 7
"""Bounds within which all sums of money are exact in 28 digits."""
_QTY_STEP = Decimal("0.0001")
TIFS = ("", "DAY", "GTC", "GTD", "IOC", "FOK")


def _invalid(cause: str) -> Refusal:
    return 321, f"Error validating request.-'bF' : cause - {cause}"


def refusal_of(ticket: Ticket, instrument: Instrument, account: str) -> Refusal | None:
    """Check what the ticket says by itself, in the order in which IB was seen to."""
    needs = _PRICES.get(ticket.order_type)
    if needs is None and ticket.order_type not in _OTHER_TYPES:
        return _invalid("Invalid order type was entered")
    if needs is None or not instrument.is_tradable:
        return 387, "Unsupported order type for this exchange and security type."
    if ticket.action not in ("BUY", "SELL"):
        return _invalid("Invalid order action was entered")
    if ticket.tif not in TIFS:
        return _invalid(f"Time in force {ticket.tif} is not supported by this paper gateway")
    if ticket.good_till_ns < 0 or ticket.good_after_ns < 0:
        return 391, "The time or date entered is invalid: yyyymmdd hh:mm:ss zone, or yyyymmdd-hh:mm:ss in UTC"
    if (ticket.tif == "GTD") != bool(ticket.good_till_ns):
        return _invalid("A good till date is given with time in force GTD, and only with it")
    if ticket.trigger_method not in TRIGGER_METHODS:
        return _invalid(f"Trigger method {ticket.trigger_method} is not one of {TRIGGER_METHODS}")
    if ticket.qty <= 0:
        return _invalid("The order size cannot be zero")
    step = Decimal(1) if instrument.is_derived else _QTY_STEP
    if ticket.qty >= QTY_MAX or ticket.qty % step:
        return _invalid(f"The order size is not below {QTY_MAX:f} in steps of {step}")
    if ticket.account not in ("", account):
        return INVALID_ACCOUNT
    if ticket.has_conditions:
        return _invalid("Conditional orders are not supported by this paper gateway")
    for needed, px, name in zip(needs, (ticket.limit_px, ticket.stop_px), ("limit", "stop"), strict=True):
        if needed and (px is None or not 0 < px < PX_MAX):
            return _invalid(f"The {name} price is missing, not positive, or too high")
        if needed and px is not None and px % instrument.min_tick:
            return PRICE_VARIATION
    return _trailing_refusal(ticket, instrument) if ticket.is_trailing else None


def _trailing_refusal(ticket: Ticket, instrument: Instrument) -> Refusal | None:
    """Check distance, start and limit of a trailing stop."""
    amount, percent = ticket.stop_px, ticket.trail_percent
    if percent is not None and not 0 < percent < 100:
        return _invalid(f"The trailing percent {percent} is not between 0 and 100")
    if percent is None and (amount is None or not 0 < amount < PX_MAX):
        return _invalid("A trailing stop needs a trailing amount above 0 or a trailing percent")
    if ticket.trail_px is not None and not 0 < ticket.trail_px < PX_MAX:
        return _invalid("The trailing stop price is not positive, or too high")
    if ticket.trail_px is not None and ticket.trail_px % instrument.min_tick:
        return PRICE_VARIATION
    if (
        ticket.order_type == "TRAIL LIMIT"
        and ticket.limit_offset is None
        and None in (ticket.limit_px, ticket.trail_px)
    ):
        return _invalid("A trailing stop limit needs a limit offset, or a limit price and a trailing stop price")
    return None


def parent_refusal(ticket: Ticket, parent: Order | None, parent_staged: bool) -> Refusal | None:
    """Check the parent of a child: it must be waiting for transmission or working."""
    if not ticket.parent_id or parent_staged:
        return None
    if parent is None:
        return MISSING_PARENT
    if not parent.is_done:
        return None
    if parent.filled:
        return 135, f"Can't find order with id = {ticket.parent_id}"
    return 201, "Order rejected - reason:Parent order is being cancelled."


def modify_refusal(order: Order, ticket: Ticket) -> Refusal | None:
    """Check that a second ticket under a working order's id still means that order."""
    if (ticket.con_id, ticket.action) != (order.ticket.con_id, order.ticket.action):
        return MISMATCH
    if ticket.qty <= order.filled:
        return MISMATCH
    return None
