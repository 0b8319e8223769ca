"""What Thespian gets wrong about failures, mended one by one, shown with real processes."""

from __future__ import annotations

import pytest

from tests.supervisors.conftest import Theatre

pytestmark = pytest.mark.process


def test_an_exception_in_a_handler_ends_the_process_after_exactly_one_execution(theatre: Theatre) -> None:
    seen = theatre.play("handler_raises")
    assert seen["exits"] == [0, 1]
    for number in (0, 1):
        assert len((theatre.folder / f"effect{number}").read_text().splitlines()) == 1
    assert "ValueError: on purpose" in theatre.output()
    assert "Player failed on Do" in theatre.output()


def test_native_faults_and_signals_end_the_process_and_the_parent_hears_of_each_once(theatre: Theatre) -> None:
    seen = theatre.play("faults")
    assert seen["exits"] == [*range(len(seen["kinds"])), len(seen["kinds"])]
    assert not any(seen["alive"])
    assert "Fatal Python error: Segmentation fault" in theatre.output()


def test_sigterm_ends_an_idle_and_a_busy_actor_and_the_parent_hears_of_each_once(theatre: Theatre) -> None:
    assert theatre.play("terminated_idle_and_busy")["exits"] == [0, 1, 2]


def test_a_hung_process_killed_by_its_pid_is_noticed(theatre: Theatre) -> None:
    assert theatre.play("stopped_child_killed")["exits"] == [0]


def test_an_actor_that_fails_while_it_is_made_is_noticed(theatre: Theatre) -> None:
    assert 0 in theatre.play("stillborn")["exits"]


def test_a_child_killed_before_it_could_speak_and_one_that_could_not_be_forked_are_noticed(theatre: Theatre) -> None:
    """The actor system says nothing of either."""
    assert theatre.play("never_there")["exits"] == [0, 1]


def test_an_exit_notice_for_a_living_childs_address_is_not_believed(theatre: Theatre) -> None:
    """Addresses are ports, and a new child may be given the port of one whose notice is still on its way."""
    assert theatre.play("notice_of_another") == {"before": [], "after": [0]}


def test_the_children_of_a_killed_supervisor_do_not_live_on(theatre: Theatre) -> None:
    assert theatre.play("supervisor_killed")["gone"] == 3


def test_a_watch_outlives_messages_and_timers_until_it_is_taken_off(theatre: Theatre) -> None:
    assert theatre.play("watches") == {"seen": ["a", "b", "c"], "after_unwatch": False}


def test_timers_that_come_due_together_arrive_in_order(theatre: Theatre) -> None:
    seen = theatre.play("timers")["seen"]
    assert seen == sorted(seen)


def test_what_the_actor_system_leaves_open_about_processes_is_known(theatre: Theatre) -> None:
    seen = theatre.play("process_facts")
    assert seen["told"] == seen["own"], "the creator knows the pid before the child has spoken"
    assert seen["handlers"] == ["StreamHandler"], "no log record travels as a message"
    assert "a record of the standard library" in theatre.output()
    assert seen["title"] == "apex feed.spot.0"
    assert seen["passed"] == ["by way of the other"]
