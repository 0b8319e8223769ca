"""Which faults a run has and how often: drawn from the seed, so that seeds differ in kind and not only in luck.

A run with every fault at once hides what a single one does (an actor that dies every ten inputs never gets far), so
each kind is off in many seeds.
"""

from __future__ import annotations

from random import Random

import msgspec


class FaultRates(msgspec.Struct, frozen=True):
    """Probabilities: of a crash or pause at each fault point, of the rest for each message, call, report or second."""

    crash: float = 0.0
    crash_after_effect: float = 0.0
    pause: float = 0.0
    pause_before_drive: float = 0.0
    drop: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    ledger_lost: float = 0.0
    ledger_silent: float = 0.0
    ledger_late: float = 0.0
    ledger_away_per_s: float = 0.0
    snapshot_damaged: float = 0.0
    session_drop_per_s: float = 0.0
    report_lost: float = 0.0
    report_duplicated: float = 0.0
    report_late: float = 0.0
    query_fails: float = 0.0
    venue_rejects: float = 0.0
    submit_late: float = 0.0
    drop_on_submit: float = 0.0
    worker_ahead: float = 0.0
    ids_rolled_back: float = 0.0
    fill_corrected: float = 0.0
    halt_per_s: float = 0.0
    ack_lost: float = 0.0
    feed_dies_per_s: float = 0.0


QUIET = FaultRates()

_RANGES: dict[str, tuple[float, ...]] = {
    "crash": (0.0, 0.001, 0.004, 0.012),
    "crash_after_effect": (0.0, 0.0, 0.02),
    "pause": (0.0, 0.0, 0.002, 0.006),
    "pause_before_drive": (0.0, 0.0, 0.03),
    "drop": (0.0, 0.02, 0.15),
    "duplicate": (0.0, 0.02, 0.15),
    "delay": (0.0, 0.03, 0.2),
    "ledger_lost": (0.0, 0.0, 0.01),
    "ledger_silent": (0.0, 0.0, 0.01),
    "ledger_late": (0.0, 0.0, 0.01),
    "ledger_away_per_s": (0.0, 0.0, 0.03),
    "snapshot_damaged": (0.0, 0.0, 0.3),
    "session_drop_per_s": (0.0, 0.02, 0.08),
    "report_lost": (0.0, 0.02, 0.15),
    "report_duplicated": (0.0, 0.05, 0.2),
    "report_late": (0.0, 0.05, 0.3),
    "query_fails": (0.0, 0.05, 0.2),
    "venue_rejects": (0.0, 0.0, 0.1),
    "submit_late": (0.0, 0.3, 0.9),
    "drop_on_submit": (0.0, 0.2, 0.6),
    "worker_ahead": (0.0, 0.3, 0.6),
    "ids_rolled_back": (0.0, 0.0, 0.2),
    "fill_corrected": (0.0, 0.0, 0.1),
    "halt_per_s": (0.0, 0.0, 0.01),
    "ack_lost": (0.0, 0.05, 0.3),
    "feed_dies_per_s": (0.0, 0.02, 0.1),
}


def draw_rates(random: Random) -> FaultRates:
    """Choose one of a few levels for each fault."""
    return FaultRates(**{name: random.choice(levels) for name, levels in _RANGES.items()})
