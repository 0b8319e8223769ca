"""Erlang/OTP's restart semantics, case by case, driven by hand."""

from __future__ import annotations

import pytest

from supervisors import policy
from supervisors.policy import Effect, Event
from supervisors.spec import Backoff, ChildSpec, ExitReason, RestartType, Strategy, SupervisorSpec
from tests.supervisors.test_spec import supervisor, worker

NS = 1_000_000_000
NO_BACKOFF = Backoff(0.0, 1.0, 0.0)


class Hand:
    """Feeds events by hand and keeps what came of the last one."""

    def __init__(self, spec: SupervisorSpec, dependency_up: bool = True) -> None:
        self.state = policy.initial_state(spec, dependency_up)
        self.now_s = 0.0
        self.effects: list[Effect] = []
        self.tick()

    def give(self, event: Event) -> list[Effect]:
        self.state, effects = policy.step(self.state, event, round(self.now_s * NS))
        self.effects = [effect for effect in effects if not isinstance(effect, policy.WakeAt)]
        self.wakes = [effect.at_ns / NS for effect in effects if isinstance(effect, policy.WakeAt)]
        return self.effects

    def tick(self, now_s: float | None = None) -> list[Effect]:
        self.now_s = self.now_s if now_s is None else now_s
        return self.give(policy.Tick())

    def serve(self, role: str) -> list[Effect]:
        return self.give(policy.Started(role, self.incarnation(role)))

    def end(self, role: str, reason: ExitReason = ExitReason.CRASHED) -> list[Effect]:
        return self.give(policy.Exited(role, self.incarnation(role), reason))

    def incarnation(self, role: str) -> int:
        child = self.state.child(role)
        assert child is not None
        return child.incarnation

    def statuses(self) -> str:
        return " ".join(f"{child.role}:{child.status.value}" for child in self.state.children)

    def all_up(self) -> Hand:
        for child in self.state.spec.children:
            self.serve(child.role)
        assert self.state.all_running
        return self


def of(strategy: Strategy, *children: ChildSpec | str, intensity: int = 3, **changed: object) -> SupervisorSpec:
    specs = tuple(worker(child) if isinstance(child, str) else child for child in children)
    fields: dict[str, object] = {"backoff": NO_BACKOFF}
    return supervisor("sup", *specs, strategy=strategy, intensity=intensity, **(fields | changed))


def start(role: str, incarnation: int) -> policy.StartChild:
    return policy.StartChild(role, incarnation)


def stop(role: str, incarnation: int = 1, shutdown_s: float = 1.0) -> policy.StopChild:
    return policy.StopChild(role, incarnation, shutdown_s)


# Order


def test_children_start_left_to_right_each_after_the_one_before_reported_started() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ONE, "a", "b", "c"))
    assert hand.effects == [start("a", 1)]
    assert hand.tick(1.0) == []
    assert hand.serve("a") == [start("b", 1)]
    assert hand.serve("b") == [start("c", 1)]
    assert hand.serve("c") == [policy.AllRunning()]
    assert hand.tick(2.0) == []


def test_children_stop_in_reverse_each_after_the_one_to_its_right_is_gone() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ONE, "a", "b", "c")).all_up()
    assert hand.give(policy.StopRequested()) == [stop("c")]
    assert hand.end("c", ExitReason.SHUTDOWN) == [stop("b")]
    assert hand.end("b", ExitReason.SHUTDOWN) == [stop("a")]
    assert hand.end("a", ExitReason.SHUTDOWN) == [policy.AllStopped()]
    assert hand.statuses() == "a:stopped b:stopped c:stopped"


def test_a_stop_during_the_start_stops_what_has_begun_and_starts_nothing_more() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ONE, "a", "b", "c"))
    hand.serve("a")
    assert hand.give(policy.StopRequested()) == [stop("b")]
    assert hand.serve("b") == []
    assert hand.end("b") == [stop("a")]
    assert hand.end("a") == [policy.AllStopped()]


