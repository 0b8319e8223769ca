"""Replays of hand-made recordings: exact figures, every frame accounted for, bad legs out, against a naive replay."""

from __future__ import annotations

import gzip
import json
import random
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest

from actors.adapters.recorded import RecordedFileError
from actors.offline import cycles_command, replay_command
from kernels.cycles import UnknownStart, build_index
from kernels.evaluate import Decision
from kernels.exchange_info import ExchangeInfoError, parse_exchange_info
from kernels.fees import FeeTable
from kernels.fixed8 import Fixed8Error
from kernels.recorded_line import LineKind, parse_line
from kernels.replay import Replay, ReplayReport
from tests.replay.listing import FAIR, NAMES, PAIRS, around, exchange_info, fair_lines, ticker
from tests.replay.naive_replay import naive_replay

FIXED_FORM = [
    "frames", "parsed", "rejected", "quantity_capped", "directed_cycles", "evaluations", "above_one_gross",
    "best_gross_return", "best_cycle", "opportunities",
]  # fmt: skip


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    path = tmp_path / "exchangeInfo.json.gz"
    path.write_bytes(gzip.compress(exchange_info()))
    return path


def recording(tmp_path: Path, lines: list[bytes], name: str = "stream") -> Path:
    path = tmp_path / name
    content = b"\n".join(lines) + b"\n"
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def snapshot(tmp_path: Path, changes: dict[str, tuple[str, str]] | None = None) -> Path:
    quotes = {name: around(FAIR[name]) for name in NAMES} | (changes or {})
    entries = [
        {"symbol": name, "bidPrice": bid, "bidQty": "10", "askPrice": ask, "askQty": "10"}
        for name, (bid, ask) in quotes.items()
    ]
    path = tmp_path / "snapshot.json"
    path.write_bytes(json.dumps(entries).encode())
    return path


def folded(lines: list[bytes], fee_e8: int = 0) -> Replay:
    replay = Replay(build_index(parse_exchange_info(exchange_info()), "USDT"), fees=FeeTable(fee_e8))
    for line in lines:
        replay.apply_line(parse_line(line))
    return replay


def test_the_report_has_the_fixed_form(tmp_path: Path, listing: Path) -> None:
    report = replay_command([snapshot(tmp_path)], listing, "USDT", "0")
    written = msgspec.json.decode(msgspec.json.encode(report))
    assert list(written) == FIXED_FORM
    assert isinstance(written["best_gross_return"], str)
    assert len(written["best_gross_return"].partition(".")[2]) == 12
    assert written["best_cycle"] in [list(path) for path in (report.best_cycle,)]
    assert written["rejected"] == {}


def test_a_mispriced_market_is_found_at_its_exact_return_and_only_without_too_high_a_fee(
    tmp_path: Path, listing: Path
) -> None:
    path = snapshot(
        tmp_path, {"BTCUSDT": ("29999", "30000"), "ETHBTC": ("0.0665", "0.0666"), "ETHUSDT": ("2010", "2011")}
    )
    found: list[Decision] = []
    report = replay_command([path], listing, "USDT", "0", on_opportunity=found.append)
    exact = Fraction(2010) / Fraction("0.0666") / 30000
    assert report.best_cycle == ("BTCUSDT:BUY", "ETHBTC:BUY", "ETHUSDT:SELL")
    assert Fraction(Decimal(report.best_gross_return or "0")) == Fraction(round(exact * 10**12), 10**12)
    assert report.above_one_gross == len([one for one in found if one.path()[0].endswith("USDT:BUY")])
    assert report.opportunities == len(found) > 0
    # 1.006006 less three fees of 10 bps is 1.0030, of 30 bps 0.9970.
    assert replay_command([path], listing, "USDT", "10").opportunities > 0
    assert replay_command([path], listing, "USDT", "30").opportunities == 0


def test_both_line_forms_notes_and_rest_replies_are_told_apart() -> None:
    frame = ticker("BTCUSDT", 1, "1", "2")
    assert parse_line(b"1723161253937085768 " + frame + b"\n") == (LineKind.FRAME, 1723161253937085768, frame)
    assert parse_line(b"1633998512.0633569: " + frame) == (LineKind.FRAME, 1633998512063356900, frame)
    assert parse_line(b"1633998512: " + frame) == (LineKind.FRAME, 1633998512 * 10**9, frame)
    assert parse_line(frame) == (LineKind.FRAME, 0, frame)
    assert parse_line(b'https://x/api -> 1.5: {"a": 1}') == (LineKind.FRAME, 1_500_000_000, b'{"a": 1}')
    for note in (b"", b"\n", b"wss://stream:9443/stream?streams=a <-> 1633998511.159679", b'configuration: {"a": 1}'):
        assert parse_line(note).kind is LineKind.NOTE
    for bad in (b"hello", b"12 ", b"12", b"-5 {}", b"1e5 {}", b"1.2.3: {}", b"9" * 50 + b" {}", b"wss://x", b": {}"):
        assert parse_line(bad).kind is LineKind.BAD


