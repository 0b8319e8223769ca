"""Sentinel and broker against a naive market with an inert stop: late and partial fills, crashes, lost sessions.

What must hold is read from the market's own books: what entered has left exactly once, and a stop that works is never
called inert.
"""

from __future__ import annotations

import msgspec
import pytest

from actors.messages import OrderType
from actors.sentinel import Sentinel
from actors.sentinel_state import OnInert, SentinelSettings, Stage
from tests.actors.exit_scene import SHARES, TICK, Market
from tests.actors.exit_scene import Scene as AnyScene
from tests.actors.money_bench import SECOND, UNIT, intent


class Scene(AnyScene):
    """One bracket from its entry to the end."""

    def __init__(self, seed: int, inert: bool, on_inert: OnInert, stubborn: bool = False) -> None:
        sentinel = Sentinel(SentinelSettings(on_inert=on_inert, settle_ns=2 * SECOND))
        super().__init__(seed, Market(inert), sentinel)
        self.market.stubborn = stubborn
        self.enter(intent(expires_s=3600))

    def stage(self) -> list[Stage]:
        return [close.stage for close in self.actors["sentinel"].core.role.closes.values()]


def test_a_normal_stop_never_raises_it() -> None:
    scene = Scene(1, inert=False, on_inert=OnInert.CLOSE)
    assert scene.watched == ("ACME",)
    scene.market.print_price(94 * UNIT)
    scene.quiet(60)
    assert scene.market.left() == SHARES * UNIT
    assert not scene.lines
    assert "inert_stop" not in scene.alarms
    assert scene.watched == ()


def test_an_inert_stop_is_told_with_its_evidence_and_nothing_is_done_where_config_says_alarm_only() -> None:
    scene = Scene(1, inert=True, on_inert=OnInert.ALARM_ONLY)
    scene.market.print_price(94 * UNIT)
    scene.quiet(4)
    assert not scene.lines
    scene.quiet(60)
    (line,) = scene.lines
    assert line.kind == "inert_stop"
    assert all(word in line.evidence for word in ("95.00000000", "94.00000000", "permId", "submitted"))
    assert (scene.exits, scene.market.left()) == (0, 0)


def test_a_price_that_comes_back_does_not_take_the_obligation_back() -> None:
    scene = Scene(1, inert=True, on_inert=OnInert.ALARM_ONLY)
    scene.market.print_price(94 * UNIT)
    scene.tick()
    scene.market.print_price(101 * UNIT)
    scene.quiet(10)
    assert scene.kinds() == ["inert_stop"]


def test_a_price_above_the_stop_is_nothing_however_long() -> None:
    scene = Scene(1, inert=True, on_inert=OnInert.CLOSE)
    scene.market.print_price(96 * UNIT)
    scene.quiet(120)
    assert not scene.lines


@pytest.mark.parametrize("stubborn", [False, True])
def test_an_inert_stop_closes_at_the_market_or_else_an_order_alone_does_where_config_says_close(stubborn: bool) -> None:
    scene = Scene(1, inert=True, on_inert=OnInert.CLOSE, stubborn=stubborn)
    scene.market.print_price(94 * UNIT)
    scene.quiet(60)
    assert (scene.market.entered(), scene.market.left()) == (SHARES * UNIT, SHARES * UNIT)
    assert scene.stage() == [Stage.DONE]
    assert scene.kinds() == ["inert_stop", *["stop_stands"] * stubborn]
    assert scene.exits == stubborn
    scene.quiet(700)
    assert scene.stage() == []
    assert not scene.actors["sentinel"].core.role.orders


def test_a_stop_that_fills_while_it_is_being_cancelled_is_the_end_of_it() -> None:
    scene = Scene(1, inert=True, on_inert=OnInert.CLOSE)
    scene.market.print_price(94 * UNIT)
    scene.until(lambda: scene.lines)
    stop = scene.market.named("s")
    assert stop is not None
    scene.market.trade(stop, SHARES * UNIT)
    scene.quiet(60)
    assert (scene.exits, scene.market.left()) == (0, SHARES * UNIT)


@pytest.mark.parametrize("shares", [1, 30, 99, 100])
@pytest.mark.parametrize("stage", [Stage.SETTLING, Stage.TURNING])
def test_a_stop_that_fills_late_after_all_never_closes_more_than_is_held(shares: int, stage: Stage) -> None:
    scene = Scene(1, inert=True, on_inert=OnInert.CLOSE)
    scene.market.print_price(94 * UNIT)
    scene.until(lambda: scene.stage() == [Stage.SETTLING])
    stop = scene.market.named("s")
    assert stop is not None
    if stage is Stage.TURNING:
        scene.market.slow = []
        scene.until(lambda: scene.market.slow, fills=False)
    scene.market.trade(stop, shares * UNIT)
    scene.market.arrive()
    scene.quiet(60)
    assert (scene.market.left(), scene.exits) == (SHARES * UNIT, 0)
    assert scene.stage() == [Stage.DONE]


