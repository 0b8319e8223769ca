"""What clients ask of orders: tickets, changes, cancels, and the families they arrive in. Pure.

A family is a parent and its children by parentId. A ticket with transmit=False is staged: it is not accepted, nobody
is told of it, and it lives in memory only. A ticket with transmit=True releases the whole family it belongs to.
Every call changes the state and leaves two lists to be taken by `take()`: records, which must be durable before
anything else happens, and notices, which are then sent to the clients that own the orders.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal

from msgspec.structs import replace

from venues.gateway import checks
from venues.gateway.account import Account, AccountBase
from venues.gateway.book import BY_SYSTEM, BY_TRADER, Conduct, OrderBook, Tape
from venues.gateway.contracts import Instrument
from venues.gateway.hours import Timetable
from venues.gateway.matching import Quote
from venues.gateway.model import (
    CommissionTold,
    ErrorTold,
    Execution,
    ExecutionTold,
    IdsReset,
    Notice,
    Order,
    OrdersLost,
    Record,
    State,
    Ticket,
)
from venues.gateway.settings import Manners
from venues.gateway.store import OrderStore

STAGED_MAX = 5_000
_COST_STEP = Decimal("1e-8")


class OrderEngine:
    """Takes tickets, cancels, quotes and time; changes the store and the account. Not for threads."""

    def __init__(
        self,
        store: OrderStore,
        account: Account,
        manners: Manners,
        account_name: str,
        instrument_of: Callable[[int], Instrument],
        timetable: Timetable,
    ) -> None:
        self.store = store
        self.account = account
        self.book = OrderBook(store, account, manners, account_name, instrument_of, timetable)
        self._account_name = account_name

    @property
    def conduct(self) -> Conduct:
        return self.book.conduct

    @property
    def quotes(self) -> dict[int, Quote]:
        return self.book.quotes

    @property
    def staged(self) -> dict[tuple[int, int], Ticket]:
        return self.book.staged

    def take(self) -> tuple[list[Record], list[Notice]]:
        """Return and clear what the calls since the last take have left."""
        taken, self.book.tape = self.book.tape, Tape()
        return taken.records, taken.notices

    # ---- requests

    def place(self, ticket: Ticket, now_ns: int) -> None:
        """Take a new ticket, or a change of the order that already has its id."""
        order = self.store.find(*ticket.key)
        if order is None and ticket.order_id < 0:
            self._refuse(ticket, checks.NO_SUCH_ID)
            return
        if order is not None and (order.is_done or order.is_hidden):
            self._refuse(ticket, checks.FILLED if order.state is State.FILLED else checks.DUPLICATE_ID)
            return
        if order is None and 0 < ticket.order_id <= self.store.forgotten_ids.get(ticket.client_id, 0):
            self._refuse(ticket, checks.DUPLICATE_ID)
            return
        parent_key = (ticket.client_id, ticket.parent_id)
        instrument = self.book.instrument_of(ticket.con_id)
        refusal = checks.refusal_of(ticket, instrument, self._account_name) or checks.parent_refusal(
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
        if order is None or order.is_hidden:
            if (client_id, order_id) in self.staged:
                self.book.unstage(client_id, order_id)
            else:
                text = f"OrderId {order_id} that needs to be cancelled is not found."
                self.book.tape.notices.append(ErrorTold(client_id, order_id, 10147, text))
        elif order.is_done:
            text = f"OrderId {order_id} that needs to be cancelled can not be cancelled, state: {order.status}."
            self.book.tape.notices.append(ErrorTold(client_id, order_id, 10148, text))
        else:
            self.book.cancel(order, BY_TRADER, now_ns)
            if self.conduct.late_fills:
                self.conduct.late_fills -= 1
                self.book.fill_late(self.store.orders[order.perm_id], now_ns)

    def cancel_all(self, now_ns: int, reason: str = BY_TRADER, tif: str | None = None) -> None:
        """Cancel every open order of every client (of one time in force), oldest first: children with parents."""
        for order in [*self.store.working_orders(), *self.store.open_orders()]:
            current = self.store.orders[order.perm_id]
            if not current.is_done and tif in (None, current.ticket.tif or "DAY"):
                self.book.cancel(current, reason, now_ns)

    def cancel_by_broker(self, order: Order, now_ns: int) -> None:
        """Cancel an open order without its client having asked."""
        self.book.cancel(order, BY_SYSTEM, now_ns)

    def bind(self) -> list[Order]:
        """Give orders that were entered by hand ids of client 0; return those that had none."""
        bound = []
        for order in self.store.open_orders():
            if order.ticket.is_unbound:
                ticket = replace(order.ticket, order_id=self.store.manual_id())
                bound.append(self.book.put(replace(order, ticket=ticket)))
        return bound

    def next_order_id(self, client_id: int) -> int:
        staged = [order_id for owner, order_id in self.staged if owner == client_id]
        return max(self.store.next_ids.get(client_id, 1), max(staged, default=0) + 1)

    # ---- the market and the clock

    def quote(self, con_id: int, quote: Quote, now_ns: int) -> None:
        self.book.quote(con_id, quote, now_ns)

    def advance(self, now_ns: int) -> None:
        self.book.advance(now_ns)

    def next_due_ns(self) -> int | None:
        return self.book.next_due_ns()

    def match_everything(self, now_ns: int) -> None:
        self.book.match_everything(now_ns)

    # ---- faults

    def reset_ids(self, client_id: int, next_id: int) -> None:
        reset = IdsReset(client_id=client_id, next_id=next_id)
        self.store.reset_ids(reset)
        self.book.tape.records.append(reset)

    def set_inert(self, perm_id: int, inert: bool) -> bool:
        order = self.store.orders.get(perm_id)
        if order is None or not order.is_working:
            return False
        self.book.put(replace(order, inert=inert))
        return True

    def hide(self, order: Order, until_ns: int) -> None:
        """Let a working order be unknown to every question, cancel and price until then; nobody is told."""
        self.book.put(replace(order, surfaces_ns=until_ns))

    def revive(self, order: Order, now_ns: int) -> None:
        """Put an inactive or held order on the book; an order that nobody knew of surfaces."""
        if order.is_hidden:
            self.book.surface(order, now_ns)
            return
        order = self.book.put(replace(order, state=State.WORKING, hold=""))
        self.book.tell(order)
        self.book.match(order.perm_id, now_ns)

    def place_beside(self, ticket: Ticket, now_ns: int) -> None:
        """Accept a change of an open order as an order of its own: from now on its id means the new one.

        Both live, each under its permId. A ticket that changes nothing is placed as ever.
        """
        order = self.store.find(*ticket.key)
        instrument = self.book.instrument_of(ticket.con_id)
        if order is None or order.is_done or checks.refusal_of(ticket, instrument, self._account_name):
            self.place(ticket, now_ns)
            return
        second = self.book.accept(replace(ticket, parent_id=0), now_ns)
        self.book.match(second.perm_id, now_ns)

    def correct(self, execution: Execution, px: Decimal, base: AccountBase) -> Execution:
        """Report a fill once more at another price, under the next number after its execId's last dot."""
        number = len(self.store.revisions(execution.root)) + 1
        corrected = replace(execution, exec_id=f"{execution.root}.{number:02d}", px=px)
        if execution.realized_pnl is not None:
            signed = execution.qty * execution.multiplier * (px - execution.px)
            corrected = replace(
                corrected, realized_pnl=execution.realized_pnl + (-signed if execution.is_buy else signed)
            )
        order = self.store.orders.get(execution.perm_id)
        if order is not None:
            notional = order.notional + execution.qty * (px - execution.px)
            order = self.book.put(replace(order, notional=notional, last_px=px))
            corrected = replace(corrected, avg_px=(notional / order.filled).quantize(_COST_STEP, ROUND_HALF_EVEN))
        self.store.add(corrected)
        self.account.restate(base, self.store.latest_executions())
        self.book.tape.records.append(corrected)
        self.book.tape.notices += [ExecutionTold(corrected), CommissionTold(corrected)]
        return corrected

    def lose(self, since_ns: int) -> list[Order]:
        """Forget orders that came since then and have not filled, and what hangs on them; ids go back.

        The next valid id of each client becomes the one after its highest open order: a restart reissues the ids of
        what is done.
        """
        lost: dict[int, Order] = {}
        for order in self.store.orders.values():
            fresh = order.accepted_ns >= since_ns and not order.filled
            if (fresh or order.parent_perm_id in lost) and not order.filled:
                lost[order.perm_id] = order
        self.staged.clear()
        self.store.lose(lost)
        self.book.tape.records.append(OrdersLost(perm_ids=tuple(lost)))
        for client_id in list(self.store.next_ids):
            mine = [o.ticket.order_id for o in self.store.open_orders() if o.ticket.client_id == client_id]
            self.reset_ids(client_id, max(mine, default=0) + 1)
        return list(lost.values())

    # ---- acceptance

    def _refuse(self, ticket: Ticket, refusal: checks.Refusal) -> None:
        self.book.tape.notices.append(ErrorTold(ticket.client_id, ticket.order_id, *refusal))

    def _release(self, ticket: Ticket, now_ns: int) -> None:
        """Accept the whole family of a transmitted ticket, then match its members, parents first."""
        family = self._staged_family(ticket)
        accepted = []
        for member in family:
            del self.staged[member.key]
            accepted.append(self.book.accept(member, now_ns))
        self.book.match_all([order.perm_id for order in accepted if not order.held], now_ns)

    def _staged_family(self, ticket: Ticket) -> list[Ticket]:
        """Return the staged tickets joined to this one by parentId, in the order in which they came.

        A child can be staged only after its parent, so parents stand before their children.
        """
        root = ticket
        while root.parent_id and (above := self.staged.get((root.client_id, root.parent_id))) is not None:
            root = above
        ids = {root.order_id}
        if root.parent_id:
            ids.add(root.parent_id)
        family = []
        for staged in self.staged.values():
            is_child = staged.parent_id != 0 and staged.parent_id in ids
            if staged.client_id == ticket.client_id and (staged.order_id in ids or is_child):
                ids.add(staged.order_id)
                family.append(staged)
        return family

    def _modify(self, order: Order, ticket: Ticket, now_ns: int) -> None:
        """Change price, quantity, type or group of an open order; blank groups and parents keep what they were.

        An inactive order works again. A trailing stop starts anew where its distance or start is another.
        """
        before = order.ticket
        names = ("limit_px", "stop_px", "order_type", "trail_px", "trail_percent", "limit_offset")
        moved = any(getattr(ticket, name) != getattr(before, name) for name in names)
        delay_ns = self.conduct.fill_delay_ns
        changed = replace(
            order,
            ticket=ticket,
            qty=ticket.qty,
            state=State.WORKING,
            oca_group=ticket.oca_group or order.oca_group,
            oca_type=ticket.oca_type or order.oca_type,
            triggered=order.triggered and ticket.is_stop and not moved,
            hits=0 if moved else order.hits,
            trail_px=None if moved else order.trail_px,
            resting=order.resting and not moved,
            eligible_ns=now_ns + delay_ns if delay_ns else 0,
            opens_ns=self.book.opens_ns(ticket, now_ns),
            expires_ns=self.book.expires_ns(ticket, now_ns),
        )
        self.book.put(changed)
        self.book.tell(changed)
        self.book.match(order.perm_id, now_ns)
