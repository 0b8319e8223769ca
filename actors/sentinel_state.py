"""What the stop sentinel knows, as frozen types, and its settings; the rules are in `sentinel` and `sentinel_close`."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from actors.order_terms import Leg, Side
from kernels.order_state import DONE, WORKING, OrderState
from kernels.stop_watch import Crossing

SECOND_NS = 1_000_000_000


class OnInert(enum.StrEnum):
    """What to do about a stop that is due and does not fill."""

    ALARM_ONLY = "alarm_only"
    CLOSE = "close"


class SentinelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`grace_ns`: how long a due stop may stay unfilled. `settle_ns`: how long after a confirmed cancel a late fill is
    waited for before the position is closed. `remember_ns`: how long after a close its late fills are still looked for.
    `price_age_ns_max`: beyond it a stop counts as unwatched."""

    name: str = "sentinel"
    fund: str = "apex"
    broker: str = "broker.paper"
    on_inert: OnInert = OnInert.ALARM_ONLY
    grace_ns: int = 5 * SECOND_NS
    settle_ns: int = 2 * SECOND_NS
    unprotected_ns_max: int = 30 * SECOND_NS
    price_age_ns_max: int = 120 * SECOND_NS
    look_every_ns: int = SECOND_NS
    exit_lifetime_ns: int = 60 * SECOND_NS
    remember_ns: int = 600 * SECOND_NS
    attempts_max: int = 3
    orders_max: int = 10_000


class Watched(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One of our orders as the broker last told of it.

    `active_ns`: since when a print counts against it (its entry has filled, and it works). `progress_ns`: its last fill
    that we were told of. `raised`: it has been called inert.
    """

    client_order_id: str
    intent_id: str
    symbol: str
    leg: Leg
    side: Side
    state: OrderState
    qty: int
    cum_qty: int
    stop_px: int = 0
    perm_id: int = 0
    active_ns: int = 0
    progress_ns: int = 0
    crossing: Crossing | None = None
    raised: bool = False

    @property
    def is_working_stop(self) -> bool:
        """Whether it protects, as far as the venue's word goes. One without a stop price is at the market."""
        return self.leg is Leg.STOP_LOSS and self.state in WORKING and self.stop_px > 0

    @property
    def may_still_trade(self) -> bool:
        """Whether the broker has not told its end; a rejected one may be revived, and is then told of again."""
        return self.state not in DONE and self.state is not OrderState.REJECTED


class Stage(enum.StrEnum):
    """Where a close is."""

    CANCELLING = "cancelling"
    """What else could close the same quantity is asked to go; nothing else is done until the venue shows it done."""
    SETTLING = "settling"
    """They are done; a fill of one that is late may still come."""
    TURNING = "turning"
    """The stop is to become a market order."""
    CLOSING = "closing"
    """The exit is placed."""
    DONE = "done"
    """Nothing of it is left; kept for a while, for a fill that comes too late."""
    FAILED = "failed"
    """Given up; a person has to look. Kept until the position of it is gone."""


class Close(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A position on its way out because its stop is inert. Begun once for a stop, ever.

    `exit_intent_ids` are all that were ever placed for it, in order: what any of them filled is gone from the bracket.
    `alone`: the stop could not become the way out; it is cancelled, and an order alone closes.
    """

    stop_id: str
    intent_id: str
    symbol: str
    stage: Stage
    since_ns: int
    attempt: int = 0
    exit_intent_ids: tuple[str, ...] = ()
    qty: int = 0
    text: str = ""
    over_qty: int = 0
    alone: bool = False

    @property
    def is_under_way(self) -> bool:
        """Whether a next step is still to come."""
        return self.stage not in (Stage.DONE, Stage.FAILED)


class SentinelState(msgspec.Struct, frozen=True, gc=False):
    """`orders` of brackets and exits that may still trade, or whose bracket may; oldest first."""

    orders: Mapping[str, Watched] = {}
    positions: Mapping[str, int] = {}
    closes: Mapping[str, Close] = {}
    seen_ns: Mapping[str, int] = {}
    bare_since_ns: Mapping[str, int] = {}
    bare_raised: frozenset[str] = frozenset()
    prices_lost: str = ""
    unwatched: str = ""
    shown: bool = False
    asked: int = 0
