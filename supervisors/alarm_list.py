"""The alarms of a running engine: what stands, and the stream of what was raised and cleared."""

from __future__ import annotations

import time

import msgspec

from actors.adapters.inspection import Inspector
from config.schema import Settings
from supervisors.opportunities import clock_text
from supervisors.run_files import read_engine_file, resolved
from supervisors.status import ActorAlarm, read_status


class AlarmChange(msgspec.Struct, frozen=True):
    """An alarm that was raised, or cleared."""

    at_ns: int
    role: str
    name: str
    severity: str
    text: str
    raised: bool


class AlarmList(msgspec.Struct, frozen=True):
    """`standing` as `status` has them; `history`: the last changes, oldest first."""

    standing: tuple[ActorAlarm, ...]
    history: tuple[AlarmChange, ...]


class _Alert(msgspec.Struct, frozen=True):
    role: str
    name: str
    severity: str
    text: str
    raised: bool


def read_alarms(settings: Settings, last: int) -> AlarmList:
    """Read them now. Raises NotRunning, EngineAway."""
    status = read_status(settings)
    with Inspector(resolved(settings, read_engine_file(settings))) as inspector:
        entries = inspector.alerts(last) if last else []
    history = []
    for at_ms, entry in reversed(entries):
        alert = msgspec.json.decode(entry, type=_Alert)
        history.append(AlarmChange(at_ms * 1_000_000, alert.role, alert.name, alert.severity, alert.text, alert.raised))
    return AlarmList(status.alarms, tuple(history))


def alarms_text(found: AlarmList) -> str:
    """Both for a person; the text of what was cleared is its last."""
    lines = ["nothing stands"] if not found.standing else []
    for one in sorted(found.standing, key=lambda one: one.alarm.since_ns):
        alarm = one.alarm
        lasted_s = max(0, time.time_ns() - alarm.since_ns) / 1e9
        lines.append(f"{alarm.severity.value.upper():<9}{one.role} {alarm.name}, for {lasted_s:,.0f} s: {alarm.text}")
    if found.history:
        lines.append("")
        lines += [
            f"{clock_text(one.at_ns)}  {'raised ' if one.raised else 'cleared'}  {one.role} {one.name}: {one.text}"
            for one in found.history
        ]
    return "\n".join(lines)
