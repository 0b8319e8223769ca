"""Read-back in the broker's reducer: each term, by both values; what is no difference; once, cleared, after a crash."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from actors.broker_state import BrokerState
from actors.effects import AppendLine, ClearAlarm, RaiseAlarm
from actors.messages import IncidentRecorded, OrderReported, Recovered, SessionLost
from kernels.fixed8 import SCALE
from tests.actors.broker_bench import LEGS, placed, working
from tests.actors.money_bench import UNIT, Bench, execution, opened, order_id, report

GROUP = {"oca_group": "900", "oca_type": 3}
HELD: Mapping[str, Mapping[str, object]] = {
    "entry": {"side": "BUY", "order_type": "MKT", "time_in_force": "DAY"},
    "take_profit": {
        "side": "SELL",
        "order_type": "LMT",
        "limit_px": 110 * UNIT,
        "time_in_force": "GTC",
        "parent_order_id": 100,
    }
    | GROUP,
    "stop_loss": {
        "side": "SELL",
        "order_type": "STP",
        "stop_px": 95 * UNIT,
        "time_in_force": "GTC",
        "parent_order_id": 100,
    }
    | GROUP,
}
"""An openOrder of each leg, just as it was asked."""


def held(leg: str, status: str = "PreSubmitted", **changed: object) -> OrderReported:
    fields: dict[str, object] = {"qty": 100 * UNIT, "account": "DU1", "whole": True, **HELD[leg]} | changed
    return msgspec.structs.replace(report(leg, status), **fields)


def raised(bench: Bench[BrokerState]) -> dict[str, str]:
    return {one.name: one.text for one in bench.did(RaiseAlarm) if one.name.startswith("read_back")}


@pytest.mark.parametrize("leg", LEGS)
def test_what_is_held_as_asked_raises_nothing(leg: str) -> None:
    bench = placed()
    bench.feed(held(leg))
    assert not bench.did(RaiseAlarm)
    assert not bench.state.misread


@pytest.mark.parametrize(
    ("term", "value", "text"),
    [
        ("symbol", "ACNE", "symbol: asked ACME, the venue has ACNE"),
        ("side", "BUY", "side: asked SELL, the venue has BUY"),
        ("order_type", "STP LMT", "order_type: asked STP, the venue has STP LMT"),
        ("stop_px", 96 * SCALE, "stop_px: asked 95.00000000, the venue has 96.00000000"),
        ("qty", 90 * SCALE, "qty: asked 100.00000000, the venue has 90.00000000"),
        ("qty", 110 * SCALE, "qty: asked 100.00000000, the venue has 110.00000000"),
        ("time_in_force", "DAY", "time_in_force: asked GTC, the venue has DAY"),
        ("outside_rth", True, "outside_rth: asked False, the venue has True"),
        ("trigger_method", 4, "trigger_method: asked 0, the venue has 4"),
        ("account", "DU2", "account: asked DU1, the venue has DU2"),
        ("parent_order_id", 0, "parent_order_id: asked 100, the venue has 0"),
        ("oca_group", "other", "oca_group: asked 900, the venue has other"),
        ("oca_type", 1, "oca_type: asked 3, the venue has 1"),
    ],
)
def test_each_term_that_differs_is_told_once_with_both_values_and_cleared_when_it_is_as_asked(
    term: str, value: object, text: str
) -> None:
    bench = placed()
    bench.feed(held("entry"))
    name = f"read_back.{order_id('stop_loss')}"
    wrong = held("stop_loss", **{term: value})
    bench.feed(wrong)
    assert raised(bench) == {name: text}
    told = [one.body for one in bench.did(AppendLine) if isinstance(one.body, IncidentRecorded)]
    assert told == [IncidentRecorded("read_back", order_id("stop_loss"), text)]
    bench.feed(wrong)
    assert not raised(bench)
    bench.feed(held("stop_loss"))
    assert ClearAlarm(name) in bench.effects
    bench.feed(wrong)
    assert raised(bench)
    assert not bench.did(AppendLine), "the line is written once"
    bench.check_replay()


def test_a_limit_that_differs_is_told_of_the_take_profit() -> None:
    bench = placed()
    bench.feed(held("take_profit", limit_px=0))
    assert raised(bench) == {
        f"read_back.{order_id('take_profit')}": "limit_px: asked 110.00000000, the venue has 0.00000000"
    }


def test_a_sibling_reduced_by_a_fill_and_a_parent_no_longer_named_are_no_difference() -> None:
    bench = working()
    bench.feed(execution("e.01", 100))
    bench.feed(held("stop_loss", qty=60 * UNIT, parent_order_id=0))
    assert not raised(bench)
    bench.feed(held("stop_loss", qty=110 * UNIT))
    assert raised(bench)


def test_a_status_says_no_terms_and_is_not_compared() -> None:
    bench = placed()
    bench.feed(report("stop_loss", "PreSubmitted"))
    assert not raised(bench)


def test_an_order_that_is_over_holds_nothing_against_its_terms() -> None:
    bench = placed()
    bench.feed(held("stop_loss", stop_px=96 * UNIT))
    assert bench.state.misread
    bench.feed(report("stop_loss", "Cancelled"))
    assert ClearAlarm(f"read_back.{order_id('stop_loss')}") in bench.effects
    assert not bench.state.misread
    bench.check_replay()


def test_what_stands_is_alarmed_again_by_the_next_incarnation() -> None:
    bench = placed()
    bench.feed(held("stop_loss", stop_px=96 * UNIT))
    bench.feed(SessionLost("S1", "reset"))
    bench.feed(Recovered(2))
    assert list(raised(bench)) == [f"read_back.{order_id('stop_loss')}"]
    bench.feed(opened("S2", 103))
    bench.feed(msgspec.structs.replace(held("stop_loss"), session_id="S2"))
    assert not bench.state.misread
