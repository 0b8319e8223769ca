"""Every message that crosses between actors, or enters one from its own driver, timer or shell.

Immutable and typed; small, so that a journal entry is a few hundred bytes. Commands are imperative
(`PlaceBracket`), events past tense (`OrderChanged`), a venue's claims are reports (`...Reported`). Prices and
quantities are Fixed8 integers (counts of 1e-8) whose names end in `_px` and `_qty`; times are wall-clock
nanoseconds since the epoch. An instance's text is its class name only, because the actor system calls
`str()` on every message several times on its way.
"""

from __future__ import annotations

import msgspec

from actors.account_messages import (
    AccountFigures,
    ContractRead,
    OurCash,
    ReadContract,
    SubmitRefused,
    VenueHolding,
)
from actors.cycle_messages import (
    CycleEnd,
    CycleLineWritten,
    CycleOutcome,
    CyclesResumed,
    ExecuteCycle,
    LegOutcome,
    Quote,
    QuotesRead,
    ReadQuotes,
    StartExecutor,
    WriteCycleLine,
)
from actors.health_messages import StartWatch, SuspicionsFound
from actors.market_messages import (
    AuditFinished,
    BookStatus,
    EvaluatorReady,
    EvaluatorStatus,
    FeedStatus,
    ImageOpened,
    LegUsed,
    OpenImage,
    OpportunityFound,
    PriceSeen,
    StartEvaluator,
    StartFeed,
)
from actors.message import (
    Acknowledged,
    AlarmAcknowledged,
    HaltChanged,
    Message,
    Recovered,
    TimerFired,
)
from actors.order_messages import (
    BracketClosed,
    BracketIntent,
    BrokerSessionChanged,
    CancelOrders,
    CloseWithStop,
    DivergenceChanged,
    ExitIntent,
    FillBooked,
    GrantGate,
    IncidentRecorded,
    IntentOutcome,
    OrderChanged,
    OrderPicture,
    Outcome,
    PicturesTaken,
    PlaceBracket,
    PlaceExit,
    PositionChanged,
    ReadVenue,
    ReconcileNow,
    Resolution,
    ResolveIntent,
    RevokeGate,
    Signal,
    SignalOutcome,
    SignalReceived,
    SignalUnreadable,
    StopStands,
)
from actors.order_terms import (
    Leg,
    OrderType,
    Side,
)
from actors.risk_messages import Flatten
from actors.sentinel_messages import (
    OrdersShown,
    PricesLost,
    PrintsSeen,
    ShowOrders,
    WatchPrices,
)
from actors.spot_messages import (
    CancelSpotOrder,
    PlaceSpotOrder,
    QuerySpotOrder,
    ReadSpotAccount,
    RebaseSpotAccount,
    SpotAccountRead,
    SpotBalance,
    SpotBalancesChanged,
    SpotBalancesReported,
    SpotExecutionReported,
    SpotGateChanged,
    SpotGateReason,
    SpotOrderDone,
    SpotOrderNotSent,
    SpotOrderRead,
    SpotOrderRefused,
    SpotOrderReported,
    SpotOrderWritten,
    SpotOutcomeUnknown,
    SpotSessionLost,
    SpotSessionOpened,
    SpotTicket,
    SubmitSpotOrder,
)
from actors.venue_messages import (
    CancelVenueOrder,
    CommissionReported,
    ExecutionReported,
    ModifyOrder,
    OrderReported,
    OrderTicket,
    QueryVenue,
    SessionLost,
    SessionOpened,
    SubmitNotSent,
    SubmitOrders,
    SubmitWritten,
    VenueErrorReported,
    VenuePosition,
    VenueRead,
)

