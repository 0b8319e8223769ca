"""The settings of one paper gateway, checked once."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Literal

from venues.gateway.contracts import DEFAULT_SYMBOLS, stocks_of


@dataclass(frozen=True, slots=True)
class Manners:
    """How it behaves where real gateways were seen to behave in more than one way, or were not seen at all."""

    presubmit_first: bool = False
    """A limit order is told as PreSubmitted before Submitted. Both were recorded."""
    pending_cancel: bool = False
    """A cancel is told as PendingCancel before Cancelled. Both were recorded."""
    partial_parent: Literal["wait", "follow"] = "wait"
    """Children of a partly filled parent: wait for the whole fill, or go live for as much as has filled.
    Not verified against a real gateway. When the parent ends partly filled, both give children of what filled."""
    fill_delay_ms: int = 0


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
    commission_per_share: Decimal = Decimal("0.005")
    commission_min: Decimal = Decimal("1.00")
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
        stocks_of(self.symbols)
        if self.cash_start < 0 or self.commission_min < 0 or self.commission_per_share < 0:
            raise ValueError("cash_start, commission_min and commission_per_share are not negative")
