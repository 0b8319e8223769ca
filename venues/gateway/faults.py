"""What the gateway can be told to do wrong, as a table: kinds, the fields each reads, and what is armed. Pure.

A fault that strikes messages is armed with `nth` (the first of the coming ones that it hits, counted from the arming),
`count` (how many it hits from there on) and `chance` (of each of them to be hit, by a random generator of its own
`seed`). The first armed fault that matches a message takes it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

import msgspec

from venues.gateway.settings import REFUSE_S_MAX

ARMED_MAX = 100

Strikes = Literal["place", "request", "status", "commission", "now", "standing"]


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One row of the table: when it strikes, and the fields that it reads besides those of its `strikes`."""

    strikes: Strikes
    fields: tuple[str, ...]
    about: str


ARMING = ("nth", "count", "chance", "seed", "client_id")
KINDS: Mapping[str, FaultKind] = {
    "drop_at_place": FaultKind("place", ("when",), "reset the connection before or after the order is accepted"),
    "die_at_place": FaultKind("place", ("when",), "kill the gateway before the order, or once it is durable"),
    "silence": FaultKind("place", ("accepted",), "the order lives or is lost, and nothing is pushed about it"),
    "surface_late": FaultKind("place", ("ms",), "accepted, and unknown to every question for ms (0: until clear)"),
    "reject": FaultKind("place", ("code", "text"), "an error and no order"),
    "warn": FaultKind("place", ("code", "text"), "an error although the order is accepted and lives"),
    "inactive": FaultKind("place", ("code", "text", "first"), "error and Inactive, in either order; may be revived"),
    "no_shares": FaultKind("place", (), "404: held, whyHeld `locate`, until clear"),
    "two_perm_ids": FaultKind("place", (), "a change of an open order becomes a second order beside it"),
    "unanswered": FaultKind("request", ("request",), "a request of this message id gets no answer"),
    "no_end": FaultKind("request", ("request",), "a request is answered without its end message"),
    "request_error": FaultKind("request", ("request", "code", "text"), "a request is answered by this error"),
    "status": FaultKind("status", ("how", "status"), "orderStatus missing, duplicated, or told after the next one"),
    "commission": FaultKind("commission", ("how", "ms"), "commissionReport missing, late, or before its execution"),
    "duplicate_execution": FaultKind("now", ("count",), "the next executions are told twice under one execId"),
    "correct_execution": FaultKind("now", ("exec_id", "perm_id", "px"), "a fill is told again as `.02` at px"),
    "fill_after_cancel": FaultKind("now", ("count", "size"), "orders fill after their cancel was confirmed"),
    "drop": FaultKind("now", ("client_id",), "sessions are reset"),
    "half_open": FaultKind("now", ("client_id", "seconds"), "sockets stay open, nothing is read or written"),
    "refuse": FaultKind("now", ("seconds",), "sessions are reset and the port is closed"),
    "nightly_restart": FaultKind("now", ("seconds", "ms"), "as refuse; orders of the last ms are lost, ids go back"),
    "vanish": FaultKind("now", ("perm_id", "order_ref", "ms"), "a working order is unknown to every question for ms"),
    "login_required": FaultKind("now", ("seconds",), "sessions are reset; connections are taken and never answered"),
    "message": FaultKind("now", ("code", "text", "client_id"), "a system message; 1100 stops order reports"),
    "next_order_id": FaultKind("now", ("client_id", "value"), "the next valid id goes back"),
    "inert_stop": FaultKind("standing", ("perm_id", "order_ref"), "a stop, or all to come, is never elected"),
    "hold_fills": FaultKind("standing", (), "nothing fills"),
    "partial_fills": FaultKind("standing", ("size",), "a fill has at most this size"),
    "delay_fills": FaultKind("standing", ("ms",), "orders from now on do not fill before so long"),
    "competing_session": FaultKind("standing", (), "10197 on every market data line; no ticks"),
    "pacing": FaultKind("standing", (), "162 for historical data and 420 for real-time bars"),
}
Kind = Literal[
    "drop_at_place",
    "die_at_place",
    "silence",
    "surface_late",
    "reject",
    "warn",
    "inactive",
    "no_shares",
    "two_perm_ids",
    "unanswered",
    "no_end",
    "request_error",
    "status",
    "commission",
    "duplicate_execution",
    "correct_execution",
    "fill_after_cancel",
    "drop",
    "half_open",
    "refuse",
    "nightly_restart",
    "vanish",
    "login_required",
    "message",
    "next_order_id",
    "inert_stop",
    "hold_fills",
    "partial_fills",
    "delay_fills",
    "competing_session",
    "pacing",
]
_HOW = {"status": ("missing", "duplicate", "late"), "commission": ("missing", "late", "first")}


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="cmd", tag="fault"):
    """One line `{"cmd": "fault", "kind": …}` of the control port; KINDS says what each kind reads."""

    kind: Kind
    client_id: int | None = None
    nth: int = 1
    count: int = 1
    chance: float = 1.0
    seed: int = 1
    when: Literal["before", "after"] = "after"
    first: Literal["error", "status"] = "error"
    how: str = ""
    status: str = ""
    accepted: bool = True
    on: bool = True
    seconds: float = 0.0
    ms: int | None = None
    size: Decimal | None = None
    px: Decimal | None = None
    code: int = 0
    text: str = ""
    value: int = 1
    perm_id: int | None = None
    order_ref: str | None = None
    exec_id: str | None = None
    request: int = 0


