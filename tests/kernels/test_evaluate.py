"""Exact decisions against Fractions and against a search over every combination of lots."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.book_image import Row, Verdict
from kernels.cycles import BUY, SELL
from kernels.evaluate import Decision, Refusal, Terms, decide
from kernels.exchange_info import Symbol
from kernels.fixed8 import COUNT_MAX, SCALE

TOO_SMALL = {Refusal.BELOW_LOT, Refusal.BELOW_MIN_QTY, Refusal.BELOW_MIN_NOTIONAL}


class Case(NamedTuple):
    """One leg of a test cycle."""

    symbol: Symbol
    side: int
    bid_px: int
    bid_qty: int
    ask_px: int
    ask_qty: int


def run(
    cases: list[Case],
    fee_e8: int = 0,
    start_max: int | None = None,
    verdict: Verdict = Verdict.LIVE,
    token: str = "",
) -> Decision:
    rows = [(verdict, Row(2, one.bid_px, one.bid_qty, one.ask_px, one.ask_qty, 7, 900, 1)) for one in cases]
    terms = Terms((fee_e8,) * len(cases), start_max, Fraction(1), token)
    return decide(5, "USDT", [one.symbol for one in cases], [one.side for one in cases], rows, terms, 1000)


def exact_gross(cases: list[Case]) -> Fraction:
    gross = Fraction(1)
    for one in cases:
        gross *= Fraction(SCALE, one.ask_px) if one.side == BUY else Fraction(one.bid_px, SCALE)
    return gross


def market(name: str = "X", tick: int = 1, lot: int = 1, **limits: int) -> Symbol:
    return Symbol(name, "TRADING", "B", "Q", tick, lot, **limits)


def check_against_fractions(cases: list[Case], decision: Decision, fee_e8: int, start_max: int | None) -> None:
    """Hold every step to the venue's rules and to exact arithmetic, in one direction: against us."""
    kept = 1 - Fraction(fee_e8, SCALE)
    carried: int | None = start_max
    for one, step in zip(cases, decision.steps, strict=True):
        buy, symbol = one.side == BUY, one.symbol
        assert step.qty > 0
        assert step.qty % symbol.lot_size == 0
        assert symbol.min_qty <= step.qty <= min(symbol.max_qty, one.ask_qty if buy else one.bid_qty)
        assert step.limit_px % symbol.tick_size == 0
        assert step.limit_px >= one.ask_px if buy else step.limit_px <= one.bid_px
        assert Fraction(step.qty * step.limit_px, SCALE) >= symbol.min_notional
        assert step.spent >= (Fraction(step.qty * step.limit_px, SCALE) if buy else step.qty)
        exact = (step.qty if buy else Fraction(step.qty * step.limit_px, SCALE)) * kept
        assert 0 <= step.received <= exact
        assert exact - step.received < 2, "rounded by less than two counts"
        assert carried is None or step.spent <= carried
        if carried is not None and one is not cases[0]:
            assert step.residual == carried - step.spent
        carried = step.received
    net = Fraction(decision.received, decision.spent)
    assert (decision.spent, decision.received) == (decision.steps[0].spent, decision.steps[-1].received)
    assert net <= exact_gross(cases) * kept ** len(cases), "what the screen relies on"
    assert (decision.refusal is None) == (net > 1)
    assert decision.net_gain == decision.received - decision.spent


