"""What `broker.spot` knows, as frozen types, and its settings. The rules are in `spot_turn` and `spot_facts`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from actors.messages import PlaceSpotOrder, SpotBalance, SpotExecutionReported, SpotGateReason, SpotOrderDone
from kernels.order_state import OrderState

SECOND_NS = 1_000_000_000


class SpotSettings(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """`account` empty: that of the first session ever; any other account's session is not used at all.

    `submit_within_ns`: from the decision on, a request may be signed and written for so long. `absent_grace_ns`:
    between two absences; longer than that and the time for which the exchange takes a request for valid (recvWindow)
    together, so that after the second nothing of the order can be on its way any more, whoever is to write it.
    """

    name: str = "broker.spot"
    fund: str = "apex"
    account: str = ""
    executor: str = "executor"
    submit_within_ns: int = SECOND_NS
    absent_grace_ns: int = 7 * SECOND_NS
    look_every_ns: int = SECOND_NS // 2
    stuck_after_ns: int = 10 * SECOND_NS
    account_every_ns: int = 30 * SECOND_NS
    ended_max: int = 2_000
    trades_max: int = 10_000
    incidents_max: int = 64


class SpotOrder(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One order of ours.

    `session_id`: in which it was written; empty: it is held, and not a byte of it has left. `ended`: the exchange's
    last word about it, or why it never got there; `claimed_qty`: what the exchange says is executed, which the
    executions must reach. `absent_ns`: when the exchange first did not know it; `asked_ns`: when it was looked up last.
    `told`: what the executor has been told of its end.
    """

    place: PlaceSpotOrder
    placed_ns: int
    since_ns: int
    state: OrderState = OrderState.PRE_SENT
    session_id: str = ""
    venue_order_id: int = 0
    written_ns: int = 0
    cum_qty: int = 0
    cum_quote_qty: int = 0
    claimed_qty: int = 0
    commissions: Mapping[str, int] = {}
    ended: str = ""
    absent_ns: int = 0
    asked_ns: int = 0
    told: SpotOrderDone | None = None
    correlation_id: str = ""

    @property
    def held(self) -> bool:
        """Whether it waits for its session, nothing of it written."""
        return not self.session_id and not self.ended

    @property
    def done(self) -> bool:
        """Whether it can trade no more and all that it did is known."""
        return bool(self.ended) and self.cum_qty >= self.claimed_qty

    @property
    def out(self) -> bool:
        """Whether the exchange may have it, or may owe us executions of it."""
        return bool(self.session_id) and not self.done


class SpotSession(msgspec.Struct, frozen=True, gc=False):
    """The session that is open. `read`: the account was read in it, once nothing was unresolved any more."""

    session_id: str
    account: str
    read: bool = False
    can_trade: bool = True


class SpotState(msgspec.Struct, frozen=True, gc=False):
    """All of it. `account`: of the first session ever. `live` and `ended`: orders by client order id; `trades` by
    symbol and trade id; oldest first.

    `flows`: what our executions changed of each asset, ever; `baseline`: the totals without them, by the first read or
    by the first after a person said so (None before it). `diverged`: how the account's totals differ from their sum,
    empty where they do not. `quiet`: the request id of an account read since whose request no order was out.
    """

    session: SpotSession | None = None
    account: str = ""
    halt: str = ""
    gate: SpotGateReason = SpotGateReason.NO_SESSION
    live: Mapping[str, SpotOrder] = {}
    ended: Mapping[str, SpotOrder] = {}
    trades: Mapping[str, SpotExecutionReported] = {}
    baseline: Mapping[str, int] | None = None
    flows: Mapping[str, int] = {}
    balances: Mapping[str, SpotBalance] = {}
    diverged: str = ""
    quiet: str = ""
    requests: int = 0
    read_ns: int = 0
    incidents: tuple[tuple[str, str, str], ...] = ()


class SpotOrderView(msgspec.Struct, frozen=True, gc=False):
    """An order's row in the projection `orders`, of symbol `spot`; amounts Fixed8."""

    client_order_id: str
    attempt_id: str
    symbol: str
    side: str
    state: str
    qty: int
    cum_qty: int
    cum_quote_qty: int
    limit_px: int
    venue_order_id: int
    reduces_risk: bool
    placed_ns: int
    since_ns: int
    ended: str
