"""Depth on real sockets: ladders in the image against what the exchange itself says under the same update id."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.adapters.feed_driver import FeedOptions
from actors.adapters.image_file import FeedSlot, MappedImage, open_image, remove_image, withdraw_record
from actors.market_rows import assign_rows
from actors.messages import FeedStatus
from kernels.book_image import Ladder, RowStatus, Verdict
from kernels.exchange_info import parse_exchange_info
from kernels.fixed8 import parse_price
from tests.actors.market_stage import Hosted, Stage
from tests.venues.exchange_process import ExchangeProcess

BUSY = ("--symbols", "12", "--rate", "600", "--opportunity-every-s", "0")
DEPTH = ("BTCUSDT", "ETHUSDT")
LEVELS = 10


class DepthScene:
    """An exchange, an image with two ladders, and one feed."""

    def __init__(self, exchange: ExchangeProcess, run_dir: Path, **options: Any) -> None:
        self.exchange = exchange
        self.stage = Stage(run_dir, exchange.base_url, exchange.ws_url)
        self.mapped = depth_image(exchange, run_dir)
        self.names = [symbol.name for symbol in self.mapped.record.symbols]
        self.feed: Hosted = self.stage.feed(rest_url=exchange.base_url, **options)

    def ladder(self, name: str = DEPTH[0]) -> tuple[Verdict, Ladder | None]:
        """Judged as of the feed's own last beat, so that this test may be slow."""
        image, row = self.mapped.image, self.names.index(name)
        slot = int(image.ladder_feed[image.row_ladder[row]])
        return image.read_live_ladder(row, image.read_header(slot).live_ns)

    def until_live(self) -> None:
        self.stage.until(lambda: all(self.ladder(name)[0] is Verdict.LIVE for name in DEPTH), 30)

    def counters(self) -> dict[str, int]:
        counters: dict[str, int] = self.feed.driver.counters  # type: ignore[attr-defined]
        return counters


def depth_image(exchange: ExchangeProcess, run_dir: Path) -> MappedImage:
    listed = parse_exchange_info(json.dumps(exchange.get("/api/v3/exchangeInfo")).encode())
    symbols, feeds, row_feed, ladders, _ = assign_rows(listed, None, 1, 200, DEPTH)
    run_dir.mkdir(exist_ok=True)
    withdraw_record(run_dir)
    slots = [FeedSlot(*feed) for feed in feeds]
    return open_image(
        run_dir, symbols, row_feed, slots, "venue", ring_slots=1024, ladders=ladders, ladder_levels=LEVELS
    )[0]


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run"
    remove_image(tmp_path / "run")


@pytest.fixture(scope="module")
def busy_exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExchangeProcess]:
    with ExchangeProcess(tmp_path_factory.mktemp("busy") / "x", *BUSY) as exchange:
        yield exchange


@pytest.fixture
def scene(busy_exchange: ExchangeProcess, run_dir: Path) -> Iterator[DepthScene]:
    scene = DepthScene(busy_exchange, run_dir)
    scene.until_live()
    yield scene
    scene.stage.close()


def assert_as_rest_says(scene: DepthScene, name: str) -> None:
    """Take snapshots of the venue's until one is of an update id that the ladder has been seen at."""
    seen: dict[int, tuple[list[list[int]], list[list[int]]]] = {}
    told: dict[int, Any] = {}

    def matched() -> bool:
        verdict, ladder = scene.ladder(name)
        if verdict is Verdict.LIVE and ladder is not None:
            seen[ladder.venue_update_id] = ladder.bids.tolist(), ladder.asks.tolist()
        reply = scene.exchange.get(f"/api/v3/depth?symbol={name}&limit=100")
        told[reply["lastUpdateId"]] = reply
        return bool(seen.keys() & told.keys())

    scene.stage.until(matched, 30)
    at = max(seen.keys() & told.keys())
    for held, side in zip(seen[at], ("bids", "asks"), strict=True):
        wanted = [[parse_price(price), parse_price(quantity)] for price, quantity in told[at][side]]
        assert held == wanted[: len(held)]
        assert len(held) == min(LEVELS, len(wanted))


def test_ladders_are_the_venues_own_levels_at_their_update_id(scene: DepthScene) -> None:
    for name in DEPTH:
        assert_as_rest_says(scene, name)
    assert scene.ladder("BNBUSDT" if "BNBUSDT" in scene.names else scene.names[-1])[1] is None


def test_every_depth_frame_is_accounted_for(scene: DepthScene) -> None:
    assert_as_rest_says(scene, DEPTH[0])
    count = len(scene.feed.all(FeedStatus))
    scene.stage.until(lambda: len(scene.feed.all(FeedStatus)) > count + 1)
    status: FeedStatus = scene.feed.last(FeedStatus)
    assert status.frames == status.parsed + sum(status.rejected.values())
    counters = scene.counters()
    assert counters["depth.applied"] > 0
    assert counters["snapshots"] >= len(DEPTH)
    assert counters["depth.snapshot_applied"] >= len(DEPTH)


def test_a_connection_cut_off_voids_the_ladders_and_splices_them_anew(scene: DepthScene) -> None:
    def epochs() -> list[int]:
        ladders = [scene.ladder(name)[1] for name in DEPTH]
        return [ladder.epoch if ladder is not None else 0 for ladder in ladders]

    before = max(epochs())
    scene.exchange.fault("drop")
    scene.stage.until(lambda: min(epochs()) > before, 30)
    scene.until_live()
    assert_as_rest_says(scene, DEPTH[1])


def test_while_the_venue_gives_no_snapshot_the_ladder_is_a_gap(scene: DepthScene) -> None:
    scene.exchange.fault("http_status", status=429, n=2, retry_after_s=1)
    scene.exchange.fault("drop")
    scene.stage.until(lambda: scene.ladder()[0] is not Verdict.LIVE)
    scene.stage.until(lambda: (ladder := scene.ladder()[1]) is not None and ladder.status is RowStatus.GAP, 30)
    scene.until_live()
    assert_as_rest_says(scene, DEPTH[0])


def test_options_default_to_no_depth_capture_or_early_end() -> None:
    options = FeedOptions(role="feed.spot.0", run_dir="x", ws_url="ws://127.0.0.1:1")
    assert (options.capture_mb_max, options.connection_life_s) == (0, 82_800.0)


def test_a_missed_diff_is_a_gap_until_the_book_is_spliced_anew_and_a_late_one_changes_nothing(
    scene: DepthScene,
) -> None:
    gaps = scene.counters().get("depth.gap", 0)
    scene.exchange.fault("gap", symbol=DEPTH[0], stream="depth", n=1)
    scene.stage.until(lambda: scene.counters().get("depth.gap", 0) > gaps, 30)
    scene.until_live()
    assert_as_rest_says(scene, DEPTH[0])
    # A diff that comes behind its successor shows a gap first, and is of no use when it comes.
    gaps = scene.counters()["depth.gap"]
    scene.exchange.fault("reorder", symbol=DEPTH[1], stream="depth", n=1)
    scene.stage.until(lambda: scene.counters()["depth.gap"] > gaps, 30)
    scene.stage.until(lambda: scene.counters().get("rejected.stale_update_id", 0) > 0, 30)
    scene.until_live()
    assert_as_rest_says(scene, DEPTH[1])
