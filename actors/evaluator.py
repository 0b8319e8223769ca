"""The evaluator: cycles over the book image into opportunities, found by its driver and written down here.

Owns: how many opportunities there were, which cycles had them, their history for the alarms, and which of them the
executor has not yet ended. Consumes: `OpportunityFound`, `EvaluatorStatus`, `EvaluatorReady`, `IncidentRecorded` (the
reference disagrees) of its driver, and `CycleOutcome` (owed) of the executor. Emits: a line an opportunity or incident,
alarms, and where this is no dry run `ExecuteCycle` (owed). Invariants: in a dry run nothing leaves; `dry_run` is
carried by every opportunity, and one of the other kind is refused and counted; an opportunity is handed over once.
Recovery: the driver maps the image and looks at every cycle anew. Dropped: beyond `CYCLES_MAX` cycles the counts of the
least seen; a status that a later one overtakes; beyond `ASKED_MAX` that the executor has not ended, opportunities are
written down, counted and not handed over: they would be too old before their turn came.

The suspicious are called out (field note 4): one cycle with most of the last window's opportunities, a window with many
times what windows before it had, and none where there was a steady rate. What was not watched, because nothing ran, is
no window.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from actors.effects import AppendLine, ClearAlarm, Count, Drive, Effect, RaiseAlarm, Send, Severity
from actors.messages import (
    CycleOutcome,
    Envelope,
    EvaluatorReady,
    EvaluatorStatus,
    ExecuteCycle,
    HaltChanged,
    IncidentRecorded,
    OpportunityFound,
    Recovered,
    StartEvaluator,
)
from kernels.fixed8 import parse_price
from kernels.suspicion import HISTORY_WINDOWS, RATE_LIMITS, Fall, Jump, RateLimits, find_most, judge_rate

CYCLES_MAX = 256
RECENT_MAX = 256
"""Opportunities of the last window that are looked at for the alarms; where there were more, the newest."""

ASKED_MAX = 8

MINUTE_NS = 60_000_000_000

ONE_CYCLE_ALARM = "one_cycle_takes_most"
JUMP_ALARM = "opportunity_rate_jump"
FALL_ALARM = "opportunity_rate_fall"
STANDS_ALARM = "opportunity_stands"


class OpportunityLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When the opportunities of a window are suspicious."""

    window_ns: int = MINUTE_NS
    one_cycle_count_min: int = 10
    one_cycle_share: float = 0.6
    stands_ns: int = 30_000_000_000
    rate: RateLimits = RATE_LIMITS


OPPORTUNITY_LIMITS = OpportunityLimits()


class Seen(msgspec.Struct, frozen=True):
    """An opportunity of the last window."""

    ns: int
    cycle: str


class EvaluatorState(msgspec.Struct, frozen=True):
    """`windows`: opportunities in each whole window before this one, newest last; `window`: the one in progress, 0
    before the first of an incarnation. `asked`: handed to the executor and not yet ended, by id, since when. `stands`:
    the cycle of an opportunity that stands for too long, empty for none.
    """

    ready: EvaluatorReady | None = None
    opportunities: int = 0
    cycles: Mapping[str, int] = {}
    recent: tuple[Seen, ...] = ()
    last: OpportunityFound | None = None
    window: int = 0
    window_count: int = 0
    windows: tuple[int, ...] = ()
    alarms: tuple[str, ...] = ()
    asked: Mapping[str, int] = {}
    stands: str = ""


Reduced = tuple[EvaluatorState, tuple[Effect, ...]]


