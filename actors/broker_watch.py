"""The broker's gateway over time: how much of the week it served, and when its absence is a matter for a person.

Up is a session whose start-up requests were all answered; down is none, as planned in the nightly restart and in the
weekly login. Until this incarnation has heard of the gateway, and while it was dead, nothing is known. The time is
counted with whatever is journaled anyway, and at least once a minute: one journal entry.

An absence that is planned is no alarm; in the login window it is one, once, that asks for a person. What lasts past its
window, or comes outside of both, is critical.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actors.broker_turn import Turn
from actors.effects import ClearAlarm, Severity, StartTimer
from kernels.recurring import SECOND_NS, Span, begun_ns, covered_ns, next_edge_ns
from kernels.uptime import Figures, Standing, Uptime, figures, resume

WATCH_TIMER = "gateway_watch"
WATCH_NS = 60 * SECOND_NS
AWAY_ALARM = "gateway_away"
LOGIN_ALARM = "login_needed"
OVERDUE_ALARM = "login_overdue"
UPTIME_DETAIL = "uptime"
"""Of what a broker says of itself, the uptime for those who read figures: `kernels.uptime.Figures` as JSON."""
UPTIME_TEXT = "uptime 7 d"
SAYS_NOT_THERE = frozenset({502, 1100, 2110})
"""Codes with which a driver without a session says that there is none to be had."""


def session_began(turn: Turn) -> None:
    """It serves."""
    turn.stand(Standing.UP)
    turn.away_since_ns = 0
    turn.effects.extend(ClearAlarm(name) for name in (AWAY_ALARM, LOGIN_ALARM, OVERDUE_ALARM))


def session_ended(turn: Turn) -> None:
    """It does not, from now on."""
    turn.stand(Standing.DOWN)
    turn.away_since_ns = turn.away_since_ns or turn.now_ns
    watch(turn)


def watcher_recovered(turn: Turn) -> None:
    """Nobody looked until now. An absence that had begun before goes on."""
    turn.uptime = resume(turn.uptime, turn.now_ns)
    turn.away_since_ns = turn.away_since_ns or turn.now_ns
    watch(turn)


def told_error(turn: Turn, code: int) -> None:
    """The first word of the driver after a recovery may be that there is no gateway."""
    if code in SAYS_NOT_THERE and turn.session is None and turn.uptime.standing is Standing.UNKNOWN:
        turn.stand(Standing.DOWN)


def watch(turn: Turn) -> None:
    """Count the time, tell a person what is theirs to do, and look again at the next edge or in a minute."""
    turn.stand(turn.uptime.standing)
    if turn.session is None and turn.away_since_ns:
        _tell_absence(turn)
    turn.effects.append(StartTimer(WATCH_TIMER, _next_look_ns(turn)))


def _tell_absence(turn: Turn) -> None:
    settings, now_ns, since_ns = turn.settings, turn.now_ns, turn.away_since_ns
    away = f"no session with the gateway for {(now_ns - since_ns) // SECOND_NS} s"
    begun = begun_ns(settings.login, now_ns)
    if begun is not None:
        left_min = -((now_ns - begun - settings.login.length_ns) // (60 * SECOND_NS))
        text = f"{away}: the weekly login. A person has to log the gateway in, with the second factor, within "
        turn.alarm(LOGIN_ALARM, Severity.WARNING, f"{text}{left_min} min; orders that open risk wait")
        turn.effects.append(ClearAlarm(AWAY_ALARM))
        return
    turn.effects.append(ClearAlarm(LOGIN_ALARM))
    if _reached(settings.login, since_ns, now_ns):
        text = f"{away}, and the weekly login's window is over: log the gateway in, with the second factor"
        turn.alarm(OVERDUE_ALARM, Severity.CRITICAL, text)
    elif begun_ns(settings.restart, now_ns) is None and (
        now_ns - since_ns >= settings.away_ns or _reached(settings.restart, since_ns, now_ns)
    ):
        turn.alarm(AWAY_ALARM, Severity.CRITICAL, f"{away}: is it running, and logged in?")


def _reached(span: Span, from_ns: int, to_ns: int) -> bool:
    """Whether any of the time lay in it."""
    return covered_ns([span], from_ns, to_ns) > 0


def _next_look_ns(turn: Turn) -> int:
    moments = [turn.now_ns + WATCH_NS, next_edge_ns(turn.settings.planned, turn.now_ns)]
    if turn.session is None and turn.away_since_ns:
        moments.append(turn.away_since_ns + turn.settings.away_ns)
    return min(moment for moment in moments if moment is not None and moment > turn.now_ns) - turn.now_ns


def show_uptime(record: Uptime, now_ns: int, planned: Sequence[Span]) -> dict[str, str]:
    """Return it as the console shows it, and as figures."""
    found = figures(record, now_ns, planned)
    return {UPTIME_TEXT: uptime_text(found), UPTIME_DETAIL: msgspec.json.encode(found).decode()}


def uptime_text(found: Figures) -> str:
    """In a line, for people."""
    share = "not known yet" if found.up_fraction is None else f"{100 * found.up_fraction:.3f} %"
    parts = [
        f"down {_span(found.down_s)} in {found.losses} losses",
        f"planned {_span(found.planned_s)}",
        f"unknown {_span(found.unknown_s)}",
    ]
    return f"{share} of {_span(found.watched_s)} ({', '.join(parts)})"


def _span(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
