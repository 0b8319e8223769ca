"""A feed that is stopped or killed while opportunities are frequent: no decision uses a row of it later than 250 ms."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.chaos.books import Rows, lines
from tests.chaos.engine_process import EngineRun

STALE_NS = 250_000_000
AGE_NS_MAX = 5_000_000_000
SEED = 241_121
FEED, FEEDS = "feed.spot.0", 2
FREQUENT = (
    "momentum.enabled=false",
    "venues.exchange.opportunity_every_s=0.6",
    f"exchange.feed_shards={FEEDS}",
    "exchange.fee_bps=0",
    "exchange.net_return_bps_min=0",
    "exchange.start_asset=*",
    f"venues.exchange.seed={SEED}",
    "supervision.heartbeat_s=0.5",
    "supervision.dead_after_s=6",
    "supervision.backoff_s_max=0.1",
    "supervision.intensity=1000",
)

"""Two feeds: what the living one changes is evaluated together with the rows of the dead one."""

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineRun]:
    with EngineRun(tmp_path_factory.mktemp("feed") / "run", *FREQUENT) as running:
        running.wait_serving()
        yield running


def told(engine: EngineRun) -> Rows:
    return lines(engine, "opportunities")


def legs(line: dict[str, object]) -> list[dict[str, int]]:
    found = line["legs"]
    assert isinstance(found, list)
    return found


def decided_ns(line: dict[str, object]) -> int:
    """When the rows were used: the newest leg's frame, and how old it was then."""
    newest = line["ts_event_ns"]
    assert isinstance(newest, int)
    return newest + min(leg["age_ns"] for leg in legs(line))


def rows_of_feed(engine: EngineRun) -> frozenset[str]:
    """Symbols that the feed we kill owns: every second that trades, from the first."""
    listed = json.loads((engine.run_dir / "exchange_info.json").read_bytes())["symbols"]
    return frozenset([one["symbol"] for one in listed if one["status"] == "TRADING"][::FEEDS])


def late(opportunities: Rows, died_ns: int, dead: frozenset[str]) -> list[str]:
    """Decisions that used a row of the dead feed from before its death, later than it may be used."""
    found = []
    for line in opportunities:
        decided = decided_ns(line)
        old = [leg for leg in legs(line) if symbol(leg) in dead and decided - leg["age_ns"] <= died_ns]
        if old and decided > died_ns + STALE_NS:
            ages = [f"{symbol(leg)} {leg['age_ns'] / 1e6:.1f} ms old" for leg in old]
            found.append(f"{(decided - died_ns) / 1e6:.1f} ms after the death: {', '.join(ages)}")
    return found


def symbol(leg: dict[str, int]) -> str:
    return str(leg["leg"]).partition(":")[0]


def wait_for_more(engine: EngineRun, count: int) -> None:
    before = len(told(engine))
    engine.wait(lambda: len(told(engine)) >= before + count, 90, f"{count} more opportunities")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_no_row_of_a_dead_feed_is_used_later_than_250_ms_after_its_death(
    engine: EngineRun, how: signal.Signals
) -> None:
    print(f"seed {SEED}")
    for _ in range(2):
        wait_for_more(engine, 5)
        pid = engine.pids()[FEED]
        os.kill(pid, how)
        died_ns = time.time_ns()  # taken after: it may have lived until here
        engine.wait(lambda pid=pid: engine.pids()[FEED] not in (0, pid), 90, "a successor")  # type: ignore[misc]
        wait_for_more(engine, 5)
        opportunities, dead = told(engine), rows_of_feed(engine)
        before = [line for line in opportunities if decided_ns(line) <= died_ns]
        assert any(symbol(leg) in dead for line in before for leg in legs(line)), "that feed's rows were never used"
        assert not late(opportunities, died_ns, dead)
        assert max(leg["age_ns"] for line in opportunities for leg in legs(line)) <= AGE_NS_MAX


def test_a_feed_that_stands_still_makes_no_opportunity_and_one_that_goes_on_does_again(engine: EngineRun) -> None:
    wait_for_more(engine, 5)
    pid = engine.pids()[FEED]
    os.kill(pid, signal.SIGSTOP)
    died_ns = time.time_ns()
    time.sleep(1.0)  # the stretch that is looked at; shorter than what a hung actor is killed after
    os.kill(pid, signal.SIGCONT)
    went_on_ns = time.time_ns()
    wait_for_more(engine, 5)
    between = [line for line in told(engine) if decided_ns(line) < went_on_ns]
    assert not late(between, died_ns, rows_of_feed(engine))
