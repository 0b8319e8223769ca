"""Feed, book and evaluator on real sockets against the paper exchange: every true opportunity, no false one.

The exchange's ledger says what was true; prices are checked with the naive oracle, which shares nothing with us.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import psutil
import pytest
from msgspec import json

from actors.adapters.feed_driver import FeedOptions
from actors.adapters.image_file import find_image, remove_image
from actors.messages import EvaluatorReady, EvaluatorStatus, FeedStatus, ImageOpened, OpportunityFound
from kernels.book_image import LIVENESS_NS_MAX
from kernels.fees import FeeTable
from kernels.fixed8 import format_ratio
from kernels.row_tally import tally_rows
from tests.actors.feed_process import start_feed
from tests.actors.market_stage import Hosted, Stage
from tests.venues.exchange_oracle import gross_return, same_cycle
from tests.venues.exchange_process import ExchangeProcess
from venues.exchange.score import FoundLine, read_ledger, score

FEE_E8 = 100_000
MS = 1_000_000
OFTEN = ("--opportunity-every-s", "0.8", "--opportunity-ms", "400")
LATE_MS_MAX = 400
"""How long after an opportunity's end its finding may still be written down, on a busy machine."""


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "run"
    yield folder
    remove_image(folder)


def staged(exchange: ExchangeProcess, run_dir: Path, shards: int = 1, **options: Any) -> Stage:
    stage = Stage(run_dir, exchange.base_url, exchange.ws_url)
    book = stage.book(shards=shards, **options)
    stage.until(lambda: book.last(ImageOpened) is not None, say="no image")
    return stage


def start_evaluator(stage: Stage) -> Hosted:
    evaluator = stage.evaluator(fees=FeeTable(FEE_E8), start_max=10**11, starts=None)
    stage.until(lambda: evaluator.last(EvaluatorReady) is not None, 60, "the evaluator does not begin")
    return evaluator


def live_rows(run_dir: Path, now_ns: int | None = None) -> int:
    mapped = find_image(run_dir, writable=False)
    assert mapped is not None
    return tally_rows(mapped.image, now_ns or time.time_ns()).live


def wait_for_rows(stage: Stage, count: int) -> None:
    stage.until(lambda: live_rows(stage.run_dir) == count, 30, f"not all {count} rows came to live")


def assert_true_and_consistent(found: list[OpportunityFound], ledger: list[dict[str, Any]]) -> None:
    """Each stands in the ledger for the rows that it was told of, and is what those rows come to."""
    for one in found:
        assert matching(one, ledger), f"false: {one.cycle} {one.net_return} {one.ts_event_ns}"
        prices = {leg.leg.split(":")[0]: (Fraction(leg.bid_px, 10**8), Fraction(leg.ask_px, 10**8)) for leg in one.legs}
        assert format_ratio(gross_return(one.cycle, prices)) == one.gross_return
        assert Fraction(one.end_amount) > Fraction(one.start_amount)
        assert one.dry_run


def matching(one: OpportunityFound, ledger: list[dict[str, Any]]) -> list[str]:
    """The ledger's lines whose cycle it is, and whose time its row of the moved symbol is of: by ids, not by clocks."""
    moved = {leg.leg.split(":")[0]: leg.venue_update_id for leg in one.legs}
    return [
        line["id"]
        for line in ledger
        if same_cycle(one.cycle, line["cycle"])
        and line["opened_update_id"] <= moved[line["symbol"]]
        and (line["state"] != "closed" or moved[line["symbol"]] < line["closed_update_id"])
    ]


def test_every_true_opportunity_is_found_once_and_none_that_is_false(tmp_path: Path, run_dir: Path) -> None:
    with ExchangeProcess(tmp_path / "x", "--seed", "11", *OFTEN) as exchange:
        stage = staged(exchange, run_dir)
        feed, evaluator = stage.feed(), start_evaluator(stage)
        wait_for_rows(stage, 60)
        began_ns, earlier = time.time_ns(), len(evaluator.all(OpportunityFound))
        stage.until(lambda: len(evaluator.all(OpportunityFound)) >= earlier + 7, 30)
        ended_ns = time.time_ns()
        stage.until(lambda: time.time_ns() > ended_ns + LATE_MS_MAX * MS)
        found, ledger = evaluator.all(OpportunityFound), exchange.ledger()
        stage.close()
    assert_true_and_consistent(found, ledger)
    true = [line for line in ledger if began_ns < line["opened_ns"] and line.get("closed_ns", ended_ns) < ended_ns]
    told = [name for one in found for name in matching(one, ledger)]
    assert len(true) >= 5
    assert {line["id"] for line in true} <= set(told)
    # Only a feed that was not live for a moment closes one that stands, and so tells it twice.
    if not evaluator.driver.counters["skipped.feed_dead"]:  # type: ignore[attr-defined]
        assert len(told) == len(set(told))
    status = feed.last(FeedStatus)
    assert status.frames == status.parsed + sum(status.rejected.values())
    assert not status.rejected


