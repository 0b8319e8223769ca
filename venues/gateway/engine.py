"""The order engine: acceptance, bracket families, OCA groups, matching. Pure: time, quotes and faults come in.

Every call changes the engine's state and leaves two lists to be taken by `take()`: records, which must be durable
before anything else happens, and notices, which are then sent to the clients that own the orders.

A family is a parent and its children by parentId. A ticket with transmit=False is staged: it is not accepted, nobody
is told of it, and it lives in memory only. A ticket with transmit=True releases the whole family it belongs to. A
child is held until its parent has filled. Children without an OCA group of their own get their parent's permId as
group, type 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from msgspec.structs import replace

from venues.gateway import checks
from venues.gateway.account import Account
from venues.gateway.matching import Quote, elects, fill_px
from venues.gateway.model import (
    ZERO,
    CommissionTold,
    ErrorTold,
    Execution,
    ExecutionTold,
    IdsReset,
    Notice,
    Order,
    OrderTold,
    PriceSet,
    Record,
    State,
    StatusTold,
    Ticket,
)
from venues.gateway.settings import Manners
from venues.gateway.store import OrderStore

STAGED_MAX = 5_000
BY_TRADER = "Cancelled by Trader"
BY_SYSTEM = "Cancelled by System:"


@dataclass(slots=True)
class Conduct:
    """What faults may change while it runs."""

    hold_fills: bool = False
    fill_qty_max: Decimal | None = None
    fill_delay_ns: int = 0
    inert_stops: bool = False


class OrderEngine:
    """Takes tickets, cancels, quotes and time; changes the store and the account. Not for threads."""

    def __init__(
        self,
        store: OrderStore,
        account: Account,
        manners: Manners,
        account_name: str,
        exchange_of: Callable[[int], str],
    ) -> None:
        self.store = store
        self.account = account
        self.conduct = Conduct()
        self.quotes: dict[int, Quote] = {}
        self.staged: dict[tuple[int, int], Ticket] = {}
        self._manners = manners
        self._account_name = account_name
        self._exchange_of = exchange_of
        self._notices: list[Notice] = []
        self._records: list[Record] = []
        self._due_ns: dict[int, int] = {}

    def take(self) -> tuple[list[Record], list[Notice]]:
        """Return and clear what the calls since the last take have left."""
        taken = self._records, self._notices
        self._records, self._notices = [], []
        return taken

    # ---- requests

    def place(self, ticket: Ticket, min_tick: Decimal, now_ns: int) -> None:
        """Take a new ticket, or a change of the order that already has its id."""
        order = self.store.find(*ticket.key)
        if order is not None and not order.is_working:
            self._refuse(ticket, checks.FILLED if order.state is State.FILLED else checks.DUPLICATE_ID)
            return
        if order is None and ticket.order_id <= self.store.forgotten_ids.get(ticket.client_id, 0):
            self._refuse(ticket, checks.DUPLICATE_ID)
            return
        parent_key = (ticket.client_id, ticket.parent_id)
        refusal = checks.refusal_of(ticket, min_tick, self._account_name) or checks.parent_refusal(
            ticket, self.store.find(*parent_key), parent_key in self.staged
        )
        if refusal is None and order is not None:
            refusal = checks.modify_refusal(order, ticket)
        elif refusal is None and len(self.staged) >= STAGED_MAX and ticket.key not in self.staged:
            refusal = checks.TOO_MANY_STAGED
        if refusal is not None:
            self._refuse(ticket, refusal)
        elif order is not None:
            if ticket.transmit:
                self._modify(order, ticket, now_ns)
        else:
            self.staged[ticket.key] = ticket
            if ticket.transmit:
                self._release(ticket, now_ns)

    def cancel(self, client_id: int, order_id: int, now_ns: int) -> None:
        """Cancel one order of this client; another client's order is not found, as with IB."""
        order = self.store.find(client_id, order_id)
        if order is None:
            if (client_id, order_id) in self.staged:
                self._unstage(client_id, order_id)
            else:
                text = f"OrderId {order_id} that needs to be cancelled is not found."
                self._notices.append(ErrorTold(client_id, order_id, 10147, text))
        elif not order.is_working:
            text = f"OrderId {order_id} that needs to be cancelled can not be cancelled, state: {order.status}."
            self._notices.append(ErrorTold(client_id, order_id, 10148, text))
        else:
            self._cancel(order, BY_TRADER, now_ns)

    def cancel_all(self, now_ns: int, reason: str = BY_TRADER, tif: str | None = None) -> None:
        """Cancel every working order of every client (of one time in force), newest first: children with parents."""
        for order in self.store.working_orders():
            current = self.store.orders[order.perm_id]
            if current.is_working and tif in (None, current.ticket.tif or "DAY"):
                self._cancel(current, reason, now_ns)

    def cancel_by_broker(self, order: Order, now_ns: int) -> None:
        """Cancel a working order without its client having asked."""
        self._cancel(order, BY_SYSTEM, now_ns)

    def reset_ids(self, client_id: int, next_id: int) -> None:
        reset = IdsReset(client_id=client_id, next_id=next_id)
        self.store.reset_ids(reset)
        self._records.append(reset)

    def set_inert(self, perm_id: int, inert: bool) -> bool:
        order = self.store.orders.get(perm_id)
        if order is None or not order.is_working:
            return False
        self._put(replace(order, inert=inert))
        return True

    # ---- the market and the clock

    def quote(self, con_id: int, quote: Quote, now_ns: int) -> None:
        self.quotes[con_id] = quote
        self._match_all(self.store.working.get(con_id, {}), now_ns)

    def advance(self, now_ns: int) -> None:
        """Match the orders whose delay has passed."""
        due = [perm_id for perm_id, at_ns in self._due_ns.items() if at_ns <= now_ns]
        for perm_id in due:
            del self._due_ns[perm_id]
        self._match_all(due, now_ns)

    def next_due_ns(self) -> int | None:
        return min(self._due_ns.values(), default=None)

    def match_everything(self, now_ns: int) -> None:
        """Look at every working order again: after a start, or when a fault ends that held fills back."""
        self._match_all([order.perm_id for order in self.store.working_orders()], now_ns)

    def next_order_id(self, client_id: int) -> int:
        staged = [order_id for owner, order_id in self.staged if owner == client_id]
        return max(self.store.next_ids.get(client_id, 1), max(staged, default=0) + 1)

    # ---- acceptance

    def _refuse(self, ticket: Ticket, refusal: checks.Refusal) -> None:
        self._notices.append(ErrorTold(ticket.client_id, ticket.order_id, *refusal))

    def _release(self, ticket: Ticket, now_ns: int) -> None:
        """Accept the whole family of a transmitted ticket, then match its members, parents first."""
        family = self._staged_family(ticket)
        accepted = []
        for member in family:
            del self.staged[member.key]
            accepted.append(self._accept(member, now_ns))
        self._match_all([order.perm_id for order in accepted if not order.held], now_ns)

    def _staged_family(self, ticket: Ticket) -> list[Ticket]:
        """Return the staged tickets joined to this one by parentId, in the order in which they came.

        A child can be staged only after its parent, so parents stand before their children.
        """
        root = ticket
        while (above := self.staged.get((root.client_id, root.parent_id))) is not None:
            root = above
        ids = {root.order_id}
        if root.parent_id:
            ids.add(root.parent_id)
        family = []
        for staged in self.staged.values():
            if staged.client_id == ticket.client_id and (staged.order_id in ids or staged.parent_id in ids):
                ids.add(staged.order_id)
                family.append(staged)
        return family

    def _accept(self, ticket: Ticket, now_ns: int) -> Order:
        parent = self.store.find(ticket.client_id, ticket.parent_id) if ticket.parent_id else None
        held = parent is not None and parent.is_working and not self._frees_children(parent)
        group, group_type = ticket.oca_group, ticket.oca_type or (3 if ticket.oca_group else 0)
        if parent is not None and not group:
            group, group_type = str(parent.perm_id), 3
        order = Order(
            perm_id=self.store.next_perm_id,
            ticket=ticket,
            qty=ticket.qty,
            parent_perm_id=parent.perm_id if parent is not None else 0,
            oca_group=group,
            oca_type=group_type,
            held=held,
            inert=self.conduct.inert_stops and ticket.is_stop,
            accepted_ns=now_ns,
            eligible_ns=now_ns + self.conduct.fill_delay_ns if self.conduct.fill_delay_ns else 0,
        )
        self._put(order)
        self._acknowledge(order)
        return order

    def _acknowledge(self, order: Order) -> None:
        limit_first = self._manners.presubmit_first and order.ticket.order_type == "LMT"
        if order.status == "Submitted" and (order.ticket.order_type == "MKT" or limit_first):
            self._notices.append(OrderTold(order, "PreSubmitted", ""))
        if order.status == "PreSubmitted" or order.ticket.order_type != "MKT":
            self._tell(order)

    def _modify(self, order: Order, ticket: Ticket, now_ns: int) -> None:
        """Change price, quantity, type or group of a working order; blank groups and parents keep what they were."""
        moved = (ticket.limit_px, ticket.stop_px, ticket.order_type) != (
            order.ticket.limit_px,
            order.ticket.stop_px,
            order.ticket.order_type,
        )
        changed = replace(
            order,
            ticket=ticket,
            qty=ticket.qty,
            oca_group=ticket.oca_group or order.oca_group,
            oca_type=ticket.oca_type or order.oca_type,
            triggered=order.triggered and ticket.is_stop and not moved,
            resting=order.resting and not moved,
            eligible_ns=now_ns + self.conduct.fill_delay_ns if self.conduct.fill_delay_ns else 0,
        )
        self._put(changed)
        self._tell(changed)
        self._match_all([order.perm_id], now_ns)

    def _unstage(self, client_id: int, order_id: int) -> None:
        """Drop a staged ticket and the children that wait behind it."""
        del self.staged[client_id, order_id]
        self._notices.append(ErrorTold(client_id, order_id, *checks.CANCELLED))
        for owner, child_id in [key for key, staged in self.staged.items() if staged.parent_id == order_id]:
            if owner == client_id and (owner, child_id) in self.staged:
                self._unstage(client_id, child_id)

    # ---- matching

    def _match_all(self, perm_ids: Iterable[int] | Mapping[int, None], now_ns: int) -> None:
        for perm_id in list(perm_ids):
            order = self.store.orders.get(perm_id)
            if order is not None and order.is_working and not order.held:
                self._match(order, now_ns)

    def _match(self, order: Order, now_ns: int) -> None:
        quote = self.quotes.get(order.ticket.con_id)
        if self.conduct.hold_fills or quote is None:
            return
        if order.eligible_ns > now_ns:
            self._due_ns[order.perm_id] = order.eligible_ns
            return
        if order.waits_for_trigger:
            if order.inert or not elects(order, quote):
                return
            order = self._put(replace(order, triggered=True))
            self._tell(order)
        px = fill_px(order, quote)
        room = self._room(order)
        if order.ticket.tif == "FOK" and (px is None or room < order.remaining):
            self._cancel(order, BY_SYSTEM, now_ns)
            return
        if px is not None and room > 0:
            order = self._fill(order, room, px, now_ns)
        if not order.is_working:
            return
        if order.ticket.tif == "IOC":
            self._cancel(order, BY_SYSTEM, now_ns)
        elif not order.resting and px is None:
            self._put(replace(order, resting=True))

    def _room(self, order: Order) -> Decimal:
        """How much of an order may fill now."""
        room = order.remaining
        if self.conduct.fill_qty_max is not None:
            room = min(room, self.conduct.fill_qty_max)
        parent = self.store.orders.get(order.parent_perm_id)
        if parent is not None and parent.is_working:
            siblings = self.store.children.get(parent.perm_id, [])
            spent = sum((self.store.orders[perm_id].filled for perm_id in siblings), ZERO)
            room = min(room, parent.filled - spent)
        return room

    def _fill(self, order: Order, qty: Decimal, px: Decimal, now_ns: int) -> Order:
        filled = order.filled + qty
        order = replace(
            order,
            filled=filled,
            notional=order.notional + qty * px,
            last_px=px,
            state=State.FILLED if filled >= order.qty else State.WORKING,
            done_ns=now_ns if filled >= order.qty else 0,
            done_reason=f"Filled Size: {filled}" if filled >= order.qty else "",
        )
        self._put(order)
        execution = self._execution(order, qty, px, now_ns)
        self.store.add(execution)
        self.account.apply(execution)
        self._records.append(execution)
        self._notices.append(ExecutionTold(execution))
        self._tell(order)
        self._notices.append(CommissionTold(execution))
        self._touch_group(order, qty, now_ns)
        self._touch_children(order, now_ns)
        return self.store.orders[order.perm_id]

    def _execution(self, order: Order, qty: Decimal, px: Decimal, now_ns: int) -> Execution:
        ticket = order.ticket
        commission, realized = self.account.preview(ticket.con_id, ticket.symbol, ticket.is_buy, qty, px, order.filled)
        return Execution(
            exec_id=f"0000e0d5.{self.store.next_exec:08x}.01.01",
            perm_id=order.perm_id,
            client_id=ticket.client_id,
            order_id=ticket.order_id,
            con_id=ticket.con_id,
            symbol=ticket.symbol,
            account=self._account_name,
            exchange=self._exchange_of(ticket.con_id),
            is_buy=ticket.is_buy,
            qty=qty,
            px=px,
            cum_qty=order.filled,
            avg_px=order.avg_px,
            commission=commission,
            realized_pnl=realized,
            order_ref=ticket.order_ref,
            time_ns=now_ns,
        )

    # ---- what an order's end or fill does to others

    def _touch_group(self, order: Order, qty: Decimal, now_ns: int) -> None:
        """A fill cancels the group's others (type 1, or when it is complete) or reduces them by what filled."""
        if not order.oca_group:
            return
        ends = order.oca_type == 1 or not order.is_working
        for perm_id in list(self.store.groups.get(order.oca_group, [])):
            other = self.store.orders[perm_id]
            if perm_id == order.perm_id or not other.is_working:
                continue
            if ends or other.remaining <= qty:
                self._cancel(other, BY_SYSTEM, now_ns)
            else:
                self._tell(self._put(replace(other, qty=other.qty - qty)))

    def _frees_children(self, parent: Order) -> bool:
        """True when this parent's children may work: it has filled, or part of it has and they follow or it ended."""
        if parent.state is State.FILLED:
            return True
        return parent.filled > 0 and (self._manners.partial_parent == "follow" or not parent.is_working)

    def _touch_children(self, parent: Order, now_ns: int) -> None:
        """After a fill or the end of a parent: set its children free, resized where less than all has filled."""
        children = [self.store.orders[perm_id] for perm_id in self.store.children.get(parent.perm_id, [])]
        freed = []
        if self._frees_children(parent):
            for child in children:
                if child.is_working and child.held:
                    resize = not parent.is_working and parent.state is State.CANCELLED
                    qty = min(child.qty, parent.filled) if resize else child.qty
                    self._tell(self._put(replace(child, held=False, qty=qty)))
                    freed.append(child.perm_id)
        following = [child.perm_id for child in children if not child.held and child.perm_id not in freed]
        self._match_all([*freed, *following], now_ns)

    def _cancel(self, order: Order, reason: str, now_ns: int) -> None:
        """End an order; a parent that never filled takes its children with it."""
        if self._manners.pending_cancel:
            self._notices.append(StatusTold(order, "PendingCancel"))
        order = self._put(replace(order, state=State.CANCELLED, done_ns=now_ns, done_reason=reason))
        self._notices.append(StatusTold(order, "Cancelled"))
        self._notices.append(ErrorTold(*order.ticket.key, *checks.CANCELLED))
        if order.filled:
            self._shrink_children(order, now_ns)
            return
        for perm_id in list(self.store.children.get(order.perm_id, [])):
            child = self.store.orders[perm_id]
            if child.is_working:
                self._cancel(child, reason, now_ns)
        for key, staged in list(self.staged.items()):
            if staged.client_id == order.ticket.client_id and staged.parent_id == order.ticket.order_id:
                self._unstage(*key)

    def _shrink_children(self, parent: Order, now_ns: int) -> None:
        """A parent ended partly filled: what already works of its children is cut to what it filled."""
        siblings = [self.store.orders[perm_id] for perm_id in self.store.children.get(parent.perm_id, [])]
        spent = sum((child.filled for child in siblings), ZERO)
        for child in siblings:
            if child.is_working and not child.held:
                left = parent.filled - spent
                if left <= 0:
                    self._cancel(child, BY_SYSTEM, now_ns)
                elif child.remaining > left:
                    self._tell(self._put(replace(child, qty=child.filled + left)))
        self._touch_children(parent, now_ns)

    def _put(self, order: Order) -> Order:
        self.store.put(order)
        self._records.append(order)
        return order

    def _tell(self, order: Order) -> None:
        self._notices.append(OrderTold(order, order.status, order.why_held))

    def record_price(self, price: PriceSet) -> None:
        self._records.append(price)
