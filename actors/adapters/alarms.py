"""The alarms of one actor: what stands, since when, and how often it was raised."""

from __future__ import annotations

from actors.adapters.health import HealthBoard, StandingAlarm
from actors.effects import Severity
from actors.kept_alarms import KeptAlarm
from actors.ports import Clock


class AlarmTable:
    """Implements `ports.Alarms`. At most `ALARMS_MAX` stand at once; the oldest information makes room, counted.

    What waits for a person never makes room: the actor's state keeps it, and bounds it.
    """

    ALARMS_MAX = 200

    def __init__(self, role: str, clock: Clock, health: HealthBoard) -> None:
        self._role = role
        self._clock = clock
        self._health = health
        self._standing: dict[str, StandingAlarm] = {}
        self.dropped = 0

    def raise_alarm(self, name: str, severity: Severity, text: str) -> None:
        """Set or update; the first raise goes to the alert stream and the log."""
        known = self._standing.get(name)
        if known is not None:
            self._standing[name] = StandingAlarm(name, severity, text, known.since_ns, known.count + 1)
            return
        self._set(StandingAlarm(name, severity, text, self._clock.now_ns(), 1))

    def keep_alarm(self, name: str, kept: KeptAlarm) -> None:
        """Set or update one that waits for a person; all that it tells anew goes to the alert stream and the log."""
        alarm = StandingAlarm(name, kept.severity, kept.text, kept.since_ns, kept.count, True, kept.raised_ns)
        if self._standing.get(name) != alarm:
            self._standing.pop(name, None)
            self._set(alarm)

    def clear_alarm(self, name: str, why: str = "") -> None:
        """Clear; the text of what was cleared is its last, or a person's word."""
        known = self._standing.pop(name, None)
        if known is not None:
            text = f"acknowledged: {why}" if why else known.text
            self._health.alert(self._role, name, known.severity, text, raised=False)

    def standing(self) -> tuple[StandingAlarm, ...]:
        """All that stand, oldest first."""
        return tuple(sorted(self._standing.values(), key=lambda alarm: alarm.since_ns))

    def _set(self, alarm: StandingAlarm) -> None:
        droppable = [one for one in self._standing.values() if not one.for_a_person]
        if len(self._standing) >= self.ALARMS_MAX and droppable:
            oldest = min(droppable, key=lambda one: (one.severity != Severity.INFO, one.since_ns))
            del self._standing[oldest.name]
            self.dropped += 1
        self._standing[alarm.name] = alarm
        self._health.alert(self._role, alarm.name, alarm.severity, alarm.text, raised=True)
