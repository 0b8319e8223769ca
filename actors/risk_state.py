"""What risk knows, as frozen types, and its settings; the rules are in `risk` and `risk_flatten`."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from actors.order_terms import Leg, Side
from kernels.order_breaker import OrderBreaker, OrderLimits
from kernels.order_state import DONE, OrderState

SECOND_NS = 1_000_000_000


class OnBreaker(enum.StrEnum):
    """What a limit that is reached does."""

    HALT = "halt"
    FLATTEN = "flatten"


class RiskSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`settle_ns`: how long a symbol must be quiet before an exit of it is sized. `retry_ns`: the pace of attempts
    beyond `attempts_max`. `flatten_external`: also what is at the account and not ours."""

    name: str = "risk"
    fund: str = "apex"
    broker: str = "broker.paper"
    flatten_external: bool = False
    settle_ns: int = SECOND_NS
    look_every_ns: int = SECOND_NS // 2
    verify_every_ns: int = 5 * SECOND_NS
    unverified_ns: int = 20 * SECOND_NS
    exit_lifetime_ns: int = 60 * SECOND_NS
    retry_ns: int = 30 * SECOND_NS
    attempts_max: int = 3
    limits: OrderLimits = OrderLimits()
    on_breaker: OnBreaker = OnBreaker.HALT
    zone_offsets: tuple[tuple[int, int], ...] = ((0, 0),)
    day_begins_hour: int = 0
    orders_max: int = 10_000


class Known(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One of our orders as the broker last told of it."""

    client_order_id: str
    intent_id: str
    symbol: str
    leg: Leg
    side: Side
    state: OrderState
    qty: int
    cum_qty: int
    oca_group: str = ""
    stop_px: int = 0
    bracket_id: str = ""

    @property
    def bracket(self) -> str:
        """The bracket whose quantity it opens or closes: its own family, unless it was placed beside that."""
        return self.bracket_id or self.intent_id

    @property
    def may_trade(self) -> bool:
        """Whether the broker has not told its end; a rejected one may be revived, and is then told of again."""
        return self.state not in DONE and self.state is not OrderState.REJECTED

    @property
    def leaves_qty(self) -> int:
        """What of it may still fill."""
        return max(self.qty - self.cum_qty, 0) if self.may_trade else 0


class Exit(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A way out that we placed. `within`: the bracket whose group it joined. `gone`: the broker said that it never
    went out."""

    intent_id: str
    symbol: str
    within: str = ""
    gone: bool = False


class Tries(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Exits placed of a symbol in this flatten. `failed` counts those that ended with something left; `text` the last
    one's end."""

    placed: int = 0
    failed: int = 0
    not_before_ns: int = 0
    text: str = ""


class Stage(enum.StrEnum):
    """How far a flatten is."""

    LATCHING = "latching"
    CANCELLING = "cancelling"
    """Orders that would open risk, and take-profits, are asked to go."""
    SETTLING = "settling"
    """They are done; a fill of one that is late may still come."""
    CLOSING = "closing"
    CONFIRMING = "confirming"
    """Nothing of ours works or is held as far as we know; the broker's own records are to say so."""
    FLAT = "flat"
    """They said so, and are asked again for as long as the latch stands."""
    ENDED = "ended"
    """A person cleared the latch."""


class FlattenProgress(msgspec.Struct, frozen=True, gc=False):
    """The projection `flatten`: which order it is about, how far it is, and in words what is waited for."""

    flatten_ns: int = 0
    reason: str = ""
    stage: Stage = Stage.LATCHING
    text: str = ""
    external: str = ""
    flat_ns: int = 0


class RiskState(msgspec.Struct, frozen=True, gc=False):
    """`orders` of families that may trade, or whose bracket still holds something. `touched_ns`: when an order or the
    position of a symbol last changed. `cancels`: orders whose cancel was owed to the broker. `turned`: stops that are
    to close at the market themselves; `standing`: those of them that could not be changed; `alone`: brackets whose
    group cannot be joined; `over`: how much more of a bracket was closed than it held, as far as that was told.
    `external`: what the venue holds beyond our own. `flat_ns`: since when the broker's records say that we are flat;
    0: they do not. `wanted`: a latch that was asked for and is not seen to stand yet. `tripped`: the limit that was
    reached, while the halt stands.
    """

    epoch: int = 0
    shown: bool = False
    halt: str = ""
    flatten: str = ""
    flatten_ns: int = 0
    wanted: str = ""
    wanted_flatten: bool = False
    orders: Mapping[str, Known] = {}
    positions: Mapping[str, int] = {}
    external: Mapping[str, int] = {}
    touched_ns: Mapping[str, int] = {}
    exits: Mapping[str, Exit] = {}
    tries: Mapping[str, Tries] = {}
    cancels: frozenset[str] = frozenset()
    turned: frozenset[str] = frozenset()
    standing: frozenset[str] = frozenset()
    alone: frozenset[str] = frozenset()
    over: Mapping[str, int] = {}
    read_text: str = ""
    flat_ns: int = 0
    progress: FlattenProgress = FlattenProgress()
    breaker: OrderBreaker = OrderBreaker()
    tripped: str = ""
