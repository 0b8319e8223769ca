"""The gateway's whole state: folded from snapshot and journal, and written as the next snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from venues.gateway.account import Account, AccountBase
from venues.gateway.contracts import DERIVED_CON_ID, derivative_parts
from venues.gateway.journal import SCHEMA_VERSION, Journal, Snapshot, StateError
from venues.gateway.model import ClockSet, Execution, IdsReset, Order, OrdersLost, PriceSet, Record
from venues.gateway.settings import GatewaySettings
from venues.gateway.store import OrderStore


@dataclass(slots=True)
class Loaded:
    """What a start finds. `symbols`: of stocks that orders and positions are of, listed or not."""

    store: OrderStore
    base: AccountBase
    is_new: bool
    began_ns: int = 0
    ahead_ns: int = 0
    prices: list[PriceSet] = field(default_factory=list)
    symbols: list[str] = field(default_factory=list)


def load(journal: Journal, settings: GatewaySettings) -> Loaded:
    """Raises StateError when the state is damaged or of another account."""
    snapshot, records = journal.load()
    if snapshot is not None and snapshot.account != settings.account:
        raise StateError(
            f"the state in {journal.folder} is of account {snapshot.account}, not {settings.account}. "
            f"Remedy: use --account {snapshot.account}, or another --state DIR."
        )
    store = OrderStore()
    loaded = Loaded(store, snapshot.base if snapshot else AccountBase(cash=settings.cash_start), snapshot is None)
    if snapshot is not None:
        loaded.began_ns, loaded.ahead_ns = snapshot.began_ns, snapshot.ahead_ns
        for order in snapshot.orders:
            store.put(order)
        store.next_ids.update(snapshot.next_ids)
        store.forgotten_ids.update(snapshot.forgotten_ids)
        store.next_perm_id, store.next_exec = snapshot.next_perm_id, snapshot.next_exec
        records = [*snapshot.executions, *snapshot.prices, *records]
    prices: dict[str, PriceSet] = {}
    for record in records:
        _fold(record, loaded, prices)
    loaded.prices = list(prices.values())
    loaded.symbols = _symbols_of(loaded)
    return loaded


def _fold(record: Record, loaded: Loaded, prices: dict[str, PriceSet]) -> None:
    match record:
        case Order():
            loaded.store.put(record)
        case Execution():
            loaded.store.add(record)
        case IdsReset():
            loaded.store.reset_ids(record)
        case OrdersLost(perm_ids=perm_ids):
            loaded.store.lose(perm_ids)
        case ClockSet(ahead_ns=ahead_ns):
            loaded.ahead_ns = ahead_ns
        case PriceSet(symbol=symbol):
            prices[symbol] = record
        case _:
            assert_never(record)


def _symbols_of(loaded: Loaded) -> list[str]:
    rows = [(held.con_id, held.symbol) for held in loaded.base.positions]
    rows += [(order.ticket.con_id, order.ticket.symbol) for order in loaded.store.orders.values()]
    rows += [(fill.con_id, fill.symbol) for fill in loaded.store.executions.values()]
    unders = (symbol if con_id < DERIVED_CON_ID else derivative_parts(con_id)[0].under for con_id, symbol in rows)
    return list(dict.fromkeys(unders))


def drop_oldest(
    store: OrderStore, base: AccountBase, settings: GatewaySettings
) -> tuple[AccountBase, Mapping[str, int]]:
    """Drop done orders and fills beyond the kept numbers; return the account before the kept fills, and counts.

    A fill is dropped with its corrections, as its last one has it.
    """
    done = [order.perm_id for order in store.orders.values() if order.is_done]
    surplus = done[: max(0, len(done) - settings.completed_kept_max)]
    store.forget(surplus)
    latest = store.latest_executions()
    excess = latest[: max(0, len(latest) - settings.executions_kept_max)]
    if excess:
        folded = Account(base, settings.fees)
        roots = {fill.root for fill in excess}
        for fill in excess:
            folded.apply(fill)
        for exec_id in [fill.exec_id for fill in store.executions.values() if fill.root in roots]:
            del store.executions[exec_id]
        base = folded.base()
    return base, {"orders_dropped": len(surplus), "executions_dropped": len(excess)}


def snapshot_of(
    journal: Journal,
    settings: GatewaySettings,
    base: AccountBase,
    store: OrderStore,
    *,
    began_ns: int,
    ahead_ns: int,
    prices: tuple[PriceSet, ...],
) -> Snapshot:
    """Return the whole state as the snapshot of the next generation."""
    return Snapshot(
        schema_version=SCHEMA_VERSION,
        generation=journal.next_generation,
        account=settings.account,
        base=base,
        orders=tuple(store.orders.values()),
        executions=tuple(store.executions.values()),
        prices=prices,
        next_ids=tuple(store.next_ids.items()),
        forgotten_ids=tuple(store.forgotten_ids.items()),
        next_perm_id=store.next_perm_id,
        next_exec=store.next_exec,
        began_ns=began_ns,
        ahead_ns=ahead_ns,
    )
