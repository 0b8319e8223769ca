"""Order messages a second that the paper gateway takes over many sessions, each accepted, durable and acknowledged.

The baseline is a bare socket server that journals what it gets with an fsync a burst and answers each message: what the
loop, the sockets and the disk alone would do. Both are driven by the same clients, which keep a few messages under way
each. Memory: the gateway's after so many orders, the older half of the run against the whole.
"""

from __future__ import annotations

import asyncio
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from benchmarks.report import Measured
from tests.venues.gateway_process import GatewayProcess
from venues.gateway.messages import PLACE_ORDER
from venues.gateway.wire import FrameReader, join_fields, split_fields

GOAL_PER_S = 500.0
SESSIONS = 10
UNDER_WAY = 20
"""Messages of a session that are not answered yet."""
MEMORY_GROWTH_MAX = 1.25
"""Of the second half of the orders, beyond what is kept by design."""
_VALUES = {"symbol": "AAPL", "secType": "STK", "exchange": "SMART", "currency": "USD", "action": "BUY"}
_VALUES |= {"totalQuantity": "10", "orderType": "LMT", "lmtPrice": "150", "transmit": "1", "conditions": "0"}
_VALUES |= {"deltaNeutralContract": "0"}

BARE = """
import asyncio, os, struct, sys
from venues.gateway.wire import FrameReader, join_fields, split_fields
class Bare(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.reader, self.greeted = transport, FrameReader(), False
    def data_received(self, data):
        self.reader.push(data)
        if not self.greeted:
            self.reader.take_prefix(b"API\\0")
            self.greeted = True
        said, kept = [], []
        while (payload := self.reader.next_frame()) is not None:
            fields = split_fields(payload)
            if fields[0] == "3":
                kept.append(payload)
                said.append(join_fields(["3", fields[1], "Submitted"]))
            elif fields[0] == "4":
                kept.append(payload)
                said.append(join_fields(["3", fields[2], "Cancelled"]))
            else:
                said.append(join_fields(["176", "now"] if fields[0].startswith("v") else ["9", "1", "1"]))
        if kept:
            os.write(disk, b"".join(kept))
            os.fsync(disk)
        self.transport.write(b"".join(said))
async def main():
    server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
disk = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
asyncio.run(main())
"""


def _order(order_id: int) -> bytes:
    fields = ["3"]
    for part in PLACE_ORDER:
        name = getattr(part, "name", "")
        if name:
            fields.append(str(order_id) if name == "orderId" else _VALUES.get(name, ""))
    return join_fields(fields)


class _Client:
    """One session: places an order, sees it acknowledged, cancels it, sees that, and so on."""

    def __init__(self, client_id: int) -> None:
        self._id = client_id
        self._reader = FrameReader()
        self.answered = 0

    async def run(self, port: int, orders: int) -> None:
        stream, writer = await asyncio.open_connection("127.0.0.1", port)
        offer = b"v157..176"
        writer.write(b"API\0" + struct.pack(">I", len(offer)) + offer)
        await self._until(stream, "176", "")
        writer.write(join_fields(["71", "2", str(self._id), ""]))
        await self._until(stream, "9", "")
        for first in range(1, orders + 1, UNDER_WAY):
            ids = range(first, min(first + UNDER_WAY, orders + 1))
            writer.write(b"".join(_order(order_id) for order_id in ids))
            await self._statuses(stream, "Submitted", len(ids))
            writer.write(b"".join(join_fields(["4", "1", str(order_id), ""]) for order_id in ids))
            await self._statuses(stream, "Cancelled", len(ids))
            self.answered += 2 * len(ids)
        writer.close()
        await writer.wait_closed()

    async def _statuses(self, stream: asyncio.StreamReader, status: str, count: int) -> None:
        for _ in range(count):
            await self._until(stream, "3", status)

    async def _until(self, stream: asyncio.StreamReader, kind: str, status: str) -> None:
        while True:
            while (payload := self._reader.next_frame()) is not None:
                fields = split_fields(payload)
                if fields[0] == kind and (not status or fields[2] == status):
                    return
            chunk = await stream.read(1 << 16)
            if not chunk:
                raise ConnectionError("the server closed the session")
            self._reader.push(chunk)


async def _drive(port: int, first_id: int, orders: int) -> int:
    clients = [_Client(first_id + number) for number in range(SESSIONS)]
    await asyncio.gather(*(client.run(port, orders) for client in clients))
    return sum(client.answered for client in clients)


def rate(port: int, first_id: int, orders: int) -> float:
    """Return order messages (orders and cancels) a second, all answered."""
    began = time.perf_counter()
    answered = asyncio.run(_drive(port, first_id, orders))
    return answered / (time.perf_counter() - began)


def gateway_orders(quick: bool) -> list[Measured]:
    """Take turns with the bare server; then look at the gateway's memory."""
    orders, turns = (20, 1) if quick else (200, 5)
    with tempfile.TemporaryDirectory(prefix="apex-bench-") as name:
        folder = Path(name)
        with GatewayProcess(folder, "--messages-per-s", "0") as gateway:
            bare = subprocess.Popen(
                [sys.executable, "-c", BARE, str(folder / "bare")], stdout=subprocess.PIPE, text=True
            )
            try:
                assert bare.stdout is not None
                bare_port = int(bare.stdout.readline())
                rates, bare_rates = [], []
                for turn in range(turns):
                    rates.append(rate(gateway.port, 1 + turn * SESSIONS, orders))
                    bare_rates.append(rate(bare_port, 1, orders))
            finally:
                bare.kill()
                bare.wait()
            memory = _memory(gateway, 1_000, 50 if quick else 1_000)
    return [_speed(rates, bare_rates), memory]


def _speed(rates: list[float], bare_rates: list[float]) -> Measured:
    return Measured(
        name="gateway.order_messages",
        value=sorted(rates)[len(rates) // 2],
        unit="/s",
        baseline_name="bare socket server, fsync a burst",
        baseline=sorted(bare_rates)[len(bare_rates) // 2],
        goal=GOAL_PER_S,
        less_is_better=False,
        note=f"median of {len(rates)}; {SESSIONS} sessions, orders and cancels, each durable and answered",
    )


def _memory(gateway: GatewayProcess, first_id: int, orders: int) -> Measured:
    """RSS after twice as many orders against RSS after once as many; only 5,000 done orders are kept."""
    process = psutil.Process(gateway.pid)
    sizes = []
    for half in range(2):
        rate(gateway.port, first_id + half * SESSIONS, orders)
        sizes.append(process.memory_info().rss / 1e6)
    return Measured(
        name="gateway.memory",
        value=sizes[1],
        unit="MB",
        baseline_name=f"after half of the {2 * orders * SESSIONS} orders",
        baseline=sizes[0],
        goal=sizes[0] * MEMORY_GROWTH_MAX,
        note="5,000 done orders are kept, the rest dropped at compactions",
    )
