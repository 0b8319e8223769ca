"""The price driver over real sockets against the paper gateway: conflation, reconnection, new subscriptions."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.adapters.assembly import BeatReturned
from actors.adapters.clock import SystemClock
from actors.adapters.ib_prices import PriceDriver, PriceSettings
from actors.messages import PriceSeen
from tests.actors.ib_bench import Proxy, px
from tests.venues.gateway_process import GatewayProcess

pytestmark = pytest.mark.process


class Prices:
    """A price driver, and what it told."""

    def __init__(self, port: int, **settings: Any) -> None:
        known = {"symbols": ("SPY", "AAPL"), "interval_ms": 20, **settings}
        connection = PriceSettings(host="127.0.0.1", port=port, client_id=31, **known)
        self.reasons: list[str] = []
        self.driver = PriceDriver(connection, SystemClock(), lambda: 0.5, self.reasons.append)
        self.events: list[Any] = []
        self.driver.start()

    def until(self, condition: Callable[[], object], within_s: float = 60.0) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {within_s} s: {self.events[-12:]}"
            if select.select([self.driver.fileno()], [], [], 0.2)[0]:
                self.events += self.driver.drain()

    def last(self, symbol: str) -> int:
        told = [event.last_px for event in self.events if isinstance(event, PriceSeen) and event.symbol == symbol]
        return told[-1] if told else 0

    def progress(self) -> dict[str, int]:
        self.driver.beat(len(self.events))
        known = len(self.events)
        self.until(lambda: any(isinstance(event, BeatReturned) for event in self.events[known:]))
        found: dict[str, int] = next(e.progress for e in reversed(self.events) if isinstance(e, BeatReturned))
        return found


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path) as process:
        process.set_price("SPY", "499.98", "500.02", "500.00")
        process.set_price("AAPL", "189.98", "190.02", "190.00")
        yield process


@pytest.fixture
def open_prices(gateway: GatewayProcess) -> Iterator[Callable[..., Prices]]:
    made: list[Prices] = []

    def make(port: int = 0, **settings: Any) -> Prices:
        made.append(Prices(port or gateway.port, **settings))
        return made[-1]

    yield make
    for one in made:
        one.driver.stop()
        assert not one.reasons


def test_the_last_price_of_each_stock_is_told_and_told_again_when_it_changes(
    gateway: GatewayProcess, open_prices: Callable[..., Prices]
) -> None:
    prices = open_prices()
    prices.until(lambda: prices.last("SPY") == px("500.00") and prices.last("AAPL") == px("190.00"))
    gateway.set_price("SPY", "501.00", "501.02", "501.01")
    prices.until(lambda: prices.last("SPY") == px("501.01"))
    assert prices.last("AAPL") == px("190.00")
    told = [event for event in prices.events if isinstance(event, PriceSeen)]
    assert all(abs(event.ts_event_ns - time.time_ns()) < 60 * 10**9 for event in told)


def test_prices_within_an_interval_are_conflated_to_the_newest(
    gateway: GatewayProcess, open_prices: Callable[..., Prices]
) -> None:
    prices = open_prices(interval_ms=300)
    prices.until(lambda: prices.last("SPY"))
    for cents in range(1, 51):
        gateway.set_price("SPY", "501.00", "502.00", f"501.{cents:02d}")
    prices.until(lambda: prices.last("SPY") == px("501.50"))
    times = [event.ts_event_ns for event in prices.events if isinstance(event, PriceSeen) and event.symbol == "SPY"]
    assert len(times) < 50
    assert prices.progress()["prices_conflated"] > 0


def test_after_the_gateway_was_killed_it_connects_and_subscribes_again(
    gateway: GatewayProcess, open_prices: Callable[..., Prices]
) -> None:
    prices = open_prices()
    prices.until(lambda: prices.last("SPY"))
    gateway.kill9()
    gateway.restart()
    gateway.set_price("SPY", "505.00", "505.02", "505.01")
    prices.until(lambda: prices.last("SPY") == px("505.01"))
    assert prices.progress()["connects"] > 1


def test_a_half_open_socket_is_found_and_prices_come_by_a_new_one(
    gateway: GatewayProcess, open_prices: Callable[..., Prices]
) -> None:
    proxy = Proxy(gateway.port)
    prices = open_prices(proxy.port, probe_every_s=0.2, probe_s_max=0.3)
    prices.until(lambda: prices.last("SPY"))
    proxy.go_silent()
    gateway.set_price("SPY", "505.00", "505.02", "505.01")
    prices.until(lambda: prices.last("SPY") == px("505.01"))
    assert proxy.connections == 2
    proxy.close()


@pytest.mark.parametrize("code", [1101, 2104])
def test_when_subscriptions_may_be_gone_they_are_made_anew_on_the_same_socket(
    gateway: GatewayProcess, open_prices: Callable[..., Prices], code: int
) -> None:
    prices = open_prices()
    prices.until(lambda: prices.last("SPY") and prices.last("AAPL"))
    gateway.fault("message", code=code)
    prices.until(lambda: prices.progress().get("subscriptions") == 4)
    gateway.set_price("SPY", "505.00", "505.02", "505.01")
    prices.until(lambda: prices.last("SPY") == px("505.01"))
    assert prices.progress()["connects"] == 1


def test_silence_makes_it_subscribe_again_and_an_unknown_symbol_is_counted(
    gateway: GatewayProcess, open_prices: Callable[..., Prices]
) -> None:
    prices = open_prices(symbols=("SPY", "NOSUCH"), silent_s_max=0.2)
    prices.until(lambda: prices.progress().get("silent", 0) >= 2)
    progress = prices.progress()
    assert progress["symbols_unknown"] >= 2
    assert progress["connects"] == 1
    assert progress.get("library_errors", 0) == 0
    assert prices.last("SPY") == px("500.00")
