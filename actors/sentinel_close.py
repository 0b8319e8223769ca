"""The saga of a stop that is inert: it becomes a market order under its own id, and is watched until it has filled.

One order fills at most its own size, whenever it fills, so that a stop that was only late closes nothing twice. The
bracket's take-profit is cancelled and seen cancelled before, and a late fill of it waited for: an exit sized before
that would close more than is held.

Where the venue does not change the stop, or does not fill it within `grace_ns` either: cancel it, see it done, wait for
a late fill, close what is left by an order alone, see that done.

Each step is taken once: what was asked of the broker is owed to it, and the stage is journaled with the asking. A fill
at any moment is taken off what is to be closed; one that comes while an exit is out cancels the exit; one that comes
after the exit has filled is an incident, because nothing can undo it but a person.
"""

from __future__ import annotations

import msgspec

from actors.effects import AppendLine, ClearAlarm, Count, Effect, RaiseAlarm, Send, Severity
from actors.messages import (
    CancelOrders,
    CloseWithStop,
    ExitIntent,
    IncidentRecorded,
    IntentOutcome,
    Leg,
    Outcome,
    PlaceExit,
    Side,
)
from actors.sentinel_state import Close, SentinelSettings, SentinelState, Stage, Watched
from kernels import ids
from kernels.order_state import DONE, OrderState
from kernels.stop_watch import closing_qty, open_qty

STRATEGY = "sentinel"

Stepped = tuple[Close | None, tuple[Effect, ...]]


def begin(
    settings: SentinelSettings, state: SentinelState, stop: Watched, now_ns: int
) -> tuple[Close, tuple[Effect, ...]]:
    """Ask for the cancel of whatever else could still close the same quantity."""
    close = Close(stop.client_order_id, stop.intent_id, stop.symbol, Stage.CANCELLING, now_ns)
    return close, (*_cancel(settings, state, close), Count("close_begun"))


def _competing(state: SentinelState, close: Close) -> list[Watched]:
    """Return what has to be done before the position may be closed: the stop too, where it is not the way out."""
    exits = [order for order in _bracket_exits(state, close.intent_id) if order.may_still_trade]
    return [order for order in exits if close.alone or order.client_order_id != close.stop_id]


def _cancel(settings: SentinelSettings, state: SentinelState, close: Close) -> tuple[Effect, ...]:
    names = tuple(order.client_order_id for order in _competing(state, close))
    if not names:
        return ()
    return (Send(settings.broker, CancelOrders(names, f"inert stop {close.stop_id}"), owed=True),)


def step(settings: SentinelSettings, state: SentinelState, close: Close, now_ns: int) -> Stepped:
    """Look at what is known now and take the next step; None: it can be forgotten."""
    match close.stage:
        case Stage.CANCELLING:
            if _competing(state, close):
                return close, ()
            return msgspec.structs.replace(close, stage=Stage.SETTLING, since_ns=now_ns), (Count("close_cancelled"),)
        case Stage.SETTLING:
            return _settle(settings, state, close, now_ns)
        case Stage.TURNING:
            return _watch_stop(settings, state, close, now_ns)
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
    if told.guard == "flatten":  # risk closes everything, and goes on until the broker's records show nothing open
        return _done(close, now_ns, "close_left_to_flatten")
    if told.guard == "unresolved":
        return _fail(close, "the exit was given up, and may be there after all")
    if close.attempt >= settings.attempts_max:
        return _fail(close, f"exit refused {close.attempt} times, last by {told.guard} {dict(told.figures)}")
    return msgspec.structs.replace(close, stage=Stage.SETTLING, since_ns=now_ns), ()


def stands(settings: SentinelSettings, state: SentinelState, close: Close, now_ns: int) -> Stepped:
    """The stop is not, or not usefully, at the market: cancel it; an order alone is the way out."""
    if close.stage is not Stage.TURNING:
        return close, ()
    alone = msgspec.structs.replace(close, stage=Stage.CANCELLING, since_ns=now_ns, alone=True)
    return alone, (*_cancel(settings, state, alone), Count("close_alone"))


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
    if not close.alone and stop.may_still_trade:
        turned = msgspec.structs.replace(close, stage=Stage.TURNING, since_ns=now_ns, qty=qty)
        wanted = CloseWithStop(stop.client_order_id, stop.cum_qty + qty, settings.name, f"inert stop {close.stop_id}")
        return turned, (Send(settings.broker, wanted, owed=True), Count("close_turned"))
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


def _watch_stop(settings: SentinelSettings, state: SentinelState, close: Close, now_ns: int) -> Stepped:
    stop = state.orders[close.stop_id]
    if not held(state, close.intent_id):
        # What it could still fill beyond that is the broker's to cut: its bracket has nothing left.
        return _done(close, now_ns, "close_done")
    if not stop.may_still_trade:
        rest = msgspec.structs.replace(close, stage=Stage.SETTLING, since_ns=now_ns, alone=True)
        return rest, (Count("close_again"),)
    quiet_ns = now_ns - max(close.since_ns, stop.progress_ns)
    return stands(settings, state, close, now_ns) if quiet_ns >= settings.grace_ns else (close, ())


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
    alarm = RaiseAlarm(f"closed_twice.{close.symbol}", Severity.CRITICAL, text, for_a_person=True)
    return msgspec.structs.replace(close, over_qty=over_qty), (
        alarm,
        AppendLine("incidents", line),
        Count("closed_twice"),
    )


def _fail(close: Close, text: str) -> Stepped:
    failed = msgspec.structs.replace(close, stage=Stage.FAILED, text=text)
    line = IncidentRecorded("close_failed", close.stop_id, text)
    told = f"{close.stop_id}: {text}"
    alarm = RaiseAlarm(f"close_failed.{close.symbol}", Severity.CRITICAL, told, for_a_person=True)
    return failed, (alarm, AppendLine("incidents", line), Count("close_failed"))
