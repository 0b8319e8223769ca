"""The broker's word about its gateway over time: uptime over restarts of the role, planned absences, who is told."""

from __future__ import annotations

import msgspec
import pytest

from actors.broker_state import BrokerState
from actors.broker_watch import AWAY_ALARM, LOGIN_ALARM, OVERDUE_ALARM, UPTIME_DETAIL, UPTIME_TEXT, WATCH_TIMER
from actors.effects import ClearAlarm, RaiseAlarm, Severity, StartTimer
from actors.messages import PlaceBracket, Recovered, SessionLost, SubmitOrders, TimerFired, VenueErrorReported
from kernels.recurring import DAY_NS, Span
from kernels.uptime import Figures, Standing
from tests.actors.broker_bench import counted, fresh, placed, ready
from tests.actors.money_bench import SECOND, START, Bench, grant, intent, opened

WEEKDAY = (START // DAY_NS + 3) % 7
LOGIN = Span(START % DAY_NS + 100 * SECOND, 600 * SECOND, WEEKDAY)
"""Ten minutes that begin 100 s after a bench does."""


def live(bench: Bench[BrokerState], seconds: float) -> None:
    """Let time pass; the watch's timer fires when it is due."""
    end_ns = bench.now_ns + int(seconds * SECOND)
    while True:
        due = [one.after_ns for one in bench.did(StartTimer) if one.name == WATCH_TIMER]
        assert due, "nobody will look again"
        if bench.now_ns + due[-1] > end_ns:
            # What is left of the timer is not waited for: the next look comes a little early.
            bench.now_ns = end_ns
            bench.feed(TimerFired(WATCH_TIMER))
            return
        bench.now_ns += due[-1]
        bench.feed(TimerFired(WATCH_TIMER))


def week(bench: Bench[BrokerState]) -> Figures:
    return msgspec.json.decode(bench.role.show(bench.state, bench.now_ns)[UPTIME_DETAIL], type=Figures)  # type: ignore[attr-defined]


def begun(**settings: object) -> Bench[BrokerState]:
    """Recovered, with a session, and watched."""
    bench = fresh(**settings)
    bench.feed(Recovered(1))
    bench.feed(opened())
    bench.feed(TimerFired(WATCH_TIMER))
    return bench


def raised(bench: Bench[BrokerState]) -> list[tuple[str, Severity]]:
    return [(one.name, one.severity) for one in bench.did(RaiseAlarm)]


def test_a_session_is_uptime_and_its_loss_is_downtime_with_a_line_for_people() -> None:
    bench = begun()
    live(bench, 90)
    bench.feed(SessionLost("S1", "reset"))
    live(bench, 10)
    found = week(bench)
    assert (found.standing, found.up_s, found.down_s, found.losses) == (Standing.DOWN, 90, 10, 1)
    assert found.up_fraction == 0.9
    text = bench.role.show(bench.state, bench.now_ns)[UPTIME_TEXT]  # type: ignore[attr-defined]
    assert text == "90.000 % of 1.7 min (down 10 s in 1 losses, planned 0 s, unknown 0 s)"
    bench.check_replay()


def test_the_time_in_which_the_engine_was_down_is_not_known_and_its_record_survives_that() -> None:
    bench = begun()
    live(bench, 120)
    bench.wait(3_600)
    bench.core = bench.replayed()
    bench.feed(Recovered(2))
    assert bench.state.uptime.standing is Standing.UNKNOWN
    bench.wait(5)
    bench.feed(opened("S2"))
    bench.feed(TimerFired(WATCH_TIMER))
    live(bench, 60)
    found = week(bench)
    assert (found.up_s, found.down_s, found.unknown_s, found.losses) == (180, 0, 3_605, 0)
    bench.check_replay()


@pytest.mark.parametrize("code", [502, 1100, 2110])
def test_after_a_recovery_it_is_down_once_the_driver_says_that_there_is_none(code: int) -> None:
    bench = fresh()
    bench.feed(Recovered(1))
    bench.wait(4)
    bench.feed(VenueErrorReported("", 0, 2104, "a farm"))
    assert bench.state.uptime.standing is Standing.UNKNOWN
    bench.feed(VenueErrorReported("", 0, code, "refused"))
    before = bench.core
    bench.wait(0.5)
    bench.feed(VenueErrorReported("", 0, code, "refused again"))
    assert bench.core is before, "what changes nothing is not journaled"
    bench.feed(TimerFired(WATCH_TIMER))
    live(bench, 10)
    assert (week(bench).down_s, week(bench).unknown_s) == (10.5, 4)
    bench.check_replay()


def test_the_watch_costs_one_journal_entry_a_minute() -> None:
    bench = begun()
    before = len(bench.records)
    live(bench, 3_600)
    assert len(bench.records) - before == 60
    assert week(bench).up_s == 3_600


def test_without_a_session_for_too_long_a_person_is_told_once_and_it_clears_with_the_next() -> None:
    bench = begun(away_ns=60 * SECOND)
    bench.feed(SessionLost("S1", "reset"))
    assert not raised(bench)
    live(bench, 59)
    assert not raised(bench)
    live(bench, 2)
    assert raised(bench) == [(AWAY_ALARM, Severity.CRITICAL)]
    bench.feed(opened("S2"))
    assert ClearAlarm(AWAY_ALARM) in bench.did(ClearAlarm)


def test_an_absence_goes_on_over_a_restart_of_the_role() -> None:
    bench = begun(away_ns=60 * SECOND)
    bench.feed(SessionLost("S1", "reset"))
    bench.wait(50)
    bench.feed(Recovered(2))
    assert not raised(bench)
    live(bench, 10)
    assert raised(bench) == [(AWAY_ALARM, Severity.CRITICAL)]


def test_the_nightly_restart_is_no_alarm_and_planned_downtime_and_what_lasts_past_it_is_both() -> None:
    night = Span(START % DAY_NS + 10 * SECOND, 600 * SECOND)
    bench = begun(restart=night, away_ns=60 * SECOND)
    live(bench, 20)
    bench.feed(SessionLost("S1", "the gateway restarts"))
    assert counted(bench) == {"session_lost_in_restart": 1}
    live(bench, 585)
    assert not raised(bench)
    live(bench, 6)
    assert raised(bench) == [(AWAY_ALARM, Severity.CRITICAL)]
    found = week(bench)
    assert (found.up_s, found.planned_s, found.down_s, found.losses) == (20, 590, 1, 0)


def test_in_the_weekly_login_a_person_is_asked_for_and_nothing_else_is_alarmed() -> None:
    bench = begun(login=LOGIN, away_ns=60 * SECOND, stuck_after_ns=SECOND)
    live(bench, 110)
    bench.feed(SessionLost("S1", "the gateway logs out"))
    assert counted(bench) == {"session_lost_in_login": 1}
    assert raised(bench) == [(LOGIN_ALARM, Severity.WARNING)]
    assert "second factor" in bench.did(RaiseAlarm)[0].text
    assert "within 10 min" in bench.did(RaiseAlarm)[0].text
    names = set()
    for _ in range(58):
        live(bench, 10)
        names |= set(raised(bench))
        bench.feed(VenueErrorReported("", 0, 502, "did not answer"))
        assert not raised(bench)
        bench.feed(TimerFired("stuck"))
        assert not raised(bench)
        bench.feed(TimerFired(WATCH_TIMER))
    assert names == {(LOGIN_ALARM, Severity.WARNING)}
    bench.feed(opened("S2"))
    assert {one.name for one in bench.did(ClearAlarm)} >= {LOGIN_ALARM, OVERDUE_ALARM, AWAY_ALARM}
    found = week(bench)
    assert (found.planned_s, found.down_s, found.losses) == (580, 0, 0)
    bench.check_replay()


@pytest.mark.parametrize("restarted", [False, True])
def test_a_weekly_login_that_lasts_past_its_window_is_critical_also_for_a_role_that_restarted(restarted: bool) -> None:
    bench = begun(login=LOGIN, away_ns=60 * SECOND)
    bench.feed(SessionLost("S1", "earlier than planned"))
    live(bench, 70)
    assert raised(bench) == [(AWAY_ALARM, Severity.CRITICAL)]
    live(bench, 40)
    assert raised(bench) == [(LOGIN_ALARM, Severity.WARNING)]
    assert ClearAlarm(AWAY_ALARM) in bench.did(ClearAlarm)
    live(bench, 589)
    if restarted:
        bench.feed(Recovered(2))
    live(bench, 2)
    assert raised(bench) == [(OVERDUE_ALARM, Severity.CRITICAL)]
    assert ClearAlarm(LOGIN_ALARM) in bench.did(ClearAlarm)
    live(bench, 600)
    assert raised(bench) == [(OVERDUE_ALARM, Severity.CRITICAL)]
    bench.check_replay()


def test_orders_that_open_risk_wait_in_the_login_window_until_a_session_has_begun_in_it() -> None:
    bench = ready(login=LOGIN)
    bench.wait(101)
    bench.feed(PlaceBracket(intent(expires_s=900)))
    assert not bench.driven(SubmitOrders)
    assert counted(bench) == {"held.login_window": 1}
    bench.feed(SessionLost("S1", "the gateway logs out"))
    bench.wait(60)
    bench.feed(opened("S2", 200))
    bench.feed(grant(bench, "S2"))
    assert len(bench.driven(SubmitOrders)) == 1


def test_an_order_without_the_venues_word_is_no_alarm_while_the_gateway_waits_for_its_login() -> None:
    bench = placed(login=LOGIN, stuck_after_ns=SECOND)
    bench.wait(101)
    bench.feed(TimerFired("stuck"))
    assert not raised(bench)
    bench.wait(600)
    bench.feed(TimerFired("stuck"))
    assert raised(bench) == [("order_stuck", Severity.WARNING)]
