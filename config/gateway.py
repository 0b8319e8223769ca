"""Settings of the IB gateway: where it is, and when it is expected to be away."""

from __future__ import annotations

import zoneinfo
from typing import Annotated, Literal, get_args

from msgspec import Meta

from config.limits import ClientId, LoopbackHost, Port, Seconds, SecondsOrNone, TimeOfDay
from config.section import Section

Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
DAYS: tuple[str, ...] = get_args(Day)
"""Monday first."""

LoginBackoff = Annotated[float, Meta(ge=1, le=600)]


class Gateway(Section, frozen=True):
    """The IB gateway. Port 0: the paper gateway's, as it wrote it down.

    `restart_at` and `restart_window_s` (0: none) are its nightly restart, `login_day`, `login_at` and `login_window_s`
    (0: none) the time in which a person logs it in each week with a second factor; both by the clock of `zone`, which
    IBC runs in. Our own paper venue, where it is embedded, has neither. In the login window it is tried at most every
    `login_backoff_s`. Without a session for `away_s_max`, outside both windows, is an alarm.
    """

    host: LoopbackHost = "127.0.0.1"
    port: Port = 0
    control_port: Port = 0
    client_id: ClientId = 17
    account: str = "DU1234567"
    connect_timeout_s: Seconds = 4.0
    zone: str = "UTC"
    restart_at: TimeOfDay = "23:55"
    restart_window_s: SecondsOrNone = 600.0
    login_day: Day = "sunday"
    login_at: TimeOfDay = "07:05"
    login_window_s: SecondsOrNone = 7_200.0
    login_backoff_s: LoginBackoff = 30.0
    away_s_max: Seconds = 60.0


def faults_of_gateway(gateway: Gateway) -> list[str]:
    """What one value's type cannot show, as texts with their remedy."""
    try:
        zoneinfo.ZoneInfo(gateway.zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return [
            f"gateway.zone is {gateway.zone!r}; allowed: a zone of this machine, e.g. 'America/New_York' or 'UTC'. "
            "Remedy: the zone that the gateway and IBC run in"
        ]
    return []
