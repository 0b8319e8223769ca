"""What the engine left to be told, as frames of the sessions it concerns, with the faults of telling. No I/O.

Only the client that placed an order is told of it. Messages of a fill: execDetails, openOrder, orderStatus,
commissionReport; the faults of the table may drop, double, delay or reorder single ones of them.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping
from typing import assert_never

from venues.gateway import replies
from venues.gateway.faults import Faults
from venues.gateway.listing import Listing
from venues.gateway.model import (
    CommissionTold,
    ErrorTold,
    Execution,
    ExecutionTold,
    Notice,
    OrderTold,
    StatusTold,
    WhatIfTold,
    owner_of,
)
from venues.gateway.replies import Fields
from venues.gateway.session import Client
from venues.gateway.wire import join_fields

LATE_MAX = 10_000
"""Frames that wait to be told late; beyond it they are told at once."""


class Teller:
    """Writes notices into outboxes; frames that are to come late wait here by their time."""

    def __init__(
        self,
        clients: Mapping[int, Client],
        faults: Faults,
        listing: Listing,
        account: str,
        counters: Counter[str],
        now_ns: Callable[[], int],
    ) -> None:
        self._clients = clients
        self._faults = faults
        self._listing = listing
        self._account = account
        self._counters = counters
        self._now_ns = now_ns
        self._late: list[tuple[int, int, Client, bytes]] = []
        self._late_count = 0
        self._told_first: dict[str, None] = {}
        """execIds whose commission went before them."""

    def error(self, client: Client, req_id: int, code: int, text: str) -> None:
        client.send(replies.error(client.version, req_id, code, text))
        self._counters[f"error_{code}"] += 1

    def tell(self, notice: Notice) -> None:
        client = self._clients.get(owner_of(notice))
        key = key_of(notice)
        if client is None or key[1] == 0 or self._faults.lost_connectivity or key in self._faults.silenced:
            self._counters["notices_untold"] += 1
            return
        version, account = client.version, self._account
        match notice:
            case OrderTold(order=order, status=status, why_held=why_held):
                instrument = self._listing.known(order.ticket.con_id)
                client.send(replies.open_order(version, order, instrument, account, status))
                self._status(client, key[1], status, replies.order_status(order, status, why_held))
            case StatusTold(status=status):
                self._status(client, key[1], status, replies.status_told(notice))
            case ExecutionTold(execution=fill):
                self._execution(client, fill)
            case CommissionTold(execution=fill):
                self._commission(client, fill)
            case ErrorTold(order_id=order_id, code=code, text=text):
                self.error(client, order_id, code, text)
            case WhatIfTold(ticket=ticket):
                client.send(replies.what_if(version, notice, self._listing.known(ticket.con_id), account))
            case _:
                assert_never(notice)

    def _status(self, client: Client, order_id: int, status: str, fields: Fields) -> None:
        fault = self._faults.on_status(client.client_id, status)
        frame = join_fields(fields)
        waiting = [late for late in client.late_frames if late[0] == order_id]
        if fault is None or fault.how == "duplicate":
            client.outbox += [frame, frame] if fault else [frame]
        elif fault.how == "late":
            client.late_frames.append((order_id, frame))
        if waiting:
            client.outbox += [late for _, late in waiting]
            client.late_frames = [late for late in client.late_frames if late not in waiting]

    def _execution(self, client: Client, fill: Execution) -> None:
        fault = self._faults.on_commission(client.client_id)
        if fault is not None:
            self._told_first[fill.exec_id] = None
            if fault.how == "first":
                client.send(replies.commission(fill))
            elif fault.how == "late":
                self._later(client, replies.commission(fill), (fault.ms or 0) * 1_000_000)
        fields = replies.execution(client.version, fill, self._listing.known(fill.con_id), -1)
        client.send(fields)
        if self._faults.duplicate_executions:
            self._faults.duplicate_executions -= 1
            self._faults.struck["duplicate_execution"] += 1
            client.send(fields)

    def _commission(self, client: Client, fill: Execution) -> None:
        if fill.exec_id in self._told_first:
            del self._told_first[fill.exec_id]
            return
        client.send(replies.commission(fill))

    def _later(self, client: Client, fields: Fields, delay_ns: int) -> None:
        if len(self._late) >= LATE_MAX:
            client.send(fields)
            return
        self._late_count += 1
        due_ns = self._now_ns() + delay_ns
        heapq.heappush(self._late, (due_ns, self._late_count, client, join_fields(fields)))

    def advance(self, now_ns: int) -> None:
        """Tell what is due; who has left is told nothing."""
        while self._late and self._late[0][0] <= now_ns:
            _, _, client, frame = heapq.heappop(self._late)
            if self._clients.get(client.client_id) is client:
                client.outbox.append(frame)

    def next_due_ns(self) -> int | None:
        return self._late[0][0] if self._late else None


def key_of(notice: Notice) -> tuple[int, int]:
    """Return client id and order id; an order id of 0 is an order by hand that no client knows by an id."""
    match notice:
        case OrderTold(order=order) | StatusTold(order=order):
            return order.ticket.key
        case ExecutionTold(execution=fill) | CommissionTold(execution=fill):
            return fill.client_id, fill.order_id
        case ErrorTold(client_id=client_id, order_id=order_id):
            return client_id, order_id
        case WhatIfTold(ticket=ticket):
            return ticket.key
