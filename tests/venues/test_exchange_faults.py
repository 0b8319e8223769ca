"""Each fault of the table does what it says on the wire, is counted, and passes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.venues.exchange_process import ExchangeProcess, wait_until

pytestmark = pytest.mark.process

NAME = "币安人生USDT"
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExchangeProcess]:
    """An exchange on which next to nothing moves by itself: what comes is the fault."""
    folder = tmp_path_factory.mktemp("exchange")
    with ExchangeProcess(folder, "--rate", "0.001", "--opportunity-every-s", "0") as running:
        yield running


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[ExchangeProcess]:
    with ExchangeProcess(tmp_path, "--rate", "1000", "--symbols", "6", "--opportunity-every-s", "0") as running:
        yield running


async def texts_after(exchange: ExchangeProcess, symbol: str, count: int, fault: str, **fields: object) -> list[str]:
    """Listen, ask for the fault, and return the next `count` texts."""
    async with (
        asyncio.timeout(PATIENCE_S),
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{exchange.ws_url}/ws/{symbol.lower()}@bookTicker") as ws,
    ):
        await listeners(exchange, 1)
        await asyncio.to_thread(lambda: exchange.fault(fault, symbol=symbol, **fields))
        return [str((await ws.receive()).data) for _ in range(count)]


async def listeners(exchange: ExchangeProcess, count: int) -> None:
    """Wait until the exchange knows so many connections: an upgrade is answered a moment before."""
    while len((await asyncio.to_thread(exchange.get, "/paper/status"))["connections"]) != count:
        pass


async def next_kind(ws: aiohttp.ClientWebSocketResponse, seconds_max: float) -> aiohttp.WSMsgType | None:
    """Return the type of the next message; None where none comes in time."""
    try:
        return (await asyncio.wait_for(ws.receive(), seconds_max)).type
    except TimeoutError:
        return None


def one_faulty(exchange: ExchangeProcess, fault: str, **fields: object) -> Any:
    return json.loads(asyncio.run(texts_after(exchange, "ETHBTC", 1, fault, **fields))[0])


def test_an_overflowing_quantity_does_not_fit_an_int64_count_of_1e_8(quiet: ExchangeProcess) -> None:
    true = quiet.get("/api/v3/ticker/bookTicker?symbol=ETHBTC")
    frame = one_faulty(quiet, "overflow_quantity")
    assert int(frame["B"].replace(".", "")) > 2**63 - 1
    assert (frame["b"], frame["a"], frame["A"]) == (true["bidPrice"], true["askPrice"], true["askQty"])
    assert int(one_faulty(quiet, "overflow_quantity", side="ask")["A"].replace(".", "")) > 2**63 - 1
    assert quiet.get("/api/v3/ticker/bookTicker?symbol=ETHBTC") == true


@pytest.mark.parametrize("fault", ["malformed_frame", "truncated_frame"])
@pytest.mark.parametrize("symbol", ["ETHBTC", NAME])
def test_malformed_and_truncated_frames_do_not_parse(quiet: ExchangeProcess, fault: str, symbol: str) -> None:
    for text in asyncio.run(texts_after(quiet, symbol, 3, fault, n=3)):
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)
        assert text.startswith('{"u":')


def test_a_one_sided_frame_has_one_side_of_zeros_and_a_crossed_one_its_sides_exchanged(quiet: ExchangeProcess) -> None:
    true = quiet.get("/api/v3/ticker/bookTicker?symbol=ETHBTC")
    frame = one_faulty(quiet, "one_sided", side="ask")
    assert (frame["a"], frame["A"], frame["b"]) == ("0.00000000", "0.00000000", true["bidPrice"])
    assert float(one_faulty(quiet, "one_sided", side="bid")["B"]) == 0
    crossed = one_faulty(quiet, "crossed")
    assert float(crossed["b"]) > float(crossed["a"])


def test_every_frame_at_fault_takes_a_higher_update_id(quiet: ExchangeProcess) -> None:
    stands_at = quiet.get("/api/v3/depth?symbol=ETHBTC")["lastUpdateId"]
    crossed = [json.loads(text)["u"] for text in asyncio.run(texts_after(quiet, "ETHBTC", 3, "crossed", n=3))]
    assert stands_at < crossed[0] < crossed[1] < crossed[2]


def test_a_duplicate_is_the_last_frame_sent_byte_for_byte_whatever_the_book_does_meanwhile(
    busy: ExchangeProcess,
) -> None:
    async def check() -> None:
        async with (
            asyncio.timeout(PATIENCE_S),
            aiohttp.ClientSession() as session,
            session.ws_connect(busy.ws_url + "/ws/btcusdt@bookTicker") as ws,
        ):
            last = str((await ws.receive()).data)
            await asyncio.to_thread(lambda: busy.fault("silence", symbol="BTCUSDT", seconds=60))
            heard_at = busy.get("/api/v3/depth?symbol=BTCUSDT")["lastUpdateId"]
            await asyncio.to_thread(
                wait_until,
                lambda: busy.get("/api/v3/depth?symbol=BTCUSDT")["lastUpdateId"] > heard_at,
                PATIENCE_S,
                lambda: "the silenced book stands still",
            )
            assert await asyncio.to_thread(lambda: busy.fault("duplicate", symbol="BTCUSDT", n=3)) == 3
            await asyncio.to_thread(lambda: busy.fault("crossed", symbol="BTCUSDT"))
            texts = [last]
            while float(json.loads(texts[-1])["b"]) < float(json.loads(texts[-1])["a"]):
                texts.append(str((await ws.receive()).data))
            assert texts[-5:-1] == [texts[-2]] * 4
            assert len(set(texts)) == len(texts) - 3

    asyncio.run(check())


def test_a_listener_who_had_no_frame_gets_no_duplicate(quiet: ExchangeProcess) -> None:
    assert quiet.fault("duplicate", symbol="BNBBTC") == 0

    async def first_text() -> str:
        async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as session:
            url = quiet.ws_url + "/ws/bnbbtc@bookTicker"
            async with session.ws_connect(url) as early:
                await listeners(quiet, 1)
                await asyncio.to_thread(lambda: quiet.fault("crossed", symbol="BNBBTC"))
                crossed = str((await early.receive()).data)
                async with session.ws_connect(url) as late:
                    await listeners(quiet, 2)
                    assert await asyncio.to_thread(lambda: quiet.fault("duplicate", symbol="BNBBTC")) == 1
                    assert (await early.receive()).data == crossed
                    await asyncio.to_thread(lambda: quiet.fault("one_sided", symbol="BNBBTC"))
                    return str((await late.receive()).data)

    assert float(json.loads(asyncio.run(first_text()))["b"]) == 0


def test_a_silent_symbol_is_heard_of_by_rest_only_until_the_silence_ends(busy: ExchangeProcess) -> None:
    async def check() -> None:
        async with (
            asyncio.timeout(PATIENCE_S),
            aiohttp.ClientSession() as session,
            session.ws_connect(busy.ws_url + "/ws/btcusdt@bookTicker/ethusdt@bookTicker") as ws,
        ):
            while json.loads((await ws.receive()).data)["s"] != "BTCUSDT":
                pass
            await asyncio.to_thread(lambda: busy.fault("silence", symbol="BTCUSDT", seconds=1.5))
            before = (await asyncio.to_thread(busy.get, "/api/v3/depth?symbol=BTCUSDT"))["lastUpdateId"]
            last_heard = first_again = others = 0
            while not first_again:
                frame = json.loads((await ws.receive()).data)
                if frame["s"] == "ETHUSDT":
                    others += 1
                elif frame["u"] <= before:
                    last_heard = frame["u"]
                else:
                    first_again = frame["u"]
            assert others > 50
            assert first_again - max(before, last_heard) > 100  # ids of all symbols: it was silent for long

    asyncio.run(check())
    status = busy.get("/paper/status")
    assert status["faults"]["silence"] == 1
    assert status["faults"]["frames_withheld"] > 20


def test_dropped_connections_end_without_a_close_frame(busy: ExchangeProcess) -> None:
    async def check() -> None:
        async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as session:
            sockets = [await session.ws_connect(busy.ws_url + "/ws/ethbtc@bookTicker") for _ in range(2)]
            number = (await asyncio.to_thread(busy.get, "/paper/status"))["connections"][0]["number"]
            assert await asyncio.to_thread(lambda: busy.fault("drop", connection=number)) == 1
            assert await asyncio.to_thread(lambda: busy.fault("drop")) == 1
            for ws in sockets:
                while (message := await ws.receive()).type is aiohttp.WSMsgType.TEXT:
                    pass
                assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
                assert ws.close_code in (None, 1006)

    asyncio.run(check())
    assert busy.get("/paper/status")["counters"]["dropped_fault"] == 2


def test_a_half_open_connection_stays_up_and_says_nothing_more(busy: ExchangeProcess) -> None:
    async def check() -> None:
        async with (
            asyncio.timeout(PATIENCE_S),
            aiohttp.ClientSession() as session,
            session.ws_connect(busy.ws_url + "/ws/ethbtc@bookTicker", autoping=False) as ws,
        ):
            await ws.receive()
            assert await asyncio.to_thread(lambda: busy.fault("half_open")) == 1
            await ws.ping(b"there?")
            await asyncio.to_thread(
                wait_until,
                lambda: busy.get("/paper/status")["counters"].get("frames_muted", 0) > 50,
                PATIENCE_S,
                lambda: "nothing was muted",
            )
            # What was on its way is read first; then nothing comes, no pong either.
            heard = set()
            while (kind := await next_kind(ws, 0.3)) is not None:
                heard.add(kind)
            assert heard <= {aiohttp.WSMsgType.TEXT}
            assert busy.get("/paper/status")["connections"][0]["muted"] is True

    asyncio.run(check())


@pytest.mark.parametrize("code", [429, 418])
def test_requests_and_upgrades_are_refused_as_often_as_asked(quiet: ExchangeProcess, code: int) -> None:
    async def upgrade() -> int:
        async with aiohttp.ClientSession() as session:
            try:
                await session.ws_connect(quiet.ws_url + "/ws/ethbtc@bookTicker")
            except aiohttp.WSServerHandshakeError as error:
                return error.status
        return 101

    quiet.fault("http_status", status=code, n=2, retry_after_s=7)
    status, headers, reply = quiet.request("/api/v3/ping")
    assert (status, headers["Retry-After"], reply["code"]) == (code, "7", -1003)
    assert asyncio.run(upgrade()) == code
    assert quiet.get("/api/v3/ping") == {}


@pytest.mark.parametrize(
    "body",
    [
        {"fault": "earthquake"},
        {"fault": "silence", "symbol": "BTCUSDT"},
        {"fault": "crossed", "symbol": "BTCUSDT", "n": 0},
        {"fault": "crossed", "symbol": "BTCUSDT", "colour": "red"},
        {"fault": "http_status", "status": 200},
        {"fault": "crossed", "symbol": "NOSUCH"},
        [],
    ],
)
def test_a_fault_that_is_not_in_the_table_is_refused(quiet: ExchangeProcess, body: object) -> None:
    status, _, reply = quiet.request("/paper/fault", body)
    assert status == 400
    assert reply["code"] in (-1130, -1121)
