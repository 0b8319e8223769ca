"""Field notes 1, 4, 8 and 18 as far as the market goes: what cannot be is not told, what is odd is called out."""

from __future__ import annotations

from fractions import Fraction

import pytest

from actors.evaluator import JUMP_ALARM, ONE_CYCLE_ALARM, STANDS_ALARM
from kernels.book_image import NO_AGE_LIMIT, FeedWriter
from kernels.fold import NOTHING_CHANGED, FeedFold
from kernels.frames import RowUpdate, SymbolTable, parse_frame
from kernels.market_watch import CLAMPED, ROWS_INVALID, ROWS_SILENT
from tests.replay.stale_leg import FROZEN, TRUE_EVERY_S, S, Story

QUIET_S = 320
STORY_S = 16 * 60
MINUTE_NS = 60 * S


class DroppingFold(FeedFold):
    """The parser of the story: a quantity that overflows drops its whole frame in silence, and the row stays valid."""

    __slots__ = ("table",)

    def __init__(self, writer: FeedWriter, table: SymbolTable) -> None:
        super().__init__(writer, table)
        self.table = table

    def apply_frame(self, frame: bytes, received_ns: int) -> int:
        """Drop what overflows."""
        outcome = parse_frame(frame, self.table)
        if isinstance(outcome, RowUpdate) and outcome.quantity_capped:
            return NOTHING_CHANGED
        return super().apply_frame(frame, received_ns)


def quiet_market(story: Story) -> Story:
    story.run(QUIET_S)
    assert story.alarms == set(), "a market in which nothing is wrong is not suspected"
    assert len(story.told) == QUIET_S // TRUE_EVERY_S
    assert all(one.is_true for one in story.told)
    return story


@pytest.mark.parametrize("silence", [True, False], ids=["silenced", "every frame overflows"])
def test_field_note_4_a_leg_that_freezes_brings_no_opportunity_and_is_called_out_within_a_minute(silence: bool) -> None:
    story = quiet_market(Story())
    story.freeze(silence=silence)
    before = len(story.told)
    story.run(STORY_S)
    told = story.told[before:]
    assert all(one.is_true for one in told)
    assert len(told) == STORY_S // TRUE_EVERY_S, "and every true one is found"
    within = {name for name, ns in story.raised.items() if ns - story.frozen_ns <= MINUTE_NS}
    assert CLAMPED in within
    assert (ROWS_SILENT in within) == silence
    assert {ONE_CYCLE_ALARM, JUMP_ALARM}.isdisjoint(story.raised)
    if silence:
        assert not any(FROZEN in leg for one in told for leg in one.found.cycle)
        assert ROWS_SILENT in story.alarms, "it stands as long as the leg does"
        story.silenced.clear()
        story.run(70)
        assert ROWS_SILENT not in story.alarms


def test_field_note_4_with_the_defect_planted_the_false_opportunities_are_called_out_within_a_minute() -> None:
    """An engine of then: the frame dropped, the row left valid, no limit of age. The alarms are what is new."""
    story = quiet_market(Story(DroppingFold, NO_AGE_LIMIT))
    story.freeze(silence=False)
    before = len(story.told)
    story.run(STORY_S)
    false = [one for one in story.told[before:] if not one.is_true]
    assert len(false) > 100, "the plant took: opportunities that did not exist"
    assert len({one.found.cycle for one in false}) == 1, "all on one triangle"
    assert all(any(FROZEN in leg for leg in one.found.cycle) for one in false)
    for name in (ONE_CYCLE_ALARM, JUMP_ALARM):
        assert story.raised[name] - false[0].ns <= MINUTE_NS, name
    assert story.raised[ROWS_SILENT] < false[0].ns, "the frozen row is called out before the first of them"


def test_field_note_4_drifted_so_far_that_the_false_opportunity_never_closes_is_called_out_because_it_stands() -> None:
    """Told once, so that neither share nor rate says anything."""
    story = quiet_market(Story(DroppingFold, NO_AGE_LIMIT))
    story.drift_bps_max = 80.0
    story.freeze(silence=False)
    story.run(90)
    opened_ns = next(one.ns for one in story.told if not one.is_true)
    story.run(120)
    assert story.raised[STANDS_ALARM] - opened_ns <= MINUTE_NS
    assert STANDS_ALARM in story.alarms


def test_field_note_8_a_frozen_price_is_called_out_while_its_connection_beats() -> None:
    story = quiet_market(Story())
    story.silenced.add(FROZEN)
    frozen_ns = story.now_ns
    story.run(45)
    assert story.raised[ROWS_SILENT] - frozen_ns <= MINUTE_NS
    assert story.image.read_header(0).live_ns == story.now_ns, "heartbeats were fine"


def test_field_note_1_frames_that_are_all_dropped_are_called_out_by_their_stage() -> None:
    story = quiet_market(Story())
    before, garbled_ns = len(story.told), story.now_ns
    story.garbled = True
    story.run(120)
    assert story.raised["stage_blocked.frames_to_parsed"] - garbled_ns <= MINUTE_NS
    assert story.raised[ROWS_INVALID] - garbled_ns <= MINUTE_NS + 5 * S
    assert len(story.told) == before
    story.garbled = False
    story.run(5)
    assert {"stage_blocked.frames_to_parsed", ROWS_INVALID}.isdisjoint(story.alarms)


def test_field_note_18_what_gains_before_fees_and_loses_after_them_is_never_told() -> None:
    story = Story(gain=1.0025)
    story.run(QUIET_S)
    assert max(story.evaluator.gross_returns(story.now_ns).values()) < Fraction(1_001, 1_000), "a quiet moment"
    assert story.told == []
    story.run(7)
    assert max(story.evaluator.gross_returns(story.now_ns).values()) > Fraction(1_001, 1_000)
    assert story.told == []
