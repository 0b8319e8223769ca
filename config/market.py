"""What the settings say of feeds beyond addresses: depth, limits of the venue, ages by symbol class, replay."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from config.limits import Milliseconds
from config.section import Section

DepthLevels = Annotated[int, Meta(ge=1, le=1_000)]
"""A side, in the image. A snapshot of the venue's has at most 1,000 at its ordinary weight."""

CaptureMegabytes = Annotated[int, Meta(ge=0, le=16_384)]
"""Of one file; two are kept a connection. 0: none."""

ConnectionLife = Annotated[float, Meta(ge=1, le=86_400)]
"""The venue ends a connection after 24 hours."""

ReplayPace = Annotated[float, Meta(ge=0, le=1_000_000)]


class AgeClass(Section, frozen=True, kw_only=True):
    """Symbols that `match`, a pattern such as `*USDT`, count up to this age. The first class that matches holds."""

    match: Annotated[str, Meta(min_length=1, max_length=64)]
    age_ms_max: Milliseconds


class Replay(Section, frozen=True):
    """Recordings in place of the venue's streams: capture files, or lines of `<time> <frame>`.

    `exchange_info`: the listing they belong to. `pace`: a multiple of the recorded one; 0: as fast as it goes.
    """

    paths: tuple[str, ...] = ()
    exchange_info: str = ""
    pace: ReplayPace = 1.0
