"""Each opportunity told once while it stands, confirmed as it is told, and at most 200 in a second."""

from __future__ import annotations

import numpy as np
import pytest

from actors.messages import OpportunityFound
from actors.opportunity_gate import PER_SECOND_MAX, OpportunityGate
from kernels.book_image import BookImage, FeedWriter, RowStatus, format_image, layout
from kernels.cycle_execution import check_plan
from kernels.cycles import build_index
from kernels.evaluate import Decision
from kernels.evaluator import Evaluator
from kernels.exchange_info import Symbol

UNIT = 10**8
NOW_NS = 10**18
SYMBOLS = (
    Symbol("BTCUSDT", "TRADING", "BTC", "USDT"),
    Symbol("ETHUSDT", "TRADING", "ETH", "USDT"),
    Symbol("ETHBTC", "TRADING", "ETH", "BTC"),
)
BTC, ETH, CROSS = range(3)


class Market:
    """A triangle: at a cross of 0.10 it is fair, below it buying there pays."""

    def __init__(self) -> None:
        self.image: BookImage = format_image(bytearray(layout(3, 1, 64).n_bytes), [0, 0, 0], 1, 64)
        self.writer = FeedWriter(self.image, 0, 1)
        self.evaluator = Evaluator(build_index(SYMBOLS, "USDT"), self.image)
        self.gate = OpportunityGate(self.evaluator, "evaluator:e1", dry_run=True)
        self.updates = 0
        self.writer.beat(NOW_NS)
        self.quote(BTC, 100 * UNIT)
        self.quote(ETH, 10 * UNIT)
        self.quote(CROSS, UNIT // 10)

    def quote(self, row: int, bid_px: int) -> None:
        self.updates += 1
        self.writer.write_row(row, bid_px, UNIT, bid_px + bid_px // 1_000, UNIT, self.updates, NOW_NS)

    def decisions(self, row: int) -> list[Decision]:
        return self.evaluator.on_rows(np.array([row], dtype=np.int32), NOW_NS)

    def change(self, row: int, bid_px: int, now_ns: int = NOW_NS) -> list[OpportunityFound]:
        self.quote(row, bid_px)
        return self.gate.take(np.array([row], dtype=np.int32), self.decisions(row), now_ns)


FAIR, CHEAP = UNIT // 10, UNIT // 12


@pytest.fixture
def market() -> Market:
    return Market()


def test_an_opportunity_is_told_once_however_its_rows_change_while_it_stands(market: Market) -> None:
    (told,) = market.change(CROSS, CHEAP)
    assert told.cycle == ("BTCUSDT:BUY", "ETHBTC:BUY", "ETHUSDT:SELL")
    assert told.opportunity_id == "evaluator:e1.1"
    assert told.dry_run
    assert [leg.venue_update_id for leg in told.legs] == [1, 4, 2]
    assert [leg.age_ns for leg in told.legs] == [0, 0, 0]
    for step in range(20):
        assert market.change(CROSS, CHEAP - step) == []
        assert market.change(BTC, 100 * UNIT - step) == []
    assert market.gate.standing == 1


def test_the_one_that_has_stood_for_longest_is_known_with_its_time(market: Market) -> None:
    assert market.gate.find_longest(NOW_NS) == ((), 0)
    (told,) = market.change(CROSS, CHEAP, NOW_NS)
    market.change(CROSS, CHEAP - 1, NOW_NS + 5)
    assert market.gate.find_longest(NOW_NS + 70) == (told.cycle, 70)
    market.change(CROSS, FAIR, NOW_NS + 80)
    assert market.gate.find_longest(NOW_NS + 90) == ((), 0)


def test_one_that_closed_and_opened_again_is_another(market: Market) -> None:
    ids = []
    for _ in range(3):
        ids += [told.opportunity_id for told in market.change(CROSS, CHEAP)]
        assert market.change(CROSS, FAIR) == []
        assert market.gate.standing == 0
    assert ids == ["evaluator:e1.1", "evaluator:e1.2", "evaluator:e1.3"]


def test_an_invalid_row_closes_what_stood_on_it(market: Market) -> None:
    market.change(CROSS, CHEAP)
    market.writer.mark_invalid(ETH, RowStatus.CROSSED)
    assert market.gate.take(np.array([ETH], dtype=np.int32), market.decisions(ETH), NOW_NS) == []
    assert market.gate.standing == 0
    assert len(market.change(ETH, 10 * UNIT)) == 1


def test_a_feed_that_died_closes_what_stood_though_no_row_changed(market: Market) -> None:
    market.change(CROSS, CHEAP)
    market.gate.recheck(NOW_NS)
    assert market.gate.standing == 1
    market.gate.recheck(NOW_NS + 10**9)
    assert market.gate.standing == 0


def test_a_row_that_changed_after_the_decision_leaves_it_untold(market: Market) -> None:
    market.quote(CROSS, CHEAP)
    decisions = market.decisions(CROSS)
    assert [decision.refusal for decision in decisions] == [None]
    market.quote(CROSS, FAIR)
    assert market.gate.take(np.array([CROSS], dtype=np.int32), decisions, NOW_NS) == []
    assert market.gate.counts["unconfirmed"] == 1
    assert market.gate.standing == 0


def test_a_feed_that_died_after_the_decision_leaves_it_untold(market: Market) -> None:
    market.quote(CROSS, CHEAP)
    decisions = market.decisions(CROSS)
    assert market.gate.take(np.array([CROSS], dtype=np.int32), decisions, NOW_NS + 251_000_000) == []
    assert market.gate.counts["unconfirmed"] == 1


def test_more_than_the_bound_in_a_second_are_counted_and_not_told(market: Market) -> None:
    told = 0
    for _ in range(PER_SECOND_MAX + 50):
        told += len(market.change(CROSS, CHEAP))
        market.change(CROSS, FAIR)
    assert told == PER_SECOND_MAX
    assert market.gate.counts == {"told": PER_SECOND_MAX, "suppressed": 50, "unconfirmed": 0}
    market.writer.beat(NOW_NS + 10**9)
    market.quote(CROSS, CHEAP)
    decisions = market.evaluator.on_rows(np.array([CROSS], dtype=np.int32), NOW_NS + 10**9)
    assert len(market.gate.take(np.array([CROSS], dtype=np.int32), decisions, NOW_NS + 10**9)) == 1


class DeepMarket(Market):
    """The same with a ladder for the cross, of a feed of its own."""

    def __init__(self) -> None:
        buffer = bytearray(layout(3, 2, 64, n_ladders=1, ladder_levels=4).n_bytes)
        self.image = format_image(buffer, [0, 0, 0], 2, 64, ladders=[(CROSS, 1)], ladder_levels=4)
        self.writer, self.depth = FeedWriter(self.image, 0, 1), FeedWriter(self.image, 1, 1)
        self.evaluator = Evaluator(build_index(SYMBOLS, "USDT"), self.image)
        self.gate = OpportunityGate(self.evaluator, "evaluator:e1", dry_run=True)
        self.updates = 0
        self.writer.beat(NOW_NS)
        self.depth.beat(NOW_NS)
        self.quote(BTC, 100 * UNIT, 100 * UNIT)
        self.quote(ETH, 10 * UNIT, 100 * UNIT)

    def quote(self, row: int, bid_px: int, qty: int = UNIT) -> None:
        self.updates += 1
        self.writer.write_row(row, bid_px, qty, bid_px + bid_px // 1_000, qty, self.updates, NOW_NS)

    def ladder(self, *asks: tuple[int, int]) -> None:
        levels = np.array(asks, dtype=np.int64).reshape(-1, 2)
        self.depth.write_ladder(CROSS, levels[:0], levels, self.updates, NOW_NS)


def test_an_opportunity_is_sized_and_told_over_the_levels_of_a_live_ladder() -> None:
    market = DeepMarket()
    top = CHEAP + CHEAP // 1_000
    market.ladder((top, UNIT), (top + 10**4, 5 * UNIT), (FAIR, 90 * UNIT))
    (told,) = market.change(CROSS, CHEAP)
    cross = next(leg for leg in told.legs if leg.leg.startswith("ETHBTC"))
    assert (cross.qty, cross.levels, cross.limit_px) == (6 * UNIT, 2, top + 10**4)
    assert cross.ladder == ((top, UNIT), (top + 10**4, 5 * UNIT), (FAIR, 90 * UNIT))
    assert cross.ladder_sequence == 2
    assert all(leg.ladder == () for leg in told.legs if leg is not cross)


def test_a_ladder_that_changed_after_the_decision_leaves_it_untold_if_its_levels_were_used() -> None:
    market = DeepMarket()
    top = CHEAP + CHEAP // 1_000
    market.ladder((top, UNIT), (top + 10**4, 5 * UNIT))
    market.quote(CROSS, CHEAP)
    decisions = market.decisions(CROSS)
    market.ladder((top, UNIT))
    changed = np.array([CROSS], dtype=np.int32)
    assert market.gate.take(changed, decisions, NOW_NS) == []
    assert market.gate.counts["unconfirmed"] == 1
    # Where the top alone was used a change of the ladder takes nothing away.
    decisions = market.decisions(CROSS)
    market.ladder((top, UNIT), (FAIR, UNIT))
    assert len(market.gate.take(changed, decisions, NOW_NS)) == 1


def test_a_ladder_whose_feed_died_is_not_walked() -> None:
    market = DeepMarket()
    top = CHEAP + CHEAP // 1_000
    market.ladder((top, UNIT), (top + 10**4, 5 * UNIT))
    market.depth.down()
    (told,) = market.change(CROSS, CHEAP)
    cross = next(leg for leg in told.legs if leg.leg.startswith("ETHBTC"))
    assert (cross.qty, cross.levels, cross.ladder) == (UNIT, 1, ())


def test_where_it_is_no_dry_run_the_plan_is_the_decisions_own_to_the_last_unit() -> None:
    market = Market()
    market.gate = OpportunityGate(market.evaluator, "evaluator:e1", dry_run=False)
    market.quote(CROSS, CHEAP)
    (decision,) = [one for one in market.decisions(CROSS) if one.refusal is None]
    (told,) = market.gate.take(np.array([CROSS], dtype=np.int32), [decision], NOW_NS)
    assert check_plan(told.plan) == ""
    assert [(leg.symbol, leg.side) for leg in told.plan] == [("BTCUSDT", "BUY"), ("ETHBTC", "BUY"), ("ETHUSDT", "SELL")]
    for leg, step in zip(told.plan, decision.steps, strict=True):
        assert (leg.limit_px, leg.qty, leg.spent, leg.fee, leg.received) == (
            step.limit_px,
            step.qty,
            step.spent,
            step.fee,
            step.received,
        )
    assert told.evaluated_ns == decision.evaluated_ns
    assert not told.dry_run
