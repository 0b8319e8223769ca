"""Specs refuse what cannot be meant, and say why."""

from __future__ import annotations

import msgspec
import pytest

from supervisors.spec import Backoff, ChildSpec, RestartType, SpecError, Strategy, SupervisorSpec

BACKOFF = Backoff(0.0, 2.0, 5.0)


def worker(role: str, **changed: object) -> ChildSpec:
    fields: dict[str, object] = {
        "role": role,
        "kind": "worker",
        "actor": "some.module:Thing",
        "restart_type": RestartType.PERMANENT,
        "shutdown_s": 1.0,
    }
    return ChildSpec(**(fields | changed))  # type: ignore[arg-type]


def supervisor(role: str, *children: ChildSpec | SupervisorSpec, **changed: object) -> SupervisorSpec:
    fields: dict[str, object] = {
        "role": role,
        "strategy": Strategy.ONE_FOR_ONE,
        "intensity": 3,
        "period_s": 5.0,
        "backoff": BACKOFF,
        "children": children,
    }
    return SupervisorSpec(**(fields | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize("role", ["", "Feed", "feed/1", "feed..1", ".feed", "feed.", "1feed", "feed 1", "x" * 65])
def test_a_role_that_is_no_plain_dotted_name_is_refused(role: str) -> None:
    with pytest.raises(SpecError, match="role"):
        worker(role)


@pytest.mark.parametrize("role", ["feed", "feed.spot.0", "position_manager", "broker.paper-1"[:12]])
def test_a_dotted_name_is_taken(role: str) -> None:
    assert worker(role).role == role


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"actor": "no_colon"}, "module:name"),
        ({"actor": "a.b:"}, "module:name"),
        ({"shutdown_s": -0.1}, "shutdown_s"),
        ({"start_timeout_s": 0.0}, "start_timeout_s"),
        ({"options": (("shard", "1"), ("shard", "2"))}, "twice"),
    ],
)
def test_a_worker_that_cannot_be_meant_is_refused_with_role_and_field(changed: dict[str, object], says: str) -> None:
    with pytest.raises(SpecError, match=says) as refused:
        worker("feed.spot.0", **changed)
    assert "feed.spot.0" in str(refused.value)


@pytest.mark.parametrize(("changed", "says"), [({"intensity": -1}, "intensity"), ({"period_s": 0.0}, "period_s")])
def test_a_supervisor_that_cannot_be_meant_is_refused(changed: dict[str, object], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        supervisor("root", worker("a"), **changed)


def test_a_role_may_stand_only_once_in_the_whole_tree() -> None:
    with pytest.raises(SpecError, match="'book' stands twice"):
        supervisor("root", supervisor("market", worker("book")), supervisor("research", worker("book")))
    with pytest.raises(SpecError, match="'root' stands twice"):
        supervisor("root", worker("root"))


@pytest.mark.parametrize(("first_s", "factor", "max_s"), [(-1.0, 2.0, 5.0), (6.0, 2.0, 5.0), (0.1, 0.9, 5.0)])
def test_a_backoff_that_shrinks_or_never_begins_is_refused(first_s: float, factor: float, max_s: float) -> None:
    with pytest.raises(SpecError, match="backoff"):
        Backoff(first_s, factor, max_s)


def test_backoff_grows_from_its_first_pause_to_its_longest_even_when_the_first_is_zero() -> None:
    assert [Backoff(0.0, 2.0, 5.0).delay_s(n) for n in (1, 2, 3, 4)] == [0.0, 0.1, 0.2, 0.4]
    assert [Backoff(1.0, 3.0, 5.0).delay_s(n) for n in (1, 2, 3)] == [1.0, 3.0, 5.0]
    assert Backoff(0.0, 2.0, 5.0).delay_s(10_000_000) == 5.0


def test_walk_gives_the_order_of_start_and_a_supervisor_sums_its_childrens_times() -> None:
    tree = supervisor("root", supervisor("market", worker("book"), worker("feed", depends_on_ledger=True)), worker("x"))
    assert [spec.role for spec in tree.walk()] == ["root", "market", "book", "feed", "x"]
    assert tree.children[0].shutdown_s == 3.0
    assert tree.needs_ledger
    assert not tree.children[1].needs_ledger


def test_a_spec_travels_as_data() -> None:
    tree = supervisor("root", supervisor("market", worker("book", options=(("shard", "1"),))))
    assert msgspec.structs.replace(tree, intensity=4).intensity == 4
    assert hash(tree.children[0]) is not None
