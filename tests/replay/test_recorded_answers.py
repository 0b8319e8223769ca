"""The recorded market gives the known answers, and every frame of every recording is accounted for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from actors.offline import CyclesReport, cycles_command, replay_command
from kernels.evaluate import Decision

pytestmark = pytest.mark.data
Recorded = Callable[[str], Path]
LISTING_2019 = "binance/exchange_info/exchangeInfo_2019-08-22_full.json.gz"
LISTING_2021 = "binance/exchange_info/exchangeInfo_2021-08-26_full.json.gz"
SNAPSHOT_2019 = "binance/snapshots/bookTicker_2019-08-22.json"


@pytest.mark.parametrize(
    ("listing", "start", "expected"),
    [
        (LISTING_2019, "USDT", CyclesReport(595, 546, 833, 440)),
        (LISTING_2021, "USDT", CyclesReport(1608, 1207, 1869, 1578)),
        (LISTING_2021, None, CyclesReport(1608, 1207, 1869, 3738)),
    ],
)
def test_the_listings_have_their_known_cycles(
    recorded: Recorded, listing: str, start: str | None, expected: CyclesReport
) -> None:
    assert cycles_command(recorded(listing), start) == expected


@pytest.mark.parametrize(("fee_bps", "opportunities"), [("0", 1), ("7.5", 0), ("10", 0)])
def test_the_snapshot_of_2019_holds_one_cycle_above_one_and_none_after_fees(
    recorded: Recorded, fee_bps: str, opportunities: int
) -> None:
    report = replay_command([recorded(SNAPSHOT_2019)], recorded(LISTING_2019), "USDT", fee_bps)
    assert (report.frames, report.parsed, report.rejected) == (595, 546, {"empty_book": 48, "one_sided": 1})
    assert (report.directed_cycles, report.evaluations, report.above_one_gross) == (440, 440, 1)
    assert report.best_gross_return == "1.000099760072"
    assert report.best_cycle == ("PAXUSDT:BUY", "PAXTUSD:SELL", "TUSDUSDT:SELL")
    assert report.opportunities == opportunities


def test_the_opportunity_of_2019_is_worked_out_to_the_last_count(recorded: Recorded) -> None:
    found: list[Decision] = []
    replay_command([recorded(SNAPSHOT_2019)], recorded(LISTING_2019), "USDT", "0", on_opportunity=found.append)
    (one,) = found
    # TUSDUSDT bids for 28.11 TUSD: 28.12 PAX at 1.0003 cost 28.128436 and give 28.111564 TUSD, of which 28.11 sell
    # at 1.0007 (lots of 0.01).
    assert (one.spent, one.received, one.net_return) == (2_812_843_600, 2_812_967_700, "1.000044119054")
    assert [step.qty for step in one.steps] == [2_812_000_000, 2_812_000_000, 2_811_000_000]
    assert one.steps[2].residual == 156_400


@pytest.mark.parametrize(
    ("files", "frames", "parsed", "rejected"),
    [
        (("spot_btcusdt_20240808.gz",), 41249, 28040, {"not_book_ticker": 13209}),
        (("spot_btcusdt_20240808.gz", "spot_ethusdt_20240808.gz"), 74867, 52117, {"not_book_ticker": 22750}),
        (("cryptofeed_BINANCE.ws.1.0",), 265, 84, {"not_book_ticker": 181}),
        (("cryptofeed_BINANCE.http.0.0",), 4, 0, {"not_book_ticker": 4}),
        (("cryptofeed_BINANCE.0.gz",), 1, 0, {"not_book_ticker": 1}),
    ],
)
def test_the_recorded_streams_replay_with_every_frame_accounted_for(
    recorded: Recorded, files: tuple[str, ...], frames: int, parsed: int, rejected: dict[str, int]
) -> None:
    paths = [recorded(f"binance/streams/{name}") for name in files]
    report = replay_command(paths, recorded(LISTING_2021), "USDT", "10")
    assert (report.frames, report.parsed, report.rejected) == (frames, parsed, rejected)
    assert report.frames == report.parsed + sum(report.rejected.values())
