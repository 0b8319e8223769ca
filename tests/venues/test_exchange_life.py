"""Start, end, kill -9, start again: ids rise, the ledger goes on, and what cannot start says why."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import aiohttp
import pytest

from tests.venues.exchange_process import ROOT, ExchangeProcess, wait_until
from venues.exchange.settings import ExchangeSettings, SettingsError
from venues.exchange.state import ID_BLOCK, OpportunityLedger, StateError, StateFolder

PATIENCE_S = 60.0
FAST = ["--rate", "2000", "--symbols", "9", "--opportunity-every-s", "0.2", "--opportunity-ms", "80"]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "venues.exchange", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)


async def highest_id_seen(exchange: ExchangeProcess, frames: int) -> int:
    async with (
        asyncio.timeout(PATIENCE_S),
        aiohttp.ClientSession() as session,
        session.ws_connect(exchange.ws_url + "/ws/btcusdt@bookTicker/ethusdt@bookTicker") as ws,
    ):
        return max([int(json.loads((await ws.receive()).data)["u"]) for _ in range(frames)])


@pytest.mark.process
def test_after_kill_9_update_ids_go_on_rising_and_the_ledger_continues(tmp_path: Path) -> None:
    exchange = ExchangeProcess(tmp_path, *FAST)
    highest, told, port = 0, 0, None
    try:
        for epoch in range(3):
            exchange.restart()
            assert port in (None, exchange.port)
            port = exchange.port
            status = exchange.get("/paper/status")
            assert status["epoch"] == epoch
            assert exchange.get("/api/v3/depth?symbol=BTCUSDT")["lastUpdateId"] > highest
            highest = asyncio.run(highest_id_seen(exchange, 200))
            wait_until(
                lambda seen=told: exchange.get("/paper/opportunities")["closed"] >= seen + 2, PATIENCE_S, lambda: "none"
            )
            told = exchange.get("/paper/opportunities")["closed"]
            wait_until(lambda: exchange.get("/paper/opportunities")["standing"], PATIENCE_S, lambda: "none stands")
            exchange.kill9()
        exchange.start()
        ledger = exchange.ledger()
        last = exchange.get("/paper/opportunities")
    finally:
        assert exchange.stop() == 0
    assert [record["id"] for record in ledger] == list(range(1, len(ledger) + 1))
    ids = [record["opened_update_id"] for record in ledger]
    assert ids == sorted(ids)
    # Each kill found one standing (or, at the worst, just closed): what stood is called interrupted.
    assert last["interrupted"] >= 1
    assert all(record["state"] != "opened" for record in ledger if record["epoch"] < 3)


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_with_listeners_connected(tmp_path: Path, number: signal.Signals) -> None:
    async def check(exchange: ExchangeProcess) -> None:
        async with (
            asyncio.timeout(PATIENCE_S),
            aiohttp.ClientSession() as session,
            session.ws_connect(exchange.ws_url + "/ws/btcusdt@bookTicker") as ws,
        ):
            await ws.receive()
            os.kill(exchange.pid, number)
            while (message := await ws.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)

    exchange = ExchangeProcess(tmp_path, *FAST).start()
    assert json.loads((tmp_path / "exchange.json").read_bytes())["pid"] == exchange.pid
    asyncio.run(check(exchange))
    assert exchange.process is not None
    assert exchange.process.wait(PATIENCE_S) == 0
    assert not (tmp_path / "exchange.json").exists()
    assert exchange.output().startswith(f"exchange ready http://127.0.0.1:{exchange.port} pid {exchange.pid}")
    assert "Traceback" not in exchange.output()


@pytest.mark.process
def test_a_busy_port_is_named_with_the_remedy(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ended = run("--port", str(port), "--state", str(tmp_path))
    assert ended.returncode == 69
    assert f"port {port}" in ended.stderr
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.process
def test_a_state_folder_in_use_is_refused(tmp_path: Path) -> None:
    with ExchangeProcess(tmp_path, "--rate", "1"):
        ended = run("--port", "0", "--state", str(tmp_path))
    assert ended.returncode == 69
    assert "in use" in ended.stderr


@pytest.mark.process
def test_a_state_folder_that_cannot_be_made_is_refused_with_a_remedy() -> None:
    ended = run("--port", "0", "--state", "/proc/none/such")
    assert ended.returncode == 69
    assert "/proc/none/such" in ended.stderr
    assert "Remedy" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.process
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--symbols", "2"], "--symbols 2"),
        (["--record", "nosuch.gz", "--exchange-info", "nosuch.json"], "no such file"),
        (["--opportunity-ms", "5000"], "--opportunity-ms"),
        (["--port", "70000"], "--port 70000"),
        (["--record", __file__], "--exchange-info"),
        (["--exchange-info", __file__], "not what it should be"),
    ],
)
def test_a_setting_that_cannot_work_is_named(tmp_path: Path, options: list[str], words: str) -> None:
    ended = run("--port", "0", "--state", str(tmp_path), *options)
    assert ended.returncode == 78
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_exchange_never_leaves_the_loopback() -> None:
    with pytest.raises(SettingsError, match="loopback"):
        ExchangeSettings(host="0.0.0.0")


def test_ids_rise_over_block_ends_and_over_runs_that_never_said_goodbye(tmp_path: Path) -> None:
    first = StateFolder(tmp_path)
    ids = [first.next_update_id() for _ in range(ID_BLOCK + 3)]
    assert ids == list(range(1, ID_BLOCK + 4))
    with pytest.raises(StateError, match="in use"):
        StateFolder(tmp_path)
    first.close()
    second = StateFolder(tmp_path)
    assert second.next_update_id() > ids[-1]
    assert (first.epoch, second.epoch) == (0, 1)
    second.close()


def test_a_torn_last_line_of_the_ledger_is_cut_off_and_what_stood_is_called_interrupted(tmp_path: Path) -> None:
    ledger = OpportunityLedger(tmp_path, 0, 1)
    ledger.opened(["A:BUY", "B:SELL", "C:SELL"], "A", Fraction(1007, 1000), 5, 10)
    ledger.closed(6, 11)
    ledger.opened(["A:BUY", "B:SELL", "C:SELL"], "A", Fraction(4, 3), 7, 12)
    ledger.close()
    with ledger.path.open("ab") as file:
        file.write(b'{"id":3,"state":"ope')
    begun = time.time_ns()
    again = OpportunityLedger(tmp_path, 1, begun)
    assert again.counts == {"opened": 2, "closed": 1, "interrupted": 1}
    assert again.opened(["A:BUY"], "A", Fraction(2), 8, 13).id == 3
    again.close()
    records = [json.loads(line) for line in ledger.path.read_text().splitlines()]
    assert [(record["id"], record["state"]) for record in records] == [
        (1, "opened"),
        (1, "closed"),
        (2, "opened"),
        (2, "interrupted"),
        (3, "opened"),
    ]
    assert records[0]["gross_return"] == "1.007000000000"
    assert records[2]["gross_return"] == "1.333333333333"
    assert records[3]["closed_ns"] == begun


def test_the_ledger_begins_a_new_file_past_its_bound_and_its_ids_go_on(tmp_path: Path) -> None:
    ledger = OpportunityLedger(tmp_path, 0, 1, bytes_max=2_000)
    for number in range(20):
        ledger.opened(["A:BUY", "B:SELL", "C:SELL"], "A", Fraction(1007, 1000), number, 2 * number)
        ledger.closed(number + 1, 2 * number + 1)
    ledger.close()
    assert all(path.stat().st_size < 4_000 for path in tmp_path.glob("opportunities*"))
    assert len(list(tmp_path.glob("opportunities*"))) == 2
    again = OpportunityLedger(tmp_path, 1, 1, bytes_max=2_000)
    assert again.count == 20
    assert again.counts["interrupted"] == 0
    again.close()
