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


def histories(protocol: Protocol) -> Iterator[list[Store]]:
    """Yield what memory may go through: two whole writes; or one that dies after any store, then a successor's."""
    for first in writes(protocol, 0, 1):
        for second in writes(protocol, 2, 2):
            yield first + second
        for died_after in range(4):
            done = first[:died_after]
            left = next((store.value for store in reversed(done) if store.word == SEQUENCE), 0)
            for successor in writes(protocol, left, 2):
                yield done + successor


def torn_reads(protocol: Protocol) -> int:
    """Count the accepted reads that mix two writes, over every history, every order of loads, every interleaving."""
    torn = 0
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
                torn += look == again and look % 2 == 0 and bid != ask
    return torn


def test_no_interleaving_of_the_protocol_gives_a_torn_read() -> None:
    assert torn_reads(REAL) == 0


@pytest.mark.parametrize("ordering", Protocol._fields)
def test_without_any_one_of_the_orderings_a_torn_read_is_found(ordering: str) -> None:
    assert torn_reads(REAL._replace(**{ordering: False})) > 0


def test_some_reads_are_accepted_so_that_the_model_is_not_empty() -> None:
    accepted = 0
    for history in histories(REAL):
        states: list[tuple[int, int]] = [(0, 0)]
        for store in history:
            states.append((store.value, states[-1][1]) if store.word == SEQUENCE else (states[-1][0], store.value))
        accepted += states[-1] in {(4, 2), (2, 2)}
    assert accepted == len(list(histories(REAL)))
