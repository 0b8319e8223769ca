"""What the gateway can be told to do wrong: armed by the control port, counted, bounded. Pure.

A fault on placeOrder, or on one kind of request, is armed with `nth` (the first of the coming ones that it hits,
counted from the arming) and `count` (how many it hits from there on). The first armed fault that matches a message
takes it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

import msgspec

ARMED_MAX = 100

PlaceKind = Literal["drop_at_place", "silence", "reject", "die_at_place"]
Kind = Literal[
    "drop_at_place",
    "silence",
    "reject",
    "die_at_place",
    "drop",
    "half_open",
    "refuse",
    "message",
    "inert_stop",
    "delay_fills",
    "hold_fills",
    "partial_fills",
    "duplicate_execution",
    "next_order_id",
    "unanswered",
]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="cmd", tag="fault"):
    """One line `{"cmd": "fault", "kind": …}` of the control port; docs/venues_gateway.md says what each kind reads."""

    kind: Kind
    client_id: int | None = None
    nth: int = 1
    count: int = 1
    when: Literal["before", "after"] = "after"
    accepted: bool = True
    on: bool = True
    seconds: float = 0.0
    ms: int = 0
    size: Decimal | None = None
    code: int = 0
    text: str = ""
    value: int = 1
    perm_id: int | None = None
    order_ref: str | None = None
    request: int = 0


@dataclass(slots=True)
class _Armed:
    fault: Fault
    skip: int
    left: int


@dataclass(slots=True)
class Faults:
    """The armed faults and how often each kind has struck."""

    struck: Counter[str] = field(default_factory=Counter)
    lost_connectivity: bool = False
    duplicate_executions: int = 0
    silenced: set[tuple[int, int]] = field(default_factory=set)
    """Orders (client id, order id) that are accepted and of which nothing is pushed to their client."""
    _armed: list[_Armed] = field(default_factory=list)

    def arm(self, fault: Fault) -> None:
        """Raises ValueError when too many are armed, or its numbers make no sense."""
        if fault.nth < 1 or fault.count < 1:
            raise ValueError("nth and count start at 1")
        if (fault.kind == "unanswered") != (fault.request > 0):
            raise ValueError("unanswered, and only that, needs request: the message id that is not answered")
        if len(self._armed) >= ARMED_MAX:
            raise ValueError(f"{ARMED_MAX} faults are armed already; clear them first")
        self._armed.append(_Armed(fault, fault.nth - 1, fault.count))

    def on_place(self, client_id: int) -> Fault | None:
        """Count a placeOrder against every armed fault of this client; return the one that takes it."""
        return self._on(client_id, 0)

    def swallows(self, client_id: int, message_id: int) -> bool:
        """True when a request of this kind is not to be answered."""
        return self._on(client_id, message_id) is not None

    def _on(self, client_id: int, request: int) -> Fault | None:
        taken: Fault | None = None
        for armed in self._armed:
            if armed.fault.client_id not in (None, client_id) or armed.fault.request != request:
                continue
            if armed.skip:
                armed.skip -= 1
            elif taken is None:
                armed.left -= 1
                taken = armed.fault
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
        self.lost_connectivity = False
        self.duplicate_executions = 0


MESSAGE_TEXTS = {
    1100: "Connectivity between IB and Trader Workstation has been lost.",
    1101: "Connectivity between IB and Trader Workstation has been restored - data lost.",
    1102: "Connectivity between IB and Trader Workstation has been restored - data maintained.",
    2103: "Market data farm connection is broken:usfarm",
    2104: "Market data farm connection is OK:usfarm",
    2105: "HMDS data farm connection is broken:ushmds",
    2106: "HMDS data farm connection is OK:ushmds",
    2107: "HMDS data farm connection is inactive but should be available upon demand.ushmds",
    2108: "Market data farm connection is inactive but should be available upon demand.usfarm",
    2110: "Connectivity between Trader Workstation and server is broken. It will be restored automatically.",
    2119: "Market data farm is connecting:usfarm",
    2157: "Sec-def data farm connection is broken:secdefnj",
    2158: "Sec-def data farm connection is OK:secdefnj",
    10197: "No market data during competing live session",
}
