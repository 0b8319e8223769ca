"""The rest of the fault table on real sockets: telling, arriving, restarting, logging in, pacing, correcting.

Every story ends with what must hold: no order is lost or doubled, and what the gateway says at last is its state.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from tests.venues.gateway_client import RawClient
from tests.venues.gateway_process import GatewayProcess
from tests.venues.test_gateway_faults import by_ref, opened_client, words
from tests.venues.test_gateway_sessions import place_fields
from venues.gateway.faults import KINDS, Kind

pytestmark = pytest.mark.process
DOCS = Path(__file__).resolve().parents[2] / "docs" / "venues_gateway.md"
FILL = ["1 openOrder", "1 PreSubmitted"]


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


def market(client: RawClient, order_id: int = 1, **values: object) -> list[str]:
    client.send(*place_fields(order_id, orderType="MKT", **values))
    return [re.sub(r" 0000e0d5\S+", "", word) for word in words(client.sync())]


def asked(client: RawClient) -> list[str]:
    """Return the open orders that the gateway reports."""
    client.send(5, 1)
    return words(client.until("53"))


def assert_same(gateway: GatewayProcess, client: RawClient) -> None:
    """What a client can ask for is what the gateway has: orders, executions, positions."""
    client.sync()
    rows = gateway.orders()
    assert len({row["perm_id"] for row in rows}) == len(rows)
    working = [f"{row['order_id']} {row['status']}" for row in rows if row["status"] in ("Submitted", "PreSubmitted")]
    assert [word for word in asked(client) if "openOrder" not in word] == working
    client.send(7, 3, 900, 0, "", "", "", "", "", "")
    told = [frame[14] for frame in client.until("55") if frame[0] == "11"]
    assert told == [row["exec_id"] for row in gateway.executions()]
    client.send(61, 1)
    held = {frame[4]: frame[14] for frame in client.until("62") if frame[0] == "61"}
    assert held == {name: row["qty"] for name, row in gateway.positions().items() if row["qty"] != "0"}


# Telling


@pytest.mark.parametrize(
    ("how", "statuses"),
    [
        ("missing", ["1 Filled"]),
        ("duplicate", ["1 PreSubmitted", "1 PreSubmitted", "1 Filled"]),
        ("late", ["1 Filled", "1 PreSubmitted"]),
    ],
)
def test_an_order_status_is_missing_doubled_or_told_after_the_next(
    gateway: GatewayProcess, client: RawClient, how: str, statuses: list[str]
) -> None:
    gateway.fault("status", how=how, status="PreSubmitted")
    said = market(client)
    assert [word for word in said if word in ("1 PreSubmitted", "1 Filled")] == statuses
    assert_same(gateway, client)


def test_the_status_of_a_fill_never_comes_but_its_execution_does(gateway: GatewayProcess, client: RawClient) -> None:
    gateway.fault("status", how="missing", status="Filled", count=3)
    assert market(client) == [*FILL, "1 execution", "1 openOrder", "commission"]
    assert_same(gateway, client)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"how": "missing"}, [*FILL, "1 execution", "1 openOrder", "1 Filled"]),
        ({"how": "first"}, [*FILL, "commission", "1 execution", "1 openOrder", "1 Filled"]),
    ],
)
def test_a_commission_is_missing_or_comes_before_its_execution(
    gateway: GatewayProcess, client: RawClient, fields: dict[str, str], said: list[str]
) -> None:
    gateway.fault("commission", **fields)
    assert market(client) == said
    assert market(client, 2)[-1] == "commission"
    assert_same(gateway, client)


def test_a_commission_comes_late(gateway: GatewayProcess, client: RawClient) -> None:
    gateway.fault("commission", how="late", ms=50)
    assert "commission" not in market(client)
    assert words(client.until("59"))[-1].startswith("commission 0000e0d5.00000001")
    assert_same(gateway, client)


def test_a_fill_is_corrected_under_the_next_number_and_counts_once(gateway: GatewayProcess, client: RawClient) -> None:
    market(client)
    [fill] = gateway.executions()
    reply = gateway.fault("correct_execution", exec_id=fill["exec_id"], px="189.00")
    assert reply["exec_id"] == "0000e0d5.00000001.01.02"
    said = words(client.sync())
    assert said == ["1 execution 0000e0d5.00000001.01.02", "commission 0000e0d5.00000001.01.02"]
    assert gateway.positions()["AAPL"]["cost"] == "1891"
    assert gateway.account()["cash"] == str(1_000_000 - 1891)
    assert gateway.orders()[0]["avg_px"] == "189"
    gateway.kill9()
    gateway.restart()
    assert gateway.positions()["AAPL"]["cost"] == "1891"
    again = opened_client(gateway)
    assert_same(gateway, again)
    again.close()


def test_a_fill_comes_after_the_cancel_was_confirmed(gateway: GatewayProcess, client: RawClient) -> None:
    client.send(*place_fields(1))
    client.sync()
    gateway.fault("fill_after_cancel", size="4")
    client.send(4, 1, 1, "")
    said = [word.rsplit(" 0000")[0] for word in words(client.sync())]
    assert said == ["1 Cancelled", "1 error 202", "1 execution", "1 openOrder", "1 Cancelled", "commission"]
    assert (gateway.orders()[0]["filled"], gateway.positions()["AAPL"]["qty"]) == ("4", "4")
    assert_same(gateway, client)


# Arriving


def test_an_order_that_surfaces_late_is_unknown_until_then(gateway: GatewayProcess, client: RawClient) -> None:
    gateway.fault("surface_late")
    client.send(*place_fields(1))
    assert client.sync() == []
    assert asked(client) == []
    client.send(4, 1, 1, "")
    assert words(client.sync()) == ["1 error 10147"]
    gateway.set_price("AAPL", "170.00", "170.02")
    assert gateway.orders()[0]["filled"] == "0"
    gateway.control({"cmd": "clear"})
    assert words(client.sync())[:2] == ["1 openOrder", "1 Submitted"] or words(client.sync()) == []
    assert gateway.orders()[0]["status"] == "Filled"
    assert_same(gateway, client)


def test_an_order_surfaces_by_itself_also_after_a_restart(gateway: GatewayProcess, client: RawClient) -> None:
    gateway.fault("surface_late", ms=400)
    client.send(*place_fields(1))
    client.sync()
    gateway.kill9()
    gateway.restart()
    again = opened_client(gateway)
    gateway.wait_for("it surfaces", lambda g: not g.orders()[0]["hidden"])
    again.sync()
    assert asked(again) == ["1 openOrder", "1 Submitted"]
    again.close()


@pytest.mark.parametrize("first", ["error", "status"])
def test_201_and_inactive_come_in_either_order_and_the_order_may_be_revived(
    gateway: GatewayProcess, client: RawClient, first: str
) -> None:
    gateway.fault("inactive", first=first, text="Order rejected - reason:no margin")
    client.send(*place_fields(1))
    said = words(client.sync())
    wanted = ["1 error 201", "1 openOrder", "1 Inactive"]
    assert said == (wanted if first == "error" else [*wanted[1:], wanted[0]])
    assert asked(client) == ["1 openOrder", "1 Inactive"]
    gateway.control({"cmd": "revive_order", "perm_id": gateway.orders()[0]["perm_id"]})
    assert words(client.sync()) == ["1 openOrder", "1 Submitted"]
    assert_same(gateway, client)


def test_an_inactive_order_can_be_cancelled(gateway: GatewayProcess, client: RawClient) -> None:
    gateway.fault("inactive")
    client.send(*place_fields(1))
    client.sync()
    client.send(4, 1, 1, "")
    assert words(client.sync()) == ["1 Cancelled", "1 error 202"]
    assert_same(gateway, client)


def test_without_shares_to_short_an_order_is_held_for_locating_until_there_are_some(
    gateway: GatewayProcess, client: RawClient
) -> None:
    gateway.fault("no_shares")
    client.send(*place_fields(1, action="SELL", lmtPrice="180"))
    frames = client.sync()
    assert words(frames) == ["1 openOrder", "1 PreSubmitted", "1 error 404"]
    assert next(frame[10] for frame in frames if frame[0] == "3") == "locate"
    gateway.control({"cmd": "clear"})
    assert gateway.orders()[0]["status"] == "Filled"
    assert_same(gateway, client)


@pytest.mark.parametrize("code", [103, 104, 105, 110, 135, 161, 321, 399, 2109, 10147, 10148, 10311, 10349])
def test_an_error_about_an_order_leaves_it_alive(gateway: GatewayProcess, client: RawClient, code: int) -> None:
    gateway.fault("warn", code=code)
    client.send(*place_fields(1))
    assert words(client.sync()) == ["1 openOrder", "1 Submitted", f"1 error {code}"]
    assert_same(gateway, client)


@pytest.mark.parametrize("code", [103, 110, 200, 201, 202, 321, 451, 460, 10006])
def test_a_refusal_leaves_no_order(gateway: GatewayProcess, client: RawClient, code: int) -> None:
    gateway.fault("reject", code=code)
    client.send(*place_fields(1))
    assert words(client.sync()) == [f"1 error {code}"]
    assert gateway.orders() == []
    client.send(*place_fields(2))
    assert words(client.sync())[-1] == "2 Submitted"
    assert_same(gateway, client)


def test_a_change_of_an_order_becomes_a_second_order_beside_it(gateway: GatewayProcess, client: RawClient) -> None:
    client.send(*place_fields(1))
    client.sync()
    gateway.fault("two_perm_ids")
    client.send(*place_fields(1, lmtPrice="181"))
    frames = client.sync()
    assert words(frames) == ["1 openOrder", "1 Submitted"]
    rows = gateway.orders()
    assert [(row["order_id"], row["limit_px"]) for row in rows] == [(1, "180"), (1, "181")]
    assert next(frame[6] for frame in frames if frame[0] == "3") == str(rows[1]["perm_id"])
    gateway.kill9()
    gateway.restart()
    again = opened_client(gateway)
    again.send(4, 1, 1, "")
    assert words(again.sync()) == ["1 Cancelled", "1 error 202"]
    assert [row["status"] for row in gateway.orders()] == ["Submitted", "Cancelled"]
    gateway.set_price("AAPL", "179.00", "179.02")
    assert [row["status"] for row in gateway.orders()] == ["Filled", "Cancelled"]
    assert_same(gateway, again)
    again.close()


def test_every_stop_from_now_on_is_inert(gateway: GatewayProcess, client: RawClient) -> None:
    gateway.fault("inert_stop")
    client.send(*place_fields(1, orderType="STP", action="SELL", lmtPrice="", auxPrice="185"))
    client.sync()
    gateway.set_price("AAPL", "150.00", "150.02")
    assert asked(client) == ["1 openOrder", "1 PreSubmitted"]
    assert gateway.orders()[0]["why_held"] == "trigger"
    gateway.control({"cmd": "clear"})
    assert gateway.orders()[0]["status"] == "Filled"
    assert_same(gateway, client)


# Chance


@pytest.mark.parametrize("seed", [1, 2])
def test_what_strikes_by_chance_is_the_same_for_the_same_seed(tmp_path: Path, seed: int) -> None:
    print(f"seed {seed}")
    lives = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        with GatewayProcess(tmp_path / str(number), "--messages-per-s", "0") as gateway:
            client = opened_client(gateway)
            gateway.fault("reject", chance=0.5, seed=seed, count=100)
            for order_id in range(1, 31):
                client.send(*place_fields(order_id))
            lives.append([word for word in words(client.sync()) if "openOrder" not in word])
            client.close()
    assert lives[0] == lives[1]
    refused = sum("error" in word for word in lives[0])
    assert 5 < refused < 25


# Questions


def test_an_answer_without_its_end_message(gateway: GatewayProcess, client: RawClient) -> None:
    market(client)
    gateway.fault("no_end", request=7)
    client.send(7, 3, 5, 0, "", "", "", "", "", "")
    assert [frame[0] for frame in client.sync()] == ["11", "59"]
    client.send(7, 3, 6, 0, "", "", "", "", "", "")
    assert client.until("55")[-1] == ["55", "1", "6"]


def test_a_question_is_answered_by_an_error(gateway: GatewayProcess, client: RawClient) -> None:
    gateway.fault("request_error", request=9, code=200)
    client.send(9, 8, 7, 0, "AAPL", "STK", "", 0, "", "", "SMART", "", "USD", "", "", 0, "", "", "")
    assert words(client.sync()) == ["7 error 200"]


def bars(req_id: int) -> list[object]:
    contract = [0, "AAPL", "STK", "", 0, "", "", "SMART", "", "USD", "", ""]
    return [20, req_id, *contract, 0, "", "1 hour", "1 D", 1, "TRADES", 1, 0, ""]


def live_bars(req_id: int) -> list[object]:
    contract = [0, "AAPL", "STK", "", 0, "", "", "SMART", "", "USD", "", ""]
    return [50, 3, req_id, *contract, 5, "TRADES", 1, ""]


def test_pacing_violations_are_162_for_history_and_420_for_live_bars(
    gateway: GatewayProcess, client: RawClient
) -> None:
    gateway.fault("pacing")
    client.send(*bars(1))
    client.send(*live_bars(2))
    assert words(client.sync()) == ["1 error 162", "2 error 420"]
    gateway.control({"cmd": "clear"})
    client.send(*bars(3))
    assert [frame[0] for frame in client.sync()] == ["17"]


def test_sixty_questions_for_small_bars_in_ten_minutes_are_the_limit(
    gateway: GatewayProcess, client: RawClient
) -> None:
    gateway.control({"cmd": "set_clock", "time": "20261123 12:00:00 US/Eastern"})
    small = {"1 hour": "5 secs", "1 D": "60 S"}
    for req_id in range(1, 62):
        client.send(*(small.get(str(part), part) for part in bars(req_id)))
    kinds = [frame[3] if frame[0] == "4" else frame[0] for frame in client.sync()]
    assert kinds == ["17"] * 60 + ["162"]


def line(req_id: int) -> list[object]:
    contract = [0, "AAPL", "STK", "", 0, "", "", "SMART", "", "USD", "", ""]
    return [1, 11, req_id, *contract, 0, "", 0, 0, ""]


def test_a_competing_session_takes_the_market_data(gateway: GatewayProcess, client: RawClient) -> None:
    client.send(*line(50))
    client.sync()
    gateway.fault("competing_session")
    client.send(*line(51))
    assert words(client.sync()) == ["50 error 10197", "51 error 10197"]
    gateway.set_price("AAPL", "191.00", "191.02")
    assert client.sync() == []
    gateway.fault("competing_session", on=False)
    gateway.set_price("AAPL", "192.00", "192.02")
    assert [frame[4] for frame in client.sync() if frame[0] == "1"][:2] == ["192", "192.02"]


# The gateway itself


def test_the_nightly_restart_forgets_the_last_second_gives_ids_again_and_is_gone_for_a_while(
    gateway: GatewayProcess, client: RawClient
) -> None:
    client.send(*place_fields(1))
    market(client, 2)
    client.sync()
    gateway.control({"cmd": "set_clock", "forward_s": 60})
    client.send(*place_fields(3))
    client.send(*place_fields(4, lmtPrice="179"))
    client.sync()
    reply = gateway.fault("nightly_restart", seconds=300, ms=20_000)
    assert len(reply["lost"]) == 2
    assert client.next() is None
    assert by_ref(gateway) == [(1, "Submitted"), (2, "Filled")]
    with pytest.raises(ConnectionRefusedError):
        RawClient(gateway.port)
    gateway.control({"cmd": "clear"})
    again = gateway.wait_for("it is back", lambda g: reconnected(g))
    [ids] = [frame for frame in again[1] if frame[0] == "9"]
    assert ids == ["9", "1", "2"], "ids go back to the one after the highest open order's"
    market(again[0], 2)
    assert by_ref(gateway) == [(1, "Submitted"), (2, "Filled"), (2, "Filled")]
    assert_same(gateway, again[0])
    again[0].close()


def reconnected(gateway: GatewayProcess) -> tuple[RawClient, list[list[str]]] | None:
    """Return a session and its first frames, or None while connections are refused."""
    try:
        client = RawClient(gateway.port)
    except ConnectionRefusedError:
        return None
    client.start(1)
    return client, client.sync()


def test_the_nightly_restart_comes_at_its_time_and_its_loss_outlives_a_crash(tmp_path: Path) -> None:
    options = "--restart-at", "23:55", "--restart-s", "0.2", "--restart-loses-ms", "60000"
    with GatewayProcess(tmp_path, *options) as gateway:
        gateway.control({"cmd": "set_clock", "time": "20301123-23:54:10"})
        client, _ = gateway.wait_for("it is back from the restart it was set past", lambda g: reconnected(g))
        client.send(*place_fields(1))
        client.sync()
        assert len(gateway.orders()) == 1
        gateway.control({"cmd": "set_clock", "time": "20301123-23:55:00"})
        assert client.next() is None
        assert gateway.orders() == []
        gateway.kill9()
        gateway.restart()
        assert gateway.orders() == []
        assert gateway.status()["time"].startswith("20301123 18:5")
        again, greeting = gateway.wait_for("it serves", lambda g: reconnected(g))
        assert ["9", "1", "1"] in greeting
        again.close()


def test_until_the_weekly_login_connections_are_taken_and_never_answered(
    gateway: GatewayProcess, client: RawClient
) -> None:
    client.send(*place_fields(1))
    client.sync()
    gateway.fault("login_required")
    assert client.next() is None
    waiting = RawClient(gateway.port)
    waiting.send_bytes(b"API\0\0\0\0\x09v157..176")
    waiting.socket.settimeout(0.3)
    with pytest.raises(TimeoutError):
        waiting.next()
    waiting.socket.settimeout(20)
    gateway.control({"cmd": "clear"})
    greeting = waiting.next()
    assert greeting is not None
    assert greeting[0] == "176"
    waiting.send(71, 2, 1, "")
    waiting.sync()
    assert_same(gateway, waiting)
    waiting.close()


def test_a_login_comes_by_itself_after_its_time(gateway: GatewayProcess) -> None:
    gateway.fault("login_required", seconds=0.2)
    client = opened_client(gateway)
    assert not gateway.status()["faults_standing"]["login_required"]
    client.close()


# The table


def test_each_kind_stands_in_the_table_and_in_the_document() -> None:
    assert set(KINDS) == set(get_args(Kind))
    text = DOCS.read_text()
    missing = [kind for kind in KINDS if f"`{kind}`" not in text]
    assert not missing


def test_the_control_port_lists_the_table(gateway: GatewayProcess) -> None:
    rows = gateway.control({"cmd": "list_faults"})["faults"]
    assert set(rows) == set(KINDS)
    assert rows["status"]["fields"] == ["how", "status"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ({"kind": "drop", "code": 5}, "code: 5 makes no sense here. Remedy: fault drop reads client_id"),
        ({"kind": "reject", "nth": 0}, "nth: 0 .*Remedy: a whole number"),
        ({"kind": "reject", "chance": 1.5}, "chance: 1.5 .*Remedy: above 0"),
        ({"kind": "refuse"}, "seconds: 0.0 .*Remedy: more than 0"),
        ({"kind": "status", "how": "loud"}, "how: 'loud' .*Remedy: one of missing, duplicate, late"),
        ({"kind": "unanswered"}, "request: 0 .*Remedy: the message id"),
        ({"kind": "partial_fills"}, "size: None .*Remedy: a positive size"),
        ({"kind": "correct_execution", "px": "10"}, "exec_id: None .*Remedy: a fill of list_executions"),
        ({"kind": "next_order_id"}, "client_id: None .*Remedy"),
        ({"kind": "hold_fills", "count": 2}, "count: 2 .*Remedy: fault hold_fills reads on"),
        ({"kind": "nonsense"}, "Invalid enum value 'nonsense'"),
    ],
)
def test_a_fault_that_makes_no_sense_names_field_value_and_remedy_and_changes_nothing(
    gateway: GatewayProcess, command: dict[str, object], words: str
) -> None:
    reply = gateway.control({"cmd": "fault", **command}, ok=False)
    assert not reply["ok"]
    assert re.search(words, reply["error"]), reply["error"]
    assert gateway.status()["faults_armed"] == []
