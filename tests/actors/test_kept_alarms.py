"""Alarms that wait for a person: folded, journaled, told again by each incarnation, over by a word on what was seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.adapters.acknowledged import BYTES_MAX, AcknowledgedFile, AlarmWord
from actors.adapters.alarms import AlarmTable
from actors.core import Core, advance, new_core
from actors.effects import ClearAlarm, Count, Effect, RaiseAlarm, Severity
from actors.kept_alarms import KEPT_MAX, Kept, KeptAlarm, acknowledge, keep
from actors.messages import AlarmAcknowledged, AnyMessage, Envelope, Recovered, TimerFired
from actors.snapshot import _checksum, decode_snapshot, encode_snapshot

CRITICAL = Severity.CRITICAL
FIRST = RaiseAlarm("incident.x", CRITICAL, "first", for_a_person=True)
SECOND = RaiseAlarm("incident.x", CRITICAL, "second", for_a_person=True)


def word(raised_ns: int, name: str = "incident.x") -> AlarmAcknowledged:
    return AlarmAcknowledged(name, raised_ns, "looked at it", "somebody at a terminal", 99)


def kept(*effects: Effect, into: Kept | None = None, now_ns: int = 5) -> Kept:
    return keep(into if into is not None else {}, effects, now_ns)[0]


@pytest.mark.parametrize(
    ("before", "effects", "after"),
    [
        ({}, (FIRST,), {"incident.x": KeptAlarm(CRITICAL, "first", 5, 5, 1)}),
        ({}, (RaiseAlarm("gate", CRITICAL, "shut"),), {}),
        ({}, (ClearAlarm("incident.x"),), {}),
        (kept(FIRST, now_ns=1), (SECOND,), {"incident.x": KeptAlarm(CRITICAL, "second", 1, 5, 2)}),
        (kept(FIRST, now_ns=1), (ClearAlarm("incident.x"),), {}),
        (kept(FIRST, now_ns=1), (ClearAlarm("incident.x"), SECOND), kept(SECOND)),
        (kept(FIRST, now_ns=1), (SECOND, ClearAlarm("incident.x")), {}),
    ],
)
def test_each_effect_folds_into_what_is_kept(before: Kept, effects: tuple[Effect, ...], after: Kept) -> None:
    assert keep(before, effects, 5) == (after, ())


@pytest.mark.parametrize("effects", [(), (FIRST,), (ClearAlarm("other"),), (Count("incident.x"),)])
def test_what_changes_nothing_gives_the_same_map_so_that_nothing_is_journaled(effects: tuple[Effect, ...]) -> None:
    before = kept(FIRST, now_ns=1)
    assert keep(before, effects, 5)[0] is before


def test_beyond_the_bound_the_oldest_makes_room_and_is_counted() -> None:
    full: Kept = {}
    for at in range(KEPT_MAX):
        full = kept(RaiseAlarm(f"closed_twice.S{at}", CRITICAL, "t", for_a_person=True), into=full, now_ns=at)
    after, effects = keep(full, (FIRST,), KEPT_MAX)
    assert len(after) == KEPT_MAX
    assert "incident.x" in after
    assert effects == (ClearAlarm("closed_twice.S0"), Count("alarm_unseen_dropped"))


def test_a_word_ends_an_alarm_as_it_was_seen_and_none_that_was_raised_since() -> None:
    seen = kept(FIRST, now_ns=7)
    after, effects = acknowledge(seen, word(7))
    assert after == {}
    assert effects[0] == ClearAlarm("incident.x", "looked at it (somebody at a terminal)")
    raised_again = kept(SECOND, into=seen, now_ns=8)
    assert acknowledge(raised_again, word(7)) == (raised_again, ())
    assert acknowledge(seen, word(7, "another")) == (seen, ())


def test_an_acknowledged_alarm_that_comes_back_is_raised_again_and_no_old_word_ends_it() -> None:
    over, _ = acknowledge(kept(FIRST, now_ns=7), word(7))
    back = kept(FIRST, into=over, now_ns=9)
    assert back == {"incident.x": KeptAlarm(CRITICAL, "first", 9, 9, 1)}
    assert acknowledge(back, word(7)) == (back, ())


# ---- in an actor


class Teller:
    """Raises on a timer what the timer's name says, and nothing else."""

    schema_version = 1
    state_type = int
    name = "teller"

    def initial(self) -> int:
        return 0

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        raise ValueError(f"no migration from schema version {schema_version}")

    def reduce(self, state: int, envelope: Envelope, now_ns: int) -> tuple[int, tuple[Effect, ...]]:
        match envelope.body:
            case TimerFired(name=name):
                return state, (RaiseAlarm("incident.x", CRITICAL, name, for_a_person=True),)
            case _:
                return state, ()


class NextTeller(Teller):
    """Of the schema version after."""

    schema_version = 2

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        return state


