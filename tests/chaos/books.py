"""Whether an engine's books are the gateway's own, read from both from outside. Shares no logic with the engine."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Collection
from decimal import Decimal

from actors.adapters.inspection import Inspector
from supervisors.run_files import read_engine_file, resolved
from tests.chaos.engine_process import EngineRun

FIXED = Decimal(10**8)
UNRESOLVED = {"pre_sent", "pending", "unknown"}
STATES = {
    "Filled": {"filled"},
    "Cancelled": {"cancelled", "rejected"},
    "ApiCancelled": {"cancelled"},
    "Inactive": {"rejected"},
    "Submitted": {"submitted", "partially_filled"},
    "PreSubmitted": {"submitted", "partially_filled"},
    "PendingCancel": {"submitted", "partially_filled"},
}
"""What an order may be here for each thing that the gateway says of it."""

Rows = list[dict[str, object]]


def assert_equal_to_the_gateway(engine: EngineRun) -> None:
    """Orders, fills, positions and cash are the gateway's own, and an intent became at most one family."""
    ours = engine.orders()
    theirs = rows(engine, "list_orders", "orders")
    named = {str(order["order_ref"]): order for order in theirs if order.get("order_ref")}
    doubled = [ref for ref, count in Counter(str(o["order_ref"]) for o in theirs).items() if count > 1]
    assert not doubled, f"orders that stand twice at the gateway: {doubled}"
    assert set(named) <= set(ours), f"orders of the gateway that we do not know: {set(named) - set(ours)}"
    for ref, order in ours.items():
        if ref not in named:
            assert order["state"] == "expired", f"{ref} is {order['state']} here and unknown at the gateway"
            assert not order["cum_qty"], f"{ref} has filled here and is unknown at the gateway"
    for where, refs in (("here", set(ours)), ("at the gateway", set(named))):
        families = Counter(str(ours[ref]["intent_id"]) for ref in refs)
        alone = {str(ours[ref]["intent_id"]) for ref in refs if _stands_alone(ours[ref])}
        broken = {intent for intent, count in families.items() if count != (1 if intent in alone else 3)}
        assert not broken, f"families that are not whole {where}: {few(broken)}"
    _assert_orders(ours, named)
    _assert_fills(engine, ours)
    assert_positions_and_cash(engine)


def _stands_alone(order: dict[str, object]) -> bool:
    """Whether it is a family of its own: an exit, or a stop that was put back."""
    return order["leg"] == "exit" or str(order["signal_id"]).startswith("stop_again:")


def _assert_orders(ours: dict[str, dict[str, object]], named: dict[str, dict[str, object]]) -> None:
    for ref, order in named.items():
        status, state = str(order["status"]), ours[ref]["state"]
        assert state in STATES[status], f"{ref} is {status} at the gateway and {state} here"
        assert fixed(ours[ref]["cum_qty"]) == number(order["filled"]), f"{ref}: {ours[ref]} and {order}"
        assert fixed(ours[ref]["leaves_qty"]) == number(order["remaining"]) or state not in STATES["Submitted"], ref
        assert abs(fixed(ours[ref]["avg_px"]) - number(order["avg_px"])) < Decimal("0.000001"), f"{ref}: average price"
        assert ours[ref]["perm_id"] == order["perm_id"], f"{ref}: permId"


def _assert_fills(engine: EngineRun, ours: dict[str, dict[str, object]]) -> None:
    told: dict[str, Decimal] = {}
    for one in rows(engine, "list_executions", "executions"):
        ref = str(one["order_ref"])
        told[ref] = told.get(ref, Decimal(0)) + number(one["qty"])
    filled = {ref: fixed(order["cum_qty"]) for ref, order in ours.items() if order["cum_qty"]}
    differ = {ref for ref in filled.keys() | told.keys() if filled.get(ref) != told.get(ref)}
    assert not differ, f"filled otherwise than the gateway's executions say: {few(differ)}"


def assert_positions_and_cash(engine: EngineRun) -> None:
    """Positions, cash and commissions are the gateway's own."""
    assert engine.positions() == engine.gateway_positions()
    account, moved = engine.gateway("account"), Decimal(0)
    held = engine.position_rows()
    for row in held.values():
        moved += fixed(row["realized_pnl"]) - fixed(row["commission"]) - fixed(row["qty"]) * fixed(row["avg_px"])
    cash = number(account["cash"]) - number(account["cash_start"])
    # Average prices are rounded to 1e-8, once a fill.
    slack = Decimal("0.01")
    assert abs(cash - moved) < slack, f"cash moved by {cash} at the gateway and by {moved} here: {held}"
    commissions = sum((fixed(row["commission"]) for row in held.values()), Decimal(0))
    assert abs(number(account["commissions"]) - commissions) < slack, "commissions"


