"""Messages about feeds, the book image, the evaluator and its opportunities."""

from __future__ import annotations

import msgspec

from actors.message import Message
from kernels.cycle_execution import PlannedLeg


class StartFeed(Message, frozen=True):
    """Feed to its driver: begin, under this epoch of the role."""

    epoch: int


class OpenImage(Message, frozen=True):
    """Book to its driver: fetch what the venue lists, and make or keep the book image."""

    epoch: int


class StartEvaluator(Message, frozen=True):
    """Evaluator to its driver: map the image and begin; the epoch makes opportunity ids unique."""

    epoch: int


class ImageOpened(Message, frozen=True):
    """The book image stands. `source`: where the list of symbols is from, `venue`, `kept_copy` or `file`."""

    image_id: str
    rows: int
    feeds: tuple[str, ...]
    created: bool
    source: str


class AuditFinished(Message, frozen=True):
    """Quiet rows were compared with the venue's snapshot; the mismatched stood through two looks, unchanged."""

    checked: int
    mismatched: tuple[str, ...]


class EvaluatorReady(Message, frozen=True):
    """An evaluator's driver has mapped the image and indexed its cycles."""

    image_id: str
    rows: int
    cycles: int


class FeedStatus(Message, frozen=True):
    """A feed's driver, about once a second and at every change: totals since this incarnation began."""

    feed: str
    up: bool
    reason: str
    frames: int
    parsed: int
    rejected: dict[str, int]
    quantity_capped: int
    reconnects: int
    lag_ns: int


class LegUsed(msgspec.Struct, frozen=True):
    """The row a decision used: values, sequence, and age when it was read; the order that follows from it.

    `ladder`: where there is a live one, all levels of the leg's side that the decision was taken on, best first, of
    which it uses the top and the best behind it, `levels` together.
    """

    leg: str
    bid_px: int
    bid_qty: int
    ask_px: int
    ask_qty: int
    sequence: int
    venue_update_id: int
    age_ns: int
    received_ns: int = 0
    flags: int = 0
    qty: int = 0
    limit_px: int = 0
    levels: int = 1
    ladder: tuple[tuple[int, int], ...] = ()
    ladder_sequence: int = 0
    ladder_update_id: int = 0
    ladder_age_ns: int = 0


class OpportunityFound(Message, frozen=True):
    """A cycle whose exact return, after fees, lots and minimum notional, is above the threshold. Exact decimals.

    `fee_cost`: what fees paid in `fee_token` are worth in the start asset; not taken off `end_amount`.
    `plan`: what an executor needs, empty in a dry run.
    """

    opportunity_id: str
    cycle: tuple[str, ...]
    gross_return: str
    net_return: str
    start_asset: str
    start_amount: str
    end_amount: str
    legs: tuple[LegUsed, ...]
    ts_event_ns: int
    dry_run: bool
    evaluated_ns: int = 0
    fee_token: str = ""
    fee_cost: str = "0"
    plan: tuple[PlannedLeg, ...] = ()


class EvaluatorStatus(Message, frozen=True):
    """An evaluator's driver, about once a second: totals since this incarnation began.

    `longest_cycle`, `longest_ns`: of the opportunities that stand, the one that has for longest; empty and 0 for none.
    """

    changes: int
    evaluations: int
    candidates: int
    skipped: dict[str, int]
    overruns: int
    rows_valid: int
    rows_invalid: int
    longest_cycle: tuple[str, ...] = ()
    longest_ns: int = 0


class BookStatus(Message, frozen=True):
    """The book actor's driver, about once a second: rows by state, feeds alive, audit results."""

    rows_valid: int
    rows_invalid: int
    reasons: dict[str, int]
    feeds_up: tuple[str, ...]
    feeds_down: tuple[str, ...]
    audited: int
    audit_mismatches: int


class PriceSeen(Message, frozen=True):
    """Conflated last price of a stock, from the gateway's market data."""

    symbol: str
    last_px: int
    ts_event_ns: int
