"""The shell alone, over ports in memory: delivery, windows, resends, refusals, and what is owed after a death."""

from __future__ import annotations

import msgspec
import pytest

from actors import core as core_module
from actors import shell as shell_module
from actors.core import OutboxFull, new_core
from actors.effects import Effect
from actors.messages import Acknowledged, AnyMessage, Envelope, JournalRecord, TimerFired
from actors.ports import LedgerAway, LedgerCorrupt
from actors.shell import RESEND_TIMER, TRIM_EVERY, TRIM_TIMER, WINDOW
from actors.snapshot import decode_snapshot, encode_snapshot
from tests.actors.shell_world import Teller, Told, World, acknowledged, from_other, price

# ---- what is owed


def test_at_most_a_window_of_owed_messages_is_on_its_way_and_each_acknowledgement_lets_the_next_go() -> None:
    world = World()
    shell = world.life()
    for px in range(1, WINDOW + 4):
        shell.driver_event(price(px))
    assert world.owed() == [(n, n) for n in range(1, WINDOW + 1)]
    shell.take(acknowledged(2))
    assert world.owed() == [(n, n) for n in range(1, WINDOW + 3)]
    shell.take(acknowledged(6))
    assert world.owed() == [(n, n) for n in range(1, WINDOW + 4)]
    shell.take(acknowledged(WINDOW + 3))
    shell.timer_fired(TRIM_TIMER)
    assert shell.core.outbox == {}


def test_what_stays_unacknowledged_goes_out_again_when_the_timer_fires() -> None:
    world = World()
    shell = world.life()
    for px in range(1, WINDOW + 3):
        shell.driver_event(price(px))
    world.out.clear()
    shell.timer_fired(RESEND_TIMER)
    assert world.owed() == [(n, n) for n in range(1, WINDOW + 1)]
    assert shell.counters["resent_owed"] == 1
    shell.take(acknowledged(WINDOW + 2))
    world.timers.clear()
    shell.timer_fired(RESEND_TIMER)
    assert world.timers == [], "nothing owed, no timer"


def test_steady_traffic_does_not_put_the_resend_off() -> None:
    """Started anew by every owed message, the timer would never fire while messages keep coming."""
    world = World()
    shell = world.life()
    for px in range(1, 50):
        shell.driver_event(price(px))
    assert [name for name, _ in world.timers] == [RESEND_TIMER]
    shell.timer_fired(RESEND_TIMER)
    assert [name for name, _ in world.timers] == [RESEND_TIMER] * 2


def test_a_peer_that_is_away_is_counted_and_gets_everything_in_order_once_it_is_there() -> None:
    world = World()
    world.away.add("listener")
    shell = world.life()
    for px in (1, 2, 3):
        shell.driver_event(price(px))
    assert world.owed() == []
    assert shell.counters["unaddressed"] >= 3
    world.away.clear()
    shell.peer_changed("listener")
    assert world.owed() == [(1, 1), (2, 2), (3, 3)]


def test_what_was_owed_at_death_goes_out_after_recovery_in_its_order_with_its_ids() -> None:
    world = World()
    first = world.life()
    for px in range(1, 7):
        first.driver_event(price(px))
    first.take(acknowledged(1))
    first.timer_fired(TRIM_TIMER)
    ids = {one.delivery_seq: one.message_id for one in world.out if one.delivery_seq}
    world.out.clear()
    second = world.life()
    assert world.owed() == [(n, n) for n in range(2, 7)]
    assert all(one.message_id == ids[one.delivery_seq] for one in world.out if one.delivery_seq in ids)
    assert second.core == msgspec.structs.replace(first.core, seq=second.core.seq)
    second.driver_event(price(9))
    second.take(acknowledged(6))
    assert world.owed()[-1] == (7, 9)


def test_acknowledgements_are_journaled_together_and_hold_up_nothing() -> None:
    world = World()
    shell = world.life()
    for px in range(1, 8):
        shell.driver_event(price(px))
    entries = len(world.journal)
    for up_to in (1, 1, 2, 3, 2):
        shell.take(acknowledged(up_to))
    assert world.owed() == [(n, n) for n in range(1, 8)], "each lets the next go"
    assert len(world.journal) == entries
    assert [name for name, _ in world.timers].count(TRIM_TIMER) == 1
    shell.timer_fired(RESEND_TIMER)
    assert world.owed()[7:] == [], "it made progress since the timer began"
    shell.timer_fired(RESEND_TIMER)
    assert world.owed()[7:] == [(n, n) for n in range(4, 8)], "what is acknowledged does not go out again"
    shell.timer_fired(TRIM_TIMER)
    assert len(world.journal) == entries + 1
    assert [one.delivery_seq for one in shell.core.outbox["listener"]] == [4, 5, 6, 7]
    shell.timer_fired(TRIM_TIMER)
    assert len(world.journal) == entries + 1, "nothing new, no entry"


