"""One input's work on the spot broker's state, and what follows from it: what may go out goes out, what ended is told.

Whatever an input did, `finish` ends what is held too long, writes what may go, looks up what nobody knows, tells the
executor each order's end and every change of the gate. Nothing changed: the very same state object comes back.
"""

from __future__ import annotations

from operator import attrgetter

import msgspec

from actors.effects import AppendLine, ClearAlarm, Count, Drive, Effect, Project, RaiseAlarm, Send, Severity, StartTimer
from actors.messages import (
    AnyMessage,
    IncidentRecorded,
    QuerySpotOrder,
    ReadSpotAccount,
    SpotGateChanged,
    SpotGateReason,
    SpotOrderDone,
    SpotTicket,
    SubmitSpotOrder,
)
from actors.spot_state import SpotOrder, SpotOrderView, SpotSettings, SpotState
from kernels.layered_map import LayeredMap
from kernels.order_state import Incident, OrderEvent, OrderState, transition

LOOK_TIMER = "look"

_small = attrgetter(
    "session", "account", "halt", "gate", "live", "baseline", "flows", "balances", "diverged", "quiet", "requests",
    "read_ns", "incidents",
)  # fmt: skip
"""Small enough to compare whole; the large maps are compared by being the same."""


class Turn:
    """Mutable only while one input is reduced; it never outlives the call."""

    def __init__(self, settings: SpotSettings, state: SpotState, now_ns: int) -> None:
        self.settings = settings
        self.before = state
        self.now_ns = now_ns
        self.effects: list[Effect] = []
        self.session = state.session
        self.account = state.account
        self.halt = state.halt
        self.live: dict[str, SpotOrder] = dict(state.live)
        self.ended = self._ended_before = LayeredMap.of(state.ended)
        self.trades = self._trades_before = LayeredMap.of(state.trades)
        self.baseline = state.baseline
        self.flows = state.flows
        self.balances = state.balances
        self.diverged = state.diverged
        self.quiet = state.quiet
        self.requests = state.requests
        self.read_ns = state.read_ns
        self.incidents = state.incidents
        self._touched: dict[str, None] = {}

    # ---- effects

    def count(self, name: str) -> None:
        """Add one to a counter."""
        self.effects.append(Count(name))

    def alarm(self, name: str, severity: Severity, text: str, for_a_person: bool = False) -> None:
        """Raise an alarm; `for_a_person`: it stands until one has acknowledged it."""
        self.effects.append(RaiseAlarm(name, severity, text, for_a_person))

    def owe(self, body: AnyMessage, correlation_id: str = "") -> None:
        """Owe the executor a message."""
        self.effects.append(Send(self.settings.executor, body, owed=True, correlation_id=correlation_id))

    def incident(self, kind: str, subject: str, evidence: str) -> None:
        """Record something that must not be, once; said again, it is only counted."""
        self.count(f"incident.{kind}")
        noted = (kind, subject, evidence)
        if noted in self.incidents:
            return
        self.incidents = (*self.incidents, noted)[-self.settings.incidents_max :]
        self.effects.append(AppendLine("incidents", IncidentRecorded(kind, subject, evidence)))
        self.alarm(f"incident.{kind}", Severity.CRITICAL, f"{subject}: {evidence}", for_a_person=True)

    # ---- orders

    def find(self, client_order_id: str) -> SpotOrder | None:
        """Return an order that is kept."""
        return self.live.get(client_order_id) or self.ended.get(client_order_id)

    def put(self, order: SpotOrder) -> None:
        """Add or replace; it stands among the live ones until it is done."""
        name = _id(order)
        self._touched[name] = None
        if order.done:
            self.live.pop(name, None)
            self.ended = self.ended.put(name, order)
        else:
            if name in self.ended:
                self.ended = self.ended.drop(name)
            self.live[name] = order

    def moved(self, order: SpotOrder, event: OrderEvent) -> SpotOrder:
        """Apply the table of order states; an illegal pair is an incident and changes nothing."""
        entered = transition(order.state, event)
        if isinstance(entered, Incident):
            evidence = f"{entered.event} in state {entered.state}"
            self.incident("illegal_transition", order.place.client_order_id, evidence)
            return order
        if entered is order.state:
            return order
        return msgspec.structs.replace(order, state=entered, since_ns=self.now_ns)

    def gave_up(self, order: SpotOrder, reason: str) -> SpotOrder:
        """End an order of which nothing is, or can be any more, at the exchange."""
        return msgspec.structs.replace(self.moved(order, OrderEvent.ABSENT), ended=reason)

    def out(self) -> list[SpotOrder]:
        """Those that the exchange may have."""
        return [order for order in self.live.values() if order.out]

    def lose_session(self) -> None:
        """What was written and not acknowledged is UNKNOWN from now on; the gate is shut."""
        self.session = None
        self.quiet = ""
        for order in self.out():
            self.put(msgspec.structs.replace(self.moved(order, OrderEvent.LOST), asked_ns=0))

    def free(self) -> dict[str, int]:
        """What is free, by asset, of what the exchange said last."""
        return {asset: balance.free for asset, balance in self.balances.items() if balance.free}

    # ---- the venue

    def look_up(self, order: SpotOrder) -> None:
        """Ask for an order by its id, and its trades."""
        if self.session is None:
            return
        self.put(msgspec.structs.replace(order, asked_ns=self.now_ns))
        place = order.place
        query = QuerySpotOrder(self.session.session_id, self._request(), place.symbol, place.client_order_id)
        self.effects.append(Drive(query))
        self.count("looked_up")

    def read_account(self) -> None:
        """Ask for the balances; they are compared if nothing is out until they come."""
        if self.session is None:
            return
        request = self._request()
        self.quiet = request if not self.out() else ""
        self.read_ns = self.now_ns
        self.effects.append(Drive(ReadSpotAccount(self.session.session_id, request)))

    def _request(self) -> str:
        self.requests += 1
        return f"q{self.requests}"

    # ---- the end of the turn

    def finish(self) -> tuple[SpotState, tuple[Effect, ...]]:
        """Derive what follows; the given state itself if nothing changed."""
        self._settle_unresolved()
        gate = self._gate()
        for order in [order for order in self.live.values() if order.held]:
            self._release(order, gate)
        if gate is not self.before.gate:
            account = self.session.account if self.session else ""
            session_id = self.session.session_id if self.session else ""
            self.owe(SpotGateChanged(session_id, gate, self.free(), account))
        for name in tuple(self._touched):
            touched = self.find(name)
            assert touched is not None, "what is touched is kept until it is told"
            if touched != self.before.live.get(name, self._ended_before.get(name)):
                self._tell(touched)
        self._prune()
        if self._waits():
            self.effects.append(StartTimer(LOOK_TIMER, self.settings.look_every_ns))
        return self._state(gate), tuple(self.effects)

    def _settle_unresolved(self) -> None:
        """Look up what is unresolved and was not asked for just now; once nothing is, read the account."""
        if self.session is None:
            return
        due = [order for order in self.out() if self._is_due(order)]
        for order in due:
            self.look_up(order)
        now, settings = self.now_ns, self.settings
        every_ns = settings.account_every_ns if self.session.read else settings.look_every_ns * 2
        first = self.before.session is None or self.before.session.session_id != self.session.session_id
        if not self.out() and (first or now - self.read_ns >= every_ns):
            self.read_account()

    def _is_due(self, order: SpotOrder) -> bool:
        if order.asked_ns and self.now_ns - order.asked_ns < self.settings.look_every_ns:
            return False
        return self._unresolved(order) or self.now_ns - order.since_ns >= self.settings.stuck_after_ns

    def _unresolved(self, order: SpotOrder) -> bool:
        """Nobody knows it; or its trades do not come; or an earlier session had it, and what it said since is lost."""
        session_id = self.session.session_id if self.session else ""
        late = bool(order.ended) and self.now_ns - order.since_ns >= self.settings.look_every_ns
        return late or order.state is OrderState.UNKNOWN or order.session_id != session_id

    def _gate(self) -> SpotGateReason:
        session = self.session
        if session is None:
            return SpotGateReason.NO_SESSION
        if any(self._unresolved(order) for order in self.out()):
            return SpotGateReason.UNRESOLVED
        if not session.read:
            return SpotGateReason.ACCOUNT_NOT_READ
        if not session.can_trade:
            return SpotGateReason.MAY_NOT_TRADE
        return SpotGateReason.DIVERGED if self.diverged else SpotGateReason.OPEN

    def _release(self, order: SpotOrder, gate: SpotGateReason) -> None:
        """Write what is held if it may go; end it if it may not any more."""
        place, unwinds = order.place, order.place.reduces_risk
        if self.halt and not unwinds:
            self.put(self.gave_up(order, "halt"))
        elif place.expires_ns and self.now_ns >= place.expires_ns:
            self.put(self.gave_up(order, f"expired: {gate.value or 'late'}"))
        elif gate is SpotGateReason.OPEN or (unwinds and gate is SpotGateReason.DIVERGED):
            assert self.session is not None, "a gate stands open for a session"
            self.put(msgspec.structs.replace(order, session_id=self.session.session_id, since_ns=self.now_ns))
            self.quiet = ""
            ticket = SpotTicket(place.client_order_id, place.symbol, place.side, place.qty, place.limit_px)
            not_after_ns = self.now_ns + self.settings.submit_within_ns
            if place.expires_ns:
                not_after_ns = min(not_after_ns, place.expires_ns)
            self.effects.append(Drive(SubmitSpotOrder(self.session.session_id, ticket, unwinds, not_after_ns)))
        elif _id(order) in self._touched:
            self.count(f"held.{gate.value}")

    def _tell(self, order: SpotOrder) -> None:
        self.effects.append(Project("orders", "spot", _id(order), _view(order)))
        if not order.done:
            return
        told = order.told
        done = SpotOrderDone(
            client_order_id=_id(order),
            attempt_id=order.place.attempt_id,
            revision=told.revision if told else 1,
            state=order.state.value,
            cum_qty=order.cum_qty,
            cum_quote_qty=order.cum_quote_qty,
            commissions=order.commissions,
            written_ns=order.written_ns,
            done_ns=told.done_ns if told else self.now_ns,
            reason=order.ended,
        )
        if done == told:
            return
        if told is not None:
            done = msgspec.structs.replace(done, revision=told.revision + 1, done_ns=self.now_ns)
            self.count("told_again")
        self.put(msgspec.structs.replace(order, told=done))
        self.owe(done, order.correlation_id)

    def _prune(self) -> None:
        while len(self.ended) > self.settings.ended_max:
            oldest = next(self.ended.oldest())[0]
            self.ended = self.ended.drop(oldest)
            self.effects.append(Project("orders", "spot", oldest, b""))
            self.count("orders_pruned")
        while len(self.trades) > self.settings.trades_max:
            self.trades = self.trades.drop(next(self.trades.oldest())[0])
            self.count("trades_pruned")

    def _waits(self) -> bool:
        """Whether time alone may have to do something: with a session always, for its reads."""
        return self.session is not None or any(order.held for order in self.live.values())

    def _state(self, gate: SpotGateReason) -> SpotState:
        before = self.before
        state = SpotState(
            session=self.session,
            account=self.account,
            halt=self.halt,
            gate=gate,
            live=self.live,
            ended=before.ended if self.ended is self._ended_before else self.ended,
            trades=before.trades if self.trades is self._trades_before else self.trades,
            baseline=self.baseline,
            flows=self.flows,
            balances=self.balances,
            diverged=self.diverged,
            quiet=self.quiet,
            requests=self.requests,
            read_ns=self.read_ns,
            incidents=self.incidents,
        )
        same = state.ended is before.ended and state.trades is before.trades
        return before if same and _small(state) == _small(before) else state

    def diverge(self, text: str) -> None:
        """Note how the account's totals differ from ours, or (empty) that they do not."""
        if text and text != self.diverged:
            self.incident("spot_balances", "account", text)
            self.alarm("spot_diverged", Severity.CRITICAL, text)
        elif not text and self.diverged:
            self.effects.append(ClearAlarm("spot_diverged"))
        self.diverged = text


def _id(order: SpotOrder) -> str:
    return order.place.client_order_id


def _view(order: SpotOrder) -> SpotOrderView:
    place = order.place
    return SpotOrderView(
        client_order_id=place.client_order_id,
        attempt_id=place.attempt_id,
        symbol=place.symbol,
        side=place.side.value,
        state=order.state.value,
        qty=place.qty,
        cum_qty=order.cum_qty,
        cum_quote_qty=order.cum_quote_qty,
        limit_px=place.limit_px,
        venue_order_id=order.venue_order_id,
        reduces_risk=place.reduces_risk,
        placed_ns=order.placed_ns,
        since_ns=order.since_ns,
        ended=order.ended,
    )
