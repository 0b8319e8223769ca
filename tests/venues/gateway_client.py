"""Clients of the paper gateway for its tests: a raw socket, and ib_insync in a loop of its own."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import struct
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from ib_insync import IB, Contract, LimitOrder, MarketOrder, Order, Stock, StopOrder, Trade

T = TypeVar("T")
WAIT_S_MAX = 60.0


_OPENED: list[IB] = []


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run in a fresh loop, end the clients it opened, and leave the thread with a loop (asyncio.run would not)."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(asyncio.wait_for(work, 120))
    finally:
        loop.run_until_complete(_disconnect_all())
        loop.close()
        asyncio.set_event_loop(asyncio.new_event_loop())


async def _disconnect_all() -> None:
    while _OPENED:
        ib = _OPENED.pop()
        if ib.isConnected():
            ib.disconnect()
    for _ in range(5):
        await asyncio.sleep(0)


async def until(what: str, condition: Callable[[], object], within_s: float = WAIT_S_MAX) -> None:
    """Wait until the condition is true; fail, saying `what`, after the bound."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.005)


async def connect(port: int, client_id: int = 7) -> IB:
    ib = IB()
    _OPENED.append(ib)
    await ib.connectAsync("127.0.0.1", port, clientId=client_id, timeout=60)
    return ib


async def settled(ib: IB) -> None:
    """Return when the gateway has answered everything sent before."""
    await ib.reqCurrentTimeAsync()


async def stock(ib: IB, symbol: str) -> Contract:
    contract = Stock(symbol, "SMART", "USD")
    assert await ib.qualifyContractsAsync(contract), symbol
    return contract


def bracket(ib: IB, action: str, qty: float, entry: Order, target: float, stop: float) -> list[Order]:
    """Return parent, target and stop with ids and transmit flags as a bracket has them."""
    back = "SELL" if action == "BUY" else "BUY"
    entry.orderId, entry.transmit = ib.client.getReqId(), False
    legs = [
        LimitOrder(back, qty, target, orderId=ib.client.getReqId(), parentId=entry.orderId, transmit=False),
        StopOrder(back, qty, stop, orderId=ib.client.getReqId(), parentId=entry.orderId, transmit=True),
    ]
    for number, order in enumerate([entry, *legs]):
        order.orderRef = f"fund:signal:{entry.orderId}:{number}"
    return [entry, *legs]


def place_all(ib: IB, contract: Contract, orders: list[Order]) -> list[Trade]:
    return [ib.placeOrder(contract, order) for order in orders]


def market(action: str, qty: float, **more: Any) -> Order:
    return MarketOrder(action, qty, **more)


class ClientErrors(logging.Handler):
    """Collects ERROR records of ib_insync; what a test did not allow fails it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []
        self._allowed: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

    def allow(self, *patterns: str) -> None:
        """Allow messages that match: an error that the test itself provokes."""
        self._allowed += patterns

    def unexpected(self) -> list[str]:
        return [text for text in self.messages if not any(re.search(allowed, text) for allowed in self._allowed)]


@pytest.fixture
def client_errors() -> Iterator[ClientErrors]:
    """Fail the test on any ERROR record of an ib_insync logger that it did not allow."""
    handler = ClientErrors()
    logger = logging.getLogger("ib_insync")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    assert not handler.unexpected()


class RawClient:
    """The protocol by hand: what goes over the wire is what a test says."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), WAIT_S_MAX)
        self._pending = b""

    def send_bytes(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send(self, *fields: object) -> None:
        self.send_bytes(framed(*fields))

    def start(self, client_id: int = 1, versions: str = "v157..176") -> list[str]:
        """Handshake and startApi; return the greeting, [version, time]."""
        offer = versions.encode()
        self.send_bytes(b"API\0" + struct.pack(">I", len(offer)) + offer)
        greeting = self.next()
        assert greeting is not None
        self.send(71, 2, client_id, "")
        return greeting

    def next(self) -> list[str] | None:
        """Return the next frame's fields, or None when the gateway has closed the connection."""
        while True:
            if len(self._pending) >= 4:
                end = 4 + struct.unpack(">I", self._pending[:4])[0]
                if len(self._pending) >= end:
                    payload, self._pending = self._pending[4:end], self._pending[end:]
                    return payload.decode().split("\0")[:-1]
            try:
                chunk = self.socket.recv(1 << 16)
            except ConnectionResetError:
                return None
            if not chunk:
                return None
            self._pending += chunk

    def until(self, message_id: str) -> list[list[str]]:
        """Read frames until one with this id, and return them all, it last."""
        seen = []
        while (frame := self.next()) is not None:
            seen.append(frame)
            if frame[0] == message_id:
                return seen
        raise AssertionError(f"closed before message {message_id}; saw {seen}")

    def sync(self) -> list[list[str]]:
        """Return everything that came before the answer to a question asked now."""
        self.send(49, 1)
        return self.until("49")[:-1]

    def close(self) -> None:
        self.socket.close()


def framed(*fields: object) -> bytes:
    payload = "".join(f"{field}\0" for field in fields).encode()
    return struct.pack(">I", len(payload)) + payload
