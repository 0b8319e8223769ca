"""Live path, offline replay and reference agree bit for bit: see `tests.replay.agreement` for what is compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.replay import agreement
from tests.replay.agreement import agree, generated_market, recorded_market

Recorded = Callable[[str], Path]
LISTING = "binance/exchange_info/exchangeInfo_2021-08-26_full.json.gz"
STREAMS = tuple(f"binance/streams/spot_{name}_20240808.gz" for name in ("btcusdt", "ethusdt"))


@pytest.mark.parametrize("lockstep", [True, False], ids=["lockstep", "free-running"])
def test_an_hour_of_generated_market(tmp_path: Path, lockstep: bool) -> None:
    # A frame a second keeps it short; `make agree` plays twenty.
    agreed = agree(generated_market(3_600, 1.0), tmp_path, lockstep, 20 if lockstep else 1_000)
    print(agreed)
    assert agreed.frames == 3_600
    assert agreed.offline_decisions > 1_000
    if lockstep:
        # How much coalesces otherwise is the machine's affair.
        assert agreed.told > 50
        assert agreed.live_looks > 3_600


@pytest.mark.data
def test_the_recorded_streams_one_frame_after_another(tmp_path: Path, recorded: Recorded) -> None:
    market = recorded_market([recorded(name) for name in STREAMS], recorded(LISTING), frames_max=3_000)
    agreed = agree(market, tmp_path, lockstep=True, one_in=5)
    assert agreed.live_decisions >= agreed.offline_decisions > 100
    assert agreed.told > 5


@pytest.mark.data
def test_the_whole_recorded_streams_as_fast_as_they_are_read(tmp_path: Path, recorded: Recorded) -> None:
    market = recorded_market([recorded(name) for name in STREAMS], recorded(LISTING))
    agreed = agree(market, tmp_path, lockstep=False, one_in=500)
    print(agreed)
    assert agreed.frames == len(market.frames) > 74_867
    assert agreed.offline_decisions > 3_000


def test_a_row_that_was_never_written_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    market = generated_market(300, 1.0)

    class Wrong(agreement.Offline):
        def apply(self, received_ns: int, frame: bytes) -> agreement.Look | None:
            look = super().apply(received_ns, frame)
            if look is not None:
                written = self.history[look.changed[0]]
                written[-1] = written[-1]._replace(bid_px=written[-1].bid_px + 1)
            return look

    monkeypatch.setattr(agreement, "Offline", Wrong)
    with pytest.raises(AssertionError):
        agree(market, tmp_path, lockstep=True, one_in=1_000)
