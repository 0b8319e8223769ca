"""What the broker actor knows, as frozen types, and its settings. The rules are in `broker_turn`, `broker_facts`
and `broker_intents`; the actor is `broker`."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from actors.external_orders import ExternalOrder, ExternalOrders
from actors.messages import AccountFigures, BracketIntent, ExitIntent, Leg, OrderType, Side
from kernels.contract_terms import ContractTerms
from kernels.entry_checks import EntryRules
from kernels.order_state import DONE, OrderState
from kernels.positions import Fill, Position
from kernels.recurring import Span
from kernels.uptime import Uptime

SECOND_NS = 1_000_000_000
NEVER = Span(0, 0)

Intent = BracketIntent | ExitIntent
"""What a family is made of."""


class Surfaced(enum.StrEnum):
    """What to do with an order that appears at the venue after it was given up."""

    ADOPT = "adopt"
    CANCEL = "cancel"


class BrokerSettings(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """`account` empty: whatever the session says; else any other account's session is not used at all.

    `watchers` are told, owed, of every change of an order and of a position, as the allocator is. While positions are
    being closed, no exits but those of `risk` go out. What is wrong with a bracket's exits for `exits_after_ns` is
    mended, at most `exit_tries_max` times; a change that the venue has not shown after `modify_shown_ns` is looked up.
    In the spans `restart` and `login` the venue restarts, and waits for a person: nothing that opens risk leaves, and
    to lose it is expected. Without a session for `away_ns` outside of them a person is told.
    `entries` None: they are held against neither contract nor account. `symbols`: whose
    contracts are read when a session opens; terms older than `contract_age_ns` are read again, those whose hours are
    over at most every `contract_again_ns`.
    """

    name: str = "broker.paper"
    fund: str = "apex"
    account: str = ""
    allocator: str = "allocator"
    reconciler: str = "reconciler"
    watchers: tuple[str, ...] = ()
    risk: str = "risk"
    entry_time_in_force: str = "DAY"
    exit_time_in_force: str = "GTC"
    entry_outside_rth: bool = False
    exits_outside_rth: bool = False
    stop_trigger_method: int = 0
    surfaced: Surfaced = Surfaced.ADOPT
    intents_per_s_max: int = 14
    held_max: int = 64
    not_sent_max: int = 3
    stuck_after_ns: int = 10 * SECOND_NS
    restart: Span = NEVER
    login: Span = NEVER
    away_ns: int = 60 * SECOND_NS
    exits_after_ns: int = 2 * SECOND_NS
    modify_shown_ns: int = 10 * SECOND_NS
    exit_tries_max: int = 3
    replace_missing_stop: bool = True
    cancel_again_ns: int = 5 * SECOND_NS
    cancel_unconfirmed_ns: int = 20 * SECOND_NS
    families_max: int = 2_000
    done_max: int = 10_000
    fills_max: int = 5_000
    early_commissions_max: int = 256
    incidents_max: int = 64
    external_orders: ExternalOrders = ExternalOrders.ALERT
    externals_max: int = 500
    entries: EntryRules | None = None
    symbols: tuple[str, ...] = ()
    contracts_max: int = 500
    contract_age_ns: int = 12 * 3_600 * SECOND_NS
    contract_again_ns: int = 60 * SECOND_NS

    @property
    def planned(self) -> tuple[Span, ...]:
        """When the venue is expected to be away."""
        return self.restart, self.login


class Transition(msgspec.Struct, frozen=True, gc=False):
    """An order entered this state then."""

    state: OrderState
    at_ns: int


class Modifying(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A change of quantity, or of a stop into a market order, that is under way until the venue shows it, or shows
    that it did not come to be."""

    qty: int
    since_ns: int
    looked_up: bool = False
    to_market: bool = False


