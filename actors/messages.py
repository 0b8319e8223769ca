"""Every message that crosses between actors, or enters one from its own driver, timer or shell.

Immutable and typed; small, so that a journal entry is a few hundred bytes. Commands are imperative
(`PlaceBracket`), events past tense (`OrderChanged`), a venue's claims are reports (`...Reported`). Prices and
quantities are Fixed8 integers (counts of 1e-8) whose names end in `_px` and `_qty`; times are wall-clock
nanoseconds since the epoch. An instance's text is its class name only, because the actor system calls
`str()` on every message several times on its way.
"""

from __future__ import annotations

import enum

import msgspec


class Message(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Base of all message bodies; the tag is the class name, which journals and traces show."""

    def __str__(self) -> str:
        return type(self).__name__


# ---- shell and supervision -----------------------------------------------------------------------------


class Recovered(Message, frozen=True):
    """First input of every incarnation, after the fold: re-arm timers, re-open what is volatile."""

    epoch: int


class TimerFired(Message, frozen=True):
    """A timer of this incarnation came due."""

    name: str


class Acknowledged(Message, frozen=True):
    """All owed messages from the receiver of this to its sender, up to `delivery_seq`, are in its journal."""

    delivery_seq: int


class HaltChanged(Message, frozen=True):
    """The halt latch was read and differs from what this actor last knew. Empty `reason`: cleared."""

    reason: str
    latched_ns: int


# ---- orders --------------------------------------------------------------------------------------------


class Side(enum.StrEnum):
    """Direction of an instruction."""

    BUY = "BUY"
    SELL = "SELL"


class OrderType(enum.StrEnum):
    """As IB names them."""

    MARKET = "MKT"
    LIMIT = "LMT"
    STOP = "STP"
    STOP_LIMIT = "STP LMT"


class Leg(enum.StrEnum):
    """Place of an order in its bracket."""

    ENTRY = "entry"
    TAKE_PROFIT = "take_profit"
    STOP_LOSS = "stop_loss"


class Signal(Message, frozen=True):
    """A wish to open a bracket. Prices are Fixed8; `limit_px` 0 means: enter at the market."""

    signal_id: str
    strategy: str
    symbol: str
    side: Side
    take_profit_px: int
    stop_px: int
    reference_px: int
    ts_event_ns: int
    expires_ns: int
    limit_px: int = 0
    correlation_id: str = ""


class SignalReceived(Message, frozen=True):
    """A signal as it stands in the bus, `entry_id` being what must be acknowledged once its outcome is journaled."""

    signal: Signal
    entry_id: str


class SignalUnreadable(Message, frozen=True):
    """An entry of the signal stream that is no signal: recorded as refused, acknowledged, never dropped unseen."""

    entry_id: str
    error: str
    payload: str


class Outcome(enum.StrEnum):
    """The one end of a signal."""

    SUBMITTED = "submitted"
    REFUSED = "refused"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"


class SignalOutcome(Message, frozen=True):
    """Recorded exactly once for each signal; `guard` and `figures` say who refused it and with what numbers."""

    signal_id: str
    outcome: Outcome
    guard: str = ""
    figures: dict[str, str] = {}


class BracketIntent(msgspec.Struct, frozen=True):
    """What the allocator decided; the broker turns it into three orders of one family."""

    intent_id: str
    signal_id: str
    strategy: str
    symbol: str
    side: Side
    qty: int
    limit_px: int
    take_profit_px: int
    stop_px: int
    expires_ns: int
    attempt: int = 1


class PlaceBracket(Message, frozen=True):
    """Allocator to broker, owed. Placed at most once per `intent_id`."""

    intent: BracketIntent


class IntentOutcome(Message, frozen=True):
    """Broker to allocator, owed, once per intent: it went out, or it never will."""

    intent_id: str
    signal_id: str
    outcome: Outcome
    guard: str = ""
    figures: dict[str, str] = {}


class OrderChanged(Message, frozen=True):
    """Broker to allocator (owed): an order of ours entered a new state or filled further."""

    client_order_id: str
    intent_id: str
    symbol: str
    leg: Leg
    side: Side
    state: str
    qty: int
    cum_qty: int
    avg_px: int


class PositionChanged(Message, frozen=True):
    """Broker to allocator (owed): our position, folded from executions alone."""

    symbol: str
    qty: int
    avg_px: int


class BracketClosed(Message, frozen=True):
    """Broker to allocator (owed): no order of this family can trade any more."""

    intent_id: str
    symbol: str


# ---- a broker's driver: commands to it ------------------------------------------------------------------


class OrderTicket(msgspec.Struct, frozen=True):
    """One order, complete, as it goes to the venue. `parent_order_id` 0: no parent."""

    client_order_id: str
    venue_order_id: int
    parent_order_id: int
    symbol: str
    side: Side
    order_type: OrderType
    qty: int
    limit_px: int
    stop_px: int
    account: str
    transmit: bool
    time_in_force: str = "GTC"
    oca_group: str = ""


class SubmitOrders(Message, frozen=True):
    """Write these orders, in this order, in this session and no other. Never repeated blindly.

    From `not_after_ns` on (0: no end) not one byte may leave: a lease that opened the gate, or the intent, is over
    by then, however long the command lay between decision and socket.
    """

    intent_id: str
    session_id: str
    tickets: tuple[OrderTicket, ...]
    resend: bool = False
    not_after_ns: int = 0


class CancelVenueOrder(Message, frozen=True):
    """Ask the venue to cancel; only its reports tell whether it did."""

    session_id: str
    client_order_id: str
    venue_order_id: int


class QueryVenue(Message, frozen=True):
    """Read open orders, completed orders, executions and positions, all of them, and report them together."""

    session_id: str
    request_id: str
    positions_only: bool = False


# ---- a broker's driver: reports from it -----------------------------------------------------------------


class SessionOpened(Message, frozen=True):
    """Connected and read. `session_id` is unique for ever; order ids are drawn from `next_order_id` on.

    `venue_next_order_id` is what the venue itself said, where a driver has raised the other above ids that it has
    seen in use: a roll-back shows only in the venue's own word. 0: it is `next_order_id`.
    """

    session_id: str
    account: str
    client_id: int
    next_order_id: int
    venue_next_order_id: int = 0


class SessionLost(Message, frozen=True):
    """The session is over. Nothing sent in it and not yet reported is known to have failed."""

    session_id: str
    reason: str


class SubmitWritten(Message, frozen=True):
    """The bytes of these orders were handed to the socket (which is not proof of arrival)."""

    session_id: str
    intent_id: str
    client_order_ids: tuple[str, ...]
    written_ns: int


class SubmitNotSent(Message, frozen=True):
    """Known for certain: not one byte of these orders left (halted, another session, refused before the write)."""

    session_id: str
    intent_id: str
    client_order_ids: tuple[str, ...]
    reason: str


class OrderReported(Message, frozen=True):
    """What openOrder, orderStatus or completedOrder said of one order. Zero or empty: not said."""

    session_id: str
    client_order_id: str
    venue_order_id: int
    perm_id: int
    client_id: int
    status: str
    symbol: str = ""
    side: str = ""
    order_type: str = ""
    qty: int = 0
    filled_qty: int = 0
    limit_px: int = 0
    stop_px: int = 0
    parent_order_id: int = 0
    why_held: str = ""
    completed: bool = False


class ExecutionReported(Message, frozen=True):
    """One execution. `exec_id` whole; a correction shares all before its last dot and has a higher suffix."""

    session_id: str
    exec_id: str
    client_order_id: str
    venue_order_id: int
    perm_id: int
    client_id: int
    account: str
    symbol: str
    side: Side
    last_qty: int
    last_px: int
    cum_qty: int
    ts_event_ns: int


class CommissionReported(Message, frozen=True):
    """Commission of one execution; `realized_pnl` is None where the venue left it unset."""

    session_id: str
    exec_id: str
    commission: int
    currency: str
    realized_pnl: int | None = None


class VenueErrorReported(Message, frozen=True):
    """An error callback. Evidence only: an error code never changes an order's state by itself."""

    session_id: str
    venue_order_id: int
    code: int
    text: str


class VenuePosition(msgspec.Struct, frozen=True):
    """A position as the venue states it."""

    account: str
    symbol: str
    qty: int
    avg_px: int


class VenueRead(Message, frozen=True):
    """Answer to `QueryVenue`. `failed` names the requests that were not answered: then absence proves nothing."""

    session_id: str
    request_id: str
    open_orders: tuple[OrderReported, ...]
    completed_orders: tuple[OrderReported, ...]
    executions: tuple[ExecutionReported, ...]
    commissions: tuple[CommissionReported, ...]
    positions: tuple[VenuePosition, ...]
    taken_ns: int
    positions_only: bool = False
    failed: tuple[str, ...] = ()


# ---- broker and reconciler ------------------------------------------------------------------------------


class OrderPicture(msgspec.Struct, frozen=True):
    """One of our orders as the broker actor knows it, for the reconciler."""

    client_order_id: str
    intent_id: str
    symbol: str
    side: Side
    leg: Leg
    state: str
    qty: int
    cum_qty: int
    venue_order_id: int
    perm_id: int
    generation: str
    since_ns: int
    resends: int
    expires_ns: int
    limit_px: int = 0
    stop_px: int = 0


class IncidentRecorded(Message, frozen=True):
    """Something that must not be, or a divergence found or cleared: a line for people, with its evidence."""

    kind: str
    subject: str
    evidence: str


class BrokerSessionChanged(Message, frozen=True):
    """Broker to reconciler, owed. Empty `session_id`: there is none."""

    session_id: str
    account: str
    next_order_id: int = 0


class ReadVenue(Message, frozen=True):
    """Reconciler to broker: read the venue and send me both pictures."""

    session_id: str
    request_id: str
    positions_only: bool = False


class PicturesTaken(Message, frozen=True):
    """Broker to reconciler: the venue's answer, and our own orders and positions after it was folded in."""

    read: VenueRead
    orders: tuple[OrderPicture, ...]
    positions: tuple[VenuePosition, ...]


class Resolution(enum.StrEnum):
    """What the venue's records settled about an order nobody was sure of."""

    RESEND_SAME_ID = "resend_same_id"
    EXPIRE = "expire"


class ResolveIntent(Message, frozen=True):
    """Reconciler to broker, owed: every order of this intent is absent from the venue twice, with grace between."""

    intent_id: str
    session_id: str
    resolution: Resolution
    evidence: str


class GrantGate(Message, frozen=True):
    """Reconciler to broker and allocator: orders may go out in this session until `expires_ns`, renewed in time."""

    session_id: str
    reconciler_epoch: int
    expires_ns: int


class RevokeGate(Message, frozen=True):
    """Reconciler to broker and allocator: at once, with the reason."""

    session_id: str
    reason: str


# ---- market ---------------------------------------------------------------------------------------------


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
    """The book image stands. `source`: where the list of symbols is from, `venue` or `kept_copy`."""

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
    """The row a decision used: values, sequence, and age when it was read."""

    leg: str
    bid_px: int
    bid_qty: int
    ask_px: int
    ask_qty: int
    sequence: int
    venue_update_id: int
    age_ns: int


class OpportunityFound(Message, frozen=True):
    """A cycle whose exact return, after fees, lots and minimum notional, is above the threshold. Exact decimals."""

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


class EvaluatorStatus(Message, frozen=True):
    """An evaluator's driver, about once a second: totals since this incarnation began."""

    changes: int
    evaluations: int
    candidates: int
    skipped: dict[str, int]
    overruns: int
    rows_valid: int
    rows_invalid: int


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


AnyMessage = (
    Recovered
    | TimerFired
    | Acknowledged
    | HaltChanged
    | Signal
    | SignalReceived
    | SignalUnreadable
    | SignalOutcome
    | PlaceBracket
    | IntentOutcome
    | OrderChanged
    | PositionChanged
    | BracketClosed
    | SubmitOrders
    | CancelVenueOrder
    | QueryVenue
    | SessionOpened
    | SessionLost
    | SubmitWritten
    | SubmitNotSent
    | OrderReported
    | ExecutionReported
    | CommissionReported
    | VenueErrorReported
    | VenueRead
    | IncidentRecorded
    | BrokerSessionChanged
    | ReadVenue
    | PicturesTaken
    | ResolveIntent
    | GrantGate
    | RevokeGate
    | StartFeed
    | OpenImage
    | StartEvaluator
    | ImageOpened
    | AuditFinished
    | EvaluatorReady
    | FeedStatus
    | OpportunityFound
    | EvaluatorStatus
    | BookStatus
    | PriceSeen
)


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """A body on its way, with what makes it traceable and, where it is owed, deliverable exactly once.

    `message_id` of an owed message is `role:seq.k`: the k-th message of the sender's journal entry `seq`, the same
    at every replay. `delivery_seq` counts the owed messages from `source` to `target` without gaps from 1; 0 means
    not owed. `target_epoch` 0 means whoever holds the role; any other is refused by other incarnations.
    """

    message_id: str
    correlation_id: str
    causation_id: str
    source: str
    target: str
    source_epoch: int
    ts_init_ns: int
    body: AnyMessage
    ts_event_ns: int = 0
    target_epoch: int = 0
    delivery_seq: int = 0

    def __str__(self) -> str:
        return f"Envelope({self.message_id} {type(self.body).__name__})"


class JournalRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One committed input: what the fold needs, and nothing that it can compute again."""

    seq: int
    now_ns: int
    epoch: int
    input: Envelope
