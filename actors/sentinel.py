"""The stop sentinel: checks the broker against the market itself.

Owns: which of our stops are due by what the market printed, since when a position has no working stop, and the closes
under way. Consumes: `OrderChanged`, `PositionChanged`, `BracketClosed` (owed by the broker, as to a watcher),
`OrdersShown`, `IntentOutcome` of its own exits, `StopStands`, its driver's `PrintsSeen` and `PricesLost`. Emits: alarms
and lines with the evidence; where `on_inert` is `close`, `CancelOrders`, `CloseWithStop` and `PlaceExit` (owed to the
broker); `WatchPrices` to its driver, so that subscriptions follow the stops.

Invariants: a stop is called inert only when it works at the venue, its entry has filled, a print after that went
through its trigger, and `grace_ns` passed without a fill of it. It is closed at most once. Nothing is concluded from
silence: no prices means unwatched, which is an alarm of its own. Order figures are the broker's words, never inferred.

Recovery: alarms are raised anew from the state, the broker is asked to show what it holds (what was told while nobody
listened is owed, and comes too), prices are subscribed again. Full: `orders_max` orders are kept, those beyond are
counted and unwatched. Prints of a symbol coalesce in the driver to their extremes: none that crossed is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import msgspec

from actors.effects import AppendLine, ClearAlarm, Count, Drive, Effect, RaiseAlarm, Send, Severity, StartTimer
from actors.messages import (
    BracketClosed,
    Envelope,
    HaltChanged,
    IncidentRecorded,
    IntentOutcome,
    Leg,
    OrderChanged,
    OrderPicture,
    OrdersShown,
    PositionChanged,
    PricesLost,
    PrintsSeen,
    Recovered,
    ShowOrders,
    Side,
    StopStands,
    TimerFired,
    WatchPrices,
)
from actors.sentinel_close import begin, overshot, refused, stands, step
from actors.sentinel_state import SECOND_NS, Close, OnInert, SentinelSettings, SentinelState, Watched
from kernels.fixed8 import format_fixed8
from kernels.order_state import OrderState
from kernels.stop_watch import Range, crossing_print, is_inert, unprotected_qty, with_print

LOOK_TIMER, SHOW_TIMER = "look", "show"
SHOW_AGAIN_NS = 5 * SECOND_NS
SEEN_STEP_NS = 10 * SECOND_NS
"""How finely it is journaled that a symbol still has prices."""

SentinelInput = (
    OrderChanged
    | PositionChanged
    | BracketClosed
    | OrdersShown
    | IntentOutcome
    | StopStands
    | PrintsSeen
    | PricesLost
    | TimerFired
    | HaltChanged
    | Recovered
)
Reduced = tuple[SentinelState, tuple[Effect, ...]]


class Sentinel:
    """The role; holds nothing but its settings."""

    schema_version = 1
    state_type = SentinelState

    def __init__(self, settings: SentinelSettings | None = None) -> None:
        self.settings = settings or SentinelSettings()

    @property
    def name(self) -> str:
        """Role name."""
        return self.settings.name

    def initial(self) -> SentinelState:
        """Nothing known."""
        return SentinelState()

    def show(self, state: SentinelState, now_ns: int) -> dict[str, str]:
        """Return what the console shows."""
        stops = [order for order in state.orders.values() if order.is_working_stop]
        return {
            "stops": str(len(stops)),
            "due": str(sum(order.crossing is not None for order in stops)),
            "inert": str(sum(order.raised for order in stops)),
            "closing": str(sum(close.is_under_way for close in state.closes.values())),
            "unprotected": ", ".join(sorted(state.bare_raised)) or "none",
            "prices": state.prices_lost or "ok",
        }

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        """There is no earlier version."""
        raise ValueError(f"{self.name}: no migration from schema version {schema_version}")

    def reduce(self, state: SentinelState, envelope: Envelope, now_ns: int) -> Reduced:
        """Fold one input."""
        body = envelope.body
        if not isinstance(body, SentinelInput):
            return state, (Count("unexpected"),)
        match body:
            case OrderChanged():
                return self._then_look(state, *self._order(state, body, now_ns), now_ns)
            case PositionChanged(symbol=symbol, qty=qty):
                positions = {**state.positions, symbol: qty}
                if not qty:
                    del positions[symbol]
                return self._then_look(state, msgspec.structs.replace(state, positions=positions), (), now_ns)
            case BracketClosed(intent_id=intent_id):
                return self._then_look(state, _without(state, intent_id), (), now_ns)
            case OrdersShown():
                return self._then_look(state, *self._shown(state, body, now_ns), now_ns)
            case IntentOutcome():
                return self._then_look(state, *self._outcome(state, body, now_ns), now_ns)
            case StopStands(client_order_id=name):
                return self._then_look(state, *self._stands(state, name, now_ns), now_ns)
            case PrintsSeen():
                return self._prints(state, body, now_ns)
            case PricesLost(reason=reason):
                return msgspec.structs.replace(state, prices_lost=reason), (Count("prices_lost"),)
            case TimerFired(name=name):
                return self._timer(state, name, now_ns)
            case Recovered(epoch=epoch):
                return self._recovered(state, epoch)
            case HaltChanged():
                return state, ()  # nothing here opens risk
            case _:
                assert_never(body)

    # ---- what the broker tells

    def _order(self, state: SentinelState, told: OrderChanged, now_ns: int) -> Reduced:
        known = state.orders.get(told.client_order_id)
        if known is None and len(state.orders) >= self.settings.orders_max:
            return state, (Count("order_beyond_bound"),)
        order = known or Watched(
            told.client_order_id, told.intent_id, told.symbol, told.leg, told.side, OrderState.PRE_SENT, 0, 0
        )
        order = msgspec.structs.replace(
            order,
            state=OrderState(told.state),
            qty=told.qty,
            cum_qty=told.cum_qty,
            stop_px=told.stop_px,
            perm_id=told.perm_id,
            progress_ns=now_ns if told.cum_qty > order.cum_qty else order.progress_ns,
            crossing=order.crossing if told.stop_px == order.stop_px else None,
        )
        orders = {**state.orders, order.client_order_id: order}
        return _activated(msgspec.structs.replace(state, orders=orders), told.intent_id, now_ns), ()

    def _shown(self, state: SentinelState, told: OrdersShown, now_ns: int) -> Reduced:
        """Take what the broker holds, in place of what was known: it is its word, as of when it was asked."""
        effects: list[Effect] = []
        for picture in told.orders:
            state, more = self._order(state, _as_change(picture), now_ns)
            effects += more
        positions = {position.symbol: position.qty for position in told.positions if position.qty}
        return msgspec.structs.replace(state, positions=positions, shown=True), tuple(effects)

    def _outcome(self, state: SentinelState, told: IntentOutcome, now_ns: int) -> Reduced:
        close = next((one for one in state.closes.values() if told.intent_id in one.exit_intent_ids[-1:]), None)
        if close is None:
            return state, (Count("outcome_of_no_close"),)
        after, effects = refused(self.settings, close, told, now_ns)
        return _with_close(state, close, after), effects

    def _stands(self, state: SentinelState, name: str, now_ns: int) -> Reduced:
        close = state.closes.get(name)
        if close is None:
            return state, (Count("stop_of_no_close"),)
        after, effects = stands(self.settings, state, close, now_ns)
        return _with_close(state, close, after), effects

    # ---- what the market prints

    def _prints(self, state: SentinelState, seen: PrintsSeen, now_ns: int) -> Reduced:
        if now_ns - state.seen_ns.get(seen.symbol, 0) >= SEEN_STEP_NS or state.prices_lost:
            seen_ns = {**state.seen_ns, seen.symbol: seen.ts_event_ns}
            state = msgspec.structs.replace(state, seen_ns=seen_ns, prices_lost="")
        extremes = Range(seen.low_px, seen.low_ns, seen.high_px, seen.high_ns, seen.count)
        changed: dict[str, Watched] = {}
        for order in state.orders.values():
            if order.symbol != seen.symbol or not order.is_working_stop or not order.active_ns:
                continue
            is_sell = order.side is Side.SELL
            found = crossing_print(is_sell, order.stop_px, extremes, order.active_ns)
            if found is None:
                continue
            crossing = with_print(order.crossing, is_sell, found)
            if crossing != order.crossing:
                changed[order.client_order_id] = msgspec.structs.replace(order, crossing=crossing)
        if not changed:
            return state, ()
        return msgspec.structs.replace(state, orders={**state.orders, **changed}), (Count("prints_through_a_stop"),)

    # ---- looking

    def _timer(self, state: SentinelState, name: str, now_ns: int) -> Reduced:
        if name == SHOW_TIMER:
            return state, () if state.shown else self._ask(state)
        if name != LOOK_TIMER:
            return state, (Count("unknown_timer"),)
        after, effects = self._look(state, now_ns)
        return after, (*effects, StartTimer(LOOK_TIMER, self.settings.look_every_ns))

    def _then_look(self, before: SentinelState, state: SentinelState, did: tuple[Effect, ...], now_ns: int) -> Reduced:
        """After the broker's word: take the next steps, and let subscriptions follow the stops."""
        state, more = self._look(state, now_ns)
        symbols = _symbols(state)
        watch = () if symbols == _symbols(before) else (Drive(WatchPrices(symbols)),)
        return state, (*did, *more, *watch)

    def _look(self, state: SentinelState, now_ns: int) -> Reduced:
        effects: list[Effect] = []
        for look in (self._judge, self._advance, self._protection, self._sight):
            state, more = look(state, now_ns)
            effects += more
        return state, tuple(effects)

    def _judge(self, state: SentinelState, now_ns: int) -> Reduced:
        """Call inert what is due for too long; take the word back when the stop is done after all."""
        effects: list[Effect] = []
        orders, closes = dict(state.orders), dict(state.closes)
        under_way = {key for key, close in closes.items() if close.is_under_way}
        for order in state.orders.values():
            inert = is_inert(order.crossing, order.progress_ns, now_ns, self.settings.grace_ns)
            if order.is_working_stop and inert and not order.raised:
                orders[order.client_order_id] = msgspec.structs.replace(order, raised=True)
                text = _evidence(order, now_ns)
                line = IncidentRecorded("inert_stop", order.client_order_id, text)
                effects += [_alarm(order, text), AppendLine("incidents", line), Count("inert_stop")]
                if not _has_entry(state, order.intent_id):
                    effects.append(Count("inert_stop_without_entry"))  # only a person knows what is left to close
                elif self.settings.on_inert is OnInert.CLOSE and order.client_order_id not in closes:
                    closes[order.client_order_id], more = begin(self.settings, state, order, now_ns)
                    effects += more
            elif order.raised and not order.is_working_stop and order.client_order_id not in under_way:
                orders[order.client_order_id] = msgspec.structs.replace(order, raised=False, crossing=None)
                effects += [ClearAlarm(f"inert_stop.{order.client_order_id}"), Count("inert_stop_over")]
        if not effects:
            return state, ()
        state = msgspec.structs.replace(state, orders=orders, closes=closes)
        kept = _looked_at(closes.values())
        for intent_id in {order.intent_id for order in state.orders.values()} - kept:
            state = _pruned(state, intent_id)
        return state, tuple(effects)

    def _advance(self, state: SentinelState, now_ns: int) -> Reduced:
        effects: list[Effect] = []
        for close in tuple(state.closes.values()):
            told, more = overshot(state, close)
            after, then = step(self.settings, state, told, now_ns)
            effects += (*more, *then)
            state = _with_close(state, close, after)
            if after is None:
                for intent_id in (close.intent_id, *close.exit_intent_ids):
                    state = _pruned(state, intent_id)
        return state, tuple(effects)

    def _protection(self, state: SentinelState, now_ns: int) -> Reduced:
        """Raise what has been without a working stop for too long; clear what is protected, closed or being closed."""
        busy = {close.symbol for close in state.closes.values() if close.is_under_way}
        bare = {symbol: _bare_qty(state, symbol) for symbol in state.positions if symbol not in busy}
        since = {symbol: state.bare_since_ns.get(symbol, now_ns) for symbol, qty in bare.items() if qty}
        effects: list[Effect] = []
        raised = set(state.bare_raised)
        for symbol in sorted(raised - set(since)):
            raised.discard(symbol)
            effects.append(ClearAlarm(f"unprotected.{symbol}"))
        for symbol, since_ns in since.items():
            if symbol not in raised and now_ns - since_ns >= self.settings.unprotected_ns_max:
                raised.add(symbol)
                text = _unprotected(symbol, bare[symbol], state.positions[symbol], now_ns - since_ns)
                effects += [RaiseAlarm(f"unprotected.{symbol}", Severity.CRITICAL, text), Count("unprotected")]
        if since == state.bare_since_ns and raised == state.bare_raised:
            return state, ()
        return msgspec.structs.replace(state, bare_since_ns=since, bare_raised=frozenset(raised)), tuple(effects)

    def _sight(self, state: SentinelState, now_ns: int) -> Reduced:
        """Say which stops nobody can check now."""
        blind = []
        for symbol in _symbols(state):
            active_ns = max(order.active_ns for order in state.orders.values() if order.symbol == symbol)
            if now_ns - max(state.seen_ns.get(symbol, 0), active_ns) > self.settings.price_age_ns_max:
                blind.append(symbol)
        text = ""
        if _symbols(state) and (blind or state.prices_lost):
            which = ", ".join(blind) or "any symbol"
            text = f"no prices for {which}: {state.prices_lost or 'the market data is silent'}; its stops go unchecked"
        if text == state.unwatched:
            return state, ()
        alarm = RaiseAlarm("stop_unwatched", Severity.WARNING, text) if text else ClearAlarm("stop_unwatched")
        return msgspec.structs.replace(state, unwatched=text), (alarm,)

    # ---- beginning

    def _recovered(self, state: SentinelState, epoch: int) -> Reduced:
        state = msgspec.structs.replace(state, shown=False, asked=epoch, prices_lost="not connected yet", unwatched="")
        raised = [_alarm(order, "raised before a restart") for order in state.orders.values() if order.raised]
        bare = [
            RaiseAlarm(f"unprotected.{symbol}", Severity.CRITICAL, f"{symbol}: raised before a restart")
            for symbol in sorted(state.bare_raised)
        ]
        watch = Drive(WatchPrices(_symbols(state)))
        return state, (*raised, *bare, watch, *self._ask(state), StartTimer(LOOK_TIMER, self.settings.look_every_ns))

    def _ask(self, state: SentinelState) -> tuple[Effect, ...]:
        request = ShowOrders(self.name, f"{self.name}.{state.asked}")
        return Send(self.settings.broker, request), StartTimer(SHOW_TIMER, SHOW_AGAIN_NS)