def best_by_search(cases: list[Case], fee_e8: int, start_max: int | None) -> tuple[int, ...] | None:
    """Try every combination of lots: the largest third leg, then the least spent, by exact fractions."""
    best: tuple[tuple[Fraction | int, ...], tuple[int, ...]] | None = None
    ranges = [range(0, (one.ask_qty if one.side == BUY else one.bid_qty) + 1, one.symbol.lot_size) for one in cases]
    for quantities in itertools.product(*ranges):
        have = Fraction(start_max) if start_max is not None else None
        first_cost = Fraction(0)
        for number, (one, qty) in enumerate(zip(cases, quantities, strict=True)):
            tick, buy = one.symbol.tick_size, one.side == BUY
            px = -(-one.ask_px // tick) * tick if buy else one.bid_px // tick * tick
            amount = Fraction(qty * px, SCALE)
            cost = Fraction(-(-amount.numerator // amount.denominator)) if buy else Fraction(qty)
            legal = one.symbol.min_qty <= qty <= one.symbol.max_qty and amount >= one.symbol.min_notional and px > 0
            if not legal or (have is not None and cost > have):
                break
            first_cost = cost if number == 0 else first_cost
            proceeds = qty if buy else int(amount)
            have = Fraction(int(proceeds * (1 - Fraction(fee_e8, SCALE))))
        else:
            rank = (quantities[-1], -first_cost, *(-one for one in reversed(quantities[1:-1])))
            if best is None or rank > best[0]:
                best = rank, quantities
    return None if best is None else best[1]


@st.composite
def small_cycles(draw: st.DrawFn) -> list[Case]:
    cases = []
    for number in range(draw(st.sampled_from([3, 3, 4]))):
        # Prices around 1: a quantity of a few counts is then a cost of a few counts.
        bid = draw(st.integers(SCALE // 3, SCALE * 3))
        ask = bid + draw(st.integers(1, SCALE))
        symbol = market(
            f"S{number}",
            tick=draw(st.sampled_from([1, 7, SCALE // 10])),
            lot=draw(st.integers(1, 3)),
            min_qty=draw(st.integers(1, 4)),
            max_qty=draw(st.integers(4, 12)),
            min_notional=draw(st.integers(0, 4)),
        )
        cases.append(
            Case(
                symbol, draw(st.sampled_from([BUY, SELL])), bid, draw(st.integers(1, 12)), ask, draw(st.integers(1, 12))
            )
        )
    return cases


@settings(max_examples=250, deadline=None)
@given(small_cycles(), st.sampled_from([0, 75_000, SCALE // 10]), st.one_of(st.none(), st.integers(0, 20)))
def test_the_size_is_the_one_that_a_search_over_all_lots_finds(
    cases: list[Case], fee_e8: int, start_max: int | None
) -> None:
    decision = run(cases, fee_e8, start_max)
    expected = best_by_search(cases, fee_e8, start_max)
    if expected is None:
        assert decision.refusal in TOO_SMALL | {Refusal.BELOW_TICK}
        assert decision.steps == ()
        return
    assert tuple(step.qty for step in decision.steps) == expected
    check_against_fractions(cases, decision, fee_e8, start_max)


counts = st.one_of(st.integers(1, 10**6), st.integers(1, 2**62), st.just(COUNT_MAX))


@st.composite
def wild_cycles(draw: st.DrawFn) -> list[Case]:
    cases = []
    for number in range(draw(st.sampled_from([3, 4]))):
        bid, ask = draw(counts), draw(counts)
        symbol = market(
            f"S{number}",
            tick=draw(st.sampled_from([1, 100, 10**6])),
            lot=draw(st.sampled_from([1, 1000, SCALE])),
            min_qty=draw(st.sampled_from([1, SCALE])),
            max_qty=draw(st.sampled_from([COUNT_MAX, 10**13])),
            min_notional=draw(st.sampled_from([0, 10**9])),
        )
        cases.append(Case(symbol, draw(st.sampled_from([BUY, SELL])), bid, draw(counts), ask, draw(counts)))
    return cases


@settings(max_examples=500, deadline=None)
@given(wild_cycles(), st.sampled_from([0, 1, 75_000, SCALE - 1]), st.one_of(st.none(), counts))
def test_every_step_keeps_the_rules_and_rounds_against_us_at_the_extremes(
    cases: list[Case], fee_e8: int, start_max: int | None
) -> None:
    decision = run(cases, fee_e8, start_max)
    assert abs(Fraction(decision.gross_return) - exact_gross(cases)) <= Fraction(1, 2 * 10**12)
    if decision.steps:
        check_against_fractions(cases, decision, fee_e8, start_max)
    else:
        assert decision.refusal in TOO_SMALL | {Refusal.BELOW_TICK}


@settings(max_examples=500, deadline=None)
@given(wild_cycles(), st.sampled_from([0, 1, 75_000, SCALE // 2, SCALE - 1]), st.one_of(st.none(), counts))
def test_with_a_fee_token_each_leg_hands_on_its_whole_amount_and_the_fees_are_paid_at_the_end(
    cases: list[Case], fee_e8: int, start_max: int | None
) -> None:
    decision = run(cases, fee_e8, start_max, token="BNB")
    if not decision.steps:
        assert decision.refusal in TOO_SMALL | {Refusal.BELOW_TICK}
        return
    rate = Fraction(fee_e8, SCALE)
    owed = Fraction(0)
    for at, (one, step) in enumerate(zip(cases, decision.steps, strict=True)):
        whole = step.qty if one.side == BUY else step.qty * step.limit_px // SCALE
        assert step.received == whole
        assert rate * whole <= step.fee < rate * whole + 1
        later = cases[at + 1 :]
        owed += step.fee * exact_gross(later)
    assert decision.fee_token == "BNB"
    assert owed <= decision.fee_cost < owed + 1
    assert decision.net_gain == decision.received - decision.fee_cost - decision.spent
    net = Fraction(decision.received - decision.fee_cost, decision.spent)
    assert net <= exact_gross(cases) * (1 - rate) ** len(cases), "what the screen relies on"
    assert (decision.refusal is None) == (net > 1)


def test_fees_paid_in_a_token_worked_by_hand() -> None:
    # 10 ETH at 0.0692 BTC need 0.692 BTC, which is bought whole. Fees: 0.000692 BTC, 0.01 ETH, 21 USDT; worth
    # 0.000692 / 0.0692 = 0.01 ETH, so 0.02 ETH at 2,100 and 21 USDT: 63 USDT.
    decision = run(usdt_btc_eth(), fee_e8=100_000, token="BNB")
    first, second, third = decision.steps
    assert (first.qty, first.fee, first.received) == (69_200_000, 69_200, 69_200_000)
    assert (second.qty, second.fee, second.received, second.residual) == (10 * SCALE, 10**6, 10 * SCALE, 0)
    assert (third.fee, third.received) == (21 * SCALE, 21_000 * SCALE)
    assert (decision.spent, decision.received, decision.fee_cost) == (20_760 * SCALE, 21_000 * SCALE, 63 * SCALE)
    assert decision.net_gain == 177 * SCALE


def usdt_btc_eth(eth_usdt_bid: int = 2_100 * SCALE) -> list[Case]:
    lots = {"tick": 10**6, "lot": 10**5}
    return [
        Case(market("BTCUSDT", **lots), BUY, 29_999 * SCALE, SCALE, 30_000 * SCALE, SCALE),
        Case(market("ETHBTC", tick=100, lot=10**5), BUY, 6_900_000, 50 * SCALE, 6_920_000, 10 * SCALE),
        Case(market("ETHUSDT", **lots), SELL, eth_usdt_bid, 100 * SCALE, 2_101 * SCALE, 100 * SCALE),
    ]


def test_a_cycle_worked_by_hand() -> None:
    # Ten ETH are offered at 0.0692 BTC: 0.692 BTC, which at 0.1 % fee take 0.692692… bought, in lots 0.693 BTC.
    decision = run(usdt_btc_eth(), fee_e8=100_000)
    first, second, third = decision.steps
    assert (first.qty, first.spent, first.fee, first.received) == (69_300_000, 20_790 * SCALE, 69_300, 69_230_700)
    assert (second.qty, second.spent, second.fee, second.residual) == (10 * SCALE, 69_200_000, 10**6, 30_700)
    assert (third.qty, third.fee, third.residual) == (999_000_000, 2_097_900_000, 0)
    assert (decision.spent, decision.received) == (20_790 * SCALE, 2_095_802_100_000)
    assert decision.refusal is None
    assert decision.net_return == "1.008081818182"
    assert decision.gross_return == "1.011560693642"
    assert decision.path() == ("BTCUSDT:BUY", "ETHBTC:BUY", "ETHUSDT:SELL")
    assert {leg.age_ns for leg in decision.legs} == {100}


def test_the_cap_on_the_start_asset_is_never_exceeded() -> None:
    decision = run(usdt_btc_eth(), fee_e8=100_000, start_max=1_000 * SCALE)
    assert 0 < decision.spent <= 1_000 * SCALE


def test_a_cycle_that_gains_nothing_is_refused_with_its_figures() -> None:
    decision = run(usdt_btc_eth(eth_usdt_bid=2_000 * SCALE))
    assert decision.refusal is Refusal.NO_GAIN
    assert decision.net_gain < 0
    assert len(decision.steps) == 3


@pytest.mark.parametrize(
    ("change", "start_max", "refusal"),
    [
        ({"lot_size": 1_000 * SCALE}, None, Refusal.BELOW_LOT),
        ({}, 0, Refusal.BELOW_LOT),
        ({"min_qty": 1_000 * SCALE}, None, Refusal.BELOW_MIN_QTY),
        ({"min_notional": 10**7 * SCALE}, None, Refusal.BELOW_MIN_NOTIONAL),
        ({"tick_size": 10_000 * SCALE}, None, Refusal.BELOW_TICK),
    ],
)
def test_a_size_that_the_venue_would_not_take_is_refused_by_name(
    change: dict[str, int], start_max: int | None, refusal: Refusal
) -> None:
    cases = usdt_btc_eth()
    cases[2] = cases[2]._replace(symbol=msgspec.structs.replace(cases[2].symbol, **change))
    decision = run(cases, start_max=start_max)
    assert (decision.refusal, decision.steps, decision.spent) == (refusal, (), 0)


@pytest.mark.parametrize("verdict", set(Verdict) - {Verdict.LIVE})
def test_a_leg_that_is_not_live_ends_the_evaluation(verdict: Verdict) -> None:
    decision = run(usdt_btc_eth(), verdict=verdict)
    assert (decision.refusal, decision.gross_return) == (Refusal.LEG_NOT_LIVE, "")


def test_a_live_leg_without_a_price_ends_it_too() -> None:
    cases = usdt_btc_eth()
    cases[1] = cases[1]._replace(bid_px=0)
    assert run(cases).refusal is Refusal.LEG_NOT_LIVE


def test_a_decision_is_one_json_line_that_reads_back() -> None:
    decision = run(usdt_btc_eth(), fee_e8=100_000)
    assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision) == decision
