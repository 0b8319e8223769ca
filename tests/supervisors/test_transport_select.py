"""The transport's selector, on real sockets, beside Python's own."""

from __future__ import annotations

import errno
import selectors
import socket
from collections.abc import Iterator

import pytest

from supervisors.transport_select import Selectors

READ, WRITE = Selectors.EVENT_READ, Selectors.EVENT_WRITE


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def told(kind: type, wanted: list[tuple[int, int]], timeout_s: float) -> set[tuple[int, int]]:
    selector = kind()
    for fd, events in wanted:
        selector.register(fd, events)
    found = {(key.fd, events) for key, events in selector.select(timeout_s)}
    selector.close()
    return found


def test_it_tells_what_pythons_own_tells(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    wanted = [(left.fileno(), READ), (right.fileno(), WRITE)]
    cases = [lambda: None, lambda: right.send(b"x"), lambda: left.recv(1), right.close]
    for act in cases:
        act()
        wanted = [(fd, events) for fd, events in wanted if fd in (left.fileno(), right.fileno())]
        ours, theirs = told(Selectors.DefaultSelector, wanted, 0.0), told(selectors.DefaultSelector, wanted, 0.0)
        assert ours == theirs
    assert ours == {(left.fileno(), READ)}, "the other end's close is readable"


def test_it_tells_nothing_where_nothing_is_asked() -> None:
    assert told(Selectors.DefaultSelector, [], 0.0) == set()


def test_a_descriptor_that_is_not_open_is_said_as_python_says_it(pair: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(ValueError, match="descriptor"):
        Selectors.DefaultSelector().register(-1, READ)
    left, right = pair
    number = left.fileno()
    left.close()
    with pytest.raises(OSError, match="not open") as raised:
        told(Selectors.DefaultSelector, [(right.fileno(), READ), (number, READ)], 0.0)
    assert raised.value.errno == errno.EBADF


def test_one_descriptor_may_be_asked_for_both_ways(pair: tuple[socket.socket, socket.socket]) -> None:
    left, right = pair
    right.send(b"x")
    number = left.fileno()
    assert told(Selectors.DefaultSelector, [(number, READ), (number, WRITE)], 0.0) == {(number, READ | WRITE)}