def folded(*bodies: AnyMessage, core: Core[int] | None = None) -> Core[int]:
    found = core or new_core(Teller())
    for at, body in enumerate(bodies, start=1):
        envelope = Envelope(f"m{at}", "c", "", "shell", "teller", 1, at, body)
        found = advance(Teller(), found, envelope, at, 1).core
    return found


def test_an_alarm_alone_is_a_change_that_is_journaled_and_the_same_again_is_not() -> None:
    once = folded(Recovered(1), TimerFired("a"))
    assert once.seq == 1
    assert folded(TimerFired("a"), core=once) is once
    assert folded(TimerFired("b"), core=once).seq == 2


def test_a_snapshot_holds_what_waits_for_a_person() -> None:
    core = folded(TimerFired("a"))
    assert decode_snapshot(Teller(), encode_snapshot(Teller(), core)).alarms == core.alarms
    assert core.alarms["incident.x"].text == "a"


def test_a_snapshot_from_before_there_were_any_is_read_and_migrated() -> None:
    head, _, body = encode_snapshot(Teller(), folded(TimerFired("a"))).partition(b"\n")
    older = {name: value for name, value in json.loads(body).items() if name != "alarms"}
    stored = json.dumps(older).encode()
    header = json.loads(head)
    header["checksum"] = _checksum(header["role"], header["schema_version"], header["seq"], stored)
    payload = json.dumps(header).encode() + b"\n" + stored
    assert decode_snapshot(Teller(), payload).alarms == {}
    assert decode_snapshot(NextTeller(), payload).alarms == {}


def test_a_word_is_an_entry_of_the_journal_and_a_word_on_nothing_is_none() -> None:
    core = folded(TimerFired("a"))
    raised_ns = core.alarms["incident.x"].raised_ns
    after = folded(word(raised_ns), core=core)
    assert (after.seq, dict(after.alarms)) == (core.seq + 1, {})
    assert folded(word(raised_ns), core=after) is after


# ---- where it is shown, and what persons write


class Told:
    """Takes what the table tells of."""

    def __init__(self) -> None:
        self.alerts: list[tuple[str, str, bool]] = []

    def alert(self, role: str, name: str, severity: Severity, text: str, raised: bool) -> None:
        self.alerts.append((name, text, raised))

    def now_ns(self) -> int:
        return 3


def test_the_table_tells_each_news_once_and_shows_since_when_and_that_it_waits() -> None:
    told = Told()
    table = AlarmTable("broker", told, told)  # type: ignore[arg-type]
    for one in (KeptAlarm(CRITICAL, "a", 1, 1), KeptAlarm(CRITICAL, "a", 1, 1), KeptAlarm(CRITICAL, "b", 1, 2, 2)):
        table.keep_alarm("incident.x", one)
    (alarm,) = table.standing()
    assert (alarm.text, alarm.since_ns, alarm.raised_ns, alarm.count, alarm.for_a_person) == ("b", 1, 2, 2, True)
    table.clear_alarm("incident.x", "seen (by me)")
    assert told.alerts == [
        ("incident.x", "a", True),
        ("incident.x", "b", True),
        ("incident.x", "acknowledged: seen (by me)", False),
    ]


def test_what_waits_for_a_person_never_makes_room_in_the_table() -> None:
    told = Told()
    table = AlarmTable("broker", told, told)  # type: ignore[arg-type]
    table.keep_alarm("incident.x", KeptAlarm(Severity.INFO, "a", 0, 0))
    for at in range(AlarmTable.ALARMS_MAX + 5):
        table.raise_alarm(f"divergence.{at}", CRITICAL, "t")
    assert len(table.standing()) == AlarmTable.ALARMS_MAX
    assert "incident.x" in {one.name for one in table.standing()}
    assert table.dropped == 6


def test_words_are_read_by_role_once_a_change_and_a_torn_line_is_no_word(tmp_path: Path) -> None:
    writer, reader = AcknowledgedFile(tmp_path), AcknowledgedFile(tmp_path)
    assert reader.news("broker") == []
    writer.append([AlarmWord("broker", word(1)), AlarmWord("sentinel", word(2))])
    assert reader.news("broker") == [word(1)]
    assert reader.news("broker") == []
    with writer.path.open("ab") as file:
        file.write(b'{"role": "broker", "word"\n')
    writer.append([AlarmWord("broker", word(3))])
    assert reader.news("broker") == [word(1), word(3)]


def test_the_words_file_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    file = AcknowledgedFile(tmp_path)
    long = AlarmAcknowledged("incident.x", 1, "w" * 10_000, "me", 1)
    for at in range(2 * BYTES_MAX // 10_000 + 20):
        file.append([AlarmWord(f"role{at}", long)])
    words = file.read()
    assert words[-1].role == f"role{2 * BYTES_MAX // 10_000 + 19}"
    assert sum(path.stat().st_size for path in (tmp_path / "lines").glob("acknowledged*")) <= 2 * BYTES_MAX
