"""Broker and reconciler as they are, folded in this process, over a real driver and a real paper gateway.

Only the ledger is left out: a crash is the fold of what was recorded, exactly as recovery does it.
"""

from __future__ import annotations

import contextlib
import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from actors.adapters.assembly import BeatReturned
from actors.broker import Broker
from actors.broker_state import BrokerSettings, BrokerState, Order
from actors.effects import CancelTimer, ClearAlarm, Drive, RaiseAlarm, Send, StartTimer
from actors.messages import (
    AnyMessage,
    BracketIntent,
    IntentOutcome,
    PlaceBracket,
    Recovered,
    Side,
    TimerFired,
)
from actors.reconciler import Reconciler, ReconcilerSettings, ReconcilerState
from kernels import ids
from kernels.order_state import UNRESOLVED
from tests.actors import ib_bench
from tests.actors.money_bench import FUND, SECOND, UNIT, Bench
from tests.venues.gateway_process import GatewayProcess

WAIT_S_MAX = 60.0
BROKER, RECONCILER = "broker.paper", "reconciler"
STATES = {
    "Filled": {"filled"},
    "Cancelled": {"cancelled"},
    "Inactive": {"rejected"},
    "Submitted": {"submitted", "partially_filled"},
    "PreSubmitted": {"submitted", "partially_filled"},
}
"""What an order may be here for each thing that the gateway says of it."""

M = TypeVar("M")


