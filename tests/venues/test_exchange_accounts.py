"""Faults of the way between exchange and client: each on a real socket, and every frame accounted for afterwards."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import aiohttp
import pytest

from tests.venues.exchange_books import LocalBook
from tests.venues.exchange_process import ExchangeProcess, wait_until

pytestmark = pytest.mark.process

PATIENCE_S = 60.0
# All symbols there are: so a listener sees every update id, and misses none but to a fault.
ALL = ("btcusdt@bookTicker", "ethusdt@bookTicker", "ethbtc@bookTicker")
CLOSED = (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExchangeProcess]:
    options = ("--rate", "500", "--symbols", "3", "--opportunity-every-s", "0")
    with ExchangeProcess(tmp_path_factory.mktemp("exchange"), *options) as running:
        yield running


class Listener:
    """A connection that keeps every message; `number` is the exchange's name of it."""

    def __init__(self, exchange: ExchangeProcess, ws: aiohttp.ClientWebSocketResponse, number: int) -> None:
        self.exchange, self.ws, self.number = exchange, ws, number
        self.messages: list[aiohttp.WSMessage] = []
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while (message := await self.ws.receive()).type not in CLOSED:
            self.messages.append(message)
        self.messages.append(message)

    def frames(self) -> list[dict[str, Any]]:
        texts = [json.loads(one.data) for one in self.messages if one.type is aiohttp.WSMsgType.TEXT]
        return [text["data"] for text in texts if "data" in text]

    def ids(self) -> list[int]:
        return [frame["u"] for frame in self.frames() if "b" in frame]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait, reading on."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"after {len(self.messages)} messages: {self.messages[-3:]}"
            await asyncio.sleep(0.01)

    async def hear(self, count: int) -> None:
        """Wait for so many messages more."""
        have = len(self.messages)
        await self.until(lambda: len(self.messages) >= have + count)

    async def fault(self, name: str, **fields: object) -> int:
        return await asyncio.to_thread(lambda: self.exchange.fault(name, **fields))

    async def get(self, path: str) -> Any:
        return await asyncio.to_thread(self.exchange.get, path)

    async def end(self) -> dict[str, Any]:
        """Have the exchange close it in order, read to the end, and return its account."""
        await self.fault("daily_disconnect", connection=self.number)
        await self.reading
        return await self.account()

    async def account(self) -> dict[str, Any]:
        accounts = (await self.get("/paper/frames"))["connections"]
        (one,) = [account for account in accounts if account["number"] == self.number]
        assert one["due"] == one["sent"] + sum(one["lost"].values()) == sum(one["by_stream"].values())
        return dict(one)


@asynccontextmanager
async def listening(exchange: ExchangeProcess, *streams: str) -> AsyncIterator[Listener]:
    known = {one["number"] for one in (await asyncio.to_thread(exchange.get, "/paper/status"))["connections"]}
    url = f"{exchange.ws_url}/stream?streams={'/'.join(streams)}"
    async with asyncio.timeout(2 * PATIENCE_S), aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
        new: set[int] = set()
        while not new:
            status = await asyncio.to_thread(exchange.get, "/paper/status")
            new = {one["number"] for one in status["connections"] if one["streams"]} - known
        listener = Listener(exchange, ws, new.pop())
        await listener.hear(3)
        yield listener
        listener.reading.cancel()


def missing(ids: list[int]) -> int:
    return max(ids) - min(ids) + 1 - len(set(ids))


def test_a_gap_withholds_exactly_as_many_frames_as_asked_and_says_of_which_stream(exchange: ExchangeProcess) -> None:
    async def check() -> None:
        async with listening(exchange, *ALL) as listener:
            assert await listener.fault("gap", symbol="BTCUSDT", n=3) == 1
            await listener.until(lambda: missing(listener.ids()) >= 3)
            await listener.hear(50)
            account = await listener.end()
            assert missing(listener.ids()) == 3
            assert account["sent"] == len(listener.frames())
            assert (account["ended"], account["lost"]) == ("closed_1001", {})
            frames = await listener.get("/paper/frames")
            assert frames["withheld"]["btcusdt@bookTicker"] == {"gap": 3}

    asyncio.run(check())


