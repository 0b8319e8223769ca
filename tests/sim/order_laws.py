"""Laws of orders, checked against the venue's truth and against raw journals, in plain dictionaries.

What the engine knows is read from journal and projection bytes as JSON; what is true is read from the model venue.
Nothing of the engine's kernels is used here.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from actors.messages import (
    AnyMessage,
    Envelope,
    GrantGate,
    HaltChanged,
    OrderTicket,
    RevokeGate,
    SessionLost,
    SubmitOrders,
)
from actors.ports import FaultPoint
from tests.sim.hosts import Incarnation
from tests.sim.scheduler import Violation
from tests.sim.venue import DONE, VenueOrder
from tests.sim.venue_session import Gateway
from tests.sim.world import Laws, Simulation

PUT_BACK = "stop_again:"
"""How what a stop is for begins that the broker itself puts back; behind it stands the bracket's intent."""
UNRESOLVED = ("pre_sent", "pending", "unknown")
WORKING = ("submitted", "partially_filled")


class OrderLaws(Laws):
    """Watches one broker, its driver and its venue."""

    def __init__(self, simulation: Simulation, gateway: Gateway, broker: str, allocator: str) -> None:
        self.simulation = simulation
        self.gateway = gateway
        self.venue = gateway.venue
        self.broker = broker
        self.allocator = allocator
        self.placed: dict[str, dict[str, Any]] = {}
        self.born: dict[str, int] = {}
        self.families: dict[str, set[str]] = {}
        self.executed: dict[str, tuple[int, str, int]] = {}
        self.gates: dict[tuple[Incarnation, str], GrantGate] = {}
        self.leases: dict[tuple[Incarnation, str, str], int] = {}
        self.gate_epoch: dict[Incarnation, int] = {}
        self.halts: dict[Incarnation, str] = {}
        self.outcomes: dict[str, list[str]] = {}
        self.writes: dict[str, int] = {}
        self.resends_settled: dict[str, int] = {}
        self.venue.born = self._order_born
        self.venue.overwritten = self._order_overwritten
        gateway.written = self._written

    # ---- at the venue

    def _order_born(self, order: VenueOrder) -> None:
        reference = order.ticket.client_order_id
        self.born[reference] = self.born.get(reference, 0) + 1
        intent_id = reference[:-1]
        intent = self.placed.get(intent_id)
        if intent is None:
            intent = self._put_back(reference)
        if self.born[reference] > 1:
            text = f"{reference} became a second order, permId {order.perm_id}, order id {order.ticket.venue_order_id}"
            raise Violation("an intent becomes at most one order", text)
        if intent is None:
            raise Violation("no order without a durable intent", f"{reference} is at the venue, never journaled")
        families = self.families.setdefault(intent["signal_id"], set())
        families.add(intent_id)
        if len(families) > 1 and not intent["signal_id"].startswith(PUT_BACK):
            text = f"{intent['signal_id']} has orders of {sorted(families)} at the venue"
            raise Violation("a signal becomes at most one bracket", text)

    def _put_back(self, reference: str) -> dict[str, Any] | None:
        """The row of a stop that the broker decided on by itself: journaled, and for a bracket that was placed."""
        row = self.rows("orders").get(reference)
        if row is None or not row["signal_id"].startswith(PUT_BACK):
            return None
        return row if row["signal_id"].removeprefix(PUT_BACK) in self.placed else None

    def _order_overwritten(self, order: VenueOrder, ticket: OrderTicket) -> None:
        if ticket.client_order_id != order.ticket.client_order_id:
            text = (
                f"order id {ticket.venue_order_id} of {order.ticket.client_order_id} taken by {ticket.client_order_id}"
            )
            raise Violation("an order id is not given out twice", text)
        old, new = order.ticket, ticket
        if (old.side, old.qty, old.limit_px, old.stop_px) != (new.side, new.qty, new.limit_px, new.stop_px):
            raise Violation("what is sent again is the same order", f"{old} became {new}")

    # ---- on the way there

    def posted(self, incarnation: Incarnation, command: AnyMessage) -> None:
        """An order may go out only after its intent is durable, and only under a gate and no halt."""
        if not isinstance(command, SubmitOrders):
            return
        for ticket in command.tickets:
            self._must_be_durable(ticket, "given to the driver")
        if command.intent_id not in self.placed:
            return  # a stop that is put back only reduces: it waits for neither halt nor gate
        halt = self.halts.get(incarnation, "")
        if halt:
            raise Violation("a halt opens no risk", f"{incarnation} submits {command.intent_id} under {halt!r}")
        gate = self.gates.get((incarnation, command.session_id))
        if gate is not None:
            self.leases[incarnation, command.session_id, command.intent_id] = gate.expires_ns

    def _gate_must_be_open(self, incarnation: Incarnation, command: SubmitOrders) -> None:
        """The lease it was handed over under must run at the socket: a process may have stood still in between.

        A revocation that comes after the hand-over is too late for it; that is what the lease is for.
        """
        now_ns = self.simulation.scheduler.now_ns
        until_ns = self.leases.get((incarnation, command.session_id, command.intent_id), 0)
        if until_ns <= now_ns:
            text = (
                f"{incarnation} writes {command.intent_id} in {command.session_id} at {now_ns}, gate until {until_ns}"
            )
            raise Violation("no order without a gate", text)

    def effect(self, incarnation: Incarnation, point: FaultPoint, cause: Envelope, name: str) -> None:
        """Note what this incarnation has been told about gate and halt; it knows nothing of what others were told."""
        if point is not FaultPoint.RECEIVE or incarnation.host.name != self.broker:
            return
        match cause.body:
            case GrantGate(reconciler_epoch=epoch) if epoch >= self.gate_epoch.get(incarnation, 0):
                self.gate_epoch[incarnation] = epoch
                self.gates[incarnation, cause.body.session_id] = cause.body
            case RevokeGate(session_id=session_id) | SessionLost(session_id=session_id):
                self.gates.pop((incarnation, session_id), None)
            case HaltChanged(reason=reason):
                self.halts[incarnation] = reason
            case _:
                pass

    def _written(self, incarnation: Incarnation, command: SubmitOrders, ticket: OrderTicket) -> None:
        if not command.resend and command.intent_id in self.placed:
            self._gate_must_be_open(incarnation, command)
        self._must_be_durable(ticket, "written to the socket")
        intent = self.placed.get(command.intent_id)
        if intent is not None and self.simulation.scheduler.now_ns >= intent["expires_ns"]:
            text = f"{command.intent_id} written after {intent['expires_ns']}"
            raise Violation("an expired intent opens no risk", text)
        reference = ticket.client_order_id
        self.writes[reference] = self.writes.get(reference, 0) + 1
        if self.near and self.writes[reference] > 1 + self.resends_settled.get(command.intent_id, 0):
            text = f"{reference} written {self.writes[reference]} times, settled: {self.resends_settled}"
            raise Violation("a submission is repeated only when it is settled that it must be", text)

    def _must_be_durable(self, ticket: OrderTicket, how: str) -> None:
        if not self.near:
            return
        row = self.rows("orders").get(ticket.client_order_id)
        placed = ticket.client_order_id[:-1] in self.placed or self._put_back(ticket.client_order_id) is not None
        if row is None or not placed:
            raise Violation("no order without a durable intent", f"{ticket.client_order_id} {how}, not journaled")
        if row["venue_order_id"] != ticket.venue_order_id:
            text = f"{ticket.client_order_id} {how} as {ticket.venue_order_id}, journaled as {row['venue_order_id']}"
            raise Violation("no order without a durable intent", text)

    # ---- in the journal

    def appended(self, role: str, record: dict[str, Any]) -> None:
        """Do our own accounting."""
        body = record["input"]["body"]
        if role == self.broker:
            self._broker_took(body, record)
        elif role == self.allocator and body["type"] == "IntentOutcome":
            given = self.outcomes.setdefault(body["intent_id"], [])
            given.append(body["outcome"])
            if len(given) > 1:
                raise Violation("an intent has one outcome", f"{body['intent_id']}: {given}")

    def _broker_took(self, body: dict[str, Any], record: dict[str, Any]) -> None:
        match body["type"]:
            case "PlaceBracket":
                intent = body["intent"]
                self.placed.setdefault(intent["intent_id"], intent)
            case "ExecutionReported":
                self._count(body)
            case "VenueRead":
                for execution in body["executions"]:
                    self._count(execution)
            case "ResolveIntent" if body["resolution"] == "resend_same_id":
                self.resends_settled[body["intent_id"]] = self.resends_settled.get(body["intent_id"], 0) + 1
            case _:
                pass
        self._positions_add_up(record)
        self._quantities_add_up()

    def _count(self, execution: dict[str, Any]) -> None:
        base, _, revision = execution["exec_id"].rpartition(".")
        signed = execution["last_qty"] * (1 if execution["side"] == "BUY" else -1)
        if base not in self.executed or int(revision) > self.executed[base][0]:
            self.executed[base] = (int(revision), execution["symbol"], signed)

    def _positions_add_up(self, record: dict[str, Any]) -> None:
        mine: dict[str, int] = {}
        for _, symbol, signed in self.executed.values():
            mine[symbol] = mine.get(symbol, 0) + signed
        theirs = {symbol: row["qty"] for symbol, row in self.rows("positions").items()}
        if {s: q for s, q in mine.items() if q} != {s: q for s, q in theirs.items() if q}:
            text = f"after entry {record['seq']}: executions say {mine}, the engine {theirs}"
            raise Violation("a position is the sum of its executions", text)

    def _quantities_add_up(self) -> None:
        for reference, row in self.rows("orders").items():
            if not 0 <= row["cum_qty"] <= row["qty"]:
                raise Violation("cum and leaves add up", f"{reference}: {row}")
            if row["state"] in WORKING and row["cum_qty"] + row["leaves_qty"] != row["qty"]:
                raise Violation("cum and leaves add up", f"{reference}: {row}")

    def rows(self, key_type: str) -> dict[str, dict[str, Any]]:
        """Read a projection's bytes."""
        fields = self.simulation.store.projections.get((key_type, "all"), {})
        return {field: _parsed(value) for field, value in fields.items()}

    # ---- at the end

    def at_the_end(self) -> None:
        """After a long quiet both sides say the same, and nothing is open that should not be."""
        truth = {symbol: qty for symbol, qty in self.venue.positions().items() if qty}
        ours = {symbol: row["qty"] for symbol, row in self.rows("positions").items() if row["qty"]}
        if truth != ours:
            raise Violation("positions equal the venue's", f"venue {truth}, engine {ours}")
        by_reference = {order.ticket.client_order_id: order for order in self.venue.orders.values()}
        for reference, row in self.rows("orders").items():
            self._order_agrees(reference, row, by_reference.get(reference))
        missing = [reference for reference in by_reference if reference not in self.rows("orders")]
        if missing:
            raise Violation("orders equal the venue's", f"unknown to the engine: {missing}")
        self._allocator_agrees(truth)
        for intent_id in self.placed:
            if len(self.outcomes.get(intent_id, [])) != 1:
                raise Violation("an intent has one outcome", f"{intent_id}: {self.outcomes.get(intent_id)}")

    def _allocator_agrees(self, truth: dict[str, int]) -> None:
        """The allocator counts what is there: the positions, and a slot for each bracket that may still trade."""
        state = msgspec.to_builtins(self.simulation.journal_laws.fold(self.simulation.hosts[self.allocator]).role)
        held = {symbol: holding["qty"] for symbol, holding in state["positions"].items()}
        if held != truth:
            raise Violation("the allocator knows what is held", f"venue {truth}, allocator {held}")
        tradable = {
            order.ticket.client_order_id[:-1]
            for order in self.venue.orders.values()
            if order.status not in DONE and order.ticket.client_order_id[:-1] in self.placed
        }
        if tradable != set(state["open"]):
            text = f"venue {sorted(tradable)}, allocator {sorted(state['open'])}"
            raise Violation("a slot is taken as long as its bracket may trade", text)

    def _prices_agree(self, reference: str, row: dict[str, Any]) -> None:
        """The average price of an order, from the venue's executions, exactly or one unit off."""
        fills = [fill for fill in self.venue.fills if fill.ticket.client_order_id == reference]
        notional, qty = sum(fill.px * fill.qty for fill in fills), sum(fill.qty for fill in fills)
        if qty and abs(row["avg_px"] * qty - notional) > qty:
            raise Violation("orders equal the venue's", f"{reference} at {row['avg_px']}, venue {notional / qty:.0f}")

    def _order_agrees(self, reference: str, row: dict[str, Any], order: VenueOrder | None) -> None:
        state = row["state"]
        if state in UNRESOLVED:
            raise Violation("no order stays unresolved", f"{reference} is {state} at the end, venue: {order}")
        if order is None:
            filled = sum(fill.qty for fill in self.venue.fills if fill.ticket.client_order_id == reference)
            if state != "expired" or row["cum_qty"] != filled:
                text = f"{reference} is {state} with {row['cum_qty']} filled, the venue has none, {filled} filled"
                raise Violation("orders equal the venue's", text)
            return
        if row["cum_qty"] != order.filled_qty:
            raise Violation("orders equal the venue's", f"{reference} filled {row['cum_qty']}, venue {order}")
        self._prices_agree(reference, row)
        agrees = {
            "Filled": state == "filled",
            "Cancelled": state == "cancelled",
            "Inactive": state == "rejected",
        }.get(order.status, state in WORKING)
        if not agrees:
            raise Violation("orders equal the venue's", f"{reference} is {state}, venue {order.status}: {order}")


_parse_cache: dict[bytes, dict[str, Any]] = {}


def _parsed(value: bytes) -> dict[str, Any]:
    row = _parse_cache.get(value)
    if row is None:
        if len(_parse_cache) > 20_000:
            _parse_cache.clear()
        row = _parse_cache[value] = json.loads(value)
    return row
