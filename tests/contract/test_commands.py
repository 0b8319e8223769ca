"""Each command's exit code and words, good and bad, and the fixed forms of `cycles` and `replay`, exactly."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import run
from tests.chaos.engine_process import ROOT
from tests.contract.conftest import MadeRun

FIXTURES = Path(__file__).parent / "fixtures"
LISTING, BOOK = FIXTURES / "exchangeInfo.json", FIXTURES / "bookTicker.json"
SIGNAL = {"signal_id": "contract-1", "strategy": "contract", "symbol": "MSFT", "side": "BUY", "ttl_s": 30}

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


@pytest.mark.parametrize(
    "line",
    [
        "status",
        "status --json",
        "orders",
        "positions",
        "fills",
        "reconcile",
        "reconcile --now",
        "trace x",
        "halt why",
        "resume",
        "view",
        "signal FILE",
    ],
)
def test_a_command_that_needs_an_engine_says_how_to_start_one(command: Command, tmp_path: Path, line: str) -> None:
    (tmp_path / "signal.json").write_text(json.dumps(SIGNAL))
    name, *rest = line.replace("FILE", str(tmp_path / "signal.json")).split()
    code, out, error = command(name, *rest, "--set", f"run.run_dir={tmp_path / 'none'}")
    assert code == 69
    assert "Remedy" in error
    assert "make run" in error
    assert not out
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "ledger.nope=1"], "ledger.nope"),
        (["--set", "exchange.feebps=1"], "did you mean 'fee_bps'"),
        (["--set", "fund.fraction=2"], "fund.fraction"),
        (["--set", "nonsense"], "nonsense"),
        (["--config", "/nowhere.toml"], "/nowhere.toml"),
        (["--config", str(ROOT / "config" / "live.toml")], "gateway.account"),
    ],
)
@pytest.mark.parametrize("name", ["status", "doctor", "run"])
def test_settings_that_cannot_be_are_refused_by_name(
    command: Command, name: str, arguments: list[str], words: str
) -> None:
    code, _, error = command(name, *arguments)
    assert code == 78
    assert words in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "line",
    [
        *("cycles", "nonsense", "run --nonsense", "halt", "trace", "replay x", "exchange --bogus", "exchange --state="),
        *("flatten why --timeout-s nan", "flatten why --timeout-s -1", "replay x --exchange-info x --fee-bps -1"),
    ],
)
def test_a_command_line_that_cannot_be_meant_exits_with_64(command: Command, line: str) -> None:
    code, _, error = command(*line.split())
    assert code == 64
    assert "usage:" in error


def test_options_alone_mean_run_and_help_names_every_command(command: Command) -> None:
    assert command("--set", "ledger.nope=1")[0] == 78
    code, out, _ = command("--help")
    assert code == 0
    for name in (
        "run", "replay", "cycles", "signal", "status", "orders", "positions", "fills", "reconcile", "trace",
        "halt", "resume", "doctor",
        "exchange", "gateway",
    ):  # fmt: skip
        assert f"\n    {name}" in out


# ---- cycles and replay: the fixed forms


@pytest.mark.parametrize(("start", "directed"), [(("--start", "USDT"), 2), (("--start", "BNB"), 2), ((), 4)])
def test_cycles_has_its_fixed_form(command: Command, tmp_path: Path, start: tuple[str, ...], directed: int) -> None:
    packed = tmp_path / "listing.json.gz"
    packed.write_bytes(gzip.compress(LISTING.read_bytes()))
    for path in (LISTING, packed):
        code, out, _ = command("cycles", path, *start, "--json")
        assert code == 0
        assert out == f'{{"symbols":6,"trading":5,"triangles":2,"directed_cycles":{directed}}}\n'


@pytest.mark.parametrize(("fee_bps", "opportunities"), [("0", 1), ("10", 1), ("29", 1), ("30", 0)])
def test_replay_has_its_fixed_form(command: Command, fee_bps: str, opportunities: int) -> None:
    """By hand: 3030 / (50010 x 0.06006) = 1.008789251141, 29.2 bps a leg; one row is empty, one has one side."""
    code, out, _ = command(
        "replay", BOOK, "--exchange-info", LISTING, "--start", "USDT", "--fee-bps", fee_bps, "--json"
    )
    assert code == 0
    assert out.splitlines()[-1] == (
        '{"frames":6,"parsed":4,"rejected":{"empty_book":1,"one_sided":1},"quantity_capped":0,"directed_cycles":2,'
        '"evaluations":2,"above_one_gross":1,"best_gross_return":"1.008789251141",'
        f'"best_cycle":["BTCUSDT:BUY","ETHBTC:BUY","ETHUSDT:SELL"],"opportunities":{opportunities}}}'
    )


@pytest.mark.parametrize(("lengths", "directed"), [("[3]", 4), ("[4]", 2), ("[3, 4]", 6)])
def test_cycles_and_replay_take_cycle_lengths_from_the_settings(command: Command, lengths: str, directed: int) -> None:
    """Four of three legs; around BTC-USDT-ETH-BNB one of four in each direction."""
    override = ("--set", f"evaluator.cycle_lengths={lengths}", "--json")
    for line in (["cycles", LISTING], ["replay", BOOK, "--exchange-info", LISTING]):
        code, out, _ = command(*line, *override)
        assert (code, json.loads(out)["directed_cycles"]) == (0, directed)
    code, _, error = command("cycles", LISTING, "--set", "evaluator.cycle_lengths=[5]")
    assert code == 78
    assert "cycle_lengths" in error


def test_replay_takes_fees_from_the_settings_unless_they_are_given(command: Command) -> None:
    def opportunities(*more: str) -> int:
        code, out, _ = command("replay", BOOK, "--exchange-info", LISTING, "--start", "USDT", "--json", *more)
        assert code == 0
        return int(json.loads(out)["opportunities"])

    assert opportunities() == opportunities("--fee-bps", "10") == 1
    assert opportunities("--set", "exchange.fee_bps=40") == opportunities("--fee-bps", "40") == 0
    # Two legs of three at nothing leave it above one.
    fees = ("--set", "exchange.fee_bps=40", "--set", 'exchange.fees={"ETH*" = 0}')
    assert opportunities(*fees) == 1
    assert opportunities(*fees, "--fee-bps", "40") == 0
    token = ("--set", "exchange.fee_token=BNB", "--set", "exchange.fee_discount_percent=75")
    assert opportunities("--set", "exchange.fee_bps=40", *token) == 1


def test_for_a_person_both_say_the_same_by_the_line(command: Command) -> None:
    assert "triangles            2" in command("cycles", LISTING)[1]
    assert "best gross return    1.008789251141" in command("replay", BOOK, "--exchange-info", LISTING)[1]


@pytest.mark.parametrize(
    ("text", "words"), [(None, "No such file"), ("{", "exchangeInfo"), ("[]", "exchangeInfo"), ("", "exchangeInfo")]
)
def test_a_listing_that_is_missing_or_broken_is_named(
    command: Command, tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "listing.json"
    if text is not None:
        path.write_text(text)
    for line in (["cycles", path], ["replay", BOOK, "--exchange-info", path]):
        code, out, error = command(*line, "--json")
        assert code == 1
        assert str(path) in error
        assert words in error
        assert not out


def test_a_start_asset_that_is_not_listed_is_named(command: Command) -> None:
    code, _, error = command("cycles", LISTING, "--start", "NOPE")
    assert code == 1
    assert "NOPE" in error


def test_a_recording_that_breaks_off_is_replayed_as_far_as_it_goes(tmp_path: Path) -> None:
    frame = (
        '{"stream":"btcusdt@bookTicker","data":{"u":%d,"s":"BTCUSDT","b":"50000.0","B":"1.0","a":"50010.0","A":"1.0"}}'
    )
    lines = "".join(f"{10**18 + k} {frame % (k + 1)}\n" for k in range(20_000)).encode()
    packed = tmp_path / "stream.gz"
    packed.write_bytes(gzip.compress(lines)[:-5000])
    done = subprocess.run(
        [sys.executable, "run.py", "replay", packed, "--exchange-info", LISTING, "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert 0 < report["parsed"] < 20_000
    assert report["frames"] == report["parsed"] + sum(report["rejected"].values())
    assert str(packed) in done.stderr


# ---- on the recorded market

INFO = "binance/exchange_info/exchangeInfo_{}_full.json.gz"


@pytest.mark.data
@pytest.mark.parametrize(("day", "triangles", "directed"), [("2019-08-22", 833, 440), ("2021-08-26", 1869, 1578)])
def test_the_recorded_listings_have_their_known_cycles(
    command: Command, recorded: Callable[[str], Path], day: str, triangles: int, directed: int
) -> None:
    code, out, _ = command("cycles", recorded(INFO.format(day)), "--start", "USDT", "--json")
    report = json.loads(out)
    assert (code, report["triangles"], report["directed_cycles"]) == (0, triangles, directed)
    assert set(report) == {"symbols", "trading", "triangles", "directed_cycles"}


@pytest.mark.data
@pytest.mark.parametrize(("fee_bps", "opportunities"), [("0", 1), ("7.5", 0), ("10", 0)])
def test_the_recorded_snapshot_has_one_cycle_above_one_and_none_after_fees(
    command: Command, recorded: Callable[[str], Path], fee_bps: str, opportunities: int
) -> None:
    snapshot, listing = recorded("binance/snapshots/bookTicker_2019-08-22.json"), recorded(INFO.format("2019-08-22"))
    code, out, _ = command(
        "replay", snapshot, "--exchange-info", listing, "--start", "USDT", "--fee-bps", fee_bps, "--json"
    )
    report = json.loads(out.splitlines()[-1])
    assert code == 0
    assert (report["frames"], report["directed_cycles"], report["above_one_gross"]) == (595, 440, 1)
    assert report["best_gross_return"].startswith("1.00009976")
    assert report["opportunities"] == opportunities


@pytest.mark.data
def test_the_recorded_streams_replay_with_every_frame_accounted_for(
    command: Command, recorded: Callable[[str], Path]
) -> None:
    streams = [recorded(f"binance/streams/spot_{name}_20240808.gz") for name in ("btcusdt", "ethusdt")]
    listing = recorded(INFO.format("2021-08-26"))
    code, out, _ = command("replay", *streams, "--exchange-info", listing, "--start", "USDT", "--json")
    report = json.loads(out.splitlines()[-1])
    assert code == 0
    assert report["frames"] == report["parsed"] + sum(report["rejected"].values()) == 74_867


# ---- against a running engine


def at(engine: MadeRun) -> tuple[str, str]:
    return "--set", f"run.run_dir={engine.run_dir}"


@pytest.mark.process
def test_an_id_that_stands_nowhere_is_said_with_where_ids_are_from(engine: MadeRun, command: Command) -> None:
    code, _, error = command("trace", "no-such-id", *at(engine))
    assert code == 1
    assert "'no-such-id'" in error
    assert "run.py orders" in error


@pytest.mark.process
def test_a_trace_tells_of_one_signal_and_not_of_its_neighbours(engine: MadeRun, command: Command) -> None:
    engine.wait(lambda: len({row["signal_id"] for row in engine.orders().values()}) > 1, 90, "a second signal's orders")
    signal_id = str(next(iter(engine.orders().values()))["signal_id"])
    code, out, _ = command("trace", signal_id, *at(engine))
    assert code == 0
    received = [line for line in out.splitlines() if "SignalReceived" in line]
    assert len(received) == 1
    assert signal_id in received[0]


@pytest.mark.process
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not a signal"),
        ("", "no signal"),
        ("[1]", "not a signal"),
        (json.dumps(SIGNAL | {"side": "HOLD"}), "HOLD"),
        (json.dumps(SIGNAL | {"sied": "BUY"}), "did you mean 'side'"),
        (json.dumps([SIGNAL, SIGNAL | {"ttl_s": -1}]), "ttl_s"),
        (json.dumps(SIGNAL) + "\n{}\n", "missing"),
    ],
)
def test_a_file_that_holds_no_signal_publishes_none(
    engine: MadeRun, command: Command, tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "signal.json"
    path.write_text(text)
    code, out, error = command("signal", path, *at(engine))
    assert code == 1
    assert words in error
    assert "Remedy" in error
    assert not out


@pytest.mark.process
def test_a_signal_file_that_is_not_there_is_named(engine: MadeRun, command: Command, tmp_path: Path) -> None:
    code, _, error = command("signal", tmp_path / "none.json", *at(engine))
    assert code == 1
    assert "none.json" in error


@pytest.mark.process
def test_a_price_of_a_signal_reaches_the_engine_digit_by_digit(
    engine: MadeRun, command: Command, tmp_path: Path
) -> None:
    """No double holds this price; a file that went through one would be refused, or changed, in the last places."""
    path = tmp_path / "signal.json"
    text = json.dumps(SIGNAL | {"signal_id": "digits-1", "stop": 1, "take_profit": 2})
    path.write_text(text.replace('"take_profit": 2', '"take_profit": 90000000000.12345678'))
    assert command("signal", path, *at(engine))[0] == 0
    engine.wait(lambda: "digits-1" in engine.outcomes(), 90, "the outcome")
    assert engine.outcomes()["digits-1"]["figures"]["take_profit_px"] == "9000000000012345678"  # type: ignore[index]


@pytest.mark.process
@pytest.mark.parametrize("reason", ["", "  "])
def test_a_halt_without_a_reason_is_a_command_line_that_cannot_be_meant(
    engine: MadeRun, command: Command, reason: str
) -> None:
    code, _, error = command("halt", reason, *at(engine))
    assert code == 64
    assert "reason" in error
    assert engine.status().halt is None


@pytest.mark.process
def test_a_halt_is_shown_with_who_and_why_and_a_second_does_not_replace_it(engine: MadeRun, command: Command) -> None:
    try:
        assert command("halt", "first reason", *at(engine))[0] == 0
        assert "first reason" in command("halt", "second reason", *at(engine))[1]
        shown = json.loads(command("status", "--json", *at(engine))[1])["halt"]
        assert shown["reason"] == "first reason"
        assert os.environ.get("USER", "uid") in shown["by"]
        assert command("doctor", *at(engine))[0] == 1
    finally:
        assert command("resume", *at(engine))[0] == 0
    assert "there was no halt" in command("resume", *at(engine))[1]


@pytest.mark.process
def test_doctor_finds_nothing_wrong_with_the_paper_settings(engine: MadeRun, command: Command) -> None:
    code, out, _ = command("doctor", "--config", ROOT / "config" / "paper.toml", *at(engine))
    assert code == 0, out
    assert "FAIL" not in out
    for name in ("Python", "run directory", "disk", "fsync", "Redis server", "ledger", "bus", "halt"):
        assert f"ok    {name}: " in out


@pytest.mark.process
def test_what_programs_read_is_json(engine: MadeRun, command: Command) -> None:
    for name in ("status", "orders", "positions"):
        code, out, _ = command(name, "--json", *at(engine))
        assert code == 0
        assert json.loads(out)


def test_a_stopped_engine_is_said_not_to_answer(command: Command, tmp_path: Path) -> None:
    """Its run directory is there, its servers are not."""
    (tmp_path / "signal.json").write_text(json.dumps(SIGNAL))
    gone = {
        "run_id": "x",
        "pid": 1,
        "started_ns": 1,
        "ledger_url": f"unix://{tmp_path}/no",
        "bus_url": f"unix://{tmp_path}/no",
    }
    (tmp_path / "engine.json").write_text(json.dumps(gone))
    for line in (["status"], ["orders"], ["trace", "x"], ["signal", tmp_path / "signal.json"]):
        code, _, error = command(*line, "--set", f"run.run_dir={tmp_path}")
        assert code == 69, line
        assert "does not answer" in error
        assert "make run" in error


# ---- orders, fills and the reconciler


@pytest.mark.process
def test_orders_are_chosen_by_state_symbol_and_intent(engine: MadeRun, command: Command) -> None:
    engine.wait(engine.orders, 90, "an order")
    every = json.loads(command("orders", "--json", *at(engine))[1])
    one = every[0]
    for name, wanted in (("--symbol", one["symbol"]), ("--intent", one["intent_id"]), ("--intent", one["signal_id"])):
        rows = json.loads(command("orders", name, wanted, "--json", *at(engine))[1])
        assert one["client_order_id"] in {row["client_order_id"] for row in rows}
        assert all(wanted in (row["symbol"], row["intent_id"], row["signal_id"]) for row in rows)
    steps = one["history"]
    assert (steps[0]["state"], steps[-1]["state"]) == ("pre_sent", one["state"])
    assert all(isinstance(step["at_ns"], int) for step in steps)
    _, _, told = command("orders", "--intent", one["client_order_id"], *at(engine))[1].partition("\n\n")
    assert told.splitlines()[0].split()[-2:] == [one["client_order_id"], "pre_sent"]
    states = {row["state"] for row in json.loads(command("orders", "--open", "--json", *at(engine))[1])}
    assert states <= {"pre_sent", "pending", "unknown", "submitted", "partially_filled"}
    assert command("orders", "--symbol", "NOPE", *at(engine))[1] == "no orders\n"


@pytest.mark.process
def test_a_table_has_its_columns_one_below_the_other(engine: MadeRun, command: Command) -> None:
    code, out, _ = command("fills", *at(engine))
    head, *rows = out.splitlines()
    assert code == 0
    assert head.split()[:4] == ["exec_id", "time", "symbol", "side"]
    where = head.index("symbol")
    assert rows
    assert all(row[where - 1] == " " and row[where] != " " for row in rows)


@pytest.mark.process
def test_fills_say_what_each_cost_and_realized_and_are_those_of_the_orders(engine: MadeRun, command: Command) -> None:
    engine.wait(
        lambda: any(row["commission"] for row in json.loads(command("fills", "--json", *at(engine))[1])), 90, "a fill"
    )
    rows = json.loads(command("fills", "--json", *at(engine))[1])
    assert {row["client_order_id"] for row in rows} <= set(engine.orders())
    assert all("." in row["px"] or row["px"].isdigit() for row in rows)
    symbol = rows[0]["symbol"]
    chosen = json.loads(command("fills", "--symbol", symbol, "--since", "1d", "--json", *at(engine))[1])
    assert {row["symbol"] for row in chosen} == {symbol}
    assert command("fills", "--since", "2040-01-01", *at(engine))[1] == "no fills\n"
    code, _, error = command("fills", "--since", "soon", *at(engine))
    assert code == 64
    assert "soon" in error


@pytest.mark.process
def test_a_person_may_have_everything_compared_at_once(engine: MadeRun, command: Command) -> None:
    began_ns = time.time_ns()
    code, out, error = command("reconcile", "--now", "--json", *at(engine))
    view = json.loads(out)
    assert code == 0, (out, error)
    assert view["gate"] == "open"
    assert view["answered_ns"] >= began_ns
    assert view["read_full_ns"] >= began_ns
    assert (view["findings"], view["failed"]) == ([], [])
    assert "divergences: none" in command("reconcile", "--now", *at(engine))[1]


@pytest.mark.process
def test_an_order_placed_by_hand_stands_as_a_divergence_over_a_kill_until_it_is_gone(
    engine: MadeRun, command: Command
) -> None:
    def read(*options: str) -> tuple[int, dict[str, list[dict[str, object]]]]:
        code, out, _ = command("reconcile", *options, "--json", *at(engine))
        return code, json.loads(out)

    placed = engine.gateway("manual_order", symbol="IBM", action="BUY", qty="1", order_type="LMT", limit_px="1")
    order = placed["order"]
    assert isinstance(order, dict)
    perm_id = order["perm_id"]
    try:
        code, view = read("--now")
        (found,) = [one for one in view["findings"] if one["kind"] == "external_order"]
        assert (code, found["subject"], found["confirmed"], found["blocks"]) == (1, f"perm:{perm_id}", True, False)
        old = engine.pids()["reconciler"]
        os.kill(old, 9)
        engine.wait(lambda: engine.all_serve() and engine.pids()["reconciler"] != old, 90, "another reconciler")
        code, view = read("--now")
        (again,) = [one for one in view["findings"] if one["kind"] == "external_order"]
        assert (code, again["first_ns"]) == (1, found["first_ns"])
        assert again["last_ns"] > found["last_ns"]  # type: ignore[operator]
    finally:
        engine.gateway("cancel_order", perm_id=perm_id)
    code, view = read("--now")
    assert code == 0, view
    assert f"perm:{perm_id}" in {one["subject"] for one in view["cleared"]}
