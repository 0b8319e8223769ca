"""The allocator actor: signals in, intents out, one outcome for each signal.

Owns: which signals it has taken, their outcomes, and one open bracket for each strategy and symbol. Consumes: bus
entries (`SignalReceived`, `SignalUnreadable` from its driver), `IntentOutcome`, `OrderChanged`, `PositionChanged`,
`BracketClosed` (owed by the broker), halts, gate. Emits: `PlaceBracket` (owed), the outcome as projection `outcomes`
and a line, and the acknowledgement of the bus entry once that outcome is journaled.

Invariants: a signal id is taken once; an entry delivered again is acknowledged once its signal's outcome stands, and
does nothing else; each taken signal ends in exactly one `SignalOutcome`; nothing is placed while halted, past its
expiry, or beyond a cap; what an intent may still cost counts against the caps until its bracket closes, and again if
an order of it surfaces after that.

The gate is the broker's to keep: it holds an intent until the gate opens or the intent expires. With
`refuse_when_gate_shut` a signal is refused here instead.

Recovery: nothing volatile. Full: `open_max` brackets at once (then refused); outcomes beyond `outcomes_max` are
forgotten oldest first, and by then a signal of that age is refused as expired (`signal_age_ns_max`); of the brackets
that closed, the `retired_max` newest can come back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import assert_never

import msgspec

from actors.effects import AckStream, AppendLine, ClearAlarm, Count, Effect, Project, RaiseAlarm, Send, Severity
from actors.messages import (
    BracketClosed,
    BracketIntent,
    Envelope,
    GrantGate,
    HaltChanged,
    IntentOutcome,
    OrderChanged,
    Outcome,
    PlaceBracket,
    PositionChanged,
    Recovered,
    RevokeGate,
    Side,
    Signal,
    SignalOutcome,
    SignalReceived,
    SignalUnreadable,
)
from kernels import ids, pre_trade
from kernels.order_state import WORKING, OrderState
from kernels.sizing import FIXED, Caps, Exposure, Refused, Size, size_order

SECOND_NS = 1_000_000_000
STREAM = "signals"
UNRESOLVED = "unresolved"
"""Guard of an intent that was given up although its bytes may have left."""

DEFAULT_CAPS = Caps(
    order_notional_max=25_000 * FIXED,
    symbol_notional_max=50_000 * FIXED,
    gross_notional_max=200_000 * FIXED,
    order_qty_max=5_000 * FIXED,
)


class AllocatorSettings(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Amounts and quantities are Fixed8. `equity` is a figure of the configuration in this form."""

    name: str = "allocator"
    fund: str = "apex"
    broker: str = "broker.paper"
    equity: int = 100_000 * FIXED
    fraction_bps: int = 500
    lot: int = FIXED
    rules: pre_trade.Rules = pre_trade.Rules()
    caps: Caps = DEFAULT_CAPS
    open_max: int = 20
    signal_age_ns_max: int = 600 * SECOND_NS
    future_ns_max: int = 60 * SECOND_NS
    outcomes_max: int = 10_000
    retired_max: int = 256
    refused_in_row_max: int = 20
    refuse_when_gate_shut: bool = False


