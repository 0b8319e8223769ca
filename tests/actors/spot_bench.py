"""A spot driver on a test's own thread, read only through its descriptor, against a real paper exchange."""

from __future__ import annotations

import itertools
import json
import select
import time
from collections.abc import Callable
from decimal import Decimal
from types import TracebackType
from typing import Any, TypeVar

from actors.adapters.assembly import BeatReturned
from actors.adapters.clock import SystemClock
from actors.adapters.spot_driver import SpotDriver, SpotSettings
from actors.adapters.spot_rest import RestLimits
from actors.messages import (
    QuerySpotOrder,
    ReadSpotAccount,
    Side,
    SpotAccountRead,
    SpotExecutionReported,
    SpotOrderRead,
    SpotOrderReported,
    SpotSessionOpened,
    SpotTicket,
    SubmitSpotOrder,
)
from kernels.fixed8 import SCALE
from tests.venues.exchange_process import ExchangeProcess

E = TypeVar("E")

WAIT_S_MAX = 60.0
STILL = ("--rate", "0.001", "--opportunity-every-s", "0", "--symbols", "12")
"""A book that stands still: nothing but our own orders changes what can be taken."""


def fixed(amount: Decimal | str) -> int:
    return int(Decimal(amount) * SCALE)


class SpotBench:
    """A driver with what it is given, and all events that it emitted, in order."""

    def __init__(self, exchange: ExchangeProcess, limits: RestLimits | None = None, **settings: Any) -> None:
        self.halt = ""
        self.reasons: list[str] = []
        self.events: list[Any] = []
        self.taken = 0
        self.exchange = exchange
        key_file = json.loads((exchange.state / "exchange.json").read_bytes())["api_key_file"]
        self.settings = SpotSettings(
            rest_url=exchange.base_url,
            ws_url=exchange.ws_url,
            api_key_file=key_file,
            run_prefix="run-1.1",
            limits=limits or RestLimits(recv_window_ms=30_000, request_s_max=20.0),
            **settings,
        )
        self.driver = SpotDriver(self.settings, SystemClock(), lambda: self.halt, lambda: 0.5, self.reasons.append)
        self._numbers = itertools.count(1)

    def pump(self, seconds_max: float = 0.0) -> None:
        """Take what waits, or what comes within the time."""
        if select.select([self.driver.fileno()], [], [], max(0.0, seconds_max))[0]:
            self.events += self.driver.drain()

    def wait(self, kind: type[E], matches: Callable[[E], bool] = lambda _: True, within_s: float = WAIT_S_MAX) -> E:
        """Return the next event of this kind that matches, and pass by all before it; fail when none comes."""
        deadline = time.monotonic() + within_s
        while True:
            while self.taken < len(self.events):
                event = self.events[self.taken]
                self.taken += 1
                if isinstance(event, kind) and matches(event):
                    return event
            left_s = deadline - time.monotonic()
            assert not self.reasons
            assert left_s > 0, f"no {kind.__name__} within {within_s} s: {self.shown()}"
            self.pump(left_s)

    def until(self, condition: Callable[[], bool], within_s: float = WAIT_S_MAX) -> None:
        """Take events until the condition holds; passes none by."""
        deadline = time.monotonic() + within_s
        while not condition():
            left_s = deadline - time.monotonic()
            assert not self.reasons
            assert left_s > 0, f"not within {within_s} s: {self.shown()}"
            self.pump(min(left_s, 0.1))

    def shown(self) -> list[str]:
        return [f"{type(one).__name__} {getattr(one, 'reason', '')}" for one in self.events[-12:]]

    def opened(self) -> SpotSessionOpened:
        return self.wait(SpotSessionOpened)

    def of(self, kind: type[E], name: str = "") -> list[E]:
        """All events of a kind, of one order where a name is given."""
        found = [event for event in self.events if isinstance(event, kind)]
        return [event for event in found if not name or getattr(event, "client_order_id", "") == name]

    def progress(self) -> dict[str, int]:
        """The thread's counters, by a heartbeat through it; all that was posted before has been taken."""
        self.driver.beat(next(self._numbers))
        return self.wait(BeatReturned).progress

    def top(self, symbol: str) -> dict[str, Decimal]:
        row = self.exchange.get(f"/api/v3/ticker/bookTicker?symbol={symbol}")
        return {name: Decimal(row[name]) for name in ("bidPrice", "bidQty", "askPrice", "askQty")}

    def buy(
        self,
        session: SpotSessionOpened,
        name: str,
        qty: str = "0.01",
        symbol: str = "BTCUSDT",
        price: Decimal | None = None,
        reduces_risk: bool = False,
        not_after_ns: int = 0,
    ) -> SubmitSpotOrder:
        """An order to buy at the ask, not posted yet; it may leave within a minute, unless said otherwise."""
        limit = self.top(symbol)["askPrice"] if price is None else price
        ticket = SpotTicket(name, symbol, Side.BUY, fixed(qty), fixed(limit))
        end_ns = not_after_ns or time.time_ns() + 60 * 10**9
        return SubmitSpotOrder(session.session_id, ticket, reduces_risk, end_ns)

    def read_order(self, session: SpotSessionOpened, name: str, symbol: str = "BTCUSDT") -> SpotOrderRead:
        request_id = f"q{next(self._numbers)}"
        self.driver.post(QuerySpotOrder(session.session_id, request_id, symbol, name))
        return self.wait(SpotOrderRead, lambda read: read.request_id == request_id)

    def read_whole(self, session: SpotSessionOpened, name: str) -> SpotOrderRead:
        """As `read_order`, asked again while the venue does not answer in time."""
        deadline = time.monotonic() + WAIT_S_MAX
        while (read := self.read_order(session, name)).failed and time.monotonic() < deadline:
            pass
        assert not read.failed
        return read

    def read_account(self, session: SpotSessionOpened) -> SpotAccountRead:
        request_id = f"a{next(self._numbers)}"
        self.driver.post(ReadSpotAccount(session.session_id, request_id))
        return self.wait(SpotAccountRead, lambda read: read.request_id == request_id)

    def placed(self) -> int:
        """How many orders the exchange has placed in its life."""
        return int(self.exchange.get("/paper/status")["counters"].get("orders_placed", 0))

    def reports(self, name: str) -> list[SpotOrderReported]:
        return self.of(SpotOrderReported, name)

    def executions(self, name: str) -> list[SpotExecutionReported]:
        return self.of(SpotExecutionReported, name)

    def __enter__(self) -> SpotBench:
        self.driver.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.driver.stop()
        assert not self.reasons, self.reasons
