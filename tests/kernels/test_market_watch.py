"""The watch as a whole: looks in, alarms by name out; each raised with evidence, kept standing, and gone when it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kernels.book_image import RowStatus
from kernels.market_watch import STAGES, STANDING_MAX, Counted, Limits, MarketWatch
from kernels.row_watch import InvalidRow, SilentRow
from kernels.suspicion import Suspicion

S = 1_000_000_000
BEGAN = 1_020 * S

Counters = dict[str, dict[str, int]]
Change = Callable[[Counters], None]

A_SECOND = {
    "feed.spot.0": {"frames": 500, "parsed": 500},
    "feed.spot.1": {"frames": 500, "parsed": 500},
    "evaluator": {
        "changes": 1_000, "evaluations": 20_000, "candidates": 4, "opportunities.told": 1, "opportunities": 1,
    },
}  # fmt: skip


class Engine:
    """Roles that count as they usually do; a test changes what a second adds."""

    def __init__(self, **limits: object) -> None:
        self.watch = MarketWatch(Limits(**limits))  # type: ignore[arg-type]
        self.counted: Counters = {role: dict.fromkeys(counters, 0) for role, counters in A_SECOND.items()}
        self.incarnation = 1
        self.now_ns = BEGAN
        self.standing: tuple[Suspicion, ...] = ()

    def run(self, seconds: int, change: Change = lambda counted: None, **rows: object) -> list[str]:
        for _ in range(seconds):
            self.now_ns += S
            for role, counters in A_SECOND.items():
                for name, by in counters.items():
                    self.counted[role][name] = self.counted[role].get(name, 0) + by
            change(self.counted)
            counted = [Counted(role, self.incarnation, dict(counters)) for role, counters in self.counted.items()]
            self.standing = self.watch.take(self.now_ns, counted, **rows)  # type: ignore[arg-type]
        return [one.name for one in self.standing]

    def text(self, name: str) -> str:
        (found,) = [one for one in self.standing if one.name == name]
        return found.text


def taken_back(role: str, *names: str) -> Change:
    def change(counted: Counters) -> None:
        for name in names:
            counted[role][name] -= A_SECOND[role][name]

    return change


def added(role: str, **by: int) -> Change:
    def change(counted: Counters) -> None:
        for name, count in by.items():
            counted[role][name.replace("__", ".")] = counted[role].get(name.replace("__", "."), 0) + count

    return change


def test_an_engine_that_does_as_it_always_does_is_not_suspected() -> None:
    assert Engine().run(40 * 60) == []


@pytest.mark.parametrize(
    ("role", "stops", "name", "within_s"),
    [
        ("evaluator", ("changes", "evaluations", "candidates", "opportunities.told", "opportunities"),
         "stage_blocked.parsed_to_changed_rows", 2),
        ("evaluator", ("evaluations", "candidates", "opportunities.told", "opportunities"),
         "stage_blocked.changed_rows_to_evaluations", 2),
        ("evaluator", ("candidates", "opportunities.told", "opportunities"),
         "stage_blocked.evaluations_to_candidates", 7),
        ("evaluator", ("opportunities.told", "opportunities"), "stage_blocked.candidates_to_opportunities", 22),
        ("evaluator", ("opportunities",), "stage_blocked.told_to_written_down", 22),
    ],
)  # fmt: skip
def test_a_stage_that_passes_nothing_any_more_is_called_out_by_name(
    role: str, stops: tuple[str, ...], name: str, within_s: int
) -> None:
    engine = Engine()
    assert engine.run(4 * 60) == []
    assert engine.run(within_s, taken_back(role, *stops)) == [name]
    assert "became" in engine.text(name)
    assert engine.run(1) == []


def test_frames_that_no_feed_can_parse_any_more_are_called_out_at_once() -> None:
    engine = Engine()
    engine.run(4 * 60)

    def change(counted: Counters) -> None:
        for role in ("feed.spot.0", "feed.spot.1"):
            taken_back(role, "parsed")(counted)

    assert engine.run(1, change) == ["stage_blocked.frames_to_parsed"]


def test_every_stage_of_the_way_is_watched() -> None:
    assert [(what_in, what_out) for what_in, _, _, what_out, _, _, _ in STAGES] == [
        ("frames", "parsed"), ("parsed", "changed rows"), ("changed rows", "evaluations"),
        ("evaluations", "candidates"), ("candidates", "opportunities"), ("opportunities", "told"),
        ("told", "written down"),
    ]  # fmt: skip


def test_a_suspicion_keeps_the_moment_it_was_raised_and_ends_with_its_cause() -> None:
    engine = Engine()
    engine.run(4 * 60)
    stop = taken_back("evaluator", "candidates", "opportunities.told", "opportunities")
    assert engine.run(6, stop)
    since_ns = engine.standing[0].since_ns
    engine.run(30, stop)
    assert engine.standing[0].since_ns == since_ns
    assert engine.run(1) == []
    assert engine.run(6, stop)
    assert engine.standing[0].since_ns > since_ns


def test_a_successor_that_counts_from_zero_is_no_fall() -> None:
    engine = Engine()
    engine.run(4 * 60)
    engine.incarnation = 2
    engine.counted = {role: dict.fromkeys(counters, 0) for role, counters in A_SECOND.items()}
    assert engine.run(4 * 60) == []


def test_clamps_on_a_symbol_that_matters_are_called_out_and_others_are_not() -> None:
    engine = Engine(repeats_ignored=("capped",))
    assert engine.run(5, added("feed.spot.0", capped__TINY=3), busiest=["BTCUSDT", "ETHBTC"]) == []
    assert engine.run(1, added("feed.spot.0", capped__ETHBTC=2), busiest=["BTCUSDT", "ETHBTC"]) == [
        "quantity_capped_on_major"
    ]
    assert "ETHBTC (2 frames)" in engine.text("quantity_capped_on_major")
    assert engine.run(30, busiest=["ETHBTC"]) == ["quantity_capped_on_major"], "until a window without one"
    assert engine.run(120, busiest=["ETHBTC"]) == []


def test_which_symbols_matter_may_be_set() -> None:
    engine = Engine(majors=("TINY",))
    engine.run(1)
    assert engine.run(1, added("feed.spot.0", capped__TINY=3, capped__ETHBTC=1), busiest=["ETHBTC"]) == [
        "quantity_capped_on_major"
    ]
    assert "ETHBTC" not in engine.text("quantity_capped_on_major")


def test_the_reference_disagreeing_is_called_out_and_stands_for_ten_windows() -> None:
    engine = Engine(repeats_windows=100)
    engine.run(1, added("evaluator", reference__mismatched=0))
    assert engine.run(1, added("evaluator", reference__mismatched=2)) == ["reference_disagrees"]
    assert "2 decisions" in engine.text("reference_disagrees")
    assert engine.run(590) == ["reference_disagrees"]
    assert engine.run(20) == []


def test_a_row_that_stays_invalid_or_stands_still_is_called_out_with_its_name_why_and_for_how_long() -> None:
    engine = Engine()
    now_ns = BEGAN + S
    invalid = [("ETHBTC", InvalidRow(3, RowStatus.CROSSED, now_ns - 75 * S))]
    silent = [(f"SYM{k}", SilentRow(k, now_ns - 40 * S, 123.4)) for k in range(12)]
    assert engine.run(1, invalid=invalid, silent=silent) == ["rows_silent", "rows_stay_invalid"]
    assert "ETHBTC (crossed, 75 s)" in engine.text("rows_stay_invalid")
    assert "12 rows" in engine.text("rows_silent")
    assert "SYM0 (40 s, 123 updates" in engine.text("rows_silent")
    assert "and 4 more" in engine.text("rows_silent")
    assert engine.run(1) == []


def test_a_lag_that_lasts_is_called_out_by_feed() -> None:
    engine = Engine()

    def lag(counted: Counters) -> None:
        counted["feed.spot.1"]["lag_us"] = 1_500_000

    assert engine.run(4, lag) == []
    assert engine.run(1, lag) == ["lag.feed.spot.1"]
    assert "1500.0 ms" in engine.text("lag.feed.spot.1")


def test_a_warning_that_repeats_is_a_metric_and_an_alarm_by_name() -> None:
    engine = Engine(repeats_windows=3)
    once_a_minute = 0
    for minute in range(5):
        names = engine.run(59)
        engine.run(1, added("book", snapshots_lost=1) if "book" in engine.counted else lambda counted: None)
        engine.counted.setdefault("book", {"snapshots_lost": 0})
        once_a_minute = minute
        if names:
            break
    assert names == ["repeats.book.snapshots_lost"]
    assert once_a_minute == 4
    assert "by 1, 1, 1" in engine.text("repeats.book.snapshots_lost")
    assert engine.run(121) == []


def test_what_repeats_by_nature_may_be_named_and_is_left_alone() -> None:
    engine = Engine(repeats_windows=1, repeats_ignored=("skipped.aged",))
    assert engine.run(130, added("evaluator", skipped__aged=5)) == []
    assert engine.run(130, added("evaluator", skipped__busy=5)) == ["repeats.evaluator.skipped.busy"]


def test_more_suspicions_than_stand_at_once_are_counted_and_those_that_stand_stay() -> None:
    engine = Engine(repeats_windows=1)
    counted = engine.counted["evaluator"]
    counted |= {f"lost.{k}": 0 for k in range(STANDING_MAX)}

    def grow(counters: Counters, first: int) -> None:
        for k in range(first, first + STANDING_MAX):
            counters["evaluator"][f"lost.{k}"] = counters["evaluator"].get(f"lost.{k}", 0) + 1

    engine.run(1)
    engine.run(130, lambda counters: grow(counters, 0))
    assert len(engine.standing) == STANDING_MAX
    before = {one.name for one in engine.standing}
    engine.run(130, lambda counters: (grow(counters, 0), grow(counters, STANDING_MAX))[0])
    assert {one.name for one in engine.standing} == before
    assert engine.watch.suspicions_dropped > 0


def test_the_same_looks_bring_the_same_suspicions() -> None:
    stop = taken_back("evaluator", "candidates")
    runs = []
    for _ in range(2):
        engine = Engine()
        engine.run(200)
        engine.run(20, stop)
        runs.append(engine.standing)
    assert runs[0] == runs[1]
    assert runs[0]
