"""Random lives of the order engine against checks that know nothing of how it works."""

from __future__ import annotations

import random
from collections import defaultdict
from decimal import Decimal

import pytest

from tests.venues.gateway_bench import AAPL, CASH, Bench
from venues.gateway.model import (
    ClockSet,
    Execution,
    IdsReset,
    Order,
    OrdersLost,
    OrderTold,
    PriceSet,
    State,
    StatusTold,
)
from venues.gateway.settings import Manners
from venues.gateway.store import OrderStore

STEPS = 150


class Life:
    """Drives one engine at random; every step is followed by every check."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.bench = Bench(Manners(partial_parent=self.random.choice(["wait", "follow"])))
        self.cents = 10_000
        self.next_id = 1
        self.brackets: list[int] = []
        self.finished: dict[int, Order] = {}

    def price(self, away: int) -> str:
        return str(Decimal(self.cents + away) / 100)

    def act(self) -> None:
        acts = [
            self.single,
            self.bracket,
            self.pair,
            self.move,
            self.move,
            self.move,
            self.cancel,
            self.modify,
            self.cap,
        ]
        self.random.choice(acts)()
        self.bench.now_ns += self.random.randrange(1_000)
        self.bench.engine.advance(self.bench.now_ns)
        self.bench.take()

    def take_id(self) -> int:
        self.next_id += 1
        return self.next_id - 1

    def single(self) -> None:
        kind = self.random.choice(["MKT", "LMT", "STP", "STP LMT", "TRAIL", "TRAIL LIMIT"])
        near = self.random.randrange(-60, 60)
        prices: dict[str, object] = {"limit": self.price(near), "stop": self.price(self.random.randrange(-60, 60))}
        if kind.startswith("TRAIL"):
            prices = {"stop": str(Decimal(self.random.randrange(1, 60)) / 100), "limit_offset": Decimal("0.05")}
        if kind not in ("MKT", "LMT"):
            prices["trigger_method"] = self.random.choice([0, 1, 2, 3, 4, 7, 8])
        qty, tif = str(self.random.randrange(1, 200)), self.random.choice(["DAY", "GTC", "IOC", "FOK"])
        self.bench.place(self.take_id(), self.random.choice(["BUY", "SELL"]), qty, kind, tif=tif, **prices)

    def bracket(self) -> None:
        first = self.take_id()
        self.take_id()
        self.take_id()
        self.brackets.append(first)
        entry = self.price(self.random.randrange(-40, 10))
        qty = str(self.random.randrange(1, 200))
        self.bench.bracket(first, qty, entry, self.price(self.random.randrange(5, 80)), self.price(-100))

    def pair(self) -> None:
        kind, group = self.random.choice([1, 2, 3]), f"pair{self.next_id}"
        qty = str(self.random.randrange(1, 200))
        for away in (-30, 30):
            more = {"limit": self.price(away), "oca_group": group, "oca_type": kind}
            self.bench.place(self.take_id(), "BUY" if away < 0 else "SELL", qty, "LMT", **more)

    def move(self) -> None:
        self.cents = max(1_000, self.cents + self.random.randrange(-40, 41))
        spread = self.random.randrange(1, 5)
        self.bench.quote(self.price(0), self.price(spread), self.price(self.random.randrange(0, spread + 1)))

    def cancel(self) -> None:
        self.bench.cancel(self.random.randrange(1, self.next_id + 1))

    def modify(self) -> None:
        order = self.bench.store.find(1, self.random.randrange(1, self.next_id + 1))
        if order is None or not order.is_working or order.ticket.order_type != "LMT":
            return
        ticket = order.ticket
        px = self.price(self.random.randrange(-60, 60))
        self.bench.place(ticket.order_id, ticket.action, str(order.qty), "LMT", limit=px, tif=ticket.tif)

    def cap(self) -> None:
        conduct = self.bench.engine.conduct
        conduct.fill_qty_max = self.random.choice([None, Decimal(7), Decimal(50)])
        conduct.fill_delay_ns = self.random.choice([0, 0, 700])

    # ---- the checks

    def check(self) -> None:
        self.check_orders_and_executions()
        self.check_money()
        self.check_families()
        self.check_groups()
        self.check_what_was_told()

    def check_orders_and_executions(self) -> None:
        filled: dict[int, Decimal] = defaultdict(Decimal)
        for fill in self.bench.store.executions.values():
            filled[fill.perm_id] += fill.qty
            assert fill.qty > 0
            assert fill.cum_qty == filled[fill.perm_id]
        for order in self.bench.store.orders.values():
            assert order.filled == filled[order.perm_id] <= order.qty
            assert order.filled + order.remaining == order.qty
            assert (order.state is State.FILLED) == (order.filled == order.qty)
            known = self.finished.get(order.perm_id)
            assert known is None or known == order, "a done order changed"
            if not order.is_working:
                self.finished[order.perm_id] = order
        assert len({order.ticket.key for order in self.bench.store.orders.values()}) == len(self.bench.store.orders)

    def check_money(self) -> None:
        cash, held = CASH, Decimal(0)
        for fill in self.bench.store.executions.values():
            signed = fill.qty if fill.is_buy else -fill.qty
            held += signed
            cash -= signed * fill.px + fill.commission
        assert self.bench.account.cash == cash
        position = self.bench.account.positions.get(AAPL.con_id)
        assert (position.qty if position else 0) == held
        if position is not None and held == 0:
            assert position.cost == 0
            assert position.realized_pnl == cash - CASH

    def check_families(self) -> None:
        for first in self.brackets:
            family = [self.bench.store.find(1, first + n) for n in range(3)]
            parent, *children = [order for order in family if order is not None]
            assert sum(child.filled for child in children) <= parent.filled, "children sold more than was bought"
            if parent.state is State.CANCELLED and not parent.filled:
                assert not any(child.is_working for child in children)
            if parent.is_working and not parent.filled:
                assert all(child.status in ("PreSubmitted", "Cancelled") for child in children)
            if not parent.is_working:
                assert not any(child.held for child in children if child.is_working)

    def check_groups(self) -> None:
        groups: dict[str, list[Order]] = defaultdict(list)
        for order in self.bench.store.orders.values():
            if order.oca_group:
                groups[order.oca_group].append(order)
        for members in groups.values():
            if any(order.state is State.FILLED for order in members):
                assert not any(order.is_working for order in members), "an OCA group outlived a fill"

    def check_what_was_told(self) -> None:
        last: dict[int, str] = {}
        for notice in self.bench.notices:
            if isinstance(notice, OrderTold | StatusTold):
                last[notice.order.perm_id] = notice.status
        for order in self.bench.store.orders.values():
            assert last[order.perm_id] == order.status or (
                order.ticket.order_type == "MKT" and last[order.perm_id] == "PreSubmitted" and order.is_working
            )

    def check_replay(self) -> None:
        store = OrderStore()
        for record in self.bench.records:
            match record:
                case Order():
                    store.put(record)
                case Execution():
                    store.add(record)
                case IdsReset():
                    store.reset_ids(record)
                case OrdersLost(perm_ids=perm_ids):
                    store.lose(perm_ids)
                case PriceSet() | ClockSet():
                    pass
        mine = self.bench.store
        assert (store.orders, store.executions, store.ids) == (mine.orders, mine.executions, mine.ids)
        assert (store.next_ids, store.next_perm_id, store.next_exec) == (
            mine.next_ids,
            mine.next_perm_id,
            mine.next_exec,
        )
        assert store.working_orders() == mine.working_orders()
        assert {k: v for k, v in store.groups.items() if v} == {k: v for k, v in mine.groups.items() if v}


@pytest.mark.parametrize("seed", range(40))
def test_random_lives_keep_every_promise_of_the_engine(seed: int) -> None:
    print(f"seed {seed}")
    life = Life(seed)
    for _ in range(STEPS):
        life.act()
        life.check()
    life.check_replay()


@pytest.mark.parametrize("seed", range(5))
def test_no_fill_is_worse_than_its_limit(seed: int) -> None:
    print(f"seed {seed}")
    life = Life(seed)
    for _ in range(STEPS):
        limits = {order.perm_id: order.ticket.limit_px for order in life.bench.store.orders.values()}
        known = set(life.bench.store.executions)
        life.act()
        for exec_id, fill in life.bench.store.executions.items():
            order = life.bench.store.orders[fill.perm_id]
            if exec_id in known or order.ticket.order_type not in ("LMT", "STP LMT"):
                continue
            now = order.ticket.limit_px
            was = limits.get(fill.perm_id, now)
            assert now is not None
            assert was is not None
            assert fill.px <= max(now, was) if fill.is_buy else fill.px >= min(now, was)
