"""An order's life as one table: state × event → state. What is not in the table is an incident, not a default.

Source: ARCHITECTURE 6 and the traps in the TWS protocol notes (an Inactive order may be revived; a fill may come
after Cancelled; error codes say nothing about a state). Executions alone fill an order: a venue's word "Filled"
proves only that it knows the order.
"""

from __future__ import annotations

import enum

import msgspec


class OrderState(enum.StrEnum):
    """Where an order is, as far as is proven."""

    PRE_SENT = "pre_sent"
    PENDING = "pending"
    SUBMITTED = "submitted"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


class OrderEvent(enum.StrEnum):
    """What can become known of an order."""

    WRITTEN = "written"
    """Its bytes went to the socket."""
    NOT_SENT = "not_sent"
    """Known for certain: none of its bytes left, ever."""
    LOST = "lost"
    """The session (or our own process) ended; nobody here can know."""
    WORKING = "working"
    """The venue says that it has it, and it is neither done nor inactive."""
    FILL_CLAIMED = "fill_claimed"
    """The venue says Filled; the executions will tell."""
    INACTIVE = "inactive"
    """The venue holds it back or refused it; it may be revived."""
    CANCELLED = "cancelled"
    """The venue says it is cancelled."""
    FILLED_PARTLY = "filled_partly"
    """Executions (after corrections) are below its quantity."""
    FILLED_FULLY = "filled_fully"
    """Executions reach its quantity."""
    RESENT = "resent"
    """Twice absent at the venue: about to be written once more under the same ids."""
    ABSENT = "absent"
    """Twice absent at the venue, and it is not sent again: it was never there, or the venue took it back."""


class Incident(msgspec.Struct, frozen=True):
    """A pair that the table does not allow; the state stays what it was."""

    state: OrderState
    event: OrderEvent


S, E = OrderState, OrderEvent

_KNOWN_AT_VENUE = {
    E.FILLED_PARTLY: S.PARTIALLY_FILLED,
    E.FILLED_FULLY: S.FILLED,
    E.CANCELLED: S.CANCELLED,
    E.INACTIVE: S.REJECTED,
    E.WORKING: S.SUBMITTED,
    E.FILL_CLAIMED: S.SUBMITTED,
}

TRANSITIONS: dict[OrderState, dict[OrderEvent, OrderState]] = {
    S.PRE_SENT: {
        **_KNOWN_AT_VENUE,
        E.WRITTEN: S.PENDING,
        E.NOT_SENT: S.PRE_SENT,
        E.LOST: S.UNKNOWN,
        E.ABSENT: S.EXPIRED,
        E.RESENT: S.PRE_SENT,
    },
    S.PENDING: {
        **_KNOWN_AT_VENUE,
        E.WRITTEN: S.PENDING,
        E.LOST: S.UNKNOWN,
        E.ABSENT: S.EXPIRED,
        E.RESENT: S.PRE_SENT,
    },
    S.UNKNOWN: {
        **_KNOWN_AT_VENUE,
        E.WRITTEN: S.UNKNOWN,
        E.NOT_SENT: S.PRE_SENT,
        E.LOST: S.UNKNOWN,
        E.ABSENT: S.EXPIRED,
        E.RESENT: S.PRE_SENT,
    },
    S.SUBMITTED: {
        **_KNOWN_AT_VENUE,
        E.WRITTEN: S.SUBMITTED,
        E.LOST: S.SUBMITTED,
        E.ABSENT: S.EXPIRED,
    },
    S.PARTIALLY_FILLED: {
        E.FILLED_PARTLY: S.PARTIALLY_FILLED,
        E.FILLED_FULLY: S.FILLED,
        E.CANCELLED: S.CANCELLED,
        E.INACTIVE: S.PARTIALLY_FILLED,
        E.WORKING: S.PARTIALLY_FILLED,
        E.FILL_CLAIMED: S.PARTIALLY_FILLED,
        E.WRITTEN: S.PARTIALLY_FILLED,
        E.LOST: S.PARTIALLY_FILLED,
        E.ABSENT: S.EXPIRED,
    },
    S.FILLED: {
        # The fill wins over whatever is said later or arrives late; only a correction takes quantity back.
        E.FILLED_PARTLY: S.PARTIALLY_FILLED,
        E.FILLED_FULLY: S.FILLED,
        E.CANCELLED: S.FILLED,
        E.INACTIVE: S.FILLED,
        E.WORKING: S.FILLED,
        E.FILL_CLAIMED: S.FILLED,
        E.WRITTEN: S.FILLED,
        E.LOST: S.FILLED,
    },
    S.CANCELLED: {
        # A late fill is a fact. "Working" after "Cancelled" is not believed: it would reopen what is closed.
        E.FILLED_PARTLY: S.CANCELLED,
        E.FILLED_FULLY: S.FILLED,
        E.CANCELLED: S.CANCELLED,
        E.INACTIVE: S.CANCELLED,
        E.FILL_CLAIMED: S.CANCELLED,
        E.WRITTEN: S.CANCELLED,
        E.LOST: S.CANCELLED,
    },
    S.REJECTED: {
        **_KNOWN_AT_VENUE,
        E.WRITTEN: S.REJECTED,
        E.LOST: S.REJECTED,
    },
    S.EXPIRED: {
        # It surfaced after all: adopted. So is what a venue had taken back; what it filled before that stays filled.
        **_KNOWN_AT_VENUE,
        E.WRITTEN: S.EXPIRED,
        E.LOST: S.EXPIRED,
    },
}

