"""The book role: each state × each message."""

from __future__ import annotations

import msgspec
import pytest

from actors.book import AUDIT_ALARM, COPY_ALARM, FEEDS_ALARM, Book, BookState
from actors.core import new_core
from actors.effects import AppendLine, ClearAlarm, Count, Drive, Effect, RaiseAlarm
from actors.messages import (
    AnyMessage,
    AuditFinished,
    BookStatus,
    HaltChanged,
    ImageOpened,
    OpenImage,
    Recovered,
    TimerFired,
)
from actors.snapshot import decode_snapshot, encode_snapshot
from tests.actors.roles import SECOND_NS, fold, step

ROLE = Book()
OPENED = ImageOpened("i1", 60, ("spot.0.0",), True, "venue")
COPY = ImageOpened("i1", 60, ("spot.0.0",), False, "kept_copy")


def status(up: tuple[str, ...] = ("spot.0.0",), down: tuple[str, ...] = (), rows_valid: int = 60) -> BookStatus:
    return BookStatus(rows_valid, 0, {}, up, down, 0, 0)


NEW = BookState()
OPEN = fold(ROLE, OPENED)
LIVE = fold(ROLE, OPENED, status())
WRONG = fold(ROLE, OPENED, status(), AuditFinished(9, ("BTCUSDT",)))
LOST = status((), ("spot.0.0",))


@pytest.mark.parametrize(
    ("state", "body", "kinds", "changes"),
    [
        (NEW, Recovered(3), [Drive], False),
        (WRONG, Recovered(3), [Drive], False),
        (NEW, OPENED, [Count, ClearAlarm], True),
        (OPEN, OPENED, [Count, ClearAlarm], False),
        (OPEN, COPY, [Count, RaiseAlarm], True),
        (OPEN, status(), [ClearAlarm], True),
        (LIVE, status(rows_valid=3), [ClearAlarm], False),
        (LIVE, LOST, [RaiseAlarm], True),
        (fold(ROLE, OPENED, LOST), LOST, [RaiseAlarm], False),
        (LIVE, AuditFinished(9, ()), [Count], False),
        (LIVE, AuditFinished(9, ("BTCUSDT",)), [Count, Count, RaiseAlarm, AppendLine], True),
        (WRONG, AuditFinished(9, ("BTCUSDT",)), [Count, RaiseAlarm], False),
        (WRONG, AuditFinished(9, ()), [Count, ClearAlarm], True),
        (LIVE, HaltChanged("why", 1), [], False),
        (LIVE, TimerFired("x"), [Count], False),
    ],
)
def test_each_state_and_message(state: BookState, body: AnyMessage, kinds: list[type[Effect]], changes: bool) -> None:
    after, effects = step(ROLE, state, body)
    assert [type(effect) for effect in effects] == kinds
    assert (after is not state) == changes


def test_every_incarnation_opens_the_image() -> None:
    assert step(ROLE, LIVE, Recovered(7))[1] == (Drive(OpenImage(7)),)


def test_alarms_say_what_is_wrong() -> None:
    texts = {
        effect.name: effect.text
        for body in (COPY, LOST, AuditFinished(9, ("BTCUSDT", "ETHUSDT")))
        for effect in step(ROLE, LIVE, body)[1]
        if isinstance(effect, RaiseAlarm)
    }
    assert "last good listing" in texts[COPY_ALARM]
    assert "spot.0.0" in texts[FEEDS_ALARM]
    assert "BTCUSDT, ETHUSDT" in texts[AUDIT_ALARM]


def test_a_row_wrong_in_many_audits_is_one_mismatch() -> None:
    wrong, worse = AuditFinished(9, ("A",)), AuditFinished(9, ("A", "B"))
    assert fold(ROLE, OPENED, wrong, wrong, worse, worse).mismatches == 2
    assert fold(ROLE, OPENED, wrong, AuditFinished(9, ()), wrong).mismatches == 2


def test_the_state_survives_a_snapshot_and_is_shown() -> None:
    core = msgspec.structs.replace(new_core(ROLE), role=WRONG, seq=3)
    assert decode_snapshot(ROLE, encode_snapshot(ROLE, core)).role == WRONG
    shown = ROLE.show(WRONG, SECOND_NS)
    assert shown["feeds"] == "1 up, 0 down"
    assert "BTCUSDT" in shown["audit"]
    assert ROLE.show(NEW, 0) == {"image": "none yet"}
    many = fold(ROLE, OPENED, AuditFinished(99, tuple(f"S{n}" for n in range(40))))
    assert "and 30 more" in ROLE.show(many, 0)["audit"]
