"""The spot broker: written at most once, known only by what the exchange says, told once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
import pytest

from actors.broker_spot import SpotBroker
from actors.effects import Count, Drive, Effect, RaiseAlarm, Send
from actors.messages import (
    AnyMessage,
    CancelSpotOrder,
    Envelope,
    HaltChanged,
    PlaceSpotOrder,
    QuerySpotOrder,
    ReadSpotAccount,
    RebaseSpotAccount,
    Recovered,
    Side,
    SpotAccountRead,
    SpotBalance,
    SpotExecutionReported,
    SpotGateChanged,
    SpotGateReason,
    SpotOrderDone,
    SpotOrderNotSent,
    SpotOrderRead,
    SpotOrderRefused,
    SpotOrderReported,
    SpotOrderWritten,
    SpotOutcomeUnknown,
    SpotSessionLost,
    SpotSessionOpened,
    SubmitSpotOrder,
    TimerFired,
)
from actors.spot_state import SECOND_NS, SpotSettings, SpotState
from kernels.ids import cycle_order_id
from kernels.order_state import OrderState

E8 = 10**8
NAME = cycle_order_id("apex", "evaluator:e1.1", "1")
SETTINGS = SpotSettings(absent_grace_ns=7 * SECOND_NS)
B = TypeVar("B")


class Stage:
    """A broker, its state, and all that it wanted done."""

    def __init__(self, *, open_gate: bool = True) -> None:
        self.role = SpotBroker(SETTINGS)
        self.state = SpotState()
        self.now_ns = 1_000 * SECOND_NS
        self.effects: list[Effect] = []
        self.last: Sequence[Effect] = ()
        if open_gate:
            self.open("s1")
            assert self.state.gate is SpotGateReason.OPEN

    def say(self, body: AnyMessage, after_ns: int = 0) -> Sequence[Effect]:
        self.now_ns += after_ns
        envelope = Envelope("m", "c", "", "x", "broker.spot", 1, self.now_ns, body)
        before = repr(self.state)
        state, self.last = self.role.reduce(self.state, envelope, self.now_ns)
        if state is self.state:
            assert repr(state) == before, "the same object, and it changed"
        self.state = state
        self.effects += self.last
        return self.last

    def open(self, session_id: str, **totals: int) -> None:
        self.say(SpotSessionOpened(session_id, "account-1"))
        self.account(session_id, **totals)

    def account(self, session_id: str, can_trade: bool = True, **totals: int) -> None:
        balances = {asset: SpotBalance(count, 0) for asset, count in (totals or {"USDT": 5_000 * E8}).items()}
        asked = [command for command in self.driven(ReadSpotAccount) if command.session_id == session_id]
        assert asked, "the account is not asked for"
        self.say(SpotAccountRead(session_id, asked[-1].request_id, balances, (), can_trade, self.now_ns))

    def driven(self, kind: type[B]) -> list[B]:
        return [one.command for one in self.effects if isinstance(one, Drive) and isinstance(one.command, kind)]

    def told(self, kind: type[B]) -> list[B]:
        return [one.body for one in self.effects if isinstance(one, Send) and isinstance(one.body, kind)]

    def counted(self, name: str) -> int:
        return sum(one.by for one in self.effects if isinstance(one, Count) and one.name == name)

    def alarms(self) -> set[str]:
        return {one.name for one in self.effects if isinstance(one, RaiseAlarm)}

    def order_state(self) -> OrderState:
        found = self.state.live.get(NAME) or self.state.ended.get(NAME)
        assert found is not None
        return found.state


def place(**changed: object) -> PlaceSpotOrder:
    whole = PlaceSpotOrder(
        client_order_id=NAME,
        attempt_id="evaluator:e1.1",
        symbol="BTCUSDT",
        side=Side.BUY,
        qty=2 * E8,
        limit_px=100 * E8,
        base="BTC",
        quote="USDT",
        reduces_risk=False,
        expires_ns=1_003 * SECOND_NS,
    )
    return msgspec.structs.replace(whole, **changed)


def report(status: str, cum: int, session_id: str = "s1") -> SpotOrderReported:
    return SpotOrderReported(
        session_id, "BTCUSDT", NAME, 7, status, Side.BUY, 2 * E8, 100 * E8, cum * E8, cum * 100 * E8, 1
    )


def trade(trade_id: int, qty: int, session_id: str = "s1", commission: int = 100_000) -> SpotExecutionReported:
    return SpotExecutionReported(
        session_id, "BTCUSDT", trade_id, NAME, 7, Side.BUY, qty * E8, 100 * E8, qty * 100 * E8, commission, "BTC", 1
    )


def read(
    order: SpotOrderReported | None, *trades: SpotExecutionReported, at_ns: int, failed: tuple[str, ...] = ()
) -> SpotOrderRead:
    return SpotOrderRead("s1", "q", "BTCUSDT", NAME, order, trades, at_ns, failed)


def test_an_order_is_in_the_state_before_it_is_driven_and_leaves_once() -> None:
    stage = Stage()
    stage.say(place())
    assert stage.order_state() is OrderState.PRE_SENT
    (submit,) = stage.driven(SubmitSpotOrder)
    assert (submit.session_id, submit.ticket.client_order_id, submit.reduces_risk) == ("s1", NAME, False)
    assert submit.not_after_ns == stage.now_ns + SETTINGS.submit_within_ns
    stage.say(place())
    stage.say(TimerFired("look"), SECOND_NS)
    assert len(stage.driven(SubmitSpotOrder)) == 1
    assert stage.counted("order_again") == 1


def test_nothing_leaves_before_a_session_whose_account_was_read() -> None:
    stage = Stage(open_gate=False)
    stage.say(place())
    stage.say(SpotSessionOpened("s1", "account-1"))
    assert not stage.driven(SubmitSpotOrder)
    stage.account("s1")
    assert len(stage.driven(SubmitSpotOrder)) == 1
    assert [told.reason for told in stage.told(SpotGateChanged)] == [
        SpotGateReason.ACCOUNT_NOT_READ,
        SpotGateReason.OPEN,
    ]
    assert stage.told(SpotGateChanged)[-1].free == {"USDT": 5_000 * E8}


@pytest.mark.parametrize("order_of_words", ["report first", "trades first", "stream and reply"])
def test_an_order_is_over_when_the_executions_add_up_to_what_the_exchange_says(order_of_words: str) -> None:
    stage = Stage()
    stage.say(place())
    stage.say(SpotOrderWritten("s1", NAME, stage.now_ns))
    words: list[AnyMessage] = [report("FILLED", 2), trade(1, 1), trade(2, 1)]
    if order_of_words == "trades first":
        words.reverse()
    if order_of_words == "stream and reply":
        words = [report("NEW", 0), trade(1, 1), *words, trade(2, 1), report("NEW", 0), report("FILLED", 2)]
    for number, word in enumerate(words, start=1):
        if number < len(words) and order_of_words == "report first":
            assert not stage.told(SpotOrderDone)
        stage.say(word)
    (done,) = stage.told(SpotOrderDone)
    assert (done.state, done.cum_qty, done.cum_quote_qty) == ("filled", 2 * E8, 200 * E8)
    assert done.commissions == {"BTC": 200_000}
    assert stage.state.flows == {"BTC": 2 * E8 - 200_000, "USDT": -200 * E8}
    assert not stage.alarms()


def test_what_the_exchange_claims_and_does_not_tell_is_looked_up() -> None:
    stage = Stage()
    stage.say(place())
    stage.say(report("EXPIRED", 1))
    assert not stage.driven(QuerySpotOrder), "its trades may be on their way"
    stage.say(TimerFired("look"), SECOND_NS)
    assert len(stage.driven(QuerySpotOrder)) == 1
    assert stage.state.gate is SpotGateReason.UNRESOLVED
    stage.say(read(report("EXPIRED", 1), trade(1, 1), at_ns=stage.now_ns))
    (done,) = stage.told(SpotOrderDone)
    assert (done.state, done.cum_qty, done.reason) == ("cancelled", E8, "EXPIRED")
    assert stage.state.gate is SpotGateReason.OPEN


def test_an_unknown_order_is_never_written_again_and_given_up_only_after_two_absences_with_grace() -> None:
    stage = Stage()
    stage.say(place())
    stage.say(SpotOrderWritten("s1", NAME, stage.now_ns))
    stage.say(SpotOutcomeUnknown("s1", NAME, "no answer"))
    assert stage.order_state() is OrderState.UNKNOWN
    assert len(stage.driven(QuerySpotOrder)) == 1
    stage.say(read(None, at_ns=stage.now_ns, failed=("order",)))
    first_ns = stage.now_ns
    stage.say(read(None, at_ns=first_ns))
    stage.say(read(None, at_ns=first_ns + 6 * SECOND_NS), 6 * SECOND_NS)
    assert stage.order_state() is OrderState.UNKNOWN
    stage.say(place(client_order_id=cycle_order_id("apex", "another", "1"), expires_ns=0))
    assert len(stage.driven(SubmitSpotOrder)) == 1, "what is unresolved is settled before another order leaves"
    stage.say(read(None, at_ns=first_ns + 7 * SECOND_NS), SECOND_NS)
    assert stage.order_state() is OrderState.EXPIRED
    (done,) = stage.told(SpotOrderDone)
    assert (done.cum_qty, done.reason) == (0, "absent")
    assert [submit.ticket.client_order_id == NAME for submit in stage.driven(SubmitSpotOrder)] == [True, False]


def test_an_unknown_order_that_is_found_is_adopted_with_its_trades() -> None:
    stage = Stage()
    stage.say(place())
    stage.say(SpotOutcomeUnknown("s1", NAME, "cut"))
    stage.say(read(None, at_ns=stage.now_ns))
    stage.say(read(report("EXPIRED", 1), trade(1, 1), at_ns=stage.now_ns))
    (done,) = stage.told(SpotOrderDone)
    assert (done.cum_qty, done.revision) == (E8, 1)
    stage.say(trade(1, 1))
    assert len(stage.told(SpotOrderDone)) == 1
    assert stage.state.flows["USDT"] == -100 * E8


def test_what_happens_after_an_order_was_given_up_is_told_again_and_is_an_incident() -> None:
    stage = Stage()
    stage.say(place())
    stage.say(SpotOutcomeUnknown("s1", NAME, "cut"))
    stage.say(read(None, at_ns=SECOND_NS))
    stage.say(read(None, at_ns=9 * SECOND_NS))
    stage.say(trade(1, 2))
    stage.say(report("FILLED", 2))
    dones = stage.told(SpotOrderDone)
    assert [(done.revision, done.cum_qty) for done in dones][:2] == [(1, 0), (2, 2 * E8)]
    assert dones[-1].state == "filled"


@pytest.mark.parametrize("died", [False, True])
def test_after_a_lost_session_or_a_death_what_was_out_is_looked_up_before_the_account_is_read(died: bool) -> None:
    stage = Stage()
    stage.say(place())
    stage.say(Recovered(2) if died else SpotSessionLost("s1", "the stream broke"))
    assert stage.order_state() is OrderState.UNKNOWN
    assert stage.state.gate is SpotGateReason.NO_SESSION
    accounts = len(stage.driven(ReadSpotAccount))
    stage.say(SpotSessionOpened("s2", "account-1"))
    assert stage.driven(QuerySpotOrder)[-1].session_id == "s2"
    assert len(stage.driven(ReadSpotAccount)) == accounts
    found = msgspec.structs.replace(read(report("FILLED", 2), trade(1, 2), at_ns=1), session_id="s2")
    stage.say(found)
    assert len(stage.told(SpotOrderDone)) == 1
    stage.say(TimerFired("look"), 2 * SECOND_NS)
    stage.account("s2", USDT=4_800 * E8, BTC=2 * E8 - 100_000)
    assert stage.state.gate is SpotGateReason.OPEN
    assert not stage.state.diverged


def test_what_certainly_did_not_leave_or_was_refused_is_over_at_once() -> None:
    for body, state in (
        (SpotOrderNotSent("s1", NAME, "no connection"), "expired"),
        (SpotOrderRefused("s1", NAME, 400, -2010, "insufficient balance"), "rejected"),
    ):
        stage = Stage()
        stage.say(place())
        stage.say(body)
        (done,) = stage.told(SpotOrderDone)
        assert (done.state, done.cum_qty) == (state, 0)
        assert stage.state.gate is SpotGateReason.OPEN


def test_under_a_halt_only_unwinding_leaves() -> None:
    stage = Stage()
    stage.say(HaltChanged("a person", 1))
    stage.say(place())
    (done,) = stage.told(SpotOrderDone)
    assert done.reason == "halt"
    back = cycle_order_id("apex", "evaluator:e1.1", "u1")
    stage.say(place(client_order_id=back, side=Side.SELL, reduces_risk=True, expires_ns=0))
    assert [submit.ticket.client_order_id for submit in stage.driven(SubmitSpotOrder)] == [back]


def test_an_order_that_is_held_too_long_never_leaves_but_one_that_unwinds_waits() -> None:
    stage = Stage()
    stage.say(SpotSessionLost("s1", "gone"))
    stage.say(place())
    back = cycle_order_id("apex", "evaluator:e1.1", "u1")
    stage.say(place(client_order_id=back, reduces_risk=True, expires_ns=0))
    stage.say(TimerFired("look"), 4 * SECOND_NS)
    (done,) = stage.told(SpotOrderDone)
    assert done.reason == "expired: no_session"
    stage.open("s2")
    assert [submit.ticket.client_order_id for submit in stage.driven(SubmitSpotOrder)] == [back]


def test_a_diverged_account_opens_no_risk_until_it_is_right_or_a_person_takes_it_for_right() -> None:
    stage = Stage()
    stage.say(SpotSessionLost("s1", "gone"))
    stage.open("s2", USDT=4_999 * E8)
    assert stage.state.gate is SpotGateReason.DIVERGED
    assert "USDT -1.00000000" in stage.state.diverged
    assert "spot_diverged" in stage.alarms()
    back = cycle_order_id("apex", "evaluator:e1.1", "u1")
    stage.say(place(expires_ns=stage.now_ns + SECOND_NS))
    stage.say(place(client_order_id=back, reduces_risk=True, expires_ns=0))
    assert [submit.ticket.client_order_id for submit in stage.driven(SubmitSpotOrder)] == [back]
    stage.say(SpotOrderNotSent("s2", back, "no connection"))
    stage.say(RebaseSpotAccount("a withdrawal"))
    stage.account("s2", USDT=4_999 * E8)
    assert stage.state.gate is SpotGateReason.OPEN
    assert stage.driven(SubmitSpotOrder)[-1].ticket.client_order_id == NAME


def test_an_account_that_was_read_while_an_order_was_out_is_not_compared() -> None:
    stage = Stage()
    stage.say(TimerFired("look"), 31 * SECOND_NS)
    asked = stage.driven(ReadSpotAccount)[-1]
    stage.say(place(expires_ns=0))
    stage.say(trade(1, 2))
    stage.say(report("FILLED", 2))
    balances = {"USDT": SpotBalance(5_000 * E8, 0)}
    stage.say(SpotAccountRead("s1", asked.request_id, balances, (), True, stage.now_ns))
    assert not stage.state.diverged


def test_an_open_order_of_ours_that_is_over_in_our_books_is_cancelled_and_an_incident() -> None:
    stage = Stage()
    stage.say(TimerFired("look"), 31 * SECOND_NS)
    asked = stage.driven(ReadSpotAccount)[-1]
    balances = {"USDT": SpotBalance(5_000 * E8, 0)}
    stage.say(SpotAccountRead("s1", asked.request_id, balances, (report("NEW", 0),), True, stage.now_ns))
    assert [cancel.client_order_id for cancel in stage.driven(CancelSpotOrder)] == [NAME]
    assert "incident.surfaced" in stage.alarms()


def test_another_order_under_a_used_id_another_account_and_a_foreign_trade_change_nothing() -> None:
    stage = Stage()
    stage.say(place())
    stage.say(place(qty=3 * E8))
    assert "incident.id_again" in stage.alarms()
    stage.say(msgspec.structs.replace(trade(9, 1), client_order_id="web_1"))
    assert stage.counted("foreign_order") == 1
    assert stage.state.flows == {}
    stage.say(SpotSessionOpened("s2", "another's"))
    assert stage.state.session is None
    assert stage.state.gate is SpotGateReason.NO_SESSION
    assert "spot_account" in stage.alarms()


def test_trades_that_differ_under_one_id_are_an_incident() -> None:
    stage = Stage()
    stage.say(place())
    stage.say(trade(1, 1))
    stage.say(trade(1, 2))
    assert "incident.trade_differs" in stage.alarms()
    assert stage.state.flows["USDT"] == -100 * E8


def test_what_is_over_is_forgotten_beyond_its_bound_oldest_first() -> None:
    stage = Stage()
    stage.role.settings = msgspec.structs.replace(SETTINGS, ended_max=3, trades_max=2)
    for number in range(6):
        name = cycle_order_id("apex", f"attempt {number}", "1")
        stage.say(place(client_order_id=name, expires_ns=0))
        stage.say(msgspec.structs.replace(trade(number, 2), client_order_id=name))
        stage.say(msgspec.structs.replace(report("FILLED", 2), client_order_id=name))
    assert len(stage.state.ended) == 3
    assert len(stage.state.trades) == 2
    assert len(stage.told(SpotOrderDone)) == 6
    assert stage.state.flows["USDT"] == -6 * 200 * E8