class Terms(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What an order was asked with, beside its prices and quantity."""

    time_in_force: str
    oca_group: str = ""
    outside_rth: bool = False
    trigger_method: int = 0


class Order(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One order of ours.

    `qty` is what was asked, or less where the venue reduced a protective leg; `notional` is the sum of price ×
    quantity of its executions in 1e-16. `inactive`: REJECTED by an Inactive that may yet be revived. `oca_group` is
    the venue's word, not ours; `cancel_asked`: somebody wanted it gone; `superseded`: the broker itself did, because it
    would close nothing, or what another stop closes; `asked` are the terms that we gave beside those above (None: an
    order from before they were kept).
    """

    client_order_id: str
    leg: Leg
    side: Side
    order_type: OrderType
    qty: int
    limit_px: int
    stop_px: int
    venue_order_id: int
    parent_order_id: int
    since_ns: int
    state: OrderState = OrderState.PRE_SENT
    perm_id: int = 0
    cum_qty: int = 0
    notional: int = 0
    inactive: bool = False
    transitions: tuple[Transition, ...] = ()
    oca_group: str = ""
    asked: Terms | None = None
    modifying: Modifying | None = None
    cancel_asked: bool = False
    superseded: bool = False

    @property
    def may_trade(self) -> bool:
        """Whether the venue might still execute it."""
        if self.state is OrderState.REJECTED:
            return self.inactive
        return self.state not in DONE


class Family(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A bracket (entry, take-profit and stop) or an exit alone, with all that its submission was journaled with.

    `outcome_given`: who asked has been told the intent's one outcome. `session_id` is that of the last write;
    `not_sent` counts earlier submissions of it of which it is certain that no byte left. `correlation_id` is that of
    the message that placed it: all that is told of it later carries it, whatever report was the cause. `closers` are
    the intents of the exits that went out to close a bracket's quantity, beside its own; `closed_beyond` is by how much
    they and its own were seen to close more than was opened.
    """

    intent: Intent
    orders: tuple[Order, ...]
    account: str
    client_id: int
    session_id: str
    generation: str
    placed_ns: int
    resends: int = 0
    not_sent: int = 0
    correlation_id: str = ""
    outcome_given: bool = False
    closed: bool = False
    closers: tuple[str, ...] = ()
    closed_beyond: int = 0


class Held(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An intent that waits for gate, session or pace; `not_sent` counts submissions known not to have left."""

    intent: Intent
    not_sent: int = 0
    correlation_id: str = ""


class CancelAsked(msgspec.Struct, frozen=True, gc=False):
    """An order of ours that is to be cancelled, since when, and why."""

    since_ns: int
    reason: str


class Turning(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A stop of ours that is to become a market order of `qty` in all, who is told if not, how often it was written."""

    since_ns: int
    qty: int
    asked_by: tuple[str, ...]
    reason: str
    tries: int = 0


class Defect(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A bracket whose exits are not what its entry's fills need, since when, and how often that was to be mended.

    `asked_ns`: when the venue was last asked for a read that would show it.
    """

    since_ns: int
    tries: int = 0
    alarmed: str = ""
    asked_ns: int = 0


class Session(msgspec.Struct, frozen=True, gc=False):
    """The venue session that is open now."""

    session_id: str
    account: str
    client_id: int


class Generation(msgspec.Struct, frozen=True, gc=False):
    """A span in which the venue's order ids are known not to have rolled back.

    `venue_next_id` is the highest next id that the venue has said in it, `acknowledged_id` the highest id of ours
    that it has reported on. A session that begins below either starts the next generation.
    """

    number: int
    account: str
    client_id: int
    venue_next_id: int
    acknowledged_id: int = 0

    @property
    def text(self) -> str:
        """As it stands in families and pictures."""
        return f"{self.account}/{self.client_id}/{self.number}"


class Gate(msgspec.Struct, frozen=True, gc=False):
    """The reconciler's lease; it counts for its session only and ends by itself."""

    session_id: str
    expires_ns: int


class EarlyCommission(msgspec.Struct, frozen=True, gc=False):
    """A commission that came before its execution."""

    revision: int
    commission: int
    currency: str
    realized_pnl: int | None


class IncidentNote(msgspec.Struct, frozen=True, gc=False):
    """Something that must not be; kept once for each kind, subject and evidence."""

    kind: str
    subject: str
    evidence: str
    at_ns: int


class BrokerState(msgspec.Struct, frozen=True, gc=False):
    """All of it. Mappings keep insertion order, oldest first, which is the order in which they are pruned.

    `next_order_id` is above every id ever drawn, in any generation. `done` holds the intents that are over and no
    longer kept (with their expiry), so that none can be placed again. `absorbed` are the positions up to the oldest
    kept fill, `absorbed_ts_ns` the youngest execution in them. `misread` are the open orders that the venue holds with
    other terms than were asked, and which; `defects` the brackets whose exits are not what they must be; `read_session`
    the session in which the venue was last read whole, and `read_begun_ns` when that was asked for. `unlisted` are the
    working orders that complete reads of this session do not list, since the first of them, and `vanished` those that
    were given up for that, with the evidence. `away_since_ns`: since when there is no session, over restarts of this
    role; 0 while there is one.
    `contracts` are the terms read in this session, `account` is what the venue last told of it, `reserved` what entries
    may cost that it need not have inside yet, `money_changed_ns` when a fill or commission last moved cash.
    """

    session: Session | None = None
    generation: Generation | None = None
    gate: Gate | None = None
    gate_epoch: int = 0
    halt: str = ""
    flatten: str = ""
    next_order_id: int = 1
    pace_start_ns: int = 0
    pace_count: int = 0
    held: Mapping[str, Held] = {}
    families: Mapping[str, Family] = {}
    done: Mapping[str, int] = {}
    fills: Mapping[str, Fill] = {}
    positions: Mapping[str, Position] = {}
    absorbed: Mapping[str, Position] = {}
    absorbed_ts_ns: int = 0
    early_commissions: Mapping[str, EarlyCommission] = {}
    cancels: Mapping[str, CancelAsked] = {}
    turning: Mapping[str, Turning] = {}
    misread: Mapping[str, str] = {}
    defects: Mapping[str, Defect] = {}
    read_session: str = ""
    read_begun_ns: int = 0
    unlisted: Mapping[str, int] = {}
    vanished: Mapping[str, str] = {}
    incidents: tuple[IncidentNote, ...] = ()
    externals: Mapping[str, ExternalOrder] = {}
    uptime: Uptime = Uptime()
    away_since_ns: int = 0
    contracts: Mapping[str, ContractTerms] = {}
    account: AccountFigures | None = None
    reserved: Mapping[str, int] = {}
    money_changed_ns: int = 0


Raws = dict[str, msgspec.Raw]


def name_kinds(state: bytes) -> bytes:
    """Return the JSON of a state of schema version 1 as version 2: every intent of that time was a bracket's."""
    decode = msgspec.json.decode
    stored = decode(state, type=Raws)
    for name in ("families", "held"):
        entries = decode(stored.get(name, b"{}"), type=dict[str, Raws])
        for entry in entries.values():
            intent = {"kind": msgspec.Raw(b'"bracket"')} | decode(entry["intent"], type=Raws)
            entry["intent"] = msgspec.Raw(msgspec.json.encode(intent))
        stored[name] = msgspec.Raw(msgspec.json.encode(entries))
    return msgspec.json.encode(stored)


class OrderView(msgspec.Struct, frozen=True, gc=False):
    """An order's row in the projection `orders`."""

    client_order_id: str
    intent_id: str
    signal_id: str
    strategy: str
    symbol: str
    leg: str
    side: str
    order_type: str
    state: str
    qty: int
    cum_qty: int
    leaves_qty: int
    avg_px: int
    limit_px: int
    stop_px: int
    venue_order_id: int
    perm_id: int
    placed_ns: int
    since_ns: int
    history: tuple[Transition, ...] = ()
    """The states that it entered, oldest first: the last `broker_turn.TRANSITIONS_KEPT`; all are in the journal."""


class PositionView(msgspec.Struct, frozen=True, gc=False):
    """A symbol's row in the projection `positions`; `realized_pnl` before commissions, all Fixed8."""

    symbol: str
    qty: int
    avg_px: int
    realized_pnl: int
    commission: int
