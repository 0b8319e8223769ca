"""The state of a running engine as one value: what `status`, the console and the tests read."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from actors.adapters.health import HealthReport, ProcessReport, StandingAlarm
from actors.adapters.identity import Halt, IdentityFile
from actors.adapters.inspection import Inspector
from actors.broker_watch import UPTIME_DETAIL
from actors.keys import ALL, KeyType
from config.schema import Settings
from kernels.uptime import Figures
from supervisors.latency import StageLatency, sum_latencies
from supervisors.lifeline import ProcessIdentity
from supervisors.run_files import EngineFile, read_engine_file, resolved

FRESH_S = 20.0
"""A report older than this is shown as silent: its writer is dead, hung, or cut off from the bus."""


class ActorAlarm(msgspec.Struct, frozen=True):
    """An alarm and whose it is."""

    role: str
    alarm: StandingAlarm


class EngineStatus(msgspec.Struct, frozen=True):
    """Everything that is shown. `gate` and `detail` are what the roles say of themselves, as text by name."""

    running: bool
    run_id: str
    pid: int
    uptime_s: float
    dry_run: bool
    processes: tuple[ProcessReport, ...]
    counters: dict[str, dict[str, int]]
    detail: dict[str, dict[str, str]]
    alarms: tuple[ActorAlarm, ...]
    gate: dict[str, str]
    halt: Halt | None
    run_dir: str
    latencies: tuple[StageLatency, ...] = ()
    gateways: dict[str, Figures] = {}
    """By broker: its gateway's uptime over seven days."""


def read_status(settings: Settings) -> EngineStatus:
    """Read it now. Raises NotRunning (nothing was ever started here) and EngineAway (the bus does not answer)."""
    found = read_engine_file(settings)
    settings = resolved(settings, found)
    with Inspector(settings) as inspector:
        board = inspector.board()
    now_ns = time.time_ns()
    running = is_running(found)
    leaves = [leaf for leaf in board.leaves if leaf.written_ns >= found.started_ns]
    reports = [
        msgspec.structs.replace(
            supervisor,
            children=tuple(_aged(child, supervisor.written_ns, now_ns, running) for child in supervisor.children),
        )
        for supervisor in board.supervisors
        if supervisor.written_ns >= found.started_ns
    ]
    return EngineStatus(
        running=running,
        run_id=found.run_id,
        pid=found.pid,
        uptime_s=round((now_ns - found.started_ns) / 1e9, 1),
        dry_run=found.dry_run,  # the engine's word: who looks may have other settings
        processes=(*_guarded(found, running), *(child for report in reports for child in report.children)),
        counters={leaf.role: leaf.counters for leaf in leaves},
        detail={leaf.role: {k: v for k, v in leaf.detail.items() if k != UPTIME_DETAIL} for leaf in leaves},
        alarms=tuple(ActorAlarm(leaf.role, alarm) for leaf in leaves for alarm in leaf.alarms),
        gate=_gate(leaves),
        halt=IdentityFile(Path(settings.run.run_dir) / "identity.json").halt(),
        run_dir=os.path.abspath(settings.run.run_dir),
        latencies=sum_latencies(leaves),
        gateways={
            leaf.role: msgspec.json.decode(leaf.detail[UPTIME_DETAIL], type=Figures)
            for leaf in leaves
            if UPTIME_DETAIL in leaf.detail
        },
    )


def read_projection(settings: Settings, key_type: KeyType, symbol: str = ALL) -> dict[str, dict[str, object]]:
    """Orders, positions or outcomes as the ledger's projections show them. Raises NotRunning, EngineAway."""
    with Inspector(resolved(settings, read_engine_file(settings))) as inspector:
        return inspector.projection(key_type, symbol)


def is_running(found: EngineFile) -> bool:
    """Whether the guardian that wrote the file lives.

    Asked of the process, never of the run lock: the guardian shows its own status, and a process that opens and closes
    a file gives up its POSIX locks on it.
    """
    return found.guardian is not None and found.guardian.is_alive()


def _aged(child: ProcessReport, written_ns: int, now_ns: int, running: bool) -> ProcessReport:
    """The same report, its ages as of now; `silent` where its supervisor has not reported for long."""
    late_s = (now_ns - written_ns) / 1e9
    state = child.state if running and late_s < FRESH_S else "silent"
    beat = child.last_beat_age_s
    return msgspec.structs.replace(
        child, state=state, last_beat_age_s=None if beat is None else round(beat + late_s, 3)
    )


def _guarded(found: EngineFile, running: bool) -> list[ProcessReport]:
    """The guardian and what it keeps running itself."""
    state = "running" if running else "gone"
    own = ProcessReport("run.py", found.pid, "", state, 0, 1, None, "")
    noted = [
        ProcessReport(note.role, note.pid, "run.py", state, note.restarts, note.restarts + 1, None, "")
        for note in found.processes
    ]
    return [own, *noted, *(_loggers(noted) if running else [])]


def _loggers(noted: list[ProcessReport]) -> list[ProcessReport]:
    """The actor system's own log process: the admin starts it, and starts it again, and nothing of ours needs it."""
    pids = {one.role: one.pid for one in noted}
    if "admin" not in pids:
        return []
    children = ProcessIdentity.children_of(pids["admin"])
    return [
        ProcessReport("logger", child.pid, "admin", "running", 0, 1, None, "")
        for child in children
        if child.pid != pids.get("root") and child.is_alive()
    ]


def _gate(leaves: list[HealthReport]) -> dict[str, str]:
    for leaf in leaves:
        if leaf.role == "reconciler":
            return leaf.detail
    return {}
