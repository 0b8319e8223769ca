"""A venue of three markets with depth that does what a script says, one thing after another: on a real socket, with
lost, repeated and malformed diffs, snapshots that come late, stale or broken, and connections that are cut.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from tests.replay.agreement import FrameServer
from tests.replay.listing import FAIR

NAMES: Final = ("BTCUSDT", "ETHUSDT", "ETHBTC")
DEEP: Final = ("BTCUSDT", "ETHBTC")
OFFSETS: Final = 12
Side = dict[int, int]
MARKER: Final = b'{"result":null,"id":1,"padding":"%b"}' % (b"." * 200)
"""A message that says nothing of any market, but that all before it has been taken; longer than a control frame."""


def text(count: int) -> str:
    return f"{count // 10**8}.{count % 10**8:08d}"


class Book:
    """One market's whole truth: levels in counts, an update id that each change raises."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self.name, self._chance = name, chance
        self.mid = round(float(FAIR[name]) * 10**8)
        self.update_id = chance.randrange(1_000, 2_000)
        self.sides: tuple[Side, Side] = ({}, {})
        self.sent_id = self.update_id
        self.pending: tuple[Side, Side] = ({}, {})
        self.past: list[bytes] = []
        self.move(self.mid)

    def move(self, mid: int) -> None:
        """Change to a book around a price: many levels where it moved, else a few."""
        chance, step = self._chance, self.mid // 10_000
        sides: tuple[Side, Side] = ({}, {})
        for side, sign in ((0, -1), (1, 1)):
            for offset in range(1, OFFSETS + 1):
                price = (mid // step + sign * offset) * step
                quantity = self.sides[side].get(price, 0)
                if not quantity or chance.random() < 0.2:
                    quantity = chance.randrange(10**6, 10**8)
                if offset == 1 or chance.random() > 0.15:
                    sides[side][price] = quantity
        for side in (0, 1):
            old, new = self.sides[side], sides[side]
            for price in old.keys() | new.keys():
                if old.get(price) != new.get(price):
                    self.update_id += 1
                    self.pending[side][price] = new.get(price, 0)
        self.mid, self.sides = mid, sides
        self.past = [*self.past[-8:], self.snapshot()]

    def diff(self) -> bytes:
        """Take all that changed since the last one."""
        bids, asks = ([[text(px), text(qty)] for px, qty in side.items()] for side in self.pending)
        first, self.sent_id = self.sent_id + 1, self.update_id
        for side in self.pending:
            side.clear()
        data = {"e": "depthUpdate", "E": 1, "s": self.name, "U": first, "u": self.update_id, "b": bids, "a": asks}
        return json.dumps({"stream": f"{self.name.lower()}@depth@100ms", "data": data}).encode()

    def ticker(self) -> bytes:
        """Tell the top."""
        bid, ask = max(self.sides[0]), min(self.sides[1])
        data = {
            "u": self.update_id, "s": self.name, "b": text(bid), "B": text(self.sides[0][bid]),
            "a": text(ask), "A": text(self.sides[1][ask]),
        }  # fmt: skip
        body = json.dumps({"stream": f"{self.name.lower()}@bookTicker", "data": data}, separators=(",", ":"))
        return body.encode()

    def snapshot(self) -> bytes:
        """Tell the whole of it, as the venue's REST does."""
        bids, asks = (sorted(side.items(), reverse=at == 0) for at, side in enumerate(self.sides))
        pairs = [[[text(px), text(qty)] for px, qty in side] for side in (bids, asks)]
        return json.dumps({"lastUpdateId": self.update_id, "bids": pairs[0], "asks": pairs[1]}).encode()


class DepthServer(FrameServer):
    """Two streams and the REST snapshots, which wait until they are told what to answer."""

    def __init__(self) -> None:
        self.asked: dict[str, asyncio.Future[bytes]] = {}
        self._sockets: dict[bool, web.WebSocketResponse] = {}
        self.opened = 0
        super().__init__()

    def tell(self, frame: bytes, deep: bool) -> None:
        """Send a frame over one of the two."""
        self.on_loop(lambda: self._sockets[deep].send_str(frame.decode()))

    def answer(self, name: str, body: bytes) -> None:
        """Answer the snapshot that is asked for."""

        async def settle() -> None:
            self.asked.pop(name).set_result(body)

        self.on_loop(settle)

    def cut(self) -> None:
        """Cut the stream of depth."""
        before = self.opened

        async def close() -> None:
            transport = self._cut_off.transport
            assert transport is not None
            transport.abort()

        self.on_loop(close)
        until(lambda: self.opened > before, "the stream of depth does not come back")

    def routes(self, app: web.Application) -> None:
        app.router.add_get("/stream", self._stream)
        app.router.add_get("/api/v3/depth", self._snapshot)

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        deep = "@depth" in request.query["streams"]
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets[deep] = socket
        if deep:
            self._cut_off = request
            self.opened += 1
        async for _ in socket:
            pass
        return socket

    async def _snapshot(self, request: web.Request) -> web.Response:
        name = request.query["symbol"]
        self.asked[name] = asyncio.get_running_loop().create_future()
        return web.Response(body=await self.asked[name], content_type="application/json")


def until(condition: Callable[[], bool], say: str, seconds_max: float = 60.0) -> None:
    """Wait for it. Raises AssertionError."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < deadline, say
        time.sleep(0.0002)


def rates(chance: random.Random, books: Sequence[Book]) -> None:
    """Move one market: two at random, the cross after them, off its fair price by up to a third of a percent."""
    book = chance.choice(books)
    if chance.random() < 0.7:
        book.move(book.mid)
    elif book.name == "ETHBTC":
        by_name = {one.name: one for one in books}
        fair = by_name["ETHUSDT"].mid * 10**8 // by_name["BTCUSDT"].mid
        book.move(round(fair * (1 + chance.uniform(-0.0035, 0.0035))))
    else:
        book.move(round(book.mid * (1 + chance.uniform(-0.001, 0.001))))
    return None
