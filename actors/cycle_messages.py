"""Messages about the execution of a cycle: evaluator to executor and back, the executor's driver, the outcome."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from actors.market_messages import LegUsed
from actors.message import Message
from actors.order_terms import Side
from kernels.cycle_execution import PlannedLeg


class ExecuteCycle(Message, frozen=True):
    """Evaluator to executor, owed: do this. Executed at most once per `attempt_id`; one `CycleOutcome`, always.

    `rows` are those that the decision used, a leg each, with values, sequences and ages.
    """

    attempt_id: str
    start_asset: str
    spent: int
    received: int
    net_return: str
    legs: tuple[PlannedLeg, ...]
    rows: tuple[LegUsed, ...]
    decided_ns: int


# ---- the executor and its driver


class StartExecutor(Message, frozen=True):
    """Executor to its driver: map the image, look for a person's word, and write lines."""

    epoch: int


class ReadQuotes(Message, frozen=True):
    """Executor to its driver: how do these markets stand now?"""

    request_id: str
    symbols: tuple[str, ...]


class Quote(msgspec.Struct, frozen=True, gc=False):
    """A row as it stood, live or not; `verdict` is the book image's."""

    symbol: str
    verdict: str
    bid_px: int
    bid_qty: int
    ask_px: int
    ask_qty: int
    sequence: int
    age_ns: int

    @property
    def live(self) -> bool:
        """Whether it may open risk."""
        return self.verdict == "live"


class QuotesRead(Message, frozen=True):
    """Answer to `ReadQuotes`, in its order. A market that the image does not hold is not live, all zero."""

    request_id: str
    quotes: tuple[Quote, ...]
    read_ns: int


class CyclesResumed(Message, frozen=True):
    """A person's word that cycles may go on; it clears what was latched before `at_ns`."""

    at_ns: int
    reason: str


# ---- the outcome


class CycleEnd(enum.StrEnum):
    """The one end of an attempt."""

    REFUSED = "refused"
    """Not one order left."""
    FILLED = "filled"
    """Every leg filled; what is over is dust."""
    UNWOUND = "unwound"
    """A leg failed or was short, and what it left was brought back, or on, to the start asset; dust may remain."""
    HELD = "held"
    """A leg failed or was short, and what it left is kept: by policy, or because unwinding could not go on."""
    NOT_FILLED = "not_filled"
    """The first leg (at once: every leg) filled nothing."""


class LegOutcome(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An order of an attempt, expected against observed. Counts of 1e-8; latency from placing to its end.

    `leg` is its number from 1, or `unwind`. `observed_px` is the average, to nearest; 0 where nothing filled.
    """

    client_order_id: str
    leg: str
    symbol: str
    side: Side
    expected_px: int
    expected_qty: int
    limit_px: int
    qty: int
    state: str
    observed_px: int = 0
    observed_qty: int = 0
    observed_quote_qty: int = 0
    expected_fee: int = 0
    commissions: Mapping[str, int] = {}
    latency_ns: int = 0
    reason: str = ""


class CycleOutcome(Message, frozen=True):
    """Executor to evaluator (owed), and a line: what became of an `ExecuteCycle`. Exact counts of 1e-8.

    `flows`: what the attempt changed of each asset; its entry for the start asset is the realized result, `realized`.
    `residuals`: the other assets' entries. `slip_bps`: expected less observed end amount over spent, 1e-4 of it,
    where every leg filled.
    """

    attempt_id: str
    end: CycleEnd
    mode: str
    start_asset: str
    expected: int
    realized: int
    guard: str = ""
    figures: Mapping[str, str] = {}
    flows: Mapping[str, int] = {}
    residuals: Mapping[str, int] = {}
    legs: tuple[LegOutcome, ...] = ()
    slip_bps: int | None = None
    decided_ns: int = 0
    ended_ns: int = 0


class CycleLineWritten(Message, frozen=True):
    """Driver to executor: the line of this outcome is in the file, once."""

    attempt_id: str


class WriteCycleLine(Message, frozen=True):
    """Executor to its driver: append this outcome's line, unless it is there already."""

    outcome: CycleOutcome
