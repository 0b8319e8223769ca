"""Alarms that wait for a person, as part of every actor's state: what happened stays told until somebody has seen it.

Pure; `core.advance` folds them, so they are as durable as the journal and come back with the actor. At most
`KEPT_MAX`: the oldest makes room, is cleared and counted (`alarm_unseen_dropped`); its lines and log entries stay.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from actors.effects import ClearAlarm, Count, Effect, RaiseAlarm, Severity
from actors.message import AlarmAcknowledged

KEPT_MAX = 100


class KeptAlarm(msgspec.Struct, frozen=True):
    """One of them. `raised_ns`: when it was raised last; `count`: how many different things it told."""

    severity: Severity
    text: str
    since_ns: int
    raised_ns: int
    count: int = 1


Kept = Mapping[str, KeptAlarm]


def keep(kept: Kept, effects: tuple[Effect, ...], now_ns: int) -> tuple[Kept, tuple[Effect, ...]]:
    """Fold what a turn raised and cleared; with the effects of what made room. The same map if nothing changed.

    What stands with just this text already is the same thing told again: it changes nothing.
    """
    after = kept
    made_room: list[Effect] = []
    for effect in effects:
        if isinstance(effect, ClearAlarm) and effect.name in after:
            after = _without(after, effect.name)
        elif isinstance(effect, RaiseAlarm) and effect.for_a_person:
            name, known = effect.name, after.get(effect.name)
            if known is not None and (known.severity, known.text) == (effect.severity, effect.text):
                continue
            since_ns, count = (known.since_ns, known.count + 1) if known is not None else (now_ns, 1)
            after = {**after, name: KeptAlarm(effect.severity, effect.text, since_ns, now_ns, count)}
            if len(after) > KEPT_MAX:
                oldest = min((other for other in after if other != name), key=lambda other: after[other].since_ns)
                after = _without(after, oldest)
                made_room += [ClearAlarm(oldest), Count("alarm_unseen_dropped")]
    return after, tuple(made_room)


def acknowledge(kept: Kept, seen: AlarmAcknowledged) -> tuple[Kept, tuple[Effect, ...]]:
    """Drop what a person has seen; the same map if it is not there, or was raised again since."""
    if not is_seen(kept, seen):
        return kept, ()
    why = f"{seen.why} ({seen.by})"
    return _without(kept, seen.name), (ClearAlarm(seen.name, why), Count("alarm_acknowledged"))


def is_seen(kept: Kept, seen: AlarmAcknowledged) -> bool:
    """Whether a person's word is about an alarm as it stands."""
    known = kept.get(seen.name)
    return known is not None and known.raised_ns <= seen.raised_ns


def _without(kept: Kept, name: str) -> Kept:
    return {other: alarm for other, alarm in kept.items() if other != name}
