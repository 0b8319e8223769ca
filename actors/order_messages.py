"""Messages about signals, intents, orders, positions and the gate, between allocator, broker and reconciler."""

from __future__ import annotations

import enum

import msgspec

from actors.account_messages import OurCash
from actors.message import Message
from actors.order_terms import Leg, Side
from actors.venue_messages import VenuePosition, VenueRead
from kernels.reconcile import OurFill


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
    figures: dict[str, str] = msgspec.field(default_factory=dict)


class BracketIntent(msgspec.Struct, frozen=True, gc=False, tag="bracket", tag_field="kind"):
    """What the allocator decided; the broker turns it into three orders of one family. `reference_px`: sized at it."""

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
    reference_px: int = 0


class ExitIntent(msgspec.Struct, frozen=True, gc=False, tag="exit", tag_field="kind"):
    """One order out of a position; it may leave while halted and while the gate is shut.

    `signal_id` is what it is for, e.g. `flatten:<id>:AAPL`, and with `attempt` gives the intent's id. `within`: the
    bracket whose exits' OCA group it joins, so that a stop that fills first takes this order's quantity, and the other
    way round. Empty: it stands alone, and who asks must know that nothing else closes the same quantity. `limit_px` 0:
    at the market; with a `stop_px` it is a stop. `asked_by` is the role that is told its one outcome; empty: the
    broker placed it by itself.
    """

    intent_id: str
    signal_id: str
    strategy: str
    symbol: str
    side: Side
    qty: int
    limit_px: int
    expires_ns: int
    asked_by: str
    within: str = ""
    attempt: int = 1
    stop_px: int = 0


class PlaceExit(Message, frozen=True):
    """To the broker, owed. Placed at most once per `intent_id`; its outcome goes to `asked_by`."""

    intent: ExitIntent


class CancelOrders(Message, frozen=True):
    """To the broker, owed: have these orders of ours cancelled.

    Asked of the venue again, in any session, until its records show each done; `OrderChanged` tells that, and a fill
    that came first. One that is done or unknown here is left alone, and counted.
    """

    client_order_ids: tuple[str, ...]
    reason: str


class CloseWithStop(Message, frozen=True):
    """To the broker, owed: make this working stop of ours a market order under its own order id, of at most `qty`.

    `qty` is its size in all, with what has filled. No other order then closes the same quantity, so that it cannot be
    closed twice, whenever the stop fills. `OrderChanged` tells what became of it; `StopStands` goes to `asked_by`
    where it could not be changed.
    """

    client_order_id: str
    qty: int
    asked_by: str
    reason: str


class StopStands(Message, frozen=True):
    """Broker to whoever asked for `CloseWithStop`, owed, once: the stop could not be made a market order."""

    client_order_id: str
    reason: str


class PlaceBracket(Message, frozen=True):
    """Allocator to broker, owed. Placed at most once per `intent_id`."""

    intent: BracketIntent


class IntentOutcome(Message, frozen=True):
    """Broker to whoever asked for the intent, owed, once per intent: it went out, or it never will."""

    intent_id: str
    signal_id: str
    outcome: Outcome
    guard: str = ""
    figures: dict[str, str] = msgspec.field(default_factory=dict)


class OrderChanged(Message, frozen=True):
    """Broker to allocator and watchers (owed): an order of ours entered a new state or filled further.

    To watchers also where the venue's own figures of it (limit, stop, group) changed. `bracket_id`: the bracket whose
    quantity it closes, where it is an order of another family. A stop without `stop_px` is at the market.
    """

    client_order_id: str
    intent_id: str
    symbol: str
    leg: Leg
    side: Side
    state: str
    qty: int
    cum_qty: int
    avg_px: int
    limit_px: int = 0
    stop_px: int = 0
    perm_id: int = 0
    oca_group: str = ""
    since_ns: int = 0
    """When it entered this state, by our clock."""
    bracket_id: str = ""


class FillBooked(Message, frozen=True):
    """Broker to risk (owed): what an execution, its correction or its commission changed of the money of a symbol.

    `realized_pnl` by average cost, before commissions; both are differences, Fixed8. `ts_event_ns` is the execution's
    venue time, also where its commission comes later.
    """

    exec_id: str
    symbol: str
    realized_pnl: int
    commission: int
    currency: str
    ts_event_ns: int


class PositionChanged(Message, frozen=True):
    """Broker to allocator and watchers (owed): our position, folded from executions alone."""

    symbol: str
    qty: int
    avg_px: int


class BracketClosed(Message, frozen=True):
    """Broker to allocator and watchers (owed): no order of this family can trade any more."""

    intent_id: str
    symbol: str


class OrderPicture(msgspec.Struct, frozen=True, gc=False):
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
    oca_group: str = ""
    order_type: str = ""
    time_in_force: str = ""
    bracket_id: str = ""


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
    """Read the venue; the reconciler gets both pictures, and so does risk while it flattens.

    Empty `session_id`: in whichever session is open.
    """

    session_id: str
    request_id: str
    positions_only: bool = False


class PicturesTaken(Message, frozen=True):
    """Broker to reconciler, and to risk while it flattens: the venue's answer, and what we hold after it was folded in.

    `fills`: those that the read names, and those without a commission; executions up to `fills_known_from_ns` are
    kept as positions only. `externals`: permIds of orders that are not ours and are followed. `cash`: ours, after it.
    """

    read: VenueRead
    orders: tuple[OrderPicture, ...]
    positions: tuple[VenuePosition, ...]
    fills: tuple[OurFill, ...] = ()
    fills_known_from_ns: int = 0
    externals: tuple[int, ...] = ()
    cash: OurCash | None = None


class ReconcileNow(Message, frozen=True):
    """A person asks for a complete read now; `asked_ns` is when, and what the answer is known by.

    `accept_cash`: and takes the account's cash as it then is for the baseline of what is counted from there on.
    """

    asked_ns: int
    accept_cash: bool = False


class DivergenceChanged(Message, frozen=True):
    """A line of `lines/divergences.jsonl`: raised, confirmed (by a second read), cleared; or a baseline was taken."""

    change: str
    kind: str
    subject: str
    evidence: str
    request_id: str
    first_ns: int
    last_ns: int
    at_ns: int


class Resolution(enum.StrEnum):
    """What the venue's records settled about an order nobody was sure of."""

    RESEND_SAME_ID = "resend_same_id"
    EXPIRE = "expire"


class ResolveIntent(Message, frozen=True):
    """Reconciler to broker, owed: every unresolved order of this intent is absent from the venue twice, with grace
    between.

    With `client_order_ids` it is about these orders of the intent instead: they worked, and the venue took them back.
    """

    intent_id: str
    session_id: str
    resolution: Resolution
    evidence: str
    client_order_ids: tuple[str, ...] = ()


class GrantGate(Message, frozen=True):
    """Reconciler to broker and allocator: orders may go out in this session until `expires_ns`, renewed in time."""

    session_id: str
    reconciler_epoch: int
    expires_ns: int


class RevokeGate(Message, frozen=True):
    """Reconciler to broker and allocator: at once, with the reason."""

    session_id: str
    reason: str
