"""The book: owner of the book image, the table of every market's top that feeds write and everybody reads.

Owns: which symbols have rows, whose they are, which feeds live, which rows an audit found wrong. Consumes: its driver's
`ImageOpened`, `BookStatus`, `AuditFinished`. Emits: `OpenImage` to it, alarms. Invariants: it writes no row, ever; the
journal grows by an entry a change (a feed up or down, a set of mismatches), never by one a second. Recovery: the
driver opens the image anew, which keeps its file if the venue lists what it listed. Dropped: a status that a later
one overtakes.
"""

from __future__ import annotations

import msgspec

from actors.effects import AppendLine, ClearAlarm, Count, Drive, Effect, RaiseAlarm, Severity
from actors.messages import AuditFinished, BookStatus, Envelope, HaltChanged, ImageOpened, OpenImage, Recovered

AUDIT_ALARM = "audit_mismatch"
FEEDS_ALARM = "feeds_down"
COPY_ALARM = "listing_is_a_copy"
NAMES_SHOWN_MAX = 10


class BookState(msgspec.Struct, frozen=True):
    """`image`: the last one opened, None before the first."""

    image: ImageOpened | None = None
    feeds_up: tuple[str, ...] = ()
    feeds_down: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    mismatches: int = 0


Reduced = tuple[BookState, tuple[Effect, ...]]


class Book:
    """The role; holds nothing but its name."""

    schema_version = 1
    state_type = BookState

    def __init__(self, name: str = "book") -> None:
        self._name = name

    @property
    def name(self) -> str:
        """Role name."""
        return self._name

    def initial(self) -> BookState:
        """No image yet."""
        return BookState()

    def migrate(self, schema_version: int, state: bytes) -> bytes:
        """There is no earlier version."""
        raise ValueError(f"{self.name}: no migration from schema version {schema_version}")

    def reduce(self, state: BookState, envelope: Envelope, now_ns: int) -> Reduced:
        """Fold one input."""
        match envelope.body:
            case Recovered(epoch=epoch):
                return state, (Drive(OpenImage(epoch)),)
            case ImageOpened() as opened:
                return self._opened(state, opened)
            case BookStatus() as status:
                return self._status(state, status)
            case AuditFinished() as audit:
                return self._audited(state, audit)
            case HaltChanged():
                return state, ()
            case _:
                return state, (Count("unexpected"),)

    def show(self, state: BookState, now_ns: int) -> dict[str, str]:
        """Return what the console shows."""
        if state.image is None:
            return {"image": "none yet"}
        opened = state.image
        shown = {"image": f"{opened.rows} rows, {len(opened.feeds)} connections, listed by {opened.source}"}
        shown["feeds"] = f"{len(state.feeds_up)} up, {len(state.feeds_down)} down"
        if state.mismatched:
            shown["audit"] = f"wrong: {_names(state.mismatched)}"
        return shown

    def _opened(self, state: BookState, opened: ImageOpened) -> Reduced:
        counted = Count("image_created" if opened.created else "image_kept")
        alarm: Effect = ClearAlarm(COPY_ALARM)
        if opened.source == "kept_copy":
            text = "the venue is away: symbols are those of the last good listing"
            alarm = RaiseAlarm(COPY_ALARM, Severity.WARNING, text)
        if opened == state.image:
            return state, (counted, alarm)
        return msgspec.structs.replace(state, image=opened), (counted, alarm)

    def _status(self, state: BookState, status: BookStatus) -> Reduced:
        down = status.feeds_down
        alarm: Effect = ClearAlarm(FEEDS_ALARM)
        if down:
            alarm = RaiseAlarm(FEEDS_ALARM, Severity.WARNING, f"feeds without a live header: {_names(down)}")
        if (status.feeds_up, down) == (state.feeds_up, state.feeds_down):
            return state, (alarm,)
        return msgspec.structs.replace(state, feeds_up=status.feeds_up, feeds_down=down), (alarm,)

    def _audited(self, state: BookState, audit: AuditFinished) -> Reduced:
        counted = Count("audited_rows", audit.checked)
        text = f"rows that stood still say otherwise than the venue: {_names(audit.mismatched)}"
        alarm = RaiseAlarm(AUDIT_ALARM, Severity.CRITICAL, text)
        if audit.mismatched == state.mismatched:  # known, but maybe to an earlier incarnation: alarms die with theirs
            return state, (counted, alarm) if audit.mismatched else (counted,)
        fresh = [name for name in audit.mismatched if name not in state.mismatched]
        advanced = msgspec.structs.replace(state, mismatched=audit.mismatched, mismatches=state.mismatches + len(fresh))
        if not audit.mismatched:
            return advanced, (counted, ClearAlarm(AUDIT_ALARM))
        return advanced, (counted, Count("audit_mismatches", len(fresh)), alarm, AppendLine("incidents", audit))


def _names(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - NAMES_SHOWN_MAX} more" if len(names) > NAMES_SHOWN_MAX else ""
    return ", ".join(names[:NAMES_SHOWN_MAX]) + more
