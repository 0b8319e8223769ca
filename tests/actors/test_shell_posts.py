"""What comes to a shell in one post: durable at once, and otherwise as if it had come message by message."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from actors import core as core_module
from actors.core import OutboxFull
from actors.messages import Acknowledged, AnyMessage, Envelope, JournalRecord
from actors.ports import LedgerAway
from tests.actors.shell_world import World, acknowledged, from_other, price


def test_what_comes_together_is_appended_at_once_and_comes_to_what_it_would_one_by_one() -> None:
    waits = [0, 0]
    for seed in range(200):
        random = Random(seed)
        post = [one_of_many(random, number) for number in range(1, random.randrange(2, 12))]
        together, apart = World(), World()
        shells = [together.life(), apart.life()]
        for shell in shells:
            shell.take_all([from_other(price(7), delivery_seq=1), from_other(price(8), "local")])
        before = together.appends
        shells[0].take_all(post)
        for envelope in post:
            shells[1].take(envelope)
        assert inputs(together) == inputs(apart), f"seed {seed}"
        assert shells[0].core.role == shells[1].core.role
        assert shells[0].core.accepted == shells[1].core.accepted
        assert shells[0].counters == shells[1].counters
        assert together.owed() == apart.owed()
        assert sorted(together.hops) == sorted(apart.hops)
        assert together.appends - before <= sum(not isinstance(one.body, Acknowledged) for one in post)
        assert together.life().core.role == apart.life().core.role
        waits = [waits[0] + together.appends, waits[1] + apart.appends]
    assert waits[0] < 0.7 * waits[1]


def one_of_many(random: Random, number: int) -> Envelope:
    """Mostly the next after the one that was taken before the post, or one already seen, or one too far ahead."""
    match random.randrange(20):
        case 0:
            return acknowledged(random.randrange(1, 6))
        case 1:
            return from_other(price(random.randrange(-2, 9)), "local")
        case 2:
            return from_other(price(9), target="somebody else")
        case _:
            return from_other(
                price(random.randrange(-2, 9)), delivery_seq=number + 1 + random.choice((0,) * 6 + (-1, 1))
            )


def inputs(world: World) -> list[tuple[str, AnyMessage]]:
    records = [msgspec.json.decode(payload, type=JournalRecord) for _, payload in sorted(world.journal.items())]
    return [(record.input.source, record.input.body) for record in records]


def test_nothing_of_what_came_together_leaves_before_all_of_it_is_durable() -> None:
    world = World()
    shell = world.life()
    seen: list[tuple[int, int]] = []
    send = world.send

    def watched(envelope: Envelope) -> bool:
        seen.append((len(world.journal), envelope.delivery_seq))
        return send(envelope)

    world.send = watched  # type: ignore[method-assign]
    entries = len(world.journal)
    shell.take_all([from_other(price(number), delivery_seq=number) for number in (1, 2, 3)])
    assert {journaled for journaled, _ in seen} == {entries + 3}
    assert world.owed() == [(1, 1), (2, 2), (3, 3)]
    world.out.clear()
    world.away.add("ledger")
    with pytest.raises(LedgerAway):
        shell.take_all([from_other(price(number), delivery_seq=number) for number in (4, 5)])
    assert not world.out, "not even an acknowledgement"


def test_what_came_before_one_that_fails_stands_as_if_it_had_come_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_module, "OUTBOX_MAX", 2)
    world = World()
    shell = world.life()
    with pytest.raises(OutboxFull):
        shell.take_all([from_other(price(number), delivery_seq=number) for number in (1, 2, 3)])
    assert [body for _, body in inputs(world)][-2:] == [price(1), price(2)]
    assert world.owed() == [(1, 1), (2, 2)]
