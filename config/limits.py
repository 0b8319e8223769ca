"""Bounds of what a setting may be, as types: a value outside is refused at start, with its key."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from msgspec import Meta

Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_.-]{0,31}$")]
"""Of a fund, a role: lower case, safe in keys and file names."""

Folder = Annotated[str, Meta(pattern=r"^[^\x00]+$", max_length=4_096)]
"""Not empty: that would be wherever the command happens to be given."""

Symbols = Annotated[tuple[str, ...], Meta(min_length=1, max_length=10_000)]

LoopbackHost = Annotated[str, Meta(pattern=r"^(127\.0\.0\.1|::1|localhost)$")]
"""Nothing of this program, and no gateway it talks to, is reached over a network."""

Port = Annotated[int, Meta(ge=0, le=65_535)]
"""0: pick a free one (a server of ours), or the one that the paper venue wrote down."""

ClientId = Annotated[int, Meta(ge=1, le=999_999)]
"""Not 0: that client is given the orders of the gateway's own screen."""

Count = Annotated[int, Meta(ge=0, le=1_000_000)]
PositiveCount = Annotated[int, Meta(ge=1, le=1_000_000)]
Megabytes = Annotated[int, Meta(ge=1, le=16_384)]
Milliseconds = Annotated[int, Meta(ge=1, le=86_400_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
SecondsOrNone = Annotated[float, Meta(ge=0, le=86_400)]
Rate = Annotated[float, Meta(ge=0, le=1_000_000)]
Bps = Annotated[float, Meta(ge=0, le=10_000)]
TimeOfDay = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
"""HH:MM."""

Fraction = Annotated[float, Meta(gt=0, le=1)]

AMOUNT_MAX = Decimal("92233720368")
"""What an int64 count of 1e-8 can hold."""

SYMBOLS_PER_CONNECTION_MAX = 200
"""The spot exchange's documentation says 1,024 streams a connection; asked for more than 200 in one address it answered
HTTP 414, and a feed of all its symbols came up without any (field note 6). So 200, and no setting goes above it."""

Cpu = Annotated[int, Meta(ge=0, le=4_095)]
"""A processor's number, as the system counts them."""

SymbolsPerConnection = Annotated[int, Meta(ge=1, le=SYMBOLS_PER_CONNECTION_MAX)]
FeedShards = Annotated[int, Meta(ge=1, le=32)]