class FaultError(ValueError):
    """A fault that makes no sense: the field, what it was given, and what it takes."""

    def __init__(self, name: str, value: object, remedy: str) -> None:
        super().__init__(f"{name}: {value!r} makes no sense here. Remedy: {remedy}.")


def check(fault: Fault) -> None:
    """Raises FaultError for a field that its kind does not read, or a value out of its range."""
    kind = KINDS[fault.kind]
    reads = {*kind.fields, "kind"}
    if kind.strikes in ("place", "request", "status", "commission"):
        reads |= set(ARMING)
    if kind.strikes == "standing":
        reads.add("on")
    for name in fault.__struct_fields__:
        value = getattr(fault, name)
        if name not in reads and value != _DEFAULTS[name]:
            known = ", ".join(sorted(reads - {"kind"})) or "no other field"
            raise FaultError(name, value, f"fault {fault.kind} reads {known}")
    _check_ranges(fault)
    if fault.kind in _HOW and fault.how not in _HOW[fault.kind]:
        raise FaultError("how", fault.how, f"one of {', '.join(_HOW[fault.kind])}")
    if fault.kind in ("unanswered", "no_end", "request_error") and fault.request <= 0:
        raise FaultError("request", fault.request, "the message id of the requests that it hits, as 7 for executions")
    if fault.kind in ("message", "request_error", "warn") and not fault.code:
        raise FaultError("code", fault.code, "the error code to send, as 1100")
    if fault.kind in ("refuse",) and not fault.seconds:
        raise FaultError("seconds", fault.seconds, f"more than 0 and at most {REFUSE_S_MAX}")


def _check_ranges(fault: Fault) -> None:
    for name in ("nth", "count", "value"):
        if getattr(fault, name) < 1:
            raise FaultError(name, getattr(fault, name), "a whole number from 1 on")
    if not 0 < fault.chance <= 1:
        raise FaultError("chance", fault.chance, "above 0 and at most 1")
    if not 0 <= fault.seconds <= REFUSE_S_MAX:
        raise FaultError("seconds", fault.seconds, f"from 0 to {REFUSE_S_MAX}")
    if fault.ms is not None and not 0 <= fault.ms <= REFUSE_S_MAX * 1000:
        raise FaultError("ms", fault.ms, f"from 0 to {REFUSE_S_MAX * 1000}")
    for name in ("size", "px"):
        value: Decimal | None = getattr(fault, name)
        if value is not None and not (value.is_finite() and 0 < value < 10**8):
            raise FaultError(name, str(value), "a number above 0 and below 100000000")


_DEFAULTS = {name: getattr(Fault(kind="drop"), name) for name in Fault.__struct_fields__}


@dataclass(slots=True)
class _Armed:
    fault: Fault
    skip: int
    left: int
    chance: random.Random


