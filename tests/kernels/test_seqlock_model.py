"""The seqlock checked exhaustively: every order that the fences permit, every interleaving, every place to die.

A small model, apart from the code: a writer is a sequence of stores, a reader a sequence of loads, on three words (the
sequence and two of data). What the processor may reorder is every permutation that the protocol's orderings allow; each
permutation of the writer runs against each of the reader in each interleaving, with the writer killed at every step and
succeeded by another. The code itself is held to the same orderings by `test_atomics`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import pytest

SEQUENCE, BID, ASK = 0, 1, 2


class Store(NamedTuple):
    word: int
    value: int


class Protocol(NamedTuple):
    """Which orderings hold; all of them in the real one, one less in each broken one."""

    odd_before_data: bool = True
    data_before_even: bool = True
    first_look_before_data: bool = True
    data_before_second_look: bool = True
    begins_odd: bool = True


REAL = Protocol()


def permitted(length: int, before: set[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Return the orders of `length` operations in which each pair of `before` keeps its order."""
    return [
        order
        for order in itertools.permutations(range(length))
        if all(order.index(one) < order.index(other) for one, other in before)
    ]


def writes(protocol: Protocol, found: int, value: int) -> Iterator[list[Store]]:
    """Yield each permitted order of one write's four stores, begun on the sequence `found`."""
    odd = found | 1 if protocol.begins_odd else found + 1
    stores = [Store(SEQUENCE, odd), Store(BID, value), Store(ASK, value), Store(SEQUENCE, odd + 1)]
    before = {(0, 3)}
    before |= {(0, 1), (0, 2)} if protocol.odd_before_data else set()
    before |= {(1, 3), (2, 3)} if protocol.data_before_even else set()
    for order in permitted(4, before):
        yield [stores[step] for step in order]


def reads(protocol: Protocol) -> list[list[int]]:
    """Return each permitted order of a reader's four loads, as positions: look, bid, ask, look again."""
    before = {(0, 3)}
    before |= {(0, 1), (0, 2)} if protocol.first_look_before_data else set()
    before |= {(1, 3), (2, 3)} if protocol.data_before_second_look else set()
    return [list(order) for order in permitted(4, before)]


def invalidations(protocol: Protocol, found: int) -> Iterator[list[Store]]:
    """Yield each permitted order of marking a row invalid, which keeps whole figures and clears half-written ones."""
    for stores in writes(protocol, found, 0):
        yield stores if found % 2 else [store for store in stores if store.word == SEQUENCE]


def left_by(stores: list[Store]) -> int:
    """Return the sequence that a successor finds."""
    return next((store.value for store in reversed(stores) if store.word == SEQUENCE), 0)


def histories(protocol: Protocol) -> Iterator[list[Store]]:
    """Yield what memory may go through: two whole writes; or one that dies after any store, then a successor's, whole
    or dying too and followed by a third; and at the end of each perhaps a mark that the row is invalid.
    """
    for begun in _begun(protocol):
        yield begun
        for mark in invalidations(protocol, left_by(begun)):
            yield begun + mark


def _begun(protocol: Protocol) -> Iterator[list[Store]]:
    for first in writes(protocol, 0, 1):
        for second in writes(protocol, 2, 2):
            yield first + second
        for died_after in range(4):
            done = first[:died_after]
            for successor in writes(protocol, left_by(done), 2):
                yield done + successor
                for died_again_after in range(4):
                    both = done + successor[:died_again_after]
                    for third in writes(protocol, left_by(both), 3):
                        yield both + third


def torn_reads(protocol: Protocol) -> Iterator[list[Store]]:
    """Yield the history of each accepted read that mixes two writes: every history, order of loads, interleaving."""
    for history in histories(protocol):
        states = [(0, 0, 0)]
        for store in history:
            words = list(states[-1])
            words[store.word] = store.value
            states.append((words[0], words[1], words[2]))
        for order in reads(protocol):
            # Non-decreasing: each load sees the memory after some number of stores.
            for times in itertools.combinations_with_replacement(range(len(states)), 4):
                seen = [0] * 4
                for load, time in zip(order, times, strict=True):
                    seen[load] = states[time][(SEQUENCE, BID, ASK, SEQUENCE)[load]]
                look, bid, ask, again = seen
                if look == again and look % 2 == 0 and bid != ask:
                    yield history


def test_no_interleaving_of_the_protocol_gives_a_torn_read() -> None:
    assert next(torn_reads(REAL), None) is None


@pytest.mark.parametrize("ordering", Protocol._fields)
def test_without_any_one_of_the_orderings_a_torn_read_is_found(ordering: str) -> None:
    assert next(torn_reads(REAL._replace(**{ordering: False})), None) is not None


def test_a_mark_on_what_a_dead_writer_left_hides_the_mixed_figures_too() -> None:
    """Here the marks come right after the death, with no whole write between."""
    accepted = 0
    for first in writes(REAL, 0, 1):
        for second in writes(REAL, 2, 2):
            for died_after in range(5):
                done = first + second[:died_after]
                for mark in invalidations(REAL, left_by(done)):
                    words = [0, 0, 0]
                    for store in done + mark:
                        words[store.word] = store.value
                    assert words[SEQUENCE] % 2 == 0
                    assert words[BID] == words[ASK]
                    accepted += 1
    assert accepted == 2 * 2 * 5 * 2


def test_some_reads_are_accepted_so_that_the_model_is_not_empty() -> None:
    for history in histories(REAL):
        words = [0, 0, 0]
        for store in history:
            words[store.word] = store.value
        assert words[SEQUENCE] in {2, 4, 6, 8}
        assert words[BID] == words[ASK]
    assert len(list(histories(REAL))) > 200