def assert_one_outcome_each(engine: EngineRun, signals: Collection[str]) -> Counter[str]:
    """Each published signal has exactly one outcome, and only one that went out has a family; count the outcomes."""
    outcomes = engine.outcomes()
    missing = set(signals) - set(outcomes)
    assert not missing, f"signals without an outcome: {few(missing)}"
    told = Counter(line["signal_id"] for line in lines(engine, "outcomes"))
    twice = {name: count for name, count in told.items() if count > 1 and name in set(signals)}
    assert not twice, f"signals with more than one outcome: {twice}"
    with_family = {str(order["signal_id"]) for order in engine.orders().values()}
    for name in signals:
        kind, guard = str(outcomes[name]["outcome"]), str(outcomes[name].get("guard", ""))
        assert kind in ("submitted", "refused", "superseded", "expired"), outcomes[name]
        if kind == "submitted":
            assert name in with_family, f"{name} is submitted and has no orders"
        elif guard != "unresolved":
            assert name not in with_family, f"{name} is {kind} by {guard} and has orders"
    return Counter(str(outcomes[name]["outcome"]) for name in signals)


def settle(engine: EngineRun, signals: Collection[str] = (), seconds_max: float = 90.0) -> None:
    """Freeze the market, then wait until every signal has its outcome, nothing is unresolved or owed, the gate open."""
    engine.wait(lambda: engine.gateway("walk", on=False), 90, "the gateway serves")
    began_ns = time.time_ns()

    def settled() -> bool:
        return not why_unsettled(engine, signals, began_ns)

    try:
        engine.wait(settled, seconds_max, "all settled")
    except AssertionError as error:
        raise AssertionError(f"{why_unsettled(engine, signals, began_ns)}; {error}") from None


def why_unsettled(engine: EngineRun, signals: Collection[str], since_ns: int) -> list[str]:
    """What is still open, as text."""
    why = [f"{role}: not reported since" for role in unreported(engine, since_ns)]
    unresolved = {ref for ref, order in engine.orders().items() if order["state"] in UNRESOLVED}
    if unresolved:
        why.append(f"unresolved {few(unresolved)}")
    missing = set(signals) - set(engine.outcomes())
    if missing:
        why.append(f"no outcome of {few(missing)}")
    status = engine.status()
    if status.gate.get("gate") != "open" and status.halt is None:
        why.append(f"gate {status.gate}")
    why += [f"{role} owes {c['owed']}" for role, c in status.counters.items() if c.get("owed")]
    held = status.detail.get("broker.paper", {}).get("held", "0")
    if held != "0":
        why.append(f"{held} intents held")
    if engine.positions() != engine.gateway_positions():
        why.append(f"positions {engine.positions()} here, {engine.gateway_positions()} there")
    return why


def unreported(engine: EngineRun, since_ns: int) -> list[str]:
    """Roles of the execution side whose report on the health board is older than this."""
    settings = engine.settings
    with Inspector(resolved(settings, read_engine_file(settings))) as inspector:
        written = {leaf.role: leaf.written_ns for leaf in inspector.board().leaves}
    return [role for role in ("broker.paper", "reconciler", "allocator") if written.get(role, 0) <= since_ns]


def lines(engine: EngineRun, name: str) -> Rows:
    """Every whole line of a lines file, its predecessor's first."""
    found: Rows = []
    for path in (engine.run_dir / "lines" / f"{name}.jsonl.1", engine.run_dir / "lines" / f"{name}.jsonl"):
        if path.exists():
            found += [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    return found


def few(names: Collection[str]) -> str:
    """Names for a message: how many, and the first of them."""
    return f"{len(names)}: {sorted(names)[:6]}"


def rows(engine: EngineRun, command: str, field: str) -> Rows:
    """A list of the gateway's."""
    listed = engine.gateway(command)[field]
    assert isinstance(listed, list)
    return listed


def fixed(value: object) -> Decimal:
    """A Fixed8 count as a decimal."""
    assert isinstance(value, int)
    return value / FIXED


def number(value: object) -> Decimal:
    """A number of the gateway's."""
    return Decimal(str(value))
