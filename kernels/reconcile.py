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
    TERMS = "terms"
    """Another side, type or time in force."""
    QUANTITY = "quantity"
    PRICE = "price"
    STATE = "state"
    EXTERNAL_ORDER = "external_order"
    TWO_PERM_IDS = "two_perm_ids"
    POSITION = "position"
    """Both have one, of another size."""
    POSITION_MISSING_HERE = "position_missing_here"
    POSITION_MISSING_THERE = "position_missing_there"
    AVERAGE_PRICE = "average_price"
    MISSING_FILL = "missing_fill"
    """An execution of ours that the venue has and our positions do not."""
    COMMISSION = "commission"
    """An execution whose commission nobody has told for long."""
    CASH = "cash"
    """The account's cash is not what our fills and commissions make of it."""
    EQUITY = "equity"
    """Its net liquidation is not that cash and our positions at its prices."""


OF_POSITIONS = frozenset(
    {
        FindingKind.POSITION,
        FindingKind.POSITION_MISSING_HERE,
        FindingKind.POSITION_MISSING_THERE,
        FindingKind.AVERAGE_PRICE,
    }
)
"""What a read of positions alone can find, and clear."""

OF_MONEY = frozenset({FindingKind.CASH, FindingKind.EQUITY})
"""What only a read with account values can find, and clear."""


class Finding(msgspec.Struct, frozen=True):
    """One divergence; `subject` is a client order id, `perm:<permId>`, a symbol, or account and currency.

    The evidence is for a person."""

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
    side: str = ""
    order_type: str = ""
    time_in_force: str = ""


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
    side: str = ""
    order_type: str = ""
    time_in_force: str = ""


class Holding(msgspec.Struct, frozen=True):
    """A position of either side. `slack_px` is by how much its average may differ without meaning anything."""

    symbol: str
    qty: int
    avg_px: int = 0
    slack_px: int = 0


class OurFill(msgspec.Struct, frozen=True):
    """An execution that our positions hold; `commissioned` once its commission was told."""

    exec_base: str
    revision: int
    symbol: str
    qty: int
    px: int
    ts_event_ns: int
    commissioned: bool


class TheirFill(msgspec.Struct, frozen=True):
    """An execution as the venue lists it, by the same split id."""

    exec_base: str
    revision: int
    client_order_id: str
    symbol: str
    qty: int
    px: int
    ts_event_ns: int


class Listing(msgspec.Struct, frozen=True):
    """Who is in a venue's lists of orders: by our reference, or, where the venue gives none, by permId."""

    references: frozenset[str]
    perm_ids: frozenset[int]

    @staticmethod
    def of(theirs: Iterable[TheirOrder]) -> Listing:
        """Collect. O(theirs)."""
        orders = tuple(theirs)
        unnamed = frozenset(their.perm_id for their in orders if not their.client_order_id and their.perm_id)
        return Listing(frozenset(their.client_order_id for their in orders if their.client_order_id), unnamed)

    def has(self, client_order_id: str, perm_id: int) -> bool:
        """Whether this order of ours is among them, as `is_theirs` decides it. O(1)."""
        return client_order_id in self.references or perm_id in self.perm_ids


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
    ours: Iterable[Holding],
    theirs: Iterable[Holding],
    ignored: frozenset[str] = frozenset(),
    average_bps_max: int = 0,
) -> tuple[Finding, ...]:
    """Compare signed quantities, and average prices where both hold the same; `average_bps_max` 0: quantities alone.

    A symbol that one side does not name is flat there.
    """
    here = {holding.symbol: holding for holding in ours}
    there = {holding.symbol: holding for holding in theirs}
    found = (
        _compare_holding(here.get(symbol, Holding(symbol, 0)), there.get(symbol, Holding(symbol, 0)), average_bps_max)
        for symbol in sorted({*here, *there} - ignored)
    )
    return tuple(finding for finding in found if finding is not None)


