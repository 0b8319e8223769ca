"""The feed's driver on real sockets: every fault of the exchange's table, and every frame accounted for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from actors.adapters import feed_connection, feed_link
from actors.adapters.assembly import BeatReturned
from actors.adapters.capture_file import read_capture
from actors.adapters.feed_driver import FeedOptions
from actors.adapters.feed_pulse import DEAD_NS_MAX, PING_EVERY_NS, PONG_NS_MAX
from actors.adapters.image_file import FeedSlot, MappedImage, open_image, remove_image, withdraw_record
from actors.adapters.worker import EXIT_CODE
from actors.market_rows import assign_rows
from actors.messages import FeedStatus
from kernels.book_image import LIVENESS_NS_MAX, Row, RowStatus, Verdict
from kernels.exchange_info import Symbol, parse_exchange_info
from kernels.record_index import EPOCH, FRAME, SLOT
from kernels.row_tally import tally_rows
from tests.actors.feed_process import start_feed
from tests.actors.market_stage import Hosted, Stage
from tests.venues.exchange_process import ExchangeProcess

CALM = ("--symbols", "16", "--rate", "300", "--opportunity-every-s", "0")
SYMBOL = "BTCUSDT"


class Scene:
    """An exchange, an image of its symbols, and one feed."""

    def __init__(self, exchange: ExchangeProcess, run_dir: Path, per_connection: int = 200, **options: float) -> None:
        self.exchange = exchange
        self.stage = Stage(run_dir, exchange.base_url, exchange.ws_url)
        self.mapped = image_of(exchange, run_dir, per_connection)
        self.names = [symbol.name for symbol in self.mapped.record.symbols]
        self.feed: Hosted = self.stage.feed(**options)

    def beat_ns(self) -> int:
        """When the feed last beat: what counted then does not depend on how late this test looks."""
        return self.mapped.image.read_header(0).live_ns

    def row(self, name: str = SYMBOL) -> tuple[Verdict, Row]:
        verdict, row = self.mapped.image.read_live_row(self.names.index(name), self.beat_ns())
        assert row is not None
        return verdict, row

    def live(self, now_ns: int | None = None) -> int:
        return tally_rows(self.mapped.image, now_ns or time.time_ns()).live

    def all_live(self) -> bool:
        return self.live() == sum(symbol.trading for symbol in self.mapped.record.symbols)

    def status(self) -> FeedStatus:
        """Return a status made after now."""
        count = len(self.feed.all(FeedStatus))
        self.until(lambda: len(self.feed.all(FeedStatus)) > count + 1)
        status: FeedStatus = self.feed.last(FeedStatus)
        return status

    def until(self, condition: Callable[[], bool], seconds_max: float = 60.0) -> None:
        self.stage.until(condition, seconds_max)


def image_of(exchange: ExchangeProcess, run_dir: Path, per_connection: int = 200) -> MappedImage:
    listed = parse_exchange_info(json.dumps(exchange.get("/api/v3/exchangeInfo")).encode())
    symbols, feeds, row_feed, *_ = assign_rows(listed, None, 1, per_connection)
    run_dir.mkdir(exist_ok=True)
    withdraw_record(run_dir)
    return open_image(run_dir, symbols, row_feed, [FeedSlot(*feed) for feed in feeds], "venue", ring_slots=1024)[0]


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "run"
    remove_image(tmp_path / "run")


@pytest.fixture(scope="module")
def calm_exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExchangeProcess]:
    """One for all tests that leave it as they found it."""
    with ExchangeProcess(tmp_path_factory.mktemp("exchange"), *CALM) as exchange:
        yield exchange


@pytest.fixture
def scene(calm_exchange: ExchangeProcess, run_dir: Path) -> Iterator[Scene]:
    scene = Scene(calm_exchange, run_dir)
    scene.until(scene.all_live)
    yield scene
    scene.stage.close()
    calm_exchange.fault("silence", symbol=SYMBOL, seconds=0)


def test_every_symbol_comes_to_live_whatever_its_script(scene: Scene) -> None:
    assert any(not name.isascii() for name in scene.names)
    scene.until(lambda: scene.feed.last(FeedStatus).up)
    status = scene.status()
    assert status.frames == status.parsed > 0
    assert not status.rejected
    assert status.reconnects == 0
    assert 0 < status.lag_ns < 5 * 10**9
    scene.until(lambda: scene.feed.driver.counters.get("lag_us.spot.0.0.p50", 0) > 0)  # type: ignore[attr-defined]
    counters = scene.feed.driver.counters  # type: ignore[attr-defined]
    assert counters["lag_us.spot.0.0.p99"] >= counters["lag_us.spot.0.0.p50"]
    assert scene.mapped.image.read_header(0).frames > 0


@pytest.mark.parametrize(
    ("fault", "fields", "reason", "status"),
    [
        ("malformed_frame", {}, "not_json", RowStatus.PARSE_FAILURE),
        ("truncated_frame", {}, "not_json", RowStatus.PARSE_FAILURE),
        ("one_sided", {"side": "bid"}, "one_sided", RowStatus.ONE_SIDED),
        ("one_sided", {"side": "ask"}, "one_sided", RowStatus.ONE_SIDED),
        ("crossed", {}, "crossed", RowStatus.CROSSED),
    ],
)
def test_a_bad_frame_makes_its_row_invalid_until_a_good_one_and_is_counted(
    scene: Scene, fault: str, fields: dict[str, object], reason: str, status: RowStatus
) -> None:
    scene.exchange.fault("silence", symbol=SYMBOL, seconds=60)
    scene.exchange.fault(fault, symbol=SYMBOL, n=3, **fields)
    scene.until(lambda: scene.row()[1].status is status)
    assert scene.row()[0] is Verdict.INVALID
    assert scene.live(scene.beat_ns()) == len(scene.names) - 1
    scene.exchange.fault("silence", symbol=SYMBOL, seconds=0)
    scene.until(lambda: scene.row()[0] is Verdict.LIVE)
    told = scene.status()
    assert told.rejected == {reason: 3}
    assert told.frames == told.parsed + 3


def test_a_quantity_that_does_not_fit_is_capped_flagged_and_counted(scene: Scene) -> None:
    scene.exchange.fault("silence", symbol=SYMBOL, seconds=60)
    scene.exchange.fault("overflow_quantity", symbol=SYMBOL, side="ask", n=2)
    scene.until(lambda: scene.row()[1].quantity_capped)
    verdict, row = scene.row()
    assert verdict is Verdict.LIVE
    assert row.ask_qty == 2**63 - 1
    told = scene.status()
    assert told.quantity_capped == 2
    assert scene.feed.driver.counters[f"capped.{SYMBOL}"] == 2  # type: ignore[attr-defined]
    assert not told.rejected


def test_a_frame_seen_twice_is_dropped_and_counted(scene: Scene) -> None:
    scene.exchange.fault("silence", symbol=SYMBOL, seconds=60)
    scene.exchange.fault("overflow_quantity", symbol=SYMBOL)
    scene.until(lambda: scene.row()[1].quantity_capped)
    before = scene.row()[1]
    scene.exchange.fault("duplicate", symbol=SYMBOL, n=4)
    scene.until(lambda: scene.status().rejected == {"stale_update_id": 4})
    assert scene.row()[1] == before


def test_a_silent_symbol_ages_and_the_others_do_not(scene: Scene) -> None:
    scene.exchange.fault("silence", symbol=SYMBOL, seconds=60)
    number = scene.names.index(SYMBOL)
    age_ns_max = 1_000_000_000

    def verdict() -> Verdict:
        return scene.mapped.image.read_live_row(number, time.time_ns(), age_ns_max)[0]

    scene.until(lambda: verdict() is Verdict.AGED)
    assert tally_rows(scene.mapped.image, time.time_ns(), age_ns_max).live >= 1
    assert scene.row()[0] is Verdict.LIVE


def test_a_connection_cut_off_is_made_again_and_rows_count_only_by_its_own_frames(scene: Scene) -> None:
    before = scene.mapped.image.read_header(0).epoch
    scene.exchange.fault("silence", symbol=SYMBOL, seconds=60)
    scene.exchange.fault("drop")
    scene.until(lambda: scene.mapped.image.read_header(0).epoch > before)
    scene.until(lambda: scene.live() == len(scene.names) - 1)
    assert scene.row()[0] is Verdict.FEED_DEAD
    scene.exchange.fault("silence", symbol=SYMBOL, seconds=0)
    scene.until(scene.all_live)
    scene.until(lambda: scene.feed.last(FeedStatus).up)
    assert scene.status().reconnects == 1
    assert [status.up for status in scene.feed.all(FeedStatus)].count(False) >= 1


def test_a_half_open_connection_stops_counting_at_once_and_is_given_up_later(scene: Scene) -> None:
    began_ns = time.time_ns()
    scene.exchange.fault("half_open")
    muted_ns = time.time_ns()
    scene.until(lambda: scene.live() == 0)
    # Whoever looks this much later sees no live row, however slow this test is.
    header = scene.mapped.image.read_header(0)
    assert header.live_ns <= muted_ns + PING_EVERY_NS + PONG_NS_MAX + 2 * LIVENESS_NS_MAX
    scene.until(lambda: not scene.feed.last(FeedStatus).up)
    scene.until(scene.all_live, 30)
    assert time.time_ns() - began_ns > DEAD_NS_MAX
    assert scene.status().reconnects == 1


def test_before_its_time_is_over_a_connection_hands_over_to_the_next_and_no_row_is_dead_meanwhile(
    tmp_path: Path, run_dir: Path
) -> None:
    with ExchangeProcess(tmp_path / "x", *CALM) as exchange:
        # A liveness bound that a loaded machine keeps: what is looked for is a break, not a late beat.
        scene = Scene(exchange, run_dir, connection_life_s=1.0, header_stale_ms=3_000)
        scene.until(scene.all_live)
        epoch = scene.mapped.image.read_header(0).epoch
        counters = scene.feed.driver.counters  # type: ignore[attr-defined]

        def handed_over() -> bool:
            assert scene.live(scene.beat_ns()) == len(scene.names)
            nonlocal counters
            counters = scene.feed.driver.counters  # type: ignore[attr-defined]
            return counters.get("handovers", 0) >= 3

        scene.until(handed_over, 40)
        assert scene.mapped.image.read_header(0).epoch == epoch
        assert all(status.up for status in scene.feed.all(FeedStatus)[1:])
        told = scene.status()
        # What both connections told was taken once.
        assert set(told.rejected) <= {"stale_update_id"}
        assert told.frames == told.parsed + sum(told.rejected.values())
        scene.stage.close()


def test_a_connection_that_ends_before_its_successor_has_taken_over_leaves_the_field_to_it(
    tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExchangeProcess(tmp_path / "x", *CALM, "--connection-life-s", "3") as exchange:
        scene = Scene(exchange, run_dir, connection_life_s=2.0)
        for _ in range(3):
            epoch = scene.mapped.image.read_header(0).epoch
            scene.until(scene.all_live)
            scene.exchange.fault("drop")
            scene.until(lambda before=epoch: scene.mapped.image.read_header(0).epoch > before)  # type: ignore[misc]
        scene.until(scene.all_live)
        told = scene.status()
        assert told.frames == told.parsed + sum(told.rejected.values())
        scene.stage.close()


@pytest.mark.parametrize("status", [429, 418])
def test_a_venue_that_refuses_is_left_alone_for_as_long_as_it_says(scene: Scene, status: int) -> None:
    scene.exchange.fault("http_status", status=status, n=1, retry_after_s=2)
    dropped_s = time.monotonic()
    scene.exchange.fault("drop")
    scene.until(lambda: f"HTTP {status}" in scene.feed.last(FeedStatus).reason)
    scene.until(scene.all_live)
    assert time.monotonic() - dropped_s > 2.0
    assert scene.feed.driver.counters[f"refused.http_{status}"] == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("in_address", [200, 1_000])
def test_more_streams_than_the_venue_takes_are_an_error_that_names_the_setting_and_no_row_counts(
    tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch, in_address: int
) -> None:
    """By HTTP 414 at first where all are named in the address; by an error reply to the messages that ask for more."""
    monkeypatch.setattr(feed_connection, "ADDRESS_STREAMS_MAX", in_address)
    with ExchangeProcess(tmp_path / "x", "--symbols", "230", "--rate", "2000") as exchange:
        scene = Scene(exchange, run_dir, per_connection=1_000)

        def refused(words: str) -> bool:
            told = [status.reason for status in scene.feed.all(FeedStatus)]
            return any(words in reason and "exchange.symbols_per_connection_max" in reason for reason in told)

        if in_address > 200:
            scene.until(lambda: refused("HTTP 414 at the upgrade: 230 streams in one address"))
        scene.until(lambda: refused("the venue refused streams"))
        assert scene.live() == 0
        assert not any(status.up for status in scene.feed.all(FeedStatus))
        scene.stage.close()
        scene = Scene(exchange, run_dir, per_connection=200)
        scene.until(scene.all_live, 30)
        scene.stage.close()


def test_streams_that_the_address_does_not_hold_are_asked_for_by_messages(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_connection, "ADDRESS_STREAMS_MAX", 5)
    monkeypatch.setattr(feed_link, "SUBSCRIBE_STREAMS_MAX", 4)
    run_dir = tmp_path / "other"
    other = Scene(scene.exchange, run_dir)
    try:
        other.until(other.all_live)
        told = other.status()
        # The replies are frames too, and none of a ticker.
        assert told.rejected == {"control": 3}
        assert told.frames == told.parsed + 3
    finally:
        other.stage.close()
        remove_image(run_dir)


def test_the_venues_pings_are_answered_and_ours_stay_within_its_limit(tmp_path: Path, run_dir: Path) -> None:
    options = ("--ping-interval-s", "0.5", "--pong-timeout-s", "1")
    with ExchangeProcess(tmp_path / "x", *CALM, *options) as exchange:
        scene = Scene(exchange, run_dir)
        scene.until(scene.all_live)
        frames = scene.status().frames
        scene.until(lambda: scene.feed.last(FeedStatus).frames > frames + 2 * 300)
        assert scene.status().reconnects == 0
        scene.stage.close()


def test_a_heartbeat_goes_through_the_loop_and_brings_its_counters(scene: Scene) -> None:
    scene.feed.driver.beat(7)
    scene.until(lambda: scene.feed.last(BeatReturned) is not None)
    beat: BeatReturned = scene.feed.last(BeatReturned)
    assert beat.nonce == 7
    assert beat.progress["frames"] > 0


def test_every_frame_of_a_recording_is_accounted_for_captured_and_folded(tmp_path: Path, run_dir: Path) -> None:
    frames, good, last = recorded_frames(2_000)
    recording, listing = tmp_path / "recording.txt", tmp_path / "listing.json"
    recording.write_bytes(b"".join(b"%d %b\n" % (at + 1, frame) for at, frame in enumerate(frames)))
    listing.write_bytes(listing_of("BTCUSDT", "ETHUSDT"))
    options = ("--exchange-info", str(listing), "--record", str(recording), "--pace", "0")
    with ExchangeProcess(tmp_path / "x", *options) as exchange:
        scene = Scene(exchange, run_dir, capture_mb_max=1)
        scene.until(lambda: scene.status().frames == len(frames))
        told = scene.status()
        assert told.parsed == good
        assert told.frames == told.parsed + sum(told.rejected.values())
        assert told.rejected == {"crossed": len(frames) - good}
        assert [scene.row(name)[1].venue_update_id for name in ("BTCUSDT", "ETHUSDT")] == last
        scene.stage.close()
    slot, epoch, *captured = read_capture(run_dir / "capture" / "spot.0.0.cap")
    assert (slot.kind, epoch.kind) == (SLOT, EPOCH)
    assert [(record.kind, record.payload) for record in captured] == [(FRAME, frame) for frame in frames]


def recorded_frames(count: int) -> tuple[list[bytes], int, list[int]]:
    """Return frames of two symbols, one in ten crossed; how many are good; the last good update id of each."""
    frames, good, last = [], 0, [0, 0]
    for at in range(1, count + 1):
        name, crossed = ("btcusdt", "ethusdt")[at % 2], at % 10 == 0
        bid, ask = (2, 1) if crossed else (1, 2)
        data = f'{{"u":{at},"s":"{name.upper()}","b":"{bid}.{at:04d}","B":"1.0","a":"{ask}.{at:04d}","A":"2.0"}}'
        frames.append(f'{{"stream":"{name}@bookTicker","data":{data}}}'.encode())
        if not crossed:
            good += 1
            last[at % 2] = at
    return frames, good, last


def listing_of(*names: str) -> bytes:
    symbols = [Symbol(name, "TRADING", name[:3], name[3:]) for name in names]
    return msgspec.json.encode(
        {
            "symbols": [
                {
                    "symbol": one.name,
                    "status": one.status,
                    "baseAsset": one.base,
                    "quoteAsset": one.quote,
                    "filters": [],
                }
                for one in symbols
            ]
        }
    )


def test_a_feed_ends_when_the_image_is_replaced_or_a_later_incarnation_has_its_rows(
    tmp_path: Path, run_dir: Path
) -> None:
    with ExchangeProcess(tmp_path / "x", *CALM) as exchange:
        mapped = image_of(exchange, run_dir)
        options = FeedOptions(role="feed.spot.0", run_dir=str(run_dir), ws_url=exchange.ws_url)
        first = start_feed(options, 1)
        stage = Stage(run_dir, exchange.base_url, exchange.ws_url)
        stage.until(lambda: tally_rows(mapped.image, time.time_ns()).live > 0, 30)
        second = start_feed(options, 2)
        assert first.wait(60) == EXIT_CODE
        stage.until(lambda: tally_rows(mapped.image, time.time_ns()).live > 0)
        assert second.poll() is None
        image_of(exchange, run_dir, per_connection=5)
        assert second.wait(60) == EXIT_CODE
