"""The executor: opportunities into orders, an attempt each, and every attempt to one recorded end.

Owns: the attempts in work, their residuals, the circuit breaker. Consumes: `ExecuteCycle` (owed) of the evaluator,
`SpotOrderDone`, `SpotGateChanged` (owed) and `SpotBalancesChanged` of `broker.spot`, its driver's quotes, a person's
`CyclesResumed`, halts. Emits: `PlaceSpotOrder`, `RebaseSpotAccount` (owed) to the broker, `CycleOutcome` (owed) to the
evaluator and as a line, alarms.

Invariants: an `ExecuteCycle` is executed at most once and ends in exactly one `CycleOutcome`; what an attempt does next
is a function of its journaled state and the market as it is then (`kernels.cycle_saga`), so it is finished or unwound
whatever dies in between; nothing opens risk on a row that is not live, on a decision that is too old, under a halt, a
breaker that tripped, or a gate that is shut; unwinding goes on under all of these. The breaker is latched: only a
person clears it.

Recovery: attempts without an order in work read quotes and go on; those with one wait for the broker, which owes its
end. Outcomes whose line is not confirmed are written again, and the driver writes none twice. Full: attempts beyond
`cycles_open_max` are refused; attempts that are over are forgotten beyond `done_max`, oldest first; with
`unwritten_max` lines unconfirmed every further cycle is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from actors.effects import ClearAlarm, Count, Drive, Effect, RaiseAlarm, Send, Severity, StartTimer
from actors.executor_outcome import outcome_of, refusal, result_of
from actors.executor_state import ExecutorSettings, ExecutorState, Tally, Work
from actors.messages import (
    CycleEnd,
    CycleLineWritten,
    CycleOutcome,
    CyclesResumed,
    Envelope,
    ExecuteCycle,
    HaltChanged,
    PlaceSpotOrder,
    QuotesRead,
    ReadQuotes,
    RebaseSpotAccount,
    Recovered,
    Side,
    SpotBalancesChanged,
    SpotGateChanged,
    SpotGateReason,
    SpotOrderDone,
    StartExecutor,
    TimerFired,
    WriteCycleLine,
)
from kernels.breaker import clear, judge, trip
from kernels.cycle_execution import Attempt, CycleOrder, Finish, Mode, Top, check_plan, flows_of
from kernels.cycle_saga import advance, record
from kernels.fixed8 import format_fixed8
from kernels.ids import cycle_order_id

STOPPED_ALARM = "cycles_stopped"
HELD_ALARM = "cycle_held"
SURFACED_ALARM = "cycle_order_surfaced"

_RETRY = "retry:"

T = TypeVar("T")

Reduced = tuple[ExecutorState, tuple[Effect, ...]]


class Executor:
    """The role; holds nothing but its settings."""

    schema_version = 1
    state_type = ExecutorState

    def __init__(self, settings: ExecutorSettings) -> None:
        self.settings = settings

    @property
    def name(self) -> str:
        """Role name."""
        return self.settings.name

    def initial(self) -> ExecutorState:
        """Nothing attempted, gate shut."""
        return ExecutorState()

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        """There is no earlier version."""
        raise ValueError(f"{self.name}: no migration from schema version {schema_version}")

    def show(self, state: ExecutorState, now_ns: int) -> dict[str, str]:
        """Return what the console shows."""
        ends = state.tally.ends
        attempts = sum(ends.values()) - ends.get(CycleEnd.REFUSED, 0)
        shown = {"attempts": str(attempts)}
        shown |= {end.value: str(ends.get(end.value, 0)) for end in CycleEnd}
        if state.open:
            shown["in work"] = str(len(state.open))
        for asset, amount in state.tally.realized.items():
            shown[f"realized {asset}"] = format_fixed8(amount)
        residuals = [f"{asset} {format_fixed8(amount)}" for asset, amount in state.residuals.items() if amount]
        shown["residuals"] = ", ".join(residuals) or "none"
        shown["breaker"] = f"TRIPPED, {state.breaker.tripped}" if state.breaker.tripped else "closed"
        return shown

    def reduce(self, state: ExecutorState, envelope: Envelope, now_ns: int) -> Reduced:
        """Fold one input."""
        turn = _Turn(self.settings, state, now_ns)
        body = envelope.body
        match body:
            case ExecuteCycle():
                turn.take(body, envelope.correlation_id or envelope.message_id)
            case QuotesRead():
                turn.quotes(body)
            case SpotOrderDone():
                turn.order_done(body)
            case SpotGateChanged(reason=reason, free=free):
                turn.change(gate=reason, free=free)
            case SpotBalancesChanged(free=free):
                turn.change(free=free)
            case CycleLineWritten(attempt_id=attempt_id):
                turn.drop_unwritten(attempt_id)
            case CyclesResumed():
                turn.resumed(body)
            case HaltChanged(reason=reason):
                turn.change(halt=reason)
            case TimerFired(name=name):
                turn.read(name.removeprefix(_RETRY))
            case Recovered(epoch=epoch):
                turn.recovered(epoch)
            case _:
                turn.count("unexpected")
        return turn.state, tuple(turn.effects)


class _Turn:
    """Mutable only while one input is reduced; it never outlives the call."""

    def __init__(self, settings: ExecutorSettings, state: ExecutorState, now_ns: int) -> None:
        self.settings = settings
        self.state = state
        self.now_ns = now_ns
        self.effects: list[Effect] = []

    def change(self, **changed: object) -> None:
        """Replace fields of the state, unless they say what it says already."""
        if any(getattr(self.state, name) != value for name, value in changed.items()):
            self.state = msgspec.structs.replace(self.state, **changed)

    def count(self, name: str) -> None:
        """Add one to a counter."""
        self.effects.append(Count(name))

    # ---- an attempt's beginning

    def take(self, ask: ExecuteCycle, correlation_id: str) -> None:
        """Take an `ExecuteCycle` for the first time; refuse it by the first guard that objects."""
        state, attempt_id = self.state, ask.attempt_id
        if attempt_id in state.open or attempt_id in state.done or attempt_id in state.refused:
            self.count("cycle_again")
            return
        work = Work(ask, Attempt(ask.legs), self.now_ns, correlation_id=correlation_id)
        objection = self._objection(ask)
        if objection is not None:
            self._refuse(work, *objection)
            return
        self.count("cycle_taken")
        self._put(work)
        self.read(attempt_id)

    def _objection(self, ask: ExecuteCycle) -> tuple[str, dict[str, str]] | None:
        state, settings = self.state, self.settings
        unfit = check_plan(ask.legs)
        if unfit or min(ask.spent, ask.received) <= 0 or ask.legs[0].gives != ask.start_asset:
            return "unfit", {"plan": unfit or "amounts or start asset"}
        if state.halt:
            return "halt", {"reason": state.halt}
        if state.breaker.tripped:
            return "breaker", {"tripped": state.breaker.tripped}
        if len(state.unwritten) >= settings.unwritten_max:
            return "lines", {"unwritten": str(len(state.unwritten))}
        if (age := self._too_old(ask)) is not None:
            return age
        if state.gate is not SpotGateReason.OPEN:
            return "gate", {"reason": state.gate.value}
        if len(state.open) >= settings.cycles_open_max:
            return "open_max", {"open": str(len(state.open))}
        most = settings.start_amount_max
        most = most if isinstance(most, int) else most.get(ask.start_asset, 0)
        if ask.spent > most:
            return "amount", {"spent": str(ask.spent), "max": str(most)}
        needs = ask.legs if settings.policy.mode is Mode.AT_ONCE else ask.legs[:1]
        for leg in needs:
            if state.free.get(leg.gives, 0) < leg.spent:
                return "balance", {"asset": leg.gives, "free": str(state.free.get(leg.gives, 0))}
        return None

    def _too_old(self, ask: ExecuteCycle) -> tuple[str, dict[str, str]] | None:
        age_ns = self.now_ns - ask.decided_ns
        return ("age", {"age_ns": str(age_ns)}) if age_ns > self.settings.decision_age_ns_max else None

    # ---- its steps

    def read(self, attempt_id: str) -> None:
        """Ask how the markets of an attempt stand, which goes on with the answer."""
        work = self.state.open.get(attempt_id)
        if work is None or any(not order.done for order in work.attempt.orders):
            self.count("timer_of_nothing")
            return
        request = f"{attempt_id}#{self.state.requests + 1}"
        self.change(requests=self.state.requests + 1)
        self._put(msgspec.structs.replace(work, request=request))
        self.effects.append(Drive(ReadQuotes(request, tuple(leg.symbol for leg in work.ask.legs))))

    def quotes(self, read: QuotesRead) -> None:
        """Go on with the attempt that asked."""
        work = next((one for one in self.state.open.values() if one.request == read.request_id), None)
        if work is None:
            self.count("quotes_of_nothing")
            return
        work = msgspec.structs.replace(work, request="")
        if not work.attempt.orders and (age := self._too_old(work.ask)) is not None:
            self._refuse(work, *age)
            return
        tops = {quote.symbol: Top(quote.bid_px, quote.ask_px, quote.live) for quote in read.quotes}
        blocked = self.state.halt and "halt"
        if self.state.breaker.tripped:
            blocked = blocked or "breaker"
        attempt, act = advance(work.attempt, tops, self.settings.policy, blocked)
        work = msgspec.structs.replace(work, attempt=attempt)
        if isinstance(act, Finish):
            if attempt.orders:
                self._finish(work, act)
            else:
                self._refuse(work, act.reason.partition(":")[0], {"why": act.reason})
            return
        placed = {**work.placed_ns, **{order.key: self.now_ns for order in act.orders}}
        self._put(msgspec.structs.replace(work, placed_ns=placed))
        for order in act.orders:
            self._place(work, order)

    def _place(self, work: Work, order: CycleOrder) -> None:
        leg, attempt_id = work.attempt.legs[order.leg], work.ask.attempt_id
        place = PlaceSpotOrder(
            client_order_id=cycle_order_id(self.settings.fund, attempt_id, order.key),
            attempt_id=attempt_id,
            symbol=leg.symbol,
            side=Side(order.side),
            qty=order.qty,
            limit_px=order.limit_px,
            base=leg.base,
            quote=leg.quote,
            reduces_risk=order.unwinds,
            expires_ns=0 if order.unwinds else self.now_ns + self.settings.leg_wait_ns,
        )
        self.count("unwinding_order" if order.unwinds else "leg_order")
        self.effects.append(Send(self.settings.broker, place, owed=True, correlation_id=work.correlation_id))

    def order_done(self, told: SpotOrderDone) -> None:
        """Fold an order's end; go on once none of the attempt's is in work."""
        key = told.client_order_id.rpartition("-")[2]
        work = self.state.open.get(told.attempt_id) or self.state.done.get(told.attempt_id)
        if work is None or all(order.key != key for order in work.attempt.orders):
            self.count("order_of_nothing")
            if told.cum_qty:
                self._stop(f"{told.client_order_id} of {told.attempt_id}, which is forgotten, did {told.cum_qty}")
            return
        attempt = record(work.attempt, key, told.cum_qty, told.cum_quote_qty, told.commissions)
        after = msgspec.structs.replace(work, attempt=attempt, told={**work.told, key: told})
        if work.ended:
            self._surfaced(work, after)
            return
        self._put(after)
        if after.request or any(not order.done for order in attempt.orders):
            return
        order = attempt.orders[-1]
        if order.unwinds and not order.cum_qty:
            self.effects.append(StartTimer(_RETRY + told.attempt_id, self.settings.unwind_retry_ns))
        else:
            self.read(told.attempt_id)

    def _surfaced(self, before: Work, after: Work) -> None:
        """An order of an attempt that is over did more than was known: kept as a residual, and all stops."""
        old, new = flows_of(before.attempt), flows_of(after.attempt)
        residuals = dict(self.state.residuals)
        for asset in {*old, *new}:
            residuals[asset] = residuals.get(asset, 0) + new.get(asset, 0) - old.get(asset, 0)
        attempt_id = after.ask.attempt_id
        self.change(residuals=residuals, done={**self.state.done, attempt_id: after})
        self._stop(f"an order of {attempt_id} did more after it was given up; what it did is carried as a residual")

    def _stop(self, text: str) -> None:
        self.change(breaker=trip(self.state.breaker, f"surfaced: {text}", self.now_ns))
        self.effects.append(RaiseAlarm(SURFACED_ALARM, Severity.CRITICAL, text, for_a_person=True))
        self._show_breaker()

    # ---- its end

    def _refuse(self, work: Work, guard: str, figures: dict[str, str]) -> None:
        outcome = refusal(work.ask, self.settings.policy.mode, guard, figures, self.now_ns)
        attempt_id = work.ask.attempt_id
        refused = {**self.state.refused, attempt_id: self.now_ns}
        while len(refused) > self.settings.done_max:
            del refused[next(iter(refused))]
        self.change(refused=refused, open=_without(self.state.open, attempt_id))
        self.count(f"refused.{guard}")
        self._record(outcome, work)

    def _finish(self, work: Work, act: Finish) -> None:
        outcome = outcome_of(work, self.settings.policy.mode, act.left, act.reason, self.now_ns)
        state, attempt_id = self.state, work.ask.attempt_id
        residuals = dict(state.residuals)
        for asset, amount in outcome.residuals.items():
            residuals[asset] = residuals.get(asset, 0) + amount
        done = {**state.done, attempt_id: msgspec.structs.replace(work, ended=True)}
        while len(done) > self.settings.done_max:
            del done[next(iter(done))]
        breaker = state.breaker
        if outcome.end is not CycleEnd.REFUSED:
            breaker = judge(breaker, self.settings.limits, result_of(work, outcome.end), self.now_ns)
        self.change(open=_without(state.open, attempt_id), done=done, residuals=residuals, breaker=breaker)
        self.count(f"ended.{outcome.end.value}")
        self._record(outcome, work)
        if outcome.end is CycleEnd.HELD:
            text = f"{attempt_id} keeps {outcome.figures}: {outcome.guard}"
            self.effects.append(RaiseAlarm(HELD_ALARM, Severity.CRITICAL, text, for_a_person=True))
        if breaker.tripped and not state.breaker.tripped:
            self._show_breaker()

    def _record(self, outcome: CycleOutcome, work: Work) -> None:
        tally, start = self.state.tally, outcome.start_asset
        ends = {**tally.ends, outcome.end.value: tally.ends.get(outcome.end.value, 0) + 1}
        realized = tally.realized
        if outcome.realized:
            realized = {**realized, start: realized.get(start, 0) + outcome.realized}
        dusty = tally.dusty + bool(outcome.residuals)
        unwritten = {**self.state.unwritten, outcome.attempt_id: outcome}
        self.change(tally=Tally(ends, realized, dusty), unwritten=unwritten)
        self.effects.append(Drive(WriteCycleLine(outcome)))
        told = Send(self.settings.evaluator, outcome, owed=True, correlation_id=work.correlation_id)
        self.effects.append(told)

    def _show_breaker(self) -> None:
        text = f"{self.state.breaker.tripped}; no cycle is begun until a person clears it: run.py cycles-resume"
        self.effects.append(RaiseAlarm(STOPPED_ALARM, Severity.CRITICAL, text))

    # ---- the rest

    def drop_unwritten(self, attempt_id: str) -> None:
        """The line is in the file."""
        self.change(unwritten=_without(self.state.unwritten, attempt_id))

    def resumed(self, word: CyclesResumed) -> None:
        """A person lets cycles go on, and takes the account as it is for right."""
        if word.at_ns <= self.state.resumed_ns:
            return
        self.change(resumed_ns=word.at_ns, breaker=clear(self.state.breaker, word.at_ns))
        self.count("resumed")
        if not self.state.breaker.tripped:
            self.effects.extend(ClearAlarm(name) for name in (STOPPED_ALARM, HELD_ALARM, SURFACED_ALARM))
        self.effects.append(Send(self.settings.broker, RebaseSpotAccount(word.reason), owed=True))

    def recovered(self, epoch: int) -> None:
        """Go on with whatever has no order in work, and write what may not be written."""
        self.effects.append(Drive(StartExecutor(epoch)))
        for outcome in self.state.unwritten.values():
            self.effects.append(Drive(WriteCycleLine(outcome)))
        for attempt_id, work in self.state.open.items():
            if all(order.done for order in work.attempt.orders):
                self.read(attempt_id)
        if self.state.breaker.tripped:
            self._show_breaker()

    def _put(self, work: Work) -> None:
        self.change(open={**self.state.open, work.ask.attempt_id: work})


def _without(entries: Mapping[str, T], name: str) -> Mapping[str, T]:
    if name not in entries:
        return entries
    return {key: value for key, value in entries.items() if key != name}
