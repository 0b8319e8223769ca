"""Two pictures of the same orders and positions, compared. Findings are data; nothing here corrects anything.

Identity is `client_order_id` (it travels as orderRef) and permId together. An order id alone proves nothing: it is
per client and can be given out again after a roll-back.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

from kernels.order_state import WORKING, OrderEvent, OrderState, venue_event


class FindingKind(enum.StrEnum):
    """What is not the same."""

    MISSING_HERE = "missing_here"
    MISSING_THERE = "missing_there"
    QUANTITY = "quantity"
    PRICE = "price"
    STATE = "state"
    EXTERNAL_ORDER = "external_order"
    TWO_PERM_IDS = "two_perm_ids"
    POSITION = "position"


class Finding(msgspec.Struct, frozen=True):
    """One divergence; `subject` is a client order id, `perm:<permId>`, or a symbol. The evidence is for a person."""

    kind: FindingKind
    subject: str
    evidence: str

    @property
    def key(self) -> str:
        """What makes it the same finding at the next comparison."""
        return f"{self.kind}.{self.subject}"


class OurOrder(msgspec.Struct, frozen=True):
    """An order as we know it. Prices 0: the type has none, or it is not known here (then not compared)."""

    client_order_id: str
    state: OrderState
    symbol: str
    qty: int
    cum_qty: int
    perm_id: int = 0
    limit_px: int = 0
    stop_px: int = 0


class TheirOrder(msgspec.Struct, frozen=True):
    """An order as the venue lists it. Zero or empty: not said."""

    client_order_id: str
    perm_id: int
    status: str
    symbol: str
    qty: int
    filled_qty: int
    completed: bool
    limit_px: int = 0
    stop_px: int = 0


def is_theirs(ours: OurOrder, theirs: TheirOrder) -> bool:
    """Whether both name the same order: by our reference, or, where the venue gives none, by a known permId."""
    if theirs.client_order_id:
        return theirs.client_order_id == ours.client_order_id
    return ours.perm_id != 0 and theirs.perm_id == ours.perm_id


def compare_orders(
    ours: Iterable[OurOrder], theirs: Iterable[TheirOrder], fund_tag: str, known_before: frozenset[str] = frozenset()
) -> tuple[Finding, ...]:
    """Compare complete pictures (the caller knows that no query failed).

    Completed orders that we no longer keep (`known_before`, or any completed one of ours: records are pruned) are no
    finding; one of ours that *works* there and is not here is. O(ours + theirs).
    """
    mine = {order.client_order_id: order for order in ours}
    by_perm = {order.perm_id: order for order in mine.values() if order.perm_id}
    listed: dict[str, list[TheirOrder]] = {}
    findings: list[Finding] = []
    for their in theirs:
        order = mine.get(their.client_order_id) if their.client_order_id else by_perm.get(their.perm_id)
        if order is not None:
            listed.setdefault(order.client_order_id, []).append(their)
        elif not their.completed and their.client_order_id not in known_before:
            findings.append(_stranger(their, fund_tag))
    for order in mine.values():
        findings.extend(_compare_one(order, listed.get(order.client_order_id, [])))
    return tuple(findings)


def compare_positions(
    ours: Iterable[tuple[str, int]], theirs: Iterable[tuple[str, int]], ignored: frozenset[str] = frozenset()
) -> tuple[Finding, ...]:
    """Compare (symbol, signed quantity) pairs; a symbol that one side does not name is flat there."""
    here, there = dict(ours), dict(theirs)
    return tuple(
        Finding(FindingKind.POSITION, symbol, f"ours {here.get(symbol, 0)}, venue's {there.get(symbol, 0)} (1e-8)")
        for symbol in sorted({*here, *there} - ignored)
        if here.get(symbol, 0) != there.get(symbol, 0)
    )


def absent(
    client_order_id: str, perm_id: int, theirs: Iterable[TheirOrder], executed: Iterable[tuple[str, int]]
) -> bool:
    """Whether neither the venue's orders nor its executions, as (client order id, permId), know this order."""
    probe = OurOrder(client_order_id, OrderState.UNKNOWN, "", 0, 0, perm_id)
    if any(is_theirs(probe, their) for their in theirs):
        return False
    return not any(ref == client_order_id if ref else perm_id != 0 and perm == perm_id for ref, perm in executed)


def _stranger(their: TheirOrder, fund_tag: str) -> Finding:
    evidence = f"{their.symbol} {their.status} qty {their.qty} permId {their.perm_id}"
    if their.client_order_id.startswith(fund_tag + "-"):
        return Finding(FindingKind.MISSING_HERE, their.client_order_id, evidence)
    return Finding(FindingKind.EXTERNAL_ORDER, f"perm:{their.perm_id}", f"{evidence} ref {their.client_order_id!r}")


def _compare_one(order: OurOrder, listed: list[TheirOrder]) -> Iterable[Finding]:
    subject = order.client_order_id
    perm_ids = sorted({their.perm_id for their in listed if their.perm_id} | ({order.perm_id} - {0}))
    if len(perm_ids) > 1:
        yield Finding(FindingKind.TWO_PERM_IDS, subject, f"permIds {perm_ids}: one reference, several live orders")
    if not listed:
        if order.state in WORKING:
            yield Finding(FindingKind.MISSING_THERE, subject, f"{order.state} here, not among the venue's orders")
        return
    # A venue may list an order as open and as completed while it ends: the completed entry is the later one.
    their = max(listed, key=lambda entry: entry.completed)
    event = venue_event(their.status, their.perm_id, True)
    if not _agree(order.state, event, their.completed):
        yield Finding(FindingKind.STATE, subject, f"{order.state} here, {their.status} there")
    if their.filled_qty and their.filled_qty != order.cum_qty:
        yield Finding(FindingKind.QUANTITY, subject, f"filled {order.cum_qty} here, {their.filled_qty} there (1e-8)")
    elif their.qty and not their.completed and their.qty != order.qty:
        yield Finding(FindingKind.QUANTITY, subject, f"size {order.qty} here, {their.qty} there (1e-8)")
    for name, here, there in (("limit", order.limit_px, their.limit_px), ("stop", order.stop_px, their.stop_px)):
        if here and there and here != there:
            yield Finding(FindingKind.PRICE, subject, f"{name} {here} here, {there} there (1e-8)")


def _agree(state: OrderState, event: OrderEvent | None, completed: bool) -> bool:
    match event:
        case OrderEvent.WORKING:
            return state in WORKING and not completed
        case OrderEvent.FILL_CLAIMED:
            return state is OrderState.FILLED
        case OrderEvent.CANCELLED:
            return state in (OrderState.CANCELLED, OrderState.FILLED)
        case OrderEvent.INACTIVE:
            return state in (OrderState.REJECTED, OrderState.PARTIALLY_FILLED)
        case _:
            return False