def test_a_reordered_frame_comes_late_with_its_older_id_and_none_is_missing(exchange: ExchangeProcess) -> None:
    async def check() -> None:
        async with listening(exchange, *ALL) as listener:
            await listener.fault("reorder", symbol="ETHBTC", n=2)

            def falls() -> int:
                ids = [frame["u"] for frame in listener.frames() if frame["s"] == "ETHBTC"]
                return sum(later < earlier for earlier, later in pairwise(ids))

            await listener.until(lambda: falls() == 2)
            await listener.hear(50)
            account = await listener.end()
            assert falls() == 2
            assert missing(listener.ids()) == 0
            assert len(set(listener.ids())) == len(listener.ids()) == account["sent"]
            frames = await listener.get("/paper/frames")
            assert frames["late"] == {}
            assert (await listener.get("/paper/status"))["faults"]["frames_reordered"] == 2

    asyncio.run(check())


def test_a_gap_of_depth_breaks_the_chain_of_ids_and_a_new_snapshot_mends_it(exchange: ExchangeProcess) -> None:
    async def check() -> None:
        async with listening(exchange, "btcusdt@depth@100ms") as listener:
            assert await listener.fault("gap", symbol="BTCUSDT", stream="depth") == 1

            def breaks() -> list[int]:
                diffs = listener.frames()
                pairs = pairwise(diffs)
                return [at for at, (one, next_) in enumerate(pairs) if next_["U"] != one["u"] + 1]

            await listener.until(lambda: bool(breaks()))
            snapshot = await listener.get("/api/v3/depth?symbol=BTCUSDT&limit=100")
            await listener.until(lambda: listener.frames()[-1]["u"] > snapshot["lastUpdateId"])
            assert len(breaks()) == 1
            book = LocalBook(snapshot)
            assert all(book.apply(diff) for diff in listener.frames()[breaks()[0] + 1 :])
            assert book.diffs >= 1
            assert max(book.sides[0]) < min(book.sides[1])

    asyncio.run(check())


def test_a_silent_connection_hears_nothing_but_answers_while_another_hears_all(exchange: ExchangeProcess) -> None:
    async def check() -> None:
        async with listening(exchange, *ALL) as silent, listening(exchange, *ALL) as other:
            assert await silent.fault("silence", connection=silent.number, seconds=60) == 1
            await other.hear(50)
            await silent.ws.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 7})
            await silent.until(lambda: '"id":7' in str(silent.messages[-1].data))
            assert (await silent.account())["lost"]["silence"] > 20
            await silent.fault("silence", connection=silent.number, seconds=0)
            await silent.hear(20)
            account = await silent.end()
            assert account["sent"] == len(silent.frames())
            assert missing(silent.ids()) == account["lost"]["silence"]
            account = await other.end()
            assert (account["sent"], account["lost"]) == (len(other.frames()), {})
            assert missing(other.ids()) == 0

    asyncio.run(check())


def test_a_backlog_comes_at_once_whole_and_in_order_with_the_pong_behind_it(exchange: ExchangeProcess) -> None:
    async def check() -> None:
        async with listening(exchange, *ALL) as listener:
            assert await listener.fault("backlog", connection=listener.number, seconds=2) == 1
            while (await listener.account())["lost"].get("held", 0) < 50:
                pass
            heard = len(listener.messages)
            await listener.ws.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 7})
            await listener.until(lambda: any('"id":7' in str(one.data) for one in listener.messages))
            at = next(at for at, one in enumerate(listener.messages) if '"id":7' in str(one.data))
            assert at - heard >= 50
            account = await listener.end()
            assert (account["sent"], account["lost"]) == (len(listener.frames()), {})
            assert listener.ids() == list(range(listener.ids()[0], listener.ids()[-1] + 1))

    asyncio.run(check())