def test_every_line_is_accounted_for(tmp_path: Path, listing: Path) -> None:
    lines = [
        b"wss://stream:9443/stream?streams=btcusdt@bookTicker <-> 1000000000.5",
        *fair_lines(),
        b"",
        b"no time here",
        b'1000000000000001000 {"stream":"btcusdt@trade","data":{}}',
        b'1000000000000002000 {"stream":"ethusdt@bookTicker","data":{"u":',
        b"1000000000000003000 " + ticker("DOGEUSDT", 1, "1", "2"),
        b"1000000000000004000 " + ticker("BTCUSDT", 1, "1", "2"),
        b"1000000000000005000 " + ticker("BNBUSDT", 9, *around(FAIR["BNBUSDT"]), qty="9" * 20),
    ]
    report = replay_command([recording(tmp_path, lines)], listing, "USDT", "0")
    assert report.rejected == {
        "bad_line": 1, "not_book_ticker": 1, "not_json": 1, "stale_update_id": 1, "unknown_symbol": 1,
    }  # fmt: skip
    assert (report.frames, report.parsed, report.quantity_capped) == (12, 7, 1)
    assert report.frames == report.parsed + sum(report.rejected.values())


def test_the_stale_leg_raises_no_opportunity() -> None:
    # Field note 4: one leg's quantity did not fit, its frame was dropped, the leg froze while the others moved.
    lines = fair_lines()
    moved = {"BTCUSDT": "33000", "ETHUSDT": "2200", "BNBUSDT": "330"}
    for step in range(2, 50):
        for number, (name, price) in enumerate(moved.items()):
            capped = name == "ETHUSDT"
            frame = ticker(name, step, *around(price), qty="9" * 25 if capped else "10")
            lines.append(b"%d %b" % (10**18 + step * 10**9 + number, frame))
    everything = folded(lines).report()
    assert (everything.quantity_capped, everything.rejected) == (48, {})
    assert everything.above_one_gross == 0
    # The same story with a figure that cannot be read: the leg is out, so its cycles are skipped and counted.
    broken = [line.replace(b"9" * 25, b"oops") for line in lines]
    replay = folded(broken)
    report = replay.report()
    assert report.rejected == {"bad_qty": 48}
    assert report.above_one_gross == 0
    assert replay.evaluation_counters.skipped_invalid > 0
    kept = [line for line in broken if b"ETHUSDT" not in line] + lines[1:2]
    frozen = folded(sorted(kept, key=lambda line: parse_line(line).received_ns)).report()
    assert frozen.above_one_gross > 0, "a leg dropped in silence would have shone: the test can see it"


def test_a_leg_over_the_age_limit_is_not_used_and_without_a_limit_any_age_is(tmp_path: Path, listing: Path) -> None:
    lines = fair_lines()
    lines.append(b"%d %b" % (10**18 + 5 * 10**9, ticker("BTCUSDT", 2, *around(FAIR["BTCUSDT"]))))
    path = recording(tmp_path, lines)
    free = replay_command([path], listing, "USDT", "0")
    limited = replay_command([path], listing, "USDT", "0", age_ms_max=1000)
    assert free.best_gross_return is not None
    assert (limited.best_gross_return, limited.best_cycle) == (None, ())
    assert limited.evaluations < free.evaluations


def test_snapshot_rows_count_as_of_the_first_recorded_time(tmp_path: Path, listing: Path) -> None:
    line = b"%d %b" % (10**18, ticker("BTCUSDT", 2, *around(FAIR["BTCUSDT"])))
    paths = [recording(tmp_path, [line]), snapshot(tmp_path)]
    report = replay_command(paths, listing, "USDT", "0", age_ms_max=1000)
    assert (report.frames, report.best_gross_return is not None) == (7, True)


def test_streams_are_merged_by_time_and_nothing_coalesces(tmp_path: Path, listing: Path) -> None:
    lines = fair_lines() + [
        b"%d %b" % (10**18 + 10**6 * step, ticker(NAMES[step % 6], step + 2, *around(FAIR[NAMES[step % 6]])))
        for step in range(60)
    ]
    whole = replay_command([recording(tmp_path, lines)], listing, "USDT", "0")
    parts = [recording(tmp_path, lines[0::2], "even.gz"), recording(tmp_path, lines[1::2], "odd")]
    assert replay_command(parts, listing, "USDT", "0") == whole
    # Six cycles of three legs over six markets: each change after the first round touches three.
    assert whole.evaluations == 60 * 3 + 6


