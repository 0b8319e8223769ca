"""One input's work on the broker's state: copy-on-write maps, effects in order, and what follows from any change.

Whatever an input did, `finish` compares before and after and derives the rest from the difference: order and
position events, closed brackets, projections, pruning. Nothing changed: the very same state object comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from operator import attrgetter

import msgspec

from actors.broker_state import (
    BrokerSettings,
    BrokerState,
    CancelAsked,
    Defect,
    Family,
    Gate,
    Generation,
    Held,
    IncidentNote,
    Intent,
    Order,
    OrderView,
    PositionView,
    Session,
    Transition,
    Turning,
)
from actors.effects import AppendLine, ClearAlarm, Count, Effect, Project, RaiseAlarm, Send, Severity
from actors.external_orders import ExternalOrder, FillView
from actors.messages import (
    AccountFigures,
    AnyMessage,
    BracketClosed,
    ExitIntent,
    FillBooked,
    IncidentRecorded,
    IntentOutcome,
    OrderChanged,
    Outcome,
    PositionChanged,
    Side,
)
from kernels import ids
from kernels.contract_terms import ContractTerms
from kernels.layered_map import LayeredMap
from kernels.order_state import Incident, OrderEvent, transition
from kernels.positions import FIXED, FLAT, Fill, Position, apply_fill, average_px, divide_half_even
from kernels.recurring import SECOND_NS, begun_ns
from kernels.uptime import Standing, advance, enter

TRANSITIONS_KEPT = 16
STOP_AGAIN = "stop_again:"
"""With a bracket's intent behind it, what a stop is for that is put back."""
UPTIME_STEP_NS = SECOND_NS
"""How much of the gateway's uptime an input must add to be worth counting with it."""

READ_BACK = "read_back"
"""Kind of the incident of an order that the venue holds otherwise than asked."""

_COMPARED = (
    "session",
    "generation",
    "gate",
    "gate_epoch",
    "halt",
    "flatten",
    "next_order_id",
    "held",
    "positions",
    "absorbed",
    "absorbed_ts_ns",
    "early_commissions",
    "cancels",
    "turning",
    "misread",
    "defects",
    "read_session",
    "read_begun_ns",
    "unlisted",
    "vanished",
    "incidents",
    "externals",
    "uptime",
    "away_since_ns",
    "contracts",
    "account",
    "reserved",
    "money_changed_ns",
)
"""Small enough to compare whole at the end of a turn; the large maps are compared where they were touched."""
_compared = attrgetter(*_COMPARED)


