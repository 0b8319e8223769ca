"""Connectivity, farms, resets in mid-bracket, and many faults at once: nothing is lost, nothing doubled."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.venues.gateway_client import RawClient
from tests.venues.gateway_process import GatewayProcess
from tests.venues.test_gateway_fault_table import assert_same, line, market
from tests.venues.test_gateway_faults import by_ref, opened_client, words
from tests.venues.test_gateway_sessions import place_fields

pytestmark = pytest.mark.process


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path, "--messages-per-s", "0") as running:
        running.set_price("AAPL", "190.00", "190.02")
        yield running


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[RawClient]:
    opened = opened_client(gateway)
    yield opened
    opened.close()


@pytest.mark.parametrize("code", [2103, 2104, 2105, 2106, 2107, 2108, 2110, 2119, 2157, 2158])
def test_a_farm_or_server_message_is_told_to_all_and_changes_nothing(
    gateway: GatewayProcess, client: RawClient, code: int
) -> None:
    other = opened_client(gateway, 2)
    client.send(*line(50))
    client.sync()
    gateway.fault("message", code=code)
    for one in (client, other):
        [frame] = one.sync()
        assert (frame[0], frame[2], frame[3]) == ("4", "-1", str(code))
        assert len(frame[4]) > 20
    gateway.set_price("AAPL", "191.00", "191.02")
    assert [frame[0] for frame in client.sync()][:2] == ["1", "2"]
    market(client)
    assert_same(gateway, client)
    other.close()


def test_1100_may_repeat_and_1102_keeps_subscriptions_and_orders(gateway: GatewayProcess, client: RawClient) -> None:
    client.send(*line(50))
    client.send(*place_fields(1))
    client.sync()
    for _ in range(2):
        gateway.fault("message", code=1100)
    assert words(client.sync()) == ["-1 error 1100"] * 2
    assert market(client, 2) == []
    gateway.set_price("AAPL", "170.00", "170.02")
    assert client.sync() == [], "both orders filled, and nothing is told"
    gateway.fault("message", code=1102)
    assert words(client.sync()) == ["-1 error 1102"]
    gateway.set_price("AAPL", "171.00", "171.02")
    assert [frame[0] for frame in client.sync()][:2] == ["1", "2"]
    assert by_ref(gateway) == [(1, "Filled"), (2, "Filled")]
    assert_same(gateway, client)


def test_1101_loses_the_subscriptions_and_no_order(gateway: GatewayProcess, client: RawClient) -> None:
    client.send(*line(50))
    client.send(*place_fields(1))
    client.sync()
    gateway.fault("message", code=1100)
    gateway.fault("message", code=1101)
    assert words(client.sync()) == ["-1 error 1100", "-1 error 1101"]
    gateway.set_price("AAPL", "191.00", "191.02")
    assert client.sync() == []
    client.send(*line(51))
    assert "58" in [frame[0] for frame in client.sync()]
    assert_same(gateway, client)


def bracket(client: RawClient, first: int, qty: int = 10, limit: str = "189") -> None:
    children = {"action": "SELL", "totalQuantity": qty, "parentId": first}
    client.send(*place_fields(first, totalQuantity=qty, lmtPrice=limit, transmit=0))
    client.send(*place_fields(first + 1, lmtPrice="200", transmit=0, **children))
    client.send(*place_fields(first + 2, orderType="STP", lmtPrice="", auxPrice="180", **children))


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_reset_in_mid_bracket_leaves_the_whole_family_or_nothing_of_it(
    gateway: GatewayProcess, client: RawClient, nth: int, when: str
) -> None:
    gateway.fault("drop_at_place", nth=nth, when=when)
    try:
        bracket(client, 1)
        assert client.next() is None
    except ConnectionError:
        pass  # The reset came while the rest of the bracket was still being sent.
    whole = (nth, when) == (3, "after")
    assert len(gateway.orders()) == (3 if whole else 0)
    again = opened_client(gateway)
    if not whole:
        bracket(again, 11)
        again.sync()
    assert [status for _, status in by_ref(gateway)] == ["Submitted", "PreSubmitted", "PreSubmitted"]
    assert_same(gateway, again)
    again.close()


@pytest.mark.parametrize(("manner", "held"), [("wait", ["child", "child,trigger"]), ("follow", ["", "trigger"])])
def test_children_of_a_partly_filled_parent_wait_or_follow_as_the_setting_says(
    tmp_path: Path, manner: str, held: list[str]
) -> None:
    with GatewayProcess(tmp_path, "--partial-parent", manner) as gateway:
        gateway.set_price("AAPL", "190.00", "190.02")
        gateway.fault("partial_fills", size="4")
        client = opened_client(gateway)
        bracket(client, 1, limit="195")
        client.sync()
        rows = gateway.orders()
        assert rows[0]["filled"] == "4"
        assert [row["why_held"] for row in rows[1:]] == held
        client.send(4, 1, 1, "")
        client.sync()
        assert [(row["qty"], row["why_held"]) for row in gateway.orders()[1:]] == [("4", ""), ("4", "trigger")]
        gateway.set_price("AAPL", "201.00", "201.02")
        assert gateway.positions()["AAPL"]["qty"] == "0"
        assert_same(gateway, client)
        client.close()


STORM: tuple[dict[str, Any], ...] = (
    {"kind": "status", "how": "missing"},
    {"kind": "status", "how": "duplicate"},
    {"kind": "status", "how": "late"},
    {"kind": "commission", "how": "first"},
    {"kind": "commission", "how": "missing"},
    {"kind": "reject"},
    {"kind": "warn", "code": 10349},
    {"kind": "inactive"},
    {"kind": "surface_late", "ms": 1},
    {"kind": "silence"},
)


@pytest.mark.parametrize("seed", range(3))
def test_many_faults_at_once_lose_and_double_nothing(gateway: GatewayProcess, client: RawClient, seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    for number, fault in enumerate(STORM):
        gateway.fault(**fault, chance=0.15, seed=seed * 100 + number, count=1_000)
    gateway.fault("duplicate_execution", count=3)
    sent = 0
    for first in range(1, 91, 3):
        choice = chance.random()
        if choice < 0.5:
            bracket(client, first, qty=chance.randrange(1, 50), limit=chance.choice(["189", "191"]))
            sent += 3
        else:
            client.send(*place_fields(first, orderType="MKT", lmtPrice="", totalQuantity=chance.randrange(1, 50)))
            sent += 1
        if choice > 0.8:
            client.send(4, 1, first, "")
        if choice < 0.3:
            bid = 180 + chance.randrange(25)
            gateway.set_price("AAPL", f"{bid}.00", f"{bid}.02")
        client.sync()
    gateway.wait_for("hidden orders surface", lambda g: not any(row["hidden"] for row in g.orders()))
    gateway.control({"cmd": "clear"})
    assert len(gateway.status()["faults_struck"]) > len(STORM) / 2
    rows = gateway.orders()
    assert len({row["order_id"] for row in rows}) == len(rows) <= sent
    filled = {row["perm_id"]: row["filled"] for row in rows}
    for fill in gateway.executions():
        filled[fill["perm_id"]] = str(int(filled[fill["perm_id"]]) - int(fill["qty"]))
    assert set(filled.values()) == {"0"}
    signed = sum(int(fill["qty"]) * (1 if fill["side"] == "BOT" else -1) for fill in gateway.executions())
    assert gateway.positions()["AAPL"]["qty"] == str(signed)
    client.sync()
    assert_working_and_fills(gateway, client)


def assert_working_and_fills(gateway: GatewayProcess, client: RawClient) -> None:
    """As assert_same, with inactive orders among the open ones."""
    client.send(5, 1)
    told = {frame[1]: frame[2] for frame in client.until("53") if frame[0] == "3"}
    rows = gateway.orders()
    assert told == {str(row["order_id"]): row["status"] for row in rows if not row["done_ns"]}
    client.send(7, 3, 900, 0, "", "", "", "", "", "")
    ids = [frame[14] for frame in client.until("55") if frame[0] == "11"]
    assert ids == [row["exec_id"] for row in gateway.executions()]
