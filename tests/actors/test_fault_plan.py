"""A fault plan in a real process: which rule strikes when, and that a crash does not meet its own rule again."""

from __future__ import annotations

import multiprocessing
import signal
from pathlib import Path

import pytest

from actors.adapters.fault_plan import FaultPlan
from actors.messages import Envelope, TimerFired
from actors.ports import FaultPoint, LedgerAway
from config.schema import FaultRule


def envelope(name: str) -> Envelope:
    return Envelope(name, "", "", "here", "there", 1, 0, TimerFired(name))


def plan(run_dir: Path, *rules: FaultRule, role: str = "broker.paper") -> FaultPlan:
    return FaultPlan(role, rules, 1, run_dir)


def sent(faults: FaultPlan, *names: str) -> list[str]:
    return [one.envelope.message_id for name in names for one in faults.on_send(envelope(name))]


def test_a_rule_strikes_on_its_nth_match_and_not_again(tmp_path: Path) -> None:
    faults = plan(tmp_path, FaultRule(point="send", action="drop", nth=2))
    assert sent(faults, "a", "b", "c", "d") == ["a", "c", "d"]


def test_a_rule_of_zero_times_strikes_without_end(tmp_path: Path) -> None:
    faults = plan(tmp_path, FaultRule(point="send", action="drop", nth=0, times=0))
    assert sent(faults, "a", "b", "c") == []


def test_a_duplicate_goes_twice_and_a_reordered_one_after_the_next(tmp_path: Path) -> None:
    rules = (FaultRule(point="send", action="duplicate"), FaultRule(point="send", action="reorder", nth=2))
    assert sent(plan(tmp_path, *rules), "a", "b", "c") == ["a", "a", "c", "b"]


def test_a_delay_lies_about_its_argument(tmp_path: Path) -> None:
    (one,) = plan(tmp_path, FaultRule(point="send", action="delay", arg_s=2.0)).on_send(envelope("a"))
    assert 1.0 <= one.after_s <= 3.0


def test_rules_of_other_roles_points_and_messages_do_not_strike(tmp_path: Path) -> None:
    rules = (
        FaultRule(role="allocator", point="receive", action="ledger_away", nth=0, times=0),
        FaultRule(point="after_ack", action="ledger_away", nth=0, times=0),
        FaultRule(point="receive", message="Recovered", action="ledger_away", nth=0, times=0),
    )
    plan(tmp_path, *rules).at(FaultPoint.RECEIVE, envelope("a"), "TimerFired")
    assert not list((tmp_path / "faults").iterdir())


def test_what_an_incarnation_struck_its_successor_does_not_strike_again(tmp_path: Path) -> None:
    rule = FaultRule(point="receive", action="ledger_away", times=2)
    for _ in range(2):
        with pytest.raises(LedgerAway):
            plan(tmp_path, rule).at(FaultPoint.RECEIVE, None, "Recovered")
    plan(tmp_path, rule).at(FaultPoint.RECEIVE, None, "Recovered")
    with pytest.raises(LedgerAway):  # another role counts for itself
        plan(tmp_path, rule, role="allocator").at(FaultPoint.RECEIVE, None, "Recovered")


def test_a_rule_whose_note_is_taken_away_counts_from_there(tmp_path: Path) -> None:
    note = tmp_path / "faults" / "0.broker.paper.1"
    note.parent.mkdir()
    note.touch()
    faults = plan(tmp_path, FaultRule(point="send", action="drop", nth=2))
    assert sent(faults, "a", "b", "c") == ["a", "b", "c"]
    note.unlink()
    assert sent(faults, "d", "e", "f") == ["d", "f"]
    assert note.exists()


def _meet(run_dir: str) -> None:
    plan(Path(run_dir), FaultRule(point="before_append", action="crash")).at(FaultPoint.BEFORE_APPEND, None, "Signal")


def test_a_crash_ends_the_process_once(tmp_path: Path) -> None:
    ends = []
    for _ in range(2):
        child = multiprocessing.get_context("spawn").Process(target=_meet, args=(str(tmp_path),))
        child.start()
        child.join(30)
        ends.append(child.exitcode)
    assert ends == [-signal.SIGKILL, 0]