UNRESOLVED = frozenset({S.PRE_SENT, S.PENDING, S.UNKNOWN})
"""States in which the venue has not yet said that it has the order."""

WORKING = frozenset({S.SUBMITTED, S.PARTIALLY_FILLED})
"""States in which the venue is known to have it and it may trade."""

DONE = frozenset({S.FILLED, S.CANCELLED, S.EXPIRED})
"""States that nothing but a fact of the venue's leaves. REJECTED is not among them: see INACTIVE."""


def transition(state: OrderState, event: OrderEvent) -> OrderState | Incident:
    """Look the pair up."""
    return TRANSITIONS[state].get(event, Incident(state, event))


def fill_event(qty: int, cum_qty: int) -> OrderEvent:
    """Return which fill event executions of `cum_qty` (after corrections) are to an order of `qty`."""
    return E.FILLED_FULLY if cum_qty >= qty else E.FILLED_PARTLY


def venue_event(status: str, perm_id: int, listed: bool) -> OrderEvent | None:
    """Read a venue's status text (IB's, from orderStatus, openOrder or completedOrder).

    `listed`: it stood in the venue's own list of orders, so it is there whatever the status says. A status that a
    client library also sets by itself (PendingSubmit, ApiPending, PendingCancel) counts only if listed or with a
    permId, which the venue alone gives. None: nothing is proven by it.
    """
    match status:
        case "PreSubmitted" | "Submitted":
            return E.WORKING
        case "PendingSubmit" | "ApiPending" | "PendingCancel":
            return E.WORKING if listed or perm_id else None
        case "Filled":
            return E.FILL_CLAIMED
        case "Cancelled" | "ApiCancelled":
            return E.CANCELLED
        case "Inactive":
            return E.INACTIVE
        case _:
            return None


SPOT_ENDED = frozenset({"FILLED", "CANCELED", "EXPIRED", "EXPIRED_IN_MATCH", "REJECTED"})
"""A spot exchange's words for an order that trades no more."""


def spot_event(status: str) -> OrderEvent | None:
    """Read a spot exchange's status of an order that it has. None: not a word that is known, and proves nothing."""
    match status:
        case "NEW" | "PENDING_NEW" | "PARTIALLY_FILLED" | "PENDING_CANCEL":
            return E.WORKING
        case "FILLED":
            return E.FILL_CLAIMED
        case "CANCELED" | "EXPIRED" | "EXPIRED_IN_MATCH":
            return E.CANCELLED
        case "REJECTED":
            return E.INACTIVE
        case _:
            return None