def test_a_supervisor_without_children_has_started_at_once_and_stops_at_once() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ONE))
    assert hand.effects == [policy.AllRunning()]
    assert hand.give(policy.StopRequested()) == [policy.AllStopped()]


def test_a_stop_that_takes_too_long_becomes_a_kill_repeated_until_the_exit_is_noticed() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ONE, "a", worker("b", shutdown_s=2.5))).all_up()
    assert hand.give(policy.StopRequested()) == [stop("b", shutdown_s=2.5)]
    assert hand.wakes == [2.5]
    assert hand.tick(2.4) == []
    assert hand.tick(2.5) == [policy.KillChild("b", 1)]
    assert hand.wakes == [3.5]
    assert hand.tick(3.5) == [policy.KillChild("b", 1)]
    assert hand.end("b") == [stop("a")]


def test_a_child_without_shutdown_time_is_killed_at_once() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ONE, worker("a", shutdown_s=0.0))).all_up()
    assert hand.give(policy.StopRequested()) == [policy.KillChild("a", 1)]
    assert hand.end("a") == [policy.AllStopped()]


# Restart type x exit reason

ABNORMAL = [
    ExitReason.CRASHED,
    ExitReason.KILLED_HUNG,
    ExitReason.DEPENDENCY_DOWN,
    ExitReason.STARTUP_FAILED,
    ExitReason.STARTUP_TIMED_OUT,
    ExitReason.FENCED,
    ExitReason.ESCALATED,
]
TABLE = (
    [(RestartType.PERMANENT, reason, True) for reason in ExitReason]
    + [(RestartType.TRANSIENT, reason, True) for reason in ABNORMAL]
    + [(RestartType.TRANSIENT, reason, False) for reason in (ExitReason.NORMAL, ExitReason.SHUTDOWN)]
    + [(RestartType.TEMPORARY, reason, False) for reason in ExitReason]
)


@pytest.mark.parametrize(
    ("restart_type", "reason", "restarted"), TABLE, ids=lambda value: getattr(value, "value", None)
)
@pytest.mark.parametrize("strategy", Strategy, ids=lambda strategy: strategy.value)
def test_restart_type_and_exit_reason_decide_whether_a_child_comes_back(
    restart_type: RestartType, reason: ExitReason, restarted: bool, strategy: Strategy
) -> None:
    hand = Hand(of(strategy, worker("a", restart_type=restart_type))).all_up()
    effects = hand.end("a", reason)
    assert effects == ([start("a", 2)] if restarted else [])
    assert hand.state.counters.restarts_counted == int(restarted)
    child = hand.state.child("a")
    assert child is not None
    assert (child.last_exit, child.restarts) == (reason, int(restarted))


def test_every_pair_of_restart_type_and_exit_reason_stands_in_the_table() -> None:
    assert len({(kind, reason) for kind, reason, _ in TABLE}) == len(RestartType) * len(ExitReason)


@pytest.mark.parametrize("strategy", Strategy, ids=lambda strategy: strategy.value)
def test_an_exit_that_is_not_restarted_leaves_the_siblings_alone(strategy: Strategy) -> None:
    hand = Hand(of(strategy, worker("a", restart_type=RestartType.TRANSIENT), "b")).all_up()
    assert hand.end("a", ExitReason.NORMAL) == []
    assert hand.statuses() == "a:stopped b:running"


# Strategies


def test_one_for_one_restarts_only_the_child_that_ended() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ONE, "a", "b", "c")).all_up()
    assert hand.end("b") == [start("b", 2)]
    assert hand.statuses() == "a:running b:starting c:running"


def test_one_for_one_restarts_do_not_wait_for_one_another() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ONE, "a", "b", "c")).all_up()
    assert hand.end("a") == [start("a", 2)]
    assert hand.end("c") == [start("c", 2)]


