"""The policy against a naive world of processes that crash, hang, dawdle and are reported late, twice or never yet.

The checks share nothing with the policy: they look only at which processes exist and what has been reported of them.
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field

from hypothesis import given, note, settings
from hypothesis import strategies as st

from supervisors import policy
from supervisors.spec import Backoff, ChildSpec, ExitReason, RestartType, Strategy, SupervisorSpec

MS = 1_000_000
CHAOS_MS = 20_000
CALM_MS = 400_000


@dataclass
class Process:
    """One incarnation as the world has it, and as it has been reported."""

    incarnation: int
    alive: bool = True
    reported_started: bool = False
    stop_asked: bool = False
    kill_asked: bool = False
    reported_gone: bool = False


@dataclass
class World:
    """Runs effects as a flawed operating system would, and checks each."""

    spec: SupervisorSpec
    rng: random.Random
    trouble: float
    now_ms: int = 0
    calm: bool = False
    over: str = ""
    ledger_up: bool = True
    announced: int = 0
    queue: list[tuple[int, int, policy.Event]] = field(default_factory=list)
    number: itertools.count[int] = field(default_factory=itertools.count)
    latest: dict[str, Process] = field(default_factory=dict)
    ever_started: set[str] = field(default_factory=set)
    unasked_ms: list[int] = field(default_factory=list)
    stopping: bool = False

    def __post_init__(self) -> None:
        self.state = policy.initial_state(self.spec)
        self.roles = [child.role for child in self.spec.children]

    # The world

    def later(self, delay_ms: int, event: policy.Event) -> None:
        heapq.heappush(self.queue, (self.now_ms + delay_ms, next(self.number), event))

    def chance(self, probability: float) -> bool:
        return not self.calm and self.rng.random() < probability

    def dies(self, role: str, reason: ExitReason) -> None:
        """The process ends; the notice comes some time later, perhaps twice."""
        process = self.latest[role]
        process.alive = False
        for _ in range(2 if self.chance(0.3) else 1):
            self.later(self.rng.randint(0, 30), policy.Exited(role, process.incarnation, reason))

    def any_reason(self, role: str) -> ExitReason:
        reasons = [ExitReason.CRASHED, ExitReason.NORMAL, ExitReason.FENCED]
        if self.child(role).depends_on_ledger and not self.ledger_up:
            return ExitReason.DEPENDENCY_DOWN
        return self.rng.choice(reasons)

    def child(self, role: str) -> ChildSpec:
        spec = next(child for child in self.spec.children if child.role == role)
        assert isinstance(spec, ChildSpec)
        return spec

    def chaos(self) -> None:
        """Something unasked for happens now and then."""
        alive = [role for role, process in self.latest.items() if process.alive]
        if alive and self.chance(self.trouble):
            role = self.rng.choice(alive)
            if self.rng.random() < 0.3:
                self.later(0, policy.Hung(role, self.latest[role].incarnation))
            else:
                self.dies(role, self.any_reason(role))
        if self.chance(0.02):
            self.ledger_up = not self.ledger_up
            self.later(0, policy.DependencyUp() if self.ledger_up else policy.DependencyDown())
        if self.latest and self.chance(0.05):
            role = self.rng.choice(list(self.latest))
            old = max(0, self.latest[role].incarnation - 1)
            self.later(0, self.rng.choice([policy.Exited(role, old, ExitReason.CRASHED), policy.Started(role, old)]))

    # Events in, effects out

    def give(self, event: policy.Event) -> None:
        self.before(event)
        self.state, effects = policy.step(self.state, event, self.now_ms * MS)
        for effect in effects:
            assert not self.over, f"{effect} after the end"
            self.run(effect)

    def before(self, event: policy.Event) -> None:
        """Keep what has been reported so far."""
        if isinstance(event, policy.StopRequested):
            self.stopping = True
        if not isinstance(event, policy.Exited | policy.Started):
            return
        process = self.latest.get(event.role)
        if process is None or process.incarnation != event.incarnation or process.reported_gone:
            return
        if isinstance(event, policy.Started):
            process.reported_started = True
            self.ever_started.add(event.role)
        else:
            process.reported_gone = True
            if not process.stop_asked:
                self.unasked_ms.append(self.now_ms)

    def run(self, effect: policy.Effect) -> None:
        match effect:
            case policy.StartChild(role=role, incarnation=incarnation):
                self.start(role, incarnation)
            case policy.StopChild(role=role, incarnation=incarnation):
                self.stop(role, incarnation)
            case policy.KillChild(role=role, incarnation=incarnation):
                self.kill(role, incarnation)
            case policy.WakeAt(at_ns=at_ns):
                # A timer may be a little late and, being spurious, early.
                self.later(max(0, -(-at_ns // MS) - self.now_ms) + self.rng.randint(0, 3), policy.Tick())
            case policy.AllRunning():
                self.announced += 1
                assert self.announced == 1
            case policy.Escalate() | policy.AllStopped():
                self.end(effect)

    def start(self, role: str, incarnation: int) -> None:
        former = self.latest.get(role)
        assert former is None or not former.alive, f"two incarnations of {role} live at once"
        assert former is None or former.reported_gone
        assert incarnation == (former.incarnation if former else 0) + 1
        assert not self.stopping, "a start after the stop was asked for"
        spec = self.child(role)
        assert not (spec.depends_on_ledger and not self.state.dependency_up)
        if spec.restart_type is RestartType.TEMPORARY:
            assert incarnation == 1
        if self.spec.strategy is not Strategy.ONE_FOR_ONE or incarnation == 1:
            self.check_left_of(role)
        self.latest[role] = Process(incarnation)
        if self.chance(self.trouble):
            # Else it hangs in its start.
            if self.rng.random() < 0.7:
                self.dies(role, ExitReason.STARTUP_FAILED)
            return
        self.later(self.rng.randint(0, 50), policy.Started(role, incarnation))

    def check_left_of(self, role: str) -> None:
        for left in self.roles[: self.roles.index(role)]:
            process = self.latest.get(left)
            assert process is not None, f"{role} started before {left} ever was"
            if self.spec.strategy is Strategy.ONE_FOR_ONE and left in self.ever_started:
                continue
            if process.reported_gone:
                assert self.child(left).restart_type is not RestartType.PERMANENT
            else:
                assert process.reported_started, f"{role} started before {left} had"

    def stop(self, role: str, incarnation: int) -> None:
        process = self.latest[role]
        assert process.incarnation == incarnation
        for other in self.roles:
            one = self.latest.get(other)
            if other == role or one is None or one.reported_gone:
                continue
            assert not one.stop_asked, f"{role} stopped while {other} still stops"
            assert self.roles.index(other) < self.roles.index(role), f"{role} stopped before {other}, to its right"
        process.stop_asked = True
        if process.alive and not self.chance(0.2):
            self.dies(role, ExitReason.SHUTDOWN)

    def kill(self, role: str, incarnation: int) -> None:
        process = self.latest[role]
        assert process.incarnation == incarnation
        assert not process.reported_gone
        process.kill_asked = True
        if process.alive:
            self.dies(role, ExitReason.CRASHED)

    def end(self, effect: policy.Escalate | policy.AllStopped) -> None:
        assert not any(process.alive for process in self.latest.values()), "ended with children alive"
        self.over = type(effect).__name__
        if isinstance(effect, policy.Escalate):
            assert not self.stopping
            most = self.most_unasked_within_a_period()
            assert most > self.spec.intensity, f"escalated after only {most} exits nobody asked for"
        else:
            assert self.stopping

    def most_unasked_within_a_period(self) -> int:
        period_ms = round(self.spec.period_s * 1000)
        return max((sum(at <= one <= at + period_ms for one in self.unasked_ms) for at in self.unasked_ms), default=0)

    # The story

    def play(self, stop_at_ms: int | None) -> None:
        self.give(policy.Tick())
        if stop_at_ms is not None:
            self.later(stop_at_ms, policy.StopRequested())
        for at_ms in range(0, CHAOS_MS, 100):
            self.until(at_ms)
            self.chaos()
        self.calm = True
        if not self.ledger_up:
            self.ledger_up = True
            self.later(0, policy.DependencyUp())
        self.until(CHAOS_MS + CALM_MS)

    def until(self, end_ms: int) -> None:
        while self.queue and self.queue[0][0] <= end_ms:
            self.now_ms, _, event = heapq.heappop(self.queue)
            if isinstance(event, policy.Started) and self.is_dead(event):
                continue
            self.give(event)
        self.now_ms = end_ms

    def is_dead(self, event: policy.Started) -> bool:
        process = self.latest[event.role]
        return process.incarnation == event.incarnation and not process.alive


SPECS = st.builds(
    lambda strategy, children, intensity, first_s: SupervisorSpec(
        role="sup",
        strategy=strategy,
        intensity=intensity,
        period_s=5.0,
        backoff=Backoff(first_s, 2.0, 2.0),
        children=tuple(
            ChildSpec(
                role=f"c{number}",
                kind="worker",
                actor="a:b",
                restart_type=restart_type,
                shutdown_s=shutdown_s,
                depends_on_ledger=ledger,
                start_timeout_s=3.0,
            )
            for number, (restart_type, shutdown_s, ledger) in enumerate(children)
        ),
    ),
    st.sampled_from(Strategy),
    st.lists(
        st.tuples(st.sampled_from(RestartType), st.sampled_from([0.0, 0.5]), st.booleans()), min_size=0, max_size=5
    ),
    st.sampled_from([0, 1, 3, 1000]),
    st.sampled_from([0.0, 0.2]),
)


@settings(max_examples=250, deadline=None)
@given(
    spec=SPECS,
    seed=st.integers(0, 2**32 - 1),
    trouble=st.sampled_from([0.02, 0.2, 0.6]),
    stop_at_ms=st.one_of(st.none(), st.integers(0, CHAOS_MS)),
)
def test_whatever_happens_order_holds_and_in_the_end_all_run_or_all_are_gone(
    spec: SupervisorSpec, seed: int, trouble: float, stop_at_ms: int | None
) -> None:
    note(f"seed {seed}")
    world = World(spec, random.Random(seed), trouble)
    world.play(stop_at_ms)
    if world.over:
        return
    assert stop_at_ms is None, "a stop that was asked for never came to its end"
    assert world.state.all_running
    assert world.announced == 1
    for child in world.state.children:
        process = world.latest.get(child.role)
        assert process is not None
        assert process.alive == (child.status is policy.Status.RUNNING)
        if child.spec.restart_type is RestartType.PERMANENT:
            assert process.alive, f"{child.role} is permanent and gone"


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), intensity=st.sampled_from([0, 1, 2, 5]))
def test_under_one_for_one_the_budget_is_spent_exactly_when_a_naive_count_says_so(seed: int, intensity: int) -> None:
    """Permanent children, nothing to excuse: every exit that nobody asked for is a restart, or the last."""
    note(f"seed {seed}")
    children = tuple(ChildSpec(f"c{n}", "worker", "a:b", RestartType.PERMANENT, 0.5) for n in range(3))
    spec = SupervisorSpec("sup", Strategy.ONE_FOR_ONE, intensity, 5.0, Backoff(0.0, 1.0, 0.0), children)
    world = World(spec, random.Random(seed), 0.05)
    world.ledger_up = True
    world.play(None)
    counted = world.state.counters.restarts_counted
    restarts = sorted(world.unasked_ms)[:counted]
    windows = [sum(at - 5000 <= one <= at for one in restarts[: n + 1]) for n, at in enumerate(restarts)]
    if world.over:
        assert windows[-1] == intensity + 1
        windows = windows[:-1]
    assert all(count <= intensity for count in windows)