def test_the_pong_of_a_backlog_stands_behind_the_frames_it_was_said_after(exchange: ExchangeProcess) -> None:
    async def check() -> None:
        url = exchange.ws_url + "/stream?streams=" + "/".join(ALL)
        async with (
            asyncio.timeout(PATIENCE_S),
            aiohttp.ClientSession() as session,
            session.ws_connect(url, autoping=False) as ws,
        ):
            await ws.receive()
            await asyncio.to_thread(lambda: exchange.fault("backlog", seconds=2))

            def held() -> int:
                accounts = exchange.get("/paper/frames")["connections"]
                return sum(one["lost"].get("held", 0) for one in accounts if not one["ended"])

            while await asyncio.to_thread(held) < 50:
                pass
            await ws.ping(b"now")
            before = 0
            while (message := await ws.receive()).type is not aiohttp.WSMsgType.PONG:
                before += 1
            assert bytes(message.data) == b"now"
            assert before >= 50

    asyncio.run(check())


def test_an_exchange_that_stops_reading_goes_on_to_speak_and_answers_later(exchange: ExchangeProcess) -> None:
    async def check() -> None:
        async with listening(exchange, *ALL) as listener:
            begun = time.monotonic()
            assert await listener.fault("stop_reading", connection=listener.number, seconds=1.5) == 1
            await listener.ws.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 7})
            await listener.hear(50)
            await listener.until(lambda: any('"id":7' in str(one.data) for one in listener.messages))
            assert time.monotonic() - begun >= 1.5

    asyncio.run(check())


def test_the_daily_disconnect_comes_on_demand_with_a_close_frame_and_for_one_connection_only(
    exchange: ExchangeProcess,
) -> None:
    async def check() -> None:
        async with listening(exchange, *ALL) as one, listening(exchange, *ALL) as other:
            await one.fault("daily_disconnect", connection=one.number)
            await one.reading
            assert (one.messages[-1].type, one.messages[-1].data) == (aiohttp.WSMsgType.CLOSE, 1001)
            await other.hear(20)
            assert (await other.account())["ended"] == ""

    asyncio.run(check())


def test_what_a_half_open_connection_does_not_hear_is_counted_as_lost_to_it(exchange: ExchangeProcess) -> None:
    async def check() -> None:
        async with listening(exchange, *ALL) as listener:
            await listener.fault("half_open", connection=listener.number)
            while (await listener.account())["lost"].get("half_open", 0) < 50:
                pass
            sent = (await listener.account())["sent"]
            await listener.until(lambda: len(listener.frames()) == sent)
            assert missing(listener.ids()) == 0

    asyncio.run(check())


def test_frames_of_streams_that_were_left_again_stay_accounted_for(exchange: ExchangeProcess) -> None:
    async def check() -> None:
        async with listening(exchange, *ALL) as listener:
            # Until each has spoken: a stream without a frame is not in the account at all.
            await listener.until(lambda: len({frame["s"] for frame in listener.frames()}) == len(ALL))
            await listener.ws.send_json({"method": "UNSUBSCRIBE", "params": [ALL[0]], "id": 7})
            await listener.until(lambda: any('"id":7' in str(one.data) for one in listener.messages))
            await listener.hear(20)
            account = await listener.end()
            heard = {
                stream: sum(frame["s"].lower() + "@bookTicker" == stream for frame in listener.frames())
                for stream in ALL
            }
            assert account["by_stream"] == heard

    asyncio.run(check())


@pytest.mark.parametrize(
    "body",
    [
        {"fault": "gap", "symbol": "BTCUSDT", "stream": "trade"},
        {"fault": "reorder", "symbol": "NOSUCH"},
        {"fault": "silence", "symbol": "BTCUSDT", "connection": 1, "seconds": 1},
        {"fault": "backlog", "seconds": -1},
        {"fault": "stop_reading"},
        {"fault": "daily_disconnect", "connection": "all"},
    ],
)
def test_a_fault_that_cannot_be_is_refused(exchange: ExchangeProcess, body: object) -> None:
    status, _, reply = exchange.request("/paper/fault", body)
    assert status == 400
    assert reply["code"] in (-1130, -1121)


def test_a_backlog_or_a_gap_that_touches_nobody_touches_nothing(exchange: ExchangeProcess) -> None:
    wait_until(lambda: not exchange.get("/paper/status")["connections"], PATIENCE_S, lambda: "connections left")
    assert exchange.fault("gap", symbol="BTCUSDT") == 0
    assert exchange.fault("backlog", seconds=1) == 0
    assert exchange.fault("daily_disconnect", connection=999) == 0
