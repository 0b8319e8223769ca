"""Every fault of the exchange's table, ending with: no live row that is wrong, and every frame accounted for.

What the exchange sent = what the feed parsed + what it rejected, by reason; where a connection was cut off, what then
lay unread is the difference, and nothing else is.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.adapters.feed_driver import FeedOptions
from actors.adapters.image_file import remove_image
from actors.messages import FeedStatus
from kernels.book_image import Verdict
from kernels.fixed8 import parse_price
from tests.actors.feed_process import start_feed
from tests.actors.market_stage import Stage
from tests.actors.test_feed_driver import Scene, image_of
from tests.venues.exchange_process import ExchangeProcess

STEADY = ("--symbols", "16", "--rate", "300", "--opportunity-every-s", "0", "--buffer-bytes", "65536")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with ExchangeProcess(tmp_path / "x", *STEADY) as exchange:
        scene = Scene(exchange, tmp_path / "run")
        scene.until(scene.all_live)
        yield scene
        scene.stage.close()
    remove_image(tmp_path / "run")


def connections(exchange: ExchangeProcess) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = exchange.get("/paper/frames")["connections"]
    return told


def hold_to_truth(scene: Scene, name: str) -> None:
    """Wait for a live row whose update id the venue's own book has at the same time: they must say the same."""

    def matched() -> bool:
        verdict, row = scene.row(name)
        told = scene.exchange.get(f"/api/v3/depth?symbol={name}&limit=1")
        if verdict is not Verdict.LIVE or row.venue_update_id != told["lastUpdateId"]:
            return False
        (bid, bid_qty), (ask, ask_qty) = told["bids"][0], told["asks"][0]
        figures = [parse_price(text) for text in (bid, bid_qty, ask, ask_qty)]
        assert figures == [row.bid_px, row.bid_qty, row.ask_px, row.ask_qty]
        return True

    scene.until(matched, 40)


def settled(scene: Scene) -> FeedStatus:
    """Let nothing more come, and return the status once it has not changed for a second."""
    scene.exchange.fault("silence", seconds=600)
    status = scene.status()
    while (later := scene.status()).frames != status.frames:
        status = later
    return status


def test_every_bad_late_doubled_or_missing_frame_is_accounted_for_and_no_live_row_is_wrong(scene: Scene) -> None:
    exchange = scene.exchange
    names = [name for name in scene.names if name.isascii()]
    sent = {
        fault: exchange.fault(fault, symbol=name, n=3)
        for fault, name in zip(
            ("overflow_quantity", "malformed_frame", "truncated_frame", "one_sided", "crossed", "duplicate"),
            names,
            strict=False,
        )
    }
    assert set(sent.values()) == {3}
    for fault in ("gap", "reorder"):
        exchange.fault(fault, symbol=names[6], n=3)
    exchange.fault("silence", symbol=names[7], seconds=1)
    wanted = {"not_json": 6, "one_sided": 3, "crossed": 3, "stale_update_id": 6}
    scene.until(lambda: scene.feed.last(FeedStatus).rejected == wanted, 40)
    exchange.fault("silence", connection=connections(exchange)[-1]["number"], seconds=0.2)
    scene.until(scene.all_live, 40)
    for name in names[:8]:
        hold_to_truth(scene, name)
    status = settled(scene)
    assert status.rejected == wanted
    assert status.quantity_capped == 3
    assert status.frames == status.parsed + sum(status.rejected.values())
    account = connections(exchange)[-1]
    assert account["sent"] == status.frames
    assert account["due"] == account["sent"] + sum(account["lost"].values())
    assert sum(exchange.get("/paper/frames")["withheld"][f"{names[6].lower()}@bookTicker"].values()) >= 3


def test_whatever_befalls_its_connections_every_frame_is_accounted_for_and_no_live_row_is_wrong(scene: Scene) -> None:
    exchange, image = scene.exchange, scene.mapped.image

    def epoch() -> int:
        return image.read_header(0).epoch

    for fault, fields in (
        ("drop", {}),
        ("daily_disconnect", {}),
        ("http_status", {"status": 429, "n": 1, "retry_after_s": 1}),
        ("http_status", {"status": 418, "n": 1, "retry_after_s": 1}),
        ("half_open", {}),
    ):
        before = epoch()
        exchange.fault(fault, **fields)
        if fault == "http_status":
            exchange.fault("drop")
        scene.until(lambda before=before: epoch() > before, 40)  # type: ignore[misc]
        scene.until(scene.all_live, 40)
    # A backlog, and a venue that does not read our pings: not live while it lasts, and the same epoch behind it.
    for fault in ("backlog", "stop_reading"):
        before = epoch()
        exchange.fault(fault, seconds=2)
        scene.until(lambda: scene.live() == 0, 40)
        scene.until(scene.all_live, 40)
        assert epoch() == before
    for name in scene.names[:3]:
        hold_to_truth(scene, name)
    status = settled(scene)
    assert not status.rejected
    assert status.reconnects == 5
    assert scene.feed.driver.counters["refused.http_429"] == 1  # type: ignore[attr-defined]
    accounts = connections(exchange)
    assert len(accounts) == 6
    assert all(one["due"] == one["sent"] + sum(one["lost"].values()) for one in accounts)
    unread = sum(one["sent"] for one in accounts) - status.frames
    cut_off = [one for one in accounts if one["ended"].startswith("dropped")]
    assert 0 <= unread <= sum(one["sent"] for one in cut_off)
    assert status.frames == status.parsed


def test_a_consumer_too_slow_is_cut_off_and_its_rows_count_only_by_what_comes_after(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with ExchangeProcess(tmp_path / "x", *STEADY, "--rate", "20000") as exchange:
        mapped = image_of(exchange, run_dir)
        feed = start_feed(FeedOptions(role="feed.spot.0", run_dir=str(run_dir), ws_url=exchange.ws_url), 1)
        stage = Stage(run_dir, exchange.base_url, exchange.ws_url)
        try:
            stage.until(lambda: mapped.image.read_header(0).parsed > 0, 40)
            epoch = mapped.image.read_header(0).epoch
            os.kill(feed.pid, signal.SIGSTOP)
            stage.until(lambda: any(one["ended"].startswith("dropped") for one in connections(exchange)), 60)
            os.kill(feed.pid, signal.SIGCONT)
            stage.until(lambda: mapped.image.read_header(0).epoch > epoch, 40)
            stage.until(lambda: mapped.image.read_header(0).parsed > 0, 40)
            header = mapped.image.read_header(0)
            for number in range(len(mapped.record.symbols)):
                verdict, row = mapped.image.read_live_row(number, header.live_ns)
                assert row is not None
                assert verdict is not Verdict.LIVE or row.epoch > epoch
        finally:
            feed.kill()
            feed.wait(60)
            stage.close()
            remove_image(run_dir)