@dataclass(slots=True)
class Faults:
    """The armed faults and how often each kind has struck."""

    struck: Counter[str] = field(default_factory=Counter)
    lost_connectivity: bool = False
    login_required: bool = False
    competing_session: bool = False
    pacing: bool = False
    duplicate_executions: int = 0
    silenced: set[tuple[int, int]] = field(default_factory=set)
    """Orders (client id, order id) that are accepted and of which nothing is pushed to their client."""
    _armed: list[_Armed] = field(default_factory=list)

    def arm(self, fault: Fault) -> None:
        """Raises FaultError when too many are armed."""
        if len(self._armed) >= ARMED_MAX:
            raise FaultError("kind", fault.kind, f"{ARMED_MAX} faults are armed already: clear them first")
        self._armed.append(_Armed(fault, fault.nth - 1, fault.count, random.Random(fault.seed)))

    def on_place(self, client_id: int) -> Fault | None:
        """Count a placeOrder against every armed fault of this client; return the one that takes it."""
        return self._on("place", client_id)

    def on_request(self, client_id: int, message_id: int) -> Fault | None:
        return self._on("request", client_id, request=message_id)

    def on_status(self, client_id: int, status: str) -> Fault | None:
        return self._on("status", client_id, status=status)

    def on_commission(self, client_id: int) -> Fault | None:
        return self._on("commission", client_id)

    def _on(self, strikes: Strikes, client_id: int, request: int = 0, status: str = "") -> Fault | None:
        if not self._armed:
            return None
        taken: Fault | None = None
        for armed in self._armed:
            fault = armed.fault
            if KINDS[fault.kind].strikes != strikes or fault.client_id not in (None, client_id):
                continue
            if fault.request != request or fault.status not in ("", status):
                continue
            if armed.skip:
                armed.skip -= 1
            elif taken is None and armed.chance.random() < fault.chance:
                armed.left -= 1
                taken = fault
        self._armed = [armed for armed in self._armed if armed.left]
        if taken is not None:
            self.struck[taken.kind] += 1
        return taken

    def armed(self) -> list[dict[str, object]]:
        return [
            {"kind": armed.fault.kind, "client_id": armed.fault.client_id, "skip": armed.skip, "left": armed.left}
            for armed in self._armed
        ]

    def clear(self) -> None:
        self._armed.clear()
        self.silenced.clear()
        self.lost_connectivity = self.login_required = self.competing_session = self.pacing = False
        self.duplicate_executions = 0


MESSAGE_TEXTS = {
    100: "Max rate of messages per second has been exceeded",
    103: "Duplicate order id",
    104: "Cannot modify a filled order.",
    105: "Order being modified does not match original order",
    110: "The price does not conform to the minimum price variation for this contract.",
    135: "Can't find order with id",
    161: "Cancel attempted when order is not in a cancellable state.",
    162: "Historical Market Data Service error message:Historical data request pacing violation",
    200: "No security definition has been found for the request",
    201: "Order rejected - reason:Scripted by the control port",
    202: "Order Canceled - reason:",
    321: "Error validating request.-'bF' : cause - Scripted by the control port",
    399: "Order Message:\nWarning: your order will not be placed at the exchange until the next session",
    404: "Order held while securities are located.",
    420: "Invalid Real-time Query:Historical data request pacing violation",
    451: "This order would violate the account's minimum or maximum order size.",
    460: "No trading permissions.",
    1100: "Connectivity between IB and Trader Workstation has been lost.",
    1101: "Connectivity between IB and Trader Workstation has been restored - data lost.",
    1102: "Connectivity between IB and Trader Workstation has been restored - data maintained.",
    2103: "Market data farm connection is broken:usfarm",
    2104: "Market data farm connection is OK:usfarm",
    2105: "HMDS data farm connection is broken:ushmds",
    2106: "HMDS data farm connection is OK:ushmds",
    2107: "HMDS data farm connection is inactive but should be available upon demand.ushmds",
    2108: "Market data farm connection is inactive but should be available upon demand.usfarm",
    2109: "Order Event Warning: Attribute 'Outside Regular Trading Hours' is ignored based on the order type and "
    "destination. PlaceOrder is now being processed.",
    2110: "Connectivity between Trader Workstation and server is broken. It will be restored automatically.",
    2119: "Market data farm is connecting:usfarm",
    2157: "Sec-def data farm connection is broken:secdefnj",
    2158: "Sec-def data farm connection is OK:secdefnj",
    10006: "Missing parent order.",
    10147: "OrderId that needs to be cancelled is not found.",
    10148: "OrderId that needs to be cancelled can not be cancelled, state: Filled.",
    10197: "No market data during competing live session",
    10311: "This order will be directly routed to NASDAQ. Direct routed orders may result in higher trade fees.",
    10349: "Order TIF was set to DAY based on order preset.",
}
