"""The contract with Thespian: what `supervisors.transport` patches is there, and does what it is for."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from supervisors import transport
from supervisors.transport import (
    ADMIN_PORTS,
    CheckedReceiveBuffer,
    PortTaken,
    SignedSerializer,
    UnsignedPacket,
    admin_port,
    check_free,
)
from tests.supervisors.conftest import Theatre
from tests.supervisors.processes import ROOT

KEY = b"k" * 32

PATCHED = """
import inspect, re
import thespian.system.transport.IPBase as ip
import thespian.system.transport.TCPTransport as tcp
import thespian.system.transport.asyncTransportBase as base
import thespian.system.transport.streamBuffer as stream
import thespian.system.utilis as utilis
source = {name: inspect.getsource(module) for name, module in (("tcp", tcp), ("base", base), ("ip", ip))}
assert isinstance(ip.IPActorAddress.bindArgs, property)
assert "self.socket.bind(*templateAddr.addressDetails.bindArgs)" in source["tcp"]
assert tcp.serializer is tcp.pickle
assert source["tcp"].count("ReceiveBuffer(serializer.loads)") == source["tcp"].count("ReceiveBuffer(") > 0
assert "toSendBuffer((self.myAddress, intent.message), serializer.dumps)" in source["tcp"]
assert source["tcp"].count("pickle") == source["tcp"].count("import cPickle as pickle") + 2, "pickle is used elsewhere"
assert tcp.ackMsg == stream.ackMsg and tcp.ackDataErrMsg == stream.ackDataErrMsg
for name in ("MAX_PENDING_TRANSMITS", "MAX_QUEUED_TRANSMITS", "QUEUE_TRANSMIT_UNBLOCK_THRESHOLD"):
    assert isinstance(getattr(base, name), int) and source["base"].count(name) >= 2, name
assert {"_size", "_buf"} <= set(vars(tcp.ReceiveBuffer())) and callable(tcp.ReceiveBuffer.addMore)
assert set(re.findall(r"selectors\\.(\\w+)", source["tcp"])) == {"DefaultSelector", "EVENT_READ", "EVENT_WRITE"}
assert set(re.findall(r"sel\\.(\\w+)", source["tcp"])) == {"register", "select", "close"}
assert "key.fd" in source["tcp"] and "key.fileobj" not in source["tcp"]
assert source["tcp"].count("remainingAmount()") == 2 and callable(tcp.ReceiveBuffer.remainingAmount)
assert callable(utilis.thesplog_control)
assert "THESPIAN_BASE_IPADDR" in source["ip"]
import thespian.system.actorManager as manager, thespian.system.multiprocCommon as common
assert "childProc" in inspect.getsource(common.ChildInfo) and "_child_procs" in inspect.getsource(common)
assert "self.actorInst._myRef = self" in inspect.getsource(manager)
"""


def test_everything_that_is_patched_exists_in_this_version_of_thespian() -> None:
    checked = subprocess.run([sys.executable, "-c", PATCHED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.process
def test_every_listener_of_the_system_is_bound_to_the_loopback(theatre: Theatre) -> None:
    seen = theatre.play("listeners")
    assert seen["processes"] >= 4, "admin, logger and two actors"
    assert len(seen["addresses"]) >= seen["processes"]
    assert set(seen["addresses"]) == {"127.0.0.1"}


@pytest.mark.process
def test_packets_without_our_signature_execute_nothing_and_admin_and_actors_live_on(theatre: Theatre) -> None:
    seen = theatre.play("hostile_packets")
    assert not seen["executed"]
    assert seen["child"]
    # Of the packets for each port, four are whole and wrongly signed; the others are refused for their length.
    assert seen["refused"] == 4 * seen["ports"] >= 8
    assert not list(theatre.folder.glob("thespian*")), "no log of its own in the temporary directory"


@pytest.mark.process
def test_an_admin_of_another_run_is_never_joined(theatre: Theatre) -> None:
    seen = theatre.play("foreign_admin")
    assert f"port {seen['port']} is taken by process" in seen["said"]
    assert seen["joined"] is None, "another key gets no answer"


@pytest.mark.process
def test_fifty_messages_to_a_hung_actor_do_not_hold_up_those_to_others(theatre: Theatre) -> None:
    assert theatre.play("hung_peer") == {"heard": ["heard all the same"], "delivered_after_all": 50}


@pytest.mark.process
def test_messages_that_cross_on_one_connection_all_arrive_once_and_in_order(theatre: Theatre) -> None:
    seen = theatre.play("crossing")
    for rally, starter in (("a", 0), ("b", 1)):
        sizes = {left: 100_000 if left % 10 == 0 else 1 for left in range(1, 101)}
        evens = [[left, sizes[left]] for left in range(100, 0, -2)]
        odds = [[left, sizes[left]] for left in range(99, 0, -2)]
        assert seen[rally][1 - starter] == evens
        assert seen[rally][starter] == odds


def test_a_value_comes_back_through_its_own_key_only() -> None:
    serializer = SignedSerializer(KEY)
    packet = serializer.dumps({"a": (1, "b")})
    assert serializer.loads(packet) == {"a": (1, "b")}
    assert serializer.loads(bytearray(packet)) == {"a": (1, "b")}
    for changed in (packet[:-1], packet + b"x", b"x" + packet[1:], b"", packet[:20], pickle.dumps(1)):
        with pytest.raises(UnsignedPacket):
            serializer.loads(changed)
    with pytest.raises(UnsignedPacket):
        SignedSerializer(b"x" * 32).loads(packet)
    assert serializer.refused() == 6


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="key"):
        SignedSerializer(b"short")


@pytest.mark.parametrize("header", [b"-5>", b"0>", b">", b"1_0>", b"+3>", b" 3>", b"99999999>", b"123456789", b"x"])
def test_a_length_that_is_no_plain_bounded_number_is_refused(header: bytes) -> None:
    with pytest.raises(ValueError, match="packet"):
        CheckedReceiveBuffer().addMore(header)


@pytest.mark.parametrize("step", [1, 2, 3, 20])
def test_a_packet_is_put_together_however_it_is_cut(step: int) -> None:
    left = b"11>hello world12>more"
    buffer = CheckedReceiveBuffer(bytes)
    while not buffer.isDone():
        # As the transport does: never more than what is known to be missing.
        size = min(step, buffer.remainingAmount())
        buffer.addMore(left[:size])
        left = left[size:]
    packet, extra = buffer.completed()
    assert (packet, extra + left) == (b"hello world", b"12>more")


def test_a_run_directory_keeps_its_port_below_the_ephemeral_range_while_it_is_free(tmp_path: Path) -> None:
    port = admin_port(tmp_path)
    assert port in ADMIN_PORTS
    assert admin_port(tmp_path) == port
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        assert admin_port(tmp_path) != port
        began = time.monotonic()
        with pytest.raises(PortTaken, match=f"port {port} is taken by process {os.getpid()}"):
            check_free(port)
        assert time.monotonic() - began < 14.0, "Thespian would need 14.6 s to say less"


def test_when_all_ports_are_taken_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        monkeypatch.setattr(transport, "ADMIN_PORTS", range(taken, taken + 1))
        with pytest.raises(PortTaken, match="none of 32 ports"):
            admin_port(tmp_path)
