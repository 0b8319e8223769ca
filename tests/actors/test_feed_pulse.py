"""When a connection may say that it lives: unanswered pings, gaps in our own ticks, and the venue's limit."""

from __future__ import annotations

import itertools

from actors.adapters.feed_pulse import DEAD_NS_MAX, PING_EVERY_NS, PING_GAP_NS_MIN, PONG_NS_MAX, Beat, Pulse

MS = 1_000_000
STALE_NS = 250 * MS
TICK_NS = 25 * MS


def run(pulse: Pulse, from_ns: int, until_ns: int, answers: bool) -> list[tuple[int, Beat, bytes]]:
    """Tick; answer each ping a millisecond later where `answers`."""
    seen = []
    for now_ns in range(from_ns, until_ns, TICK_NS):
        beat = pulse.tick(now_ns)
        ping = pulse.ping(now_ns)
        if ping and answers:
            pulse.pong(ping, now_ns + MS)
        seen.append((now_ns, beat, ping))
    return seen


def test_a_connection_that_answers_beats_always_and_shows_its_lag() -> None:
    pulse = Pulse(0, STALE_NS)
    seen = run(pulse, 0, 10_000 * MS, answers=True)
    assert {beat for _, beat, _ in seen} == {Beat.LIVE}
    assert pulse.lag_ns == MS


def test_no_second_has_more_than_four_pings_of_ours() -> None:
    pulse = Pulse(0, STALE_NS)
    sent: list[int] = []
    now_ns = 0
    for at in range(400):
        now_ns += TICK_NS if at % 7 else 300 * MS
        pulse.tick(now_ns)
        if ping := pulse.ping(now_ns):
            sent.append(now_ns)
            pulse.pong(ping, now_ns + MS)
    assert sent
    assert all(later - earlier >= PING_GAP_NS_MIN for earlier, later in itertools.pairwise(sent))
    assert max(sum(start <= at < start + 1_000 * MS for at in sent) for start in sent) <= 4


def test_an_unanswered_ping_withholds_the_beat_and_at_last_ends_the_connection() -> None:
    seen = run(Pulse(0, STALE_NS), 0, PING_EVERY_NS + DEAD_NS_MAX + 200 * MS, answers=False)
    asked_ns = next(at for at, _, ping in seen if ping)
    for at, beat, _ in seen:
        waiting_ns = at - asked_ns
        expected = Beat.LIVE if waiting_ns <= PONG_NS_MAX else Beat.WITHHELD if waiting_ns <= DEAD_NS_MAX else Beat.DEAD
        assert beat is expected, f"{waiting_ns / 1e6} ms"
    assert len([ping for _, _, ping in seen if ping]) == 1


def test_a_late_answer_brings_the_beat_back() -> None:
    pulse = Pulse(0, STALE_NS)
    seen = run(pulse, 0, 1_500 * MS, answers=False)
    assert seen[-1][1] is Beat.WITHHELD
    pulse.pong(next(ping for _, _, ping in seen if ping), 1_500 * MS)
    assert pulse.tick(1_510 * MS) is Beat.LIVE
    assert pulse.lag_ns == 1_500 * MS - PING_EVERY_NS


def test_after_a_gap_nothing_beats_until_a_ping_sent_after_it_is_answered() -> None:
    pulse = Pulse(0, STALE_NS)
    run(pulse, 0, 390 * MS, answers=True)
    pulse.tick(400 * MS)
    before = pulse.ping(400 * MS)
    assert pulse.tick(5_000 * MS) is Beat.WITHHELD
    assert pulse.gaps == 1
    # What was asked before the gap proves nothing of what came in it.
    pulse.pong(before, 5_001 * MS)
    assert pulse.tick(5_002 * MS) is Beat.WITHHELD
    after = pulse.ping(5_002 * MS)
    assert after
    assert pulse.tick(5_010 * MS) is Beat.WITHHELD
    pulse.pong(after, 5_011 * MS)
    assert pulse.tick(5_020 * MS) is Beat.LIVE


def test_answers_to_nothing_of_ours_say_nothing() -> None:
    pulse = Pulse(0, STALE_NS)
    seen = run(pulse, 0, 1_500 * MS, answers=False)
    for payload in (b"", b"x", b"-1", b"0", b"99", b"1" * 40, "١".encode()):
        pulse.pong(payload, 1_500 * MS)
    assert seen[-1][1] is Beat.WITHHELD
    assert pulse.tick(1_510 * MS) is Beat.WITHHELD