def test_one_for_all_stops_the_others_in_reverse_then_starts_all_in_order() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ALL, "a", "b", "c")).all_up()
    assert hand.end("b") == [stop("c")]
    assert hand.end("c", ExitReason.SHUTDOWN) == [stop("a")]
    assert hand.end("a", ExitReason.SHUTDOWN) == [start("a", 2)]
    assert hand.serve("a") == [start("b", 2)]
    assert hand.serve("b") == [start("c", 2)]
    assert hand.serve("c") == []
    assert hand.state.counters.restarts_counted == 1


def test_rest_for_one_stops_and_restarts_only_what_stands_to_the_right() -> None:
    hand = Hand(of(Strategy.REST_FOR_ONE, "a", "b", "c", "d")).all_up()
    assert hand.end("b") == [stop("d")]
    assert hand.end("d") == [stop("c")]
    assert hand.end("c") == [start("b", 2)]
    assert hand.serve("b") == [start("c", 2)]
    assert hand.serve("c") == [start("d", 2)]
    assert hand.statuses() == "a:running b:running c:running d:starting"


def test_a_second_exit_further_left_widens_a_group_restart_under_way() -> None:
    hand = Hand(of(Strategy.REST_FOR_ONE, "a", "b", "c")).all_up()
    assert hand.end("b") == [stop("c")]
    assert hand.end("a") == []
    assert hand.end("c") == [start("a", 2)]
    assert hand.serve("a") == [start("b", 2)]
    assert hand.state.counters.restarts_counted == 2


def test_a_sibling_that_crashes_while_it_waits_to_be_stopped_is_not_counted() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ALL, "a", "b", "c")).all_up()
    assert hand.end("a") == [stop("c")]
    assert hand.end("b", ExitReason.CRASHED) == []
    assert hand.end("c") == [start("a", 2)]
    assert hand.state.counters.restarts_counted == 1


def test_a_sibling_still_starting_is_stopped_with_its_group() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ALL, "a", "b"))
    hand.serve("a")
    assert hand.end("a") == [stop("b")]
    assert hand.serve("b") == []
    assert hand.end("b") == [start("a", 2)]


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE], ids=lambda s: s.value)
def test_a_temporary_child_that_a_siblings_restart_stopped_never_comes_back(strategy: Strategy) -> None:
    hand = Hand(of(strategy, "a", worker("b", restart_type=RestartType.TEMPORARY), "c")).all_up()
    assert hand.end("a") == [stop("c")]
    assert hand.end("c") == [stop("b")]
    assert hand.end("b") == [start("a", 2)]
    assert hand.serve("a") == [start("c", 2)]
    assert hand.statuses() == "a:running b:stopped c:starting"


def test_a_temporary_child_that_ended_by_itself_is_not_revived_by_its_group() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ALL, "a", worker("b", restart_type=RestartType.TEMPORARY))).all_up()
    hand.end("b", ExitReason.CRASHED)
    assert hand.end("a") == [start("a", 2)]
    assert hand.serve("a") == []
    assert hand.statuses() == "a:running b:stopped"


def test_a_temporary_child_never_started_yet_keeps_its_turn_through_a_siblings_restart() -> None:
    hand = Hand(of(Strategy.REST_FOR_ONE, "a", worker("b", restart_type=RestartType.TEMPORARY)))
    assert hand.end("a") == [start("a", 2)]
    assert hand.serve("a") == [start("b", 1)]


def test_a_transient_child_that_ended_normally_comes_back_with_its_group() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ALL, "a", worker("b", restart_type=RestartType.TRANSIENT))).all_up()
    hand.end("b", ExitReason.NORMAL)
    assert hand.end("a") == [start("a", 2)]
    assert hand.serve("a") == [start("b", 2)]


# Intensity and backoff


def test_one_restart_more_than_the_intensity_stops_the_children_in_reverse_and_escalates() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ONE, "a", "b", "c", intensity=2)).all_up()
    for _ in range(2):
        assert hand.end("b") == [start("b", hand.incarnation("b"))]
        hand.serve("b")
    assert hand.end("b") == [stop("c")]
    assert hand.end("c") == [stop("a")]
    (escalation,) = hand.end("a")
    assert escalation == policy.Escalate("sup: more than 2 restarts in 5 s; the last was b (crashed)")
    assert hand.tick(1000.0) == []