def test_an_order_that_does_not_fill_at_the_market_either_is_cancelled_and_followed_by_another() -> None:
    scene = Scene(1, inert=True, on_inert=OnInert.CLOSE)
    scene.market.print_price(94 * UNIT)
    stop = scene.market.named("s")
    assert stop is not None
    scene.until(lambda: stop.ticket.order_type is OrderType.MARKET, fills=False)
    scene.until(lambda: scene.exits, fills=False)
    assert stop.status == "Cancelled"
    scene.quiet(30)
    assert (scene.market.left(), scene.exits) == (SHARES * UNIT, 1)
    assert scene.stage() == [Stage.DONE]


@pytest.mark.parametrize("shares", [30, 100])
def test_a_fill_that_comes_after_the_confirmed_cancel_is_taken_off_what_is_closed(shares: int) -> None:
    scene = Scene(1, inert=True, on_inert=OnInert.CLOSE, stubborn=True)
    scene.market.print_price(94 * UNIT)
    stop = scene.market.named("s")
    assert stop is not None
    scene.until(lambda: stop.status == "Cancelled" and scene.stage() == [Stage.SETTLING])
    stop = scene.market.named("s")
    assert stop is not None
    scene.market.trade(stop, shares * UNIT)
    scene.quiet(60)
    assert scene.market.left() == SHARES * UNIT
    assert scene.exits == (shares < SHARES)
    assert scene.stage() == [Stage.DONE]


def test_nothing_is_closed_while_the_cancel_is_not_confirmed_however_long_that_takes() -> None:
    scene = Scene(1, inert=True, on_inert=OnInert.CLOSE)
    scene.market.deaf = True
    scene.market.print_price(94 * UNIT)
    scene.quiet(60)
    assert (scene.stage(), scene.exits) == ([Stage.CANCELLING], 0)
    assert "cancel_unconfirmed" in scene.alarms
    scene.market.deaf = False
    scene.quiet(30)
    assert (scene.stage(), scene.market.left()) == ([Stage.DONE], SHARES * UNIT)


def test_an_exit_that_ends_in_the_middle_is_followed_by_one_for_the_rest() -> None:
    scene = Scene(1, inert=True, on_inert=OnInert.CLOSE, stubborn=True)
    scene.market.print_price(94 * UNIT)
    scene.until(lambda: scene.stage() == [Stage.CLOSING])
    scene.market.at_market = lambda random: None  # type: ignore[method-assign]
    for shares in (50, 30):
        scene.quiet(6)
        exit_order = scene.market.named("x")
        assert exit_order is not None
        assert exit_order.ticket.qty == {50: 100, 30: 50}[shares] * UNIT
        scene.market.trade(exit_order, shares * UNIT)
        scene.market.cancel(exit_order)
    del scene.market.at_market
    scene.quiet(30)
    assert (scene.stage(), scene.market.left(), scene.exits) == ([Stage.DONE], SHARES * UNIT, 3)


def test_a_fill_that_nobody_could_foresee_is_called_out_and_not_corrected() -> None:
    scene = Scene(1, inert=True, on_inert=OnInert.CLOSE, stubborn=True)
    scene.market.print_price(94 * UNIT)
    scene.until(lambda: scene.stage() == [Stage.DONE])
    stop = scene.market.named("s")
    assert stop is not None
    stop.ticket = msgspec.structs.replace(stop.ticket, qty=SHARES * UNIT)
    scene.market.trade(stop, 40 * UNIT)
    scene.quiet(60)
    assert scene.kinds() == ["inert_stop", "stop_stands", "closed_twice"]
    assert scene.market.left() == 140 * UNIT
    assert scene.exits == 1


@pytest.mark.parametrize("seed", range(60))
def test_whatever_crashes_and_fills_late_what_entered_leaves_exactly_once(seed: int) -> None:
    print(f"seed {seed}")
    scene = Scene(seed, inert=True, on_inert=OnInert.CLOSE, stubborn=seed % 2 == 0)
    random = scene.random
    scene.market.print_price(94 * UNIT)
    late = random.randrange(3)
    for _ in range(int(40 * SECOND / TICK)):
        if random.random() < 0.06:
            scene.crash(random.choice(("sentinel", "broker.paper")))
        take_profit, stop = scene.market.named("t"), scene.market.named("s")
        assert take_profit is not None
        assert stop is not None
        left = scene.market.entered() - scene.market.left()
        if left and random.random() < 0.03 and scene.market.can_trade(take_profit):
            scene.market.trade(take_profit, min(left, random.choice((10, 50, 100)) * UNIT))
        left = scene.market.entered() - scene.market.left()
        if late and left and scene.stage() in ([Stage.CANCELLING], [Stage.SETTLING]) and random.random() < 0.15:
            late -= 1
            scene.market.trade(stop, min(left, random.choice((10, 40, 100)) * UNIT))
            scene.tick()
        scene.tick()
    scene.quiet(60)
    assert scene.market.left() == scene.market.entered() == SHARES * UNIT, (seed, scene.stage(), scene.lines)
    assert set(scene.stage()) <= {Stage.DONE}
    assert scene.kinds().count("closed_twice") == 0
