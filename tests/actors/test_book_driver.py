"""The book's driver: image over restarts and an absent venue, the watch on headers, the audit, the copy for people."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.adapters import book_driver
from actors.adapters.book_driver import COPY_NAME, BookDriver, BookOptions
from actors.adapters.clock import SystemClock
from actors.adapters.feed_driver import FeedOptions
from actors.adapters.image_file import RECORD_NAME, find_image, memory_folder, remove_image
from actors.keys import ALL, KeyType, key
from actors.messages import AuditFinished, BookStatus, ImageOpened, OpenImage
from kernels.book_image import Verdict
from kernels.row_tally import tally_rows
from tests.actors.feed_process import start_feed
from tests.actors.market_stage import Hosted, Stage
from tests.actors.redis_fixture import RedisPair
from tests.venues.exchange_process import ExchangeProcess

CALM = ("--symbols", "12", "--rate", "40", "--opportunity-every-s", "0")
QUIET = ("--symbols", "8", "--rate", "6", "--opportunity-every-s", "0")
LIVELY = ("--symbols", "24", "--rate", "400", "--opportunity-every-s", "0")


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run"
    remove_image(tmp_path / "run")


@pytest.fixture
def stage(run_dir: Path) -> Iterator[Stage]:
    stage = Stage(run_dir, "", "")
    yield stage
    stage.close()


def at(stage: Stage, exchange: ExchangeProcess) -> Stage:
    stage.rest_url, stage.ws_url = exchange.base_url, exchange.ws_url
    return stage


def opened(stage: Stage, hosted: Hosted) -> ImageOpened:
    stage.until(lambda: hosted.last(ImageOpened) is not None)
    told: ImageOpened = hosted.last(ImageOpened)
    return told


def live(run_dir: Path) -> int:
    mapped = find_image(run_dir, writable=False)
    return tally_rows(mapped.image, time.time_ns()).live if mapped is not None else 0


def test_a_restart_of_the_book_keeps_the_image_that_still_fits(tmp_path: Path, run_dir: Path, stage: Stage) -> None:
    with ExchangeProcess(tmp_path / "x", *CALM) as exchange:
        book = at(stage, exchange).book()
        first = opened(stage, book)
        assert first == ImageOpened(first.image_id, 12, ("spot.0.0",), True, "venue")
        assert (run_dir / COPY_NAME).exists()
        feed = stage.feed()
        stage.until(lambda: live(run_dir) == 12)
        stage.stop(book)
        second = opened(stage, stage.book())
        assert (second.image_id, second.created) == (first.image_id, False)
        stage.until(lambda: live(run_dir) == 12)
        assert feed in stage.hosted


def test_other_symbols_or_shards_make_another_image(tmp_path: Path, run_dir: Path, stage: Stage) -> None:
    with ExchangeProcess(tmp_path / "x", *CALM) as exchange:
        book = at(stage, exchange).book()
        first = opened(stage, book)
        stage.stop(book)
        second = opened(stage, stage.book(shards=2))
        assert second.created
        assert second.feeds == ("spot.0.0", "spot.1.0")
        assert len(list(memory_folder(run_dir).glob("image-*")) + list(run_dir.glob("image-*"))) == 1
        assert second.image_id != first.image_id


def test_nobody_finds_the_old_image_once_a_new_book_has_started(tmp_path: Path, run_dir: Path, stage: Stage) -> None:
    with ExchangeProcess(tmp_path / "x", *CALM) as exchange:
        book = at(stage, exchange).book()
        opened(stage, book)
        stage.stop(book)
    assert (run_dir / RECORD_NAME).exists()
    driver = BookDriver(
        BookOptions(role="book", run_dir=str(run_dir), rest_url=exchange.base_url), SystemClock(), lambda: 0.5
    )
    driver.start()
    assert find_image(run_dir, writable=False) is None
    driver.stop()


def test_while_the_venue_is_away_the_last_good_listing_is_used_and_said_to_be_so(
    tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book_driver, "COPY_AFTER_S", 0.2)
    monkeypatch.setattr(book_driver, "ASK_AGAIN_S", 0.2)
    with ExchangeProcess(tmp_path / "x", *CALM) as exchange:
        book = at(stage, exchange).book()
        first = opened(stage, book)
        stage.stop(book)
        exchange.kill9()
        book = stage.book()
        copy = opened(stage, book)
        assert (copy.source, copy.created, copy.image_id) == ("kept_copy", False, first.image_id)
        exchange.start()
        stage.until(lambda: book.last(ImageOpened).source == "venue")
        assert book.last(ImageOpened).image_id == first.image_id


def test_a_venue_that_lists_otherwise_than_the_copy_ends_the_book(
    tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book_driver, "COPY_AFTER_S", 0.2)
    monkeypatch.setattr(book_driver, "ASK_AGAIN_S", 0.2)
    run_dir.mkdir()
    with ExchangeProcess(tmp_path / "x", *CALM) as exchange:
        listing = exchange.get("/api/v3/exchangeInfo")
        listing["symbols"][0]["status"] = "BREAK"
        (run_dir / COPY_NAME).write_text(json.dumps(listing))
        exchange.fault("http_status", status=429, n=1, retry_after_s=3)
        stage = Stage(run_dir, exchange.base_url, exchange.ws_url)
        reasons: list[str] = []
        driver = BookDriver(
            BookOptions(role="book", run_dir=str(run_dir), rest_url=exchange.base_url), SystemClock(), lambda: 0.5
        )
        driver.worker._die = reasons.append
        book = stage.host(driver, OpenImage(1))
        assert opened(stage, book).source == "kept_copy"
        stage.until(lambda: bool(reasons))
        assert "ListingChanged" in reasons[0]
        stage.close()


def test_a_symbol_that_halts_in_a_running_venue_ends_the_book_for_a_new_image(
    tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book_driver, "RELIST_S", 0.2)
    monkeypatch.setattr(book_driver, "ASK_AGAIN_S", 0.2)
    listing, recording = tmp_path / "listing.json", tmp_path / "recording.txt"
    symbols: list[dict[str, object]] = [
        {"symbol": f"{base}USDT", "status": "TRADING", "baseAsset": base, "quoteAsset": "USDT", "filters": []}
        for base in ("BTC", "ETH")
    ]
    listing.write_text(json.dumps({"symbols": symbols}))
    recording.write_text("")
    options = ("--exchange-info", str(listing), "--record", str(recording))
    with ExchangeProcess(tmp_path / "x", *options) as exchange:
        stage = Stage(run_dir, exchange.base_url, exchange.ws_url)
        reasons: list[str] = []
        driver = BookDriver(
            BookOptions(role="book", run_dir=str(run_dir), rest_url=exchange.base_url), SystemClock(), lambda: 0.5
        )
        driver.worker._die = reasons.append
        first = opened(stage, stage.host(driver, OpenImage(1)))
        symbols[0]["status"] = "BREAK"
        listing.write_text(json.dumps({"symbols": symbols}))
        exchange.restart()
        stage.until(lambda: bool(reasons))
        assert "ListingChanged" in reasons[0]
        stage.close()
        second = opened(stage, stage.book())
        assert second.created
        assert second.image_id != first.image_id
        stage.close()


def test_a_header_that_stopped_beating_is_held_down_and_its_feed_begins_anew(
    tmp_path: Path, run_dir: Path, stage: Stage
) -> None:
    with ExchangeProcess(tmp_path / "x", *LIVELY) as exchange:
        book = at(stage, exchange).book()
        opened(stage, book)
        process = start_feed(FeedOptions(role="feed.spot.0", run_dir=str(run_dir), ws_url=exchange.ws_url), 1)
        try:
            stage.until(lambda: live(run_dir) == 24, 30)
            mapped = find_image(run_dir, writable=False)
            assert mapped is not None
            epoch = mapped.image.read_header(0).epoch
            os.kill(process.pid, signal.SIGSTOP)
            stage.until(lambda: mapped.image.read_header(0).held_down_epoch == epoch)
            stage.until(lambda: book.last(BookStatus).feeds_down == ("spot.0.0",))
            assert book.last(BookStatus).reasons["feed_dead"] == 24
            os.kill(process.pid, signal.SIGCONT)
            stage.until(lambda: live(run_dir) == 24)
            assert mapped.image.read_header(0).epoch > epoch
            stage.until(lambda: book.last(BookStatus).feeds_up == ("spot.0.0",))
        finally:
            process.kill()
            process.wait()


def test_the_audit_proves_quiet_rows_right_and_finds_the_one_that_is_not(
    tmp_path: Path, run_dir: Path, stage: Stage
) -> None:
    with ExchangeProcess(tmp_path / "x", *QUIET) as exchange:
        book = at(stage, exchange).book(audit_every_s=0.2)
        opened(stage, book)
        stage.feed()
        stage.until(lambda: live(run_dir) == 8, 30)
        stage.until(lambda: sum(audit.checked for audit in book.all(AuditFinished)) > 2)
        assert all(audit.mismatched == () for audit in book.all(AuditFinished))
        exchange.fault("silence", symbol="BTCUSDT", seconds=60)
        stage.until(lambda: book.last(AuditFinished).mismatched == ("BTCUSDT",), 30)
        exchange.fault("silence", symbol="BTCUSDT", seconds=0)
        stage.until(lambda: book.last(AuditFinished).mismatched == (), 30)
        assert {name for audit in book.all(AuditFinished) for name in audit.mismatched} == {"BTCUSDT"}
        stage.until(lambda: book.last(BookStatus).audit_mismatches > 0)


def test_a_row_that_the_audit_proves_wrong_counts_no_more_before_a_later_frame(
    tmp_path: Path, run_dir: Path, stage: Stage
) -> None:
    """The frozen price of field note 8: its connection is as lively as ever, and the row would count for ever."""
    with ExchangeProcess(tmp_path / "x", *QUIET) as exchange:
        book = at(stage, exchange).book(audit_every_s=0.2)
        opened(stage, book)
        stage.feed()
        stage.until(lambda: live(run_dir) == 8, 30)
        mapped = find_image(run_dir, writable=False)
        assert mapped is not None
        row = [symbol.name for symbol in mapped.record.symbols].index("BTCUSDT")
        stage.until(lambda: book.driver.counters.get("audit_proved", 0) >= 2, 30)  # type: ignore[attr-defined]
        assert book.driver.counters["audit_held_down"] == 0  # type: ignore[attr-defined]
        exchange.fault("silence", symbol="BTCUSDT", seconds=60)
        stage.until(lambda: book.driver.counters["audit_held_down"] == 1, 60)  # type: ignore[attr-defined]
        assert mapped.image.read_live_row(row, time.time_ns(), liveness_ns_max=2**62)[0] is not Verdict.LIVE
        exchange.fault("silence", symbol="BTCUSDT", seconds=0)
        stage.until(lambda: live(run_dir) == 8, 60)


def test_people_see_the_book_in_redis(tmp_path: Path, run_dir: Path, stage: Stage, embedded_redis: RedisPair) -> None:
    with ExchangeProcess(tmp_path / "x", *LIVELY) as exchange, embedded_redis.bus_client() as bus:
        at(stage, exchange)
        bus.hset(key(KeyType.BOOK, ALL), "GONEUSDT", "{}")
        options = BookOptions(role="book", run_dir=str(run_dir), rest_url=exchange.base_url)
        driver = BookDriver(options, SystemClock(), lambda: 0.5, embedded_redis.bus_client)
        opened(stage, stage.host(driver, OpenImage(1)))
        feed = stage.feed()

        def shown() -> dict[str, dict[str, str]]:
            return {name.decode(): json.loads(row) for name, row in bus.hgetall(key(KeyType.BOOK, ALL)).items()}

        stage.until(lambda: [row.get("state") for row in shown().values()] == ["live"] * 24)
        rows = shown()
        assert "GONEUSDT" not in rows
        assert any(not name.isascii() for name in rows)
        assert all(float(row["bid"]) < float(row["ask"]) for row in rows.values())
        embedded_redis.bus.stop()
        stage.until(lambda: driver.counters.get("snapshots_lost", 0) > 0)
        embedded_redis.bus.start()
        stage.stop(feed)
        stage.until(lambda: {row["state"] for row in shown().values()} == {"feed_dead"})
