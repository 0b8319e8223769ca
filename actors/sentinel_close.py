"""The saga of a stop that is inert: cancel it, see it done, wait for a late fill, close what is left, see that done.

The bracket's take-profit is cancelled with it: an exit sized before a fill of it would close more than is held, and
joining its OCA group does not help, because a fill between the decision and the exit's arrival reduces nothing.

Each step is taken once: what was asked of the broker is owed to it, and the stage is journaled with the asking. A fill
at any moment is taken off what is to be closed; one that comes while the exit is out cancels the exit; one that comes
after the exit has filled is an incident, because nothing can undo it but a person.
"""

from __future__ import annotations

import msgspec

from actors.effects import AppendLine, ClearAlarm, Count, Effect, RaiseAlarm, Send, Severity
from actors.messages import CancelOrders, ExitIntent, IncidentRecorded, IntentOutcome, Leg, Outcome, PlaceExit, Side
from actors.sentinel_state import Close, SentinelSettings, SentinelState, Stage, Watched
from kernels import ids
from kernels.order_state import DONE, OrderState
from kernels.stop_watch import closing_qty, open_qty

STRATEGY = "sentinel"

Stepped = tuple[Close | None, tuple[Effect, ...]]


def begin(
    settings: SentinelSettings, state: SentinelState, stop: Watched, now_ns: int
) -> tuple[Close, tuple[Effect, ...]]:
    """Ask for the cancel of the stop, and of whatever else could still close the same quantity."""
    close = Close(stop.client_order_id, stop.intent_id, stop.symbol, Stage.CANCELLING, now_ns)
    names = tuple(order.client_order_id for order in _bracket_exits(state, stop.intent_id) if order.may_still_trade)
    wanted = CancelOrders(names, f"inert stop at {stop.stop_px}")
    return close, (Send(settings.broker, wanted, owed=True), Count("close_begun"))


def step(settings: SentinelSettings, state: SentinelState, close: Close, now_ns: int) -> Stepped:
    """Look at what is known now and take the next step; None: it can be forgotten."""
    match close.stage:
        case Stage.CANCELLING:
            if any(order.may_still_trade for order in _bracket_exits(state, close.intent_id)):
                return close, ()
            return msgspec.structs.replace(close, stage=Stage.SETTLING, since_ns=now_ns), (Count("close_cancelled"),)
        case Stage.SETTLING:
            return _settle(settings, state, close, now_ns)
        case Stage.CLOSING:
            return _watch_exit(settings, state, close, now_ns)
        case Stage.DONE:
            return (close if now_ns - close.since_ns < settings.remember_ns else None), ()
        case Stage.FAILED:
            return (close, ()) if held(state, close.intent_id) else _done(close, now_ns, "close_failure_over")


def refused(settings: SentinelSettings, close: Close, told: IntentOutcome, now_ns: int) -> Stepped:
    """The broker says what became of the exit: known not to have gone out is tried again, unknown is a person's."""
    if told.outcome is Outcome.SUBMITTED:
        return close, ()
    if told.guard == "unresolved":
        return _fail(close, "the exit was given up, and may be there after all")
    if close.attempt >= settings.attempts_max:
        return _fail(close, f"exit refused {close.attempt} times, last by {told.guard} {dict(told.figures)}")
    return msgspec.structs.replace(close, stage=Stage.SETTLING, since_ns=now_ns), ()


def held(state: SentinelState, intent_id: str) -> int:
    """Return what the bracket still holds, by what has filled."""
    return open_qty(_entered(state, intent_id), [order.cum_qty for order in _ways_out(state, intent_id)])


def _entered(state: SentinelState, intent_id: str) -> int:
    legs = (order for order in state.orders.values() if order.intent_id == intent_id and order.leg is Leg.ENTRY)
    return sum(order.cum_qty for order in legs)


def _bracket_exits(state: SentinelState, intent_id: str) -> list[Watched]:
    legs = (order for order in state.orders.values() if order.intent_id == intent_id)
    return [order for order in legs if order.leg is not Leg.ENTRY]


def _ways_out(state: SentinelState, intent_id: str) -> list[Watched]:
    """The bracket's own exits, and all that were ever placed to close it."""
    placed = {
        exit_id for close in state.closes.values() if close.intent_id == intent_id for exit_id in close.exit_intent_ids
    }
    return _bracket_exits(state, intent_id) + [one for one in state.orders.values() if one.intent_id in placed]


