"""The broker's guard over entries: what waits, what is refused, what is reserved and when it is let go."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.broker import Broker
from actors.broker_state import BrokerSettings, BrokerState
from actors.messages import (
    AccountFigures,
    BracketIntent,
    CommissionReported,
    ContractRead,
    ExitIntent,
    GrantGate,
    IntentOutcome,
    Outcome,
    PicturesTaken,
    PlaceBracket,
    PlaceExit,
    ReadContract,
    Resolution,
    Side,
    SubmitNotSent,
    SubmitOrders,
    SubmitRefused,
    SubmitWritten,
    TimerFired,
)
from kernels import ids
from kernels.contract_terms import ContractTerms, PriceStep
from kernels.entry_checks import EntryRules
from kernels.order_state import OrderState
from tests.actors.broker_bench import counted, resolution, states
from tests.actors.money_bench import (
    FUND,
    SECOND,
    START,
    UNIT,
    Bench,
    execution,
    grant,
    intent,
    opened,
    report,
    venue_read,
    wrote,
)

DAY = 86_400 * SECOND
TERMS = ContractTerms(
    symbol="ACME",
    currency="USD",
    multiplier=UNIT,
    price_steps=(PriceStep(0, UNIT // 100),),
    size_min=UNIT,
    size_step=UNIT,
    trading=((START - DAY, START + 2 * DAY),),
    liquid=((START - DAY, START + 2 * DAY),),
    hours_until_ns=START + 2 * DAY,
    read_ns=START,
)
ACCOUNT = AccountFigures("DU1", "USD", 0, 0, 25_000 * UNIT, 100_000 * UNIT, START)
RULES = EntryRules(slippage_bps=0, commission_bps=0)


def bracket(signal_id: str = "s1", **changed: int) -> BracketIntent:
    """100 shares sized at 100: 10,000 at most."""
    return msgspec.structs.replace(intent(signal_id, **changed), reference_px=100 * UNIT)


def known(session: str = "S1", **changed: Any) -> ContractRead:
    return ContractRead(session, "ACME", msgspec.structs.replace(TERMS, **changed))


def fresh(rules: EntryRules = RULES, **settings: Any) -> Bench[BrokerState]:
    return Bench(Broker(BrokerSettings(entries=rules, symbols=("ACME",), **settings)))


def ready(rules: EntryRules = RULES, account: AccountFigures | None = ACCOUNT) -> Bench[BrokerState]:
    """Session, gate, terms and account values."""
    bench = fresh(rules)
    bench.feed(opened())
    bench.feed(known())
    bench.feed(venue_read(account=account))
    bench.feed(grant(bench))
    return bench


def outcome(bench: Bench[BrokerState]) -> tuple[Outcome, str]:
    told = bench.told(IntentOutcome)
    assert len(told) == 1
    return told[0].outcome, told[0].guard


def test_contracts_of_the_settings_are_asked_for_when_a_session_opens() -> None:
    bench = fresh()
    bench.feed(opened())
    assert bench.driven(ReadContract) == [ReadContract("S1", "ACME")]
    bench.feed(known())
    assert bench.state.contracts == {"ACME": TERMS}
    bench.check_replay()


def test_an_entry_waits_for_its_terms_and_leaves_with_them() -> None:
    bench = fresh()
    bench.feed(opened())
    bench.feed(venue_read(account=ACCOUNT))
    bench.feed(grant(bench))
    bench.feed(PlaceBracket(bracket()))
    assert bench.driven(ReadContract) == [ReadContract("S1", "ACME")]
    assert not bench.driven(SubmitOrders)
    bench.feed(known("S0"))
    assert not bench.driven(SubmitOrders)
    bench.feed(known())
    sent = bench.driven(SubmitOrders)
    assert [one.reference_px for one in sent] == [100 * UNIT]
    bench.check_replay()


def test_terms_that_cannot_be_had_refuse_what_waits_for_them_and_nothing_else() -> None:
    bench = fresh()
    bench.feed(opened())
    bench.feed(venue_read(account=ACCOUNT))
    bench.feed(grant(bench))
    bench.feed(PlaceBracket(bracket()))
    bench.feed(PlaceBracket(msgspec.structs.replace(bracket("s2"), symbol="OTHER")))
    bench.feed(ContractRead("S1", "ACME", fault="200 no security definition"))
    assert outcome(bench) == (Outcome.REFUSED, "contract_unknown")
    assert "200 no security definition" in bench.told(IntentOutcome)[0].figures["fault"]
    assert [held.intent.symbol for held in bench.state.held.values()] == ["OTHER"]
    bench.check_replay()


def test_an_entry_whose_terms_never_come_ends_when_it_expires() -> None:
    bench = fresh()
    bench.feed(opened())
    bench.feed(venue_read(account=ACCOUNT))
    bench.feed(PlaceBracket(bracket()))
    bench.wait(61)
    bench.feed(GrantGate("S1", 1, bench.now_ns + 15 * SECOND))
    assert outcome(bench) == (Outcome.EXPIRED, "expired")


@pytest.mark.parametrize(
    ("rules", "account", "terms", "guard"),
    [
        (RULES, None, {}, "account_unknown"),
        (RULES, msgspec.structs.replace(ACCOUNT, account="DU2"), {}, "account_unknown"),
        (RULES, msgspec.structs.replace(ACCOUNT, as_of_ns=START - 91 * SECOND), {}, "account_stale"),
        (RULES, msgspec.structs.replace(ACCOUNT, available_funds=9_999 * UNIT), {}, "funds"),
        (RULES, ACCOUNT, {"size_step": 3 * UNIT}, "lot"),
        (RULES, ACCOUNT, {"price_steps": (PriceStep(0, 4 * UNIT),)}, "tick"),
        (RULES, ACCOUNT, {"liquid": ()}, "hours"),
        (RULES, ACCOUNT, {"hours_until_ns": START}, "hours_unknown"),
    ],
)
def test_a_guard_that_objects_is_the_intents_outcome_and_no_order_is_made(
    rules: EntryRules, account: AccountFigures | None, terms: dict[str, Any], guard: str
) -> None:
    bench = ready(rules, account)
    bench.feed(known(**terms))
    bench.feed(PlaceBracket(bracket()))
    assert outcome(bench) == (Outcome.REFUSED, guard)
    assert not bench.driven(SubmitOrders)
    assert not bench.state.families
    bench.feed(PlaceBracket(bracket()))
    assert not bench.told(IntentOutcome)
    bench.check_replay()


def test_a_way_out_is_held_against_nothing() -> None:
    bench = fresh()
    bench.feed(opened())
    out = ExitIntent(ids.family_id(FUND, "x"), "x", "t", "ACME", Side.SELL, UNIT + 1, 3, START + DAY, "risk")
    bench.feed(PlaceExit(out))
    assert len(bench.driven(SubmitOrders)) == 1


def test_old_terms_are_gone_by_and_read_again_and_hours_that_are_over_are_waited_for() -> None:
    bench = ready()
    bench.feed(known(read_ns=START - 13 * 3_600 * SECOND))
    bench.feed(PlaceBracket(bracket("s1")))
    assert len(bench.driven(SubmitOrders)) == 1
    assert len(bench.driven(ReadContract)) == 1
    bench.feed(known(read_ns=START - DAY, hours_until_ns=START))
    bench.feed(PlaceBracket(bracket("s2")))
    assert not bench.driven(SubmitOrders)
    assert len(bench.driven(ReadContract)) == 1
    bench.feed(known())
    assert len(bench.driven(SubmitOrders)) == 1


def test_rounding_changes_what_goes_out_and_what_is_kept() -> None:
    bench = ready(EntryRules(rounds=True))
    bench.feed(PlaceBracket(bracket(stop_px=95 * UNIT + 1, qty=10 * UNIT + 5)))
    sent = bench.driven(SubmitOrders)[0]
    assert [ticket.qty for ticket in sent.tickets] == [10 * UNIT] * 3
    assert sent.tickets[2].stop_px == 95 * UNIT + UNIT // 100
    assert counted(bench)["entry_rounded"] == 1
    assert next(iter(bench.state.families.values())).intent.stop_px == 95 * UNIT + UNIT // 100


# ---- what is reserved


def filled(bench: Bench[BrokerState], signal_id: str, exec_id: str) -> None:
    bench.feed(wrote(bench.driven(SubmitOrders)[0]))
    place = bench.state.families[ids.family_id(FUND, signal_id)].orders[0].venue_order_id
    bench.feed(report("entry", "Submitted", signal_id=signal_id, venue_order_id=place, perm_id=place))
    told = execution(exec_id, 100, signal_id=signal_id)
    bench.feed(msgspec.structs.replace(told, venue_order_id=place, perm_id=place))


def test_what_entries_may_cost_is_reserved_until_the_account_has_them_inside() -> None:
    bench = ready()
    for name in ("s1", "s2"):
        bench.feed(PlaceBracket(bracket(name)))
        filled(bench, name, f"e{name}.01")
    assert sum(bench.state.reserved.values()) == 20_000 * UNIT
    bench.feed(PlaceBracket(bracket("s3")))
    assert outcome(bench) == (Outcome.REFUSED, "funds")
    bench.feed(venue_read(account=ACCOUNT))
    assert len(bench.state.reserved) == 2  # asked for before they ended
    bench.wait(1)
    bench.feed(venue_read(account=msgspec.structs.replace(ACCOUNT, as_of_ns=bench.now_ns)))
    assert not bench.state.reserved
    bench.feed(PlaceBracket(bracket("s4")))
    assert len(bench.driven(SubmitOrders)) == 1
    bench.check_replay()


def test_an_entry_that_ended_without_a_fill_makes_room_at_once() -> None:
    bench = ready()
    for name in ("s1", "s2"):
        bench.feed(PlaceBracket(bracket(name)))
        bench.feed(wrote(bench.driven(SubmitOrders)[0]))
    bench.feed(report("entry", "Cancelled", signal_id="s1"))
    bench.feed(PlaceBracket(bracket("s3")))
    assert len(bench.driven(SubmitOrders)) == 1
    assert len(bench.state.reserved) == 2


def test_what_is_known_not_to_have_left_reserves_nothing() -> None:
    bench = ready()
    bench.feed(PlaceBracket(bracket()))
    command = bench.driven(SubmitOrders)[0]
    names = tuple(ticket.client_order_id for ticket in command.tickets)
    bench.feed(SubmitNotSent("S1", command.intent_id, names, "test"))
    assert not bench.state.reserved
    bench.feed(TimerFired("held"))
    assert bench.state.reserved == {command.intent_id: 10_000 * UNIT}


# ---- the guard at the socket


def objected(bench: Bench[BrokerState], legs: int = 3) -> SubmitRefused:
    command = bench.driven(SubmitOrders)[0]
    names = tuple(ticket.client_order_id for ticket in command.tickets[:legs])
    return SubmitRefused(command.session_id, command.intent_id, names, "market_collar", {"field": "limit_px"})


def test_an_objection_at_the_socket_is_the_intents_end_and_not_tried_again() -> None:
    bench = ready()
    bench.feed(PlaceBracket(bracket()))
    bench.feed(objected(bench))
    assert outcome(bench) == (Outcome.REFUSED, "market_collar")
    assert not bench.state.families
    assert not bench.state.held
    assert not bench.state.reserved
    bench.feed(PlaceBracket(bracket()))
    assert not bench.driven(SubmitOrders)
    bench.check_replay()


def test_an_objection_to_a_resend_proves_nothing_of_the_first_write() -> None:
    bench = ready()
    bench.feed(PlaceBracket(bracket()))
    bench.feed(wrote(bench.driven(SubmitOrders)[0]))
    bench.feed(opened("S2", 200))
    bench.feed(resolution(Resolution.RESEND_SAME_ID))
    bench.feed(objected(bench))
    assert states(bench) == [OrderState.UNKNOWN] * 3
    assert not bench.told(IntentOutcome)
    bench.check_replay()


def test_a_degraded_guard_is_named_in_the_outcome_and_counted() -> None:
    bench = ready()
    bench.feed(PlaceBracket(bracket()))
    command = bench.driven(SubmitOrders)[0]
    names = tuple(ticket.client_order_id for ticket in command.tickets)
    bench.feed(SubmitWritten("S1", command.intent_id, names, START, "collar_by_reference"))
    assert bench.told(IntentOutcome)[0].figures["degraded"] == "collar_by_reference"
    assert counted(bench)["degraded.collar_by_reference"] == 1


# ---- cash


def test_pictures_have_what_fills_and_commissions_did_to_the_cash() -> None:
    bench = ready()
    bench.feed(PlaceBracket(bracket()))
    filled(bench, "s1", "e1.01")
    bench.feed(venue_read())
    cash = bench.told(PicturesTaken)[0].cash
    assert cash is not None
    assert (cash.flow, cash.untold, cash.changed_ns) == (-10_000 * UNIT, 1, START)
    bench.wait(1)
    bench.feed(CommissionReported("S1", "e1.01", UNIT // 2, "USD"))
    bench.feed(venue_read())
    cash = bench.told(PicturesTaken)[0].cash
    assert cash is not None
    assert (cash.flow, cash.untold, cash.changed_ns) == (-10_000 * UNIT - UNIT // 2, 0, START + SECOND)
    bench.check_replay()
