"""Cash and equity from read to read: baseline, divergence, a person's word, and what a read cannot speak of."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.effects import AppendLine, Project
from actors.messages import (
    AccountFigures,
    DivergenceChanged,
    OurCash,
    PicturesTaken,
    ReconcileNow,
    VenueHolding,
    VenuePosition,
)
from actors.reconciler_state import MoneyView, ReconcilerState, ReconcileView
from tests.actors.money_bench import SECOND, START, UNIT, Bench, venue_read
from tests.actors.test_reconciler import opened, position

EMPTY = OurCash(0, 0, 0)


def figures(cash: int, equity: int | None = None, **changed: Any) -> AccountFigures:
    told = AccountFigures("DU1", "USD", cash * UNIT, (cash if equity is None else equity) * UNIT, 0, 0, START)
    return msgspec.structs.replace(told, **changed)


def see(
    bench: Bench[ReconcilerState],
    account: AccountFigures | None,
    cash: OurCash | None = EMPTY,
    held: tuple[VenuePosition, ...] = (),
    positions_only: bool = True,
) -> list[str]:
    """Feed a read in which nothing but money may differ; what the lines say."""
    if account is not None:
        account = msgspec.structs.replace(account, as_of_ns=bench.now_ns)
    read = venue_read(account=account, positions=held, taken_ns=bench.now_ns, positions_only=positions_only)
    bench.feed(PicturesTaken(read, (), held, cash=cash))
    told = [line.body for line in bench.did(AppendLine) if isinstance(line.body, DivergenceChanged)]
    bench.wait(2)
    return [f"{line.kind} {line.change}" for line in told]


def money(bench: Bench[ReconcilerState]) -> MoneyView:
    views = [row.value for row in bench.did(Project) if isinstance(row.value, ReconcileView)]
    return views[-1].money


def kinds(bench: Bench[ReconcilerState]) -> list[str]:
    return [one.finding.kind.value for one in bench.state.findings.values()]


def test_counting_begins_at_the_first_read_and_cash_that_follows_our_fills_is_no_divergence() -> None:
    bench = opened()
    assert see(bench, figures(1_000), OurCash(50 * UNIT, 0, 0)) == ["cash baseline"]
    assert see(bench, figures(900), OurCash(-50 * UNIT, 0, 0)) == []
    assert kinds(bench) == []
    assert money(bench).expected_cash == 900 * UNIT
    bench.check_replay()


def test_cash_that_nothing_of_ours_explains_is_raised_confirmed_tracked_and_cleared_once_each() -> None:
    bench = opened()
    see(bench, figures(1_000))
    assert see(bench, figures(990)) == ["cash raised"]
    assert see(bench, figures(990)) == ["cash confirmed"]
    assert see(bench, figures(990)) == []
    assert kinds(bench) == ["cash"]
    assert bench.state.gate_open
    assert see(bench, figures(1_000)) == ["cash cleared"]
    bench.check_replay()


@pytest.mark.parametrize(
    ("account", "cash", "why"),
    [
        (None, EMPTY, "no account values"),
        (figures(990), None, "no account values"),
        (figures(990, currency="EUR"), EMPTY, "account in EUR"),
        (figures(990, currency=""), EMPTY, "untold currency"),
        (figures(990, account="DU2"), EMPTY, "DU2"),
        (figures(990), OurCash(0, 2, 0), "2 fills without"),
        (figures(990), OurCash(0, 0, START + 3_600 * SECOND), "moves now"),
    ],
)
def test_a_read_that_cannot_be_compared_says_why_and_neither_raises_nor_clears(
    account: AccountFigures | None, cash: OurCash | None, why: str
) -> None:
    bench = opened()
    see(bench, figures(1_000))
    assert see(bench, account, cash) == []
    assert why in money(bench).not_compared
    see(bench, figures(990))
    assert see(bench, account, cash) == []
    assert kinds(bench) == ["cash"]
    assert see(bench, account, cash, positions_only=False) == []
    assert kinds(bench) == ["cash"]
    bench.check_replay()


def test_a_person_takes_the_account_as_it_is_for_right_once() -> None:
    bench = opened()
    see(bench, figures(1_000))
    see(bench, figures(990))
    bench.feed(ReconcileNow(START + 5, accept_cash=True))
    assert see(bench, None) == []  # the wish stands until a read can be compared
    assert see(bench, figures(990)) == ["cash accepted", "cash cleared"]
    assert see(bench, figures(980)) == ["cash raised"]
    bench.feed(ReconcileNow(START + 5, accept_cash=True))  # told again after a restart
    assert see(bench, figures(980)) == ["cash confirmed"]
    bench.check_replay()


def test_another_account_begins_anew() -> None:
    bench = opened()
    see(bench, figures(1_000))
    bench.core = msgspec.structs.replace(
        bench.core, role=msgspec.structs.replace(bench.state, account="DU2", findings={})
    )
    assert see(bench, figures(5, account="DU2")) == ["cash baseline"]


def test_equity_follows_cash_and_our_positions_at_the_venues_prices() -> None:
    bench = opened()
    see(bench, figures(1_000))
    held, bought = (position(2),), OurCash(-200 * UNIT, 0, 0)
    at = (VenueHolding("ACME", 2 * UNIT, 110 * UNIT),)
    assert see(bench, figures(800, 1_020, holdings=at), bought, held) == []
    assert see(bench, figures(800, 1_023, holdings=at), bought, held) == ["equity raised"]
    assert see(bench, figures(800, 1_021, holdings=at), bought, held) == ["equity cleared"]
    # What somebody else holds has a value that moves: it is not compared.
    others = (*at, VenueHolding("OTHER", UNIT, UNIT))
    assert see(bench, figures(800, 1_500, holdings=others), bought, held) == []
    bench.check_replay()
