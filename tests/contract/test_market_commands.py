"""`book`, `cycle`, `opportunities`, `latency`, `alarms`: words, forms, exit codes, with an engine and without."""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import run
from actors.adapters.image_file import FeedSlot, open_image, remove_image
from kernels.book_image import FeedWriter, RowStatus
from kernels.exchange_info import Symbol
from tests.chaos.engine_process import ROOT
from tests.contract.conftest import MadeRun

FIXTURES = Path(__file__).parent / "fixtures"
FILES = ("--exchange-info", FIXTURES / "exchangeInfo.json", "--rows", FIXTURES / "bookTicker.json")
CYCLE = "BTCUSDT:BUY,ETHBTC:BUY,ETHUSDT:SELL"

Said = tuple[int, str, str]
Command = Callable[..., Said]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run one in this process: exit code, what it printed, what it complained."""

    def call(*arguments: object) -> Said:
        capsys.readouterr()
        try:
            code = run.main([str(one) for one in arguments])
        except SystemExit as ended:
            code = int(str(ended.code or 0))
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


# ---- where no engine is


@pytest.mark.parametrize("line", ["book BTCUSDT", f"cycle {CYCLE}", "opportunities", "latency", "alarms"])
def test_without_a_run_directory_each_says_how_to_start_one(command: Command, tmp_path: Path, line: str) -> None:
    code, out, error = command(*line.split(), "--set", f"run.run_dir={tmp_path / 'none'}")
    assert code == 69
    assert "Remedy" in error
    assert "make run" in error
    assert not out


# ---- cycle, from files


def test_each_step_of_a_cycle_is_shown_as_worked_by_hand(command: Command) -> None:
    """1000 / 50010 is 0.01999 in lots; less 0.1 % 0.01997001; that buys 0.3325 at 0.06006; and so on."""
    code, out, _ = command("cycle", CYCLE, *FILES)
    assert code == 0
    for words in (
        "quantity 0.01999 BTC (lot 0.00001", "spends   999.6999 USDT", "receives 0.01997001 BTC, fee 0.00001999 BTC",
        "quantity 0.3325 ETH", "spends   0.01996995 BTC", "residual 0.00000006 BTC of the leg before",
        "spends   0.3321 ETH", "receives 1005.256737 USDT, fee 1.006263 USDT", "gross  1.008789251141",
        "net    1.005558505107", "gains 5.556837 USDT", "an opportunity",
    ):  # fmt: skip
        assert words in out


def test_a_program_gets_the_same_decision_as_json(command: Command) -> None:
    code, out, _ = command("cycle", CYCLE, *FILES, "--json")
    told = json.loads(out)
    assert code == 0
    assert told["refusal"] is None
    assert told["net_return"] == "1.005558505107"
    assert [step["qty"] for step in told["steps"]] == [1_999_000, 33_250_000, 33_210_000]
    assert told["received"] - told["spent"] == 555_683_700


@pytest.mark.parametrize(
    ("legs", "settings", "words"),
    [
        ("BTCUSDT:BUY,BNBBTC:BUY,BNBUSDT:SELL", (), ("leg_not_live", "one_sided")),
        ("ETHUSDT:BUY,ETHBTC:SELL,BTCUSDT:SELL", (), ("no_gain", "loses")),
        (CYCLE, ("exchange.net_return_bps_min=60",), ("no_gain", "net_return_bps_min")),
        (CYCLE, ("exchange.start_amount_max=5",), ("below_min",)),
    ],
)
def test_why_a_cycle_is_refused_is_said(
    command: Command, legs: str, settings: tuple[str, ...], words: tuple[str, ...]
) -> None:
    sets = [part for one in settings for part in ("--set", one)]
    code, out, _ = command("cycle", legs, *FILES, *sets)
    assert code == 0
    for word in words:
        assert word in out


@pytest.mark.parametrize(
    ("legs", "code", "words"),
    [
        ("BTCUSDT:BUY,ETHBTC:SELL,ETHUSDT:SELL", 64, "leaves BTC, but leg 2 (ETHBTC:SELL) spends ETH; ETHBTC:BUY"),
        ("BTCUSDT:BUY,ETHBTC:BUY,BTCUSDT:SELL", 64, "right would be a leg that spends ETH"),
        ("BTCUSDT:BUY,ETHBTC:BUY,ETHBTC:SELL", 64, "leg 1, where the cycle closes, (BTCUSDT:BUY) spends USDT"),
        ("BTCUSDT:LONG,ETHBTC:BUY,ETHUSDT:SELL", 64, "the side is 'LONG'; right would be BUY or SELL"),
        ("BTCUSDT:buy,ETHBTC:BUY,ETHUSDT:SELL", 64, "BTCUSDT:BUY here"),
        ("BTCUSDT,ETHBTC:BUY,ETHUSDT:SELL", 64, "leg 1 is 'BTCUSDT'; right would be SYMBOL:SIDE"),
        ("BTCUSDT:BUY,ETHUSDT:SELL", 64, "a cycle has 3 or 4 legs"),
        ("", 64, "a cycle has 3 or 4 legs"),
        ("BTCUSD:BUY,ETHBTC:BUY,ETHUSDT:SELL", 1, "symbol 'BTCUSD' is not among the 6 that are listed; did you mean"),
        ("btcusdt:BUY,ETHBTC:BUY,ETHUSDT:SELL", 1, "did you mean BTCUSDT"),
    ],
)
def test_what_is_no_cycle_is_refused_with_what_would_be_right(
    command: Command, legs: str, code: int, words: str
) -> None:
    found, out, error = command("cycle", legs, *FILES)
    assert found == code
    assert words in error
    assert not out


def test_a_listing_without_rows_and_files_that_are_none_are_refused(command: Command, tmp_path: Path) -> None:
    code, _, error = command("cycle", CYCLE, *FILES[:2])
    assert (code, "go together" in error) == (64, True)
    broken = tmp_path / "rows.json"
    broken.write_text("{")
    code, _, error = command("cycle", CYCLE, *FILES[:3], broken)
    assert code == 1
    assert str(broken) in error


# ---- book, on an image of the test's own


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "engine.json").write_text(json.dumps({"run_id": "x", "pid": 1, "started_ns": 1}))
    yield folder
    remove_image(folder)


def writer_in(run_dir: Path) -> FeedWriter:
    symbols = [Symbol("BTCUSDT", "TRADING", "BTC", "USDT"), Symbol("ETHBTC", "TRADING", "ETH", "BTC")]
    mapped, _ = open_image(run_dir, symbols, [0, 0], [FeedSlot("spot.0.0", "feed.spot.0")], "venue")
    return FeedWriter(mapped.image, 0, 7)


def test_a_row_is_shown_as_it_stands_or_why_it_does_not_count(command: Command, run_dir: Path) -> None:
    writer, sets = writer_in(run_dir), ("--set", f"run.run_dir={run_dir}", "--set", "exchange.header_stale_ms=60000")
    now_ns = time.time_ns()
    writer.beat(now_ns, lag_ns=1_500_000)
    writer.write_row(0, 5_000_000_000_000, 150_000_000, 5_001_000_000_000, 2**63 - 1, 42, now_ns, quantity_capped=True)
    code, out, _ = command("book", "BTCUSDT", *sets, "--set", "exchange.age_ms_max=60000")
    assert code == 0
    for words in (
        "BTCUSDT (BTC/USDT)  live", "bid              50000  × 1.5", "ask              50010  ×", "capped", "update 42",
        "epoch 7", "feed.spot.0, connection spot.0.0: live", "lag 1.5 ms", "no ladder",
    ):  # fmt: skip
        assert words in out
    assert "never_seen: no frame of it has come yet" in command("book", "ETHBTC", *sets)[1]
    writer.mark_invalid(0, RowStatus.CROSSED)
    told = json.loads(command("book", "BTCUSDT", "--json", *sets)[1])
    assert (told["state"], told["bid"]) == ("crossed", "50000.00000000")
    assert "at or above the ask" in told["why"]
    writer.down()
    assert json.loads(command("book", "BTCUSDT", "--json", *sets)[1])["connection"]["state"] == "down"


def test_a_step_back_of_the_systems_clock_does_not_make_a_live_row_look_dead(command: Command, run_dir: Path) -> None:
    """The engine's clocks hold still until the system's has caught up; who looks from outside has the system's."""
    writer, sets = writer_in(run_dir), ("--set", f"run.run_dir={run_dir}")
    ahead_ns = time.time_ns() + 4 * 10**9
    writer.beat(ahead_ns)
    writer.write_row(0, 1, 1, 2, 1, 1, ahead_ns)
    told = json.loads(command("book", "BTCUSDT", "--json", *sets)[1])
    assert (told["state"], told["age_ms"], told["connection"]["beat_ms"]) == ("live", 0.0, 0.0)
    writer.beat(time.time_ns() + 60 * 10**9)
    assert json.loads(command("book", "BTCUSDT", "--json", *sets)[1])["connection"]["state"] == "stale"


