"""`run.py flatten`: order it, durably, then say how far it is until the broker's own records show nothing open.

The order stands in the identity file before anything else is done, so that it is carried out whatever dies: by the
engine that runs, or, where none does, by a tree of our own, which has the broker and what closes positions and nothing
that could open them.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from actors.adapters.identity import Halt, IdentityFile
from actors.adapters.inspection import EngineAway
from actors.adapters.logs import log_to_file
from actors.keys import KeyType
from actors.risk_state import FlattenProgress, Stage
from config.schema import Settings
from supervisors.engine import REFUSALS, ExitCode, Guardian
from supervisors.guardian import RunDirTaken
from supervisors.run_files import NotRunning, read_engine_file
from supervisors.status import is_running, read_projection

POLL_S = 0.25
Say = Callable[[str], None]


class NotFlat(RuntimeError):
    """The time was up first. The order stands, and is carried out by any engine of this run directory."""

    exit_code = 1


def flatten(settings: Settings, reason: str, who: str, timeout_s: float, say: Say) -> int:
    """Order it and wait. Raises NotFlat after `timeout_s`."""
    read_engine_file(settings)
    identity = IdentityFile(Path(settings.run.run_dir) / "identity.json")
    halt = identity.order_flatten(reason, who)
    say(f"ordered: {halt.flatten} (by {halt.flatten_by}); halted: {halt.reason}")
    deadline = time.monotonic() + timeout_s
    watch = _Watch(settings, identity, halt, deadline, say)
    while True:
        if is_running(read_engine_file(settings)):
            if watch.look():
                return ExitCode.OK
            time.sleep(POLL_S)
            continue
        say("no engine runs here: starting the broker and risk, and nothing else")
        code = _run_restricted(settings, watch)
        if code is not None:
            return code


def _run_restricted(settings: Settings, watch: _Watch) -> int | None:
    """Serve with the restricted tree until it is flat; None: somebody else's engine has the run directory after all."""
    narrow = msgspec.structs.replace(settings, run=msgspec.structs.replace(settings.run, tree="flatten"))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    log_to_file(narrow.run.run_dir, "run.py", narrow.run.log_level)
    try:
        return Guardian(narrow, None, watch.look).run(fresh=False)
    except RunDirTaken:  # a service manager was faster: its engine carries the order out
        time.sleep(POLL_S)
        return None
    except REFUSALS as error:
        watch.say(f"apex: {error}")
        return ExitCode.REFUSED


class _Watch:
    """Says every change of the progress once."""

    def __init__(self, settings: Settings, identity: IdentityFile, halt: Halt, deadline: float, say: Say) -> None:
        self._settings, self._identity, self._halt = settings, identity, halt
        self._deadline, self.say = deadline, say
        self._said = ""

    def look(self) -> bool:
        """True once it is flat. Raises NotFlat: the time is up, or a person has taken the order back."""
        standing = self._identity.halt()
        if standing is None or standing.flatten_ns != self._halt.flatten_ns:
            raise NotFlat("the order was taken back by `run.py resume`")
        progress = self._progress()
        if progress is not None and progress.stage is Stage.FLAT:
            external = f"; not ours, and left: {progress.external}" if progress.external else ""
            self.say(f"flat by the broker's records{external}; halted until `run.py resume`")
            return True
        text = f"{progress.stage.value}: {progress.text}" if progress is not None else "waiting for risk to begin"
        if text != self._said:
            self._said = text
            self.say(text)
        if time.monotonic() > self._deadline:
            raise NotFlat(
                f"not flat within the time given; last: {text}. The order stands. Remedy: look at `run.py alarms`, "
                "and run it again to wait on, with a longer --timeout-s"
            )
        return False

    def _progress(self) -> FlattenProgress | None:
        try:
            rows = read_projection(self._settings, KeyType.FLATTEN)
        except (NotRunning, EngineAway, ConnectionError, FileNotFoundError):
            return None
        if "progress" not in rows:
            return None
        progress = msgspec.convert(rows["progress"], FlattenProgress)
        return progress if progress.flatten_ns == self._halt.flatten_ns else None
