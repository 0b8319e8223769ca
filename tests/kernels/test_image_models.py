"""The rest of the image's protocol, enumerated like the rows in `test_seqlock_model`: feed headers and rings."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import pytest

EPOCH, LIVE_NS, STATE = 0, 1, 2
UP, DOWN = 1, 0
STALE, FRESH = 0, 10


class HeaderProtocol(NamedTuple):
    """What a succession does, and what a reader does; each is needed."""

    clears_liveness_first: bool = True
    looks_at_the_epoch_again: bool = True


def succession(protocol: HeaderProtocol) -> list[tuple[int, int, int]]:
    """Return the header's states while epoch 2 begins and beats; every store is a release, so they keep their order."""
    stores = [(STATE, DOWN)]
    stores += [(LIVE_NS, STALE)] if protocol.clears_liveness_first else []
    stores += [(EPOCH, 2), (STATE, UP), (LIVE_NS, FRESH)]
    # Epoch 1 was up and had just beaten, of which epoch 2 must inherit nothing.
    states = [(1, FRESH, UP)]
    for word, value in stores:
        words = list(states[-1])
        words[word] = value
        states.append((words[0], words[1], words[2]))
    return states


def wrongly_live(protocol: HeaderProtocol, row_epoch: int) -> int:
    """Count the readings by which a row counts on a beat that is not of its own epoch's writer."""
    states = succession(protocol)
    wrong = 0
    for times in itertools.combinations_with_replacement(range(len(states)), 4):
        epoch, state, live_ns, again = (
            states[time][word] for time, word in zip(times, (EPOCH, STATE, LIVE_NS, EPOCH), strict=True)
        )
        accepted = epoch == row_epoch and state == UP and live_ns == FRESH
        accepted = accepted and (again == row_epoch or not protocol.looks_at_the_epoch_again)
        beat_of = 2 if times[2] == len(states) - 1 else 1
        wrong += accepted and beat_of != row_epoch
    return wrong


@pytest.mark.parametrize("row_epoch", [1, 2])
def test_no_interleaving_lets_a_row_live_on_another_epochs_beat(row_epoch: int) -> None:
    assert wrongly_live(HeaderProtocol(), row_epoch) == 0


def test_without_clearing_liveness_a_new_epoch_lives_on_the_old_ones_beat() -> None:
    assert wrongly_live(HeaderProtocol(clears_liveness_first=False), 2) > 0


def test_without_the_second_look_at_the_epoch_an_old_row_lives_on_the_new_ones_beat() -> None:
    assert wrongly_live(HeaderProtocol(looks_at_the_epoch_again=False), 1) > 0


SLOTS = 2
PUSHES = 5


class RingProtocol(NamedTuple):
    """Which orderings hold; all of them in the real one."""

    head_before_next_slot: bool = True
    slot_before_its_head: bool = True
    slots_before_second_look: bool = True
    one_slot_spare: bool = True


def pushes(protocol: RingProtocol) -> Iterator[list[tuple[str, int]]]:
    """Yield each permitted order of the stores of PUSHES announcements, of row 100 + position each."""
    stores = [(kind, position) for position in range(PUSHES) for kind in ("slot", "head")]

    def before(one: tuple[str, int], other: tuple[str, int]) -> bool:
        (kind, position), (other_kind, other_position) = one, other
        if kind == other_kind:
            return position < other_position
        if kind == "slot":
            return protocol.slot_before_its_head and position <= other_position
        return protocol.head_before_next_slot and position < other_position

    def extend(done: list[tuple[str, int]], left: list[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
        if not left:
            yield done
        for store in left:
            if not any(before(other, store) for other in left if other != store):
                yield from extend([*done, store], [other for other in left if other != store])

    yield from extend([], stores)


def wrong_drains(protocol: RingProtocol) -> int:
    """Count the drains that give out a row other than the one announced at its position."""
    wrong = 0
    for order in pushes(protocol):
        states: list[tuple[int, tuple[int, ...]]] = [(0, (0,) * SLOTS)]
        for kind, position in order:
            head, slots = states[-1]
            if kind == "head":
                states.append((position + 1, slots))
            else:
                changed = list(slots)
                changed[position % SLOTS] = 100 + position
                states.append((head, tuple(changed)))
        limit = SLOTS if protocol.one_slot_spare else SLOTS + 1
        for first in range(len(states)):
            head = states[first][0]
            for cursor in range(head + 1):
                if head - cursor >= limit or head == cursor:
                    continue
                # One slot is enough to look at: each is checked against the same second look.
                for look, again in itertools.product(range(first, len(states)), repeat=2):
                    if again < look and protocol.slots_before_second_look:
                        continue
                    if states[again][0] - cursor >= limit:
                        continue
                    wrong += states[look][1][cursor % SLOTS] != 100 + cursor
    return wrong


def test_no_interleaving_of_pushes_and_a_drain_gives_out_a_wrong_row() -> None:
    assert wrong_drains(RingProtocol()) == 0


@pytest.mark.parametrize("ordering", RingProtocol._fields)
def test_without_any_one_of_the_rings_orderings_a_wrong_row_is_given_out(ordering: str) -> None:
    assert wrong_drains(RingProtocol()._replace(**{ordering: False})) > 0