__all__ = [
    "AccountFigures",
    "Acknowledged",
    "AlarmAcknowledged",
    "AnyMessage",
    "AuditFinished",
    "BookStatus",
    "BracketClosed",
    "BracketIntent",
    "BrokerSessionChanged",
    "CancelOrders",
    "CancelSpotOrder",
    "CancelVenueOrder",
    "CloseWithStop",
    "CommissionReported",
    "ContractRead",
    "CycleEnd",
    "CycleLineWritten",
    "CycleOutcome",
    "CyclesResumed",
    "DivergenceChanged",
    "Envelope",
    "EvaluatorReady",
    "EvaluatorStatus",
    "ExecuteCycle",
    "ExecutionReported",
    "ExitIntent",
    "FeedStatus",
    "FillBooked",
    "Flatten",
    "GrantGate",
    "HaltChanged",
    "ImageOpened",
    "IncidentRecorded",
    "IntentOutcome",
    "JournalRecord",
    "Leg",
    "LegOutcome",
    "LegUsed",
    "Message",
    "ModifyOrder",
    "OpenImage",
    "OpportunityFound",
    "OrderChanged",
    "OrderPicture",
    "OrderReported",
    "OrderTicket",
    "OrderType",
    "OrdersShown",
    "OurCash",
    "Outcome",
    "PicturesTaken",
    "PlaceBracket",
    "PlaceExit",
    "PlaceSpotOrder",
    "PositionChanged",
    "PriceSeen",
    "PricesLost",
    "PrintsSeen",
    "QuerySpotOrder",
    "QueryVenue",
    "Quote",
    "QuotesRead",
    "ReadContract",
    "ReadQuotes",
    "ReadSpotAccount",
    "ReadVenue",
    "RebaseSpotAccount",
    "ReconcileNow",
    "Recovered",
    "Resolution",
    "ResolveIntent",
    "RevokeGate",
    "SessionLost",
    "SessionOpened",
    "ShowOrders",
    "Side",
    "Signal",
    "SignalOutcome",
    "SignalReceived",
    "SignalUnreadable",
    "SpotAccountRead",
    "SpotBalance",
    "SpotBalancesChanged",
    "SpotBalancesReported",
    "SpotExecutionReported",
    "SpotGateChanged",
    "SpotGateReason",
    "SpotOrderDone",
    "SpotOrderNotSent",
    "SpotOrderRead",
    "SpotOrderRefused",
    "SpotOrderReported",
    "SpotOrderWritten",
    "SpotOutcomeUnknown",
    "SpotSessionLost",
    "SpotSessionOpened",
    "SpotTicket",
    "StartEvaluator",
    "StartExecutor",
    "StartFeed",
    "StartWatch",
    "StopStands",
    "SubmitNotSent",
    "SubmitOrders",
    "SubmitRefused",
    "SubmitSpotOrder",
    "SubmitWritten",
    "SuspicionsFound",
    "TimerFired",
    "VenueErrorReported",
    "VenueHolding",
    "VenuePosition",
    "VenueRead",
    "WatchPrices",
    "WriteCycleLine",
]

AnyMessage = (
    Recovered
    | TimerFired
    | Acknowledged
    | AlarmAcknowledged
    | HaltChanged
    | Signal
    | SignalReceived
    | SignalUnreadable
    | SignalOutcome
    | PlaceBracket
    | PlaceExit
    | CancelOrders
    | CloseWithStop
    | StopStands
    | Flatten
    | FillBooked
    | WatchPrices
    | PrintsSeen
    | PricesLost
    | ShowOrders
    | OrdersShown
    | IntentOutcome
    | OrderChanged
    | PositionChanged
    | BracketClosed
    | SubmitOrders
    | CancelVenueOrder
    | ModifyOrder
    | QueryVenue
    | SessionOpened
    | SessionLost
    | SubmitWritten
    | SubmitNotSent
    | SubmitRefused
    | ReadContract
    | ContractRead
    | OrderReported
    | ExecutionReported
    | CommissionReported
    | VenueErrorReported
    | VenueRead
    | IncidentRecorded
    | BrokerSessionChanged
    | ReadVenue
    | ReconcileNow
    | DivergenceChanged
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
    | StartWatch
    | SuspicionsFound
    | ExecuteCycle
    | CycleOutcome
    | StartExecutor
    | ReadQuotes
    | QuotesRead
    | CyclesResumed
    | WriteCycleLine
    | CycleLineWritten
    | PlaceSpotOrder
    | SpotOrderDone
    | SpotGateChanged
    | SpotBalancesChanged
    | RebaseSpotAccount
    | SubmitSpotOrder
    | CancelSpotOrder
    | QuerySpotOrder
    | ReadSpotAccount
    | SpotSessionOpened
    | SpotSessionLost
    | SpotOrderWritten
    | SpotOrderNotSent
    | SpotOrderRefused
    | SpotOutcomeUnknown
    | SpotOrderReported
    | SpotExecutionReported
    | SpotBalancesReported
    | SpotOrderRead
    | SpotAccountRead
)


class Envelope(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
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


class JournalRecord(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One committed input: what the fold needs, and nothing that it can compute again."""

    seq: int
    now_ns: int
    epoch: int
    input: Envelope