def compare_fills(
    ours: Iterable[OurFill], theirs: Iterable[TheirFill], fund_tag: str, known_from_ns: int, untold_since_ns: int
) -> tuple[Finding, ...]:
    """Find executions of this fund that are not here (in their latest correction), and commissions told by nobody.

    Executions up to `known_from_ns` are not judged: ours of that age are kept as positions only. A commission counts
    as missing for an execution older than `untold_since_ns`.
    """
    mine = {fill.exec_base: fill for fill in ours}
    findings: list[Finding] = []
    latest: dict[str, TheirFill] = {}
    for fill in theirs:
        known = latest.get(fill.exec_base)
        if known is None or fill.revision > known.revision:
            latest[fill.exec_base] = fill
    for base, fill in latest.items():
        ours_of_it = mine.get(base)
        if not fill.client_order_id.startswith(fund_tag + "-") or fill.ts_event_ns <= known_from_ns:
            continue
        there = f"revision {fill.revision}, {fill.symbol} {fill.qty} at {fill.px} (1e-8) there"
        if ours_of_it is None:
            evidence = f"{fill.client_order_id}: {there}, not here"
        elif ours_of_it.revision < fill.revision:
            here = f"revision {ours_of_it.revision}, {ours_of_it.qty} at {ours_of_it.px} here"
            evidence = f"{fill.client_order_id}: {there}, {here}"
        else:
            continue
        findings.append(Finding(FindingKind.MISSING_FILL, base, evidence))
    for own in mine.values():
        if not own.commissioned and own.ts_event_ns < untold_since_ns:
            evidence = f"{own.symbol} {own.qty} at {own.px} (1e-8) of {own.ts_event_ns}: no commission was told"
            findings.append(Finding(FindingKind.COMMISSION, own.exec_base, evidence))
    return tuple(findings)


def absent(
    client_order_id: str, perm_id: int, theirs: Iterable[TheirOrder], executed: Iterable[tuple[str, int]]
) -> bool:
    """Whether neither the venue's orders nor its executions, as (client order id, permId), know this order."""
    probe = OurOrder(client_order_id, OrderState.UNKNOWN, "", 0, 0, perm_id)
    if any(is_theirs(probe, their) for their in theirs):
        return False
    return not any(ref == client_order_id if ref else perm_id != 0 and perm == perm_id for ref, perm in executed)


def _compare_holding(ours: Holding, theirs: Holding, average_bps_max: int) -> Finding | None:
    symbol = ours.symbol
    if ours.qty != theirs.qty:
        kind = FindingKind.POSITION
        if not ours.qty:
            kind = FindingKind.POSITION_MISSING_HERE
        elif not theirs.qty:
            kind = FindingKind.POSITION_MISSING_THERE
        return Finding(kind, symbol, f"ours {ours.qty}, venue's {theirs.qty} (1e-8)")
    if not (average_bps_max and ours.qty and ours.avg_px and theirs.avg_px):
        return None
    allowed = abs(ours.avg_px) * average_bps_max // 10_000 + ours.slack_px
    if abs(ours.avg_px - theirs.avg_px) <= allowed:
        return None
    evidence = f"average {ours.avg_px} here, {theirs.avg_px} there, {allowed} allowed (1e-8), of {ours.qty}"
    return Finding(FindingKind.AVERAGE_PRICE, symbol, evidence)


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
    yield from _compare_terms(order, their)
    for name, here, there in (("limit", order.limit_px, their.limit_px), ("stop", order.stop_px, their.stop_px)):
        if here and there and here != there:
            yield Finding(FindingKind.PRICE, subject, f"{name} {here} here, {there} there (1e-8)")


def _compare_terms(order: OurOrder, their: TheirOrder) -> Iterable[Finding]:
    terms = (
        ("symbol", order.symbol, their.symbol),
        ("side", order.side, their.side),
        ("type", order.order_type, their.order_type),
        ("time in force", order.time_in_force, their.time_in_force),
    )
    other = [f"{name} {here} here, {there} there" for name, here, there in terms if here and there and here != there]
    if other:
        yield Finding(FindingKind.TERMS, order.client_order_id, "; ".join(other))


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
