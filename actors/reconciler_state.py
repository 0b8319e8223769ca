"""What the reconciler knows, as frozen types, its settings, and the row that it shows. The actor is `reconciler`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from actors.external_orders import ExternalOrders
from kernels.cash_check import Baseline
from kernels.reconcile import Finding, FindingKind

SECOND_NS = 1_000_000_000
LINES = "divergences"
"""The file of lines that divergences, and baselines of cash, are written to."""

BLOCKING = frozenset(
    {
        FindingKind.POSITION,
        FindingKind.POSITION_MISSING_HERE,
        FindingKind.POSITION_MISSING_THERE,
        FindingKind.TWO_PERM_IDS,
        FindingKind.MISSING_HERE,
        FindingKind.MISSING_FILL,
    }
)
"""What would open risk on a wrong picture."""

QUANTITY_DIFFERS = frozenset(
    {FindingKind.POSITION, FindingKind.POSITION_MISSING_HERE, FindingKind.POSITION_MISSING_THERE}
)
"""Where an order that is in no list may have traded unseen."""


class ReconcilerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`gate_ttl_ns` is how long a dead reconciler keeps the gate open at most. `grace_ns` lies between two absences of
    what nobody was sure of, `vanished_grace_ns` between those of an order that the venue had acknowledged.

    `risk`, where there is one, is told of divergences that would open risk on a wrong picture. `ignored_symbols` are
    compared by nobody. `external_positions_count` False: a position in a symbol that is not
    held here is somebody else's, counted, and no divergence. `average_bps_max` 0: average prices are not compared.
    `cash_tolerance` is Fixed8; `currency` is that of our fills.
    """

    name: str = "reconciler"
    fund: str = "apex"
    broker: str = "broker.paper"
    allocator: str = "allocator"
    risk: str = ""
    gate_ttl_ns: int = 15 * SECOND_NS
    read_age_ns_max: int = 75 * SECOND_NS
    positions_every_ns: int = 30 * SECOND_NS
    orders_every_ns: int = 300 * SECOND_NS
    read_timeout_ns: int = 15 * SECOND_NS
    grace_ns: int = 3 * SECOND_NS
    vanished_grace_ns: int = 10 * SECOND_NS
    recheck_ns: int = 2 * SECOND_NS
    divergence_shuts_gate: bool = True
    external_orders: ExternalOrders = ExternalOrders.ALERT
    external_positions_count: bool = True
    ignored_symbols: tuple[str, ...] = ()
    average_bps_max: int = 0
    commission_late_ns: int = 120 * SECOND_NS
    compare_cash: bool = True
    currency: str = "USD"
    cash_tolerance: int = 10**8
    equity_bps_max: int = 50
    findings_max: int = 256
    cleared_max: int = 64


class Tracked(msgspec.Struct, frozen=True):
    """A divergence that stands; `confirmed` once two reads in a row have shown it. `request_id`: the last of them."""

    finding: Finding
    since_ns: int
    confirmed: bool = False
    last_ns: int = 0
    request_id: str = ""


class Cleared(msgspec.Struct, frozen=True):
    """A divergence that a read no longer showed."""

    finding: Finding
    first_ns: int
    last_ns: int
    cleared_ns: int
    confirmed: bool
    request_id: str


class Absence(msgspec.Struct, frozen=True):
    """First complete read, and its end, in which an intent's unresolved orders were absent, or one working order.

    `cum_qty`: what the working order had filled by then; None: it is an intent's absence.
    """

    session_id: str
    first_ns: int
    request_id: str = ""
    cum_qty: int | None = None


class MoneyView(msgspec.Struct, frozen=True):
    """The account's money as it was last read, Fixed8; `expected_cash` by our own fills (None: no baseline yet).

    `not_compared` says why the last read was not held against it; empty: it was.
    """

    account: str = ""
    currency: str = ""
    cash: int = 0
    expected_cash: int | None = None
    net_liquidation: int = 0
    as_of_ns: int = 0
    baseline_ns: int = 0
    not_compared: str = "the account has not been read"


class ReconcilerState(msgspec.Struct, frozen=True):
    """`read_full_ns` is the last complete read of this session (0: none yet), `read_ns` the last of any kind.
    `absences` is by intent id, and by client order id for orders that worked.

    `failed` names what the last read did not get; `answered_ns` is the last asking of a person that was answered.
    `baseline` is where counting cash began; `accept_asked_ns` when a person last wanted it to begin anew.
    """

    epoch: int = 0
    session_id: str = ""
    account: str = ""
    read_ns: int = 0
    read_full_ns: int = 0
    gate_open: bool = False
    absences: Mapping[str, Absence] = {}
    findings: Mapping[str, Tracked] = {}
    cleared: tuple[Cleared, ...] = ()
    request_id: str = ""
    failed: tuple[str, ...] = ()
    answered_ns: int = 0
    baseline: Baseline | None = None
    accept_asked_ns: int = 0
    money: MoneyView = MoneyView()


class Standing(msgspec.Struct, frozen=True):
    """A divergence that stands, as it is shown; `cleared_ns` 0: it does. `blocks`: it may hold the gate shut."""

    kind: str
    subject: str
    evidence: str
    confirmed: bool
    blocks: bool
    first_ns: int
    last_ns: int
    cleared_ns: int
    request_id: str


class ReconcileView(msgspec.Struct, frozen=True):
    """The field `state` of the projection `reconcile`."""

    gate: str
    session_id: str
    account: str
    read_ns: int
    read_full_ns: int
    request_id: str
    failed: tuple[str, ...]
    answered_ns: int
    absences: tuple[str, ...]
    findings: tuple[Standing, ...]
    cleared: tuple[Standing, ...]
    money: MoneyView = MoneyView()


def gate_text(state: ReconcilerState) -> str:
    """Say whether the gate is open, or why not."""
    if state.gate_open:
        return "open"
    if not state.session_id:
        return "shut: no broker session"
    if state.read_full_ns == 0:
        return "shut: the venue has not been read in this session"
    return "shut: " + ("divergence" if any(one.confirmed for one in state.findings.values()) else "unresolved orders")


def view_of(state: ReconcilerState, blocking: frozenset[FindingKind]) -> ReconcileView:
    """Return what is shown of a state."""
    standing = tuple(
        Standing(
            one.finding.kind.value,
            one.finding.subject,
            one.finding.evidence,
            one.confirmed,
            one.finding.kind in blocking,
            one.since_ns,
            one.last_ns,
            0,
            one.request_id,
        )
        for one in state.findings.values()
    )
    cleared = tuple(
        Standing(
            one.finding.kind.value,
            one.finding.subject,
            one.finding.evidence,
            one.confirmed,
            False,
            one.first_ns,
            one.last_ns,
            one.cleared_ns,
            one.request_id,
        )
        for one in state.cleared
    )
    return ReconcileView(
        gate=gate_text(state),
        session_id=state.session_id,
        account=state.account,
        read_ns=state.read_ns,
        read_full_ns=state.read_full_ns,
        request_id=state.request_id,
        failed=state.failed,
        answered_ns=state.answered_ns,
        absences=tuple(state.absences),
        findings=standing,
        cleared=cleared,
        money=state.money,
    )