class Stage:
    """The gateway is the test's own; `port` may be that of a proxy before it."""

    def __init__(
        self, gateway: GatewayProcess, port: int = 0, driver: dict[str, Any] | None = None, **settings: Any
    ) -> None:
        self.gateway = gateway
        self._driver: dict[str, Any] = {"backoff_s_max": 0.2} | (driver or {})
        self.link = ib_bench.Bench(port or gateway.port, **self._driver)
        figures: dict[str, Any] = {"stuck_after_ns": 2 * SECOND, "exits_after_ns": SECOND // 2} | settings
        self.broker: Bench[BrokerState] = Bench(Broker(BrokerSettings(**figures)))
        quick = {"grace_ns": SECOND // 2, "recheck_ns": SECOND // 5, "read_timeout_ns": 3 * SECOND}
        quick |= {"positions_every_ns": SECOND, "orders_every_ns": 2 * SECOND, "vanished_grace_ns": SECOND}
        self.reconciler: Bench[ReconcilerState] = Bench(Reconciler(ReconcilerSettings(**quick)))  # type: ignore[arg-type]
        self.alarms: dict[str, str] = {}
        self.raised: Counter[str] = Counter()
        self.told: list[AnyMessage] = []
        self.driven: list[AnyMessage] = []
        self._seen = 0
        self._due: list[tuple[int, str, str]] = []

    # ---- running

    def feed(self, role: str, body: AnyMessage) -> None:
        """Reduce one input of a role and do what it asks."""
        bench: Bench[Any] = self.broker if role == BROKER else self.reconciler
        bench.now_ns = time.time_ns()
        for effect in bench.feed(body):
            match effect:
                case Drive(command=command):
                    self.driven.append(command)
                    self.link.driver.post(command)
                case StartTimer(name=name, after_ns=after_ns):
                    self._forget_timer(role, name)
                    heapq.heappush(self._due, (bench.now_ns + after_ns, role, name))
                case CancelTimer(name=name):
                    self._forget_timer(role, name)
                case RaiseAlarm(name=name, text=text):
                    self.alarms[name] = text
                    self.raised[name] += 1
                case ClearAlarm(name=name):
                    self.alarms.pop(name, None)
                case Send(target=target, body=told):
                    self._deliver(target, told)
                case _:
                    pass
        for envelope in list(bench.owed):
            self._deliver(envelope.target, envelope.body)

    def _deliver(self, target: str, body: AnyMessage) -> None:
        if target in (BROKER, RECONCILER):
            self.feed(target, body)
        else:
            self.told.append(body)

    def _forget_timer(self, role: str, name: str) -> None:
        self._due = [due for due in self._due if due[1:] != (role, name)]
        heapq.heapify(self._due)

    def turn(self, seconds_max: float = 0.05) -> None:
        """Fire what is due, and take what the driver has to say."""
        while self._due and self._due[0][0] <= time.time_ns():
            _, role, name = heapq.heappop(self._due)
            self.feed(role, TimerFired(name))
        self.link.pump(seconds_max)
        while self._seen < len(self.link.events):
            event = self.link.events[self._seen]
            self._seen += 1
            if not isinstance(event, BeatReturned):
                self.feed(BROKER, event)

    def until(self, what: str, condition: Callable[[], bool], within_s: float = WAIT_S_MAX) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert not self.link.reasons, self.link.reasons
            assert time.monotonic() < deadline, f"not within {within_s} s: {what}; {self.orders()}; {self.alarms}"
            self.turn()

    # ---- doing

    def serving(self) -> None:
        self.until("the gate is open", lambda: self.broker.state.gate is not None)

    def place(self, name: str, symbol: str = "SPY", shares: int = 10, side: Side = Side.BUY, **px: str) -> str:
        """Ask for a bracket around 500 (a limit entry with `limit`); its intent's id."""
        prices = {"profit": "510.00", "stop": "490.00", "limit": "0", "reference": "500.00"} | px
        intent = BracketIntent(
            intent_id=ids.family_id(FUND, name),
            signal_id=name,
            strategy="test",
            symbol=symbol,
            side=side,
            qty=shares * UNIT,
            limit_px=ib_bench.px(prices["limit"]) if prices["limit"] != "0" else 0,
            take_profit_px=ib_bench.px(prices["profit"]),
            stop_px=ib_bench.px(prices["stop"]),
            expires_ns=time.time_ns() + 300 * SECOND,
            reference_px=ib_bench.px(prices["reference"]),
        )
        self.feed(BROKER, PlaceBracket(intent))
        return intent.intent_id

    def crash(self) -> None:
        """The broker's process dies: what comes back is the fold of its journal, and a new driver."""
        self.link.driver.stop()
        self.broker.core = self.broker.replayed()
        self._due = [due for due in self._due if due[1] != BROKER]
        heapq.heapify(self._due)
        port = self.link.settings.port
        self.link = ib_bench.Bench(port, **self._driver)
        self._seen = 0
        self.link.driver.start()
        self.feed(BROKER, Recovered(2))

    # ---- seeing

    def family(self, intent_id: str) -> dict[str, Order]:
        return {order.leg.value: order for order in self.broker.state.families[intent_id].orders}

    def states(self, intent_id: str) -> list[str]:
        """Entry, take-profit, stop; while the broker holds the intent back, that."""
        family = self.broker.state.families.get(intent_id)
        return ["held"] * 3 if family is None else [order.state.value for order in family.orders]

    def all_orders(self) -> dict[str, Order]:
        families = self.broker.state.families.values()
        return {order.client_order_id: order for family in families for order in family.orders}

    def orders(self) -> dict[str, tuple[str, int, int]]:
        return {
            name: (one.state.value, one.qty // UNIT, one.cum_qty // UNIT) for name, one in self.all_orders().items()
        }

    def outcomes(self) -> list[IntentOutcome]:
        return [one for one in self.told if isinstance(one, IntentOutcome)]

    def commands(self, kind: type[M]) -> list[M]:
        return [one for one in self.driven if isinstance(one, kind)]

    def settled(self) -> bool:
        """Wait until the books equal the gateway's and the gate is open; True. Fails with the differences."""
        deadline = time.monotonic() + WAIT_S_MAX
        while found := self.differences():
            assert time.monotonic() < deadline, found
            self.turn()
        return True

    def differences(self) -> list[str]:
        """What is not yet, or not at all, as the gateway has it: no order lost, none doubled, state the same."""
        ours = self.all_orders()
        rows = self.gateway.orders()
        theirs = {str(row["order_ref"]): row for row in rows}
        found = [f"{ref} stands twice" for ref, n in Counter(str(row["order_ref"]) for row in rows).items() if n > 1]
        found += [f"{ref} is unknown here" for ref in theirs.keys() - ours.keys()]
        for ref, order in ours.items():
            if order.state in UNRESOLVED:
                found.append(f"{ref} is {order.state}")
            elif (row := theirs.get(ref)) is None:
                if order.state.value != "expired":
                    found.append(f"{ref} is {order.state} here and unknown there")
            elif order.state.value not in STATES[str(row["status"])]:
                found.append(f"{ref} is {order.state} here and {row['status']} there")
            elif order.cum_qty != round(float(row["filled"]) * UNIT):
                found.append(f"{ref} filled {order.cum_qty} here and {row['filled']} there")
        held = {name: one.qty for name, one in self.broker.state.positions.items() if one.qty}
        there = {name: round(float(row["qty"]) * UNIT) for name, row in self.gateway.positions().items()}
        if held != {name: qty for name, qty in there.items() if qty}:
            found.append(f"positions {held} here, {there} there")
        if self.broker.state.gate is None:
            found.append("the gate is shut")
        return found

    def __enter__(self) -> Stage:
        self.gateway.set_price("SPY", "500.00", "500.02")
        self.link.driver.start()
        self.serving()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.link.driver.stop()
        if kind is None:
            self.broker.check_replay()


@contextlib.contextmanager
def between_tests(stage: Stage) -> Iterator[None]:
    """The gateway as it should be before and after a test that shares it."""
    stage.gateway.control({"cmd": "clear"})
    stage.gateway.set_price("SPY", "500.00", "500.02")
    stage.serving()
    yield
    stage.gateway.control({"cmd": "clear"})