def _activated(state: SentinelState, intent_id: str, now_ns: int) -> SentinelState:
    """Let prints count against stops from now on, if the entry has begun to fill or they stand without one."""
    legs = [order for order in state.orders.values() if order.intent_id == intent_id]
    if _has_entry(state, intent_id) and not any(order.leg is Leg.ENTRY and order.cum_qty for order in legs):
        return state
    due = [order for order in legs if order.is_working_stop and not order.active_ns]
    if not due:
        return state
    active = {order.client_order_id: msgspec.structs.replace(order, active_ns=now_ns) for order in due}
    return msgspec.structs.replace(state, orders={**state.orders, **active})


def _has_entry(state: SentinelState, intent_id: str) -> bool:
    """Whether it is a bracket. A stop that was put back stands alone: what it closes, its own orders do not tell."""
    return any(order.leg is Leg.ENTRY for order in state.orders.values() if order.intent_id == intent_id)


def _without(state: SentinelState, intent_id: str) -> SentinelState:
    """Forget a bracket that is over, unless a close still looks at it, or it has been called inert."""
    return state if intent_id in _looked_at(state.closes.values()) else _pruned(state, intent_id)


def _looked_at(closes: Iterable[Close]) -> set[str]:
    """Return the intents whose orders a close still looks at."""
    return {intent_id for close in closes for intent_id in (close.intent_id, *close.exit_intent_ids)}


