"""The engine in a line, for logs, and in a few, for the end of a run."""

from __future__ import annotations

from collections import Counter

from actors.adapters.inspection import EngineAway
from actors.keys import KeyType
from config.schema import Settings
from kernels.fixed8 import format_fixed8
from supervisors.run_files import NotRunning
from supervisors.status import EngineStatus, read_projection, read_status


def status_line(settings: Settings) -> str:
    """One line for the log. Says so where nothing can be read."""
    try:
        status = read_status(settings)
        orders = read_projection(settings, KeyType.ORDERS)
        outcomes = read_projection(settings, KeyType.OUTCOMES)
    except (NotRunning, EngineAway) as error:
        return f"no status: {error}"
    states = Counter(str(row.get("state", "")) for row in orders.values())
    ends = Counter(str(row.get("outcome", "")) for row in outcomes.values())
    parts = [
        f"{sum(one.state == 'running' for one in status.processes)}/{len(status.processes)} processes run",
        *(f"{role}: {_shown(status, role)}" for role in ("book", "evaluator") if status.detail.get(role)),
        f"signals: {_counted(ends)}",
        f"orders: {_counted(states)}",
        f"gate {status.gate.get('gate', 'not reported')}",
    ]
    parts += ["DRY RUN"] if status.dry_run else []
    parts += [f"HALTED: {status.halt.reason}"] if status.halt is not None else []
    parts += [f"{len(status.alarms)} alarms"] if status.alarms else []
    return " · ".join(parts)


def final_summary(settings: Settings, uptime_s: float, restarts: int) -> str:
    """What a run did, for the person who ends it; to be read while Redis still serves."""
    try:
        status = read_status(settings)
        orders = read_projection(settings, KeyType.ORDERS)
        outcomes = read_projection(settings, KeyType.OUTCOMES)
        positions = read_projection(settings, KeyType.POSITIONS)
    except (NotRunning, EngineAway) as error:
        return f"Apex ran {uptime_s:.0f} s; its records cannot be read: {error}"
    states = Counter(str(row.get("state", "")) for row in orders.values())
    ends = Counter(str(row.get("outcome", "")) for row in outcomes.values())
    held = {name: row for name, row in positions.items() if row.get("qty")}
    lines = [
        f"Apex ran {uptime_s:.0f} s{' (dry run)' if status.dry_run else ''}; restarts of the engine: {restarts}, "
        f"of its processes: {sum(one.restarts for one in status.processes)}",
        f"  opportunities: {status.detail.get('evaluator', {}).get('opportunities', '0')}",
        f"  signals: {_counted(ends)}",
        f"  orders: {_counted(states)}",
        "  positions: "
        + (", ".join(f"{name} {_fixed(row, 'qty')} @ {_fixed(row, 'avg_px')}" for name, row in held.items()) or "flat"),
        f"  kept in {status.run_dir}; the next start goes on from here (--fresh begins anew)",
    ]
    if status.halt is not None:
        lines.append(f"  HALTED: {status.halt.reason} (by {status.halt.by})")
    return "\n".join(lines)


def _shown(status: EngineStatus, role: str) -> str:
    return ", ".join(f"{name} {value}" for name, value in list(status.detail[role].items())[:4])


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items())) or "none yet"


def _fixed(row: dict[str, object], name: str) -> str:
    value = row.get(name, 0)
    return format_fixed8(value).rstrip("0").rstrip(".") if isinstance(value, int) else str(value)
