"""One complete reading of what a gateway knows, collected from raw messages in an order that can miss nothing.

Open orders are read before completed ones, and both before executions: an order that ends in between is in the later
answer. What is told live while the reading goes on updates it, so that it is never older than a report before it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from ib_insync.wrapper import RequestError

from actors.adapters.ib_account import AccountReading
from actors.adapters.ib_link import Link, LinkLost, Unanswered
from actors.messages import CommissionReported, ExecutionReported, OrderReported, VenuePosition, VenueRead

OPEN_ORDERS = "open_orders"
COMPLETED_ORDERS = "completed_orders"
EXECUTIONS = "executions"
POSITIONS = "positions"


class Reading:
    """Collects while `run` asks; its owner hands it every report of the link in the meantime.

    `account`, where there is one, is read after all else: values that are not told fail nothing.
    """

    def __init__(self, positions_only: bool = False, account: AccountReading | None = None) -> None:
        self.positions_only = positions_only
        self.account = account
        self.failed: list[str] = []
        self.unanswered = ""
        """First request that got no answer at all: the link cannot be trusted to pair the next answer rightly."""
        self.damaged = False
        """A message could not be decoded while the current request was under way."""
        self._phase = ""
        self._open: dict[object, OrderReported] = {}
        self._completed: list[OrderReported] = []
        self._executions: dict[str, ExecutionReported] = {}
        self._commissions: dict[str, CommissionReported] = {}
        self._positions: dict[tuple[str, str], VenuePosition] = {}

    async def run(self, link: Link, seconds_max: float) -> None:
        """Ask for everything, each within `seconds_max`. Raises nothing: what was not answered is in `failed`."""
        requests: dict[str, Callable[[float], Awaitable[None]]] = {
            OPEN_ORDERS: link.open_orders,
            COMPLETED_ORDERS: link.completed_orders,
            EXECUTIONS: link.executions,
            POSITIONS: link.positions,
        }
        for name, request in requests.items():
            if self.positions_only and name != POSITIONS:
                continue
            if self.unanswered or link.lost.done():
                self.failed.append(name)
                continue
            self._phase, self.damaged = name, False
            try:
                await request(seconds_max)
            except (LinkLost, RequestError):
                self.failed.append(name)
            except Unanswered as error:
                self.failed.append(name)
                self.unanswered = str(error)
            else:
                if self.damaged:
                    self.failed.append(name)
        self._phase = ""
        if self.account is not None:
            await self._read_account(link, self.account, seconds_max)

    async def _read_account(self, link: Link, account: AccountReading, seconds_max: float) -> None:
        self.damaged = False
        try:
            if self.unanswered or link.lost.done():
                raise LinkLost("the reading failed before")
            await link.account_values(account.name, seconds_max)
        except (LinkLost, RequestError):
            self.account = None
        except Unanswered as error:
            self.account, self.unanswered = None, str(error)
        if self.damaged:
            self.account = None

    # ---- reports of the link, all of them, from the start of `run` to `result`

    def order(self, report: OrderReported) -> None:
        """Take an open or completed order, or news of one that is in the reading already."""
        if report.completed:
            if self._phase == COMPLETED_ORDERS:
                self._completed.append(report)
            return
        key = report.perm_id or (report.client_id, report.venue_order_id)
        known = self._open.get(key)
        if known is not None:
            self._open[key] = merged(known, report)
        elif self._phase == OPEN_ORDERS or (report.symbol and not self.positions_only):
            self._open[key] = report  # later than its phase: an order that was placed meanwhile

    def execution(self, report: ExecutionReported) -> None:
        """Take an execution, asked for or live."""
        if not self.positions_only:
            self._executions[report.exec_id] = report

    def commission(self, report: CommissionReported) -> bool:
        """Take the commission of an execution in the reading; False if it is of none."""
        known = report.exec_id in self._executions
        if known:
            self._commissions[report.exec_id] = report
        return known

    def position(self, report: VenuePosition) -> None:
        """Take a position; the last word on a symbol counts."""
        if self._phase == POSITIONS:
            self._positions[(report.account, report.symbol)] = report

    # ---- what was found

    def highest_order_id(self, client_id: int) -> int:
        """Return the highest order id that this client is known to have used; 0 if none."""
        told: list[OrderReported | ExecutionReported] = [*self._open.values(), *self._executions.values()]
        return max((report.venue_order_id for report in told if report.client_id == client_id), default=0)

    def result(self, session_id: str, request_id: str, begun_ns: int, taken_ns: int) -> VenueRead:
        """Return the whole as the answer to a query."""
        return VenueRead(
            session_id=session_id,
            request_id=request_id,
            open_orders=tuple(self._open.values()),
            completed_orders=tuple(self._completed),
            executions=tuple(self._executions.values()),
            commissions=tuple(self._commissions.values()),
            positions=tuple(found for found in self._positions.values() if found.qty),
            taken_ns=taken_ns,
            positions_only=self.positions_only,
            failed=tuple(self.failed),
            begun_ns=begun_ns,
            account=self.account.figures() if self.account is not None else None,
        )


def merged(known: OrderReported, news: OrderReported) -> OrderReported:
    """Return what both say together: the later word, where it says anything, and every term that an openOrder says."""
    if news.whole:
        return msgspec.structs.replace(news, filled_qty=known.filled_qty, why_held=known.why_held)
    said = {name: value for name in news.__struct_fields__ if (value := getattr(news, name))}
    # A hold that is over is told as an empty text by an orderStatus; an openOrder (which has a symbol) never tells.
    if not news.symbol:
        said["why_held"] = news.why_held
    return msgspec.structs.replace(known, **said)