def test_several_connections_of_several_shards_feed_one_image(tmp_path: Path, run_dir: Path) -> None:
    with ExchangeProcess(tmp_path / "x", "--seed", "5", *OFTEN) as exchange:
        stage = staged(exchange, run_dir, shards=2, symbols_per_connection_max=11)
        feeds, evaluator = [stage.feed(0), stage.feed(1)], start_evaluator(stage)
        wait_for_rows(stage, 60)
        assert len(exchange.get("/paper/status")["connections"]) == 6
        stage.until(lambda: len(evaluator.all(OpportunityFound)) >= 4, 30)
        found, ledger = evaluator.all(OpportunityFound), exchange.ledger()
        assert all(feed.last(FeedStatus).up for feed in feeds)
        stage.close()
    assert_true_and_consistent(found, ledger)


@pytest.mark.parametrize("sign", [signal.SIGSTOP, signal.SIGKILL])
def test_no_row_counts_later_than_250_ms_after_its_feed_was_stopped_or_killed(
    tmp_path: Path, run_dir: Path, sign: signal.Signals
) -> None:
    with ExchangeProcess(tmp_path / "x", *OFTEN) as exchange:
        stage = staged(exchange, run_dir)
        evaluator = start_evaluator(stage)
        options = FeedOptions(role="feed.spot.0", run_dir=str(run_dir), ws_url=exchange.ws_url)
        process = start_feed(options, 1)
        try:
            wait_for_rows(stage, 60)
            os.kill(process.pid, sign)
            wait_until_it_stands_still(process.pid)
            dead_ns = time.time_ns()
            assert live_rows(run_dir, dead_ns + LIVENESS_NS_MAX + 1) == 0
            stage.until(lambda: time.time_ns() > dead_ns + LIVENESS_NS_MAX)
            evaluations = fresh_status(stage, evaluator).evaluations
            assert fresh_status(stage, evaluator).evaluations == evaluations
            found_dead = len(evaluator.all(OpportunityFound))
            if sign is signal.SIGSTOP:
                os.kill(process.pid, signal.SIGCONT)
            else:
                process.wait()
                process = start_feed(options, 2)
            wait_for_rows(stage, 60)
            stage.until(
                lambda: len(evaluator.all(OpportunityFound)) > found_dead, 30, "nothing found after it came back"
            )
        finally:
            process.kill()
            process.wait()
        found, ledger = evaluator.all(OpportunityFound), exchange.ledger()
        stage.close()
    assert_true_and_consistent(found, ledger)


def wait_until_it_stands_still(pid: int) -> None:
    """A signal is delivered when the process next runs; until then its stores may go on."""
    deadline = time.monotonic() + 5
    still = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    while psutil.Process(pid).status() not in still:
        assert time.monotonic() < deadline


def fresh_status(stage: Stage, evaluator: Hosted) -> EvaluatorStatus:
    """Return a status that was made after now."""
    count = len(evaluator.all(EvaluatorStatus))
    stage.until(lambda: len(evaluator.all(EvaluatorStatus)) > count + 1)
    status: EvaluatorStatus = evaluator.last(EvaluatorStatus)
    return status


def test_bad_frames_and_broken_connections_bring_no_false_opportunity(tmp_path: Path, run_dir: Path) -> None:
    with ExchangeProcess(tmp_path / "x", "--seed", "3", *OFTEN) as exchange:
        stage = staged(exchange, run_dir, symbols_per_connection_max=20)
        feed, evaluator = stage.feed(), start_evaluator(stage)
        wait_for_rows(stage, 60)
        names = [entry["symbol"] for entry in exchange.get("/api/v3/exchangeInfo")["symbols"]]
        kinds = ("malformed_frame", "truncated_frame", "one_sided", "crossed", "duplicate")
        for at, name in enumerate(names):
            exchange.fault(kinds[at % 5], symbol=name)
            exchange.fault("overflow_quantity", symbol=name, side=("bid", "ask")[at % 2])
            stage.until(lambda: True)
        stage.until(lambda: feed.last(FeedStatus).quantity_capped == 60)
        for connection in exchange.get("/paper/status")["connections"]:
            exchange.fault("drop", connection=connection["number"])
        before = len(evaluator.all(OpportunityFound))
        stage.until(lambda: len(evaluator.all(OpportunityFound)) > before + 2, 30)
        stage.until(lambda: feed.last(FeedStatus).reconnects == 3)
        found, ledger, status = evaluator.all(OpportunityFound), exchange.ledger(), feed.last(FeedStatus)
        stage.close()
    assert_true_and_consistent(found, ledger)
    assert status.frames == status.parsed + sum(status.rejected.values())
    assert status.rejected == {"not_json": 24, "crossed": 12, "one_sided": 12, "stale_update_id": 12}
    assert status.quantity_capped == 60


