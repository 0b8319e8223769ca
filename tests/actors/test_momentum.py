"""The momentum source: same prices, same signals; none out of order, stale, or in its own cool-down."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.effects import Count, Publish
from actors.messages import PriceSeen, Recovered, Side, Signal
from actors.momentum import Momentum, MomentumSettings, MomentumState
from tests.actors.money_bench import SECOND, START, UNIT, Bench

CENT = UNIT // 100


def run(prices: list[int], **settings: int) -> tuple[Bench[MomentumState], list[Signal]]:
    """Feed one price a second; return all signals."""
    bench = Bench(Momentum(MomentumSettings(**settings)))  # type: ignore[arg-type]
    signals: list[Signal] = []
    for px in prices:
        bench.feed(PriceSeen("ACME", px, bench.now_ns))
        signals += [effect.body for effect in bench.did(Publish) if isinstance(effect.body, Signal)]
        bench.wait(1)
    return bench, signals


def test_a_rise_over_a_full_window_buys_with_exits_on_ticks_on_their_sides() -> None:
    bench, signals = run([100 * UNIT + n * 3 * CENT + 7 for n in range(4)], window=4)
    assert len(signals) == 1
    found = signals[0]
    assert found.side is Side.BUY
    assert found.stop_px < found.reference_px < found.take_profit_px
    assert found.stop_px % CENT == found.take_profit_px % CENT == 0
    assert found.expires_ns > found.ts_event_ns
    bench.check_replay()


def test_a_fall_sells_and_a_flat_market_says_nothing() -> None:
    _, signals = run([100 * UNIT - n * 3 * CENT for n in range(4)], window=4)
    assert [found.side for found in signals] == [Side.SELL]
    assert signals[0].take_profit_px < signals[0].reference_px < signals[0].stop_px
    assert run([100 * UNIT] * 10, window=4)[1] == []
    assert run([100 * UNIT - n * 3 * CENT for n in range(4)], window=4, may_sell=False)[1] == []


def test_no_signal_before_the_window_is_full() -> None:
    assert run([(100 + n) * UNIT for n in range(7)], window=8)[1] == []


@given(st.lists(st.integers(50 * UNIT, 200 * UNIT), max_size=80))
def test_signals_have_unique_ids_and_keep_the_cool_down(prices: list[int]) -> None:
    _, signals = run(prices, window=3, cool_down_ns=5 * SECOND)
    assert len({found.signal_id for found in signals}) == len(signals)
    times = [found.ts_event_ns for found in signals]
    assert all(later - earlier >= 5 * SECOND for earlier, later in itertools.pairwise(times))
    for found in signals:
        low, high = sorted((found.stop_px, found.take_profit_px))
        assert low < found.reference_px < high
    assert run(prices, window=3, cool_down_ns=5 * SECOND)[1] == signals


def test_prices_of_one_bucket_coalesce_without_a_journal_entry() -> None:
    bench, _ = run([100 * UNIT])
    before = bench.core
    bench.now_ns = START
    bench.feed(PriceSeen("ACME", 101 * UNIT, START + SECOND // 2))
    assert bench.core is before
    assert bench.effects == [Count("price_coalesced")]


@pytest.mark.parametrize(
    ("px", "ts_ns", "count"),
    [
        (0, START, "price_invalid"),
        (-1, START, "price_invalid"),
        (UNIT, START - 31 * SECOND, "price_stale"),
        (UNIT, START - SECOND, "price_out_of_order"),
    ],
)
def test_a_price_that_cannot_be_used_is_counted_and_left(px: int, ts_ns: int, count: str) -> None:
    bench, _ = run([100 * UNIT])
    bench.now_ns = START
    before = bench.core
    bench.feed(PriceSeen("ACME", px, ts_ns))
    assert bench.core is before
    assert bench.effects == [Count(count)]


def test_a_gap_begins_the_window_anew() -> None:
    bench, _ = run([100 * UNIT] * 3, window=4)
    bench.wait(60)
    bench.feed(PriceSeen("ACME", 200 * UNIT, bench.now_ns))
    assert bench.effects == [Count("window_restarted")]
    assert bench.state.windows["ACME"].prices == (200 * UNIT,)


def test_symbols_are_bounded() -> None:
    bench, _ = run([100 * UNIT], symbols_max=1)
    before = bench.core
    bench.feed(PriceSeen("OTHER", UNIT, bench.now_ns))
    bench.feed(Recovered(2))
    assert bench.core is before