class Turn:
    """Mutable only while one input is reduced; it never outlives the call."""

    def __init__(self, settings: BrokerSettings, state: BrokerState, now_ns: int) -> None:
        self.settings = settings
        self.before = state
        self.now_ns = now_ns
        self.effects: list[Effect] = []
        self.session: Session | None = state.session
        self.generation: Generation | None = state.generation
        self.gate: Gate | None = state.gate
        self.gate_epoch = state.gate_epoch
        self.halt = state.halt
        self.flatten = state.flatten
        self.next_order_id = state.next_order_id
        self.pace = (state.pace_start_ns, state.pace_count)
        self.held: dict[str, Held] = dict(state.held)
        self.families = self._families_before = LayeredMap.of(state.families)
        self.done = self._done_before = LayeredMap.of(state.done)
        self.fills = self._fills_before = LayeredMap.of(state.fills)
        self.positions = state.positions
        self.absorbed = state.absorbed
        self.absorbed_ts_ns = state.absorbed_ts_ns
        self.early_commissions = state.early_commissions
        self.cancels: Mapping[str, CancelAsked] = state.cancels
        self.turning: Mapping[str, Turning] = state.turning
        self.misread: Mapping[str, str] = state.misread
        self.defects: Mapping[str, Defect] = state.defects
        self.read_session = state.read_session
        self.read_begun_ns = state.read_begun_ns
        self.unlisted: Mapping[str, int] = state.unlisted
        self.vanished: Mapping[str, str] = state.vanished
        self.incidents = state.incidents
        self.externals: Mapping[str, ExternalOrder] = state.externals
        self.uptime = state.uptime
        self.away_since_ns = state.away_since_ns
        self.contracts: Mapping[str, ContractTerms] = state.contracts
        self.account: AccountFigures | None = state.account
        self.reserved: Mapping[str, int] = state.reserved
        self.money_changed_ns = state.money_changed_ns
        self._touched: dict[str, None] = {}
        self.strangers = 0
        """Orders and executions of nobody here that this input named."""

    # ---- effects

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter."""
        self.effects.append(Count(name, by))

    def alarm(self, name: str, severity: Severity, text: str, for_a_person: bool = False) -> None:
        """Raise an alarm; `for_a_person`: it stands until one has acknowledged it."""
        self.effects.append(RaiseAlarm(name, severity, text, for_a_person))

    def owe(self, target: str, body: AnyMessage, correlation_id: str = "") -> None:
        """Owe a message; an empty target is nobody, who asked for nothing."""
        if not target:
            return
        self.effects.append(Send(target, body, owed=True, correlation_id=correlation_id))

    def tell(self, body: AnyMessage, family: Family | None = None) -> None:
        """Owe it to the watchers, and to the allocator, except what is of an exit: that is not its own."""
        correlation_id = family.correlation_id if family is not None else ""
        if family is None or not isinstance(family.intent, ExitIntent):
            self.owe(self.settings.allocator, body, correlation_id)
        for watcher in self.settings.watchers:
            self.owe(watcher, body, correlation_id)

    def incident(self, kind: str, subject: str, evidence: str) -> None:
        """Record something that must not be, once, with an alarm; said again, it is only counted."""
        if self.record(kind, subject, evidence):
            self.alarm(f"incident.{kind}", Severity.CRITICAL, f"{subject}: {evidence}", for_a_person=True)

    def record(self, kind: str, subject: str, evidence: str) -> bool:
        """Write the line for people; False where just this is written already, and then it is only counted."""
        self.count(f"incident.{kind}")
        if any((note.kind, note.subject, note.evidence) == (kind, subject, evidence) for note in self.incidents):
            return False
        note = IncidentNote(kind, subject, evidence, self.now_ns)
        self.incidents = (*self.incidents, note)[-self.settings.incidents_max :]
        self.effects.append(AppendLine("incidents", IncidentRecorded(kind, subject, evidence)))
        return True

    # ---- the venue's own times

    @property
    def window(self) -> str:
        """Which of the times in which the venue is expected to be away it is, if any."""
        if begun_ns(self.settings.restart, self.now_ns) is not None:
            return "restart"
        return "login" if begun_ns(self.settings.login, self.now_ns) is not None else ""

    @property
    def closed_window(self) -> str:
        """The same, as long as orders had better wait: once a session has begun in the login's, it is over."""
        begun = begun_ns(self.settings.login, self.now_ns) if self.window == "login" else None
        there = begun is not None and self.uptime.standing is Standing.UP and self.uptime.since_ns >= begun
        return "" if there else self.window

    def stand(self, standing: Standing) -> None:
        """Count the venue's uptime up to now, and let it stand so from now on."""
        self.uptime = enter(self.uptime, standing, self.now_ns, self.settings.planned)

    # ---- intents

    def refuse(self, held: Held, outcome: Outcome, guard: str, figures: dict[str, str]) -> None:
        """End an intent of which nothing was ever written; it can never be placed again."""
        intent = held.intent
        self.count(f"intent_{outcome.value}.{guard}")
        told = IntentOutcome(intent.intent_id, intent.signal_id, outcome, guard, figures)
        self.owe(self.asker(intent), told, held.correlation_id)
        self.remember_done(intent)

    def asker(self, intent: Intent) -> str:
        """Return the role that is told the intent's outcome."""
        return intent.asked_by if isinstance(intent, ExitIntent) else self.settings.allocator

    def remember_done(self, intent: Intent) -> None:
        """Keep the id of an intent that is over."""
        done = self.done.put(intent.intent_id, intent.expires_ns)
        while len(done) > self.settings.done_max:
            done = done.drop(next(done.oldest())[0])
        self.done = done

    # ---- families and orders

    def family_of(self, client_order_id: str, perm_id: int) -> Family | None:
        """Find the family of a venue's claim: by our reference; if none was given, by a permId we know."""
        parsed = ids.parse(client_order_id)
        if parsed is not None:
            return self.families.get(parsed.family)
        if client_order_id or not perm_id:
            return None
        for family in self.families.values():
            if any(order.perm_id == perm_id for order in family.orders):
                return family
        return None

    def put_family(self, family: Family) -> None:
        """Add or replace."""
        intent_id = family.intent.intent_id
        if self.families.get(intent_id) != family:
            self.families = self.families.put(intent_id, family)
            self._touched[intent_id] = None

    def drop_family(self, gone: Family) -> None:
        """Forget a family: nothing of it was written, for certain, or it is over and remembered as done."""
        self.families = self.families.drop(gone.intent.intent_id)
        if gone.intent.intent_id in self.reserved:
            self.reserved = {key: cost for key, cost in self.reserved.items() if key != gone.intent.intent_id}
        self._touched[gone.intent.intent_id] = None
        self.effects.extend(Project("orders", "all", order.client_order_id, b"") for order in gone.orders)

    def moved(self, order: Order, event: OrderEvent) -> Order:
        """Apply the table; an illegal pair is an incident and changes nothing."""
        entered = transition(order.state, event)
        if isinstance(entered, Incident):
            self.incident("illegal_transition", order.client_order_id, f"{entered.event} in state {entered.state}")
            return order
        if entered is order.state:
            return order
        transitions = (*order.transitions, Transition(entered, self.now_ns))[-TRANSITIONS_KEPT:]
        return msgspec.structs.replace(order, state=entered, since_ns=self.now_ns, transitions=transitions)

    def gone_out(self, family: Family, degraded: str = "") -> Family:
        """Tell who asked, once, that the intent went out; and by which degraded guard, where it was one."""
        if family.outcome_given:
            return family
        intent = family.intent
        figures = {"venue_order_ids": ",".join(str(order.venue_order_id) for order in family.orders)}
        if degraded:
            figures["degraded"] = degraded
            self.count(f"degraded.{degraded}")
        outcome = IntentOutcome(intent.intent_id, intent.signal_id, Outcome.SUBMITTED, figures=figures)
        self.owe(self.asker(intent), outcome, family.correlation_id)
        return msgspec.structs.replace(family, outcome_given=True)

    # ---- fills

    def move(self, fill: Fill, position: Position) -> None:
        """Take the position after a fill, and tell risk, where it listens, what that changed of the money."""
        settings, old = self.settings, self.positions.get(fill.symbol, FLAT)
        self.positions = {**self.positions, fill.symbol: position}
        self.money_changed_ns = self.now_ns
        realized = divide_half_even(position.realized, FIXED) - divide_half_even(old.realized, FIXED)
        commission = position.commission - old.commission
        if settings.risk in settings.watchers and (realized or commission):
            told = (realized, commission, fill.currency, fill.ts_event_ns)
            self.owe(settings.risk, FillBooked(fill.exec_base, fill.symbol, *told))

    def put_fill(self, fill: Fill) -> None:
        """Add or replace, in the map and in the projection."""
        self.fills = self.fills.put(fill.exec_base, fill)
        told = bool(fill.currency)
        view = FillView(
            exec_id=f"{fill.exec_base}.{fill.revision:02d}" if fill.revision else fill.exec_base,
            client_order_id=fill.client_order_id,
            symbol=fill.symbol,
            side=(Side.BUY if fill.buy else Side.SELL).value,
            qty=fill.qty,
            px=fill.px,
            commission=fill.commission if told else None,
            currency=fill.currency,
            realized_pnl=fill.realized_pnl,
            corrected=fill.revision > 1,
            external=ids.parse(fill.client_order_id) is None,
            ts_event_ns=fill.ts_event_ns,
        )
        self.effects.append(Project("fills", "all", fill.exec_base, view))

    def bracket_id(self, intent: Intent) -> str:
        """Return the bracket whose quantity an exit closes, as long as it is kept; empty: it is its own."""
        if not isinstance(intent, ExitIntent):
            return ""
        bracket_id = intent.within or intent.signal_id.removeprefix(STOP_AGAIN)
        return bracket_id if bracket_id in self.families else ""

    def touched(self) -> tuple[Family, ...]:
        """Return the families that this turn has put, as they are now."""
        return tuple(self.families[intent_id] for intent_id in self._touched if intent_id in self.families)

    # ---- the end of the turn

    def finish(self) -> tuple[BrokerState, tuple[Effect, ...]]:
        """Derive what follows from the changes; the given state itself if there were none."""
        for intent_id in tuple(self._touched):
            if intent_id in self.families:
                self._tell_family(self.families[intent_id])
        if self.positions is not self.before.positions:
            self._tell_positions()
        if len(self.families) > self.settings.families_max:
            self._prune_families()
        if len(self.fills) > self.settings.fills_max:
            self._absorb_fills()
        changed = self._changed()
        if changed and self.now_ns - self.uptime.as_of_ns >= UPTIME_STEP_NS:
            changed["uptime"] = advance(self.uptime, self.now_ns, self.settings.planned)
        state = msgspec.structs.replace(self.before, **changed) if changed else self.before
        return state, tuple(self.effects)

    def _changed(self) -> dict[str, object]:
        before = self.before
        changed: dict[str, object] = {}
        values, olds = _compared(self), _compared(before)
        if values != olds:
            changed.update((name, new) for name, new, old in zip(_COMPARED, values, olds, strict=True) if new != old)
        if self.pace != (before.pace_start_ns, before.pace_count):
            changed["pace_start_ns"], changed["pace_count"] = self.pace
        if self.fills is not self._fills_before:
            changed["fills"] = self.fills
        if self.done is not self._done_before:
            changed["done"] = self.done
        if self.families is not self._families_before and any(
            self.families.get(intent_id) != self._families_before.get(intent_id) for intent_id in self._touched
        ):
            changed["families"] = self.families
        return changed

    def _tell_family(self, family: Family) -> None:
        intent = family.intent
        old = self._families_before.get(intent.intent_id)
        known = {order.client_order_id: order for order in old.orders} if old is not None else {}
        for order in family.orders:
            previous = known.get(order.client_order_id)
            if previous is order or previous == order:
                continue
            self._project_order(family, order)
            if not order.may_trade:
                self._forget_asked(order.client_order_id)
            if previous is None or _shown(previous) != _shown(order):
                self.tell(_order_changed(intent, order, self.bracket_id(intent)), family)
        closed = not any(order.may_trade for order in family.orders)
        if closed != family.closed:
            self.put_family(msgspec.structs.replace(family, closed=closed))
            if closed:
                closing = BracketClosed(intent.intent_id, intent.symbol)
                self.tell(closing, family)
            else:
                self.count("bracket_reopened")

    def _forget_asked(self, client_order_id: str) -> None:
        """An order is over: there is nothing to cancel, and nothing to hold against its terms."""
        if client_order_id in self.cancels:
            self.cancels = {key: asked for key, asked in self.cancels.items() if key != client_order_id}
        if client_order_id in self.misread:
            self.misread = {key: text for key, text in self.misread.items() if key != client_order_id}
            self.effects.append(ClearAlarm(f"read_back.{client_order_id}"))
        if client_order_id in self.unlisted:
            self.unlisted = {key: since_ns for key, since_ns in self.unlisted.items() if key != client_order_id}

    def _project_order(self, family: Family, order: Order) -> None:
        intent = family.intent
        view = OrderView(
            client_order_id=order.client_order_id,
            intent_id=intent.intent_id,
            signal_id=intent.signal_id,
            strategy=intent.strategy,
            symbol=intent.symbol,
            leg=order.leg.value,
            side=order.side.value,
            order_type=order.order_type.value,
            state=order.state.value,
            qty=order.qty,
            cum_qty=order.cum_qty,
            leaves_qty=max(order.qty - order.cum_qty, 0) if order.may_trade else 0,
            avg_px=average_of(order),
            limit_px=order.limit_px,
            stop_px=order.stop_px,
            venue_order_id=order.venue_order_id,
            perm_id=order.perm_id,
            placed_ns=family.placed_ns,
            since_ns=order.since_ns,
            history=order.transitions,
        )
        self.effects.append(Project("orders", "all", order.client_order_id, view))

    def _tell_positions(self) -> None:
        for symbol, position in self.positions.items():
            old = self.before.positions.get(symbol, FLAT)
            if position == old:
                continue
            average = average_px(position)
            realized = divide_half_even(position.realized, FIXED)
            view = PositionView(symbol, position.qty, average, realized, position.commission)
            self.effects.append(Project("positions", "all", symbol, view))
            if (position.qty, position.cost) != (old.qty, old.cost):
                self.tell(PositionChanged(symbol, position.qty, average))

    def _prune_families(self) -> None:
        """Drop the oldest closed families; open ones are never dropped (placing is refused before that)."""
        excess = len(self.families) - self.settings.families_max
        closed = tuple(islice((family for _, family in self.families.oldest() if family.closed), excess))
        for family in closed:
            self.remember_done(family.intent)
            self.drop_family(family)
        self.count("families_pruned", len(closed))

    def _absorb_fills(self) -> None:
        """Fold the oldest fills into `absorbed`; from then on an unknown execution of that age is not believed."""
        excess = len(self.fills) - self.settings.fills_max
        oldest = tuple(islice(self.fills.oldest(), excess))
        absorbed: dict[str, Position] = dict(self.absorbed)
        for base, fill in oldest:
            self.fills = self.fills.drop(base)
            self.effects.append(Project("fills", "all", base, b""))
            absorbed[fill.symbol] = apply_fill(absorbed.get(fill.symbol, FLAT), fill)
            self.absorbed_ts_ns = max(self.absorbed_ts_ns, fill.ts_event_ns)
        self.absorbed = absorbed


def average_of(order: Order) -> int:
    """Average fill price, Fixed8, half to even; 0 if nothing filled."""
    return divide_half_even(order.notional, order.cum_qty) if order.cum_qty else 0


def _shown(order: Order) -> tuple[object, ...]:
    return order.state, order.qty, order.cum_qty, order.notional, order.oca_group, order.limit_px, order.stop_px


def _order_changed(intent: Intent, order: Order, bracket_id: str) -> OrderChanged:
    return OrderChanged(
        client_order_id=order.client_order_id,
        intent_id=intent.intent_id,
        symbol=intent.symbol,
        leg=order.leg,
        side=order.side,
        state=order.state.value,
        qty=order.qty,
        cum_qty=order.cum_qty,
        avg_px=average_of(order),
        limit_px=order.limit_px,
        stop_px=order.stop_px,
        perm_id=order.perm_id,
        oca_group=order.oca_group,
        since_ns=order.since_ns,
        bracket_id=bracket_id,
    )
