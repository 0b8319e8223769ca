"""Everything that the gateway can be told to do wrong, each by name, as a client meets it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.venues.gateway_client import RawClient, framed
from tests.venues.gateway_process import GatewayProcess
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


def opened_client(gateway: GatewayProcess, client_id: int = 1) -> RawClient:
    client = RawClient(gateway.port)
    client.start(client_id)
    client.sync()
    return client


def words(frames: list[list[str]]) -> list[str]:
    """Return what frames say, in short."""
    said = []
    for frame in frames:
        match frame[0]:
            case "3":
                said.append(f"{frame[1]} {frame[2]}")
            case "4":
                said.append(f"{frame[2]} error {frame[3]}")
            case "5":
                said.append(f"{frame[1]} openOrder")
            case "11":
                said.append(f"{frame[2]} execution {frame[14]}")
            case "59":
                said.append(f"commission {frame[2]}")
    return said


def by_ref(gateway: GatewayProcess) -> list[tuple[int, str]]:
    return [(row["order_id"], row["status"]) for row in gateway.orders()]


@pytest.mark.parametrize(("when", "left"), [("before", []), ("after", [(2, "Submitted")])])
def test_the_connection_drops_at_the_nth_order_before_or_after_it_was_accepted(
    gateway: GatewayProcess, client: RawClient, when: str, left: list[tuple[int, str]]
) -> None:
    gateway.fault("drop_at_place", nth=2, when=when)
    client.send(*place_fields(1))
    assert words(client.sync()) == ["1 openOrder", "1 Submitted"]
    client.send(*place_fields(2))
    assert client.next() is None
    assert by_ref(gateway) == [(1, "Submitted"), *left]
    again = opened_client(gateway)
    again.send(*place_fields(3))
    assert words(again.sync())[-1] == "3 Submitted"
    again.close()


@pytest.mark.parametrize("kind", ["drop_at_place", "die_at_place"])
@pytest.mark.parametrize(("when", "left"), [("before", [1]), ("after", [1, 2])])
def test_what_came_in_one_piece_with_the_order_that_ended_the_connection_is_lost_with_it(
    gateway: GatewayProcess, client: RawClient, when: str, left: list[int], kind: str
) -> None:
    gateway.fault(kind, nth=2, when=when)
    client.send_bytes(b"".join(framed(*place_fields(order_id)) for order_id in (1, 2, 3)))
    assert [frame for frame in iter(client.next, None) if frame[:2] == ["5", "3"]] == []
    if kind == "die_at_place":
        assert gateway.wait_dead() == -9
        gateway.restart()
        left = left if when == "after" else []  # the first was not yet durable either
    assert [order_id for order_id, _ in by_ref(gateway)] == left


@pytest.mark.parametrize(("when", "left"), [("before", []), ("after", [(1, "Filled")])])
def test_the_gateway_dies_at_an_order_before_or_after_it_was_durable(
    gateway: GatewayProcess, client: RawClient, when: str, left: list[tuple[int, str]]
) -> None:
    gateway.fault("die_at_place", when=when)
    client.send(*place_fields(1, orderType="MKT", lmtPrice=""))
    assert client.next() is None
    assert gateway.wait_dead() == -9
    gateway.restart()
    assert by_ref(gateway) == left
    assert len(gateway.executions()) == len(left)


def test_an_order_is_answered_by_silence_lost_or_accepted(gateway: GatewayProcess, client: RawClient) -> None:
    gateway.fault("silence", accepted=False)
    gateway.fault("silence", accepted=True)
    client.send(*place_fields(1))
    client.send(*place_fields(2, orderType="MKT"))
    assert words(client.sync()) == []
    assert by_ref(gateway) == [(2, "Filled")]
    client.send(99, 0)
    assert [frame[0] for frame in client.sync()] == ["101", "102"]
    client.send(*place_fields(3))
    assert words(client.sync()) == ["3 openOrder", "3 Submitted"]


def test_the_next_orders_are_rejected_and_no_more(gateway: GatewayProcess, client: RawClient) -> None:
    gateway.fault("reject", count=2, text="Order rejected - reason:no")
    gateway.fault("reject", code=10311, client_id=5)
    for order_id in (1, 2, 3):
        client.send(*place_fields(order_id))
    assert words(client.sync()) == ["1 error 201", "2 error 201", "3 openOrder", "3 Submitted"]
    other = opened_client(gateway, 5)
    other.send(*place_fields(1))
    assert words(other.sync()) == ["1 error 10311"]
    assert gateway.status()["faults_struck"] == {"reject": 3}
    other.close()


def test_a_stop_made_inert_never_fires_until_it_is_cleared(gateway: GatewayProcess, client: RawClient) -> None:
    client.send(*place_fields(1, orderType="STP", action="SELL", auxPrice="185", lmtPrice="", orderRef="one"))
    client.send(*place_fields(2, orderType="STP", action="SELL", auxPrice="185", lmtPrice=""))
    client.sync()
    gateway.fault("inert_stop", order_ref="one")
    gateway.set_price("AAPL", "180.00", "180.02")
    assert by_ref(gateway) == [(1, "PreSubmitted"), (2, "Filled")]
    assert gateway.orders()[0]["why_held"] == "trigger"
    gateway.fault("inert_stop")
    client.send(*place_fields(3, orderType="STP", action="SELL", auxPrice="185", lmtPrice=""))
    assert words(client.sync())[-2:] == ["3 openOrder", "3 PreSubmitted"]
    gateway.kill9()
    gateway.restart()
    assert by_ref(gateway)[0] == (1, "PreSubmitted"), "an inert stop stays inert over a restart"
    gateway.control({"cmd": "clear"})
    assert [status for _, status in by_ref(gateway)] == ["Filled", "Filled", "Filled"]


def test_fills_are_held_and_delayed(gateway: GatewayProcess, client: RawClient) -> None:
    gateway.fault("hold_fills")
    client.send(*place_fields(1, orderType="MKT"))
    assert words(client.sync()) == ["1 openOrder", "1 PreSubmitted"]
    gateway.fault("hold_fills", on=False)
    assert [word.split()[0] for word in words(client.sync())] == ["1", "1", "1", "commission"]
    gateway.fault("delay_fills", ms=30)
    client.send(*place_fields(2, orderType="MKT"))
    seen = words(client.until("59"))
    assert seen[:2] == ["2 openOrder", "2 PreSubmitted"]
    assert seen[-2] == "2 Filled"


def test_a_delayed_fill_comes_after_a_restart(gateway: GatewayProcess, client: RawClient) -> None:
    gateway.fault("delay_fills", ms=60_000)
    client.send(*place_fields(1, orderType="MKT"))
    client.sync()
    gateway.kill9()
    gateway.restart()
    assert by_ref(gateway) == [(1, "Submitted")]
    gateway.control({"cmd": "clear"})
    assert by_ref(gateway) == [(1, "Submitted")], "its time is not yet there"


def test_partial_fills_have_the_size_that_was_asked_one_a_price(gateway: GatewayProcess, client: RawClient) -> None:
    gateway.fault("partial_fills", size="4")
    client.send(*place_fields(1, orderType="MKT"))
    frames = client.sync()
    gateway.set_price("AAPL", "190.00", "190.02")
    gateway.set_price("AAPL", "190.00", "190.02")
    statuses = [frame for frame in [*frames, *client.sync()] if frame[0] == "3"]
    assert [(frame[2], frame[3], frame[4]) for frame in statuses] == [
        ("PreSubmitted", "0", "10"),
        ("Submitted", "4", "6"),
        ("Submitted", "8", "2"),
        ("Filled", "10", "0"),
    ]


def test_an_execution_is_told_twice_under_one_id(gateway: GatewayProcess, client: RawClient) -> None:
    gateway.fault("duplicate_execution")
    client.send(*place_fields(1, orderType="MKT"))
    ids = [word.split()[2] for word in words(client.sync()) if "execution" in word]
    assert len(ids) == 2
    assert len(set(ids)) == 1
    assert len(gateway.executions()) == 1
    assert gateway.positions()["AAPL"]["qty"] == "10"


def test_while_1100_holds_fills_happen_and_are_not_told(gateway: GatewayProcess, client: RawClient) -> None:
    client.send(1, 11, 50, 0, "AAPL", "STK", "", 0, "", "", "SMART", "", "USD", "", "", 0, "", 0, 0, "")
    client.send(*place_fields(1))
    client.sync()
    gateway.fault("message", code=1100)
    gateway.set_price("AAPL", "179.00", "179.02")
    gateway.fault("message", code=1101)
    gateway.set_price("AAPL", "178.00", "178.02")
    frames = client.sync()
    assert [word for word in words(frames) if not word.startswith("-1")] == []
    assert [frame[3] for frame in frames if frame[0] == "4"] == ["1100", "1101"]
    assert [frame for frame in frames if frame[0] == "1"] == [], "no ticks while lost, and 1101 ends subscriptions"
    client.send(7, 3, 77, 0, "", "", "", "", "", "")
    assert [frame[0] for frame in client.sync()] == ["11", "59", "55"]
    gateway.fault("message", code=1102)
    gateway.fault("message", code=2103, client_id=1)
    assert words(client.sync()) == ["-1 error 1102", "-1 error 2103"]


def test_connections_are_refused_for_a_while_and_then_taken_again(gateway: GatewayProcess, client: RawClient) -> None:
    gateway.fault("refuse", seconds=600)
    assert client.next() is None
    with pytest.raises(ConnectionRefusedError):
        RawClient(gateway.port)
    gateway.control({"cmd": "clear"})

    def reachable(_: GatewayProcess) -> RawClient | None:
        try:
            return RawClient(gateway.port)
        except ConnectionRefusedError:
            return None

    again: RawClient = gateway.wait_for("the port is open again", reachable)
    assert again.start(1)[0] == "176"
    again.close()
    gateway.fault("refuse", seconds=0.05)
    gateway.wait_for("it opens by itself", reachable).close()


def test_a_session_drops_at_once_and_a_half_open_one_says_nothing(gateway: GatewayProcess) -> None:
    first, second = opened_client(gateway, 1), opened_client(gateway, 2)
    assert gateway.fault("drop", client_id=1)["sessions"] == [1]
    assert first.next() is None
    assert gateway.fault("half_open", client_id=2)["sessions"] == [2]
    second.send(*place_fields(1))
    second.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        second.next()
    assert gateway.orders() == []
    assert gateway.status()["clients"] == [2]
    gateway.control({"cmd": "clear"})
    assert gateway.status()["clients"] == []
    first.close()
    second.close()


def test_order_ids_roll_back_and_a_used_id_means_a_new_order(gateway: GatewayProcess, client: RawClient) -> None:
    client.send(*place_fields(7, orderType="MKT"))
    client.sync()
    gateway.fault("next_order_id", client_id=1, value=3)
    client.send(8, 1, 1)
    assert client.until("9")[-1] == ["9", "1", "3"]
    client.send(*place_fields(7, orderRef="second"))
    assert words(client.sync()) == ["7 openOrder", "7 Submitted"]
    assert [(row["order_id"], row["status"]) for row in gateway.orders()] == [(7, "Filled"), (7, "Submitted")]
    gateway.kill9()
    gateway.restart()
    again = opened_client(gateway)
    again.send(8, 1, 1)
    assert again.until("9")[-1] == ["9", "1", "8"]
    again.close()


def test_a_kind_of_request_is_not_answered(gateway: GatewayProcess, client: RawClient) -> None:
    gateway.fault("unanswered", request=61, nth=2, count=2)
    for _ in range(4):
        client.send(61, 1)
        client.send(5, 1)
    assert [frame[0] for frame in client.sync()] == ["62", "53", "53", "53", "62", "53"]
    assert gateway.status()["faults_struck"] == {"unanswered": 2}


def test_the_broker_cancels_an_order_and_the_day_ends(gateway: GatewayProcess, client: RawClient) -> None:
    for order_id, tif in ((1, "GTC"), (2, "DAY"), (3, "GTC")):
        client.send(*place_fields(order_id, tif=tif))
    client.sync()
    gateway.control({"cmd": "cancel_order", "perm_id": gateway.orders()[0]["perm_id"]})
    gateway.control({"cmd": "end_day"})
    assert words(client.sync()) == ["1 Cancelled", "1 error 202", "2 Cancelled", "2 error 202"]
    assert by_ref(gateway)[2] == (3, "Submitted")


def test_kill_9_at_every_moment_of_a_stream_of_orders_loses_nothing_that_was_told(gateway: GatewayProcess) -> None:
    told: dict[int, str] = {}
    order_id = 0
    for lap in range(8):
        client = opened_client(gateway, 1)
        for _ in range(12):
            order_id += 1
            client.send(*place_fields(order_id, orderType="MKT" if order_id % 2 else "LMT", orderRef=f"r{order_id}"))
        for _ in range(4 + 6 * lap):
            frame = client.next()
            assert frame is not None
            if frame[0] == "3":
                told[int(frame[1])] = frame[2]
        gateway.kill9()
        while (frame := client.next()) is not None:
            if frame[0] == "3":
                told[int(frame[1])] = frame[2]
        client.close()
        gateway.restart()
        gateway.set_price("AAPL", "190.00", "190.02")
    kept = {row["order_id"]: row["status"] for row in gateway.orders()}
    assert {known: kept[known] for known, status in told.items() if status in ("Filled", "Submitted")} == {
        known: status for known, status in told.items() if status in ("Filled", "Submitted")
    }
    filled = [row for row in gateway.orders() if row["status"] == "Filled"]
    assert len(gateway.executions()) == len(filled) == int(gateway.positions()["AAPL"]["qty"]) // 10
    assert len({row["perm_id"] for row in gateway.orders()}) == len(gateway.orders())
