"""Why an actor ended, left in a file by the actor itself: the actor system tells only that it did.

`run_dir/exits/<role>.json`. A process killed from outside leaves none, and one of another incarnation is ignored.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from supervisors.spec import ExitReason


class ExitNote(msgspec.Struct, frozen=True):
    """One end."""

    role: str
    incarnation: int
    reason: ExitReason
    text: str


def write_exit_note(run_dir: str, note: ExitNote) -> None:
    """Leave the note; a disk that refuses it costs the reason, not the exit."""
    folder = Path(run_dir) / "exits"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{note.role}.{os.getpid()}"
        temporary.write_bytes(msgspec.json.encode(note))
        temporary.replace(folder / f"{note.role}.json")
    except OSError:
        return


def read_exit_note(run_dir: str, role: str, incarnation: int) -> ExitNote | None:
    """The note of this incarnation, if it left one."""
    try:
        note = msgspec.json.decode((Path(run_dir) / "exits" / f"{role}.json").read_bytes(), type=ExitNote)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return note if note.incarnation == incarnation else None
