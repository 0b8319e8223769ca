"""One supervisor's decisions, as a pure function: `step(state, event, now_ns) -> (state, effects)`.

Erlang/OTP's semantics, made asynchronous: nothing here waits, so starting and stopping are states of a child and a
child is started again only once its former incarnation is known to be gone.

- Start left to right, the next one only once the one before reported `Started`. Under one_for_one this holds for the
  first start; later each child comes back by itself.
- Stop in reverse, one after the other; what has not ended within its `shutdown_s` is killed, and killed again until
  its exit is noticed. Nothing starts before everything that is to stop has stopped.
- More than `intensity` restarts within `period_s`: stop everything, then `Escalate`. Also at more than
  `ESCALATIONS_MAX` escalations of children within `ESCALATION_PERIODS` periods: a budget takes a child supervisor most
  of a period to spend, so that in a window of one period hardly two are ever seen and a crash loop would end nowhere.
- Where it differs from OTP: a first start that fails is an exit like any other instead of the end of the supervisor;
  an exit that a missing dependency caused does not count and the child waits for the dependency; restarts back off.
"""

from __future__ import annotations

import msgspec

from supervisors.policy_state import (
    AllRunning,
    AllStopped,
    ChildState,
    DependencyDown,
    DependencyUp,
    Effect,
    Escalate,
    Event,
    Exited,
    Hung,
    KillChild,
    Mode,
    PolicyCounters,
    StartChild,
    Started,
    Status,
    StopChild,
    StopRequested,
    SupervisorState,
    Tick,
    WakeAt,
    initial_state,
)
from supervisors.spec import ChildSpec, ExitReason, RestartType, Strategy

__all__ = [
    "AllRunning",
    "AllStopped",
    "ChildState",
    "DependencyDown",
    "DependencyUp",
    "Effect",
    "Escalate",
    "Event",
    "Exited",
    "Hung",
    "KillChild",
    "Mode",
    "PolicyCounters",
    "StartChild",
    "Started",
    "Status",
    "StopChild",
    "StopRequested",
    "SupervisorState",
    "Tick",
    "WakeAt",
    "initial_state",
    "restarts_after",
    "step",
]

NS = 1_000_000_000
KILL_AGAIN_NS = NS
"""A killed child whose exit is not noticed is killed again after this time, until it is."""
ESCALATIONS_MAX = 3
ESCALATION_PERIODS = 20
DISPUTES_MAX = 3
"""So many exits in a row may blame a dependency that we know only as up (our notice may come later than the child's);
further ones count, or a child that is wrong about it would restart for ever."""


def restarts_after(restart_type: RestartType, reason: ExitReason) -> bool:
    """The OTP table: is an exit that nobody asked for followed by a restart?"""
    match restart_type:
        case RestartType.PERMANENT:
            return True
        case RestartType.TRANSIENT:
            return not reason.is_normal
        case RestartType.TEMPORARY:
            return False


def step(state: SupervisorState, event: Event, now_ns: int) -> tuple[SupervisorState, tuple[Effect, ...]]:
    """Take one event at a monotonic time; the effects are to be run in their order.

    Raises:
        ValueError: `now_ns` is before that of the former event.
    """
    if now_ns < state.now_ns:
        raise ValueError(f"{state.spec.role}: the clock went back from {state.now_ns} to {now_ns}")
    turn = _Turn(state, now_ns)
    turn.take(event)
    turn.advance()
    return turn.end()


