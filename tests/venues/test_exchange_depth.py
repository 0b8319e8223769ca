"""Depth: books that are never crossed, diffs that splice with any snapshot exactly, recorded depth as recorded."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.venues.exchange_books import LocalBook, sides_of
from tests.venues.exchange_process import ExchangeProcess
from venues.exchange.depth import DepthStreams, GeneratedBooks, parse_stream
from venues.exchange.frames import Row
from venues.exchange.generator import Generator, OpportunityPlan
from venues.exchange.hub import Hub
from venues.exchange.ladder import LEVELS_MAX, Ladder
from venues.exchange.market import SymbolRules, format_fixed8
from venues.exchange.recorded_depth import RecordedBooks
from venues.exchange.settings import ExchangeSettings
from venues.exchange.universe import made_up_universe

NAME = "币安人生"
PATIENCE_S = 30.0
OFTEN = OpportunityPlan(120, 40, 10, 30, 60)


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExchangeProcess]:
    options = ("--rate", "1000", "--symbols", "16", "--opportunity-every-s", "0.4", "--opportunity-ms", "100")
    with ExchangeProcess(tmp_path_factory.mktemp("exchange"), *options) as running:
        yield running


def rules(tick: int, step: int) -> SymbolRules:
    return SymbolRules("XUSDT", "X", "USDT", True, tick, step, step, 10**16, 0)


@given(
    bid=st.integers(1, 10**13),
    spread=st.integers(1, 10**6),
    tick=st.sampled_from([1, 100, 10**6]),
    step=st.sampled_from([1, 10**3, 10**8]),
    seed=st.integers(0, 5),
)
def test_a_book_has_its_top_is_never_crossed_and_stands_on_ticks_and_lots(
    bid: int, spread: int, tick: int, step: int, seed: int
) -> None:
    bid, ask = bid * tick, (bid + spread) * tick
    book = Ladder(seed, rules(tick, step), 5 * 10**9, 7 * 10**8).book(bid, 3 * step, ask, 5 * step)
    bids, asks = ([price for price, _ in side] for side in book)
    assert (book.bids[0], book.asks[0]) == ((bid, 3 * step), (ask, 5 * step))
    assert bids == sorted(set(bids), reverse=True)
    assert asks == sorted(set(asks))
    assert len(asks) == LEVELS_MAX
    assert 1 <= len(bids) <= LEVELS_MAX
    assert min(bids) > 0
    assert all(price % tick == 0 and quantity % step == 0 < quantity for side in book for price, quantity in side)
    assert Ladder(seed, rules(tick, step), 5 * 10**9, 7 * 10**8).book(bid, 3 * step, ask, 5 * step) == book


def test_a_side_without_quantity_is_empty() -> None:
    ladder = Ladder(1, rules(1, 1), 100, 100)
    assert ladder.book(100, 0, 101, 5).bids == []
    assert ladder.book(100, 5, 101, 0).asks == []


def row_of(update_id: int, top: tuple[int, int, int, int]) -> Row:
    return Row(update_id, *map(format_fixed8, top))


def spoken(seed: int, steps: int) -> tuple[list[tuple[str, dict[str, Any]]], list[dict[str, Any]]]:
    """Generate; return every depth frame (stream, payload), and the snapshot after every step. No sockets, no clock."""
    universe = made_up_universe(9, seed)
    generator, books = Generator(universe, OFTEN, seed, 0, window_steps=64), GeneratedBooks(universe, seed)
    names = [pair.rules.symbol for pair in universe.pairs]
    rows = {name: row_of(index + 1, generator.tops[index]) for index, name in enumerate(names)}
    hub, frames = Hub(ExchangeSettings()), []
    depth = DepthStreams(books, lambda _, stream, payload: frames.append((stream, json.loads(payload))), hub)
    wanted = ["btcusdt@depth@100ms", "btcusdt@depth", "btcusdt@depth5", "ethbtc@depth@100ms"]
    hub.subscribe(hub.add(asyncio.Transport(), True, 0.0), wanted)
    for stream in wanted:
        depth.watch(stream, rows)
    snapshots = []
    for number in range(1, steps + 1):
        step = generator.step()
        if step is not None:
            name = names[step.symbol_index]
            rows[name] = row_of(100 + number, generator.tops[step.symbol_index])
            if name in depth.watched:
                depth.note(name, rows[name])
        book = books.book("BTCUSDT", rows["BTCUSDT"])
        snapshots.append(
            {"lastUpdateId": rows["BTCUSDT"].update_id, "bids": texts(book.bids), "asks": texts(book.asks)}
        )
        for every, speed_ms in ((50, 100), (500, 1_000)):
            if number % every == 0:
                depth.end_interval(speed_ms)
    return frames, snapshots


def texts(side: list[tuple[int, int]]) -> list[list[str]]:
    return [[format_fixed8(price), format_fixed8(quantity)] for price, quantity in side]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stream", ["btcusdt@depth@100ms", "btcusdt@depth"])
def test_a_snapshot_of_any_moment_spliced_with_the_diffs_is_the_book_at_the_end_of_each(seed: int, stream: str) -> None:
    frames, snapshots = spoken(seed, 2_000)
    diffs = [payload for name, payload in frames if name == stream]
    truth = {snapshot["lastUpdateId"]: sides_of(snapshot) for snapshot in snapshots}
    assert all(later["U"] == earlier["u"] + 1 for earlier, later in pairwise(diffs))
    for at in range(0, 1_500, 37):
        book = LocalBook(snapshots[at])
        for diff in diffs:
            assert book.apply(diff), f"seed {seed}, snapshot after step {at + 1}"
            if book.diffs:
                assert book.sides == truth[book.last_id], f"seed {seed}, snapshot after step {at + 1}"
                assert max(book.sides[0]) < min(book.sides[1])
        assert book.diffs >= 1


def test_the_same_seed_gives_the_same_depth_and_another_seed_another() -> None:
    def digest(seed: int) -> str:
        frames = [(stream, {**payload, "E": 0}) for stream, payload in spoken(seed, 1_000)[0]]
        return hashlib.sha256(json.dumps(frames).encode()).hexdigest()

    assert digest(1) == digest(1) == "4d9c161f1904af78a57904b9b303a26cb0aa153cb53791303dbc36957ed43c41"
    assert digest(1) != digest(2)


def test_a_symbol_that_nobody_hears_any_more_costs_nothing_more() -> None:
    universe = made_up_universe(9, 1)
    hub = Hub(ExchangeSettings())
    depth = DepthStreams(GeneratedBooks(universe, 1), lambda *_: None, hub)
    rows = {pair.rules.symbol: row_of(1, (100, 1, 101, 1)) for pair in universe.pairs}
    for stream in ("btcusdt@depth", "btcusdt@depth20@100ms", "btcusdt@bookTicker", "nosuch@depth"):
        depth.watch(stream, rows)
    assert list(depth.watched) == ["BTCUSDT"]
    depth.end_interval(100)
    assert list(depth.watched) == ["BTCUSDT"]
    depth.end_interval(1_000)
    assert not depth.watched


@pytest.mark.parametrize(
    ("stream", "asked"),
    [
        ("btcusdt@depth", ("BTCUSDT", 0, 1000)),
        ("btcusdt@depth@100ms", ("BTCUSDT", 0, 100)),
        ("btcusdt@depth5", ("BTCUSDT", 5, 1000)),
        ("btcusdt@depth20@100ms", ("BTCUSDT", 20, 100)),
        (f"{NAME}usdt@depth10", (f"{NAME}USDT", 10, 1000)),
        ("btcusdt@depth7", None),
        ("btcusdt@depth5@10ms", None),
        ("btcusdt@depth@", None),
        ("btcusdt@bookTicker", None),
    ],
)
def test_depth_streams_are_told_from_other_names(stream: str, asked: tuple[str, int, int] | None) -> None:
    assert parse_stream(stream) == asked


async def next_data(ws: aiohttp.ClientWebSocketResponse) -> tuple[str, dict[str, Any]]:
    message = await ws.receive()
    assert message.type is aiohttp.WSMsgType.TEXT, message
    frame = json.loads(message.data)
    return frame["stream"], frame["data"]


@pytest.mark.process
@pytest.mark.parametrize("symbol", ["BTCUSDT", f"{NAME}USDT"])
def test_the_documented_procedure_gives_a_book_whose_top_is_the_book_ticker_of_each_update_id(
    exchange: ExchangeProcess, symbol: str
) -> None:
    async def check() -> None:
        diffs, tickers = f"{symbol.lower()}@depth@100ms", f"{symbol.lower()}@bookTicker"
        url = f"{exchange.ws_url}/stream?streams={quote(diffs)}/{quote(tickers)}"
        async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
            held: list[dict[str, Any]] = []
            tops: dict[int, dict[str, Any]] = {}
            while len(held) < 2:
                stream, data = await next_data(ws)
                if stream == diffs:
                    held.append(data)
                else:
                    tops[data["u"]] = data
            question = f"/api/v3/depth?symbol={quote(symbol)}&limit=1000"
            snapshot = await asyncio.to_thread(exchange.get, question)
            while snapshot["lastUpdateId"] < held[0]["U"]:
                snapshot = await asyncio.to_thread(exchange.get, question)
            book, compared = LocalBook(snapshot), 0
            assert all(book.apply(diff) for diff in held)
            while compared < 12:
                stream, data = await next_data(ws)
                if stream == tickers:
                    tops[data["u"]] = data
                    continue
                assert list(data) == ["e", "E", "s", "U", "u", "b", "a"]
                assert book.apply(data), "a diff is missing"
                if book.last_id in tops:
                    top = tops[book.last_id]
                    assert book.top() == tuple(Decimal(top[field]) for field in "bBaA")
                    compared += 1
                assert max(book.sides[0]) < min(book.sides[1])
                assert len(book.sides[0]) == len(book.sides[1]) == LEVELS_MAX

    asyncio.run(check())


@pytest.mark.process
def test_partial_streams_show_the_best_levels_at_each_interval(exchange: ExchangeProcess) -> None:
    streams = ["btcusdt@depth5@100ms", "btcusdt@depth10@100ms", "btcusdt@depth20@100ms", "btcusdt@depth5"]

    async def check() -> None:
        url = exchange.ws_url + "/stream?streams=" + "/".join(streams)
        seen: dict[str, dict[int, dict[str, Any]]] = {stream: {} for stream in streams}
        async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
            while len(seen[streams[2]]) < 12 or not seen[streams[3]]:
                stream, data = await next_data(ws)
                assert list(data) == ["lastUpdateId", "bids", "asks"]
                seen[stream][data["lastUpdateId"]] = data
        for update_id, widest in list(seen[streams[2]].items())[:-1]:
            assert len(widest["bids"]) == len(widest["asks"]) == 20
            for stream, levels in ((streams[0], 5), (streams[1], 10)):
                assert seen[stream][update_id] == {
                    **widest,
                    "bids": widest["bids"][:levels],
                    "asks": widest["asks"][:levels],
                }

    asyncio.run(check())


@pytest.mark.process
def test_rest_depth_gives_as_many_levels_as_asked_with_the_book_tickers_top(tmp_path: Path) -> None:
    with ExchangeProcess(tmp_path, "--rate", "0.001", "--symbols", "9") as still:
        whole = still.get("/api/v3/depth?symbol=ETHBTC")
        assert len(whole["bids"]) == len(whole["asks"]) == LEVELS_MAX
        for limit in (1, 5, 20, 5_000):
            reply = still.get(f"/api/v3/depth?symbol=ETHBTC&limit={limit}")
            assert reply == {**whole, "bids": whole["bids"][:limit], "asks": whole["asks"][:limit]}
        ticker = still.get("/api/v3/ticker/bookTicker?symbol=ETHBTC")
        assert [*whole["bids"][0], *whole["asks"][0]] == [
            ticker[field] for field in ("bidPrice", "bidQty", "askPrice", "askQty")
        ]


def reply(last_id: int, **sides: list[list[str]]) -> bytes:
    return json.dumps({"lastUpdateId": last_id, "bids": [], "asks": [], **sides}).encode()


def diff(first_id: int, last_id: int, b: list[list[str]], a: list[list[str]] = []) -> bytes:  # noqa: B006
    return json.dumps({"e": "depthUpdate", "s": "XY", "U": first_id, "u": last_id, "b": b, "a": a}).encode()


def test_a_recorded_book_is_served_as_recorded_and_carried_on_by_its_diffs() -> None:
    books = RecordedBooks()
    assert books.reply("XY", 5) is None
    assert books.take_reply("XY", reply(10, bids=[["1.50", "2"], ["1.4", "3.0"]], asks=[["1.6", "1"]]))
    assert json.loads(books.reply("XY", 1) or b"") == {
        "lastUpdateId": 10,
        "bids": [["1.50", "2"]],
        "asks": [["1.6", "1"]],
    }
    books.take_diff(diff(5, 9, [["1.5", "7"]]))
    books.take_diff(diff(9, 12, [["1.5", "0.00"], ["1.45", "4"]], [["1.6", "9"]]))
    books.take_diff(b"{}")
    assert json.loads(books.reply("XY", 5) or b"") == {
        "lastUpdateId": 12,
        "bids": [["1.45", "4"], ["1.4", "3.0"]],
        "asks": [["1.6", "9"]],
    }
    books.take_reply("XY", reply(11))
    assert json.loads(books.reply("XY", 5) or b"")["lastUpdateId"] == 12
    books.take_diff(diff(14, 15, [["1.5", "6"]]))
    assert books.reply("XY", 5) is None
    assert books.gaps == 1
    # The reply that was on its way meanwhile: what overtook it is applied.
    assert books.take_reply("XY", reply(13))
    assert json.loads(books.reply("XY", 5) or b"") == {"lastUpdateId": 15, "bids": [["1.5", "6"]], "asks": []}
    assert not books.take_reply("XY", b'{"lastUpdateId":1,"bids":[["x","1"]],"asks":[]}')


@pytest.mark.data
@pytest.mark.process
def test_recorded_depth_replies_are_served_value_for_value(tmp_path: Path, recorded: Callable[[str], Path]) -> None:
    names = ["LTCBTC", "REEFBTC", "SOLUSDT", "WINTRX"]
    paths = [recorded(f"binance/depth/{name}_limit_1000.json.gz") for name in names]
    info = recorded("binance/exchange_info/exchangeInfo_2021-08-26_full.json.gz")
    with ExchangeProcess(tmp_path, "--exchange-info", str(info), "--record", *map(str, paths)) as exchange:
        for name, path in zip(names, paths, strict=True):
            whole = json.loads(gzip.decompress(path.read_bytes()))
            assert exchange.get(f"/api/v3/depth?symbol={name}&limit=1000") == whole
            few = exchange.get(f"/api/v3/depth?symbol={name}&limit=5")
            assert few == {**whole, "bids": whole["bids"][:5], "asks": whole["asks"][:5]}


@pytest.mark.data
@pytest.mark.process
def test_a_recorded_stream_spliced_with_rest_is_the_book_of_its_own_replies(
    tmp_path: Path, recorded: Callable[[str], Path]
) -> None:
    path = recorded("binance/streams/spot_btcusdt_20240808.gz")
    lines = [line.split(b" ", 1)[1] for line in gzip.decompress(path.read_bytes()).splitlines()]
    replies = [LocalBook(json.loads(line)) for line in lines if line.startswith(b'{"lastUpdateId"')]
    diffs = [json.loads(line)["data"] for line in lines if line.startswith(b'{"stream":"btcusdt@depth@100ms"')]
    book = replies[0]
    assert all(book.apply(one) for one in diffs)
    info = recorded("binance/exchange_info/exchangeInfo_2023-03-02_full.json.gz")
    options = ["--exchange-info", str(info), "--pace", "0", "--play-on", "start", "--record", str(path)]
    with ExchangeProcess(tmp_path, *options) as exchange:
        while not (recording := exchange.get("/paper/status")["recording"])["ended"]:
            pass
        served = exchange.get("/api/v3/depth?symbol=BTCUSDT&limit=5000")
    assert recording["depth_replies"] == len(replies)
    assert served["lastUpdateId"] == book.last_id
    assert sides_of(served) == book.sides