def test_many_acknowledgements_are_journaled_without_waiting_for_the_timer() -> None:
    world = World()
    shell = world.life()
    for px in range(1, TRIM_EVERY + 2):
        shell.driver_event(price(px))
    entries = len(world.journal)
    for up_to in range(1, TRIM_EVERY + 2):
        shell.take(acknowledged(up_to))
    assert len(world.journal) == entries + 1
    assert [one.delivery_seq for one in shell.core.outbox["listener"]] == [TRIM_EVERY + 1]


def test_an_acknowledgement_not_yet_journaled_at_death_costs_a_delivery_again() -> None:
    world = World()
    first = world.life()
    for px in (1, 2, 3):
        first.driver_event(price(px))
    first.take(acknowledged(3))
    world.out.clear()
    second = world.life()
    assert world.owed() == [(1, 1), (2, 2), (3, 3)]
    second.take(acknowledged(3))
    second.timer_fired(TRIM_TIMER)
    assert second.core.outbox == {}


def test_an_outbox_that_is_full_stops_the_actor_before_anything_is_journaled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_module, "OUTBOX_MAX", 5)
    world = World()
    shell = world.life()
    for px in range(1, 6):
        shell.driver_event(price(px))
    entries = dict(world.journal)
    with pytest.raises(OutboxFull, match=r"owes listener 5 messages"):
        shell.driver_event(price(6))
    assert world.journal == entries


# ---- what comes in


def test_an_owed_message_is_taken_once_and_acknowledged_each_time() -> None:
    world = World()
    shell = world.life()
    first = from_other(price(5), delivery_seq=1)
    for _ in range(3):
        shell.take(first)
    assert shell.core.role.prices == (5,)
    acks = [one.body for one in world.out if isinstance(one.body, Acknowledged)]
    assert acks == [Acknowledged(1)] * 3
    assert shell.counters["refused_duplicate"] == 2


def test_a_gap_is_refused_unacknowledged_and_closed_by_what_was_missing() -> None:
    world = World()
    shell = world.life()
    shell.take(from_other(price(2), delivery_seq=2))
    assert shell.core.role.prices == ()
    assert not world.out
    assert shell.counters["refused_gap"] == 1
    for number in (1, 2):
        shell.take(from_other(price(number), delivery_seq=number))
    assert shell.core.role.prices == (1, 2)


def test_an_owed_message_that_changes_nothing_is_journaled_all_the_same() -> None:
    """Otherwise its acknowledgement would speak of what no recovery knows."""
    world = World()
    shell = world.life()
    shell.take(from_other(price(0), delivery_seq=1))
    assert len(world.journal) == 1
    assert world.life().core.accepted == {"other": 1}


@pytest.mark.parametrize("delivery_seq", [0, 1])
def test_an_envelope_for_another_role_or_incarnation_is_refused_counted_and_traced(delivery_seq: int) -> None:
    world = World()
    shell = world.life()
    shell.take(from_other(price(1), delivery_seq=delivery_seq, target="allocator"))
    shell.take(from_other(price(1), delivery_seq=delivery_seq, target_epoch=shell.epoch + 1))
    shell.take(from_other(price(1), delivery_seq=delivery_seq, target_epoch=shell.epoch))
    assert shell.counters["refused_misdirected"] == 1
    assert shell.counters["refused_stale"] == 1
    assert shell.core.role.prices == (1,)
    assert world.hops[-3:] == ["misdirected", "stale", "handled"]


def test_an_input_that_changes_nothing_leaves_no_entry_and_its_effects_run() -> None:
    world = World()
    shell = world.life()
    shell.driver_event(price(0))
    shell.timer_fired("some timer of the role's")
    assert world.journal == {}
    assert shell.counters["zero"] == 1


def test_a_failed_append_leaves_no_trace_of_its_input_but_the_exception() -> None:
    world = World()
    shell = world.life()
    world.away.add("ledger")
    with pytest.raises(LedgerAway):
        shell.take(from_other(price(1), delivery_seq=1))
    assert world.out == []
    assert shell.core == new_core(Teller())


