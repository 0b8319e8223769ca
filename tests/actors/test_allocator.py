"""The allocator's reducer: every signal gets one outcome, every refusal its guard and figures."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.allocator import Allocator, AllocatorSettings, AllocatorState
from actors.effects import AckStream, AppendLine, ClearAlarm, Count, Project, RaiseAlarm
from actors.messages import (
    BracketClosed,
    GrantGate,
    HaltChanged,
    IntentOutcome,
    Leg,
    OrderChanged,
    Outcome,
    PlaceBracket,
    PositionChanged,
    Recovered,
    RevokeGate,
    Side,
    SignalOutcome,
    SignalReceived,
    SignalUnreadable,
)
from kernels import ids, pre_trade
from tests.actors.money_bench import SECOND, START, UNIT, Bench, signal


def fresh(**settings: object) -> Bench[AllocatorState]:
    return Bench(Allocator(AllocatorSettings(**settings)))  # type: ignore[arg-type]


def outcomes(bench: Bench[AllocatorState]) -> list[SignalOutcome]:
    return [effect.body for effect in bench.did(AppendLine) if isinstance(effect.body, SignalOutcome)]


def take(bench: Bench[AllocatorState], signal_id: str = "s1", **changed: Any) -> None:
    bench.feed(SignalReceived(signal(signal_id, **changed), f"{signal_id}-0"))


def told(signal_id: str = "s1", outcome: Outcome = Outcome.SUBMITTED, guard: str = "") -> IntentOutcome:
    return IntentOutcome(ids.family_id("apex", signal_id), signal_id, outcome, guard)


def test_a_good_signal_becomes_one_owed_intent_and_its_entry_is_acknowledged_with_its_outcome() -> None:
    bench = fresh()
    take(bench)
    intent = bench.told(PlaceBracket)[0].intent
    assert intent.intent_id == ids.family_id("apex", "s1")
    assert (intent.qty, intent.symbol, intent.side) == (50 * UNIT, "ACME", Side.BUY)
    assert bench.owed[0].target == "broker.paper"
    assert not bench.did(AckStream)
    assert not outcomes(bench)
    bench.feed(told())
    assert outcomes(bench)
    assert bench.did(AckStream) == [AckStream("signals", "s1-0")]
    bench.check_replay()


def test_a_signal_delivered_again_is_acknowledged_once_its_outcome_stands_and_does_nothing_else() -> None:
    """An acknowledgement that was lost with its process."""
    bench = fresh()
    take(bench)
    before = bench.core
    take(bench)
    assert bench.core is before
    assert bench.effects == [Count("signal_again")]
    bench.feed(told())
    before = bench.core
    take(bench)
    assert bench.core is before
    assert bench.effects == [Count("signal_again"), AckStream("signals", "s1-0")]


@pytest.mark.parametrize("outcome", [Outcome.SUBMITTED, Outcome.REFUSED, Outcome.EXPIRED])
def test_the_brokers_word_is_the_signals_one_outcome(outcome: Outcome) -> None:
    bench = fresh()
    take(bench)
    bench.feed(told(outcome=outcome, guard="halt" if outcome is Outcome.REFUSED else ""))
    assert [recorded.outcome for recorded in outcomes(bench)] == [outcome]
    assert [(e.key_type, e.field) for e in bench.did(Project)] == [("outcomes", "s1")]
    bench.feed(told(outcome=outcome))
    assert not outcomes(bench)
    assert (bench.state.open == {}) == (outcome is not Outcome.SUBMITTED)
    bench.check_replay()


REFUSALS: list[tuple[str, Outcome, dict[str, Any]]] = [
    ("expired", Outcome.EXPIRED, {"expires_ns": START}),
    ("expired", Outcome.EXPIRED, {"ts_event_ns": START - 601 * SECOND}),
    ("from_the_future", Outcome.REFUSED, {"ts_event_ns": START + 61 * SECOND}),
    ("shape", Outcome.REFUSED, {"symbol": ""}),
    ("bracket_sides", Outcome.REFUSED, {"stop_px": 101 * UNIT}),
    ("bracket_sides", Outcome.REFUSED, {"take_profit_px": 99 * UNIT}),
    ("bracket_sides", Outcome.REFUSED, {"stop_px": 0}),
    ("bracket_sides", Outcome.REFUSED, {"side": Side.SELL}),
    ("bracket_sides", Outcome.REFUSED, {"limit_px": 94 * UNIT}),
    ("bracket_sides", Outcome.REFUSED, {"limit_px": 111 * UNIT}),
    ("bracket_sides", Outcome.REFUSED, {"reference_px": 0}),
    ("fraction", Outcome.REFUSED, {"reference_px": 6_000 * UNIT, "take_profit_px": 7_000 * UNIT}),
]


@pytest.mark.parametrize(("guard", "outcome", "changed"), REFUSALS)
def test_a_refusal_names_its_guard_and_figures_and_acknowledges(
    guard: str, outcome: Outcome, changed: dict[str, Any]
) -> None:
    bench = fresh()
    take(bench, **changed)
    recorded = outcomes(bench)[0]
    assert (recorded.signal_id, recorded.outcome, recorded.guard) == ("s1", outcome, guard)
    assert recorded.figures
    assert not bench.told(PlaceBracket)
    assert bench.did(AckStream) == [AckStream("signals", "s1-0")]
    take(bench, **changed)
    assert not outcomes(bench)
    bench.check_replay()


def test_a_sell_with_its_exits_on_the_right_sides_is_taken() -> None:
    bench = fresh()
    take(bench, side=Side.SELL, take_profit_px=95 * UNIT, stop_px=110 * UNIT)
    assert bench.told(PlaceBracket)[0].intent.side is Side.SELL


def test_one_open_bracket_a_symbol_and_strategy() -> None:
    """Field note 2: two parties that build a key each in their own way never meet; here one value is compared."""
    bench = fresh()
    take(bench, "s1")
    take(bench, "s2")
    assert outcomes(bench)[0].guard == "slot_taken"
    assert outcomes(bench)[0].figures == {"intent_id": ids.family_id("apex", "s1")}
    take(bench, "s3", symbol="OTHER")
    assert len(bench.told(PlaceBracket)) == 1
    bench.feed(told("s1"))
    bench.feed(BracketClosed(ids.family_id("apex", "s1"), "ACME"))
    take(bench, "s4")
    assert len(bench.told(PlaceBracket)) == 1
    bench.check_replay()


def test_open_brackets_are_bounded() -> None:
    bench = fresh(open_max=1)
    take(bench, "s1")
    take(bench, "s2", symbol="OTHER")
    assert outcomes(bench)[0].guard == "open_max"


def test_what_is_open_or_held_counts_against_the_caps_once() -> None:
    bench = fresh(fraction_bps=10_000)
    take(bench, "s1")
    first = bench.told(PlaceBracket)[0].intent
    assert first.qty == 250 * UNIT  # 25,000 an order
    bench.feed(PositionChanged("ACME", first.qty, 100 * UNIT))
    bench.feed(PositionChanged("B", 1_000 * UNIT, 165 * UNIT))
    take(bench, "s2", symbol="C")
    intent = bench.told(PlaceBracket)[0].intent
    assert intent.qty == 100 * UNIT  # 200,000 in all, of which 25,000 and 165,000 are taken
    bench.feed(PositionChanged("B", 0, 0))
    assert "B" not in bench.state.positions


def test_while_halted_every_signal_is_refused_by_the_halt() -> None:
    bench = fresh()
    bench.feed(HaltChanged("daily loss", START))
    take(bench)
    assert (outcomes(bench)[0].guard, outcomes(bench)[0].figures) == ("halt", {"reason": "daily loss"})
    bench.feed(HaltChanged("", START))
    take(bench, "s2")
    assert bench.told(PlaceBracket)


def test_a_shut_gate_is_the_brokers_to_keep_unless_configured() -> None:
    bench = fresh()
    before = bench.core
    bench.feed(GrantGate("S1", 1, START + 15 * SECOND))
    bench.feed(RevokeGate("S1", "test"))
    assert bench.core is before
    take(bench)
    assert bench.told(PlaceBracket)


def test_a_shut_gate_refuses_where_configured() -> None:
    bench = fresh(refuse_when_gate_shut=True)
    take(bench, "s1")
    assert outcomes(bench)[0].guard == "gate"
    bench.feed(GrantGate("S1", 2, START + 15 * SECOND))
    bench.feed(GrantGate("S0", 1, START + 99 * SECOND))
    take(bench, "s2")
    assert bench.told(PlaceBracket)
    bench.feed(RevokeGate("S1", "test"))
    take(bench, "s3", symbol="OTHER")
    assert outcomes(bench)[0].guard == "gate"
    bench.check_replay()


def test_an_unreadable_entry_is_refused_once_and_acknowledged() -> None:
    bench = fresh()
    bench.feed(SignalUnreadable("7-0", "not JSON", "{"))
    assert [(o.signal_id, o.guard) for o in outcomes(bench)] == [("unreadable:7-0", "unreadable")]
    assert bench.did(AckStream) == [AckStream("signals", "7-0")]
    bench.feed(SignalUnreadable("7-0", "not JSON", "{"))
    assert not outcomes(bench)
    assert bench.did(AckStream)


def test_outcomes_are_bounded_and_their_projection_with_them() -> None:
    bench = fresh(outcomes_max=3)
    for n in range(5):
        take(bench, f"s{n}", expires_ns=START)
    assert list(bench.state.outcomes) == ["s2", "s3", "s4"]
    assert [effect.field for effect in bench.did(Project) if not effect.value] == ["s1"]


def test_a_pass_rate_that_collapses_is_an_alarm() -> None:
    """Field note 1: every consumer dropped the signals as invalid, silently; pass rate 0 %."""
    bench = fresh(refused_in_row_max=3)
    for n in range(3):
        assert not bench.did(RaiseAlarm)
        take(bench, f"s{n}", stop_px=0)
    assert [alarm.name for alarm in bench.did(RaiseAlarm)] == ["pass_rate"]
    take(bench, "good")
    bench.feed(told("good"))
    assert bench.did(ClearAlarm) == [ClearAlarm("pass_rate")]
    for n in range(9):
        bench.feed(HaltChanged("test", START))
        take(bench, f"h{n}")
        assert not bench.did(RaiseAlarm)


def test_order_events_are_matched_by_intent_and_never_create_anything() -> None:
    bench = fresh()
    take(bench)
    changed = OrderChanged(
        client_order_id=ids.client_order_id("apex", "s1", "entry"),
        intent_id=ids.family_id("apex", "s1"),
        symbol="ACME",
        leg=Leg.ENTRY,
        side=Side.BUY,
        state="partially_filled",
        qty=50 * UNIT,
        cum_qty=20 * UNIT,
        avg_px=100 * UNIT,
    )
    bench.feed(changed)
    assert bench.state.open[changed.intent_id].entry_cum_qty == 20 * UNIT
    before = bench.core
    bench.feed(msgspec.structs.replace(changed, intent_id="unknown"))
    bench.feed(BracketClosed("unknown", "ACME"))
    bench.feed(told("unknown"))
    bench.feed(Recovered(2))
    assert bench.core is before


def test_an_order_that_surfaces_after_its_bracket_closed_takes_the_slot_again() -> None:
    """Given up as unresolved, closed, and then at the venue after all: it counts against the caps until it is done."""
    bench = fresh()
    take(bench)
    intent_id = ids.family_id("apex", "s1")
    bench.feed(told(outcome=Outcome.EXPIRED, guard="unresolved"))
    assert intent_id in bench.state.open
    bench.feed(BracketClosed(intent_id, "ACME"))
    assert intent_id not in bench.state.open
    qty = 50 * UNIT
    entry = ids.client_order_id("apex", "s1", "entry")
    bench.feed(OrderChanged(entry, intent_id, "ACME", Leg.ENTRY, Side.BUY, "submitted", qty, 0, 0))
    assert bench.state.open[intent_id].live
    take(bench, "s2")
    assert outcomes(bench)[0].guard == "slot_taken"
    bench.feed(BracketClosed(intent_id, "ACME"))
    take(bench, "s3")
    assert bench.told(PlaceBracket)
    bench.check_replay()


def test_a_pre_trade_guard_that_objects_is_the_signals_outcome_with_its_figures() -> None:
    rules = pre_trade.Rules(collar_bps=500, exit_collar_bps=2_000, duplicate_ns=30 * SECOND)
    bench = Bench(Allocator(AllocatorSettings(rules=rules)))
    bench.feed(SignalReceived(signal("off", stop_px=79 * UNIT), "1-1"))
    assert bench.state.outcomes["off"].guard == "collar"
    bench.feed(SignalReceived(signal("s1"), "1-2"))
    assert "s1" in bench.state.awaiting
    bench.feed(SignalReceived(msgspec.structs.replace(signal("s2"), strategy="other"), "1-3"))
    outcome = bench.state.outcomes["s2"]
    assert (outcome.outcome, outcome.guard, outcome.figures["before_ms"]) == (Outcome.REFUSED, "duplicate", "0")
    bench.wait(30)
    bench.feed(SignalReceived(msgspec.structs.replace(signal("s3"), strategy="third"), "1-4"))
    assert "s3" in bench.state.awaiting
    bench.check_replay()
