"""Spinning and pinning: the same answers as asleep, the loop's other work still done, and a processor that is there."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.adapters.assembly import BeatReturned
from actors.adapters.image_file import remove_image
from actors.adapters.market_wiring import feed_cpu
from actors.adapters.pinning import PinningError, pin_thread
from actors.messages import EvaluatorReady
from config.exchange import Exchange
from tests.actors.market_stage import Hosted
from tests.actors.test_evaluator_driver import CHEAP, CROSS, FAIR, Market


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    market = Market(tmp_path)
    yield market
    market.stage.close()
    remove_image(tmp_path)


def seen_fair(evaluator: Hosted, told: int) -> bool:
    counters = evaluator.driver.counters  # type: ignore[attr-defined]
    return counters.get("opportunities.told") == told and counters["standing"] == 0


def test_a_spinning_evaluator_finds_what_nobody_woke_it_for_and_still_beats(market: Market) -> None:
    cpu = min(os.sched_getaffinity(0))
    evaluator = market.stage.evaluator(1, header_stale_ms=60_000, spin=True, cpu=cpu)
    market.stage.until(lambda: evaluator.last(EvaluatorReady) is not None, 60)
    for told in (1, 2):
        market.quote(CROSS, CHEAP)
        market.until_told(evaluator, told)
        market.quote(CROSS, FAIR)
        market.stage.until(lambda told=told: seen_fair(evaluator, told), 60)
        evaluator.driver.beat(told)
        market.stage.until(lambda: evaluator.last(BeatReturned) is not None, 60)
        evaluator.events = [event for event in evaluator.events if not isinstance(event, BeatReturned)]
    counters = evaluator.driver.counters  # type: ignore[attr-defined]
    assert counters["spins"] > 0
    assert counters["wakes"] == 0
    assert os.sched_getaffinity(0) > {cpu} or os.cpu_count() == 1, "the test's own thread is not pinned"


def test_a_pinned_thread_runs_there_alone_and_the_process_where_it_did() -> None:
    before = os.sched_getaffinity(0)
    seen: list[set[int]] = []

    def pinned() -> None:
        pin_thread(min(before))
        seen.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=pinned)
    thread.start()
    thread.join(60)
    assert seen == [{min(before)}]
    assert os.sched_getaffinity(0) == before


def test_a_processor_that_is_not_there_is_refused_by_number_and_with_the_remedy() -> None:
    with pytest.raises(PinningError, match=r"4095 .*evaluator\.cpu"):
        pin_thread(4_095)


def test_no_processor_asked_for_changes_nothing() -> None:
    before = os.sched_getaffinity(0)
    pin_thread(None)
    assert os.sched_getaffinity(0) == before


def test_the_shards_of_a_feed_go_round_the_processors_given() -> None:
    exchange = Exchange(feed_cpus=(2, 5))
    assert [feed_cpu(exchange, f"feed.spot.{shard}") for shard in range(3)] == [2, 5, 2]
    assert feed_cpu(Exchange(), "feed.spot.7") is None