# ---- what is kept


def test_every_journaled_input_is_in_the_journal_before_anything_leaves() -> None:
    world = World()
    shell = world.life()
    shell.driver_event(price(3))
    record = msgspec.json.decode(world.journal[1], type=JournalRecord)
    assert record.input.body == price(3)
    assert [one.message_id for one in world.out] == ["teller:1.0"]


def test_a_snapshot_is_taken_after_so_many_entries_and_shortens_the_replay() -> None:
    world = World()
    shell = world.life(snapshot_every=3)
    for px in range(1, 6):
        shell.driver_event(price(px))
    assert len(world.snapshots) == 1
    again = world.life()
    assert again.core.role.prices == (1, 2, 3, 4, 5)
    assert again.replayed == 2


def test_only_the_roles_own_state_is_migrated_and_what_it_owes_is_kept() -> None:
    old = msgspec.structs.replace(
        new_core(Teller()), seq=4, outbox={"listener": (from_other(price(1), delivery_seq=9),)}, sent={"listener": 9}
    )
    head, _, _ = encode_snapshot(Teller(1), old).partition(b"\n")
    assert b'"schema_version":1' in head
    stored = encode_snapshot(Teller(1), msgspec.structs.replace(old, role={"seen": [7, 8]}))  # type: ignore[arg-type]
    after = decode_snapshot(Teller(2), stored)
    assert after == msgspec.structs.replace(old, role=Told((7, 8)))


def test_few_but_large_entries_are_snapshotted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand whole readings of a venue with many orders would fill the ledger."""
    monkeypatch.setattr(shell_module, "SNAPSHOT_BYTES", 2_000)
    world = World()
    shell = world.life()
    while not world.snapshots:
        shell.driver_event(price(1))
    size = sum(len(payload) for payload in world.journal.values())
    assert 2_000 <= size < 3_000
    shell.driver_event(price(1))
    assert len(world.snapshots) == 1, "and counted anew from there"
    world.snapshots = ()
    again = world.life()
    assert len(world.snapshots) == 1, "what was replayed counts"
    assert again.core.role == shell.core.role


@pytest.mark.parametrize("version", [3, 9])
def test_a_snapshot_of_an_unknown_version_is_refused_with_the_remedy(version: int) -> None:
    stored = encode_snapshot(Teller(1), new_core(Teller()))
    with pytest.raises(LedgerCorrupt, match=r"run the version that wrote it"):
        decode_snapshot(Teller(version), stored)


def test_a_journal_of_the_shell_itself_is_refused_where_it_has_a_gap() -> None:
    world = World()
    shell = world.life()
    for px in (1, 2, 3):
        shell.driver_event(price(px))
    del world.journal[2]
    with pytest.raises(LedgerCorrupt, match=r"goes from 1 to 3"):
        world.life()


def test_timers_of_the_role_reach_its_reducer() -> None:
    world = World()
    shell = world.life()
    seen: list[AnyMessage] = []
    reduce = shell.role.reduce

    def spy(state: Told, envelope: Envelope, now_ns: int) -> tuple[Told, tuple[Effect, ...]]:
        seen.append(envelope.body)
        return reduce(state, envelope, now_ns)

    shell.role.reduce = spy  # type: ignore[method-assign]
    shell.timer_fired("role.timer")
    assert seen == [TimerFired("role.timer")]


def test_what_a_slow_receiver_still_acknowledges_is_not_sent_twice() -> None:
    world = World()
    shell = world.life()
    for px in range(1, WINDOW + 1):
        shell.driver_event(price(px))
    shell.take(acknowledged(1))
    world.out.clear()
    shell.timer_fired(RESEND_TIMER)
    assert world.owed() == [], "it made progress"
    shell.timer_fired(RESEND_TIMER)
    assert world.owed() == [(n, n) for n in range(2, WINDOW + 1)], "and then none"


def test_what_found_no_credit_goes_out_when_there_is_some_and_not_a_timer_later() -> None:
    world = World()
    shell = world.life()
    world.away.add("listener")
    shell.driver_event(price(1))
    assert world.owed() == []
    world.away.clear()
    shell.credit_returned("listener")
    assert world.owed() == [(1, 1)]
    shell.credit_returned("listener")
    assert world.owed() == [(1, 1)]
