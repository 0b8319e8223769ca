"""A leg that freezes, on real sockets: book, feed, evaluator, health and the paper exchange, market time compressed.

A minute of the story is two seconds here; the sixteen minutes of field note 4, whole and by the clock of the market,
are in `tests/replay/test_stale_leg.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.adapters.clock import SystemClock
from actors.adapters.health import HealthReport
from actors.adapters.health_driver import HealthDriver, HealthOptions
from actors.adapters.image_file import remove_image
from actors.messages import (
    AuditFinished,
    EvaluatorReady,
    FeedStatus,
    ImageOpened,
    OpportunityFound,
    StartWatch,
    SuspicionsFound,
)
from kernels.fees import FeeTable
from kernels.market_watch import CLAMPED, ROWS_SILENT, Limits
from tests.actors.market_stage import Hosted, Stage
from tests.actors.test_market_flow import assert_true_and_consistent, wait_for_rows
from tests.venues.exchange_process import ExchangeProcess

S = 1_000_000_000
MINUTE_S = 2
FROZEN = "ETHBTC"
LIMITS = Limits(window_ns=MINUTE_S * S, invalid_ns=MINUTE_S * S, silent_ns=3 * S, majors=(FROZEN,))


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "run"
    yield folder
    remove_image(folder)


def watched(stage: Stage, **roles: Hosted) -> Hosted:
    """Start a health driver whose board is what the other drivers count, as their hosts would write it."""

    def board() -> list[HealthReport]:
        counted = {role: dict(hosted.driver.counters) for role, hosted in roles.items()}  # type: ignore[attr-defined]
        return [
            HealthReport(role.replace("_", "."), 1, 1, 1, counters, (), time.time_ns(), {})
            for role, counters in counted.items()
        ]

    options = HealthOptions(role="health", run_dir=str(stage.run_dir), limits=LIMITS, look_s=0.1)
    return stage.host(HealthDriver(options, SystemClock(), board), StartWatch(1))


def raised(health: Hosted) -> set[str]:
    return {one.name for found in health.all(SuspicionsFound) for one in found.standing}


def text_of(health: Hosted, name: str) -> str:
    return next(one.text for found in health.all(SuspicionsFound) for one in found.standing if one.name == name)


@pytest.mark.timeout(180)
def test_a_leg_that_freezes_is_called_out_by_three_signs_and_brings_no_false_opportunity(
    tmp_path: Path, run_dir: Path
) -> None:
    often = ("--seed", "11", "--opportunity-every-s", "0.8", "--opportunity-ms", "400")
    with ExchangeProcess(tmp_path / "x", *often) as exchange:
        stage = Stage(run_dir, exchange.base_url, exchange.ws_url)
        book = stage.book(audit_every_s=0.5, age_ms_max=1_000)
        stage.until(lambda: book.last(ImageOpened) is not None, say="no image")
        feed = stage.feed()
        evaluator = stage.evaluator(fees=FeeTable(100_000), start_max=10**11, starts=None, age_ms_max=1_000)
        stage.until(lambda: evaluator.last(EvaluatorReady) is not None, 60, "the evaluator does not begin")
        wait_for_rows(stage, 60)
        health = watched(stage, feed_spot_0=feed, evaluator=evaluator)
        calm_ns = time.time_ns()
        stage.until(lambda: time.time_ns() > calm_ns + 4 * MINUTE_S * S)
        assert {CLAMPED, ROWS_SILENT}.isdisjoint(raised(health))

        exchange.fault("silence", symbol=FROZEN, seconds=300)
        exchange.fault("overflow_quantity", symbol=FROZEN)
        stage.until(lambda: {CLAMPED, ROWS_SILENT} <= raised(health), 60, "not called out")
        stage.until(lambda: any(FROZEN in one.mismatched for one in book.all(AuditFinished)), 60, "no audit")
        frozen_ns = time.time_ns()
        stage.until(lambda: time.time_ns() > frozen_ns + 2 * MINUTE_S * S)
        found, ledger, status = evaluator.all(OpportunityFound), exchange.ledger(), feed.last(FeedStatus)
        stage.close()
    assert FROZEN in text_of(health, ROWS_SILENT)
    assert FROZEN in text_of(health, CLAMPED)
    assert_true_and_consistent(found, ledger)
    assert not [one for one in found if one.ts_event_ns > frozen_ns and any(FROZEN in leg for leg in one.cycle)]
    assert status.quantity_capped == 1
    assert status.frames == status.parsed + sum(status.rejected.values())