class Evaluator:
    """The role; holds nothing but its name, whether this is a dry run, limits, and who executes."""

    schema_version = 2
    state_type = EvaluatorState

    def __init__(
        self,
        name: str = "evaluator",
        dry_run: bool = True,
        limits: OpportunityLimits = OPPORTUNITY_LIMITS,
        executor: str = "executor",
    ) -> None:
        self._name = name
        self.dry_run = dry_run
        self._limits = limits
        self._executor = executor

    @property
    def name(self) -> str:
        """Role name."""
        return self._name

    def initial(self) -> EvaluatorState:
        """Nothing found."""
        return EvaluatorState()

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        """From version 1: windows were called minutes."""
        if schema_version != 1:
            raise ValueError(f"{self.name}: no migration from schema version {schema_version}")
        old = msgspec.json.decode(state, type=dict[str, object])
        names = {"minute": "window", "minute_count": "window_count", "minutes": "windows"}
        return msgspec.json.encode({names.get(name, name): value for name, value in old.items()})

    def reduce(self, state: EvaluatorState, envelope: Envelope, now_ns: int) -> Reduced:
        """Fold one input."""
        match envelope.body:
            case Recovered(epoch=epoch):
                # The window that its predecessor left open, and the time since, were not watched whole.
                begun = msgspec.structs.replace(state, window=0, window_count=0) if state.window else state
                return begun, (Drive(StartEvaluator(epoch)),)
            case EvaluatorReady() as ready:
                return (state if ready == state.ready else msgspec.structs.replace(state, ready=ready)), ()
            case OpportunityFound() as found:
                return self._found(state, found, now_ns)
            case EvaluatorStatus() as status:
                stands = " ".join(status.longest_cycle) if status.longest_ns >= self._limits.stands_ns else ""
                counted = self._counted(state, now_ns)
                if stands != state.stands:
                    counted = msgspec.structs.replace(counted, stands=stands)
                return self._settle(counted, now_ns)
            case CycleOutcome(attempt_id=attempt_id):
                left = {name: since for name, since in state.asked.items() if name != attempt_id}
                return msgspec.structs.replace(state, asked=left), (Count("cycles_ended"),)
            case IncidentRecorded() as incident:
                return state, (AppendLine("incidents", incident),)
            case HaltChanged():
                return state, ()
            case _:
                return state, (Count("unexpected"),)

    def show(self, state: EvaluatorState, now_ns: int) -> dict[str, str]:
        """Return what the console shows."""
        shown = {"mode": "DRY RUN: nothing is sent" if self.dry_run else "opportunities are traded"}
        if state.ready is not None:
            shown["cycles"] = f"{state.ready.cycles} over {state.ready.rows} symbols"
        shown["opportunities"] = str(state.opportunities)
        shown["last window"] = str(len(self._recent(state, now_ns)))
        if state.last is not None:
            age_s = max(0, now_ns - state.last.ts_event_ns) / 1e9
            shown["last"] = f"{' '.join(state.last.cycle)} net {state.last.net_return} ({age_s:.0f} s ago)"
        return shown

    def _found(self, state: EvaluatorState, found: OpportunityFound, now_ns: int) -> Reduced:
        if found.dry_run is not self.dry_run:
            return state, (Count("opportunity_of_another_mode"),)
        cycle = " ".join(found.cycle)
        counted = self._counted(state, now_ns)
        advanced = msgspec.structs.replace(
            counted,
            opportunities=state.opportunities + 1,
            cycles=_tallied(state.cycles, cycle),
            recent=(*self._recent(state, now_ns), Seen(now_ns, cycle))[-RECENT_MAX:],
            last=found,
            window_count=counted.window_count + 1,
        )
        settled, alarms = self._settle(advanced, now_ns)
        effects = (AppendLine("opportunities", found), Count("opportunities"), *alarms)
        if self.dry_run:
            return settled, effects
        if len(settled.asked) >= ASKED_MAX:
            return settled, (*effects, Count("opportunity_not_handed_over"))
        asked = {**settled.asked, found.opportunity_id: now_ns}
        ask = Send(self._executor, _ask(found), owed=True)
        return msgspec.structs.replace(settled, asked=asked), (*effects, ask)

    def _settle(self, state: EvaluatorState, now_ns: int) -> Reduced:
        """Raise and clear the alarms by what the windows hold; the same state object if they stand as they are."""
        limits, raised = self._limits, {}
        most = find_most(
            [seen.cycle for seen in self._recent(state, now_ns)], limits.one_cycle_count_min, limits.one_cycle_share
        )
        if most is not None:
            raised[ONE_CYCLE_ALARM] = f"{most.taken} of the last window's {most.total} opportunities are on {most.name}"
        if state.stands:
            raised[STANDS_ALARM] = f"{state.stands} has stood for {limits.stands_ns / 1e9:g} s and more"
        match judge_rate(state.windows, state.window_count, limits.rate):
            case Jump(came=came, usual=usual):
                raised[JUMP_ALARM] = f"{came} opportunities in this window; {usual:.1f} a window were usual"
            case Fall(windows=windows, usual=usual):
                raised[FALL_ALARM] = f"no opportunity in {windows} whole windows; {usual:.1f} a window were usual"
        effects: list[Effect] = [RaiseAlarm(name, Severity.WARNING, text) for name, text in raised.items()]
        effects += [ClearAlarm(name) for name in state.alarms if name not in raised]
        names = tuple(sorted(raised))
        if names == state.alarms:
            return state, tuple(effects)
        return msgspec.structs.replace(state, alarms=names), tuple(effects)

    def _recent(self, state: EvaluatorState, now_ns: int) -> tuple[Seen, ...]:
        return tuple(seen for seen in state.recent if now_ns - seen.ns < self._limits.window_ns)

    def _counted(self, state: EvaluatorState, now_ns: int) -> EvaluatorState:
        """Return the state in the window of now, those that ended in its history, empty ones included."""
        window = now_ns // self._limits.window_ns
        if window <= state.window:
            return state
        if state.window == 0:
            return msgspec.structs.replace(state, window=window, window_count=0)
        empty = (0,) * min(window - state.window - 1, HISTORY_WINDOWS)
        windows = (*state.windows, state.window_count, *empty)[-HISTORY_WINDOWS:]
        return msgspec.structs.replace(state, window=window, window_count=0, windows=windows)


def _ask(found: OpportunityFound) -> ExecuteCycle:
    return ExecuteCycle(
        attempt_id=found.opportunity_id,
        start_asset=found.start_asset,
        spent=parse_price(found.start_amount),
        received=parse_price(found.end_amount),
        net_return=found.net_return,
        legs=found.plan,
        rows=found.legs,
        decided_ns=found.evaluated_ns,
    )


def _tallied(cycles: Mapping[str, int], cycle: str) -> dict[str, int]:
    tallied = {**cycles, cycle: cycles.get(cycle, 0) + 1}
    if len(tallied) > CYCLES_MAX:
        del tallied[min((name for name in tallied if name != cycle), key=lambda name: (tallied[name], name))]
    return tallied
