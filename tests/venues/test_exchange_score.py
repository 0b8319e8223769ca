"""Found, missed and false are counted from the exchange's ledger and an engine's lines, by update ids alone."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from tests.venues.exchange_process import ROOT
from venues.exchange.market import UNIT
from venues.exchange.score import FoundLine, LegSeen, Score, read_ledger, score
from venues.exchange.state import OpportunityLedger, OpportunityRecord

CYCLE = ["AUSDT:BUY", "ABTC:SELL", "BTCUSDT:SELL"]
MS = 10**6
# What the legs' rows say: 1 / 2 * 3 * 1 at the touch.
ROWS = {"AUSDT": (1, 2), "ABTC": (3, 4), "BTCUSDT": (1, 2)}
GROSS = Fraction(3, 2)


def record(number: int, opened_ms: int, stood_ms: int, **changed: object) -> OpportunityRecord:
    """One on CYCLE by moving ABTC; its update ids are its times."""
    fields: dict[str, object] = {
        "id": number,
        "state": "closed",
        "cycle": CYCLE,
        "gross_return": "1.500000000000",
        "gross_return_exact": "3/2",
        "symbol": "ABTC",
        "opened_ns": opened_ms * MS,
        "closed_ns": (opened_ms + stood_ms) * MS,
        "opened_update_id": opened_ms,
        "closed_update_id": opened_ms + stood_ms,
        "epoch": 0,
    }
    return OpportunityRecord(**{**fields, **changed})  # type: ignore[arg-type]


def line(name: str, update_id: int, cycle: list[str] = CYCLE, **rows: tuple[int, int]) -> FoundLine:
    """What an engine says that saw `update_id` on ABTC."""
    legs = []
    for leg in cycle:
        symbol = leg.partition(":")[0]
        bid, ask = (ROWS | rows)[symbol]
        legs.append(LegSeen(leg, bid * UNIT, ask * UNIT, update_id if symbol == "ABTC" else 1))
    return FoundLine(name, tuple(legs))


def counts(scored: Score) -> tuple[int, int, int, int]:
    return scored.found, scored.missed, scored.false_lines, scored.found_lines


def test_found_missed_and_false_are_told_apart() -> None:
    ledger = [record(1, 100, 50), record(2, 200, 50), record(3, 300, 50)]
    scored = score(ledger, [line("a", 100), line("b", 320), line("c", 260)])
    assert counts(scored) == (2, 1, 1, 2)
    assert (scored.missed_ids, scored.false_ids) == ([2], ["c"])
    assert scored.opportunities == scored.found + scored.missed + scored.short + scored.unsettled


@pytest.mark.parametrize(("update_id", "true"), [(99, False), (100, True), (149, True), (150, False)])
def test_a_line_is_true_from_the_opening_frame_to_before_the_closing_one(update_id: int, true: bool) -> None:
    scored = score([record(1, 100, 50)], [line("a", update_id)])
    assert (scored.found_lines, scored.false_lines) == ((1, 0) if true else (0, 1))


def test_a_cycle_may_begin_at_any_leg_but_not_run_the_other_way_or_along_other_symbols() -> None:
    ledger = [record(1, 100, 50)]
    for turn in range(3):
        assert counts(score(ledger, [line("a", 100, CYCLE[turn:] + CYCLE[:turn])])) == (1, 0, 0, 1)
    other_way = ["ABTC:BUY", "AUSDT:SELL", "BTCUSDT:BUY"]
    elsewhere = ["ABTC:SELL", "BTCEUR:SELL", "AEUR:BUY"]
    assert score(ledger, [line("a", 100, other_way)]).false_lines == 1
    assert score(ledger, [line("a", 100, elsewhere, BTCEUR=(1, 1), AEUR=(1, 1))]).false_lines == 1


def test_what_stood_too_short_is_not_missed_and_what_still_stands_is_unsettled() -> None:
    ledger = [
        record(1, 100, 50),
        record(2, 200, 49),
        record(3, 300, 0, state="opened", closed_ns=0, closed_update_id=0),
        record(4, 400, 9_000, state="interrupted", closed_update_id=0),
    ]
    scored = score(ledger, [], stood_ms_min=50)
    assert (scored.missed_ids, scored.short, scored.unsettled) == ([1], 1, 2)
    assert score(ledger, [line("a", 350)]).found == 1


def test_two_lines_of_one_opportunity_find_it_once_and_a_stale_leg_is_told() -> None:
    scored = score([record(1, 100, 50)], [line("a", 100), line("b", 101, BTCUSDT=(2, 3))])
    assert counts(scored) == (1, 0, 0, 2)
    assert scored.mispriced == 1


def test_a_longer_cycle_through_the_moved_symbol_is_neither_found_nor_false() -> None:
    four = ["AUSDT:BUY", "ABTC:SELL", "BTCEUR:SELL", "EURUSDT:SELL"]
    scored = score([record(1, 100, 50)], [line("a", 100, four, BTCEUR=(1, 1), EURUSDT=(1, 1))])
    assert (scored.longer_lines, scored.found, scored.false_lines) == (1, 0, 0)


def test_only_what_opened_within_the_times_asked_is_missed() -> None:
    ledger = [record(1, 100, 50), record(2, 200, 50), record(3, 300, 50)]
    scored = score(ledger, [line("a", 100)], since_ns=200 * MS, until_ns=300 * MS)
    assert (scored.opportunities, scored.found, scored.missed_ids, scored.false_lines) == (1, 0, [2], 0)


def test_the_last_record_of_an_id_counts_over_both_files_of_a_ledger(tmp_path: Path) -> None:
    ledger = OpportunityLedger(tmp_path, 0, 1, bytes_max=1)
    for number in range(1, 4):
        ledger.opened(CYCLE, "ABTC", GROSS, number, number * 10)
        ledger.closed(number + 1, number * 10 + 5)
    ledger.close()
    with ledger.path.open("ab") as file:
        file.write(b'{"id":4,"sta')
    scored = score(read_ledger(ledger.path), [line("a", 32)])
    assert (scored.opportunities, scored.found) == (2, 1)  # of the first nothing is kept: two files are the bound


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "venues.exchange", "score", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.process
def test_the_command_prints_the_score_and_fails_where_something_was_missed_or_false(tmp_path: Path) -> None:
    ledger = OpportunityLedger(tmp_path, 0, 1)
    ledger.opened(CYCLE, "ABTC", GROSS, 100 * MS, 100)
    ledger.closed(150 * MS, 150)
    ledger.close()
    legs = [
        {"leg": leg, "bid_px": 1, "bid_qty": 1, "ask_px": 1, "ask_qty": 1, "venue_update_id": 120, "age_ns": 5}
        for leg in CYCLE
    ]
    lines = tmp_path / "lines.jsonl"
    lines.write_text(json.dumps({"type": "OpportunityFound", "opportunity_id": "o1", "legs": legs}) + "\n")
    found = run(str(ledger.path), str(lines))
    assert found.returncode == 0
    assert (json.loads(found.stdout)["found"], json.loads(found.stdout)["mispriced"]) == (1, 1)
    lines.write_text("")
    missed = run(str(ledger.path), str(lines), "--stood-ms", "50")
    assert (missed.returncode, json.loads(missed.stdout)["missed_ids"]) == (1, [1])
    assert run(str(ledger.path), str(lines), "--stood-ms", "51").returncode == 0
    absent = run(str(ledger.path), str(tmp_path / "nosuch"))
    assert (absent.returncode, "nosuch" in absent.stderr, "Traceback" in absent.stderr) == (66, True, False)
