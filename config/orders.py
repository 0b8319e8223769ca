"""Settings of what keeps orders safe."""

from __future__ import annotations

from typing import Literal

from config.limits import Seconds
from config.section import Section


class Sentinel(Section, frozen=True):
    """The stop sentinel: every protective stop is checked against what the market printed.

    `on_inert`: what to do about a stop that was due for `grace_s` without a fill: tell a person, or cancel it, see that
    done, wait `settle_s` for a fill that is late, and close at the market what is left.
    """

    on_inert: Literal["alarm_only", "close"] = "alarm_only"
    grace_s: Seconds = 5.0
    settle_s: Seconds = 2.0
    unprotected_s_max: Seconds = 30.0
    price_age_s_max: Seconds = 600.0