def test_a_symbol_that_is_not_listed_and_an_image_that_is_not_there_are_said(command: Command, run_dir: Path) -> None:
    code, _, error = command("book", "BTCUSDT", "--set", f"run.run_dir={run_dir}")
    assert code == 69
    assert "no book image" in error
    writer_in(run_dir)
    code, out, error = command("book", "BTCUSD", "--set", f"run.run_dir={run_dir}")
    assert code == 1
    assert "did you mean BTCUSDT" in error
    assert not out


def test_a_watch_goes_on_until_it_is_interrupted(run_dir: Path) -> None:
    writer_in(run_dir)
    watching = subprocess.Popen(
        [sys.executable, "run.py", "book", "BTCUSDT", "--watch", "--json", "--set", f"run.run_dir={run_dir}"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert watching.stdout is not None
        for _ in range(2):
            assert json.loads(watching.stdout.readline())["symbol"] == "BTCUSDT"
        watching.send_signal(signal.SIGINT)
        _, error = watching.communicate(timeout=30)
    finally:
        watching.kill()
        watching.wait()
    assert watching.returncode == 0
    assert "Traceback" not in error


# ---- opportunities, from lines


def line(cycle: int, ns: int, net: str = "1.001") -> str:
    legs = [f"A{cycle}USDT:BUY", f"A{cycle}BTC:SELL", "BTCUSDT:SELL"]
    told = {"type": "OpportunityFound", "cycle": legs, "net_return": net, "start_asset": "USDT", "legs": []}
    return json.dumps(told | {"start_amount": "100.0", "end_amount": "100.1", "ts_event_ns": ns}) + "\n"


HOUR_NS = 3_600 * 10**9
NOON_NS = 1_723_118_400 * 10**9


@pytest.fixture
def lines(run_dir: Path) -> Path:
    folder = run_dir / "lines"
    folder.mkdir()
    (folder / "opportunities.jsonl.1").write_text("".join(line(1, NOON_NS + k * 10**9) for k in range(3)))
    recent = line(1, NOON_NS + HOUR_NS, "1.005") + line(2, NOON_NS + HOUR_NS + 1) + '{"cut off'
    (folder / "opportunities.jsonl").write_text(recent)
    return run_dir


def test_opportunities_are_summed_by_cycle_over_both_files(command: Command, lines: Path) -> None:
    code, out, _ = command("opportunities", "--json", "--set", f"run.run_dir={lines}")
    told = json.loads(out)
    assert code == 0
    assert (told["opportunities"], told["unreadable"]) == (5, 1)
    first = told["cycles"][0]
    assert (first["cycle"], first["count"], first["share_percent"]) == ("A1USDT:BUY A1BTC:SELL BTCUSDT:SELL", 4, 80.0)
    assert (first["best_net_return"], first["gain"]) == ("1.005", "0.4")
    assert (first["first_ns"], first["last_ns"]) == (NOON_NS, NOON_NS + HOUR_NS)
    text = command("opportunities", "--set", f"run.run_dir={lines}")[1]
    assert "5 opportunities on 2 cycles, 2024-08-08 12:00:00 to 2024-08-08 13:00:00 UTC" in text
    assert "1 unreadable" in text


@pytest.mark.parametrize(
    ("since", "count"), [("2024-08-08T12:30:00", 2), ("2024-08-08T14:30:00+02:00", 2), ("90s", 0), ("9999d", 5)]
)
def test_since_takes_a_time_or_a_span(command: Command, lines: Path, since: str, count: int) -> None:
    code, out, _ = command("opportunities", "--json", "--since", since, "--set", f"run.run_dir={lines}")
    assert code == 0
    assert json.loads(out)["opportunities"] == count


@pytest.mark.parametrize("arguments", [("--since", "yesterday"), ("--top", "9"), ("--top", "x")])
def test_what_cannot_be_meant_exits_with_64(command: Command, lines: Path, arguments: tuple[str, str]) -> None:
    code, _, error = command("opportunities", *arguments, "--set", f"run.run_dir={lines}")
    assert code == 64
    assert arguments[1] in error


SVG = "{http://www.w3.org/2000/svg}"


def drawn(command: Command, run_dir: Path, *arguments: object) -> ElementTree.Element:
    target = run_dir / "picture.svg"
    code, out, _ = command("opportunities", "--svg", target, *arguments, "--set", f"run.run_dir={run_dir}")
    assert code == 0
    assert str(target) in out
    return ElementTree.fromstring(target.read_text())


def texts(svg: ElementTree.Element) -> list[str]:
    return ["".join(one.itertext()) for one in svg.iter(f"{SVG}text")]


def bars(svg: ElementTree.Element) -> list[ElementTree.Element]:
    return [one for one in svg.iter(f"{SVG}rect") if one.find(f"{SVG}title") is not None]


def test_a_picture_of_nothing_says_so(command: Command, run_dir: Path) -> None:
    svg = drawn(command, run_dir)
    assert "no opportunities" in texts(svg)
    assert not bars(svg)


def test_a_picture_of_one_has_one_bar_axes_and_a_legend(command: Command, run_dir: Path) -> None:
    (run_dir / "lines").mkdir()
    (run_dir / "lines" / "opportunities.jsonl").write_text(line(1, NOON_NS))
    svg = drawn(command, run_dir)
    assert len(bars(svg)) == 1
    assert {"0", "1", "12:00:00", "A1USDT:BUY A1BTC:SELL BTCUSDT:SELL 1"} <= set(texts(svg))


def test_a_picture_of_a_hundred_thousand_stays_readable_and_loses_none(command: Command, run_dir: Path) -> None:
    (run_dir / "lines").mkdir()
    content = "".join(line(k * k % 97 % 14, NOON_NS + k * 700_000_000) for k in range(100_000))
    (run_dir / "lines" / "opportunities.jsonl").write_text(content)
    svg = drawn(command, run_dir, "--top", "5")
    found = bars(svg)
    assert len({one.get("x") for one in found}) <= 60
    assert len({one.get("fill") for one in found}) == 6
    told = [re.search(r": (\d+) on", one.findtext(f"{SVG}title") or "") for one in found]
    assert sum(int(one[1]) for one in told if one) == 100_000
    width, height = float(svg.get("width", "0")), float(svg.get("height", "0"))
    for one in [*svg.iter(f"{SVG}rect"), *svg.iter(f"{SVG}text")]:
        assert 0 <= float(one.get("x", "0")) <= width
        assert 0 <= float(one.get("y", "0")) + float(one.get("height", "0")) <= height
    labels = [one for one in svg.iter(f"{SVG}text") if re.fullmatch(r"(\d\d-\d\d )?\d\d:\d\d", one.text or "")]
    places = [float(one.get("x", "0")) for one in labels]
    assert len(places) >= 3
    assert min(b - a for a, b in itertools.pairwise(places)) >= 60
    assert (run_dir / "picture.svg").stat().st_size < 200_000


# ---- against a running engine


@pytest.mark.process
def test_a_running_engine_shows_rows_cycles_opportunities_latencies_and_alarms(
    engine: MadeRun, command: Command, tmp_path: Path
) -> None:
    at = ("--set", f"run.run_dir={engine.run_dir}")
    engine.wait(lambda: json.loads(command("opportunities", "--json", *at)[1])["opportunities"] > 0, 90, "one")
    engine.wait(lambda: "3 frame to told" in command("latency", *at)[1], 90, "what it took, on the board")
    row = json.loads(command("book", "BTCUSDT", "--json", *at)[1])
    assert float(row["bid"]) < float(row["ask"])
    assert row["connection"]["role"] == "feed.spot.0"
    cycle = json.loads(command("opportunities", "--json", *at)[1])["cycles"][0]["cycle"].replace(" ", ",")
    decision = json.loads(command("cycle", cycle, "--json", *at)[1])
    assert [f"{leg['symbol']}:{leg['side']}" for leg in decision["legs"]] == cycle.split(",")
    assert command("opportunities", "--svg", tmp_path / "o.svg", *at)[0] == 0
    stages = {one["stage"]: one for one in json.loads(command("latency", "--json", *at)[1])["stages"]}
    assert {"1 frame to row", "3 frame to told"} <= set(stages)
    for one in stages.values():
        assert 0 < one["p50_us"] <= one["p90_us"] <= one["p99_us"] <= one["p999_us"] <= one["max_us"]
        assert one["count"] > 0
    assert "1 frame to row" in command("latency", *at)[1]
    code, out, _ = command("alarms", "--json", *at)
    assert code == 0
    assert set(json.loads(out)) == {"standing", "history"}
    assert command("alarms", *at)[0] == 0


def test_clearing_the_terminal_is_left_to_terminals(command: Command, run_dir: Path) -> None:
    writer_in(run_dir)
    assert "\x1b" not in command("book", "BTCUSDT", "--set", f"run.run_dir={run_dir}")[1]
