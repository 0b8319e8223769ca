"""The health role: each state × each message; its driver on a real image and a board of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from actors.adapters.clock import SystemClock
from actors.adapters.health import HealthReport
from actors.adapters.health_driver import HealthDriver, HealthOptions
from actors.adapters.image_file import FeedSlot, open_image, remove_image
from actors.broker_watch import show_uptime
from actors.effects import AppendLine, ClearAlarm, Count, Drive, Effect, RaiseAlarm, Severity
from actors.health import Health, HealthState
from actors.messages import AnyMessage, HaltChanged, Recovered, StartWatch, SuspicionsFound, TimerFired
from kernels.book_image import FeedWriter, RowStatus
from kernels.exchange_info import Symbol
from kernels.market_watch import Limits
from kernels.recurring import SECOND_NS
from kernels.suspicion import Suspicion
from kernels.uptime import HOUR_NS, Standing, Uptime, enter
from tests.actors.market_stage import Hosted, Stage
from tests.actors.roles import fold, step

ROLE = Health()
LAG = Suspicion("lag.feed.spot.0", "warning", "1500 ms", 1)
STILL = Suspicion("rows_silent", "critical", "1 row", 2)
FOUND = SuspicionsFound((LAG,))
NEW = HealthState()
SUSPECTS = fold(ROLE, FOUND)


@pytest.mark.parametrize(
    ("state", "body", "kinds", "changes"),
    [
        (NEW, Recovered(3), [Drive], False),
        (SUSPECTS, Recovered(3), [Drive], False),
        (NEW, SuspicionsFound(), [], False),
        (NEW, FOUND, [RaiseAlarm, Count, AppendLine], True),
        (SUSPECTS, FOUND, [RaiseAlarm], False),
        (SUSPECTS, SuspicionsFound((LAG, STILL)), [RaiseAlarm, RaiseAlarm, Count, AppendLine], True),
        (SUSPECTS, SuspicionsFound((STILL,)), [RaiseAlarm, ClearAlarm, Count, AppendLine], True),
        (SUSPECTS, SuspicionsFound(), [ClearAlarm, AppendLine], True),
        (SUSPECTS, HaltChanged("why", 1), [], False),
        (SUSPECTS, TimerFired("x"), [Count], False),
    ],
)
def test_each_state_and_message(state: HealthState, body: AnyMessage, kinds: list[type[Effect]], changes: bool) -> None:
    next_state, effects = step(ROLE, state, body)
    assert [type(effect) for effect in effects] == kinds
    assert (next_state is not state) == changes


def test_an_alarm_is_raised_with_its_evidence_and_cleared_by_the_same_name() -> None:
    state, effects = step(ROLE, NEW, FOUND)
    assert effects[0] == RaiseAlarm("lag.feed.spot.0", Severity.WARNING, "1500 ms")
    assert step(ROLE, state, SuspicionsFound())[1][0] == ClearAlarm("lag.feed.spot.0")
    assert state.raised == 1
    assert "lag.feed.spot.0" in ROLE.show(state, 1)["suspicions"]
    assert ROLE.show(NEW, 1)["suspicions"] == "nothing suspicious"


def test_figures_that_change_while_it_stands_renew_the_text_and_leave_the_journal_alone() -> None:
    more = SuspicionsFound((Suspicion(LAG.name, "warning", "1700 ms", 1),))
    state, effects = step(ROLE, SUSPECTS, more)
    assert state is SUSPECTS
    assert effects == (RaiseAlarm(LAG.name, Severity.WARNING, "1700 ms"),)


# ---- the driver

SYMBOLS = tuple(Symbol(base + quote, "TRADING", base, quote) for base, quote in (("B", "A"), ("C", "A"), ("C", "B")))


class Board:
    """What the test says the roles last reported; or a bus that is away."""

    def __init__(self) -> None:
        self.reports: list[HealthReport] = []
        self.is_away = False
        self.written = 0

    def report(self, role: str, detail: dict[str, str] | None = None, **counters: int) -> None:
        self.written += 1
        report = HealthReport(role, 1, 1, 1, counters, (), self.written, detail or {})
        self.reports = [one for one in self.reports if one.role != role] + [report]

    def __call__(self) -> list[HealthReport]:
        if self.is_away:
            raise redis.ConnectionError("away")
        return list(self.reports)


def hosted(stage: Stage, board: Board, **limits: object) -> Hosted:
    options = HealthOptions(
        role="health", run_dir=str(stage.run_dir), look_s=0.02, limits=Limits(**limits)  # type: ignore[arg-type]
    )  # fmt: skip
    return stage.host(HealthDriver(options, SystemClock(), board), StartWatch(1))


def names(health: Hosted) -> list[str]:
    found = health.last(SuspicionsFound)
    return [] if found is None else [one.name for one in found.standing]


def test_counters_of_the_board_become_suspicions_and_a_board_that_is_away_is_read_again(tmp_path: Path) -> None:
    stage, board = Stage(tmp_path, "", ""), Board()
    board.report("feed.spot.0", frames=1, parsed=1)
    health = hosted(stage, board, window_ns=50_000_000)
    try:
        stage.until(lambda: health.last(SuspicionsFound) is not None)
        board.is_away = True
        stage.until(lambda: health.driver.counters.get("board_away", 0) > 1)  # type: ignore[attr-defined]
        board.is_away = False
        board.report("feed.spot.0", frames=5_000, parsed=1)
        stage.until(lambda: names(health) == ["stage_blocked.frames_to_parsed"])
        board.report("feed.spot.0", frames=5_001, parsed=2)
        stage.until(lambda: names(health) == [])
        assert not health.last(SuspicionsFound).standing
    finally:
        stage.close()


def test_the_week_of_a_brokers_gateway_stands_in_the_figures_of_health(tmp_path: Path) -> None:
    stage, board = Stage(tmp_path, "", ""), Board()
    record = enter(enter(Uptime(), Standing.UP, HOUR_NS, ()), Standing.DOWN, HOUR_NS + 100 * SECOND_NS, ())
    board.report("broker.paper", show_uptime(record, HOUR_NS + 125 * SECOND_NS, ()))
    health = hosted(stage, board)
    try:
        gauges = {"gateway_up_ppm": 800_000, "gateway_down_s": 25, "gateway_losses": 1}
        wanted = {f"{name}.broker.paper": value for name, value in gauges.items()}
        stage.until(lambda: wanted.items() <= health.driver.counters.items())  # type: ignore[attr-defined]
        board.report("broker.paper", show_uptime(Uptime(), HOUR_NS, ()))
        stage.until(lambda: health.driver.counters["gateway_down_s.broker.paper"] == 0)  # type: ignore[attr-defined]
        assert not names(health)
    finally:
        stage.close()


def test_rows_of_the_image_become_suspicions_under_their_symbols_names(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "run", "", "")
    mapped, _ = open_image(stage.run_dir, SYMBOLS, (0, 0, 0), [FeedSlot("f", "feed")], "venue")
    clock, writer = SystemClock(), FeedWriter(mapped.image, 0, 1)
    health = hosted(stage, Board(), invalid_ns=50_000_000)
    try:
        writer.beat(clock.now_ns())
        writer.write_row(1, 1, 1, 2, 1, 1, clock.now_ns())
        writer.mark_invalid(1, RowStatus.CROSSED)
        stage.until(lambda: names(health) == ["rows_stay_invalid"])
        assert "CA (crossed" in health.last(SuspicionsFound).standing[0].text
        writer.write_row(1, 1, 1, 2, 1, 1, clock.now_ns())
        stage.until(lambda: names(health) == [])
    finally:
        stage.close()
        remove_image(stage.run_dir)
