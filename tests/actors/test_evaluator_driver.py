"""The evaluator's driver on an image of the test's own: woken, not woken, overrun, restarted, refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from actors.adapters.assembly import BuildContext
from actors.adapters.clock import SystemClock
from actors.adapters.evaluator_driver import EvaluatorDriver, EvaluatorOptions
from actors.adapters.image_file import FeedSlot, MappedImage, open_image, remove_image, withdraw_record
from actors.adapters.market_wiring import evaluator as build_evaluator
from actors.adapters.wake import WakeSender
from actors.messages import EvaluatorReady, EvaluatorStatus, IncidentRecorded, OpportunityFound, StartEvaluator
from config.schema import Settings
from kernels import leg
from kernels.book_image import FeedWriter
from kernels.exchange_info import Symbol
from tests.actors.market_stage import Hosted, Stage

UNIT = 10**8
SYMBOLS = (
    Symbol("BTCUSDT", "TRADING", "BTC", "USDT"),
    Symbol("ETHUSDT", "TRADING", "ETH", "USDT"),
    Symbol("ETHBTC", "TRADING", "ETH", "BTC"),
)
BTC, ETH, CROSS = range(3)
FAIR, CHEAP = UNIT // 10, UNIT // 12


class Market:
    """A triangle that is fair at a cross of 0.10 and pays below, written by the test's own hand."""

    def __init__(self, run_dir: Path, ring_slots: int = 64) -> None:
        self.run_dir = run_dir
        self.mapped: MappedImage = image_of(run_dir, ring_slots)
        self.writer = FeedWriter(self.mapped.image, 0, 1)
        self.wake = WakeSender(run_dir)
        self.stage = Stage(run_dir, "", "")
        self.updates = 0
        for row, bid_px in ((BTC, 100 * UNIT), (ETH, 10 * UNIT), (CROSS, FAIR)):
            self.quote(row, bid_px)

    def quote(self, row: int, bid_px: int) -> None:
        self.updates += 1
        now_ns = time.time_ns()
        self.writer.beat(now_ns)
        self.writer.write_row(row, bid_px, UNIT, bid_px + bid_px // 1_000, UNIT, self.updates, now_ns)

    def evaluator(self, epoch: int = 1) -> Hosted:
        hosted = self.stage.evaluator(epoch, header_stale_ms=60_000)
        self.stage.until(lambda: hosted.last(EvaluatorReady) is not None, 60)
        return hosted

    def until_told(self, evaluator: Hosted, count: int) -> list[OpportunityFound]:
        self.stage.until(lambda: len(evaluator.all(OpportunityFound)) >= count)
        return evaluator.all(OpportunityFound)


def image_of(run_dir: Path, ring_slots: int = 64, symbols: tuple[Symbol, ...] = SYMBOLS) -> MappedImage:
    withdraw_record(run_dir)
    feeds = [FeedSlot("spot.0.0", "feed.spot.0")]
    return open_image(run_dir, symbols, [0] * len(symbols), feeds, "venue", ring_slots)[0]


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    market = Market(tmp_path)
    yield market
    market.stage.close()
    remove_image(tmp_path)


def test_a_wake_brings_a_look_and_a_standing_opportunity_is_told_once(market: Market) -> None:
    evaluator = market.evaluator()
    assert evaluator.last(EvaluatorReady).cycles == 2
    market.wake.retry()
    for _ in range(3):
        market.quote(CROSS, CHEAP)
        market.wake.send()
    (told,) = market.until_told(evaluator, 1)
    assert told.cycle == ("BTCUSDT:BUY", "ETHBTC:BUY", "ETHUSDT:SELL")
    assert told.opportunity_id == "evaluator:e1.1"
    assert evaluator.driver.counters  # type: ignore[attr-defined]


def test_what_stood_before_the_evaluator_began_is_found(market: Market) -> None:
    market.quote(CROSS, CHEAP)
    assert len(market.until_told(market.evaluator(), 1)) == 1


def test_a_change_whose_wake_was_lost_is_found_all_the_same(market: Market) -> None:
    evaluator = market.evaluator()
    market.quote(CROSS, CHEAP)
    assert len(market.until_told(evaluator, 1)) == 1


def test_an_overrun_ring_brings_a_look_at_every_row_and_is_counted(tmp_path: Path) -> None:
    market = Market(tmp_path, ring_slots=2)
    evaluator = market.evaluator()
    for _ in range(50):
        market.quote(BTC, 100 * UNIT)
    market.quote(CROSS, CHEAP)
    market.quote(BTC, 100 * UNIT)
    market.quote(BTC, 100 * UNIT)
    assert len(market.until_told(evaluator, 1)) == 1
    market.stage.until(lambda: (evaluator.last(EvaluatorStatus) or NoStatus).overruns > 0)
    market.stage.close()
    remove_image(tmp_path)


def test_the_reference_runs_beside_it_agrees_and_sees_a_bug_that_is_planted(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = market.stage.evaluator(1, header_stale_ms=600_000, age_ms_max=600_000, reference_every_s=0.01)
    counted = evaluator.driver.worker.progress  # type: ignore[attr-defined]
    market.quote(CROSS, CHEAP)
    market.until_told(evaluator, 1)
    market.stage.until(lambda: counted.get("reference.samples", 0) >= 2 and counted["reference.checked"] >= 4)
    assert counted["reference.mismatched"] == 0
    assert evaluator.last(IncidentRecorded) is None
    monkeypatch.setattr(leg, "_ceil_div", lambda numerator, denominator: numerator // denominator)
    market.quote(CROSS, CHEAP + 1)
    market.stage.until(lambda: evaluator.last(IncidentRecorded) is not None)
    incident: IncidentRecorded = evaluator.last(IncidentRecorded)
    assert (incident.kind, incident.subject) == ("reference_disagrees", "BTCUSDT:BUY ETHBTC:BUY ETHUSDT:SELL")
    evidence = msgspec.json.decode(incident.evidence)
    assert len(evidence["rows"]) == 3
    assert evidence["decision"]["spent"] < evidence["answer"]["spent"]
    assert counted["reference.mismatched"] >= 1


class NoStatus:
    """Stands where no status has come yet."""

    overruns = 0
    rows_invalid = 0


def test_a_successor_takes_the_socket_and_feeds_find_it(market: Market) -> None:
    first = market.evaluator()
    market.wake.retry()
    market.wake.send()
    market.stage.stop(first)
    market.wake.send()
    assert owes(market.wake)
    second = market.evaluator(epoch=2)
    market.wake.retry()
    assert not owes(market.wake)
    market.quote(CROSS, CHEAP)
    market.wake.send()
    assert market.until_told(second, 1)[0].opportunity_id == "evaluator:e2.1"


def owes(wake: WakeSender) -> bool:
    return wake.owed


def test_what_changed_while_its_feed_was_not_live_is_found_once_it_is(market: Market) -> None:
    evaluator = market.stage.evaluator(header_stale_ms=250)
    market.stage.until(lambda: evaluator.last(EvaluatorReady) is not None, 60)
    market.stage.until(lambda: (evaluator.last(EvaluatorStatus) or NoStatus).rows_invalid == 3)
    market.updates += 1
    market.writer.write_row(CROSS, CHEAP, UNIT, CHEAP + 1_000, UNIT, market.updates, time.time_ns())
    market.wake.retry()
    market.wake.send()
    market.stage.until(lambda: evaluator.last(EvaluatorStatus).skipped["feed_dead"] > 0)
    assert not evaluator.all(OpportunityFound)

    def told() -> bool:
        market.writer.beat(time.time_ns())
        return bool(evaluator.all(OpportunityFound))

    market.stage.until(told)
    assert len(evaluator.all(OpportunityFound)) == 1


def test_a_wake_with_nobody_there_or_a_full_queue_never_blocks_or_raises(market: Market) -> None:
    lonely = WakeSender(market.run_dir / "nowhere")
    lonely.send()
    lonely.retry()
    assert lonely.owed
    market.evaluator()
    market.wake.retry()
    for _ in range(10_000):
        market.wake.send()
    assert not market.wake.owed


def test_an_evaluator_ends_when_its_image_is_replaced(market: Market) -> None:
    evaluator = market.evaluator()
    reasons: list[str] = []
    evaluator.driver.worker._die = reasons.append  # type: ignore[attr-defined]
    image_of(market.run_dir, 128)
    market.stage.until(lambda: bool(reasons))
    assert "replaced" in reasons[0]


def test_a_start_asset_that_is_not_there_ends_it_by_name(tmp_path: Path) -> None:
    image_of(tmp_path)
    reasons: list[str] = []
    driver = EvaluatorDriver(EvaluatorOptions(role="evaluator", run_dir=str(tmp_path), starts=("NOPE",)), SystemClock())
    driver.worker._die = reasons.append
    stage = Stage(tmp_path, "", "")
    stage.host(driver, StartEvaluator(1))
    stage.until(lambda: bool(reasons))
    assert "'NOPE'" in reasons[0]
    stage.close()
    remove_image(tmp_path)


def test_where_it_trades_for_real_it_says_so_and_hands_its_plans_over(tmp_path: Path) -> None:
    real = msgspec.structs.replace(Settings().evaluator, dry_run=False)
    settings = msgspec.structs.replace(Settings(), evaluator=real)
    context = BuildContext("evaluator", {}, settings, str(tmp_path), "run", 1)
    assert not build_evaluator(context)[0].dry_run
    assert build_evaluator(msgspec.structs.replace(context, settings=Settings()))[0].dry_run