class _Turn:
    """One step in the making: the only place where a state is changed in place, and never a caller's."""

    def __init__(self, state: SupervisorState, now_ns: int) -> None:
        self._spec = state.spec
        self._now_ns = now_ns
        self._children = list(state.children)
        self._mode = state.mode
        self._escalation = state.escalation
        self._restart_times_ns = state.restart_times_ns
        self._escalation_times_ns = state.escalation_times_ns
        self._dependency_up = state.dependency_up
        self._announced = state.announced
        self._counters = state.counters
        self._wake_at_ns = state.wake_at_ns
        self._ticked = False
        self._effects: list[Effect] = []

    def end(self) -> tuple[SupervisorState, tuple[Effect, ...]]:
        state = SupervisorState(
            spec=self._spec,
            children=tuple(self._children),
            mode=self._mode,
            escalation=self._escalation,
            restart_times_ns=self._restart_times_ns,
            escalation_times_ns=self._escalation_times_ns,
            dependency_up=self._dependency_up,
            announced=self._announced,
            wake_at_ns=self._wake_at_ns,
            now_ns=self._now_ns,
            counters=self._counters,
        )
        return state, tuple(self._effects)

    # What happened

    def take(self, event: Event) -> None:
        match event:
            case Started(role=role, incarnation=incarnation):
                index = self._current(role, incarnation)
                if index is not None:
                    self._started(index)
            case Exited(role=role, incarnation=incarnation, reason=reason):
                index = self._current(role, incarnation)
                if index is not None:
                    self._exited(index, reason)
            case Hung(role=role, incarnation=incarnation):
                index = self._current(role, incarnation)
                if index is not None and self._children[index].status is not Status.STOPPING:
                    self._kill(index, ExitReason.KILLED_HUNG)
            case DependencyDown():
                self._dependency_changed(False)
            case DependencyUp():
                self._dependency_changed(True)
            case StopRequested():
                # Also while escalating: who asked for the stop hears of the stop, not of the budget.
                if self._mode is not Mode.ENDED:
                    self._mode = Mode.STOPPING
            case Tick():
                self._ticked = True
                self._deadlines()

    def _current(self, role: str, incarnation: int) -> int | None:
        """Index of the child if this is its live incarnation; anything else is counted and ignored."""
        for index, child in enumerate(self._children):
            if child.role == role and child.incarnation == incarnation and child.live:
                return index
        self._count(notices_ignored=1)
        return None

    def _started(self, index: int) -> None:
        child = self._children[index]
        if child.status is Status.STARTING and not child.killed:
            self._change(index, status=Status.RUNNING, begun=True, deadline_ns=None, running_since_ns=self._now_ns)

    def _exited(self, index: int, reason: ExitReason) -> None:
        child = self._children[index]
        verdict = child.blame or reason
        asked_for = child.status is Status.STOPPING or child.recycle or self._mode is not Mode.RUNNING
        temporary = child.spec.restart_type is RestartType.TEMPORARY
        comes_back = self._mode is Mode.RUNNING and (
            not temporary if asked_for else restarts_after(child.spec.restart_type, verdict)
        )
        self._change(
            index,
            status=Status.WAITING if comes_back else Status.STOPPED,
            recycle=False,
            killed=False,
            blame=None,
            deadline_ns=None,
            not_before_ns=self._now_ns,
            last_exit=verdict,
        )
        if comes_back and not asked_for:
            self._restart(index, child, verdict)

    def _restart(self, index: int, before: ChildState, reason: ExitReason) -> None:
        ran_ns = self._now_ns - before.running_since_ns if before.status is Status.RUNNING else 0
        if ran_ns >= self._spec.period_s * NS:
            before = msgspec.structs.replace(before, in_a_row=0, disputes=0)
        in_a_row = before.in_a_row + 1
        excused, disputes = self._excused(before, reason)
        pause_ns = round(self._spec.backoff.delay_s(in_a_row) * NS)
        self._change(
            index,
            in_a_row=in_a_row,
            disputes=disputes,
            restarts=before.restarts + 1,
            not_before_ns=self._now_ns + pause_ns,
        )
        if excused:
            self._count(exits_uncounted=1)
        elif (spent := self._spent(reason)) is not None:
            self._mode = Mode.ESCALATING
            self._escalation = f"{self._spec.role}: {spent}; the last was {before.role} ({reason.value})"
            return
        self._take_along(index)

    def _excused(self, child: ChildState, reason: ExitReason) -> tuple[bool, int]:
        """Whether the dependency is to blame, and the child's disputes in a row."""
        if not child.spec.needs_ledger:
            return False, 0
        if not self._dependency_up:
            return True, 0
        if reason is not ExitReason.DEPENDENCY_DOWN:
            return False, 0
        self._count(disputes=1)
        return child.disputes < DISPUTES_MAX, min(child.disputes + 1, DISPUTES_MAX)

    def _spent(self, reason: ExitReason) -> str | None:
        """Enter this restart; if it is one too many, of what."""
        self._count(restarts_counted=1)
        period_s = self._spec.period_s
        self._restart_times_ns = self._entered(self._restart_times_ns, period_s)
        if len(self._restart_times_ns) > self._spec.intensity:
            return f"more than {self._spec.intensity} restarts in {period_s:g} s"
        if reason is ExitReason.ESCALATED:
            self._escalation_times_ns = self._entered(self._escalation_times_ns, period_s * ESCALATION_PERIODS)
            if len(self._escalation_times_ns) > ESCALATIONS_MAX:
                return f"more than {ESCALATIONS_MAX} escalations in {period_s * ESCALATION_PERIODS:g} s"
        return None

    def _entered(self, times_ns: tuple[int, ...], window_s: float) -> tuple[int, ...]:
        """Now, after those that are still within the window."""
        return (*(at for at in times_ns if self._now_ns - at <= round(window_s * NS)), self._now_ns)

    def _take_along(self, index: int) -> None:
        """Mark the siblings that the strategy restarts with this child."""
        if self._spec.strategy is Strategy.ONE_FOR_ONE:
            return
        first = 0 if self._spec.strategy is Strategy.ONE_FOR_ALL else index + 1
        for other in range(first, len(self._children)):
            sibling = self._children[other]
            if other == index:
                continue
            if sibling.live:
                self._change(other, recycle=True)
            elif sibling.spec.restart_type is not RestartType.TEMPORARY:
                # OTP restarts the whole group, a transient child that had ended normally included.
                self._change(other, status=Status.WAITING)

    def _dependency_changed(self, up: bool) -> None:
        if up == self._dependency_up:
            return
        self._dependency_up = up
        for index, child in enumerate(self._children):
            if not child.spec.needs_ledger:
                continue
            if child.status is Status.STARTING and not child.killed:
                # The start cannot succeed meanwhile: its time begins anew.
                self._change(index, deadline_ns=self._start_deadline(child) if up else None)
            elif child.status is Status.WAITING and up:
                self._change(index, not_before_ns=self._now_ns, in_a_row=0, disputes=0)

    def _deadlines(self) -> None:
        for index, child in enumerate(self._children):
            if child.deadline_ns is None or child.deadline_ns > self._now_ns:
                continue
            if child.status is Status.STARTING and not child.killed:
                self._count(starts_timed_out=1)
                self._kill(index, ExitReason.STARTUP_TIMED_OUT)
            else:
                self._kill(index, child.blame)

    # What follows

    def advance(self) -> None:
        """Begin whatever can begin now: first stops, rightmost first, then starts, leftmost first."""
        all_go = self._mode in (Mode.STOPPING, Mode.ESCALATING)
        doomed = [i for i, child in enumerate(self._children) if child.live and (all_go or child.recycle)]
        if doomed:
            if self._children[doomed[-1]].status is not Status.STOPPING:
                self._stop(doomed[-1])
        elif all_go:
            self._finish()
        elif self._mode is Mode.RUNNING:
            self._start_what_may()
        self._wake()

    def _finish(self) -> None:
        for index, child in enumerate(self._children):
            if child.status is Status.WAITING:
                self._change(index, status=Status.STOPPED)
        self._effects.append(AllStopped() if self._mode is Mode.STOPPING else Escalate(self._escalation))
        self._mode = Mode.ENDED

    def _start_what_may(self) -> None:
        own_pace = self._spec.strategy is Strategy.ONE_FOR_ONE
        turn_has_come = True
        for index, child in enumerate(self._children):
            if child.status is Status.WAITING and (turn_has_come or (own_pace and child.begun)):
                held = child.spec.needs_ledger and not self._dependency_up
                if not held and child.not_before_ns <= self._now_ns:
                    self._start(index)
            on_its_way = self._children[index].status not in (Status.RUNNING, Status.STOPPED)
            if on_its_way and not (own_pace and child.begun):
                turn_has_come = False
        if not self._announced and all(c.status in (Status.RUNNING, Status.STOPPED) for c in self._children):
            self._announced = True
            self._effects.append(AllRunning())

    def _start(self, index: int) -> None:
        child = self._children[index]
        incarnation = child.incarnation + 1
        self._change(
            index,
            status=Status.STARTING,
            incarnation=incarnation,
            deadline_ns=self._start_deadline(child),
        )
        self._effects.append(StartChild(child.role, incarnation))

    def _start_deadline(self, child: ChildState) -> int | None:
        """None for a supervisor: it times its own children's starts, and may wait for them as long as it must."""
        if not isinstance(child.spec, ChildSpec):
            return None
        return self._now_ns + round(child.spec.start_timeout_s * NS)

    def _stop(self, index: int) -> None:
        child = self._children[index]
        self._change(index, status=Status.STOPPING)
        if child.killed:
            return
        if child.spec.shutdown_s == 0:
            self._kill(index, None)
            return
        self._change(index, deadline_ns=self._now_ns + round(child.spec.shutdown_s * NS))
        self._effects.append(StopChild(child.role, child.incarnation, child.spec.shutdown_s))

    def _kill(self, index: int, blame: ExitReason | None) -> None:
        child = self._children[index]
        self._count(kills=1)
        self._change(index, killed=True, blame=blame, deadline_ns=self._now_ns + KILL_AGAIN_NS)
        self._effects.append(KillChild(child.role, child.incarnation))

    def _wake(self) -> None:
        """Name the next moment at which time alone changes something."""
        if self._mode is Mode.ENDED:
            return
        moments = [child.deadline_ns for child in self._children if child.live and child.deadline_ns is not None]
        moments += [
            child.not_before_ns
            for child in self._children
            if child.status is Status.WAITING and child.not_before_ns > self._now_ns
        ]
        wake_at_ns = max(min(moments), self._now_ns) if moments else None
        # A tick uses the timer up, be it early or late; otherwise one that stands is not set again.
        if wake_at_ns is not None and (self._ticked or wake_at_ns != self._wake_at_ns):
            self._effects.append(WakeAt(wake_at_ns))
        self._wake_at_ns = wake_at_ns

    def _change(self, index: int, **fields: object) -> None:
        self._children[index] = msgspec.structs.replace(self._children[index], **fields)

    def _count(self, **more: int) -> None:
        counters = self._counters
        self._counters = msgspec.structs.replace(
            counters, **{name: getattr(counters, name) + n for name, n in more.items()}
        )
