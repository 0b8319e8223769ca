"""Faults of orders and of the user stream on demand: one type a fault, each counted by its name when it strikes.

They are put in force by `POST /paper/fault` and used up by what comes next. A later fault of a type takes the place
of an earlier one.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal, TypeVar

import msgspec

OrderCount = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=600)]
How = Literal["silent", "cut", "status_504"]
"""How an answer is lost: never given, the connection cut, or HTTP 504 with -1007 (status unknown)."""


class _Fault(msgspec.Struct, frozen=True, tag_field="fault", forbid_unknown_fields=True):
    @property
    def name(self) -> str:
        """Its name in requests and counters."""
        return str(self.__struct_config__.tag)


class RejectOrders(_Fault, frozen=True, tag="reject_orders"):
    """The next orders are refused with this code, and not placed."""

    n: OrderCount = 1
    code: int = -2010
    msg: str = "Account has insufficient balance for requested action."


class OrderStatus(_Fault, frozen=True, tag="order_status"):
    """The next requests about orders are answered 429 or 418 with -1003, and not done."""

    n: OrderCount = 1
    status: Literal[429, 418] = 429
    retry_after_s: int = 1


class LostAnswer(_Fault, frozen=True, tag="lost_answer"):
    """The next orders are placed (or, with `placed` false, are not), and nobody is told by HTTP."""

    n: OrderCount = 1
    how: How = "silent"
    placed: bool = True


class LateAnswer(_Fault, frozen=True, tag="late_answer"):
    """The next orders are placed at once, and answered so much later."""

    seconds: Seconds
    n: OrderCount = 1


class LateOrder(_Fault, frozen=True, tag="late_order"):
    """The next orders get a lost answer, and reach the matching only so much later."""

    seconds: Seconds
    n: OrderCount = 1
    how: How = "status_504"


class PartialFill(_Fault, frozen=True, tag="partial_fill"):
    """Of what the next orders would take at once they take so many percent."""

    n: OrderCount = 1
    percent: Annotated[int, msgspec.Meta(ge=0, le=99)] = 50


class SilentReports(_Fault, frozen=True, tag="silent_reports"):
    """What happens to the account in the next transactions is not told on the user stream."""

    n: OrderCount = 1


class DuplicateReports(_Fault, frozen=True, tag="duplicate_reports"):
    """What happens to the account in the next transactions is told twice."""

    n: OrderCount = 1


class ReorderReports(_Fault, frozen=True, tag="reorder_reports"):
    """What happens to the account in the next transactions is told in reverse order."""

    n: OrderCount = 1


class UserStreamDrop(_Fault, frozen=True, tag="user_stream_drop"):
    """Connections of the user stream are cut; with `half_open` they stay open and say nothing more."""

    half_open: bool = False


class ListenKeyExpiry(_Fault, frozen=True, tag="listen_key_expiry"):
    """Every listenKey expires now."""


class ClockSkew(_Fault, frozen=True, tag="clock_skew"):
    """The exchange's clock is so much ahead (negative: behind) from now on."""

    ms: Annotated[int, msgspec.Meta(ge=-86_400_000, le=86_400_000)]


class HaltSymbol(_Fault, frozen=True, tag="halt_symbol"):
    """A symbol takes no orders and fills none until it is called back with `halted` false."""

    symbol: str
    halted: bool = True


CountedFault = (
    RejectOrders
    | OrderStatus
    | LostAnswer
    | LateAnswer
    | LateOrder
    | PartialFill
    | SilentReports
    | DuplicateReports
    | ReorderReports
)
OrderFault = CountedFault | UserStreamDrop | ListenKeyExpiry | ClockSkew | HaltSymbol
FaultT = TypeVar(
    "FaultT",
    RejectOrders,
    OrderStatus,
    LostAnswer,
    LateAnswer,
    LateOrder,
    PartialFill,
    SilentReports,
    DuplicateReports,
    ReorderReports,
)


class OrderFaultTable:
    """Which counted faults wait to strike, and how often each one did."""

    def __init__(self, counters: Counter[str]) -> None:
        self._waiting: dict[type[CountedFault], tuple[CountedFault, int]] = {}
        self.counters = counters
        self.skew_ms = 0

    def put(self, fault: CountedFault) -> int:
        """Put a fault in force; return how often it will strike."""
        self._waiting[type(fault)] = (fault, fault.n)
        return fault.n

    def strike(self, kind: type[FaultT]) -> FaultT | None:
        """Return the fault of this kind that strikes now, using it up by one and counting it; None for no fault."""
        found = self._waiting.get(kind)
        if found is None:
            return None
        fault, left = found
        if left == 1:
            del self._waiting[kind]
        else:
            self._waiting[kind] = (fault, left - 1)
        assert isinstance(fault, kind)
        self.counters[fault.name] += 1
        return fault
