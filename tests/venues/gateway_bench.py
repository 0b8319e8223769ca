"""An order engine without sockets or disk, for tests: a clock that the test moves, and what was told in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from venues.gateway.account import Account, AccountBase, Fees
from venues.gateway.contracts import LISTED
from venues.gateway.engine import OrderEngine
from venues.gateway.hours import Hours, Timetable
from venues.gateway.listing import Listing
from venues.gateway.matching import Quote
from venues.gateway.model import (
    CommissionTold,
    ErrorTold,
    ExecutionTold,
    Notice,
    Order,
    OrderTold,
    Record,
    StatusTold,
    Ticket,
)
from venues.gateway.settings import Manners
from venues.gateway.store import OrderStore

AAPL = LISTED["AAPL"]
CASH = Decimal(1_000_000)


def told(notice: Notice) -> str:
    """Return a notice in few words: `5 Submitted`, `5 PreSubmitted child,trigger`, `5 fill 10@99.5`, `5 error 202`."""
    match notice:
        case OrderTold(order=order, status=status, why_held=why):
            return f"{order.ticket.order_id} {status} {why}".strip()
        case StatusTold(order=order, status=status):
            return f"{order.ticket.order_id} {status}"
        case ExecutionTold(execution=fill):
            return f"{fill.order_id} fill {fill.qty}@{fill.px}"
        case CommissionTold(execution=fill):
            return f"{fill.order_id} commission"
        case ErrorTold(order_id=order_id, code=code):
            return f"{order_id} error {code}"
        case _:
            return "what-if"


@dataclass
class Bench:
    manners: Manners = field(default_factory=Manners)
    now_ns: int = 1_000
    hours: Hours = "always"
    records: list[Record] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = OrderStore()
        self.account = Account(AccountBase(cash=CASH), Fees())
        self.listing = Listing(["AAPL", "SPY"])
        timetable = Timetable(self.hours)
        self.engine = OrderEngine(self.store, self.account, self.manners, "DU1", self.listing.known, timetable)
        self.quote("99.99", "100.01")

    def ticket(self, order_id: int, action: str, qty: str, kind: str = "MKT", **more: object) -> Ticket:
        """Return a ticket of client 1; `limit` and `stop` are texts."""
        given = dict(more)
        prices = {f"{name}_px": Decimal(str(given.pop(name))) for name in ("limit", "stop") if name in given}
        base: dict[str, object] = {"client_id": 1, "exchange": "SMART", "con_id": AAPL.con_id, "symbol": "AAPL"}
        base |= {"order_id": order_id, "action": action, "qty": Decimal(qty), "order_type": kind, **prices, **given}
        return Ticket(**base)  # type: ignore[arg-type]

    def place(self, order_id: int, action: str, qty: str, kind: str = "MKT", **more: object) -> list[str]:
        self.engine.place(self.ticket(order_id, action, qty, kind, **more), self.now_ns)
        return self.take()

    def bracket(self, first_id: int, qty: str, entry_limit: str, target: str, stop: str) -> list[str]:
        said = self.place(first_id, "BUY", qty, "LMT", limit=entry_limit, transmit=False)
        said += self.place(first_id + 1, "SELL", qty, "LMT", limit=target, parent_id=first_id, transmit=False)
        return said + self.place(first_id + 2, "SELL", qty, "STP", stop=stop, parent_id=first_id)

    def cancel(self, order_id: int) -> list[str]:
        self.engine.cancel(1, order_id, self.now_ns)
        return self.take()

    def quote(self, bid: str, ask: str, last: str | None = None) -> list[str]:
        middle = Decimal(last) if last else (Decimal(bid) + Decimal(ask)) / 2
        self.engine.quote(AAPL.con_id, Quote(Decimal(bid), Decimal(ask), middle), self.now_ns)
        return self.take()

    def take(self) -> list[str]:
        records, notices = self.engine.take()
        self.records += records
        self.notices += notices
        return [told(notice) for notice in notices]

    def order(self, order_id: int) -> Order:
        found = self.store.find(1, order_id)
        assert found is not None
        return found
