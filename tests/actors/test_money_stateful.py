"""Allocator, broker and reconciler against a naive venue, under loss, delay, doubling, reordering and crashes.

What must hold after every step and, once the world is quiet again, at the end is checked from the venue's own books.
"""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.allocator import Allocator, AllocatorSettings, AllocatorState
from actors.broker import Broker
from actors.broker_state import BrokerSettings, BrokerState
from actors.core import Admission, Core, admit, advance, new_core
from actors.effects import AckStream, AppendLine, CancelTimer, Drive, Send, StartTimer
from actors.messages import (
    AnyMessage,
    Envelope,
    HaltChanged,
    JournalRecord,
    Recovered,
    SignalOutcome,
    SignalReceived,
    SubmitOrders,
    SubmitWritten,
    TimerFired,
)
from actors.reconciler import Reconciler, ReconcilerSettings, ReconcilerState
from kernels.order_state import DONE, OrderState
from kernels.positions import FLAT, fold
from tests.actors.money_bench import SECOND, START, signal
from tests.actors.money_venue import Venue, VenueOrder, Wire

SYMBOLS = ("ACME", "BETA", "CORE")
ROLES = ("allocator", "broker.paper", "reconciler")


class Actor:
    """A role with its core and journal; effects are handed to the world, or lost with a crash."""

    def __init__(self, role: Any) -> None:
        self.role = role
        self.core: Core[Any] = new_core(role)
        self.records: list[bytes] = []
        self.epoch = 1
        self.timers: dict[str, int] = {}
        self.inputs = 0

    def replayed(self) -> Core[Any]:
        core: Core[Any] = new_core(self.role)
        for raw in self.records:
            record = msgspec.json.decode(raw, type=JournalRecord)
            core = advance(self.role, core, record.input, record.now_ns, record.epoch).core
        return core


