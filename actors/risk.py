"""Risk: halts when a limit is reached, closes everything when it is told to, independent of whoever opened it.

Owns: the circuit breakers and the day's money (`FillBooked`, `DivergenceChanged`, owed); the flatten that is under way,
what it placed for it, and what the broker's records say of it. Consumes:
`HaltChanged` (the order to flatten stands beside the halt latch), `Flatten` of other roles; `OrderChanged`,
`PositionChanged`, `BracketClosed` (owed by the broker, as to a watcher), `OrdersShown`, `PicturesTaken` while it
flattens, `IntentOutcome` of its own exits, `StopStands`. Emits: `CancelOrders`, `CloseWithStop` and `PlaceExit` (owed
to the broker), `ReadVenue`, `ShowOrders`, `LatchHalt`, the projection `flatten`, alarms.

Invariants: nothing is cancelled or placed before the latch stands. Exits are sized by what has filled, never by what
was asked, one at a time a bracket, and never while an earlier one may still trade. Flat is only what a complete read
of the broker's records shows: a failed or missing one is not flat. While the latch stands the records are read again
and again, and what appears is cancelled and closed again. Only a person ends it.

Recovery: the state holds what was told and what was placed, a look at it gives the next step; the broker is asked to
show what it holds. Full: `orders_max` orders are kept, those beyond are counted; the broker's records show them.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from actors.effects import (
    AppendLine,
    CancelTimer,
    ClearAlarm,
    Count,
    Effect,
    LatchHalt,
    Project,
    RaiseAlarm,
    Send,
    Severity,
    StartTimer,
)
from actors.messages import (
    BracketClosed,
    CancelOrders,
    DivergenceChanged,
    Envelope,
    FillBooked,
    Flatten,
    HaltChanged,
    IncidentRecorded,
    IntentOutcome,
    Leg,
    OrderChanged,
    OrderPicture,
    OrdersShown,
    Outcome,
    PicturesTaken,
    PositionChanged,
    ReadVenue,
    Recovered,
    ShowOrders,
    StopStands,
    TimerFired,
    VenuePosition,
)
from actors.risk_breaker import divergence_told, fill_booked, order_told
from actors.risk_flatten import failed, is_unheard, look, target
from actors.risk_state import SECOND_NS, FlattenProgress, Known, OnBreaker, RiskSettings, RiskState, Stage
from kernels import ids
from kernels.order_breaker import DayMoney, cleared, judge
from kernels.order_state import OrderState
from kernels.trading_day import trading_day

LOOK_TIMER, VERIFY_TIMER, UNVERIFIED_TIMER, SHOW_TIMER = "look", "verify", "unverified", "show"
JUDGE_TIMER = "judge"
SHOW_AGAIN_NS = 5 * SECOND_NS
CONFIRM_EVERY_NS = 2 * SECOND_NS

RiskInput = (
    HaltChanged
    | Flatten
    | OrderChanged
    | PositionChanged
    | BracketClosed
    | OrdersShown
    | PicturesTaken
    | IntentOutcome
    | StopStands
    | FillBooked
    | DivergenceChanged
    | TimerFired
    | Recovered
)
STEPS = HaltChanged | PicturesTaken | TimerFired | Recovered
"""After these the next steps are looked for: after every order's change, a thousand of them would be looked at each
time."""
Reduced = tuple[RiskState, tuple[Effect, ...]]


class Risk:
    """The role; holds nothing but its settings."""

    schema_version = 1
    state_type = RiskState

    def __init__(self, settings: RiskSettings | None = None) -> None:
        self.settings = settings or RiskSettings()

    @property
    def name(self) -> str:
        """Role name."""
        return self.settings.name

    def initial(self) -> RiskState:
        """Nothing known, nothing to close."""
        return RiskState()

    def show(self, state: RiskState, now_ns: int) -> dict[str, str]:
        """Return what the console shows."""
        today = trading_day(now_ns, self.settings.zone_offsets, self.settings.day_begins_hour)
        money = state.breaker.days.get(today, DayMoney())
        shown = {"day P&L": f"{money.pnl / 1e8:.2f}", "breaker": state.tripped or "closed"}
        if not state.flatten_ns:
            return {"flatten": "no"} | shown
        progress = state.progress
        return shown | {"flatten": progress.stage.value, "reason": state.flatten, "waits": progress.text or "nothing"}

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        """There is no earlier version."""
        raise ValueError(f"{self.name}: no migration from schema version {schema_version}")

    def reduce(self, state: RiskState, envelope: Envelope, now_ns: int) -> Reduced:
        """Fold one input, and take the steps that follow."""
        body = envelope.body
        if not isinstance(body, RiskInput):
            return state, (Count("unexpected"),)
        folded, effects = self._fold(state, body, now_ns)
        folded, tripped = self._judge(folded, now_ns)
        effects += tripped
        if not isinstance(body, STEPS) or not folded.flatten_ns:
            return folded, effects
        stepped, more = self._step(folded, now_ns)
        return (state if stepped == state else stepped), (*effects, *more)

    def _fold(self, state: RiskState, body: RiskInput, now_ns: int) -> Reduced:
        match body:
            case HaltChanged():
                return self._halt_changed(state, body, now_ns)
            case Flatten(reason=reason):
                return self._wanted(state, reason, flatten=True)
            case OrderChanged():
                return self._order(order_told(state, self.settings.limits, body, now_ns), body, now_ns)
            case FillBooked():
                return fill_booked(state, body, self.settings.zone_offsets, self.settings.day_begins_hour), ()
            case DivergenceChanged():
                return divergence_told(state, body), ()
            case PositionChanged(symbol=symbol, qty=qty):
                positions = {**state.positions, symbol: qty}
                if not qty:
                    del positions[symbol]
                touched = {**state.touched_ns, symbol: now_ns}
                return msgspec.structs.replace(state, positions=positions, touched_ns=touched), ()
            case BracketClosed(intent_id=intent_id):
                return _pruned(state, intent_id), ()
            case OrdersShown(orders=orders, positions=held):
                state, effects = self._pictured(state, orders, held, now_ns)
                return msgspec.structs.replace(state, shown=True), (*effects, CancelTimer(SHOW_TIMER))
            case PicturesTaken():
                return self._pictures(state, body, now_ns)
            case IntentOutcome():
                return self._outcome(state, body, now_ns)
            case StopStands(client_order_id=name):
                return msgspec.structs.replace(state, standing=state.standing | {name}), (Count("flatten_stop_stands"),)
            case TimerFired(name=name):
                return self._timer(state, name)
            case Recovered(epoch=epoch):
                return self._recovered(state, epoch)
            case _:
                assert_never(body)

    # ---- the latch

    def _wanted(self, state: RiskState, reason: str, flatten: bool) -> Reduced:
        """Latch; what is remembered until it is seen to stand is asked for again by the next incarnation."""
        if state.flatten_ns or (state.halt and not flatten):
            return state, (Count("latched_already"),)
        wanted = msgspec.structs.replace(state, wanted=reason, wanted_flatten=flatten or state.wanted_flatten)
        return wanted, (LatchHalt(reason, flatten), Count("latched"))

    def _judge(self, state: RiskState, now_ns: int) -> Reduced:
        """Latch once a limit is reached; again, if it is passed still when a person has cleared the latch."""
        if state.tripped or state.wanted:
            return state, ()
        settings = self.settings
        today = trading_day(now_ns, settings.zone_offsets, settings.day_begins_hour)
        reason = judge(state.breaker, settings.limits, today, now_ns)
        if not reason:
            return state, ()
        tripped = msgspec.structs.replace(state, tripped=reason)
        tripped, latching = self._wanted(tripped, reason, settings.on_breaker is OnBreaker.FLATTEN)
        line = IncidentRecorded("breaker", settings.on_breaker.value, reason)
        alarm = RaiseAlarm("breaker", Severity.CRITICAL, reason)
        return tripped, (*latching, alarm, AppendLine("incidents", line), Count("breaker_tripped"))

    def _halt_changed(self, state: RiskState, told: HaltChanged, now_ns: int) -> Reduced:
        resumed = bool(state.halt) and not told.reason
        state, effects = self._latch_seen(state, told)
        if not resumed:
            return state, effects
        begun = msgspec.structs.replace(state, tripped="", breaker=cleared(state.breaker, now_ns))
        return begun, (*effects, ClearAlarm("breaker"))

    def _latch_seen(self, state: RiskState, told: HaltChanged) -> Reduced:
        latched = told.reason and (told.flatten_ns or not state.wanted_flatten)
        state = msgspec.structs.replace(
            state,
            halt=told.reason,
            wanted="" if latched else state.wanted,
            wanted_flatten=False if latched else state.wanted_flatten,
        )
        if told.flatten_ns == state.flatten_ns:
            return state, ()
        effects: list[Effect] = [ClearAlarm(f"flatten_failed.{symbol}") for symbol in state.tries]
        effects += [ClearAlarm(f"over_closed.{bracket_id}") for bracket_id in state.over]
        effects += [ClearAlarm("flatten_unverified"), ClearAlarm("flatten")]
        begun = msgspec.structs.replace(
            state,
            flatten=told.flatten,
            flatten_ns=told.flatten_ns,
            exits={key: one for key, one in state.exits.items() if not one.gone},
            tries={},
            cancels=frozenset(),
            turned=frozenset(),
            standing=frozenset(),
            alone=frozenset(),
            over={},
            external={},
            read_text="",
            flat_ns=0,
        )
        if told.flatten_ns:
            line = IncidentRecorded("flatten", told.flatten, "ordered")
            effects += [*self._begin(begun), AppendLine("incidents", line), Count("flatten_begun")]
            return begun, tuple(effects)
        ended = msgspec.structs.replace(state.progress, stage=Stage.ENDED, text="a person cleared the latch")
        effects += [CancelTimer(name) for name in (LOOK_TIMER, VERIFY_TIMER, UNVERIFIED_TIMER)]
        effects.append(Project("flatten", "all", "progress", ended))
        return msgspec.structs.replace(begun, progress=ended), tuple(effects)

    def _begin(self, state: RiskState) -> tuple[Effect, ...]:
        text = f"positions are being closed: {state.flatten}"
        return (
            RaiseAlarm("flatten", Severity.CRITICAL, text),
            StartTimer(LOOK_TIMER, self.settings.look_every_ns),
            StartTimer(UNVERIFIED_TIMER, self.settings.unverified_ns),
            *self._read(state),
        )

    def _read(self, state: RiskState) -> tuple[Effect, ...]:
        request = ReadVenue("", f"{self.settings.name}.{state.epoch}")
        verify_ns = self.settings.verify_every_ns
        after_ns = verify_ns if state.flat_ns else min(verify_ns, CONFIRM_EVERY_NS)
        return Send(self.settings.broker, request), StartTimer(VERIFY_TIMER, after_ns)

    # ---- what the broker tells

    def _order(self, state: RiskState, told: OrderChanged | OrderPicture, now_ns: int) -> Reduced:
        known = state.orders.get(told.client_order_id)
        beyond = known is None and len(state.orders) >= self.settings.orders_max
        if beyond and told.intent_id not in state.exits:
            return state, (Count("order_beyond_bound"),)
        order = Known(
            client_order_id=told.client_order_id,
            intent_id=told.intent_id,
            symbol=told.symbol,
            leg=told.leg,
            side=told.side,
            state=OrderState(told.state),
            qty=told.qty,
            cum_qty=told.cum_qty,
            oca_group=told.oca_group,
            stop_px=told.stop_px,
            bracket_id=told.bracket_id,
        )
        if order == known:
            return state, ()
        revived = known is not None and order.may_trade and not known.may_trade
        state = msgspec.structs.replace(
            state,
            orders={**state.orders, order.client_order_id: order},
            touched_ns={**state.touched_ns, order.symbol: now_ns},
            cancels=state.cancels - {order.client_order_id} if revived else state.cancels,
        )
        ended = not order.may_trade and (known is None or known.may_trade)
        if order.intent_id not in state.exits or not ended or order.cum_qty >= order.qty:
            return state, ()
        text = f"exit {order.state} at {order.cum_qty / 1e8:g} of {order.qty / 1e8:g}"
        taken_back = order.client_order_id in state.cancels
        if taken_back and order.state is OrderState.CANCELLED:
            return state, ()
        return self._ended(state, order, text, now_ns)

    def _ended(self, state: RiskState, order: Known, text: str, now_ns: int) -> Reduced:
        """An exit is over with something left. One refused may be revived: it is cancelled, and the next one waits."""
        unsure = order.state in (OrderState.EXPIRED, OrderState.REJECTED)
        state, effects = failed(self.settings, state, order.intent_id, text, now_ns, unsure)
        if order.state is not OrderState.REJECTED:
            return state, effects
        wanted = CancelOrders((order.client_order_id,), text)
        state = msgspec.structs.replace(state, cancels=state.cancels | {order.client_order_id})
        return state, (*effects, Send(self.settings.broker, wanted, owed=True))

    def _pictured(
        self, state: RiskState, orders: tuple[OrderPicture, ...], held: tuple[VenuePosition, ...], now_ns: int
    ) -> Reduced:
        """Take what the broker holds, in place of what was known: it is its word, as of when it was asked."""
        effects: list[Effect] = []
        for picture in orders:
            state, more = self._order(state, picture, now_ns)
            effects += more
        positions = {one.symbol: one.qty for one in held if one.qty}
        if positions == state.positions:
            return state, tuple(effects)
        either = positions.keys() | state.positions.keys()
        touched = {symbol: now_ns for symbol in either if positions.get(symbol) != state.positions.get(symbol)}
        touched_ns = {**state.touched_ns, **touched}
        return msgspec.structs.replace(state, positions=positions, touched_ns=touched_ns), tuple(effects)

    def _outcome(self, state: RiskState, told: IntentOutcome, now_ns: int) -> Reduced:
        placed = state.exits.get(told.intent_id)
        if placed is None or told.outcome is Outcome.SUBMITTED:
            return state, ()
        unsure = told.guard == "unresolved"
        gone = msgspec.structs.replace(placed, gone=True)
        state = msgspec.structs.replace(state, exits={**state.exits, told.intent_id: gone})
        if told.guard == "no_oca_group":
            return msgspec.structs.replace(state, alone=state.alone | {placed.within}), (Count("flatten_no_group"),)
        return failed(self.settings, state, told.intent_id, f"exit {told.outcome}: {told.guard}", now_ns, unsure)

    # ---- what the broker's records say

    def _pictures(self, state: RiskState, told: PicturesTaken, now_ns: int) -> Reduced:
        read = told.read
        if not state.flatten_ns or read.positions_only:
            return state, ()
        if read.failed:
            text = f"the broker did not answer: {', '.join(read.failed)}"
            return msgspec.structs.replace(state, read_text=text, flat_ns=0), (Count("flatten_read_failed"),)
        state, folded = self._pictured(state, told.orders, told.positions, now_ns)
        ours = {one.symbol: one.qty for one in told.positions}
        theirs = {one.symbol: one.qty for one in read.positions}
        beyond = {name: theirs.get(name, 0) - ours.get(name, 0) for name in theirs.keys() | ours.keys()}
        tag = ids.fund_tag(self.settings.fund)
        working = [one for one in read.open_orders if one.client_order_id.startswith(tag)]
        state = msgspec.structs.replace(state, external={name: qty for name, qty in sorted(beyond.items()) if qty})
        effects: tuple[Effect, ...] = (
            *folded,
            StartTimer(UNVERIFIED_TIMER, self.settings.unverified_ns),
            ClearAlarm("flatten_unverified"),
        )
        text = ""
        if working:
            text = f"the broker shows {len(working)} orders of ours working, first {working[0].client_order_id}"
        elif left := [name for name in _names(state) if target(self.settings, state, name)]:
            text = f"the broker's records leave {', '.join(left)} open"
        elif _live(state) or any(is_unheard(state, one) for one in state.exits.values()):
            text = "orders of ours are not among the broker's records"
        state = msgspec.structs.replace(state, read_text=text or "flat")
        if text or state.flat_ns:
            return state, effects
        line = IncidentRecorded("flat", state.flatten, f"the broker's records of {read.taken_ns} show nothing open")
        flat = msgspec.structs.replace(state, flat_ns=read.taken_ns or now_ns)
        return flat, (*effects, AppendLine("incidents", line), Count("flat"))

    # ---- steps

    def _step(self, state: RiskState, now_ns: int) -> Reduced:
        state, effects, stage, text = look(self.settings, state, now_ns)
        more: list[Effect] = []
        if text and state.flat_ns:
            line = IncidentRecorded("refilled", state.flatten, text)
            more += [AppendLine("incidents", line), Count("flatten_refilled")]
            state = msgspec.structs.replace(state, flat_ns=0, read_text="")
        if not text:
            stage = Stage.FLAT if state.flat_ns else Stage.CONFIRMING
            text = "" if state.flat_ns else f"the broker's records: {state.read_text or 'not read yet'}"
        external = ", ".join(f"{name} {qty / 1e8:g}" for name, qty in state.external.items())
        progress = FlattenProgress(state.flatten_ns, state.flatten, stage, text, external, state.flat_ns)
        if progress != state.progress:
            state = msgspec.structs.replace(state, progress=progress)
            more.append(Project("flatten", "all", "progress", progress))
            if stage is Stage.FLAT:
                words = f"flat by the broker's records; still latched: {state.flatten}"
                more.append(RaiseAlarm("flatten", Severity.WARNING, words))
        return state, (*effects, *more)

    # ---- timers, beginning

    def _timer(self, state: RiskState, name: str) -> Reduced:
        if name == JUDGE_TIMER:
            return state, (StartTimer(JUDGE_TIMER, SECOND_NS),)
        if name == SHOW_TIMER:
            return state, () if state.shown else self._ask(state)
        if not state.flatten_ns:
            return state, (Count("timer_after_the_end"),)
        match name:
            case "look":
                return state, (StartTimer(LOOK_TIMER, self.settings.look_every_ns),)
            case "verify":
                return state, self._read(state)
            case "unverified":
                text = "the broker has not shown its records for long: nobody can say that the account is flat"
                alarm = RaiseAlarm("flatten_unverified", Severity.CRITICAL, text)
                again = StartTimer(UNVERIFIED_TIMER, self.settings.unverified_ns)
                return msgspec.structs.replace(state, flat_ns=0, read_text="no answer"), (alarm, again)
            case _:
                return state, (Count("unknown_timer"),)

    def _recovered(self, state: RiskState, epoch: int) -> Reduced:
        # What an earlier incarnation confirmed this one confirms again.
        state = msgspec.structs.replace(state, epoch=epoch, shown=False, flat_ns=0, read_text="")
        effects: list[Effect] = [*self._ask(state), StartTimer(JUDGE_TIMER, SECOND_NS)]
        if state.tripped:
            effects.append(RaiseAlarm("breaker", Severity.CRITICAL, state.tripped))
        if state.wanted:
            effects.append(LatchHalt(state.wanted, state.wanted_flatten))
        if state.flatten_ns:
            effects += self._begin(state)
            for symbol, tries in state.tries.items():
                if tries.failed >= self.settings.attempts_max:
                    text = f"{symbol}: {tries.text}"
                    effects.append(RaiseAlarm(f"flatten_failed.{symbol}", Severity.CRITICAL, text))
        return state, tuple(effects)

    def _ask(self, state: RiskState) -> tuple[Effect, ...]:
        return (
            Send(self.settings.broker, ShowOrders(self.settings.name, f"{state.epoch}")),
            StartTimer(SHOW_TIMER, SHOW_AGAIN_NS),
        )


def _live(state: RiskState) -> list[Known]:
    return [one for one in state.orders.values() if one.may_trade]


def _names(state: RiskState) -> list[str]:
    return sorted({*state.positions, *state.external})


def _pruned(state: RiskState, intent_id: str) -> RiskState:
    """Forget a family that cannot trade any more, with the exits that were placed for it.

    What it still holds is part of the position, which nothing of it protects. An exit is kept for as long as its
    bracket is: what it filled is gone from that. So is a bracket for which a stop that was put back still works.
    """
    bracket_id = _bracket_of(state, intent_id)
    siblings = [one for one in state.orders.values() if one.bracket == bracket_id]
    if any(one.may_trade and (one.intent_id == bracket_id or one.leg is Leg.STOP_LOSS) for one in siblings):
        return state
    placed = {key for key, one in state.exits.items() if one.within == bracket_id}
    related = {intent_id, bracket_id} | placed | {one.intent_id for one in siblings}
    gone = {key for key in related if _is_over(state, key)}
    orders = {key: one for key, one in state.orders.items() if one.intent_id not in gone}
    exits = {key: one for key, one in state.exits.items() if key not in gone}
    return msgspec.structs.replace(
        state,
        orders=orders,
        exits=exits,
        cancels=state.cancels & orders.keys(),
        turned=state.turned & orders.keys(),
        standing=state.standing & orders.keys(),
        alone=state.alone - gone,
    )


def _bracket_of(state: RiskState, intent_id: str) -> str:
    """Return the bracket that an intent's orders belong to."""
    placed = state.exits.get(intent_id)
    if placed is not None and placed.within:
        return placed.within
    return next((one.bracket for one in state.orders.values() if one.intent_id == intent_id), intent_id)


def _is_over(state: RiskState, intent_id: str) -> bool:
    """Whether nothing of a family may trade; one of which nothing was heard yet is not over."""
    orders = [one for one in state.orders.values() if one.intent_id == intent_id]
    placed = state.exits.get(intent_id)
    return not any(one.may_trade for one in orders) and bool(orders or placed is None or placed.gone)
