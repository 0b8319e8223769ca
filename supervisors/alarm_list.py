"""The alarms of a running engine: what stands, and the stream of what was raised and cleared."""

from __future__ import annotations

import time

import msgspec

from actors.adapters.acknowledged import AcknowledgedFile, AlarmWord
from actors.adapters.inspection import Inspector
from actors.messages import AlarmAcknowledged
from config.schema import Settings
from supervisors.commands import NoReason, who
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


class NoSuchAlarm(LookupError):
    """Nothing of that name waits for a person."""

    exit_code = 64


def acknowledge(settings: Settings, name: str, why: str) -> list[AlarmWord]:
    """Write down that a person has seen it, wherever it stands; its actor takes it within a second.

    Durable on return, and taken by the next incarnation where the actor is not there. Raised again since it was read
    here, it stands on. Raises NoReason, NoSuchAlarm, NotRunning, EngineAway.
    """
    if not why.strip():
        raise NoReason(f'{name} is acknowledged with a reason. Remedy: alarms --ack {name} --why "what was looked at"')
    standing = read_status(settings).alarms
    found = [one for one in standing if one.alarm.name == name and one.alarm.for_a_person]
    if not found:
        waiting = ", ".join(sorted({one.alarm.name for one in standing if one.alarm.for_a_person})) or "none"
        if any(one.alarm.name == name for one in standing):
            said = f"{name} does not wait for a person: it is cleared once what raised it is over"
        else:
            said = f"no alarm {name!r} stands"
        raise NoSuchAlarm(f"{said}. Waiting for a person: {waiting}. Remedy: name one of those; docs/alarms.md has all")
    now_ns, by = time.time_ns(), who()
    words = [AlarmWord(one.role, AlarmAcknowledged(name, one.alarm.raised_ns, why, by, now_ns)) for one in found]
    AcknowledgedFile(settings.run.run_dir).append(words)
    return words


def acknowledged_text(words: list[AlarmWord]) -> str:
    """For the person who said so."""
    return "\n".join(f"acknowledged: {one.role} {one.word.name}, by {one.word.by}: {one.word.why}" for one in words)


def alarms_text(found: AlarmList) -> str:
    """Both for a person; the text of what was cleared is its last."""
    lines = ["nothing stands"] if not found.standing else []
    for one in sorted(found.standing, key=lambda one: one.alarm.since_ns):
        alarm = one.alarm
        lasted_s = max(0, time.time_ns() - alarm.since_ns) / 1e9
        waits = "  (until acknowledged)" if alarm.for_a_person else ""
        name = f"{alarm.severity.value.upper():<9}{one.role} {alarm.name}"
        lines.append(f"{name}, for {lasted_s:,.0f} s{waits}: {alarm.text}")
    if found.history:
        lines.append("")
        lines += [
            f"{clock_text(one.at_ns)}  {'raised ' if one.raised else 'cleared'}  {one.role} {one.name}: {one.text}"
            for one in found.history
        ]
    return "\n".join(lines)
