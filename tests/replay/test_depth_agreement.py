"""Live path, offline replay, `feed.replay.0` and a plain oracle agree on a depth market: see `depth_agreement`."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.adapters import feed_driver, feed_pulse, venue_rest
from actors.adapters.capture_file import CaptureFile
from kernels.capture_records import SlotRecord
from tests.replay.depth_agreement import agree_on_depth


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still for some seconds is no event of the market."""
    monkeypatch.setattr(feed_pulse, "DEAD_NS_MAX", 10**12)
    monkeypatch.setattr(venue_rest, "TIMEOUT_S", 300.0)


def test_opportunities_sized_from_depth_come_out_the_same_three_ways(tmp_path: Path) -> None:
    agreed = agree_on_depth(tmp_path, 1_000, seed=1)
    print(agreed)
    assert agreed.replayed == agreed.steps >= 1_000
    assert agreed.deep > 100
    assert agreed.opportunities > agreed.deep
    assert agreed.outcomes["gap"] > 2
    assert agreed.outcomes["snapshot_applied"] > 5


@pytest.mark.parametrize(("of_tickers", "of_depth"), [(11_000, 25_000), (30_000, 12_000)])
def test_what_is_left_of_captures_that_rolled_over_comes_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_tickers: int, of_depth: int
) -> None:
    """Which begins later in what is left: tickers within an epoch, with rows that stood; or depth, with its books."""

    def small(path: Path, _bytes_max: int, slot: SlotRecord) -> CaptureFile:
        return CaptureFile(path, of_depth if slot.is_depth else of_tickers, slot)

    monkeypatch.setattr(feed_driver, "CaptureFile", small)
    agreed = agree_on_depth(tmp_path, 700, seed=3)
    print(agreed)
    assert 50 < agreed.replayed < 500
    assert agreed.deep > 100
