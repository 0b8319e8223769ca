"""From the settings to the times at which the IB gateway is expected to be away."""

from __future__ import annotations

from actors.adapters.zone import zone_offsets
from config.gateway import DAYS, Gateway
from config.schema import Settings
from kernels.recurring import EVERY_DAY, SECOND_NS, Span


def restart_span(settings: Settings) -> Span:
    """Its nightly restart; our own paper venue, embedded, has none."""
    gateway = settings.gateway
    length_s = 0.0 if settings.venues.embedded else gateway.restart_window_s
    return _span(gateway, gateway.restart_at, length_s, EVERY_DAY)


def login_span(settings: Settings) -> Span:
    """The weekly login by a person; our own paper venue, embedded, has none."""
    gateway = settings.gateway
    length_s = 0.0 if settings.venues.embedded else gateway.login_window_s
    return _span(gateway, gateway.login_at, length_s, DAYS.index(gateway.login_day))


def _span(gateway: Gateway, at: str, length_s: float, weekday: int) -> Span:
    hours, minutes = at.split(":")
    at_ns = (int(hours) * 60 + int(minutes)) * 60 * SECOND_NS
    return Span(at_ns, round(length_s * SECOND_NS), weekday, zone_offsets(gateway.zone) if length_s else ())
