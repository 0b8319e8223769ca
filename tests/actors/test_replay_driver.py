"""Replay feeds: what was captured comes to the same rows again, live and offline, at each pace."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.adapters.capture_file import CaptureFile, read_capture
from actors.adapters.clock import SystemClock
from actors.adapters.image_file import find_image, remove_image
from actors.adapters.market_wiring import check_replay
from actors.adapters.replay_driver import OVER, ReplayDriver, ReplayOptions
from actors.market_rows import REPLAY_ROLE
from actors.messages import BookStatus, FeedStatus, ImageOpened, StartFeed
from actors.offline import replay_command
from config.schema import SettingsError, load
from kernels.book_image import BookImage, RowStatus
from kernels.record_index import EPOCH, FRAME
from tests.actors.market_stage import Hosted, Stage
from tests.actors.test_feed_driver import Scene, listing_of, recorded_frames
from tests.venues.exchange_process import ExchangeProcess

FAULTS = ("malformed_frame", "crossed", "overflow_quantity", "one_sided", "truncated_frame", "duplicate")
Figures = tuple[int, int, int, int, int, RowStatus, bool]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path / "replayed", "http://127.0.0.1:1", "ws://127.0.0.1:1")
    yield stage
    stage.close()
    remove_image(tmp_path / "replayed")


def figures(image: BookImage) -> list[Figures]:
    """Return every row's figures, without its sequence and its time."""
    found = []
    for number in range(image.layout.n_rows):
        row = image.read_row(number)
        assert row is not None
        figures = (row.bid_px, row.bid_qty, row.ask_px, row.ask_qty, row.venue_update_id)
        found.append((*figures, row.status, row.quantity_capped))
    return found


def play(stage: Stage, listing: Path, *paths: Path, pace: float = 0.0) -> tuple[Hosted, Hosted]:
    book = stage.book(replayed_info=str(listing), replayed_paths=tuple(map(str, paths)))
    options = ReplayOptions(role=REPLAY_ROLE, run_dir=str(stage.run_dir), paths=tuple(map(str, paths)), pace=pace)
    return book, stage.host(ReplayDriver(options, SystemClock()), StartFeed(1))


def image(stage: Stage) -> BookImage:
    mapped = find_image(stage.run_dir, writable=False)
    assert mapped is not None
    return mapped.image


def is_over(feed: Hosted) -> bool:
    status: FeedStatus | None = feed.last(FeedStatus)
    return status is not None and status.reason == OVER


def test_what_was_captured_replays_to_exactly_the_same_rows_and_counts(tmp_path: Path, stage: Stage) -> None:
    """Two connections, faults on both; then the capture alone."""
    run_dir = tmp_path / "run"
    with ExchangeProcess(tmp_path / "x", "--symbols", "12", "--rate", "400", "--opportunity-every-s", "0") as exchange:
        listing = tmp_path / "listing.json"
        listing.write_text(json.dumps(exchange.get("/api/v3/exchangeInfo")))
        scene = Scene(exchange, run_dir, capture_mb_max=8)
        scene.until(scene.all_live)
        for fault in FAULTS:
            exchange.fault(fault, symbol="BTCUSDT", n=2)
        epoch = scene.mapped.image.read_header(0).epoch
        exchange.fault("drop")
        scene.until(lambda: scene.mapped.image.read_header(0).epoch > epoch)
        scene.until(scene.all_live)
        exchange.fault("crossed", symbol="ETHUSDT", n=3)
        exchange.fault("silence", symbol="ETHUSDT", seconds=60)
        scene.until(lambda: scene.feed.last(FeedStatus).rejected.get("crossed", 0) >= 5)
        scene.stage.stop(scene.feed)
        live = figures(scene.mapped.image)
        told: FeedStatus = [*scene.feed.all(FeedStatus)][-1]
    capture = run_dir / "capture" / "spot.0.0.cap"
    captured = list(read_capture(capture))
    assert sum(record.kind == EPOCH for record in captured) == 2
    _, feed = play(stage, listing, capture)
    stage.until(lambda: is_over(feed), 30)
    replayed: FeedStatus = feed.last(FeedStatus)
    assert figures(image(stage)) == live
    frames = sum(record.kind == FRAME for record in captured)
    assert replayed.frames == frames >= told.frames
    assert replayed.frames == replayed.parsed + sum(replayed.rejected.values())
    offline = replay_command([capture], listing)
    assert (offline.frames, offline.parsed, offline.rejected) == (frames, replayed.parsed, replayed.rejected)
    remove_image(run_dir)