def test_the_replays_clock_never_goes_back() -> None:
    replay = folded([b"%d %b" % (20 * 10**9, line.split(b" ", 1)[1]) for line in fair_lines()])
    cheap = ticker("ETHBTC", 2, "0.0600", "0.0601")
    (found, *_) = replay.apply_line(parse_line(b"%d %b" % (10**9, cheap)))
    assert found.evaluated_ns == 20 * 10**9
    assert {leg.age_ns for leg in found.legs} == {0}


def test_a_gzip_file_that_breaks_off_is_replayed_as_far_as_it_goes_and_named(tmp_path: Path, listing: Path) -> None:
    chance = random.Random(7)
    lines = fair_lines() + [
        b"%d %b" % (10**18 + 10**6 * step, ticker("BTCUSDT", step + 2, f"{chance.random() + 29000:.8f}", "30001"))
        for step in range(2000)
    ]
    path = recording(tmp_path, lines, "cut.gz")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    warnings: list[str] = []
    report = replay_command([path], listing, "USDT", "0", warn=warnings.append)
    assert 6 < report.frames == report.parsed < len(lines)
    assert len(warnings) == 1
    assert str(path) in warnings[0]
    assert "break off" in warnings[0]


def test_a_snapshot_that_is_no_array_is_one_bad_line(listing: Path, tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    path.write_bytes(b'[{"symbol": "BTCUSDT"')
    report = replay_command([path], listing, "USDT", "0")
    assert (report.frames, report.rejected) == (1, {"bad_line": 1})


def test_what_cannot_be_replayed_is_refused_with_its_name(tmp_path: Path, listing: Path) -> None:
    path = snapshot(tmp_path)
    with pytest.raises(RecordedFileError, match="absent"):
        replay_command([tmp_path / "absent"], listing, "USDT")
    with pytest.raises(RecordedFileError, match="absent"):
        cycles_command(tmp_path / "absent")
    with pytest.raises(ExchangeInfoError, match=r"snapshot\.json"):
        cycles_command(path)
    with pytest.raises(UnknownStart, match="DOGE"):
        replay_command([path], listing, "DOGE")
    with pytest.raises(Fixed8Error, match="-1"):
        replay_command([path], listing, "USDT", "-1")
    empty = tmp_path / "empty"
    empty.write_bytes(b'{"symbols": []}')
    with pytest.raises(ValueError, match="no symbols"):
        replay_command([path], empty)
    cut = tmp_path / "cut.json.gz"
    cut.write_bytes(gzip.compress(exchange_info())[:-20])
    with pytest.raises(RecordedFileError, match=r"cut\.json\.gz.*break off"):
        cycles_command(cut)


def test_an_empty_recording_gives_an_empty_report(tmp_path: Path, listing: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    assert replay_command([empty], listing, "USDT") == ReplayReport(0, 0, {}, 0, 6, 0, 0, None, (), 0)


def random_lines(chance: random.Random, length: int) -> list[bytes]:
    """Quotes near the fair ones, tight enough that some cycles gain; now and then a faulty frame."""
    lines = []
    for step in range(length):
        name = chance.choice(NAMES)
        price = float(FAIR[name]) * (1 + chance.uniform(-0.004, 0.004))
        bid, ask = f"{price * 0.9995:.8f}", f"{price * 1.0005:.8f}"
        qty = f"{chance.choice([0.00000003, 0.01, 1, 250]) * chance.uniform(1, 3):.8f}"
        update_id = step + 1
        match chance.randrange(14):
            case 0:
                bid = "oops"
            case 1:
                qty = "0.00000000"
            case 2:
                bid, ask = ask, bid
            case 3:
                update_id = chance.randrange(1, step + 2)
        lines.append(b"%d %b" % (10**18 + step, ticker(name, update_id, bid, ask, qty)))
    return lines


@pytest.mark.parametrize("seed", range(12))
def test_a_naive_replay_agrees_on_every_figure(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    notional, fee_bps = chance.choice(["0.0", "0.0001"]), chance.choice(["0", "7.5", "10"])
    print(f"seed {seed}, min notional {notional}, fee {fee_bps} bps")
    lines = random_lines(chance, 300)
    listing = tmp_path / "listing"
    listing.write_bytes(exchange_info(notional=notional))
    report = replay_command([recording(tmp_path, lines)], listing, "USDT", fee_bps)
    naive = naive_replay(PAIRS, lines, "USDT", fee_bps, notional)
    for field in ("frames", "parsed", "directed_cycles", "evaluations", "above_one_gross", "opportunities"):
        assert getattr(report, field) == naive[field], field
    assert sum(report.rejected.values()) == naive["rejected"]
    best = naive["best_gross_return"]
    if best is None:
        assert report.best_gross_return is None
    else:
        assert isinstance(best, Fraction)
        assert Fraction(Decimal(report.best_gross_return or "0")) == Fraction(round(best * 10**12), 10**12)
        assert list(report.best_cycle) in naive["best_paths"]  # type: ignore[operator]
