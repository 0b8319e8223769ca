"""What a supervisor makes of exits and starts while the ledger is away, or said to be."""

from __future__ import annotations

from supervisors import policy
from supervisors.policy import Status
from supervisors.spec import Backoff, ExitReason, Strategy, SupervisorSpec
from tests.supervisors.test_policy import Hand, of, start
from tests.supervisors.test_spec import supervisor, worker


def ledger_users(strategy: Strategy = Strategy.ONE_FOR_ONE, **changed: object) -> SupervisorSpec:
    return of(strategy, worker("a", depends_on_ledger=True), "b", intensity=1, **changed)


def test_nothing_that_needs_the_ledger_starts_while_it_is_away() -> None:
    hand = Hand(ledger_users(), dependency_up=False)
    assert hand.effects == []
    assert hand.tick(100.0) == []
    assert hand.give(policy.DependencyUp()) == [start("a", 1)]


def test_exits_while_the_ledger_is_away_do_not_count_whatever_their_reason() -> None:
    hand = Hand(ledger_users()).all_up()
    hand.give(policy.DependencyDown())
    for reason in (ExitReason.DEPENDENCY_DOWN, ExitReason.CRASHED, ExitReason.KILLED_HUNG):
        assert hand.end("a", reason) == []
        assert hand.give(policy.DependencyUp()) == [start("a", hand.incarnation("a"))]
        hand.give(policy.DependencyDown())
    assert hand.state.counters.exits_uncounted == 3
    assert hand.state.counters.restarts_counted == 0


def test_an_exit_without_need_of_the_ledger_counts_while_it_is_away() -> None:
    hand = Hand(ledger_users()).all_up()
    hand.give(policy.DependencyDown())
    assert hand.end("b") == [start("b", 2)]
    assert hand.state.counters.restarts_counted == 1


def test_an_exit_told_before_the_outage_was_noticed_does_not_count_but_backs_off() -> None:
    hand = Hand(ledger_users(backoff=Backoff(1.0, 2.0, 5.0))).all_up()
    assert hand.end("a", ExitReason.DEPENDENCY_DOWN) == []
    assert hand.state.counters.restarts_counted == 0
    hand.give(policy.DependencyDown())
    assert hand.tick(1.0) == []
    assert hand.give(policy.DependencyUp()) == [start("a", 2)]


def test_the_ledgers_return_ends_the_backoff_of_those_that_wait_for_it() -> None:
    hand = Hand(ledger_users(backoff=Backoff(4.0, 2.0, 5.0))).all_up()
    hand.give(policy.DependencyDown())
    hand.end("a", ExitReason.DEPENDENCY_DOWN)
    hand.tick(1.0)
    assert hand.give(policy.DependencyUp()) == [start("a", 2)]


def test_a_child_that_keeps_blaming_a_ledger_that_is_up_is_counted_in_the_end() -> None:
    hand = Hand(ledger_users()).all_up()
    for _ in range(policy.DISPUTES_MAX):
        hand.end("a", ExitReason.DEPENDENCY_DOWN)
        hand.serve("a")
    assert hand.state.counters.restarts_counted == 0
    hand.end("a", ExitReason.DEPENDENCY_DOWN)
    assert hand.state.counters.restarts_counted == 1
    assert hand.state.counters.disputes == policy.DISPUTES_MAX + 1


def test_a_start_under_way_when_the_ledger_goes_away_gets_its_whole_time_again() -> None:
    hand = Hand(of(Strategy.ONE_FOR_ONE, worker("a", depends_on_ledger=True, start_timeout_s=3.0)))
    hand.give(policy.DependencyDown())
    assert hand.tick(100.0) == []
    hand.give(policy.DependencyUp())
    assert hand.wakes == [103.0]
    assert hand.tick(103.0) == [policy.KillChild("a", 1)]


def test_a_supervisor_needs_the_ledger_when_something_below_it_does() -> None:
    tree = supervisor("root", supervisor("market", worker("book", depends_on_ledger=True)), worker("x"))
    hand = Hand(tree, dependency_up=False)
    assert hand.effects == []


def test_status_waiting_is_shown_for_children_that_are_to_come_back() -> None:
    hand = Hand(ledger_users()).all_up()
    hand.give(policy.DependencyDown())
    hand.end("a")
    child = hand.state.child("a")
    assert child is not None
    assert child.status is Status.WAITING
    assert not hand.state.all_running
