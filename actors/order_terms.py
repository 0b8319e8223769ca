"""The field's words that several messages share."""

from __future__ import annotations

import enum


class Side(enum.StrEnum):
    """Direction of an instruction."""

    BUY = "BUY"
    SELL = "SELL"


class OrderType(enum.StrEnum):
    """As IB names them."""

    MARKET = "MKT"
    LIMIT = "LMT"
    STOP = "STP"
    STOP_LIMIT = "STP LMT"


class Leg(enum.StrEnum):
    """Place of an order in its bracket."""

    ENTRY = "entry"
    TAKE_PROFIT = "take_profit"
    STOP_LOSS = "stop_loss"
    EXIT = "exit"
    """Alone in its family: a way out of a position."""
