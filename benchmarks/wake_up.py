"""How long a sleeping process takes to notice a socket: what each hand-over on the order path costs at least.

A signal's way to the socket has nine of these (bus → reader → allocator → ledger → allocator → broker → ledger → broker
→ its session's thread). The baseline is the same hand-over back to back, where nobody has time to fall asleep.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import time

from benchmarks.report import Measured, compared

BASELINE = "the same, back to back"
ASLEEP_S = 0.03
STAMP = struct.Struct("<q")


def wake_up(quick: bool) -> list[Measured]:
    """One way, from before the send to after the receive, in Python on both sides."""
    count = 30 if quick else 300
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _echo(theirs)
    theirs.close()
    try:
        asleep, awake = _one_way_us(ours, count, ASLEEP_S), _one_way_us(ours, count, 0.0)
    finally:
        ours.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    note = f"asleep for {ASLEEP_S * 1e3:.0f} ms before each"
    return compared("wake_up.one_way", "µs", asleep, BASELINE, awake, {0.5: None, 0.99: None}, note)


def _one_way_us(peer: socket.socket, count: int, pause_s: float) -> list[float]:
    times = []
    for _ in range(count):
        time.sleep(pause_s)
        sent_ns = time.time_ns()
        peer.sendall(b"?")
        (received_ns,) = STAMP.unpack(peer.recv(STAMP.size, socket.MSG_WAITALL))
        times.append((received_ns - sent_ns) / 1e3)
    return times


def _echo(peer: socket.socket) -> None:
    """Answer each byte with the time at which it was there; never returns."""
    while peer.recv(1):
        peer.sendall(STAMP.pack(time.time_ns()))
    os._exit(0)