def test_every_line_is_played_and_the_slot_is_down_once_it_is_over(tmp_path: Path, stage: Stage) -> None:
    frames, good, last = recorded_frames(3_000)
    listing, recording = tmp_path / "listing.json", tmp_path / "recording.gz"
    listing.write_bytes(listing_of("BTCUSDT", "ETHUSDT"))
    lines = b"".join(b"%d %b\n" % (at + 1, frame) for at, frame in enumerate(frames))
    recording.write_bytes(gzip.compress(lines + b"garbage without a frame\n"))
    book, feed = play(stage, listing, recording)
    stage.until(lambda: is_over(feed), 30)
    status: FeedStatus = feed.last(FeedStatus)
    assert (status.frames, status.parsed) == (3_001, good)
    assert status.rejected == {"crossed": 3_000 - good, "bad_line": 1}
    assert [row[4] for row in figures(image(stage))] == last
    assert not status.up
    assert book.last(ImageOpened).source == "file"
    stage.until(lambda: (told := book.last(BookStatus)) is not None and told.feeds_down == ("replay.0",))


def test_at_a_pace_frames_come_when_they_are_due_and_the_header_beats_in_between(tmp_path: Path, stage: Stage) -> None:
    frames, _, last = recorded_frames(4)
    listing, recording = tmp_path / "listing.json", tmp_path / "recording.txt"
    listing.write_bytes(listing_of("BTCUSDT", "ETHUSDT"))
    start_ns = 1_700_000_000_000_000_000
    recording.write_bytes(b"".join(b"%d %b\n" % (start_ns + at * 10**9, frame) for at, frame in enumerate(frames)))
    _, feed = play(stage, listing, recording, pace=2.0)
    stage.until(lambda: (status := feed.last(FeedStatus)) is not None and status.up, 30)
    began_s = time.monotonic()
    beats = set()

    def over() -> bool:
        beats.add(image(stage).read_header(0).live_ns)
        return is_over(feed)

    stage.until(over, 30)
    # Three seconds of recording at twice the pace.
    assert time.monotonic() - began_s >= 1.0
    assert len(beats) >= 5
    assert [row[4] for row in figures(image(stage))] == last


def test_two_captures_are_merged_and_a_mark_of_one_leaves_the_rows_of_the_other(tmp_path: Path, stage: Stage) -> None:
    frames, _, _ = recorded_frames(8)
    listing = tmp_path / "listing.json"
    listing.write_bytes(listing_of("BTCUSDT", "ETHUSDT"))
    paths = [tmp_path / name for name in ("a.cap", "b.cap")]
    for number, path in enumerate(paths):
        capture = CaptureFile(path, 1 << 20)
        capture.mark_epoch(1)
        for at, frame in enumerate(frames):
            if at % 2 == number:
                capture.write(10 + at, frame)
        if number == 0:
            capture.mark_epoch(100)
        capture.close()
    _, feed = play(stage, listing, *paths)
    stage.until(lambda: is_over(feed), 30)
    by_name = dict(zip(("BTCUSDT", "ETHUSDT"), figures(image(stage)), strict=True))
    # Even places of the recording are of ETHUSDT, and in the capture that ends with a mark.
    assert by_name["ETHUSDT"][5] is RowStatus.GAP
    assert by_name["BTCUSDT"][5] is RowStatus.VALID


def test_a_recording_that_cannot_be_played_is_refused_by_field_value_and_remedy(tmp_path: Path) -> None:
    path, gone = tmp_path / "there.cap", tmp_path / "gone.cap"
    path.touch()
    listing = "exchange.replay.exchange_info"
    check_replay(load(None, [f'exchange.replay.paths=["{path}"]', f'{listing}="{path}"']))
    for overrides, words in (
        ([f'exchange.replay.paths=["{path}", "{gone}"]', f'{listing}="{path}"'], "exchange.replay.paths[1] is"),
        ([f'exchange.replay.paths=["{path}"]', f'{listing}="{gone}"'], f"{listing} is"),
    ):
        with pytest.raises(SettingsError) as refused:
            check_replay(load(None, overrides))
        assert words in str(refused.value)
        assert str(gone) in str(refused.value)
        assert "Remedy" in str(refused.value)
    for overrides in (
        [f'exchange.replay.paths=["{path}"]'],
        [f'exchange.replay.paths=["{path}"]', f'{listing}="{path}"', "exchange.redundancy=2"],
        ["exchange.replay.pace=-1"],
    ):
        with pytest.raises(SettingsError, match=r"exchange\.replay.*Remedy"):
            load(None, overrides)
