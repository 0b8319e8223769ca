"""Recordings come out of the socket as they went into the file."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import msgspec
import pytest

from tests.venues.exchange_process import ExchangeProcess
from venues.exchange.market import Filter, Listing
from venues.exchange.recorded import RecordingCounters, parse_line, read_frames

NAME = "币安人生"
PATIENCE_S = 60.0


def ticker(stream: str, update_id: int, bid: str, ask: str) -> str:
    symbol = stream.split("@")[0].upper()
    return (
        f'{{"stream":"{stream}","data":{{"u":{update_id},"s":"{symbol}","b":"{bid}","B":"1.00000000",'
        f'"a":"{ask}","A":"2.00000000"}}}}'
    )


BTC = [ticker("btcusdt@bookTicker", 100 + number, f"{number}.00000000", f"{number}.50000000") for number in range(1, 9)]
OTHER = [ticker(f"{NAME}usdt@bookTicker", number, f"0.{number:08d}", "0.90000000") for number in range(1, 9)]
DEPTH = '{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","s":"BTCUSDT","U":1,"u":2,"b":[],"a":[]}}'
STREAMS = f"btcusdt@bookTicker/{NAME}usdt@bookTicker/btcusdt@depth@100ms"


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    """An exchangeInfo reply of three symbols, one of them halted; packed."""
    tick = Filter("PRICE_FILTER", tick_size="0.00000001")
    entries = [
        Listing("BTCUSDT", "TRADING", "BTC", "USDT", (tick,)),
        Listing(f"{NAME}USDT", "TRADING", NAME, "USDT", (tick,)),
        Listing("OLDUSDT", "BREAK", "OLD", "USDT"),
    ]
    path = tmp_path / "info.json.gz"
    path.write_bytes(gzip.compress(msgspec.json.encode({"timezone": "UTC", "symbols": entries})))
    return path


@pytest.fixture
def recordings(tmp_path: Path) -> list[Path]:
    """Two recordings of the same second: nanoseconds and packed; seconds with a colon, an address and a torn end."""
    one, two = tmp_path / "one.gz", tmp_path / "two.txt"
    lines = [f"{10**18 + 10**8 * number} {frame}" for number, frame in enumerate([*BTC, DEPTH])]
    one.write_bytes(gzip.compress("\n".join(lines).encode()))
    stamps = [f"1000000000.{number}5: {frame}" for number, frame in enumerate(OTHER)]
    two.write_text("\n".join(["wss://somewhere/stream?streams=x <-> 1000000000.0", *stamps, stamps[0][:-9]]))
    return [one, two]


async def collect(exchange: ExchangeProcess, path: str, count: int) -> list[str]:
    async with (
        asyncio.timeout(PATIENCE_S),
        aiohttp.ClientSession() as session,
        session.ws_connect(exchange.ws_url + path, max_msg_size=0) as ws,
    ):
        return [str((await ws.receive()).data) for _ in range(count)]


def merged() -> list[str]:
    """What both recordings say, in order of time: 0.1 s apart each, the second's in the middle between the first's."""
    both = [frame for pair in zip(BTC, OTHER, strict=True) for frame in pair]
    return [*both, DEPTH]


@pytest.mark.process
@pytest.mark.parametrize("pace", ["0", "10"])
def test_two_recordings_are_merged_by_time_and_leave_byte_for_byte(
    tmp_path: Path, listing: Path, recordings: list[Path], pace: str
) -> None:
    options = ["--exchange-info", str(listing), "--pace", pace, "--record", *map(str, recordings)]
    with ExchangeProcess(tmp_path / "state", *options) as exchange:
        assert asyncio.run(collect(exchange, "/stream?streams=" + STREAMS, 17)) == merged()
        assert exchange.get("/paper/status")["recording"] == {
            "frames": 17,
            "depth_replies": 0,
            "lines_not_frames": 2,
            "ended": 1,
        }
        row = exchange.get("/api/v3/ticker/bookTicker?symbol=BTCUSDT")
        assert (row["bidPrice"], row["askPrice"]) == ("8.00000000", "8.50000000")
        assert exchange.get("/api/v3/depth?symbol=BTCUSDT")["lastUpdateId"] == 108


@pytest.mark.process
def test_a_raw_stream_of_a_recording_is_the_payload_inside(
    tmp_path: Path, listing: Path, recordings: list[Path]
) -> None:
    options = ["--exchange-info", str(listing), "--pace", "0", "--record", *map(str, recordings)]
    with ExchangeProcess(tmp_path / "state", *options) as exchange:
        frames = asyncio.run(collect(exchange, "/ws/btcusdt@bookTicker", 8))
    assert frames == [frame[len('{"stream":"btcusdt@bookTicker","data":') : -1] for frame in BTC]


@pytest.mark.process
def test_a_malformed_ticker_in_a_recording_is_played_as_it_is_and_leaves_the_row(tmp_path: Path, listing: Path) -> None:
    bad = '{"stream":"btcusdt@bookTicker","data":{"u":"x"}}'
    recording = tmp_path / "bad.txt"
    recording.write_text(f"1 {BTC[0]}\n2 {bad}\n")
    options = ["--exchange-info", str(listing), "--pace", "0", "--record", str(recording)]
    with ExchangeProcess(tmp_path / "state", *options) as exchange:
        assert asyncio.run(collect(exchange, "/stream?streams=btcusdt@bookTicker", 2)) == [BTC[0], bad]
        assert exchange.get("/api/v3/depth?symbol=BTCUSDT")["lastUpdateId"] == 101
        assert exchange.get("/paper/status")["counters"]["recorded_rows_unread"] == 1


@pytest.mark.process
def test_the_recorded_pace_is_kept(tmp_path: Path, listing: Path, recordings: list[Path]) -> None:
    options = ["--exchange-info", str(listing), "--pace", "2", "--record", *map(str, recordings)]
    with ExchangeProcess(tmp_path / "state", *options) as exchange:
        begun = time.monotonic()
        asyncio.run(collect(exchange, "/stream?streams=" + STREAMS, 17))
        # 0.8 s recorded: twice as fast is 0.4 s at the least; how much more it takes is the machine's affair.
        assert time.monotonic() - begun >= 0.4


@pytest.mark.process
def test_a_recording_can_wait_for_the_word(tmp_path: Path, listing: Path, recordings: list[Path]) -> None:
    async def check(exchange: ExchangeProcess) -> None:
        listening = asyncio.create_task(collect(exchange, "/stream?streams=" + STREAMS, 17))
        while not await asyncio.to_thread(lambda: exchange.get("/paper/status")["connections"]):
            assert not listening.done()
        assert exchange.get("/paper/status")["recording"]["frames"] == 0
        await asyncio.to_thread(exchange.request, "/paper/play", {})
        assert await listening == merged()

    options = ["--play-on", "command", "--pace", "0", "--exchange-info", str(listing)]
    with ExchangeProcess(tmp_path / "state", *options, "--record", *map(str, recordings)) as exchange:
        asyncio.run(check(exchange))


@pytest.mark.process
def test_a_snapshot_is_a_static_book_told_once_to_each_listener(tmp_path: Path, listing: Path) -> None:
    rows = [
        {"symbol": "BTCUSDT", "bidPrice": "9.1", "bidQty": "2.0", "askPrice": "9.2", "askQty": "3.0"},
        {"symbol": f"{NAME}USDT", "bidPrice": "0.0", "bidQty": "0.00000000", "askPrice": "0.0", "askQty": "0.00000000"},
    ]
    snapshot = tmp_path / "snapshot.json"
    snapshot.write_text(json.dumps(rows))
    with ExchangeProcess(tmp_path / "state", "--exchange-info", str(listing), "--record", str(snapshot)) as exchange:
        assert exchange.get("/api/v3/ticker/bookTicker?symbol=BTCUSDT") == rows[0]
        assert len(exchange.get("/api/v3/ticker/bookTicker")) == 3
        for _ in range(2):
            frames = asyncio.run(collect(exchange, f"/ws/btcusdt@bookTicker/{NAME}usdt@bookTicker", 2))
            first, second = map(json.loads, frames)
            assert (first["s"], first["b"], first["A"]) == ("BTCUSDT", "9.1", "3.0")
            assert (second["s"], second["B"]) == (f"{NAME}USDT", "0.00000000")
        info = exchange.get("/api/v3/exchangeInfo")
        assert [entry["status"] for entry in info["symbols"]] == ["TRADING", "TRADING", "BREAK"]


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"wss://x <-> 1.0", b'1 {"stream":"a@b","data":{"u":1', b'x {"stream":"a@b","data":{}}', b"1 {}"],
)
def test_a_line_that_holds_no_whole_frame_is_counted_and_not_played(line: bytes, tmp_path: Path) -> None:
    assert parse_line(line) is None
    path, counters = tmp_path / "one", RecordingCounters()
    path.write_bytes(line.strip() + b"\n" + f"5 {DEPTH}\n".encode())
    assert len(list(read_frames((path,), counters))) == 1
    assert (counters.frames, counters.lines_not_frames) == (1, 1)


@pytest.mark.data
@pytest.mark.process
def test_the_recorded_spot_streams_come_out_frame_for_frame(tmp_path: Path, recorded: Callable[[str], Path]) -> None:
    paths = [recorded(f"binance/streams/spot_{name}_20240808.gz") for name in ("btcusdt", "ethusdt")]
    expected: dict[str, list[str]] = {}
    others = 0
    for path in paths:
        for line in gzip.decompress(path.read_bytes()).decode().splitlines():
            frame = line.split(" ", 1)[1]
            if not frame.startswith('{"stream":'):
                others += 1  # a REST reply that was recorded between the frames
                continue
            expected.setdefault(frame[11 : frame.index('"', 11)], []).append(frame)
    count = sum(map(len, expected.values()))
    options = ["--exchange-info", str(recorded("binance/exchange_info/exchangeInfo_2023-03-02_full.json.gz"))]
    with ExchangeProcess(tmp_path, *options, "--pace", "0", "--record", *map(str, paths)) as exchange:
        frames = asyncio.run(collect(exchange, "/stream?streams=" + "/".join(expected), count))
        recording = exchange.get("/paper/status")["recording"]
    assert (recording["frames"], recording["depth_replies"], recording["lines_not_frames"]) == (count, others, 0)
    got: dict[str, list[str]] = {}
    for frame in frames:
        got.setdefault(frame[11 : frame.index('"', 11)], []).append(frame)
    assert got == expected


@pytest.mark.data
@pytest.mark.process
def test_the_recorded_snapshot_is_served_value_for_value(tmp_path: Path, recorded: Callable[[str], Path]) -> None:
    snapshot = recorded("binance/snapshots/bookTicker_2019-08-22.json")
    info = recorded("binance/exchange_info/exchangeInfo_2019-08-22_full.json.gz")
    with ExchangeProcess(tmp_path, "--exchange-info", str(info), "--record", str(snapshot)) as exchange:
        rows = json.loads(snapshot.read_bytes())
        assert sorted(exchange.get("/api/v3/ticker/bookTicker"), key=lambda row: row["symbol"]) == sorted(
            rows, key=lambda row: row["symbol"]
        )
        assert (
            exchange.get("/api/v3/exchangeInfo")["symbols"] == json.loads(gzip.decompress(info.read_bytes()))["symbols"]
        )
