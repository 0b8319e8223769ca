"""A working order that the gateway loses sight of: unknown to every question, cancel and price, until it surfaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.venues.gateway_process import GatewayProcess
from tests.venues.test_gateway_fault_table import asked, assert_same, reconnected
from tests.venues.test_gateway_faults import opened_client, words
from tests.venues.test_gateway_sessions import place_fields

pytestmark = pytest.mark.process


def test_a_working_order_vanishes_from_every_answer_and_surfaces_later_also_over_a_restart(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, "--messages-per-s", "0") as gateway:
        gateway.set_price("AAPL", "190.00", "190.02")
        client = opened_client(gateway)
        client.send(*place_fields(1))
        client.send(*place_fields(2, lmtPrice="179"))
        client.sync()
        [kept, gone] = [row["perm_id"] for row in gateway.orders()]
        assert gateway.fault("vanish", perm_id=gone)["perm_ids"] == [gone]
        assert asked(client) == ["1 openOrder", "1 Submitted"]
        client.send(4, 1, 2, "")
        assert words(client.sync()) == ["2 error 10147"]
        gateway.kill9()
        gateway.restart()
        client, _ = gateway.wait_for("it serves", lambda g: reconnected(g))
        assert asked(client) == ["1 openOrder", "1 Submitted"]
        gateway.control({"cmd": "clear"})
        assert asked(client)[-2:] == ["2 openOrder", "2 Submitted"]
        assert [row["perm_id"] for row in gateway.orders()] == [kept, gone]
        assert_same(gateway, client)
        client.close()
        with pytest.raises(AssertionError, match="a working order"):
            gateway.fault("vanish", perm_id=12)
