"""What a gateway can do wrong, by name, on real sockets: no order lost, none doubled, the books equal to its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.actors.ib_bench import Proxy
from tests.actors.order_stage import Stage
from tests.venues.gateway_process import GatewayProcess

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path_factory.mktemp("failures"), "--messages-per-s", "0") as gateway:
        yield gateway


def test_what_the_gateway_holds_is_read_back_and_equals_what_was_asked(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as gateway, Stage(gateway) as stage:
        stage.place("s1")
        resting = stage.place("s2", limit="480.00", stop="470.00")
        stage.until("all are there", lambda: stage.states(resting) == ["submitted"] * 3)
        stage.settled()
        assert not [name for name in stage.alarms if name.startswith("read_back")]
        gateway.set_price("SPY", "511.00", "511.02")
        stage.settled()
        assert not [name for name in stage.raised if name.startswith("read_back")]


def test_a_time_in_force_that_a_preset_changed_is_called_out_and_cleared_when_it_is_as_asked(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as gateway:
        proxy = Proxy(gateway.port)
        proxy.rewrite = lambda fields: [*fields[:18], "DAY", *fields[19:]] if _is_stop(fields) else fields
        with Stage(gateway, proxy.port) as stage:
            resting = stage.place("s1", limit="480.00", stop="470.00")
            name = stage.broker.state.families[resting].orders[2].client_order_id
            stage.until("it is called out", lambda: f"read_back.{name}" in stage.alarms)
            assert stage.alarms[f"read_back.{name}"] == "time_in_force: asked GTC, the venue has DAY"
            proxy.rewrite = None
            stage.gateway.fault("drop")
            stage.until("it is as asked", lambda: f"read_back.{name}" not in stage.alarms)
            assert stage.raised[f"read_back.{name}"] == 1
            stage.settled()
        proxy.close()


def _is_stop(fields: list[str]) -> bool:
    return fields[0] == "5" and "STP" in fields[:20]
