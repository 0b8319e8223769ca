"""What complete reads prove absent: intents that nobody was sure of, and working orders that the venue took back.

Absence is proven by two complete reads of one session, the second begun a grace after the first had ended. The state
forgets first absences whenever the session or the incarnation changes: they are made again there. A read with a failed
query does not come here.

A working order is taken for gone only where nothing else could explain its absence: it was known to work before the
read began, nothing of it filled between the reads, and the venue's position in its symbol is ours in both. (Executions
are those of the gateway's day: an order that filled before it is in no list, but the position tells.)
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from actors.effects import Count, Effect, Send, StartTimer
from actors.messages import OrderPicture, PicturesTaken, Resolution, ResolveIntent, VenueRead
from actors.reconciler_findings import AGAIN_TIMER, their_orders
from actors.reconciler_state import QUANTITY_DIFFERS, Absence, ReconcilerSettings, ReconcilerState
from kernels.order_state import UNRESOLVED, WORKING, OrderState
from kernels.reconcile import Finding, Listing, TheirOrder, absent


def settle(
    settings: ReconcilerSettings,
    state: ReconcilerState,
    pictures: PicturesTaken,
    found: Collection[Finding],
    now_ns: int,
) -> tuple[ReconcilerState, tuple[Effect, ...]]:
    """Note what is absent from a complete read, and settle what was so a grace ago."""
    look = _Look(settings, state, pictures.read, found, now_ns)
    families: dict[str, list[OrderPicture]] = {}
    for order in pictures.orders:
        families.setdefault(order.intent_id, []).append(order)
    for orders in families.values():
        look.at_unresolved(orders)
        look.at_working(orders)
    if look.effects:
        look.effects.append(StartTimer(AGAIN_TIMER, settings.grace_ns))
    elif look.absences:
        look.effects.append(StartTimer(AGAIN_TIMER, look.next_ns()))
    if look.absences != state.absences:
        state = msgspec.structs.replace(state, absences=look.absences)
    return state, tuple(look.effects)


def is_unsettled(order: OrderPicture, taken_ns: int, grace_ns: int) -> bool:
    """UNKNOWN at once; one in flight in a living session only when the venue has been silent about it for long."""
    if order.state == OrderState.UNKNOWN:
        return True
    return order.state in UNRESOLVED and taken_ns - order.since_ns >= grace_ns


class _Look:
    """One complete read's evidence, while it is weighed. `absences`: what is to be looked at again."""

    def __init__(
        self,
        settings: ReconcilerSettings,
        state: ReconcilerState,
        read: VenueRead,
        found: Collection[Finding],
        now_ns: int,
    ) -> None:
        self.settings = settings
        self.before = state.absences
        self.read = read
        self.now_ns = now_ns
        self.theirs: tuple[TheirOrder, ...] = their_orders(read)
        self.listing = Listing.of(self.theirs)
        self.executed = tuple((execution.client_order_id, execution.perm_id) for execution in read.executions)
        self.disputed = {finding.subject for finding in found if finding.kind in QUANTITY_DIFFERS}
        self.absences: dict[str, Absence] = {}
        self.effects: list[Effect] = []

    def next_ns(self) -> int:
        """Return in how long the first of the absences may be settled."""
        return max(min(self._due_ns(one) for one in self.absences.values()) - self.now_ns, self.settings.recheck_ns)

    def at_unresolved(self, orders: list[OrderPicture]) -> None:
        """An intent whose orders that nobody is sure of are all absent."""
        read = self.read
        unsettled = [order for order in orders if is_unsettled(order, read.taken_ns, self.settings.grace_ns)]
        if not unsettled or not all(
            absent(order.client_order_id, order.perm_id, self.theirs, self.executed) for order in unsettled
        ):
            return
        intent_id = orders[0].intent_id
        first = self.before.get(intent_id) or Absence(read.session_id, read.taken_ns, read.request_id)
        if read.begun_ns < self._due_ns(first):
            self.absences[intent_id] = first
            return
        resolution = _resolution(orders, unsettled, self.now_ns)
        evidence = f"absent at {first.first_ns} and {read.taken_ns}: {len(unsettled)} of {len(orders)} orders"
        self._send(ResolveIntent(intent_id, read.session_id, resolution, evidence), f"resolved_{resolution.value}")

    def at_working(self, orders: list[OrderPicture]) -> None:
        """Working orders of one intent that are in no list. What one has filled so far says nothing about now."""
        if orders[0].symbol in self.disputed:
            return
        gone: dict[str, Absence] = {}
        for order in orders:
            is_known = order.state in WORKING and order.since_ns < self.read.begun_ns
            if not is_known or self.listing.has(order.client_order_id, order.perm_id):
                continue
            first = self.before.get(order.client_order_id)
            if first is None or first.cum_qty != order.cum_qty:
                first = Absence(self.read.session_id, self.read.taken_ns, self.read.request_id, order.cum_qty)
            if self.read.begun_ns < self._due_ns(first):
                self.absences[order.client_order_id] = first
            else:
                gone[order.client_order_id] = first
        if gone:
            evidence = self._evidence(orders[0].symbol, max(gone.values(), key=lambda one: one.first_ns))
            verdict = (orders[0].intent_id, self.read.session_id, Resolution.EXPIRE, evidence, tuple(gone))
            self._send(ResolveIntent(*verdict), "resolved_vanished")

    def _due_ns(self, first: Absence) -> int:
        """Return from when on a read has to begin to prove it."""
        of_order = first.cum_qty is not None
        return first.first_ns + (self.settings.vanished_grace_ns if of_order else self.settings.grace_ns)

    def _evidence(self, symbol: str, first: Absence) -> str:
        read = self.read
        return (
            f"neither an open nor a completed order in two complete reads of session {read.session_id}: "
            f"{first.request_id}, ended at {first.first_ns}, and {read.request_id}, begun at {read.begun_ns} and ended "
            f"at {read.taken_ns}; nothing of it filled in between, and the venue's position in {symbol} was ours"
        )

    def _send(self, resolve: ResolveIntent, counted: str) -> None:
        self.effects += [Send(self.settings.broker, resolve, owed=True), Count(counted)]


def _resolution(orders: list[OrderPicture], unsettled: list[OrderPicture], now_ns: int) -> Resolution:
    """Only a family of which nothing is at the venue, sent once and still wanted, may be sent again."""
    whole = len(unsettled) == len(orders)
    fresh = all(order.resends == 0 and now_ns < order.expires_ns for order in orders)
    return Resolution.RESEND_SAME_ID if whole and fresh else Resolution.EXPIRE