class World(RuleBasedStateMachine):
    """All three roles, the messages between them, the bus and the venue."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = START
        self.venue = Venue()
        self.actors = {
            "allocator": Actor(Allocator(AllocatorSettings(open_max=50))),
            "broker.paper": Actor(Broker(BrokerSettings())),
            "reconciler": Actor(Reconciler(ReconcilerSettings())),
        }
        self.owed: dict[tuple[str, str], list[Envelope]] = {}
        self.sent: list[Envelope] = []
        self.bus: dict[str, AnyMessage] = {}
        self.signals: list[str] = []
        self.lines: list[str] = []
        self.resent: list[str] = []
        self.crash_next: str = ""

    # ---- plumbing

    def put(self, name: str, body: AnyMessage, source: str = "driver") -> None:
        actor = self.actors[name]
        actor.inputs += 1
        message_id = f"{source}:{name}:{actor.inputs}"
        self.take(Envelope(message_id, "", "", source, name, 1, self.now_ns, body))

    def take(self, envelope: Envelope) -> None:
        actor = self.actors[envelope.target]
        if admit(actor.core, envelope, actor.epoch) is not Admission.ADMIT:
            return
        step = advance(actor.role, actor.core, envelope, self.now_ns, actor.epoch)
        if step.core is not actor.core:
            record = JournalRecord(step.core.seq, self.now_ns, actor.epoch, envelope)
            actor.records.append(msgspec.json.encode(record))
        actor.core = step.core
        for owed in step.owed:
            self.owed.setdefault((owed.source, owed.target), []).append(owed)
        if self.crash_next == envelope.target:
            self.crash_next = ""
            self.crash(envelope.target)
            return
        for effect in step.effects:
            self.run_effect(actor, effect, envelope)

    def run_effect(self, actor: Actor, effect: object, cause: Envelope) -> None:
        name = actor.role.name
        match effect:
            case Send(target=target, body=body):
                self.sent.append(Envelope(f"{name}.{len(self.sent)}", "", "", name, target, 1, self.now_ns, body))
            case StartTimer(name=timer, after_ns=after_ns):
                actor.timers[timer] = self.now_ns + after_ns
            case CancelTimer(name=timer):
                actor.timers.pop(timer, None)
            case Drive(command=command):
                if isinstance(command, SubmitOrders) and command.resend:
                    self.resent.append(command.intent_id)
                self.venue.now_ns = self.now_ns
                self.venue.obey(command)
            case AckStream(entry_id=entry_id):
                self.bus.pop(entry_id, None)
            case AppendLine(body=SignalOutcome(signal_id=signal_id)):
                self.lines.append(signal_id)
            case _:
                pass

    def crash(self, name: str) -> None:
        actor = self.actors[name]
        assert actor.replayed() == actor.core, f"{name}: the fold of its journal is not its state"
        actor.core = actor.replayed()
        actor.epoch += 1
        actor.timers.clear()
        if name == "broker.paper" and self.venue.session:
            self.venue.lose_session(tuple(Wire)[actor.epoch % 3])
            self.venue.up.clear()
        self.put(name, Recovered(actor.epoch), "shell")

    def fire_due(self) -> None:
        for name, actor in self.actors.items():
            for timer in [timer for timer, due_ns in actor.timers.items() if due_ns <= self.now_ns]:
                if actor.timers.pop(timer, None) is not None:
                    self.put(name, TimerFired(timer), "timer")

    @property
    def broker(self) -> BrokerState:
        state = self.actors["broker.paper"].core.role
        assert isinstance(state, BrokerState)
        return state

    @property
    def allocator(self) -> AllocatorState:
        state = self.actors["allocator"].core.role
        assert isinstance(state, AllocatorState)
        return state

    @property
    def reconciler(self) -> ReconcilerState:
        state = self.actors["reconciler"].core.role
        assert isinstance(state, ReconcilerState)
        return state

    def venue_orders(self) -> list[VenueOrder]:
        return list(self.venue.orders.values())

    # ---- the good

    @rule(symbol=st.sampled_from(SYMBOLS), lifetime_s=st.integers(1, 60))
    def a_signal_comes(self, symbol: str, lifetime_s: int) -> None:
        signal_id = f"s{len(self.signals)}"
        self.signals.append(signal_id)
        body = SignalReceived(
            signal(signal_id, symbol, ts_event_ns=self.now_ns, expires_ns=self.now_ns + lifetime_s * SECOND), signal_id
        )
        self.bus[signal_id] = body
        self.put("allocator", body)

    @rule(n=st.integers(1, 4))
    def owed_messages_arrive(self, n: int) -> None:
        for queue in list(self.owed.values()):
            arriving = queue[:n]
            del queue[:n]
            for envelope in arriving:
                self.take(envelope)

    @rule(n=st.integers(1, 4))
    def messages_arrive(self, n: int) -> None:
        arriving = self.sent[:n]
        del self.sent[:n]
        for envelope in arriving:
            self.take(envelope)

    @rule(n=st.integers(1, 3))
    def the_wire_delivers(self, n: int) -> None:
        self.venue.now_ns = self.now_ns
        self.venue.drain_wire(n)

    @rule(pick=st.integers(0, 50), copies=st.integers(1, 2))
    @precondition(lambda self: bool(self.venue.up))
    def a_report_arrives_in_any_order_once_or_twice(self, pick: int, copies: int) -> None:
        report = self.venue.up.pop(pick % len(self.venue.up))
        for _ in range(copies):
            self.put("broker.paper", report)

    @rule(seconds=st.sampled_from((0.1, 1, 3, 5, 16, 61)))
    def time_passes(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND)
        self.fire_due()

    @rule(rolled_back=st.booleans())
    @precondition(lambda self: not self.venue.session)
    def a_session_opens(self, rolled_back: bool) -> None:
        self.put("broker.paper", self.venue.open_session(rolled_back))

    @rule(pick=st.integers(0, 50), qty=st.integers(1, 60))
    def an_order_trades(self, pick: int, qty: int) -> None:
        self.venue.now_ns = self.now_ns
        tradable = [order for order in self.venue_orders() if self.venue.can_trade(order)]
        if tradable:
            self.venue.trade(tradable[pick % len(tradable)], qty * 10**8)

    @rule()
    def all_is_well_for_a_while(self) -> None:
        """Otherwise chance alone seldom gets a bracket out whole."""
        if not self.venue.session:
            self.a_session_opens(False)
        for _ in range(30):
            self.the_wire_delivers(99)
            self.messages_arrive(99)
            self.owed_messages_arrive(99)
            while self.venue.up:
                self.put("broker.paper", self.venue.up.pop(0))
            self.now_ns += SECOND // 2
            self.fire_due()

    # ---- the bad

    @rule(pick=st.integers(0, 50))
    @precondition(lambda self: bool(self.venue.up))
    def a_report_is_lost(self, pick: int) -> None:
        k = pick % len(self.venue.up)
        if not isinstance(self.venue.up[k], SubmitWritten):
            del self.venue.up[k]

    @rule()
    @precondition(lambda self: bool(self.sent))
    def a_message_is_lost(self) -> None:
        self.sent.pop(0)

    @rule(wire=st.sampled_from(Wire))
    @precondition(lambda self: bool(self.venue.session))
    def the_session_is_lost(self, wire: Wire) -> None:
        self.put("broker.paper", self.venue.lose_session(wire))

    @rule()
    @precondition(lambda self: bool(self.venue.limbo))
    def what_was_on_a_dead_wire_surfaces(self) -> None:
        self.venue.drain_limbo()

    @rule(name=st.sampled_from(ROLES))
    def an_actor_crashes(self, name: str) -> None:
        self.crash(name)

    @rule(name=st.sampled_from(ROLES))
    def an_actor_will_crash_between_its_next_append_and_its_effects(self, name: str) -> None:
        self.crash_next = name

    @rule()
    def the_bus_delivers_again(self) -> None:
        for body in list(self.bus.values()):
            self.put("allocator", body)

    @rule()
    def the_next_read_fails(self) -> None:
        self.venue.fail_next_read = True

    @rule(pick=st.integers(0, 50))
    def a_person_cancels_at_the_venue(self, pick: int) -> None:
        entries = [order for order in self.venue_orders() if order.open and not order.ticket.parent_order_id]
        if entries:
            self.venue.cancel(entries[pick % len(entries)])

    @rule(pick=st.integers(0, 50))
    def a_cancelled_entry_fills_late(self, pick: int) -> None:
        self.venue.now_ns = self.now_ns
        entries = [o for o in self.venue_orders() if o.status == "Cancelled" and not o.ticket.parent_order_id]
        if entries:
            self.venue.trade(entries[pick % len(entries)], 10**11)

    @rule(pick=st.integers(0, 50))
    @precondition(lambda self: any(trade.qty > 1 for trade in self.venue.trades))
    def an_execution_is_corrected(self, pick: int) -> None:
        trades = [trade for trade in self.venue.trades if trade.qty > 1]
        self.venue.correct(trades[pick % len(trades)])

    @rule(halted=st.booleans())
    def the_halt_changes(self, halted: bool) -> None:
        for name in ("allocator", "broker.paper"):
            self.put(name, HaltChanged("test" if halted else "", self.now_ns), "shell")

    # ---- what must hold

    @invariant()
    def one_intent_is_at_most_one_order_family_at_the_venue(self) -> None:
        for ref, perm_ids in self.venue.ever.items():
            assert len(perm_ids) == 1, f"{ref} became {len(perm_ids)} orders"
        assert len(set(self.resent)) == len(self.resent), "an intent was sent again more than once"

    @invariant()
    def no_order_without_its_intent_and_no_id_twice(self) -> None:
        ours = [order for family in self.broker.families.values() for order in family.orders]
        assert {order.ticket.client_order_id for order in self.venue_orders()} <= {o.client_order_id for o in ours}
        drawn = [order.venue_order_id for order in ours]
        assert len(set(drawn)) == len(drawn)

    @invariant()
    def quantities_and_positions_add_up(self) -> None:
        for symbol in SYMBOLS:
            fills = [fill for fill in self.broker.fills.values() if fill.symbol == symbol]
            position = self.broker.positions.get(symbol, FLAT)
            assert position == fold(FLAT, fills)
        for family in self.broker.families.values():
            for order in family.orders:
                filled = [f.qty for f in self.broker.fills.values() if f.client_order_id == order.client_order_id]
                assert order.cum_qty == sum(filled)
                # More than its size only until a correction that is on its way arrives, and then it was recorded.
                assert order.cum_qty <= order.qty or "overfilled" in {note.kind for note in self.broker.incidents}

    @invariant()
    def a_signal_has_at_most_one_outcome_and_none_vanishes(self) -> None:
        assert len(set(self.lines)) == len(self.lines)
        for signal_id in self.signals:
            known = (signal_id in self.allocator.outcomes) + (signal_id in self.allocator.awaiting)
            assert known == 1 or (known == 0 and signal_id in self.bus)

    # ---- the end

    def teardown(self) -> None:
        self.crash_next = ""
        self.venue.fail_next_read = False
        self.the_bus_delivers_again()
        for _ in range(4):
            self.all_is_well_for_a_while()
        self.venue.drain_limbo()
        self.now_ns += 301 * SECOND
        self.fire_due()
        for _ in range(4):
            self.all_is_well_for_a_while()
        self.nothing_is_left_open_but_what_is_open_at_the_venue()
        for name in ROLES:
            actor = self.actors[name]
            assert actor.replayed() == actor.core

    def nothing_is_left_open_but_what_is_open_at_the_venue(self) -> None:
        held = {symbol: position.qty for symbol, position in self.broker.positions.items() if position.qty}
        assert held == self.venue.positions()
        there = {order.ticket.client_order_id: order for order in self.venue_orders() if order.status}
        for family in self.broker.families.values():
            for order in family.orders:
                their = there.get(order.client_order_id)
                assert order.state is not OrderState.UNKNOWN
                if their is None:
                    assert order.state in (OrderState.EXPIRED, OrderState.PENDING)
                    continue
                assert order.cum_qty == their.cum_qty
                if their.open:
                    assert order.state in (OrderState.SUBMITTED, OrderState.PARTIALLY_FILLED)
                else:
                    assert order.state in DONE
                assert order.cum_qty <= order.qty
        assert set(self.allocator.outcomes) == set(self.signals)
        assert self.allocator.awaiting == {}
        assert self.broker.held == {}
        assert self.bus == {}
        assert self.reconciler.gate_open, self.reconciler.findings


World.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=60,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestMoneyUnderAdversity = World.TestCase
