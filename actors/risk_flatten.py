"""The saga that closes everything: what to do next, from what the broker has told. Taken anew at every look.

A symbol at a time: cancel entries and take-profits, and stops that protect nothing; see them done; wait until the
symbol has been quiet, for a fill that is late; close each bracket by its own stop, which becomes a market order under
its own id (so that no moment at which it fills closes anything twice), or where that cannot be by a market order in
its group; see it done; then close what no bracket explains by an order alone, once nothing of ours works in that
symbol. An exit is never sized while another of the symbol may still trade or was not yet heard of, and one whose
bracket has filled elsewhere is taken back.

There is no list of steps that a crash could lose: the state is what the broker told and what was placed, and a look at
it gives the step. What was asked of the broker is owed to it, and journaled with the asking.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from actors.effects import AppendLine, ClearAlarm, Count, Effect, RaiseAlarm, Send, Severity
from actors.messages import CancelOrders, CloseWithStop, ExitIntent, IncidentRecorded, Leg, PlaceExit, Side
from actors.risk_state import SECOND_NS, Exit, Known, RiskSettings, RiskState, Stage, Tries
from kernels import ids
from kernels.stop_watch import closing_qty, open_qty

STRATEGY = "flatten"
EXITS_AT_ONCE_MAX = 100
"""Of one symbol: what the broker's own pace lets out well within an exit's lifetime. The next ones follow."""

Looked = tuple[RiskState, tuple[Effect, ...], Stage, str]
"""The state, what to do, and how far a symbol is, in a stage and in words (empty: flat as far as we know)."""


def look(settings: RiskSettings, state: RiskState, now_ns: int) -> Looked:
    """Take the next step of every symbol; the stage is that of the one that is furthest from flat."""
    effects: list[Effect] = []
    furthest, words = Stage.CONFIRMING, []
    books = _books(state)
    for symbol in _symbols(state):
        state, more, stage, text = _advance(settings, state, books.get(symbol, NOTHING), symbol, now_ns)
        effects += more
        if text:
            words.append(f"{symbol}: {text}")
            furthest = min(furthest, stage, key=_ORDER.index)
    return state, tuple(effects), furthest, "; ".join(words)


_ORDER = (Stage.CANCELLING, Stage.SETTLING, Stage.CLOSING, Stage.CONFIRMING)


def target(settings: RiskSettings, state: RiskState, symbol: str) -> int:
    """Return the signed quantity that has to go: ours, and where the setting says so what is not ours too."""
    external = state.external.get(symbol, 0) if settings.flatten_external else 0
    return state.positions.get(symbol, 0) + external


class _Book(NamedTuple):
    """A symbol's orders that may trade; what each bracket holds; the signed sum of what the kept orders have filled;
    by how much brackets have been closed that never held so much."""

    live: tuple[Known, ...] = ()
    held: Mapping[str, int] = {}
    explained: int = 0
    over: Mapping[str, int] = {}


NOTHING = _Book()


def _books(state: RiskState) -> dict[str, _Book]:
    """Sort the orders by symbol, once a look. What a bracket holds: filled of its entry less what filled of its exits
    and of all that were placed in its group."""
    by_symbol: dict[str, list[Known]] = {}
    for order in state.orders.values():
        by_symbol.setdefault(order.symbol, []).append(order)
    return {symbol: _book(state, orders) for symbol, orders in by_symbol.items()}


def _book(state: RiskState, orders: list[Known]) -> _Book:
    entered: dict[str, int] = {}
    left: dict[str, list[int]] = {}
    for order in orders:
        placed = state.exits.get(order.intent_id)
        bracket = placed.within if placed is not None and placed.within else order.bracket
        if order.leg is Leg.ENTRY:
            entered[bracket] = entered.get(bracket, 0) + order.cum_qty
        else:
            left.setdefault(bracket, []).append(order.cum_qty)
    held = {
        bracket: open_qty(entered.get(bracket, 0), left.get(bracket, ())) for bracket in entered.keys() | left.keys()
    }
    explained = sum(one.cum_qty if one.side is Side.BUY else -one.cum_qty for one in orders)
    over = {key: sum(left.get(key, ())) - qty for key, qty in entered.items() if 0 < qty < sum(left.get(key, ()))}
    return _Book(tuple(one for one in orders if one.may_trade), held, explained, over)


def _symbols(state: RiskState) -> list[str]:
    named = {one.symbol for one in state.orders.values()} | set(state.positions) | set(state.external)
    return sorted(named | {one.symbol for one in state.exits.values()})


def _advance(settings: RiskSettings, state: RiskState, book: _Book, symbol: str, now_ns: int) -> Looked:
    live = book.live
    state, cancelled = _cancel(settings, state, _unwanted(state, book))
    state, told = _told_over(state, symbol, book)
    effects: list[Effect] = [*cancelled, *told]
    risky = [one for one in live if one.leg in (Leg.ENTRY, Leg.TAKE_PROFIT)]
    if risky:
        return state, tuple(effects), Stage.CANCELLING, f"{len(risky)} orders not cancelled yet"
    unheard = [one for one in state.exits.values() if one.symbol == symbol and is_unheard(state, one)]
    ways_out = [one for one in live if one.leg is Leg.EXIT]
    if unheard or ways_out:
        text = f"closing, {_shown(sum(one.leaves_qty for one in ways_out))} left of {len(ways_out)} exits"
        return state, tuple(effects), Stage.CLOSING, text
    if turning := [one for one in live if one.client_order_id in state.turned - state.standing]:
        text = f"closing, {_shown(sum(one.leaves_qty for one in turning))} left of {len(turning)} stops at the market"
        return state, tuple(effects), Stage.CLOSING, text
    left = target(settings, state, symbol)
    if not live and not left:
        state, more = _forget(state, symbol)
        return state, (*effects, *more), Stage.CONFIRMING, ""
    tries = state.tries.get(symbol, Tries())
    quiet_ns = max(state.touched_ns.get(symbol, 0) + settings.settle_ns, tries.not_before_ns)
    if now_ns < quiet_ns:
        text = f"{_shown(left)} to close; " + (tries.text or "waiting for late fills")
        return state, tuple(effects), Stage.SETTLING, text
    state, more, text = _place(settings, state, symbol, book, now_ns)
    return state, (*effects, *more), Stage.CLOSING, text


def _unwanted(state: RiskState, book: _Book) -> list[Known]:
    """What has to go: all that opens risk or competes with an exit, stops of nothing, exits of more than is held."""
    found = []
    with_others = {one.bracket for one in book.live if one.leg is not Leg.STOP_LOSS}
    for order in book.live:
        if order.leg in (Leg.ENTRY, Leg.TAKE_PROFIT):
            found.append(order)
        elif order.leg is Leg.STOP_LOSS:
            held = book.held.get(order.bracket, 0)
            nothing_held = order.bracket not in with_others and not held
            at_market = order.client_order_id in state.turned and not order.stop_px
            if nothing_held or order.bracket in state.alone or (at_market and held < order.leaves_qty):
                found.append(order)
        else:
            placed = state.exits.get(order.intent_id)
            if placed is not None and placed.within and book.held.get(placed.within, 0) < order.leaves_qty:
                found.append(order)
    return found


def _cancel(settings: RiskSettings, state: RiskState, orders: list[Known]) -> tuple[RiskState, tuple[Effect, ...]]:
    names = tuple(one.client_order_id for one in orders if one.client_order_id not in state.cancels)
    if not names:
        return state, ()
    wanted = CancelOrders(names, f"flatten: {state.flatten}")
    asked = msgspec.structs.replace(state, cancels=state.cancels | set(names))
    return asked, (Send(settings.broker, wanted, owed=True), Count("flatten_cancels", len(names)))


def _told_over(state: RiskState, symbol: str, book: _Book) -> tuple[RiskState, tuple[Effect, ...]]:
    """Tell, once for each amount, of a bracket that was closed beyond what it held; the position it left is closed."""
    effects: list[Effect] = []
    for bracket_id, qty in book.over.items():
        if qty > state.over.get(bracket_id, 0):
            state = msgspec.structs.replace(state, over={**state.over, bracket_id: qty})
            text = (
                f"{symbol}: {_shown(qty)} more closed than the bracket held; a stop filled while an exit was under way"
            )
            line = IncidentRecorded("over_closed", bracket_id, text)
            alarm = RaiseAlarm(f"over_closed.{bracket_id}", Severity.CRITICAL, text, for_a_person=True)
            effects += [alarm, AppendLine("incidents", line), Count("over_closed")]
    return state, tuple(effects)


def is_unheard(state: RiskState, placed: Exit) -> bool:
    """Whether the broker has neither shown its order nor said that it never went out."""
    return not placed.gone and not any(one.intent_id == placed.intent_id for one in state.orders.values())


# ---- exits


def _place(
    settings: RiskSettings, state: RiskState, symbol: str, book: _Book, now_ns: int
) -> tuple[RiskState, tuple[Effect, ...], str]:
    """Close each bracket by its stop, or in that one's group; without, and once nothing works, what is left, alone."""
    left = target(settings, state, symbol)
    stops = {one.bracket: one for one in book.live if one.leg is Leg.STOP_LOSS and _may_close(state, one)}
    effects: list[Effect] = []
    explained, free = {symbol: book.explained}, left
    for intent_id, stop in tuple(stops.items())[:EXITS_AT_ONCE_MAX]:
        is_sell = stop.side is Side.SELL
        qty = closing_qty(book.held.get(intent_id, 0), is_sell, free, explained, symbol)
        if qty:
            if stop.client_order_id in state.standing:
                state, more = _exit(settings, state, symbol, stop.side, qty, intent_id, now_ns)
            else:
                state, more = _to_market(settings, state, stop, qty)
            effects += more
            if book.explained != left:  # then no more than the position in all
                free -= qty if is_sell else -qty
                explained = {}
    if effects:
        return state, tuple(effects), f"closing {_shown(left)} by its stops"
    if book.live:
        return _give_up_groups(state, book.live)
    side = Side.SELL if left > 0 else Side.BUY
    state, more = _exit(settings, state, symbol, side, abs(left), "", now_ns)
    return state, more, f"closing {_shown(left)} that no stop protects"


def _may_close(state: RiskState, stop: Known) -> bool:
    """Whether a stop can become the way out, or an exit join its group."""
    return stop.bracket not in state.alone and (stop.client_order_id not in state.standing or bool(stop.oca_group))


def _to_market(settings: RiskSettings, state: RiskState, stop: Known, qty: int) -> tuple[RiskState, tuple[Effect, ...]]:
    wanted = CloseWithStop(stop.client_order_id, stop.cum_qty + qty, settings.name, f"flatten: {state.flatten}")
    asked = msgspec.structs.replace(state, turned=state.turned | {stop.client_order_id})
    return asked, (Send(settings.broker, wanted, owed=True), Count("flatten_stops_to_market"))


def _give_up_groups(state: RiskState, live: tuple[Known, ...]) -> tuple[RiskState, tuple[Effect, ...], str]:
    """Stops whose group cannot be joined, or that stand for another side than is held: they go, then what is left."""
    alone = state.alone | {one.bracket for one in live}
    text = "cancelling stops that nothing can be closed with"
    if alone == state.alone:
        return state, (), text
    return msgspec.structs.replace(state, alone=alone), (Count("flatten_groups_given_up"),), text


def _exit(
    settings: RiskSettings, state: RiskState, symbol: str, side: Side, qty: int, within: str, now_ns: int
) -> tuple[RiskState, tuple[Effect, ...]]:
    tries = state.tries.get(symbol, Tries())
    series, attempt = divmod(tries.placed, ids.ATTEMPT_MAX)
    purpose = f"flatten:{state.flatten_ns}:{symbol}" + (f":{series}" if series else "")
    intent = ExitIntent(
        intent_id=ids.family_id(settings.fund, purpose, attempt + 1),
        signal_id=purpose,
        strategy=STRATEGY,
        symbol=symbol,
        side=side,
        qty=qty,
        limit_px=0,
        expires_ns=now_ns + settings.exit_lifetime_ns,
        asked_by=settings.name,
        within=within,
        attempt=attempt + 1,
    )
    placed = msgspec.structs.replace(
        state,
        exits={**state.exits, intent.intent_id: Exit(intent.intent_id, symbol, within)},
        tries={**state.tries, symbol: msgspec.structs.replace(tries, placed=tries.placed + 1)},
    )
    return placed, (Send(settings.broker, PlaceExit(intent), owed=True), Count("flatten_exits"))


def _forget(state: RiskState, symbol: str) -> tuple[RiskState, tuple[Effect, ...]]:
    """Nothing is left of a symbol: its attempts begin anew, should it refill."""
    tries = state.tries.get(symbol)
    if tries is None or not (tries.failed or tries.text):
        return state, ()
    begun = msgspec.structs.replace(state, tries={**state.tries, symbol: Tries(placed=tries.placed)})
    return begun, (ClearAlarm(f"flatten_failed.{symbol}"),)


# ---- attempts that came to nothing


def failed(
    settings: RiskSettings, state: RiskState, exit_id: str, text: str, now_ns: int, unsure: bool = False
) -> tuple[RiskState, tuple[Effect, ...]]:
    """Count an exit that ended with something left. `unsure`: it may be there after all, so the next one waits."""
    placed = state.exits[exit_id]
    tries = state.tries.get(placed.symbol, Tries())
    count = tries.failed + 1
    beyond = count >= settings.attempts_max
    not_before_ns = now_ns + settings.retry_ns if unsure or beyond else 0
    told = msgspec.structs.replace(tries, failed=count, not_before_ns=not_before_ns, text=text)
    state = msgspec.structs.replace(state, tries={**state.tries, placed.symbol: told})
    effects: list[Effect] = [Count("flatten_exit_failed")]
    if beyond or unsure:
        every_s = settings.retry_ns / SECOND_NS
        words = f"{placed.symbol} not closed in {count} attempts: {text}; trying again every {every_s:.0f} s"
        effects.append(RaiseAlarm(f"flatten_failed.{placed.symbol}", Severity.CRITICAL, words))
    return state, tuple(effects)


def _shown(qty: int) -> str:
    return f"{qty / 1e8:g}"