def test_an_intensity_of_zero_escalates_at_the_first_exit() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ONE, "a", intensity=0)).all_up()
    assert [type(effect) for effect in hand.end("a")] == [policy.Escalate]


def test_a_child_supervisor_that_spends_its_budget_again_and_again_spends_its_parents() -> None:
    """Each escalation takes it most of a period, so that the parent's own window never sees more than one."""
    hand = Hand(of_supervisors("left", "right")).all_up()
    for n in range(1, policy.ESCALATIONS_MAX + 1):
        hand.tick(n * 30.0)
        assert hand.end("left", ExitReason.ESCALATED) == [start("left", n + 1)]
        hand.serve("left")
    hand.tick(120.0)
    assert hand.end("left", ExitReason.ESCALATED) == [stop("right", shutdown_s=2.0)]
    (escalation,) = hand.end("right")
    assert escalation == policy.Escalate("sup: more than 3 escalations in 100 s; the last was left (escalated)")


def test_escalations_far_apart_and_kills_of_a_child_supervisor_spend_nothing_but_the_usual_budget() -> None:
    hand = Hand(of_supervisors("only")).all_up()
    for n in range(1, 20):
        hand.tick(n * 40.0)
        reason = ExitReason.ESCALATED if n % 2 else ExitReason.CRASHED
        assert hand.end("only", reason) == [start("only", n + 1)]
        hand.serve("only")


def of_supervisors(*roles: str) -> SupervisorSpec:
    children = tuple(supervisor(role, worker(f"{role}.leaf")) for role in roles)
    return SupervisorSpec("sup", Strategy.ONE_FOR_ONE, 10, 5.0, NO_BACKOFF, children)


def test_restarts_older_than_the_period_are_forgiven_and_those_just_within_are_not() -> None:
    within = Hand(of(Strategy.ONE_FOR_ONE, "a", intensity=1)).all_up()
    within.end("a")
    within.serve("a")
    within.tick(5.0)
    assert [type(effect) for effect in within.end("a")] == [policy.Escalate]

    beyond = Hand(of(Strategy.ONE_FOR_ONE, "a", intensity=1)).all_up()
    beyond.end("a")
    beyond.serve("a")
    beyond.tick(5.0 + 1e-6)
    assert beyond.end("a") == [start("a", 3)]


def test_the_budget_is_the_supervisors_not_the_childs() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ONE, "a", "b", intensity=1)).all_up()
    hand.end("a")
    assert hand.end("b") == [stop("a", 2)]


def test_a_stop_asked_for_while_escalating_ends_as_the_stop() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ONE, "a", "b", intensity=0)).all_up()
    assert hand.end("b") == [stop("a")]
    assert hand.give(policy.StopRequested()) == []
    assert hand.end("a") == [policy.AllStopped()]


def test_restarts_in_a_row_back_off_and_a_quiet_period_forgets_them() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ONE, "a", intensity=100, backoff=Backoff(0.0, 2.0, 5.0))).all_up()
    assert hand.end("a") == [start("a", 2)]
    hand.serve("a")
    assert hand.end("a") == []
    assert hand.statuses() == "a:waiting"
    assert hand.wakes == [0.1]
    assert hand.tick(0.05) == []
    assert hand.wakes == [0.1]
    assert hand.tick(0.1) == [start("a", 3)]
    hand.serve("a")
    hand.tick(5.2)
    assert hand.end("a") == [start("a", 4)]


def test_what_stands_to_the_right_waits_out_the_backoff_of_the_child_that_crashed() -> None:
    hand = Hand(of(Strategy.REST_FOR_ONE, "a", "b", backoff=Backoff(1.0, 2.0, 5.0))).all_up()
    assert hand.end("a") == [stop("b")]
    assert hand.end("b") == []
    assert hand.tick(1.0) == [start("a", 2)]


