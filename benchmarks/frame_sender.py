"""A venue that does nothing but send: real WebSocket, frames rendered before, at a rate or as fast as it is read.

A program of its own, `python -m benchmarks.frame_sender JSON` (`SenderOptions`). It writes its port as the first line
and takes the connections. Then, for each stretch, it reads a line `RATE SECONDS PATIENT` (rate 0: as fast as it goes;
patient 1: sleeping between frames, 0: watching the clock) and writes `SentReport` as a line. In between it answers
pings. Each pass over the frames has higher update ids: the leading digits are written into the rendered bytes.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import select
import socket
import sys
import time
from typing import Final

import msgspec
import numpy as np

from benchmarks.market import made_up_frames
from venues.exchange.frames import PING, PONG, TEXT, frame

FRAMES: Final = 20_000
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PASS_DIGITS: Final = 6
_CHUNK_FRAMES: Final = 256
_LOOK_EVERY: Final = 64


class SenderOptions(msgspec.Struct, frozen=True):
    """`cpu` -1: wherever the system puts it."""

    symbols: int
    seed: int
    connections: int
    cpu: int = -1


class SentReport(msgspec.Struct, frozen=True):
    """Frames handed to the system within `seconds`; `late_us_most`: the furthest that it fell behind its own rate."""

    frames: int
    seconds: float
    late_us_most: float


class Stream:
    """One connection: its frames, one after another in one block, and how far it has sent."""

    def __init__(self, peer: socket.socket, frames: list[bytes]) -> None:
        assert frames, "a connection whose symbols have no frame among those rendered"
        self.peer = peer
        rendered = [frame(TEXT, payload) for payload in frames]
        self._block = np.frombuffer(bytearray(b"".join(rendered)), dtype=np.uint8)
        self._view = self._block.data
        ends = np.cumsum([len(one) for one in rendered])
        self._starts = [0, *ends.tolist()]
        digits = np.array([one.index(b'"u":') + 4 for one in rendered]) + np.array(self._starts[:-1])
        self._digits = digits[:, None] + np.arange(_PASS_DIGITS)
        self._at = 0
        self._pass = 0
        self._heard = b""
        self._turn()

    def send(self, count: int) -> None:
        """Send the next frames; blocks while the other end does not read."""
        while count:
            now = min(count, len(self._starts) - 1 - self._at)
            self.peer.sendall(self._view[self._starts[self._at] : self._starts[self._at + now]])
            self._at += now
            count -= now
            if self._at == len(self._starts) - 1:
                self._at = 0
                self._turn()

    def answer(self) -> None:
        """Answer the pings that have come."""
        try:
            heard = self.peer.recv(4_096, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not heard:
            raise SystemExit(0)  # the feed has ended
        self._heard += heard
        while len(self._heard) >= 6 and len(self._heard) >= 6 + (length := self._heard[1] & 0x7F):
            mask, body = self._heard[2:6], self._heard[6 : 6 + length]
            if self._heard[0] & 0x0F == PING:
                self.peer.sendall(frame(PONG, bytes(byte ^ mask[at % 4] for at, byte in enumerate(body))))
            self._heard = self._heard[6 + length :]

    def _turn(self) -> None:
        """Write the number of the pass into the leading digits of every update id."""
        self._pass += 1
        leading = np.frombuffer(f"{10 ** (_PASS_DIGITS - 1) + self._pass}".encode(), dtype=np.uint8)
        self._block[self._digits] = leading


def main() -> None:
    """Run until standard input ends."""
    options = msgspec.json.decode(sys.argv[1], type=SenderOptions)
    if options.cpu >= 0:
        os.sched_setaffinity(0, {options.cpu})
    frames = made_up_frames(options.symbols, options.seed, FRAMES, first_id=10 ** (_PASS_DIGITS + 7))
    listener = socket.create_server(("127.0.0.1", 0))
    _say(str(listener.getsockname()[1]).encode())
    streams: list[Stream] = []
    order: list[int] = []
    taken = [_accepted(listener) for _ in range(options.connections)]
    for number, (peer, names) in enumerate(taken):
        streams.append(Stream(peer, [payload for name, payload in frames if name in names]))
        order += [number] * sum(name in names for name, _ in frames)
    np.random.default_rng(options.seed).shuffle(order)
    _say(b"ready")
    while True:
        ready, _, _ = select.select([sys.stdin, *(stream.peer for stream in streams)], [], [])
        for stream in streams:
            stream.answer()
        if sys.stdin in ready:
            line = sys.stdin.readline()
            if not line:
                return
            rate, seconds, patient = (float(word) for word in line.split())
            report = _at_rate(streams, order, rate, seconds, patient) if rate else _flat_out(streams, order, seconds)
            _say(msgspec.json.encode(report))


def _accepted(listener: socket.socket) -> tuple[socket.socket, frozenset[str]]:
    """Take one upgrade; return the connection and the symbols that it asked for."""
    peer, _ = listener.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = b""
    while b"\r\n\r\n" not in request:
        request += peer.recv(65_536)
    key = re.search(rb"(?i)sec-websocket-key: *(\S+)", request)
    assert key is not None, request
    accept = base64.b64encode(hashlib.sha1(key.group(1) + _GUID, usedforsecurity=False).digest())
    peer.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    streams = re.findall(rb"([^/=?& ]+)@bookTicker", request.split(b"\r\n")[0])
    return peer, frozenset(stream.decode().upper() for stream in streams)


def _at_rate(streams: list[Stream], order: list[int], rate: float, seconds: float, patient: float) -> SentReport:
    """Send each frame when it is due; what is due at once goes in one write."""
    sent, late_ns = 0, 0
    began_ns = time.perf_counter_ns()
    until_ns = began_ns + int(seconds * 1e9)
    looks = 0
    while (now_ns := time.perf_counter_ns()) < until_ns:
        due = int((now_ns - began_ns) * rate / 1e9)
        if due > sent:
            late_ns = max(late_ns, now_ns - began_ns - int(sent * 1e9 / rate))
            counts = [0] * len(streams)
            for number in range(sent, due):
                counts[order[number % len(order)]] += 1
            for stream, count in zip(streams, counts, strict=True):
                stream.send(count)
            sent = due
        elif patient:
            time.sleep(1 / rate)
        looks += 1
        if looks % _LOOK_EVERY == 0:
            for stream in streams:
                stream.answer()
    return SentReport(sent, (time.perf_counter_ns() - began_ns) / 1e9, late_ns / 1e3)


def _flat_out(streams: list[Stream], order: list[int], seconds: float) -> SentReport:
    """Send without a pause, each connection its share."""
    sent = 0
    began_ns = time.perf_counter_ns()
    shares = [order.count(number) / len(order) for number in range(len(streams))]
    counts = [max(1, round(_CHUNK_FRAMES * len(streams) * share)) for share in shares]
    while time.perf_counter_ns() - began_ns < seconds * 1e9:
        for stream, count in zip(streams, counts, strict=True):
            stream.send(count)
            stream.answer()
            sent += count
    return SentReport(sent, (time.perf_counter_ns() - began_ns) / 1e9, 0.0)


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
