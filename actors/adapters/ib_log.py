"""The ERROR records of ib_insync and eventkit: often the only trace of a message or an exception that they dropped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType

from eventkit import Event

LIBRARIES = ("ib_insync", "eventkit")
TEXT_LENGTH_MAX = 1_000


class LibraryLog(logging.Handler):
    """While open, hands on logger name and text of each ERROR record made by the thread that opened it."""

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        super().__init__(logging.ERROR)
        self._tell = tell
        self._thread_id = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging, on the thread that made the record."""
        if record.thread != self._thread_id:
            return
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text = f"{text} ({record.exc_info[1]!r})"
        self._tell(record.name, text[:TEXT_LENGTH_MAX])

    def __enter__(self) -> LibraryLog:
        self._thread_id = threading.get_ident()
        # Made at the import, before the fork: a process that has replaced the root logger since would not hear it.
        Event.logger = logging.getLogger(Event.__module__)
        for name in LIBRARIES:
            logging.getLogger(name).addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in LIBRARIES:
            logging.getLogger(name).removeHandler(self)
