"""Positions, cash and realized profit against a naive oracle of lots."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction

import pytest
from msgspec.structs import replace

from venues.gateway.account import Account, AccountBase, Fees, Position, commission_of, fill_position
from venues.gateway.contracts import LISTED
from venues.gateway.model import Execution

PER_SHARE, MINIMUM = Decimal("0.005"), Decimal(1)
SPY = LISTED["SPY"]


def fill(number: int, is_buy: bool, qty: Decimal, px: Decimal, fee: Decimal) -> Execution:
    return Execution(
        exec_id=f"0.{number:x}.01.01",
        perm_id=number,
        client_id=1,
        order_id=number,
        con_id=SPY.con_id,
        symbol="SPY",
        account="DU1",
        exchange="ARCA",
        is_buy=is_buy,
        qty=qty,
        px=px,
        cum_qty=qty,
        avg_px=px,
        commission=fee,
        realized_pnl=None,
        order_ref="",
        time_ns=number,
    )


def test_a_round_trip_realizes_the_difference_less_both_commissions() -> None:
    long = fill_position(Position(con_id=1, symbol="SPY"), True, Decimal(100), Decimal("10"), Decimal(1))
    assert long == (Position(con_id=1, symbol="SPY", qty=Decimal(100), cost=Decimal(1001)), None)
    assert long[0].avg_cost == Decimal("10.01")
    flat, realized = fill_position(long[0], False, Decimal(100), Decimal("11"), Decimal(1))
    assert (flat.qty, flat.cost, realized, flat.realized_pnl) == (0, 0, Decimal(98), Decimal(98))


def test_a_short_realizes_when_it_is_bought_back() -> None:
    short, opened = fill_position(Position(con_id=1, symbol="SPY"), False, Decimal(10), Decimal(100), Decimal(1))
    assert (short.qty, short.cost, short.avg_cost, opened) == (-10, -999, Decimal("99.9"), None)
    flat, realized = fill_position(short, True, Decimal(10), Decimal(90), Decimal(1))
    assert (flat.qty, flat.cost, realized) == (0, 0, Decimal(98))


def test_a_fill_through_zero_closes_and_opens() -> None:
    long, _ = fill_position(Position(con_id=1, symbol="SPY"), True, Decimal(10), Decimal(100), Decimal(1))
    short, realized = fill_position(long, False, Decimal(30), Decimal(110), Decimal(3))
    assert (short.qty, realized) == (Decimal(-20), 10 * 110 - Decimal(1001) - 1)
    assert short.cost == -20 * 110 + 2


def test_the_minimum_commission_is_owed_once() -> None:
    fees = [commission_of(Decimal(cum), Decimal(100), PER_SHARE, MINIMUM) for cum in (100, 200, 300, 400)]
    assert fees == [1, 0, Decimal("0.5"), Decimal("0.5")]


@pytest.mark.parametrize("seed", range(20))
def test_random_trades_agree_with_exact_average_cost_arithmetic(seed: int) -> None:
    """The oracle: exact fractions, average cost with commissions inside, one share at a time."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    account = Account(AccountBase(cash=Decimal(10_000)), Fees())
    cash, held, average, realized = Fraction(10_000), 0, Fraction(0), Fraction(0)
    for number in range(60):
        is_buy, qty = chance.random() < 0.5, chance.randrange(1, 40)
        px = Decimal(chance.randrange(1_000, 30_000)) / 100
        fee, _ = account.preview(SPY, is_buy, Decimal(qty), px, Decimal(qty))
        account.apply(fill(number, is_buy, Decimal(qty), px, fee))
        share_fee = Fraction(fee) / qty
        for _ in range(qty):
            sign = 1 if is_buy else -1
            if held * sign >= 0:
                average = (average * abs(held) + Fraction(px) + sign * share_fee) / (abs(held) + 1)
            else:
                realized += -sign * (Fraction(px) - average) - share_fee
            held += sign
        cash -= (1 if is_buy else -1) * qty * Fraction(px) + Fraction(fee)
        position = account.positions[SPY.con_id]
        assert Fraction(account.cash) == cash
        assert position.qty == held
        assert abs(Fraction(position.realized_pnl) - realized) < Fraction(1, 10**6)
        if held:
            assert abs(Fraction(position.avg_cost) - average) < Fraction(1, 10**6)
        else:
            average = Fraction(0)
            assert position.cost == 0
            assert Fraction(position.realized_pnl) == cash - 10_000


def traded(sec_type: str, multiplier: int, *trades: tuple[bool, str]) -> Account:
    """Trade one contract at each price, without commissions."""
    account = Account(AccountBase(cash=Decimal(10_000)), Fees())
    for number, (is_buy, px) in enumerate(trades):
        one = fill(number, is_buy, Decimal(1), Decimal(px), Decimal(0))
        account.apply(replace(one, sec_type=sec_type, multiplier=Decimal(multiplier)))
    return account


def test_an_option_is_paid_for_a_hundred_times_its_price() -> None:
    account = traded("OPT", 100, (True, "2.50"))
    [held] = account.positions.values()
    assert (account.cash_told, held.avg_cost) == (Decimal(9_750), Decimal(250))
    sold = traded("OPT", 100, (True, "2.50"), (False, "3.00"))
    assert (sold.cash_told, sold.positions[SPY.con_id].realized_pnl) == (Decimal(10_050), Decimal(50))


def test_a_future_costs_nothing_until_it_is_closed_at_another_price() -> None:
    assert traded("FUT", 50, (True, "6000")).cash_told == Decimal(10_000)
    assert traded("FUT", 50, (True, "6000"), (False, "6001.25")).cash_told == Decimal("10062.50")


def test_a_corrected_fill_is_counted_once_and_as_corrected() -> None:
    account = Account(AccountBase(cash=Decimal(10_000)), Fees())
    first, second = (fill(n, True, Decimal(10), Decimal(100), Decimal(1)) for n in (1, 2))
    for one in (first, second):
        account.apply(one)
    account.restate(AccountBase(cash=Decimal(10_000)), [replace(first, px=Decimal(99)), second])
    assert account.cash == 10_000 - 990 - 1000 - 2
    assert account.positions[SPY.con_id].cost == 1992


def test_each_kind_has_its_own_commissions() -> None:
    fees = Fees()
    assert commission_of(Decimal(1), Decimal(1), *fees.of("OPT")) == Decimal("1.00")
    assert commission_of(Decimal(10), Decimal(10), *fees.of("OPT")) == Decimal("6.50")
    assert commission_of(Decimal(2), Decimal(2), *fees.of("FUT")) == Decimal("4.50")
