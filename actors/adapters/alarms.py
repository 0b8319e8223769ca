"""The alarms of one actor: what stands, since when, and how often it was raised."""

from __future__ import annotations

from actors.adapters.health import HealthBoard, StandingAlarm
from actors.effects import Severity
from actors.ports import Clock


class AlarmTable:
    """Implements `ports.Alarms`. At most `ALARMS_MAX` stand at once; the oldest information makes room."""

    ALARMS_MAX = 200

    def __init__(self, role: str, clock: Clock, health: HealthBoard) -> None:
        self._role = role
        self._clock = clock
        self._health = health
        self._standing: dict[str, StandingAlarm] = {}

    def raise_alarm(self, name: str, severity: Severity, text: str) -> None:
        """Set or update; the first raise goes to the alert stream and the log."""
        known = self._standing.get(name)
        if known is not None:
            self._standing[name] = StandingAlarm(name, severity, text, known.since_ns, known.count + 1)
            return
        if len(self._standing) >= self.ALARMS_MAX:
            oldest = min(self._standing.values(), key=lambda alarm: (alarm.severity != Severity.INFO, alarm.since_ns))
            del self._standing[oldest.name]
        self._standing[name] = StandingAlarm(name, severity, text, self._clock.now_ns(), 1)
        self._health.alert(self._role, name, severity, text, raised=True)

    def clear_alarm(self, name: str) -> None:
        """Clear."""
        known = self._standing.pop(name, None)
        if known is not None:
            self._health.alert(self._role, name, known.severity, known.text, raised=False)

    def standing(self) -> tuple[StandingAlarm, ...]:
        """All that stand, oldest first."""
        return tuple(sorted(self._standing.values(), key=lambda alarm: alarm.since_ns))
