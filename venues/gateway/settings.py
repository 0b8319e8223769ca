"""The settings of one paper gateway, checked once."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Literal

from venues.gateway.account import Fees
from venues.gateway.contracts import DEFAULT_SYMBOLS, spots_of
from venues.gateway.hours import Hours

REFUSE_S_MAX = 600
CASH_MAX = Decimal(10) ** 12
MESSAGES_PER_S_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Manners:
    """How it behaves where real gateways were seen to behave in more than one way, or were not seen at all."""

    presubmit_first: bool = False
    """A limit order is told as PreSubmitted before Submitted. Both were recorded."""
    pending_cancel: bool = False
    """A cancel is told as PendingCancel before Cancelled. Both were recorded."""
    partial_parent: Literal["wait", "follow", "keep"] = "wait"
    """Children of a partly filled parent: wait for the whole fill, or go live for as much as has filled.
    Not verified against a real gateway. When the parent ends partly filled, both give children of what filled; `keep`
    waits too, and then leaves them as large as they were placed."""
    fill_delay_ms: int = 0
    market_data: Literal["live", "delayed", "none"] = "live"
    """What the account has subscribed to: live prices; delayed ones, told to market data types 3 and 4; nothing."""


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Raises ValueError where a value makes no sense."""

    state_dir: Path = Path("run/gateway")
    port: int = 4002
    """0: any free one, written to `gateway.json` in the state folder."""
    control_port: int = 0
    account: str = "DU1234567"
    currency: str = "USD"
    cash_start: Decimal = Decimal("1000000")
    symbols: tuple[str, ...] = DEFAULT_SYMBOLS
    seed: int = 1
    walk: bool = True
    tick_ms: int = 250
    volatility_bps: float = 1.5
    """Of the log price, each tick."""
    fees: Fees = field(default_factory=Fees)
    hours: Hours = "always"
    """always: everything trades at any time. exchange: sessions, holidays and early closes of the US exchanges."""
    restart_at: str = ""
    """HH:MM in UTC of the nightly restart, by the gateway's clock; empty: none."""
    restart_s: float = 120.0
    """How long the nightly restart refuses connections."""
    restart_loses_ms: int = 1_000
    """The nightly restart forgets unfilled orders of so long before it."""
    messages_per_s_max: int = 50
    """A client that sends more is told error 100 and closed, as IB does; 0: no limit."""
    sessions_max: int = 32
    completed_kept_max: int = 5_000
    """Done orders kept; beyond it the oldest are dropped at a compaction."""
    executions_kept_max: int = 20_000
    """Executions kept; beyond it the oldest are folded into the positions' base."""
    journal_bytes_max: int = 16 << 20
    """A journal longer than this is compacted into a snapshot."""
    manners: Manners = field(default_factory=Manners)
    ready_file: Path | None = None
    ready_fd: int | None = None
    lifeline_fd: int | None = None
    """A pipe's reading end: the gateway ends when the other end is closed, so that it cannot outlive its starter."""

    def __post_init__(self) -> None:
        for name in ("port", "control_port"):
            if not 0 <= getattr(self, name) <= 65535:
                raise ValueError(f"{name}: {getattr(self, name)} is not a TCP port")
        if self.tick_ms < 1:
            raise ValueError(f"tick_ms: {self.tick_ms} is below 1")
        if not 0 <= self.volatility_bps <= 100:
            raise ValueError(f"volatility_bps: {self.volatility_bps} is not between 0 and 100")
        if not self.symbols:
            raise ValueError("symbols: none given")
        spots_of(self.symbols)
        if not (self.cash_start.is_finite() and 0 <= self.cash_start <= CASH_MAX):
            raise ValueError(f"cash_start: {self.cash_start} is not from 0 to {CASH_MAX}")
        if not 0 <= self.messages_per_s_max <= MESSAGES_PER_S_MAX:
            raise ValueError(f"messages_per_s_max: {self.messages_per_s_max} is not from 0 to {MESSAGES_PER_S_MAX}")
        for name in ("ready_fd", "lifeline_fd"):
            _require_open(name, getattr(self, name))
        if self.restart_at and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", self.restart_at):
            raise ValueError(f"restart_at: {self.restart_at!r} is not a time as 23:55")
        if not 0 < self.restart_s <= REFUSE_S_MAX or not 0 <= self.restart_loses_ms <= 60_000:
            raise ValueError(f"restart_s is above 0 and at most {REFUSE_S_MAX}, restart_loses_ms from 0 to 60000")


def _require_open(name: str, descriptor: int | None) -> None:
    """Raise ValueError where a descriptor was given that is none of this process."""
    if descriptor is None:
        return
    try:
        os.fstat(descriptor)
    except (OSError, OverflowError) as error:
        raise ValueError(f"{name}: {descriptor} is not an open file descriptor of this process") from error
