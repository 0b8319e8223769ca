"""The view's picture, drawn from statuses made by hand: it fits every terminal and says first what matters most."""

from __future__ import annotations

import msgspec
import pytest
from rich.cells import cell_len

from supervisors.latency import StageLatency
from supervisors.picture import Look, Rates, picture
from supervisors.status import EngineStatus
from tests.console.statuses import HALTED, HAND_MADE, TREE, order, process, with_alarms

SIZES = [(80, 24), (100, 30), (120, 40), (200, 60), (40, 10), (20, 5), (1, 1)]


def drawn(status: EngineStatus, width: int = 80, height: int = 24, **more: object) -> list[str]:
    return picture(msgspec.structs.replace(Look(status), **more), width, height).plain.split("\n")


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("status", [HAND_MADE, HALTED, with_alarms(30)], ids=["well", "halted", "alarmed"])
def test_the_picture_fits_the_terminal(status: EngineStatus, width: int, height: int) -> None:
    orders = tuple(order("MSFT", "submitted", k) for k in range(50))
    lines = drawn(status, width, height, orders=orders)
    assert len(lines) <= height
    assert max(cell_len(line) for line in lines) <= width


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_every_process_the_gate_and_the_dry_run_are_shown(width: int, height: int) -> None:
    text = "\n".join(drawn(HAND_MADE, width, height))
    assert all(role in text for role, _ in TREE)
    assert "gate open" in text
    assert "DRY RUN" in text
    assert "20/20 processes run" in text
    assert "rows valid 58 · rows invalid 2" in text


def test_a_child_stands_below_and_within_its_parent() -> None:
    lines = drawn(HAND_MADE, 38, 60)[2 : 2 + len(TREE)]
    indents = {line.split()[0]: len(line) - len(line.lstrip()) for line in lines}
    assert indents["run.py"] < indents["root"] < indents["market"] < indents["feeds"] < indents["feed.spot.0"]
    shown = [line.split()[0] for line in lines]
    assert shown.index("feeds") + 1 == shown.index("feed.spot.0")


def test_a_halt_stands_in_the_first_lines_with_its_reason_and_its_remedy() -> None:
    head = "\n".join(drawn(HALTED, 100)[:3])
    assert "HALTED: by a test (by a person)" in head
    assert "run.py resume" in head
    assert "gate shut" in head


def test_alarms_never_fill_the_screen_and_say_how_many_more_there_are() -> None:
    lines = drawn(with_alarms(30))
    shown = [line for line in lines if line.startswith("ALARM")]
    assert shown[0].startswith("ALARM broker.paper alarm_29")
    (rest,) = [line for line in lines if "alarms more" in line]
    assert str(30 - len(shown)) in rest
    assert any("evaluator" in line for line in lines)


def test_latencies_are_shown_by_stage_in_a_unit_that_can_be_read() -> None:
    stages = (
        StageLatency("1 frame to row", 9, 74.2, 80.0, 852.4, 900.0, 901.0),
        StageLatency("3 frame to told", 9, 999.9, 2_000.0, 38_800.0, 40_000.0, 50_000.0),
    )
    (line,) = [
        one for one in drawn(msgspec.structs.replace(HAND_MADE, latencies=stages), 120) if one.startswith("latency")
    ]
    assert "frame to row 74 µs, p99 852 µs · frame to told 1,000 µs, p99 38.8 ms" in line
    assert not [one for one in drawn(HAND_MADE) if one.startswith("latency")]


def test_restarts_and_states_other_than_running_are_shown() -> None:
    processes = (process("run.py", "", 1), process("book", "run.py", 2, "silent", 3))
    text = "\n".join(drawn(msgspec.structs.replace(HAND_MADE, processes=processes)))
    assert "silent ×3" in text
    assert "1/2 processes run" in text


def test_working_orders_come_before_done_ones_and_the_newest_first() -> None:
    orders = (order("OLD", "filled", 1), order("NEW", "filled", 9), order("WORKS", "submitted", 2))
    lines = drawn(HAND_MADE, 120, 40, orders=orders)
    (head,) = [k for k, line in enumerate(lines) if line.startswith("orders: 1 working, 2 done")]
    assert [line.split()[0] for line in lines[head + 1 : head + 4]] == ["WORKS", "NEW", "OLD"]
    assert "415.50" in lines[head + 1]


def test_a_status_that_is_not_up_to_date_says_so() -> None:
    assert any("not up to date" in line for line in drawn(HAND_MADE, notice="not up to date: the bus is away"))
    assert any("NOT RUNNING" in line for line in drawn(msgspec.structs.replace(HAND_MADE, running=False)))


def at(uptime_s: float, frames: int) -> EngineStatus:
    return msgspec.structs.replace(HAND_MADE, uptime_s=uptime_s, counters={"feed.spot.0": {"frames": frames}})


def test_a_rate_is_the_increase_over_the_last_seconds() -> None:
    rates = Rates()
    assert rates.of(at(10.0, 1000)) == {}
    assert rates.of(at(12.0, 3000)) == {("feed.spot.0", "frames"): 1000.0}
    for second in range(13, 40):
        shown = rates.of(at(float(second), 3000))
    assert shown == {("feed.spot.0", "frames"): 0.0}


def test_a_counter_that_fell_has_no_negative_rate_and_a_new_engine_begins_anew() -> None:
    rates = Rates()
    rates.of(at(10.0, 1000))
    assert rates.of(at(11.0, 10)) == {("feed.spot.0", "frames"): 0.0}
    assert rates.of(at(1.0, 10)) == {}
