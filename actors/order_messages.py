"""Messages about signals, intents, orders, positions and the gate, between allocator, broker and reconciler."""

from __future__ import annotations

import enum

import msgspec

from actors.message import Message
from actors.order_terms import Leg, Side
from actors.venue_messages import VenuePosition, VenueRead


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


class BracketIntent(msgspec.Struct, frozen=True, gc=False):
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
    figures: dict[str, str] = msgspec.field(default_factory=dict)


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
