"""The evaluator role: each state × each message, its bounds, and the alarms of the stale leg's story."""

from __future__ import annotations

import msgspec
import pytest

from actors.core import new_core
from actors.effects import AppendLine, ClearAlarm, Count, Drive, Effect, RaiseAlarm, Send
from actors.evaluator import (
    CYCLES_MAX,
    FALL_ALARM,
    JUMP_ALARM,
    MINUTE_NS,
    ONE_CYCLE_ALARM,
    RECENT_MAX,
    STANDS_ALARM,
    Evaluator,
    EvaluatorState,
)
from actors.messages import (
    AnyMessage,
    CycleEnd,
    CycleOutcome,
    EvaluatorReady,
    EvaluatorStatus,
    ExecuteCycle,
    HaltChanged,
    IncidentRecorded,
    OpportunityFound,
    Recovered,
    StartEvaluator,
    TimerFired,
)
from actors.snapshot import decode_snapshot, encode_snapshot
from kernels.fixed8 import parse_price
from tests.actors.roles import SECOND_NS, fold, step

ROLE = Evaluator()
READY = EvaluatorReady("i1", 60, 440)
STATUS = EvaluatorStatus(1, 1, 1, {}, 0, 60, 0)


def found(cycle: int = 0, dry_run: bool = True) -> OpportunityFound:
    return OpportunityFound(
        opportunity_id="e1.1",
        cycle=(f"A{cycle}USDT:BUY", f"A{cycle}BTC:SELL", "BTCUSDT:SELL"),
        gross_return="1.004000000000",
        net_return="1.001000000000",
        start_asset="USDT",
        start_amount="100.00000000",
        end_amount="100.10000000",
        legs=(),
        ts_event_ns=SECOND_NS,
        dry_run=dry_run,
    )


def after(state: EvaluatorState, cycles: list[int], first_ns: int, every_ns: int) -> tuple[EvaluatorState, set[str]]:
    """Return the state after these opportunities, and the alarms raised on the way."""
    raised: set[str] = set()
    for at, cycle in enumerate(cycles):
        state, effects = step(ROLE, state, found(cycle), first_ns + at * every_ns)
        raised |= {effect.name for effect in effects if isinstance(effect, RaiseAlarm)}
    return state, raised


NEW = EvaluatorState()
SEEN = fold(ROLE, READY, found())


@pytest.mark.parametrize(
    ("state", "body", "kinds", "changes"),
    [
        (NEW, Recovered(3), [Drive], False),
        (SEEN, Recovered(3), [Drive], False),
        (NEW, READY, [], True),
        (SEEN, READY, [], False),
        (NEW, found(), [AppendLine, Count], True),
        (SEEN, found(), [AppendLine, Count], True),
        (SEEN, found(dry_run=False), [Count], False),
        (NEW, STATUS, [], False),
        (SEEN, STATUS, [], False),
        (SEEN, IncidentRecorded("reference_disagrees", "A B C", "{}"), [AppendLine], False),
        (SEEN, HaltChanged("why", 1), [], False),
        (SEEN, TimerFired("x"), [Count], False),
    ],
)
def test_each_state_and_message(
    state: EvaluatorState, body: AnyMessage, kinds: list[type[Effect]], changes: bool
) -> None:
    next_state, effects = step(ROLE, state, body)
    assert [type(effect) for effect in effects] == kinds
    assert (next_state is not state) == changes


def test_every_incarnation_starts_its_driver_under_its_own_epoch() -> None:
    assert step(ROLE, SEEN, Recovered(9))[1] == (Drive(StartEvaluator(9)),)


def test_an_opportunity_is_written_down_and_counted_by_its_cycle() -> None:
    state = fold(ROLE, READY, found(1), found(1), found(2))
    assert state.opportunities == 3
    assert sorted(state.cycles.values()) == [1, 2]
    assert state.last == found(2)
    assert AppendLine("opportunities", found(5)) in step(ROLE, state, found(5))[1]


def test_the_counts_by_cycle_are_bounded_and_keep_those_that_count() -> None:
    state = fold(ROLE, found(0), found(0))
    state, _ = after(state, list(range(1, CYCLES_MAX * 2)), SECOND_NS, 1_000)
    assert len(state.cycles) == CYCLES_MAX
    assert state.cycles[" ".join(found(0).cycle)] == 2
    assert state.opportunities == CYCLES_MAX * 2 + 1
    assert len(state.recent) == RECENT_MAX


