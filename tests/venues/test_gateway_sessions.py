"""Sessions at the level of bytes: handshake, limits, broken streams, ports, signals."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.venues.gateway_client import RawClient, framed
from tests.venues.gateway_process import GatewayProcess
from venues.gateway.messages import PLACE_ORDER

pytestmark = pytest.mark.process


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path) as running:
        running.set_price("AAPL", "190.00", "190.02")
        yield running


def place_fields(order_id: int, **values: object) -> list[object]:
    """Return the fields of a plain AAPL order at version 176; `values` replace what they name."""
    given: dict[str, object] = {"orderId": order_id, "symbol": "AAPL", "secType": "STK", "exchange": "SMART"}
    given |= {"currency": "USD", "action": "BUY", "totalQuantity": 10, "orderType": "LMT", "lmtPrice": "180"}
    given |= {"transmit": 1, **values}
    fields: list[object] = [3]
    for part in PLACE_ORDER:
        name = getattr(part, "name", None)
        if name == "conditions":
            fields.append(0)
        elif name is not None:
            fields.append(given.get(name, 0 if name in ("deltaNeutralContract",) else ""))
    return fields


def test_the_opening_is_versions_then_account_then_next_id_then_farms(gateway: GatewayProcess) -> None:
    client = RawClient(gateway.port)
    version, moment = client.start(3)
    assert version == "176"
    assert moment.endswith(" US/Eastern")
    frames = [client.next() for _ in range(5)]
    assert frames[0] == ["15", "1", "DU1234567"]
    assert frames[1] == ["9", "1", "1"]
    assert [frame[3] for frame in frames[2:] if frame] == ["2104", "2106", "2158"]
    client.close()


@pytest.mark.parametrize("versions", ["v157..157", "v100..163", "v157..178"])
def test_every_version_places_an_order_and_reads_its_state(gateway: GatewayProcess, versions: str) -> None:
    client = RawClient(gateway.port)
    version = int(client.start(3, versions)[0])
    fields = place_fields(1)
    gates = [
        part for part in PLACE_ORDER if getattr(part, "since", 0) > version or getattr(part, "until", 999) <= version
    ]
    names = [getattr(part, "name", None) for part in PLACE_ORDER]
    named = [name for name in names if name is not None]
    for part in reversed(gates):
        del fields[1 + named.index(getattr(part, "name", ""))]
    client.send(*fields)
    frames = [frame for frame in client.sync() if frame[0] in ("3", "5")]
    assert [frame[0] for frame in frames] == ["5", "3"]
    assert frames[1][2] == "Submitted"
    client.close()


def test_frames_may_arrive_a_byte_at_a_time_or_many_at_once(gateway: GatewayProcess) -> None:
    client = RawClient(gateway.port)
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in b"API\0" + struct.pack(">I", 9) + b"v157..176":
        client.send_bytes(bytes([byte]))
    assert client.next() is not None
    stream = framed(71, 2, 4, "") + b"".join(framed(*place_fields(number)) for number in range(1, 6)) + framed(49, 1)
    chance = random.Random(7)
    while stream:
        size = chance.randrange(1, 400)
        client.send_bytes(stream[:size])
        stream = stream[size:]
    assert [frame[1] for frame in client.until("49") if frame[0] == "3"] == ["1", "2", "3", "4", "5"]
    client.close()


def test_an_order_with_a_field_left_over_is_told_logged_and_not_placed(gateway: GatewayProcess) -> None:
    client = RawClient(gateway.port)
    client.start()
    client.sync()
    client.send(*place_fields(17), "left")
    client.send(*place_fields(18)[:-1])
    client.send(*place_fields(19, totalQuantity="many"))
    errors = [(frame[2], frame[3]) for frame in client.sync()]
    assert errors == [("17", "320"), ("18", "320"), ("19", "320")]
    assert gateway.orders() == []
    assert gateway.status()["counters"]["unreadable_requests"] == 3
    client.close()


def test_malformed_frames_do_not_disturb_anyone(gateway: GatewayProcess) -> None:
    healthy = RawClient(gateway.port)
    healthy.start(1)
    healthy.sync()
    for junk in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"API\0\xff\xff\xff\xff",
        b"API\0" + framed("v1..2"),
        b"API\0" + framed(""),
    ):
        broken = RawClient(gateway.port)
        broken.send_bytes(junk)
        assert broken.next() is None
        broken.close()
    early = RawClient(gateway.port)
    early.send_bytes(b"API\0" + struct.pack(">I", 9) + b"v157..176" + framed(49, 1))
    assert early.next() is not None
    assert early.next() is None
    early.close()
    odd = RawClient(gateway.port)
    odd.start(2)
    odd.sync()
    odd.send_bytes(struct.pack(">I", 0))
    odd.send("x")
    odd.send(9, 8)
    odd.send(4711, 1)
    odd.send_bytes(struct.pack(">I", 3) + b"\xff\xfe\x00")
    assert [frame[3] for frame in odd.sync()] == ["320", "320", "320", "505", "320"]
    assert healthy.sync() == []
    odd.close()
    healthy.close()


def test_a_message_without_an_id_and_numbers_beyond_32_bits_are_errors_that_end_nobody(gateway: GatewayProcess) -> None:
    client = RawClient(gateway.port)
    client.start(1)
    client.sync()
    client.send("")
    client.send(*place_fields(-5))
    client.send(*place_fields(2**31))
    client.send(3, "9" * 5_000)
    client.send(7, 3, 41, 0, "", "soon", "", "", "", "")
    client.send(9, 8, 42, "x")
    told = [frame for frame in client.sync() if frame[0] == "4"]
    assert [(frame[2], frame[3]) for frame in told] == [
        ("-1", "505"),
        ("-5", "321"),
        ("-1", "320"),
        ("-1", "320"),
        ("41", "320"),
        ("42", "320"),
    ]
    assert gateway.orders() == []
    client.close()
    beyond = RawClient(gateway.port)
    beyond.send_bytes(b"API\0" + struct.pack(">I", 9) + b"v157..176" + framed(71, 2, 2**70, ""))
    while beyond.next() is not None:
        pass
    beyond.close()


def test_a_flood_is_told_error_100_and_closed(gateway: GatewayProcess) -> None:
    client = RawClient(gateway.port)
    client.start()
    client.send_bytes(framed(49, 1) * 300)
    frames = []
    while (frame := client.next()) is not None:
        frames.append(frame)
    assert frames[-1][:4] == ["4", "2", "-1", "100"]
    assert 90 <= sum(frame[0] == "49" for frame in frames) <= 110
    gateway.wait_for("the session is gone", lambda g: g.status()["clients"] == [])
    client.close()


def test_subscriptions_are_bounded(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, "--messages-per-s", "0") as gateway:
        client = RawClient(gateway.port)
        client.start()
        for req_id in range(1, 102):
            client.send(92, req_id, "DU1234567", "")
            client.send(1, 11, req_id, 0, "AAPL", "STK", "", 0, "", "", "SMART", "", "USD", "", "", 0, "", 0, 0, "")
        errors = [frame[2:4] for frame in client.sync() if frame[0] == "4" and frame[2] != "-1"]
        assert errors == [["101", "322"], ["101", "101"]]
        client.close()


def test_connections_that_never_say_who_they_are_keep_no_client_out(gateway: GatewayProcess) -> None:
    """A port scanner's, say: as many as there may be sessions."""
    running = RawClient(gateway.port)
    running.start(1)
    running.sync()
    silent = [RawClient(gateway.port) for _ in range(40)]

    def gets_in(_: GatewayProcess) -> bool:
        late = RawClient(gateway.port)
        try:
            late.start(2)
            late.sync()
            return True
        except (AssertionError, OSError):
            return False
        finally:
            late.close()

    gateway.wait_for("a client that comes later gets in", gets_in, 120)
    assert gateway.status()["counters"]["silent_connections_closed"] >= 1
    assert running.sync() == []
    for client in (running, *silent):
        client.close()