class Open(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An intent whose bracket may still trade. `live`: the broker has told that it went out."""

    intent: BracketIntent
    notional: int
    live: bool = False
    entry_cum_qty: int = 0
    taken_ns: int = 0


class Awaiting(msgspec.Struct, frozen=True, gc=False):
    """A taken signal whose outcome is the broker's to give, and the bus entry to acknowledge with it."""

    intent_id: str
    entry_id: str


class Holding(msgspec.Struct, frozen=True, gc=False):
    """A position as the broker told it."""

    qty: int
    avg_px: int


class AllocatorState(msgspec.Struct, frozen=True, gc=False):
    """`outcomes` in order of recording; `retired` are the slots of brackets that closed, oldest first."""

    halt: str = ""
    gate_session: str = ""
    gate_expires_ns: int = 0
    gate_epoch: int = 0
    open: Mapping[str, Open] = {}
    retired: Mapping[str, Open] = {}
    awaiting: Mapping[str, Awaiting] = {}
    outcomes: Mapping[str, SignalOutcome] = {}
    positions: Mapping[str, Holding] = {}
    refused_in_row: int = 0


AllocatorInput = (
    SignalReceived
    | SignalUnreadable
    | IntentOutcome
    | OrderChanged
    | PositionChanged
    | BracketClosed
    | HaltChanged
    | GrantGate
    | RevokeGate
    | Recovered
)
Reduced = tuple[AllocatorState, tuple[Effect, ...]]


class Allocator:
    """The role; holds nothing but its settings."""

    schema_version = 1
    state_type = AllocatorState

    def __init__(self, settings: AllocatorSettings | None = None) -> None:
        self.settings = settings or AllocatorSettings()

    @property
    def name(self) -> str:
        """Role name."""
        return self.settings.name

    def initial(self) -> AllocatorState:
        """No signal taken."""
        return AllocatorState()

    def show(self, state: AllocatorState, now_ns: int) -> dict[str, str]:
        """Return what the console shows."""
        outcomes = Counter(outcome.outcome.value for outcome in state.outcomes.values())
        shown = {name: str(count) for name, count in sorted(outcomes.items())}
        return shown | {"open brackets": str(len(state.open)), "positions": str(len(state.positions))}

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        """There is no earlier version."""
        raise ValueError(f"{self.name}: no migration from schema version {schema_version}")

    def reduce(self, state: AllocatorState, envelope: Envelope, now_ns: int) -> Reduced:
        """Fold one input."""
        body = envelope.body
        if not isinstance(body, AllocatorInput):
            return state, (Count("unexpected"),)
        match body:
            case SignalReceived(signal=signal, entry_id=entry_id):
                return self._signal(state, signal, entry_id, now_ns)
            case SignalUnreadable(entry_id=entry_id, error=error):
                return self._unreadable(state, entry_id, error)
            case IntentOutcome():
                return self._intent_outcome(state, body)
            case OrderChanged():
                return _order_changed(state, body)
            case PositionChanged(symbol=symbol, qty=qty, avg_px=avg_px):
                positions = {**state.positions, symbol: Holding(qty, avg_px)}
                if qty == 0:
                    del positions[symbol]
                return msgspec.structs.replace(state, positions=positions), ()
            case BracketClosed(intent_id=intent_id):
                return _closed(state, intent_id, self.settings.retired_max)
            case HaltChanged(reason=reason):
                return (state if reason == state.halt else msgspec.structs.replace(state, halt=reason)), ()
            case GrantGate():
                # Kept, and so journaled at each renewal, only where it decides something.
                return _granted(state, body) if self.settings.refuse_when_gate_shut else (state, ())
            case RevokeGate(session_id=session_id):
                if session_id != state.gate_session:
                    return state, ()
                return msgspec.structs.replace(state, gate_session="", gate_expires_ns=0), ()
            case Recovered():
                return state, self._pass_rate_again(state)
            case _:
                assert_never(body)

    # ---- signals

    def _signal(self, state: AllocatorState, signal: Signal, entry_id: str, now_ns: int) -> Reduced:
        ack = AckStream(STREAM, entry_id)
        if signal.signal_id in state.outcomes:
            return state, (Count("signal_again"), ack)
        if signal.signal_id in state.awaiting:
            # Not acknowledged before the outcome; the bus delivers it again after that.
            return state, (Count("signal_again"),)
        sized = self._decide(state, signal, now_ns)
        if isinstance(sized, SignalOutcome):
            state, effects = self._record(state, sized)
            return state, (*effects, ack)
        intent = BracketIntent(
            intent_id=ids.family_id(self.settings.fund, signal.signal_id),
            signal_id=signal.signal_id,
            strategy=signal.strategy,
            symbol=signal.symbol,
            side=signal.side,
            qty=sized.qty,
            limit_px=signal.limit_px,
            take_profit_px=signal.take_profit_px,
            stop_px=signal.stop_px,
            expires_ns=signal.expires_ns,
            reference_px=signal.reference_px,
        )
        taken = msgspec.structs.replace(
            state,
            open={**state.open, intent.intent_id: Open(intent, sized.notional, taken_ns=now_ns)},
            awaiting={**state.awaiting, signal.signal_id: Awaiting(intent.intent_id, entry_id)},
        )
        place = Send(self.settings.broker, PlaceBracket(intent), owed=True, correlation_id=signal.correlation_id)
        return taken, (place, Count("signal_taken"), Count(f"bound_by.{sized.bound_by}"))

    def _unreadable(self, state: AllocatorState, entry_id: str, error: str) -> Reduced:
        ack = AckStream(STREAM, entry_id)
        signal_id = f"unreadable:{entry_id}"
        if signal_id in state.outcomes:
            return state, (Count("signal_again"), ack)
        outcome = SignalOutcome(signal_id, Outcome.REFUSED, "unreadable", {"error": error[:500]})
        state, effects = self._record(state, outcome)
        return state, (*effects, ack)

    def _decide(self, state: AllocatorState, signal: Signal, now_ns: int) -> Size | SignalOutcome:
        """Go through the guards in order; the first that objects gives the outcome, with its figures."""
        guards = (
            _guard_time(self.settings, signal, now_ns),
            _guard_halt_and_gate(self.settings, state, now_ns),
            _guard_shape(signal),
            _guard_slots(self.settings, state, signal),
        )
        for refusal in guards:
            if refusal is not None:
                outcome = Outcome.EXPIRED if refusal.guard == "expired" else Outcome.REFUSED
                return SignalOutcome(signal.signal_id, outcome, refusal.guard, refusal.figures)
        settings = self.settings
        px = max(signal.limit_px, signal.reference_px)
        exposure = _exposure(state, signal.symbol)
        sized = size_order(settings.equity, settings.fraction_bps, px, settings.lot, settings.caps, exposure)
        if isinstance(sized, Refused):
            return SignalOutcome(signal.signal_id, Outcome.REFUSED, sized.guard, sized.figures)
        refused = pre_trade.refusal(_wish(signal, sized.qty), settings.rules, _recent(state), now_ns)
        if refused is not None:
            return SignalOutcome(signal.signal_id, Outcome.REFUSED, refused.guard, refused.figures)
        return sized

    # ---- outcomes

    def _record(self, state: AllocatorState, outcome: SignalOutcome) -> Reduced:
        """Record a signal's one outcome; forget the oldest beyond the bound."""
        effects: list[Effect] = [
            Project("outcomes", "all", outcome.signal_id, outcome),
            AppendLine("outcomes", outcome),
            Count(f"outcome_{outcome.outcome.value}.{outcome.guard}" if outcome.guard else "outcome_submitted"),
        ]
        outcomes = {**state.outcomes, outcome.signal_id: outcome}
        while len(outcomes) > self.settings.outcomes_max:
            oldest = next(iter(outcomes))
            del outcomes[oldest]
            effects.append(Project("outcomes", "all", oldest, b""))
        in_row = state.refused_in_row
        if outcome.outcome is Outcome.SUBMITTED:
            if in_row >= self.settings.refused_in_row_max:
                effects.append(ClearAlarm("pass_rate"))
            in_row = 0
        elif outcome.guard != "halt":
            in_row += 1
            if in_row >= self.settings.refused_in_row_max:
                text = f"{in_row} signals in a row went nowhere, the last by guard {outcome.guard}"
                effects.append(RaiseAlarm("pass_rate", Severity.WARNING, text))
        return msgspec.structs.replace(state, outcomes=outcomes, refused_in_row=in_row), tuple(effects)

    def _pass_rate_again(self, state: AllocatorState) -> tuple[Effect, ...]:
        """Alarms die with the incarnation that raised them; what stands is raised anew."""
        if state.refused_in_row < self.settings.refused_in_row_max:
            return ()
        text = f"{state.refused_in_row} signals in a row went nowhere, before a restart"
        return (RaiseAlarm("pass_rate", Severity.WARNING, text),)

    def _intent_outcome(self, state: AllocatorState, told: IntentOutcome) -> Reduced:
        if told.signal_id not in state.awaiting:
            return state, (Count("outcome_of_no_signal"),)
        ack = AckStream(STREAM, state.awaiting[told.signal_id].entry_id)
        awaiting = {key: value for key, value in state.awaiting.items() if key != told.signal_id}
        state = msgspec.structs.replace(state, awaiting=awaiting)
        slot = state.open.get(told.intent_id)
        if slot is not None and told.outcome is Outcome.SUBMITTED:
            state = _with_open(state, told.intent_id, msgspec.structs.replace(slot, live=True))
        elif (
            slot is not None and told.guard != UNRESOLVED
        ):  # else its bracket's end is told apart, and may be taken back
            state = _without_open(state, told.intent_id)
        outcome = SignalOutcome(told.signal_id, told.outcome, told.guard, told.figures)
        state, effects = self._record(state, outcome)
        return state, (*effects, ack)


# ---- guards: None lets pass


def _guard_time(settings: AllocatorSettings, signal: Signal, now_ns: int) -> Refused | None:
    figures = {"now_ns": str(now_ns), "expires_ns": str(signal.expires_ns), "ts_event_ns": str(signal.ts_event_ns)}
    if now_ns >= signal.expires_ns or now_ns - signal.ts_event_ns > settings.signal_age_ns_max:
        return Refused("expired", figures)
    return Refused("from_the_future", figures) if signal.ts_event_ns - now_ns > settings.future_ns_max else None


def _guard_halt_and_gate(settings: AllocatorSettings, state: AllocatorState, now_ns: int) -> Refused | None:
    if state.halt:
        return Refused("halt", {"reason": state.halt})
    if settings.refuse_when_gate_shut and now_ns >= state.gate_expires_ns:
        return Refused("gate", {"gate_expires_ns": str(state.gate_expires_ns)})
    return None


def _guard_shape(signal: Signal) -> Refused | None:
    """A bracket whose exits do not lie on their own sides of every possible entry is not opened."""
    if not (signal.signal_id and signal.strategy and signal.symbol):
        return Refused("shape", {"signal_id": signal.signal_id, "symbol": signal.symbol, "strategy": signal.strategy})
    low = min(signal.limit_px or signal.reference_px, signal.reference_px)
    high = max(signal.limit_px, signal.reference_px)
    below, above = signal.stop_px, signal.take_profit_px
    if signal.side is Side.SELL:
        below, above = above, below
    if 0 < below < low and high < above and signal.limit_px >= 0:
        return None
    figures = {
        "side": signal.side.value,
        "reference_px": str(signal.reference_px),
        "limit_px": str(signal.limit_px),
        "take_profit_px": str(signal.take_profit_px),
        "stop_px": str(signal.stop_px),
    }
    return Refused("bracket_sides", figures)


def _guard_slots(settings: AllocatorSettings, state: AllocatorState, signal: Signal) -> Refused | None:
    for intent_id, slot in state.open.items():
        if (slot.intent.strategy, slot.intent.symbol) == (signal.strategy, signal.symbol):
            return Refused("slot_taken", {"intent_id": intent_id})
    if len(state.open) >= settings.open_max:
        return Refused("open_max", {"open": str(len(state.open)), "open_max": str(settings.open_max)})
    return None


def _wish(signal: Signal, qty: int) -> pre_trade.Wish:
    return pre_trade.Wish(
        symbol=signal.symbol,
        buy=signal.side is Side.BUY,
        qty=qty,
        limit_px=signal.limit_px,
        take_profit_px=signal.take_profit_px,
        stop_px=signal.stop_px,
        last_px=signal.reference_px,
    )


def _recent(state: AllocatorState) -> tuple[pre_trade.Recent, ...]:
    """What was let through, as far as it is kept: also a bracket that has closed meanwhile."""
    slots = (*state.open.values(), *state.retired.values())
    intents = ((slot.intent, slot.taken_ns) for slot in slots)
    return tuple(pre_trade.Recent(one.symbol, one.side is Side.BUY, one.qty, at_ns) for one, at_ns in intents)


def _exposure(state: AllocatorState, symbol: str) -> Exposure:
    """What is open or held, whichever is larger for each symbol: a bracket's position must not count twice."""
    open_by_symbol: dict[str, int] = {}
    for slot in state.open.values():
        open_by_symbol[slot.intent.symbol] = open_by_symbol.get(slot.intent.symbol, 0) + slot.notional
    for name, holding in state.positions.items():
        held = abs(holding.qty) * holding.avg_px // FIXED
        open_by_symbol[name] = max(open_by_symbol.get(name, 0), held)
    return Exposure(open_by_symbol.get(symbol, 0), sum(open_by_symbol.values()))


# ---- what the broker told


def _with_open(state: AllocatorState, intent_id: str, slot: Open) -> AllocatorState:
    return msgspec.structs.replace(state, open={**state.open, intent_id: slot})


def _without_open(state: AllocatorState, intent_id: str) -> AllocatorState:
    left = {key: slot for key, slot in state.open.items() if key != intent_id}
    return msgspec.structs.replace(state, open=left)


def _order_changed(state: AllocatorState, told: OrderChanged) -> Reduced:
    slot = state.open.get(told.intent_id)
    if slot is None and told.intent_id in state.retired and OrderState(told.state) in WORKING:
        return _reopened(state, told)
    if slot is None:
        return state, (Count(f"order_without_slot.{OrderState(told.state).value}"),)
    if told.leg.value != "entry" or told.cum_qty == slot.entry_cum_qty:
        return state, ()
    return _with_open(state, told.intent_id, msgspec.structs.replace(slot, entry_cum_qty=told.cum_qty)), ()


def _closed(state: AllocatorState, intent_id: str, retired_max: int) -> Reduced:
    slot = state.open.get(intent_id)
    if slot is None:
        return state, (Count("closed_without_slot"),)
    retired = {**state.retired, intent_id: slot}
    while len(retired) > retired_max:
        del retired[next(iter(retired))]
    return msgspec.structs.replace(_without_open(state, intent_id), retired=retired), (Count("bracket_closed"),)


def _reopened(state: AllocatorState, told: OrderChanged) -> Reduced:
    """An order that had been given up works at the venue after all: it counts against the caps again."""
    retired = dict(state.retired)
    slot = retired.pop(told.intent_id)
    if told.leg.value == "entry":
        slot = msgspec.structs.replace(slot, entry_cum_qty=told.cum_qty)
    reopened = _with_open(state, told.intent_id, msgspec.structs.replace(slot, live=True))
    return msgspec.structs.replace(reopened, retired=retired), (Count("bracket_reopened"),)


def _granted(state: AllocatorState, grant: GrantGate) -> Reduced:
    if grant.reconciler_epoch < state.gate_epoch:
        return state, (Count("grant_of_stale_reconciler"),)
    granted = msgspec.structs.replace(
        state,
        gate_session=grant.session_id,
        gate_expires_ns=grant.expires_ns,
        gate_epoch=grant.reconciler_epoch,
    )
    return granted, ()
