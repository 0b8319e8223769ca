"""Laws of orders that a venue loses, and of the stops that are put back for them, from the venue's truth.

What the engine believes is read from projection bytes, what it told from its lines and alarms. What was lost, for how
long, what filled and what stands is the model venue's. Nothing of the engine's rules is used here.
"""

from __future__ import annotations

from typing import Any

from actors.messages import AnyMessage, IncidentRecorded
from tests.sim.hosts import Incarnation
from tests.sim.order_laws import PUT_BACK, WORKING, OrderLaws
from tests.sim.scheduler import SECOND, Violation
from tests.sim.venue import DONE, VenueOrder
from tests.sim.world import Laws, Simulation

AWAY_NS = 10 * SECOND
"""An order that was lost for a shorter while can have been missed by one reading only."""


class StopLaws(Laws):
    """Beside the laws of orders, of the same broker and venue."""

    def __init__(self, simulation: Simulation, orders: OrderLaws) -> None:
        self.simulation = simulation
        self.orders = orders
        self.venue = orders.venue
        self.states: dict[str, str] = {}
        self.told: set[str] = set()
        self._born = self.venue.born
        self.venue.born = self._order_born

    def line(self, incarnation: Incarnation, file: str, body: AnyMessage) -> None:
        """Note which brackets were told to have closed more than they opened."""
        if isinstance(body, IncidentRecorded) and body.kind == "closed_twice":
            self.told.add(body.subject)

    # ---- what is given up

    def appended(self, role: str, record: dict[str, Any]) -> None:
        """An order that works here is given up only if the venue has really lost it, and for long enough."""
        if role != self.orders.broker:
            return
        for reference, row in self.orders.rows("orders").items():
            before = self.states.get(reference, "")
            self.states[reference] = row["state"]
            if before in WORKING and row["state"] == "expired":
                self._must_be_lost(reference)

    def _must_be_lost(self, reference: str) -> None:
        order = self._order(reference)
        if order is None:
            raise Violation("only what the venue lost is given up", f"{reference}: the venue never had it")
        away_ns = order.away_ns
        if order.key in self.venue.away:
            away_ns = self.simulation.scheduler.now_ns - order.away_since_ns
        if not order.away_since_ns or away_ns < AWAY_NS:
            text = f"{reference} is expired, and was away for {away_ns / SECOND:.1f} s: {order}"
            raise Violation("only what the venue lost is given up", text)

    def _was_lost(self, reference: str) -> bool:
        """Whether its venue lost it for a while: then nothing there took from it what others of its group filled."""
        order = self._order(reference)
        return order is not None and order.away_since_ns > 0

    def _order(self, reference: str) -> VenueOrder | None:
        known = (*self.venue.orders.values(), *self.venue.away.values())
        return next((order for order in known if order.ticket.client_order_id == reference), None)

    # ---- what is put back

    def _order_born(self, order: VenueOrder) -> None:
        self._born(order)
        bracket_id = self._put_back_for(order.ticket.client_order_id)
        if not bracket_id:
            return
        bracket, ticket = self.orders.placed[bracket_id], order.ticket
        entered = self._filled(bracket_id + "e")
        is_right = (ticket.symbol, ticket.stop_px) == (bracket["symbol"], bracket["stop_px"])
        if not is_right or ticket.side.value == bracket["side"] or not 0 < ticket.qty <= entered:
            text = f"{ticket} for {bracket}, of which {entered} have filled"
            raise Violation("a stop that is put back protects what its bracket holds", text)

    def _put_back_for(self, reference: str) -> str:
        row = self.orders.rows("orders").get(reference)
        signal_id = row["signal_id"] if row is not None else ""
        return signal_id.removeprefix(PUT_BACK) if signal_id.startswith(PUT_BACK) else ""

    def _filled(self, reference: str) -> int:
        return sum(fill.qty for fill in self.venue.fills if fill.ticket.client_order_id == reference)

    # ---- at the end

    def at_the_end(self) -> None:
        """What a bracket holds has one stop of that size, unless a person was told; one that holds nothing has none."""
        again: dict[str, list[str]] = {}
        for reference in self.orders.rows("orders"):
            if bracket_id := self._put_back_for(reference):
                again.setdefault(bracket_id, []).append(reference)
        alarms = self.simulation.hosts[self.orders.broker].alarms.standing
        for bracket_id in self.orders.placed:
            self._bracket_is_protected(bracket_id, again.get(bracket_id, []), alarms)

    def _bracket_is_protected(self, bracket_id: str, again: list[str], alarms: dict[str, str]) -> None:
        live = {order.ticket.client_order_id: order for order in self.venue.orders.values() if order.status not in DONE}
        exits = [bracket_id + "t", bracket_id + "s", *again]
        stops = [live[name] for name in exits if name.endswith("s") and name in live]
        held = self._filled(bracket_id + "e") - sum(self._filled(name) for name in exits)
        # After a restart of the venue its ids of before mean nothing: what stands under one cannot be cancelled by us.
        unreachable = any(name in live and live[name].generation != self.venue.generation for name in exits)
        told = f"exits_wrong.{bracket_id}" in alarms or (unreachable and "cancel_unconfirmed" in alarms)
        text = f"{bracket_id} holds {held}; exits {[live[name] for name in exits if name in live]}; {again} put back"
        if held < 0 and bracket_id not in self.told:
            raise Violation("what was closed twice is told", text)
        if held < 0 and not any(self._was_lost(name) for name in exits):
            raise Violation("only a lost order can close twice", text)
        if bracket_id + "e" in live or told:
            return
        if held <= 0 and any(name in live for name in exits):
            raise Violation("nothing stands that would open", text)
        if held > 0 and (len(stops) != 1 or stops[0].leaves_qty != held):
            raise Violation("what is held has one stop, of its size", text)
