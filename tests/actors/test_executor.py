"""The executor: every ask to one outcome, whatever comes again, late or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TypeVar

import msgspec
import pytest

from actors.effects import ClearAlarm, Count, Drive, Effect, RaiseAlarm, Send, StartTimer
from actors.executor import Executor
from actors.executor_state import ExecutorSettings, ExecutorState
from actors.messages import (
    AnyMessage,
    CycleEnd,
    CycleLineWritten,
    CycleOutcome,
    CyclesResumed,
    Envelope,
    ExecuteCycle,
    HaltChanged,
    PlaceSpotOrder,
    Quote,
    QuotesRead,
    ReadQuotes,
    RebaseSpotAccount,
    Recovered,
    SpotBalancesChanged,
    SpotGateChanged,
    SpotGateReason,
    SpotOrderDone,
    StartExecutor,
    TimerFired,
    WriteCycleLine,
)
from kernels.breaker import BreakerLimits
from kernels.cycle_execution import Mode, PlannedLeg, Policy, Top, Unwind
from tests.kernels.cycle_market import e8, tops_of, triangle

SECOND_NS = 10**9
LIMITS = BreakerLimits(slip_e4_max=100, window=10, failures_max=5, consecutive_max=2, loss_max=e8("50"))
B = TypeVar("B")


def settings(mode: Mode = Mode.SEQUENCE, unwind: Unwind = Unwind.BACK, **changed: object) -> ExecutorSettings:
    policy = Policy(mode, unwind, Fraction(10_005, 10_000), 50, 3)
    whole = ExecutorSettings(policy=policy, limits=LIMITS, start_amount_max=e8("2000"), cycles_open_max=1)
    return msgspec.structs.replace(whole, **changed)


class Stage:
    """An executor whose gate is open and which has money."""

    def __init__(self, with_settings: ExecutorSettings | None = None) -> None:
        self.role = Executor(with_settings or settings())
        self.state = ExecutorState()
        self.now_ns = 1_000 * SECOND_NS
        self.effects: list[Effect] = []
        self.asks = 0
        self.say(SpotGateChanged("s1", SpotGateReason.OPEN, {"USDT": e8("5000")}, "account"))

    def say(self, body: AnyMessage, after_ns: int = 0) -> None:
        self.now_ns += after_ns
        envelope = Envelope("m", "c", "", "x", "executor", 1, self.now_ns, body)
        self.state, effects = self.role.reduce(self.state, envelope, self.now_ns)
        self.effects += effects

    def ask(self, legs: tuple[PlannedLeg, ...] | None = None, **changed: object) -> str:
        self.asks += 1
        plan = legs or triangle()
        name = f"evaluator:e1.{self.asks}"
        whole = ExecuteCycle(name, "USDT", plan[0].spent, plan[-1].received, "1.02", plan, (), self.now_ns - 1_000_000)
        self.say(msgspec.structs.replace(whole, **changed))
        return name

    def quote(self, tops: Mapping[str, Top] | None = None) -> None:
        asked = self.driven(ReadQuotes)[-1]
        known = tops or tops_of(triangle())
        quotes = tuple(
            Quote(name, "live" if known[name].live else "aged", known[name].bid_px, 1, known[name].ask_px, 1, 2, 1)
            for name in asked.symbols
        )
        self.say(QuotesRead(asked.request_id, quotes, self.now_ns))

    def end(self, qty: str, quote: str, revision: int = 1, placed: int = -1, **commissions: str) -> None:
        """The last order placed is over."""
        order = self.told(PlaceSpotOrder)[placed]
        paid = {asset: e8(amount) for asset, amount in commissions.items()}
        self.say(
            SpotOrderDone(
                client_order_id=order.client_order_id,
                attempt_id=order.attempt_id,
                revision=revision,
                state="filled",
                cum_qty=e8(qty),
                cum_quote_qty=e8(quote),
                commissions=paid,
                written_ns=self.now_ns,
                done_ns=self.now_ns,
                reason="FILLED",
            )
        )

    def fill(self) -> None:
        """All three legs, as planned."""
        self.quote()
        self.end("0.05", "1000", BTC="0.00005")
        self.quote()
        self.end("0.998", "0.0499", ETH="0.000998")
        self.quote()
        self.end("0.997", "1021.925", USDT="1.021925")
        self.quote()

    def driven(self, kind: type[B]) -> list[B]:
        return [one.command for one in self.effects if isinstance(one, Drive) and isinstance(one.command, kind)]

    def told(self, kind: type[B]) -> list[B]:
        return [one.body for one in self.effects if isinstance(one, Send) and isinstance(one.body, kind)]

    def alarms(self) -> set[str]:
        return {one.name for one in self.effects if isinstance(one, RaiseAlarm)}

    def outcome(self) -> CycleOutcome:
        return self.told(CycleOutcome)[-1]


def test_a_cycle_that_fills_is_told_with_every_leg_expected_and_observed() -> None:
    stage = Stage()
    name = stage.ask()
    stage.fill()
    outcome = stage.outcome()
    assert (outcome.attempt_id, outcome.end, outcome.guard) == (name, CycleEnd.FILLED, "")
    assert outcome.realized == e8("20.903075")
    assert outcome.residuals == {"BTC": e8("0.00005"), "ETH": e8("0.000002")}
    assert stage.state.residuals == outcome.residuals
    assert [(leg.leg, leg.expected_px, leg.observed_px) for leg in outcome.legs] == [
        ("1", e8("20000"), e8("20000")),
        ("2", e8("0.05"), e8("0.05")),
        ("3", e8("1025"), e8("1025")),
    ]
    assert stage.driven(WriteCycleLine)[-1].outcome == outcome
    assert not stage.state.open
    assert len(stage.told(CycleOutcome)) == 1


def test_an_ask_that_comes_again_is_executed_once_in_work_and_after() -> None:
    stage = Stage()
    stage.ask()
    ask = next(iter(stage.state.open.values())).ask
    stage.say(ask)
    stage.fill()
    stage.say(ask)
    stage.role.settings = settings(decision_age_ns_max=0)
    stage.ask(decided_ns=0)
    refused = stage.outcome()
    stage.say(msgspec.structs.replace(ask, attempt_id=refused.attempt_id))
    assert len(stage.told(PlaceSpotOrder)) == 3
    assert len(stage.told(CycleOutcome)) == 2
    assert sum(isinstance(one, Count) and one.name == "cycle_again" for one in stage.effects) == 3


@pytest.mark.parametrize(
    ("before", "changed", "guard"),
    [
        (HaltChanged("a person", 1), {}, "halt"),
        (SpotGateChanged("", SpotGateReason.NO_SESSION, {}), {}, "gate"),
        (SpotGateChanged("s1", SpotGateReason.UNRESOLVED, {}), {}, "gate"),
        (SpotBalancesChanged("s1", {"USDT": e8("999")}), {}, "balance"),
        (None, {"decided_ns": 1}, "age"),
        (None, {"spent": e8("2001")}, "amount"),
        (None, {"legs": triangle()[:2]}, "unfit"),
        (None, {"start_asset": "BTC"}, "unfit"),
    ],
)
def test_each_guard_refuses_with_an_outcome_and_no_order(
    before: AnyMessage | None, changed: dict[str, object], guard: str
) -> None:
    stage = Stage()
    if before is not None:
        stage.say(before)
    stage.ask(**changed)
    assert (stage.outcome().end, stage.outcome().guard) == (CycleEnd.REFUSED, guard)
    assert not stage.told(PlaceSpotOrder)
    assert not stage.state.open


def test_a_second_cycle_waits_for_nobody_it_is_refused() -> None:
    stage = Stage()
    stage.ask()
    stage.ask()
    assert stage.outcome().guard == "open_max"


def test_at_once_every_leg_must_be_paid_for_and_all_go_out_together() -> None:
    stage = Stage(settings(Mode.AT_ONCE))
    stage.ask()
    assert (stage.outcome().guard, stage.outcome().figures["asset"]) == ("balance", "BTC")
    stage.say(SpotBalancesChanged("s1", {"USDT": e8("5000"), "BTC": e8("1"), "ETH": e8("1")}))
    stage.ask()
    stage.quote()
    assert [order.client_order_id[-2:] for order in stage.told(PlaceSpotOrder)] == ["-1", "-2", "-3"]
    stage.end("0.05", "1000", placed=0, BTC="0.00005")
    stage.end("0.998", "0.0499", placed=1, ETH="0.000998")
    assert len(stage.driven(ReadQuotes)) == 1
    stage.end("0.997", "1021.925", placed=2, USDT="1.021925")
    stage.quote()
    assert stage.outcome().end is CycleEnd.FILLED


def test_rows_that_aged_between_decision_and_execution_begin_nothing() -> None:
    stage = Stage()
    stage.ask()
    stage.quote(tops_of(triangle(), live=False))
    assert (stage.outcome().end, stage.outcome().guard) == (CycleEnd.REFUSED, "not_live")
    stage.ask()
    stage.now_ns += SECOND_NS
    stage.quote()
    assert stage.outcome().guard == "age"
    assert not stage.told(PlaceSpotOrder)


def test_a_leg_that_fails_is_unwound_even_under_a_halt_and_retries_are_spaced() -> None:
    stage = Stage()
    stage.ask()
    stage.quote()
    stage.end("0.05", "1000")
    stage.say(HaltChanged("a person", 1))
    stage.quote()
    back = stage.told(PlaceSpotOrder)[-1]
    assert (back.client_order_id[-3:], back.side, back.reduces_risk, back.expires_ns) == ("-u1", "SELL", True, 0)
    reads = len(stage.driven(ReadQuotes))
    stage.end("0", "0")
    assert len(stage.driven(ReadQuotes)) == reads, "after one that filled nothing it waits"
    (timer,) = [one for one in stage.effects if isinstance(one, StartTimer)]
    stage.say(TimerFired(timer.name))
    stage.quote()
    stage.end("0.05", "999")
    stage.quote()
    assert (stage.outcome().end, stage.outcome().guard) == (CycleEnd.UNWOUND, "halt")
    assert stage.outcome().realized == -e8("1")


def test_what_cannot_be_unwound_is_kept_with_an_alarm_and_a_sum() -> None:
    stage = Stage()
    stage.ask()
    stage.quote()
    stage.end("0.05", "1000")
    stage.quote(tops_of(triangle(), live=False))
    for _ in range(3):
        stage.end("0", "0")
        stage.say(TimerFired("retry:evaluator:e1.1"))
        stage.quote()
    assert (stage.outcome().end, stage.outcome().guard) == (CycleEnd.HELD, "unwind_orders_max")
    assert stage.state.residuals == {"BTC": e8("0.05")}
    assert "cycle_held" in stage.alarms()
    assert "cycles_stopped" in stage.alarms(), "a thousand below the highest point is beyond fifty"


def test_the_breaker_stays_tripped_until_a_person_clears_it_later() -> None:
    stage = Stage()
    for _ in range(3):
        stage.ask()
        stage.quote()
        stage.end("0", "0")
        stage.quote()
        assert stage.outcome().end is CycleEnd.NOT_FILLED
    assert stage.state.breaker.tripped.startswith("consecutive")
    stage.ask()
    assert stage.outcome().guard == "breaker"
    stage.say(CyclesResumed(stage.state.breaker.tripped_ns - 1, "before it tripped"))
    assert stage.state.breaker.tripped
    stage.say(CyclesResumed(stage.now_ns + 1, "looked at"))
    assert not stage.state.breaker.tripped
    assert {one.name for one in stage.effects if isinstance(one, ClearAlarm)} >= {"cycles_stopped"}
    assert len(stage.told(RebaseSpotAccount)) == 2
    stage.say(CyclesResumed(stage.now_ns + 1, "the same word again"))
    assert len(stage.told(RebaseSpotAccount)) == 2


def test_a_successor_goes_on_where_no_order_is_out_and_waits_where_one_is() -> None:
    stage = Stage()
    stage.ask()
    stage.say(Recovered(2))
    assert len(stage.driven(StartExecutor)) == 1
    assert len(stage.driven(ReadQuotes)) == 2, "what was asked for died with its driver"
    stage.say(QuotesRead(stage.driven(ReadQuotes)[0].request_id, (), stage.now_ns))
    assert not stage.told(PlaceSpotOrder), "an answer to a dead question is nothing"
    stage.quote()
    stage.say(Recovered(3))
    assert len(stage.driven(ReadQuotes)) == 2
    stage.end("0.05", "1000")
    assert len(stage.driven(ReadQuotes)) == 3


def test_a_line_is_asked_for_until_it_is_confirmed() -> None:
    stage = Stage()
    name = stage.ask(decided_ns=1)
    stage.say(Recovered(2))
    assert [one.outcome.attempt_id for one in stage.driven(WriteCycleLine)] == [name, name]
    stage.say(CycleLineWritten(name))
    stage.say(Recovered(3))
    assert len(stage.driven(WriteCycleLine)) == 2


def test_an_order_that_does_more_after_its_attempts_end_is_carried_and_stops_everything() -> None:
    stage = Stage()
    stage.ask()
    stage.quote()
    stage.end("0", "0")
    stage.quote()
    stage.end("0.05", "1000", revision=2)
    assert stage.state.residuals == {"USDT": -e8("1000"), "BTC": e8("0.05")}
    assert stage.state.breaker.tripped.startswith("surfaced")
    assert {"cycle_order_surfaced", "cycles_stopped"} <= stage.alarms()
    assert len(stage.told(CycleOutcome)) == 1


def test_orders_of_which_nothing_left_are_no_attempt() -> None:
    stage = Stage()
    stage.ask()
    stage.quote()
    order = stage.told(PlaceSpotOrder)[-1]
    stage.say(
        SpotOrderDone(order.client_order_id, order.attempt_id, 1, "expired", 0, 0, {}, 0, stage.now_ns, "not_sent: x")
    )
    stage.quote()
    assert stage.outcome().end is CycleEnd.REFUSED
    assert stage.state.breaker.failures == ()


def test_an_order_of_an_attempt_that_is_forgotten_stops_everything_if_it_did_anything() -> None:
    for qty, tripped in ((0, False), (1, True)):
        stage = Stage()
        stage.say(
            SpotOrderDone("axqx5ust-aaaaaaaaaaaaaaaaaaaa-1", "long ago", 2, "filled", qty, qty, {}, 1, 2, "FILLED")
        )
        assert bool(stage.state.breaker.tripped) is tripped
        assert ("cycle_order_surfaced" in stage.alarms()) is tripped