# Starts that fail


def test_a_start_that_never_completes_is_killed_and_counts_as_an_exit() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ONE, worker("a", start_timeout_s=3.0)))
    assert hand.wakes == [3.0]
    assert hand.tick(3.0) == [policy.KillChild("a", 1)]
    assert hand.serve("a") == [], "too late: its kill is on its way"
    assert hand.end("a") == [start("a", 2)]
    child = hand.state.child("a")
    assert child is not None
    assert child.last_exit is ExitReason.STARTUP_TIMED_OUT
    assert (hand.state.counters.starts_timed_out, hand.state.counters.restarts_counted) == (1, 1)


def test_a_start_that_fails_again_and_again_escalates() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ONE, "a", "b", intensity=2))
    assert hand.end("a", ExitReason.STARTUP_FAILED) == [start("a", 2)]
    assert hand.end("a", ExitReason.STARTUP_FAILED) == [start("a", 3)]
    assert [type(effect) for effect in hand.end("a", ExitReason.STARTUP_FAILED)] == [policy.Escalate]


def test_a_child_supervisor_may_take_as_long_as_it_needs_to_start() -> None:
    hand = Hand(supervisor("root", supervisor("market", worker("book"))))
    assert hand.wakes == []
    assert hand.tick(10_000.0) == []


def test_a_hung_child_is_killed_and_its_exit_stands_as_that_whatever_is_reported() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ONE, "a")).all_up()
    assert hand.give(policy.Hung("a", 1)) == [policy.KillChild("a", 1)]
    assert hand.end("a", ExitReason.NORMAL) == [start("a", 2)]
    child = hand.state.child("a")
    assert child is not None
    assert child.last_exit is ExitReason.KILLED_HUNG


# Notices that are old, double or strange


def test_the_second_notice_of_one_exit_is_counted_and_ignored() -> None:
    """The actor system reports a SIGTERM of an idle actor twice."""
    hand = Hand(of(Strategy.ONE_FOR_ONE, "a")).all_up()
    exited = policy.Exited("a", 1, ExitReason.CRASHED)
    assert hand.give(exited) == [start("a", 2)]
    assert hand.give(exited) == []
    assert hand.statuses() == "a:starting"
    assert hand.state.counters == policy.PolicyCounters(notices_ignored=1, restarts_counted=1)


def test_the_second_notice_of_a_child_that_waits_out_its_backoff_does_not_count_again() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ONE, "a", backoff=Backoff(1.0, 2.0, 5.0))).all_up()
    hand.end("a")
    assert hand.end("a") == []
    assert hand.state.counters == policy.PolicyCounters(notices_ignored=1, restarts_counted=1)
    assert hand.tick(1.0) == [start("a", 2)]


@pytest.mark.parametrize(
    "event",
    [
        policy.Started("a", 1),
        policy.Exited("a", 1, ExitReason.CRASHED),
        policy.Exited("a", 3, ExitReason.CRASHED),
        policy.Hung("a", 1),
        policy.Started("nobody", 1),
        policy.Exited("nobody", 1, ExitReason.CRASHED),
    ],
)
def test_news_of_another_incarnation_or_an_unknown_role_changes_nothing(event: Event) -> None:
    hand = Hand(of(Strategy.ONE_FOR_ONE, "a")).all_up()
    hand.end("a")
    before = hand.state.children
    assert hand.give(event) == []
    assert hand.state.children == before
    assert hand.state.counters.notices_ignored == 1


def test_incarnations_begin_above_the_base_that_a_restarted_supervisor_gives() -> None:
    state = policy.initial_state(of(Strategy.ONE_FOR_ONE, "a"), incarnation_base=1_000_000)
    assert policy.step(state, policy.Tick(), 0)[1][0] == start("a", 1_000_001)


def test_a_clock_that_goes_back_is_refused() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ONE, "a"))
    hand.tick(5.0)
    with pytest.raises(ValueError, match="clock"):
        hand.tick(4.9)
