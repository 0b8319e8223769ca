"""A naive market with prices and OCA groups, and the roles around the broker on it: a scene that delivers, times out,
crashes and replays them. What must hold is read from the market's own books.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from actors.broker import Broker
from actors.broker_state import BrokerSettings
from actors.core import Admission, Core, admit, advance, new_core
from actors.effects import AppendLine, CancelTimer, Drive, LatchHalt, Project, RaiseAlarm, Send, StartTimer
from actors.messages import (
    AnyMessage,
    BracketIntent,
    Envelope,
    HaltChanged,
    IncidentRecorded,
    JournalRecord,
    OrderReported,
    OrderTicket,
    OrderType,
    PlaceBracket,
    PrintsSeen,
    Recovered,
    SubmitOrders,
    TimerFired,
    VenueErrorReported,
    WatchPrices,
)
from tests.actors.money_bench import SECOND, START, UNIT, grant
from tests.actors.money_venue import Venue, VenueOrder, Wire

TICK = SECOND // 4
SHARES = 100


class Market(Venue):
    """A venue with prices and OCA groups. `inert`: stops are acknowledged and never elected. `stubborn`: stops are not
    changed into market orders. `slow`: what is under way to the venue, until `arrive`; None: all arrives at once.
    """

    def __init__(self, inert: bool) -> None:
        super().__init__()
        self.deaf = False
        self.inert = inert
        self.px = 100 * UNIT
        self.stubborn = False
        self.slow: list[OrderTicket | tuple[int, OrderTicket]] | None = None

    def arrive(self) -> None:
        """Let through what is under way, and all that comes after it."""
        waiting, self.slow = self.slow or [], None
        for arriving in waiting:
            if isinstance(arriving, OrderTicket):
                self.modify(arriving)
            else:
                self.receive(*arriving)

    def receive(self, generation: int, ticket: OrderTicket) -> None:
        if self.slow is None:
            super().receive(generation, ticket)
        else:
            self.slow.append((generation, ticket))

    def modify(self, ticket: OrderTicket) -> None:
        if self.stubborn and ticket.order_type is OrderType.MARKET:
            if self.session:
                text = "Order modify failed. Cannot change to the new order type."
                self.up.append(VenueErrorReported(self.session, ticket.venue_order_id, 329, text))
        elif self.slow is None:
            super().modify(ticket)
        else:
            self.slow.append(ticket)

    def report(self, order: VenueOrder, completed: bool = False) -> OrderReported:
        group = self.group(order)
        return msgspec.structs.replace(super().report(order, completed), oca_group=group, oca_type=3 if group else 0)

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
    """The broker and one role that watches it, from an empty book on."""

    def __init__(self, seed: int, market: Market, watcher: Any) -> None:
        self.random = Random(seed)
        self.now_ns = START
        self.market = market
        self.watcher: str = watcher.name
        broker = Broker(BrokerSettings(watchers=(watcher.name,), surfaced="adopt"))  # type: ignore[arg-type]
        self.actors = {"broker.paper": Actor(broker), watcher.name: Actor(watcher)}
        self.owed: dict[tuple[str, str], list[Envelope]] = {}
        self.inputs = 0
        self.lines: list[IncidentRecorded] = []
        self.alarms: set[str] = set()
        self.watched: tuple[str, ...] = ()
        self.exits = 0
        self.halt = HaltChanged("", 0)
        self.projected: dict[str, Any] = {}
        for name in self.actors:
            self.put(name, Recovered(1))
        self.open_session()

    def enter(self, intent: BracketIntent, shares: int = SHARES) -> None:
        """Have a bracket placed, and so much of its entry filled."""
        self.put("broker.paper", PlaceBracket(intent))
        for _ in range(int(2 * SECOND / TICK)):
            self.tick(fills=False)
        entry = self.market.named(intent.intent_id + "e")
        assert entry is not None
        if shares:
            self.market.trade(entry, shares * UNIT)
        for _ in range(int(2 * SECOND / TICK)):
            self.tick(fills=False)

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
            case LatchHalt(reason=reason, flatten=flatten):
                self.latch(reason, flatten)
            case Project(key_type=key_type, value=value):
                self.projected[key_type] = value
            case AppendLine(body=IncidentRecorded() as line):
                self.lines.append(line)
            case RaiseAlarm(name=name):
                self.alarms.add(name.split(".")[0])

    def latch(self, reason: str, flatten: bool) -> None:
        """As the identity file: what stands, stands; every host tells its role."""
        if self.halt.flatten_ns or (self.halt.reason and not flatten):
            return
        first = self.halt.reason or reason
        self.tell_halt(HaltChanged(first, self.now_ns, reason if flatten else "", self.now_ns if flatten else 0))

    def tell_halt(self, halt: HaltChanged) -> None:
        self.halt = halt
        for name in self.actors:
            self.put(name, halt, "shell")

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
        self.put(name, self.halt, "shell")

    def tick(self, fills: bool = True) -> None:
        self.now_ns += TICK
        if not self.market.session:
            self.open_session()
        if fills:
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
            self.put(self.watcher, PrintsSeen("ACME", px, now_ns, px, now_ns, px, now_ns))

    def quiet(self, seconds: float) -> None:
        for _ in range(int(seconds * SECOND / TICK)):
            self.tick()

    def until(self, condition: Callable[[], object], fills: bool = True, seconds: float = 120) -> None:
        for _ in range(int(seconds * SECOND / TICK)):
            if condition():
                return
            self.tick(fills)
        raise AssertionError((self.lines, [order for order in self.market.orders.values() if order.open]))

    def kinds(self) -> list[str]:
        return [line.kind for line in self.lines]
