"""The saga of a cycle's attempt against an exchange of decimals: sized, bounded, unwound, and every unit accounted."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction

import msgspec
import pytest

from kernels.cycle_execution import (
    Attempt,
    Finish,
    Mode,
    Place,
    PlannedLeg,
    Policy,
    Top,
    Unwind,
    check_plan,
    flows_of,
    observed_px,
)
from kernels.cycle_saga import advance, completed, record
from kernels.cycle_unwind import BACK, FORWARD, choose_route, route_value
from tests.kernels.cycle_market import Venue, e8, leg, moved, naive_flows, square, tops_of, triangle

ONE = Decimal(1)


def policy(mode: Mode = Mode.SEQUENCE, unwind: Unwind = Unwind.BACK, **more: int) -> Policy:
    return Policy(mode, unwind, Fraction(10_005, 10_000), more.get("slippage_e4", 50), more.get("unwind_orders_max", 8))


def filled(attempt: Attempt, key: str, qty: str, quote: str, **paid: str) -> Attempt:
    return record(attempt, key, e8(qty), e8(quote), {asset: e8(amount) for asset, amount in paid.items()})


def test_in_sequence_each_leg_is_sized_by_what_the_one_before_really_gave() -> None:
    legs = triangle()
    tops = tops_of(legs)
    attempt, act = advance(Attempt(legs), tops, policy())
    assert isinstance(act, Place)
    assert [(order.key, order.side, order.qty, order.limit_px) for order in act.orders] == [
        ("1", "BUY", e8("0.05"), e8("20000"))
    ]
    attempt = filled(attempt, "1", "0.03", "600", BTC="0.00003")
    attempt, act = advance(attempt, tops, policy())
    assert isinstance(act, Place)
    assert act.orders[0].qty == e8("0.599"), "0.02997 BTC at 0.05 buy 0.5994 ETH, in lots of 0.001"
    attempt = filled(attempt, "2", "0.599", "0.02995", ETH="0.000599")
    attempt, act = advance(attempt, tops, policy())
    assert isinstance(act, Place)
    assert act.orders[0].qty == e8("0.598")
    attempt = filled(attempt, "3", "0.598", "612.95", USDT="0.61295")
    attempt, act = advance(attempt, tops, policy())
    assert act == Finish()
    assert completed(attempt)
    assert flows_of(attempt) == {"USDT": e8("12.33705"), "BTC": e8("0.00002"), "ETH": e8("0.000401")}


def test_a_commission_in_an_asset_outside_the_cycle_does_not_shrink_the_next_leg_and_is_told() -> None:
    legs = triangle()
    attempt, _ = advance(Attempt(legs), tops_of(legs), policy())
    attempt = filled(attempt, "1", "0.05", "1000", BNB="0.003")
    attempt, act = advance(attempt, tops_of(legs), policy())
    assert isinstance(act, Place)
    assert act.orders[0].qty == e8("1")
    assert flows_of(attempt)["BNB"] == -e8("0.003")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ETHBTC": Top(e8("0.0499"), e8("0.05"), live=False)}, "not_live:ETHBTC"),
        ({"ETHUSDT": Top(e8("990"), e8("991"), live=True)}, "no_gain"),
        ({"ETHUSDT": Top(0, e8("1025"), live=True)}, "not_live:ETHUSDT"),
    ],
)
def test_a_cycle_is_not_begun_on_a_row_that_is_not_live_or_below_its_least_return(
    change: dict[str, Top], reason: str
) -> None:
    legs = triangle()
    attempt, act = advance(Attempt(legs), tops_of(legs) | change, policy())
    assert act == Finish(reason=reason)
    assert attempt.orders == ()


def test_a_leg_that_is_no_longer_worth_it_stops_the_cycle_and_goes_back_at_a_bounded_price() -> None:
    legs = triangle()
    tops = tops_of(legs)
    attempt, _ = advance(Attempt(legs), tops, policy())
    attempt = filled(attempt, "1", "0.05", "1000", BTC="0.00005")
    attempt, act = advance(attempt, tops | {"ETHUSDT": Top(e8("990"), e8("991"), live=True)}, policy())
    assert attempt.stopped == "no_gain"
    assert isinstance(act, Place)
    order = act.orders[0]
    assert (order.key, order.leg, order.side) == ("u1", 0, "SELL")
    assert order.qty == e8("0.0499"), "0.04995 BTC in lots of 0.0001"
    assert order.limit_px == e8("19890.05"), "50 bps below the bid of 19,990, on the tick"
    attempt = filled(attempt, "u1", "0.0499", "997.501", USDT="0.997501")
    attempt, act = advance(attempt, tops, policy())
    assert act == Finish(reason="no_gain")
    assert flows_of(attempt) == {"USDT": -e8("3.496501"), "BTC": e8("0.00005")}, "5e-5 BTC are below a lot: dust"


def test_forward_completes_where_that_loses_less_and_back_goes_back_all_the_same() -> None:
    legs = triangle()
    tops = tops_of(legs) | {"ETHUSDT": Top(e8("1000.9"), e8("1001"), live=True)}
    attempt, _ = advance(Attempt(legs), tops_of(legs), policy())
    attempt = filled(attempt, "1", "0.05", "1000")
    attempt = msgspec.structs.replace(attempt, stopped="no_gain")
    assert choose_route(attempt, tops, policy(unwind=Unwind.FORWARD)) == FORWARD, "1 ETH brings 1,000.9"
    assert choose_route(attempt, tops, policy(unwind=Unwind.BACK)) == BACK
    worse = tops | {"ETHUSDT": Top(e8("900"), e8("901"), live=True)}
    assert choose_route(attempt, worse, policy(unwind=Unwind.FORWARD)) == BACK
    unknown = tops | {"ETHUSDT": Top(0, 0, live=False)}
    assert choose_route(attempt, unknown, policy(unwind=Unwind.FORWARD)) == BACK, "what is not known is not tried"


def test_at_once_what_was_spent_out_of_balances_is_bought_back() -> None:
    legs = triangle()
    tops = tops_of(legs)
    attempt, act = advance(Attempt(legs), tops, policy(Mode.AT_ONCE))
    assert isinstance(act, Place)
    assert [order.qty for order in act.orders] == [one.qty for one in legs]
    attempt = filled(attempt, "1", "0", "0")
    attempt = filled(attempt, "2", "0.998", "0.0499", ETH="0.000998")
    attempt = filled(attempt, "3", "0.997", "1021.925", USDT="1.021925")
    for unwind, key in ((Unwind.BACK, (1, "SELL")), (Unwind.FORWARD, (0, "BUY"))):
        _, act = advance(attempt, tops, policy(Mode.AT_ONCE, unwind))
        assert isinstance(act, Place)
        assert (act.orders[0].leg, act.orders[0].side) == key, unwind
    assert act.orders[0].qty == e8("0.05"), "0.0499 BTC are owed, and the fee is taken off what is bought"


def test_hold_keeps_what_a_short_leg_leaves() -> None:
    legs = triangle()
    attempt, _ = advance(Attempt(legs), tops_of(legs), policy(unwind=Unwind.HOLD))
    attempt = filled(attempt, "1", "0.05", "1000")
    attempt, _ = advance(attempt, tops_of(legs), policy(unwind=Unwind.HOLD))
    attempt = filled(attempt, "2", "0", "0")
    attempt, act = advance(attempt, tops_of(legs), policy(unwind=Unwind.HOLD))
    assert act == Finish({"BTC": e8("0.05")}, "leg_not_filled")


def test_a_halt_begins_nothing_and_brings_what_is_in_work_back() -> None:
    legs = triangle()
    assert advance(Attempt(legs), tops_of(legs), policy(), "halt")[1] == Finish(reason="halt")
    attempt, _ = advance(Attempt(legs), tops_of(legs), policy())
    attempt = filled(attempt, "1", "0.05", "1000")
    attempt, act = advance(attempt, tops_of(legs), policy(), "halt")
    assert attempt.stopped == "halt"
    assert isinstance(act, Place)
    assert act.orders[0].unwinds


def test_a_plan_that_cannot_be_is_named() -> None:
    legs = triangle()
    assert check_plan(legs) == ""
    assert check_plan(square()) == ""
    assert "3 or 4" in check_plan(legs[:2])
    assert "spends" in check_plan((legs[0], legs[2], legs[1]))
    off = msgspec.structs.replace(legs[0], qty=legs[0].qty + 1)
    assert "off lot" in check_plan((off, *legs[1:]))


def test_the_observed_price_is_the_average_to_the_nearest() -> None:
    attempt, _ = advance(Attempt(triangle()), tops_of(triangle()), policy())
    assert observed_px(filled(attempt, "1", "0.03", "599.99").orders[0]) == 1_999_966_666_667


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("unwind", [Unwind.BACK, Unwind.FORWARD])
def test_whatever_the_exchange_fills_every_unit_is_accounted_for_and_only_dust_is_left(
    seed: int, mode: Mode, unwind: Unwind
) -> None:
    """Random moves, short fills, commissions elsewhere; the exchange asserts that each order is one it takes."""
    source = random.Random(f"{seed} {mode} {unwind}")
    legs = source.choice((triangle(), triangle(min_notional="10"), square()))
    held = {"USDT": Decimal(5_000)}
    if mode is Mode.AT_ONCE:
        held |= {"BTC": Decimal(1), "ETH": Decimal(20), "BNB": Decimal(50)}
    venue = Venue(source, held=held | {"KCS": ONE}, commission_asset=source.choice(("", "", "KCS")))
    before = dict(venue.balances)
    tops = tops_of(legs)
    rules = policy(mode, unwind, unwind_orders_max=60, slippage_e4=300)
    attempt, act = advance(Attempt(legs), tops, rules)
    for _ in range(80):
        if isinstance(act, Finish):
            break
        for order in act.orders:
            share = source.choice((Decimal(0), ONE, ONE, Decimal(source.randint(1, 99)) / 100))
            one = attempt.legs[order.leg]
            bound = order.expected_px * 300 // 10_000 + one.tick_size
            assert not order.unwinds or abs(order.limit_px - order.expected_px) <= bound
            attempt = record(attempt, order.key, *venue.execute(one, order, tops[one.symbol], share))
        tops = moved(tops, source, 20)
        attempt, act = advance(attempt, tops, rules)
    assert isinstance(act, Finish), f"seed {seed}: it does not end"
    changed = {
        asset: Fraction(amount) - Fraction(before.get(asset, Decimal(0))) for asset, amount in venue.balances.items()
    }
    assert {asset: amount for asset, amount in naive_flows(attempt).items() if amount} == {
        asset: amount for asset, amount in changed.items() if amount
    }
    assert flows_of(attempt) == {asset: int(amount * 10**8) for asset, amount in changed.items() if amount}
    assert act.left == {} or len(attempt.orders) > 60
    if not act.left:
        for asset, amount in changed.items():
            is_dust = not amount or asset in ("USDT", "KCS") or too_little_to_trade(attempt, asset, amount, tops)
            assert is_dust, (seed, asset, amount)


def too_little_to_trade(attempt: Attempt, asset: str, amount: Fraction, tops: dict[str, Top]) -> bool:
    """Whether the market of its route does not take it (of either, where none was chosen): by fractions, generously."""
    index = next(k for k, one in enumerate(attempt.legs) if one.gives == asset)
    by_route = {attempt.legs[index - 1 if (amount > 0) == (route == BACK) else index] for route in routes(attempt)}
    return any(not tradable(one, asset, amount, tops[one.symbol]) for one in by_route)


def routes(attempt: Attempt) -> tuple[str, ...]:
    return (attempt.route,) if attempt.route else (BACK, FORWARD)


def tradable(one: PlannedLeg, asset: str, amount: Fraction, top: Top) -> bool:
    price = Fraction(top.bid_px, 10**8)
    size = abs(amount) if asset == one.base else abs(amount) / price
    lot, least = Fraction(one.lot_size, 10**8), Fraction(one.min_qty, 10**8)
    lots = size * Fraction(95, 100) // lot * lot  # a little less: a fee, and a price within the slippage
    return lots >= least and lots * price * Fraction(95, 100) >= Fraction(one.min_notional, 10**8) and lots > 0


def test_the_value_of_a_route_is_what_the_tops_say_by_hand() -> None:
    legs = (
        leg("BTCUSDT", "BUY", "BTC", "USDT", "100", "1", fee="0"),
        leg("ETHBTC", "BUY", "ETH", "BTC", "0.5", "2", fee="0"),
        leg("ETHUSDT", "SELL", "ETH", "USDT", "60", "2", fee="0"),
    )
    tops = {
        "BTCUSDT": Top(e8("90"), e8("100"), live=True),
        "ETHBTC": Top(e8("0.4"), e8("0.5"), live=True),
        "ETHUSDT": Top(e8("60"), e8("70"), live=True),
    }
    attempt, _ = advance(Attempt(legs), tops, policy())
    attempt = filled(attempt, "1", "1", "100")
    assert route_value(attempt, BACK, tops) == Fraction(90 * 10**8)
    assert route_value(attempt, FORWARD, tops) == Fraction(120 * 10**8)


def test_a_plan_over_levels_is_begun_while_the_book_is_as_good_and_held_to_its_limits_where_it_is_not() -> None:
    """A buy of 0.05 BTC walked from 20,000 to a limit of 20,600: 1,010 in all; at the limit alone nothing is gained."""
    first, *rest = triangle()
    walked = msgspec.structs.replace(first, limit_px=e8("20600"), spent=e8("1010"), top_px=e8("20000"))
    legs = (walked, *rest)
    tops = tops_of(triangle())
    _, act = advance(Attempt(legs), tops, policy())
    assert isinstance(act, Place)
    assert (act.orders[0].qty, act.orders[0].limit_px) == (walked.qty, e8("20600"))
    worse = tops | {"BTCUSDT": Top(e8("20001"), e8("20010"), live=True)}
    assert advance(Attempt(legs), worse, policy())[1] == Finish(reason="no_gain")


def test_a_fee_that_a_token_pays_shrinks_no_leg_and_counts_against_the_gain() -> None:
    legs = tuple(msgspec.structs.replace(one, fee_taken=False, received=one.received + one.fee) for one in triangle())
    attempt, act = advance(Attempt(legs), tops_of(legs), policy())
    assert isinstance(act, Place)
    attempt = filled(attempt, "1", "0.05", "1000", BNB="0.002")
    attempt, act = advance(attempt, tops_of(legs), policy())
    assert isinstance(act, Place)
    assert act.orders[0].qty == e8("1"), "the whole 0.05 BTC"
    gain = Fraction(legs[-1].received, legs[0].spent)
    kept = Fraction(999, 1000) ** 3
    just_out_of_reach = msgspec.structs.replace(policy(), net_return_min=gain * kept)
    assert advance(Attempt(legs), tops_of(legs), just_out_of_reach)[1] == Finish(reason="no_gain")