def test_a_client_that_vanishes_frees_its_id(gateway: GatewayProcess) -> None:
    client = RawClient(gateway.port)
    client.start(9)
    client.sync()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    gateway.wait_for("the id is free", lambda g: g.status()["clients"] == [])
    again = RawClient(gateway.port)
    again.start(9)
    assert [frame[0] for frame in again.sync()][:2] == ["15", "9"]
    again.close()


def test_a_busy_port_is_refused_by_number_with_a_remedy(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        command = [sys.executable, "-m", "venues.gateway", "--port", str(port), "--state", str(tmp_path / "state")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert "Remedy" in done.stderr
    assert "--port PORT" in done.stderr


def test_what_is_asked_of_another_s_account_is_refused_and_nothing_is_told_of_ours(gateway: GatewayProcess) -> None:
    client = RawClient(gateway.port)
    client.start(1)
    client.sync()
    client.send(6, 2, 1, "DU7")
    client.send(76, 1, 41, "DU7", "", 0)
    client.send(74, 1, 42, "DU7", "")
    client.send(92, 43, "DU7", "")
    client.send(94, 44, "DU7", "", 265598)
    told = client.sync()
    assert [(frame[0], frame[2], frame[3]) for frame in told] == [
        ("4", req_id, "321") for req_id in ("-1", "41", "42", "43", "44")
    ]
    client.send(92, 45, "DU1234567", "")
    assert [frame[:2] for frame in client.sync()] == [["94", "45"]]
    client.close()


@pytest.mark.parametrize("message_id", [10, 22, 52, 54, 55, 84, 86, 88, 96, 97, 104])
def test_a_question_that_is_not_served_here_is_refused_under_its_own_id(
    gateway: GatewayProcess, message_id: int
) -> None:
    client = RawClient(gateway.port)
    client.start(1)
    client.sync()
    client.send(message_id, *([1] if message_id in (10, 52, 54, 55) else []), 77, "", "", "")
    [told] = client.sync()
    assert told[0] == "4"
    assert told[2] == "77"
    assert told[3] not in ("320", "505")
    client.close()


NONSENSE = {
    "port": ["--port", "70000"],
    "symbols": ["--symbols", "spy"],
    "tick_ms": ["--tick-ms", "0"],
    "cash_start": ["--cash", "nan"],
    "messages_per_s_max": ["--messages-per-s", "-1"],
    "ready_fd": ["--ready-fd", "99"],
    "lifeline_fd": ["--lifeline-fd", "99"],
    "state folder": ["--state", "/proc/none/such"],
    "--state": ["--state", ""],
}


@pytest.mark.parametrize("name", NONSENSE)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-m", "venues.gateway", "--port", "0", "--state", str(tmp_path), *NONSENSE[name]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "gateway: " in done.stderr
    assert name.partition("_")[0] in done.stderr


def test_it_announces_its_ports_and_ends_cleanly_on_sigterm(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, walk=True).start()
    report = json.loads((gateway.state / "gateway.json").read_text())
    assert (report["port"], report["control_port"], report["pid"]) == (gateway.port, gateway.control_port, gateway.pid)
    said = f"gateway ready host=127.0.0.1 port={gateway.port} control={gateway.control_port}"
    gateway.wait_for("the line on its output, which follows the file", lambda one: said in one.log)
    client = RawClient(gateway.port)
    client.start()
    client.sync()
    started = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - started < 30
    while (client.next()) is not None:
        pass
    client.close()
    assert "Traceback" not in gateway.log


def test_it_ends_when_its_lifeline_is_cut(tmp_path: Path) -> None:
    held, kept = os.pipe()
    command = [
        sys.executable,
        "-m",
        "venues.gateway",
        "--port",
        "0",
        "--state",
        str(tmp_path),
        "--lifeline-fd",
        str(held),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[held], text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("gateway ready ")
    os.close(kept)
    assert process.wait(30) == 0
    process.stdout.close()
    os.close(held)


def test_both_ports_listen_on_the_loopback_only(gateway: GatewayProcess) -> None:
    listening = [c.laddr for c in psutil.Process(gateway.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert {(ip, port) for ip, port in listening} == {
        ("127.0.0.1", gateway.port),
        ("127.0.0.1", gateway.control_port),
    }


def test_the_control_port_answers_each_line_and_refuses_what_makes_no_sense(gateway: GatewayProcess) -> None:
    assert gateway.control({"cmd": "walk", "on": False}) == {"ok": True, "walk": False}
    price = gateway.control({"cmd": "set_price", "symbol": "SPY", "bid": 500, "ask": "500.03"})
    assert (price["bid"], price["ask"], price["last"]) == ("500", "500.03", "500.01")
    for command in (
        {"cmd": "nonsense"},
        {"cmd": "set_price", "symbol": "SPY"},
        {"cmd": "set_price", "symbol": "NOSUCH", "bid": 1, "ask": 2},
        {"cmd": "set_price", "symbol": "SPY", "bid": 2, "ask": 1},
        {"cmd": "set_price", "symbol": "SPY", "bid": "1.001", "ask": 2},
        {"cmd": "set_price", "symbol": "SPY", "bid": "NaN", "ask": 2},
        {"cmd": "set_price", "symbol": "SPY", "bid": 1, "ask": "Infinity"},
        {"cmd": "set_price", "symbol": "SPY", "bid": "1e999999", "ask": "1e999999"},
        {"cmd": "fault", "kind": "partial_fills", "size": "NaN"},
        {"cmd": "fault", "kind": "nonsense"},
        {"cmd": "fault", "kind": "reject", "count": 0},
        {"cmd": "fault", "kind": "refuse"},
        {"cmd": "fault", "kind": "unanswered"},
        {"cmd": "fault", "kind": "reject", "request": 5},
        {"cmd": "fault", "kind": "message"},
        {"cmd": "fault", "kind": "partial_fills"},
        {"cmd": "fault", "kind": "next_order_id"},
        {"cmd": "fault", "kind": "inert_stop", "perm_id": 5},
        {"cmd": "walk", "on": True, "more": 1},
        {"cmd": "cancel_order", "perm_id": 5},
        {"cmd": "manual_order", "symbol": "SPY", "action": "BUY", "qty": "NaN"},
        {"cmd": "manual_order", "symbol": "SPY", "action": "BUY", "qty": 1, "order_type": "LMT", "limit_px": "sNaN"},
        {"cmd": "manual_order", "symbol": "SPY", "action": "BUY", "qty": "1e999999"},
    ):
        assert gateway.control(command, ok=False)["ok"] is False, command
    with socket.create_connection(("127.0.0.1", gateway.control_port), 20) as raw:
        raw.sendall(b'not json\n\n{"cmd": "status"}\n')
        data = b""
        while data.count(b"\n") < 2:
            data += raw.recv(1 << 16)
        assert [json.loads(line)["ok"] for line in data.splitlines()] == [False, True]
