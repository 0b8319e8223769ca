"""ERROR records of the client library: heard in a forked process that set its log up anew, and what explains them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from eventkit import Event

from actors.adapters.ib_log import LibraryLog
from actors.adapters.logs import log_to_file
from tests.library_errors import ALWAYS, COLLECTED, EXPLAINED, KINDS, in_log, unexplained

DECODING = "ib_insync.Decoder: Error for openOrder: (IndexError('x'))"
CLOSED = "ib_insync.client: Peer closed connection."


def in_a_child(work: Callable[[], None]) -> None:
    """Run it in a forked process, as every actor is."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def test_an_actors_log_names_the_librarys_logger_and_hears_exceptions_that_its_events_swallow(tmp_path: Path) -> None:
    told = tmp_path / "told"

    def act() -> None:
        log_to_file(str(tmp_path), "broker.paper")
        heard: list[str] = []
        with LibraryLog(lambda name, text: heard.append(f"{name}: {text}")):
            logging.getLogger("ib_insync.client").error("Peer closed connection.")
            event = Event("fills")
            event += _fail
            event.emit()
        told.write_text("\n".join(heard))

    in_a_child(act)
    lines = in_log((tmp_path / "logs" / "broker.paper.log").read_text())
    assert lines[0] == CLOSED
    assert lines[1].startswith("eventkit.event: ")
    heard = told.read_text().splitlines()
    assert heard[0] == CLOSED
    assert heard[1].startswith("eventkit.event: ")
    assert "RuntimeError('no')" in heard[1]


def _fail() -> None:
    raise RuntimeError("no")


def test_a_record_is_explained_by_a_fault_that_causes_it_and_by_no_other() -> None:
    assert unexplained([CLOSED, DECODING], []) == [CLOSED, DECODING]
    assert unexplained([CLOSED, DECODING], ["drop", "set_price"]) == [DECODING]
    assert unexplained([CLOSED, DECODING], ["tampered"]) == [CLOSED]
    assert unexplained([CLOSED, DECODING], [], ["ended", "unreadable"]) == []
    assert unexplained(["ib_insync.client: API connection failed: TimeoutError()"], []) == []


def test_what_is_always_let_pass_is_neither_an_unreadable_message_nor_an_end() -> None:
    assert len(ALWAYS) == 2
    assert unexplained([DECODING, CLOSED, "eventkit.event: Value () caused exception"], []) != []
    assert {kind for kinds in EXPLAINED.values() for kind in kinds} <= KINDS.keys()


@pytest.mark.library_errors("unreadable", reason="made here, to see that it is collected")
def test_a_record_of_any_thread_of_this_process_is_collected() -> None:
    thread = threading.Thread(target=lambda: logging.getLogger("ib_insync.Decoder").error("Error for x"))
    thread.start()
    thread.join()
    taken = COLLECTED.take()
    assert taken == ["ib_insync.Decoder: Error for x"]
    assert unexplained(taken, COLLECTED.scripted) == taken