def _pruned(state: SentinelState, intent_id: str) -> SentinelState:
    gone = [order for order in state.orders.values() if order.intent_id == intent_id]
    if any(order.may_still_trade or order.raised for order in gone):
        return state
    kept = {key: order for key, order in state.orders.items() if order.intent_id != intent_id}
    return msgspec.structs.replace(state, orders=kept)


def _with_close(state: SentinelState, before: Close, after: Close | None) -> SentinelState:
    if after == before:
        return state
    closes = {key: close for key, close in state.closes.items() if key != before.stop_id}
    if after is not None:
        closes = {**state.closes, after.stop_id: after}
    return msgspec.structs.replace(state, closes=closes)


def _symbols(state: SentinelState) -> tuple[str, ...]:
    """Return the symbols of stops that are to be checked."""
    return tuple(sorted({order.symbol for order in state.orders.values() if order.is_working_stop and order.active_ns}))


def _bare_qty(state: SentinelState, symbol: str) -> int:
    stops = [
        (order.side is Side.SELL, order.qty - order.cum_qty)
        for order in state.orders.values()
        if order.symbol == symbol and order.is_working_stop and order.active_ns
    ]
    return unprotected_qty(state.positions[symbol], stops)


def _as_change(picture: OrderPicture) -> OrderChanged:
    return OrderChanged(
        client_order_id=picture.client_order_id,
        intent_id=picture.intent_id,
        symbol=picture.symbol,
        leg=picture.leg,
        side=picture.side,
        state=picture.state,
        qty=picture.qty,
        cum_qty=picture.cum_qty,
        avg_px=0,
        limit_px=picture.limit_px,
        stop_px=picture.stop_px,
        perm_id=picture.perm_id,
        oca_group=picture.oca_group,
    )


def _alarm(order: Watched, text: str) -> RaiseAlarm:
    return RaiseAlarm(f"inert_stop.{order.client_order_id}", Severity.CRITICAL, f"{order.symbol}: {text}")


def _evidence(order: Watched, now_ns: int) -> str:
    crossing = order.crossing
    assert crossing is not None, "nothing is inert that is not due"
    prints = ", ".join(f"{format_fixed8(one.px)} at {one.at_ns}" for one in crossing.prints)
    return (
        f"{order.side} stop at {format_fixed8(order.stop_px)} for {format_fixed8(order.qty - order.cum_qty)} of "
        f"{order.symbol} is due for {(now_ns - crossing.since_ns) / 1e9:.1f} s without a fill; worst "
        f"{format_fixed8(crossing.worst_px)}; prints {prints}; last report: {order.state}, filled "
        f"{format_fixed8(order.cum_qty)}, permId {order.perm_id}"
    )


def _unprotected(symbol: str, qty: int, position: int, bare_ns: int) -> str:
    return (
        f"{symbol}: {format_fixed8(qty)} of a position of {format_fixed8(abs(position))} "
        f"({'long' if position > 0 else 'short'}) has had no working stop for {bare_ns / 1e9:.0f} s"
    )
