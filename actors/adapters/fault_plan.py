"""A fault plan in a real process: what the simulator does to a shell, done to an actor that runs.

Empty by default, and then not even constructed. Rules come from `[faults]` of the settings or from a test.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import msgspec

from actors.messages import Envelope
from actors.ports import FaultPoint, LedgerAway
from config.schema import FaultRule


class Delayed(msgspec.Struct, frozen=True):
    """An envelope to be sent later."""

    after_s: float
    envelope: Envelope


class FaultPlan:
    """Implements `ports.Faults`, and the message faults of a host's transport.

    A rule strikes on the `nth` match of role, point and message type (0: on every) in this incarnation, and at most
    `times` in all incarnations; one that may strike no more counts nothing, so that a note taken away arms it anew.
    Actions at a point: `crash` (SIGKILL to itself), `hang`, `ledger_away`; on a send: `drop`, `delay`, `duplicate`,
    `reorder` (after the next).
    """

    def __init__(self, role: str, rules: tuple[FaultRule, ...], seed: int, run_dir: str | Path) -> None:
        self._role = role
        self._rules = [(index, rule) for index, rule in enumerate(rules) if rule.role in ("*", role)]
        self._hits = [0] * len(self._rules)
        self._noted = Path(run_dir) / "faults"
        self._noted.mkdir(parents=True, exist_ok=True)
        self._random = random.Random(f"{seed}:{role}")
        self._held: list[Envelope] = []

    def at(self, point: FaultPoint, envelope: Envelope | None, name: str) -> None:
        """Strike here if a rule says so."""
        for action, arg_s in self._struck(point.value, name):
            if action == "crash":
                os.kill(os.getpid(), signal.SIGKILL)
            elif action == "hang":
                time.sleep(arg_s or 3600.0)
            elif action == "ledger_away":
                raise LedgerAway(f"fault plan: ledger away at {point.value}")

    def on_send(self, envelope: Envelope) -> list[Delayed]:
        """What becomes of an envelope: nothing, itself, itself later, twice, or after the next one."""
        name = type(envelope.body).__name__
        out = [Delayed(0.0, envelope)]
        for action, arg_s in self._struck("send", name):
            if action == "drop":
                return []
            if action == "delay":
                out = [Delayed(arg_s * self._random.uniform(0.5, 1.5), envelope)]
            elif action == "duplicate":
                out = [*out, Delayed(0.0, envelope)]
            elif action == "reorder":
                self._held.append(envelope)
                return []
        out.extend(Delayed(0.0, held) for held in self._held)
        self._held.clear()
        return out

    def _struck(self, point: str, name: str) -> list[tuple[str, float]]:
        struck: list[tuple[str, float]] = []
        for k, (index, rule) in enumerate(self._rules):
            if rule.point == point and rule.message in ("*", name) and not self._is_spent(index, rule.times):
                self._hits[k] += 1
                if rule.nth in (0, self._hits[k]) and self._may_strike(index, rule.times):
                    struck.append((rule.action, rule.arg_s))
                    if rule.action in ("crash", "ledger_away"):
                        break  # nothing after it would be done, and what is noted counts as done
        return struck

    def _may_strike(self, index: int, times: int) -> bool:
        """Note the strike, exclusively: a file a strike, named by rule, role and number."""
        if not times:
            return True
        for note in self._notes(index, times):
            try:
                note.touch(exist_ok=False)
            except FileExistsError:
                continue
            return True
        return False

    def _is_spent(self, index: int, times: int) -> bool:
        return times > 0 and all(note.exists() for note in self._notes(index, times))

    def _notes(self, index: int, times: int) -> list[Path]:
        return [self._noted / f"{index}.{self._role}.{number}" for number in range(1, times + 1)]
