"""Why a ticket is refused before anything is accepted: IB's error code and text, or nothing. Pure."""

from __future__ import annotations

from decimal import Decimal

from venues.gateway.model import Order, Ticket

Refusal = tuple[int, str]

DUPLICATE_ID: Refusal = (103, "Duplicate order id")
FILLED: Refusal = (104, "Cannot modify a filled order.")
MISMATCH: Refusal = (105, "Order being modified does not match original order")
MISSING_PARENT: Refusal = (10006, "Missing parent order.")
NO_CONTRACT: Refusal = (200, "No security definition has been found for the request")
CANCELLED: Refusal = (202, "Order Canceled - reason:")
TOO_MANY_STAGED: Refusal = (201, "Order rejected - reason:too many orders wait for their transmission")

_PRICES = {"MKT": (False, False), "LMT": (True, False), "STP": (False, True), "STP LMT": (True, True)}
"""Order type → needs a limit price, needs a stop price."""
_SINGLE_WORD = "MIT LIT MOC LOC TRAIL TRAILLMT REL MTL MIDPRICE VOL PEGMKT PEGMID BOX_TOP"
_OTHER_TYPES = {*_SINGLE_WORD.split(" "), "TRAIL LIMIT", "REL + LMT", "PEG BENCH", "PEG BEST", "PEG MID", "PEG MKT"}
QTY_MAX = Decimal(10) ** 8
PX_MAX = Decimal(10) ** 7
"""Bounds within which all sums of money are exact in 28 digits."""
_QTY_STEP = Decimal("0.0001")
_TIFS = ("", "DAY", "GTC", "IOC", "FOK")


def _invalid(cause: str) -> Refusal:
    return 321, f"Error validating request.-'bF' : cause - {cause}"


def refusal_of(ticket: Ticket, min_tick: Decimal, account: str) -> Refusal | None:
    """Check what the ticket says by itself, in the order in which IB was seen to."""
    needs = _PRICES.get(ticket.order_type)
    if needs is None:
        if ticket.order_type in _OTHER_TYPES:
            return 387, "Unsupported order type for this exchange and security type."
        return _invalid("Invalid order type was entered")
    if ticket.action not in ("BUY", "SELL"):
        return _invalid("Invalid order action was entered")
    if ticket.tif not in _TIFS:
        return _invalid(f"Time in force {ticket.tif} is not supported by this paper gateway")
    if ticket.qty <= 0:
        return _invalid("The order size cannot be zero")
    if ticket.qty >= QTY_MAX or ticket.qty % _QTY_STEP:
        return _invalid(f"The order size is not below {QTY_MAX:f} in steps of {_QTY_STEP}")
    if ticket.account not in ("", account):
        return _invalid("Invalid account code")
    if ticket.has_conditions:
        return _invalid("Conditional orders are not supported by this paper gateway")
    for needed, px, name in zip(needs, (ticket.limit_px, ticket.stop_px), ("limit", "stop"), strict=True):
        if needed and (px is None or not 0 < px < PX_MAX):
            return _invalid(f"The {name} price is missing, not positive, or too high")
        if needed and px is not None and px % min_tick:
            return 110, "The price does not conform to the minimum price variation for this contract."
    return None


def parent_refusal(ticket: Ticket, parent: Order | None, parent_staged: bool) -> Refusal | None:
    """Check the parent of a child: it must be waiting for transmission or working."""
    if not ticket.parent_id or parent_staged:
        return None
    if parent is None:
        return MISSING_PARENT
    if parent.is_working:
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
