"""Orders and executions in memory, with the indexes that are derived from them. Pure; folds the journal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from venues.gateway.model import Execution, IdsReset, Order, State

FIRST_PERM_ID = 1_000_001
KeyT = TypeVar("KeyT", str, int)


@dataclass(slots=True)
class OrderStore:
    """All orders and executions, with the indexes that are derived from them."""

    orders: dict[int, Order] = field(default_factory=dict)
    executions: dict[str, Execution] = field(default_factory=dict)
    ids: dict[tuple[int, int], int] = field(default_factory=dict)
    next_ids: dict[int, int] = field(default_factory=dict)
    working: dict[int, dict[int, None]] = field(default_factory=dict)
    """conId → permIds of working orders, oldest first."""
    inactive: dict[int, None] = field(default_factory=dict)
    """permIds of orders that are off the book and may come back."""
    children: dict[int, list[int]] = field(default_factory=dict)
    groups: dict[str, list[int]] = field(default_factory=dict)
    forgotten_ids: dict[int, int] = field(default_factory=dict)
    """Client id → the highest order id of a dropped order: such ids are duplicates without a look-up."""
    next_perm_id: int = FIRST_PERM_ID
    next_exec: int = 1

    def put(self, order: Order) -> None:
        """Add or change an order. The same call folds the journal."""
        known = self.orders.get(order.perm_id)
        self.orders[order.perm_id] = order
        client_id, order_id = order.ticket.key
        if known is not None and known.ticket.key != order.ticket.key:
            self.ids.pop(known.ticket.key, None)
        if not order.ticket.is_unbound and (known is None or known.ticket.key != order.ticket.key):
            self.ids[order.ticket.key] = order.perm_id
        if known is None:
            self.next_ids[client_id] = max(self.next_ids.get(client_id, 1), order_id + 1)
            self.next_perm_id = max(self.next_perm_id, order.perm_id + 1)
            if order.parent_perm_id:
                self.children.setdefault(order.parent_perm_id, []).append(order.perm_id)
        if order.oca_group and (known is None or known.oca_group != order.oca_group):
            self.groups.setdefault(order.oca_group, []).append(order.perm_id)
        on_book = self.working.setdefault(order.ticket.con_id, {})
        if order.is_working:
            on_book.setdefault(order.perm_id)
        else:
            on_book.pop(order.perm_id, None)
        if order.state is State.INACTIVE and not order.is_done:
            self.inactive.setdefault(order.perm_id)
        else:
            self.inactive.pop(order.perm_id, None)

    def add(self, execution: Execution) -> None:
        self.executions[execution.exec_id] = execution
        self.next_exec = max(self.next_exec, int(execution.exec_id.split(".")[1], 16) + 1)

    def latest_executions(self) -> list[Execution]:
        """Return each fill once, in order, as its last correction has it."""
        latest: dict[str, Execution] = {}
        for execution in self.executions.values():
            latest[execution.root] = execution
        return list(latest.values())

    def revisions(self, root: str) -> list[Execution]:
        """Return a fill and its corrections, oldest first."""
        return [execution for execution in self.executions.values() if execution.root == root]

    def reset_ids(self, reset: IdsReset) -> None:
        """Forget by id what is done from `next_id` on; what still works keeps its id, as a real order does."""
        for key, perm_id in list(self.ids.items()):
            if key[0] == reset.client_id and key[1] >= reset.next_id and self.orders[perm_id].is_done:
                del self.ids[key]
        self.next_ids[reset.client_id] = reset.next_id
        self.forgotten_ids.pop(reset.client_id, None)

    def find(self, client_id: int, order_id: int) -> Order | None:
        perm_id = self.ids.get((client_id, order_id))
        return None if perm_id is None else self.orders[perm_id]

    def working_orders(self) -> list[Order]:
        """All working orders, oldest first."""
        perm_ids = sorted(perm_id for on_book in self.working.values() for perm_id in on_book)
        return [self.orders[perm_id] for perm_id in perm_ids]

    def open_orders(self) -> list[Order]:
        """All orders that a question about open ones tells of, oldest first: also inactive ones, no hidden ones."""
        found = [*self.working_orders(), *(self.orders[perm_id] for perm_id in self.inactive)]
        return sorted((order for order in found if not order.is_hidden), key=lambda order: order.perm_id)

    def manual_id(self) -> int:
        """Return the next id for an order that was entered by hand: below zero, as IB binds them."""
        return min((order_id for client_id, order_id in self.ids if client_id == 0 and order_id < 0), default=-1) - 1

    def lose(self, perm_ids: Iterable[int]) -> None:
        """Forget orders as if they had never come; their ids are free again."""
        for perm_id in perm_ids:
            order = self.orders.pop(perm_id)
            if self.ids.get(order.ticket.key) == perm_id:
                del self.ids[order.ticket.key]
            self.working.get(order.ticket.con_id, {}).pop(perm_id, None)
            self.inactive.pop(perm_id, None)
            _leave(self.groups, order.oca_group, perm_id)
            _leave(self.children, order.parent_perm_id, perm_id)
            self.children.pop(perm_id, None)

    def forget(self, perm_ids: Iterable[int]) -> None:
        """Drop done orders from memory; their ids stay used."""
        for perm_id in perm_ids:
            order = self.orders.pop(perm_id)
            client_id, order_id = order.ticket.key
            if self.ids.get(order.ticket.key) == perm_id:
                del self.ids[order.ticket.key]
                self.forgotten_ids[client_id] = max(self.forgotten_ids.get(client_id, 0), order_id)
            _leave(self.groups, order.oca_group, perm_id)
            _leave(self.children, order.parent_perm_id, perm_id)
            self.children.pop(perm_id, None)


def _leave(index: dict[KeyT, list[int]], key: KeyT, perm_id: int) -> None:
    """Take an order out of an index; a key without orders is dropped."""
    members = index.get(key)
    if members is not None and perm_id in members:
        members.remove(perm_id)
        if not members:
            del index[key]
