"""Sentinel and broker against a naive market with an inert stop: late and partial fills, crashes, lost sessions.

What must hold is read from the market's own books: what entered has left exactly once, and a stop that works is never
called inert.
"""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest

from actors.broker import Broker
from actors.broker_state import BrokerSettings
from actors.core import Admission, Core, admit, advance, new_core
from actors.effects import AppendLine, CancelTimer, Drive, RaiseAlarm, Send, StartTimer
from actors.messages import (
    AnyMessage,
    Envelope,
    IncidentRecorded,
    JournalRecord,
    OrderReported,
    PlaceBracket,
    PrintsSeen,
    Recovered,
    SubmitOrders,
    TimerFired,
    WatchPrices,
)
from actors.sentinel import Sentinel
from actors.sentinel_state import OnInert, SentinelSettings, Stage
from tests.actors.money_bench import SECOND, START, UNIT, grant, intent
from tests.actors.money_venue import Venue, VenueOrder, Wire

TICK = SECOND // 4
SHARES = 100


class Market(Venue):
    """A venue with prices and OCA groups. `inert`: stops are acknowledged and never elected."""

    def __init__(self, inert: bool) -> None:
        super().__init__()
        self.deaf = False
        self.inert = inert
        self.px = 100 * UNIT

    def report(self, order: VenueOrder, completed: bool = False) -> OrderReported:
        return msgspec.structs.replace(super().report(order, completed), oca_group=self.group(order))

    def group(self, order: VenueOrder) -> str:
        if order.ticket.oca_group:
            return order.ticket.oca_group
        parent = self.orders.get((order.generation, order.ticket.parent_order_id))
        return str(parent.perm_id) if parent is not None else ""

    def cancel(self, order: VenueOrder) -> None:
        if not self.deaf:
            super().cancel(order)

    def named(self, ending: str) -> VenueOrder | None:
        found = [one for one in self.orders.values() if one.ticket.client_order_id.endswith(ending)]
        return found[-1] if found else None

    def trade(self, order: VenueOrder, qty: int) -> None:
        super().trade(order, qty)
        group = self.group(order)
        for other in list(self.orders.values()):
            if group and other is not order and other.open and self.group(other) == group:
                left = self.entered() - self.left()
                if left <= 0:
                    self.cancel(other)
                else:  # the rest of the group shrinks by what filled
                    smaller = msgspec.structs.replace(other.ticket, qty=other.cum_qty + left)
                    other.ticket = smaller
                    self.tell(other)

    def entered(self) -> int:
        entry = self.named("e")
        return entry.cum_qty if entry is not None else 0

    def left(self) -> int:
        return sum(one.cum_qty for one in self.orders.values() if not one.ticket.client_order_id.endswith("e"))

    def print_price(self, px: int) -> None:
        self.px = px
        stop = self.named("s")
        if stop is not None and self.can_trade(stop) and not self.inert and px <= stop.ticket.stop_px:
            self.trade(stop, stop.ticket.qty)

    def at_market(self, random: Random) -> None:
        """Fill what stands at the market, in parts."""
        for order in list(self.orders.values()):
            if order.open and order.ticket.order_type.value == "MKT":
                self.trade(order, max(order.ticket.qty // random.choice((1, 1, 2, 3)), 1))


class Actor:
    def __init__(self, role: Any) -> None:
        self.role = role
        self.core: Core[Any] = new_core(role)
        self.records: list[bytes] = []
        self.timers: dict[str, int] = {}
        self.epoch = 1


class Scene:
    """One bracket from its entry to the end."""

    def __init__(self, seed: int, inert: bool, on_inert: OnInert) -> None:
        self.random = Random(seed)
        self.now_ns = START
        self.market = Market(inert)
        self.actors = {
            "broker.paper": Actor(Broker(BrokerSettings(watchers=("sentinel",), surfaced="adopt"))),  # type: ignore[arg-type]
            "sentinel": Actor(Sentinel(SentinelSettings(on_inert=on_inert, settle_ns=2 * SECOND))),
        }
        self.owed: dict[tuple[str, str], list[Envelope]] = {}
        self.inputs = 0
        self.lines: list[IncidentRecorded] = []
        self.alarms: set[str] = set()
        self.watched: tuple[str, ...] = ()
        self.exits = 0
        for name in self.actors:
            self.put(name, Recovered(1))
        self.open_session()
        self.put("broker.paper", PlaceBracket(intent(expires_s=3600)))
        self.quiet(2)
        entry = self.market.named("e")
        assert entry is not None
        self.market.trade(entry, SHARES * UNIT)
        self.quiet(2)

    # ---- plumbing

    def open_session(self) -> None:
        opened = self.market.open_session(False)
        self.put("broker.paper", opened)
        self.put("broker.paper", grant(self, opened.session_id))  # type: ignore[arg-type]
        self.put("broker.paper", self.market.read("r", False))

    def put(self, name: str, body: AnyMessage, source: str = "driver") -> None:
        self.inputs += 1
        actor = self.actors[name]
        self.take(Envelope(f"{source}:{self.inputs}", "", "", source, name, 1, self.now_ns, body), actor)

    def take(self, envelope: Envelope, actor: Actor) -> None:
        if admit(actor.core, envelope, actor.epoch) is not Admission.ADMIT:
            return
        step = advance(actor.role, actor.core, envelope, self.now_ns, actor.epoch)
        if step.core is not actor.core:
            record = JournalRecord(step.core.seq, self.now_ns, actor.epoch, envelope)
            actor.records.append(msgspec.json.encode(record))
        actor.core = step.core
        for owed in step.owed:
            self.owed.setdefault((owed.source, owed.target), []).append(owed)
        for effect in step.effects:
            self.do(actor, effect)

    def do(self, actor: Actor, effect: object) -> None:
        match effect:
            case Send(target=target, body=body) if target in self.actors:
                self.put(target, body, actor.role.name)
            case StartTimer(name=name, after_ns=after_ns):
                actor.timers[name] = self.now_ns + after_ns
            case CancelTimer(name=name):
                actor.timers.pop(name, None)
            case Drive(command=WatchPrices(symbols=symbols)):
                self.watched = symbols
            case Drive(command=command):
                self.exits += isinstance(command, SubmitOrders) and command.tickets[0].client_order_id.endswith("x")
                self.market.now_ns = self.now_ns
                self.market.obey(command)
                self.market.drain_wire()
            case AppendLine(body=IncidentRecorded() as line):
                self.lines.append(line)
            case RaiseAlarm(name=name):
                self.alarms.add(name.split(".")[0])

    def crash(self, name: str) -> None:
        """The process dies between two inputs; its successor folds the journal."""
        actor = self.actors[name]
        actor.core = new_core(actor.role)
        for raw in actor.records:
            record = msgspec.json.decode(raw, type=JournalRecord)
            actor.core = advance(actor.role, actor.core, record.input, record.now_ns, record.epoch).core
        actor.timers.clear()
        if name == "broker.paper" and self.market.session:
            self.market.lose_session(Wire.ARRIVES)
        actor.epoch += 1
        self.put(name, Recovered(actor.epoch))

    def tick(self) -> None:
        self.now_ns += TICK
        if not self.market.session:
            self.open_session()
        self.market.at_market(self.random)
        while self.market.up:
            self.put("broker.paper", self.market.up.pop(0))
        for envelopes in list(self.owed.values()):
            for envelope in list(envelopes):
                if envelope.target in self.actors:
                    self.take(envelope, self.actors[envelope.target])
        for actor in self.actors.values():
            for name, due_ns in tuple(actor.timers.items()):
                if due_ns <= self.now_ns:
                    actor.timers.pop(name, None)
                    self.put(actor.role.name, TimerFired(name), "timer")
        if "ACME" in self.watched:
            px, now_ns = self.market.px, self.now_ns
            self.put("sentinel", PrintsSeen("ACME", px, now_ns, px, now_ns, px, now_ns))

    def quiet(self, seconds: float) -> None:
        for _ in range(int(seconds * SECOND / TICK)):
            self.tick()

    def kinds(self) -> list[str]:
        return [line.kind for line in self.lines]

    def stage(self) -> list[Stage]:
        return [close.stage for close in self.actors["sentinel"].core.role.closes.values()]


def test_a_normal_stop_never_raises_it() -> None:
    scene = Scene(1, inert=False, on_inert=OnInert.CLOSE)
    assert scene.watched == ("ACME",)
    scene.market.print_price(94 * UNIT)
    scene.quiet(60)
    assert scene.market.left() == SHARES * UNIT
    assert not scene.lines
    assert "inert_stop" not in scene.alarms
    assert scene.watched == ()


def test_an_inert_stop_is_told_with_its_evidence_and_nothing_is_done_where_config_says_alarm_only() -> None:
    scene = Scene(1, inert=True, on_inert=OnInert.ALARM_ONLY)
    scene.market.print_price(94 * UNIT)
    scene.quiet(4)
    assert not scene.lines
    scene.quiet(60)
    (line,) = scene.lines
    assert line.kind == "inert_stop"
    assert all(word in line.evidence for word in ("95.00000000", "94.00000000", "permId", "submitted"))
    assert (scene.exits, scene.market.left()) == (0, 0)


def test_a_price_that_comes_back_does_not_take_the_obligation_back() -> None:
    scene = Scene(1, inert=True, on_inert=OnInert.ALARM_ONLY)
    scene.market.print_price(94 * UNIT)
    scene.tick()
    scene.market.print_price(101 * UNIT)
    scene.quiet(10)
    assert scene.kinds() == ["inert_stop"]


def test_a_price_above_the_stop_is_nothing_however_long() -> None:
    scene = Scene(1, inert=True, on_inert=OnInert.CLOSE)
    scene.market.print_price(96 * UNIT)
    scene.quiet(120)
    assert not scene.lines


def test_an_inert_stop_is_cancelled_and_its_position_closed_once_where_config_says_close() -> None:
    scene = Scene(1, inert=True, on_inert=OnInert.CLOSE)
    scene.market.print_price(94 * UNIT)
    scene.quiet(60)
    assert (scene.market.entered(), scene.market.left()) == (SHARES * UNIT, SHARES * UNIT)
    assert scene.stage() == [Stage.DONE]
    assert scene.kinds() == ["inert_stop"]
    scene.quiet(700)
    assert scene.stage() == []
    assert not scene.actors["sentinel"].core.role.orders


def test_a_stop_that_fills_while_it_is_being_cancelled_is_the_end_of_it() -> None:
    scene = Scene(1, inert=True, on_inert=OnInert.CLOSE)
    scene.market.print_price(94 * UNIT)
    while not scene.lines:
        stop = scene.market.named("s")
        scene.tick()
    assert stop is not None
    stop.status = "Cancelled"
    scene.market.trade(stop, SHARES * UNIT)
    scene.quiet(60)
    assert (scene.exits, scene.market.left()) == (0, SHARES * UNIT)


@pytest.mark.parametrize("shares", [30, 100])
def test_a_fill_that_comes_after_the_confirmed_cancel_is_taken_off_what_is_closed(shares: int) -> None:
    scene = Scene(1, inert=True, on_inert=OnInert.CLOSE)
    scene.market.print_price(94 * UNIT)
    while scene.stage() != [Stage.SETTLING]:
        scene.tick()
    stop = scene.market.named("s")
    assert stop is not None
    scene.market.trade(stop, shares * UNIT)
    scene.quiet(60)
    assert scene.market.left() == SHARES * UNIT
    assert scene.exits == (shares < SHARES)
    assert scene.stage() == [Stage.DONE]


def test_nothing_is_closed_while_the_cancel_is_not_confirmed_however_long_that_takes() -> None:
    scene = Scene(1, inert=True, on_inert=OnInert.CLOSE)
    scene.market.deaf = True
    scene.market.print_price(94 * UNIT)
    scene.quiet(60)
    assert (scene.stage(), scene.exits) == ([Stage.CANCELLING], 0)
    assert "cancel_unconfirmed" in scene.alarms
    scene.market.deaf = False
    scene.quiet(30)
    assert (scene.stage(), scene.market.left()) == ([Stage.DONE], SHARES * UNIT)


def test_an_exit_that_ends_in_the_middle_is_followed_by_one_for_the_rest() -> None:
    scene = Scene(1, inert=True, on_inert=OnInert.CLOSE)
    scene.market.print_price(94 * UNIT)
    while scene.stage() != [Stage.CLOSING]:
        scene.tick()
    scene.market.at_market = lambda random: None  # type: ignore[method-assign]
    for shares in (50, 30):
        scene.quiet(6)
        exit_order = scene.market.named("x")
        assert exit_order is not None
        assert exit_order.ticket.qty == {50: 100, 30: 50}[shares] * UNIT
        scene.market.trade(exit_order, shares * UNIT)
        scene.market.cancel(exit_order)
    del scene.market.at_market
    scene.quiet(30)
    assert (scene.stage(), scene.market.left(), scene.exits) == ([Stage.DONE], SHARES * UNIT, 3)


def test_a_fill_that_nobody_could_foresee_is_called_out_and_not_corrected() -> None:
    scene = Scene(1, inert=True, on_inert=OnInert.CLOSE)
    scene.market.print_price(94 * UNIT)
    while scene.stage() != [Stage.DONE]:
        scene.tick()
    stop = scene.market.named("s")
    assert stop is not None
    stop.ticket = msgspec.structs.replace(stop.ticket, qty=SHARES * UNIT)
    scene.market.trade(stop, 40 * UNIT)
    scene.quiet(60)
    assert scene.kinds() == ["inert_stop", "closed_twice"]
    assert scene.market.left() == 140 * UNIT
    assert scene.exits == 1


@pytest.mark.parametrize("seed", range(60))
def test_whatever_crashes_and_fills_late_what_entered_leaves_exactly_once(seed: int) -> None:
    print(f"seed {seed}")
    scene = Scene(seed, inert=True, on_inert=OnInert.CLOSE)
    random = scene.random
    scene.market.print_price(94 * UNIT)
    late = random.randrange(3)
    for _ in range(int(40 * SECOND / TICK)):
        if random.random() < 0.06:
            scene.crash(random.choice(("sentinel", "broker.paper")))
        take_profit, stop = scene.market.named("t"), scene.market.named("s")
        assert take_profit is not None
        assert stop is not None
        left = scene.market.entered() - scene.market.left()
        if left and random.random() < 0.03 and scene.market.can_trade(take_profit):
            scene.market.trade(take_profit, min(left, random.choice((10, 50, 100)) * UNIT))
        left = scene.market.entered() - scene.market.left()
        if late and left and scene.stage() in ([Stage.CANCELLING], [Stage.SETTLING]) and random.random() < 0.15:
            late -= 1
            scene.market.trade(stop, min(left, random.choice((10, 40, 100)) * UNIT))
            scene.tick()
        scene.tick()
    scene.quiet(60)
    assert scene.market.left() == scene.market.entered() == SHARES * UNIT, (seed, scene.stage(), scene.lines)
    assert set(scene.stage()) <= {Stage.DONE}
    assert scene.kinds().count("closed_twice") == 0
