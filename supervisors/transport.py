"""What Thespian 4.0.1's TCP transport lacks, patched in, all in this file.

- It binds 0.0.0.0 and runs any pickle that is sent to it: here loopback only, and every packet is signed with this
  run's key, which lives in memory only and reaches the actors by fork.
- A packet with a negative length kills its receiver, an endless one fills its memory: lengths are checked.
- An admin left by an earlier run is joined in silence: the port must be free before, and another key is refused.
- Log records travel as messages, and a log file of its own appears in the temporary directory: neither does.
- Twenty unacknowledged messages to one hung process stop the sender's messages to everybody: the limit is raised
  beyond what the hosts' credit lets a few hung processes take.
- A packet is read in two turns of the loop, its first 20 bytes apart, and each turn makes a selector anew: here it is
  one turn, and one system call for its descriptors.

`tests/supervisors/test_transport.py` fails when another version of Thespian makes any of this void.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import mmap
import os
import pickle
import socket
import struct
from hashlib import blake2b
from pathlib import Path

import psutil  # type: ignore[import-untyped]

# Before any part of Thespian is imported: it reads this only then. Its titles would overwrite the environment.
os.environ["THESPIAN_BASE_IPADDR"] = "127.0.0.1"
os.environ.setdefault("SPT_NOENV", "1")

import thespian.system.transport.asyncTransportBase as async_transport  # noqa: N813  Thespian names modules like classes
import thespian.system.transport.IPBase as ip_base  # noqa: N813
import thespian.system.transport.streamBuffer as stream_buffer  # noqa: N813
import thespian.system.transport.TCPTransport as tcp_transport  # noqa: N813
from thespian.actors import ActorSystem
from thespian.system.utilis import thesplog_control

from supervisors.transport_select import Selectors

LOOPBACK = "127.0.0.1"
KEY_BYTES_MIN = 16
DIGEST_BYTES = 32
PACKET_BYTES_MAX = 16 * 1024 * 1024
READ_BYTES = 64 * 1024
PENDING_TRANSMITS_MAX = 64
"""Unacknowledged sends before an actor's further ones wait. A peer's credit is 12: five hung peers fit. Not more, as
each send scans them: in a flood 64 cost half as much again as Thespian's 20, and 200 three times as much."""
QUEUED_TRANSMITS_MAX = 25
QUEUED_TRANSMITS_UNBLOCK = 10
ADMIN_PORTS = range(20_000, 32_000)
"""Below the ephemeral range of Linux (32768) and macOS (49152): no outgoing connection takes one by chance."""
ADMIN_PORTS_TRIED = 32
_LOG_BYTES_MAX = 1024 * 1024
_SILENT_LOGS = {"version": 1, "handlers": {}, "root": {"level": "CRITICAL", "handlers": []}}
"""Below this level Thespian ships no record from an actor that has not replaced the logger itself."""


class PortTaken(RuntimeError):
    """Somebody listens on the admin port; says who, where that can be seen."""


class UnsignedPacket(ValueError):
    """A packet without this run's signature. Nothing of it was unpickled."""


class SignedSerializer:
    """Stands in for `pickle` in the transport: `dumps` signs, `loads` refuses what is not signed with the key.

    Signed with keyed BLAKE2b, which is a MAC by design; between two messages caches are cold, and there it takes a
    third of what HMAC-SHA256 does.
    """

    def __init__(self, key: bytes) -> None:
        if not KEY_BYTES_MIN <= len(key) <= blake2b.MAX_KEY_SIZE:
            raise ValueError(f"key of {len(key)} bytes; {KEY_BYTES_MIN} to {blake2b.MAX_KEY_SIZE}")
        self._key = key
        # Shared with all processes forked later; two at the same instant may count as one.
        self._refused = mmap.mmap(-1, 8)

    def dumps(self, value: object) -> bytes:
        """Pickle and sign."""
        packet = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        return self._signature(packet) + packet

    def loads(self, data: bytes) -> object:
        """Check, then unpickle. Raises UnsignedPacket, on which the transport closes the connection."""
        data = bytes(data)
        signature, packet = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
        if not hmac.compare_digest(self._signature(packet), signature):
            struct.pack_into("<q", self._refused, 0, self.refused() + 1)
            raise UnsignedPacket(f"a packet of {len(data)} bytes is not signed with this run's key")
        value: object = pickle.loads(packet)
        return value

    def _signature(self, packet: bytes) -> bytes:
        return blake2b(packet, key=self._key, digest_size=DIGEST_BYTES).digest()

    def refused(self) -> int:
        """Packets refused by this process and all that were forked from it or it from."""
        return int(struct.unpack_from("<q", self._refused, 0)[0])


