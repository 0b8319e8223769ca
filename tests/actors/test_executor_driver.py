"""The executor's driver: quotes of a real image, lines that are written once, a person's word."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from actors.adapters.clock import SystemClock
from actors.adapters.executor_driver import CycleLines, ExecutorDriver, ExecutorOptions, read_resume, write_resume
from actors.adapters.image_file import remove_image
from actors.messages import (
    CycleEnd,
    CycleLineWritten,
    CycleOutcome,
    CyclesResumed,
    QuotesRead,
    ReadQuotes,
    StartExecutor,
    WriteCycleLine,
)
from tests.actors.market_stage import Hosted, Stage
from tests.actors.test_evaluator_driver import BTC, UNIT, Market


def outcome(name: str) -> CycleOutcome:
    return CycleOutcome(name, CycleEnd.REFUSED, "sequence", "USDT", 5, 0, guard="age")


def names(path: Path) -> list[str]:
    return [msgspec.json.decode(line)["attempt_id"] for line in path.read_bytes().splitlines()]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path, "", "")
    yield stage
    stage.close()


def host(stage: Stage, **options: int) -> Hosted:
    given = ExecutorOptions(role="executor", run_dir=str(stage.run_dir), **options)
    return stage.host(ExecutorDriver(given, SystemClock()), StartExecutor(1))


def ask(stage: Stage, executor: Hosted, *symbols: str) -> QuotesRead:
    number = len(executor.all(QuotesRead))
    executor.driver.post(ReadQuotes(f"q{number}", symbols))
    stage.until(lambda: len(executor.all(QuotesRead)) > number)
    answer = executor.last(QuotesRead)
    assert isinstance(answer, QuotesRead)
    assert answer.request_id == f"q{number}"
    return answer


def test_a_line_is_written_once_by_all_who_ever_ran(tmp_path: Path) -> None:
    first = CycleLines(tmp_path, 1 << 20)
    assert first.write(WriteCycleLine(outcome("a")))
    assert not first.write(WriteCycleLine(outcome("a")))
    first.close()
    again = CycleLines(tmp_path, 1 << 20)
    assert not again.write(WriteCycleLine(outcome("a")))
    assert again.write(WriteCycleLine(outcome("b")))
    again.close()
    assert names(tmp_path / "cycles.jsonl") == ["a", "b"]


def test_a_half_line_that_a_crash_left_is_ended_and_its_outcome_written_whole(tmp_path: Path) -> None:
    whole = msgspec.json.encode(outcome("a"))
    for cut in range(len(whole)):
        path = tmp_path / "cycles.jsonl"
        path.write_bytes(msgspec.json.encode(outcome("before")) + b"\n" + whole[:cut])
        lines = CycleLines(tmp_path, 1 << 20)
        assert lines.write(WriteCycleLine(outcome("a")))
        lines.close()
        good = []
        for line in path.read_bytes().splitlines():
            try:
                good.append(msgspec.json.decode(line, type=CycleOutcome).attempt_id)
            except msgspec.DecodeError:
                continue
        assert good == ["before", "a"], cut


def test_what_stands_in_the_file_before_the_present_one_is_not_written_again(tmp_path: Path) -> None:
    lines = CycleLines(tmp_path, 400)
    for number in range(6):
        assert lines.write(WriteCycleLine(outcome(f"n{number}")))
    lines.close()
    assert (tmp_path / "cycles.jsonl.1").exists()
    kept = names(tmp_path / "cycles.jsonl.1") + names(tmp_path / "cycles.jsonl")
    again = CycleLines(tmp_path, 400)
    assert not any(again.write(WriteCycleLine(outcome(name))) for name in kept)
    again.close()


def test_without_an_image_every_question_is_answered_and_no_market_is_live(stage: Stage) -> None:
    executor = host(stage)
    answer = ask(stage, executor, "BTCUSDT", "ETHUSDT")
    assert [(quote.symbol, quote.verdict, quote.live) for quote in answer.quotes] == [
        ("BTCUSDT", "no_image", False),
        ("ETHUSDT", "no_image", False),
    ]


def test_quotes_are_the_images_rows_and_live_only_as_long_as_their_feed(tmp_path: Path) -> None:
    market = Market(tmp_path)
    try:
        executor = host(market.stage, header_stale_ms=60_000)
        market.quote(BTC, 101 * UNIT)
        answer = ask(market.stage, executor, "BTCUSDT", "NOPE")
        btc, unknown = answer.quotes
        assert (btc.verdict, btc.live, btc.bid_px, btc.bid_qty) == ("live", True, 101 * UNIT, UNIT)
        assert (unknown.verdict, unknown.live) == ("not_listed", False)
        market.writer.down()
        (btc,) = ask(market.stage, executor, "BTCUSDT").quotes
        assert (btc.live, btc.bid_px) == (False, 101 * UNIT), "known and stale, as unwinding needs it"
    finally:
        market.stage.close()
        remove_image(tmp_path)


def test_lines_and_a_persons_word_go_through_the_driver(stage: Stage) -> None:
    executor = host(stage)
    executor.driver.post(WriteCycleLine(outcome("a")))
    executor.driver.post(WriteCycleLine(outcome("a")))
    stage.until(lambda: len(executor.all(CycleLineWritten)) == 2)
    assert names(stage.run_dir / "lines" / "cycles.jsonl") == ["a"]
    word = CyclesResumed(time.time_ns(), "looked at")
    write_resume(stage.run_dir, word)
    stage.until(lambda: executor.last(CyclesResumed) is not None)
    assert executor.all(CyclesResumed) == [word]
    assert os.stat(stage.run_dir / "cycles_resume.json").st_size


def test_a_word_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert read_resume(tmp_path) is None
    (tmp_path / "cycles_resume.json").write_bytes(b'{"type":"CyclesRes')
    assert read_resume(tmp_path) is None
