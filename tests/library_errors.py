"""ERROR records of the client library: each fails the test in which it was made, unless something explains it.

Often such a record is the only trace of a message that the library could not read, and dropped. What explains one is a
fault that the test itself scripted, and only the kinds of record that this fault causes; a test that means one says so
by `@pytest.mark.library_errors("kind", …, reason="…")`. `ALWAYS` are those that a slow machine makes, and our own hand.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

LIBRARIES = ("ib_insync", "eventkit")

KINDS = {
    "ended": r"ib_insync\.client: (Peer closed connection\.$|\[Errno (32|104)\]|Connection lost)",
    "not_taken": r"ib_insync\.client: (Peer closed connection\. clientId|API connection failed|Make sure API port)",
    "unreadable": r"(ib_insync\.Decoder: |ib_insync\.client: API connection failed: ValueError|eventkit)",
    "unanswered": r"ib_insync\.ib: .*([Tt]imed out|Timeout)",
    "of_no_order": r"ib_insync\.wrapper: (orderStatus: No order found|Error \d+)",
}
ALWAYS = (
    # A connection that took too long: this machine, or a gateway that says nothing, which the test sees otherwise.
    r"ib_insync\.client: API connection failed: TimeoutError\(\)",
    # Given up by us: the actor was stopped, or knows already that the connection is over.
    r"ib_insync\.client: API connection failed: CancelledError\(\)",
)

_GONE = frozenset({"ended", "not_taken"})
EXPLAINED = {
    **dict.fromkeys(("drop", "drop_at_place", "half_open", "refuse", "nightly_restart", "login_required"), _GONE),
    "die_at_place": _GONE,
    "killed": _GONE,
    "replaced": frozenset({"not_taken"}),
    "tampered": frozenset({"unreadable"}),
}
"""By scripted fault: the kinds of record that it causes. `killed`: the gateway's process; `replaced`: a client's
process, whose id the gateway may free a moment after its successor asks for it; `tampered`: a proxy changed, dropped or
made up messages."""


def unexplained(records: Iterable[str], scripted: Iterable[str], expected: Iterable[str] = ()) -> list[str]:
    """Return those that neither a scripted fault nor an expected kind explains."""
    kinds = {kind for fault in scripted for kind in EXPLAINED.get(fault, ())} | set(expected)
    patterns = [*ALWAYS, *(KINDS[kind] for kind in kinds)]
    return [text for text in records if not any(re.match(pattern, text) for pattern in patterns)]


class Collected(logging.Handler):
    """All ERROR records of the libraries in this process, as `logger: text`, until they are taken."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.scripted: set[str] = set()
        """Faults of the running module's tests."""
        self._records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging, on any thread."""
        text = f"{record.name}: {record.getMessage()}"
        self._records.append(f"{text} ({record.exc_info[1]!r})" if record.exc_info else text)

    def take(self) -> list[str]:
        taken, self._records = self._records, []
        return taken

    def open(self) -> None:
        for name in LIBRARIES:
            logging.getLogger(name).addHandler(self)


COLLECTED = Collected()


def script(fault: str) -> None:
    """A test has this happen to what the client talks to: it explains records from here to the end of its module."""
    COLLECTED.scripted.add(fault)


_LINE = re.compile(r"^\S+ (?:ERROR|CRITICAL) +\S+ ((?:ib_insync|eventkit)\S*: .*)$", re.MULTILINE)


def in_log(text: str) -> list[str]:
    """The libraries' ERROR records in the log of an engine's process, as `actors/adapters/logs.py` writes them."""
    return _LINE.findall(text)
