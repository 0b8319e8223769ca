"""The evaluator: cycles over the book image into opportunities, found by its driver and written down here.

Owns: how many opportunities there were, which cycles had them, and their history for the alarms. Consumes:
`OpportunityFound`, `EvaluatorStatus`, `EvaluatorReady` of its driver. Emits: a line an opportunity, alarms. Invariants:
nothing is sent to a venue: `dry_run` is carried by every opportunity, and one without it is refused and counted.
Recovery: the driver maps the image and looks at every cycle anew. Dropped: beyond `CYCLES_MAX` cycles the counts of
the least seen; a status that a later one overtakes.

The suspicious are called out (field note 4): one cycle with most of the last minute's opportunities, and a minute with
many times what minutes before it had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec

from actors.effects import AppendLine, ClearAlarm, Count, Drive, Effect, RaiseAlarm, Severity
from actors.messages import (
    Envelope,
    EvaluatorReady,
    EvaluatorStatus,
    HaltChanged,
    OpportunityFound,
    Recovered,
    StartEvaluator,
)

CYCLES_MAX = 256
RECENT_MAX = 256
"""Opportunities of the last minute that are looked at for the alarms; where there were more, the newest."""

MINUTE_NS = 60_000_000_000
ONE_CYCLE_COUNT_MIN = 10
ONE_CYCLE_SHARE_PERCENT = 60
JUMP_COUNT_MIN = 100
JUMP_FACTOR = 10
HISTORY_MINUTES = 30
HISTORY_MINUTES_MIN = 3

ONE_CYCLE_ALARM = "one_cycle_takes_most"
JUMP_ALARM = "opportunity_rate_jump"


class Seen(msgspec.Struct, frozen=True):
    """An opportunity of the last minute."""

    ns: int
    cycle: str


class EvaluatorState(msgspec.Struct, frozen=True):
    """`minutes`: opportunities in each whole minute before this one, newest last; `minute`: the one in progress."""

    ready: EvaluatorReady | None = None
    opportunities: int = 0
    cycles: Mapping[str, int] = {}
    recent: tuple[Seen, ...] = ()
    last: OpportunityFound | None = None
    minute: int = 0
    minute_count: int = 0
    minutes: tuple[int, ...] = ()
    alarms: tuple[str, ...] = ()


Reduced = tuple[EvaluatorState, tuple[Effect, ...]]


class Evaluator:
    """The role; holds nothing but its name and whether this is a dry run."""

    schema_version = 1
    state_type = EvaluatorState

    def __init__(self, name: str = "evaluator", dry_run: bool = True) -> None:
        self._name = name
        self.dry_run = dry_run

    @property
    def name(self) -> str:
        """Role name."""
        return self._name

    def initial(self) -> EvaluatorState:
        """Nothing found."""
        return EvaluatorState()

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        """There is no earlier version."""
        raise ValueError(f"{self.name}: no migration from schema version {schema_version}")

    def reduce(self, state: EvaluatorState, envelope: Envelope, now_ns: int) -> Reduced:
        """Fold one input."""
        match envelope.body:
            case Recovered(epoch=epoch):
                return state, (Drive(StartEvaluator(epoch)),)
            case EvaluatorReady() as ready:
                return (state if ready == state.ready else msgspec.structs.replace(state, ready=ready)), ()
            case OpportunityFound() as found:
                return self._found(state, found, now_ns)
            case EvaluatorStatus():
                return self._settle(state, now_ns) if state.alarms else (state, ())
            case HaltChanged():
                return state, ()
            case _:
                return state, (Count("unexpected"),)

    def show(self, state: EvaluatorState, now_ns: int) -> dict[str, str]:
        """Return what the console shows."""
        shown = {"mode": "DRY RUN: nothing is sent" if self.dry_run else "live"}
        if state.ready is not None:
            shown["cycles"] = f"{state.ready.cycles} over {state.ready.rows} symbols"
        shown["opportunities"] = str(state.opportunities)
        shown["last minute"] = str(len(_within_minute(state.recent, now_ns)))
        if state.last is not None:
            age_s = max(0, now_ns - state.last.ts_event_ns) / 1e9
            shown["last"] = f"{' '.join(state.last.cycle)} net {state.last.net_return} ({age_s:.0f} s ago)"
        return shown

    def _found(self, state: EvaluatorState, found: OpportunityFound, now_ns: int) -> Reduced:
        if found.dry_run is not True:
            return state, (Count("opportunity_not_dry"),)
        cycle = " ".join(found.cycle)
        recent = (*_within_minute(state.recent, now_ns), Seen(now_ns, cycle))[-RECENT_MAX:]
        minute, minute_count, minutes = _counted(state, now_ns)
        advanced = msgspec.structs.replace(
            state,
            opportunities=state.opportunities + 1,
            cycles=_tallied(state.cycles, cycle),
            recent=recent,
            last=found,
            minute=minute,
            minute_count=minute_count + 1,
            minutes=minutes,
        )
        settled, alarms = self._settle(advanced, now_ns)
        return settled, (AppendLine("opportunities", found), Count("opportunities"), *alarms)

    def _settle(self, state: EvaluatorState, now_ns: int) -> Reduced:
        """Raise and clear the alarms by what the last minute held; the same state object if they stand as they are."""
        recent = _within_minute(state.recent, now_ns)
        raised: dict[str, str] = {}
        if len(recent) >= ONE_CYCLE_COUNT_MIN:
            cycle, count = Counter(seen.cycle for seen in recent).most_common(1)[0]
            if count * 100 >= ONE_CYCLE_SHARE_PERCENT * len(recent):
                raised[ONE_CYCLE_ALARM] = f"{count} of the last minute's {len(recent)} opportunities are on {cycle}"
        usual = max(1, sum(state.minutes) // max(1, len(state.minutes)))
        in_minute = state.minute_count if now_ns // MINUTE_NS == state.minute else 0
        known = len(state.minutes) >= HISTORY_MINUTES_MIN
        if known and in_minute >= max(JUMP_COUNT_MIN, JUMP_FACTOR * usual):
            raised[JUMP_ALARM] = f"{in_minute} opportunities in this minute; {usual} a minute were usual"
        effects: list[Effect] = [RaiseAlarm(name, Severity.WARNING, text) for name, text in raised.items()]
        effects += [ClearAlarm(name) for name in state.alarms if name not in raised]
        names = tuple(sorted(raised))
        if names == state.alarms:
            return state, tuple(effects)
        return msgspec.structs.replace(state, alarms=names), tuple(effects)


def _within_minute(recent: tuple[Seen, ...], now_ns: int) -> tuple[Seen, ...]:
    return tuple(seen for seen in recent if now_ns - seen.ns < MINUTE_NS)


def _counted(state: EvaluatorState, now_ns: int) -> tuple[int, int, tuple[int, ...]]:
    """Return minute, its count so far, and the counts of those before it, empty minutes included."""
    minute = now_ns // MINUTE_NS
    if minute <= state.minute:
        return state.minute, state.minute_count, state.minutes
    if state.minute == 0:
        return minute, 0, ()
    empty = (0,) * min(minute - state.minute - 1, HISTORY_MINUTES)
    return minute, 0, (*state.minutes, state.minute_count, *empty)[-HISTORY_MINUTES:]


def _tallied(cycles: Mapping[str, int], cycle: str) -> dict[str, int]:
    tallied = {**cycles, cycle: cycles.get(cycle, 0) + 1}
    if len(tallied) > CYCLES_MAX:
        del tallied[min((name for name in tallied if name != cycle), key=lambda name: (tallied[name], name))]
    return tallied