def test_one_cycle_that_takes_nearly_all_is_called_out_within_a_minute() -> None:
    # The stale leg of field note 4: 244 in sixteen minutes, all on one triangle.
    state, raised = after(fold(ROLE, READY), [7] * 16, SECOND_NS, 16 * MINUTE_NS // 244)
    assert raised == {ONE_CYCLE_ALARM}
    assert state.alarms == (ONE_CYCLE_ALARM,)


def test_opportunities_spread_over_cycles_raise_nothing() -> None:
    assert after(NEW, [at % 5 for at in range(60)], SECOND_NS, 2 * SECOND_NS)[1] == set()


def test_a_rate_many_times_its_own_history_is_called_out() -> None:
    state, raised = after(NEW, [at % 5 for at in range(120)], MINUTE_NS, 2 * SECOND_NS)
    assert raised == set()
    _, raised = after(state, [at % 5 for at in range(400)], 6 * MINUTE_NS, SECOND_NS // 10)
    assert raised == {JUMP_ALARM}


def test_none_where_there_was_a_steady_rate_is_called_out_and_ends_with_the_next() -> None:
    state, raised = after(NEW, [at % 5 for at in range(120)], MINUTE_NS, 2 * SECOND_NS)
    assert raised == set()
    now_ns, alarms = 5 * MINUTE_NS, {}
    while now_ns < 7 * MINUTE_NS:
        state, effects = step(ROLE, state, STATUS, now_ns)
        alarms |= {
            effect.name: now_ns for effect in effects if isinstance(effect, RaiseAlarm) and effect.name not in alarms
        }
        now_ns += SECOND_NS
    assert alarms == {FALL_ALARM: 6 * MINUTE_NS}, "once a whole window without one has passed"
    _, effects = step(ROLE, state, found(1), now_ns)
    assert ClearAlarm(FALL_ALARM) in effects


def test_a_jump_from_next_to_none_needs_no_hundreds() -> None:
    """Field note 4 again: fifteen a minute, where one in ten minutes was usual."""
    state, _ = after(NEW, [1, 2], MINUTE_NS, 10 * MINUTE_NS)
    _, raised = after(state, [at % 5 for at in range(15)], 12 * MINUTE_NS, 4 * SECOND_NS)
    assert raised == {JUMP_ALARM}


def test_an_opportunity_that_anybody_could_have_taken_and_nobody_does_is_called_out_while_it_stands() -> None:
    legs = found(3).cycle
    long = msgspec.structs.replace(STATUS, longest_cycle=legs, longest_ns=30 * SECOND_NS)
    almost = msgspec.structs.replace(long, longest_ns=30 * SECOND_NS - 1)
    assert step(ROLE, SEEN, almost) == (SEEN, ())
    state, effects = step(ROLE, SEEN, long)
    assert [(type(one), one.name) for one in effects] == [(RaiseAlarm, STANDS_ALARM)]  # type: ignore[union-attr]
    assert " ".join(legs) in effects[0].text  # type: ignore[union-attr]
    longer = msgspec.structs.replace(long, longest_ns=99 * SECOND_NS)
    assert step(ROLE, state, longer)[0] is state, "the journal does not grow by it"
    assert step(ROLE, state, STATUS)[1] == (ClearAlarm(STANDS_ALARM),)


def test_time_in_which_nothing_ran_is_no_history_of_nothing() -> None:
    state, _ = after(NEW, [at % 5 for at in range(120)], MINUTE_NS, 2 * SECOND_NS)
    state, _ = step(ROLE, state, Recovered(2), 60 * MINUTE_NS)
    for second in range(50):
        state, effects = step(ROLE, state, STATUS, 60 * MINUTE_NS + second * SECOND_NS)
        assert effects == ()
    assert state.windows == (30, 30, 30)


def test_a_state_of_the_version_before_is_taken_over() -> None:
    old = {"opportunities": 7, "minute": 5, "minute_count": 2, "minutes": [3, 4], "alarms": []}
    state = msgspec.json.decode(ROLE.migrate(1, msgspec.json.encode(old)), type=EvaluatorState)
    assert (state.window, state.window_count, state.windows, state.opportunities) == (5, 2, (3, 4), 7)
    with pytest.raises(ValueError, match="0"):
        ROLE.migrate(0, b"{}")


def test_an_alarm_is_cleared_once_its_minute_is_over() -> None:
    state, _ = after(NEW, [7] * 20, SECOND_NS, SECOND_NS)
    assert step(ROLE, state, STATUS, 22 * SECOND_NS)[0] is state
    cleared, effects = step(ROLE, state, STATUS, 100 * SECOND_NS)
    assert effects == (ClearAlarm(ONE_CYCLE_ALARM),)
    assert cleared.alarms == ()


def test_a_dry_run_says_so_where_it_is_shown() -> None:
    shown = ROLE.show(SEEN, 4 * SECOND_NS)
    assert "DRY RUN" in shown["mode"]
    assert shown["cycles"] == "440 over 60 symbols"
    assert shown["opportunities"] == "1"
    assert "net 1.001" in shown["last"]


def test_the_state_survives_a_snapshot() -> None:
    state, _ = after(SEEN, [1, 2, 3], 2 * SECOND_NS, MINUTE_NS)
    core = msgspec.structs.replace(new_core(ROLE), role=state, seq=5)
    assert decode_snapshot(ROLE, encode_snapshot(ROLE, core)).role == state


def test_where_it_is_no_dry_run_each_opportunity_is_handed_over_once_and_not_too_many() -> None:
    role = Evaluator(dry_run=False)
    state = fold(role, READY)
    asks: list[ExecuteCycle] = []
    for number in range(12):
        one = msgspec.structs.replace(found(dry_run=False), opportunity_id=f"o{number}")
        state, effects = step(role, state, one)
        asks += [
            effect.body for effect in effects if isinstance(effect, Send) and isinstance(effect.body, ExecuteCycle)
        ]
    assert [ask.attempt_id for ask in asks] == [f"o{number}" for number in range(8)]
    assert (asks[0].spent, asks[0].received) == (parse_price(found().start_amount), parse_price(found().end_amount))
    assert state.opportunities == 12
    ended = CycleOutcome("o3", CycleEnd.FILLED, "sequence", "USDT", 1, 1)
    state, _ = step(role, state, ended)
    state, effects = step(role, state, msgspec.structs.replace(found(dry_run=False), opportunity_id="o12"))
    assert any(isinstance(effect, Send) and effect.owed and effect.target == "executor" for effect in effects)
    assert len(state.asked) == 8
    assert step(role, state, found())[1] == (Count("opportunity_of_another_mode"),)