def _settle(settings: SentinelSettings, state: SentinelState, close: Close, now_ns: int) -> Stepped:
    left = held(state, close.intent_id)
    if not left:
        return _done(close, now_ns, "close_moot")
    if now_ns - close.since_ns < settings.settle_ns:
        return close, ()
    stop = state.orders[close.stop_id]
    explained = explained_positions(state)
    position = state.positions.get(close.symbol, 0)
    qty = closing_qty(left, stop.side is Side.SELL, position, explained, close.symbol)
    if not qty:
        return _fail(close, f"bracket holds {left}, the position is {position}: nothing to close on that side (1e-8)")
    attempt = close.attempt + 1
    purpose = f"sentinel:{close.stop_id}"
    intent = ExitIntent(
        intent_id=ids.family_id(settings.fund, purpose, attempt),
        signal_id=purpose,
        strategy=STRATEGY,
        symbol=close.symbol,
        side=stop.side,
        qty=qty,
        limit_px=0,
        expires_ns=now_ns + settings.exit_lifetime_ns,
        asked_by=settings.name,
        attempt=attempt,
    )
    placed = msgspec.structs.replace(
        close,
        stage=Stage.CLOSING,
        since_ns=now_ns,
        attempt=attempt,
        exit_intent_ids=(*close.exit_intent_ids, intent.intent_id),
        qty=qty,
        text="",
    )
    return placed, (Send(settings.broker, PlaceExit(intent), owed=True), Count("close_placed"))


def _watch_exit(settings: SentinelSettings, state: SentinelState, close: Close, now_ns: int) -> Stepped:
    exit_order = next((one for one in state.orders.values() if one.intent_id == close.exit_intent_ids[-1]), None)
    if exit_order is None:
        return close, ()
    left = held(state, close.intent_id)
    if not left and exit_order.state in DONE:
        return _done(close, now_ns, "close_done")
    if exit_order.state in DONE or exit_order.state is OrderState.REJECTED:
        if exit_order.state is OrderState.EXPIRED:
            return _fail(close, "the exit was given up, and may be there after all")
        if close.attempt >= settings.attempts_max:
            return _fail(close, f"exit {exit_order.state} at {exit_order.cum_qty} of {exit_order.qty} (1e-8)")
        return msgspec.structs.replace(close, stage=Stage.SETTLING, since_ns=now_ns), (Count("close_again"),)
    others_filled = left < exit_order.qty - exit_order.cum_qty
    if others_filled and not close.text:
        late = msgspec.structs.replace(close, text="exit taken back: what it was to close has filled elsewhere")
        wanted = CancelOrders((exit_order.client_order_id,), late.text)
        return late, (Send(settings.broker, wanted, owed=True), Count("close_taken_back"))
    return close, ()


def over_closed(state: SentinelState, intent_id: str) -> int:
    """Return how much more of a bracket has been closed than it ever opened: a fill that nobody could foresee."""
    entered = _entered(state, intent_id)
    closed = sum(order.cum_qty for order in _ways_out(state, intent_id))
    return max(closed - entered, 0) if entered else 0


def explained_positions(state: SentinelState) -> dict[str, int]:
    """Return, by symbol, the signed sum of what our orders have filled: what the position is if all of it is ours."""
    found: dict[str, int] = {}
    for order in state.orders.values():
        signed = order.cum_qty if order.side is Side.BUY else -order.cum_qty
        found[order.symbol] = found.get(order.symbol, 0) + signed
    return found


def _done(close: Close, now_ns: int, counter: str) -> Stepped:
    done = msgspec.structs.replace(close, stage=Stage.DONE, since_ns=now_ns)
    return done, (ClearAlarm(f"close_failed.{close.symbol}"), Count(counter))


def overshot(state: SentinelState, close: Close) -> tuple[Close, tuple[Effect, ...]]:
    """Tell, once for each amount, of more having been closed than the bracket held: only a late fill can do that."""
    over_qty = over_closed(state, close.intent_id)
    if over_qty <= close.over_qty:
        return close, ()
    text = f"{close.symbol}: {over_qty} (1e-8) more was closed than the bracket held: a fill came after its cancel"
    line = IncidentRecorded("closed_twice", close.stop_id, text)
    alarm = RaiseAlarm(f"closed_twice.{close.symbol}", Severity.CRITICAL, text)
    return msgspec.structs.replace(close, over_qty=over_qty), (
        alarm,
        AppendLine("incidents", line),
        Count("closed_twice"),
    )


def _fail(close: Close, text: str) -> Stepped:
    failed = msgspec.structs.replace(close, stage=Stage.FAILED, text=text)
    line = IncidentRecorded("close_failed", close.stop_id, text)
    alarm = RaiseAlarm(f"close_failed.{close.symbol}", Severity.CRITICAL, f"{close.stop_id}: {text}")
    return failed, (alarm, AppendLine("incidents", line), Count("close_failed"))
