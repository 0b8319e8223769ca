"""The evaluator's section of the settings."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from config.limits import Cpu, Seconds, SecondsOrNone
from config.section import Section

CycleLengths = Annotated[tuple[Literal[3, 4], ...], Meta(min_length=1, max_length=2)]
CyclesMax = Annotated[int, Meta(ge=1, le=20_000_000)]


class Evaluator(Section, frozen=True):
    """`dry_run`: opportunities are written down and nothing is sent.

    `spin`: look at the rings without a pause instead of sleeping until a feed wakes it, which takes a processor of its
    own: `cpu`, where it is given, and better kept free of others.

    `cycle_lengths`: legs of the cycles that are looked at. More cycles than `cycles_max` are refused at the start.
    `reference_every_s`: how often a copy of the image is given to evaluator and reference both; 0: never.
    """

    dry_run: bool = True
    spin: bool = False
    cpu: Cpu | None = None
    audit_every_s: Seconds = 30.0
    cycle_lengths: CycleLengths = (3,)
    cycles_max: CyclesMax = 2_000_000
    reference_every_s: SecondsOrNone = 10.0
