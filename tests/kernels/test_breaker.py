"""The circuit breaker: each limit trips it, it stays tripped, and only a later word of a person clears it."""

from __future__ import annotations

import random

import pytest

from kernels.breaker import Breaker, BreakerLimits, Result, clear, judge, slip_e4, trip

LIMITS = BreakerLimits(slip_e4_max=20, window=10, failures_max=4, consecutive_max=3, loss_max=500)


def result(realized: int, *, filled: bool = True, expected: int = 10, spent: int = 100_000) -> Result:
    return Result("USDT", filled, spent, expected, realized)


def after(*results: Result, limits: BreakerLimits = LIMITS) -> Breaker:
    breaker = Breaker()
    for number, one in enumerate(results, start=1):
        breaker = judge(breaker, limits, one, number)
    return breaker


def test_gains_as_expected_leave_it_closed() -> None:
    assert after(*[result(10)] * 50).tripped == ""


@pytest.mark.parametrize(
    ("results", "name"),
    [
        ((result(10 - 201),), "slip"),
        (tuple(result(-126, expected=-126) for _ in range(4)), "loss"),
        (tuple(result(0, filled=False) for _ in range(4)), "consecutive"),
        ((*[result(0, filled=False), result(10)] * 5,), "failures"),
    ],
)
def test_each_limit_trips_it_beyond_and_not_at_it(results: tuple[Result, ...], name: str) -> None:
    assert after(*results[:-1]).tripped == "" or name == "failures"
    assert after(*results).tripped.startswith(name)


def test_a_slip_is_rounded_against_us() -> None:
    assert slip_e4(result(-1, expected=0)) == 1
    assert slip_e4(result(1, expected=0)) == 0
    assert slip_e4(result(0, spent=0)) == 0


def test_a_gain_after_a_loss_does_not_buy_room_beyond_the_highest_point() -> None:
    breaker = after(result(10_000, expected=10_000), result(-400, expected=-400))
    assert breaker.below_peak == {"USDT": -400}
    assert judge(breaker, LIMITS, result(-101, expected=-101), 3).tripped.startswith("loss: 501 above 500")


def test_each_start_asset_has_its_own_loss() -> None:
    breaker = after(result(-400, expected=-400))
    other = judge(breaker, LIMITS, Result("BTC", True, 1_000_000, -400, -400), 2)
    assert other.tripped == ""
    assert other.below_peak == {"USDT": -400, "BTC": -400}


def test_what_tripped_it_first_stays_until_a_person_clears_it_later() -> None:
    breaker = after(result(-1_000))
    assert breaker.tripped_ns == 1
    again = judge(breaker, LIMITS, result(10), 5)
    assert (again.tripped, again.tripped_ns) == (breaker.tripped, 1)
    assert clear(again, 1) == again, "a word from before it tripped clears nothing"
    assert clear(again, 2) == Breaker()
    assert trip(again, "another", 9).tripped == breaker.tripped
    assert trip(Breaker(), "another", 9).tripped_ns == 9


def test_the_window_forgets_what_is_older() -> None:
    seed = random.randrange(2**32)
    source = random.Random(seed)
    limits = BreakerLimits(10**9, 10, 10**9, 10**9, 10**15)
    results = [result(source.randint(-5, 5), filled=source.random() < 0.5) for _ in range(200)]
    breaker = after(*results, limits=limits)
    assert list(breaker.failures) == [not one.filled for one in results[-10:]], f"seed {seed}"
    total = peak = 0
    for one in results:
        total += one.realized
        peak = max(peak, total)
    assert breaker.below_peak["USDT"] == total - peak, f"seed {seed}"