class CheckedReceiveBuffer(stream_buffer.ReceiveBuffer):  # type: ignore[misc]
    """Reads `<length>><packet>`; raises ValueError, on which the transport closes the connection, for a bad length."""

    def addMore(self, buf: bytes) -> None:  # noqa: N802  Thespian's name
        """Take more bytes, after a look at the length where it is not known yet."""
        if self._size is None:
            header, mark, _ = (bytes(self._buf) + bytes(buf)).partition(b">")
            digits_max = len(str(PACKET_BYTES_MAX))
            if len(header) > digits_max or (header and not header.isdigit()) or (mark and not header):
                raise ValueError("a packet's length must be a plain number")
            if mark and not 0 < int(header) <= PACKET_BYTES_MAX:
                raise ValueError(f"a packet of {int(header)} bytes; at most {PACKET_BYTES_MAX}")
        super().addMore(buf)

    def remainingAmount(self) -> int:  # noqa: N802  Thespian's name
        """How much to read: a packet of the usual size whole, before its length is known."""
        return READ_BYTES if self._size is None else int(super().remainingAmount())


def harden(key: bytes, log_file: Path | None = None) -> SignedSerializer:
    """Patch Thespian in this process, for all that will be forked from it. `log_file`: its own log, else none."""
    serializer = SignedSerializer(key)
    tcp_transport.serializer = serializer
    tcp_transport.ReceiveBuffer = CheckedReceiveBuffer
    tcp_transport.selectors = Selectors
    tcp_transport.ackMsg = stream_buffer.toSendBuffer(stream_buffer.ackPacket, serializer.dumps)
    tcp_transport.ackDataErrMsg = stream_buffer.toSendBuffer(stream_buffer.ackDataErrPacket, serializer.dumps)
    ip_base.IPActorAddress.bindArgs = property(_loopback_bind)
    async_transport.MAX_PENDING_TRANSMITS = PENDING_TRANSMITS_MAX
    async_transport.MAX_QUEUED_TRANSMITS = QUEUED_TRANSMITS_MAX
    async_transport.QUEUE_TRANSMIT_UNBLOCK_THRESHOLD = QUEUED_TRANSMITS_UNBLOCK
    if log_file is not None:
        os.environ["THESPLOG_FILE"] = str(log_file)
    thesplog_control(logging.WARNING, False, _LOG_BYTES_MAX if log_file is not None else 0)
    return serializer


def _loopback_bind(address: ip_base.IPActorAddress) -> tuple[tuple[str, int]]:
    return ((LOOPBACK, address.sockname[1]),)


def start_system(port: int, key: bytes, log_file: Path | None = None) -> ActorSystem:
    """Start an admin on this port, in a session of its own, and return the way in to it (about 0.1 s).

    The admin's children are forked, so this process's imports and descriptors are theirs too. Several systems may be
    started one after the other in one process, but only the newest one's key is in force.

    Raises:
        PortTaken: at once, if anything listens on the port already.
    """
    check_free(port)
    harden(key, log_file)
    capabilities = {"Admin Port": port, "Process Startup Method": "fork"}
    return ActorSystem("multiprocTCPBase", capabilities=capabilities, logDefs=_SILENT_LOGS, transientUnique=True)


def check_free(port: int) -> None:
    """Raise PortTaken if somebody listens on this port of the loopback."""
    if not _is_free(port):
        raise PortTaken(f"port {port} is taken by {_listener(port)}")


def admin_port(run_dir: Path) -> int:
    """The run directory's port: the same each time while it is free, otherwise the next of its own list.

    Raises:
        PortTaken: all of them are taken.
    """
    digest = hashlib.sha256(str(run_dir.resolve()).encode()).digest()
    first, step = int.from_bytes(digest[:4], "big"), 1 + digest[4]
    ports = [ADMIN_PORTS[(first + attempt * step) % len(ADMIN_PORTS)] for attempt in range(ADMIN_PORTS_TRIED)]
    for port in ports:
        if _is_free(port):
            return port
    raise PortTaken(f"none of {len(ports)} ports for {run_dir} is free; the first is taken by {_listener(ports[0])}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the admin itself does: connections of an earlier run that linger do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def _listener(port: int) -> str:
    for process in psutil.process_iter():
        try:
            for one in process.net_connections("tcp"):
                if one.status == psutil.CONN_LISTEN and one.laddr.port == port:
                    return f"process {process.pid} ({process.name()})"
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return "a process that cannot be seen from here"
