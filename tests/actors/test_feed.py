"""The feed role: each state × each message, and that its journal does not grow with time."""

from __future__ import annotations

import msgspec
import pytest

from actors.core import new_core
from actors.effects import ClearAlarm, Count, Drive, Effect, RaiseAlarm
from actors.feed import DOWN_ALARM, Feed, FeedState
from actors.messages import AnyMessage, FeedStatus, HaltChanged, Recovered, StartFeed, TimerFired
from actors.snapshot import decode_snapshot, encode_snapshot
from tests.actors.roles import SECOND_NS, fold, step

ROLE = Feed("feed.spot.0")


def status(up: bool, frames: int = 1, reason: str = "") -> FeedStatus:
    return FeedStatus(
        feed="feed.spot.0",
        up=up,
        reason=reason,
        frames=frames,
        parsed=frames,
        rejected={},
        quantity_capped=0,
        reconnects=0,
        lag_ns=1,
    )


NEW = FeedState()
UP = fold(ROLE, status(True))
DOWN = fold(ROLE, status(True), status(False, reason="connection lost"))


@pytest.mark.parametrize(
    ("state", "body", "kinds", "changes"),
    [
        (NEW, Recovered(3), [Drive], False),
        (UP, Recovered(3), [Drive], False),
        (DOWN, Recovered(3), [Drive], False),
        (NEW, status(True), [ClearAlarm, Count], True),
        (UP, status(True, 99), [], False),
        (DOWN, status(True), [ClearAlarm, Count], True),
        (NEW, status(False), [RaiseAlarm], False),
        (UP, status(False), [RaiseAlarm, Count], True),
        (DOWN, status(False), [RaiseAlarm], False),
        (NEW, HaltChanged("why", 1), [], False),
        (UP, HaltChanged("", 1), [], False),
        (DOWN, HaltChanged("why", 1), [], False),
        (UP, TimerFired("x"), [Count], False),
    ],
)
def test_each_state_and_message(state: FeedState, body: AnyMessage, kinds: list[type[Effect]], changes: bool) -> None:
    after, effects = step(ROLE, state, body)
    assert [type(effect) for effect in effects] == kinds
    assert (after is not state) == changes


def test_every_incarnation_starts_its_driver_under_its_own_epoch() -> None:
    assert step(ROLE, UP, Recovered(41))[1] == (Drive(StartFeed(41)),)


def test_statuses_of_an_unchanged_feed_are_not_journaled() -> None:
    state = UP
    for second in range(100):
        after, _ = step(ROLE, state, status(True, second), second * SECOND_NS)
        assert after is state


def test_changes_are_counted_and_the_reason_is_told() -> None:
    state = fold(ROLE, status(True), status(False, reason="HTTP 429"), status(True), status(False, reason="drop"))
    assert (state.ups, state.downs, state.reason, state.since_ns) == (2, 2, "drop", 4 * SECOND_NS)
    alarm = step(ROLE, UP, status(False, reason="HTTP 429"))[1][0]
    assert isinstance(alarm, RaiseAlarm)
    assert alarm.name == DOWN_ALARM
    assert "HTTP 429" in alarm.text
    assert ROLE.show(state, 6 * SECOND_NS) == {"feed": "down: drop", "since": "2 s", "downs": "2"}


def test_the_state_survives_a_snapshot() -> None:
    core = msgspec.structs.replace(new_core(ROLE), role=DOWN, seq=2)
    assert decode_snapshot(ROLE, encode_snapshot(ROLE, core)).role == DOWN


def test_no_older_schema_is_taken() -> None:
    with pytest.raises(ValueError, match="no migration"):
        ROLE.migrate(0, b"{}")