BEFALLS: tuple[tuple[str, dict[str, object]], ...] = (
    *((kind, {"symbol": "ETHUSDT", "n": 3}) for kind in ("overflow_quantity", "malformed_frame", "truncated_frame")),
    *((kind, {"symbol": "BTCUSDT", "n": 3}) for kind in ("one_sided", "crossed", "duplicate", "gap", "reorder")),
    ("silence", {"symbol": "ETHBTC", "seconds": 0.8}),
    ("silence", {"connection": 1, "seconds": 0.8}),
    ("backlog", {"seconds": 1.0}),
    ("http_status", {"status": 429, "n": 2, "retry_after_s": 1}),
    ("drop", {}),
    ("half_open", {}),
    ("daily_disconnect", {}),
)
"""What can come over a link, with the connections' own ends last."""


@pytest.mark.timeout(240)
def test_whatever_befalls_the_link_nothing_false_is_told_and_what_stands_after_it_is_found(
    tmp_path: Path, run_dir: Path
) -> None:
    """Scored by the exchange's own account of what was true, which decides by update ids."""
    seldom = ("--seed", "5", "--opportunity-every-s", "2.5", "--opportunity-ms", "1200")
    with ExchangeProcess(tmp_path / "x", *seldom) as exchange:
        stage = staged(exchange, run_dir)
        feed, evaluator = stage.feed(), start_evaluator(stage)
        wait_for_rows(stage, 60)
        for fault, fields in BEFALLS:
            exchange.fault(fault, **fields)
            looked_ns = time.time_ns()
            stage.until(lambda: time.time_ns() > looked_ns + 1_200 * MS)  # noqa: B023
            if fault in ("half_open", "drop", "daily_disconnect"):
                wait_for_rows(stage, 60)
        since_ns = time.time_ns()
        stage.until(lambda: len([one for one in exchange.ledger() if one["opened_ns"] > since_ns]) >= 4, 60)
        until_ns = max(one["opened_ns"] for one in exchange.ledger())
        stage.until(lambda: time.time_ns() > until_ns + 2_000 * MS)
        lines = [json.decode(json.encode(one), type=FoundLine) for one in evaluator.all(OpportunityFound)]
        whole = score(read_ledger(exchange.state / "opportunities.jsonl"), lines)
        after = score(read_ledger(exchange.state / "opportunities.jsonl"), lines, 900.0, since_ns, until_ns)
        status = feed.last(FeedStatus)
        stage.close()
    assert (whole.false_ids, whole.mispriced) == ([], 0)
    assert (after.missed_ids, after.short) == ([], 0)
    assert after.found >= 3
    assert status.frames == status.parsed + sum(status.rejected.values())
    assert {"not_json", "one_sided", "crossed", "stale_update_id"} <= set(status.rejected)


def test_an_exchange_killed_and_started_again_is_followed_without_a_false_opportunity(
    tmp_path: Path, run_dir: Path
) -> None:
    with ExchangeProcess(tmp_path / "x", *OFTEN) as exchange:
        stage = staged(exchange, run_dir)
        feed, evaluator = stage.feed(), start_evaluator(stage)
        wait_for_rows(stage, 60)
        exchange.kill9()
        stage.until(lambda: live_rows(run_dir) == 0)
        stage.until(lambda: not feed.last(FeedStatus).up)
        exchange.start()
        wait_for_rows(stage, 60)
        before = len(evaluator.all(OpportunityFound))
        stage.until(lambda: len(evaluator.all(OpportunityFound)) > before + 1, 30)
        stage.until(lambda: feed.last(FeedStatus).reconnects >= 1 and feed.last(FeedStatus).up)
        found, ledger = evaluator.all(OpportunityFound), exchange.ledger()
        stage.close()
    assert_true_and_consistent(found, ledger)
